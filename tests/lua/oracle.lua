-- oracle.lua: steering in float64, one operation after the other, and the bound that results are held to.
--
-- Nothing here uses the library's steering code: operations are plain tables
--   {kind = "add"|"cap"|"ablate", v = double[], scale =, min =, max =, normalize =,
--    gate = {v = double[], above =|below =, cosine =}, where = selector, exclude = selector}
-- or, of every kind that there is, {kind =, vs = {double[], ...}, ws =, fields =} as operation_table.lua has them,
-- whose gates may be combined, {all = {...}}, {any = {...}} or {none = {...}};
-- whose vectors hold the values that the library was given, and requests are the tables given to engine:plan.

local ffi = require "ffi"
local bit = require "bit"
local rows = require("operation_table").rows

local oracle = {}

local abs, sqrt = math.abs, math.sqrt
local doubles = ffi.typeof("double[?]")

-- Mantissa bits (the hidden one included) and least exponent of the unit in the last place, per dtype.
local PRECISION = {
    f32 = { bits = 24, least = -149 },
    f16 = { bits = 11, least = -24 },
    bf16 = { bits = 8, least = -133 },
}

local split = ffi.new("union { double d; int32_t w[2]; }")
local HIGH = ffi.abi("le") and 1 or 0
local power = ffi.new("double[?]", 2200)
for e = -1074, 1023 do power[e + 1100] = 2 ^ e end

--- Distance between neighbouring numbers of `dtype` around x.
function oracle.ulp(x, dtype)
    local p = PRECISION[dtype]
    split.d = x
    local e = bit.band(bit.rshift(split.w[HIGH], 20), 0x7ff) - 1023 - p.bits + 1
    if e < p.least then e = p.least end
    return power[e + 1100]
end

--- x rounded once, to nearest even, to `dtype` (no overflow: callers keep values in range).
function oracle.round(x, dtype)
    local unit = oracle.ulp(x, dtype)
    local magic = 6755399441055744 -- 1.5 * 2^52: adding it rounds a double to an integer
    return ((x / unit + magic) - magic) * unit
end

--- An uninitialised buffer of n doubles.
function oracle.buffer(n) return doubles(n) end

--- The doubles of a Lua list.
function oracle.from(list) return doubles(#list, list) end

local function norm(v, n)
    local sum = 0
    for i = 0, n - 1 do sum = sum + v[i] * v[i] end
    return sqrt(sum)
end

local function dot(a, b, n)
    local sum = 0
    for i = 0, n - 1 do sum = sum + a[i] * b[i] end
    return sum
end

-- ---- Which tokens ------------------------------------------------------------------------------------------------

local function contains(list, value)
    for _, x in ipairs(list) do
        if x == value then return true end
    end
    return false
end

-- 1 if the selector takes the token at `position` of its sequence; `index` is its place in the request, from 0.
local function selects(selector, request, index)
    local position = (request.position or 0) + index
    local prompt = request.prompt_tokens
    if request.phase == "generation" then
        local generated = prompt and position - prompt
        if selector.generation == "all" then return true end
        if selector.generation_positions and contains(selector.generation_positions, generated) then return true end
        local w = selector.generation_window
        if w and generated >= w[1] and generated < w[2] then return true end
    else
        if selector.prompt == "all" then return true end
        for _, p in ipairs(selector.prompt_positions or {}) do
            if position == (p < 0 and prompt + p or p) then return true end
        end
        local w = selector.prompt_window
        if w then
            local from = w[1] < 0 and prompt + w[1] or w[1]
            local to = w[2] < 0 and prompt + w[2] or w[2]
            if position >= from and position < to then return true end
        end
    end
    return selector.token_ids ~= nil and contains(selector.token_ids, request.token_ids[index + 1])
end

--- Whether operation `op` acts on row `index` (from 0) of `request`.
function oracle.in_scope(op, request, index)
    if op.where and not selects(op.where, request, index) then return false end
    return not (op.exclude and selects(op.exclude, request, index))
end

-- ---- One row -----------------------------------------------------------------------------------------------------

-- Coefficient of v for the formulas; p is h.v.
local COEFFICIENT = {
    add = function(op) return op.scale or 1 end,
    cap = function(op, p)
        local lo, hi = op.min or -math.huge, op.max or math.huge
        return (p < lo and lo or p > hi and hi or p) - p
    end,
    ablate = function(op, p) return ((op.scale or 0) - 1) * p end,
}

-- Norms of an operation's vectors do not change from row to row.
local function prepare(op, n)
    if op.prepared == n then return end
    op.prepared = n
    if op.vs then return end
    local length = norm(op.v, n)
    local normalize = op.normalize
    if normalize == nil then normalize = op.kind ~= "add" end
    op.factor = normalize and 1 / length or 1
    op.length = length * op.factor
end

-- Whether the gate is open, and how far its value is from the threshold in units of what rounding can move it.
local gate_open
function gate_open(gate, h, n)
    local list = gate.all or gate.any or gate.none
    if list then
        local every, some, least = true, false, math.huge
        for _, part in ipairs(list) do
            local open, margin = gate_open(part, h, n)
            every, some, least = every and open, some or open, math.min(least, margin)
        end
        if gate.all then return every, least end
        return (gate.any ~= nil) == some, least
    end
    gate.length = gate.length or norm(gate.v, n)
    local size = norm(h, n)
    local value, unit = dot(h, gate.v, n), size * gate.length
    if gate.cosine then
        value, unit = unit > 0 and value / unit or 0, 1
    end
    local threshold = gate.above or gate.below
    local open
    if gate.above then open = value > threshold else open = value < threshold end
    return open, abs(value - threshold) / (unit + abs(threshold) + 1e-300)
end

-- Does to h and scale what operation_table.lua says of the operation; gives how far h is from where it jumps.
local function change(op, h, n, scale, first)
    local a, terms, margin, moved = rows[op.kind].change(op, h, n, first)
    for i = 0, n - 1 do
        h[i], scale[i] = a * h[i], (moved or abs(a)) * scale[i]
        for _, term in ipairs(terms) do
            h[i] = h[i] + term[1] * term[2][i]
            scale[i] = scale[i] + term[3] * abs(term[2][i])
        end
    end
    return margin or math.huge
end

--- Steers one row in place. h: double[n]; scale: double[n], receives per element the sum of the magnitudes that a
-- computation in f32 rounds. Returns true if an operation's scope covers the row, and the smallest gate margin.
function oracle.row(ops, h, n, scale, request, index)
    local covered, margin = false, math.huge
    local first = norm(h, n)
    for i = 0, n - 1 do scale[i] = abs(h[i]) end
    for _, op in ipairs(ops) do
        prepare(op, n)
        local open = oracle.in_scope(op, request, index)
        covered = covered or open
        if open and op.gate then
            local m
            open, m = gate_open(op.gate, h, n)
            if m < margin then margin = m end
        end
        if open and op.vs then
            margin = math.min(margin, change(op, h, n, scale, first))
        elseif open then
            local v, factor = op.v, op.factor
            local p = op.kind == "add" and 0 or dot(h, v, n) * factor
            local c = COEFFICIENT[op.kind](op, p)
            -- A dot product of rounded numbers is off by its inputs' lengths, however small the result.
            local size = abs(c) + (op.kind == "add" and 0 or norm(h, n) * op.length)
            c, size = c * factor, size * factor
            for i = 0, n - 1 do
                h[i] = h[i] + c * v[i]
                scale[i] = scale[i] + size * abs(v[i])
            end
        end
    end
    return covered, margin
end

-- ---- A batch -----------------------------------------------------------------------------------------------------

local SLACK = 2 ^ -20
-- A gate whose value is nearer to its threshold than this may open or not, by rounding alone.
local AMBIGUOUS = 2 ^ -18

--- Compares one row of results with the exact one.
-- Returns nil and how many elements differ from the exact rounding, or a message about the first element out of bound.
local function compare(out, exact, scale, n, dtype, base) -- base: the residual, or nil
    local off = 0
    for i = 0, n - 1 do
        local want = exact[i] - (base and base[i] or 0)
        local wrong = abs(out[i] - want)
        local bound = oracle.ulp(want, dtype) + SLACK * scale[i]
        if wrong > bound or wrong ~= wrong then
            return string.format("element %d is %.9g, exactly %.9g: off by %.3g, bound %.3g", i, out[i], want, wrong,
                bound)
        end
        if dtype ~= "f32" and out[i] ~= oracle.round(want, dtype) then off = off + 1 end
    end
    return nil, off
end

--- Checks a whole batch.
-- batch: {hidden =, dtype =, requests =, rows =, programs = {[request] = ops}, before =, after =, residual =}, with
-- before, after and residual as double[rows * hidden].
-- Returns counts {elements, off, rows, skipped, steered} or nil and a message.
function oracle.check(batch)
    local n, dtype = batch.hidden, batch.dtype
    local h, scale = doubles(n), doubles(n)
    local counts = { elements = 0, off = 0, rows = 0, skipped = 0, steered = 0 }
    local row = 0
    local function check_row(ops, request, r, index)
        local at = row * n
        local before, after = batch.before + at, batch.after + at
        local residual = batch.residual and batch.residual + at
        for i = 0, n - 1 do h[i] = before[i] + (residual and residual[i] or 0) end
        local covered, margin = oracle.row(ops, h, n, scale, request, index)
        counts.rows = counts.rows + 1
        if margin < AMBIGUOUS then
            counts.skipped = counts.skipped + 1
            return nil
        end
        if not covered then
            for i = 0, n - 1 do
                if after[i] ~= before[i] then
                    return string.format("row %d (request %d): an unsteered row changed at element %d", row, r, i)
                end
            end
            return nil
        end
        if residual then
            for i = 0, n - 1 do scale[i] = scale[i] + abs(residual[i]) end
        end
        local message, off = compare(after, h, scale, n, dtype, residual)
        if message then return string.format("row %d (request %d): %s", row, r, message) end
        counts.steered = counts.steered + 1
        counts.elements, counts.off = counts.elements + n, counts.off + off
        return nil
    end
    local none = {}
    for r, request in ipairs(batch.requests) do
        for index = 0, request.tokens - 1 do
            local message = check_row(batch.programs[r] or none, request, r, index)
            if message then return nil, message end
            row = row + 1
        end
    end
    while row < batch.rows do -- padding
        local message = check_row(none, {}, 0, 0)
        if message then return nil, message end
        row = row + 1
    end
    return counts
end

return oracle
