--- layers.lua: the applies of 1 to 64 layers of a decoding step, one by one and as a graph.
--
-- Candidates: `loop` (plan:apply layer by layer), `graph` (plan:graph); with specialised kernels also `compiled loop`
-- and `compiled graph`. Each is timed among many calls between events (gpu), with the wait (wall) and without (host).
local steer = require "steer"
local cases = require "engine.cases"
local exact = require "engine.exact"

local M = {}

--- Numbers of layers.
M.COUNTS = { 1, 2, 4, 8, 16, 32, 64 }

local MODES = { loop = "off", graph = "reduce-overhead", ["compiled loop"] = "default", ["compiled graph"] = "default" }
local NAMES = { "loop", "graph", "compiled loop", "compiled graph" }

--- Prepares the plans of a shape: two batches of specs for `layers` layers, hidden states, a plan per candidate.
-- own: a vector of its own for each layer, else one for all layers of a spec.
function M.prepare(ctx, shape, layers, own)
    local clean = cases.hidden(ctx, shape)
    local setup = { clean = clean, x = clean:clone(), y = clean:clone(), own = own, batches = {}, plans = {} }
    for seed = 1, 2 do
        setup.batches[seed] = cases.requests_of(shape, cases.deep_specs(shape, shape.requests, layers, seed, own))
    end
    for _, name in ipairs(NAMES) do
        if ctx.compiles or MODES[name] ~= "default" then
            setup.plans[name] = cases.engine(ctx, shape):plan(setup.batches[1], { compile = MODES[name] })
        end
    end
    return setup
end

-- A function that applies the layers one by one.
local function loop_of(plan, count, x)
    return function()
        for layer = 0, count - 1 do plan:apply(layer, x) end
    end
end

-- The graph of the layers, the seconds that making it took, and a function that launches it.
local function graph_of(ctx, plan, count, x)
    local numbers = {}
    for i = 1, count do numbers[i] = i - 1 end
    ctx.device:synchronize()
    local from = steer.bench.clock()
    local graph = plan:graph(numbers, x)
    ctx.device:synchronize()
    return graph, steer.bench.clock() - from, function() graph:launch() end
end

-- What a candidate does to clean hidden states.
local function outcome(setup, run, x)
    x:copy_(setup.clean)
    run()
    return x
end

-- Whether the candidate gives the bits of the loop.
local function agrees(ctx, setup, candidates, name)
    outcome(setup, candidates.loop, setup.x)
    setup.y:copy_(setup.x)
    local same = exact.same_bits(setup.y, outcome(setup, candidates[name], setup.x))
    ctx.device:synchronize()
    return same
end

-- Times the candidates; adds gpu, wall and host to their results.
local function time_all(ctx, candidates, results)
    local function take(key, what, opts)
        opts.device, opts.max_seconds, opts.max_samples, opts.graph = ctx.device, ctx.seconds, 300, false
        for name, result in pairs(steer.bench.interleave(candidates, opts)) do results[name][key] = result[what] end
    end
    take("wall", "wall", { gpu = false })
    if ctx.graph then
        take("gpu", "gpu", { wall = false })
        take("host", "wall", { gpu = false, sync = false })
    end
end

local function update(setup, batch)
    for _, name in ipairs { "loop", "graph" } do setup.plans[name]:update(setup.batches[batch]) end
end

-- The next step's batch in the graph's plan: whether it gives the ordinary bits, and how often it captured anew for it.
local function after_update(ctx, setup, candidates, graph)
    local before = graph:stats().recaptures
    update(setup, 2)
    local same = agrees(ctx, setup, candidates, "graph")
    update(setup, 1)
    return { same = same, recaptures = graph:stats().recaptures - before }
end

-- Wall time of a decoding step: the plan's update, all layers, the wait.
local function time_steps(ctx, setup, candidates)
    local steps, times = {}, {}
    for _, name in ipairs { "loop", "graph" } do
        local fns = {}
        for turn = 1, 2 do
            fns[turn] = function()
                setup.plans[name]:update(setup.batches[3 - turn])
                candidates[name]()
            end
        end
        steps[name] = fns
    end
    local rule = { device = ctx.device, gpu = false, max_seconds = ctx.seconds, max_samples = 300 }
    for name, result in pairs(steer.bench.interleave(steps, rule)) do times[name] = result.wall end
    update(setup, 1) -- each may have stopped at either batch
    return times
end

--- Measures `count` layers of what M.prepare made.
-- Returns layers, own, by candidate {gpu, wall, host, same, stats (of the graph), capture (seconds)}, update {same,
-- recaptures}, steps = {loop, graph}.
function M.measure(ctx, setup, count)
    local result, candidates, graphs = { layers = count, own = setup.own }, {}, {}
    for name, plan in pairs(setup.plans) do
        result[name] = {}
        if name:find("graph", 1, true) then
            graphs[name], result[name].capture, candidates[name] = graph_of(ctx, plan, count, setup.x)
        else
            candidates[name] = loop_of(plan, count, setup.x)
        end
    end
    for name in pairs(candidates) do
        if name ~= "loop" then result[name].same = agrees(ctx, setup, candidates, name) end
    end
    result.update = after_update(ctx, setup, candidates, graphs.graph)
    time_all(ctx, candidates, result)
    result.steps = time_steps(ctx, setup, candidates)
    exact.finite(setup.x)
    for name, graph in pairs(graphs) do
        result[name].stats = graph:stats()
        graph:close()
    end
    return result
end

--- The references at a shape, as GPU time in a graph: an empty kernel and an in-place stream over the hidden states.
function M.references(ctx, shape)
    local x, times = cases.hidden(ctx, shape), {}
    local candidates = { empty = steer.bench.reference("empty", x), stream = steer.bench.reference("stream", x) }
    local rule = { device = ctx.device, max_seconds = ctx.seconds, max_samples = 300, wall = false, per_graph = 32 }
    for name, result in pairs(steer.bench.interleave(candidates, rule)) do times[name] = result.gpu end
    return times
end

return M
