--- Classes and cases of characters, decoded from the tables when a character outside ASCII asks for them.
local data = require "steer.jinja.unicode_data"

local M = {}

-- ---- UTF-8 ---------------------------------------------------------------------------------------------------------

--- Writes a code point as UTF-8.
function M.char(code)
    if code < 0x80 then return string.char(code) end
    if code < 0x800 then return string.char(0xC0 + math.floor(code / 0x40), 0x80 + code % 0x40) end
    local low, middle = 0x80 + code % 0x40, 0x80 + math.floor(code / 0x40) % 0x40
    if code < 0x10000 then return string.char(0xE0 + math.floor(code / 0x1000), middle, low) end
    return string.char(0xF0 + math.floor(code / 0x40000), 0x80 + math.floor(code / 0x1000) % 0x40, middle, low)
end

--- Reads the code point of a character.
function M.code(char)
    local a, b, c, d = char:byte(1, 4)
    if not b then return a end
    if not c then return a % 0x20 * 0x40 + b % 0x40 end
    if not d then return (a % 0x10 * 0x40 + b % 0x40) * 0x40 + c % 0x40 end
    return ((a % 8 * 0x40 + b % 0x40) * 0x40 + c % 0x40) * 0x40 + d % 0x40
end

-- ---- Classes -------------------------------------------------------------------------------------------------------

-- Calls visit(first, last, step, rest) for the ranges of a table.
local function each_range(text, visit)
    local at = 0
    for first, sign, length, rest in text:gmatch "%f[^%s%z](%x+)([-+]?)(%x*)(%S*)" do
        if rest:sub(1, 1) ~= "=" then
            at = at + tonumber(first, 16)
            local from = at
            if length ~= "" then at = at + tonumber(length, 16) end
            visit(from, at, sign == "+" and 2 or 1, rest)
        end
    end
end

local classes = {}

local function class_of(name)
    local ranges = {}
    each_range("\n" .. data[name], function(first, last, step) ranges[#ranges + 1] = { first, last, step } end)
    classes[name] = ranges
    return ranges
end

-- The range that a code point is in, or nil.
local function range_with(ranges, code)
    local low, high = 1, #ranges
    while low <= high do
        local middle = math.floor((low + high) / 2)
        local range = ranges[middle]
        if code < range[1] then
            high = middle - 1
        elseif code > range[2] then
            low = middle + 1
        else
            return (code - range[1]) % range[3] == 0 and range or nil
        end
    end
end

--- Tells whether a code point is in a class of the tables: "alpha", "decimal", "digit", "numeric", "unprintable",
-- "lower" or "upper".
function M.is(class, code)
    return range_with(classes[class] or class_of(class), code) ~= nil
end

--- The value of a decimal digit, or nil.
function M.decimal(code)
    local range = range_with(classes.decimal or class_of "decimal", code)
    return range and (code - range[1]) % 10
end

-- ---- Cases ---------------------------------------------------------------------------------------------------------

local maps = {}

local function map_of(name)
    local map = {}
    each_range("\n" .. data[name], function(first, last, step, rest)
        for code = first, last, step do map[M.char(code)] = M.char(code + tonumber(rest:sub(2))) end
    end)
    for code, codes in data[name]:gmatch "(%x+)=(%S+)" do
        map[M.char(tonumber(code, 16))] = codes:gsub("(%x+)_?", function(x) return M.char(tonumber(x, 16)) end)
    end
    maps[name] = map
    return map
end

local function mapped(name, char)
    return (maps[name] or map_of(name))[char]
end

--- The cases of a character: what it is in them, which may be several characters.
function M.upper(char) return mapped("to_upper", char) or char end
function M.lower(char) return mapped("to_lower", char) or char end
function M.title(char) return mapped("to_title", char) or M.upper(char) end
function M.folded(char) return mapped("to_folded", char) or M.lower(char) end

--- Tells whether a character has case.
function M.is_cased(char)
    local code = M.code(char)
    return M.is("lower", code) or M.is("upper", code) or mapped("to_title", char) ~= nil
end

return M
