--- Checks argument types and ranges: invalid_argument names the argument, what came and what was expected.
local raise = require("steer.core.error").raise
local tables = require "steer.core.tables"

local M = {}

-- Integers above this are not exact in a Lua number.
M.MAX_INTEGER = 2 ^ 53

--- Says what a value is, for messages: `"abc"`, `3`, `a table`; what the package makes by its name, `a spec`.
function M.describe(value)
    local kind = type(value)
    if kind == "nil" then return "nothing" end
    if kind == "number" or kind == "boolean" then return tostring(value) end
    if kind == "string" then
        return '"' .. (#value > 40 and value:sub(1, 37) .. "..." or value) .. '"'
    end
    if kind == "cdata" then return require("steer.tensor.object").is(value) and "a tensor" or "a cdata" end
    local class = getmetatable(value)
    return kind == "table" and type(class) == "table" and rawget(class, "__name") or "a " .. kind
end

local function wrong(op, name, value, expected)
    raise("invalid_argument", op, "%s: expected %s, got %s", name, expected, M.describe(value))
end

--- Tells whether a value is an object of the package, such as a spec, and no table of somebody's own.
function M.is_object(value)
    local class = type(value) == "table" and getmetatable(value)
    return type(class) == "table" and rawget(class, "__methods") ~= nil
end

--- Checks a value's Lua type; `expected` says what it should be in the message.
function M.type(op, name, value, kind, expected)
    if type(value) ~= kind then wrong(op, name, value, expected or "a " .. kind) end
    return value
end

--- Checks the path of a file or a folder.
function M.path(op, name, value, expected)
    M.type(op, name, value, "string", expected)
    if value == "" then raise("invalid_argument", op, "%s: is empty, expected %s", name, expected) end
    if value:find("\0", 1, true) then raise("invalid_argument", op, "%s: has a zero byte in it", name) end
    return value
end

--- Checks that `list` is a Lua list: neither holes nor other keys. Gives its length.
-- @tparam[opt] string expected what it should be in the message
function M.list(op, name, list, expected)
    M.type(op, name, list, "table", expected or "a list")
    local n = #list
    if not tables.is_list(list, n) then
        for _, key in ipairs(tables.keys(list)) do
            if type(key) ~= "number" or key % 1 ~= 0 or key < 1 then
                if M.is_object(list) then wrong(op, name, list, expected or "a list") end
                raise("invalid_argument", op, "%s: expected a list, found the key %s", name, M.describe(key))
            end
        end
        raise("invalid_argument", op, "%s: the list has holes", name)
    end
    return n
end

--- Checks a number; NaN and infinities pass.
function M.number(op, name, value)
    if type(value) ~= "number" then wrong(op, name, value, "a number") end
    return value
end

--- Checks an integer in [low, high]; without bounds, one that a Lua number holds exactly.
function M.integer(op, name, value, low, high)
    low, high = low or -M.MAX_INTEGER, high or M.MAX_INTEGER
    if type(value) ~= "number" or value % 1 ~= 0 then wrong(op, name, value, "an integer") end
    if not (value >= low and value <= high) then
        if high < low then
            raise("invalid_argument", op, "%s: %.16g is out of range, there are no elements", name, value)
        end
        if high == M.MAX_INTEGER and value < low then
            raise("invalid_argument", op, "%s: %.16g is out of range, expected at least %.0f", name, value, low)
        end
        raise("invalid_argument", op, "%s: %.16g is out of range, expected %.0f to %.0f", name, value, low, high)
    end
    return value
end

--- Checks an integer that the library takes in 32 bits; what range it may be in, the library says.
function M.int32(op, name, value)
    M.integer(op, name, value)
    if value < -2 ^ 31 or value >= 2 ^ 31 then
        raise("invalid_argument", op, "%s: %.16g is out of range, expected an integer of 32 bits", name, value)
    end
    return value
end

--- Writes n such integers of a list into an array of them. Ids come by the thousand: what is right calls nothing.
function M.fill_int32(op, name, list, n, array)
    for i = 1, n do
        local value = list[i]
        if type(value) ~= "number" or value % 1 ~= 0 or value < -2 ^ 31 or value >= 2 ^ 31 then
            M.int32(op, ("%s[%d]"):format(name, i), value)
        end
        array[i - 1] = value
    end
end

return M
