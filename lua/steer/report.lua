--- steer.report: the results of a sweep as one HTML page with best cases, plots, tables and environment that needs no
-- network and no script, on a screen, a phone and paper.
local append_only = require "steer.core.durable"
local best = require "steer.report.best"
local check = require "steer.core.check"
local code = require "steer.sweep.code"
local options = require "steer.core.options"
local page_module = require "steer.report.page"
local plots = require "steer.report.plots"
local repeats = require "steer.sweep.repeats"
local results = require "steer.sweep.results"
local tables = require "steer.report.tables"
local walk = require "steer.core.tables"

local escape = page_module.escape
local raise = require("steer.core.error").raise

local M = {}

-- ---- Notes ---------------------------------------------------------------------------------------------------------

-- Says where cases cannot be compared with each other.
local function add_code(page, found)
    local what, a, b = code.difference(found.cases)
    if not what then return end
    page:note(("the cases were measured by different code: %s differs between lines %d and %d"):format(what,
        a.line, b.line))
end

-- Names the metrics of the file that the page does not show.
local function add_left_out(page, found, metrics)
    local shown, left_out = {}, {}
    for _, name in ipairs(metrics) do shown[name] = true end
    for _, name in ipairs(found.metrics) do
        if not shown[name] then left_out[#left_out + 1] = name end
    end
    if #left_out == 0 then return end
    page:add("<p>Not shown: %s; <code>--metric</code> names metrics.</p>", escape(table.concat(left_out, ", ")))
end

local function summary(found, joined, lost)
    local counts, words = { ok = 0, failed = 0, skipped = 0 }, {}
    for _, entry in ipairs(joined.cases) do counts[entry.status] = counts[entry.status] + 1 end
    words[1] = ("%d cases measured"):format(counts.ok)
    if found ~= joined then
        words[1] = ("%s, %d repeats of each"):format(words[1], #found.values[repeats.AXIS])
    end
    for _, status in ipairs { "failed", "skipped" } do
        if counts[status] > 0 then words[#words + 1] = ("%d %s"):format(counts[status], status) end
    end
    if lost > 0 then
        words[#words + 1] = ("%d %s not measured: the others of a case count"):format(lost,
            lost == 1 and "repeat" or "repeats")
    end
    local again = #found.repeated
    if again > 0 then words[#words + 1] = ("%d measured more than once: the last counts"):format(again) end
    return table.concat(words, ", ")
end

-- The axes in a sentence: "layer, 8 values from 0 to 7; operation: add, cap".
local function axes_text(found)
    local words = {}
    for i, name in ipairs(found.axes) do
        local values = walk.slice(found.values[name])
        local sorted = results.sort(walk.slice(values))
        if #values > 4 and type(sorted[1]) == "number" and type(sorted[#sorted]) == "number" then
            words[i] = ("%s, %d values from %s to %s"):format(name, #values, results.text(sorted[1]),
                results.text(sorted[#sorted]))
        elseif #values > 12 then
            words[i] = ("%s, %d values"):format(name, #values)
        else
            for j, value in ipairs(values) do values[j] = results.text(value) end
            words[i] = ("%s: %s"):format(name, table.concat(values, ", "))
        end
    end
    return table.concat(words, "; ")
end

-- ---- Environment ---------------------------------------------------------------------------------------------------

local ENVIRONMENT = { "device", "device_name", "driver", "clock_khz", "host", "git" }

-- Adds a row with the distinct values that `get` finds in the cases, if any.
local function add_field(rows, found, title, get)
    local seen, values = {}, {}
    for _, entry in ipairs(found.cases) do
        local value = results.word(get(entry))
        if value ~= nil and not seen[value] then seen[value], values[#values + 1] = true, escape(value) end
    end
    if #values == 0 then return end
    rows[#rows + 1] = { ("<th>%s</th>"):format(escape(title)), ('<td class="words">%s</td>'):format(
        table.concat(values, "<br>")) }
end

local function add_times(rows, found)
    local times, seconds = {}, 0
    for _, entry in ipairs(found.cases) do
        if type(entry.time) == "string" then times[#times + 1] = entry.time end
        local spent = results.word(entry.seconds)
        seconds = seconds + (type(spent) == "number" and spent or 0)
    end
    table.sort(times)
    if #times > 0 then
        local text = times[1] == times[#times] and times[1] or times[1] .. " to " .. times[#times]
        rows[#rows + 1] = { "<th>measured</th>", ("<td>%s</td>"):format(escape(text)) }
    end
    rows[#rows + 1] = { "<th>time spent</th>", ("<td>%s s</td>"):format(escape(seconds)) }
end

local function add_axes(page, found)
    local rows = {}
    for i, name in ipairs(found.axes) do
        local texts = {}
        for j, value in ipairs(found.values[name]) do texts[j] = escape(value) end
        rows[i] = { ("<th>%s</th>"):format(escape(name)), ('<td class="words">%s</td>'):format(
            table.concat(texts, ", ")) }
    end
    page:add("<h2>Axes</h2>")
    page:table(nil, rows)
end

local function add_environment(page, found)
    local rows, versions = {}, {}
    rows[1] = { "<th>results</th>", ('<td class="words">%s</td>'):format(escape(found.path)) }
    for _, name in ipairs(ENVIRONMENT) do
        add_field(rows, found, results.title(name):gsub("_", " "), function(entry) return entry[name] end)
    end
    add_field(rows, found, "code", function(entry) return entry.code and entry.code.file end)
    for _, entry in ipairs(found.cases) do
        for _, name in ipairs(type(entry.versions) == "table" and walk.keys(entry.versions) or {}) do
            versions[name] = true
        end
    end
    for _, name in ipairs(results.sort(walk.keys(versions))) do
        add_field(rows, found, name, function(entry)
            return type(entry.versions) == "table" and entry.versions[name] or nil
        end)
    end
    rows[#rows + 1] = { "<th>seed of the sweep</th>", ("<td>%s</td>"):format(escape(found.header.seed)) }
    add_times(rows, found)
    page:add("<h2>Environment</h2>")
    page:table(nil, rows)
end

-- ---- The page ------------------------------------------------------------------------------------------------------

local KNOWN = { out = "string", metric = true, better = true, filter = "table", title = "string" }

local function choose_metrics(op, found, wanted)
    if wanted == nil then return found:main_metrics() end
    local list = type(wanted) == "table" and wanted or { wanted }
    for _, name in ipairs(list) do
        check.type(op, "opts.metric", name, "string", "the name of a metric")
        found:check_metric(op, "metric", name)
    end
    return list
end

local function read_better(op, found, given)
    local better, named = results.read_better(op, given)
    for _, name in ipairs(named) do found:check_metric(op, "better", name) end
    return better, named
end

-- The metrics with these first.
local function first_of(metrics, ...)
    local list, has = {}, {}
    for _, name in ipairs { ... } do list[#list + 1], has[name] = name, true end
    for _, name in ipairs(metrics) do
        if not has[name] then list[#list + 1] = name end
    end
    return list
end

local function build(op, found, opts)
    local metrics, title = choose_metrics(op, found, opts.metric), opts.title or tostring(found.name)
    local better, named = read_better(op, found, opts.better)
    local page, joined, lost = page_module.new(), repeats.join(found)
    local axes = joined:varying()
    if #axes == 0 then axes = joined.axes end
    results.order(joined, joined.cases)
    page:add(page_module.HEAD, escape(title))
    page:add("<h1>%s</h1><p>%s</p>", escape(title), escape(summary(found, joined, lost)))
    page:add("<p>Axes: %s. %s</p>", escape(axes_text(joined)), escape(tables.spread_text(joined.cases, metrics)))
    add_code(page, found)
    local effect, cost = best.choose_pair(metrics, better, named)
    metrics = first_of(metrics, effect, cost)
    best.add(page, op, joined, metrics, axes, better, effect, cost)
    plots.add(page, op, joined, metrics)
    tables.add_cases(page, joined, metrics, axes, better)
    add_left_out(page, found, metrics)
    tables.add_others(page, joined, axes)
    add_axes(page, found)
    add_environment(page, found)
    page:add("<p>Written by Steer %s.</p></body></html>\n", escape(require("steer.device").version))
    return table.concat(page, "\n"), page.notes
end

--- Writes the results of a sweep as one HTML page: the best cases and a Pareto front, plots (drawn with gnuplot),
-- tables of the cases, the skipped and failed ones with their reasons, and the environment. Repeats of a case are
-- joined. The page holds no script and loads nothing; it may be printed.
-- @param path of the results file, or what lm:grid gives
-- @tparam[opt] table opts out (path of the page, default the results' with .html), metric (a name or a list, default
-- all but the quartiles and minima of others), better ("higher", "lower", text such as "kl=lower,accuracy=higher" or a
-- map from metric to direction: the first two are those of the Pareto front; default what the names tell), filter (map
-- from axis to a value or a list of values), title
-- @treturn string path of the page
-- @treturn table notes: what the page lacks and why, such as plots where gnuplot is missing
-- @raise invalid_argument, io, and format for a file that holds no results
function M.report(path, opts)
    local op = "report"
    opts = options.check(op, opts, KNOWN)
    local found = results.of(op, "path", path)
    path = type(path) == "string" and path or rawget(path, "path")
    if opts.filter then found = found:filter(op, opts.filter) end
    if not (opts.out or path) then raise("invalid_argument", op, "out: expected a path, the grid has no file") end
    local out = opts.out or path:gsub("%.jsonl?$", "") .. ".html"
    if out == path then raise("invalid_argument", op, "out: %s is the results file", out) end
    local text, notes = build(op, found, opts)
    append_only.write(op, out, text)
    return out, notes
end

return M
