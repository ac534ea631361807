--- What the charts of series share: their range, their intervals, and the bins of histograms.
local check = require "steer.core.check"
local results = require "steer.sweep.results"
local scale = require "steer.plot.scale"

local raise = require("steer.core.error").raise

local M = {}

M.COLOURS = 7    -- series beyond these share colours
local INTERVALS = 8 -- lines beyond these have no intervals: nothing else could be seen

--- Tells whether all values are numbers.
function M.is_numeric(values)
    for _, value in ipairs(values) do
        if type(value) ~= "number" then return false end
    end
    return true
end

--- Widens the range of a chart's numbers.
function M.widen(chart, low, high)
    chart.low, chart.high = math.min(chart.low or low, low), math.max(chart.high or high, high)
end

--- Tells whether a chart shows intervals.
function M.has_intervals(chart)
    return chart.bars and not chart.scattered and (chart.kind == "bars" or #chart.groups <= INTERVALS)
end

--- Adds what a point has around it to a chart: its range, and what the ends are (chart.spread).
function M.add_spread(chart, stats)
    M.widen(chart, stats.low, stats.high)
    if stats.n == 1 then return end
    local spread = results.spread(stats)
    chart.bars, chart.spread = true, (chart.spread or spread) == spread and spread or "with intervals"
end

--- Makes bars of a chart begin at 0, if they are not on a log axis.
function M.from_zero(chart)
    if not chart.logy then M.widen(chart, 0, 0) end
end

--- Gives statistics of a value that was measured once, or of one with an interval.
function M.stats(value, low, high)
    low, high = low or value, high or value
    return { n = 1, value = value, low = low, high = high, min = low, max = high }
end

-- ---- Bins ----------------------------------------------------------------------------------------------------------

local MOST_BINS, MOST_WHOLE = 1000, 60 -- bins; whole numbers that have a bin each
local BY_DEFAULT = 100

local function sorted_samples(groups)
    local all, whole = {}, true
    for _, group in ipairs(groups) do
        for _, x in ipairs(group.samples) do
            all[#all + 1], whole = x, whole and x % 1 == 0
        end
    end
    table.sort(all)
    return all, whole
end

-- As many bins as the rules of Sturges, and of Freedman and Diaconis, ask for, whichever wants more.
local function count_of(sorted)
    local n, low, high = #sorted, sorted[1], sorted[#sorted]
    local width = 2 * (sorted[math.ceil(n * 0.75)] - sorted[math.ceil(n * 0.25)]) / n ^ (1 / 3)
    local sturges = math.ceil(math.log(n) / math.log(2)) + 1
    local count = width > 0 and (high / 2 - low / 2) / (width / 2) or 1
    return math.max(math.min(math.ceil(count), math.ceil(2 * math.sqrt(n)), BY_DEFAULT), sturges)
end

local function given_edges(op, bins)
    local n = check.list(op, "opts.bins", bins, "a number of bins or a list of edges")
    if n < 2 then raise("invalid_argument", op, "opts.bins: expected at least two edges, got %d", n) end
    local edges = {}
    for i, edge in ipairs(bins) do
        if not scale.is_finite(edge) or i > 1 and edge <= bins[i - 1] then
            raise("invalid_argument", op, "opts.bins[%d]: expected edges that rise, got %s", i, check.describe(edge))
        end
        edges[i] = edge
    end
    return edges
end

local function edges_of(op, sorted, whole, opts)
    local bins = opts.bins
    if type(bins) == "table" then return given_edges(op, bins) end
    if bins ~= nil then check.integer(op, "opts.bins", bins, 1, MOST_BINS) end
    local low, high, edges = sorted[1], sorted[#sorted], {}
    if not bins and whole and not opts.logx and high - low < MOST_WHOLE and math.abs(low) < check.MAX_INTEGER then
        for k = low, high + 1 do edges[#edges + 1] = k - 0.5 end
        return edges
    end
    if opts.logx then low, high = math.log(low), math.log(high) end
    if low == high then low, high = scale.range(low, high) end
    local count = bins or count_of(sorted)
    for i = 0, count do
        local edge = low + (high / count - low / count) * i
        edges[i + 1] = opts.logx and math.exp(edge) or edge
    end
    edges[1], edges[count + 1] = math.min(edges[1], sorted[1]), math.max(edges[count + 1], sorted[#sorted])
    return edges
end

-- The bin of a value by halving; nil outside. The last bin has its upper edge too.
local function bin_of(edges, x)
    local low, high = 1, #edges
    if not (x >= edges[1] and x <= edges[high]) then return nil end
    while high - low > 1 do
        local middle = math.floor((low + high) / 2)
        if x >= edges[middle] then low = middle else high = middle end
    end
    return low
end

local function count(group, edges, opts)
    local counts, outside = {}, 0
    for b = 1, #edges - 1 do counts[b] = 0 end
    for _, x in ipairs(group.samples) do
        local b = bin_of(edges, x)
        if b then counts[b] = counts[b] + 1 else outside = outside + 1 end
    end
    for b = 1, #counts do
        if opts.share then counts[b] = counts[b] / #group.samples end
    end
    group.counts = counts
    return outside
end

--- Counts the samples of each series of a chart in bins that all of them share.
-- @tparam table opts bins: how many, or a list of edges; share: parts of each series instead of counts; logx, logy
function M.fill_histogram(op, chart, opts)
    local sorted, whole = sorted_samples(chart.groups)
    if opts.logx and sorted[1] <= 0 then
        raise("invalid_argument", op, "logx: there is the value %s, a log axis needs values above 0",
            scale.text(sorted[1]))
    end
    chart.xs, chart.scattered = edges_of(op, sorted, whole, opts), true
    chart.missing = chart.missing or {}
    local least
    chart.low, chart.high = 0, 0
    for _, group in ipairs(chart.groups) do
        local outside = count(group, chart.xs, opts)
        if outside > 0 then chart.missing["outside the bins"] = (chart.missing["outside the bins"] or 0) + outside end
        for _, n in ipairs(group.counts) do
            chart.high = math.max(chart.high, n)
            if n > 0 then least = math.min(least or n, n) end
        end
    end
    if chart.high == 0 then
        raise("invalid_argument", op, "opts.bins: all values lie outside of them, from %s to %s", scale.text(sorted[1]),
            scale.text(sorted[#sorted]))
    end
    if opts.logy then chart.low = least / 2 end
    chart.base = chart.low
    chart.ylabel, chart.whole_y = opts.share and "share" or "count", not opts.share
    return chart
end

return M
