--- sections.lua: Steer's side of the study: operations, batches, the smaller shape, the first call.
--
-- Each measurement is timed in up to three ways: `wall` (apply and the wait for it), `queued` (an apply among many,
-- between events) and `graph` (the same captured in a graph). The CPU has the wall clock only.
local steer = require "steer"
local cases = require "engine.cases"
local exact = require "engine.exact"

local M = {}

local HIDDEN = 2048
local KINDS = { "add", "cap", "ablate" }

--- Shapes of the sections; rows and requests are divided by `shrink`.
function M.shapes(shrink)
    local function shape(name, rows, requests)
        return { name = name, rows = math.max(4, math.floor(rows / shrink)), hidden = HIDDEN,
            requests = math.max(requests == 1 and 1 or 2, math.floor(requests / shrink)) }
    end
    return {
        operations = shape("operations", 1472, 1), batches = shape("batches", 2048, 32),
        second = shape("second", 512, 1),
    }
end

-- The cases as candidates; `forced` names the path that an automatic plan takes outside of a graph.
local function functions_of(batch, x, forced)
    local list = {}
    for name, case in pairs(batch) do
        list[name] = cases.functions(forced and cases.again(case, case.path) or case, { x })
    end
    return list
end

-- Adds the times of the candidates under `key` of their measurements.
local function add_times(measured, key, what, candidates, opts)
    for name, result in pairs(steer.bench.interleave(candidates, opts)) do
        measured[name] = measured[name] or {}
        measured[name][key] = result[what]
    end
end

--- Times cases over one tensor beside the references `launch` and `stream`, then holds them to float64.
-- ctx: device, dtype, graph (whether there are GPU times), seconds (for a case and a way of timing it).
-- Returns name -> {wall, queued, graph, path, why, off, ulp}.
function M.measure(ctx, shape, makers)
    local batch, measured = {}, {}
    for name, opts in pairs(makers) do batch[name] = cases.make(ctx, shape, opts.kinds, opts) end
    local clean = cases.hidden(ctx, shape)
    local x = clean:clone()
    local function with_references(candidates)
        candidates.launch, candidates.stream = steer.bench.reference("empty", x), steer.bench.reference("stream", x)
        return candidates
    end
    local rule = { device = ctx.device, max_seconds = ctx.seconds, max_samples = 1000, gpu = false }
    add_times(measured, "wall", "wall", with_references(functions_of(batch, x)), rule)
    if ctx.graph then
        rule.gpu, rule.wall, rule.max_samples, rule.graph = true, false, 300, false
        add_times(measured, "queued", "gpu", with_references(functions_of(batch, x)), rule)
        rule.graph = true -- an automatic plan in a graph allows for updates: the path is forced there
        add_times(measured, "graph", "gpu", with_references(functions_of(batch, x, true)), rule)
    end
    exact.finite(x)
    for name, case in pairs(batch) do
        local accuracy, into = exact.accuracy(case, clean), measured[name]
        into.path, into.why, into.off, into.ulp = case.path, case.why, accuracy.off, accuracy.max_ulp
    end
    x:close()
    return measured
end

--- The operations on the whole of 1472 x 2048 hidden states, or on those of the second comparison.
function M.operations(ctx, shape)
    local makers = {}
    for _, kind in ipairs(KINDS) do makers[kind] = { kinds = { kind } } end
    return M.measure(ctx, shape, makers)
end

--- 32 requests of 64 tokens: one spec; a spec object each, of equal content; distinct specs; distinct programs of three
-- operations.
function M.batches(ctx, shape)
    return M.measure(ctx, shape, {
        one = { kinds = { "cap" }, specs = 1 }, same = { kinds = { "cap" }, vectors = 1 },
        distinct = { kinds = { "cap" } }, three = { kinds = KINDS },
    })
end

local TRIALS = 12

-- Seconds of fn(i), the wait for the device included, after `prepare(i)`.
local function trials(device, prepare, fn)
    local samples = {}
    for i = 1, TRIALS do
        local given = prepare(i)
        collectgarbage()
        device:synchronize()
        local from = steer.bench.clock()
        fn(given)
        device:synchronize()
        samples[i] = steer.bench.clock() - from
    end
    return steer.bench.stats(samples)
end

--- The first call: with a new engine, spec and plan (`new_engine`), and with a new vector in a plan that is in use
-- (`new_vector`).
function M.warmup(ctx, shape)
    local x = cases.hidden(ctx, shape)
    local function vector(i) return steer.tensor.randn({ HIDDEN }, { device = "cpu", seed = 1000 + i }) end
    local function batch(v)
        return { { spec = steer.spec { [0] = { steer.cap(v, { min = -1, max = 1 }) } }, tokens = shape.rows } }
    end
    local function new_engine() return steer.engine { hidden = HIDDEN, dtype = ctx.dtype, device = ctx.device } end
    local plan = new_engine():plan(batch(vector(0)))
    plan:apply(0, x)
    local measured = {
        new_engine = { wall = trials(ctx.device, vector, function(v) new_engine():plan(batch(v)):apply(0, x) end) },
        new_vector = { wall = trials(ctx.device, function(i) return vector(TRIALS + i) end, function(v)
            plan:update(batch(v)):apply(0, x)
        end) },
    }
    x:close()
    return measured
end

return M
