--- What a report begins with: the extreme cases of each metric, and the Pareto front of two metrics.
local cells = require("steer.report.page").cells
local escape = require("steer.report.page").escape
local gnuplot = require "steer.plot.gnuplot"
local results = require "steer.sweep.results"

local M = {}

-- ---- The extreme cases ---------------------------------------------------------------------------------------------

-- The cases where a metric is lowest and highest, the first of equal ones.
local function extremes(found, metric)
    local low, high
    for _, entry in ipairs(found.cases) do
        local s = results.stats(entry, metric)
        if s and (not low or s.value < low.s.value) then low = { s = s, entry = entry } end
        if s and (not high or s.value > high.s.value) then high = { s = s, entry = entry } end
    end
    return low, high
end

local function place_text(entry, axes)
    local words = {}
    for i, name in ipairs(axes) do words[i] = ("%s\194\160%s"):format(name, results.text(entry.case[name])) end
    return table.concat(words, ", ")
end

local function extreme_cell(extreme, axes, is_best)
    local text, s = escape(extreme.s.value), extreme.s
    text = is_best and ("<b>%s</b>"):format(text) or ("<span>%s</span>"):format(text)
    if s.n > 1 then text = ("%s <small>%s to %s</small>"):format(text, escape(s.low), escape(s.high)) end
    return ("<td>%s<br>%s</td>"):format(text, escape(place_text(extreme.entry, axes)))
end

local function add_extremes(page, found, metrics, axes, better)
    local rows = {}
    for _, metric in ipairs(metrics) do
        local low, high = extremes(found, metric)
        if low then
            local direction = better(metric)
            rows[#rows + 1] = { ("<th>%s%s</th>"):format(escape(results.title(metric)),
                direction and ("<br><small>%s is better</small>"):format(direction) or ""),
                extreme_cell(low, axes, direction == "lower"), extreme_cell(high, axes, direction == "higher") }
        end
    end
    if #rows == 0 then return end
    page:add("<h2>Best cases</h2>")
    page:table({ "metric", "lowest", "highest" }, rows, "best")
end

-- ---- The Pareto front ----------------------------------------------------------------------------------------------

--- Gives two metrics whose better directions are known: those named, else an effect (higher is better) and a cost; or
-- one or none.
function M.choose_pair(metrics, better, named)
    local shown = {}
    for _, metric in ipairs(metrics) do shown[metric] = true end
    local first, second
    for _, metric in ipairs(named) do
        if shown[metric] and not first then first = metric
        elseif shown[metric] and not second then second = metric end
    end
    for _, metric in ipairs(metrics) do -- a rate says the same as a time
        if not first and better(metric) == "higher" and not results.is_rate(metric) then first = metric end
    end
    for _, metric in ipairs(metrics) do
        if first and not second and better(metric) and better(metric) ~= better(first) then second = metric end
    end
    return first, second
end

--- Finds the cases that no other one beats: at least as good in both metrics and better in one.
-- @tparam table points list of {effect, cost}, of which higher is better, and lower
-- @treturn table list of those on the front, by cost; of equal ones the first
function M.front(points)
    local sorted, front, best = {}, {}, -math.huge
    for i = 1, #points do sorted[i] = points[i] end
    for i, point in ipairs(sorted) do point.number = i end
    table.sort(sorted, function(a, b)
        if a.cost ~= b.cost then return a.cost < b.cost end
        if a.effect ~= b.effect then return a.effect > b.effect end
        return a.number < b.number
    end)
    for _, point in ipairs(sorted) do
        if point.effect > best then front[#front + 1], best = point, point.effect end
    end
    return front
end

local function points_of(found, effect, cost, better)
    local up, down, points = better(effect) == "higher" and 1 or -1, better(cost) == "lower" and 1 or -1, {}
    for _, entry in ipairs(found.cases) do
        local a, b = results.stats(entry, effect), results.stats(entry, cost)
        if a and b then
            points[#points + 1] = { effect = up * a.value, cost = down * b.value, entry = entry, a = a, b = b }
        end
    end
    return points
end

local function group_of(name, rank, points)
    local group = { name = name, rank = rank, points = {} }
    for i, point in ipairs(points) do group.points[i] = { x = point.b.value, at = point.b.value, stats = point.a } end
    return group
end

-- A scatter plot of the cases on the front and the others.
local function chart_of(points, front, effect, cost)
    local others, on = {}, {}
    for _, point in ipairs(front) do on[point] = true end
    for _, point in ipairs(points) do
        if not on[point] then others[#others + 1] = point end
    end
    local chart = { kind = "scatter", scattered = true, title = {}, xlabel = results.title(cost),
        ylabel = results.title(effect), legend = "", xs = {}, groups = {}, palette = { "#D55E00", "#9AA4AD" } }
    for i, point in ipairs(points) do
        local value = point.a.value
        chart.xs[i] = point.b.value
        chart.low, chart.high = math.min(chart.low or value, value), math.max(chart.high or value, value)
    end
    table.sort(chart.xs)
    if #others > 0 then chart.groups[1] = group_of("others", 2, others) end
    table.insert(chart.groups, group_of("front", 1, front)) -- drawn last, over the others
    return chart
end

local function front_rows(front, axes, effect, cost)
    local head, rows = {}, {}
    for i, name in ipairs(axes) do head[i] = escape(name) end
    head[#head + 1], head[#head + 2] = escape(results.title(cost)), escape(results.title(effect))
    for i, point in ipairs(front) do
        local row = {}
        for j, name in ipairs(axes) do
            local value = point.entry.case[name]
            row[j] = type(value) == "number" and cells.number(value) or cells.text(value)
        end
        row[#row + 1], row[#row + 2] = cells.number(point.b.value), cells.number(point.a.value)
        rows[i] = row
    end
    return head, rows
end

local WIDTH, HEIGHT = 560, 360
local MOST_OPEN = 25 -- rows of the front's table that are unfolded at first

local function add_front(page, op, found, axes, effect, cost, better)
    local points = points_of(found, effect, cost, better)
    if #points < 2 then return end
    local front = M.front(points)
    page:add("<h2>Pareto front</h2><p>The cases that no other one beats in both %s (%s is better) and %s (%s is "
        .. "better).</p>", escape(effect), better(effect), escape(cost), better(cost))
    page:add('<div class="plots">')
    if gnuplot.exists() then
        page:figure(gnuplot.svg(op, chart_of(points, front, effect, cost), WIDTH, HEIGHT),
            ("%s against %s: %d of %d cases are on the front."):format(results.title(effect), results.title(cost),
                #front, #points))
    end
    local is_long = #front > MOST_OPEN -- not beside the figure: it would be pushed to another page of paper
    if is_long then page:add("</div>") end
    page:folded(("%d cases on the front"):format(#front), { open = not is_long }, function()
        page:table(front_rows(front, axes, effect, cost))
    end)
    if not is_long then page:add("</div>") end
end

-- What a caller may say is better: a metric of which nobody knows, and one that is better lower where there is one.
local function example(metrics, better)
    local up, down
    for _, metric in ipairs(metrics) do
        if better(metric) == "lower" then down = down or metric elseif not better(metric) then up = up or metric end
    end
    up = up or metrics[1] ~= down and metrics[1] or metrics[2]
    down = down or metrics[1] ~= up and metrics[1] or metrics[2]
    return ("%s=%s,%s=%s"):format(up, better(up) or "higher", down, better(down) or "lower")
end

--- Adds the extreme cases of the metrics and the Pareto front.
-- @param page of the report
-- @tparam string op operation for messages
-- @param found results whose repeats are joined
-- @tparam table metrics
-- @tparam table axes that tell the cases apart
-- @tparam function better gives the better direction of a metric: "lower", "higher" or nil
-- @param effect of M.choose_pair
-- @param cost
function M.add(page, op, found, metrics, axes, better, effect, cost)
    if #found.cases < 2 then return end
    add_extremes(page, found, metrics, axes, better)
    if cost then
        add_front(page, op, found, axes, effect, cost, better)
    elseif #metrics > 1 then
        table.insert(page.notes, "no Pareto front: it is of a metric that is better higher and one that is better "
            .. "lower, or of two that better names, such as " .. example(metrics, better))
    end
end

return M
