--- Operations of low rank under the names that they have elsewhere; each is steer.affine, h + U'(M (V h) + bias).
--
-- Weights are [rank, hidden], a row each, rank at most 64: the transposes of what computes h @ weight.
local check = require "steer.core.check"
local operations = require "steer.spec.operations"
local options = require "steer.core.options"
local specs = require "steer.spec"
local T = require "steer.tensor"
local tensors = require "steer.tensor.object"
local tables = require "steer.core.tables"

local raise = require("steer.core.error").raise

local M = {}

local KEPT = { scale = "number", where = true, exclude = true, when = "table", at = "string" }

-- The options that steer.affine takes too, with a bias.
local function with_bias(opts, bias)
    local out = { bias = bias }
    for _, key in ipairs(tables.keys(KEPT)) do out[key] = opts[key] end
    return out
end

local function known(more)
    local all = {}
    for _, key in ipairs(tables.keys(KEPT)) do all[key] = KEPT[key] end
    for _, key in ipairs(more) do all[key] = true end
    return all
end

local LOREFT, DIREFT = known { "rotate", "weight", "bias" }, known { "rotate", "weight", "bias" }
LOREFT.orthonormal = "boolean"
local NOREFT = known { "project", "project_bias", "weight", "bias" }
local LINEAR = known { "bias" }

-- A required matrix as f32 rows on the CPU.
local function matrix(op, name, value)
    if value == nil then raise("invalid_argument", op, "%s: missing, expected [rank, hidden]", name) end
    local rows = operations.to_rows(op, name, value)
    if rows.ndim == 1 then rows = rows:reshape(1, rows:numel()) end
    return rows:to("cpu", "f32")
end

local function vector(op, name, value)
    return value ~= nil and operations.to_vector(op, name, value):to("cpu", "f32") or nil
end

local function same_shape(op, name, a, other, b)
    for dim = 1, 2 do
        if a:size(dim) ~= b:size(dim) then
            raise("shape_mismatch", op, "%s: [%d, %d], %s is [%d, %d]", name, a:size(1), a:size(2), other, b:size(1),
                b:size(2))
        end
    end
end

local NEAR = 0.01 -- of orthonormal rows' products, which bf16 rounds

-- R R' less the identity: its greatest element.
local function off_orthonormal(r)
    local products = r:matmul(r:transpose(1, 2))
    for i = 1, r:size(1) do products:set(i, i, products:get(i, i) - 1) end
    return products:abs():max()
end

-- Makes the rows orthonormal one after the other (Gram and Schmidt, twice).
local function orthonormalise(op, r)
    local q = r:clone()
    for i = 1, r:size(1) do
        local row, length = q:select(1, i), r[i]:norm()
        for _ = 1, i > 1 and 2 or 0 do
            local before = q:narrow(1, 1, i - 1)
            row:sub_(before:matmul(row):matmul(before))
        end
        if row:norm() <= 1e-5 * length then
            raise("invalid_argument", op, "rotate: row %d lies in the span of those before it", i)
        end
        row:copy_(row:normalize())
    end
    return q
end

local function rotation(op, r, orthonormal)
    if orthonormal then return orthonormalise(op, r) end
    local off = off_orthonormal(r)
    if orthonormal == nil and (off > NEAR or off ~= off) then
        raise("invalid_argument", op, "rotate: its rows are not orthonormal: R R' is up to %.3g away from the "
            .. "identity; orthonormal = true makes them so, false takes them as they are", off)
    end
    return r
end

--- LoReFT: h + R'(W h + b - R h) (Wu et al. 2024).
-- @tparam table opts rotate (R, [rank, hidden], its rows orthonormal), weight (W, the same), bias (b, [rank], default
-- 0), orthonormal (true: the rows of R are made so, in their order; false: taken as they are), scale (default 1),
-- where, exclude, when, at: `:help spec` has them
-- @return an operation; invalid_argument for rows that are not orthonormal and not said to be taken so
function M.loreft(opts)
    opts = options.check("loreft", opts, LOREFT)
    local r, w = matrix("loreft", "rotate", opts.rotate), matrix("loreft", "weight", opts.weight)
    same_shape("loreft", "weight", w, "rotate", r)
    r = rotation("loreft", r, opts.orthonormal)
    return specs.affine(w - r, r, with_bias(opts, opts.bias))
end

--- NoReFT: h + P'(W h + b - P h - c), P any matrix (Wu et al. 2024).
-- @tparam table opts project (P, [rank, hidden]), project_bias (c, [rank], default 0), weight (W, as P), bias (b,
-- default
-- 0), scale (default 1), where, exclude, when, at: `:help spec` has them
-- @return an operation
function M.noreft(opts)
    opts = options.check("noreft", opts, NOREFT)
    local p, w = matrix("noreft", "project", opts.project), matrix("noreft", "weight", opts.weight)
    same_shape("noreft", "weight", w, "project", p)
    local bias, less = vector("noreft", "bias", opts.bias), vector("noreft", "project_bias", opts.project_bias)
    if less then bias = bias and bias - less or -less end
    return specs.affine(w - p, p, with_bias(opts, bias))
end

--- DiReFT: h + R'(W h + b) (Wu et al. 2024).
-- @tparam table opts rotate (R, [rank, hidden]), weight (W, the same), bias (b, [rank], default 0), scale (default
-- 1),
-- where, exclude, when, at: `:help spec` has them
-- @return an operation
function M.direft(opts)
    opts = options.check("direft", opts, DIREFT)
    local r, w = matrix("direft", "rotate", opts.rotate), matrix("direft", "weight", opts.weight)
    same_shape("direft", "weight", w, "rotate", r)
    return specs.affine(w, r, with_bias(opts, opts.bias))
end

-- ---- A whole matrix ------------------------------------------------------------------------------------------------

local MOST_RANK = 64

-- Factors of A - 1 by cross approximation with full pivoting: rows V and columns U with A - 1 = U'V up to what f32
-- keeps.
local function factor(op, a)
    local ffi = require "ffi"
    local n = a:size(1)
    local at, rest, largest = ffi.cast("float *", a:data()), ffi.new("double[?]", n * n), 0
    for i = 0, n * n - 1 do
        rest[i] = at[i]
        largest = math.max(largest, math.abs(rest[i]))
    end
    for i = 0, n - 1 do rest[i * n + i] = rest[i * n + i] - 1 end
    local read, write, enough = {}, {}, 2 ^ -24 * math.max(largest, 1)
    while true do
        local best, pivot = enough, nil
        for i = 0, n * n - 1 do
            local size = math.abs(rest[i])
            if size > best then best, pivot = size, i end
        end
        if not pivot then return read, write end
        if #read == MOST_RANK then
            raise("unsupported", op, "matrix: less the identity it is of a rank above %d", MOST_RANK)
        end
        local row, column, by = math.floor(pivot / n), pivot % n, 1 / rest[pivot]
        local v, u = ffi.new("double[?]", n), ffi.new("double[?]", n)
        for i = 0, n - 1 do v[i], u[i] = rest[row * n + i], rest[i * n + column] * by end
        for i = 0, n - 1 do
            for j = 0, n - 1 do rest[i * n + j] = rest[i * n + j] - u[i] * v[j] end
        end
        read[#read + 1], write[#write + 1] = v, u
    end
end

local function rows_of(lists, n)
    local all = T.empty({ #lists, n }, { dtype = "f32", device = "cpu" })
    local to = require("ffi").cast("float *", all:data())
    for i, list in ipairs(lists) do
        for j = 0, n - 1 do to[(i - 1) * n + j] = list[j] end
    end
    return all
end

-- The map of these rows, to which a bias is added along a vector of its own.
local function shifted(read, write, bias, opts)
    local n, rank, on_cpu = bias:numel(), #read, { dtype = "f32", device = "cpu" }
    local u, m = T.zeros({ rank + 1, n }, on_cpu), T.zeros({ rank + 1, math.max(rank, 1) }, on_cpu)
    local b = T.zeros({ rank + 1 }, on_cpu)
    if rank > 0 then u:narrow(1, 1, rank):copy_(rows_of(write, n)) end
    u:select(1, rank + 1):copy_(bias)
    b:set(rank + 1, 1)
    for i = 1, rank do m:set(i, i, 1) end
    local out = with_bias(opts, b)
    out.matrix = m
    return specs.affine(rank > 0 and rows_of(read, n) or T.ones({ 1, n }, on_cpu), u, out)
end

--- A linear map of h: A h + bias. What A is beside the identity must be of rank 64 at most.
-- @param a [hidden, hidden]
-- @tparam[opt] table opts bias ([hidden], default 0), scale (of the change, default 1), where, exclude, when, at:
-- `:help
-- spec` has them
-- @return an operation; unsupported for a matrix of a higher rank
function M.linear(a, opts)
    opts = options.check("linear", opts, LINEAR)
    if not tensors.is(a) and type(a) ~= "table" then
        raise("invalid_argument", "linear", "matrix: expected [hidden, hidden], got %s", check.describe(a))
    end
    a = matrix("linear", "matrix", a):contiguous()
    if a:size(1) ~= a:size(2) then
        raise("shape_mismatch", "linear", "matrix: [%d, %d], expected a square one", a:size(1), a:size(2))
    end
    local n = a:size(1)
    local read, write = factor("linear", a)
    local bias = vector("linear", "bias", opts.bias)
    if bias and bias:numel() ~= n then
        raise("shape_mismatch", "linear", "bias: %d elements, the matrix has %d rows", bias:numel(), n)
    end
    if not bias then
        if #read == 0 then -- the identity
            local on_cpu = { device = "cpu" }
            return specs.affine(T.ones({ 1, n }, on_cpu), T.zeros({ 1, n }, on_cpu), with_bias(opts))
        end
        return specs.affine(rows_of(read, n), rows_of(write, n), with_bias(opts))
    end
    if #read == MOST_RANK then
        raise("unsupported", "linear", "matrix: with a bias, less the identity, it may have rank %d", MOST_RANK - 1)
    end
    return shifted(read, write, bias, opts)
end

return M
