--- report.lua: bars and what was measured: their table on the terminal and in markdown, and verdicts.
local page = require "page"

local M = {}

-- ---- Rows ----------------------------------------------------------------------------------------------------------

local function number(x, row)
    if not x then return "" end
    return (row.format or "%.3g"):format(x) .. (row.unit and " " .. row.unit or "")
end

local VERDICTS = { stretch = "met stretch", must = "met must", short = "short" }

-- Whether `x` is on the good side of `bar`.
local function meets(row, x, bar) return row.more and x >= bar or not row.more and x <= bar end

--- What a row says about its bars: "met stretch", "met must" or "short", "?" appended where the quartiles of the two
-- sides leave the must open; "" without a bar.
function M.verdict(row)
    if row.failed then return "failed" end
    if row.skipped then return "not run" end
    if not row.must then return "" end
    local name = "short"
    if meets(row, row.value, row.must) then name = "must" end
    if row.stretch and meets(row, row.value, row.stretch) then name = "stretch" end
    local open = row.low and meets(row, row.low, row.must) ~= meets(row, row.high, row.must)
    return VERDICTS[name] .. (open and " (ambiguous)" or "")
end

local COLUMNS = {
    { "shape", function(r) return r.shape end },
    { "metric", function(r) return r.metric end },
    { "measured", function(r) return r.value and number(r.value, r) or "-" end },
    { "quartiles", function(r)
        if not r.low then return "" end
        return ("%s to %s"):format(number(r.low, { format = r.format }), number(r.high, { format = r.format }))
    end },
    { "must", function(r) return number(r.must, { format = "%.4g", unit = r.unit }) end },
    { "stretch", function(r) return number(r.stretch, { format = "%.4g", unit = r.unit }) end },
    { "verdict", M.verdict },
    { "from", function(r) return r.failed or r.skipped or r.from or "" end },
}

local function cells_of(row)
    local cells = {}
    for i, column in ipairs(COLUMNS) do cells[i] = column[2](row) end
    return cells
end

local function header()
    local names = {}
    for i, column in ipairs(COLUMNS) do names[i] = column[1] end
    return names
end

--- The rows as text in columns.
function M.text(rows)
    local lines, widths = { header() }, {}
    for _, row in ipairs(rows) do lines[#lines + 1] = cells_of(row) end
    for _, cells in ipairs(lines) do
        for i, cell in ipairs(cells) do widths[i] = math.max(widths[i] or 0, #cell) end
    end
    for n, cells in ipairs(lines) do
        for i = 1, #cells - 1 do cells[i] = cells[i] .. (" "):rep(widths[i] - #cells[i]) end
        lines[n] = table.concat(cells, "  ")
    end
    return table.concat(lines, "\n") .. "\n"
end

--- The rows as a table in markdown.
function M.table(rows)
    local lines = {}
    for i, row in ipairs(rows) do
        lines[i] = cells_of(row)
        for k, cell in ipairs(lines[i]) do lines[i][k] = cell:gsub("|", "\\|"):gsub("\n", " ") end
    end
    return page.table(header(), lines)
end

--- The rows and the environment as markdown.
function M.markdown(rows, environment)
    return ("# Engine benchmark\n\n%s\n\n%s\n"):format(page.environment(environment), M.table(rows))
end

return M
