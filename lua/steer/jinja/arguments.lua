--- Checks what filters, tests, functions and methods are given. nil is an argument that was left out.
local run = require "steer.jinja.run"
local value_of = require "steer.jinja.value"

local M = {}

local function refuse(value, format, ...)
    if value_of.is_undefined(value) then value_of.fail_undefined(value) end
    run.fail(format, ...)
end

--- An integer; `default` where it was left out.
function M.int(value, default)
    if value == nil and default ~= nil then return default end
    local x, is_float = value_of.number(value)
    if not x or is_float then
        refuse(value, "'%s' object cannot be interpreted as an integer", value_of.type_name(value))
    end
    return x
end

--- An integer; `default` where it was left out or None.
function M.optional_int(value, default)
    if value == value_of.None then value = nil end
    return M.int(value, default)
end

--- How often something may be done: -1, the default, is without end.
function M.count(value)
    local count = M.optional_int(value, -1)
    return count < 0 and math.huge or count
end

--- A text, of a str or of markup; `what` is what messages call it.
function M.text(value, what)
    local text = value_of.text(value)
    if not text then refuse(value, "%s must be str, not %s", what, value_of.type_name(value)) end
    return text
end

--- A text; nil where it was left out or None.
function M.optional_text(value, what)
    if value == nil or value == value_of.None then return nil end
    return M.text(value, what)
end

--- Whether a switch is on; it is off where it was left out.
function M.is_true(value) return value ~= nil and value_of.truth(value) end

return M
