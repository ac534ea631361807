--- steer.compare: two results files of a sweep, case by case, with a verdict that is never forced.
--
-- After nvbench-compare-robust: the centre of a side is the median of its raw samples, its interval goes from the
-- minimum to the third quartile, since noise only ever makes work slower. (Where higher is better, from the first
-- quartile to the maximum.)
--   FASTER, SLOWER: the intervals lie apart by at least `gap`
--   SAME:           they overlap by at least half of the narrower one, the medians are within `same`, and neither
--                   side's quartiles are further apart than SPREAD
--   AMBIGUOUS:      anything else, with the reason, also where a side has too few samples to tell
local check = require "steer._check"
local code = require "steer._code"
local options = require "steer._options"
local record = require "steer.record"
local results = require "steer._results"

local printable = require("steer._text").printable
local raise = require("steer._error").raise

local M = {}

local Comparison = {}
Comparison.__index = Comparison

local GAP, SAME = 0.5, 1            -- percent
local SPREAD, OVERLAP = 0.05, 0.5   -- of the median; of the narrower interval
local FEWEST = 5                    -- samples of a side below which no verdict rests on its interval

-- ---- The verdict ---------------------------------------------------------------------------------------------------

local function interval(s, higher)
    if higher then return s.q1, s.max end
    return s.min, s.q3
end

-- How much of the narrower interval the other one covers.
local function overlap(low1, high1, low2, high2)
    local common = math.min(high1, high2) - math.max(low1, low2)
    local narrow = math.min(high1 - low1, high2 - low2)
    if common < 0 then return 0 end
    return narrow == 0 and 1 or common / narrow
end

-- Relative to the smaller median; 0 only where both are the same.
local function relative(difference, a, b)
    return difference == 0 and 0 or math.abs(difference) / math.min(math.abs(a), math.abs(b))
end

local function judge(old, new, rule)
    local low1, high1 = interval(old, rule.higher)
    local low2, high2 = interval(new, rule.higher)
    if old.n < FEWEST or new.n < FEWEST then
        if old.median == new.median and low1 == low2 and high1 == high2 then return "SAME" end
        return "AMBIGUOUS", ("fewer than %d samples"):format(FEWEST)
    end
    local down, up = low1 - high2, low2 - high1 -- above 0: new lies below, above old
    if down > 0 or up > 0 then
        if relative(math.max(down, up), old.median, new.median) < rule.gap then
            return "AMBIGUOUS", "the intervals lie apart by less than the gap"
        end
        return (down > 0) == not rule.higher and "FASTER" or "SLOWER"
    end
    for _, s in ipairs { old, new } do
        if relative(s.q3 - s.q1, s.median, s.median) > SPREAD then return "AMBIGUOUS", "the samples are noisy" end
    end
    if relative(new.median - old.median, old.median, new.median) > rule.same then
        return "AMBIGUOUS", "the medians differ, the intervals overlap"
    end
    if overlap(low1, high1, low2, high2) < OVERLAP then return "AMBIGUOUS", "the intervals hardly overlap" end
    return "SAME"
end

-- ---- Comparing -----------------------------------------------------------------------------------------------------

local KNOWN = { metric = true, higher = "boolean", gap = "number", same = "number", filter = "table" }

-- The metrics to compare: those asked for, else every time of either side.
local function choose_metrics(op, old, new, wanted)
    local have, times = {}, {}
    for _, side in ipairs { old, new } do
        for _, name in ipairs(side.metrics) do
            if not have[name] and results.is_time(name) then times[#times + 1] = name end
            have[name] = true
        end
    end
    if wanted then
        wanted = type(wanted) == "table" and wanted or { wanted }
        for _, name in ipairs(wanted) do
            check.type(op, "opts.metric", name, "string", "the name of a metric")
            if not have[name] then (#new.metrics > 0 and new or old):check_metric(op, "metric", name) end
        end
        return wanted
    end
    if #old.metrics + #new.metrics == 0 then return { "" } end -- of each case, why it was not measured
    if #times == 0 then
        raise("invalid_argument", op, "metric: which one? There is no time among %s", options.list(have))
    end
    return results.sort(times)
end

local function percent(op, opts, key, default)
    local value = opts[key] or default
    if not (value >= 0 and value < math.huge) then
        raise("invalid_argument", op, "opts.%s: %s, expected percent from 0", key, tostring(value))
    end
    return value / 100
end

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
local function notes(old, new)
    local lines = {}
    for _, side in ipairs { old, new } do
        for _, again in ipairs(side.repeated) do
            lines[#lines + 1] = ("%s was measured more than once (lines %d and %d of %s): the last counts"):format(
                record.text(again.case, side.axes), again.first, again.second, side.path)
        end
    end
    code_notes(lines, old, new)
    for _, field in ipairs { "device", "driver" } do
        local a, b = {}, {}
        for i, value in ipairs(old:values_of(field)) do a[i] = tostring(value) end
        for i, value in ipairs(new:values_of(field)) do b[i] = tostring(value) end
        a, b = table.concat(a, ", "), table.concat(b, ", ")
        if a ~= b then lines[#lines + 1] = ("the %s differs: %s and %s"):format(field, a, b) end
    end
    return lines
end

local function compare_case(out, old, new, metric, rule)
    local a, why_a = results.stats(old, metric)
    local b, why_b = results.stats(new, metric)
    local row = { case = new.case, metric = metric, old = a, new = b }
    if a and b then
        row.verdict, row.reason = judge(a, b, rule)
        row.change = a.median ~= 0 and b.median / a.median - 1 or nil
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

--- Compares two results files of the same sweep; cases are matched by what is in them, not by where they stand.
-- @tparam string old path of the earlier results
-- @tparam string new path of the later results
-- @tparam[opt] table opts metric (a name or a list; default every time), higher (true where a higher value is
-- better), gap (percent, 0.5: intervals closer than this are not FASTER or SLOWER), same (percent, 1: medians
-- further apart are not SAME), filter (map from axis to a value or a list of values)
-- @treturn table rows ({case, metric, old, new, change, verdict, reason}), counts (per verdict), compared,
-- not_compared, only_old and only_new (lists of cases), notes; tostring gives the text that `steer compare` prints
-- @raise invalid_argument where the files are of different sweeps or share no case, format or io where one is none
function M.compare(old, new, opts)
    local op = "compare"
    check.type(op, "old", old, "string", "the path of a results file")
    check.type(op, "new", new, "string", "the path of a results file")
    opts = options.check(op, opts, KNOWN)
    local rule = { higher = opts.higher == true, gap = percent(op, opts, "gap", GAP),
        same = percent(op, opts, "same", SAME) }
    local a, b = results.read(op, old), results.read(op, new)
    if a.name ~= b.name then
        raise("invalid_argument", op, 'new: %s holds the sweep "%s", but %s holds "%s"', new, tostring(b.name), old,
            tostring(a.name))
    end
    if opts.filter then a, b = a:filter(op, opts.filter), b:filter(op, opts.filter) end
    local out = setmetatable({
        old = a, new = b, rows = {}, compared = 0, not_compared = 0, only_old = {}, only_new = {},
        counts = { FASTER = 0, SLOWER = 0, SAME = 0, AMBIGUOUS = 0 }, notes = notes(a, b), higher = rule.higher,
    }, Comparison)
    local at = {}
    for _, entry in ipairs(a.cases) do at[entry.key] = entry end
    out.metrics = choose_metrics(op, a, b, opts.metric)
    local shared = 0
    for _, entry in ipairs(results.order(b, b.cases)) do
        local before = at[entry.key]
        at[entry.key] = nil
        if before then
            shared = shared + 1
            for _, metric in ipairs(out.metrics) do compare_case(out, before, entry, metric, rule) end
        else
            out.only_new[#out.only_new + 1] = entry.case
        end
    end
    for _, entry in ipairs(results.order(a, a.cases)) do
        if at[entry.key] then out.only_old[#out.only_old + 1] = entry.case end
    end
    if shared == 0 then raise("invalid_argument", op, "new: %s has no case in common with %s", new, old) end
    return out
end

-- ---- What fails a check --------------------------------------------------------------------------------------------

--- Verdicts that a check may ask about: slower also covers a case that OLD measured and that failed in NEW; any covers
-- everything that is not SAME and was measured, and cases of one file only.
M.FAIL_ON = {
    slower = function(c)
        if c.counts.SLOWER > 0 then return true end
        for _, row in ipairs(c.rows) do
            if row.regressed then return true end
        end
        return false
    end,
    faster = function(c) return c.counts.FASTER > 0 end,
    any = function(c)
        if #c.only_old + #c.only_new > 0 then return true end
        for _, row in ipairs(c.rows) do
            if row.verdict ~= "SAME" and not row.neither then return true end
        end
        return false
    end,
}

--- Tells whether the comparison fails a check.
-- @tparam string what "slower", "faster" or "any"
function Comparison:fails(what)
    local rule = M.FAIL_ON[what]
    if not rule then
        raise("invalid_argument", "compare_fails", "what: %s, expected %s", check.describe(what),
            options.list(M.FAIL_ON))
    end
    return rule(self)
end

-- ---- Writing it out ------------------------------------------------------------------------------------------------

-- Axes of both files, in the order of NEW.
local function all_axes(c)
    local names, seen = {}, {}
    for _, side in ipairs { c.new, c.old } do
        for _, axis in ipairs(side.axes) do
            if not seen[axis] then names[#names + 1], seen[axis] = axis, true end
        end
    end
    return names
end

-- Axes worth a column: those on which the cases differ.
local function columns(c)
    local names = {}
    for _, axis in ipairs(all_axes(c)) do
        local first, differs = c.rows[1].case[axis], false
        for _, row in ipairs(c.rows) do differs = differs or row.case[axis] ~= first end
        if differs then names[#names + 1] = axis end
    end
    return names
end

local function side_text(s, higher)
    if not s then return "-" end
    if s.n == 1 then return results.text(s.median) end
    local low, high = interval(s, higher)
    return ("%s [%s, %s]"):format(results.text(s.median), results.text(low), results.text(high))
end

-- Header and rows as text; the metric has a column of its own where there are several.
local function cells(c)
    local axes, several = columns(c), #c.metrics > 1
    local head = {}
    for i, axis in ipairs(axes) do head[i] = printable(axis) end
    if several then head[#head + 1] = "metric" end
    for _, word in ipairs { "OLD", "NEW", "change", "verdict" } do head[#head + 1] = word end
    local rows = {}
    for i, row in ipairs(c.rows) do
        local line = {}
        for _, axis in ipairs(axes) do
            local value = row.case[axis]
            line[#line + 1] = value == nil and "-" or printable(results.text(value))
        end
        if several then line[#line + 1] = printable(results.title(row.metric)) end
        line[#line + 1] = side_text(row.old, c.higher)
        line[#line + 1] = side_text(row.new, c.higher)
        line[#line + 1] = row.change and ("%+.1f %%"):format(row.change * 100) or "-"
        line[#line + 1] = row.reason and ("%s: %s"):format(row.verdict, printable(row.reason)) or row.verdict
        rows[i] = line
    end
    return head, rows, #head - 4
end

local function heading(c)
    local titles = {}
    for i, metric in ipairs(c.metrics) do titles[i] = metric ~= "" and results.title(metric) or nil end
    local what = #titles > 0 and ("median %s of %s%s"):format(c.higher and "[q1, max]" or "[min, q3]",
        table.concat(titles, ", "), c.higher and ", higher is better" or "") or "nothing was measured"
    return printable(("%s: %s"):format(tostring(c.new.name), what))
end

-- Lines under the table: the counts, what is on one side only, the notes.
local function footer(c)
    local n = c.counts
    local lines = { ("%d FASTER, %d SLOWER, %d SAME, %d AMBIGUOUS%s"):format(n.FASTER, n.SLOWER, n.SAME, n.AMBIGUOUS,
        c.not_compared > 0 and (", %d not compared"):format(c.not_compared) or "") }
    for _, side in ipairs { { "OLD", c.only_old }, { "NEW", c.only_new } } do
        for _, case in ipairs(side[2]) do
            lines[#lines + 1] = ("only in %s: %s"):format(side[1], record.text(case, all_axes(c)))
        end
    end
    for _, note in ipairs(c.notes) do lines[#lines + 1] = "note: " .. printable(note) end
    return lines
end

-- Columns of a terminal: bytes that do not continue a character.
local function width(text)
    return select(2, text:gsub("[^\128-\191]", ""))
end

local function as_text(c)
    local head, rows, left = cells(c)
    local widths = {}
    table.insert(rows, 1, head)
    for _, row in ipairs(rows) do
        for i, cell in ipairs(row) do widths[i] = math.max(widths[i] or 0, width(cell)) end
    end
    local lines = { heading(c), printable(("OLD %s, NEW %s"):format(c.old.path, c.new.path)), "" }
    for _, row in ipairs(rows) do
        local words = {}
        for i, cell in ipairs(row) do
            local pad = (" "):rep(widths[i] - width(cell))
            local change = i == left + 3
            words[i] = change and pad .. cell or i == #row and cell or cell .. pad
        end
        lines[#lines + 1] = table.concat(words, "  ")
    end
    lines[#lines + 1] = ""
    for _, line in ipairs(footer(c)) do lines[#lines + 1] = line end
    return table.concat(lines, "\n") .. "\n"
end

local function as_markdown(c)
    local head, rows, left = cells(c)
    local rule = {}
    for i = 1, #head do rule[i] = i == left + 3 and "---:" or "---" end
    table.insert(rows, 1, rule)
    table.insert(rows, 1, head)
    local lines = { "**" .. heading(c) .. "**", "", printable(("OLD `%s`, NEW `%s`"):format(c.old.path,
        c.new.path)), "" }
    for i, row in ipairs(rows) do
        for j, cell in ipairs(row) do row[j] = cell:gsub("[|\\]", "\\%0"):gsub("%s+", " ") end
        lines[#lines + 1] = "| " .. table.concat(rows[i], " | ") .. " |"
    end
    lines[#lines + 1] = ""
    for _, line in ipairs(footer(c)) do lines[#lines + 1] = "- " .. line end
    return table.concat(lines, "\n") .. "\n"
end

local function csv_cell(value)
    if value == nil then return "" end
    local text = type(value) == "number" and ("%.17g"):format(value) or tostring(value)
    return text:find('[",\r\n]') and '"' .. text:gsub('"', '""') .. '"' or text
end

-- Every case a line, those of one file too; 17 significant digits.
local function as_csv(c)
    local axes, lines = all_axes(c), {}
    local function add(case, more, count)
        local line = {}
        for i, axis in ipairs(axes) do line[i] = csv_cell(case[axis]) end
        for i = 1, count do line[#axes + i] = csv_cell(more[i]) end
        lines[#lines + 1] = table.concat(line, ",")
    end
    local names = { "metric", "old_median", "old_low", "old_high", "old_n", "new_median", "new_low", "new_high",
        "new_n", "change", "verdict", "reason" }
    local head = {}
    for i, axis in ipairs(axes) do head[i] = axis end
    for i, name in ipairs(names) do head[#axes + i] = name end
    for i, name in ipairs(head) do head[i] = csv_cell(name) end
    lines[1] = table.concat(head, ",")
    for _, row in ipairs(c.rows) do
        local more = { row.metric, [10] = row.change, [11] = row.verdict, [12] = row.reason }
        for i, s in ipairs { row.old or false, row.new or false } do
            if s then
                local at = 4 * i - 2
                more[at], more[at + 3] = s.median, s.n
                more[at + 1], more[at + 2] = interval(s, c.higher)
            end
        end
        add(row.case, more, #names)
    end
    for _, case in ipairs(c.only_old) do add(case, { [11] = "only in OLD" }, #names) end
    for _, case in ipairs(c.only_new) do add(case, { [11] = "only in NEW" }, #names) end
    return table.concat(lines, "\n") .. "\n"
end

--- Writers by name: text, markdown and csv; each takes a comparison and gives text.
M.formats = { text = as_text, markdown = as_markdown, csv = as_csv }

Comparison.__tostring = as_text

return M
