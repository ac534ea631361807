--- Plots of a report: heatmaps over two axes of numbers, and lines. Plots that stand side by side share their axes.
local escape = require("steer.report.page").escape
local gnuplot = require "steer.plot.gnuplot"
local plots = require "steer.plot"
local results = require "steer.sweep.results"
local series = require "steer.plot.series"
local tables = require "steer.core.tables"

local M = {}

local MOST_LINES, MOST_PLOTS = 7, 12 -- lines of words in a plot; plots of a kind of a metric
local FEWEST = 3                     -- values of an axis of a heatmap
local LOG_X, LOG_Y = 8, 30           -- axes of times are logarithmic from these ratios of largest to least value on
local WIDTH, HEIGHT = 560, 360
local WIDE, HIGH = 1120, 520         -- of a heatmap with many columns
local MANY_COLUMNS, MANY_ROWS = 64, 40

-- ---- Which plots ---------------------------------------------------------------------------------------------------

local function is_numeric(values)
    for _, value in ipairs(values) do
        if type(value) ~= "number" then return false end
    end
    return true
end

local function without(list, gone)
    local rest = {}
    for _, name in ipairs(list) do
        if not gone[name] then rest[#rest + 1] = name end
    end
    return rest
end

-- The two axes of numbers with the most values, in the order of the sweep; nil where there are not two.
local function choose_map(found, axes)
    local numeric, rank = {}, {}
    for i, name in ipairs(axes) do
        rank[name] = i
        if is_numeric(found.values[name]) and #found.values[name] >= FEWEST then numeric[#numeric + 1] = name end
    end
    table.sort(numeric, function(a, b)
        local n, m = #found.values[a], #found.values[b]
        return n > m or n == m and rank[a] < rank[b]
    end)
    local a, b = numeric[1], numeric[2]
    if not b then return nil end
    if rank[a] < rank[b] then return b, a end
    return a, b
end

-- The axis to draw over: the one with most numbers, else the first.
local function choose_x(found, axes)
    local best, most = axes[1], 0
    for _, name in ipairs(axes) do
        local values = found.values[name]
        if is_numeric(values) and #values > most then best, most = name, #values end
    end
    return best
end

-- Which of the other axes are lines of one plot, the smallest first, and which a plot for each value.
local function choose_lines(found, axes)
    local sorted, by, facets, lines = { unpack(axes) }, {}, {}, 1
    table.sort(sorted, function(a, b)
        local n, m = #found.values[a], #found.values[b]
        return n < m or n == m and a < b
    end)
    for _, name in ipairs(sorted) do
        lines = lines * #found.values[name]
        table.insert(lines <= MOST_LINES and by or facets, name)
    end
    return by, facets
end

-- The plots of every metric: {x=, y= (of a heatmap), by=, facets=}.
local function choose_plots(found)
    local axes = found:varying()
    if #axes == 0 then return {} end
    local x, y = choose_map(found, axes)
    if x then
        local facets = without(axes, { [x] = true, [y] = true })
        return { { x = x, y = y, facets = facets }, { x = x, by = { y }, facets = facets } }
    end
    x = choose_x(found, axes)
    local by, facets = choose_lines(found, without(axes, { [x] = true }))
    return { { x = x, by = by, facets = facets } }
end

-- Filters for the values of the facets' axes, one for each plot, and their texts; in the order of the axes.
local function filters_of(found, axes)
    local list, seen = {}, {}
    for _, entry in ipairs(found.cases) do
        local filter, words, texts = {}, {}, {}
        for i, name in ipairs(axes) do
            filter[name] = entry.case[name]
            words[i] = type(entry.case[name]) .. tostring(entry.case[name])
            texts[i] = ("%s=%s"):format(name, results.text(entry.case[name]))
        end
        local spot = table.concat(words, "\0")
        if not seen[spot] then
            seen[spot] = { filter = filter, text = table.concat(texts, ", "), entries = {} }
            list[#list + 1] = seen[spot]
        end
        table.insert(seen[spot].entries, entry)
    end
    return list
end

local function is_measured(facet, metric)
    for _, entry in ipairs(facet.entries) do
        if results.stats(entry, metric) then return true end
    end
    return false
end

-- ---- Sharing axes --------------------------------------------------------------------------------------------------

-- The values that some chart has on an axis in the order of all, and their places.
local function union(charts, key, all)
    local has, values, place = {}, {}, {}
    for _, chart in ipairs(charts) do
        for _, value in ipairs(chart[key]) do has[value] = true end
    end
    for _, value in ipairs(all) do
        if has[value] then values[#values + 1] = value end
    end
    if is_numeric(values) then table.sort(values) end
    for i, value in ipairs(values) do place[value] = i end
    return values, place
end

-- Gives a heatmap the cells of these columns and rows; it has none at some of them.
local function spread_cells(chart, xs, at_x, ys, at_y)
    local cells = {}
    for j = 1, #ys do
        for i = 1, #xs do cells[(j - 1) * #xs + i] = { i = i, j = j, word = "" } end
    end
    for _, cell in ipairs(chart.cells) do
        local i, j = at_x[chart.xs[cell.i]], at_y[chart.ys[cell.j]]
        cell.i, cell.j = i, j
        cells[(j - 1) * #xs + i] = cell
    end
    chart.xs, chart.ys, chart.cells = xs, ys, cells
end

local function spread_lines(chart, xs, place)
    chart.xs = xs
    for _, group in ipairs(chart.groups) do
        for _, point in ipairs(group.points) do point.at = chart.text_x and place[point.x] or point.at end
    end
end

local function share_axes(found, charts, plot)
    local low, high = math.huge, -math.huge
    for _, chart in ipairs(charts) do low, high = math.min(low, chart.low), math.max(high, chart.high) end
    local xs, at_x = union(charts, "xs", found:values_of(plot.x))
    local ys, at_y
    if plot.y then ys, at_y = union(charts, "ys", found:values_of(plot.y)) end
    for _, chart in ipairs(charts) do
        chart.low, chart.high = low, high
        if plot.y then spread_cells(chart, xs, at_x, ys, at_y) else spread_lines(chart, xs, at_x) end
    end
end

-- Times alone have logarithmic values, times and rates logarithmic places.
local function set_scales(chart, metric)
    local is_time = results.is_time(metric)
    local wide = is_time and chart.low > 0 and chart.high / chart.low >= LOG_Y
    if chart.kind == "heatmap" then
        chart.logz = wide
        return
    end
    local first, last = chart.xs[1], chart.xs[#chart.xs]
    chart.logx = (is_time or results.is_rate(metric)) and not chart.text_x and #chart.xs > 2 and first > 0
        and last / first >= LOG_X
    chart.logy = wide
end

-- ---- Figures -------------------------------------------------------------------------------------------------------

local function missing_text(chart)
    local words = {}
    for _, word in ipairs(results.sort(tables.keys(chart.missing or {}))) do
        words[#words + 1] = ("%d %s"):format(chart.missing[word], word)
    end
    return #words > 0 and (" (not drawn: %s)"):format(table.concat(words, ", ")) or ""
end

local function caption_of(found, plot, metric, facet, chart)
    local title = results.title
    local what = plot.y and ("%s over %s and %s"):format(title(metric), title(plot.x), title(plot.y))
        or ("%s over %s%s"):format(title(metric), title(plot.x), #plot.by > 0 and ", a line for each "
            .. table.concat(plot.by, " and ") or "")
    local alone = {}
    for _, name in ipairs(found.axes) do
        if #found.values[name] == 1 then
            alone[#alone + 1] = ("%s=%s"):format(name, results.text(found.values[name][1]))
        end
    end
    if facet.text ~= "" then table.insert(alone, 1, facet.text) end
    local spread = series.has_intervals(chart) and chart.spread
    return ("%s%s%s%s."):format(what, spread and ": " .. spread or "",
        #alone > 0 and "; " .. table.concat(alone, ", ") or "", missing_text(chart))
end

-- Draws one plot of a metric: a figure for each facet.
local function add_plot(page, op, found, metric, plot)
    local charts, drawn, left_out, empty = {}, {}, {}, {}
    for _, facet in ipairs(filters_of(found, plot.facets)) do
        if not is_measured(facet, metric) then
            empty[#empty + 1] = facet.text
        elseif #charts == MOST_PLOTS then
            left_out[#left_out + 1] = facet.text
        else
            charts[#charts + 1] = plots.chart(op, found, { x = plot.x, y = plot.y or metric, z = plot.y and metric,
                by = plot.by, filter = facet.filter })
            drawn[#drawn + 1] = facet
        end
    end
    if #charts == 0 then return end -- the page says that nothing was measured
    share_axes(found, charts, plot)
    for i, chart in ipairs(charts) do
        set_scales(chart, metric)
        local wide = plot.y and (#chart.xs > MANY_COLUMNS or #chart.ys > MANY_ROWS)
        local caption = caption_of(found, plot, metric, drawn[i], chart)
        chart.title, chart.ylabel = {}, results.title(plot.y or metric) -- the caption says the rest
        page:figure(gnuplot.svg(op, chart, wide and WIDE or WIDTH, wide and HIGH or HEIGHT), caption, wide)
    end
    if #left_out > 0 then
        page:add('<p class="whole">%d more plots of %s are left out, which <code>steer plot --filter</code> draws: '
            .. "%s.</p>", #left_out, escape(metric), escape(table.concat(left_out, "; ")))
    end
    if #empty > 0 then
        page:add('<p class="whole">Nothing was measured of %s.</p>', escape(table.concat(empty, "; ")))
    end
end

--- Adds the plots of the metrics, heatmaps first.
-- @param page of the report
-- @tparam string op operation for messages
-- @param found results whose repeats are joined
-- @tparam table metrics
function M.add(page, op, found, metrics)
    page:add("<h2>Plots</h2>")
    if not gnuplot.exists() then return page:note("no plots: " .. gnuplot.MISSING) end
    local list, before = choose_plots(found), page.figures
    for _, metric in ipairs(#list > 0 and metrics or {}) do
        page:add('<h3>%s</h3><div class="plots">', escape(results.title(metric)))
        for i, plot in ipairs(list) do
            if i > 1 and #plot.facets > 0 then page:add('</div><div class="plots">') end -- a row of its own
            add_plot(page, op, found, metric, plot)
        end
        page:add("</div>")
    end
    if page.figures == before then page:add("<p>There is nothing to draw: no axis varies over measured cases.</p>") end
end

return M
