--- modes.lua: specialised kernels beside the ordinary ones: each operation, and programs of 1 to 64 operations.
local steer = require "steer"
local cases = require "engine.cases"
local exact = require "engine.exact"

local M = {}

local TURN = { "cap", "add", "ablate" } -- the kinds of a program, in turn
local COUNTS = { 1, 2, 4, 8, 16, 32, 64 }
local MOST_VECTORS = 2048 -- of a batch: the specs of long programs serve several requests each

local function kinds_of(count)
    local kinds = {}
    for i = 1, count do kinds[i] = TURN[(i - 1) % #TURN + 1] end
    return kinds
end

-- The programs in the order in which they are measured. peer: the variants of peers/torch_compile.py that do the same
-- work for one spec and for a spec each.
local function programs()
    local list = {
        { name = "add", kinds = { "add" }, peer = { uniform = "add" } },
        { name = "ablate", kinds = { "ablate" }, peer = { uniform = "ablate" } },
    }
    for i, count in ipairs(COUNTS) do
        list[#list + 1] = { name = count == 1 and "cap" or count .. " operations", kinds = kinds_of(count) }
        if i == 1 then list[#list].peer = { uniform = "cap", mixed = "rows" } end
        if count == 8 then list[#list].peer = { uniform = "program 8" } end
    end
    return list
end

--- Lists what is measured, short programs of all shapes first: {shape, batch ("uniform" or "mixed"), name, kinds,
-- specs, peer}.
function M.list(shapes)
    local list = {}
    for _, program in ipairs(programs()) do
        for _, shape in ipairs(shapes) do
            for _, batch in ipairs { "uniform", "mixed" } do
                local specs = math.max(2, math.min(shape.requests, math.floor(MOST_VECTORS / #program.kinds)))
                list[#list + 1] = {
                    shape = shape, batch = batch, name = program.name, kinds = program.kinds,
                    specs = batch == "uniform" and 1 or specs, peer = program.peer and program.peer[batch],
                }
            end
        end
    end
    return list
end

local states = {} -- tensors by shape, made once: clean, and two to be steered

local function state_of(ctx, shape)
    if not states[shape.name] then
        local clean = cases.hidden(ctx, shape)
        states[shape.name] = { clean = clean, x = clean:clone(), y = clean:clone() }
    end
    return states[shape.name]
end

--- The plans of a case whose layers 0 and 1 are its turns: `off`, `ordinary` (for plan:graph), `compiled` with
-- specialised kernels, and `alone`, whose path is the one that the case asks for.
function M.plans(ctx, case)
    local requests, modes = cases.both_turns(case), { off = "off", ordinary = "reduce-overhead" }
    local plans = { alone = case.engine:plan(requests, { path = case.asked, compile = "off" }) }
    if ctx.compiles then modes.compiled = "default" end
    for name, mode in pairs(modes) do plans[name] = case.engine:plan(requests, { compile = mode }) end
    return plans
end

-- Both turns over clean hidden states.
local function steered(plan, clean, x)
    x:copy_(clean)
    for layer = 0, 1 do plan:apply(layer, x) end
    return x
end

local function divided(stats, count)
    local samples = {}
    for i, seconds in ipairs(stats.samples) do samples[i] = seconds / count end
    return steer.bench.stats(samples)
end

-- Whether each of the graphs gives the bits of applying the layers one by one.
local function graphs_agree(plans, graphs, numbers, state)
    local x, y, same = state.x, state.y, true
    y:copy_(state.clean)
    for _, layer in ipairs(numbers) do plans.off:apply(layer, y) end
    for _, graph in pairs(graphs) do
        x:copy_(state.clean)
        graph:launch()
        same = exact.same_bits(x, y) and same
    end
    return same
end

-- GPU time of an apply in graphs of `count` applies: of the plans ordinary and compiled as plan:graph captures them, of
-- the plan alone as it captures itself; and whether the graphs give the ordinary bits.
local function time_graphs(ctx, plans, state, count)
    local numbers, graphs, candidates, x = {}, {}, {}, state.x
    for i = 1, count do numbers[i] = (i - 1) % 2 end
    for _, name in ipairs { "ordinary", "compiled" } do
        if plans[name] then graphs[name] = plans[name]:graph(numbers, x) end
    end
    graphs.alone = steer.bench.graph(function()
        for i = 1, count do plans.alone:apply(numbers[i], x) end
    end, ctx.device)
    for name, graph in pairs(graphs) do candidates[name] = function() graph:launch() end end
    local same = graphs_agree(plans, graphs, numbers, state)
    local results = steer.bench.interleave(candidates, {
        device = ctx.device, max_seconds = ctx.seconds, max_samples = 300, wall = false, graph = false,
    })
    local times = {}
    for name, result in pairs(results) do
        times[name] = divided(result.gpu, count)
        graphs[name]:close()
    end
    return times, same
end

-- Applies outside of graphs, one by one: among many (queued) and with the wait (wall).
local function time_applies(ctx, plans, x)
    local candidates, times = {}, { wall = {} }
    for name, plan in pairs { ordinary = plans.off, compiled = plans.compiled } do
        candidates[name] = { function() plan:apply(0, x) end, function() plan:apply(1, x) end }
    end
    local rule = { device = ctx.device, max_seconds = ctx.seconds, max_samples = 300, graph = false }
    for name, result in pairs(steer.bench.interleave(candidates, rule)) do
        times.wall[name] = result.wall
        if ctx.graph then
            times.queued = times.queued or {}
            times.queued[name] = result.gpu
        end
    end
    return times
end

local LONG = 8 -- operations of a program that needs few applies for a long graph

--- Times the plans of an entry; adds times and same, as M.measure says.
function M.time(ctx, entry, plans, state)
    entry.times = (entry.peer or not ctx.graph) and time_applies(ctx, plans, state.x) or {}
    if not ctx.graph then return end
    local count = entry.shape.name == "C" and 2 or #entry.kinds > LONG and 8 or 32
    local times, same = time_graphs(ctx, plans, state, count)
    entry.times.graph, entry.same = times, same and entry.same ~= false
end

--- Makes the case of an entry and its plans, compares their bits and times them.
-- ctx: device, dtype, graph (whether there are GPU times), seconds (for a candidate and a way of timing it), compiles
-- (whether there are specialised kernels).
-- Adds to the entry: path, why, times = way ("graph"; "wall" and "queued" where there is a peer) -> {ordinary,
-- compiled, alone}, same (whether all bits are those of ordinary applies), and with specialised kernels: compile (of
-- the first turn, as plan:explain gives it), states (of both), used (whether applies launch specialised kernels).
function M.measure(ctx, entry)
    local state, shape = state_of(ctx, entry.shape), entry.shape
    local case = cases.make(ctx, shape, entry.kinds, { path = entry.batch, specs = entry.specs, compile = "off" })
    local plans, stats = M.plans(ctx, case), function() return case.engine:stats().launches_compiled end
    entry.path, entry.why = case.path, case.why
    steered(plans.off, state.clean, state.x)
    if plans.compiled then
        local before = stats()
        entry.same = exact.same_bits(state.x, steered(plans.compiled, state.clean, state.y))
        entry.used = stats() > before
        entry.compile = plans.compiled:explain(0).compile
        entry.states = { entry.compile.state, plans.compiled:explain(1).compile.state }
    end
    M.time(ctx, entry, plans, state)
    exact.finite(state.x)
end

return M
