--- JSON: writing with sorted keys and 17 significant digits, so that equal values are equal text; reading by dkjson.
local check = require "steer.core.check"
local raise = require("steer.core.error").raise
local tables = require "steer.core.tables"

local M = {}

local MAX_DEPTH = 100
local NAN = 0 / 0

local escapes = {
    ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\b"] = "\\b", ["\f"] = "\\f",
}

local function escape(char)
    return escapes[char] or ("\\u%04x"):format(char:byte())
end

-- Length of the UTF-8 character at `at`, or nil if the bytes there are none.
local function utf8_length(text, at)
    local first, second = text:byte(at, at + 1)
    if first < 0x80 then return 1 end
    local length = first >= 0xC2 and first < 0xE0 and 2 or first >= 0xE0 and first < 0xF0 and 3
        or first >= 0xF0 and first < 0xF5 and 4
    if not length or not text:find("^" .. ("[\128-\191]"):rep(length - 1), at + 1) then return nil end
    local too_low = first == 0xE0 and second < 0xA0 or first == 0xF0 and second < 0x90
    local too_high = first == 0xED and second > 0x9F or first == 0xF4 and second > 0x8F
    return not too_low and not too_high and length or nil
end

--- Tells whether a text is UTF-8.
function M.is_utf8(text)
    local at = 1
    while at <= #text do
        local length = utf8_length(text, at)
        if not length then return false end
        at = at + length
    end
    return true
end

-- Bytes that are not UTF-8 become U+FFFD: JSON has no place for them.
local function mended(text)
    local out, at = {}, 1
    while at <= #text do
        local length = utf8_length(text, at)
        out[#out + 1] = length and text:sub(at, at + length - 1) or "\239\191\189"
        at = at + (length or 1)
    end
    return table.concat(out)
end

local function encode_string(text)
    if text:find "[\128-\255]" and not M.is_utf8(text) then text = mended(text) end
    return '"' .. text:gsub('[%z\1-\31\127"\\]', escape) .. '"'
end

local function encode_number(x)
    if x ~= x or x == math.huge or x == -math.huge then return "null" end
    return ("%.17g"):format(x)
end

local encode -- below: it and the next two call each other

local function encode_list(list, depth)
    local out = {}
    for i = 1, #list do out[i] = encode(list[i], depth) end
    return "[" .. table.concat(out, ",") .. "]"
end

local function encode_object(object, keys, depth)
    for _, key in ipairs(keys) do
        if type(key) ~= "string" then
            raise("invalid_argument", "json_encode", "value: a key is a %s, expected names alone or a list", type(key))
        end
        if key:find "[\128-\255]" and not M.is_utf8(key) then -- two that are mended may become one
            raise("invalid_argument", "json_encode", "value: the key %s is not UTF-8", check.describe(key))
        end
    end
    table.sort(keys)
    local out = {}
    for i, key in ipairs(keys) do out[i] = encode_string(key) .. ":" .. encode(object[key], depth) end
    return "{" .. table.concat(out, ",") .. "}"
end

local function encode_table(value, depth)
    if depth > MAX_DEPTH then raise("invalid_argument", "json_encode", "value: it is nested too deeply") end
    local keys = tables.keys(value)
    local meta = getmetatable(value)
    local is_list = #keys > 0 and #value == #keys or #keys == 0 and meta and meta.__jsontype == "array"
    if is_list then return encode_list(value, depth + 1) end
    return encode_object(value, keys, depth + 1)
end

local encoders = {
    string = encode_string, number = encode_number, boolean = tostring, table = encode_table,
}

function encode(value, depth)
    local encoder = encoders[type(value)]
    if not encoder then
        raise("invalid_argument", "json_encode", "value: a %s cannot be written as JSON", type(value))
    end
    return encoder(value, depth)
end

--- Writes a value as JSON on one line. NaN and infinities become null; an empty table is an object, unless M.list
-- made it.
-- @raise invalid_argument for functions, cdata, mixed keys, keys that are not UTF-8 and cycles
function M.encode(value)
    return encode(value, 1)
end

--- Marks a table as a list, which only matters when it is empty.
function M.list(t)
    return setmetatable(t or {}, { __jsontype = "array" })
end

--- Reads one JSON text; null becomes NaN, the number that encode writes as null.
-- @treturn value or nil and what is wrong
function M.decode(text)
    local ok, value, next_at, message = pcall(require("dkjson").decode, text, 1, NAN)
    if not ok then return nil, "it is nested too deeply" end -- the reader ran out of stack
    if message then return nil, message end
    if text:find("%S", next_at) then return nil, "there is more after its end" end
    return value
end

return M
