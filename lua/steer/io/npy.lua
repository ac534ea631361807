--- NumPy's .npy format, versions 1 to 3: one array, its header a Python dictionary.
local bit = require "bit"
local ffi = require "ffi"
local raise = require("steer.core.error").raise
local file = require "steer.io._file"
local tables = require "steer.core.tables"

local M = {}

local MAX_HEADER = 65536 -- bytes; NumPy itself writes about a hundred

local dtypes = { f8 = "f64", f4 = "f32", f2 = "f16", i4 = "i32", i8 = "i64", u1 = "u8" }

-- Other names that NumPy reads for them.
local aliases = {
    float64 = "f8", double = "f8", float = "f8", d = "f8", float32 = "f4", single = "f4", f = "f4", float16 = "f2",
    half = "f2", e = "f2", int64 = "i8", int = "i8", l = "i8", q = "i8", int32 = "i4", intc = "i4", i = "i4",
    uint8 = "u1", ubyte = "u1", B = "u1",
}

-- ---- The header's grammar ------------------------------------------------------------------------------------------

local Header = {}
Header.__index = Header

function Header:fail(format, ...)
    self.map:fail("header: byte %d: %s", self.at - 1, format:format(...))
end

-- Takes what the pattern captures at this position, after white space; nil leaves the position.
function Header:take(pattern)
    self.at = self.text:match("^[ \t\n]*()", self.at)
    local found, stop = self.text:match("^(" .. pattern .. ")()", self.at)
    if found then self.at = stop end
    return found
end

function Header:expect(char)
    if not self:take("%" .. char) then self:fail("expected '%s'", char) end
end

function Header:string()
    local text = self:take "'[^'\\]*'" or self:take '"[^"\\]*"'
    return text and text:sub(2, -2)
end

function Header:descr()
    local descr = self:string()
    if descr then return descr end
    if self:take "%[" then self.map:refuse("it is an array of records; save each field as an array of its own") end
    self:fail("expected the dtype as a string")
end

function Header:fortran_order()
    return (self:take "True" or self:take "False" or self:fail "expected True or False") == "True"
end

function Header:shape()
    local shape = {}
    self:expect "("
    while not self:take "%)" do
        local digits = self:take "%d+" or self:fail "expected a size from 0 up"
        if #digits > 15 then self:fail("the size %s is too large", digits:sub(1, 40)) end
        self:take "L" -- Python 2 wrote long integers so
        shape[#shape + 1] = tonumber(digits)
        if not self:take "," then
            if #shape == 1 then self:fail "expected ','" end -- (3) is a number in Python
            self:expect ")"
            break
        end
    end
    return shape
end

local fields = { descr = Header.descr, fortran_order = Header.fortran_order, shape = Header.shape }

function Header:read()
    local found = {}
    self:expect "{"
    while not self:take "}" do
        local key = self:string() or self:fail "expected a key"
        if not fields[key] then self:fail("the key %s is not known", file.quote(key)) end
        if found[key] ~= nil then self:fail("the key %s is there twice", file.quote(key)) end
        self:expect ":"
        found[key] = fields[key](self)
        if not self:take "," then
            self:expect "}"
            break
        end
    end
    for _, key in ipairs(tables.keys(fields)) do
        if found[key] == nil then self:fail("there is no %s", key) end
    end
    self:take ""
    if self.at <= #self.text then self:fail "more text after the dictionary" end
    return found
end

-- ---- Reading -------------------------------------------------------------------------------------------------------

-- The header and the offset of the data.
local function read_header(map)
    local version = map:bytes(0, 8, "magic and version"):byte(7)
    if version < 1 or version > 3 then map:fail("version %d of the npy format is not known (1 to 3 are)", version) end
    local kind = version == 1 and "u16" or "u32"
    local length = file.unpack(kind, map:bytes(8, file.sizes[kind], "header length"))
    local start = 8 + file.sizes[kind]
    if length > MAX_HEADER then
        map:fail("the header length %.0f is above the limit of %d bytes", length, MAX_HEADER)
    end
    local header = setmetatable({ map = map, text = map:bytes(start, length, "header"), at = 1 }, Header)
    return header:read(), start + length
end

-- The dtype's name here ("f64" for what becomes f32), and whether elements are stored with the high byte first. Without
-- a byte order it is the machine's.
local function parse_descr(map, descr)
    local order, name = descr:match "^([<>=|]?)(.+)$"
    if descr:find "^|?O" then
        map:refuse("it holds pickled Python objects, which can run code when they are read; save plain numbers, such "
            .. "as np.save(path, a.astype(np.float32))")
    end
    local dtype = dtypes[aliases[name] or name]
    if not dtype then
        map:refuse("dtype %s is not one that Steer has (f8, f4, f2, i4, i8 or u1); convert it in Python: "
            .. "np.save(path, a.astype(np.float32))", file.quote(descr))
    end
    return dtype, order == ">"
end

local words = { [2] = ffi.typeof "uint16_t *", [4] = ffi.typeof "int32_t *", [8] = ffi.typeof "int64_t *" }

-- Reverses the bytes of every element in the map, which is private: the file keeps its bytes.
local function swap_bytes(map, start, bytes, size)
    if size == 1 or bytes == 0 then return end
    local data = ffi.cast(words[size], map.data + start)
    if size == 2 then
        for i = 0, bytes / 2 - 1 do data[i] = bit.bor(bit.lshift(data[i], 8), bit.rshift(data[i], 8)) end
    else
        for i = 0, bytes / size - 1 do data[i] = bit.bswap(data[i]) end
    end
end

-- A Fortran-ordered array is the C-ordered one of the reversed shape, transposed.
local function reverse(list)
    local reversed = {}
    for i = #list, 1, -1 do reversed[#reversed + 1] = list[i] end
    return reversed
end

local function reverse_dims(tensor, ndim)
    for i = 1, math.floor(ndim / 2) do tensor = tensor:transpose(i, ndim + 1 - i) end
    return tensor
end

--- Reads a mapped file: a tensor. In the machine's byte order it is a view of the file, unless it becomes f32.
-- @param map from _file.open
function M.read(map)
    local header, start = read_header(map)
    local dtype, swapped = parse_descr(map, header.descr)
    local size = file.dtype_sizes[dtype]
    local bytes = map:check_shape(header.shape, size, "the array")
    if bytes ~= map.size - start then
        map:fail("%s %s takes %.0f bytes, the file has %.0f after its header", header.descr,
            file.shape_text(header.shape), bytes, map.size - start)
    end
    local shape = header.fortran_order and reverse(header.shape) or header.shape
    if swapped then swap_bytes(map, start, bytes, size) end
    local tensor = map:tensor(dtype, shape, start, "the array")
    return header.fortran_order and reverse_dims(tensor, #shape) or tensor
end

-- ---- Writing -------------------------------------------------------------------------------------------------------

local names = { f32 = "<f4", f16 = "<f2", i32 = "<i4", i64 = "<i8", u8 = "|u1" }

--- Writes one tensor, version 1.0, C order.
function M.write(path, tensor, metadata)
    file.check_tensor(tensor, "value")
    if metadata ~= nil then
        raise("invalid_argument", "save", "metadata: an .npy file has no place for it, use .safetensors")
    end
    local descr = names[tensor.dtype]
    if not descr then
        raise("unsupported", "save", 'value: NumPy has no %s; save value:to("f32"), or use .safetensors', tensor.dtype)
    end
    local sizes = file.shape_text(tensor:shape()):sub(2, -2)
    local header = ("{'descr': '%s', 'fortran_order': False, 'shape': (%s%s), }"):format(descr, sizes,
        #tensor:shape() == 1 and "," or "")
    header = header .. (" "):rep(-(10 + #header + 1) % 64) .. "\n" -- the data begins at a multiple of 64
    file.write(path, function(writer)
        writer:bytes("\147NUMPY\1\0" .. file.pack("u16", #header) .. header)
        writer:tensor(tensor)
    end)
end

return M
