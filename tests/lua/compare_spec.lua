--- steer compare: verdicts, matching, formats, exit status and bad input.
local files = require "files"
local helper = require "helper"
local steer = require "steer"
local sweeps = require "sweeps"

local samples, ok = sweeps.samples, sweeps.ok

-- A file whose cases are hidden=1..n with the given centres of gpu_us.
local function times(name, centres, spread, n)
    local lines = {}
    for i, centre in ipairs(centres) do
        local list = samples(centre, spread, n)
        lines[i] = ok({ hidden = i }, { gpu_us = centre }, { gpu_us = list })
    end
    return sweeps.write(name, { "hidden" }, lines)
end

-- The verdict, and its reason, on one case.
local function verdict(old, new, opts)
    local function one(name, list)
        local median = steer.bench.stats(list).median
        local line = ok({ hidden = 1 }, { gpu_us = median }, #list > 1 and { gpu_us = list } or nil)
        return sweeps.write(name, { "hidden" }, { line })
    end
    local row = steer.compare(one("old.jsonl", old), one("new.jsonl", new), opts).rows[1]
    return row.verdict, row.reason
end

local assert_found = helper.found

describe("steer.compare", function()
    teardown(files.done)

    it("calls a case faster or slower only where the intervals lie apart", function()
        assert.equal("SLOWER", (verdict(samples(100), samples(102))))
        assert.equal("FASTER", (verdict(samples(102), samples(100))))
        assert.equal("SAME", (verdict(samples(100), samples(100.1))))
        local word, why = verdict(samples(100, 2), samples(102, 2))
        assert.equal("AMBIGUOUS", word)
        assert_found(why, "medians differ")
    end)

    it("takes the minimum and the third quartile as the interval, so that slow outliers do not matter", function()
        local old = samples(100)
        for i = 1, 4 do old[i] = 1000 end
        assert.equal("SAME", (verdict(old, samples(100))))
        local new = samples(100)
        new[1] = 90 -- one fast sample is evidence
        local word = verdict(samples(95), new)
        assert.equal("AMBIGUOUS", word)
    end)

    it("keeps a gap below the threshold ambiguous", function()
        local word, why = verdict(samples(100, 0.01), samples(100.3, 0.01))
        assert.equal("AMBIGUOUS", word)
        assert_found(why, "less than the gap")
        assert.equal("SLOWER", (verdict(samples(100, 0.01), samples(100.3, 0.01), { gap = 0.1 })))
    end)

    it("does not call noisy cases the same", function()
        local word, why = verdict(samples(100, 20), samples(100.1, 20))
        assert.equal("AMBIGUOUS", word)
        assert_found(why, "noisy")
    end)

    it("does not judge a few samples, unless they are equal", function()
        local word, why = verdict(samples(100, 0.1, 3), samples(200, 0.1, 3))
        assert.equal("AMBIGUOUS", word)
        assert_found(why, "fewer than 5")
        assert.equal("SAME", (verdict({ 0.5 }, { 0.5 })))
        assert.equal("AMBIGUOUS", (verdict({ 0.5 }, { 0.6 })))
    end)

    it("copes with zero and negative values", function()
        assert.equal("SAME", (verdict(samples(0), samples(0))))
        assert.equal("SLOWER", (verdict(samples(-102), samples(-100))))
        assert.equal("FASTER", (verdict(samples(0), samples(-100))))
    end)

    it("matches cases by content, in any order, and lists those of one side", function()
        local line = function(a, b) return ok({ a = a, b = b }, nil, { gpu_us = samples(a * 10) }) end
        local old = sweeps.write("old.jsonl", { "a", "b" }, { line(1, "x"), line(2, "x"), line(3, "x") })
        local new = sweeps.write("new.jsonl", { "b", "a" }, { line(3, "x"), line(2, "x"), line(4, "x") })
        local result = steer.compare(old, new)
        assert.equal(2, result.counts.SAME)
        assert.same({ { a = 1, b = "x" } }, result.only_old)
        assert.same({ { a = 4, b = "x" } }, result.only_new)
        assert_found(tostring(result), "only in OLD: b=x a=1\n")
        assert_found(tostring(result), "only in NEW: b=x a=4\n")
    end)

    it("tells the number 1 from the text 1", function()
        local old = sweeps.write("old.jsonl", { "a" },
            { ok({ a = 1 }, { t_s = 1 }), ok({ a = "1" }, { t_s = 2 }) })
        local result = steer.compare(old, old)
        assert.equal(2, result.counts.SAME)
    end)

    it("lists what was skipped or failed with the reason", function()
        local good = ok({ hidden = 1 }, { gpu_us = 1 })
        local bad = { case = { hidden = 1 }, status = "failed", reason = "out of memory" }
        local old, new = sweeps.write("old.jsonl", { "hidden" }, { good }),
            sweeps.write("new.jsonl", { "hidden" }, { bad })
        local row = steer.compare(old, new).rows[1]
        assert.same({ "NOT COMPARED", "NEW failed: out of memory" }, { row.verdict, row.reason })
        row = steer.compare(new, old).rows[1]
        assert.same({ "NOT COMPARED", "OLD failed: out of memory" }, { row.verdict, row.reason })
    end)

    it("compares every time by default and other metrics when asked", function()
        local line = ok({ hidden = 1 }, { gpu_us = 1, wall_us = 2, norm = 3 })
        local path = sweeps.write("old.jsonl", { "hidden" }, { line })
        assert.same({ "gpu_us", "wall_us" }, steer.compare(path, path).metrics)
        assert.same({ "norm" }, steer.compare(path, path, { metric = "norm" }).metrics)
        files.fails("invalid_argument", 'did you mean "norm"', steer.compare, path, path, { metric = "nrom" })
        files.fails("invalid_argument", 'no metric "kl": the metrics are gpu_us, norm, wall_us', steer.compare, path,
            path, { metric = "kl" })
        assert.same({ "gpu_us", "norm", "wall_us" }, steer.compare(path, path, { metric = "all" }).metrics)
        assert_found(tostring(steer.compare(path, path)), "note: not compared: norm; metric = \"all\" compares them")
        assert_found(tostring(steer.compare(path, path, nil, true)), "; %-%-metric names metrics, or all")
        local other = sweeps.write("other.jsonl", { "hidden" }, { ok({ hidden = 1 }, { norm = 3, kl = 1 }) })
        assert.same({ "kl", "norm" }, steer.compare(other, other).metrics)
    end)

    it("does not take null for a number", function()
        local path = sweeps.write("old.jsonl", { "hidden" }, { ok({ hidden = 1 }, { gpu_us = 0 / 0 }),
            ok({ hidden = 2 }, { gpu_us = 1 }, { gpu_us = { 1, 0 / 0, 3 } }) })
        local result = steer.compare(path, path)
        assert.equal(2, result.not_compared)
        assert_found(result.rows[1].reason, "gpu_us is not a number")
        assert_found(result.rows[2].reason, "samples that are not numbers")
    end)

    it("says when the device differs and when a case was measured twice", function()
        local one = ok({ hidden = 1 }, { gpu_us = 1 })
        local old = sweeps.write("old.jsonl", { "hidden" }, { one, one })
        local new = sweeps.write("new.jsonl", { "hidden" },
            { ok({ hidden = 1 }, { gpu_us = 1 }, nil, { device = "cuda:0" }) })
        local text = tostring(steer.compare(old, new))
        assert_found(text, "note: the device differs: cpu and cuda:0")
        assert_found(text, "note: hidden=1 was measured more than once %(lines 2 and 3 of ")
    end)

    it("refuses other sweeps, strangers and files without a common case", function()
        local good = times("good.jsonl", { 1 })
        local other = sweeps.write("other.jsonl", { "hidden" }, { ok({ hidden = 1 }, { gpu_us = 1 }) }, "another")
        files.fails("invalid_argument", 'holds the sweep "another"', steer.compare, good, other)
        local apart = sweeps.write("apart.jsonl", { "hidden" }, { ok({ hidden = 9 }, { gpu_us = 1 }) })
        files.fails("invalid_argument", "no case in common", steer.compare, good, apart)
        files.fails("io", "nowhere.jsonl", steer.compare, good, "/nonexistent/nowhere.jsonl")
        files.fails("format", "stranger", steer.compare, good, files.put("stranger", "hello\n"))
        files.fails("format", "it is empty", steer.compare, good, files.put("empty", ""))
        files.fails("invalid_argument", "it has no cases", steer.compare, good, sweeps.write("none", { "hidden" }, {}))
        files.fails("format", "line 3 is foreign", steer.compare, good,
            files.put("foreign", files.get(good) .. "{}\n" .. files.get(good)))
        files.fails("invalid_argument", "old: expected", steer.compare, nil, good)
        files.fails("invalid_argument", 'did you mean "metric"', steer.compare, good, good, { metrik = "x" })
        files.fails("invalid_argument", "opts.gap: -1", steer.compare, good, good, { gap = -1 })
        files.fails("invalid_argument", 'no axis "hiden"', steer.compare, good, good, { filter = { hiden = 1 } })
        files.fails("invalid_argument", "no case has hidden=7, there are 1", steer.compare, good, good,
            { filter = { hidden = 7 } })
    end)

    it("reads a file whose last line is torn", function()
        local good = times("good.jsonl", { 1, 2 })
        local text = files.get(good)
        local result = steer.compare(good, files.put("torn.jsonl", text:sub(1, #text - 30)))
        assert.equal(1, #result.rows)
        assert.equal(1, #result.only_old)
    end)
end)

describe("steer.compare of metrics that are no times", function()
    teardown(files.done)
    setup(function() os.execute("mkdir -p " .. files.folder) end)

    local function mean(list)
        local sum = 0
        for _, x in ipairs(list) do sum = sum + x end
        return sum / #list
    end

    -- A file of one case; a list of numbers is samples with their mean.
    local function one(name, metrics)
        local numbers, lists = {}, {}
        for metric, value in pairs(metrics) do
            numbers[metric] = type(value) == "table" and mean(value) or value
            lists[metric] = type(value) == "table" and value or nil
        end
        return sweeps.write(name, { "layer" }, { ok({ layer = 5 }, numbers, lists) }, "mood")
    end

    local function row_of(old, new, opts)
        return steer.compare(one("old.jsonl", { x = old }), one("new.jsonl", { x = new }), opts).rows[1]
    end

    -- As in statistics_spec.lua, where the intervals come from.
    local OLD = { 0.31, 0.28, 0.44, 0.52, 0.39, 0.61, 0.27, 0.33, 0.48, 0.36, 0.41, 0.29 }
    local NEW = { 0.42, 0.35, 0.40, 0.66, 0.51, 0.60, 0.38, 0.47, 0.55, 0.37, 0.52, 0.45 }

    it("takes one number of each side as it stands", function()
        assert.equal("HIGHER", row_of(0.5, 0.6).verdict)
        assert.equal("LOWER", row_of(0.5, -0.5).verdict)
        assert.equal("HIGHER", row_of(0, 1e-9).verdict)
        assert.equal("SAME", row_of(0.5, 0.5).verdict)
        assert.equal("SAME", row_of(0.5, 0.5000001).verdict) -- rounding
        assert.equal("SAME", row_of(0.5, 0.51, { same = 5 }).verdict)
    end)

    it("pairs samples by their place: difference, bootstrap interval, sign test", function()
        local row = row_of(OLD, NEW)
        assert.equal("HIGHER", row.verdict)
        assert.near(0.0825, row.difference, 1e-12)
        assert.near(0.0392, row.low, 0.004)
        assert.near(0.1200, row.high, 0.004)
        assert.same({ 10, 2, 0 }, { row.sign.up, row.sign.down, row.sign.ties })
        assert.near(0.03857421875, row.sign.p, 1e-12)
        assert.equal("LOWER", row_of(NEW, OLD).verdict)
    end)

    it("does not pair what is not of the same prompts", function()
        local row = row_of(OLD, NEW, { paired = false })
        assert.is_nil(row.sign)
        assert.near(-0.0100, row.low, 0.004)
        assert.near(0.1733, row.high, 0.004)
        assert.equal("AMBIGUOUS", row.verdict)
        row = row_of(OLD, { unpack(OLD, 1, 11) })
        assert.same({ "AMBIGUOUS", "the interval holds 0" }, { row.verdict, row.reason })
        assert.is_nil(row.sign)
    end)

    it("finds a small shift of every pair that the spread of the prompts would hide", function()
        local shifted, half = {}, {}
        for i, x in ipairs(OLD) do shifted[i], half[i] = x + 0.01, x + (i % 2 == 0 and 0.01 or -0.01) end
        assert.equal("HIGHER", row_of(OLD, shifted).verdict)
        assert.equal("AMBIGUOUS", row_of(OLD, shifted, { paired = false }).verdict)
        assert.equal("AMBIGUOUS", row_of(OLD, half).verdict)
        assert.equal("SAME", row_of(OLD, half, { same = 5 }).verdict)
    end)

    it("does not judge by fewer than five samples", function()
        local row = row_of({ 1, 2, 3 }, { 2, 3, 5 })
        assert.same({ "AMBIGUOUS", "fewer than 5 samples" }, { row.verdict, row.reason })
        assert.equal("SAME", row_of({ 1, 2, 3 }, { 1, 2, 3 }).verdict)
    end)

    it("takes what was returned before its samples", function()
        local function own(name, value)
            return sweeps.write(name, { "layer" }, { ok({ layer = 5 }, { x = value }, { x = OLD }) }, "mood")
        end
        local row = steer.compare(own("old.jsonl", 7), own("new.jsonl", 8)).rows[1]
        assert.same({ "HIGHER", "no interval: it is no mean or median of its samples", 1 },
            { row.verdict, row.reason, row.difference })
    end)

    it("calls a file the same as itself, whatever is in it", function()
        local path = sweeps.write("self.jsonl", { "layer" }, {
            ok({ layer = 1 }, { x = 0.5, t_us = 4, y_per_s = 2, z = -1 },
                { x = OLD, t_us = { 1, 9, 4, 30, 2 }, z = { 1, -3 } }),
            ok({ layer = 2 }, { x = 1, t_us = 1, y_per_s = 1, z = 0 }) }, "mood")
        local result = steer.compare(path, path, { metric = "all" })
        assert.same({ 8, 8 }, { result.compared, result.counts.SAME })
        assert.is_false(result:fails "any")
    end)

    it("knows which direction is better from the name or from what it is told", function()
        local old, new = one("old.jsonl", { kl = 1, accuracy = 1, x = 1, y_per_s = samples(1) }),
            one("new.jsonl", { kl = 2, accuracy = 2, x = 2, y_per_s = samples(2) })
        local function better(opts)
            local found = {}
            for _, row in ipairs(steer.compare(old, new, opts).rows) do
                assert.equal("HIGHER", row.verdict)
                found[row.metric] = row.better == nil and "unknown" or row.better
            end
            return found
        end
        assert.same({ kl = false, accuracy = true, x = "unknown", y_per_s = true }, better())
        assert.same({ kl = false, accuracy = false, x = false, y_per_s = false }, better { better = "lower" })
        assert.same({ kl = true, accuracy = true, x = false, y_per_s = true },
            better { better = "kl=higher,x=lower" })
        assert.same({ kl = true, x = false }, better { better = { kl = "higher", x = "lower" },
            metric = { "kl", "x" } })
        local result = steer.compare(old, new, { metric = { "accuracy", "x" }, better = { x = "higher" } })
        assert.same({ false, true }, { result:fails "worse", result:fails "better" })
        assert.same({ true, false }, { result:fails "higher", result:fails "lower" })
        assert.is_true(steer.compare(new, old, { better = "higher" }):fails "worse")
        local unknown = steer.compare(old, new, { metric = "x" })
        files.fails("invalid_argument", "x: which direction is better? better = \"x=higher\" says it",
            unknown.fails, unknown, "worse")
        files.fails("invalid_argument", 'better: "up", expected higher, lower', steer.compare, old, new,
            { better = "up" })
        files.fails("invalid_argument", 'better: "norm" is not compared', steer.compare, old, new,
            { better = "norm=lower" })
    end)

    it("joins repeats, and pairs them where both files have the same ones", function()
        local function repeated(name, list, from)
            local lines = {}
            for i, x in ipairs(list) do lines[i] = ok({ layer = 5, repeats = i + from }, { x = x }) end
            return sweeps.write(name, { "layer", "repeats" }, lines, "mood")
        end
        local row = steer.compare(repeated("old.jsonl", OLD, 0), repeated("new.jsonl", NEW, 0)).rows[1]
        assert.same({ layer = 5 }, row.case)
        assert.same({ "HIGHER", 10 }, { row.verdict, row.sign.up })
        assert.near(0.0825, row.difference, 1e-12)
        row = steer.compare(repeated("old.jsonl", OLD, 0), repeated("new.jsonl", NEW, 3)).rows[1]
        assert.is_nil(row.sign)
        row = steer.compare(repeated("old.jsonl", OLD, 0), repeated("new.jsonl", { 1, 2, 3 }, 0)).rows[1]
        assert.same({ "AMBIGUOUS", "fewer than 5 repeats" }, { row.verdict, row.reason })
    end)

    it("says that a time of repeats is their mean, and names all their devices", function()
        local function repeated(name, more)
            local lines = {}
            for i = 1, 6 do
                lines[i] = ok({ layer = 5, repeats = i }, { t_us = i == 6 and 200 or 100 + i / 10 + more }, nil,
                    { device = "cuda:" .. i % 2 })
            end
            return sweeps.write(name, { "layer", "repeats" }, lines, "mood")
        end
        local text = tostring(steer.compare(repeated("old.jsonl", 0), repeated("new.jsonl", 20)))
        assert_found(text, "^mood: mean %[min, q3%] of t %(µs%)\n")
        assert_found(text, "116%.9 %[100%.1, 100%.5%]  133%.6 %[120%.1, 120%.5%]  %+14%.3 %%  SLOWER")
        assert.is_nil(text:find "the device differs")
        local single = sweeps.write("single.jsonl", { "layer", "repeats" },
            { ok({ layer = 5, repeats = 1 }, { t_us = 1 }, nil, { device = "cuda:0" }) }, "mood")
        assert_found(tostring(steer.compare(single, repeated("new.jsonl", 20))),
            "the device differs: cuda:0 and cuda:0, cuda:1")
    end)

    it("writes the difference, its interval and the sign test", function()
        local old, new = one("old.jsonl", { x = OLD, kl = 0.5 }), one("new.jsonl", { x = NEW, kl = 0.25 })
        local text = tostring(steer.compare(old, new))
        assert_found(text, "^mood: kl, NEW %- OLD\nmood: x, NEW %- OLD with its 95 %% interval %(bootstrap of pairs, "
            .. "5000 resamples%)\nOLD ")
        assert_found(text, "\nmetric  OLD +NEW +change  sign test +verdict\n")
        assert_found(text, "\nkl +0%.5  +0%.25 +%-0%.25  %- +LOWER %(better%)\n")
        assert_found(text, "\nx +0%.3908  0%.4733  %+0%.0825 %[%+0%.0%d+, %+0%.1%d+%]  10 up, 2 down, p 0%.039  "
            .. "HIGHER\n")
        assert_found(text, "\n1 HIGHER, 1 LOWER, 0 SAME, 0 AMBIGUOUS\n")
        local csv = steer.compare(old, new)
        assert_found(require("steer.compare").formats.csv(csv),
            "\n5,x,0%.39%d*,0%.32%d*,0%.45%d*,12,0%.47%d*,0%.4%d*,0%.5%d*,12,0%.2%d*,0%.08%d*,0%.03%d*,0%.12%d*,10,2,"
                .. "0%.038574218750*%d*,HIGHER,,\n")
    end)

    it("compares the metrics that both have, and says which are left out", function()
        local old = sweeps.write("old.jsonl", { "n" }, { ok({ n = 1 }, { x = 1, y = 1 }) })
        local new = sweeps.write("new.jsonl", { "n" }, { ok({ n = 1 }, { x = 1, z = 1 }) })
        local text = tostring(steer.compare(old, new))
        assert_found(text, "1 SAME, 0 AMBIGUOUS\nnote: not compared: y, z; ")
        assert_found(tostring(steer.compare(old, new, { metric = "all" })), "2 not compared")
        local other = sweeps.write("other.jsonl", { "n" }, { ok({ n = 1 }, { z = 1 }) })
        files.fails("invalid_argument", "other.jsonl has the metrics z; ", steer.compare, old, other)
    end)

    local function grid(name, list, content)
        local path = files.path(name)
        os.remove(path)
        local writer = require("steer.record").create("test", path, { name = "mood", axes = { layer = { 5 } },
            order = { "layer" }, seed = 1, version = "1", content = content })
        writer:add(ok({ layer = 5 }, { x = mean(list) }, { x = list }))
        writer:close()
        return path
    end

    it("refuses grids of different operations, whose strengths do not mean the same", function()
        local add, ablate = grid("add.jsonl", OLD, '{"op":"add"}'), grid("ablate.jsonl", NEW, '{"op":"ablate"}')
        files.fails("invalid_argument", 'ablate.jsonl steers with "ablate", but ', steer.compare, add, ablate)
        local own = grid("own.jsonl", NEW, '{"op":"#12ab"}')
        files.fails("invalid_argument", 'add.jsonl steers with "add", but ', steer.compare, own, add)
        files.fails("invalid_argument", "own.jsonl steers with a function, but ", steer.compare, add, own)
        assert_found(tostring(steer.compare(own, grid("edited.jsonl", OLD, '{"op":"#34cd","twin":true}'))),
            "note: the contents differ in op, twin: samples at the same place count as pairs; paired = false if")
    end)

    it("says that samples are paired by their place where the files may have other prompts", function()
        local old = grid("old.jsonl", OLD, "a")
        assert_found(tostring(steer.compare(old, grid("new.jsonl", NEW, "b"))),
            "note: the contents differ: .*paired = false")
        assert_found(tostring(steer.compare(old, files.path "new.jsonl", nil, true)), "; %-%-unpaired if they")
        assert.is_nil(tostring(steer.compare(old, grid("new.jsonl", NEW, "a"))):find "note:")
    end)

    it("warns of many intervals", function()
        local function many(name, list)
            local lines = {}
            for layer = 1, 40 do lines[layer] = ok({ layer = layer }, { x = mean(list) }, { x = list }) end
            return sweeps.write(name, { "layer" }, lines, "mood")
        end
        assert_found(tostring(steer.compare(many("old.jsonl", OLD), many("new.jsonl", NEW))),
            "note: 40 intervals at 95 %%: about 2 of them would leave out 0 by chance alone")
    end)
end)

describe("steer compare", function()
    teardown(files.done)
    local old, slower

    setup(function()
        os.execute("mkdir -p " .. files.folder)
        old = times("a.jsonl", { 100, 200 })
        times("b.jsonl", { 100, 150 })
        slower = times("c.jsonl", { 100, 250 })
    end)

    it("prints a table and exits with 0", function()
        local output, errors, status = sweeps.steer(("compare %s %s"):format(old, slower))
        assert.equal("", errors)
        assert.equal(0, status)
        assert_found(output, "\nhidden  OLD +NEW +change  verdict\n")
        assert_found(output, "\n2 +200 %[199%.6, 200%.2%] +250 %[249%.5, 250%.3%] +%+25%.0 %%  SLOWER\n")
        assert_found(output, "\n0 FASTER, 1 SLOWER, 1 SAME, 0 AMBIGUOUS\n")
    end)

    it("exits with 3 where --fail-on is met", function()
        for row in ([[slower c 3, slower b 0, slower a 0, faster b 3, faster c 0, any c 3, any b 3, any a 0]])
            :gmatch("[^,]+") do
            local what, name, expected = row:match("(%w+) (%w) (%d)")
            local _, _, status = sweeps.steer(("compare %s %s --fail-on %s"):format(old, files.path(name .. ".jsonl"),
                what))
            assert.equal(tonumber(expected), status, row)
        end
    end)

    it("counts a case that fails now as slower, and one that failed before not", function()
        local failed = sweeps.write("failed.jsonl", { "hidden" }, { ok({ hidden = 1 }, nil, { gpu_us = samples(100) }),
            { case = { hidden = 2 }, status = "failed", reason = "no memory" } })
        local output, _, status = sweeps.steer(("compare %s %s --fail-on slower"):format(old, failed))
        assert.equal(3, status)
        assert_found(output, "NOT COMPARED: NEW failed: no memory")
        _, _, status = sweeps.steer(("compare %s %s --fail-on slower"):format(failed, old))
        assert.equal(0, status)
        _, _, status = sweeps.steer(("compare %s %s --fail-on any"):format(failed, failed))
        assert.equal(0, status)
    end)

    it("takes the better direction and unpaired samples", function()
        local function one(name, x)
            return sweeps.write(name, { "n" }, { ok({ n = 1 }, { x = x }) })
        end
        local before, after = one("x1.jsonl", 1), one("x2.jsonl", 2)
        for arguments, expected in pairs { ["--fail-on worse --better lower"] = 3, ["--fail-on worse"] = 1,
            ["--fail-on worse --better x=higher --unpaired"] = 0, ["--better sideways"] = 1 } do
            local _, _, status = sweeps.steer(("compare %s %s %s"):format(before, after, arguments))
            assert.equal(expected, status, arguments)
        end
    end)

    it("writes markdown and CSV", function()
        local output = sweeps.steer(("compare %s %s --format markdown"):format(old, slower))
        assert_found(output, "\n| hidden | OLD | NEW | change | verdict |\n| %-%-%- | %-%-%- | %-%-%- | %-%-%-: |")
        output = sweeps.steer(("compare %s %s --format csv"):format(old, slower))
        assert_found(output, "^hidden,metric,old,old_low,old_high,old_n,")
        assert_found(output, "\n2,gpu_us,200,199%.[56]%d*,200%.[12]%d*,20,250,249%.5,250%.2%d*,20,0%.25,50,,,,,,SLOWER,"
            .. "false,\n")
    end)

    it("keeps odd names apart in markdown and CSV", function()
        local path = sweeps.write("odd.jsonl", { "a" }, { ok({ a = 'x,"|y' }, { t_s = 1 }),
            ok({ a = "z" }, { t_s = 1 }) })
        assert_found(sweeps.steer(("compare %s %s --format csv"):format(path, path)), '\n"x,""|y",t_s,1,')
        assert_found(sweeps.steer(("compare %s %s --format markdown"):format(path, path)), '\n| x,"\\|y | ')
    end)

    it("escapes control characters, except in CSV, which holds values as they are", function()
        local value = "a\27[31m\n\194\155b\127é"
        local path = sweeps.write("control.jsonl", { "a" }, { ok({ a = value }, { ["t\27_s"] = 1 }),
            { case = { a = "z" }, status = "failed", reason = "no\27[2J\nmore" } })
        local apart = sweeps.write("control_apart.jsonl", { "a" }, { ok({ a = "z" }, { ["t\27_s"] = 1 }) })
        for _, format in ipairs { "text", "markdown" } do
            for _, other in ipairs { path, apart } do
                local output = sweeps.steer(("compare %s %s --format %s"):format(path, other, format))
                assert_found(output, "t\\x1b %(s%)")
                assert_found(output, format == "markdown" and other == path
                    and "a\\\\x1b%[31m\\\\n\\\\u009bb\\\\x7fé"
                    or "a\\x1b%[31m\\n\\u009bb\\x7fé")
                assert.is_nil(output:gsub("\n", ""):find "%c")
            end
        end
        assert_found(sweeps.steer(("compare %s %s --format csv"):format(path, path)), "a\27%[31m\n\194\155b\127é")
    end)

    it("says why nothing was measured", function()
        local path = sweeps.write("nothing.jsonl", { "n" }, {
            { case = { n = 1 }, status = "failed", reason = "no device" },
            { case = { n = 2 }, status = "skipped", reason = "odd" } })
        local output, errors, status = sweeps.steer(("compare %s %s --fail-on any"):format(path, path))
        assert_found(output, "^speed: nothing was measured\n")
        assert_found(output, "\n1 .*NOT COMPARED: both failed: no device\n2 .*NOT COMPARED: both skipped: odd\n")
        assert_found(output, "0 SAME, 0 AMBIGUOUS, 2 not compared\n")
        assert.same({ "", 0 }, { errors, status })
        assert_found(sweeps.steer(("compare %s %s --format csv"):format(path, path)), "\n2,,,.*NOT COMPARED,,both sk")
        local measured = sweeps.write("measured.jsonl", { "n" }, { ok({ n = 1 }, { t_s = 1 }) })
        output = sweeps.steer(("compare %s %s"):format(path, measured))
        assert_found(output, "NOT COMPARED: OLD failed: no device\n")
    end)

    it("exits with 2 for wrong usage and 1 for bad files", function()
        for arguments, message in pairs {
            ["compare"] = "expected two results files, got 0", ["compare a"] = "got 1", ["compare a b c"] = "got 3",
            ["compare a b --fial-on=any"] = "did you mean '%-%-fail%-on'",
            ["compare a b --format xml"] = "csv, markdown",
            ["compare a b --fail-on worst"] = "any, better, faster, higher, lower, slower or worse",
            ["compare a b --gap x"] = "%-%-gap: expected a number, got 'x'",
            ["compare a b --gap"] = "a value is missing", ["compare a b --unpaired=1"] = "it takes no value",
            ["compare a b --filter hidden"] = "expected AXIS=VALUE",
        } do
            local output, errors, status = sweeps.steer(arguments)
            assert.equal("", output)
            assert_found(errors, message)
            assert.equal(2, status)
        end
        local _, errors, status = sweeps.steer("compare /nonexistent/a /nonexistent/b")
        assert.equal(1, status)
        assert_found(errors, "io: compare: cannot open /nonexistent/a")
        local output = sweeps.steer "compare --help"
        assert_found(output, "^usage: steer compare OLD NEW")
    end)
end)
