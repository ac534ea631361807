--- steer.plot of data: what it takes, each kind of chart in the script, the terminal and as a picture, and bad input.
local files = require "files"
local gnuplot = require "steer.plot.gnuplot"
local helper = require "helper"
local steer = require "steer"

local has_gnuplot = gnuplot.exists()
local T = steer.tensor

local assert_found, assert_absent = helper.found, helper.absent

local function drawing(name, test)
    if has_gnuplot then it(name, test) else pending(name .. " (gnuplot is missing)") end
end

-- The script that draws a chart.
local function script(source, opts)
    return gnuplot.script(steer.plot(source, opts).chart, "x", { "svg" })
end

local function data(source, opts)
    return gnuplot.data(steer.plot(source, opts).chart)
end

local function count(text, pattern) return select(2, text:gsub(pattern, "")) end

-- 32 layers over 9 strengths.
local function layers(n)
    local list = {}
    for l = 0, n - 1 do
        list[l] = {}
        for s = 1, 9 do list[l][s] = l * s / 10 end
    end
    return list
end

local RECORDS = {}
for layer = 0, 3 do
    for _, method in ipairs { "lda", "pca" } do
        for _, steered in ipairs { true, false } do
            RECORDS[#RECORDS + 1] = { layer = layer, method = method, steered = steered, kl = layer ^ 2 / 10,
                accuracy = 0.5 + layer / 8 * (method == "lda" and 1 or 0.7) * (steered and 1 or 0.5) }
        end
    end
end

describe("steer.plot of data", function()
    setup(function() os.execute("mkdir -p " .. files.folder) end)
    teardown(files.done)

    it("draws lists and tensors as lines that count from 1", function()
        for _, source in ipairs { { 5, 7 }, T.from { 5, 7 }, { y = { 5, 7 } }, { { 5, 7 } }, { T.from { 5, 7 } } } do
            assert_found(data(source), "\n1\t5\t5\t5\t5\t5\t1\t1\t%d?\n2\t7\t")
        end
        assert_found(data({ 5, 7 }, { x = { 0.5, -1 } }), "\n0.5\t5\t[^\n]*\n%-1\t7\t")
        assert_found(data({ 5, 7 }, { x = T.from { 10, 20 } }), "\n10\t5\t[^\n]*\n20\t7\t")
        assert_found(script { 5, 7 }, "with linespoints lc rgb '#0072B2'")
        assert_found(script { 5, 7 }, "\nunset key\n")
    end)

    it("orders series by name and number, and gives numbered ones a scale of colours", function()
        local text = script({ ["layer.10"] = { 1, 2 }, ["layer.9"] = { 2, 3 }, b = { 3, 4 } })
        assert_found(text, 'title "b".*title "layer%.9".*title "layer%.10"')
        assert_found(text, "#0072B2.*#D55E00.*#009E73")
        text = script(layers(32), { legend = "layer" })
        assert_found(text, 'set key title "layer" left\n')
        assert_found(script(layers(3), { legend = false }), "\nunset key\n")
        files.fails("invalid_argument", "opts.legend: expected its title, or false for none, got 3", steer.plot,
            layers(3), { legend = 3 })
        local colours, seen = {}, {}
        for colour in text:gmatch "lc rgb '(#%x+)' lw 2" do
            assert.is_nil(seen[colour])
            seen[colour], colours[#colours + 1] = true, colour
        end
        assert.equal(32, #colours)
        assert.equal("#440154", colours[1])
        assert.equal(12, count(text, ' ps [%d.]+ title "')) -- of 32, the first and the last one among them
        assert_found(text, ' title "0"')
        assert_found(text, ' title "31"')
        assert.equal(20, count(text, " notitle"))
        text = script({ { 1, 2 }, { 2, 3 }, { 3, 4 } }, { names = { "a", "b", "c" } }) -- words have no order
        assert_found(text, "#0072B2.*#D55E00")
    end)

    it("draws pairs in one colour, one of them dashed", function()
        local text = script { { name = "steered", y = { 1, 2 } },
            { name = "unsteered", y = { 1, 1 }, like = "steered" }, { name = "other", y = { 3, 3 } } }
        assert_found(text, "lc rgb '#0072B2' lw 2 dt 1 [^\n]*title \"steered\"")
        assert_found(text, "lc rgb '#0072B2' lw 2 dt 2 [^\n]*title \"unsteered\"")
        assert_found(text, "lc rgb '#D55E00' lw 2 dt 1 [^\n]*title \"other\"")
    end)

    it("leaves gaps for what is not finite, and says so", function()
        local chart = steer.plot { 1, 0 / 0, 3, 1 / 0, -1 / 0, 1.7e308 }
        assert.same({ ["not finite"] = 4 }, chart.missing)
        assert_found(gnuplot.data(chart.chart), "\n2\tNaN\tNaN")
        assert_found(tostring(chart), "4 not finite not drawn%]$")
        chart = steer.plot({ { 1, 0 / 0 }, { 1 / 0, 4 } }, { kind = "heatmap" })
        assert_found(chart:text(60), "1 · 1 +nan")
        assert_found(chart:text(60), "2 inf +█ 4\n.*\nnot drawn: 2 not finite\n$")
        assert_absent(steer.plot({ { 1, 2 }, { 3, 4 } }, { kind = "heatmap" }):text(60), "not drawn")
        files.fails("invalid_argument", "none of its 2 values is a finite number", steer.plot, { 0 / 0, 1 / 0 })
    end)

    it("draws records and columns by the names of their fields", function()
        local text = script(RECORDS, { x = "layer", y = "accuracy", by = { "method", "steered" } })
        assert_found(text, 'title "accuracy against layer"')
        assert_found(text, "'#0072B2' lw 2 dt 1 [^\n]*title \"lda, true\"")
        assert_found(text, "'#0072B2' lw 2 dt 2 [^\n]*title \"lda, false\"")
        assert_found(text, "'#D55E00' lw 2 dt 2 [^\n]*title \"pca, false\"")
        text = data(RECORDS, { x = "layer", y = "method", z = "accuracy", filter = { steered = true } })
        assert_found(text, "\n3\t1\t0.75\t0.75\t[^\n]*\t2\tlda\n")
        text = data(RECORDS, { kind = "scatter", x = "kl", y = "accuracy", by = "method" })
        assert.equal(16, count(text, "\n[%d.]+\t"))
        text = data({ layer = { 0, 1 }, accuracy = T.from { 0.5, 1 } }, { x = "layer", y = "accuracy" })
        assert_found(text, "\n0\t0.5\t.*\n1\t1\t")
        text = data({ { a = 1, m = { 2, 4, 3 } } }, { x = "a", y = "m" }) -- repeated measurements
        assert_found(text, "\n1\t3\t[%d.]+\t[%d.]+\t2\t4\t3\t")
        files.fails("invalid_argument", 'there is no axis "laye", did you mean "layer"', steer.plot, RECORDS,
            { x = "laye", y = "accuracy" })
        files.fails("invalid_argument", "choose by or a filter for method (lda, pca)", steer.plot, RECORDS,
            { x = "layer", y = "accuracy", filter = { steered = true } })
        files.fails("shape_mismatch", "data.b: 1 values, a has 2", steer.plot, { a = { 1, 2 }, b = { 1 } },
            { x = "a", y = "b" })
    end)

    it("draws intervals as bars, many of them as bands", function()
        local text = script({ a = { y = { 1, 2, 3 }, error = 0.5 } })
        assert_found(text, "with yerrorlines")
        assert_found(data({ a = { y = { 1, 2 }, low = { 0, 1 }, high = T.from { 4, 5 } } }), "\n1\t1\t0\t4\t")
        assert_found(data({ 1, 2 }, { error = { 0.5, 1 } }), "\n2\t2\t1\t3\t")
        local many, ends = {}, {}
        for i = 1, 30 do many[i], ends[i] = i, 1 end
        text = script { y = many, error = ends }
        assert_found(text, "with filledcurves fc rgb '#0072B2' fs transparent")
        local bars = {}
        for i = 1, 9 do bars[i] = { y = { i, i + 1 }, error = 1 } end
        assert_absent(script(bars), "error") -- nothing else could be seen
    end)

    it("draws scatter plots of [n, 2] and of x and y", function()
        local text = script({ a = T.from { { 1, 2 }, { 3, 4 } }, b = { x = { 5 }, y = { 6 } } }, { kind = "scatter" })
        assert_found(text, "using 1:2 with points lc rgb '#0072B2'")
        assert_found(data(T.from { { 1, 2 }, { 3, 4 } }, { kind = "scatter" }), "\n1\t2\t.*\n3\t4\t")
        files.fails("shape_mismatch", "a scatter plot takes [n, 2]", steer.plot, T.zeros { 2, 3 }, { kind = "scatter" })
    end)

    it("counts histograms in bins that series share", function()
        local chart = steer.plot({ 1, 2, 2, 3, 3, 3 }, { kind = "histogram" }).chart -- whole numbers have their own
        assert.same({ 0.5, 1.5, 2.5, 3.5 }, chart.xs)
        assert.same({ 1, 2, 3 }, chart.groups[1].counts)
        local plot = steer.plot({ a = { 0, 0.5, 1 }, b = { 2, 9, 0 / 0 } },
            { kind = "histogram", bins = { 0, 1, 2 }, share = true })
        assert.same({ 2 / 3, 1 / 3 }, plot.chart.groups[1].counts)
        assert.same({ 0, 0.5 }, plot.chart.groups[2].counts)
        assert.same({ ["outside the bins"] = 1, ["not finite"] = 1 }, plot.missing)
        chart = steer.plot(T.randn({ 100, 10 }, { seed = 1 }), { kind = "histogram" }).chart
        local sum = 0
        for _, n in ipairs(chart.groups[1].counts) do sum = sum + n end
        assert.equal(1000, sum)
        for _, same in ipairs { { 7.5, 7.5 }, { 0.1 }, { -3e299 } } do
            chart = steer.plot(same, { kind = "histogram" }).chart
            local n = 0
            for _, c in ipairs(chart.groups[1].counts) do n = n + c end
            assert.equal(#same, n)
        end
        chart = steer.plot({ 1, 10, 100, 1000 }, { kind = "histogram", bins = 3, logx = true }).chart
        assert.same({ 1, 1, 2 }, chart.groups[1].counts)
        assert.near(10, chart.xs[2], 1e-9)
        assert_found(script(RECORDS, { kind = "histogram", x = "accuracy", by = "method" }), 'title "lda"')
        files.fails("invalid_argument", "opts.bins[2]: expected edges that rise", steer.plot, { 1 },
            { kind = "histogram", bins = { 1, 1 } })
        files.fails("invalid_argument", "opts.bins: all values lie outside of them, from 1 to 1", steer.plot, { 1 },
            { kind = "histogram", bins = { 5, 6 } })
    end)

    it("draws bars from 0, with intervals", function()
        local text = script({ lda = 0.99, pca = 0.71 })
        assert_found(text, 'set xtics %("lda" 1, "pca" 2%)')
        assert_found(text, "set yrange %[0:1.0")
        assert_found(text, "using %(%$1%+0%.0000%):2:%(0%.8000%) with boxes")
        text = script({ { name = "a", x = { "u", "v" }, y = { 1, -2 }, error = 0.5 } }, { kind = "bars" })
        assert_found(text, ":2:3:4:%(0%.8000%) with boxerrorbars")
        assert_found(script({ a = -1, b = -2 }), "set yrange %[[^:]*:0%]")
        local many = {}
        for i = 1, 9 do many[i] = { name = "m" .. i, x = { "u" }, y = { i } } end
        local colours, seen = 0, {}
        for colour in script(many, { kind = "bars" }):gmatch "boxes lc rgb '(#%x+)'" do
            colours, seen[colour] = colours + (seen[colour] and 0 or 1), true
        end
        assert.equal(9, colours) -- more than there are of their own: a scale
        files.fails("invalid_argument", "x: u comes twice, at 1 and 2", steer.plot,
            { x = { "u", "u" }, y = { 1, 2 } }, { kind = "bars" })
    end)

    it("draws heatmaps, the first row on top, with texts that fit", function()
        local text = script(T.from { { 1, 2 }, { 3, 4 } })
        assert_found(text, "set yrange %[2.5:0.5%]")
        assert_found(text, "with image pixels")
        assert_found(text, "with labels tc rgb variable")
        assert_absent(script(T.randn({ 30, 30 }, { seed = 1 })), "with labels")
        assert_found(script(T.zeros { 1, 3 }), "with boxxyerror fc palette") -- gnuplot has no image of one row
        text = data(T.from { { 1.23456, -1e-5 } })
        assert_found(text, "\t1%.235\t")
        assert_found(text, "\n2\t1\t[^\t]*\t0\t") -- what is nothing beside the others
        assert_found(data(T.from { { 0.5 } }, { format = "%.2f ms" }), "\t0%.50 ms\t")
        text = script({ [2] = { 1, 2 }, [10] = { 3, 4 } }, { kind = "heatmap", x = { "no", "yes" } })
        assert_found(text, 'set ytics %("2" 1, "10" 2%)')
        assert_found(text, 'set xtics %("no" 1, "yes" 2%)')
        files.fails("shape_mismatch", "data[2]: 1 columns, the first row has 2", steer.plot, { { 1, 2 }, { 3 } },
            { kind = "heatmap" })
        files.fails("shape_mismatch", "opts.x: 3 labels, the matrix has 2 columns", steer.plot, T.zeros { 2, 2 },
            { x = { 1, 2, 3 } })
    end)
end)

describe("the looks of a chart", function()
    setup(function() os.execute("mkdir -p " .. files.folder) end)
    teardown(files.done)

    it("follow the options", function()
        local text = script({ a = { 1, 20 }, b = { 2, 30 } }, {
            title = "`t` \"q\"", xlabel = "x%d", ylabel = "é", legend = "which", xlim = { 0, 3 }, ylim = { min = 0.5 },
            logy = true, format = "%.1f s", palette = { "#112233", "#445566" }, size = { 400, 300 },
            hline = { at = 10, label = "limit" }, vline = { 1, { at = 2, label = "here" } }, best = "min",
        })
        assert_found(text, '\nset title "\\140t\\140 \\"q\\""\n')
        assert_found(text, '\nset xlabel "x%%d"\n')
        assert_found(text, "\nset xrange %[0:3%]\n")
        assert_found(text, "\nset yrange %[0.5:")
        assert_found(text, "\nset logscale y\n")
        assert_found(text, '"10.0 s" 10')
        assert_found(text, "#112233.*#445566")
        assert_found(text, "svg size 400,300")
        assert_found(text, 'set arrow from graph 0, first 10 to graph 1, first 10.*set label "limit"')
        assert_found(text, "set arrow from first 1, graph 0 to first 1, graph 1")
        assert_found(text, 'set label "here"')
        assert_found(text, 'set label "1.0 s at x%%d 1, which a" at first 1, first 1')
        text = script({ a = 1, b = 3 }, { palette = "greys", best = "max" })
        assert_found(text, 'set label "3 at b" at first 2, first 3 right point')
        text = script(T.from { { 1, 9 }, { 3, 4 } }, { best = "max", zlim = { 0, 10 }, palette = "magma" })
        assert_found(text, "set object 2 rectangle from first 1.5, first 0.5 to first 2.5, first 1.5")
        assert_found(text, "set cbrange %[0:10%]")
        assert_found(text, "0 '#000004'")
    end)

    it("have ticks that differ, thinned where they are many", function()
        assert_found(script { 1000000.1, 1000000.2 }, '"1000000.12" ')
        assert_found(script { 1e30, 3e30 }, '"1e%+30" 9.9')
        assert_found(script { 1e-30, 3e-30 }, '"2e%-30" 2')
        local long = {}
        for i = 1, 576 do long[i] = i end
        local text = script(T.from { long })
        assert.is_true(count(text:match "set xtics (%b())", '"') / 2 <= 20)
        assert_absent(text, "rotate")
        local words = { x = {}, y = {} }
        for i = 1, 30 do words.x[i], words.y[i] = "the method number " .. i, i end
        assert_found(script(words, { kind = "bars" }), "set xtics rotate by %-60")
        assert_found(script({ ["a name that is much longer than there is room for it"] = 1, b = 2 }),
            '"a name that is much longer than there i…" 1')
    end)

    it("name what is wrong with an option", function()
        local function fails(text, source, opts, code)
            files.fails(code or "invalid_argument", text, steer.plot, source, opts)
        end
        fails('unknown option "ylimit", did you mean "ylim"?', { 1 }, { ylimit = { 0, 1 } })
        fails('there is no kind "line", did you mean "lines"?', { 1 }, { kind = "line" })
        fails('there is no palette "viridiss", did you mean "viridis"?', { 1 }, { palette = "viridiss" })
        fails('opts.palette[1]: expected a colour such as "#0072B2", got "red"', { 1 }, { palette = { "red" } })
        fails("opts.ylim: the low limit 2 is not below the high one 1", { 1 }, { ylim = { 2, 1 } })
        fails("opts.ylim: expected {low, high}, or {min =, max =}", { 1 }, { ylim = {} })
        fails("opts.xlim: expected finite numbers, got nan", { 1 }, { xlim = { 0 / 0, 1 } })
        fails("opts.ylim: a log axis needs limits above 0", { 1 }, { ylim = { 0, 1 }, logy = true })
        fails("opts.size[1]: 5 is out of range, expected 120 to 10000", { 1 }, { size = { 5, 500 } })
        fails("opts.size: expected {width, height} in pixels, got 1 entries", { 1 }, { size = { 500 } })
        for _, format in ipairs { "%s", "%d%d", "none", "%", "%100.2f", "%.2f%" } do
            fails("opts.format: expected one conversion of a number", { 1 }, { format = format })
        end
        fails('opts.best: expected "max" or "min", got "most"', { 1 }, { best = "most" })
        fails("opts.hline[1]: expected a finite number, got inf", { 1 }, { hline = 1 / 0 })
        fails('opts.hline[2]: unknown option "lable", did you mean "label"', { 1 },
            { hline = { 1, { at = 1, lable = "x" } } })
        fails("opts.bins: it is for histograms, this chart is of the kind lines", { 1 }, { bins = 3 })
        fails("opts.by: it is for results and records", { 1 }, { by = "a" })
        fails("opts.logy: there is the value -1, a log axis needs values above 0", { -1 }, { logy = true })
        fails("opts.logz: there is the value 0", T.zeros { 2, 2 }, { logz = true })
        fails("opts.names: 1 names for 2 series", { { 1 }, { 2 } }, { names = { "a" } })
        fails("data: expected a tensor, a list of numbers", nil)
        fails("data: expected a tensor, a list of numbers", 5)
        fails("data: it is empty", {})
        fails("data[2]: expected a number, got \"a\"", { 1, "a" })
        fails("data.a: expected a list of numbers, a tensor or a series, got true", { a = true })
        fails('data.a: unknown option "why"', { a = { why = { 1 } } })
        fails("opts.x: 1 values, the series has 2", { 1, 2 }, { x = { 1 } }, "shape_mismatch")
        fails("expected a tensor of one or two dimensions, got 3", T.zeros { 1, 2, 3 }, {}, "shape_mismatch")
        fails("data.a.error[2]: expected a distance of at least 0, got -1", { a = { y = { 1, 2 }, error = { 1, -1 } } })
        fails("data.a.high: it is missing beside the other end", { a = { y = { 1 }, low = { 1 } } })
        fails("data.a.low[1]: 3 is above high, 2", { a = { y = { 1 }, low = { 3 }, high = { 2 } } })
        fails("data[1].like: there is no series b", { { y = { 1 }, name = "a", like = "b" } })
        fails("out: x.jpg: expected a name that ends in .svg, .png or .pdf", { 1 }, { out = "x.jpg" })
    end)
end)

describe("a chart", function()
    setup(function() os.execute("mkdir -p " .. files.folder) end)
    teardown(files.done)

    it("has its first row on top, of a tensor and of records", function()
        local records = {}
        for y = 1, 3 do for x = 1, 2 do records[#records + 1] = { x = x, y = y, z = 10 * y + x } end end
        for _, chart in ipairs { steer.plot(T.from { { 11, 12 }, { 21, 22 }, { 31, 32 } }),
            steer.plot(records, { x = "x", y = "y", z = "z" }) } do
            assert_found(chart:text(60), "1 · 11.*2 [^\n]* 21.*3 [^\n]* 31")
            assert_found(gnuplot.script(chart.chart, "x", { "svg" }), "set yrange %[3.5:0.5%]")
        end
    end)

    it("draws many bars as text in a time that grows with their number", function()
        local bars, from = {}, os.clock()
        for i = 1, 20000 do bars["k" .. i] = i end
        local _, lines = steer.plot(bars):text(80):gsub("\n", "")
        assert.equal(20000, lines)
        assert.is_true(os.clock() - from < 10) -- 0.3 seconds; 13 when each bar looked for its place among all
    end)

    it("prints as one line", function()
        assert.equal("[chart lines, 1 series of 2 points, 960x560, not saved]", tostring(steer.plot { 1, 2 }))
        assert.equal("[chart a\\nb: heatmap, 2 x 3 cells, 300x200, not saved]",
            tostring(steer.plot(T.zeros { 2, 3 }, { title = "a\nb", size = { 300, 200 } })))
        local text = tostring(steer.plot({ 1, 2 }, { kind = "histogram" }))
        assert_found(text, "histogram, 1 series of 2 values in 2 bins")
    end)

    it("is text in the terminal without gnuplot: heatmaps, bars and histograms", function()
        local chart = steer.plot(T.from { { 0, 1 }, { 2, 4 } }, { x = { "no", "yes" }, zlabel = "p", best = "max" })
        assert.equal(table.concat({ "row", "1 · 0         ░ 1", "2 ▒ 2         █ 4", "    no          yes",
            "0 ·░▒▓█ 4  p", "best: 4 at yes, row 2", "" }, "\n"), chart:text(40))
        local coloured = chart:text(40, 20, true)
        assert_found(coloured, "\27%[38;5;15;48;5;%d+m%s+0%s+\27%[0m") -- white on dark
        assert_found(coloured, "\27%[38;5;16;48;5;%d+m%s+4%s+\27%[0m") -- black on light
        assert_found(chart:text(40, 20, 24), "48;2;68;1;84m") -- of 24 bits
        chart = steer.plot({ lda = 1, pca = -0.5 }, { format = "%.2f" })
        assert.is_true(#steer.plot({ a = 1e300, b = -1e300 }, { ylim = { 0, 1 } }):text(40) < 300)
        assert_found(chart:text(40), "^lda +[█]+ 1%.00\npca [█▋]+ +%-0%.50\n$")
        chart = steer.plot({ 1, 1, 2 }, { kind = "histogram", xlabel = "n" })
        assert_found(chart:text(40), "^n +count\n0%.5 … 1%.5  [█]+ 2\n1%.5 … 2%.5  [█▌]+ +1\n$")
        for _, width in ipairs { 20, 40, 80, 200 } do
            for _, source in ipairs { T.randn({ 40, 300 }, { seed = 1 }), { lda = 1, ["a long name of it"] = 2 } } do
                for line in steer.plot(source, { title = ("t"):rep(300) }):text(width):gmatch "[^\n]+" do
                    assert.is_true(count(line, "[^\128-\191]") <= width, line)
                end
            end
        end
        assert_found(steer.plot(T.ones { 100, 300 }):text(80), "%(each cell is the mean of 3 x 8")
    end)

    it("is what the README shows", function()
        local readme = files.get "README.md"
        local text, shown = readme:match "\n### Plots\n.-\n```\n(.-)```\n\n```\n(.-)```"
        local printed = {}
        local env = setmetatable({ steer = steer, print = function(x) printed[#printed + 1] = tostring(x) end },
            { __index = _G })
        setfenv(assert(loadstring(text)), env)()
        assert.equal(shown, (table.concat(printed, "\n"):gsub("\n\n+$", "\n")))
    end)

    drawing("is drawn by gnuplot where it has lines, some of many", function()
        local text = steer.plot(layers(32), { ylabel = "P", legend = "layer", best = "max", title = "t" }):text(90, 24)
        assert_found(text, "^t\nP\n")
        assert_found(text, "layer:  A 0  B 4  .*I 31\n")
        assert_found(text, "%(9 of 32 series; a picture has all%)\nbest: 27.9 at 9, layer 31\n$")
        assert_absent(text, "\27")
        assert_found(steer.plot({ 1, 2 }):text(60, 20, 256), "\27%[38;5;%d+m")
    end)

    drawing("is written as the pictures that are asked for", function()
        local chart = steer.plot({ 1, 2 }, { out = files.path "a.svg" })
        assert.same({ svg = files.path "a.svg", tsv = files.path "a.tsv", gp = files.path "a.gp" }, chart.files)
        assert_found(tostring(chart), "a%.svg%]$")
        local written = chart:save(files.path "b.png")
        assert.equal("\137PNG", files.get(written.png):sub(1, 4))
        assert.equal("%PDF", files.get(chart:save(files.path "c.pdf").pdf):sub(1, 4))
        for _, kind in ipairs { "lines", "scatter", "bars", "histogram", "heatmap" } do
            local drawn = steer.plot({ { 1, 2, 0 / 0 }, { 3, -4, 5 } },
                { kind = kind, out = files.path(kind), palette = "viridis", title = "é `x` \"y\" %d\\" })
            assert_found(files.get(drawn.files.svg), ">é `x` \"y\" %%d\\<")
            assert.equal("\137PNG", files.get(drawn.files.png):sub(1, 4))
        end
        files.fails("invalid_argument", "self: expected what steer.plot gives, got nothing", chart.save)
    end)

    drawing("draws texts as they are and lets none of them act", function()
        local nasty = { "`touch " .. files.path "pwned" .. "`", "it's", "100%", "a_b^c", 'q"\\n', "$x @y {z}",
            "<b>&amp;", "&#x41;", "''", '"', "\\", "é漢😀", "#hash", "%d%s", "END_OF_DATA", "e\27[31m\194\155m\tx" }
        local function clean(word) return (word:gsub("%c", " "):gsub("\194\155", " ")) end
        local function as_xml(word) return (clean(word):gsub("&", "&amp;"):gsub("<", "&lt;")) end
        local series, bars, cells = {}, {}, {}
        for i, word in ipairs(nasty) do
            series[i], bars[word], cells[i] = { name = word, y = { i, i + 1 } }, i, { i, 2 * i }
        end
        for i, source in ipairs { series, bars, cells } do
            local word = nasty[i]
            local chart = steer.plot(source, { kind = ({ "lines", "bars", "heatmap" })[i], out = files.path "nasty.svg",
                title = word, xlabel = word, ylabel = word, y = i == 3 and nasty or nil, size = { 1600, 1200 },
                hline = i < 3 and { at = 1, label = word } or nil, best = "max", legend = i < 3 and word or nil })
            local svg, text = files.get(chart.files.svg), chart:text(200, 60)
            for _, each in ipairs(i == 1 and { word } or nasty) do
                assert(svg:find(">" .. as_xml(each) .. "<", 1, true), ("expected %q in:\n%s"):format(each, svg))
                assert(text:find(clean(each), 1, true), ("%q is not in:\n%s"):format(each, text))
            end
            assert_absent(text, "\27")
            for _, each in ipairs(i == 1 and nasty or {}) do
                assert(svg:find(">" .. as_xml(each) .. "<", 1, true), ("expected %q in:\n%s"):format(each, svg))
            end
        end
        assert.is_nil(io.open(files.path "pwned"))
    end)

    drawing("leaves no file behind where it could not be drawn", function()
        local folder = files.path "bad"
        os.execute(("mkdir -p %s && ln -sf /dev/full %s/x.png"):format(folder, folder))
        files.fails("io", "did not write", steer.plot, { 1, 2 }, { out = folder .. "/x" })
        local pipe = io.popen("ls " .. folder)
        assert.equal("x.png\n", pipe:read "*a") -- the link that was there before
        pipe:close()
        files.fails("invalid_argument", "opts.logy", steer.plot, { -1 }, { logy = true, out = folder .. "/y" })
        assert.is_nil(io.open(folder .. "/y.tsv"))
    end)
end)
