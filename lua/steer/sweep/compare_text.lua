--- Writes a comparison of two results files as text, markdown and CSV.
local printable = require("steer.core.text").printable
local record = require "steer.record"
local results = require "steer.sweep.results"
local statistics = require "steer.sweep.statistics"
local verdict = require "steer.sweep.verdict"

local M = {}

-- ---- Cells ---------------------------------------------------------------------------------------------------------

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

local function side_text(s, rule)
    if not s then return "-" end
    if s.n == 1 or not rule.speed then return results.text(s.value) end
    local low, high = verdict.interval(s, rule.rate)
    return ("%s [%s, %s]"):format(results.text(s.value), results.text(low), results.text(high))
end

local function signed(x) return (x > 0 and "+" or "") .. results.text(x) end

local function change_text(row, rule)
    if not row.difference then return "-" end
    if rule.speed then return row.change and ("%+.1f %%"):format(row.change * 100) or "-" end
    if not row.low then return signed(row.difference) end
    return ("%s [%s, %s]"):format(signed(row.difference), signed(row.low), signed(row.high))
end

local function sign_text(sign)
    if not sign then return "-" end
    local ties = sign.ties > 0 and (", %d ="):format(sign.ties) or ""
    return ("%d up, %d down%s, p %s"):format(sign.up, sign.down, ties, sign.p < 1e-3 and "< 0.001"
        or ("%.3f"):format(sign.p))
end

local function verdict_text(row, rule)
    local word = row.verdict
    if row.better ~= nil and not (rule.speed and not rule.rate) then
        word = ("%s (%s)"):format(word, row.better and "better" or "worse")
    end
    return row.reason and ("%s: %s"):format(word, printable(row.reason)) or word
end

-- Header and rows as text, and which columns stand to the right; the metric has a column of its own where there are
-- several, and so has the sign test where there is one.
local function cells(c)
    local axes, several, signs = columns(c), #c.metrics > 1, false
    for _, row in ipairs(c.rows) do signs = signs or row.sign ~= nil end
    local head, right = {}, {}
    for i, axis in ipairs(axes) do head[i] = printable(axis) end
    if several then table.insert(head, 1, "metric") end
    for _, word in ipairs { "OLD", "NEW", "change" } do head[#head + 1] = word end
    right[#head] = true
    if signs then head[#head + 1] = "sign test" end
    head[#head + 1] = "verdict"
    local rows = {}
    for i, row in ipairs(c.rows) do
        local line, rule = { several and printable(results.title(row.metric)) or nil }, c.rules[row.metric]
        for _, axis in ipairs(axes) do
            local value = row.case[axis]
            line[#line + 1] = value == nil and "-" or printable(results.text(value))
        end
        line[#line + 1] = side_text(row.old, rule)
        line[#line + 1] = side_text(row.new, rule)
        line[#line + 1] = change_text(row, rule)
        if signs then line[#line + 1] = sign_text(row.sign) end
        line[#line + 1] = verdict_text(row, rule)
        rows[i] = line
    end
    return head, rows, right
end

-- ---- Lines around the table ----------------------------------------------------------------------------------------

-- What the numbers of a metric are.
local function kind_text(c, rule)
    local mine, centre = {}, "median"
    for _, row in ipairs(c.rows) do
        if c.rules[row.metric] == rule then mine[#mine + 1] = row end
    end
    if rule.speed then
        for _, row in ipairs(mine) do centre = row.old and row.old.centre or centre end
        if rule.rate then return centre .. " [q1, max] of ", ", higher is better" end
        return centre .. " [min, q3] of ", ""
    end
    for _, row in ipairs(mine) do
        if row.low then
            return "", (", NEW - OLD with its 95 %% interval (bootstrap%s, %d resamples)"):format(
                row.sign and " of pairs" or "", statistics.RESAMPLES)
        end
    end
    return "", ", NEW - OLD"
end

-- A line for the metrics of each kind.
local function headings(c)
    local kinds, lines = {}, {}
    for _, metric in ipairs(c.metrics) do
        if metric ~= "" then
            local before, after = kind_text(c, c.rules[metric])
            local kind = kinds[before .. after]
            if not kind then
                kind = { before = before, after = after, titles = {} }
                kinds[before .. after], kinds[#kinds + 1] = kind, kind
            end
            table.insert(kind.titles, results.title(metric))
        end
    end
    for i, kind in ipairs(kinds) do
        lines[i] = printable(("%s: %s%s%s"):format(tostring(c.new.name), kind.before,
            table.concat(kind.titles, ", "), kind.after))
    end
    if #lines == 0 then lines[1] = printable(("%s: nothing was measured"):format(tostring(c.new.name))) end
    return lines
end

-- Counts of the verdicts that the metrics may have.
local function counts_text(c)
    local shown, words = { SAME = true, AMBIGUOUS = true }, {}
    for _, metric in ipairs(c.metrics) do
        local timed = c.rules[metric].speed and not c.rules[metric].rate
        shown[timed and "FASTER" or "HIGHER"], shown[timed and "SLOWER" or "LOWER"] = true, true
    end
    for _, word in ipairs(verdict.WORDS) do
        if shown[word] then words[#words + 1] = ("%d %s"):format(c.counts[word], word) end
    end
    if c.not_compared > 0 then words[#words + 1] = ("%d not compared"):format(c.not_compared) end
    return table.concat(words, ", ")
end

-- Lines under the table: the counts, what is on one side only, the notes.
local function footer(c)
    local lines = { counts_text(c) }
    for _, side in ipairs { { "OLD", c.only_old }, { "NEW", c.only_new } } do
        for _, case in ipairs(side[2]) do
            lines[#lines + 1] = ("only in %s: %s"):format(side[1], record.text(case, all_axes(c)))
        end
    end
    for _, note in ipairs(c.notes) do lines[#lines + 1] = "note: " .. printable(note) end
    return lines
end

-- ---- Formats -------------------------------------------------------------------------------------------------------

-- Columns of a terminal: bytes that do not continue a character.
local function width(text)
    return select(2, text:gsub("[^\128-\191]", ""))
end

local function as_text(c)
    local head, rows, right = cells(c)
    local widths, lines = {}, headings(c)
    table.insert(rows, 1, head)
    for _, row in ipairs(rows) do
        for i, cell in ipairs(row) do widths[i] = math.max(widths[i] or 0, width(cell)) end
    end
    lines[#lines + 1] = printable(("OLD %s, NEW %s"):format(c.old.path, c.new.path))
    lines[#lines + 1] = ""
    for _, row in ipairs(rows) do
        local words = {}
        for i, cell in ipairs(row) do
            local pad = (" "):rep(widths[i] - width(cell))
            words[i] = right[i] and pad .. cell or i == #row and cell or cell .. pad
        end
        lines[#lines + 1] = table.concat(words, "  ")
    end
    lines[#lines + 1] = ""
    for _, line in ipairs(footer(c)) do lines[#lines + 1] = line end
    return table.concat(lines, "\n") .. "\n"
end

local function as_markdown(c)
    local head, rows, right = cells(c)
    local rule, lines = {}, headings(c)
    for i = 1, #head do rule[i] = right[i] and "---:" or "---" end
    table.insert(rows, 1, rule)
    table.insert(rows, 1, head)
    for i, line in ipairs(lines) do lines[i] = "**" .. line .. "**" .. (i < #lines and "  " or "") end
    for _, line in ipairs { "", printable(("OLD `%s`, NEW `%s`"):format(c.old.path, c.new.path)), "" } do
        lines[#lines + 1] = line
    end
    for _, row in ipairs(rows) do
        for j, cell in ipairs(row) do row[j] = cell:gsub("[|\\]", "\\%0"):gsub("%s+", " ") end
        lines[#lines + 1] = "| " .. table.concat(row, " | ") .. " |"
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

local CSV = { "metric", "old", "old_low", "old_high", "old_n", "new", "new_low", "new_high", "new_n", "change",
    "difference", "low", "high", "up", "down", "p", "verdict", "better", "reason" }

local function csv_values(c, row)
    local sign, rule = row.sign or {}, c.rules[row.metric]
    local out = { metric = row.metric, change = row.change, difference = row.difference, low = row.low,
        high = row.high, up = sign.up, down = sign.down, p = sign.p, verdict = row.verdict, better = row.better,
        reason = row.reason }
    for _, side in ipairs { "old", "new" } do
        local s = row[side]
        if s then
            out[side], out[side .. "_n"] = s.value, s.n
            out[side .. "_low"], out[side .. "_high"] = s.low, s.high
            if rule.speed then out[side .. "_low"], out[side .. "_high"] = verdict.interval(s, rule.rate) end
        end
    end
    return out
end

-- Every case a line, those of one file too; 17 significant digits.
local function as_csv(c)
    local axes, lines, head = all_axes(c), {}, {}
    local function add(case, values)
        local line = {}
        for i, axis in ipairs(axes) do line[i] = csv_cell(case[axis]) end
        for i, name in ipairs(CSV) do line[#axes + i] = csv_cell(values[name]) end
        lines[#lines + 1] = table.concat(line, ",")
    end
    for i, axis in ipairs(axes) do head[i] = csv_cell(axis) end
    for _, name in ipairs(CSV) do head[#head + 1] = name end
    lines[1] = table.concat(head, ",")
    for _, row in ipairs(c.rows) do add(row.case, csv_values(c, row)) end
    for _, case in ipairs(c.only_old) do add(case, { verdict = "only in OLD" }) end
    for _, case in ipairs(c.only_new) do add(case, { verdict = "only in NEW" }) end
    return table.concat(lines, "\n") .. "\n"
end

--- Writers by name; each takes a comparison and gives text.
M.formats = { text = as_text, markdown = as_markdown, csv = as_csv }

return M
