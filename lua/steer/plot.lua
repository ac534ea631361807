--- steer.plot: draws the results of a sweep with gnuplot, as SVG and PNG with data and script, and in the terminal.
local append_only = require "steer._append"
local check = require "steer._check"
local gnuplot = require "steer._gnuplot"
local options = require "steer._options"
local record = require "steer.record"
local results = require "steer._results"
local walk = require "steer._walk"

local printable = require("steer._text").printable
local raise = require("steer._error").raise

local M = {}

-- ---- Choosing the points -------------------------------------------------------------------------------------------

local KNOWN = {
    x = "string", y = "string", z = "string", by = true, filter = "table", logx = "boolean", logy = "boolean",
    logz = "boolean", title = "string", out = "string",
}

local function by_list(op, found, by)
    if by == nil then return {} end
    local list = type(by) == "table" and by or { by }
    for _, name in ipairs(list) do
        check.type(op, "opts.by", name, "string", "the name of an axis")
        found:check_field(op, "by", name)
    end
    return list
end

-- Two cases on one place of the chart: says which axes tell them apart.
local function raise_crowded(op, found, chosen, a, b)
    local shown, more = {}, {}
    for _, name in ipairs(chosen) do shown[name] = true end
    for _, name in ipairs(found:varying()) do
        if not shown[name] and results.field(a, name) ~= results.field(b, name) then
            local texts = {}
            for i, value in ipairs(found.values[name]) do texts[i] = results.text(value) end
            more[#more + 1] = ("%s (%s)"):format(name, table.concat(texts, ", "))
        end
    end
    raise("invalid_argument", op,
        "by: several cases fall on one place, such as %s and %s; choose by or a filter for %s",
        record.text(a.case, found.axes), record.text(b.case, found.axes), table.concat(more, " and "))
end

-- Calls place(entry, stats or nil, why) for each case once it is known to stand alone at its fields' values.
local function each_case(op, found, fields, metric, place)
    local taken, missing = {}, {}
    for _, entry in ipairs(found.cases) do
        local words, whole = {}, true
        for i, name in ipairs(fields) do
            local value = results.field(entry, name)
            whole = whole and value ~= nil
            words[i] = type(value) .. ":" .. tostring(value)
        end
        local spot = table.concat(words, "\0")
        local stats, why = results.stats(entry, metric)
        if not stats then
            local word = entry.status == "ok" and "without a number" or entry.status
            missing[word] = (missing[word] or 0) + 1
        end
        if whole and stats then
            if taken[spot] then raise_crowded(op, found, fields, taken[spot], entry) end
            taken[spot] = entry
        end
        if whole then place(entry, stats, why) end
    end
    return missing
end

local function require_drawn(op, found, metric, count, missing)
    if count > 0 then return end
    local words = {}
    for _, word in ipairs(results.sort(walk.keys(missing))) do words[#words + 1] = missing[word] .. " " .. word end
    raise("invalid_argument", op, "%s: no case of %s can be drawn: %s", metric, found.path, table.concat(words, ", "))
end

local function check_log(op, option, name, value)
    if value <= 0 then
        raise("invalid_argument", op, "%s: %s has the value %s, a log axis needs values above 0", option, name,
            results.text(value))
    end
end

-- What all cases have in common: axes that are not drawn, and the device.
local function common(found, drawn)
    local shown, words = {}, {}
    for _, name in ipairs(drawn) do shown[name] = true end
    for _, name in ipairs(found.axes) do
        if not shown[name] and #found.values[name] == 1 then
            words[#words + 1] = name .. "=" .. results.text(found.values[name][1])
        end
    end
    for _, name in ipairs { "device_name", "device" } do
        local values = found:values_of(name)
        if #values == 1 and not shown.device then
            words[#words + 1] = tostring(values[1])
            break
        end
    end
    return table.concat(words, ", ")
end

local function titles(found, opts, what, drawn)
    local list = { opts.title or ("%s: %s"):format(tostring(found.name), what) }
    local more = common(found, drawn)
    if more ~= "" then list[2] = more end
    return list
end

-- ---- Lines ---------------------------------------------------------------------------------------------------------

local function is_numeric(values)
    for _, value in ipairs(values) do
        if type(value) ~= "number" then return false end
    end
    return true
end

local function widen(chart, low, high)
    chart.low, chart.high = math.min(chart.low or low, low), math.max(chart.high or high, high)
end

-- Gives the lines looks that do not depend on the filter, where there are looks enough for all.
local function set_looks(groups, whole, by)
    local all = 1
    for _, name in ipairs(by) do all = all * #whole:values_of(name) end
    if all > gnuplot.COLOURS then return end
    for _, group in ipairs(groups) do
        local look = 0
        for i, name in ipairs(by) do
            local values = whole:values_of(name)
            for rank, value in ipairs(values) do
                if value == group.values[i] then look = look * #values + rank - 1 end
            end
        end
        group.look = look + 1
    end
end

-- The values of a case on the axes of the lines, and their places in the order of these axes.
local function group_of(found, entry, by)
    local group, words = { values = {}, order = {}, points = {} }, {}
    for i, name in ipairs(by) do
        local value = results.field(entry, name)
        words[i], group.values[i] = results.text(value), value
        for rank, other in ipairs(found:values_of(name)) do
            if other == value then group.order[i] = rank end
        end
    end
    group.name = table.concat(words, ", ")
    return group
end

-- Fills chart.groups with the measured cases; gives the values of x in use.
local function collect_lines(op, found, chart, opts, by)
    local groups, used = {}, {}
    chart.missing = each_case(op, found, { opts.x, unpack(by) }, opts.y, function(entry, stats)
        if not stats then return end
        local group, x = group_of(found, entry, by), results.field(entry, opts.x)
        local key = table.concat(group.order, " ")
        if not groups[key] then groups[key], chart.groups[#chart.groups + 1] = group, group end
        table.insert(groups[key].points, { x = x, stats = stats })
        used[x], chart.bars = true, chart.bars or stats.n > 1
        widen(chart, stats.q1, stats.q3)
        if opts.logy then check_log(op, "logy", opts.y, stats.q1) end
    end)
    require_drawn(op, found, opts.y, #chart.groups, chart.missing)
    table.sort(chart.groups, function(a, b)
        for i = 1, #by do
            if a.order[i] ~= b.order[i] then return a.order[i] < b.order[i] end
        end
        return false
    end)
    return used
end

-- Puts the points at their places: numbers where they are, words side by side.
local function place_points(op, found, chart, opts, used)
    for _, x in ipairs(found:values_of(opts.x)) do
        if used[x] then chart.xs[#chart.xs + 1] = x end
    end
    chart.text_x = not is_numeric(chart.xs)
    if not chart.text_x then table.sort(chart.xs) end
    if opts.logx and chart.text_x then
        raise("invalid_argument", op, "logx: %s is not a number in every case", opts.x)
    end
    if opts.logx then check_log(op, "logx", opts.x, chart.xs[1]) end
    for i, x in ipairs(chart.xs) do used[x] = chart.text_x and i or x end
    for _, group in ipairs(chart.groups) do
        for _, point in ipairs(group.points) do point.at = used[point.x] end
        table.sort(group.points, function(a, b) return a.at < b.at end)
    end
end

local function lines_chart(op, found, whole, opts, by)
    local x, y = results.title(opts.x), results.title(opts.y)
    local chart = { kind = "lines", groups = {}, xs = {}, xlabel = x, logx = opts.logx, logy = opts.logy,
        legend = #by > 0 and table.concat(by, ", ") or nil }
    local used = collect_lines(op, found, chart, opts, by)
    place_points(op, found, chart, opts, used)
    set_looks(chart.groups, whole, by)
    chart.ylabel = chart.bars and y .. ", median and quartiles" or y
    chart.title = titles(found, opts, ("%s against %s"):format(y, x), { opts.x, unpack(by) })
    return chart
end

-- ---- Heatmaps ------------------------------------------------------------------------------------------------------

local function positions(values)
    local sorted = { unpack(values) }
    if is_numeric(values) then table.sort(sorted) end
    local at = {}
    for i, value in ipairs(sorted) do at[value] = i end
    return sorted, at
end

local function heatmap_chart(op, found, opts)
    local x, y, z = opts.x, opts.y, opts.z
    local chart = { kind = "heatmap", xlabel = results.title(x), ylabel = results.title(y), zlabel = results.title(z),
        logz = opts.logz, cells = {} }
    local filled, count = {}, 0
    local xs, at_x = positions(found:values_of(x))
    local ys, at_y = positions(found:values_of(y))
    chart.xs, chart.ys = xs, ys
    chart.missing = each_case(op, found, { x, y }, z, function(entry, stats)
        local i, j = at_x[results.field(entry, x)], at_y[results.field(entry, y)]
        local spot = (j - 1) * #chart.xs + i
        if stats then
            filled[spot], count = { i = i, j = j, stats = stats }, count + 1
            widen(chart, stats.median, stats.median)
            if opts.logz then check_log(op, "logz", z, stats.median) end
        elseif not filled[spot] then
            filled[spot] = { i = i, j = j, word = entry.status == "ok" and "no number" or entry.status }
        end
    end)
    require_drawn(op, found, z, count, chart.missing)
    for j = 1, #chart.ys do
        for i = 1, #chart.xs do
            table.insert(chart.cells, filled[(j - 1) * #chart.xs + i] or { i = i, j = j, word = "" })
        end
    end
    chart.title = titles(found, opts, ("%s over %s and %s"):format(results.title(z), results.title(x),
        results.title(y)), { x, y })
    return chart
end

--- Makes the chart that the options ask for; see M.plot.
-- @param found results as _results.read gives
function M.chart(op, found, opts)
    for _, key in ipairs { "x", "y" } do
        if opts[key] == nil then
            raise("invalid_argument", op, "opts.%s: expected the name of %s, got nothing", key,
                (key == "x" or opts.z) and "an axis" or "a metric")
        end
    end
    local whole = found
    if opts.filter then found = found:filter(op, opts.filter) end
    found:check_field(op, "x", opts.x)
    if not opts.z then
        if opts.logz then raise("invalid_argument", op, "opts.logz: it is for heatmaps, with z") end
        whole:check_metric(op, "y", opts.y)
        return lines_chart(op, found, whole, opts, by_list(op, found, opts.by))
    end
    for _, key in ipairs { "by", "logx", "logy" } do
        if opts[key] then raise("invalid_argument", op, "opts.%s: it is for lines, a heatmap (z) has none", key) end
    end
    found:check_field(op, "y", opts.y)
    whole:check_metric(op, "z", opts.z)
    return heatmap_chart(op, found, opts)
end

-- ---- Files ---------------------------------------------------------------------------------------------------------

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

-- The path of the pictures without its extension.
local function base_of(path, opts)
    if opts.out then return (opts.out:gsub("%.svg$", ""):gsub("%.png$", "")) end
    local words = opts.z and { opts.z, opts.x, opts.y, "map" } or { opts.y, opts.x }
    for _, name in ipairs(type(opts.by) == "table" and opts.by or { opts.by }) do words[#words + 1] = name end
    for _, name in ipairs(results.sort(walk.keys(opts.filter or {}))) do
        local wanted = opts.filter[name]
        words[#words + 1] = name
        for _, value in ipairs(type(wanted) == "table" and wanted or { wanted }) do
            words[#words + 1] = results.text(value)
        end
    end
    return path:gsub("%.jsonl?$", "") .. "-" .. table.concat(words, "-"):gsub("[^%w_.-]", "_")
end

-- Folder and name of the pictures, once all files can be written under it.
local function check_base(op, base)
    local folder, name = base:match("^(.*/)([^/]*)$")
    folder, name = folder or "./", name or base
    if name == "" or name == "." or name == ".." then
        raise("invalid_argument", op, "out: %s is a folder, expected the path of a picture", base)
    end
    if name:find "%c" then
        raise("invalid_argument", op, "out: %s: a name with control characters, which gnuplot cannot write; "
            .. "--out names another one", printable(base))
    end
    for _, ending in ipairs { ".svg", ".png" } do
        if append_only.exists(base .. ending) then append_only.open(op, base .. ending):close() end
    end
    return folder:find "^/" and folder or "./" .. folder, name -- a plain one might lie in $CDPATH
end

--- Writes a chart as BASE.svg and BASE.png, with data and script beside them.
-- @treturn table their paths: svg, png, tsv, gp
function M.draw(op, chart, base)
    local folder, name = check_base(op, base)
    append_only.write(op, base .. ".tsv", gnuplot.data(chart))
    append_only.write(op, base .. ".gp", gnuplot.script(chart, name))
    if not gnuplot.exists() then
        raise("not_found", op, "%s; the data and the script are in %s.tsv and %s.gp", gnuplot.MISSING, base, base)
    end
    gnuplot.run_file(op, folder, name .. ".gp")
    check_picture(op, base .. ".svg", "</svg>")
    check_picture(op, base .. ".png", "IEND")
    mend_svg(op, base .. ".svg")
    return { svg = base .. ".svg", png = base .. ".png", tsv = base .. ".tsv", gp = base .. ".gp" }
end

--- Draws a metric of a sweep's results: lines over an axis, or a heatmap over two.
-- @tparam string path of the results file
-- @tparam table opts x (an axis), y (a metric), by (an axis, or a list of axes: a line each), logx, logy; or x and y
-- (axes), z (a metric), logz for a heatmap; filter (map from axis to a value or a list), title, out (path of the
-- pictures; default beside the results, named after what is drawn). Axes may also be the
-- fields path, device, device_name, driver, host and git
-- @treturn table files (svg, png, tsv, gp), chart (for terminal), missing (cases not drawn: count per kind)
-- @raise invalid_argument for unknown names, for cases that would fall on one place and for values that a log axis
-- cannot show; not_found where gnuplot is missing (data and script are written all the same), io
function M.plot(path, opts)
    local op = "plot"
    check.type(op, "path", path, "string", "the path of a results file")
    opts = options.check(op, opts, KNOWN)
    local chart = M.chart(op, results.read(op, path), opts)
    return { files = M.draw(op, chart, base_of(path, opts)), chart = chart, missing = chart.missing }
end

--- Draws a chart with characters.
-- @tparam table chart as M.plot gives
-- @tparam[opt=80] number columns
-- @tparam[opt=24] number rows
-- @tparam[opt] boolean has_colour
-- @treturn string
function M.terminal(chart, columns, rows, has_colour)
    return gnuplot.terminal("plot_terminal", chart, columns or 80, rows or 24, has_colour)
end

--- Writes a chart to standard output, as large and colourful as the terminal allows.
-- @tparam table chart as M.plot gives
function M.show(chart)
    local terminal = require "steer.repl.terminal"
    local columns, rows = terminal.size()
    io.stdout:write(M.terminal(chart, columns, math.min(rows - 1, 24), terminal.has_colour()))
end

return M
