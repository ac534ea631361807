--- Charts of the cases of a sweep, or of a table of records: a metric over an axis, or over another metric.
local check = require "steer.core.check"
local groups = require "steer.plot.groups"
local plot_options = require "steer.plot.options"
local record = require "steer.record"
local repeats = require "steer.sweep.repeats"
local results = require "steer.sweep.results"
local scale = require "steer.plot.scale"
local series = require "steer.plot.series"
local tables = require "steer.core.tables"

local raise = require("steer.core.error").raise

local M = {}

-- ---- Choosing the points -------------------------------------------------------------------------------------------

local function by_list(op, found, opts)
    local list, seen = {}, {}
    for _, option in ipairs { "by", "dash" } do
        local names = opts[option]
        for _, name in ipairs(type(names) == "table" and names or { names }) do
            check.type(op, "opts." .. option, name, "string", "the name of an axis")
            found:check_field(op, option, name)
            if not seen[name] then list[#list + 1], seen[name] = name, true end
        end
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
            for i, value in ipairs(found.values[name]) do texts[i] = scale.text(value) end
            more[#more + 1] = ("%s (%s)"):format(name, table.concat(texts, ", "))
        end
    end
    if #more == 0 then
        raise("invalid_argument", op, "by: two rows of %s have the same %s", found.path, table.concat(chosen, ", "))
    end
    raise("invalid_argument", op,
        "by: several cases fall on one place, such as %s and %s; choose by or a filter for %s",
        record.text(a.case, found.axes), record.text(b.case, found.axes), table.concat(more, " and "))
end

-- Calls place(entry, stats or nil) for each case that has all fields; where `alone`, once it is known that no other
-- case has the same. Counts the cases without a number by what they are.
local function each_case(op, found, fields, metric, alone, place)
    local taken, missing = {}, {}
    for _, entry in ipairs(found.cases) do
        local words, whole = {}, true
        for i, name in ipairs(fields) do
            local value = results.field(entry, name)
            whole = whole and value ~= nil
            words[i] = type(value) .. ":" .. tostring(value)
        end
        local spot = table.concat(words, "\0")
        local stats = results.stats(entry, metric)
        if not stats then
            local word = entry.status == "ok" and "without a number" or entry.status
            missing[word] = (missing[word] or 0) + 1
        end
        if whole and stats and alone then
            if taken[spot] then raise_crowded(op, found, fields, taken[spot], entry) end
            taken[spot] = entry
        end
        if whole then place(entry, stats) end
    end
    return missing
end

local function require_drawn(op, found, metric, count, missing)
    if count > 0 then return end
    local words = {}
    for _, word in ipairs(results.sort(tables.keys(missing))) do words[#words + 1] = missing[word] .. " " .. word end
    raise("invalid_argument", op, "%s: no case of %s can be drawn: %s", metric, found.path, table.concat(words, ", "))
end

local function check_log(op, option, name, value)
    if value <= 0 then
        raise("invalid_argument", op, "%s: %s has the value %s, a log axis needs values above 0", option, name,
            scale.text(value))
    end
end

-- ---- Titles --------------------------------------------------------------------------------------------------------

-- Tells whether a metric says how fast something is, and so of what device.
local function is_speed(name)
    return results.is_time(name) or results.is_rate(name)
end

-- What all cases have in common: axes that are not drawn, and the device of times.
local function common(found, drawn, metrics)
    local shown, words, speed = {}, {}, false
    for _, name in ipairs(drawn) do shown[name] = true end
    for _, name in ipairs(metrics) do speed = speed or is_speed(name) end
    for _, name in ipairs(found.axes) do
        if not shown[name] and #found.values[name] == 1 then
            words[#words + 1] = name .. "=" .. scale.text(found.values[name][1])
        end
    end
    for _, name in ipairs { "device_name", "device" } do
        local values = found:values_of(name)
        if speed and #values == 1 and not shown.device then
            words[#words + 1] = tostring(values[1])
            break
        end
    end
    return table.concat(words, ", ")
end

local function titles(found, opts, what, drawn, metrics)
    local list = { opts.title or (found.name and ("%s: %s"):format(tostring(found.name), what) or what) }
    local more = common(found, drawn, metrics)
    if more ~= "" then list[2] = more end
    return list
end

-- ---- Lines and bars over an axis -----------------------------------------------------------------------------------

-- Fills chart.groups with the measured cases; gives the values of x in use.
local function collect_lines(op, found, chart, opts, by)
    local used, get, sort = {}, groups.grouping(found, chart, by)
    chart.missing = each_case(op, found, { opts.x, unpack(by) }, opts.y, chart.kind ~= "scatter", function(entry, stats)
        if not stats then return end
        local x = results.field(entry, opts.x)
        table.insert(get(entry).points, { x = x, stats = stats })
        used[x] = true
        series.add_spread(chart, stats)
        if opts.logy then check_log(op, "logy", opts.y, stats.low) end
    end)
    require_drawn(op, found, opts.y, #chart.groups, chart.missing)
    sort()
    return used
end

-- Puts the points at their places: numbers where they are, words side by side, as bars always are.
local function place_points(op, found, chart, opts, used)
    for _, x in ipairs(found:values_of(opts.x)) do
        if used[x] then chart.xs[#chart.xs + 1] = x end
    end
    local numeric = series.is_numeric(chart.xs)
    if numeric then table.sort(chart.xs) end
    chart.text_x = chart.kind == "bars" or not numeric
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

local function new_chart(kind, opts, by)
    return { kind = kind, groups = {}, xs = {}, xlabel = results.title(opts.x),
        ylabel = opts.y and results.title(opts.y), logx = opts.logx, logy = opts.logy,
        legend = #by > 0 and table.concat(by, ", ") or nil }
end

local function axis_chart(op, found, whole, opts, by, kind)
    local chart = new_chart(kind, opts, by)
    local used = collect_lines(op, found, chart, opts, by)
    place_points(op, found, chart, opts, used)
    chart.scattered = kind == "scatter" and not chart.text_x
    groups.set_looks(chart, found, whole, by, opts)
    chart.title = titles(found, opts, ("%s against %s"):format(chart.ylabel, chart.xlabel), { opts.x, unpack(by) },
        { opts.y })
    if kind == "bars" then series.from_zero(chart) end
    chart.measure = chart.ylabel
    if chart.spread and series.has_intervals(chart) then chart.ylabel = chart.ylabel .. ", " .. chart.spread end
    return chart
end

-- ---- A metric against a metric, or alone ---------------------------------------------------------------------------

local function metric_chart(op, found, whole, opts, by, kind)
    local chart = new_chart(kind, opts, by)
    local get, sort = groups.grouping(found, chart, by)
    chart.scattered, chart.joined = true, kind == "lines"
    chart.missing = each_case(op, found, by, opts.y, false, function(entry, stats)
        local x = results.stats(entry, opts.x)
        if not (stats and x) then return end
        table.insert(get(entry).points, { x = x.value, at = x.value, stats = stats })
        chart.xs[#chart.xs + 1] = x.value
        series.widen(chart, stats.value, stats.value)
        if opts.logx then check_log(op, "logx", opts.x, x.value) end
        if opts.logy then check_log(op, "logy", opts.y, stats.value) end
    end)
    require_drawn(op, found, opts.y, #chart.groups, chart.missing)
    sort()
    table.sort(chart.xs)
    groups.set_looks(chart, found, whole, by, opts)
    chart.title = titles(found, opts, ("%s against %s"):format(chart.ylabel, chart.xlabel), by, { opts.x, opts.y })
    return chart
end

local function samples_of(entry, metric)
    local list = entry.samples[metric]
    return type(list) == "table" and #list > 0 and list or { entry.metrics[metric] }
end

local function histogram_chart(op, found, whole, opts, by)
    local chart = new_chart("histogram", opts, by)
    local get, sort = groups.grouping(found, chart, by)
    chart.missing = each_case(op, found, by, opts.x, false, function(entry, stats)
        if not stats then return end
        local group = get(entry)
        group.samples = group.samples or {}
        for _, x in ipairs(samples_of(entry, opts.x)) do table.insert(group.samples, x) end
    end)
    require_drawn(op, found, opts.x, #chart.groups, chart.missing)
    sort()
    groups.set_looks(chart, found, whole, by, opts)
    chart.title = titles(found, opts, chart.xlabel, by, { opts.x })
    return series.fill_histogram(op, chart, opts)
end

-- ---- Heatmaps ------------------------------------------------------------------------------------------------------

local function positions(values)
    local sorted, at = {}, {}
    for i, value in ipairs(values) do sorted[i] = value end
    if series.is_numeric(values) then table.sort(sorted) end
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
    chart.missing = each_case(op, found, { x, y }, z, true, function(entry, stats)
        local i, j = at_x[results.field(entry, x)], at_y[results.field(entry, y)]
        local spot = (j - 1) * #chart.xs + i
        if stats then
            filled[spot], count = { i = i, j = j, stats = stats }, count + 1
            series.widen(chart, stats.value, stats.value)
            if opts.logz then check_log(op, "logz", z, stats.value) end
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
    chart.title = titles(found, opts, ("%s over %s and %s"):format(chart.zlabel, chart.xlabel, chart.ylabel), { x, y },
        { z })
    return chart
end

-- ---- Public --------------------------------------------------------------------------------------------------------

local function is_metric(found, name)
    local known = {}
    for _, metric in ipairs(found.metrics) do known[metric] = true end
    for _, axis in ipairs(found.axes) do
        if axis == name then return false end
    end
    return known[name] or false
end

-- x is an axis, or for some kinds a metric.
local function check_x(op, found, name)
    if is_metric(found, name) then return end
    local ok, problem = pcall(found.check_field, found, op, "x", name)
    if ok then return end
    problem.message = ("%s; the metrics are %s"):format(problem.message, table.concat(found.metrics, ", "))
    error(problem, 0)
end

local function over_axes(op, found, whole, opts)
    found:check_field(op, "x", opts.x)
    found:check_field(op, "y", opts.y)
    whole:check_metric(op, "z", opts.z)
    return heatmap_chart(op, found, opts)
end

local function over_x(op, found, whole, opts, kind)
    local by = by_list(op, found, opts)
    if kind == "bars" then found:check_field(op, "x", opts.x) else check_x(op, found, opts.x) end
    whole:check_metric(op, "y", opts.y)
    local make = kind ~= "bars" and is_metric(found, opts.x) and metric_chart or axis_chart
    return make(op, found, whole, opts, by, kind)
end

local function over_values(op, found, whole, opts)
    local by = by_list(op, found, opts)
    whole:check_metric(op, "x", opts.x)
    return histogram_chart(op, found, whole, opts, by)
end

-- What each of x, y and z is of, by the kind of chart.
local MEANING = {
    histogram = { x = "a metric" }, heatmap = { x = "an axis", y = "an axis", z = "a metric" },
    bars = { x = "an axis", y = "a metric" }, other = { x = "an axis or a metric", y = "a metric" },
}

--- Says what there is to draw, for messages.
function M.names_text(found)
    return ("the axes are %s; the metrics %s"):format(table.concat(found.axes, ", "), table.concat(found.metrics, ", "))
end

local KINDS = { lines = over_x, scatter = over_x, bars = over_x, histogram = over_values, heatmap = over_axes }

--- Makes the chart that the options ask for.
-- @tparam string op operation for messages
-- @param found results as sweep/results.read gives
-- @tparam table opts x, y, z, by, dash, filter, logx, logy, logz, title, and bins and share for a histogram
-- @tparam[opt] string kind default a heatmap where there is a z, a scatter plot where x is a metric, else lines
function M.chart(op, found, opts, kind)
    kind = kind or opts.z and "heatmap"
    local meaning = MEANING[kind] or MEANING.other
    for _, key in ipairs { "x", "y", "z" } do
        if meaning[key] and type(opts[key]) ~= "string" then
            raise("invalid_argument", op, "opts.%s: expected the name of %s, got %s; %s", key, meaning[key],
                check.describe(opts[key]), M.names_text(found))
        end
    end
    if kind == "histogram" and opts.y ~= nil then
        raise("invalid_argument", op, "opts.y: a histogram counts the values of x, it has no y")
    end
    kind = kind or is_metric(found, opts.x) and "scatter" or "lines"
    plot_options.check_kind(op, opts, kind)
    local whole, shown = found, { opts.x, opts.y }
    for _, name in ipairs(type(opts.by) == "table" and opts.by or { opts.by }) do shown[#shown + 1] = name end
    if opts.dash then shown[#shown + 1] = opts.dash end
    if opts.filter then found = found:filter(op, opts.filter) end
    local joined, lost = repeats.join(found, shown)
    local chart = KINDS[kind](op, joined, repeats.join(whole, shown), opts, kind)
    if lost > 0 then chart.missing["failed repeats"] = lost end
    return chart
end

return M
