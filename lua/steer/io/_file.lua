--- What the readers and writers of this folder share: a mapped file whose bytes are reached by checked copies only, an
-- atomic writer, and numbers in the files' byte order (little-endian).
local bit = require "bit"
local ffi = require "ffi"
local c = require "steer.core.c"
local check = require "steer.core.check"
local raise = require("steer.core.error").raise
local base = require "steer.tensor.object"
local tables = require "steer.core.tables"
require "steer.tensor"

local C = c.C
local M = {}

-- ---- Numbers -------------------------------------------------------------------------------------------------------

local cell = ffi.new [[union {
    uint8_t u8; int8_t i8; uint16_t u16; int16_t i16; uint32_t u32; int32_t i32; float f32;
    uint64_t u64; int64_t i64; double f64;
}]]

--- Bytes of each number type.
M.sizes = { u8 = 1, i8 = 1, u16 = 2, i16 = 2, u32 = 4, i32 = 4, f32 = 4, u64 = 8, i64 = 8, f64 = 8 }

-- LuaJIT takes a NaN of other bits than its own for a pointer, and crashes.
local function is_nan(kind)
    if kind == "f32" then return bit.band(cell.i32, 0x7fffffff) > 0x7f800000 end
    return kind == "f64" and bit.band(cell.u64, 0x7fffffffffffffffULL) > 0x7ff0000000000000ULL
end

--- Reads a number from the first bytes of a string. 64-bit integers beyond 2^53 lose their last digits.
function M.unpack(kind, bytes)
    assert(#bytes >= M.sizes[kind])
    ffi.copy(cell, bytes, M.sizes[kind])
    if is_nan(kind) then return 0 / 0 end
    return tonumber(cell[kind])
end

--- Writes a number as a string of bytes.
function M.pack(kind, value)
    cell[kind] = value
    return ffi.string(cell, M.sizes[kind])
end

--- Reads a 64-bit integer: one that a Lua number does not hold exactly comes as the string of its digits.
function M.exact(kind, bytes)
    local value = M.unpack(kind, bytes)
    if value >= -2 ^ 53 and value <= 2 ^ 53 then return value end
    return (tostring(cell[kind]):gsub("U?LL$", ""))
end

-- ---- Reading -------------------------------------------------------------------------------------------------------

--- Quotes a name from a file for a message: cut to a readable length, control characters escaped.
function M.quote(name)
    local shown = #name > 60 and name:sub(1, 57) .. "..." or name
    return '"' .. shown:gsub("[%c\\\"]", function(char) return ("\\%d"):format(char:byte()) end) .. '"'
end

--- Writes a shape for a message: "[2, 3]".
function M.shape_text(shape)
    local words = {}
    for i, size in ipairs(shape) do words[i] = ("%.0f"):format(size) end
    return "[" .. table.concat(words, ", ") .. "]"
end

--- Bytes of an element of each dtype, by name.
M.dtype_sizes = {}
for name, code in pairs(base.dtype_codes) do M.dtype_sizes[name] = base.dtype_sizes[code] end
M.dtype_sizes.f64 = 8 -- of files; read as f32

local Map = {}
Map.__index = Map

local map_out = ffi.new "steer_map *[1]"

-- The map in `map_out`; `path` is what messages call it.
local function own_map(path)
    local handle = c.own(map_out[0], C.steer_map_release)
    return setmetatable({ path = path, handle = handle, start = 0, data = C.steer_map_data(handle),
        size = tonumber(C.steer_map_size(handle)) }, Map)
end

--- Maps a file for reading. Errors: not_found, io.
function M.open(path)
    check.path("load", "path", path, "the name of a file")
    c.check(C.steer_map_open(map_out, path), "load")
    return own_map(path)
end

--- A part of a map, as a map of its own.
function Map:part(name, offset, size)
    assert(offset >= 0 and size >= 0 and offset + size <= self.size)
    return setmetatable({ path = self.path .. ": " .. name, handle = self.handle, start = self.start + offset,
        data = self.data + offset, size = size }, Map)
end

--- What a part becomes when inflated: `raw_size` bytes of this CRC-32.
function Map:inflate(name, offset, size, raw_size, crc)
    c.alloc(C.steer_map_inflate, map_out, self.handle, self.start + offset, size, raw_size, crc)
    return own_map(self.path .. ": " .. name)
end

--- Raises a format error: the file's name, then the reason.
function Map:fail(format, ...)
    raise("format", "load", "%s: %s", self.path, format:format(...))
end

--- Copies `length` bytes at `offset` into a string; `what` names them in the error when the file is too short.
function Map:bytes(offset, length, what)
    if not (offset >= 0 and length >= 0 and offset + length <= self.size) then
        self:fail("%s: %.0f bytes at offset %.0f reach past the end of the file at %.0f", what, length, offset,
            self.size)
    end
    if length == 0 then return "" end
    return ffi.string(self.data + offset, length)
end

-- Elements of a shape, or nil if their bytes are beyond what a Lua number counts exactly.
local function count_elements(shape, item_size)
    local extent, numel = item_size, 1
    for _, size in ipairs(shape) do
        extent = extent * math.max(size, 1)
        numel = numel * size
    end
    if extent > 2 ^ 53 then return nil end
    return numel
end

--- Raises unsupported: the file's name, then the reason.
function Map:refuse(format, ...)
    raise("unsupported", "load", "%s: %s", self.path, format:format(...))
end

--- Refuses shapes that no tensor has.
function Map:check_ndim(shape, what)
    if #shape > C.STEER_MAX_DIMS then
        self:refuse("%s has %d dimensions, at most %d are supported", what, #shape, tonumber(C.STEER_MAX_DIMS))
    end
end

--- Makes a CPU tensor that is a view of the file (a copy where the offset is not aligned to the dtype); one of "f64"
-- becomes f32, each number rounded once. The caller has checked the shape with `check_shape`; `what` names it.
function Map:tensor(dtype, shape, offset, what)
    self:check_ndim(shape, what)
    for i, size in ipairs(shape) do base.dims[i - 1] = size end
    if dtype == "f64" then
        c.alloc(C.steer_map_doubles, base.out, self.handle, #shape, base.dims, self.start + offset)
    else
        c.alloc(C.steer_map_tensor, base.out, self.handle, base.dtype_codes[dtype], #shape, base.dims,
            self.start + offset)
    end
    return base.own()
end

--- Checks a shape against overflow and returns its bytes. `what` names it in messages.
function Map:check_shape(shape, item_size, what)
    local numel = count_elements(shape, item_size)
    if not numel then self:fail("%s: shape %s is too large for any file", what, M.shape_text(shape)) end
    return numel * item_size
end

-- ---- Writing -------------------------------------------------------------------------------------------------------

M.is_tensor = base.is

--- Checks that `value` is an open tensor; `name` is what messages call it.
function M.check_tensor(value, name) base.use(value, "save", name) end

--- Checks that `value` is a table whose values are open tensors; `expected` is the form for the message.
function M.check_tensors(value, expected)
    if base.is(value) or type(value) ~= "table" then
        raise("invalid_argument", "save", "value: expected %s, got %s", expected,
            base.is(value) and "a tensor" or check.describe(value))
    end
    for _, key in ipairs(tables.keys(value)) do M.check_tensor(value[key], "value[" .. check.describe(key) .. "]") end
end

local Writer = {}
Writer.__index = Writer

--- Appends a string.
function Writer:bytes(text) c.check(C.steer_file_write(self.handle, text, #text)) end

--- Appends the elements of a tensor in row-major order.
function Writer:tensor(value) c.check(C.steer_file_write_tensor(self.handle, base.use(value, "save", "value"))) end

local file_out = ffi.new "steer_file *[1]"

--- Writes a file through body(writer): it appears whole when body returns, and not at all if body raises.
-- A process that is killed leaves the old file, and may leave a ".steer-*.tmp" beside it.
function M.write(path, body)
    check.path("save", "path", path, "the name of a file")
    c.check(C.steer_file_create(file_out, path))
    local writer = setmetatable({ handle = c.own(file_out[0], C.steer_file_release) }, Writer)
    local ok, problem = pcall(function()
        body(writer)
        c.check(C.steer_file_commit(writer.handle))
    end)
    c.free(writer.handle, C.steer_file_release)
    if not ok then error(problem, 0) end
end

return M
