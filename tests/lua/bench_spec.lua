-- Timing: statistics, the stop rule, graphs, references, and what bench refuses.
-- devices: cpu cuda
local steer = require "steer"
local C = require("steer.core.c").C
local bench, T = steer.bench, steer.tensor

local device = os.getenv("STEER_TEST_DEVICE") or "cpu"
local on_gpu = device ~= "cpu"

local function fails(code, text, fn, ...)
    local ok, err = pcall(fn, ...)
    assert(not ok, "expected an error")
    assert.are.equal(code, type(err) == "table" and err.code or tostring(err))
    assert(err.message:find(text, 1, true), err.message .. " does not say: " .. text)
end

-- Options that make a measurement short; `more` replaces some of them.
local function quick(more)
    local opts = { device = device, max_seconds = 0.2, warmup = 1 }
    for key, value in pairs(more or {}) do opts[key] = value end
    return opts
end

local function sane(s)
    assert(s.n >= 1 and #s.samples == s.n)
    assert(s.min > 0 and s.min <= s.q1 and s.q1 <= s.median and s.median <= s.q3 and s.q3 <= s.max)
    assert(s.stop == "noise" or s.stop == "samples" or s.stop == "time")
end

describe("bench.stats", function()
    it("gives median, quartiles and deviation", function()
        local s = bench.stats { 4, 1, 3, 2, 5 }
        assert.are.same({ 5, 3, 2, 4, 1, 5, 3 }, { s.n, s.median, s.q1, s.q3, s.min, s.max, s.mean })
        assert(math.abs(s.noise - 100 * math.sqrt(2.5) / 3) < 1e-12)
        assert.are.same({ 4, 1, 3, 2, 5 }, s.samples) -- in the order of measurement
        s = bench.stats { 1, 2 }
        assert.are.same({ 1.5, 1.25, 1.75 }, { s.median, s.q1, s.q3 })
        assert.are.equal(0, bench.stats({ 7 }).noise)
    end)

    it("refuses what is no list of numbers", function()
        fails("invalid_argument", "samples: the list is empty", bench.stats, {})
        fails("invalid_argument", "samples[2]: expected a number", bench.stats, { 1, "x" })
        fails("invalid_argument", "samples: expected a list", bench.stats, 3)
    end)
end)

describe("bench.time", function()
    local x = T.randn({ 64, 256 }, { device = device, seed = 1 })
    local stream = bench.reference("stream", x)

    it("measures wall time, and GPU time on a GPU", function()
        local r = bench.time(stream, quick())
        sane(r.wall)
        assert.are.equal("s", r.unit)
        assert.are.equal(device, r.device)
        assert.are.equal("hot", r.mode)
        if on_gpu then sane(r.gpu) else assert.is_nil(r.gpu) end
        assert(tostring(r):find("wall %d"))
    end)

    it("measures what a call takes", function()
        local function wait()
            local from = C.steer_clock() -- os.clock adds up the time of all threads
            while C.steer_clock() - from < 0.004 do end
        end
        local r = bench.time(wait, quick { gpu = false, max_seconds = 0.1 })
        assert(r.wall.min >= 0.0035, r.wall.min)
        assert(r.wall.n >= 10)
    end)

    it("stops at the first reason", function()
        assert.are.equal("noise", bench.time(stream, quick { gpu = false, max_noise = 1e9 }).wall.stop)
        local r = bench.time(stream, quick { gpu = false, max_noise = 1e-12, max_samples = 17, max_seconds = 60 })
        assert.are.equal("samples", r.wall.stop)
        assert.are.equal(17, r.wall.n)
        r = bench.time(stream, quick { gpu = false, max_noise = 1e-12, max_seconds = 0.01, min_samples = 12 })
        assert.are.equal("time", r.wall.stop)
        assert(r.wall.n >= 12)
    end)

    it("times plain launches between events where graph is false", function()
        local r = bench.time(stream, quick { gpu = true, graph = false, wall = false, per_graph = 6 })
        sane(r.gpu)
        assert.is_nil(r.wall)
        assert.are.equal(6, r.gpu.launches)
        assert.is_false(r.gpu.graph)
    end)

    it("calls a list of functions in turn", function()
        local calls, order = { 0, 0, 0 }, {}
        local fns = {}
        for i = 1, 3 do
            fns[i] = function()
                calls[i] = calls[i] + 1
                order[#order + 1] = i
            end
        end
        bench.time(fns, quick { gpu = true, graph = false, mode = "cold", per_graph = 4, max_seconds = 0.01 })
        assert(calls[1] > 0 and calls[1] - calls[3] <= 1 + 3) -- the parts of a measurement begin anew
        local out_of_turn = 0
        for i = 2, #order do
            if order[i] ~= order[i - 1] % 3 + 1 then out_of_turn = out_of_turn + 1 end
        end
        assert(out_of_turn <= 4, out_of_turn)
    end)

    it("passes errors of the function on", function()
        fails("shape_mismatch", "mine", bench.time, function()
            require("steer.core.error").raise("shape_mismatch", "x", "mine")
        end, quick())
    end)

    it("refuses bad arguments", function()
        fails("invalid_argument", "fn: expected a function", bench.time, 3)
        fails("invalid_argument", "fn: the list is empty", bench.time, {}, quick())
        fails("invalid_argument", "fn[2]: expected a function", bench.time, { stream, 1 }, quick())
        fails("invalid_argument", 'did you mean "max_noise"', bench.time, stream, { max_nose = 1 })
        fails("invalid_argument", "opts.mode", bench.time, stream, quick { mode = "warm" })
        fails("invalid_argument", "cold measurement takes a list", bench.time, stream, quick { mode = "cold" })
        fails("invalid_argument", "opts.max_noise: 0", bench.time, stream, quick { max_noise = 0 })
        fails("invalid_argument", "opts.max_seconds", bench.time, stream, quick { max_seconds = 0 / 0 })
        fails("invalid_argument", "opts.min_samples", bench.time, stream, quick { min_samples = 0 })
        fails("invalid_argument", "opts.per_graph", bench.time, stream, quick { per_graph = 1.5 })
        fails("invalid_argument", "nothing is left", bench.time, stream, quick { wall = false, gpu = false })
        if not on_gpu then fails("unsupported", "graph=false", bench.time, stream, quick { gpu = true }) end
    end)
end)

describe("bench.interleave", function()
    it("measures candidates under their names", function()
        local x = T.randn({ 64, 256 }, { device = device, seed = 1 })
        local stream = bench.reference("stream", x)
        local r = bench.interleave({ one = stream, two = { stream, stream } }, quick())
        sane(r.one.wall)
        sane(r.two.wall)
        if on_gpu then
            sane(r.one.gpu)
            assert.are.equal(0, r.two.gpu.launches % 2)
        end
    end)

    it("refuses bad candidates", function()
        fails("invalid_argument", "candidates: there are none", bench.interleave, {}, quick())
        fails("invalid_argument", "candidates[a]: expected a function", bench.interleave, { a = 1 }, quick())
    end)
end)

describe("bench.graph", function()
    it("replays what was captured", function()
        local x = T.zeros({ 8 }, { device = device })
        if not on_gpu then
            fails("unsupported", "captures no graphs", bench.graph, function() x:add_(1) end, device)
            return
        end
        local graph = bench.graph(function() x:add_(1) end, device)
        assert.are.equal(0, x:get(1))
        graph:launch():launch()
        assert.are.equal(2, x:get(1))
        graph:close()
        graph:close()
        fails("closed", "graph", graph.launch, graph)
    end)

    it("leaves the device usable after an error in the function", function()
        if not on_gpu then return end
        local x = T.zeros({ 8 }, { device = device })
        fails("invalid_argument", "", bench.graph, function() x:get(99) end, device)
        fails("unsupported", "", bench.graph, function() x:get(1) end, device) -- waits
        assert.are.equal(3, x:add_(3):get(1))
    end)
end)

describe("the references", function()
    it("are measured for a shape", function()
        local r = bench.references({ 64, 256 }, quick { dtype = "f16" })
        assert.are.equal(64 * 256 * 2, r.bytes)
        assert(r.bytes_per_second > 0)
        sane(r.W0)
        sane(r.W1)
        for _, name in ipairs { "R0", "R1", "R1_cold" } do
            if on_gpu then sane(r[name]) else assert.is_nil(r[name]) end
        end
        local text = tostring(r)
        assert.is_truthy(text:find("W1 [%d.e+]+ us %(.-\nstream of 32768 bytes of f16 on " .. device), text)
        assert.are.equal(on_gpu, text:find "R1_cold" ~= nil)
    end)

    it("leave the values as they are", function()
        local x = T.from({ 1.5, -2, 0, 3e38 }, { device = device })
        bench.reference("stream", x)()
        bench.reference("empty", x)()
        assert.are.same(T.from({ 1.5, -2, 0, 3e38 }):totable(), x:totable())
    end)

    it("refuse bad arguments", function()
        local x = T.zeros({ 4 }, { device = device })
        fails("invalid_argument", "kind", bench.reference, "copy", x)
        fails("invalid_argument", "tensor: expected a tensor", bench.reference, "stream", 3)
        fails("dtype_mismatch", "i32", bench.reference("stream", T.zeros({ 4 }, { dtype = "i32", device = device })))
        x:close()
        fails("closed", "tensor", bench.reference, "stream", x)
        fails("invalid_argument", "shape", bench.references, 3)
        fails("invalid_argument", "no elements", bench.references, { 0, 4 }, quick())
        fails("invalid_argument", "opts", bench.references, { 4, 4 }, { dtyp = "f32" })
    end)

    it("say how many buffers exceed the cache", function()
        local bytes = 2 ^ 20
        local n = bench.copies(bytes, device)
        assert(n >= 2 and n * bytes >= 5 * steer.device(device):info().l2_bytes)
        assert.are.equal(2, bench.copies(2 ^ 40, device))
    end)
end)

describe("bench/engine.lua", function()
    local function run(arguments)
        local pipe = io.popen("scripts/steer run bench/engine.lua " .. arguments .. " 2>&1; echo status $?")
        local text = pipe:read("*a")
        pipe:close()
        return text, tonumber(text:match("status (%d+)%s*$"))
    end

    it("fills its table and writes samples, from a small copy of its shapes", function()
        local folder = os.tmpname()
        os.remove(folder)
        local text, status = run("--device " .. device .. " --quick --shrink 32 --no-graph --python none --shapes B"
            .. (on_gpu and "" or ",cpu") .. " --out " .. folder)
        assert.are.equal(0, status, text)
        assert(not text:find("failed", 1, true), text)
        for _, metric in ipairs { "GPU, t - R0", "plan:update, 256", "largest error", "a request's bits" } do
            assert(text:find(metric, 1, true), metric .. " is missing in\n" .. text)
        end
        local kinds = {}
        for line in io.lines(folder .. "/engine.jsonl") do
            local entry = assert(require("dkjson").decode(line), line)
            kinds[entry.kind] = (kinds[entry.kind] or 0) + 1
            if entry.kind == "measurement" then
                local s = entry.gpu or entry.wall
                assert.are.equal(s.n, #s.samples)
            end
        end
        assert(kinds.environment == 1 and kinds.measurement >= 8 and kinds.row >= 10 and not kinds.failure)
        local file = assert(io.open(folder .. "/engine.md"))
        assert(file:read("*a"):find("| verdict |", 1, true))
        file:close()
        os.execute("rm -r '" .. folder .. "'")
    end)

    it("refuses what it does not know", function()
        for _, bad in ipairs { "--devcie cpu", "--shapes D --device cpu", "--shrink 0", "--out" } do
            local text, status = run(bad)
            assert.are.equal(2, status, text)
            assert(text:find("usage:", 1, true))
        end
    end)
end)
