--- Axes of a sweep: reading nvbench's text, and turning axes into cases.
--
-- Text: name=value, name=[value,value,...], name=[start:stop], name=[start:stop:stride] (stop is included), and
-- name[pow2]=... for powers of two, whose values are the exponents. Values that read as numbers are numbers, true and
-- false are booleans, all others are strings.
local check = require "steer.core.check"
local json = require "steer.core.json"
local options = require "steer.core.options"
local printable = require("steer.core.text").printable
local raise = require("steer.core.error").raise
local tables = require "steer.core.tables"

local M = {}

local MOST = 1e6 -- values of an axis, and cases of a sweep
local MOST_EXPONENT = 62

local function number_of(text)
    local mantissa = text:match "^[+-]?([%d.]+)$" or text:match "^[+-]?([%d.]+)[eE][+-]?%d+$"
    return mantissa and mantissa:find "%d" and tonumber((text:gsub("^%+", ""))) or nil
end

local booleans = { ["true"] = true, ["false"] = false }

local function value_of(text)
    local number = number_of(text)
    if number then return number end
    if booleans[text] ~= nil then return booleans[text] end
    return text
end

--- Says what a value is as axes are written.
function M.text(value)
    return type(value) == "number" and ("%.15g"):format(value) or tostring(value)
end

-- Digits that only come from adding strides (0.30000000000000004) are cut off: 0.3 is the same case from wherever.
local function clean(x)
    return tonumber(("%.15g"):format(x))
end

local function range(fail, pieces)
    local start, stop, stride = pieces[1], pieces[2], pieces[3] or 1
    if #pieces > 3 then fail "a range has three numbers at most, start:stop:stride" end
    if not (start and stop and stride) then fail "a range is start:stop or start:stop:stride, all of them numbers" end
    if stride == 0 then fail "the stride is 0" end
    local count = math.floor((stop - start) / stride + 1e-9) + 1
    if count < 1 then fail "the range holds no value, its stride leads away from its end" end
    if count > MOST or count ~= count then fail(("it has more than %d values"):format(MOST)) end
    local values = {}
    for i = 1, count do values[i] = clean(start + (i - 1) * stride) end
    return values
end

-- Text between separators, trimmed.
local function pieces_of(text, separator)
    local pieces = {}
    for piece in (text .. separator):gmatch("%s*(.-)%s*%" .. separator) do pieces[#pieces + 1] = piece end
    return pieces
end

local function begins_range(text)
    local first = text:match "^%s*([^:]-)%s*:"
    return first and number_of(first) ~= nil
end

local function inside_brackets(fail, text)
    if text:find "[%[%]]" then fail "a bracket inside brackets" end
    if not text:find(",", 1, true) and begins_range(text) then
        local numbers, pieces = {}, pieces_of(text, ":")
        for i, piece in ipairs(pieces) do
            numbers[i] = number_of(piece) or fail(('"%s" in a range is not a number'):format(piece))
        end
        return range(fail, numbers), true
    end
    if not text:find "%S" then fail "the list is empty" end
    local values = {}
    for i, piece in ipairs(pieces_of(text, ",")) do
        if piece == "" then fail(("value %d of the list is empty"):format(i)) end
        values[i] = value_of(piece)
    end
    return values, false
end

local function powers(fail, values)
    for i, exponent in ipairs(values) do
        if type(exponent) ~= "number" or exponent % 1 ~= 0 or exponent < 0 or exponent > MOST_EXPONENT then
            fail(("%s is no exponent, expected an integer from 0 to %d"):format(M.text(exponent), MOST_EXPONENT))
        end
        values[i] = 2 ^ exponent
    end
    return values
end

--- Says why a value cannot be one of an axis, or nil.
function M.value_fault(value)
    local kind = type(value)
    if kind ~= "number" and kind ~= "string" and kind ~= "boolean" then
        return ("is %s, expected a number, a string or a boolean"):format(check.describe(value))
    end
    if kind == "number" and (value ~= value or math.abs(value) == math.huge) then return "is not finite" end
    if kind == "string" and not json.is_utf8(value) then return "is not UTF-8" end
    return nil
end

local function check_values(fail, values)
    local seen = {}
    if #values > MOST then fail(("it has more than %d values"):format(MOST)) end
    for i, value in ipairs(values) do
        local fault = M.value_fault(value)
        if fault then fail(("value %d %s"):format(i, fault)) end
        if seen[value] then
            fail(("the value %s appears twice"):format(M.text(value)))
        end
        seen[value] = true
        if value == 0 then values[i] = 0 end -- no -0, which is another text
    end
    return values
end

local function check_name(fail, name)
    if not name:find "^[%a_][%w_.-]*$" then
        fail "expected a name of letters, digits, _, . and - before the ="
    end
end

--- Reads the text of an axis.
-- @tparam string op operation for messages
-- @tparam string argument what the text came from, such as "axes" or "--axis"
-- @tparam string text such as "hidden[pow2]=[10:13:1]"; the brackets may be left out
-- @treturn table {name=, values=, is_range=}
-- @raise invalid_argument
function M.parse(op, argument, text)
    local function fail(what)
        raise("invalid_argument", op, '%s: "%s": %s', argument, text, what)
    end
    local left, right = text:match "^%s*([^=]-)%s*=%s*(.-)%s*$"
    if not left then fail "expected name=value, name=value,value or name=start:stop:stride" end
    local name, flag = left:match "^(.-)%[([^%]]*)%]$"
    check_name(fail, name or left)
    if flag and flag ~= "pow2" and flag ~= "" then fail(("unknown flag [%s], there is [pow2]"):format(flag)) end
    local values, is_range
    local inner = right:match "^%[(.*)%]$"
    if inner then
        values, is_range = inside_brackets(fail, inner)
    elseif right == "" then
        fail "there is no value after the ="
    elseif right:find "[%[%]]" then
        fail "a bracket alone: several values are written as 1,2 or [1,2] or 1:4:1"
    elseif right:find "," or begins_range(right) then
        values, is_range = inside_brackets(fail, right)
    else
        values = { value_of(right) }
    end
    if flag == "pow2" then values = powers(fail, values) end
    return { name = name or left, values = check_values(fail, values), is_range = is_range or false }
end

--- Reads an option that is a list of numbers: {2, 3}, 2, or text such as "[2:7]"; a table stays as it is.
function M.option(op, name, value)
    if type(value) == "number" then return { value } end
    if type(value) ~= "string" then return value end
    local values = M.parse(op, name, name .. "=" .. value).values
    for _, one in ipairs(values) do
        if type(one) ~= "number" then
            raise("invalid_argument", op, '%s: "%s", expected numbers; a range is written "[2:7]"', name, value)
        end
    end
    return values
end

local function from_list(op, name, list)
    local function fail(what)
        raise("invalid_argument", op, "axes.%s: %s", name, what)
    end
    check_name(fail, name)
    if #list == 0 or #tables.keys(list) ~= #list then fail "expected a list of values that is not empty" end
    local values = {}
    for i = 1, #list do values[i] = list[i] end
    return { name = name, values = check_values(fail, values) }
end

-- One entry of a declaration: a text in the list part, or a name with a list, a value or the text of values.
local function declared(op, key, value)
    if type(key) == "number" then
        check.type(op, ("axes[%s]"):format(key), value, "string", 'text such as "hidden=[1024,2048]"')
        return M.parse(op, "axes", value)
    end
    if type(key) ~= "string" then
        raise("invalid_argument", op, "axes: the key %s, expected names", check.describe(key))
    end
    if type(value) == "table" then return from_list(op, key, value) end
    if type(value) == "number" or type(value) == "boolean" then return from_list(op, key, { value }) end
    check.type(op, "axes." .. key, value, "string", "a list of values, or text such as [1,2] or [1:4:1]")
    return M.parse(op, "axes", key .. "=" .. value)
end

--- Reads the axes of a declaration: texts in their order first, then names in alphabetic order.
-- @tparam string op operation for messages
-- @tparam table axes list of texts, or name -> list of values, or both
-- @treturn table list of {name=, values=}
-- @raise invalid_argument
function M.declare(op, axes)
    check.type(op, "axes", axes, "table", "a table of axes")
    local keys = tables.keys(axes)
    if #keys == 0 then raise("invalid_argument", op, "axes: there are none") end
    table.sort(keys, function(a, b)
        if type(a) ~= type(b) then return type(a) < type(b) end -- "number" before "string"
        if type(a) ~= "number" then return tostring(a) < tostring(b) end
        return a < b
    end)
    local list, seen = {}, {}
    for i, key in ipairs(keys) do
        list[i] = declared(op, key, axes[key])
        if seen[list[i].name] then raise("invalid_argument", op, "axes: %s is declared twice", list[i].name) end
        seen[list[i].name] = true
    end
    return list
end

-- ---- Changing axes -------------------------------------------------------------------------------------------------

local function find(op, argument, axes, name)
    local names = {}
    for _, axis in ipairs(axes) do
        if axis.name == name then return axis end
        names[axis.name] = true
    end
    return raise("invalid_argument", op, "%s: there is no axis %s%s", argument, name,
        options.suggest_of(name, names, "axes are " .. options.list(names), "", ""))
end

-- The one type that all values of an axis have, or nil.
local function common_type(axis)
    local kind = type(axis.values[1])
    for _, value in ipairs(axis.values) do
        if type(value) ~= kind then return nil end
    end
    return kind
end

-- A text's values as the axis has them: 8 is the string "8" for an axis of strings.
local function adopt(op, argument, axis, given)
    local kind, values = common_type(axis), {}
    for i, value in ipairs(given.values) do
        if kind == "string" and type(value) ~= "string" then
            value = M.text(value)
        elseif kind and type(value) ~= kind then
            raise("invalid_argument", op, '%s: %s=%s: the values of this axis are %ss', argument, axis.name,
                M.text(value), kind)
        end
        values[i] = value
    end
    return values
end

--- Gives axes with the values of one replaced.
-- @tparam string op operation for messages
-- @tparam table axes list of {name=, values=}; stays as it is
-- @tparam string text as M.parse takes it
function M.override(op, axes, text)
    local given = M.parse(op, "--axis", text)
    local target, out = find(op, "--axis", axes, given.name), {}
    for i, axis in ipairs(axes) do
        out[i] = axis ~= target and axis or { name = axis.name, values = adopt(op, "--axis", axis, given) }
    end
    return out
end

--- Gives axes where one keeps only the values that the text names; values of a list must be there.
function M.filter(op, axes, text)
    local given = M.parse(op, "--only", text)
    local target, out, wanted, kept = find(op, "--only", axes, given.name), {}, {}, {}
    for _, value in ipairs(adopt(op, "--only", target, given)) do wanted[value] = true end
    for _, value in ipairs(target.values) do
        if wanted[value] then kept[#kept + 1] = value end
        wanted[value] = nil
    end
    local missing = tables.first(wanted)
    if #kept == 0 or missing ~= nil and not given.is_range then
        raise("invalid_argument", op, "--only: %s: the axis has no such value%s, it has %s", text,
            #kept > 0 and " as " .. M.text(missing) or "", M.list(target.values, 60))
    end
    for i, axis in ipairs(axes) do out[i] = axis ~= target and axis or { name = axis.name, values = kept } end
    return out
end

--- Writes values on one line, cut where it is longer than `width`.
function M.list(values, width)
    local line = ""
    for i, value in ipairs(values) do
        local word = (i > 1 and ", " or "") .. printable(M.text(value))
        if #line + #word > width then return ("%s, ... (%d values)"):format(line, #values) end
        line = line .. word
    end
    return line
end

--- Lists the cases of axes, the last axis changing fastest.
-- @treturn table list of axis -> value
-- @raise invalid_argument for more than a million
function M.cases(op, axes)
    local total = 1
    for _, axis in ipairs(axes) do total = total * #axis.values end
    if total > MOST then
        raise("invalid_argument", op, "axes: %.0f cases, expected at most %d", total, MOST)
    end
    local cases = {}
    for index = 0, total - 1 do
        local case, rest = {}, index
        for i = #axes, 1, -1 do
            local values = axes[i].values
            case[axes[i].name] = values[rest % #values + 1]
            rest = math.floor(rest / #values)
        end
        cases[index + 1] = case
    end
    return cases
end

return M
