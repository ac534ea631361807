--- steer.plot: draws data and the results of sweeps with gnuplot: lines, scatter plots, bars, histograms and heatmaps,
-- in the terminal and as SVG, PNG and PDF.
local build = require "steer.plot.build"
local check = require "steer.core.check"
local data = require "steer.plot.data"
local files = require "steer.plot.files"
local gnuplot = require "steer.plot.gnuplot"
local plot_options = require "steer.plot.options"
local records = require "steer.plot.records"
local result_charts = require "steer.plot.results"
local results = require "steer.sweep.results"
local text = require "steer.plot.text"
local tables = require "steer.core.tables"

local raise = require("steer.core.error").raise

local M = {}

-- ---- Charts --------------------------------------------------------------------------------------------------------

--- Makes the chart of a sweep's results that the options ask for, without drawing it.
-- @tparam string op operation for messages
-- @param found results as sweep/results.read gives
-- @tparam table opts as M.plot has them
-- @treturn table chart, see plot/gnuplot
function M.chart(op, found, opts)
    return plot_options.apply(op, result_charts.chart(op, found, opts, opts.kind), opts)
end

local BUILD = { lines = build.lines, scatter = build.lines, bars = build.lines, histogram = build.histogram,
    heatmap = build.heatmap }

local function chart_of(op, source, opts)
    if results.is(source) then return M.chart(op, results.of(op, "source", source), opts) end
    if records.is(source, opts) then
        local kind = opts.kind or opts.z and "heatmap" or "lines"
        local chart = result_charts.chart(op, records.read(op, source, opts, kind), opts, kind)
        return plot_options.apply(op, chart, opts)
    end
    data.check(op, source)
    local kind = opts.kind or data.kind_of(op, source)
    plot_options.check_kind(op, opts, kind)
    for _, key in ipairs { "by", "dash", "filter", "z" } do
        if opts[key] then
            raise("invalid_argument", op, "opts.%s: it is for results and records, whose fields have names", key)
        end
    end
    return plot_options.apply(op, BUILD[kind](op, source, opts, kind), opts)
end

-- ---- The object ----------------------------------------------------------------------------------------------------

local Chart = { __topic = "plot", __name = "chart" } -- the topic for help
require("steer.core.class").strict(Chart, "a chart", {})

local function check_self(op, self)
    if getmetatable(self) ~= Chart then
        raise("invalid_argument", op, "self: expected what steer.plot gives, got %s; call it with a colon",
            check.describe(self))
    end
end

-- What of series there is: "3 series of 9 points".
local function contents(chart)
    if chart.kind == "heatmap" then return ("%d x %d cells"):format(#chart.ys, #chart.xs) end
    local n, most = #chart.groups, 0
    for _, group in ipairs(chart.groups) do most = math.max(most, #(group.samples or group.points)) end
    local what = chart.kind == "histogram" and "value" or chart.kind == "bars" and "bar" or "point"
    return ("%d series of %d %s%s%s"):format(n, most, what, most == 1 and "" or "s",
        chart.kind == "histogram" and (" in %d bins"):format(#chart.xs - 1) or "")
end

--- Says on one line what there is: kind, series, size, files and what is not drawn.
function Chart:__tostring()
    local chart, words = self.chart, {}
    local width, height = gnuplot.size(chart)
    words[1] = ("%s, %s, %dx%d"):format(chart.kind, contents(chart), width, height)
    local paths = {}
    for _, kind in ipairs { "svg", "png", "pdf" } do paths[#paths + 1] = self.files[kind] end
    words[2] = #paths > 0 and table.concat(paths, " ") or "not saved"
    for _, word in ipairs(results.sort(tables.keys(chart.missing or {}))) do
        words[#words + 1] = ("%d %s not drawn"):format(chart.missing[word], word)
    end
    local title = chart.title[1] ~= "" and (" %s:"):format(require("steer.core.text").printable(chart.title[1])) or ""
    return ("[chart%s %s]"):format(title, table.concat(words, ", "))
end

--- Draws the chart on standard output, as large and colourful as the terminal allows.
-- @raise not_found where gnuplot is missing, which lines and scatter plots need
function Chart:show()
    check_self("chart_show", self)
    M.show(self.chart)
end

--- Draws a chart that a session prints; where gnuplot is missing it says so.
function Chart:__draw()
    local ok, problem = pcall(M.show, self.chart)
    if ok then return end
    if type(problem) ~= "table" or problem.code ~= "not_found" then error(problem, 0) end
    io.stdout:write("not drawn: ", problem.message, "\n")
end

--- Gives the chart as text.
-- @tparam[opt=80] number columns
-- @tparam[opt=24] number rows
-- @tparam[opt] colours true or 256 for colours, 24 for those of 24 bits
function Chart:text(columns, rows, colours)
    check_self("chart_text", self)
    if columns ~= nil then check.number("chart_text", "columns", columns) end
    if rows ~= nil then check.number("chart_text", "rows", rows) end
    return M.terminal(self.chart, columns, rows, colours)
end

--- Saves the chart.
-- @tparam string path x.svg, x.png or x.pdf; without an extension an SVG and a PNG; the data (.tsv) and the script
-- (.gp) lie beside them
-- @treturn table paths of what was written: svg, png, pdf, tsv, gp
-- @raise io; not_found where gnuplot is missing (data and script are written all the same)
function Chart:save(path)
    check_self("chart_save", self)
    local base, kinds = files.split("chart_save", "path", path)
    local written = files.draw("chart_save", self.chart, base, kinds)
    for _, kind in ipairs(tables.keys(written)) do self.files[kind] = written[kind] end
    return written
end

--- Makes the object of a chart, with the files that it has.
function M.object(chart, written)
    return setmetatable({ chart = chart, files = written or {}, missing = chart.missing or {} }, Chart)
end

-- ---- Public --------------------------------------------------------------------------------------------------------

-- The path of the pictures of results without its extension: named after what is drawn.
local function base_of(path, opts)
    local words = opts.y and { opts.y, opts.x } or { opts.x }
    if opts.z then words = { opts.z, opts.x, opts.y, "map" } end
    if opts.kind and opts.kind ~= "lines" and opts.kind ~= "heatmap" then words[#words + 1] = opts.kind end
    for _, name in ipairs(type(opts.by) == "table" and opts.by or { opts.by }) do words[#words + 1] = name end
    for _, name in ipairs(results.sort(tables.keys(opts.filter or {}))) do
        local wanted = opts.filter[name]
        words[#words + 1] = name
        for _, value in ipairs(type(wanted) == "table" and wanted or { wanted }) do
            words[#words + 1] = results.text(value)
        end
    end
    return path:gsub("%.jsonl?$", "") .. "-" .. table.concat(words, "-"):gsub("[^%w_.-]", "_")
end

--- Draws data, or the results of a sweep.
-- @param source what to draw:
--   a tensor or a list of numbers: a line; a tensor [rows, columns] or a list of lists: a heatmap of the tensor, a line
--     for each list;
--   a table of series by name or number, each a list, a tensor or {y =, x =, low =, high =, error =, name =, dashed =,
--     like = the series whose colour it takes, dashed}; for a scatter plot also a tensor [n, 2] of x and y; numbers by
--     name are bars; numbered series have a scale of colours;
--   records, {{layer = 2, accuracy = 0.9}, ...}, or columns by name, {layer = {...}, accuracy = tensor};
--   the path of a results file, or what lm:grid gives
-- @tparam[opt] table opts
--   kind: "lines", "scatter", "bars", "histogram" or "heatmap";
--   for results and records x, y and z by name: x and y are an axis and a metric, or two metrics (a scatter plot, or
--     with kind = "lines" a path in the cases' order); with z x and y are axes of a heatmap; x alone is counted by a
--     histogram; by (an axis or a list of axes: a series each), dash (the axis of two values that dashes tell apart),
--     filter (map from axis to a value or a list). Axes may also be the fields path, device, device_name, driver,
--     host and git;
--   for data x: the places of the points, or the names of a heatmap's columns, y those of its rows; names of the
--     series; low, high or error: the ends or the half width of intervals;
--   bins (a number or a list of edges) and share (parts of 1 instead of counts) of histograms;
--   title, xlabel, ylabel, zlabel, legend (its title, or false: none); xlim, ylim, zlim ({low, high} or {min =,
--     max =}); logx, logy, logz; format of values, such as "%.2f"; palette ("okabe", "viridis", "magma", "blues",
--     "greys", "blue_red" or a list of colours); size ({width, height} in pixels of an SVG, a PNG has twice as many);
--   hline, vline: a reference line, {at =, label =} or a list; best = "max" or "min": marks this point;
--   out: the path of the pictures, x.svg, x.png or x.pdf, without an extension an SVG and a PNG (default: for the path
--     of results beside them, named after what is drawn; else none)
-- @treturn chart its fields files (svg, png, pdf, tsv, gp), chart, missing (what is not drawn: count by kind); show(),
-- save(path), text(columns, rows, colours); print tells what it is
-- @raise invalid_argument for unknown names, for cases that would fall on one place and for values that a log axis
-- cannot show; shape_mismatch; not_found where gnuplot is missing (data and script are written all the same), io
function M.plot(source, opts)
    local op = "plot"
    opts = plot_options.check(op, opts)
    local base, kinds
    if opts.out then
        base, kinds = files.split(op, "out", opts.out)
    end
    local chart = chart_of(op, source, opts)
    if not base and type(source) == "string" then base = base_of(source, opts) end
    return M.object(chart, base and files.draw(op, chart, base, kinds))
end

--- Draws a chart with characters.
-- @tparam table chart as M.plot gives
-- @tparam[opt=80] number columns
-- @tparam[opt=24] number rows
-- @tparam[opt] colours true or 256 for colours, 24 for those of 24 bits
-- @treturn string
function M.terminal(chart, columns, rows, colours)
    return text.draw("plot_terminal", chart, columns or 80, rows or 24, colours == true and 256 or colours or false)
end

--- Writes a chart to standard output, as large and colourful as the terminal allows.
-- @tparam table chart as M.plot gives
function M.show(chart)
    local columns, rows = require("steer.repl.terminal").size()
    io.stdout:write(M.terminal(chart, columns, math.min(rows - 1, 26), require("steer.view.paint").colours()))
end

--- Draws what the package has found: in the terminal, or with `out` as pictures.
-- @param source see M.plot
-- @tparam table defaults options of M.plot
-- @tparam[opt] table opts options of M.plot that count before these
-- @treturn table the paths of the pictures, nothing without `out`
function M.present(source, defaults, opts)
    local merged = {}
    for _, set in ipairs { defaults, opts } do
        for _, key in ipairs(tables.keys(set)) do merged[key] = set[key] end
    end
    local chart = M.plot(source, merged)
    if merged.out then return chart.files end
    chart:show()
end

M.draw = files.draw

return M
