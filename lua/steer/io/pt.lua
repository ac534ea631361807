--- PyTorch's files: the zip of torch.save, whose pickle describes tensors and whose other members hold their numbers.
-- Nothing in it is run (see pickle.lua); a tensor shares its storage with others of the file, as in PyTorch.
local ffi = require "ffi"
local file = require "steer.io._file"
local pickle = require "steer.io.pickle"
local raise = require("steer.core.error").raise
local tensors = require "steer.tensor"
local zip = require "steer.io.zip"

local M = {}

local MAX_PICKLE = 2 ^ 26 -- bytes; what is large lies in other members
local MAX_NESTING = 100
local MAX_DIMS = 64      -- of PyTorch; a tensor here has fewer

-- Storages by their class, and dtypes by their name: the dtype here, nil where Steer has none ("f64" becomes f32).
local dtypes = {
    Float = "f32", Double = "f64", Half = "f16", BFloat16 = "bf16", Int = "i32", Long = "i64", Byte = "u8",
    float32 = "f32", float64 = "f64", float16 = "f16", bfloat16 = "bf16", int32 = "i32", int64 = "i64", uint8 = "u8",
}
local others = "Bool Char Short ComplexFloat ComplexDouble QInt8 QUInt8 QInt32 QUInt4x2 QUInt2x4"
local other_dtypes = "bool int8 int16 uint16 uint32 uint64 complex32 complex64 complex128 float8_e4m3fn float8_e5m2 "
    .. "float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn_x2 qint8 quint8 qint32 quint4x2 quint2x4"

-- ---- The names that a pickle may use -------------------------------------------------------------------------------

local function is(value, kind) return type(value) == "table" and value.kind == kind end

-- A tensor over a storage: sizes, strides and offset count elements.
local function rebuild(machine, arguments, dtype)
    local storage, offset, shape, strides = arguments[1], arguments[2], arguments[3], arguments[4]
    if not is(storage, "storage") or not is(shape, "tuple") or not is(strides, "tuple") or #shape ~= #strides
        or #shape > MAX_DIMS then
        machine:fail("a tensor is made of the wrong arguments")
    end
    for _, list in ipairs { { offset or "nothing" }, shape, strides } do
        for _, value in ipairs(list) do
            if type(value) ~= "number" or value < 0 or value % 1 ~= 0 then
                machine:fail("a tensor's size, stride or offset is %s", pickle.describe(value))
            end
        end
    end
    return { kind = "tensor", storage = storage, offset = offset, shape = shape, strides = strides,
        dtype = dtype or storage.dtype }
end

local function rebuild_typed(machine, arguments)
    local dtype = arguments[7]
    if not is(dtype, "dtype") then machine:fail("a tensor's dtype is %s", pickle.describe(dtype)) end
    return rebuild(machine, arguments, dtype)
end

-- A parameter is its tensor.
local function rebuild_parameter(machine, arguments)
    if not is(arguments[1], "tensor") then machine:fail("a parameter is %s", pickle.describe(arguments[1])) end
    return arguments[1]
end

local function ordered_dict(machine, arguments)
    local dict = pickle.dict()
    local pairs_given = arguments[1] == nil and {} or arguments[1]
    if type(pairs_given) ~= "table" then machine:fail("an OrderedDict of %s", pickle.describe(pairs_given)) end
    for _, pair in ipairs(pairs_given) do
        if type(pair) ~= "table" or #pair ~= 2 then machine:fail("an OrderedDict of other than pairs") end
        machine:set(dict, pair[1], pair[2])
    end
    return dict
end

local function size(machine, arguments)
    if not is(arguments[1], "tuple") then machine:fail("a torch.Size of %s", pickle.describe(arguments[1])) end
    return arguments[1]
end

local function device(machine, arguments)
    local kind, index = arguments[1], arguments[2]
    if type(kind) ~= "string" then machine:fail("a torch.device of %s", pickle.describe(kind)) end
    return index and kind .. ":" .. tostring(index) or kind
end

local function callable(name, call) return { kind = "function", name = name, call = call } end

local names = {
    ["torch._utils._rebuild_tensor"] = callable("_rebuild_tensor", rebuild),
    ["torch._utils._rebuild_tensor_v2"] = callable("_rebuild_tensor_v2", function(m, a) return rebuild(m, a) end),
    ["torch._utils._rebuild_tensor_v3"] = callable("_rebuild_tensor_v3", rebuild_typed),
    ["torch._utils._rebuild_parameter"] = callable("_rebuild_parameter", rebuild_parameter),
    ["torch._utils._rebuild_parameter_with_state"] = callable("_rebuild_parameter_with_state", rebuild_parameter),
    ["collections.OrderedDict"] = callable("OrderedDict", ordered_dict),
    ["torch.Size"] = callable("torch.Size", size),
    ["torch.device"] = callable("torch.device", device),
    ["torch.storage.UntypedStorage"] = { kind = "class", name = "torch.UntypedStorage", dtype = { name = "untyped" } },
}
for name in (others .. " Float Double Half BFloat16 Int Long Byte"):gmatch "%S+" do
    local full = "torch." .. name .. "Storage"
    names[full] = { kind = "class", name = full, dtype = { name = full, here = dtypes[name] } }
end
for name in (other_dtypes .. " float32 float64 float16 bfloat16 int32 int64 uint8"):gmatch "%S+" do
    names["torch." .. name] = { kind = "dtype", name = "torch." .. name, here = dtypes[name] }
end

-- ("storage", class, key, where it was, elements) -> a storage; the same one for the same key.
local function persistent(storages)
    return function(machine, id)
        if not is(id, "tuple") or id[1] ~= "storage" or not is(id[2], "class") or type(id[3]) ~= "string"
            or type(id[5]) ~= "number" then
            machine:fail("the persistent id is not that of a storage")
        end
        local storage = storages[id[3]] or { kind = "storage", key = id[3], dtype = id[2].dtype, numel = id[5] }
        if storage.dtype ~= id[2].dtype or storage.numel ~= id[5] then
            machine:fail("storage %s is described in two ways", file.quote(id[3]))
        end
        storages[id[3]] = storage
        return storage
    end
end

-- ---- Tensors -------------------------------------------------------------------------------------------------------

local Reader = {}
Reader.__index = Reader

-- The one-dimensional tensor of a storage.
function Reader:storage(storage, what)
    if storage.tensor then return storage.tensor end
    local member = self.archive:open(self.prefix .. "data/" .. storage.key)
        or self.map:fail("%s: its storage data/%s is not in the archive", what, storage.key)
    local bytes = storage.numel * file.dtype_sizes[storage.dtype.here]
    if bytes ~= member.size then
        member:fail("%.0f elements of %s take %.0f bytes, it has %.0f", storage.numel, storage.dtype.name, bytes,
            member.size)
    end
    storage.tensor = member:tensor(storage.dtype.here, { storage.numel }, 0, what)
    return storage.tensor
end

-- Elements, whether there is no gap between them, and how far from the first one the last one is.
local function measure(shape, strides)
    local numel, contiguous, last = 1, true, 0
    for i = #shape, 1, -1 do
        if shape[i] ~= 1 and strides[i] ~= numel then contiguous = false end
        numel, last = numel * shape[i], last + (shape[i] - 1) * strides[i]
    end
    return numel, contiguous, last
end

function Reader:tensor(value, what)
    local here, shape = value.dtype.here, { unpack(value.shape) }
    if not here or here ~= value.storage.dtype.here then
        self.map:refuse("%s: dtype %s is not one that Steer has (float32, float64, float16, bfloat16, int32, int64 or "
            .. "uint8); convert it, or leave it out with the option only", what, value.dtype.name)
    end
    self.map:check_ndim(shape, what)
    self.map:check_shape(shape, 8, what)
    local numel, contiguous, last = measure(shape, value.strides)
    if numel == 0 then return tensors.zeros(shape, { dtype = here == "f64" and "f32" or here }) end
    local storage = self:storage(value.storage, what)
    if value.offset + last >= value.storage.numel then
        self.map:fail("%s: element %.0f is past the end of its storage of %.0f elements", what, value.offset + last,
            value.storage.numel)
    end
    if contiguous then return storage:narrow(1, value.offset + 1, numel):reshape(shape) end
    local address = ffi.cast("uint8_t *", storage:data()) + value.offset * file.dtype_sizes[storage.dtype]
    return tensors.wrap(address, shape, { dtype = storage.dtype, device = "cpu", strides = { unpack(value.strides) },
        keep = storage })
end

-- ---- Values --------------------------------------------------------------------------------------------------------

local converters = {
    tensor = Reader.tensor,
    dtype = function(_, value) return value.name end,
    None = function() return nil end,
    list = function(self, value, what, nesting)
        local out = {}
        for i = 1, #value do out[i] = self:value(value[i], what .. "[" .. i - 1 .. "]", nesting) end
        return out
    end,
    dict = function(self, value, what, nesting)
        local out = {}
        for _, key in ipairs(value.keys) do
            local place = type(key) == "string" and file.quote(key) or tostring(key)
            out[key] = self:value(value.values[key], what .. "[" .. place .. "]", nesting)
        end
        return out
    end,
}
converters.tuple = converters.list

-- What a value of the pickle is in Lua; `what` names it by its place. One that is there twice is made once.
function Reader:value(value, what, nesting)
    if type(value) ~= "table" then return value end
    local convert = converters[value.kind]
    if not convert then
        self.map:refuse("%s is %s, which is not among what Steer reads", what, pickle.describe(value))
    end
    if nesting > MAX_NESTING then
        self.map:refuse("%s...: nested deeper than %d, or in itself", what:sub(1, 40), MAX_NESTING)
    end
    if value.made == nil then value.made = convert(self, value, what, nesting + 1) end
    return value.made
end

-- The entries that are asked for, of a dict.
local function choose(map, value, only)
    if not is(value, "dict") then
        raise("invalid_argument", "load", "opts.only: %s holds %s, which has no names", map.path,
            pickle.describe(value))
    end
    local chosen = pickle.dict()
    for i, key in ipairs(only) do
        if value.values[key] == nil then
            raise("not_found", "load", "%s: only: has no entry %s", map.path, file.quote(tostring(key)))
        end
        chosen.keys[i], chosen.values[key] = key, value.values[key]
    end
    return chosen
end

-- The folder in the archive that everything lies in, named after the file.
local function find_prefix(map, archive)
    for _, name in ipairs(archive.names) do
        local prefix = name:match "^(.*/)data%.pkl$" or name == "data.pkl" and ""
        if prefix then
            if archive.members[prefix .. "constants.pkl"] then map:refuse "it is a TorchScript program, not tensors" end
            return prefix
        end
    end
    map:refuse("the archive has no data.pkl: it is not one of torch.save")
end

--- Reads a mapped file: a tensor, a table or a plain value. Tuples and lists count from 1; None is nil; integers that a
-- Lua number does not hold exactly are the text of their digits.
-- @param map from _file.open
-- @tparam table opts only: list of the names of a dict's entries
function M.read(map, opts)
    local archive = zip.open(map)
    local prefix = find_prefix(map, archive)
    local order = archive:open(prefix .. "byteorder")
    if order and order:bytes(0, math.min(order.size, 6), "byte order") ~= "little" then
        order:refuse("its numbers have the high byte first")
    end
    local program = archive:open(prefix .. "data.pkl")
    if program.size > MAX_PICKLE then
        program:fail("%.0f bytes are above the limit of %d", program.size, MAX_PICKLE)
    end
    local value = pickle.read(program, program:bytes(0, program.size, "the pickle"), names, persistent {})
    if opts.only then value = choose(map, value, opts.only) end
    return setmetatable({ map = map, archive = archive, prefix = prefix }, Reader):value(value, "value", 1)
end

return M
