--- Functions of each element, comparisons and choices, added to the tensor's methods and metatable.
local c = require "steer.core.c"
local check = require "steer.core.check"
local devices = require "steer.device"
local options = require "steer.core.options"
local raise = require("steer.core.error").raise
local base = require "steer.tensor.object"
require "steer.tensor.arithmetic"

local C = c.C
local methods, meta = base.methods, base.metatable
local use, binary = base.use, base.binary

local function code_of(name)
    return tonumber(C["STEER_" .. name:upper()])
end

-- ---- One element ---------------------------------------------------------------------------------------------------

local function unary(name)
    local op, kind = "tensor_" .. name, code_of(name)
    return function(self)
        local handle = use(self, op, "self")
        local dst = base.create_like(handle)
        c.alloc_as(op, nil, C.steer_tensor_unary, dst.handle, handle, kind)
        return dst
    end
end

-- Float dtypes; computed in f32 and rounded once. What has no real value is NaN.
methods.exp = unary "exp" --- t:exp() gives e^x of every element x. Float dtypes.
methods.log = unary "log" --- t:log() gives natural logarithms: -inf of 0, NaN of less. Float dtypes.
methods.sqrt = unary "sqrt" --- t:sqrt() gives square roots: NaN of less than 0. Float dtypes.
methods.abs = unary "abs" --- t:abs() gives magnitudes. Every dtype; the least integer of a dtype stays.
methods.sigmoid = unary "sigmoid" --- t:sigmoid() gives 1 / (1 + e^-x) of every element x. Float dtypes.
methods.tanh = unary "tanh" --- t:tanh() gives hyperbolic tangents. Float dtypes.
methods.asin = unary "asin" --- t:asin() gives arcsines in radians: NaN outside [-1, 1]. Float dtypes.
methods.acos = unary "acos" --- t:acos() gives arccosines in radians: NaN outside [-1, 1]. Float dtypes.

-- ---- Two elements --------------------------------------------------------------------------------------------------

local function pairwise(name, kind)
    local op = "tensor_" .. name
    kind = kind or code_of(name)
    return function(self, other) return binary(op, kind, self, other, 1) end
end

-- `other` is a number or a tensor that broadcasts, as of add. A comparison gives a mask: a u8 tensor of 1 and 0, whose
-- mean is the share of elements for which it holds. With NaN everything but ne is 0.
methods.eq = pairwise "eq" --- t:eq(other) gives the mask of self == other: a number, or a tensor that broadcasts.
methods.ne = pairwise "ne" --- t:ne(other) gives the mask of self ~= other; t:ne(t) is where t is NaN.
methods.lt = pairwise "lt" --- t:lt(other) gives the mask of self < other: a number, or a tensor that broadcasts.
methods.le = pairwise "le" --- t:le(other) gives the mask of self <= other: a number, or a tensor that broadcasts.
methods.gt = pairwise "gt" --- t:gt(other) gives the mask of self > other: a number, or a tensor that broadcasts.
methods.ge = pairwise "ge" --- t:ge(other) gives the mask of self >= other: a number, or a tensor that broadcasts.
methods.minimum = pairwise("minimum", code_of "lower") --- t:minimum(other) gives the lesser of each two; NaN wins.
methods.maximum = pairwise("maximum", code_of "upper") --- t:maximum(other) gives the greater of each two; NaN wins.

--- Gives self to the power of other, element by element; also written t ^ 2. Float dtypes; NaN for a negative number to
-- a power that is no integer.
-- @param other number or tensor, as of add
function methods:pow(other)
    local op = "tensor_pow"
    base.check_float(op, "self", tonumber(C.steer_tensor_dtype(use(self, op, "self"))))
    return binary(op, code_of "pow", self, other, 1)
end

--- A scalar tensor of a number, of the dtype and on the device of a handle.
local function scalar_like(op, name, value, handle)
    base.check_scalar(op, name, value, handle)
    local device, code = devices.of(C.steer_tensor_device(handle)), tonumber(C.steer_tensor_dtype(handle))
    return base.create(device, code, 0):fill_(value)
end

function meta.__pow(a, b)
    if type(a) == "number" then a = scalar_like("tensor_pow", "self", a, use(b, "tensor_pow", "other")) end
    return methods.pow(a, b)
end

--- Bounds every element: t:clamp(0) has nothing below 0, t:clamp(nil, 1) nothing above 1. NaN stays.
-- @param[opt] min number or tensor, as of add; or a table {min=, max=}
-- @param[opt] max number or tensor
function methods:clamp(min, max)
    local op = "tensor_clamp"
    use(self, op, "self")
    if type(min) == "table" then
        local bounds = options.check(op, min, { min = true, max = true })
        min, max = bounds.min, bounds.max
    end
    if min == nil and max == nil then raise("invalid_argument", op, "min: expected a bound, or one for max") end
    if type(min) == "number" and type(max) == "number" and min > max then
        raise("invalid_argument", op, "min: %.14g is above max, %.14g", min, max)
    end
    local raised = min == nil and self or binary(op, code_of "upper", self, min, 1)
    return max == nil and raised or binary(op, code_of "lower", raised, max, 1)
end

-- ---- Choices -------------------------------------------------------------------------------------------------------

--- Gives a where the mask is not 0, else b; `names` are the user's of a and b, where they have others.
local function where(op, mask, a, b, names)
    local hm = use(mask, op, "mask")
    if type(a) == "number" and type(b) == "number" then
        check.number(op, "b", b)
        a = base.create(devices.of(C.steer_tensor_device(hm)), base.dtype_codes.f32, 0):fill_(a)
    end
    if type(a) == "number" then a = scalar_like(op, "a", a, use(b, op, "b")) end
    local ha = use(a, op, "a")
    if type(b) == "number" then b = scalar_like(op, "b", b, ha) end
    local hb = use(b, op, "b")
    local code = base.promoted(tonumber(C.steer_tensor_dtype(ha)), tonumber(C.steer_tensor_dtype(hb)))
    local dst = base.create_broadcast(code, ha, hb, hm)
    local x, y = base.in_dtype(a, code), base.in_dtype(b, code)
    c.alloc_as(op, names, C.steer_tensor_where, dst.handle, hm, x.handle, y.handle)
    base.drop(x, a)
    base.drop(y, b)
    return dst
end
base.where, base.scalar_like = where, scalar_like

--- Keeps the elements where the mask is not 0 and takes those of other elsewhere: h:where(h:gt(0), 0).
-- steer.tensor.where(mask, a, b) chooses between any two.
-- @tparam tensor mask u8, as comparisons give it; broadcasts
-- @param other number, or a tensor on the same device; broadcasts; of two dtypes the result has that of a sum
function methods:where(mask, other)
    return where("tensor_where", mask, self, other)
end
