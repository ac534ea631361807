-- operation_table.lua: what each operation does to a row, in float64, and random ones of it: a row for each.
--
-- A row: vectors (how many: "one", "two", "several" or "none"), random(op, n, tools), which fills in an operation's
-- arguments, and change(op, h, n, first), which says what it does to the row h of n doubles whose norm before the
-- layer was `first`:
--   a, terms, margin, moved: h becomes a h + sum of c w over terms {c, w, size}; size is what rounding in f32 can move
--   c by, in units of it; margin says how far the row is from where the operation jumps, in units of what rounding
--   can move it by (nil: it does not jump); moved is to a as size is to c (nil: |a|).
-- op.vs are the vectors as double[], op.ws those of `write`; op.fields the arguments as steer.spec's make takes them.
local M = {}

local abs, sqrt = math.abs, math.sqrt
local HUGE = math.huge

local function dot(a, b, n)
    local sum = 0
    for i = 0, n - 1 do sum = sum + a[i] * b[i] end
    return sum
end

local function norm(a, n) return sqrt(dot(a, a, n)) end

local function clamp(x, lo, hi) return math.max(lo or -HUGE, math.min(hi or HUGE, x)) end

-- Unit vectors that span what the first ones span, each made in float64 (Gram and Schmidt, twice).
local function orthonormal(op, n)
    if op.basis then return op.basis end
    local basis = {}
    for k, v in ipairs(op.vs) do
        local x = require("ffi").new("double[?]", n)
        for i = 0, n - 1 do x[i] = v[i] end
        for _ = 1, 2 do
            for j = 1, k - 1 do
                local p = dot(x, basis[j], n)
                for i = 0, n - 1 do x[i] = x[i] - p * basis[j][i] end
            end
        end
        local size = norm(x, n)
        for i = 0, n - 1 do x[i] = x[i] / size end
        basis[k] = x
    end
    op.basis = basis
    return basis
end

-- The one vector as it is read: normalised unless the fields say otherwise.
local function unit(op, n)
    if op.fields.normalize == false then return op.vs[1] end
    return orthonormal(op, n)[1]
end

-- One term: p = h.v is changed by f(p), where rounding moves f by `slope` times what it moves p by.
local function one(op, h, n, f, slope)
    local v = unit(op, n)
    local p = dot(h, v, n)
    local c = f(p)
    return 1, { { c, op.ws and op.ws[1] or v, abs(c) + (slope or 1) * norm(h, n) * norm(v, n) } }
end

-- The same for each of the vectors, made orthonormal; f gives `slope` too.
local function each(op, h, n, f)
    local terms, size = {}, norm(h, n)
    local basis, p = orthonormal(op, n), {}
    for k, v in ipairs(basis) do p[k] = dot(h, v, n) end
    local c, slope = f(p)
    for k, v in ipairs(basis) do terms[k] = { c[k], v, abs(c[k]) + 2 * math.max(1, slope or 1) * size } end
    return 1, terms
end

local function length(p)
    local sum = 0
    for _, x in ipairs(p) do sum = sum + x * x end
    return sqrt(sum)
end

local function turned(p, degrees)
    local c, s = math.cos(math.rad(degrees)), math.sin(math.rad(degrees))
    return c * p[1] - s * p[2], s * p[1] + c * p[2]
end

local function bounds(fields, t)
    local a, b = t.randn(), t.randn()
    if t.chance(0.3) then fields.min = a
    elseif t.chance(0.4) then fields.max = a
    else fields.min, fields.max = math.min(a, b), math.max(a, b) end
end

local function random_write(op, t)
    if t.chance(0.5) then op.fields.write, op.ws = t.vectors(1, 1) end
end

local function random_degrees(op, _, t) op.fields.degrees = t.choose { 30, -45, 90, 170, 180, 5 } end

local function interpolate(points, x)
    if x <= points[1][1] then return points[1][2] end
    for i = 2, #points do
        local a, b = points[i - 1], points[i]
        if x <= b[1] then return a[2] + (x - a[1]) * (b[2] - a[2]) / (b[1] - a[1]) end
    end
    return points[#points][2]
end

-- steer.note, which changes nothing, and conditions on what it notes have tests of their own.
M.rows = {
    add = {
        vectors = "one", random = function(op, _, t) op.fields.scale = t.randn() end,
        change = function(op)
            return 1, { { op.fields.scale, op.vs[1], abs(op.fields.scale) } }
        end,
    },
    cap = {
        vectors = "several",
        random = function(op, _, t)
            bounds(op.fields, t)
            if #op.vs == 1 then random_write(op, t) end
        end,
        change = function(op, h, n)
            local function to(p) return clamp(p, op.fields.min, op.fields.max) end
            if #op.vs == 1 then return one(op, h, n, function(p) return to(p) - p end) end
            return each(op, h, n, function(p)
                local c, size = {}, length(p)
                local change = size > 0 and to(size) / size - 1 or 0
                for k, x in ipairs(p) do c[k] = change * x end
                return c, abs(change)
            end)
        end,
    },
    ablate = {
        vectors = "several",
        random = function(op, _, t)
            op.fields.scale = t.choose { 0, 0.5, -1, 1.2 }
            if #op.vs > 1 then return end
            if t.chance(0.6) then op.fields.side = t.choose { "positive", "negative" } end
            random_write(op, t)
        end,
        change = function(op, h, n)
            local gain, side = op.fields.scale - 1, op.fields.side
            local function f(p)
                return (not side or (side == "positive") == (p > 0)) and gain * p or 0
            end
            if #op.vs == 1 then return one(op, h, n, f, abs(gain)) end
            return each(op, h, n, function(p)
                local c = {}
                for k, x in ipairs(p) do c[k] = gain * x end
                return c
            end)
        end,
    },
    set = {
        vectors = "one",
        random = function(op, _, t)
            op.fields.target = t.randn()
            if t.chance(0.3) then op.fields.normalize = false end
            random_write(op, t)
        end,
        change = function(op, h, n) return one(op, h, n, function(p) return op.fields.target - p end) end,
    },
    map = {
        vectors = "one",
        random = function(op, _, t)
            local points, x = {}, -2
            for i = 1, math.random(6) do
                x = x + 0.2 + math.random()
                points[i] = { x, t.randn() }
            end
            op.fields.points = points
            random_write(op, t)
        end,
        change = function(op, h, n)
            return one(op, h, n, function(p) return interpolate(op.fields.points, p) - p end, 20)
        end,
    },
    rotate = {
        vectors = "two", random = random_degrees,
        change = function(op, h, n)
            return each(op, h, n, function(p)
                local x, y = turned(p, op.fields.degrees)
                return { x - p[1], y - p[2] }
            end)
        end,
    },
    angle = {
        vectors = "two", random = random_degrees,
        change = function(op, h, n)
            return each(op, h, n, function(p)
                local x, y = turned({ length(p), 0 }, op.fields.degrees)
                return { x - p[1], y - p[2] }
            end)
        end,
    },
    turn = {
        vectors = "one", random = random_degrees,
        change = function(op, h, n)
            local v = orthonormal(op, n)[1]
            local s, rest = dot(h, v, n), 0
            for i = 0, n - 1 do rest = rest + (h[i] - s * v[i]) ^ 2 end
            local size, q = norm(h, n), sqrt(rest)
            if q <= 1e-3 * size then return 1, {}, 0 end -- in no plane that rounding leaves alone
            local from, by = math.atan2(q, s), math.rad(op.fields.degrees)
            local to = clamp(from - by, 0, math.pi)
            local a = size * math.sin(to) / q
            local moved = abs(a) + size / q
            return a, { { size * math.cos(to) - a * s, v, 4 * moved * size } }, HUGE, moved
        end,
    },
    sae = {
        vectors = "several",
        random = function(op, _, t)
            bounds(op.fields, t)
            op.fields.scale = t.choose { 1, 1, 0, 0.5, 3 }
            op.fields.activation = t.choose { "relu", "relu", "linear" }
            op.fields.threshold = t.choose { 0, 0, 0.4 }
            op.fields.write, op.ws = t.vectors(#op.vs, 1)
            if t.chance(0.6) then
                local bias = {}
                for k = 1, #op.vs do bias[k] = t.round(t.randn()) end
                op.fields.bias = bias
            end
        end,
        change = function(op, h, n)
            local f, terms, margin = op.fields, {}, HUGE
            for k, v in ipairs(op.vs) do
                local s = dot(h, v, n) + (f.bias and f.bias[k] or 0)
                local unit_of_s = norm(h, n) * norm(v, n) + abs(f.bias and f.bias[k] or 0)
                local z = s
                if f.activation == "relu" then
                    if s <= f.threshold then z = 0 end
                    if f.threshold > 0 then
                        margin = math.min(margin, abs(s - f.threshold) / (unit_of_s + f.threshold))
                    end
                end
                local c = clamp(f.scale * z, f.min, f.max) - z
                terms[k] = { c, op.ws[k], abs(c) + (1 + f.scale) * unit_of_s }
            end
            return 1, terms, margin
        end,
    },
    affine = {
        vectors = "several",
        random = function(op, _, t)
            local reads, writes = #op.vs, t.chance(0.5) and #op.vs or math.random(9)
            op.fields.scale = t.choose { 1, 1, -0.5 }
            op.fields.write, op.ws = t.vectors(writes, 1)
            if writes ~= reads or t.chance(0.5) then
                local matrix = {}
                for w = 1, writes do
                    matrix[w] = {}
                    for k = 1, reads do matrix[w][k] = t.round(t.randn() * 0.5) end
                end
                op.fields.matrix = matrix
            end
            if t.chance(0.5) then
                op.fields.bias = {}
                for w = 1, writes do op.fields.bias[w] = t.round(t.randn()) end
            end
        end,
        change = function(op, h, n)
            local f, terms, size = op.fields, {}, norm(h, n)
            for w = 1, #op.ws do
                local c = f.bias and f.bias[w] or 0
                local most = abs(c)
                for k, v in ipairs(op.vs) do
                    local m = f.matrix and f.matrix[w][k] or (not f.matrix and k == w and 1 or 0)
                    c, most = c + m * dot(h, v, n), most + abs(m) * size * norm(v, n)
                end
                terms[w] = { f.scale * c, op.ws[w], abs(f.scale) * (abs(c) + most) }
            end
            return 1, terms
        end,
    },
    replace = {
        vectors = "one", random = function(op, _, t) op.fields.scale = t.choose { 1, 1, 0, 2.5 } end,
        change = function(op) -- a delta is rounded at the size of what it is from
            return 0, { { op.fields.scale, op.vs[1], abs(op.fields.scale) } }, nil, 1
        end,
    },
    keep_norm = {
        vectors = "none", random = function() end,
        change = function(_, h, n, first)
            local size = norm(h, n)
            if size == 0 then return 1, {} end
            return first / size, {}, size / (first + 1e-300) < 1e-2 and 0 or HUGE, 2
        end,
    },
}

--- The kinds, in alphabetical order.
M.kinds = {}
for kind in pairs(M.rows) do M.kinds[#M.kinds + 1] = kind end
table.sort(M.kinds)

return M
