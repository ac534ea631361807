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

-- Both turns of a case over clean hidden states.
local function steered(case, clean, x)
    x:copy_(clean)
    for turn = 1, 2 do case.plans[turn]:apply(0, x) end
    return x
end

-- Adds the times of the candidates, in one way of timing, to the entry's.
local function add_times(times, way, what, candidates, opts)
    times[way] = {}
    for name, result in pairs(steer.bench.interleave(candidates, opts)) do times[way][name] = result[what] end
end

local function time_all(ctx, entry, candidates)
    local times, rule = {}, { device = ctx.device, max_seconds = ctx.seconds, max_samples = 300, wall = false }
    if ctx.graph then add_times(times, "graph", "gpu", candidates, rule) end
    if ctx.graph and not entry.peer then return times end
    rule.graph = false
    if ctx.graph then add_times(times, "queued", "gpu", candidates, rule) end
    rule.gpu, rule.wall = false, true
    add_times(times, "wall", "wall", candidates, rule)
    return times
end

--- Measures an entry of M.list. ctx: device, dtype, graph (whether there are GPU times), seconds (for a candidate and
-- a way of timing it), compiles (whether there are specialised kernels).
-- Adds to the entry: path, why, times = way ("graph", "queued", "wall") -> {ordinary, compiled}, and with specialised
-- kernels: compile (as plan:explain gives it), same (whether both give the same bits), used (whether what was timed
-- launched specialised kernels).
function M.measure(ctx, entry)
    local state, shape = state_of(ctx, entry.shape), entry.shape
    local ordinary = cases.make(ctx, shape, entry.kinds, { path = entry.batch, specs = entry.specs, compile = "off" })
    entry.path, entry.why = ordinary.path, ordinary.why
    local candidates = { ordinary = cases.functions(ordinary, { state.x }) }
    steered(ordinary, state.clean, state.x)
    if ctx.compiles then
        local compiled = cases.again(ordinary, entry.batch, "default")
        candidates.compiled = cases.functions(compiled, { state.x })
        local before = ordinary.engine:stats().launches_compiled
        entry.same = exact.same_bits(state.x, steered(compiled, state.clean, state.y))
        entry.used = ordinary.engine:stats().launches_compiled > before
        entry.compile = compiled.plans[1]:explain(0).compile
    end
    entry.times = time_all(ctx, entry, candidates)
    exact.finite(state.x)
end

return M
