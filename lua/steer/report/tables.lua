--- Tables of a report: the measured cases in the order of the axes and by each metric, and those not measured.
local page_module = require "steer.report.page"
local results = require "steer.sweep.results"

local cells, escape = page_module.cells, page_module.escape

local M = {}

local OPEN, MOST_SORTED = 40, 100 -- rows of a table that is unfolded at first; rows of a sorted one
local MOST_PRINTED = 200          -- rows of a table on paper

local function axis_cells(entry, axes)
    local row = {}
    for i, name in ipairs(axes) do
        local value = entry.case[name]
        row[i] = type(value) == "number" and cells.number(value) or cells.text(value)
    end
    return row
end

local function metric_cell(entry, metric)
    local s, why = results.stats(entry, metric)
    if not s then return ('<td class="number none" title="%s">none</td>'):format(escape(why)) end
    if s.n == 1 then return cells.number(s.value) end
    return ('<td class="number" title="%s; minimum %s, maximum %s">%s <small>%s to %s</small></td>'):format(
        escape(results.spread(s)), escape(s.min), escape(s.max), escape(s.value), escape(s.low), escape(s.high))
end

local function heads(axes, more)
    local list = {}
    for i, name in ipairs(axes) do list[i] = escape(name) end
    for _, name in ipairs(more) do list[#list + 1] = escape(name) end
    return list
end

-- ---- Measured cases ------------------------------------------------------------------------------------------------

-- What the numbers of a metric are: "mean and 95 % interval, n = 12"; nil where there is one of each case.
local function spread_of(entries, metric)
    local spread, least, most
    for _, entry in ipairs(entries) do
        local s = results.stats(entry, metric)
        if s and s.n > 1 then
            local text = results.spread(s)
            spread = (spread or text) == text and text or "value and interval"
            least, most = math.min(least or s.n, s.n), math.max(most or s.n, s.n)
        end
    end
    if not spread then return nil end
    return ("%s, n = %s"):format(spread, least == most and ("%d"):format(least) or ("%d to %d"):format(least, most))
end

--- A sentence on what the numbers of the metrics are, those of one kind together; empty where each is one number.
function M.spread_text(entries, metrics)
    local kinds, list = {}, {}
    for _, metric in ipairs(metrics) do
        local spread = spread_of(entries, metric)
        if spread then
            if not kinds[spread] then
                kinds[spread] = {}
                list[#list + 1] = spread
            end
            table.insert(kinds[spread], results.title(metric))
        end
    end
    for i, spread in ipairs(list) do list[i] = ("%s: %s"):format(table.concat(kinds[spread], ", "), spread) end
    return #list > 0 and table.concat(list, "; ") .. "." or ""
end

local function add_entries(page, entries, metrics, axes, most)
    local rows, titles = {}, {}
    for i, metric in ipairs(metrics) do titles[i] = results.title(metric) end
    for i, entry in ipairs(entries) do
        if most and i > most then break end
        local row = axis_cells(entry, axes)
        for _, metric in ipairs(metrics) do row[#row + 1] = metric_cell(entry, metric) end
        rows[i] = row
    end
    page:table(heads(axes, titles), rows)
end

-- The entries by a metric, the best first; those without a number are left out.
local function sorted_by(entries, metric, direction)
    local list, rank = {}, {}
    for i, entry in ipairs(entries) do
        rank[entry] = i
        if results.stats(entry, metric) then list[#list + 1] = entry end
    end
    table.sort(list, function(a, b)
        local x, y = results.stats(a, metric).value, results.stats(b, metric).value
        if x == y then return rank[a] < rank[b] end
        return (x < y) == (direction == "lower")
    end)
    return list
end

-- The metrics with one of them first.
local function first_of(metrics, first)
    local list = { first }
    for _, metric in ipairs(metrics) do
        if metric ~= first then list[#list + 1] = metric end
    end
    return list
end

local function add_sorted(page, entries, metrics, axes, better)
    for _, metric in ipairs(metrics) do
        local direction = better(metric) or "higher"
        local list = sorted_by(entries, metric, direction)
        local cut = #list > MOST_SORTED and (", %d of %d"):format(MOST_SORTED, #list) or ""
        if #list > 1 then
            page:folded(("By %s, the %s first%s"):format(results.title(metric),
                direction == "lower" and "lowest" or "highest", cut), { screen = true }, function()
                add_entries(page, list, first_of(metrics, metric), axes, MOST_SORTED)
            end)
        end
    end
end

--- Adds the measured cases: in the order of the axes, and sorted by each metric.
-- @param page of the report
-- @param found results whose repeats are joined
-- @tparam table metrics
-- @tparam table axes that tell the cases apart
-- @tparam function better gives the better direction of a metric: "lower", "higher" or nil
function M.add_cases(page, found, metrics, axes, better)
    local entries = {}
    for _, entry in ipairs(found.cases) do
        if entry.status == "ok" then entries[#entries + 1] = entry end
    end
    page:add("<h2>Measured cases</h2>")
    if #entries == 0 then return page:add("<p>None.</p>") end
    page:add("<p>%s</p>", escape(M.spread_text(entries, metrics)))
    local is_long = #entries > MOST_PRINTED
    if is_long then
        page:add('<p class="paper">The table of all %d cases is in the file of this page, not on paper.</p>', #entries)
    end
    page:folded(("All %d in the order of the axes"):format(#entries), { open = #entries <= OPEN, screen = is_long },
        function() add_entries(page, entries, metrics, axes) end)
    add_sorted(page, entries, metrics, axes, better)
end

--- Adds the failed and the skipped cases with their reasons.
function M.add_others(page, found, axes)
    for _, status in ipairs { "failed", "skipped" } do
        local rows = {}
        for _, entry in ipairs(found.cases) do
            if entry.status == status then
                local row = axis_cells(entry, axes)
                row[#row + 1] = cells.words(results.word(entry.reason) or "no reason given")
                row[#row + 1] = ('<td class="words"><code>%s</code></td>'):format(
                    escape(results.word(entry.command) or ""))
                rows[#rows + 1] = row
            end
        end
        if #rows > 0 then
            page:add("<h2>%s</h2>", status == "failed" and "Failed cases" or "Skipped cases")
            page:folded(("%d %s"):format(#rows, status), { open = #rows <= OPEN }, function()
                page:table(heads(axes, { "reason", "repeats it" }), rows)
            end)
        end
    end
end

return M
