--- Writes gnuplot scripts for charts and runs them.
--
-- A chart is a table: kind, title (list of lines), xlabel, ylabel, palette, size, hline, vline, best and
--   lines: legend, xs (values), text_x, low, high, logx, logy, xlim, ylim, bars (there are intervals), scattered,
--     groups = {{name, look, points = {{x, at, stats or nil for a gap}}, colour, dash, point}};
--   bars: the same, each point at its place;
--   histogram: the same, but xs are edges and a group has counts;
--   heatmap: zlabel, xs, ys, low, high, logz, zlim, cells = {{i, j, stats or word}}, row by row.
-- stats are those of steer.bench.stats. Everything from outside is quoted (see plot/script.lua).
local raise = require("steer.core.error").raise
local script = require "steer.plot.script"
local style = require "steer.plot.style"

local M = {}

M.MISSING = "gnuplot: it is not on PATH; on Debian and Ubuntu: apt-get install gnuplot-nox; elsewhere: "
    .. "http://www.gnuplot.info"

local KINDS = {
    lines = "steer.plot.lines", scatter = "steer.plot.lines", bars = "steer.plot.bars",
    histogram = "steer.plot.histogram", heatmap = "steer.plot.heatmap",
}

local function kind_of(chart)
    if chart.groups then style.assign(chart) end
    return require(KINDS[chart.kind])
end

--- The chart's numbers as text, columns separated by tabs.
function M.data(chart)
    return kind_of(chart).data(chart)
end

-- ---- Scripts -------------------------------------------------------------------------------------------------------

local WIDTH, HEIGHT = 960, 560
local PIXELS_PER_INCH = 96

--- Width and height of a chart's SVG in pixels.
function M.size(chart)
    return unpack(chart.size or { WIDTH, HEIGHT })
end

local TERMINALS = {
    svg = function(width, height)
        return ("set terminal svg size %d,%d dynamic noenhanced font 'Helvetica,Arial,sans-serif,15'"):format(width,
            height)
    end,
    png = function(width, height)
        return ("set terminal pngcairo size %d,%d noenhanced font 'Sans,15' fontscale 1.9 linewidth 2 pointscale 2")
            :format(2 * width, 2 * height)
    end,
    pdf = function(width, height)
        return ("set terminal pdfcairo size %.3fin,%.3fin noenhanced font 'Sans,11'"):format(width / PIXELS_PER_INCH,
            height / PIXELS_PER_INCH)
    end,
}

local LETTER = 8.5 -- pixels of a title's letter, on average

local function settings(chart)
    local title = script.quote_lines(chart.title, M.size(chart) / LETTER)
    local lines = { "set encoding utf8", 'set datafile separator "\\t"', "set title " .. title,
        "set xlabel " .. script.quote(chart.xlabel), "set ylabel " .. script.quote(chart.ylabel) }
    for _, line in ipairs(kind_of(chart).settings(chart)) do lines[#lines + 1] = line end
    return table.concat(lines, "\n")
end

--- The script that draws NAME.svg and others from NAME.tsv, in the folder of these. A name that begins with | or <
-- would be a command.
-- @tparam table chart
-- @tparam string name
-- @tparam table kinds list of "svg", "png" and "pdf"
function M.script(chart, name, kinds)
    local width, height = M.size(chart)
    local lines = {
        ("# Draws the .%s beside this script from the .tsv: run gnuplot in this folder."):format(
            table.concat(kinds, " and the .")), settings(chart),
    }
    for i, kind in ipairs(kinds) do
        lines[#lines + 1] = TERMINALS[kind](width, height) .. (kind == "svg" and " background 'white'" or "")
        lines[#lines + 1] = "set output " .. script.quote("./" .. name .. "." .. kind)
        lines[#lines + 1] = i > 1 and "replot" or kind_of(chart).plot(chart, script.quote("./" .. name .. ".tsv"))
    end
    lines[#lines + 1] = "set output\n"
    return table.concat(lines, "\n")
end

local function inline(chart, terminal, is_terminal)
    return table.concat({ "$data << END_OF_DATA\n" .. M.data(chart) .. "END_OF_DATA", settings(chart), terminal,
        kind_of(chart).plot(chart, "$data", is_terminal), "" }, "\n")
end

-- ---- Running -------------------------------------------------------------------------------------------------------

local function shell_quote(text)
    return "'" .. text:gsub("'", "'\\''") .. "'"
end

--- Tells whether gnuplot is there.
function M.exists()
    return os.execute("command -v gnuplot >/dev/null 2>&1") == 0
end

-- Output and errors of a shell command; raises io with the errors if it fails.
local function run(op, command)
    local errors = os.tmpname()
    local pipe = io.popen(("{ %s; } 2>%s; printf '\\n%%d' $?"):format(command, shell_quote(errors)), "r")
    local output, status = pipe:read("*a"):match("^(.*)\n(%d+)$")
    pipe:close()
    local file = io.open(errors, "rb")
    local text = file and file:read("*a") or ""
    if file then file:close() end
    os.remove(errors)
    if status == "0" then return output end
    raise(status == "130" and "interrupted" or "io", op, "gnuplot: it failed with status %s: %s", tostring(status),
        (text:gsub("%s+$", "")))
end

--- Runs a script file in its folder.
function M.run_file(op, folder, name)
    if not M.exists() then raise("not_found", op, "%s", M.MISSING) end
    run(op, ("cd -- %s && gnuplot %s"):format(shell_quote(folder), shell_quote("./" .. name)))
end

local function run_text(op, text)
    if not M.exists() then raise("not_found", op, "%s", M.MISSING) end
    local path = os.tmpname()
    local file = assert(io.open(path, "wb"))
    file:write(text)
    file:close()
    local ok, output = pcall(run, op, "gnuplot " .. shell_quote(path))
    os.remove(path)
    if not ok then error(output, 0) end
    return output
end

--- Mends an SVG: gnuplot takes a text such as &#x41; for a character that is already escaped, and a browser would
-- smooth the cells of an image.
function M.mended(svg)
    return (svg:gsub("&#x", "&amp;#x"):gsub("<image ", "<image style='image-rendering:pixelated' "))
end

--- Draws a chart as the text of an SVG.
function M.svg(op, chart, width, height)
    local sized = setmetatable({ size = { width, height } }, { __index = chart })
    return M.mended(run_text(op, inline(sized, TERMINALS.svg(width, height))))
end

local RESET = "\27[0m"

-- Lines that begin and end without colour, without spaces at their ends and empty ones before and after them.
local function tidy(text)
    local lines = {}
    for line in text:gsub("\f", ""):gsub("\27%[0;39m", RESET):gsub("\27%[0;39;49m", ""):gmatch "[^\n]+" do
        local before
        repeat
            before, line = line, line:gsub("%s+$", ""):gsub("\27%[0m$", "")
        until line == before
        repeat
            before, line = line, line:gsub("^( *)\27%[0m", "%1")
        until line == before
        if line:find("\27", 1, true) then line = line .. RESET end
        if line:find "%S" then lines[#lines + 1] = line end
    end
    return table.concat(lines, "\n") .. "\n"
end

local COLOURS = { [256] = "ansi256", [24] = "ansirgb" }

--- Draws a chart with characters, in so many columns and rows, without title, legend and label of the y axis.
-- @param colours false, 256 or 24 (bits)
function M.terminal(op, chart, columns, rows, colours)
    local terminal = ("unset grid\nunset key\nunset title\nunset ylabel\nset terminal dumb noenhanced size %d,%d %s")
        :format(columns, rows, COLOURS[colours] or "mono")
    return tidy(run_text(op, inline(chart, terminal, true)))
end

return M
