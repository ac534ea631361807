--- Writes charts as pictures, with data and script beside them.
local append_only = require "steer.core.durable"
local check = require "steer.core.check"
local gnuplot = require "steer.plot.gnuplot"
local printable = require("steer.core.text").printable

local raise = require("steer.core.error").raise

local M = {}

local ENDINGS = { svg = "</svg>", png = "IEND", pdf = "%%EOF" } -- of a picture that is whole
local OTHERS = { jpg = true, jpeg = true, gif = true, eps = true, ps = true, webp = true, bmp = true, tif = true,
    tiff = true, html = true, txt = true }

-- gnuplot may say nothing about a full disk: looks at the end of the picture.
local function check_picture(op, path, ending)
    local file = io.open(path, "rb")
    local tail
    if file then
        file:seek("end", -16)
        tail = file:read(16)
        file:close()
    end
    if not (tail and tail:find(ending, 1, true)) then raise("io", op, "out: gnuplot did not write %s whole", path) end
end

local function mend_svg(op, path)
    local file = io.open(path, "rb")
    local text = file:read "*a"
    file:close()
    local mended = gnuplot.mended(text)
    if mended ~= text then append_only.write(op, path, mended) end
end

--- Splits the path of a picture: "x.png" is a PNG, "x" an SVG and a PNG.
-- @treturn string the path without its extension
-- @treturn table list of "svg", "png" and "pdf"
function M.split(op, name, path)
    check.path(op, name, path, "the path of a picture")
    local base, kind = path:match "^(.*[^/])%.(%a+)$"
    if kind and ENDINGS[kind] then return base, { kind } end
    if kind and OTHERS[kind:lower()] then
        raise("invalid_argument", op, "%s: %s: expected a name that ends in .svg, .png or .pdf, or in none of them for "
            .. ".svg and .png", name, printable(path))
    end
    return path, { "svg", "png" }
end

-- Folder and name of the pictures, once all files can be written under it.
local function check_base(op, base, kinds)
    local folder, name = base:match("^(.*/)([^/]*)$")
    folder, name = folder or "./", name or base
    if name == "" or name == "." or name == ".." then
        raise("invalid_argument", op, "out: %s is a folder, expected the path of a picture", base)
    end
    if name:find "%c" then
        raise("invalid_argument", op, "out: %s: a name with control characters, which gnuplot cannot write",
            printable(base))
    end
    for _, kind in ipairs(kinds) do
        local path = base .. "." .. kind
        if append_only.exists(path) then append_only.open(op, path):close() end
    end
    return folder:find "^/" and folder or "./" .. folder, name -- a plain one might lie in $CDPATH
end

local function write(op, chart, files, folder, name, kinds)
    append_only.write(op, files.tsv, gnuplot.data(chart))
    append_only.write(op, files.gp, gnuplot.script(chart, name, kinds))
    if not gnuplot.exists() then
        raise("not_found", op, "%s; the data and the script are in %s and %s", gnuplot.MISSING, files.tsv, files.gp)
    end
    gnuplot.run_file(op, folder, name .. ".gp")
    for _, kind in ipairs(kinds) do check_picture(op, files[kind], ENDINGS[kind]) end
    if files.svg then mend_svg(op, files.svg) end
end

--- Writes a chart as BASE.svg and BASE.png, or the kinds named, with data and script beside them. If that fails, what
-- was not there before is taken away again; but where gnuplot is missing data and script stay.
-- @tparam string op operation for messages
-- @tparam table chart
-- @tparam string base
-- @tparam[opt] table kinds list of "svg", "png" and "pdf"
-- @treturn table their paths: tsv, gp and by kind
function M.draw(op, chart, base, kinds)
    kinds = kinds or { "svg", "png" }
    local folder, name = check_base(op, base, kinds)
    local files, new = { tsv = base .. ".tsv", gp = base .. ".gp" }, {}
    for _, kind in ipairs(kinds) do files[kind] = base .. "." .. kind end
    for _, kind in ipairs { "tsv", "gp", unpack(kinds) } do
        if not append_only.exists(files[kind]) then new[#new + 1] = files[kind] end
    end
    local ok, problem = pcall(write, op, chart, files, folder, name, kinds)
    if ok then return files end
    if not (type(problem) == "table" and problem.code == "not_found") then
        for _, path in ipairs(new) do os.remove(path) end
    end
    error(problem, 0)
end

return M
