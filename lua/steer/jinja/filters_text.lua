--- Filters of texts and numbers.
local arguments = require "steer.jinja.arguments"
local arithmetic = require "steer.jinja.arithmetic"
local call = require "steer.jinja.call"
local json = require "steer.jinja.json"
local methods = require "steer.jinja.methods_text"
local numbers = require "steer.jinja.numbers"
local run = require "steer.jinja.run"
local sequence = require "steer.jinja.sequence"
local show = require "steer.jinja.show"
local text = require "steer.jinja.text"
local value_of = require "steer.jinja.value"

local None, kind_of, number_of, text_of = value_of.None, value_of.kind, value_of.number, value_of.text
local row = call.row
local M = {}

-- Applies fn to the text of any value; markup stays markup.
local function on_text(value, fn)
    if kind_of(value) == "markup" then return value_of.markup(fn(value.text)) end
    return fn(show.str(value))
end

-- ---- Any value -----------------------------------------------------------------------------------------------------

M.default = row("default_value boolean", function(value, default, boolean)
    if value_of.is_undefined(value) or arguments.is_true(boolean) and not value_of.truth(value) then
        if default == nil then return "" end
        return default
    end
    return value
end)
M.d = M.default

M.attr = row("name!", function(value, name)
    if kind_of(value) == "undefined" then value_of.fail_undefined(value) end
    local found = require("steer.jinja.access").attribute(value, show.str(name))
    if found ~= nil then return found end
    return value_of.undefined { name = show.str(name), object = value }
end)

M.string = row("", function(value)
    return kind_of(value) == "markup" and value or show.str(value)
end)

-- What transformers makes of this filter, not Jinja's own.
M.tojson = row("ensure_ascii indent separators sort_keys", function(value, ascii, indent, separators, sort_keys)
    local form = { ascii = arguments.is_true(ascii), sort = arguments.is_true(sort_keys), comma = ", ", colon = ": " }
    if indent ~= nil and indent ~= None then
        form.indent = text_of(indent) or text.rep(" ", arguments.optional_int(indent))
        form.comma = ","
    end
    if separators ~= nil and separators ~= None then
        local list = sequence.elements(separators)
        if #list ~= 2 then run.fail "separators are two texts" end
        form.comma, form.colon = arguments.text(list[1], "a separator"), arguments.text(list[2], "a separator")
    end
    return json.encode(value, form)
end)

-- ---- HTML ----------------------------------------------------------------------------------------------------------

M.safe = row("", function(value)
    return kind_of(value) == "markup" and value or value_of.markup(show.str(value))
end)

M.escape = row("", function(value)
    return kind_of(value) == "markup" and value or value_of.markup(arithmetic.escape(show.str(value)))
end)
M.e = M.escape

M.forceescape = row("", function(value) return value_of.markup(arithmetic.escape(show.str(value))) end)

local entities = { amp = "&", lt = "<", gt = ">", quot = '"', ["#39"] = "'", ["#34"] = '"', nbsp = "\194\160" }

M.striptags = row("", function(value)
    local s = show.str(value)
    run.charge_text(#s * 8)
    local out, at = {}, 1
    while true do
        local open = s:find("<", at, true)
        local close = open and s:find(">", open, true)
        out[#out + 1] = s:sub(at, (close and open or 0) - 1)
        if not close then break end
        at = close + 1
    end
    return (table.concat(text.words(table.concat(out), math.huge), " "):gsub("&([#%w]+);", entities))
end)

-- ---- Cases and sides -----------------------------------------------------------------------------------------------

local function of_text(fn) return row("", function(value) return on_text(value, fn) end) end

M.upper, M.lower, M.capitalize = of_text(text.upper), of_text(text.lower), of_text(text.capitalize)

M.title = of_text(function(s)
    return text.title(s, function(before)
        return not before or text.is_space(before) or before:find "^[-({%[<]" ~= nil
    end)
end)

M.trim = row("chars", function(value, chars)
    chars = arguments.optional_text(chars, "the characters")
    return on_text(value, function(s) return text.strip(s, chars, true, true) end)
end)

M.center = row("width", function(value, width)
    return on_text(value, function(s) return methods.center.fn(s, width or 80) end)
end)

M.indent = row("width first blank", function(value, width, first, blank)
    local s, is_markup = arguments.text(value, "what is filtered"), kind_of(value) == "markup"
    local space = width ~= nil and text_of(width) or text.rep(" ", arguments.optional_int(width, 4))
    local lines = text.lines(s .. "\n")
    for i = 2, #lines do
        if lines[i] ~= "" or arguments.is_true(blank) then lines[i] = space .. lines[i] end
        run.charge_text(#lines[i])
    end
    local out = (arguments.is_true(first) and space or "") .. text.concat(lines, "\n")
    return is_markup and value_of.markup(out) or out
end)

-- ---- Parts ---------------------------------------------------------------------------------------------------------

M.replace = row("old! new! count", function(value, old, new, count)
    return text.replace(show.str(value), show.str(old), show.str(new), arguments.count(count))
end)

M.truncate = row("length killwords end leeway", function(value, length, kill_words, ending, leeway)
    length, leeway = arguments.optional_int(length, 255), arguments.optional_int(leeway, 5)
    ending = arguments.optional_text(ending, "the end") or "..."
    local kept = length - text.length(ending)
    if kept < 0 then run.fail("expected length >= %d, got %d", text.length(ending), length) end
    local actual = sequence.length(value)
    if actual <= length + leeway then return value end
    local cut = text.sub(arguments.text(value, "what is filtered"), 0, math.min(kept, actual))
    if not arguments.is_true(kill_words) then cut = methods.rsplit.fn(cut, " ", 1)[1] end
    return cut .. ending
end)

M.wordcount = row("", function(value)
    local count, inside = 0, false
    for _, char in ipairs(text.chars(show.str(value))) do
        local is_word = char == "_" or methods.isalnum.fn(char)
        if is_word and not inside then count = count + 1 end
        inside = is_word
    end
    return count
end)

M.format = row(nil, function(value, args, kwargs)
    local named = kwargs and #kwargs.keys > 0
    if named and #args > 0 then run.fail "can't handle positional and keyword arguments at the same time" end
    return arithmetic.mod(text_of(value) and value or show.str(value), named and kwargs or value_of.tuple(args))
end)

local function quote_url(value, plus)
    local out = show.str(value):gsub(plus and "[^%w_.~-]" or "[^%w_.~/-]", function(byte)
        if byte == " " and plus then return "+" end
        return ("%%%02X"):format(byte:byte())
    end)
    run.charge_text(#out)
    return out
end

M.urlencode = row("", function(value)
    if text_of(value) or not sequence.is_iterable(value) then return quote_url(value) end
    local parts = {}
    local source = kind_of(value) == "dict" and value_of.new("items", { dict = value }) or value
    for pair in sequence.iterate(source) do
        local list = sequence.elements(pair)
        if #list ~= 2 then run.fail "expected pairs of a name and a value" end
        parts[#parts + 1] = quote_url(list[1], true) .. "=" .. quote_url(list[2], true)
    end
    return text.concat(parts, "&")
end)

M.xmlattr = row("autospace", function(value, autospace)
    if kind_of(value) ~= "dict" then run.fail("expected a dict, got %s", value_of.type_name(value)) end
    local parts = {}
    for _, key in ipairs(value.keys) do
        local item = value_of.dict_get(value, key)
        if item ~= None and not value_of.is_undefined(item) then
            parts[#parts + 1] = ('%s="%s"'):format(M.escape.fn(key).text, M.escape.fn(item).text)
        end
    end
    local space = (autospace == nil or arguments.is_true(autospace)) and #parts > 0 and " " or ""
    return space .. text.concat(parts, " ")
end)

-- ---- Numbers -------------------------------------------------------------------------------------------------------

M.int = row("default base", function(value, default, base)
    return numbers.to_int(value, arguments.optional_int(base, 10)) or (default == nil and 0 or default)
end)

M.float = row("default", function(value, default)
    return numbers.to_float(value) or (default == nil and value_of.float(0) or default)
end)

M.abs = row("", function(value)
    local x, is_float = number_of(value)
    if not x then
        if kind_of(value) == "undefined" then value_of.fail_undefined(value) end
        run.fail("bad operand type for abs(): '%s'", value_of.type_name(value))
    end
    return is_float and value_of.float(math.abs(x)) or math.abs(x)
end)

M.round = row("precision method", function(value, precision, method)
    return numbers.round(value, arguments.optional_int(precision, 0), method and show.str(method) or "common")
end)

local units = { "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB" }

M.filesizeformat = row("binary", function(value, binary)
    local size = numbers.to_float(value)
    if not size then run.fail("could not convert %s to float", show.repr(value)) end
    local bytes, base = size.value, arguments.is_true(binary) and 1024 or 1000
    if bytes == 1 then return "1 Byte" end
    if bytes < base then return ("%d Bytes"):format(bytes) end
    for i, unit in ipairs(units) do
        if bytes < base ^ (i + 1) or i == #units then
            if base == 1024 then unit = unit:sub(1, 1):upper() .. "iB" end
            return show.fixed(bytes / base ^ i, 1) .. " " .. unit
        end
    end
end)

return M
