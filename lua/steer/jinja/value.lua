--- The kinds of values. Strings, booleans and integers are Lua's own, so that a number is always an integer; others are
-- tables whose metatable names the kind. No value is nil.
local run = require "steer.jinja.run"
local tables = require "steer.core.tables"

local M = {}

-- Kind -> name of the type in Python, which messages use.
local type_names = {
    str = "str", int = "int", bigint = "int", float = "float", bool = "bool", none = "NoneType",
    undefined = "Undefined", list = "list", tuple = "tuple", dict = "dict", markup = "Markup", range = "range",
    generator = "generator", keys = "dict_keys", values = "dict_values", items = "dict_items",
    namespace = "Namespace", callable = "builtin_function_or_method", macro = "Macro", loop = "LoopContext",
    cycler = "Cycler", joiner = "Joiner",
}

local classes = {}
for _, kind in ipairs(tables.keys(type_names)) do classes[kind] = { kind = kind } end

local lua_kinds = { string = "str", number = "int", boolean = "bool" }

--- Names the kind of a value.
function M.kind(value)
    return lua_kinds[type(value)] or getmetatable(value).kind
end

--- Names the type of a value as Python does.
function M.type_name(value) return type_names[M.kind(value)] end

--- Makes a value of a kind out of a table of its fields.
function M.new(kind, fields) return setmetatable(fields, classes[kind]) end

M.None = M.new("none", {})

local List, Tuple, Float = classes.list, classes.tuple, classes.float

--- A list is an array of values; so is a tuple. The elements of a list of `list` are taken over.
function M.list(array) return setmetatable(array, List) end
function M.tuple(array) return setmetatable(array, Tuple) end

--- A float is a table with its number in `value`.
function M.float(x) return setmetatable({ value = x }, Float) end

--- The largest integer that is sure to be exact.
M.MAX_INTEGER = 2 ^ 53 - 1

--- Checks that a number is an integer that is exact, and gives it.
function M.int(x)
    if x ~= x or math.abs(x) > M.MAX_INTEGER then run.fail("integers beyond 2^53 are not supported") end
    return x + 0 -- makes 0 out of -0
end

--- An integer that no number holds exactly: its digits, which are all that it is good for.
function M.bigint(digits)
    return M.new("bigint", { value = tonumber(digits), digits = (digits:gsub("^(%-?)0+(%d)", "%1%2")) })
end

--- The number of an int, a bool or a float, and whether it is a float; nil for other kinds.
function M.number(value)
    local lua_type = type(value)
    if lua_type == "number" then return value, false end
    if lua_type == "boolean" then return value and 1 or 0, false end
    if getmetatable(value) == Float then return value.value, true end
end

--- The string of a str or of markup; nil for other kinds.
function M.text(value)
    if type(value) == "string" then return value end
    if getmetatable(value) == classes.markup then return value.text end
end

--- Text that is safe in HTML.
function M.markup(text) return M.new("markup", { text = text }) end

-- ---- Undefined -----------------------------------------------------------------------------------------------------

--- What a name or an attribute is that does not exist. Fields: name; object (what has no such attribute), or hint
-- (the message).
function M.undefined(fields) return setmetatable(fields, classes.undefined) end

function M.is_undefined(value) return getmetatable(value) == classes.undefined and type(value) == "table" end

local function undefined_message(value)
    if value.hint then return value.hint end
    local show = require "steer.jinja.show"
    local name = show.repr(value.name)
    if value.object == nil then return name .. " is undefined" end
    local object = value.object == M.None and "None" or M.type_name(value.object) .. " object"
    if type(value.name) ~= "string" then return ("%s has no element %s"):format(object, name) end
    return ("%s has no attribute %s"):format(show.repr(object), name)
end

--- Fails because something undefined is used.
function M.fail_undefined(value) run.fail("%s", undefined_message(value)) end

-- ---- Dictionaries --------------------------------------------------------------------------------------------------

local UNDEFINED_KEY = {}

-- What a tuple is in the table of a dictionary.
local function tuple_key(value)
    local parts = {}
    for i = 1, #value do
        local key = M.key(value[i])
        parts[i] = type(key) .. ":" .. (type(key) == "string" and #key .. ":" or "") .. tostring(key)
    end
    return "\0tuple\0" .. table.concat(parts, "\0")
end

--- What a value is as a key of a Lua table: equal values give equal keys.
function M.key(value)
    local lua_type = type(value)
    if lua_type == "string" or lua_type == "number" then return value end
    local number = M.number(value)
    if number then return number == number and number or value end
    local kind = M.kind(value)
    if kind == "markup" then return value.text end
    if kind == "bigint" then return "\0int\0" .. value.digits end
    if kind == "undefined" then return UNDEFINED_KEY end
    if kind == "tuple" then
        run.enter(run.VALUE_LEVEL)
        local key = tuple_key(value)
        run.leave(run.VALUE_LEVEL)
        return key
    end
    if kind == "list" or kind == "dict" then run.fail("unhashable type: '%s'", kind) end
    return value
end

--- An empty dictionary. Fields: keys, in order; map from M.key of a key to its value.
function M.dict() return M.new("dict", { keys = {}, map = {} }) end

function M.dict_set(dict, key, value)
    local at = M.key(key)
    if dict.map[at] == nil then dict.keys[#dict.keys + 1] = key end
    dict.map[at] = value
end

function M.dict_get(dict, key) return dict.map[M.key(key)] end

-- ---- Truth ---------------------------------------------------------------------------------------------------------

local function never() return false end
local function has_elements(value) return value[1] ~= nil end

local truths = {
    none = never, undefined = never,
    float = function(value) return value.value ~= 0 end,
    list = has_elements, tuple = has_elements,
    dict = function(value) return value.keys[1] ~= nil end,
    markup = function(value) return value.text ~= "" end,
    range = function(value) return value.length > 0 end,
    keys = function(value) return value.dict.keys[1] ~= nil end,
}
truths.values, truths.items = truths.keys, truths.keys

--- Tells whether a value counts as true.
function M.truth(value)
    local lua_type = type(value)
    if lua_type == "boolean" then return value end
    if lua_type == "string" then return value ~= "" end
    if lua_type == "number" then return value ~= 0 end
    local truth = truths[getmetatable(value).kind]
    return not truth or truth(value)
end

return M
