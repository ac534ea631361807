--- steer.report: the results of a sweep as one HTML page with plots, tables and environment that needs no network.
local append_only = require "steer._append"
local check = require "steer._check"
local code = require "steer._code"
local gnuplot = require "steer._gnuplot"
local html = require "steer._html"
local options = require "steer._options"
local plots = require "steer.plot"
local results = require "steer._results"
local walk = require "steer._walk"

local raise = require("steer._error").raise

local M = {}

local function escape(value)
    return (html.escape(results.text(value)):gsub("[%z\1-\8\11\12\14-\31\127]", "\239\191\189"))
end

-- A page is a list of its parts, with the number of plots and notes on what it lacks.
local function add(page, format, ...)
    page[#page + 1] = select("#", ...) > 0 and format:format(...) or format
end

local function add_note(page, text)
    page.notes[#page.notes + 1] = text
    add(page, '<p class="note">%s</p>', escape(text))
end

-- Says where cases cannot be compared with each other.
local function add_code(page, found)
    local what, a, b = code.difference(found.cases)
    if not what then return end
    add_note(page, ("the cases were measured by different code: %s differs between lines %d and %d"):format(what,
        a.line, b.line))
end

-- ---- Plots ---------------------------------------------------------------------------------------------------------

local MOST_LINES, MOST_PLOTS = 7, 12 -- lines of a plot, plots of a metric
local LOG_X, LOG_Y = 8, 30           -- an axis is logarithmic from these ratios of its largest to its least value on
local WIDTH, HEIGHT = 740, 440

local function all_numbers(values)
    for _, value in ipairs(values) do
        if type(value) ~= "number" then return false end
    end
    return true
end

-- The axis to draw over: the one with most numbers, else the first.
local function choose_x(found, axes)
    local best, most = axes[1], 0
    for _, name in ipairs(axes) do
        local values = found.values[name]
        if all_numbers(values) and #values > most then best, most = name, #values end
    end
    return best
end

-- Which of the other axes are lines of one plot, the smallest first, and which a plot for each value.
local function choose_lines(found, axes)
    local sorted, by, facets, lines = { unpack(axes) }, {}, {}, 1
    table.sort(sorted, function(a, b)
        local n, m = #found.values[a], #found.values[b]
        return n < m or n == m and a < b
    end)
    for _, name in ipairs(sorted) do
        lines = lines * #found.values[name]
        table.insert(lines <= MOST_LINES and by or facets, name)
    end
    return by, facets
end

-- Filters for the values of the axes that measured cases have, one for each plot.
local function facet_filters(found, axes, metric)
    local list, seen = {}, {}
    for _, entry in ipairs(found.cases) do
        if results.stats(entry, metric) then
            local filter, words = {}, {}
            for i, name in ipairs(axes) do
                filter[name] = entry.case[name]
                words[i] = type(entry.case[name]) .. tostring(entry.case[name])
            end
            local spot = table.concat(words, "\0")
            if not seen[spot] then seen[spot], list[#list + 1] = true, filter end
        end
    end
    return list
end

local function scale(chart)
    local low, high = chart.xs[1], chart.xs[#chart.xs]
    chart.logx = not chart.text_x and #chart.xs > 2 and low > 0 and high / low >= LOG_X
    chart.logy = chart.low > 0 and chart.high / chart.low >= LOG_Y
end

-- gnuplot's SVG for a page: names of its own, colours of the page, no titles of its parts.
local function inline_svg(svg, number, title)
    local prefix = ("plot%d-"):format(number)
    local body = svg:match("<svg.->(.*)</svg>")
    body = body:gsub("<title>.-</title>", ""):gsub("<desc>.-</desc>", ""):gsub("<[^>]*>", function(tag)
        return tag:gsub("id=(['\"])", "id=%1" .. prefix):gsub("href=(['\"])#", "href=%1#" .. prefix)
            :gsub("url%(#", "url(#" .. prefix):gsub("rgb%( +0, +0, +0%)", "currentColor")
    end)
    return ('<svg role="img" aria-label="%s" %s>%s</svg>'):format(escape(title),
        svg:match('viewBox="[^"]*"') .. ' xmlns:xlink="http://www.w3.org/1999/xlink"', body)
end

local function metric_plots(page, found, metric, op)
    local axes = found:varying()
    if #axes == 0 then return end
    local x, rest = choose_x(found, axes), {}
    for _, name in ipairs(axes) do
        if name ~= x then rest[#rest + 1] = name end
    end
    local by, facets = choose_lines(found, rest)
    for i, filter in ipairs(facet_filters(found, facets, metric)) do
        if i > MOST_PLOTS then
            add(page, "<p>More plots of %s are left out; <code>steer plot</code> draws them.</p>", escape(metric))
            return
        end
        local chart = plots.chart(op, found, { x = x, y = metric, by = by, filter = filter })
        scale(chart)
        page.plots = page.plots + 1
        local svg = gnuplot.svg(op, chart, WIDTH, HEIGHT)
        add(page, "<figure>%s</figure>", inline_svg(svg, page.plots, table.concat(chart.title, ", ")))
    end
end

local function add_plots(page, found, metrics, op)
    add(page, "<h2>Plots</h2>")
    if not gnuplot.exists() then
        add_note(page, "no plots: " .. gnuplot.MISSING)
        return
    end
    add(page, '<div class="plots">')
    for _, metric in ipairs(metrics) do metric_plots(page, found, metric, op) end
    add(page, "</div>")
    if page.plots == 0 then add(page, "<p>There is nothing to draw: no axis varies over measured cases.</p>") end
end

-- ---- Tables --------------------------------------------------------------------------------------------------------

local function add_table(page, head, rows)
    add(page, '<div class="wide"><table>')
    if head then add(page, "<thead><tr><th>%s</th></tr></thead>", table.concat(head, "</th><th>")) end
    add(page, "<tbody>")
    for _, row in ipairs(rows) do add(page, "<tr>%s</tr>", table.concat(row)) end
    add(page, "</tbody></table></div>")
end

local function axis_cells(entry, axes)
    local cells = {}
    for i, name in ipairs(axes) do
        local value = entry.case[name]
        cells[i] = ('<td class="%s">%s</td>'):format(type(value) == "number" and "number" or "",
            value == nil and "" or escape(value))
    end
    return cells
end

local function metric_cell(entry, metric)
    local s, why = results.stats(entry, metric)
    if not s then return ('<td class="number none" title="%s">none</td>'):format(escape(why)) end
    if s.n == 1 then return ('<td class="number">%s</td>'):format(escape(s.median)) end
    return ('<td class="number" title="minimum %s, maximum %s">%s <small>%s to %s, n=%d</small></td>'):format(
        escape(s.min), escape(s.max), escape(s.median), escape(s.q1), escape(s.q3), s.n)
end

local function heads(names, more)
    local list = {}
    for i, name in ipairs(names) do list[i] = escape(name) end
    for _, name in ipairs(more) do list[#list + 1] = escape(name) end
    return list
end

local function add_cases(page, found, metrics, axes)
    local rows, titles = {}, {}
    for i, metric in ipairs(metrics) do titles[i] = results.title(metric) end
    for _, entry in ipairs(found.cases) do
        if entry.status == "ok" then
            local row = axis_cells(entry, axes)
            for _, metric in ipairs(metrics) do row[#row + 1] = metric_cell(entry, metric) end
            rows[#rows + 1] = row
        end
    end
    add(page, "<h2>Measured cases</h2>")
    if #rows == 0 then return add(page, "<p>None.</p>") end
    add(page, "<p>Medians; small: the quartiles and the number of samples.</p>")
    add_table(page, heads(axes, titles), rows)
end

local function add_others(page, found, axes)
    for _, status in ipairs { "failed", "skipped" } do
        local rows = {}
        for _, entry in ipairs(found.cases) do
            if entry.status == status then
                local row = axis_cells(entry, axes)
                local reason, command = results.word(entry.reason), results.word(entry.command)
                row[#row + 1] = ('<td class="words">%s</td>'):format(escape(reason or "no reason given"))
                row[#row + 1] = ('<td class="words"><code>%s</code></td>'):format(escape(command or ""))
                rows[#rows + 1] = row
            end
        end
        if #rows > 0 then
            add(page, "<h2>%s</h2>", status == "failed" and "Failed cases" or "Skipped cases")
            add_table(page, heads(axes, { "reason", "repeats it" }), rows)
        end
    end
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
    rows[#rows + 1] = { ("<th>%s</th>"):format(escape(title)), ("<td>%s</td>"):format(table.concat(values, "<br>")) }
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

local function add_environment(page, found)
    local rows, versions = {}, {}
    rows[1] = { "<th>results</th>", ("<td>%s</td>"):format(escape(found.path)) }
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
    add(page, "<h2>Environment</h2>")
    add_table(page, nil, rows)
    rows = {}
    for i, name in ipairs(found.axes) do
        local texts = {}
        for j, value in ipairs(found.values[name]) do texts[j] = escape(value) end
        rows[i] = { ("<th>%s</th>"):format(escape(name)), ("<td>%s</td>"):format(table.concat(texts, ", ")) }
    end
    add(page, "<h2>Axes</h2>")
    add_table(page, nil, rows)
end

-- ---- The page ------------------------------------------------------------------------------------------------------

local HEAD = html.START .. [[
body { margin: 0 auto; padding: 1.5rem; max-width: 88rem; color: var(--text); background: var(--page);
  font: 16px/1.5 system-ui, "Helvetica Neue", Arial, sans-serif; }
h1 { margin: 0; font-size: 1.7rem; }
h2 { margin: 2.2rem 0 .6rem; font-size: 1.2rem; }
p { margin: .3rem 0 .8rem; color: var(--soft); }
.note { padding: .6rem .8rem; background: var(--band); color: var(--text); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { padding: .3rem .8rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { background: var(--band); white-space: nowrap; }
tbody tr:hover { background: var(--band); }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.none, small { color: var(--soft); }
small { font-size: .85em; }
code { font: .9em ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%%, 36rem), 1fr)); gap: 1.2rem; }
.words { min-width: 18rem; }
figure { margin: 0; }
figure svg { display: block; width: 100%%; height: auto; color: var(--text); }
figure svg [color=black] { color: var(--text); }
figure svg [stroke=black] { stroke: var(--text); }
figure svg [fill=black] { fill: var(--text); }
figure svg .gridline { stroke: var(--line); }
@media print { .wide { overflow: visible; } }
</style>
</head>
<body>
]]

local KNOWN = { out = "string", metric = true, filter = "table", title = "string" }

local function choose_metrics(op, found, wanted)
    if wanted == nil then return found:main_metrics() end
    local list = type(wanted) == "table" and wanted or { wanted }
    for _, name in ipairs(list) do
        check.type(op, "opts.metric", name, "string", "the name of a metric")
        found:check_metric(op, "metric", name)
    end
    return list
end

local function summary(found)
    local counts, words = { ok = 0, failed = 0, skipped = 0 }, {}
    for _, entry in ipairs(found.cases) do counts[entry.status] = counts[entry.status] + 1 end
    words[1] = ("%d cases measured"):format(counts.ok)
    for _, status in ipairs { "failed", "skipped" } do
        if counts[status] > 0 then words[#words + 1] = ("%d %s"):format(counts[status], status) end
    end
    local repeats = #found.repeated
    if repeats > 0 then words[#words + 1] = ("%d measured more than once: the last counts"):format(repeats) end
    return table.concat(words, ", ")
end

local function build(op, found, opts)
    local metrics = choose_metrics(op, found, opts.metric)
    local title = opts.title or tostring(found.name)
    local page, axes = { plots = 0, notes = {} }, found:varying()
    if #axes == 0 then axes = found.axes end
    results.order(found, found.cases)
    add(page, HEAD, escape(title))
    add(page, "<h1>%s</h1><p>%s</p>", escape(title), escape(summary(found)))
    add_code(page, found)
    add_plots(page, found, metrics, op)
    add_cases(page, found, metrics, axes)
    add_others(page, found, axes)
    add_environment(page, found)
    add(page, "<p>Written by Steer %s.</p></body></html>\n", escape(require("steer.device").version))
    return table.concat(page, "\n"), page.notes
end

--- Writes the results of a sweep as one HTML page: plots (drawn with gnuplot), tables of the cases, the skipped and
-- failed ones with their reasons, and the environment. It holds no script and loads nothing.
-- @tparam string path of the results file
-- @tparam[opt] table opts out (path of the page, default the results' with .html), metric (a name or a list, default
-- all but the quartiles and minima of others), filter (map from axis to a value or a list of values), title
-- @treturn string path of the page
-- @treturn table notes: what the page lacks and why, such as plots where gnuplot is missing
-- @raise invalid_argument, io, and format for a file that holds no results
function M.report(path, opts)
    local op = "report"
    check.type(op, "path", path, "string", "the path of a results file")
    opts = options.check(op, opts, KNOWN)
    local found = results.read(op, path)
    if opts.filter then found = found:filter(op, opts.filter) end
    local out = opts.out or path:gsub("%.jsonl?$", "") .. ".html"
    if out == path then raise("invalid_argument", op, "out: %s is the results file", out) end
    local text, notes = build(op, found, opts)
    append_only.write(op, out, text)
    return out, notes
end

return M
