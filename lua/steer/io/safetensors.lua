--- The safetensors format: a length, a JSON header, then the tensors' bytes without holes.
-- The header is read by the grammar that it must have, so nothing in it can nest deeper than that.
local json = require "dkjson"
local raise = require("steer.core.error").raise
local file = require "steer.io._file"
local tables = require "steer.core.tables"

local M = {}

local MAX_HEADER = 100000000 -- bytes, the format's own limit
local MAX_NUMBERS = 64       -- in one list of the header

-- Every dtype of the format: bytes of an element and, where Steer reads it, its name here.
local dtypes = {
    F32 = { 4, "f32" }, F16 = { 2, "f16" }, BF16 = { 2, "bf16" }, F64 = { 8, "f64" },
    I32 = { 4, "i32" }, I64 = { 8, "i64" }, U8 = { 1, "u8" },
    BOOL = { 1 }, I8 = { 1 }, I16 = { 2 }, U16 = { 2 }, U32 = { 4 }, U64 = { 8 }, C64 = { 8 },
    F8_E4M3 = { 1 }, F8_E5M2 = { 1 }, F8_E8M0 = { 1 }, F8_E4M3FNUZ = { 1 }, F8_E5M2FNUZ = { 1 },
    F6_E2M3 = { 0.75 }, F6_E3M2 = { 0.75 }, F4 = { 0.5 },
}

-- ---- The header's grammar ------------------------------------------------------------------------------------------

local Header = {}
Header.__index = Header

function Header:fail(format, ...)
    self.map:fail("header: byte %d: %s", self.at - 1, format:format(...))
end

-- The next character that is not white space; "" at the end.
function Header:peek()
    self.at = self.text:find("[^ \t\r\n]", self.at) or #self.text + 1
    return self.text:sub(self.at, self.at)
end

function Header:accept(char)
    if self:peek() ~= char then return false end
    self.at = self.at + 1
    return true
end

function Header:expect(char)
    if not self:accept(char) then
        local found = self:peek()
        self:fail("expected '%s', found %s", char, found == "" and "the end of the header" or file.quote(found))
    end
end

function Header:string()
    self:expect '"'
    local start, escaped = self.at, false
    while true do
        local stop = self.text:find('["\\%z\1-\31]', self.at)
        local char = stop and self.text:sub(stop, stop)
        if char == '"' then
            local raw = self.text:sub(start, stop - 1)
            self.at = stop + 1
            return escaped and (json.decode('"' .. raw .. '"') or self:fail("bad escape in a string")) or raw
        elseif char ~= "\\" or stop == #self.text then
            self:fail("a string without its end")
        end
        escaped = true
        self.at = stop + 2
    end
end

function Header:integer()
    self:peek()
    local digits, stop = self.text:match("^(%d+)()", self.at)
    if not digits or digits:find "^0%d" then self:fail("expected an integer from 0 up") end
    if #digits > 15 then self:fail("the number %s is too large", file.quote(digits)) end
    self.at = stop
    return tonumber(digits)
end

function Header:integers()
    local list = {}
    self:expect "["
    if self:accept "]" then return list end
    repeat
        if #list == MAX_NUMBERS then self:fail("a list of more than %d numbers", MAX_NUMBERS) end
        list[#list + 1] = self:integer()
    until not self:accept ","
    self:expect "]"
    return list
end

-- Reads an object: calls value(key) with the position at each value.
function Header:object(value)
    local seen = {}
    self:expect "{"
    if self:accept "}" then return end
    repeat
        local key = self:string()
        if seen[key] then self:fail("the key %s is there twice", file.quote(key)) end
        seen[key] = true
        self:expect ":"
        value(key)
    until not self:accept ","
    self:expect "}"
end

local fields = { dtype = Header.string, shape = Header.integers, data_offsets = Header.integers }

function Header:entry(name)
    local entry = { name = name, what = "tensor " .. file.quote(name) }
    self:object(function(key)
        if not fields[key] then self:fail("%s has the unknown field %s", entry.what, file.quote(key)) end
        entry[key] = fields[key](self)
    end)
    for _, key in ipairs(tables.keys(fields)) do
        if not entry[key] then self:fail("%s has no %s", entry.what, key) end
    end
    return entry
end

-- Reads the whole header: a list of entries, and the metadata.
function Header:read()
    local entries, metadata = {}, {}
    self:object(function(key)
        if key == "__metadata__" then
            self:object(function(name) metadata[name] = self:string() end)
        else
            entries[#entries + 1] = self:entry(key)
        end
    end)
    if self:peek() ~= "" then self:fail("more text after the header's object") end
    return entries, metadata
end

-- ---- Reading -------------------------------------------------------------------------------------------------------

-- Checks an entry by itself; returns the bytes that its tensor has.
local function check_entry(map, entry)
    local dtype = dtypes[entry.dtype]
    if not dtype then map:fail("%s: dtype %s is not known", entry.what, file.quote(entry.dtype)) end
    local bytes = map:check_shape(entry.shape, dtype[1], entry.what)
    if bytes % 1 ~= 0 then
        map:fail("%s: %s %s does not fill whole bytes", entry.what, entry.dtype, file.shape_text(entry.shape))
    end
    local first, stop = unpack(entry.data_offsets)
    if #entry.data_offsets ~= 2 or first > stop then
        map:fail("%s: data_offsets %s are not a begin and an end", entry.what, file.shape_text(entry.data_offsets))
    elseif stop - first ~= bytes then
        map:fail("%s: data_offsets [%.0f, %.0f] do not match %.0f bytes of %s %s", entry.what, first, stop, bytes,
            entry.dtype, file.shape_text(entry.shape))
    end
end

-- Checks that the tensors cover the data exactly, without overlap and without holes.
local function check_cover(map, entries, data_size)
    table.sort(entries, function(a, b)
        local x, y = a.data_offsets, b.data_offsets
        if x[1] ~= y[1] then return x[1] < y[1] end
        return x[2] < y[2]
    end)
    local covered, before = 0, "the start"
    for _, entry in ipairs(entries) do
        local first = entry.data_offsets[1]
        if first ~= covered then
            map:fail("%s: its data begins at %.0f, %s %s, which ends at %.0f", entry.what, first,
                first < covered and "overlapping" or "leaving a hole after", before, covered)
        end
        covered, before = entry.data_offsets[2], entry.what
    end
    if covered ~= data_size then
        map:fail("the tensors take %.0f bytes of data, the file has %.0f", covered, data_size)
    end
end

local function make_tensor(map, entry, data_start)
    local dtype = dtypes[entry.dtype][2]
    if not dtype then
        map:refuse("%s: dtype %s is not one that Steer has (F32, F16, BF16, F64, I32, I64 or U8); convert it, or leave "
            .. "it out with the option only", entry.what, entry.dtype)
    end
    return map:tensor(dtype, entry.shape, data_start + entry.data_offsets[1], entry.what)
end

-- Entries by name, restricted to the names in `only`.
local function choose(map, entries, only)
    local by_name, chosen = {}, {}
    for _, entry in ipairs(entries) do by_name[entry.name] = entry end
    if not only then return by_name end
    for _, name in ipairs(only) do
        if not by_name[name] then
            raise("not_found", "load", "%s: only: has no tensor %s", map.path, file.quote(tostring(name)))
        end
        chosen[name] = by_name[name]
    end
    return chosen
end

--- Reads a mapped file: name -> tensor (views of the file) and the metadata, string -> string.
-- @param map from _file.open
-- @tparam table opts only: list of names
function M.read(map, opts)
    if map.size < 8 then map:fail("has %d bytes, too few for a safetensors file", map.size) end
    local length = file.unpack("u64", map:bytes(0, 8, "header length"))
    if length > MAX_HEADER then
        map:fail("the header length %.0f is above the format's limit of %d bytes", length, MAX_HEADER)
    end
    local header = setmetatable({ map = map, text = map:bytes(8, length, "header"), at = 1 }, Header)
    if header.text:sub(1, 1) ~= "{" then header:fail("expected '{'") end
    local entries, metadata = header:read()
    for _, entry in ipairs(entries) do check_entry(map, entry) end
    check_cover(map, entries, map.size - 8 - length)
    local tensors, chosen = {}, choose(map, entries, opts.only)
    for _, name in ipairs(tables.keys(chosen)) do tensors[name] = make_tensor(map, chosen[name], 8 + length) end
    return tensors, metadata
end

-- ---- Writing -------------------------------------------------------------------------------------------------------

local names = {}
for name, dtype in pairs(dtypes) do
    if dtype[2] and dtype[2] ~= "f64" then names[dtype[2]] = name end
end

-- Other readers refuse a header that is not UTF-8.
local function is_utf8(text)
    local rest = text:gsub("[\194-\223][\128-\191]", "?"):gsub("[\224-\239][\128-\191][\128-\191]", "?")
        :gsub("[\240-\244][\128-\191][\128-\191][\128-\191]", "?")
    return not rest:find "[\128-\255]"
end

local function quoted(what, text)
    if not is_utf8(text) then raise("invalid_argument", "save", "%s: %s is not UTF-8", what, file.quote(text)) end
    return json.quotestring(text)
end

-- The metadata as a JSON object with sorted keys, or nil if there is none.
local function metadata_text(metadata)
    local keys, words = tables.keys(metadata or {}), {}
    for _, key in ipairs(keys) do
        if type(key) ~= "string" then
            raise("invalid_argument", "save", "metadata: the key %s is not a string", tostring(key))
        end
    end
    table.sort(keys)
    for i, key in ipairs(keys) do
        local value, what = metadata[key], "metadata." .. key
        if type(value) == "number" then value = ("%.17g"):format(value) end
        if type(value) == "boolean" then value = tostring(value) end
        if type(value) ~= "string" then
            raise("invalid_argument", "save", "%s: expected a string, number or boolean, got a %s", what, type(value))
        end
        words[i] = quoted("metadata", key) .. ":" .. quoted(what, value)
    end
    if #keys > 0 then return "{" .. table.concat(words, ",") .. "}" end
end

-- Tensors by name: directions by layer, which have whole numbers for keys, get the names that are read as their layers.
local function by_name(value)
    local named = {}
    for _, key in ipairs(tables.keys(value)) do
        local name = key
        if type(key) == "number" and key % 1 == 0 and key >= 0 then name = ("layer.%.0f"):format(key) end
        if type(name) ~= "string" then
            raise("invalid_argument", "save", "value: the key %s is neither a name nor a layer, expected "
                .. "{name = tensor} or {[layer] = tensor}", tostring(key))
        elseif named[name] then
            raise("invalid_argument", "save", "value: %s and the layer in its name are both there", name)
        end
        named[name] = value[key]
    end
    return named
end

-- Names sorted so that larger elements come first, which keeps every tensor aligned, then by the alphabet.
local function sorted_names(tensors)
    local list = tables.keys(tensors)
    for _, name in ipairs(list) do
        if name == "__metadata__" then
            raise("invalid_argument", "save", "value: __metadata__ cannot be the name of a tensor")
        end
    end
    table.sort(list, function(a, b)
        local x, y = file.dtype_sizes[tensors[a].dtype], file.dtype_sizes[tensors[b].dtype]
        if x ~= y then return x > y end
        return a < b
    end)
    return list
end

--- Writes tensors under their names, those of {[layer] = tensor} under layer.N, and metadata (string -> string,
-- number or boolean; stored as text).
-- Equal input gives equal bytes.
function M.write(path, tensors, metadata)
    file.check_tensors(tensors, "{name = tensor}")
    tensors = by_name(tensors)
    local list, words, offset = sorted_names(tensors), {}, 0
    local text = metadata_text(metadata)
    if text then words[1] = '"__metadata__":' .. text end
    for _, name in ipairs(list) do
        local value = tensors[name]
        local stop = offset + value:numel() * file.dtype_sizes[value.dtype]
        words[#words + 1] = ('%s:{"dtype":"%s","shape":[%s],"data_offsets":[%.0f,%.0f]}'):format(
            quoted("value", name), names[value.dtype], file.shape_text(value:shape()):sub(2, -2), offset, stop)
        offset = stop
    end
    local header = "{" .. table.concat(words, ",") .. "}"
    header = header .. (" "):rep(-#header % 8)
    if #header > MAX_HEADER then
        raise("invalid_argument", "save", "value: the header takes %d bytes, the format allows %d", #header, MAX_HEADER)
    end
    file.write(path, function(writer)
        writer:bytes(file.pack("u64", #header) .. header)
        for _, name in ipairs(list) do writer:tensor(tensors[name]) end
    end)
end

return M
