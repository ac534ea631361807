--- steer report: one page that holds everything, escapes what it shows and loads nothing.
local files = require "files"
local gnuplot = require "steer._gnuplot"
local steer = require "steer"
local sweeps = require "sweeps"

local samples, ok = sweeps.samples, sweeps.ok

local function assert_found(text, pattern)
    assert(text:find(pattern), ("expected %q in:\n%s"):format(pattern, text))
end

local function assert_absent(text, pattern)
    local at = text:find(pattern)
    assert(not at, ("unexpected %q at: %s"):format(pattern, text:sub(at or 1, (at or 1) + 200)))
end

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

    it("has every measured case with median, quartiles and n", function()
        assert_found(html, '<td class="number">4096</td><td class="">mixed</td>'
            .. '<td class="number" title="minimum 40.55, maximum 41.37">40.96 <small>40.76 to 41.16, n=20</small></td>')
        assert_absent(html, "gpu_us_q1")
    end)

    it("gives reasons and commands of the skipped and failed cases", function()
        assert_found(html, "<h2>Failed cases</h2>.*out_of_memory: 8 GiB</td><td class=\"words\"><code>"
            .. "steer sweep x.lua %-%-case &#39;{&quot;hidden&quot;:2048}&#39;<")
        assert_found(html, "<h2>Skipped cases</h2>.*no &lt;b&gt;room&lt;/b&gt; &amp; &quot;more&quot;")
    end)

    it("shows the environment and the axes", function()
        for _, text in ipairs { "NVIDIA H200", "node7", "13.0", "1980000", "abc123", "2.1", "1.2.3",
            "2026%-01%-01 to 2026%-01%-06", "<th>hidden</th><td>1024, 2048, 4096" } do
            assert_found(html, text)
        end
    end)

    it("fits light and dark", function()
        assert_found(html, "color%-scheme: light dark")
        assert_found(html, "prefers%-color%-scheme: dark")
    end)

    if gnuplot.exists() then
        it("draws each metric in the page, every plot with names of its own", function()
            assert_found(html, '<figure><svg role="img" aria%-label="speed: gpu %(µs%) against hidden')
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
            assert.equal(4, select(2, page:gsub("<figure>", "")))
            assert_found(page, 'aria%-label="speed: t %(s%) against b, c=3, cpu"')
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

describe("steer report", function()
    local path
    setup(function()
        os.execute("mkdir -p " .. files.folder)
        path = grid("grid.jsonl")
    end)
    teardown(files.done)

    it("prints the path of the page", function()
        local command = "report %s --metric gpu_us --filter 'hidden=[1024,4096]'"
        local output, errors, status = sweeps.steer(command:format(path))
        assert.equal(path:gsub("jsonl$", "html\n"), output)
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
