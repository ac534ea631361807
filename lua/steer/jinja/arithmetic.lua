--- The operators + - * / // % ** and the signs, for numbers, texts and lists.
local run = require "steer.jinja.run"
local text = require "steer.jinja.text"
local value_of = require "steer.jinja.value"

local kind_of, number_of, text_of = value_of.kind, value_of.number, value_of.text
local float, int = value_of.float, value_of.int
local M = {}

-- Fails for operands that an operator does not take.
local function refuse(op, a, b)
    local kind, other = kind_of(a), kind_of(b)
    if kind == "undefined" then value_of.fail_undefined(a) end
    if other == "undefined" then value_of.fail_undefined(b) end
    if kind == "bigint" or other == "bigint" then run.fail("integers beyond 2^53 are not supported") end
    if op == "+" and (kind == "str" or kind == "list" or kind == "tuple") then
        run.fail('can only concatenate %s (not "%s") to %s', kind, value_of.type_name(b), kind)
    end
    run.fail("unsupported operand type(s) for %s: '%s' and '%s'", op, value_of.type_name(a), value_of.type_name(b))
end

-- Makes an operator of numbers alone: compute(a, b, is_float) gives the value.
local function of_numbers(op, compute, other)
    return function(a, b)
        local x, x_float = number_of(a)
        local y, y_float = number_of(b)
        if x and y then return compute(x, y, x_float or y_float) end
        local result = other and other(a, b)
        if result == nil then refuse(op, a, b) end
        return result
    end
end

-- ---- Texts and lists -----------------------------------------------------------------------------------------------

local html = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ["'"] = "&#39;", ['"'] = "&#34;" }

--- Makes a text safe in HTML.
function M.escape(s)
    run.charge_text(#s * 5)
    return (s:gsub("[&<>'\"]", html))
end

-- What a value is in markup that it is added to, nil if it cannot be.
local function markup_text(value)
    if type(value) == "string" then return M.escape(value) end
    return text_of(value)
end

local function concatenate_arrays(a, b)
    local out, n = {}, #a
    run.charge(n + #b)
    for i = 1, n do out[i] = a[i] end
    for i = 1, #b do out[n + i] = b[i] end
    return out
end

local function add_others(a, b)
    local kind, other = kind_of(a), kind_of(b)
    if kind == "markup" or other == "markup" then
        local x, y = markup_text(a), markup_text(b)
        return x and y and value_of.markup(x .. y) or nil
    end
    if kind ~= other then return nil end
    if kind == "list" then return value_of.list(concatenate_arrays(a, b)) end
    if kind == "tuple" then return value_of.tuple(concatenate_arrays(a, b)) end
end

local function add_numbers(x, y, is_float)
    if is_float then return float(x + y) end
    return int(x + y)
end
local add = of_numbers("+", add_numbers, add_others)

--- a + b
function M.add(a, b)
    if type(a) == "string" and type(b) == "string" then
        run.charge_text(#a + #b)
        return a .. b
    end
    return add(a, b)
end

local function repeated(array, count)
    local out, n = {}, #array
    run.charge(math.max(0, n * count))
    for i = 1, n * count do out[i] = array[(i - 1) % n + 1] end
    return out
end

local function repeat_value(value, count)
    local kind = kind_of(value)
    if kind == "str" then return text.rep(value, count) end
    if kind == "markup" then return value_of.markup(text.rep(value.text, count)) end
    if kind == "list" then return value_of.list(repeated(value, count)) end
    if kind == "tuple" then return value_of.tuple(repeated(value, count)) end
end

--- a * b
M.mul = of_numbers("*", function(x, y, is_float)
    if is_float then return float(x * y) end
    return int(x * y)
end, function(a, b)
    local count, is_float = number_of(b)
    if count and not is_float then return repeat_value(a, count) end
    count, is_float = number_of(a)
    if count and not is_float then return repeat_value(b, count) end
end)

-- ---- Numbers -------------------------------------------------------------------------------------------------------

--- a - b
M.sub = of_numbers("-", function(x, y, is_float)
    if is_float then return float(x - y) end
    return int(x - y)
end)

--- a / b
M.div = of_numbers("/", function(x, y, is_float)
    if y == 0 then run.fail(is_float and "float division by zero" or "division by zero") end
    return float(x / y)
end)

-- The remainder with the sign of y, exact where Lua's own is rounded.
local function modulo(x, y)
    local rest = math.fmod(x, y)
    if rest ~= 0 and (rest < 0) ~= (y < 0) then rest = rest + y end
    return rest
end

local function check_divisor(y, is_float, what)
    if y ~= 0 then return end
    run.fail(is_float and what or "integer division or modulo by zero")
end

--- a // b
M.floordiv = of_numbers("//", function(x, y, is_float)
    check_divisor(y, is_float, "float floor division by zero")
    local quotient = math.floor((x - modulo(x, y)) / y + 0.5)
    if is_float then return float(quotient) end
    return int(quotient)
end)

local remainder = of_numbers("%", function(x, y, is_float)
    check_divisor(y, is_float, "float modulo")
    local rest = modulo(x, y)
    if not is_float then return int(rest) end
    return float(rest == 0 and (y < 0 and -0.0 or 0.0) or rest)
end)

-- Values as they may be put into markup.
local function safe_values(values)
    if type(values) == "string" then return M.escape(values) end
    if kind_of(values) ~= "tuple" then return values end
    local out = {}
    for i, item in ipairs(values) do out[i] = type(item) == "string" and M.escape(item) or item end
    return value_of.tuple(out)
end

--- a % b; of a text, printf-style formatting
function M.mod(a, b)
    local format = text_of(a)
    if not format then return remainder(a, b) end
    local printf = require("steer.jinja.format").printf
    if type(a) == "string" then return printf(format, b) end
    return value_of.markup(printf(format, safe_values(b)))
end

--- a ** b
M.pow = of_numbers("**", function(x, y, is_float)
    if x == 0 and y < 0 then run.fail("0.0 cannot be raised to a negative power") end
    if is_float and x < 0 and y % 1 ~= 0 then run.fail("complex numbers are not supported") end
    local power = x ^ y
    if is_float and math.abs(power) == math.huge and math.abs(x) ~= math.huge and math.abs(y) ~= math.huge then
        run.fail("the result of ** is too large")
    end
    if is_float or y < 0 then return float(power) end
    return int(power)
end)

local function sign(op, factor)
    return function(value)
        local x, is_float = number_of(value)
        if not x then
            if kind_of(value) == "undefined" then value_of.fail_undefined(value) end
            run.fail("bad operand type for unary %s: '%s'", op, value_of.type_name(value))
        end
        if is_float then return float(x * factor) end
        return int(x * factor)
    end
end

--- -a and +a
M.neg, M.pos = sign("-", -1), sign("+", 1)

return M
