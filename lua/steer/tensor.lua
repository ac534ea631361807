--- steer.tensor: making tensors, and their methods (in the files of lua/steer/tensor/).
-- Common options: dtype ("f32" unless given; "f16" "bf16" "i32" "i64" "u8") and device (an id or a device; the default
-- device unless given). A shape is a list of sizes, 0 and up, of at most 8 dimensions; {} makes a scalar.
local ffi = require "ffi"
local c = require "steer.core.c"
local check = require "steer.core.check"
local devices = require "steer.device"
local options = require "steer.core.options"
local raise = require("steer.core.error").raise
local base = require "steer.tensor.object"
require "steer.tensor.order"
local values = require "steer.tensor.elements"
require "steer.tensor.print"

local C = c.C
ffi.metatype(base.type, base.metatable)

local T = {}

--- Tells whether a value is a tensor.
T.is = base.is

local plain = { dtype = "string", device = true }
local seeded = { dtype = "string", device = true, seed = "number" }

--- Raises where sizes were given one by one: T.zeros(4, 8).
local function check_sizes(op, shape, opts)
    if type(shape) == "number" and type(opts) == "number" then
        raise("invalid_argument", op, "shape: sizes stand in a list, as in {%s, %s}", tostring(shape), tostring(opts))
    end
end

--- Reads the common options.
-- @return device, dtype code, the option table
local function read(op, opts, known)
    opts = options.check(op, opts, known or plain)
    return devices.resolve(op, opts.device), base.dtype_code(op, opts.dtype), opts
end

local function make(op, shape, opts)
    check_sizes(op, shape, opts)
    local device, code = read(op, opts)
    return base.create(device, code, base.read_shape(op, shape), op)
end

--- Makes a tensor whose elements are not set yet.
-- @tparam table shape
-- @tparam[opt] table opts dtype, device
-- @raise out_of_memory saying how much was asked for and is free
function T.empty(shape, opts)
    return make("tensor_empty", shape, opts)
end

--- Makes a tensor of zeros.
function T.zeros(shape, opts)
    return make("tensor_zeros", shape, opts):fill_(0)
end

--- Makes a tensor of ones.
function T.ones(shape, opts)
    return make("tensor_ones", shape, opts):fill_(1)
end

--- Makes a tensor filled with a number.
function T.full(shape, value, opts)
    check.number("tensor_full", "value", value)
    return make("tensor_full", shape, opts):fill_(value)
end

--- Makes {0, 1, ..., n-1}, or start, start + step, ... with those options.
-- @tparam number n how many
-- @tparam[opt] table opts dtype, device, start (0), step (1)
function T.arange(n, opts)
    local op = "tensor_arange"
    local device, code, given = read(op, opts, { dtype = "string", device = true, start = "number", step = "number" })
    base.dims[0] = check.integer(op, "n", n, 0)
    local tensor = base.create(device, code, 1)
    c.check(C.steer_tensor_arange(tensor.handle, given.start or 0, given.step or 1))
    return tensor
end

--- Makes a tensor of nested Lua tables of numbers, or a scalar of a number: T.from({{1, 2}, {3, 4}}). Of results that
-- are tables it takes a field: T.from(lm:score(requests), {field = "probability"}) is [requests, options].
-- @tparam table|number numbers
-- @tparam[opt] table opts dtype, device, field
-- @raise shape_mismatch if rows differ in length; invalid_argument for a value that is not a number, or that an integer
-- dtype cannot hold
function T.from(numbers, opts)
    local device, code, given = read("tensor_from", opts, { dtype = "string", device = true, field = "string" })
    return values.from("tensor_from", numbers, device, code, given.field)
end

-- ---- Random numbers ------------------------------------------------------------------------------------------------

-- Calls without a seed take the next number from here, far above seeds that people type.
local AUTOMATIC = 2 ^ 52
local next_seed = AUTOMATIC

--- Sets where calls without a seed continue, so that a script repeats itself. A fresh process starts as after seed(0).
-- @tparam number n integer, 0 to 2^20
function T.seed(n)
    next_seed = AUTOMATIC + check.integer("tensor_seed", "n", n, 0, 2 ^ 20) * 2 ^ 31
end

local function random(op, kind, shape, opts)
    check_sizes(op, shape, opts)
    local device, code, given = read(op, opts, seeded)
    local seed = given.seed
    if seed then
        check.integer(op, "opts.seed", seed, 0)
    else
        seed, next_seed = next_seed, next_seed + 1
    end
    local tensor = base.create(device, code, base.read_shape(op, shape), op)
    c.check(C.steer_tensor_random(tensor.handle, kind, seed), op, { dst = "opts.dtype" })
    return tensor
end

--- Makes uniform random numbers in [0, 1): the same on every device for the same seed (Philox-4x32-10). Float dtypes.
-- @tparam table shape
-- @tparam[opt] table opts dtype, device, seed (an integer from 0; without it the next one of T.seed's row)
function T.rand(shape, opts)
    return random("tensor_rand", C.STEER_UNIFORM, shape, opts)
end

--- Makes standard normal random numbers, as rand.
function T.randn(shape, opts)
    return random("tensor_randn", C.STEER_NORMAL, shape, opts)
end

-- ---- From other tensors --------------------------------------------------------------------------------------------

local function like(op, tensor, opts)
    local handle = base.use(tensor, op, "tensor")
    opts = options.check(op, opts, plain)
    return T.empty(tensor:shape(), {
        dtype = opts.dtype or tensor.dtype, device = opts.device or devices.of(C.steer_tensor_device(handle)),
    })
end

--- Makes an uninitialised tensor of the shape, dtype and device of another; opts may change dtype and device.
function T.empty_like(tensor, opts)
    return like("tensor_empty_like", tensor, opts)
end

--- Makes zeros of the shape, dtype and device of another.
function T.zeros_like(tensor, opts)
    return like("tensor_zeros_like", tensor, opts):fill_(0)
end

--- Makes ones of the shape, dtype and device of another.
function T.ones_like(tensor, opts)
    return like("tensor_ones_like", tensor, opts):fill_(1)
end

--- Joins tensors along an existing dimension: T.cat({a, b}, 1). Other sizes and devices must be equal; of several
-- dtypes the result has that of a sum.
-- @tparam table list tensors, at least one
-- @tparam[opt=1] number dim
function T.cat(list, dim)
    local op = "tensor_cat"
    check.list(op, "list", list, "a list of tensors")
    local first = list[1]
    base.use(first, op, "list[1]")
    local d = base.dim_index(op, "dim", dim or 1, first.ndim) + 1
    local shape, code = first:shape(), base.dtype_codes[first.dtype]
    for i = 2, #list do
        base.use(list[i], op, "list[" .. i .. "]")
        code = base.promoted(code, base.dtype_codes[list[i].dtype])
        local other = list[i]:shape()
        for k = 1, math.max(#shape, #other) do
            if k ~= d and shape[k] ~= other[k] then
                raise("shape_mismatch", op, "list[%d]: shape [%s] does not join [%s] along dimension %d", i,
                    table.concat(other, ", "), table.concat(first:shape(), ", "), d)
            end
        end
        if list[i].device ~= first.device then
            raise("device_mismatch", op, "list[%d]: on %s, expected %s as the first", i, list[i].device, first.device)
        end
        shape[d] = shape[d] + other[d]
    end
    local joined, start = T.empty(shape, { dtype = base.dtype_names[code], device = first.device }), 1
    for i = 1, #list do
        local length = list[i]:size(d)
        joined:narrow(d, start, length):copy_(list[i])
        start = start + length
    end
    return joined
end

--- Joins tensors of one shape along a new dimension.
-- @tparam table list tensors, at least one
-- @tparam[opt=1] number dim of the result
function T.stack(list, dim)
    check.list("tensor_stack", "list", list, "a list of tensors")
    local views = {}
    for i = 1, math.max(1, #list) do
        base.use(list[i], "tensor_stack", "list[" .. i .. "]")
        views[i] = list[i]:unsqueeze(dim or 1)
    end
    return T.cat(views, dim or 1)
end

--- Chooses element by element: a where the mask is not 0, else b. Shapes broadcast; bits are kept.
-- @tparam tensor mask u8, as comparisons give it: T.where(h:gt(0), h, 0)
-- @param a number or tensor
-- @param b number, or a tensor on a's device; of two dtypes the result has that of a sum; two numbers give f32
function T.where(mask, a, b)
    return base.where("tensor_where", mask, a, b, {})
end

-- ---- Foreign memory ------------------------------------------------------------------------------------------------

local wrap_known = { dtype = "string", device = true, strides = "table", keep = true }
local strides = ffi.new("int64_t[?]", tonumber(C.STEER_MAX_DIMS))
local WRAPPED = { data = "pointer", strides = "opts.strides" } -- by the library's names

--- Reads a pointer, an address or an array made by ffi.new.
-- @return the address, and the array's size in bytes if it is an array
local function read_pointer(op, pointer)
    if type(pointer) == "number" then
        check.integer(op, "pointer", pointer, 0)
        return ffi.cast("void *", ffi.cast("uintptr_t", pointer))
    end
    check.type(op, "pointer", pointer, "cdata", "a pointer, an address or an array")
    if tostring(ffi.typeof(pointer)):find("[", 1, true) then
        return ffi.cast("void *", pointer), ffi.sizeof(pointer)
    end
    local ok, address = pcall(function() return ffi.cast("void *", ffi.cast("uintptr_t", pointer)) end)
    if not ok then
        raise("invalid_argument", op, "pointer: expected a pointer, an address or an array, got %s",
            tostring(ffi.typeof(pointer)))
    end
    return address
end

--- Reads strides beside the shape in `dims` and returns how many elements the memory must hold.
local function read_strides(op, list, ndim)
    if list and check.list(op, "opts.strides", list) ~= ndim then
        raise("shape_mismatch", op, "opts.strides: %d given, expected %d as the shape has", #list, ndim)
    end
    local last, empty, step = 0, false, 1
    for i = ndim, 1, -1 do
        local size = tonumber(base.dims[i - 1])
        strides[i - 1] = list and check.integer(op, "opts.strides", list[i]) or step
        empty = empty or size == 0
        last = last + (size - 1) * tonumber(strides[i - 1])
        step = step * size
    end
    return empty and 0 or last + 1
end

--- Makes a tensor over memory that somebody else owns, such as a PyTorch tensor's data_ptr(). Nothing is copied, and
-- the memory must outlive the tensor and its views.
-- @param pointer cdata pointer, address as a number, or an array made by ffi.new (which is kept alive)
-- @tparam table shape
-- @tparam[opt] table opts dtype, device where the memory is, strides (a list, in elements), keep (object to keep alive)
function T.wrap(pointer, shape, opts)
    local op = "tensor_wrap"
    opts = options.check(op, opts, wrap_known)
    local address, array_bytes = read_pointer(op, pointer)
    local device = devices.resolve(op, opts.device or array_bytes and "cpu" or nil)
    local code = base.dtype_code(op, opts.dtype)
    local ndim = base.read_shape(op, shape)
    local needed = read_strides(op, opts.strides, ndim) * base.dtype_sizes[code]
    if array_bytes and device.id ~= "cpu" then
        raise("device_mismatch", op, "pointer: an array of LuaJIT is on cpu, not on %s", device.id)
    elseif array_bytes and needed > array_bytes then
        raise("shape_mismatch", op, "shape: needs %.0f bytes, the array has %.0f", needed, array_bytes)
    end
    c.check(C.steer_tensor_wrap(base.out, device.handle, code, ndim, base.dims, opts.strides and strides or nil,
        address), op, WRAPPED)
    local tensor = base.own()
    local keep = opts.keep
    if array_bytes then keep = { pointer, keep } end
    if keep ~= nil then base.keep(tensor, keep) end
    return tensor
end

-- Names of other libraries for what is here.
local ELSEWHERE = { tensor = "from", as_tensor = "from", new = "from", range = "arange", concat = "cat", eye = "from" }

--- steer.tensor { 1, 2 } is T.from { 1, 2 }.
return setmetatable(T, {
    __call = function(_, numbers, opts) return T.from(numbers, opts) end,
    __index = function(_, name)
        if type(name) ~= "string" then return nil end
        local ours = ELSEWHERE[name] and ": use steer.tensor." .. ELSEWHERE[name]
            or base.methods[name] and (": it is a method, as in t:%s(...)"):format(name)
        return raise("invalid_argument", "tensor", "there is no steer.tensor.%s%s", name, ours
            or options.suggest(name, T, "steer.tensor.", ""))
    end,
})
