--- Formatting: the % operator of texts (printf), str.format, and the format specifications of both.
local access = require "steer.jinja.access"
local run = require "steer.jinja.run"
local show = require "steer.jinja.show"
local text = require "steer.jinja.text"
local unicode = require "steer.jinja.unicode"
local value_of = require "steer.jinja.value"

local kind_of, number_of = value_of.kind, value_of.number
local M = {}

local MAX_WIDTH = 1e6
local MAX_PRECISION = 99 -- of string.format

-- ---- Numbers in a format -------------------------------------------------------------------------------------------

-- The digits of an integer in a base.
local function in_base(x, base)
    if x == 0 then return "0" end
    local digits = {}
    while x > 0 do
        table.insert(digits, 1, ("0123456789abcdef"):sub(x % base + 1, x % base + 1))
        x = math.floor(x / base)
    end
    return table.concat(digits)
end

local prefixes = { x = "0x", X = "0X", o = "0o", b = "0b" }
local bases = { x = 16, X = 16, o = 8, b = 2, d = 10, n = 10 }

-- The text of |x| in a form such as "d", "x", "f", "e", "g" or "%".
local function magnitude(x, form, precision, alternate)
    if bases[form] then
        local digits = bases[form] == 10 and show.int(x) or in_base(x, bases[form])
        if form == "X" then digits = digits:upper() end
        return (alternate and prefixes[form] or "") .. digits
    end
    if x ~= x then return form:find "%u" and "NAN" or "nan" end
    if x == math.huge then return form:find "%u" and "INF" or "inf" end
    precision = precision or 6
    if precision > MAX_PRECISION then run.fail("a precision of %d is not supported", precision) end
    if form == "%" then return show.fixed(x * 100, precision) .. "%" end
    return show.c_format("%" .. (alternate and "#" or "") .. ".*" .. form, precision, x)
end

local function with_thousands(digits, separator)
    local whole, rest = digits:match "^(%d+)(.*)$"
    if not whole then return digits end
    return whole:reverse():gsub("(%d%d%d)", "%1" .. separator):reverse():gsub("^" .. separator, "") .. rest
end

-- Fills a text up to a width: align is "<", ">", "^" or "=" (after the sign).
local function pad(sign, body, width, align, fill)
    local missing = width - text.length(sign) - text.length(body)
    if missing <= 0 then return sign .. body end
    if width > MAX_WIDTH then run.fail("a width of %d is not supported", width) end
    if align == "=" then return sign .. text.rep(fill, missing) .. body end
    local left = align == "<" and 0 or align == ">" and missing or math.floor(missing / 2)
    return text.rep(fill, left) .. sign .. body .. text.rep(fill, missing - left)
end

local function sign_of(x, plus)
    if x < 0 or x == 0 and 1 / x < 0 then return "-" end
    return plus ~= "-" and plus or ""
end

-- ---- printf --------------------------------------------------------------------------------------------------------

local function integer_for(form, value)
    local x, is_float = number_of(value)
    if not x or is_float and form ~= "d" then
        run.fail("%%%s format: %s, not %s", form, form == "d" and "a real number is required"
            or "an integer is required", value_of.type_name(value))
    end
    if x ~= x or math.abs(x) == math.huge then run.fail("cannot convert float %s to integer", show.float(x)) end
    return x < 0 and math.ceil(x) or math.floor(x)
end

local function conversion(form, value, flags, precision)
    if form == "s" or form == "r" or form == "a" then
        local body = form == "s" and show.str(value) or show.repr(value)
        return "", precision and text.sub(body, 0, math.min(precision, text.length(body))) or body
    end
    if form == "c" then
        local x = number_of(value)
        return "", x and unicode.char(x) or show.str(value)
    end
    if form == "i" or form == "u" then form = "d" end
    if form:find "[doxX]" then
        local x = integer_for(form, value)
        local digits = magnitude(math.abs(x), form, nil, false)
        if precision then digits = ("0"):rep(math.min(precision, MAX_PRECISION) - #digits) .. digits end
        return sign_of(x, flags.sign) .. (flags.alternate and prefixes[form] or ""), digits
    end
    local x = number_of(value)
    if not x then
        if kind_of(value) == "undefined" then value_of.fail_undefined(value) end
        run.fail("must be real number, not %s", value_of.type_name(value))
    end
    return sign_of(x, flags.sign), magnitude(math.abs(x), form:gsub("F", "f"), precision, flags.alternate)
end

local function printf_flags(text_flags)
    return {
        left = text_flags:find("-", 1, true), zero = text_flags:find("0", 1, true),
        alternate = text_flags:find("#", 1, true),
        sign = text_flags:find("+", 1, true) and "+" or text_flags:find(" ", 1, true) and " " or "",
    }
end

-- What may be given whole and stay unused, as a mapping for "%(name)s" may.
local subscriptable = { dict = true, list = true, range = true, undefined = true }

-- Takes the values of the conversions one after another.
local function argument_reader(values)
    local list = kind_of(values) == "tuple" and values or { values }
    local taken = 0
    local function next_value()
        taken = taken + 1
        if list[taken] == nil then run.fail("not enough arguments for format string") end
        return list[taken]
    end
    local function check_all_taken()
        if taken < #list and not subscriptable[kind_of(values)] then
            run.fail("not all arguments converted during string formatting")
        end
    end
    return next_value, check_all_taken
end

--- Gives format % values.
function M.printf(format, values)
    local next_value, check_all_taken = argument_reader(values)
    local out, at, by_name = {}, 1, false
    local function size_of(word)
        if word ~= "*" then return tonumber(word) end
        return integer_for("d", next_value())
    end
    while true do
        local start = format:find("%", at, true)
        out[#out + 1] = format:sub(at, (start or 0) - 1)
        if not start then break end
        local key, after = format:match("^%%%((.-)%)()", start)
        local flags, width, dot, precision, form, stop =
            format:match("^([-#0 +]*)([%d*]*)(%.?)([%d*]*)[hlL]?(.)()", after or start + 1)
        if not form then run.fail("incomplete format") end
        if form == "%" then
            out[#out + 1] = "%"
        else
            if not form:find "[diouxXeEfFgGcrsa]" then
                run.fail("unsupported format character '%s'", text.chars(format:sub(stop - 1))[1] or form)
            end
            flags, width = printf_flags(flags), size_of(width) or 0
            precision = dot ~= "" and (size_of(precision) or 0) or nil
            local value
            if key then
                if kind_of(values) ~= "dict" then run.fail("format requires a mapping") end
                by_name, value = true, value_of.dict_get(values, key)
                if value == nil then run.fail("there is no key %s", show.repr(key)) end
            else
                value = next_value()
            end
            local sign, body = conversion(form, value, flags, precision)
            local zeros = flags.zero and not flags.left and form:find "[diouxXeEfFgG]"
            if width < 0 then flags.left, width = true, -width end
            out[#out + 1] = pad(sign, body, width, flags.left and "<" or zeros and "=" or ">", zeros and "0" or " ")
        end
        at = stop
    end
    if not by_name then check_all_taken() end
    return text.concat(out, "")
end

-- ---- Format specifications -----------------------------------------------------------------------------------------

local function parse_spec(spec)
    local fill, align, rest
    local first = text.chars(spec)[1] or ""
    align = spec:sub(#first + 1):match "^[<>=^]"
    if align then
        fill, rest = first, spec:sub(#first + 2)
    else
        align, rest = spec:match "^([<>=^]?)(.*)$"
    end
    local sign, alternate, zero, width, comma, precision, form =
        rest:match "^([-+ ]?)(#?)(0?)(%d*)([,_]?)%.?(%d*)([bcdeEfFgGnosxX%%]?)$"
    if not sign then run.fail("Invalid format specifier '%s'", spec) end
    return {
        fill = fill, align = align ~= "" and align or nil, sign = sign, alternate = alternate ~= "", zero = zero ~= "",
        width = tonumber(width) or 0, comma = comma, precision = tonumber(precision), form = form,
    }
end

local function number_body(x, is_float, spec)
    local form = spec.form
    if form == "" then form = is_float and "r" or "d" end
    if bases[form] and is_float and form ~= "n" then
        run.fail("Unknown format code '%s' for object of type 'float'", form)
    end
    if form == "r" then
        if not spec.precision then return show.float(x) end
        local body = magnitude(x, "g", math.max(spec.precision, 1), false)
        return body:find "[.en]" and body or body .. ".0"
    end
    return magnitude(x, form:gsub("F", "f"), spec.precision, spec.alternate)
end

--- Formats a value by a specification, as Python's format() does.
function M.format(value, spec_text)
    if spec_text == "" then return show.str(value) end
    local spec = parse_spec(spec_text)
    local x, is_float = number_of(value)
    if x and spec.form ~= "s" and spec.form ~= "c" then
        local body = with_thousands(number_body(math.abs(x), is_float, spec), spec.comma)
        return pad(sign_of(x, spec.sign), body, spec.width, spec.align or spec.zero and "=" or ">",
            spec.fill or spec.zero and "0" or " ")
    end
    local body = value_of.text(value)
    if not body then
        run.fail("unsupported format string passed to %s.__format__", value_of.type_name(value))
    end
    if spec.form ~= "" and spec.form ~= "s" then
        run.fail("Unknown format code '%s' for object of type 'str'", spec.form)
    end
    if spec.precision then body = text.sub(body, 0, math.min(spec.precision, text.length(body))) end
    return pad("", body, spec.width, spec.align or "<", spec.fill or spec.zero and "0" or " ")
end

-- ---- str.format ----------------------------------------------------------------------------------------------------

-- Follows "name.attribute[item]".
local function field_value(name, args, kwargs, state)
    local first, rest = name:match "^([^.%[]*)(.*)$"
    local value
    if first == "" then
        state.automatic = state.automatic + 1
        first = tostring(state.automatic)
    end
    local index = tonumber(first)
    if index then
        value = args[index + 1]
        if value == nil then run.fail("Replacement index %d out of range for positional args tuple", index) end
    else
        value = kwargs and value_of.dict_get(kwargs, first)
        if value == nil then run.fail("there is no argument %s", show.repr(first)) end
    end
    while rest ~= "" do
        local attribute, after = rest:match "^%.([^.%[]+)(.*)$"
        if attribute then
            value, rest = access.getattr(value, attribute), after
        else
            local item
            item, after = rest:match "^%[([^%]]+)%](.*)$"
            if not item then run.fail("the field %s of the format is malformed", show.repr(name)) end
            value, rest = access.getitem(value, tonumber(item) or item), after
        end
    end
    return value
end

local function replacement(field, args, kwargs, state)
    local name, after = field:match "^([^!:]*)(.*)$"
    local converted, spec = after:match "^!(.)(.*)$"
    spec = (spec or after):match "^:(.*)$" or ""
    local value = field_value(name, args, kwargs, state)
    if converted then value = converted == "s" and show.str(value) or show.repr(value) end
    spec = spec:gsub("{([^{}]*)}", function(inner) return show.str(field_value(inner, args, kwargs, state)) end)
    return M.format(value, spec)
end

--- Gives format.format(*args, **kwargs).
function M.str_format(format, args, kwargs)
    local out, at, state = {}, 1, { automatic = -1 }
    run.charge_text(#format)
    while true do
        local start = format:find("[{}]", at)
        out[#out + 1] = format:sub(at, (start or 0) - 1)
        if not start then break end
        local brace = format:sub(start, start)
        if format:sub(start + 1, start + 1) == brace then
            out[#out + 1], at = brace, start + 2
        else
            local field, stop = format:match("^(%b{})()", start)
            if not field then run.fail("Single '%s' encountered in format string", brace) end
            out[#out + 1], at = replacement(field:sub(2, -2), args, kwargs, state), stop
        end
    end
    return text.concat(out, "")
end

return M
