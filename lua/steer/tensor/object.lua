--- The tensor object: its handle, its properties and its views. steer.tensor is the public face.
local ffi = require "ffi"
local c = require "steer.core.c"
local check = require "steer.core.check"
local devices = require "steer.device"
local options = require "steer.core.options"
local raise = require("steer.core.error").raise
local tables = require "steer.core.tables"

local C = c.C
local M = {}

-- A cdata of this type is what users hold: unlike a table it has a length (#t) and a finalizer.
local Tensor = ffi.typeof("struct { steer_tensor *handle; }")
local MAX_DIMS = tonumber(C.STEER_MAX_DIMS)

local methods, getters = {}, {}
M.methods = methods --- methods of a tensor; the other tensor modules add theirs
M.getters = getters --- functions of a handle behind t.dtype, t.device and t.ndim
M.metatable = {}    --- becomes the metatype in steer.tensor, when all of it is there

-- ---- Dtypes --------------------------------------------------------------------------------------------------------

local dtype_codes, dtype_names, dtype_sizes = {}, {}, {}
for code = 0, tonumber(C.STEER_DTYPE_COUNT) - 1 do
    local name = ffi.string(C.steer_dtype_name(code))
    dtype_codes[name], dtype_names[code] = code, name
    dtype_sizes[code] = tonumber(C.steer_dtype_size(code))
end
M.dtype_codes, M.dtype_names, M.dtype_sizes = dtype_codes, dtype_names, dtype_sizes

local floats = { f32 = true, f16 = true, bf16 = true }
M.floats = floats --- set of the float dtypes' names

--- Raises unless `code` is a float dtype.
function M.check_float(op, name, code)
    if not floats[dtype_names[code]] then
        raise("dtype_mismatch", op, "%s: %s, expected f32, f16 or bf16", name, dtype_names[code])
    end
end

-- Dtypes by the names that they have elsewhere.
local OTHER_DTYPES = {
    float32 = "f32", float = "f32", single = "f32", float16 = "f16", half = "f16", fp16 = "f16", fp32 = "f32",
    bfloat16 = "bf16", int32 = "i32", int = "i32", int64 = "i64", long = "i64", uint8 = "u8", byte = "u8",
}

--- Turns the name of a dtype into its code; nil means f32.
function M.dtype_code(op, name)
    local code = dtype_codes[name or "f32"]
    if not code then
        local ours = type(name) == "string" and OTHER_DTYPES[name:lower():gsub("^torch%.", "")]
        raise("invalid_argument", op, "dtype: expected %s, got %s%s", options.choice(dtype_codes),
            check.describe(name), ours and (', which is "%s" here'):format(ours) or "")
    end
    return code
end

-- ---- Handles -------------------------------------------------------------------------------------------------------

local out = ffi.new("steer_tensor *[1]")
M.out = out --- cell for a new tensor's handle, read at once by own()

-- Tensor over foreign memory -> object that keeps the memory alive. Most programs have none and skip the look-up.
local foreign, any_foreign = setmetatable({}, { __mode = "k" }), false
-- Tensor -> where its values come from, for those of files that say what they may be used for; copies have it too.
local origins, any_origin = setmetatable({}, { __mode = "k" }), false

--- Wraps the handle in `out`; a view of `base` keeps alive what `base` keeps alive.
local function own(base)
    local tensor = Tensor(out[0])
    if any_foreign and base ~= nil then foreign[tensor] = foreign[base] end
    if any_origin and base ~= nil then origins[tensor] = origins[base] end
    return tensor
end
M.own = own

--- Says where the values of `tensor` come from; its views and copies come from there, what is computed of it does not.
function M.set_origin(tensor, origin)
    origins[tensor], any_origin = origin, true
end

--- Gives what set_origin said, or nil.
function M.origin(tensor) return any_origin and origins[tensor] or nil end

--- Keeps `object` alive as long as `tensor` or a view of it.
function M.keep(tensor, object)
    foreign[tensor], any_foreign = object, true
end

--- Tells whether `value` is a tensor (open or closed).
local function is(value)
    return ffi.istype(Tensor, value)
end
M.is = is

--- Gives the library handle of an open tensor, for operation `op` and its argument `name`.
-- @raise invalid_argument if it is not a tensor, closed if it was closed
local function use(tensor, op, name)
    if not ffi.istype(Tensor, tensor) then
        raise("invalid_argument", op, "%s: expected a tensor, got %s%s", name, check.describe(tensor),
            name == "self" and "; methods are called with a colon, as in t:sum()" or "")
    end
    local handle = tensor.handle
    if handle == nil then raise("closed", op, "%s: the tensor was closed", name) end
    return handle
end
M.use = use

function M.metatable.__gc(self)
    if self.handle ~= nil then
        C.steer_tensor_release(self.handle)
        self.handle = nil
    end
end

--- Frees the tensor now instead of at some later collection; memory goes with its last view. Closing again does
-- nothing.
function methods:close()
    if not is(self) then use(self, "tensor_close", "self") end
    M.metatable.__gc(self)
    if any_foreign then foreign[self] = nil end
end

-- ---- Shapes --------------------------------------------------------------------------------------------------------

--- Scratch for a shape or an index on its way to the library.
local dims = ffi.new("int64_t[?]", MAX_DIMS)
M.dims = dims

--- Reads a shape (a list of integers, or one integer) into `dims` and returns the number of dimensions.
local function read_shape(op, shape)
    if type(shape) == "number" then
        dims[0] = check.integer(op, "shape", shape)
        return 1
    end
    local ndim = check.list(op, "shape", shape, "a list of integers")
    if ndim > MAX_DIMS then
        raise("invalid_argument", op, "shape: %d dimensions, expected at most %d", ndim, MAX_DIMS)
    end
    for i = 1, ndim do
        dims[i - 1] = check.integer(op, "shape", shape[i])
    end
    return ndim
end
M.read_shape = read_shape

--- Describes the shape of a handle for messages: "[2, 3]".
local function shape_text(handle)
    local parts = {}
    for i = 1, C.steer_tensor_ndim(handle) do
        parts[i] = string.format("%.0f", tonumber(C.steer_tensor_size(handle, i - 1)))
    end
    return "[" .. table.concat(parts, ", ") .. "]"
end
M.shape_text = shape_text

--- Makes an uninitialised tensor of the shape in `dims`, for operation `op` where the shape is the user's.
local function create(device, code, ndim, op)
    local bytes = dtype_sizes[code]
    for i = 0, ndim - 1 do bytes = bytes * tonumber(dims[i]) end
    c.room(device, bytes)
    c.alloc_as(op, nil, C.steer_tensor_create, out, device.handle, code, ndim, dims)
    return own()
end
M.create = create

--- Makes an uninitialised tensor on the device and of the shape of `handle`; dtype code defaults to the same.
function M.create_like(handle, code)
    local ndim = C.steer_tensor_ndim(handle)
    for i = 0, ndim - 1 do dims[i] = C.steer_tensor_size(handle, i) end
    return create(devices.of(C.steer_tensor_device(handle)), code or tonumber(C.steer_tensor_dtype(handle)), ndim)
end

--- Turns a dimension that counts from 1 (or from the end: -1 is the last) into one that counts from 0.
local function dim_index(op, name, dim, ndim)
    check.integer(op, name, dim)
    if dim >= 1 and dim <= ndim then return dim - 1 end
    if dim < 0 and dim >= -ndim then return dim + ndim end
    if ndim == 0 then
        raise("invalid_argument", op, "%s: %.0f is out of range, a scalar has no dimensions", name, dim)
    end
    return raise("invalid_argument", op,
        "%s: %.0f is out of range for a tensor of %d dimensions, expected 1 to %d (or -1 to -%d)", name, dim, ndim,
        ndim, ndim)
end
M.dim_index = dim_index

-- ---- Properties ----------------------------------------------------------------------------------------------------

--- `t.dtype`: the name of the element type: "f32", "f16", "bf16", "i32", "i64" or "u8".
function getters.dtype(handle)
    return dtype_names[tonumber(C.steer_tensor_dtype(handle))]
end

--- `t.device`: the id of the device that holds the elements, such as "cpu" or "cuda:0".
function getters.device(handle)
    return ffi.string(C.steer_device_id(C.steer_tensor_device(handle)))
end

--- `t.ndim`: the number of dimensions; 0 for a scalar.
function getters.ndim(handle)
    return C.steer_tensor_ndim(handle)
end

--- Gives the shape.
-- @treturn table list of sizes
function methods:shape()
    local handle, shape = use(self, "tensor_shape", "self"), {}
    for i = 1, C.steer_tensor_ndim(handle) do shape[i] = tonumber(C.steer_tensor_size(handle, i - 1)) end
    return shape
end

--- Gives the size of a dimension, or the whole shape as a list when there is no argument.
-- @tparam[opt] number dim from 1, or from the end: -1 is the last
function methods:size(dim)
    if dim == nil then return self:shape() end
    local handle = use(self, "tensor_size", "self")
    return tonumber(C.steer_tensor_size(handle, dim_index("tensor_size", "dim", dim, C.steer_tensor_ndim(handle))))
end

--- Gives the stride of a dimension in elements, or all strides as a list when there is no argument.
-- @tparam[opt] number dim from 1, or from the end
function methods:stride(dim)
    local handle = use(self, "tensor_stride", "self")
    local ndim = C.steer_tensor_ndim(handle)
    if dim then return tonumber(C.steer_tensor_stride(handle, dim_index("tensor_stride", "dim", dim, ndim))) end
    local strides = {}
    for i = 1, ndim do strides[i] = tonumber(C.steer_tensor_stride(handle, i - 1)) end
    return strides
end

--- Gives the number of elements.
function methods:numel()
    return tonumber(C.steer_tensor_numel(use(self, "tensor_numel", "self")))
end

--- Tells whether the elements lie in row-major order without gaps.
function methods:is_contiguous()
    return C.steer_tensor_is_contiguous(use(self, "tensor_is_contiguous", "self")) ~= 0
end

--- Gives the address of the first element (on the device) as a `void *` cdata, for other libraries.
-- The tensor must stay alive while the address is in use.
function methods:data()
    return C.steer_tensor_data(use(self, "tensor_data", "self"))
end

-- ---- Views: they share the storage and keep it alive ---------------------------------------------------------------

--- Views a range of a dimension.
-- @tparam number dim from 1, or from the end
-- @tparam number start first index, from 1
-- @tparam number length how many, 0 or more
-- @raise invalid_argument if the range does not lie inside
function methods:narrow(dim, start, length)
    local op = "tensor_narrow"
    local handle = use(self, op, "self")
    local d = dim_index(op, "dim", dim, C.steer_tensor_ndim(handle))
    check.integer(op, "start", start)
    check.integer(op, "length", length)
    c.check(C.steer_tensor_narrow(out, handle, d, start - 1, length))
    return own(self)
end

--- Views one index of a dimension, which goes away: t:select(1, i) is row i.
-- @tparam number dim from 1, or from the end
-- @tparam number index from 1
function methods:select(dim, index)
    local op = "tensor_select"
    local handle = use(self, op, "self")
    local d = dim_index(op, "dim", dim, C.steer_tensor_ndim(handle))
    check.integer(op, "index", index)
    c.check(C.steer_tensor_select(out, handle, d, index - 1))
    return own(self)
end

--- Views the tensor with two dimensions exchanged.
-- @tparam[opt=1] number dim0
-- @tparam[opt=2] number dim1
function methods:transpose(dim0, dim1)
    local op = "tensor_transpose"
    local handle = use(self, op, "self")
    local ndim = C.steer_tensor_ndim(handle)
    local d0, d1 = dim_index(op, "dim0", dim0 or 1, ndim), dim_index(op, "dim1", dim1 or 2, ndim)
    c.check(C.steer_tensor_transpose(out, handle, d0, d1))
    return own(self)
end

--- Views the same elements in another shape: t:reshape(2, 3) or t:reshape({2, 3}). One size may be -1: what is left.
-- @raise shape_mismatch if the number of elements differs, unsupported if the strides allow no view (make the tensor
-- contiguous first: t:contiguous():reshape(...))
function methods:reshape(...)
    local op, first = "tensor_reshape", ...
    local handle = use(self, op, "self")
    local ndim = read_shape(op, type(first) == "table" and first or { ... })
    c.check(C.steer_tensor_reshape(out, handle, ndim, dims))
    return own(self)
end

--- Views the tensor without a dimension of size 1, or without all of them when there is no argument.
-- @tparam[opt] number dim
function methods:squeeze(dim)
    local op = "tensor_squeeze"
    local handle = use(self, op, "self")
    local ndim = C.steer_tensor_ndim(handle)
    if dim then
        local d = dim_index(op, "dim", dim, ndim)
        local size = tonumber(C.steer_tensor_size(handle, d))
        if size ~= 1 then raise("shape_mismatch", op, "dim: dimension %d has size %.0f, expected 1", d + 1, size) end
        return self:select(d + 1, 1)
    end
    local view = self:alias()
    for d = ndim, 1, -1 do
        if view:size(d) == 1 then view = view:select(d, 1) end
    end
    return view
end

--- Views the tensor with a new dimension of size 1 at `dim`.
-- @tparam number dim from 1 to t.ndim + 1, or from the end: -1 appends
function methods:unsqueeze(dim)
    local op = "tensor_unsqueeze"
    local handle = use(self, op, "self")
    local ndim = C.steer_tensor_ndim(handle)
    local shape, d = self:shape(), dim_index(op, "dim", dim, ndim + 1)
    table.insert(shape, d + 1, 1)
    return self:reshape(shape)
end

--- Gives another handle on the same elements, closed on its own.
function methods:alias()
    out[0] = C.steer_tensor_retain(use(self, "tensor_alias", "self"))
    return own(self)
end

-- ---- Copies --------------------------------------------------------------------------------------------------------

--- Copies `src` into this tensor, converting dtype and device and broadcasting. Floats round to nearest even; float to
-- integer truncates and saturates, NaN becomes 0.
-- @tparam tensor src
-- @treturn tensor self
function methods:copy_(src)
    local handle = use(self, "tensor_copy", "self")
    c.alloc(C.steer_tensor_copy, handle, use(src, "tensor_copy", "src"))
    return self
end

local function converted(self, handle, device, code)
    local ndim = C.steer_tensor_ndim(handle)
    for i = 0, ndim - 1 do dims[i] = C.steer_tensor_size(handle, i) end
    local copy = create(device, code, ndim):copy_(self)
    if any_origin then origins[copy] = origins[self] end
    return copy
end

--- Copies to a new contiguous tensor of the same dtype and device.
function methods:clone()
    local handle = use(self, "tensor_clone", "self")
    return converted(self, handle, devices.of(C.steer_tensor_device(handle)), tonumber(C.steer_tensor_dtype(handle)))
end

--- Gives the tensor on another device, in another dtype, or both: t:to("cuda:0"), t:to("bf16"), t:to("cuda:0", "bf16").
-- What is there already is not copied: the result then shares its elements.
function methods:to(...)
    local op = "tensor_to"
    local handle = use(self, op, "self")
    local device, code
    for i = 1, math.max(1, select("#", ...)) do
        local target = select(i, ...)
        if dtype_codes[target] then
            code = dtype_codes[target]
        elseif type(target) == "string" and not (target == "cpu" or target:find(":", 1, true)) then
            raise("invalid_argument", op, 'target: expected a dtype (%s) or a device such as "cuda:0", got "%s"',
                options.choice(dtype_codes), target)
        elseif target == nil then
            raise("invalid_argument", op, 'target: expected a dtype or a device such as "cuda:0", got nothing')
        else
            device = devices.resolve(op, target)
        end
    end
    local here, now = devices.of(C.steer_tensor_device(handle)), tonumber(C.steer_tensor_dtype(handle))
    device, code = device or here, code or now
    if device == here and code == now then return self:alias() end
    return converted(self, handle, device, code)
end

--- Gives a tensor of the same elements without gaps: a view if it has none already, else a copy.
function methods:contiguous()
    return self:is_contiguous() and self:alias() or self:clone()
end

-- What tensors of other libraries have, and what to write here.
local ELSEWHERE = {
    view = "reshape", permute = "transpose", t = "transpose", T = "transpose", dim = "t.ndim", size_ = "size",
    mm = "matmul", bmm = "matmul", mv = "matmul", tolist = "totable", cpu = 't:to("cpu")', cuda = 't:to("cuda:0")',
    half = 't:to("f16")', float = 't:to("f32")', bfloat16 = 't:to("bf16")', type = "t.dtype", detach = "clone",
    nelement = "numel", numpy = "totable", copy = "clone", expand = "broadcasting", expand_as = "broadcasting",
    norm_ = "normalize", data_ptr = "data", square = "t * t", reciprocal = "1 / t", rsqrt = "t ^ -0.5", neg = "-t",
    negative = "-t", clip = "clamp", relu = "t:clamp(0)", isnan = "t:ne(t)", any = "mask:max()", all = "mask:min()",
    logical_not = "mask:eq(0)", logical_and = "mask * other", logical_or = "mask:maximum(other)",
    masked_fill = "steer.tensor.where(mask, x, t)", greater = "gt", less = "lt", equal = "eq", amax = "max",
    amin = "min", median = "t:quantile(0.5)", argsort = "local _, indices = t:sort()", take_along_dim = "gather",
    masked_select = "steer.tensor.where(mask, t, x)", cosine_similarity = "cosine", kthvalue = "sort",
    flatten = "t:reshape(-1)", split = "narrow", chunk = "narrow", log_softmax = "t:softmax():log()",
    log2 = "t:log() / math.log(2)", exp2 = "2 ^ t", take = "index_select", isinf = "t:abs():eq(math.huge)",
}

-- ---- Metatable -----------------------------------------------------------------------------------------------------

function M.metatable.__index(self, key)
    local method = methods[key]
    if method then return method end
    if type(key) == "number" then return methods.select(self, 1, key) end
    local getter = getters[key]
    if getter then return getter(use(self, "tensor_index", "self")) end
    if type(key) ~= "string" then
        raise("invalid_argument", "tensor_index", "key: expected a row from 1 or a name, got %s", check.describe(key))
    end
    local names = {}
    for _, set in ipairs({ methods, getters }) do
        for _, name in ipairs(tables.keys(set)) do names[name] = true end
    end
    if ELSEWHERE[key] then
        raise("invalid_argument", "tensor_index", 'key: a tensor has no "%s": use %s', key, ELSEWHERE[key])
    end
    return raise("invalid_argument", "tensor_index", 'key: a tensor has no "%s"%s', key,
        (options.suggest(key, names):gsub("^,", ";")))
end

--- Operators that tensors do not have, each with what to write instead.
for event, text in pairs {
    mod = "a % b: there is no remainder of tensors", concat = "a .. b: a tensor is no text, write tostring(t)",
} do
    M.metatable["__" .. event] = function() return raise("unsupported", "tensor", "%s", text) end
end

-- Lua makes true or false of what a comparison gives, and writes h > x as x < h.
for event, sides in pairs { lt = { "lt", "gt" }, le = { "le", "ge" } } do
    M.metatable["__" .. event] = function(a, b)
        local swapped = not is(a)
        local other = swapped and a or b
        return raise("unsupported", "tensor", "comparing tensors: Lua's operators give one truth value; write h:%s(%s) "
            .. "for a mask of all elements, or compare numbers, as in t:get(1) < x", sides[swapped and 2 or 1],
            type(other) == "number" and ("%.14g"):format(other) or "x")
    end
end

--- ipairs(t) gives the rows, where LuaJIT asks for it; `for i = 1, #t do local row = t[i] ... end` does so everywhere.
function M.metatable.__ipairs(self)
    local function row(t, i)
        if i < t:size(1) then return i + 1, t[i + 1] end
    end
    return row, self, 0
end

--- `t[i] = x`: fills row i with a number or copies a tensor into it.
function M.metatable.__newindex(self, key, value)
    if type(key) ~= "number" then
        raise("invalid_argument", "tensor_index", "key: expected a row from 1 to set, got %s", check.describe(key))
    end
    local row = methods.select(self, 1, key)
    if type(value) == "number" then row:fill_(value) else row:copy_(value) end
end

function M.metatable.__len(self)
    return self:size(1)
end

M.type = Tensor

return M
