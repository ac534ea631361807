--- steer report: one page that holds everything, escapes what it shows and loads nothing.
local files = require "files"
local gnuplot = require "steer.plot.gnuplot"
local helper = require "helper"
local steer = require "steer"
local sweeps = require "sweeps"

local samples, ok = sweeps.samples, sweeps.ok

local assert_found, assert_absent = helper.found, helper.absent

-- hidden x path with a skipped and a failed case.
local function grid(name)
    local lines = {}
    for _, hidden in ipairs { 1024, 2048, 4096 } do
        for _, path in ipairs { "uniform", "mixed" } do
            lines[#lines + 1] = ok({ hidden = hidden, path = path }, { gpu_us = hidden / 100, gpu_us_q1 = 1 },
                { gpu_us = samples(hidden / 100, 1) }, { device = "cuda:0", device_name = "NVIDIA H200",
                    driver = "13.0", clock_khz = 1980000, versions = { steer = "1.2.3", luajit = "2.1" }, seconds = 0.5,
                    time = "2026-01-0" .. #lines + 1, host = "node7" })
        end
    end
    lines[3] = { case = lines[3].case, status = "skipped", reason = "no <b>room</b> & \"more\"" }
    lines[4] = { case = lines[4].case, status = "failed", reason = "out_of_memory: 8 GiB",
        command = "steer sweep x.lua --case '{\"hidden\":2048}'" }
    return sweeps.write(name, { "hidden", "path" }, lines)
end

-- Elements that must be closed are, in order.
local function assert_balanced(html)
    local open, void = {}, { meta = true, br = true }
    html = html:gsub("<!DOCTYPE.->", ""):gsub("<style>.-</style>", "")
    for close, name, rest in html:gmatch "<(/?)([%a][%w:]*)([^>]*)>" do
        if close == "/" then
            assert.equal(name, table.remove(open))
        elseif not void[name] and rest:sub(-1) ~= "/" then
            open[#open + 1] = name
        end
    end
    assert.same({}, open)
end

describe("steer.report", function()
    local path, html
    setup(function()
        os.execute("mkdir -p " .. files.folder)
        path = grid("grid.jsonl")
        html = files.get((steer.report(path)))
    end)
    teardown(files.done)

    it("lies beside the results and says how many cases there are", function()
        assert_found(html, "^<!DOCTYPE html>\n<html lang=\"en\">")
        assert_found(html, "<h1>speed</h1>\n?<p>4 cases measured, 1 failed, 1 skipped</p>")
        assert_found(html, "<p>Axes: hidden: 1024, 2048, 4096; path: uniform, mixed%. "
            .. "gpu %(µs%): median and quartiles, n = 20%.</p>")
        assert_balanced(html)
    end)

    it("holds no script and no address to load from", function()
        assert_absent(html:lower(), "<script")
        assert_absent(html, "<link")
        assert_absent(html, "<img")
        assert_absent(html, " src=")
        assert_absent(html, "@import")
        for address in html:gmatch "https?://[^\"' <]*" do assert_found(address, "^http://www%.w3%.org/") end
        for target in html:gmatch "href=[\"']([^\"']*)" do assert_found(target, "^#plot%d+%-") end
        assert_found(html, "default%-src 'none'")
    end)

    it("has every measured case with its value and interval", function()
        assert_found(html, '<td class="number">4096</td><td>mixed</td><td class="number" title="median and quartiles; '
            .. 'minimum 40.55, maximum 41.37">40.96 <small>40.76 to 41.16</small></td>')
    end)

    it("names the metrics that it does not show", function()
        assert_found(html, "<p>Not shown: gpu_us_q1; <code>%-%-metric</code> names metrics%.</p>")
    end)

    it("begins with the best cases", function()
        assert_found(html, "<h2>Best cases</h2>.*<th>gpu %(µs%)<br><small>lower is better</small></th>"
            .. "<td><b>10%.24</b> <small>10%.19 to 10%.29</small><br>hidden\194\1601024, path\194\160uniform</td>"
            .. "<td><span>40%.96</span>.-<br>hidden\194\1604096, path\194\160uniform</td>.*<h2>Plots</h2>")
    end)

    it("gives reasons and commands of the skipped and failed cases", function()
        assert_found(html, "<h2>Failed cases</h2>.*out_of_memory: 8 GiB</td><td class=\"words\"><code>"
            .. "steer sweep x.lua %-%-case &#39;{&quot;hidden&quot;:2048}&#39;<")
        assert_found(html, "<h2>Skipped cases</h2>.*no &lt;b&gt;room&lt;/b&gt; &amp; &quot;more&quot;")
    end)

    it("shows the environment and the axes", function()
        for _, text in ipairs { "NVIDIA H200", "node7", "13.0", "1980000", "abc123", "2.1", "1.2.3",
            "2026%-01%-01 to 2026%-01%-06", '<th>hidden</th><td class="words">1024, 2048, 4096' } do
            assert_found(html, text)
        end
    end)

    it("fits light and dark", function()
        assert_found(html, "color%-scheme: light dark")
        assert_found(html, "prefers%-color%-scheme: dark")
    end)

    if gnuplot.exists() then
        it("draws each metric in the page, every plot with names of its own", function()
            assert_found(html, '<figure><div class="drawing"><svg role="img" aria%-label="gpu %(µs%) over hidden, a '
                .. 'line for each path: median and quartiles %(not drawn: 1 failed, 1 skipped%)%."')
            assert_found(html, ">mixed</text>")
            local seen = {}
            for id in html:gmatch " id=[\"']([^\"']+)" do
                assert.is_nil(seen[id], id)
                seen[id] = true
            end
            assert_absent(html, "<title>Gnuplot")
        end)

        it("draws a plot for each value of what does not fit into one", function()
            local lines = {}
            for a = 1, 3 do
                for b = 1, 4 do
                    for c = 1, 4 do lines[#lines + 1] = ok({ a = a, b = b, c = c }, { t_s = a * b + c }) end
                end
            end
            local page = files.get((steer.report(sweeps.write("many.jsonl", { "a", "b", "c" }, lines))))
            assert.equal(6, select(2, page:gsub("<figure>", "")))
            assert_found(page, 'aria%-label="t %(s%) over c and b; a=3%."')
            assert_found(page, "<b>Figure 6%.</b> t %(s%) over c, a line for each b; a=3%.</figcaption>")
        end)
    end

    it("chooses metrics and cases, and takes a title and a place", function()
        local out = steer.report(path, { metric = "gpu_us_q1", filter = { path = "mixed" }, title = "A & B",
            out = files.path("other.html") })
        local page = files.get(out)
        assert.equal(files.path("other.html"), out)
        assert_found(page, "<title>A &amp; B</title>")
        assert_absent(page, "uniform")
        assert_found(page, "<th>gpu_us_q1</th>")
    end)

    it("takes a single case, and results where nothing was measured", function()
        local page = files.get((steer.report(sweeps.write("one.jsonl", { "a" }, { ok({ a = 1 }, { t_s = 0 / 0 }) }))))
        assert_found(page, ">none</td>")
        page = files.get((steer.report(sweeps.write("bad.jsonl", { "a" },
            { { case = { a = 1 }, status = "failed", reason = "no" } }))))
        assert_found(page, "<h2>Measured cases</h2>\n<p>None.</p>")
    end)

    it("refuses what it cannot read or write", function()
        files.fails("io", "/nonexistent/a", steer.report, "/nonexistent/a")
        files.fails("format", "line 1", steer.report, files.put("stranger", "{}\n"))
        files.fails("io", "cannot write", steer.report, path, { out = "/nonexistent/x.html" })
        files.fails("io", "/dev/full: cannot write", steer.report, path, { out = "/dev/full" })
        files.fails("invalid_argument", "is the results file", steer.report, path, { out = path })
        files.fails("invalid_argument", 'did you mean "title"', steer.report, path, { titel = "x" })
        files.fails("invalid_argument", 'there is no metric "x"', steer.report, path, { metric = "x" })
    end)
end)

-- layer x scale x op; the effect grows with both, so does kl.
local function steering(name, more)
    local lines = {}
    for _, op in ipairs { "add", "cap" } do
        for layer = 0, 3 do
            for scale = -2, 2 do
                local effect = (layer + 1) * scale * (op == "add" and 1 or 0.5)
                local list = { effect - 1, effect, effect + 1 }
                lines[#lines + 1] = ok({ op = op, layer = layer, scale = scale },
                    { logit_difference = effect, kl = effect ^ 2, tokens = 5 }, { logit_difference = list })
            end
        end
    end
    for _, line in ipairs(more or {}) do lines[#lines + 1] = line end
    return sweeps.write(name, { "op", "layer", "scale" }, lines, "mood")
end

describe("a report of a grid", function()
    local html
    setup(function()
        os.execute("mkdir -p " .. files.folder)
        html = files.get((steer.report(steering("steering.jsonl", {
            { case = { op = "cap", layer = 3, scale = 9 }, status = "failed", reason = "nan" } }))))
    end)
    teardown(files.done)

    it("leaves out no metric, and begins with an effect and what it costs", function()
        local order = {}
        for title in html:match("<h2>Plots.*"):gmatch "<h3>(.-)</h3>" do order[#order + 1] = title end
        assert.same(gnuplot.exists() and { "logit_difference", "kl", "tokens" } or {}, order)
        assert_balanced(html)
    end)

    it("has the Pareto front", function()
        assert_found(html, "<h2>Pareto front</h2><p>The cases that no other one beats in both logit_difference "
            .. "%(higher is better%) and kl %(lower is better%)%.</p>")
        local table_of = html:match "cases on the front</summary>(.-)</table>"
        assert_found(table_of, '<td>add</td><td class="number">3</td><td class="number">2</td>'
            .. '<td class="number">64</td><td class="number">8</td></tr>\n</tbody>$')
        assert_absent(table_of, '<td class="number">%-') -- less effect than none, at a cost
    end)

    it("says how to get a front where directions are not known, and takes them", function()
        local path = sweeps.write("unknown.jsonl", { "n" }, { ok({ n = 1 }, { x = 1, y = 1 }),
            ok({ n = 2 }, { x = 2, y = 2 }), ok({ n = 3 }, { x = 3, y = 9 }), ok({ n = 4 }, { x = 2, y = 3 }) })
        local page, notes = steer.report(path)
        assert.equal(nil, files.get(page):find("Pareto", 1, true))
        assert_found(notes[1], "no Pareto front: .* such as x=higher,y=lower$")
        page = files.get((steer.report(path, { better = "y=lower,x=higher" })))
        assert_found(page, "no other one beats in both y %(lower is better%) and x %(higher is better%)")
        assert_found(page, "3 cases on the front")
        files.fails("invalid_argument", 'better: there is no metric "z"', steer.report, path, { better = "z=lower" })
        files.fails("invalid_argument", 'better: "worse", expected higher, lower', steer.report, path,
            { better = "worse" })
    end)

    it("has the cases by each metric, the best first", function()
        local first = html:match "<summary>By kl, the lowest first</summary>.-<tbody>\n<tr>(.-)</tr>"
        assert_found(first, '<td>add</td><td class="number">0</td><td class="number">0</td><td class="number">0</td>')
        first = html:match "<summary>By logit_difference, the highest first</summary>.-<tbody>\n<tr>(.-)</tr>"
        assert_found(first, '<td>add</td><td class="number">3</td><td class="number">2</td>')
    end)

    it("is readable on paper and on a phone", function()
        for _, text in ipairs { "@media print", "@page", "details::details%-content", "max%-width: 40rem",
            "width=device%-width" } do
            assert_found(html, text)
        end
    end)

    if gnuplot.exists() then
        it("draws heatmaps before lines, and tells what is not drawn", function()
            assert_found(html, "<b>Figure 2%.</b> logit_difference over scale and layer; op=add%.<")
            assert_found(html, "<b>Figure 3%.</b> logit_difference over scale and layer; op=cap "
                .. "%(not drawn: 1 failed%)%.<")
            assert_found(html, "<b>Figure 4%.</b> logit_difference over scale, a line for each layer: "
                .. "mean and 95 %% interval; op=add%.<")
        end)

        it("gives plots side by side the same axes, and no metric but a time a logarithmic one", function()
            local report_plots, charts = require "steer.report.plots", {}
            local svg = gnuplot.svg
            gnuplot.svg = function(op, chart, width, height) -- luacheck: ignore
                charts[#charts + 1] = chart
                return svg(op, chart, width, height)
            end
            local page, found = require("steer.report.page").new(), require("steer.sweep.results").read("test",
                steering("shared.jsonl"))
            local passed, problem = pcall(report_plots.add, page, "test", found, { "logit_difference" })
            gnuplot.svg = svg -- luacheck: ignore
            assert(passed, problem)
            assert.equal(4, #charts)
            for i, chart in ipairs(charts) do
                assert.equal(i <= 2 and "heatmap" or "lines", chart.kind)
                assert.same({ -2, -1, 0, 1, 2 }, chart.xs)
                assert.is_falsy(chart.logx or chart.logy or chart.logz)
            end
            assert.same({ -8, 8 }, { charts[2].low, charts[2].high }) -- op=cap alone would have -4 and 4
            assert.same({ charts[3].low, charts[3].high }, { charts[4].low, charts[4].high })
        end)
    end

    it("joins repeats to their mean and interval", function()
        local lines = {}
        for n = 1, 3 do
            for i = 1, 4 do lines[#lines + 1] = ok({ n = n, repeats = i }, { accuracy = n + i / 10 }) end
        end
        lines[12] = { case = lines[12].case, status = "failed", reason = "no" }
        local page = files.get((steer.report(sweeps.write("repeats.jsonl", { "n", "repeats" }, lines))))
        assert_found(page, "<p>3 cases measured, 4 repeats of each, 1 repeat not measured: the others of a case "
            .. "count</p>")
        assert_found(page, "accuracy: mean and 95 %% interval, n = 3 to 4%.")
        -- scipy.stats.t.interval of 1.1, 1.2, 1.3 and 1.4
        assert_found(page, '<td class="number">1</td><td class="number" title="mean and 95 %% interval; minimum 1%.1, '
            .. 'maximum 1%.4">1%.25 <small>1%.045 to 1%.455</small>')
    end)
end)

describe("the Pareto front", function()
    local front = require("steer.report.best").front

    it("is that of comparing all pairs", function()
        local state = 1
        local function random()
            state = state * 16807 % 2147483647
            return state % 12
        end
        for round = 1, 50 do
            local points, expected = {}, {}
            for i = 1, 1 + round do points[i] = { effect = random(), cost = random(), id = i } end
            for i, p in ipairs(points) do
                local beaten = false
                for j, q in ipairs(points) do
                    local as_good = q.effect >= p.effect and q.cost <= p.cost
                    local equal = q.effect == p.effect and q.cost == p.cost
                    beaten = beaten or as_good and (not equal or j < i)
                end
                if not beaten then expected[#expected + 1] = i end
            end
            local got = {}
            for i, p in ipairs(front(points)) do got[i] = p.id end
            table.sort(got)
            assert.same(expected, got)
        end
    end)
end)

describe("steer report", function()
    local path
    setup(function()
        os.execute("mkdir -p " .. files.folder)
        path = grid("grid.jsonl")
    end)
    teardown(files.done)

    it("prints the path of the page", function()
        local command = "report %s --metric gpu_us --better gpu_us=higher --filter 'hidden=[1024,4096]'"
        local output, errors, status = sweeps.steer(command:format(path))
        assert.equal(path:gsub("jsonl$", "html\n"), output)
        assert_found(files.get((path:gsub("jsonl$", "html"))), "<small>higher is better</small>")
        assert.equal(gnuplot.exists() and "" or "steer report: no plots: " .. gnuplot.MISSING .. "\n", errors)
        assert.equal(0, status)
    end)

    it("without gnuplot writes the tables and says what is missing", function()
        local _, errors, status = sweeps.steer(("report %s"):format(path), sweeps.path_without_gnuplot())
        assert.equal(0, status)
        assert_found(errors, "^steer report: no plots: gnuplot: .*apt%-get install gnuplot%-nox")
        assert_found(files.get((path:gsub("jsonl$", "html"))), '<p class="note">no plots: gnuplot: ')
    end)

    it("exits with 2 for wrong usage and 1 for bad files", function()
        for arguments, expected in pairs { ["report"] = 2, ["report a b"] = 2, ["report a --titel x"] = 2,
            ["report /nonexistent/a"] = 1 } do
            local output, errors, status = sweeps.steer(arguments)
            assert.equal("", output)
            assert.not_equal("", errors)
            assert.equal(expected, status)
        end
    end)
end)
