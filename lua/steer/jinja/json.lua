--- JSON: reading into values that keep the order of keys and tell integers from floats, and writing as Python's
-- json.dumps does.
local compare = require "steer.jinja.compare"
local run = require "steer.jinja.run"
local sequence = require "steer.jinja.sequence"
local show = require "steer.jinja.show"
local text = require "steer.jinja.text"
local unicode = require "steer.jinja.unicode"
local value_of = require "steer.jinja.value"

local kind_of = value_of.kind
local M = {}

-- ---- Reading -------------------------------------------------------------------------------------------------------

-- Ends the reading; the caller of M.decode gets the message.
local function fault(at, format, ...)
    error({ fault = ("at byte %d: "):format(at) .. format:format(...) }, 0)
end

local unescapes = {
    ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t",
}

-- A \u escape at `at`, which may be a pair of surrogates: the character and where it ends.
local function read_code(source, at)
    local code = tonumber(source:match("^\\u(%x%x%x%x)", at) or fault(at, "expected four hexadecimal digits"), 16)
    if code < 0xD800 or code > 0xDFFF then return unicode.char(code), at + 6 end
    local low = tonumber(source:match("^\\u([dD][c-fC-F]%x%x)", at + 6) or "", 16)
    if code > 0xDBFF or not low then fault(at, "half a pair of surrogates is no character") end
    return unicode.char(0x10000 + (code - 0xD800) * 0x400 + low - 0xDC00), at + 12
end

local function read_string(source, start)
    local parts, at = {}, start + 1
    while true do
        local stop = source:find('[%z\1-\31"\\]', at) or fault(start, "the string does not end")
        parts[#parts + 1] = source:sub(at, stop - 1)
        local char = source:sub(stop, stop)
        if char == '"' then return table.concat(parts), stop + 1 end
        if char ~= "\\" then fault(stop, "a control character stands in a string") end
        local letter = source:sub(stop + 1, stop + 1)
        if letter == "u" then
            parts[#parts + 1], at = read_code(source, stop)
        else
            parts[#parts + 1] = unescapes[letter] or fault(stop, "the escape \\%s is not known", letter)
            at = stop + 2
        end
    end
end

local function read_number(source, at)
    local whole, after = source:match("^(%-?%d+)()", at)
    if not whole or whole:find "^%-?0%d" then fault(at, "expected a value") end
    local rest, stop = source:match("^(%.%d+[eE][-+]?%d+)()", after)
    if not rest then rest, stop = source:match("^(%.%d+)()", after) end
    if not rest then rest, stop = source:match("^([eE][-+]?%d+)()", after) end
    if rest then return value_of.float(tonumber(whole .. rest)), stop end
    local x = tonumber(whole)
    if math.abs(x) <= value_of.MAX_INTEGER then return x + 0, after end
    return value_of.bigint(whole), after
end

local words = {
    { "true", true }, { "false", false }, { "null", value_of.None },
    { "NaN", value_of.float(0 / 0) }, { "Infinity", value_of.float(math.huge) },
    { "-Infinity", value_of.float(-math.huge) },
}

local function skip(source, at) return source:find("[^ \t\n\r]", at) or #source + 1 end

local read -- below

-- Reads what stands between brackets: item(at) reads one thing and gives where it ends.
local function read_items(source, at, close, item)
    at = skip(source, at + 1)
    if source:sub(at, at) == close then return at + 1 end
    while true do
        at = skip(source, item(at))
        local char = source:sub(at, at)
        if char == close then return at + 1 end
        if char ~= "," then fault(at, 'expected "," or "%s"', close) end
        at = skip(source, at + 1)
    end
end

local function read_list(source, at, depth)
    local list = value_of.list {}
    at = read_items(source, at, "]", function(start)
        local item, stop = read(source, start, depth)
        list[#list + 1] = item
        return stop
    end)
    return list, at
end

local function read_dict(source, at, depth)
    local dict = value_of.dict()
    at = read_items(source, at, "}", function(start)
        if source:sub(start, start) ~= '"' then fault(start, "expected a name in double quotes") end
        local key, stop = read_string(source, start)
        stop = skip(source, stop)
        if source:sub(stop, stop) ~= ":" then fault(stop, 'expected ":"') end
        local value
        value, stop = read(source, skip(source, stop + 1), depth)
        value_of.dict_set(dict, key, value)
        return stop
    end)
    return dict, at
end

function read(source, at, depth)
    if depth > run.MAX_NESTING then fault(at, "it is nested too deeply") end
    local char = source:sub(at, at)
    if char == "{" then return read_dict(source, at, depth + 1) end
    if char == "[" then return read_list(source, at, depth + 1) end
    if char == '"' then return read_string(source, at) end
    for _, word in ipairs(words) do
        if source:sub(at, at + #word[1] - 1) == word[1] then return word[2], at + #word[1] end
    end
    return read_number(source, at)
end

--- Reads one JSON text.
-- @return the value, or nil and what is wrong
function M.decode(source)
    if not text.is_utf8(source) then return nil, "it is not UTF-8" end
    local ok, value, at = pcall(read, source, skip(source, 1), 1)
    if ok and skip(source, at) <= #source then return nil, ("at byte %d: there is more after its end"):format(at) end
    if ok then return value end
    if type(value) == "table" and value.fault then return nil, value.fault end
    error(value, 0)
end

-- ---- Writing -------------------------------------------------------------------------------------------------------

local escapes = {
    ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\b"] = "\\b", ["\f"] = "\\f",
}

local function escape(char) return escapes[char] or ("\\u%04x"):format(char:byte()) end

local function escape_wide(char)
    local code = unicode.code(char)
    if code < 0x80 then return nil end
    if code < 0x10000 then return ("\\u%04x"):format(code) end
    code = code - 0x10000
    return ("\\u%04x\\u%04x"):format(0xD800 + math.floor(code / 0x400), 0xDC00 + code % 0x400)
end

local function encode_string(value, form)
    run.charge_text(#value)
    local out = value:gsub('[%z\1-\31"\\]', escape)
    if form.ascii and not text.is_ascii(out) then out = text.map(out, escape_wide) end
    return '"' .. out .. '"'
end

local function encode_float(x)
    if x ~= x then return "NaN" end
    if math.abs(x) == math.huge then return x > 0 and "Infinity" or "-Infinity" end
    return show.float(x)
end

local simple = {
    int = show.int,
    bigint = function(value) return value.digits end,
    float = function(value) return encode_float(value.value) end,
    bool = tostring,
    none = function() return "null" end,
}

local encode -- below

-- Joins parts between brackets, on lines of their own where there is an indent.
local function enclose(parts, open, close, form, level)
    if #parts == 0 then return open .. close end
    if not form.indent then return open .. text.concat(parts, form.comma) .. close end
    local line = "\n" .. text.rep(form.indent, level)
    return open .. line .. text.rep(form.indent, 1) .. text.concat(parts, form.comma .. line .. form.indent) .. line
        .. close
end

local function encode_list(list, form, level)
    local parts = {}
    for i = 1, #list do parts[i] = encode(list[i], form, level + 1) end
    return enclose(parts, "[", "]", form, level)
end

local function encode_key(key, form)
    local string = value_of.text(key)
    if not string then
        local write = simple[kind_of(key)]
        if not write then
            run.fail("keys must be str, int, float, bool or None, not %s", value_of.type_name(key))
        end
        string = write(key)
    end
    return encode_string(string, form)
end

local function encode_dict(dict, form, level)
    local keys, parts = dict.keys, {}
    if form.sort then keys = compare.sort(sequence.elements(dict)) end
    for i, key in ipairs(keys) do
        parts[i] = encode_key(key, form) .. form.colon .. encode(value_of.dict_get(dict, key), form, level + 1)
    end
    return enclose(parts, "{", "}", form, level)
end

function encode(value, form, level)
    run.charge(1)
    local string = value_of.text(value)
    if string then return encode_string(string, form) end
    local kind = kind_of(value)
    if simple[kind] then return simple[kind](value) end
    local write = kind == "dict" and encode_dict or (kind == "list" or kind == "tuple") and encode_list
    if not write then run.fail("Object of type %s is not JSON serializable", value_of.type_name(value)) end
    run.enter(run.VALUE_LEVEL)
    local out = write(value, form, level)
    run.leave(run.VALUE_LEVEL)
    return out
end

--- Writes a value.
-- @tparam table form indent (text of one level, or nil), comma, colon, sort (keys), ascii
function M.encode(value, form) return encode(value, form, 0) end

return M
