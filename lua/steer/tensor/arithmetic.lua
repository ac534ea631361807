--- Arithmetic, reductions and products of tensors, added to the tensor's methods and metatable.
local c = require "steer.core.c"
local check = require "steer.core.check"
local devices = require "steer.device"
local options = require "steer.core.options"
local raise = require("steer.core.error").raise
local base = require "steer.tensor.object"
local tables = require "steer.core.tables"

local C = c.C
local methods, meta = base.methods, base.metatable
local use, dims, create, create_like = base.use, base.dims, base.create, base.create_like
local dim_index = base.dim_index
local codes, names, floats = base.dtype_codes, base.dtype_names, base.floats

-- Plain numbers: enumerators of the library are cdata to LuaJIT.
local ADD, SUB, MUL, DIV = 0, 1, 2, 3
local F32, I64, U8 = codes.f32, codes.i64, codes.u8
local COMPARES = {}
for _, name in ipairs { "EQ", "NE", "LT", "LE", "GT", "GE" } do COMPARES[tonumber(C["STEER_" .. name])] = true end
local WIDENS = { [ADD] = true, [SUB] = true, [MUL] = true } -- u8
local OTHER = { value = "other", a = "self", dst = "self" } -- by the library's names

local function dtype_of(handle)
    return tonumber(C.steer_tensor_dtype(handle))
end

-- ---- Elementwise ---------------------------------------------------------------------------------------------------

-- Of two dtypes the one that stands later holds what comes of both, as in PyTorch; f16 and bf16 meet in f32.
local RANKS = { u8 = 1, i32 = 2, i64 = 3, f16 = 4, bf16 = 4, f32 = 5 }

--- Gives the dtype, as its code, that two dtypes are promoted to.
local function promoted(a, b)
    if a == b then return a end
    local first, second = RANKS[names[a]], RANKS[names[b]]
    if first == second then return F32 end
    return first > second and a or b
end

--- Gives a tensor in a dtype: itself where it has that already. The other one is freed by drop(it, tensor).
local function in_dtype(tensor, code)
    return dtype_of(tensor.handle) == code and tensor or tensor:to(names[code])
end

local function drop(made, tensor)
    if made ~= tensor then made:close() end
end

--- Makes a tensor of the shape that a, b and, if there is one, c broadcast to. Where they do not, it has that of a, and
-- the library says what is wrong.
local function create_broadcast(code, a, b, c_)
    local na, nb, nc = C.steer_tensor_ndim(a), C.steer_tensor_ndim(b), c_ and C.steer_tensor_ndim(c_) or 0
    local ndim = math.max(na, nb, nc)
    for i = 1, ndim do -- from the last dimension
        local sa = i <= na and C.steer_tensor_size(a, na - i) or 1
        local sb = i <= nb and C.steer_tensor_size(b, nb - i) or 1
        local sc = i <= nc and C.steer_tensor_size(c_, nc - i) or 1
        local size = sa ~= 1 and sa or sb ~= 1 and sb or sc
        if not ((sa == size or sa == 1) and (sb == size or sb == 1) and (sc == size or sc == 1)) then
            return create_like(a, code)
        end
        dims[ndim - i] = size
    end
    return create(devices.of(C.steer_tensor_device(a)), code, ndim)
end

local function check_scalar(op, name, value, handle)
    check.number(op, name, value)
    if not floats[names[dtype_of(handle)]] and value % 1 ~= 0 then
        raise("dtype_mismatch", op, '%s: %s is not an integer, but the tensor is %s; convert it, as in t:to("f32")',
            name, tostring(value), names[dtype_of(handle)])
    end
    return value
end

--- The dtype in which integers are computed: u8, the dtype of masks, is added, subtracted and multiplied by numbers in
-- i64, which has room for counts (the product of two masks is one); all are divided in f32.
local function computed(kind, code)
    if kind == DIV and not floats[names[code]] then return F32 end
    return code == U8 and WIDENS[kind] and I64 or code
end

--- Computes a (kind) alpha * b into a new tensor; a is a tensor, b a tensor or a number. Comparisons give u8.
local function binary(op, kind, a, b, alpha)
    local ha = use(a, op, "self")
    if type(b) == "number" then
        local code = computed(kind, dtype_of(ha))
        if kind ~= DIV then check_scalar(op, "other", b, ha) end
        local wide = in_dtype(a, code)
        local dst = create_like(ha, COMPARES[kind] and U8 or code)
        c.check(C.steer_tensor_scalar(dst.handle, wide.handle, kind, b * alpha), op, OTHER)
        drop(wide, a)
        return dst
    end
    local hb = use(b, op, "other")
    local code = promoted(dtype_of(ha), dtype_of(hb))
    if kind ~= MUL then code = computed(kind, code) end
    local dst = create_broadcast(COMPARES[kind] and U8 or code, ha, hb)
    local x, y = in_dtype(a, code), in_dtype(b, code)
    c.alloc_as(op, nil, C.steer_tensor_binary, dst.handle, x.handle, y.handle, kind, alpha)
    drop(x, a)
    drop(y, b)
    return dst
end

--- The same in place: computed in the dtype that both are promoted to, and rounded to that of a.
local function binary_(op, kind, a, b, alpha)
    local ha = use(a, op, "self")
    if type(b) == "number" then
        check_scalar(op, "other", b, ha)
        c.check(C.steer_tensor_scalar(ha, ha, kind, b * alpha), op, OTHER)
        return a
    end
    local hb = use(b, op, "other")
    local own, other = dtype_of(ha), dtype_of(hb)
    if floats[names[other]] and not floats[names[own]] then
        raise("dtype_mismatch", op, "other: %s, which %s cannot hold; not in place it makes a tensor of %s",
            names[other], names[own], names[other])
    end
    local code = promoted(own, other)
    local x, y = in_dtype(a, code), in_dtype(b, code)
    c.alloc_as(op, nil, C.steer_tensor_binary, x.handle, x.handle, y.handle, kind, alpha)
    if x ~= a then a:copy_(x) end
    drop(x, a)
    drop(y, b)
    return a
end

local function read_alpha(op, alpha, self)
    if alpha == nil then return 1 end
    return check_scalar(op, "alpha", alpha, use(self, op, "self"))
end

--- Gives self + alpha * other. `other` is a number or a tensor on the same device; shapes broadcast as in NumPy.
-- Floats compute in f32 and round once; integers wrap. Of two dtypes the result has the one that holds both, as in
-- PyTorch: the wider float, f32 of f16 and bf16, the float of a float and an integer. Sums of masks (u8) are i64.
-- @tparam[opt=1] number alpha
function methods:add(other, alpha)
    return binary("tensor_add", ADD, self, other, read_alpha("tensor_add", alpha, self))
end

--- Gives self - alpha * other.
function methods:sub(other, alpha)
    return binary("tensor_sub", SUB, self, other, read_alpha("tensor_sub", alpha, self))
end

--- Gives self * other, element by element; the product of two masks (u8) is a mask.
function methods:mul(other)
    return binary("tensor_mul", MUL, self, other, 1)
end

--- Gives self / other, element by element; integers give f32.
function methods:div(other)
    return binary("tensor_div", DIV, self, other, 1)
end

--- Adds alpha * other in place; other broadcasts to self's shape. The dtype stays: f16 and bf16 take f32 and round
-- the result once; integers take no floats.
-- @treturn tensor self
function methods:add_(other, alpha)
    return binary_("tensor_add", ADD, self, other, read_alpha("tensor_add", alpha, self))
end

--- Subtracts alpha * other in place.
function methods:sub_(other, alpha)
    return binary_("tensor_sub", SUB, self, other, read_alpha("tensor_sub", alpha, self))
end

--- Multiplies by other in place.
function methods:mul_(other)
    return binary_("tensor_mul", MUL, self, other, 1)
end

--- Divides by other in place; integers truncate.
function methods:div_(other)
    return binary_("tensor_div", DIV, self, other, 1)
end

--- Sets every element to a number.
-- @treturn tensor self
function methods:fill_(value)
    local op = "tensor_fill"
    local handle = use(self, op, "self")
    c.check(C.steer_tensor_fill(handle, check_scalar(op, "value", value, handle)))
    return self
end

--- Sets every element to 0.
function methods:zero_()
    return self:fill_(0)
end

function meta.__add(a, b)
    if type(a) == "number" then a, b = b, a end
    return binary("tensor_add", ADD, a, b, 1)
end

function meta.__sub(a, b)
    if type(a) ~= "number" then return binary("tensor_sub", SUB, a, b, 1) end
    return binary("tensor_sub", MUL, b, -1, 1):add_(a)
end

function meta.__mul(a, b)
    if type(a) == "number" then a, b = b, a end
    return binary("tensor_mul", MUL, a, b, 1)
end

function meta.__div(a, b)
    if type(a) ~= "number" then return binary("tensor_div", DIV, a, b, 1) end
    local handle = use(b, "tensor_div", "other")
    local code = dtype_of(handle)
    -- The number must not round to f16 or bf16 before the division.
    local quotient, divisor = create_like(handle, F32):fill_(check.number("tensor_div", "self", a)), b:to("f32")
    quotient:div_(divisor)
    divisor:close()
    if not floats[names[code]] or code == F32 then return quotient end
    local result = quotient:to(names[code])
    quotient:close()
    return result
end

function meta.__unm(a)
    return binary("tensor_neg", MUL, a, -1, 1)
end

-- ---- Reductions ----------------------------------------------------------------------------------------------------

local SUM, MEAN, MAX, MIN, ARGMAX, NORM = 0, 1, 2, 3, 4, 5
local VAR, STD, POPULATION_VAR, POPULATION_STD, ARGMIN = 6, 7, 8, 9, 10
local reduce_options = { dtype = "string", keepdim = "boolean" }
local spread_options = { dtype = "string", keepdim = "boolean", correction = "number" }
local norm_options = { dtype = "string", keepdim = "boolean", p = "number", dim = "number" }

local function gives_index(kind)
    return kind == ARGMAX or kind == ARGMIN
end

--- Picks the result's dtype: floats keep theirs, integer sums are i64, integer means and variances and all norms f32:
-- f16 rows have norms that f16 cannot hold.
local function result_code(op, kind, code, opts)
    if gives_index(kind) then return I64 end
    if opts.dtype then return base.dtype_code(op, opts.dtype) end
    if kind ~= NORM and (floats[names[code]] or kind == MAX or kind == MIN) then return code end
    return kind == SUM and I64 or F32
end

--- Reduces along dimension d, from 0, or everything when d is -1.
local function reduce_into(dst, self, handle, kind, d)
    if kind ~= SUM or floats[names[dtype_of(handle)]] then
        c.alloc(C.steer_tensor_reduce, dst.handle, handle, kind, d)
        return
    end
    local wide = self:to("i64") -- the sum of narrow integers would not fit their own dtype
    c.alloc(C.steer_tensor_reduce, dst.handle, wide.handle, kind, d)
    wide:close()
end

--- Reduces everything to a Lua number.
local function reduce_all(op, kind, self)
    local handle = use(self, op, "self")
    local code = dtype_of(handle)
    -- A number has no dtype of its own, so floats are not rounded below f32.
    local result = floats[names[code]] and not gives_index(kind) and F32 or result_code(op, kind, code, {})
    local dst = create(devices.of(C.steer_tensor_device(handle)), result, 0)
    reduce_into(dst, self, handle, kind, -1)
    local value = dst:item()
    dst:close()
    return gives_index(kind) and value + 1 or value
end

local function reduce(op, kind, self, dim, opts)
    local given = opts
    opts = options.check(op, opts, reduce_options)
    if dim == nil then
        if given ~= nil and tables.first(given) ~= nil then
            raise("invalid_argument", op, "opts: without a dim the result is a number, expected no options")
        end
        return reduce_all(op, kind, self)
    end
    local handle = use(self, op, "self")
    local ndim = C.steer_tensor_ndim(handle)
    local d = dim_index(op, "dim", dim, ndim)
    local result = result_code(op, kind, dtype_of(handle), opts)
    for i = 0, ndim - 2 do dims[i] = C.steer_tensor_size(handle, i < d and i or i + 1) end
    local dst = create(devices.of(C.steer_tensor_device(handle)), result, ndim - 1)
    reduce_into(dst, self, handle, kind, d)
    if gives_index(kind) then dst:add_(1) end
    return opts.keepdim and dst:unsqueeze(d + 1) or dst
end

--- Sums along a dimension, or everything. Accumulates in f64, integers in i64.
-- @tparam[opt] number dim from 1, or from the end; without it the result is a Lua number
-- @tparam[opt] table opts keepdim=true leaves the dimension with size 1; dtype="f32" widens the result
-- @return a tensor without that dimension, of the same dtype (i64 for integers), or a number
function methods:sum(dim, opts)
    return reduce("tensor_sum", SUM, self, dim, opts)
end

--- Averages along a dimension, or everything; as sum. Integers give f32.
-- @raise invalid_argument if there are no elements
function methods:mean(dim, opts)
    return reduce("tensor_mean", MEAN, self, dim, opts)
end

--- Takes the greatest element along a dimension, or of everything; NaN wins.
function methods:max(dim, opts)
    return reduce("tensor_max", MAX, self, dim, opts)
end

--- Takes the least element along a dimension, or of everything; NaN wins.
function methods:min(dim, opts)
    return reduce("tensor_min", MIN, self, dim, opts)
end

--- Gives the index, from 1, of the first greatest element along a dimension (an i64 tensor), or in row-major order of
-- everything (a number).
function methods:argmax(dim, opts)
    return reduce("tensor_argmax", ARGMAX, self, dim, opts)
end

--- Gives the index of the first least element; as argmax.
function methods:argmin(dim, opts)
    return reduce("tensor_argmin", ARGMIN, self, dim, opts)
end

--- A variance or standard deviation; `dim` may be the options.
local function spread(op, sample, population, self, dim, opts)
    if type(dim) == "table" then dim, opts = nil, dim end
    local given = options.check(op, opts, spread_options)
    local correction = check.integer(op, "opts.correction", given.correction or 1, 0, 1)
    local rest = (given.dtype or given.keepdim) and { dtype = given.dtype, keepdim = given.keepdim } or nil
    return reduce(op, correction == 1 and sample or population, self, dim, rest)
end

--- Gives the variance along a dimension, or of everything, of a sample: squared distances from the mean over n - 1, NaN
-- of one element. As mean; computed in f64.
-- @tparam[opt] number dim
-- @tparam[opt] table opts correction=0 divides by n; keepdim, dtype as of sum. t:var{correction = 0} is of everything
function methods:var(dim, opts)
    return spread("tensor_var", VAR, POPULATION_VAR, self, dim, opts)
end

--- Gives the standard deviation along a dimension, or of everything: the root of var, with its options.
function methods:std(dim, opts)
    return spread("tensor_std", STD, POPULATION_STD, self, dim, opts)
end

--- Sorts out what a norm was asked for: p, dim, options.
-- A number alone is a dimension. Elsewhere it is p, so where both readings are likely it is refused.
local function read_norm(op, ndim, p, dim, opts)
    if type(p) == "table" then
        local given = options.check(op, p, norm_options)
        local rest = (given.dtype or given.keepdim) and { dtype = given.dtype, keepdim = given.keepdim } or nil
        return given.p or 2, given.dim, rest
    elseif type(dim) == "number" then
        return p, dim, opts
    end
    if opts ~= nil then check.type(op, "dim", dim, "number", "a number between p and the options") end
    if type(p) == "number" and (ndim == 1 and p == 1 and dim == nil or p > ndim or p % 1 ~= 0) then
        local all = p == math.huge and "math.huge" or ("%.14g"):format(p)
        raise("invalid_argument", op, "dim: %s alone is a dimension; write t:norm() for the Euclidean norm of "
            .. "everything, t:norm{p = %s} for another, t:norm(p, dim) for one along a dimension", all, all)
    end
    return 2, p, dim
end

--- Gives a norm along a dimension, or of everything; as sum, but the tensor is f32 unless opts.dtype says otherwise.
-- t:norm() is the Euclidean norm of everything and t:norm(dim) that along a dimension; t:norm(p, dim) has p = 1 (the
-- sum of magnitudes), 2 or math.huge (the greatest magnitude), and t:norm{p = 1} is of everything.
-- @param[opt] p number; a number alone is a dimension. Or a table {p=, dim=, keepdim=, dtype=}
-- @tparam[opt] number dim
-- @tparam[opt] table opts keepdim, dtype
function methods:norm(p, dim, opts)
    local op = "tensor_norm"
    p, dim, opts = read_norm(op, C.steer_tensor_ndim(use(self, op, "self")), p, dim, opts)
    if p == 2 then return reduce(op, NORM, self, dim, opts) end
    if p ~= 1 and p ~= math.huge then
        raise("invalid_argument", op, "p: expected 1, 2 or math.huge, got %s", check.describe(p))
    end
    if dim ~= nil then
        opts = options.check(op, opts, reduce_options)
        opts = { keepdim = opts.keepdim, dtype = opts.dtype or "f32" }
    end
    local magnitudes = self:abs()
    local result = reduce(op, p == 1 and SUM or MAX, magnitudes, dim, opts)
    magnitudes:close()
    return result
end

-- ---- Rows and products ---------------------------------------------------------------------------------------------

local function rowwise(fn, handle, d)
    local dst = create_like(handle)
    c.alloc(fn, dst.handle, handle, d)
    return dst
end

--- Divides by the Euclidean norm along a dimension, or of everything. Float dtypes.
-- @tparam[opt] number dim
-- @raise invalid_argument for a zero norm on the CPU; on a GPU the result is NaN
function methods:normalize(dim)
    local handle = use(self, "tensor_normalize", "self")
    local d = dim and dim_index("tensor_normalize", "dim", dim, C.steer_tensor_ndim(handle)) or -1
    return rowwise(C.steer_tensor_normalize, handle, d)
end

--- Computes softmax along a dimension. Float dtypes.
-- @tparam[opt=-1] number dim
function methods:softmax(dim)
    local handle = use(self, "tensor_softmax", "self")
    local d = dim_index("tensor_softmax", "dim", dim or -1, C.steer_tensor_ndim(handle))
    return rowwise(C.steer_tensor_softmax, handle, d)
end

local function matmul(op, self, other)
    local a, b = use(self, op, "self"), use(other, op, "other")
    base.check_float(op, "self", dtype_of(a))
    base.check_float(op, "other", dtype_of(b))
    local na, nb = C.steer_tensor_ndim(a), C.steer_tensor_ndim(b)
    local ndim = 0
    if na > 0 and nb > 0 and C.steer_tensor_size(a, na - 1) == C.steer_tensor_size(b, math.max(nb - 2, 0)) then
        for i = 0, na - 2 do dims[ndim], ndim = C.steer_tensor_size(a, i), ndim + 1 end
        if nb > 1 then dims[ndim], ndim = C.steer_tensor_size(b, nb - 1), ndim + 1 end
    end -- else the library refuses them, whatever the result's shape
    local code = promoted(dtype_of(a), dtype_of(b))
    local dst = create(devices.of(C.steer_tensor_device(a)), code, ndim)
    local x, y = in_dtype(self, code), in_dtype(other, code)
    c.alloc_as(op, nil, C.steer_tensor_matmul, dst.handle, x.handle, y.handle)
    drop(x, self)
    drop(y, other)
    return dst
end

--- Multiplies matrices: [m,k]@[k,n], [k]@[k,n], [m,k]@[k], [k]@[k] and batches [b,m,k]@[b,k,n]. Float dtypes, of two
-- the wider; products accumulate in f32.
-- @tparam tensor other
function methods:matmul(other) return matmul("tensor_matmul", self, other) end

--- Gives the dot product of two one-dimensional tensors as a Lua number; f16 and bf16 are not rounded below f32.
-- @tparam tensor other of the same length and device
function methods:dot(other)
    local op = "tensor_dot"
    local a, b = use(self, op, "self"), use(other, op, "other")
    local vectors = C.steer_tensor_ndim(a) == 1 and C.steer_tensor_ndim(b) == 1
    if not vectors or C.steer_tensor_numel(a) ~= C.steer_tensor_numel(b) then
        raise("shape_mismatch", op, "other: expected two one-dimensional tensors of one length, got %s and %s",
            base.shape_text(a), base.shape_text(b))
    end
    local float = floats[names[promoted(dtype_of(a), dtype_of(b))]]
    local x, y = self:to(float and "f32" or "i64"), other:to(float and "f32" or "i64")
    local product = float and matmul(op, x, y) or binary(op, MUL, x, y, 1)
    local value = float and product:item() or product:sum()
    x:close()
    y:close()
    product:close()
    return value
end

-- The enumerations above are fixed by the interface.
assert(DIV == tonumber(C.STEER_DIV) and NORM == tonumber(C.STEER_NORM) and ARGMIN == tonumber(C.STEER_ARGMIN))

-- For tensor/elementwise.
base.binary, base.check_scalar, base.create_broadcast = binary, check_scalar, create_broadcast
base.promoted, base.in_dtype, base.drop = promoted, in_dtype, drop
