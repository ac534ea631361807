--- operations.lua: what does each kind of operation cost beside add and cap? One of a kind, or a list that belongs
-- together, in batches of distinct programs: A is 32 requests of 64 tokens, hidden 2048, B 256 tokens, hidden 4096.
-- steer sweep bench/operations.lua; steer compare operations.jsonl operations.jsonl; steer plot operations.jsonl --x
-- operation --y gpu_us --by shape
-- Bars: affine8 at most twice caps8; rotate and keep_norm (a cap and keep_norm) at most 1.3 times cap.
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. here .. "/../tests/lua/?.lua;" .. package.path

local steer = require "steer"
local cases = require "engine.cases"
local exact = require "engine.exact"

local SECONDS, SAMPLES = 0.25, 200 -- for a candidate and a way of timing it
local BOUNDS = { { min = 2, max = 3 }, { min = -3, max = -2 } } -- the two turns: each changes every row
local SIGNS = { 0.25, -0.25 }

-- v() is a new vector, v(n) a tensor of n; `turn` is 1 or 2. Each gives the operations of a program.
local function caps(n)
    return function(v, turn)
        local list = {}
        for i = 1, n do list[i] = steer.cap(v(), BOUNDS[turn]) end
        return list
    end
end

local function affine(rank)
    return function(v, turn)
        local bias = {}
        for i = 1, rank do bias[i] = SIGNS[turn] end
        local directions = v(rank) -- written against themselves: rows that are steered many times stay finite
        return { steer.affine(directions, directions, { scale = -2 ^ -14, bias = bias }) }
    end
end

local OPERATIONS = {
    add = function(v, turn) return { steer.add(v(), SIGNS[turn]) } end,
    cap = caps(1),
    caps8 = caps(8),
    ablate = function(v) return { steer.ablate(v(), -1) } end,
    cap_write = function(v, turn)
        local read = v()
        local write = (read + v()) * (1 / read:norm())
        return { steer.cap(read, { min = BOUNDS[turn].min, max = BOUNDS[turn].max, write = write }) }
    end,
    set = function(v, turn) return { steer.set(v(), BOUNDS[turn].min) } end,
    map = function(v, turn) return { steer.map(v(), { { -1, BOUNDS[turn].min }, { 1, BOUNDS[turn].max } }) } end,
    rotate = function(v) return { steer.rotate(v(2), 30) } end,
    angle = function(v, turn) return { steer.angle(v(2), turn * 90) } end,
    turn = function(v, turn) return { steer.turn(v(), turn == 1 and 5 or -5) } end,
    sae = function(v, turn)
        local encode = v()
        return { steer.sae(encode, encode + v(), { min = turn, max = turn, bias = 100, threshold = 1 }) }
    end,
    subspace8 = function(v) return { steer.ablate(v(8), -1) } end,
    affine1 = affine(1),
    affine8 = affine(8),
    affine64 = affine(64),
    replace = function(v, turn) return { steer.replace(v(), SIGNS[turn]) } end,
    keep_norm = function(v, turn) return { steer.cap(v(), BOUNDS[turn]), steer.keep_norm() } end,
    when_any = function(v, turn)
        local always = { vector = v(), above = -1e30 }
        return { steer.add(v(), SIGNS[turn], { when = { any = { always, { vector = v(), above = 1 } } } }) }
    end,
}

-- Plans of the two turns: a program of vectors of its own for each request, the same ones in both.
local function plans(ctx, shape, operation)
    local made = {}
    for turn = 1, 2 do
        local specs, seed = {}, 0
        for i = 1, shape.requests do
            local function vectors(n)
                seed = seed + 1
                return steer.tensor.randn({ n or 1, shape.hidden }, { device = "cpu", seed = seed })
                    :reshape(unpack(n and { n, shape.hidden } or { shape.hidden }))
            end
            specs[i] = steer.spec { [0] = OPERATIONS[operation](vectors, turn) }
        end
        made[turn] = cases.engine(ctx, shape):plan(cases.requests_of(shape, specs), { path = "mixed" })
    end
    return made
end

return steer.sweep {
    name = "operations",
    axes = {
        "operation=[add,cap,caps8,ablate,cap_write,set,map,rotate,angle,turn,sae,subspace8,affine1,affine8,affine64,"
            .. "replace,keep_norm,when_any]", "shape=[A,B]", "dtype=[bf16]",
    },
    run = function(case, ctx)
        local on_gpu = ctx.device.id ~= "cpu"
        local made = { device = ctx.device, dtype = case.dtype, graph = on_gpu }
        local shape = cases.SHAPES[case.shape]
        local x = cases.hidden(made, shape)
        local turns = { plans = plans(made, shape, case.operation) }
        ctx.progress(0.3)
        local times = steer.bench.interleave({
            case = cases.functions(turns, { x }), stream = steer.bench.reference("stream", x),
        }, { device = ctx.device, max_seconds = SECONDS, max_samples = SAMPLES })
        exact.finite(x)
        x:close()
        local result, way = times.case, on_gpu and "gpu" or "wall"
        result.stream, result.over_stream = times.stream, result[way].median / times.stream[way].median
        local explanation = turns.plans[1]:explain(0)
        result.programs, result.launches, result.path = explanation.programs, explanation.launches, explanation.path
        return result
    end,
}
