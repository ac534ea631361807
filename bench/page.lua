--- page.lua: what the studies' pages share: times and ratios as text, tables, verdicts, what a first cost takes to pay.
local M = {}

--- A time in a unit that suits it.
function M.duration(seconds)
    if seconds < 1e-3 then return ("%.4g µs"):format(seconds * 1e6) end
    if seconds < 1 then return ("%.3g ms"):format(seconds * 1e3) end
    return ("%.3g s"):format(seconds)
end

--- Microseconds, without an exponent.
function M.us(seconds) return ((seconds < 1e-3 and "%.4g" or "%.0f"):format(seconds * 1e6)) end

--- Statistics in microseconds with their quartiles, divided by `parts`; "-" without any.
function M.cell(stats, parts)
    parts = parts or 1
    return stats and ("%s (%s to %s)"):format(M.us(stats.median / parts), M.us(stats.q1 / parts),
        M.us(stats.q3 / parts)) or "-"
end

--- A ratio as text.
function M.times(ratio) return (ratio >= 10 and "%.0fx" or ratio >= 0.1 and "%.2fx" or "%.2gx"):format(ratio) end

--- A table in markdown; without rows a sentence that says so.
function M.table(header, rows)
    if #rows == 0 then return "Not measured: see the notes." end
    local lines = { "| " .. table.concat(header, " | ") .. " |", "|" .. (" --- |"):rep(#header) }
    for _, row in ipairs(rows) do lines[#lines + 1] = "| " .. table.concat(row, " | ") .. " |" end
    return table.concat(lines, "\n")
end

--- Texts as a list in markdown.
function M.bullets(texts)
    local lines = {}
    for i, text in ipairs(texts) do lines[i] = "- " .. text end
    return table.concat(lines, "\n")
end

--- The environment's {name, text} as a list in markdown.
function M.environment(list)
    local texts = {}
    for i, entry in ipairs(list) do texts[i] = ("%s: %s"):format(entry[1], entry[2]) end
    return M.bullets(texts)
end

--- A study as markdown.
-- study: environment and notes; parts: title, objective, method, findings and decision (lists of texts), and between
-- method and findings the sections, in the list part.
function M.study(study, parts)
    local out = {
        "# " .. parts.title, "## Objective\n\n" .. parts.objective,
        "## Hardware and versions\n\n" .. M.environment(study.environment), "## Method\n\n" .. parts.method,
    }
    for _, section in ipairs(parts) do out[#out + 1] = section end
    out[#out + 1] = "## Findings\n\n" .. M.bullets(parts.findings)
    out[#out + 1] = "## Decision\n\n" .. M.bullets(parts.decision)
    if #study.notes > 0 then out[#out + 1] = "## Notes\n\n" .. M.bullets(study.notes) end
    return table.concat(out, "\n\n") .. "\n"
end

--- "faster", "slower" or "open": what a is beside b, where their quartiles separate.
function M.verdict(a, b)
    if a.q3 < b.q1 then return "faster" end
    if a.q1 > b.q3 then return "slower" end
    return "open"
end

--- Calls after which a first cost is paid back: `first` is a list of the seconds of the first calls, `later` and
-- `plain` (without that cost) the bench.stats of a call. Returns math.huge where a later call is not measurably faster.
function M.amortised(first, later, plain)
    if M.verdict(later, plain) ~= "faster" then return math.huge end
    local cost = 0
    for _, seconds in ipairs(first) do cost = cost + seconds - later.median end
    return math.max(#first, math.ceil(cost / (plain.median - later.median)))
end

--- A number of calls that M.amortised gave.
function M.calls(calls)
    return calls == math.huge and "never: a later call is not measurably faster" or ("%.0f"):format(calls)
end

return M
