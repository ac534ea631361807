--- cases.lua: the batches that the engine benchmark times, built for a device: shapes, specs, plans.
--
-- A case has two plans that take turns, so that every launch changes every row: caps into [2, 3] and then into
-- [-3, -2], adds of +v/4 and then of -v/4, reflections. What is timed is never a row that may stay as it is.
local steer = require "steer"

local M = {}

--- Rows, hidden size and requests of each shape.
M.SHAPES = {
    A = { name = "A", rows = 2048, hidden = 2048, requests = 32 },
    B = { name = "B", rows = 256, hidden = 4096, requests = 256, phase = "generation" },
    C = { name = "C", rows = 65536, hidden = 8192, requests = 256 },
}

local function copy(fields)
    local other = {}
    for key, value in pairs(fields) do other[key] = value end
    return other
end

--- A shape with its rows and requests divided by `shrink`.
function M.shrunk(name, shrink)
    local shape = copy(M.SHAPES[name])
    shape.rows = math.max(4, math.floor(shape.rows / shrink))
    shape.requests = math.max(2, math.floor(shape.requests / shrink))
    return shape
end

local SEED = 20240607

-- Per operation: its arguments in the two turns, for the library and for the oracle alike.
local TURNS = {
    add = { { scale = 0.25 }, { scale = -0.25 } },
    cap = { { min = 2, max = 3 }, { min = -3, max = -2 } },
    ablate = { { scale = -1 }, { scale = -1 } },
}

local MAKE = {
    add = function(v, a) return steer.add(v, a.scale) end,
    cap = function(v, a) return steer.cap(v, a) end,
    ablate = function(v, a) return steer.ablate(v, a.scale) end,
}

--- A list of n equal operations.
function M.times(n, kind)
    local kinds = {}
    for i = 1, n do kinds[i] = kind end
    return kinds
end

--- Hidden states of a shape, standard normal, the same ones each time.
function M.hidden(ctx, shape)
    return steer.tensor.randn({ shape.rows, shape.hidden }, { dtype = ctx.dtype, device = ctx.device, seed = SEED })
end

--- The same shape with requests of unequal lengths: of two neighbours one has as many rows more as the other has less.
function M.uneven(shape)
    local other = copy(shape)
    other.uneven = true
    return other
end

--- Rows of each request: what is left over goes to the last one.
function M.tokens(shape, i)
    local each = math.floor(shape.rows / shape.requests)
    local left_over = i == shape.requests and shape.rows - each * shape.requests or 0
    if not shape.uneven or (i == shape.requests and i % 2 == 1) then return each + left_over end
    local more = 13 * math.floor((i + 1) / 2) % each
    return each + (i % 2 == 1 and -more or more) + left_over
end

--- First row, from 1, of each request.
function M.start(shape, i)
    local start = 1
    for k = 1, i - 1 do start = start + M.tokens(shape, k) end
    return start
end

local function request(shape, i, spec)
    local decode = shape.phase == "generation"
    return {
        spec = spec, tokens = M.tokens(shape, i), phase = shape.phase, position = decode and 40 or nil,
        prompt_tokens = decode and 33 or nil,
    }
end

local function requests_of(shape, specs)
    local requests = {}
    for i = 1, shape.requests do requests[i] = request(shape, i, specs[(i - 1) % #specs + 1]) end
    return requests
end

-- The specs of both turns: `count` of them, which share `sets` sets of vectors in f32; their operations.
local function make_specs(shape, count, sets, kinds)
    local pool = steer.tensor.randn({ sets * #kinds, shape.hidden }, { device = "cpu", seed = SEED + 1 })
    local specs, operations = { {}, {} }, { {}, {} }
    for turn = 1, 2 do
        for i = 1, count do
            local ops = {}
            for k, kind in ipairs(kinds) do
                ops[k] = MAKE[kind](pool:select(1, (i - 1) % sets * #kinds + k), TURNS[kind][turn])
            end
            specs[turn][i], operations[turn][i] = steer.spec { [0] = ops }, ops
        end
    end
    return specs, pool, operations
end

local engines = {} -- by hidden size, dtype and device

local function engine(ctx, shape)
    local key = ("%d %s %s"):format(shape.hidden, ctx.dtype, ctx.device.id)
    engines[key] = engines[key] or steer.engine { hidden = shape.hidden, dtype = ctx.dtype, device = ctx.device }
    return engines[key]
end

-- Plans the two turns of a case's specs and takes over what they explain.
local function plan_turns(case, path, compile)
    case.asked, case.plans = path, {}
    for turn = 1, 2 do
        local requests = requests_of(case.shape, case.specs[turn])
        case.plans[turn] = case.engine:plan(requests, { path = path, compile = compile })
    end
    local explanation = case.plans[1]:explain(0)
    for _, key in ipairs { "path", "why", "launches", "programs", "bytes", "compile" } do
        case[key] = explanation[key]
    end
    return case
end

--- Makes a case: a batch of a shape in which `specs` distinct specs of the operations `kinds` take turns.
-- ctx: device, dtype. opts: specs (default: one for each request), vectors (sets of vectors that the specs share;
-- default: a set for each spec), path ("auto"), compile (a mode of compilation, default the environment's).
-- Returns shape, kinds, count, plans (of the two turns), and path, why, launches, programs, bytes and compile as
-- plan:explain gives them.
function M.make(ctx, shape, kinds, opts)
    opts = opts or {}
    local count = opts.specs or shape.requests
    local sets = opts.vectors or count
    local specs, pool, operations = make_specs(shape, count, sets, kinds)
    return plan_turns({
        ctx = ctx, shape = shape, kinds = kinds, count = count, sets = sets, specs = specs, pool = pool,
        operations = operations, engine = engine(ctx, shape),
    }, opts.path or "auto", opts.compile)
end

--- The same specs in plans of another path, or compiled in another mode.
function M.again(case, path, compile)
    return plan_turns(copy(case), path, compile)
end

--- Requests whose specs have the turns as their layers 0 and 1.
function M.both_turns(case)
    local specs = {}
    for i = 1, case.count do
        specs[i] = steer.spec { [0] = case.operations[1][i], [1] = case.operations[2][i] }
    end
    return requests_of(case.shape, specs)
end

--- The functions to be timed: the two turns over each of the tensors in `list`, a turn over all of them first.
function M.functions(case, list)
    local fns = {}
    for turn = 1, 2 do
        local plan = case.plans[turn]
        for _, x in ipairs(list) do
            fns[#fns + 1] = function() plan:apply(0, x) end
        end
    end
    return fns
end

--- Request, from 1, of a row, from 1.
function M.request_of(shape, row)
    local i, left = 1, row - M.tokens(shape, 1)
    while left > 0 do
        i = i + 1
        left = left - M.tokens(shape, i)
    end
    return i
end

--- A plan of one request alone, with its first row and its rows.
function M.alone(case, i, path)
    local shape = case.shape
    local only = request(shape, i, case.specs[1][(i - 1) % case.count + 1])
    return case.engine:plan({ only }, { path = path }), M.start(shape, i), only.tokens
end

--- A plan of the batch with its requests in reverse order.
function M.reversed(case)
    local requests, reversed = requests_of(case.shape, case.specs[1]), {}
    for i, r in ipairs(requests) do reversed[#requests + 1 - i] = r end
    return case.engine:plan(reversed)
end

--- What the oracle needs of the operations of request i in the first turn: vectors as double[].
function M.oracle_ops(case, i, doubles)
    local ops, first = {}, (i - 1) % case.count % case.sets * #case.kinds
    for k, kind in ipairs(case.kinds) do
        local arguments = TURNS[kind][1]
        ops[k] = {
            kind = kind, v = doubles(case.pool:select(1, first + k)), scale = arguments.scale,
            min = arguments.min, max = arguments.max,
        }
    end
    return ops
end

--- Specs that act on 32 layers, one for each of n requests, with vectors that no other call has used.
function M.layered_specs(shape, n, seed)
    local pool = steer.tensor.randn({ n, shape.hidden }, { device = "cpu", seed = SEED + 100 + seed })
    local specs = {}
    for i = 1, n do
        local layers, op = {}, steer.cap(pool:select(1, i), { min = -1, max = 1 })
        for layer = 0, 31 do layers[layer] = { op } end
        specs[i] = steer.spec(layers)
    end
    return specs
end

--- Specs for the layers 0 to `layers` - 1, one for each of n requests: caps whose bounds change from layer to layer, so
-- that each changes every row. A spec has one vector, or with `own` one for each layer; vectors that no other seed has.
function M.deep_specs(shape, n, layers, seed, own)
    local each = own and layers or 1
    local pool = steer.tensor.randn({ n * each, shape.hidden }, { device = "cpu", seed = SEED + 1000 + seed })
    local specs = {}
    for i = 1, n do
        local at_layers, ops = {}, {}
        for layer = 0, layers - 1 do
            local key = own and layer or layer % 2
            ops[key] = ops[key] or steer.cap(pool:select(1, (i - 1) * each + (own and layer or 0) + 1),
                TURNS.cap[layer % 2 + 1])
            at_layers[layer] = { ops[key] }
        end
        specs[i] = steer.spec(at_layers)
    end
    return specs
end

--- Requests of a shape over a list of specs, in turn; the engine of the shape.
M.requests_of, M.engine = requests_of, engine

return M
