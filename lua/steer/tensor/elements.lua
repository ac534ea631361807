--- Elements between tensors and Lua: reading, setting, tables to tensors and back.
local bit = require "bit"
local ffi = require "ffi"
local c = require "steer.core.c"
local check = require "steer.core.check"
local devices = require "steer.device"
local options = require "steer.core.options"
local raise = require("steer.core.error").raise
local base = require "steer.tensor.object"
local walk = require "steer.core.tables"

local C = c.C
local methods, use, dims = base.methods, base.use, base.dims
local MAX_DIMS = tonumber(C.STEER_MAX_DIMS)

local M = {}

-- C type behind the dtypes that Lua reads and writes itself; f16 and bf16 go through f32.
local pointers = {
    f32 = ffi.typeof("float *"), i32 = ffi.typeof("int32_t *"), i64 = ffi.typeof("int64_t *"),
    u8 = ffi.typeof("uint8_t *"),
}
local ranges = { i32 = { -2 ^ 31, 2 ^ 31 - 1 }, i64 = { -check.MAX_INTEGER, check.MAX_INTEGER }, u8 = { 0, 255 } }

-- ---- Single elements -----------------------------------------------------------------------------------------------

local cell = ffi.new("double[1]")
local args = {}

--- Reads the index in args[1..ndim] into `dims`.
local function read_index(op, handle, ndim)
    for i = 1, ndim do
        local index = args[i]
        if index == nil then
            raise("invalid_argument", op, "index: %d given, expected %d for a tensor of shape %s", i - 1, ndim,
                base.shape_text(handle))
        end
        dims[i - 1] = check.integer(op, "index", index) - 1
    end
end

--- Gives one element as a number; waits for the GPU. i64 beyond 2^53 rounds.
-- @tparam number ... an index from 1 for each dimension
function methods:get(i1, i2, i3, i4, i5, i6, i7, i8, extra)
    local op = "tensor_get"
    local handle = use(self, op, "self")
    args[1], args[2], args[3], args[4], args[5] = i1, i2, i3, i4, i5
    args[6], args[7], args[8], args[9] = i6, i7, i8, extra
    local ndim = C.steer_tensor_ndim(handle)
    read_index(op, handle, ndim)
    if args[ndim + 1] ~= nil then
        raise("invalid_argument", op, "index: more than %d given for a tensor of shape %s", ndim,
            base.shape_text(handle))
    end
    c.check(C.steer_tensor_get(cell, handle, dims))
    return cell[0]
end

--- Sets one element: t:set(i, j, x).
-- @tparam number ... an index from 1 for each dimension, then the value
-- @treturn tensor self
function methods:set(i1, i2, i3, i4, i5, i6, i7, i8, value, extra)
    local op = "tensor_set"
    local handle = use(self, op, "self")
    args[1], args[2], args[3], args[4], args[5] = i1, i2, i3, i4, i5
    args[6], args[7], args[8], args[9], args[10] = i6, i7, i8, value, extra
    local ndim = C.steer_tensor_ndim(handle)
    read_index(op, handle, ndim)
    check.number(op, "value", args[ndim + 1])
    if args[ndim + 2] ~= nil then
        raise("invalid_argument", op, "index: more than %d given for a tensor of shape %s", ndim,
            base.shape_text(handle))
    end
    c.check(C.steer_tensor_set(handle, dims, args[ndim + 1]))
    return self
end

--- Gives the value of a tensor of one element as a number; waits for the GPU.
-- @raise shape_mismatch if there are more or fewer elements
function methods:item()
    local handle = use(self, "tensor_item", "self")
    if C.steer_tensor_numel(handle) ~= 1 then
        raise("shape_mismatch", "tensor_item", "self: shape %s, expected one element", base.shape_text(handle))
    end
    for i = 0, C.steer_tensor_ndim(handle) - 1 do dims[i] = 0 end
    c.check(C.steer_tensor_get(cell, handle, dims))
    return cell[0]
end

-- ---- Whole tensors -------------------------------------------------------------------------------------------------

--- Gives a contiguous host copy (or view) of a tensor in a dtype that Lua can read, and a typed pointer to its
-- elements. The pointer lives as long as the tensor returned beside it.
function M.host(self)
    local dtype = self.dtype
    local wide = pointers[dtype] and dtype or "f32"
    local moved = self:to("cpu", wide)
    local host = moved:contiguous()
    moved:close()
    return host, ffi.cast(pointers[wide], host:data())
end

local MAGNITUDE, INFINITY = 0x7fffffff, 0x7f800000

-- LuaJIT takes a NaN of other bits than its own for a pointer, and crashes: `words` are the bits of f32 elements (nil
-- for other dtypes), looked at first.
local function element(data, words, i)
    if words and bit.band(words[i], MAGNITUDE) > INFINITY then return 0 / 0 end
    return tonumber(data[i])
end

--- Copies to nested Lua tables: t:totable()[i][j]; a scalar gives a number. Waits for the GPU. i64 beyond 2^53 rounds.
function methods:totable()
    use(self, "tensor_totable", "self")
    local host, data = M.host(self)
    local words = ffi.istype(pointers.f32, data) and ffi.cast(pointers.i32, data) or nil
    local shape, position = host:shape(), 0
    local function level(d)
        local list = {}
        if d == #shape then
            for i = 1, shape[d] do list[i] = element(data, words, position + i - 1) end
            position = position + shape[d]
        else
            for i = 1, shape[d] do list[i] = level(d + 1) end
        end
        return list
    end
    local result = #shape == 0 and element(data, words, 0) or level(1)
    host:close()
    return result
end

--- Where in the nested table an element is, for messages: "values[2][3]".
local function place(path, depth)
    local text = "values"
    for i = 1, depth do text = text .. "[" .. path[i] .. "]" end
    return text
end

--- Finds the shape of nested tables by their first elements; tables that have `field` (if it is given) are elements.
local function table_shape(op, values, field)
    local shape = {}
    while type(values) == "table" and not (field and values[field] ~= nil) do
        if field and #values == 0 and walk.first(values) ~= nil then
            raise("invalid_argument", op, 'opts.field: the first element has no "%s"%s', field,
                options.suggest(field, values))
        end
        if #shape == MAX_DIMS then
            raise("invalid_argument", op, "values: nested deeper than %d tables, the most dimensions", MAX_DIMS)
        end
        shape[#shape + 1] = check.list(op, "values", values)
        values = values[1]
    end
    return shape
end

--- Makes a tensor of nested Lua tables of numbers, or a scalar of a number; of tables that have `field`, of that field.
-- f16 and bf16 are rounded from f32.
-- @raise shape_mismatch if rows differ in length; invalid_argument for a value that is not a number, or that an integer
-- dtype cannot hold
function M.from(op, values, device, code, field)
    if type(values) ~= "table" then check.number(op, "values", values) end
    local shape = table_shape(op, values, field)
    local dtype = base.dtype_names[code]
    local wide = pointers[dtype] and dtype or "f32"
    local host = base.create(devices.open("cpu"), base.dtype_codes[wide], base.read_shape(op, shape))
    local data, range, position, path = ffi.cast(pointers[wide], host:data()), ranges[dtype], 0, {}

    local function put(value, depth)
        if field and type(value) == "table" then value = value[field] end
        if type(value) ~= "number" then
            raise(type(value) == "table" and "shape_mismatch" or "invalid_argument", op,
                "%s: expected a number, got %s", place(path, depth), check.describe(value))
        elseif range and not (value % 1 == 0 and value >= range[1] and value <= range[2]) then
            raise("invalid_argument", op, "%s: %s does not fit %s", place(path, depth), tostring(value), dtype)
        end
        data[position] = value
        position = position + 1
    end
    local function fill(list, depth)
        if type(list) == "table" then check.list(op, place(path, depth - 1), list) end
        if type(list) ~= "table" or #list ~= shape[depth] then
            raise("shape_mismatch", op, "%s: expected %d elements as in the first row, got %s", place(path, depth - 1),
                shape[depth], type(list) == "table" and #list or check.describe(list))
        end
        for i = 1, #list do
            path[depth] = i
            if depth == #shape then put(list[i], depth) else fill(list[i], depth + 1) end
        end
    end
    if #shape == 0 then put(values, 0) else fill(values, 1) end
    local tensor = host:to(device, dtype)
    host:close()
    return tensor
end

return M
