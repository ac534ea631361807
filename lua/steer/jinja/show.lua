--- Values as text: str and repr as Python writes them.
local ffi = require "ffi"
local run = require "steer.jinja.run"
local text = require "steer.jinja.text"
local unicode = require "steer.jinja.unicode"
local value_of = require "steer.jinja.value"

local kind_of = value_of.kind
local M = {}

ffi.cdef [[int steer_jinja_snprintf(char *, size_t, const char *, ...) __asm__("snprintf");]]

-- ---- Numbers -------------------------------------------------------------------------------------------------------

local BUFFER_BYTES = 512 -- 1e308 with 99 digits behind the point
local buffer = ffi.new("char[?]", BUFFER_BYTES)

--- Writes a float by a format of C with a "*" for the precision, which is at most 99. LuaJIT's own string.format rounds
-- halves up, C's rounds them to even as Python does.
function M.c_format(form, precision, x)
    local length = ffi.C.steer_jinja_snprintf(buffer, BUFFER_BYTES, form, ffi.cast("int", precision), x)
    return ffi.string(buffer, length)
end

--- Writes a float with a number of digits behind the point.
function M.fixed(x, precision) return M.c_format("%.*f", precision, x) end

--- Writes an integer; %d goes to 2^53 and beyond.
function M.int(x) return ("%d"):format(x) end

-- The digits of a float and the power of ten of the first one: as few as read back equal.
local function shortest(x)
    for precision = 0, 16 do
        local text_form = ("%." .. precision .. "e"):format(x)
        if tonumber(text_form) == x then
            local digits, exponent = text_form:match "^([%d.]+)e(.*)$"
            return digits:gsub("%.", ""), tonumber(exponent)
        end
    end
end

--- Writes a float.
function M.float(x)
    if x ~= x then return "nan" end
    if x == math.huge then return "inf" end
    if x < 0 or 1 / x == -math.huge then return "-" .. M.float(-x) end
    if x == math.huge then return "inf" end
    local digits, exponent = shortest(x)
    if exponent < -4 or exponent >= 16 then
        local mantissa = #digits > 1 and digits:sub(1, 1) .. "." .. digits:sub(2) or digits
        return ("%se%s%02d"):format(mantissa, exponent < 0 and "-" or "+", math.abs(exponent))
    end
    if exponent < 0 then return "0." .. ("0"):rep(-exponent - 1) .. digits end
    if #digits <= exponent + 1 then return digits .. ("0"):rep(exponent + 1 - #digits) .. ".0" end
    return digits:sub(1, exponent + 1) .. "." .. digits:sub(exponent + 2)
end

-- ---- Strings -------------------------------------------------------------------------------------------------------

local escapes = { ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function escape(char)
    return escapes[char] or ("\\x%02x"):format(char:byte())
end

local function escape_wide(char)
    local code = unicode.code(char)
    if not unicode.is("unprintable", code) then return char end
    return (code < 0x100 and "\\x%02x" or code < 0x10000 and "\\u%04x" or "\\U%08x"):format(code)
end

--- Writes a string in quotes.
function M.string(value)
    run.charge_text(#value)
    local quote = value:find("'", 1, true) and not value:find('"', 1, true) and '"' or "'"
    local out = value:gsub("[%z\1-\31\127\\]", escape)
    if quote == "'" then out = out:gsub("'", "\\'") end
    if not text.is_ascii(out) then out = text.map(out, escape_wide) end
    return quote .. out .. quote
end

-- ---- Others --------------------------------------------------------------------------------------------------------

local repr -- below

local function repr_all(list)
    local out = {}
    for i = 1, #list do out[i] = repr(list[i]) end
    return text.concat(out, ", ")
end

local function pairs_of(dict, form)
    local out = {}
    for i, key in ipairs(dict.keys) do
        out[i] = form:format(repr(key), repr(value_of.dict_get(dict, key)))
    end
    return text.concat(out, ", ")
end

local function repr_dict(dict) return "{" .. pairs_of(dict, "%s: %s") .. "}" end

local writers = {
    str = M.string,
    int = M.int,
    bigint = function(value) return value.digits end,
    float = function(value) return M.float(value.value) end,
    bool = function(value) return value and "True" or "False" end,
    none = function() return "None" end,
    undefined = function() return "Undefined" end,
    list = function(list) return "[" .. repr_all(list) .. "]" end,
    tuple = function(tuple) return "(" .. repr_all(tuple) .. (#tuple == 1 and ",)" or ")") end,
    dict = repr_dict,
    markup = function(value) return "Markup(" .. M.string(value.text) .. ")" end,
    range = function(range)
        local step = range.step ~= 1 and (", %d"):format(range.step) or ""
        return ("range(%d, %d%s)"):format(range.start, range.stop, step)
    end,
    generator = function(value) return ("<generator object %s>"):format(value.name) end,
    keys = function(view) return "dict_keys([" .. repr_all(view.dict.keys) .. "])" end,
    values = function(view)
        local out = {}
        for i, key in ipairs(view.dict.keys) do out[i] = value_of.dict_get(view.dict, key) end
        return "dict_values([" .. repr_all(out) .. "])"
    end,
    items = function(view) return "dict_items([" .. pairs_of(view.dict, "(%s, %s)") .. "])" end,
    namespace = function(value) return "<Namespace " .. repr_dict(value.fields) .. ">" end,
    callable = function(value) return ("<built-in %s>"):format(value.name) end,
    macro = function(value) return ("<Macro %s>"):format(value.name and M.string(value.name) or "anonymous") end,
    loop = function(loop) return ("<LoopContext %d/%d>"):format(loop:get "index", loop:get "length") end,
    cycler = function() return "<Cycler>" end,
    joiner = function() return "<Joiner>" end,
}

--- Writes a value as Python's repr does.
function M.repr(value)
    run.charge(1)
    run.enter(run.VALUE_LEVEL)
    local out = writers[kind_of(value)](value)
    run.leave(run.VALUE_LEVEL)
    return out
end
repr = M.repr

--- Writes a value as Python's str does.
function M.str(value)
    local lua_type = type(value)
    if lua_type == "string" then return value end
    if lua_type == "number" then return M.int(value) end
    local kind = kind_of(value)
    if kind == "markup" then return value.text end
    if kind == "undefined" then return "" end
    return M.repr(value)
end

return M
