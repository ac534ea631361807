--- Numbers out of values, and rounding, as Python's int(), float() and round() do.
local run = require "steer.jinja.run"
local show = require "steer.jinja.show"
local text = require "steer.jinja.text"
local unicode = require "steer.jinja.unicode"
local value_of = require "steer.jinja.value"

local M = {}

-- A text without white space around it, in ASCII digits; nil if underscores do not stand between digits.
local function plain(string)
    local s = text.strip(string, nil, true, true)
    if not text.is_ascii(s) then
        s = text.map(s, function(char)
            local digit = unicode.decimal(unicode.code(char))
            return digit and tostring(digit)
        end)
    end
    if s:find "^_" or s:find "_$" or s:find "__" or s:find "_[^%w]" or s:find "[^%w]_" then return nil end
    return (s:gsub("_", ""))
end

local prefixes = { [2] = "^0[bB]", [8] = "^0[oO]", [16] = "^0[xX]" }

local function parse_int(string, base)
    local s = plain(string)
    local sign, digits = (s or ""):match "^([+-]?)(%w+)$"
    if not digits then return nil end
    if base == 0 then
        for _, candidate in ipairs { 2, 8, 16 } do
            if digits:find(prefixes[candidate]) then base = candidate end
        end
        base = base == 0 and 10 or base
    end
    if prefixes[base] then digits = digits:gsub(prefixes[base], "") end
    if base < 2 or base > 36 then run.fail "int() base must be >= 2 and <= 36, or 0" end
    local x = 0
    for i = 1, #digits do
        local digit = tonumber(digits:sub(i, i), 36)
        if digit >= base then return nil end
        x = x * base + digit
    end
    if digits == "" then return nil end
    if base == 10 and x > value_of.MAX_INTEGER then return value_of.bigint((sign == "-" and "-" or "") .. digits) end
    return value_of.int(sign == "-" and -x or x)
end

local specials = { inf = math.huge, infinity = math.huge, nan = 0 / 0 }

local function parse_float(string)
    local s = plain(string)
    if not s then return nil end
    local sign, body = s:lower():match "^([+-]?)(.*)$"
    local x = specials[body]
    if not x then
        local mantissa = body:match "^([%d.]+)e[+-]?%d+$" or body
        if not (mantissa:find "^%d+%.?%d*$" or mantissa:find "^%.%d+$") then return nil end
        x = tonumber(body)
    end
    return x and (sign == "-" and -x or x)
end

local function whole(x)
    if x ~= x then return nil end
    if math.abs(x) == math.huge then run.fail "cannot convert float infinity to integer" end
    if math.abs(x) > value_of.MAX_INTEGER then return value_of.bigint(show.fixed(x, 0)) end
    return value_of.int(x < 0 and math.ceil(x) or math.floor(x))
end

-- Something undefined does not count as a value that is no number: it fails.
local function number_of(value)
    if value_of.is_undefined(value) then value_of.fail_undefined(value) end
    return value_of.number(value)
end

--- Converts a value to an int; nil if it is none. Texts such as "4.2" are read as floats.
function M.to_int(value, base)
    local string = value_of.text(value)
    if not string then
        if value_of.kind(value) == "bigint" then return value end
        local x = number_of(value)
        return x and whole(x)
    end
    local x = parse_int(string, base)
    if x then return x end
    x = parse_float(string)
    return x and whole(x)
end

--- Converts a value to a float; nil if it is none.
function M.to_float(value)
    local string = value_of.text(value)
    local x
    if string then x = parse_float(string) else x = number_of(value) end
    return x and value_of.float(x)
end

-- An integer rounded to tens, hundreds and so on, half to even.
local function round_int(x, precision)
    if precision >= 0 then return x end
    local unit = 10 ^ math.min(-precision, 20)
    local low = math.floor(x / unit) * unit
    local rest = x - low
    local up = rest * 2 > unit or rest * 2 == unit and (low / unit) % 2 == 1
    return value_of.int(up and low + unit or low)
end

--- Rounds a number by "common", "ceil" or "floor".
function M.round(value, precision, method)
    if method ~= "common" and method ~= "ceil" and method ~= "floor" then
        run.fail "method must be common, ceil or floor"
    end
    local x, is_float = number_of(value)
    if not x then run.fail("type %s doesn't define __round__ method", value_of.type_name(value)) end
    if method ~= "common" then
        local power = 10 ^ precision
        return value_of.float(math[method](x * power) / power)
    end
    if not is_float then return round_int(x, precision) end
    if precision < 0 then
        local power = 10 ^ -precision
        return value_of.float(tonumber(show.fixed(x / power, 0)) * power)
    end
    if precision > 22 or x ~= x or math.abs(x) == math.huge then return value end
    return value_of.float(tonumber(show.fixed(x, precision)))
end

return M
