--- Repeats of cases: those that differ on the axis "repeats" alone are joined for compare, plot and report.
local record = require "steer.record"
local results = require "steer.sweep.results"
local statistics = require "steer.sweep.statistics"
local tables = require "steer.core.tables"

local M = {}

M.AXIS = "repeats"

local function without(case)
    local out = {}
    for _, name in ipairs(tables.keys(case)) do
        if name ~= M.AXIS then out[name] = case[name] end
    end
    return out
end

-- Repeats by case, those of a case by their number; cases in the order of their first lines.
local function groups_of(found)
    local groups, at = {}, {}
    for _, entry in ipairs(found.cases) do
        local case = without(entry.case)
        local key = record.key(case)
        local group = at[key]
        if not group then
            group = { case = case, key = key, entries = {} }
            at[key], groups[#groups + 1] = group, group
        end
        table.insert(group.entries, entry)
    end
    for _, group in ipairs(groups) do
        table.sort(group.entries, function(a, b) return a.case[M.AXIS] < b.case[M.AXIS] end)
    end
    return groups
end

-- Whether the axis is there, with numbers alone.
local function has_repeats(found)
    local count = 0
    for _, value in ipairs(found.values[M.AXIS] or {}) do
        if type(value) ~= "number" then return false end
        count = count + 1
    end
    return count > 0
end

-- Fills metrics (means over the repeats) and samples (what each returned); what is no number in one is none in all.
local function join_metrics(entry, measured)
    local names = {}
    for _, one in ipairs(measured) do
        for _, name in ipairs(tables.keys(one.metrics)) do names[name] = true end
    end
    for _, name in ipairs(tables.keys(names)) do
        local list, whole = {}, true
        for i, one in ipairs(measured) do
            list[i] = one.metrics[name] or 0 / 0
            whole = whole and list[i] - list[i] == 0 -- neither NaN nor infinite
        end
        entry.metrics[name] = whole and statistics.centres.mean(list) or 0 / 0
        entry.samples[name] = whole and list or nil
    end
end

-- One entry for the repeats of a case: what they have in common is that of the first that was measured.
local function join_group(group)
    local measured, numbers, entry, seconds = {}, {}, {}, 0
    for _, one in ipairs(group.entries) do
        if one.status == "ok" then
            measured[#measured + 1], numbers[#numbers + 1] = one, tostring(one.case[M.AXIS])
        end
        seconds = seconds + (tonumber(results.word(one.seconds)) or 0)
    end
    local first = measured[1] or group.entries[1]
    for _, name in ipairs(tables.keys(first)) do entry[name] = first[name] end
    entry.case, entry.key, entry.seconds = group.case, group.key, seconds
    entry.metrics, entry.samples, entry.stats = {}, {}, {}
    entry.repeats, entry.numbers = #measured, table.concat(numbers, " ")
    join_metrics(entry, measured)
    return entry
end

--- Joins the repeats of each case: a metric is the mean of what its repeats returned, its samples are what each
-- returned, so that results.stats gives the mean and its 95 % interval. A joined entry has repeats (how many were
-- measured) and numbers (which, as text).
-- @param found results as sweep/results.read gives
-- @tparam[opt] table shown list of axes: results where one of them is "repeats" stay as they are
-- @return results without the axis "repeats"; those given where they have none
-- @treturn number of repeats that failed or were skipped beside others that count
function M.join(found, shown)
    if not has_repeats(found) then return found, 0 end
    for _, name in ipairs(shown or {}) do
        if name == M.AXIS then return found, 0 end
    end
    local cases, axes, lost = {}, {}, 0
    for i, group in ipairs(groups_of(found)) do
        cases[i] = join_group(group)
        if cases[i].repeats > 0 then lost = lost + #group.entries - cases[i].repeats end
    end
    for _, name in ipairs(found.axes) do
        if name ~= M.AXIS then axes[#axes + 1] = name end
    end
    return results.derive(found, cases, axes), lost
end

return M
