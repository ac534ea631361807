--- Reads a few entries of a GGUF file's metadata and skips the others, which may be a vocabulary of megabytes.
local ffi = require "ffi"
local file = require "steer.io._file"

local M = {}

local STRING, ARRAY = 8, 9
local sizes = { [0] = 1, 1, 2, 2, 4, 4, 4, 1, [10] = 8, [11] = 8, [12] = 8 } -- bytes of a value by its type's number
local MAX_NESTING = 8
local TOKENS = "tokenizer.ggml.tokens"

local Cursor = {}
Cursor.__index = Cursor

function Cursor:skip(bytes)
    if bytes > self.map.size - self.at then self.map:fail("the metadata reaches past the end of the file") end
    self.at = self.at + bytes
end

function Cursor:number(ctype, bytes)
    local at = self.at
    self:skip(bytes)
    return tonumber(ffi.cast(ctype, self.map.data + at)[0])
end

local U32, U64 = ffi.typeof "const uint32_t *", ffi.typeof "const uint64_t *"

function Cursor:u32() return self:number(U32, 4) end
function Cursor:u64() return self:number(U64, 8) end

function Cursor:string()
    local length = self:u64()
    local at = self.at
    self:skip(length)
    return self.map:bytes(at, length, "metadata")
end

function Cursor:skip_value(kind, nesting)
    if kind == STRING then
        self:skip(self:u64())
    elseif kind == ARRAY then
        local item, count = self:u32(), self:u64()
        if sizes[item] then return self:skip(sizes[item] * count) end
        if nesting > MAX_NESTING then self.map:fail("arrays nested deeper than %d", MAX_NESTING) end
        for _ = 1, count do self:skip_value(item, nesting + 1) end
    elseif sizes[kind] then
        self:skip(sizes[kind])
    else
        self.map:fail("value type %.0f is not known", kind)
    end
end

-- The text of a token of the vocabulary whose array is at `at`.
local function token_at(cursor, at, id)
    cursor.at = at
    if cursor:u32() ~= STRING then cursor.map:fail("%s: expected an array of strings", TOKENS) end
    local count = cursor:u64()
    if id >= count then cursor.map:fail("token %.0f is named, but there are %.0f tokens", id, count) end
    for _ = 1, id do cursor:skip_value(STRING, 1) end
    return cursor:string()
end

--- Reads metadata.
-- @tparam string path
-- @tparam table wanted key -> "string", or "token" for the id of a token, which is read as its text
-- @treturn table key -> text of those that are there
-- @raise not_found, io, format
function M.read(path, wanted)
    local map = file.open(path)
    local cursor = setmetatable({ map = map, at = 0 }, Cursor)
    if map.size < 24 or map:bytes(0, 4, "magic") ~= "GGUF" then map:fail("it is no GGUF file") end
    cursor.at = 16
    local found, ids, tokens = {}, {}, nil
    for _ = 1, cursor:u64() do
        local key, kind = cursor:string(), cursor:u32()
        if key == TOKENS and kind == ARRAY then tokens = cursor.at end
        if wanted[key] == "string" and kind == STRING then
            found[key] = cursor:string()
        elseif wanted[key] == "token" and sizes[kind] == 4 then
            ids[#ids + 1] = { key, cursor:u32() }
        else
            cursor:skip_value(kind, 1)
        end
    end
    for _, pair in ipairs(tokens and ids or {}) do found[pair[1]] = token_at(cursor, tokens, pair[2]) end
    return found
end

return M
