--- The series of a chart of results: which case belongs to which, their order and their looks.
local results = require "steer.sweep.results"
local scale = require "steer.plot.scale"
local series = require "steer.plot.series"

local M = {}

local function rank_of(values, value)
    for rank, other in ipairs(values) do
        if other == value then return rank end
    end
end

-- The axis of two values that dashes show, where another one has the colours.
local function dash_axis(whole, by, wanted)
    if wanted or #by < 2 then return wanted end
    local varying, pair = 0, nil
    for _, name in ipairs(by) do
        local values = whole:values_of(name)
        if #values > 1 then varying = varying + 1 end
        if #values == 2 and (not pair or type(values[1]) ~= "number") then pair = name end
    end
    return varying > 1 and pair or nil
end

local function is_dashed(values, value)
    if type(value) == "boolean" then return not value end -- steered=false beside steered=true
    return rank_of(values, value) == 2
end

--- Gives the series looks that do not depend on a filter, where there are looks enough for all: words get colours of
-- their own, a numbered axis a scale of colours, a pair dashes.
function M.set_looks(chart, found, whole, by, opts)
    local dash, colours, all = dash_axis(whole, by, opts.dash), {}, 1
    for i, name in ipairs(by) do
        if name ~= dash then
            colours[#colours + 1], all = i, all * #whole:values_of(name)
        end
    end
    local only = #colours == 1 and by[colours[1]]
    local seen, count = {}, 0
    chart.ordered = only and series.is_numeric(found:values_of(only)) or false
    for _, group in ipairs(chart.groups) do
        local look, words = 0, {}
        for k, i in ipairs(colours) do
            local values = (chart.ordered and found or whole):values_of(by[i])
            look, words[k] = look * #values + rank_of(values, group.values[i]) - 1, tostring(group.values[i])
        end
        local key = table.concat(words, "\0")
        if not seen[key] then seen[key], count = count + 1, count + 1 end
        if chart.ordered then
            group.rank, group.of = look + 1, #found:values_of(only)
        else
            group.rank = all <= series.COLOURS and look + 1 or seen[key]
        end
        for i, name in ipairs(by) do
            if name == dash then group.dashed = is_dashed(whole:values_of(name), group.values[i]) end
        end
    end
end

-- The values of a case on the axes of the series, and their places in the order of these axes.
local function group_of(found, entry, by)
    local group, words = { values = {}, order = {}, points = {} }, {}
    for i, name in ipairs(by) do
        local value = results.field(entry, name)
        words[i], group.values[i] = scale.text(value), value
        group.order[i] = rank_of(found:values_of(name), value)
    end
    group.name = table.concat(words, ", ")
    return group
end

--- Gives a function that gives the group of a case, made when it is first seen; and one that puts the groups in order.
function M.grouping(found, chart, by)
    local groups = {}
    local function get(entry)
        local group = group_of(found, entry, by)
        local key = table.concat(group.order, " ")
        if not groups[key] then groups[key], chart.groups[#chart.groups + 1] = group, group end
        return groups[key]
    end
    local function sort()
        table.sort(chart.groups, function(a, b)
            for i = 1, #by do
                if a.order[i] ~= b.order[i] then return a.order[i] < b.order[i] end
            end
            return false
        end)
    end
    return get, sort
end

return M
