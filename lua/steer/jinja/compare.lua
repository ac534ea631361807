--- Comparing values: ==, <, in, and sorting.
local run = require "steer.jinja.run"
local sequence = require "steer.jinja.sequence"
local text = require "steer.jinja.text"
local value_of = require "steer.jinja.value"

local kind_of, number_of, text_of = value_of.kind, value_of.number, value_of.text
local M = {}

-- ---- Equality ------------------------------------------------------------------------------------------------------

local function equal_arrays(a, b)
    if #a ~= #b then return false end
    for i = 1, #a do
        if not M.equal(a[i], b[i]) then return false end
    end
    return true
end

local function equal_dicts(a, b)
    if #a.keys ~= #b.keys then return false end
    for _, key in ipairs(a.keys) do
        local other = value_of.dict_get(b, key)
        if other == nil or not M.equal(value_of.dict_get(a, key), other) then return false end
    end
    return true
end

local function equal_ranges(a, b)
    return a.length == b.length and (a.length == 0 or a.start == b.start and (a.length == 1 or a.step == b.step))
end

local equals = {
    list = equal_arrays, tuple = equal_arrays, dict = equal_dicts, range = equal_ranges,
    undefined = function() return true end,
    bigint = function(a, b) return a.digits == b.digits end,
    keys = function(a, b) return equal_dicts(a.dict, b.dict) end,
}

--- Tells whether two values are equal.
function M.equal(a, b)
    run.charge(1)
    if a == b then return true end
    local x, y = text_of(a), text_of(b)
    if x or y then return x == y end
    x, y = number_of(a), number_of(b)
    if x or y then return x == y end
    local kind = kind_of(a)
    if kind ~= kind_of(b) or not equals[kind] then return false end
    run.enter(run.VALUE_LEVEL)
    local equal = equals[kind](a, b)
    run.leave(run.VALUE_LEVEL)
    return equal
end

-- ---- Order ---------------------------------------------------------------------------------------------------------

local orders = {
    ["<"] = function(a, b) return a < b end,
    ["<="] = function(a, b) return a <= b end,
    [">"] = function(a, b) return a > b end,
    [">="] = function(a, b) return a >= b end,
}

local function order_arrays(op, a, b)
    for i = 1, math.min(#a, #b) do
        if not M.equal(a[i], b[i]) then return M.order(op, a[i], b[i]) end
    end
    return orders[op](#a, #b)
end

local function size_of(value)
    return number_of(value) or kind_of(value) == "bigint" and value.value
end

--- Compares two values by "<", "<=", ">" or ">=".
function M.order(op, a, b)
    run.charge(1)
    local x, y = text_of(a), text_of(b)
    if x and y then return orders[op](x, y) end -- LuaJIT compares bytes, and UTF-8 has the order of code points
    x, y = size_of(a), size_of(b)
    if x and y then return orders[op](x, y) end
    local kind, other = kind_of(a), kind_of(b)
    if kind == other and (kind == "list" or kind == "tuple") then
        run.enter(run.VALUE_LEVEL)
        local result = order_arrays(op, a, b)
        run.leave(run.VALUE_LEVEL)
        return result
    end
    if kind == "undefined" then value_of.fail_undefined(a) end
    if other == "undefined" then value_of.fail_undefined(b) end
    return run.fail("'%s' not supported between instances of '%s' and '%s'", op, value_of.type_name(a),
        value_of.type_name(b))
end

--- Sorts a list of values in place by key(value), equal ones in the order that they have.
function M.sort(list, key, descending)
    local op = descending and ">" or "<"
    local n, from, keys = #list, {}, {}
    for i = 1, n do from[i], keys[i] = list[i], key and key(list[i]) or list[i] end
    local order, merged = {}, {}
    for i = 1, n do order[i] = i end
    local width = 1
    while width < n do
        for first = 1, n, 2 * width do
            local left, middle, stop = first, math.min(first + width, n + 1), math.min(first + 2 * width, n + 1)
            local right = middle
            for at = first, stop - 1 do
                local take_right = left == middle
                    or right < stop and M.order(op, keys[order[right]], keys[order[left]])
                if take_right then
                    merged[at], right = order[right], right + 1
                else
                    merged[at], left = order[left], left + 1
                end
            end
        end
        order, merged = merged, order
        width = 2 * width
    end
    for i = 1, n do list[i] = from[order[i]] end
    return list
end

-- ---- Membership ----------------------------------------------------------------------------------------------------

local containers = {
    str = function(container, item)
        local part = text_of(item)
        if not part then
            run.fail("'in <string>' requires string as left operand, not %s", value_of.type_name(item))
        end
        return text.find(text_of(container), part, 1) ~= nil
    end,
    dict = function(container, item) return value_of.dict_get(container, item) ~= nil end,
    keys = function(container, item) return value_of.dict_get(container.dict, item) ~= nil end,
}
containers.markup = containers.str

--- Tells whether a container holds an item.
function M.contains(container, item)
    run.charge(1)
    local contains = containers[kind_of(container)]
    if contains then return contains(container, item) end
    if not sequence.is_iterable(container) then
        run.fail("argument of type '%s' is not iterable", value_of.type_name(container))
    end
    for element in sequence.iterate(container) do
        if M.equal(element, item) then return true end
    end
    return false
end

return M
