--- GGUF control vectors, as llama.cpp and repeng use them: one vector per layer, named direction.N, and metadata.
--
-- direction.N is read as the vector of layer N. Most files do not say how their maker counted layers; the option
-- layer_offset shifts them. llama.cpp's own generator writes the output of layer L as direction.(L + 1), so its files
-- want {layer_offset = -1}. Files written here state their offset in steer.layer_offset, and reading undoes it.
-- What GLP says in addition is read by glp.lua.
local bit = require "bit"
local raise = require("steer.core.error").raise
local base = require "steer.tensor.object"
local check = require "steer.core.check"
local file = require "steer.io._file"
local glp = require "steer.io.glp"
local tensors = require "steer.tensor"
local tables = require "steer.core.tables"

local M = {}

local DEFAULT_ALIGNMENT = 32
local MAX_ALIGNMENT = 2 ^ 20
local MAX_HEADER = 2 ^ 24  -- bytes; those of control vectors take a few thousand
local MAX_NESTING = 8      -- of arrays
local MAX_LAYER = 1023
local OFFSET_KEY = "steer.layer_offset"

-- Value types of the metadata by their number.
local STRING, ARRAY = "string", "array"
local types = { [0] = "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", STRING, ARRAY, "u64", "i64", "f64" }
local type_numbers = {}
for number, name in pairs(types) do type_numbers[name] = number end

local tensor_types = { [0] = "f32", [1] = "f16", [30] = "bf16" } -- by their number

-- ---- Reading -------------------------------------------------------------------------------------------------------

local Cursor = {}
Cursor.__index = Cursor

function Cursor:bytes(length, what)
    if self.at + length > MAX_HEADER then
        self.map:fail("%s: the header is larger than the limit of %d bytes", what, MAX_HEADER)
    end
    local bytes = self.map:bytes(self.at, length, what)
    self.at = self.at + length
    return bytes
end

function Cursor:number(kind, what)
    return file.unpack(kind, self:bytes(file.sizes[kind], what))
end

function Cursor:length(what)
    local length = self:number("u64", what)
    if length > MAX_HEADER then
        self.map:fail("%s: length %.0f is above the limit of %d", what, length, MAX_HEADER)
    end
    return length
end

function Cursor:string(what)
    return self:bytes(self:length(what), what)
end

function Cursor:value(number, what, nesting)
    local kind = types[number]
    if not kind then self.map:fail("%s: value type %.0f is not known", what, number) end
    if kind == STRING then return self:string(what) end
    if kind == ARRAY then return self:array(what, nesting + 1) end
    if kind == "bool" then
        local byte = self:number("u8", what)
        if byte > 1 then self.map:fail("%s: %d is not a boolean", what, byte) end
        return byte == 1
    end
    local bytes = self:bytes(file.sizes[kind], what)
    if kind == "u64" or kind == "i64" then return file.exact(kind, bytes) end
    return file.unpack(kind, bytes)
end

function Cursor:array(what, nesting)
    if nesting > MAX_NESTING then self.map:fail("%s: arrays nested deeper than %d", what, MAX_NESTING) end
    local number, list = self:number("u32", what), {}
    for i = 1, self:length(what) do list[i] = self:value(number, what, nesting) end
    return list
end

-- The metadata, key -> value.
function Cursor:metadata(count)
    local metadata = {}
    for _ = 1, count do
        local key = self:string "metadata key"
        local what = "metadata " .. file.quote(key)
        if metadata[key] ~= nil then self.map:fail("%s is there twice", what) end
        metadata[key] = self:value(self:number("u32", what), what, 0)
    end
    return metadata
end

-- One tensor's description: {layer=, index=, dtype=, length=, offset=, what=}; index is J of direction.N.J, else 0.
function Cursor:info()
    local name = self:string "tensor name"
    local what = "tensor " .. file.quote(name)
    local digits, index = name:match "^direction%.(%d+)$", "0"
    if not digits then digits, index = name:match "^direction%.(%d+)%.([1-9]%d?)$" end
    if not digits then self.map:fail("%s is not a control vector, expected direction.N", what) end
    if #digits > 6 then self.map:fail("%s: the layer is too large", what) end
    local ndim = self:number("u32", what)
    if ndim ~= 1 then self.map:fail("%s has %.0f dimensions, expected 1", what, ndim) end
    local length = self:number("u64", what)
    local number, offset = self:number("u32", what), self:number("u64", what)
    local kind = tensor_types[number]
    if not kind then
        self.map:refuse("%s: tensor type %.0f is not one that Steer has (0 F32, 1 F16 or 30 BF16)", what, number)
    end
    return { layer = tonumber(digits), index = tonumber(index), dtype = kind, length = length, offset = offset,
        what = what }
end

local function check_start(map, cursor)
    cursor:bytes(4, "magic")
    local version = cursor:number("u32", "version")
    if version == 1 or version >= 2 ^ 24 then
        map:refuse("it is a %s GGUF file, convert it with llama.cpp's tools",
            version == 1 and "version 1" or "big-endian")
    elseif version ~= 2 and version ~= 3 then
        map:fail("version %.0f of GGUF is not known (2 and 3 are)", version)
    end
end

local function check_metadata(map, metadata)
    local architecture = metadata["general.architecture"]
    if type(architecture) ~= "string" then
        map:fail("general.architecture is %s, expected \"controlvector\"", check.describe(architecture))
    elseif architecture ~= "controlvector" then
        map:refuse("general.architecture is %s, expected \"controlvector\" (a model is opened with steer.model)",
            file.quote(architecture))
    end
    local alignment = metadata["general.alignment"]
    if alignment == nil then return DEFAULT_ALIGNMENT end
    if type(alignment) ~= "number" or alignment < 1 or alignment > MAX_ALIGNMENT or alignment % 1 ~= 0
        or bit.band(alignment, alignment - 1) ~= 0 then
        map:fail("general.alignment is %s, expected a power of two up to %d", tostring(alignment), MAX_ALIGNMENT)
    end
    return alignment
end

local function align(offset, alignment) return offset + -offset % alignment end

-- Checks that the tensors lie one after another, each aligned, and end the file.
local function check_data(map, infos, start, alignment)
    local expected = 0
    for _, info in ipairs(infos) do
        local bytes = map:check_shape({ info.length }, file.dtype_sizes[info.dtype], info.what)
        if info.length ~= infos[1].length or info.length == 0 then
            map:fail("%s has %.0f elements, expected %s", info.what, info.length,
                info.length == 0 and "at least 1" or ("%.0f as in %s"):format(infos[1].length, infos[1].what))
        elseif info.offset ~= expected then
            map:fail("%s has offset %.0f, expected %.0f", info.what, info.offset, expected)
        elseif start + info.offset + bytes > map.size then
            map:fail("%s: its %.0f bytes at offset %.0f reach past the end of the file at %.0f", info.what, bytes,
                start + info.offset, map.size)
        end
        info.stop = start + info.offset + bytes
        expected = align(info.offset + bytes, alignment)
    end
    local stop = infos[#infos].stop
    if map.size > math.max(stop, start + expected) then
        map:fail("%.0f bytes too many after the last tensor", map.size - stop)
    end
end

-- How far the layer is from N of direction.N: as asked, else as the file says, else 0.
local function layer_shift(map, metadata, asked)
    if asked then return asked end
    local stated = metadata[OFFSET_KEY]
    if stated == nil then return 0 end
    if type(stated) ~= "number" or stated % 1 ~= 0 then
        map:fail("%s is %s, expected an integer", OFFSET_KEY, tostring(stated))
    end
    return -stated
end

-- The directions of a layer as one tensor: a vector, or [rank, hidden] of several.
local function layer_tensor(map, directions, start)
    local rows = {}
    for j, info in ipairs(directions) do
        rows[j] = map:tensor(info.dtype, { info.length }, start + info.offset, info.what)
    end
    if #rows == 1 then return rows[1] end
    local all = tensors.empty({ #rows, directions[1].length }, { dtype = "f32", device = "cpu" })
    for j, row in ipairs(rows) do all:select(1, j):copy_(row) end
    return all
end

-- Layer -> tensor, restricted to the layers in `only`.
local function layer_tensors(map, layers, start, shift, only)
    local wanted, found = {}, {}
    for _, layer in ipairs(only or {}) do wanted[layer] = true end
    for _, number in ipairs(tables.keys(layers)) do
        local layer, directions = number + shift, layers[number]
        if layer < 0 or layer > MAX_LAYER then
            map:fail("%s with layer_offset %d is layer %d, expected 0 to %d", directions[1].what, shift, layer,
                MAX_LAYER)
        end
        if not only or wanted[layer] then found[layer] = layer_tensor(map, directions, start) end
    end
    for _, layer in ipairs(only or {}) do
        if not found[layer] then
            raise("not_found", "load", "%s: only: has no layer %s", map.path, tostring(layer))
        end
    end
    return found
end

-- The descriptions of the tensors by the number of their layer and their index.
local function by_layer(map, infos)
    local layers = {}
    for _, info in ipairs(infos) do
        local directions = layers[info.layer] or {}
        if directions[info.index + 1] then map:fail("%s: the layer is there twice", info.what) end
        directions[info.index + 1], layers[info.layer] = info, directions
    end
    return layers
end

-- What GLP says of the file; without it, and without an option, layers are those of the tensors' names.
local function read_glp(map, metadata, infos, asked)
    local stated = glp.check(map, metadata, infos)
    for _, info in ipairs(infos) do
        if not stated and info.index > 0 then
            map:fail("%s is not a control vector, expected direction.N", info.what)
        end
    end
    if stated and asked and asked ~= 0 then
        raise("invalid_argument", "load", "opts.layer_offset: %d, expected none: %s is a GLP file, in which "
            .. "direction.N is layer N", asked, map.path)
    end
    return stated
end

--- Reads a mapped file: layer -> tensor (views of the file; [rank, hidden] where a layer has several directions) and
-- the metadata, key -> number, string, boolean or list. Directions of GLP's mode "project" are refused by steer.add.
-- @param map from _file.open
-- @tparam table opts layer_offset: added to N of direction.N, instead of what the file says; only: list of layers
-- @return the vectors, the metadata, what GLP says of them (nil if nothing)
function M.read(map, opts)
    local cursor = setmetatable({ map = map, at = 0 }, Cursor)
    check_start(map, cursor)
    local tensor_count, key_count = cursor:length "tensor count", cursor:length "metadata count"
    if tensor_count == 0 then map:fail("it has no tensors, expected direction.N") end
    local metadata, infos = cursor:metadata(key_count), {}
    local alignment = check_metadata(map, metadata)
    for i = 1, tensor_count do infos[i] = cursor:info() end
    local layers = by_layer(map, infos)
    local stated = read_glp(map, metadata, infos, opts.layer_offset)
    local start = align(cursor.at, alignment)
    check_data(map, infos, start, alignment)
    local found = layer_tensors(map, layers, start, layer_shift(map, metadata, opts.layer_offset), opts.only)
    for _, layer in ipairs(stated and stated.mode == "project" and tables.keys(found) or {}) do
        base.set_origin(found[layer], { mode = "project", path = map.path })
    end
    return found, metadata, stated
end

-- ---- Writing -------------------------------------------------------------------------------------------------------

local function pack_string(text) return file.pack("u64", #text) .. text end

local function pack_pair(key, kind, value)
    local bytes
    if kind == STRING then bytes = pack_string(value)
    elseif kind == "bool" then bytes = file.pack("u8", value and 1 or 0)
    else bytes = file.pack(kind, value) end
    return pack_string(key) .. file.pack("u32", type_numbers[kind]) .. bytes
end

-- The kind in which a Lua value is stored.
local function kind_of(key, value)
    if type(value) == "string" then return STRING end
    if type(value) == "boolean" then return "bool" end
    if type(value) ~= "number" then
        raise("invalid_argument", "save", "metadata.%s: expected a string, number or boolean, got a %s", key,
            type(value))
    end
    if value % 1 ~= 0 or math.abs(value) > 2 ^ 53 then return "f64" end
    return value >= -2 ^ 31 and value < 2 ^ 31 and "i32" or "i64"
end

-- Written from the vectors themselves, whatever the given metadata says.
local function fixed_pairs(count, metadata, offset)
    local hint = metadata["controlvector.model_hint"]
    return {
        { "general.architecture", STRING, "controlvector" },
        { "controlvector.model_hint", STRING, type(hint) == "string" and hint or "unknown" },
        { "controlvector.layer_count", "u32", count },
        { OFFSET_KEY, "i32", offset },
    }
end

local function metadata_bytes(count, metadata, offset)
    local rows, fixed, keys = fixed_pairs(count, metadata, offset), { ["general.alignment"] = true }, {}
    for _, row in ipairs(rows) do fixed[row[1]] = true end
    for _, key in ipairs(tables.keys(metadata)) do
        if type(key) ~= "string" or #key == 0 or #key > 65535 then
            raise("invalid_argument", "save", "metadata: the key %s is not a string of 1 to 65535 bytes", tostring(key))
        end
        if not fixed[key] then keys[#keys + 1] = key end
    end
    table.sort(keys)
    for _, key in ipairs(keys) do rows[#rows + 1] = { key, kind_of(key, metadata[key]), metadata[key] } end
    local words = {}
    for i, row in ipairs(rows) do words[i] = pack_pair(unpack(row, 1, 3)) end
    return table.concat(words), #words
end

-- Checks one vector and the name that it would get.
local function check_vector(layer, value, offset, length)
    check.integer("save", "value: layer", layer, 0, MAX_LAYER)
    if layer + offset < 1 then
        raise("invalid_argument", "save", "value: layer %d would be written as direction.%d, which llama.cpp refuses; "
            .. "with steer.save(path, directions, nil, {layer_offset = 1}) layer N becomes direction.(N + 1), and the "
            .. "file says so", layer, layer + offset)
    end
    local shape = value:shape()
    if #shape ~= 1 or shape[1] == 0 then
        raise("shape_mismatch", "save", "value[%d]: shape %s, expected a vector of one dimension", layer,
            file.shape_text(shape))
    elseif length and shape[1] ~= length then
        raise("shape_mismatch", "save", "value[%d]: %d elements, expected %d as in the first layer", layer, shape[1],
            length)
    elseif value.dtype ~= "f32" and value.dtype ~= "f16" and value.dtype ~= "bf16" then
        raise("dtype_mismatch", "save", "value[%d]: dtype %s, expected f32, f16 or bf16", layer, value.dtype)
    end
    return shape[1]
end

--- Writes layer -> vector, as F32 (which llama.cpp takes and f16 and bf16 fit into), and metadata. Equal input gives
-- equal bytes.
-- @tparam table metadata string keys; strings, numbers and booleans. controlvector.model_hint names the model
-- @tparam table opts layer_offset: layer N is written as direction.(N + layer_offset), default 0
function M.write(path, vectors, metadata, opts)
    file.check_tensors(vectors, "{[layer] = tensor}")
    local offset, layers, length = opts.layer_offset or 0, tables.keys(vectors), nil
    for _, layer in ipairs(layers) do
        if type(layer) ~= "number" then
            raise("invalid_argument", "save", "value: the key %s, expected layers, as in {[12] = vector}",
                check.describe(layer))
        end
        check.integer("save", "value: layer", layer, 0, MAX_LAYER)
    end
    if #layers == 0 then raise("invalid_argument", "save", "value: has no vectors") end
    table.sort(layers)
    for _, layer in ipairs(layers) do length = check_vector(layer, vectors[layer], offset, length) end
    local pairs_text, pair_count = metadata_bytes(#layers, metadata or {}, offset)
    local words = { "GGUF", file.pack("u32", 3), file.pack("u64", #layers), file.pack("u64", pair_count), pairs_text }
    local stride = align(length * 4, DEFAULT_ALIGNMENT)
    for i, layer in ipairs(layers) do
        words[#words + 1] = pack_string("direction." .. layer + offset) .. file.pack("u32", 1)
            .. file.pack("u64", length) .. file.pack("u32", 0) .. file.pack("u64", (i - 1) * stride)
    end
    local header = table.concat(words)
    file.write(path, function(writer)
        writer:bytes(header .. ("\0"):rep(-#header % DEFAULT_ALIGNMENT))
        for _, layer in ipairs(layers) do
            writer:tensor(vectors[layer]:to("f32"))
            writer:bytes(("\0"):rep(stride - length * 4))
        end
    end)
end

return M
