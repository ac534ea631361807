--- The study of compile modes: bars, findings and decision from measurements that are known, and a small run.
-- devices: cpu cuda
local studies = require "studies"
local bars = require "compile.bars"
local modes = require "compile.modes"
local report = require "engine.report"
local study_page = require "compile.study"
local tables = require "compile.tables"

local says, stats, text = studies.says, studies.stats, studies.text

-- An entry of study.modes: its times, the state of its kernel, whether its bits are the ordinary ones.
local function entry(name, ordinary, compiled, state, same)
    return {
        shape = { name = "A" }, batch = "mixed", name = name, specs = 32, same = same ~= false, used = state == "ready",
        times = { graph = { ordinary = stats(ordinary), compiled = stats(compiled) } }, states = { state, state },
        compile = { state = state, ms = 150, ordinary_us = ordinary, compiled_us = compiled, source = "compiled" },
    }
end

-- `layers` layers that take `loop` and `graph` microseconds in all, on the GPU and by the wall clock alike.
local function row(layers, loop, graph, own)
    return {
        layers = layers, own = own or false, loop = { gpu = stats(loop), wall = stats(loop), host = stats(loop) },
        graph = { gpu = stats(graph), wall = stats(graph), host = stats(2), same = true, capture = 1e-3,
            stats = { captured = true, nodes = layers } },
        update = { same = true, recaptures = 0 }, steps = { loop = stats(loop + 5), graph = stats(graph + 5) },
    }
end

local function first(ms, source, ordinary, compiled)
    return {
        shape = "A", name = "cap", batch = "mixed", ordinary_first = 50e-6, first = ms * 1e-3 + 50e-6, memory = 60e-6,
        first_compile = { state = "ready", ms = ms, source = source }, ordinary = stats(ordinary),
        compiled = stats(compiled),
    }
end

local function study(more)
    local s = {
        way = "graph", modes = {}, layers = {}, torch = {}, notes = { "a note" }, shapes = { B = "256 x 4096" },
        costs = { cold = { first = {} }, warm = { first = {} } }, environment = { { "device", "a test" } },
    }
    for key, value in pairs(more) do s[key] = value end
    return s
end

local function bar(s, metric)
    for _, r in ipairs(bars.rows(s)) do
        if r.metric == metric then return r, report.verdict(r) end
    end
    error("no bar: " .. metric)
end

describe("the study of compile modes", function()
    it("lists each operation and 1 to 64 operations at each shape, one spec and many", function()
        local list, names = modes.list { { name = "A", requests = 32 }, { name = "B", requests = 256 } }, {}
        assert.are.equal(9 * 2 * 2, #list)
        for _, e in ipairs(list) do
            names[e.name] = true
            assert.are.equal(e.batch == "uniform", e.specs == 1)
            assert(e.specs * #e.kinds <= 2048 and e.specs <= e.shape.requests)
        end
        says(text(require("steer.core.tables").keys(names)), { "add", "cap", "ablate", "64 operations" })
    end)

    it("holds what it measured to its bars", function()
        local s = study {
            modes = { entry("cap", 4, 3, "ready"), entry("2 operations", 5, 5.5, "not chosen") },
            layers = { row(1, 4, 4), row(32, 96, 64) },
            costs = { cold = { first = { first(180, "compiled", 4, 3) } },
                warm = { first = { first(7, "disk", 4, 3) } } },
        }
        local r, verdict = bar(s, "graph of 32 layers, a layer")
        assert.are.equal("met must", verdict)
        assert(math.abs(r.value - 2) < 1e-9 and math.abs(r.high - 2.02) < 1e-9)
        assert.are.equal("met must", select(2, bar(s, "replay from Lua, host time")))
        r, verdict = bar(s, "specialised / ordinary, any program")
        assert.are.equal("short", verdict)
        assert(math.abs(r.value - 1.1) < 1e-9)
        says(r.from, { "A 2 operations, mixed" })
        r, verdict = bar(s, "ordinary / specialised, where chosen")
        assert.are.equal("met must", verdict)
        assert(math.abs(r.value - 4 / 3) < 1e-9)
        assert.are.equal("met must", select(2, bar(s, "first compile, any program")))
        assert.are.equal("short", select(2, bar(s, "kernel from disk")))
        assert.are.equal("met must", select(2, bar(s, "captures anew after an update")))
        r, verdict = bar(s, "results with other bits")
        assert.are.same({ 0, "met must", "6 compared" }, { r.value, verdict, r.from })
    end)

    it("holds a chosen kernel to the faster of the ordinary paths", function()
        local s = study { modes = { entry("cap", 4, 3, "ready"), entry("add", 4, 4, "not chosen") } }
        for _, e in ipairs(s.modes) do e.times.graph.alone = stats(3.15) end
        local r, verdict = bar(s, "ordinary / specialised, where chosen")
        assert.are.equal("short", verdict)
        assert(math.abs(r.value - 1.05) < 1e-9)
        assert(math.abs(bar(s, "specialised / ordinary, any program").value - 1) < 1e-9)
        s.modes[1].states[2] = "not chosen"
        assert.are.equal("not run", select(2, bar(s, "ordinary / specialised, where chosen")))
    end)

    it("names what gives other bits or captures anew", function()
        local s = study { modes = { entry("cap", 4, 3, "ready", false) }, layers = { row(8, 20, 10) } }
        s.layers[1].update = { same = false, recaptures = 2 }
        local r, verdict = bar(s, "results with other bits")
        assert.are.same({ 2, "short" }, { r.value, verdict })
        says(r.from, { "A cap, mixed", "graph of 8 layers after an update" })
        assert.are.same("short", select(2, bar(s, "captures anew after an update")))
    end)

    it("keeps compilation off where it does not pay, and says why", function()
        local s = study {
            modes = { entry("cap", 4, 3, "ready"), entry("add", 3, 3, "not chosen"),
                entry("ablate", 3, 3.2, "failed") },
            costs = { cold = { first = { first(180, "compiled", 4, 4) } }, warm = { first = {} } },
            layers = { row(1, 4, 5), row(2, 8, 7), row(32, 96, 64) },
        }
        says(text(study_page.findings(s)), {
            "of 3 programs, `default` is faster in 1 and slower in 1 (in 1 by more than 2 %); in 1 the quartiles",
            "was chosen for 1", "gains from 1.33x for A cap, mixed to 1.33x", "paid back in 0 of 1 programs",
            "**32 layers**: GPU time 96 µs one by one, 64 µs as a graph (faster)", "from 2 layers on",
            "no PyTorch measurement",
        })
        says(text(study_page.decision(s)), {
            "stays off unless it is asked for: 1 programs are slower by more than 2 %; a specialised kernel was chosen "
                .. "for 1 of 3 programs; the first call is not paid back in 1 of 1 programs.",
            "programs such as these: 1.33x for A cap, mixed", "serves 2 and more layers faster",
        })
    end)

    it("makes specialised kernels the default where they pay everywhere", function()
        local s = study {
            modes = { entry("cap", 4, 3, "ready"), entry("add", 3, 3, "not chosen") },
            costs = { cold = { first = { first(0.9, "compiled", 4, 3) } }, warm = { first = {} } },
        }
        says(text(study_page.decision(s)), { "should be the default: chosen for 1 of 2 programs" })
        s.costs.cold.first[1] = first(180, "compiled", 4, 3) -- 180 ms at a microsecond a call
        says(text(study_page.decision(s)), { "stays off", "paid back only after up to 180" })
    end)

    it("compares with the fastest PyTorch and counts what torch.compile takes", function()
        local function torch(us, calls) return { wall = stats(us), first_calls = calls } end
        local s = study {
            layers = { row(32, 96, 64) },
            torch = { layers = { ["32"] = { eager = torch(1000), default = torch(500, { 5, 5e-4 }),
                ["reduce-overhead"] = torch(50, { 8, 5e-5 }) } } },
        }
        assert.are.equal(1, #tables.alike(s))
        says(text(study_page.findings(s)), {
            "Steer is faster in 0, PyTorch in 1; in 0 the quartiles overlap. PyTorch: B, 32 layers (loop, graph), "
                .. "reduce-overhead, call and wait: Steer 64 µs, PyTorch 50 µs.",
            "first calls up to 8 s; of 2 compilations 0 are never paid back, the others after at most 9999 calls",
        })
    end)

    it("claims nothing that was not measured", function()
        local s = study { unsupported = "no compiler here" }
        says(study_page.markdown(s), {
            "not run | no compiler here", "not run | nothing was compared", "not measured: no compiler here",
            "Nothing is decided about specialised kernels", "- a note", "## 4. Beside PyTorch",
        })
        s.modes[1] = { shape = { name = "A" }, batch = "mixed", name = "cap", specs = 2, failed = "out of memory" }
        s.shapes.A = "2048 x 2048"
        says(study_page.markdown(s), { "### A: 2048 x 2048", "failed: out of memory" })
    end)
end)

describe("bench/compile.lua", function()
    it("writes its tables and samples, also without PyTorch", function()
        local page, measurements, output = studies.results("compile", "--seconds 20 --shrink 64")
        local sections = {}
        for _, found in ipairs(measurements) do sections[found.section] = (sections[found.section] or 0) + 1 end
        assert((sections.layers or 0) > 0 and (sections.modes or 0) > 0, output)
        says(page, { "| B | graph of 32 layers, a layer |", "no-such-python ended with status 127" })
        assert(page:find("| all | results with other bits | 0 |", 1, true), page)
        assert(not page:find(" failed: ", 1, true), page)
    end)

    it("refuses what it does not know", function()
        studies.refuses("compile", { "--devcie cpu", "--dtype i32", "--shrink 0.5", "--seconds 0", "--out" })
    end)
end)
