--- Charts of series and matrices as plot/data.lua reads them.
local data = require "steer.plot.data"
local scale = require "steer.plot.scale"
local series = require "steer.plot.series"

local raise = require("steer.core.error").raise

local M = {}

local function new_missing(count, word)
    return count > 0 and { [word] = count } or {}
end

local function raise_nothing(op, count)
    raise("invalid_argument", op, "data: none of its %d values is a finite number up to 1e300, nothing can be drawn",
        count)
end

-- ---- Lines, scatter plots and bars ---------------------------------------------------------------------------------

-- All values of x: numbers in their order, words as they come.
local function places_of(list)
    local xs, seen, numeric = {}, {}, true
    for _, one in ipairs(list) do
        for i = 1, #one.y do
            local x = one.x and one.x[i] or i
            numeric = numeric and type(x) == "number"
            if not seen[x] and (type(x) ~= "number" or scale.is_finite(x)) then
                seen[x], xs[#xs + 1] = true, x
            end
        end
    end
    if numeric then table.sort(xs) end
    return xs, numeric
end

local function finite_ends(one, i)
    local low, high = one.low and one.low[i], one.high and one.high[i]
    if scale.is_finite(low) and scale.is_finite(high) then return low, high end
end

-- The points of a series in the order given; what is not finite is a gap.
local function points_of(chart, one, at)
    local points, gaps = {}, 0
    for i, y in ipairs(one.y) do
        local x = one.x and one.x[i] or i
        local place = at and at[x] or x
        if scale.is_finite(y) and scale.is_finite(place) then
            local stats = series.stats(y, finite_ends(one, i))
            series.widen(chart, math.min(y, stats.low), math.max(y, stats.high))
            points[#points + 1] = { x = x, at = place, stats = stats }
        else
            points[#points + 1] = { x = x, at = scale.is_finite(place) and place or 0 }
            gaps = gaps + 1
        end
    end
    return points, gaps
end

local function check_places(op, one, kind)
    local seen = {}
    for i, x in ipairs(kind == "bars" and one.x or {}) do
        if seen[x] then
            raise("invalid_argument", op, "x: %s comes twice, at %d and %d: a bar has a place of its own",
                scale.text(x), seen[x], i)
        end
        if x == x then seen[x] = i end
    end
end

local function check_log(op, chart, opts)
    if opts.logx and chart.text_x then
        raise("invalid_argument", op, "opts.logx: x has words or places, a log axis needs numbers")
    end
    local lows = { x = chart.xs[1], y = chart.low }
    for _, axis in ipairs { "x", "y" } do
        if opts["log" .. axis] and lows[axis] <= 0 then
            raise("invalid_argument", op, "opts.log%s: there is the value %s, a log axis needs values above 0", axis,
                scale.text(lows[axis]))
        end
    end
end

-- Series that are like another one have its colour, and dashes.
local function set_looks(op, chart, list)
    local ranks, count = {}, 0
    for i, one in ipairs(list) do
        if one.like == nil then
            count = count + 1
            ranks[one.name], chart.groups[i].rank = count, count
        end
    end
    for i, one in ipairs(list) do
        chart.groups[i].dashed = one.dashed
        if one.like ~= nil then
            if not ranks[one.like] then
                raise("invalid_argument", op, "data[%d].like: there is no series %s", i, scale.text(one.like))
            end
            chart.groups[i].rank, chart.groups[i].dashed = ranks[one.like], one.dashed ~= false
        end
    end
end

local function titles(opts) return { opts.title or "" } end

--- Makes a chart of series.
function M.lines(op, source, opts, kind)
    local read = kind == "bars" and data.bars or data.series
    local list, numbered = read(op, source, opts, kind)
    local chart = { kind = kind, groups = {}, xlabel = "", ylabel = "", logx = opts.logx, logy = opts.logy,
        title = titles(opts), legend = #list > 1 and "" or nil, ordered = numbered, scattered = kind == "scatter" }
    local xs, numeric = places_of(list)
    local gaps, at = 0, nil
    chart.xs, chart.text_x = xs, kind == "bars" or not numeric
    if chart.text_x then
        at = {}
        for i, x in ipairs(xs) do at[x] = i end
        chart.scattered = false
    end
    for i, one in ipairs(list) do
        check_places(op, one, kind)
        local points, more = points_of(chart, one, at)
        chart.groups[i], gaps = { name = scale.text(one.name), points = points }, gaps + more
        chart.bars = chart.bars or one.low ~= nil
    end
    if not chart.low then raise_nothing(op, gaps) end
    chart.missing = new_missing(gaps, "not finite")
    check_log(op, chart, opts)
    if kind == "bars" then series.from_zero(chart) end
    set_looks(op, chart, list)
    return chart
end

-- ---- Histograms ----------------------------------------------------------------------------------------------------

--- Makes a histogram of the numbers of each series.
function M.histogram(op, source, opts)
    local list, numbered = data.series(op, source, opts, "histogram")
    local chart = { kind = "histogram", groups = {}, xlabel = "", logx = opts.logx, logy = opts.logy,
        title = titles(opts), legend = #list > 1 and "" or nil, ordered = numbered }
    local lost, kept = 0, 0
    for i, one in ipairs(list) do
        local samples = {}
        for _, x in ipairs(one.y) do
            if scale.is_finite(x) then samples[#samples + 1] = x else lost = lost + 1 end
        end
        chart.groups[i], kept = { name = scale.text(one.name), samples = samples }, kept + #samples
    end
    if kept == 0 then raise_nothing(op, lost) end
    chart.missing = new_missing(lost, "not finite")
    set_looks(op, chart, list)
    return series.fill_histogram(op, chart, opts)
end

-- ---- Heatmaps ------------------------------------------------------------------------------------------------------

local function numbers_to(n)
    local list = {}
    for i = 1, n do list[i] = i end
    return list
end

local function labels_of(op, name, value, n, what)
    if value == nil then return numbers_to(n) end
    local list = data.places(op, name, value)
    if #list ~= n then raise("shape_mismatch", op, "%s: %d labels, the matrix has %d %s", name, #list, n, what) end
    return list
end

--- Makes a heatmap of a matrix, its first row on top.
function M.heatmap(op, source, opts)
    local rows, keys = data.matrix(op, "data", source)
    local chart = { kind = "heatmap", cells = {}, logz = opts.logz, title = titles(opts),
        xlabel = opts.x == nil and "column" or "", ylabel = (opts.y or keys) == nil and "row" or "", zlabel = "" }
    chart.xs = labels_of(op, "opts.x", opts.x, #rows[1], "columns")
    chart.ys = opts.y == nil and keys or labels_of(op, "opts.y", opts.y, #rows, "rows")
    local gaps = 0
    for j, row in ipairs(rows) do
        for i, value in ipairs(row) do
            local cell = { i = i, j = j }
            if scale.is_finite(value) then
                cell.stats = series.stats(value)
                series.widen(chart, value, value)
            else
                cell.word, gaps = scale.text(value), gaps + 1
            end
            chart.cells[#chart.cells + 1] = cell
        end
    end
    if not chart.low then raise_nothing(op, gaps) end
    if opts.logz and chart.low <= 0 then
        raise("invalid_argument", op, "opts.logz: there is the value %s, a log scale needs values above 0",
            scale.text(chart.low))
    end
    chart.missing = new_missing(gaps, "not finite")
    return chart
end

return M
