--- steer.compare: two results files of a sweep, case by case, with a verdict that is never forced (see
-- sweep/verdict.lua).
local check = require "steer.core.check"
local code = require "steer.sweep.code"
local content = require "steer.sweep.content"
local options = require "steer.core.options"
local record = require "steer.record"
local repeats = require "steer.sweep.repeats"
local results = require "steer.sweep.results"
local text = require "steer.sweep.compare_text"
local verdict = require "steer.sweep.verdict"

local raise = require("steer.core.error").raise

local M = {}

local Comparison = {}
require("steer.core.class").strict(Comparison, "a comparison", { command = true })

-- ---- Metrics -------------------------------------------------------------------------------------------------------

local KNOWN = { metric = true, better = true, gap = "number", same = "number", filter = "table", paired = "boolean" }

-- Main metrics of either side: all, those that are times, and all as a set.
local function metrics_of(old, new)
    local all, times, have = {}, {}, {}
    for _, side in ipairs { old, new } do
        for _, name in ipairs(side:main_metrics()) do
            if not have[name] then
                have[name], all[#all + 1] = true, name
                if results.is_time(name) then times[#times + 1] = name end
            end
        end
    end
    return results.sort(all), results.sort(times)
end

-- Of all metrics those that both sides have, and those left out; all where a side has none.
local function common_metrics(op, old, new, all)
    if #old.metrics == 0 or #new.metrics == 0 then return all, {} end
    local both, left_out, sides = {}, {}, { {}, {} }
    for i, side in ipairs { old, new } do
        for _, name in ipairs(side.metrics) do sides[i][name] = true end
    end
    for _, name in ipairs(all) do table.insert(sides[1][name] and sides[2][name] and both or left_out, name) end
    if #both == 0 then
        raise("invalid_argument", op, "new: %s has the metrics %s; %s has none of them but %s", new.path,
            table.concat(new.metrics, ", "), old.path, table.concat(old.metrics, ", "))
    end
    return both, left_out
end

-- The metrics to compare: those asked for, else every time of either side, else every metric that both have; and those
-- left out.
local function choose_metrics(op, old, new, wanted)
    local all, times = metrics_of(old, new)
    if #all == 0 then return { "" }, {} end -- of each case, why it was not measured
    local known = {}
    for _, side in ipairs { old, new } do
        for _, name in ipairs(side.metrics) do known[name] = true end
    end
    if wanted ~= nil then
        wanted = type(wanted) == "table" and wanted or { wanted }
        if #wanted == 1 and wanted[1] == "all" and not known.all then return all, {} end
        for _, name in ipairs(wanted) do
            check.type(op, "opts.metric", name, "string", "the name of a metric")
            if not known[name] then (#new.metrics > 0 and new or old):check_metric(op, "metric", name) end
        end
        return wanted, {}
    end
    if #times == 0 then return common_metrics(op, old, new, all) end
    local left_out = {}
    for _, name in ipairs(all) do
        if not results.is_time(name) then left_out[#left_out + 1] = name end
    end
    return times, left_out
end

local function share(op, opts, key)
    local value = opts[key]
    if value == nil then return nil end
    if not (value >= 0 and value < math.huge) then
        raise("invalid_argument", op, "opts.%s: %s, expected percent from 0", key, tostring(value))
    end
    return value / 100
end

-- The rule of each metric.
local function read_rules(op, out, opts)
    local better, named = results.read_better(op, opts.better)
    local chosen = {}
    for _, name in ipairs(out.metrics) do
        chosen[name] = true
        out.rules[name] = verdict.rule(name, better(name), { gap = share(op, opts, "gap"),
            same = share(op, opts, "same"), paired = opts.paired ~= false })
    end
    for _, name in ipairs(named) do
        if not chosen[name] then
            raise("invalid_argument", op, 'better: "%s" is not compared, the metrics are %s', name,
                table.concat(out.metrics, ", "))
        end
    end
end

-- ---- Notes ---------------------------------------------------------------------------------------------------------

local function code_notes(lines, old, new)
    local mixed, both = false, {}
    for _, side in ipairs { old, new } do
        local what, a, b = code.difference(side.cases)
        if what then
            lines[#lines + 1] = ("%s holds results of different code: %s differs between lines %d and %d"):format(
                side.path, what, a.line, b.line)
        end
        mixed = mixed or what ~= nil
        for _, entry in ipairs(side.cases) do both[#both + 1] = entry end
    end
    local what = not mixed and code.difference(both)
    if what then lines[#lines + 1] = ("the code differs: %s"):format(what) end
end

-- Sentences on what differs beside the samples.
local function notes(old, new, left_out, command)
    local lines = {}
    for _, side in ipairs { old, new } do
        for _, again in ipairs(side.repeated) do
            lines[#lines + 1] = ("%s was measured more than once (lines %d and %d of %s): the last counts"):format(
                record.text(again.case, side.header.order), again.first, again.second, side.path)
        end
        if side.lost > 0 then
            lines[#lines + 1] = ("%d repeats in %s were not measured: the others count"):format(side.lost, side.path)
        end
    end
    code_notes(lines, old.whole, new.whole)
    for _, field in ipairs { "device", "driver" } do
        local a, b = {}, {}
        for i, value in ipairs(old.whole:values_of(field)) do a[i] = tostring(value) end
        for i, value in ipairs(new.whole:values_of(field)) do b[i] = tostring(value) end
        a, b = table.concat(a, ", "), table.concat(b, ", ")
        if a ~= b then lines[#lines + 1] = ("the %s differs: %s and %s"):format(field, a, b) end
    end
    if #left_out > 0 then
        lines[#lines + 1] = ("not compared: %s; %s"):format(table.concat(left_out, ", "),
            command and "--metric names metrics, or all" or 'metric = "all" compares them too')
    end
    return lines
end

local MANY = 20 -- intervals of which one is wrong by chance

-- Sentences on the intervals of differences.
local function interval_notes(out)
    local intervals, apart, paired = 0, 0, false
    for _, row in ipairs(out.rows) do
        paired = paired or row.sign ~= nil
        if row.low then
            intervals = intervals + 1
            if not row.sign and out.rules[row.metric].paired then apart = apart + 1 end
        end
    end
    if intervals >= MANY then
        table.insert(out.notes, ("%d intervals at 95 %%: about %.0f of them would leave out 0 by chance alone"):format(
            intervals, intervals / MANY))
    end
    local a, b = out.old.header.content, out.new.header.content
    if paired and a ~= b then
        local names = {}
        for i, differs in ipairs(content.differences(a, b) or {}) do names[i] = differs.name end
        table.insert(out.notes, ("the contents differ%s: samples at the same place count as pairs; %s if they are not")
            :format(#names > 0 and " in " .. table.concat(names, ", ") or "",
                out.command and "--unpaired" or "paired = false"))
    end
    if apart > 0 then
        table.insert(out.notes, ("%d cases have other samples on each side: these are not paired"):format(apart))
    end
end

-- ---- Comparing -----------------------------------------------------------------------------------------------------

local function compare_case(out, old, new, metric)
    local a, why_a = results.stats(old, metric)
    local b, why_b = results.stats(new, metric)
    local row, rule = { case = new.case, metric = metric, old = a, new = b }, out.rules[metric]
    if a and b then
        if old.numbers ~= new.numbers and rule.paired then -- other repeats
            rule = setmetatable({ paired = false }, { __index = rule })
        end
        verdict.judge(row, a, b, rule)
        out.counts[row.verdict] = out.counts[row.verdict] + 1
        out.compared = out.compared + 1
    else
        row.verdict = "NOT COMPARED"
        row.reason = a and "NEW " .. why_b or b and "OLD " .. why_a or why_a == why_b and "both " .. why_a
            or ("OLD %s; NEW %s"):format(why_a, why_b)
        row.regressed = a ~= nil and new.status == "failed"
        row.neither = a == nil and b == nil
        out.not_compared = out.not_compared + 1
    end
    out.rows[#out.rows + 1] = row
end

-- Raises for two grids of other operations, whose strengths do not mean the same. Two functions of the caller's may be
-- one that was changed: that is said where the contents differ.
local function check_operations(op, a, b)
    for _, differs in ipairs(content.differences(a.header.content, b.header.content) or {}) do
        if differs.name == "op" and (differs.a or differs.b) then
            raise("invalid_argument", op, "new: %s steers with %s, but %s with %s: equal strengths of different "
                .. "operations are not the same case", b.path, differs.b or "a function", a.path,
                differs.a or "a function")
        end
    end
end

-- Reads a side, with its repeats joined.
local function read_side(op, name, source, filter)
    local found = results.of(op, name, source)
    if filter then found = found:filter(op, filter) end
    local joined, lost = repeats.join(found)
    return setmetatable({ lost = lost, whole = found }, { __index = joined })
end

-- Compares the cases of both files, one metric after another; gives how many cases both have.
local function compare_cases(out, old, new)
    local at, pairs_of = {}, {}
    for _, entry in ipairs(old.cases) do at[entry.key] = entry end
    for _, entry in ipairs(results.order(new, new.cases)) do
        local before = at[entry.key]
        at[entry.key] = nil
        if before then
            pairs_of[#pairs_of + 1] = { before, entry }
        else
            out.only_new[#out.only_new + 1] = entry.case
        end
    end
    for _, entry in ipairs(results.order(old, old.cases)) do
        if at[entry.key] then out.only_old[#out.only_old + 1] = entry.case end
    end
    for _, metric in ipairs(out.metrics) do
        for _, pair in ipairs(pairs_of) do compare_case(out, pair[1], pair[2], metric) end
    end
    return #pairs_of
end

--- Compares two results files of the same sweep; cases are matched by what is in them, not by where they stand, and
-- repeats of a case are joined.
-- @param old path of the earlier results, or what lm:grid gives
-- @param new of the later ones
-- @tparam[opt] table opts metric (a name or a list, or "all"; default every time, or where there is none every metric
-- that both have); better ("higher", "lower", text such as "kl=lower,accuracy=higher" or a map from metric to
-- direction; default what the names tell); gap (percent, 0.5: intervals of times closer than this are not FASTER or
-- SLOWER); same (percent, 1 for times and 0.001 for other metrics: what is further apart is not SAME); paired (false:
-- samples at the same place do not belong together); filter (map from axis to a value or a list of values)
-- @tparam[opt] boolean command advice names the flags of `steer compare`
-- @treturn table rows ({case, metric, old, new, difference, change, low, high, sign, verdict, reason, better}), counts
-- (per verdict), compared, not_compared, only_old and only_new (lists of cases), notes; tostring gives the text that
-- `steer compare` prints
-- @raise invalid_argument where the files are of different sweeps or of grids with different operations, or share no
-- case, format or io where one is none
function M.compare(old, new, opts, command)
    local op = "compare"
    opts = options.check(op, opts, KNOWN)
    local a, b = read_side(op, "old", old, opts.filter), read_side(op, "new", new, opts.filter)
    if a.name ~= b.name then
        raise("invalid_argument", op, 'new: %s holds the sweep "%s", but %s holds "%s"', b.path, tostring(b.name),
            a.path, tostring(a.name))
    end
    check_operations(op, a, b)
    local metrics, left_out = choose_metrics(op, a, b, opts.metric)
    local out = setmetatable({ old = a, new = b, rows = {}, compared = 0, not_compared = 0, only_old = {},
        only_new = {}, counts = {}, notes = notes(a, b, left_out, command), metrics = metrics, rules = {},
        command = command }, Comparison)
    for _, word in ipairs(verdict.WORDS) do out.counts[word] = 0 end
    read_rules(op, out, opts)
    if compare_cases(out, a, b) == 0 then
        raise("invalid_argument", op, "new: %s has no case in common with %s", b.path, a.path)
    end
    interval_notes(out)
    return out
end

-- ---- What fails a check --------------------------------------------------------------------------------------------

local function counts(word)
    return function(c) return c.counts[word] > 0 end
end

-- Tells whether some row is as `test` says, among metrics whose better direction is known.
local function any_row(c, test)
    for _, metric in ipairs(c.metrics) do
        if metric ~= "" and not c.rules[metric].better then
            raise("invalid_argument", "compare_fails", "%s: which direction is better? %s says it", metric,
                (c.command and "--better %s=higher" or 'better = "%s=higher"'):format(metric))
        end
    end
    for _, row in ipairs(c.rows) do
        if test(row) then return true end
    end
    return false
end

--- Verdicts that a check may ask about: slower and worse also cover a case that OLD measured and that failed in NEW;
-- any covers everything that is not SAME and was measured, and cases of one file only.
M.FAIL_ON = {
    slower = function(c)
        if c.counts.SLOWER > 0 then return true end
        for _, row in ipairs(c.rows) do
            if row.regressed then return true end
        end
        return false
    end,
    faster = counts "FASTER", higher = counts "HIGHER", lower = counts "LOWER",
    worse = function(c) return any_row(c, function(row) return row.better == false or row.regressed end) end,
    better = function(c) return any_row(c, function(row) return row.better end) end,
    any = function(c)
        if #c.only_old + #c.only_new > 0 then return true end
        for _, row in ipairs(c.rows) do
            if row.verdict ~= "SAME" and not row.neither then return true end
        end
        return false
    end,
}

--- Tells whether the comparison fails a check.
-- @tparam string what "slower", "faster", "worse", "better", "higher", "lower" or "any"
function Comparison:fails(what)
    local rule = M.FAIL_ON[what]
    if not rule then
        raise("invalid_argument", "compare_fails", "what: %s, expected %s", check.describe(what),
            options.choice(M.FAIL_ON))
    end
    return rule(self)
end

--- Writers by name: text, markdown and csv; each takes a comparison and gives text.
M.formats = text.formats

Comparison.__tostring = text.formats.text

return M
