--- Conditions of operations: checks `when` tables, turns them into what C reads, prints them.
--
-- A condition is a comparison, { vector = g, above = x } or { vector = g, below = x }, with cosine = true of the
-- cosine; what an earlier operation noted, { noted = name }, with of = "prompt" of the whole prompt; or
-- { all = { conditions } }, { any = { conditions } } or { none = { conditions } }.
local bit = require "bit"
local ffi = require "ffi"
local c = require "steer.core.c"
local check = require "steer.core.check"
local options = require "steer.core.options"
local operations = require "steer.spec.operations"
local scope = require "steer.spec.scope"
local tables = require "steer.core.tables"
local tensors = require "steer.tensor.object"

local C = c.C
local raise = require("steer.core.error").raise

local M = {}

local KNOWN = { -- of a condition, whatever it is; what goes together is asked for after that
    vector = true, above = true, below = true, cosine = true, noted = true, of = true, all = true, any = true,
    none = true,
}
local MOST = tonumber(C.STEER_MAX_CONDITIONS)

-- Raises where something stands beside what a condition is.
local function check_alone(op, name, when, key, may)
    for _, other in ipairs(tables.keys(when)) do
        if other ~= key and other ~= may then
            raise("invalid_argument", op, "%s: both %s and %s, expected one of them", name, key, other)
        end
    end
end

-- The key by which a condition combines others, nil for a comparison.
local function combination(op, name, when)
    for _, key in ipairs { "all", "any", "none" } do
        if when[key] ~= nil then
            check_alone(op, name, when, key)
            return key
        end
    end
end

local function take(op, name, when, depth)
    check.type(op, name, when, "table", "a condition such as {vector = g, above = 0.5}")
    options.check(op, when, KNOWN, name)
    local key = combination(op, name, when)
    if depth > 16 then raise("invalid_argument", op, "when: conditions within conditions too deep") end
    if when.noted ~= nil and not key then
        check_alone(op, name, when, "noted", "of")
        operations.take_note(op, name .. ".noted", when.noted)
        return { noted = when.noted, of = operations.take_of(op, name .. ".of", when.of) }
    end
    if not key then
        scope.gate(op, name, when)
        local g = operations.to_vector(op, name .. ".vector", when.vector)
        return { vector = g, above = when.above, below = when.below, cosine = when.cosine or nil }
    end
    local list, label = {}, name .. "." .. key
    local n = check.list(op, label, when[key], "a list of conditions")
    if n == 0 then raise("invalid_argument", op, "%s: an empty list", label) end
    for i = 1, n do list[i] = take(op, ("%s[%d]"):format(label, i), when[key][i], depth + 1) end
    return { [key] = list }
end

--- A checked copy of a condition, whose vectors are tensors; nil for nil.
function M.take(op, when)
    if when == nil then return nil end
    return take(op, "when", when, 0)
end

-- The key by which a checked condition combines others, nil for a comparison.
local function key_of(when) return when.all and "all" or when.any and "any" or when.none and "none" end

--- Calls fn(comparison, its name in messages) for each comparison of a condition, in order.
-- @tparam table when
-- @tparam function fn
-- @tparam[opt="when"] string name
function M.each(when, fn, name)
    local key = key_of(when)
    name = name or "when"
    if not key then return fn(when, name) end
    for i, part in ipairs(when[key]) do M.each(part, fn, ("%s.%s[%d]"):format(name, key, i)) end
    return nil
end

--- The user's names for what the library calls conditions.
function M.names(when)
    local names, n = { conditions = "when" }, 0
    if not when then return names end
    M.each(when, function(comparison, name)
        n = n + 1
        names[("conditions[%d].vector"):format(n)] = name .. ".vector"
        names[("conditions[%d].threshold"):format(n)] = name .. (comparison.above and ".above" or ".below")
    end)
    return names
end

-- Whether the condition holds where comparison i, counted by `at`, is bit i of `bits`.
local function holds(when, bits, at)
    local list = when.all or when.any or when.none
    if not list then
        at.n = at.n + 1
        return bit.band(bit.rshift(bits, at.n - 1), 1) == 1
    end
    local every, some = true, false
    for _, part in ipairs(list) do
        local value = holds(part, bits, at)
        every, some = every and value, some or value
    end
    if when.all then return every end
    return (when.any ~= nil) == some
end

--- Writes a condition into a steer_op_desc; `keep` holds what C reads.
function M.describe(op, desc, when, keep)
    local list, names = {}, {}
    M.each(when, function(comparison, name) list[#list + 1], names[#list + 1] = comparison, name end)
    local array = ffi.new("steer_condition[?]", #list)
    for i, comparison in ipairs(list) do
        local to = array[i - 1]
        to.gate = comparison.below and C.STEER_GATE_BELOW or C.STEER_GATE_ABOVE
        if comparison.noted then
            to.noted = operations.note_number(op, names[i] .. ".noted", comparison.noted, comparison.of, keep) + 1
        else
            to.vector = tensors.use(comparison.vector, op, names[i] .. ".vector")
            to.threshold, to.cosine = comparison.above or comparison.below, comparison.cosine and 1 or 0
        end
    end
    local truth = 0ULL
    for bits = 0, 2 ^ math.min(#list, MOST) - 1 do -- more the library refuses
        if holds(when, bits, { n = 0 }) then truth = bit.bor(truth, bit.lshift(1ULL, bits)) end
    end
    keep[#keep + 1] = array
    desc.conditions, desc.condition_count, desc.truth = array, #list, truth
end

--- The condition with what fn(comparison) gives in the place of each comparison with a vector, and other(note), if
-- given, in that of each note.
function M.map(when, fn, other)
    local key = key_of(when)
    if key then
        local list = {}
        for i, part in ipairs(when[key]) do list[i] = M.map(part, fn, other) end
        return { [key] = list }
    end
    if not when.noted then return fn(when) end
    return other and other(when) or { noted = when.noted, of = when.of }
end

--- Text of a condition for people.
function M.text(when)
    local key = key_of(when)
    if key then
        local parts = {}
        for i, part in ipairs(when[key]) do parts[i] = M.text(part) end
        return key .. "(" .. table.concat(parts, ", ") .. ")"
    end
    if when.noted then return "noted " .. when.noted .. (when.of and " of the " .. when.of or "") end
    return (when.cosine and "cosine" or "dot") .. (when.above and " above " or " below ")
        .. ("%.6g"):format(when.above or when.below)
end

return M
