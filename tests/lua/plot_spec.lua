--- steer plot: the pictures with data and script beside them, axes, groups, heatmaps, the terminal and bad input.
local files = require "files"
local gnuplot = require "steer.plot.gnuplot"
local helper = require "helper"
local steer = require "steer"
local sweeps = require "sweeps"

local samples, ok = sweeps.samples, sweeps.ok
local has_gnuplot = gnuplot.exists()

-- hidden x path x requests, one case skipped and one failed.
local function grid(name)
    local lines = {}
    for _, hidden in ipairs { 1024, 2048, 4096 } do
        for _, path in ipairs { "uniform", "mixed" } do
            for _, requests in ipairs { 1, 32 } do
                local case = { hidden = hidden, path = path, requests = requests }
                local time = hidden / 500 * (path == "mixed" and 1.5 or 1) + requests
                lines[#lines + 1] = ok(case, { gpu_us = time, shift = requests - 2 }, { gpu_us = samples(time, 5) })
                if path == "uniform" and requests == 32 and hidden > 1024 then
                    lines[#lines] = { case = case, status = hidden == 2048 and "skipped" or "failed", reason = "no" }
                end
            end
        end
    end
    return sweeps.write(name, { "hidden", "path", "requests" }, lines)
end

local assert_found, assert_absent = helper.found, helper.absent

-- Runs a test where gnuplot is there, else reports it as pending.
local function drawing(name, test)
    if has_gnuplot then it(name, test) else pending(name .. " (gnuplot is missing)") end
end

describe("steer.plot", function()
    local path
    setup(function()
        os.execute("mkdir -p " .. files.folder)
        path = grid("grid.jsonl")
    end)
    teardown(files.done)

    drawing("writes SVG, PNG, data and script", function()
        local drawn = steer.plot(path, { x = "hidden", y = "gpu_us", by = "path", filter = { requests = 1 } })
        local base = path:gsub("%.jsonl$", "") .. "-gpu_us-hidden-path-requests-1"
        assert.same({ svg = base .. ".svg", png = base .. ".png", tsv = base .. ".tsv", gp = base .. ".gp" },
            drawn.files)
        local svg = files.get(drawn.files.svg)
        for _, word in ipairs { "<svg", ">gpu %(µs%), median and quartiles<", ">hidden<", ">path<", ">uniform<",
            ">mixed<", ">1024<", ">4096<", ">speed: gpu %(µs%) against hidden<", ">requests=1, cpu<" } do
            assert_found(svg, word)
        end
        assert.equal("\137PNG\r\n\26\n", files.get(drawn.files.png):sub(1, 8))
        assert_found(files.get(drawn.files.tsv), "\n2048\t5%.096%d*\t4%.968%d*\t5%.223%d*\t") -- of uniform
        local lines = 0
        for line in files.get(drawn.files.tsv):gmatch "[^\n]+" do lines = lines + (line:find "^%d" and 1 or 0) end
        assert.equal(6, lines)
    end)

    drawing("draws again from the script alone", function()
        local drawn = steer.plot(path, { x = "hidden", y = "gpu_us", by = { "path", "requests" },
            out = files.path("again.svg") })
        local before = files.get(drawn.files.svg)
        os.remove(drawn.files.svg)
        assert.equal(0, os.execute(("cd '%s' && gnuplot again.gp"):format(files.folder)))
        assert.equal(before, files.get(drawn.files.svg))
    end)

    drawing("gives medians and quartiles of the samples", function()
        local list = { 5, 1, 2, 4, 3 }
        local one = sweeps.write("one.jsonl", { "a" }, { ok({ a = 1 }, { t_s = 3, m = 9 }, { t_s = list, m = list }) })
        local drawn = steer.plot(one, { x = "a", y = "t_s" })
        assert_found(files.get(drawn.files.tsv), "\n1\t3\t2\t4\t1\t5\t5\t1\t\n")
        assert_found(files.get(drawn.files.svg), ">t %(s%), median and quartiles<")
        drawn = steer.plot(one, { x = "a", y = "m" }) -- what the case returned counts before its samples
        assert_found(files.get(drawn.files.tsv), "\n1\t9\t2\t4\t1\t5\t5\t1\t\n")
        assert_found(files.get(drawn.files.svg), ">m, value and quartiles of its samples<")
    end)

    drawing("uses log axes", function()
        local drawn = steer.plot(path, { x = "hidden", y = "gpu_us", by = "path", filter = { requests = 1 },
            logx = true, logy = true })
        local script = files.get(drawn.files.gp)
        assert_found(script, "\nset logscale x\n")
        assert_found(script, "\nset logscale y\n")
        assert.equal(0, select(2, files.get(drawn.files.svg):gsub(">0<", "")))
    end)

    drawing("draws a heatmap and says in its cells what is missing", function()
        local drawn = steer.plot(path, { x = "hidden", y = "requests", z = "gpu_us", filter = { path = "uniform" } })
        assert_found(drawn.files.svg, "%-gpu_us%-hidden%-requests%-map%-path%-uniform%.svg$")
        local svg = files.get(drawn.files.svg)
        for _, word in ipairs { ">skipped<", ">failed<", ">gpu %(µs%)<", ">hidden<", ">requests<" } do
            assert_found(svg, word)
        end
        assert.same({ skipped = 1, failed = 1 }, drawn.missing)
    end)

    drawing("gives values on both sides of zero a scale around zero", function()
        local script = files.get(steer.plot(path, { x = "hidden", y = "requests", z = "shift",
            filter = { path = "mixed" } }).files.gp)
        assert_found(script, "set cbrange %[%-30:30%]")
    end)

    drawing("draws axes of words, and single points", function()
        local svg = files.get(steer.plot(path, { x = "path", y = "gpu_us", by = "hidden",
            filter = { requests = 1 } }).files.svg)
        assert_found(svg, ">uniform<")
        steer.plot(path, { x = "hidden", y = "gpu_us", filter = { requests = 1, hidden = 2048, path = "mixed" } })
        steer.plot(path, { x = "hidden", y = "requests", z = "gpu_us",
            filter = { requests = 1, hidden = 2048, path = "mixed" } })
    end)

    drawing("keeps the looks of a group when others are filtered away", function()
        local function colour(filter)
            local opts = { x = "hidden", y = "gpu_us", by = "path", filter = filter, out = files.path("look") }
            return files.get(steer.plot(path, opts).files.gp):match("lc rgb '(#%x+)' [^\n]- title \"mixed\"")
        end
        assert.equal("#D55E00", colour { requests = 1 })
        assert.equal("#D55E00", colour { requests = 1, path = "mixed" })
    end)

    drawing("draws names as they are and lets none of them act", function()
        local nasty = { "`touch " .. files.path("pwned") .. "`", "it's", "100%", "a_b^c", 'q"\\n', "$x @y {z}",
            "tab\there", "<b>&amp;", "&#x41;&lt;",
            "'quoted'", "a''b", "''", '"', '"quoted"', "\\", "é漢😀", "#hash", "%d%s",
            "END_OF_DATA", "url(#a)", "e\27[31m\194\155m", "\239\191\190" }
        -- The texts of an SVG with these words among them.
        local function assert_drawn(svg)
            for _, word in ipairs(nasty) do
                word = word:gsub("%c", " "):gsub("\194\155", " "):gsub("\239\191\190", "\239\191\189")
                    :gsub("&", "&amp;"):gsub("<", "&lt;")
                assert(svg:find(">" .. word .. "<", 1, true), ("expected %q in:\n%s"):format(word, svg))
            end
        end
        local lines = {}
        for i, word in ipairs(nasty) do
            for _, n in ipairs { 1, 2 } do lines[#lines + 1] = ok({ word = word, n = n }, { ["t's_us"] = i * n }) end
        end
        local odd = sweeps.write("it's odd.jsonl", { "word", "n" }, lines, "`touch " .. files.path("pwned") .. "`")
        local drawn = steer.plot(odd, { x = "n", y = "t's_us", by = "word", title = "system('touch x') a''b" })
        assert_drawn(files.get(drawn.files.svg))
        assert_found(files.get(drawn.files.svg), ">system%('touch x'%) a''b<")
        drawn = steer.plot(odd, { x = "word", y = "t's_us", filter = { n = 1 } })
        assert_drawn(files.get(drawn.files.svg))
        drawn = steer.plot(odd, { x = "word", y = "n", z = "t's_us" })
        assert_drawn(files.get(drawn.files.svg))
        assert_found(require("steer.plot").terminal(drawn.chart, 200, 40), "t's %(µs%)")
        assert_found(files.get((steer.report(odd))), "</figure>")
        local likes = sweeps.write("likes.jsonl", { "word" }, { ok({ word = "url(#a)" }, { t_s = 1 }),
            ok({ word = "id='x'" }, { t_s = 1 }) }) -- like what the page renames in an SVG
        local page = files.get((steer.report(likes)))
        assert_found(page, ">url%(#a%)</text>")
        assert_found(page, ">id='x'</text>")
        assert.is_nil(io.open(files.path("pwned")))
    end)

    -- The script of a chart of the results, and its data.
    local function chart(source, opts)
        local made = require("steer.plot").chart("plot", require("steer.sweep.results").read("plot", source), opts)
        return gnuplot.script(made, "x", { "svg" }), gnuplot.data(made), made
    end

    it("names a device only where a time or a rate is shown", function()
        local lines = {}
        for l = 1, 3 do
            lines[l] = ok({ l = l }, { t_us = l, rows_per_s = l, kl = l / 10 }, {}, { device_name = "H" })
        end
        local both = sweeps.write("both.jsonl", { "l" }, lines)
        for metric, named in pairs { t_us = true, rows_per_s = true, kl = false } do
            assert.equal(named, chart(both, { x = "l", y = metric }):find('"H"', 1, true) ~= nil)
        end
        assert.is_truthy(chart(both, { x = "kl", y = "t_us" }):find('"H"', 1, true))
    end)

    it("draws a metric against a metric, a path of cases, and histograms of samples", function()
        local lines = {}
        for l = 1, 3 do
            for s = -1, 1 do
                lines[#lines + 1] = ok({ l = l, s = s }, { kl = s * s * l, p = l + s }, { p = { l, l + s } })
            end
        end
        local both = sweeps.write("metrics.jsonl", { "l", "s" }, lines)
        local text, data = chart(both, { x = "kl", y = "p", by = "l" })
        assert_found(text, "using 1:2 with points lc rgb '#440154'")
        assert_found(data, "\n0\t1\t[^\n]*\n1\t2\t") -- l=1, s=0 and s=1; s=-1 lies before
        assert_found(chart(both, { x = "kl", y = "p", by = "l", kind = "lines" }), "with linespoints")
        local _, _, made = chart(both, { x = "p", kind = "histogram", by = "l" })
        assert.equal(3, #made.groups)
        assert.equal(6, #made.groups[1].samples)
        _, data = chart(both, { x = "s", y = "p", kind = "bars", filter = { l = 2 } })
        assert_found(data, "\n1\t1\t.*\n2\t2\t.*\n3\t3\t")
        files.fails("invalid_argument", "the metrics are kl, p", steer.plot, both, { x = "pp", y = "kl" })
        files.fails("invalid_argument", "opts.z: expected the name of a metric", steer.plot, both,
            { x = "l", y = "s", kind = "heatmap" })
    end)

    it("takes many samples", function()
        local many = {}
        for i = 1, 20000 do many[i] = i % 100 end
        local path_of_many = sweeps.write("many.jsonl", { "a" }, { ok({ a = 1 }, { m = 49.5 }, { m = many }) })
        local _, data = chart(path_of_many, { x = "a", y = "m" })
        assert_found(data, "\n1\t49.5\t49.[%d]+\t49.[%d]+\t0\t99\t20000\t")
        local _, _, made = chart(path_of_many, { x = "m", kind = "histogram" })
        assert.equal(20000, #made.groups[1].samples)
    end)

    it("gives pairs dashes and numbers a scale of colours", function()
        local lines = {}
        for l = 1, 4 do
            for _, steered in ipairs { true, false } do
                for s = 1, 2 do lines[#lines + 1] = ok({ l = l, steered = steered, s = s }, { p = l * s }) end
            end
        end
        local pairs_file = sweeps.write("pairs.jsonl", { "l", "steered", "s" }, lines)
        local text = chart(pairs_file, { x = "s", y = "p", by = { "l", "steered" } })
        assert_found(text, "'#440154' lw 2 dt 1 [^\n]*title \"1, true\"")
        assert_found(text, "'#440154' lw 2 dt 2 [^\n]*title \"1, false\"")
        assert.equal(text, (chart(pairs_file, { x = "s", y = "p", by = "l", dash = "steered" })))
    end)

    it("draws the means of repeats with their intervals", function()
        local lines = {}
        for a = 1, 2 do
            for r, value in ipairs { 1, 2, 3 } do lines[#lines + 1] = ok({ a = a, repeats = r }, { m = a * value }) end
        end
        lines[#lines].status, lines[#lines].reason = "failed", "no"
        local repeated = sweeps.write("repeats.jsonl", { "a", "repeats" }, lines)
        local text, data, made = chart(repeated, { x = "a", y = "m" })
        assert_found(text, "m, mean and 95 %% interval")
        assert_found(data, "\n1\t2\t%-0.48[%d]*\t4.48") -- of 1, 2 and 3: 2 +- 4.303 / sqrt(3)
        assert.same({ ["failed repeats"] = 1 }, made.missing)
        assert_found(chart(repeated, { x = "a", y = "m", by = "repeats" }), 'title "3"') -- or each by itself
    end)

    drawing("writes pictures of any name, or refuses it before anything is written", function()
        local opts = { x = "hidden", y = "gpu_us", by = { "path", "requests" } }
        for _, name in ipairs { "it's", '"', "|touch pwned", "<x", "~x", "-x", "a b", "a`touch pwned`", "a\\b", "x%d",
            "$HOME", "é漢😀", "\255", "#x", "*" } do
            opts.out = files.path(name)
            assert.equal("\137PNG", files.get(steer.plot(path, opts).files.png):sub(1, 4))
            assert_found(files.get(opts.out .. ".svg"), "</svg>")
        end
        assert.is_nil(io.open "pwned")
        assert.is_nil(io.open(files.path "pwned"))
        local before = files.listing()
        for name, why in pairs { ["a\nb"] = "a\\nb: a name with control characters", ["\27"] = "\\x1b: a name with",
            ["."] = "is a folder", [".."] = "is a folder", [("x"):rep(252)] = "File name too long" } do
            opts.out = files.path(name)
            files.fails(why:find "^File" and "io" or "invalid_argument", why, steer.plot, path, opts)
            assert.equal(before, files.listing())
        end
        opts.out = files.path "pipe"
        assert.equal(0, os.execute("mkfifo " .. opts.out .. ".png"))
        files.fails("io", "pipe.png: cannot write: nobody reads from this pipe", steer.plot, path, opts)
        assert.is_nil(io.open(opts.out .. ".tsv"))
    end)

    drawing("copes with equal, extreme and mixed values", function()
        local function draw(values, opts)
            local lines = {}
            for i, pair in ipairs(values) do lines[i] = ok({ a = pair[1] }, { m = pair[2] }) end
            opts.x, opts.y = "a", "m"
            local drawn = steer.plot(sweeps.write("values.jsonl", { "a" }, lines), opts)
            assert_found(files.get(drawn.files.svg), "gnuplot_plot_1")
        end
        draw({ { 1, 0 }, { 2, 0 } }, {})
        draw({ { 1, 5 } }, { logx = true, logy = true })
        draw({ { -1, -5 }, { -2, -5 } }, {})
        draw({ { 1e-300, 1e-300 }, { 1, 1 }, { 1e300, 1e300 } }, { logx = true, logy = true })
        draw({ { -1e300, -1.7e308 }, { 1e300, 1.7e308 } }, {})
        draw({ { 1, 1e-320 }, { 2, 3e-320 } }, { logy = true })
        draw({ { 1, 1 }, { "auto", 2 }, { true, 3 }, { "", 4 } }, {})
    end)

    drawing("draws in the terminal", function()
        local drawn = steer.plot(path, { x = "hidden", y = "gpu_us", by = "path", filter = { requests = 1 } })
        local text = require("steer.plot").terminal(drawn.chart, 70, 20)
        assert_found(text, "mixed")
        assert_found(text, "4096")
        for line in text:gmatch "[^\n]+" do
            assert.is_true(select(2, line:gsub("[^\128-\191]", "")) <= 70, line)
        end
    end)

    it("asks which cases are meant when several fall on one place", function()
        files.fails("invalid_argument", "choose by or a filter for requests (1, 32)", steer.plot, path,
            { x = "hidden", y = "gpu_us", by = "path" })
        files.fails("invalid_argument", "choose by or a filter for path (uniform, mixed)", steer.plot, path,
            { x = "hidden", y = "requests", z = "gpu_us" })
    end)

    it("refuses what it cannot draw", function()
        local function fails(text, opts, code)
            files.fails(code or "invalid_argument", text, steer.plot, path, opts)
        end
        fails("opts.x: expected the name of an axis", {})
        fails("opts.y: expected the name of a metric", { x = "hidden" })
        fails('x: there is no axis "hiden", did you mean "hidden"', { x = "hiden", y = "gpu_us" })
        fails('y: there is no metric "gpu", did you mean "gpu_us"', { x = "hidden", y = "gpu" })
        fails('by: there is no axis "pth", did you mean "path"', { x = "hidden", y = "gpu_us", by = "pth" })
        fails("no case has requests=7, there are 1, 32", { x = "hidden", y = "gpu_us", filter = { requests = 7 } })
        fails("logy: shift has the value -1", { x = "hidden", y = "shift", by = "path", filter = { requests = 1 },
            logy = true })
        fails("logx: path is not a number", { x = "path", y = "gpu_us", by = { "hidden", "requests" }, logx = true })
        fails("it is for lines", { x = "hidden", y = "requests", z = "gpu_us", by = "path" })
        fails("it is for heatmaps", { x = "hidden", y = "gpu_us", logz = true })
        fails("no case of", { x = "hidden", y = "gpu_us",
            filter = { path = "uniform", requests = 32, hidden = { 2048, 4096 } } })
        fails("cannot write", { x = "hidden", y = "gpu_us", by = { "path", "requests" }, out = "/nonexistent/x" }, "io")
        fails("is a folder", { x = "hidden", y = "gpu_us", by = { "path", "requests" }, out = "/tmp/" })
        files.fails("io", "nowhere", steer.plot, "/nonexistent/nowhere", { x = "hidden", y = "gpu_us" })
    end)

    it("does not draw what is not a number", function()
        local null = sweeps.write("null.jsonl", { "a" }, { ok({ a = 1 }, { t_s = 0 / 0 }) })
        files.fails("invalid_argument", "1 without a number", steer.plot, null, { x = "a", y = "t_s" })
    end)
end)

describe("steer plot", function()
    local path
    setup(function()
        os.execute("mkdir -p " .. files.folder)
        path = grid("grid.jsonl")
    end)
    teardown(files.done)

    drawing("prints the files it wrote, the drawing and what is left out", function()
        local output, errors, status = sweeps.steer(("plot %s --x hidden --y gpu_us --by path --filter requests=32 "
            .. "--logx --terminal --out %s"):format(path, files.path("cli")), "TERM=dumb")
        assert.equal(0, status)
        assert.equal("", errors)
        local base = files.path("cli")
        assert_found(output, "mixed.*not drawn: 1 failed, 1 skipped\n.*"
            .. ("%s.svg\n%s.png\n%s.tsv\n%s.gp\n$"):format(base, base, base, base))
        assert.is_nil(output:find("\27", 1, true))
    end)

    -- What a command writes to a terminal.
    local function on_terminal(command)
        local pipe = io.popen(("TERM=xterm script -qec %q /dev/null 2>&1"):format(command))
        local text = pipe:read "*a"
        pipe:close()
        return text
    end

    drawing("draws in a terminal by itself, and so does the prompt", function()
        local command = "scripts/steer plot %s --x hidden --y requests --z gpu_us --filter path=mixed --out %s"
        command = command:format(path, files.path "tty.svg")
        local text = on_terminal(command)
        assert_found(text, "\27%[38;5;%d+;48;5;%d+m")
        assert_found(text, "tty%.svg\r\n")
        assert_absent(on_terminal("NO_COLOR=1 " .. command), "\27")
        assert_absent(on_terminal(command .. " --no-terminal"), "gpu")
        local input = files.put("input", 'steer.plot({lda = 1, pca = 0.5}, {title = "bars here"})\n')
        text = on_terminal("NO_COLOR=1 scripts/steer <" .. input)
        assert_found(text, "bars here\r\nlda [█]+ 1\r\npca .*%[chart bars here: bars, 1 series of 2 bars")
        local _, output = pcall(sweeps.steer, "repl <" .. input)
        assert.equal("[chart bars here: bars, 1 series of 2 bars, 960x560, not saved]\n", output)
    end)

    drawing("passes its options on", function()
        local output, errors, status = sweeps.steer(("plot %s --x hidden --y gpu_us --by path --filter requests=1 "
            .. "-o %s --xlim 0,5000 --ylim ,20 --size 400x300 --hline '5=a limit' --hline 7 --vline 2048 --best min "
            .. "--palette '#112233,#445566' --format '%%.1f us' --title T --xlabel X --ylabel Y --legend L")
            :format(path, files.path "all.svg"))
        assert.equal("", errors)
        assert.equal(0, status)
        local base = files.path "all"
        assert.equal(("%s.svg\n%s.tsv\n%s.gp\n"):format(base, base, base), output)
        local script = files.get(base .. ".gp")
        for _, text in ipairs { 'xrange [0:5000]', ":20]", "size 400,300", '"a limit"', "first 7 to", "first 2048,",
            "#112233", "#445566", " us at X 1024, L uniform", 'title "T"', 'xlabel "X"', 'ylabel "Y"',
            'key title "L"' } do
            assert(script:find(text, 1, true), ("expected %q in:\n%s"):format(text, script))
        end
        local command = "plot %s --kind histogram --x gpu_us --bins 4 --share %s"
        output, errors, status = sweeps.steer(command:format(path, "--terminal -o " .. files.path "count.pdf"),
            "TERM=dumb")
        assert.equal("", errors)
        assert.equal(0, status)
        assert_found(output, "share\n.*█.*not drawn: 1 failed, 1 skipped\n.*count%.pdf\n")
        assert.equal("%PDF", files.get(files.path "count.pdf"):sub(1, 4))
        output, errors, status = sweeps.steer(command:format(path, ""))
        assert.equal("steer plot: not drawn: 1 failed\nsteer plot: not drawn: 1 skipped\n", errors)
        assert.equal(0, status)
        assert_found(output, "grid%-gpu_us%-histogram%.svg\n")
        sweeps.steer(("plot %s --x hidden --y gpu_us --by path --filter requests=1 --no-legend -o %s"):format(path,
            files.path "bare.svg"))
        assert_found(files.get(files.path "bare.gp"), "\nunset key\n")
    end)

    it("without the name of an axis lists what there is", function()
        local _, errors, status = sweeps.steer("plot " .. path)
        assert.equal(2, status)
        assert_found(errors, "%-%-x: it is missing; of .*grid.jsonl the axes are .*hidden.*; the metrics .*gpu_us")
        files.fails("invalid_argument", "opts.x: expected the name of an axis or a metric, got nothing; the axes are ",
            steer.plot, path)
    end)

    it("without gnuplot says how to get it, and leaves data and script", function()
        local command = "plot %s --x hidden --y gpu_us --by path,requests --out " .. files.path("bare")
        local output, errors, status = sweeps.steer(command:format(path), sweeps.path_without_gnuplot())
        assert.equal(1, status)
        assert.equal("", output)
        assert_found(errors, "not_found: plot: gnuplot: .*apt%-get install gnuplot%-nox.*bare%.tsv and .*bare%.gp")
        assert_found(files.get(files.path("bare.gp")), "\nplot \"%./bare%.tsv\" index 0 ")
        assert_found(files.get(files.path("bare.tsv")), "\n4096\t")
    end)

    drawing("reports a full disk", function()
        local folder = files.path("full")
        os.execute(("mkdir -p %s && ln -sf /dev/full %s/x.svg"):format(folder, folder))
        local command = ("plot %s --x hidden --y gpu_us --by path,requests --out %s/x"):format(path, folder)
        local _, errors, status = sweeps.steer(command)
        assert.equal(1, status)
        assert_found(errors, "did not write .*x.svg whole")
        os.execute(("rm -f %s/x.svg; ln -sf /dev/full %s/x.tsv"):format(folder, folder))
        _, errors, status = sweeps.steer(command)
        assert.equal(1, status)
        assert_found(errors, "io: plot: .*x.tsv: cannot write: No space")
    end)

    it("exits with 2 for wrong usage", function()
        for arguments, message in pairs {
            ["plot"] = "expected one results file, got 0", ["plot a --x b"] = "%-%-y: it is missing",
            ["plot a --logxx"] = "did you mean '%-%-logx'",
            ["plot a --x b --y c --xlim 5"] = "%-%-xlim: expected LOW,HIGH, of which one may be left out, got '5'",
            ["plot a --x b --y c --size 5"] = "%-%-size: expected WIDTHxHEIGHT, got '5'",
            ["plot a --x b --y c --hline b=5"] = "%-%-hline: expected a number, or NUMBER=TEXT, got 'b=5'",
        } do
            local _, errors, status = sweeps.steer(arguments)
            assert_found(errors, message)
            assert.equal(2, status)
        end
    end)
end)
