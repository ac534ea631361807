--- Turns Lua values into values of templates.
local check = require "steer.core.check"
local error_object = require "steer.core.error"
local run = require "steer.jinja.run"
local text = require "steer.jinja.text"
local value_of = require "steer.jinja.value"
local tables = require "steer.core.tables"

local M = {}

-- A Lua table keeps no order of its keys. Chats are mostly written in this one; other keys follow by the alphabet.
local usual = {
    "role", "type", "id", "function", "name", "description", "content", "text", "arguments", "parameters", "properties",
    "required", "enum", "items", "tool_calls", "tool_call_id",
}
local rank = {}
for i, key in ipairs(usual) do rank[key] = i end

local function before(a, b)
    local x, y = rank[a] or math.huge, rank[b] or math.huge
    if x ~= y then return x < y end
    return a < b
end

local function refuse(path, format, ...)
    error_object.raise("invalid_argument", run.RENDER, "%s: " .. format, path, ...)
end

local convert -- below

local function convert_list(list, path, depth)
    local out = {}
    for i = 1, #list do out[i] = convert(list[i], ("%s[%d]"):format(path, i), depth) end
    return value_of.list(out)
end

-- The keys in order: that of the metatable's __jsonorder first, as dkjson has it.
local function ordered_keys(t, keys, path)
    for _, key in ipairs(keys) do
        if type(key) ~= "string" then
            refuse(path, "a key is %s, expected names alone or a list", check.describe(key))
        end
    end
    table.sort(keys, before)
    local meta = getmetatable(t)
    local order = type(meta) == "table" and rawget(meta, "__jsonorder")
    if type(order) ~= "table" then return keys end
    local out, seen = {}, {}
    for _, list in ipairs { order, keys } do
        for _, key in ipairs(list) do
            if t[key] ~= nil and not seen[key] then
                out[#out + 1], seen[key] = key, true
            end
        end
    end
    return out
end

local function convert_table(t, path, depth)
    if depth > run.MAX_NESTING then refuse(path, "it is nested too deeply") end
    local keys = tables.keys(t)
    local meta = getmetatable(t)
    local marked = type(meta) == "table" and rawget(meta, "__jsontype")
    if #keys == 0 and marked == "array" or #keys > 0 and #keys == #t then return convert_list(t, path, depth + 1) end
    local dict = value_of.dict()
    for _, key in ipairs(ordered_keys(t, keys, path)) do
        value_of.dict_set(dict, key, convert(t[key], path .. "." .. key, depth + 1))
    end
    return dict
end

local function convert_number(x)
    if x ~= x then return value_of.None end -- what the package's JSON reader gives for null
    if x % 1 == 0 and math.abs(x) <= value_of.MAX_INTEGER then return x + 0 end
    return value_of.float(x)
end

local converters = {
    boolean = function(value) return value end,
    number = convert_number,
    string = function(value, path)
        if not text.is_utf8(value) then refuse(path, "the text is not UTF-8") end
        return value
    end,
    table = function(value, path, depth)
        if value == require("dkjson").null then return value_of.None end
        return convert_table(value, path, depth)
    end,
}

function convert(value, path, depth)
    local converter = converters[type(value)]
    if not converter then refuse(path, "%s cannot be given to a template", check.describe(value)) end
    return converter(value, path, depth)
end

--- Converts a value; `path` is what messages call it.
-- @raise invalid_argument for functions, cdata, mixed keys, cycles and text that is not UTF-8
function M.value(value, path) return convert(value, path, 1) end

--- Converts what must be a list: a JSON text, or a table; an empty one is a list.
function M.list(value, path)
    if type(value) == "string" then
        local decoded, problem = require("steer.jinja.json").decode(value)
        if decoded == nil then refuse(path, "the text is no JSON: %s", problem) end
        if value_of.kind(decoded) ~= "list" then
            refuse(path, "expected a list, got a JSON text of another kind (%s)", value_of.type_name(decoded))
        end
        return decoded
    end
    check.type(run.RENDER, path, value, "table", "a list or a JSON text")
    if tables.first(value) == nil then return value_of.list {} end
    local list = convert(value, path, 1)
    if value_of.kind(list) ~= "list" then refuse(path, "expected a list, got a table with names") end
    return list
end

return M
