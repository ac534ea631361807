-- batches.lua: random operations, specs and batches for the steering tests, run on the library and held to the oracle.
--
-- STEER_TEST_DEVICE names the device, STEER_TEST_SEED repeats one random case, STEER_TEST_ROUNDS scales their number.
-- STEER_TEST_ROWS thins batches that are only large to be many rows for a GPU, which the suite does where rows are
-- steered one by one; with STEER_TEST_ROUNDS they are full.

local ffi = require "ffi"
local oracle = require "oracle"
local table_of = require "operation_table"
local steer = require "steer"

local M = {}

M.device = os.getenv("STEER_TEST_DEVICE") or "cpu"
if M.device == "cuda" then M.device = "cuda:0" end
M.dtypes = { "f32", "f16", "bf16" }

local T = steer.tensor
local random = math.random

-- ---- Random numbers ------------------------------------------------------------------------------------------------

--- A number of cases or rows as STEER_TEST_ROUNDS scales it, at least 1.
M.scaled = require("helper").rounds

--- A number of rows that are many for a GPU's kernels.
function M.many(rows)
    local thin = not os.getenv("STEER_TEST_ROUNDS") and tonumber(os.getenv("STEER_TEST_ROWS")) or 1
    return M.scaled(rows * thin)
end

--- Runs fn(seed) for `count` random cases; a failure names the seed that repeats it.
function M.rounds(count, fn)
    local fixed = tonumber(os.getenv("STEER_TEST_SEED"))
    for round = 1, fixed and 1 or M.scaled(count) do
        local seed = fixed or 7919 * round + count
        math.randomseed(seed)
        local ok, message = pcall(fn, seed)
        if not ok then
            error(("with STEER_TEST_SEED=%d: %s"):format(seed,
                type(message) == "table" and message.message or tostring(message)), 0)
        end
    end
end

function M.randn()
    return math.sqrt(-2 * math.log(1 - random())) * math.cos(2 * math.pi * random())
end

function M.choose(list) return list[random(#list)] end

local function chance(p) return random() < p end
M.chance = chance

-- ---- Tensors and doubles -------------------------------------------------------------------------------------------

--- The values of a tensor as double[].
function M.doubles(tensor)
    local host = tensor:to("cpu", "f32"):contiguous()
    local n = host:numel()
    local from, out = ffi.cast("float *", host:data()), oracle.buffer(n)
    for i = 0, n - 1 do out[i] = from[i] end
    return out
end

--- The bytes of a tensor as a string, for comparing bits.
function M.bytes(tensor)
    local host = tensor:to("cpu"):contiguous()
    local size = { f32 = 4, f16 = 2, bf16 = 2 }
    return ffi.string(host:data(), host:numel() * size[host.dtype])
end

--- A tensor of `dtype` on the device under test with the values of fn(i), i from 0.
function M.tensor(shape, dtype, fn, device)
    local host = T.empty(shape, { device = "cpu" })
    local to = ffi.cast("float *", host:data())
    for i = 0, host:numel() - 1 do to[i] = fn(i) end
    return host:to(device or M.device, dtype)
end

--- Hidden states: standard normal, [rows, hidden].
function M.hidden(rows, hidden, dtype) return M.tensor({ rows, hidden }, dtype, M.randn) end

-- ---- Operations ----------------------------------------------------------------------------------------------------

-- A vector of about the given length, as the library gets it and as double[].
local function vector(n, length, like)
    local unit = length / math.sqrt(n)
    local tensor = M.tensor({ n }, M.choose(M.dtypes), function(i)
        local x = M.randn() * unit
        return like and 0.9 * like[i] + 0.4 * x or x
    end, chance(0.5) and "cpu" or M.device)
    local doubles, zero = M.doubles(tensor), true
    for i = 0, n - 1 do zero = zero and doubles[i] == 0 end
    if zero then return vector(n, length, like) end
    return tensor, doubles
end

local ARGUMENTS = {
    add = function(op, n)
        op.normalize = chance(0.3) or nil
        op.scale = (op.normalize and math.sqrt(n) or 1) * M.randn() * 0.3
    end,
    cap = function(op)
        op.normalize = chance(0.8) and nil or false
        local a, b = M.randn(), M.randn()
        if chance(0.3) then op.min = a elseif chance(0.4) then op.max = a
        else op.min, op.max = math.min(a, b), math.max(a, b) end
    end,
    ablate = function(op)
        op.normalize = chance(0.8) and nil or false
        op.scale = M.choose { 0, 0, 0.5, -1, 1.2, 1 }
    end,
}

local random_gate
function random_gate(n, depth)
    if depth and chance(0.6) then
        local parts = { random_gate(n, depth - 1 > 0 and depth - 1 or nil), random_gate(n) }
        return { [M.choose { "all", "any", "none" }] = parts }
    end
    local gate = { cosine = chance(0.4) or nil }
    gate.tensor, gate.v = vector(n, 1 + random())
    local threshold = M.randn() * (gate.cosine and 0.5 / math.sqrt(n) or 0.7)
    gate[chance(0.5) and "above" or "below"] = threshold
    return gate
end

local function some(count, low, high)
    local list = {}
    for i = 1, random(count) do list[i] = random(low, high) end
    return list
end

local function random_selector()
    local selector = {}
    if chance(0.2) then selector.prompt = "all" end
    if chance(0.2) then selector.generation = "all" end
    if chance(0.4) then selector.prompt_positions = some(4, -6, 12) end
    if chance(0.3) then selector.prompt_window = M.choose { { 0, 4 }, { 2, 9 }, { -5, -1 }, { 3, -2 } } end
    if chance(0.4) then selector.generation_positions = some(4, 0, 6) end
    if chance(0.3) then selector.generation_window = M.choose { { 0, 3 }, { 1, 8 }, { 4, 5 } } end
    if chance(0.3) or next(selector) == nil then selector.token_ids = some(5, 0, 15) end
    return selector
end

--- A random operation for the oracle; `options` gives chances: gates, scopes.
function M.random_op(n, options, previous)
    local op = { kind = options.kind or M.choose { "add", "cap", "ablate" } }
    ARGUMENTS[op.kind](op, n)
    local normalized = op.normalize or (op.normalize == nil and op.kind ~= "add")
    local length = normalized and 0.3 + 3 * random() or op.kind == "add" and math.sqrt(n) * 0.3 or 0.8 + 0.3 * random()
    op.tensor, op.v = vector(n, length, previous and normalized and chance(0.3) and previous.v or nil)
    if chance(options.gates or 0) then op.gate = random_gate(n) end
    if chance(options.scopes or 0) then op.where = random_selector() end
    if chance((options.scopes or 0) / 2) then op.exclude = random_selector() end
    return op
end

-- What the rows of operation_table.lua make random operations with.
local function tools(n)
    return {
        randn = M.randn, chance = chance, choose = M.choose,
        -- A number of f32.
        round = function(x) return tonumber(ffi.cast("float", x)) end,
        -- `count` vectors of about the given length, as the library gets them and as a list of double[].
        vectors = function(count, length)
            local doubles, host = {}, T.empty({ count, n }, { device = "cpu" })
            for k = 1, count do
                local tensor
                tensor, doubles[k] = vector(n, length)
                host:select(1, k):copy_(tensor)
            end
            if count == 1 then host = host:reshape(n) end
            return host:to(chance(0.5) and "cpu" or M.device), doubles
        end,
    }
end

--- A random operation of any kind of operation_table.lua; `options` as for random_op, gates may be combined ones.
function M.random_any(n, options)
    options = options or {}
    local kind, t = options.kind or M.choose(table_of.kinds), tools(n)
    local row = table_of.rows[kind]
    if row.vectors == "two" and n < 2 then return M.random_any(n, options) end
    local count = row.vectors == "one" and 1 or row.vectors == "two" and 2 or row.vectors == "none" and 0
        or options.count or M.choose { 1, 1, 2, 3, 5, 9 }
    local op = { kind = kind, fields = {}, vs = {} }
    -- More vectors than dimensions cannot be independent, and as many leave rounding no room.
    if kind == "cap" or kind == "ablate" then count = math.min(count, math.ceil(n / 2)) end
    if count > 0 then op.tensor, op.vs = t.vectors(count, 1) end
    row.random(op, n, t)
    if chance(options.gates or 0) then op.gate = random_gate(n, 2) end
    if chance(options.scopes or 0) then op.where = random_selector() end
    if chance((options.scopes or 0) / 2) then op.exclude = random_selector() end
    return op
end

--- A list of `count` random operations of any kind.
function M.random_all(n, count, options)
    local ops = {}
    for i = 1, count do ops[i] = M.random_any(n, options) end
    return ops
end

local function build_gate(gate)
    for _, key in ipairs { "all", "any", "none" } do
        if gate[key] then
            local parts = {}
            for i, part in ipairs(gate[key]) do parts[i] = build_gate(part) end
            return { [key] = parts }
        end
    end
    return { vector = gate.tensor, above = gate.above, below = gate.below, cosine = gate.cosine }
end

--- A list of `count` random operations.
function M.random_ops(n, count, options)
    local ops = {}
    for i = 1, count do ops[i] = M.random_op(n, options or {}, ops[i - 1]) end
    return ops
end

--- The library's operation of an oracle's one.
function M.build(op)
    local opts = { normalize = op.normalize, where = op.where, exclude = op.exclude }
    if op.gate then opts.when = build_gate(op.gate) end
    if op.vs then
        for key, value in pairs(op.fields) do opts[key] = value end
        return require("steer.spec").make(op.kind, op.tensor, opts)
    end
    if op.kind == "cap" then
        opts.min, opts.max = op.min, op.max
        return steer.cap(op.tensor, opts)
    end
    return steer[op.kind](op.tensor, op.scale, opts)
end

--- The library's spec of a list of oracle operations on a layer.
function M.spec(ops, layer)
    local list = {}
    for i, op in ipairs(ops) do list[i] = M.build(op) end
    return steer.spec { [layer or 0] = list }
end

--- A spec of one operation, steer[kind](vector, ...), on layer 0.
function M.one(kind, ...) return steer.spec { [0] = { steer[kind](...) } } end

-- ---- Batches -------------------------------------------------------------------------------------------------------

--- Requests over `pool`, a list of { spec =, ops = }; returns them, the operations of each, and the sum of tokens.
function M.random_requests(pool, count, most_tokens)
    local requests, programs, rows = {}, {}, 0
    for r = 1, count do
        local entry = chance(0.8) and M.choose(pool) or nil
        local generation = chance(0.4)
        local tokens = chance(0.1) and 0 or generation and random(2) or random(most_tokens)
        local position = generation and 20 + random(0, 4) or random(0, 3)
        local ids = {}
        for i = 1, tokens do ids[i] = random(0, 15) end
        requests[r] = {
            spec = entry and entry.spec, tokens = tokens, position = position, token_ids = ids,
            phase = generation and "generation" or chance(0.5) and "prompt" or nil,
            prompt_tokens = generation and 20 or position + tokens + random(0, 2),
        }
        programs[r], rows = entry and entry.ops, rows + tokens
    end
    return requests, programs, rows
end

--- A batch over a pool of up to five specs: hidden states of `n` elements, requests, their operations; ops_of(chances)
-- gives the operations of one, with random chances of conditions and scopes.
function M.random_batch(n, dtype, ops_of, requests, most_tokens)
    local pool = {}
    for i = 1, random(5) do
        local ops = ops_of { gates = M.choose { 0, 0.4 }, scopes = M.choose { 0, 0.5 } }
        pool[i] = { ops = ops, spec = M.spec(ops) }
    end
    local batch = { hidden = n, dtype = dtype }
    batch.requests, batch.programs, batch.rows = M.random_requests(pool, requests, most_tokens)
    batch.rows = math.max(1, batch.rows + M.choose { 0, 0, 1, 7 })
    batch.before = M.hidden(batch.rows, n, dtype)
    return batch
end

--- Applies `plan` to the hidden states `before` (a tensor, which stays) and checks every row against the oracle.
-- batch: hidden, dtype, requests, programs, rows, layer, residual (a tensor or nil). Returns the oracle's counts.
function M.check(plan, batch, before)
    local after = before:clone()
    plan:apply(batch.layer or 0, after, batch.residual and { residual = batch.residual })
    local counts, message = oracle.check {
        hidden = batch.hidden, dtype = batch.dtype, requests = batch.requests, programs = batch.programs,
        rows = batch.rows, before = M.doubles(before), after = M.doubles(after),
        residual = batch.residual and M.doubles(batch.residual),
    }
    if not counts then
        error(("%s, hidden %d: %s"):format(batch.dtype, batch.hidden, message), 0)
    end
    return counts, after
end

--- Runs fn and returns the library's error, which must have `code` and mention each further string.
function M.fails(code, fn, ...)
    local ok, err = pcall(fn)
    assert(not ok, "expected " .. code .. ", but nothing failed")
    assert(type(err) == "table" and err.code, "expected " .. code .. ", got " .. tostring(err))
    assert(err.code == code, "expected " .. code .. ", got " .. tostring(err))
    for _, text in ipairs { ... } do
        assert(tostring(err):find(text, 1, true), ("%q does not mention %q"):format(tostring(err), text))
    end
    return err
end

return M
