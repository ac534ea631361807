--- Intervals, bootstrap and sign test against scipy.stats, and repeats of cases.
local files = require "files"
local record = require "steer.record"
local repeats = require "steer.sweep.repeats"
local results = require "steer.sweep.results"
local statistics = require "steer.sweep.statistics"
local steer = require "steer"
local sweeps = require "sweeps"

local ok = sweeps.ok

-- Accuracies of twelve prompts before and after.
local OLD = { 0.31, 0.28, 0.44, 0.52, 0.39, 0.61, 0.27, 0.33, 0.48, 0.36, 0.41, 0.29 }
local NEW = { 0.42, 0.35, 0.40, 0.66, 0.51, 0.60, 0.38, 0.47, 0.55, 0.37, 0.52, 0.45 }

describe("statistics", function()
    it("give Student's quantiles as scipy.stats.t.ppf(0.975, n)", function()
        for freedom, expected in pairs { [1] = 12.706204736, [2] = 4.302652730, [3] = 3.182446305, [4] = 2.776445105,
            [5] = 2.570581836, [12] = 2.178812830, [101] = 1.983731003, [199] = 1.971956544, [200] = 1.971896224,
            [201] = 1.971836507, [1000] = 1.962339081 } do
            assert.near(expected, statistics.student(freedom), 1e-6)
        end
    end)

    it("give the interval of a mean as scipy.stats.t.interval", function()
        local mean, low, high = statistics.mean_interval(OLD)
        assert.near(0.390833333333, mean, 1e-9)
        assert.near(0.323458086467, low, 1e-8)
        assert.near(0.458208580200, high, 1e-8)
        mean, low, high = statistics.mean_interval { 10, 12 }
        assert.equal(11, mean)
        assert.near(-1.706204736, low, 1e-8)
        assert.near(23.706204736, high, 1e-8)
        assert.same({ 7 }, { statistics.mean_interval { 7 } })
    end)

    -- scipy.stats.norm.cdf(-sqrt(n / (n - 1)) * scipy.stats.t.ppf(0.975, n - 1))
    it("take percentiles further out the fewer samples there are", function()
        for n, expected in pairs { [2] = 0, [5] = 0.000954101, [12] = 0.010756615, [100] = 0.023064387,
            [1000] = 0.024804306 } do
            assert.near(expected, statistics.tail(n), 1e-7)
        end
    end)

    -- numpy.quantile of the distribution that scipy.stats.bootstrap(n_resamples=400000) gives, at the tails for 12
    -- samples; 5000 resamples leave an error of about 0.003.
    it("bootstrap differences as scipy.stats.bootstrap does", function()
        for _, row in ipairs {
            { "mean", true, 0.03916667, 0.12 }, { "mean", false, -0.01, 0.17333333 },
            { "median", true, -0.01, 0.15 },
        } do
            local low, high = statistics.bootstrap(row[1], OLD, NEW, row[2])
            assert.near(row[3], low, 0.006)
            assert.near(row[4], high, 0.006)
            assert.same({ low, high }, { statistics.bootstrap(row[1], OLD, NEW, row[2]) })
        end
        assert.same({ 1, 1 }, { statistics.bootstrap("median", { 1, 2, 3 }, { 2, 3, 4 }, true) })
        local low, high = statistics.bootstrap("mean", { 1, 1 }, { 3, 3, 3 }, false)
        assert.same({ 2, 2 }, { low, high })
    end)

    it("give the sign test of scipy.stats.binomtest", function()
        for _, row in ipairs { { 5, 0, 0.0625 }, { 6, 0, 0.03125 }, { 9, 1, 0.021484375 }, { 7, 5, 0.7744140625 },
            { 1, 0, 1 }, { 0, 0, 1 }, { 30, 20, 0.202638751065 }, { 600, 500, 0.002819544991 } } do
            local old, new = { 1 }, { 1 } -- a tie
            for i = 1, row[1] + row[2] do old[i + 1], new[i + 1] = 0, i <= row[1] and 1 or -1 end
            local test = statistics.sign_test(old, new)
            assert.same({ row[1], row[2], 1 }, { test.up, test.down, test.ties })
            assert.near(row[3], test.p, 1e-9)
            assert.near(row[3], statistics.sign_test(new, old).p, 1e-9)
        end
        assert.near(0.03857421875, statistics.sign_test(OLD, NEW).p, 1e-12)
    end)
end)

describe("what a case returned", function()
    local function stats(metrics, samples, name)
        return results.stats({ status = "ok", metrics = metrics, samples = samples or {}, stats = {} }, name or "x")
    end

    it("counts before its samples, which say how far it is to be trusted", function()
        local s = stats({ x = 2.5 }, { x = { 1, 2, 3, 4 } })
        assert.same({ 2.5, "mean", "mean and 95 % interval" }, { s.value, s.centre, results.spread(s) })
        assert.near(0.445739743239, s.low, 1e-9)
        assert.near(4.554260256761, s.high, 1e-9)
        s = stats({ x = 2 }, { x = { 1, 2, 9 } })
        assert.same({ 2, "median", 1.5, 5.5, "median and quartiles" }, { s.value, s.centre, s.low, s.high,
            results.spread(s) })
        s = stats({ x = 7 }, { x = { 1, 2, 9 } })
        assert.same({ 7, 1.5, 5.5 }, { s.value, s.low, s.high })
        assert.equal("value and quartiles of its samples", results.spread(s))
        assert.is_nil(s.centre)
        s = stats({ t_s = 2 }, { t_s = { 1, 2, 3 } }, "t_s") -- the mean too, but of times it is the median
        assert.same({ "median", 1.5, 2.5 }, { s.centre, s.low, s.high })
        s = stats { x = 3 }
        assert.same({ 3, 3, 3, "value" }, { s.value, s.low, s.high, results.spread(s) })
        assert.same({ 2 }, { stats({}, { x = { 1, 2, 9 } }).value })
        assert.same({ nil, "x is not a number" }, { stats({ x = 0 / 0 }, { x = { 1 } }) })
    end)
end)

describe("repeats", function()
    teardown(files.done)
    setup(function() os.execute("mkdir -p " .. files.folder) end)

    it("are an axis of the sweep, each with a seed of its own", function()
        local path, seeds, case = files.path("repeats.jsonl"), {}, nil
        local sweep = steer.sweep { name = "trial", axes = { n = { 1, 2 } }, repeats = 3, run = function(c, ctx)
            seeds[ctx.seed], case = true, c
            return { x = 10 * c.n + c.repeats, t_us = 5 }
        end }
        assert.same({ "n", "repeats" }, sweep:order())
        sweep:start { output = path, device = "cpu", progress = false }
        local count = 0
        for _ in pairs(seeds) do count = count + 1 end
        assert.equal(6, count)
        assert.same({ n = 2, repeats = 3 }, case)
        local joined, lost = repeats.join(results.read("test", path))
        assert.same({ { "n" }, 2, 0 }, { joined.axes, #joined.cases, lost })
        local s = results.stats(joined.cases[2], "x")
        assert.same({ 22, { 21, 22, 23 }, "mean" }, { s.value, s.samples, s.centre })
        assert.near(22 - 4.302652730 / math.sqrt(3), s.low, 1e-8)
        local entry = joined.cases[2]
        assert.same({ { n = 2 }, 3, "1 2 3" }, { entry.case, entry.repeats, entry.numbers })
        assert.equal(record.key { n = 2 }, joined.cases[2].key)
        local same = results.read("test", path)
        assert.equal(same, (repeats.join(same, { "repeats" })))
    end)

    it("take 1 or more, and no axis of that name beside them", function()
        local function run() return { x = 1 } end
        files.fails("invalid_argument", "repeats: the axes have a repeats too", steer.sweep,
            { name = "a", axes = { repeats = { 1 } }, repeats = 2, run = run })
        files.fails("invalid_argument", "repeats: 0 is out of range", steer.sweep,
            { name = "a", axes = { n = { 1 } }, repeats = 0, run = run })
        files.fails("invalid_argument", "repeats: expected an integer", steer.sweep,
            { name = "a", axes = { n = { 1 } }, repeats = 1.5, run = run })
    end)

    it("that failed are counted, and what is no number in one is none in all", function()
        local path = sweeps.write("lost.jsonl", { "n", "repeats" }, {
            ok({ n = 1, repeats = 2 }, { x = 3, y = 1 }), ok({ n = 1, repeats = 1 }, { x = 1, y = 0 / 0 }),
            { case = { n = 1, repeats = 3 }, status = "failed", reason = "no" },
            { case = { n = 2, repeats = 1 }, status = "failed", reason = "never" } })
        local joined, lost = repeats.join(results.read("test", path))
        assert.equal(1, lost)
        assert.same({ 1, 3 }, results.stats(joined.cases[1], "x").samples)
        assert.same({ nil, "y is not a number" }, { results.stats(joined.cases[1], "y") })
        local entry = joined.cases[2]
        assert.same({ "failed", "never", 0 }, { entry.status, entry.reason, entry.repeats })
    end)

    it("are left alone where the axis holds words, and missing where there is none", function()
        local path = sweeps.write("words.jsonl", { "repeats" }, { ok({ repeats = "a" }, { x = 1 }) })
        local found = results.read("test", path)
        assert.equal(found, (repeats.join(found)))
    end)
end)
