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
local tensors = require "steer.tensor.object"

local C = c.C
local raise = require("steer.core.error").raise

local M = {}

local COMBINED, NOTED = { all = true, any = true, none = true }, { noted = "string", of = true }
local KNOWN = { -- of a condition, whatever it is; what goes together is asked for after that
    vector = true, above = true, below = true, cosine = true, noted = true, of = true, all = true, any = true,
    none = true,
}
local MOST = tonumber(C.STEER_MAX_CONDITIONS)

-- The key by which a condition combines others, nil for a comparison.
local function combination(op, when)
    local found
    for _, key in ipairs { "all", "any", "none" } do
        if when[key] ~= nil then
            if found then raise("invalid_argument", op, "when: both %s and %s, expected one of them", found, key) end
            found = key
        end
    end
    if found then options.check(op, when, COMBINED, "when") end
    return found
end

--- A checked copy of a condition, whose vectors are tensors; nil for nil.
function M.take(op, when, depth)
    if when == nil then return nil end
    check.type(op, "when", when, "table", "a condition such as {vector = g, above = 0.5}")
    options.check(op, when, KNOWN, "when")
    local key = combination(op, when)
    if (depth or 0) > 16 then raise("invalid_argument", op, "when: conditions within conditions too deep") end
    if when.noted ~= nil and not key then
        options.check(op, when, NOTED, "when")
        operations.take_note(op, "when.noted", when.noted)
        return { noted = when.noted, of = operations.take_of(op, "when.of", when.of) }
    end
    if not key then
        scope.gate(op, when)
        local g = operations.to_vector(op, "when.vector", when.vector)
        return { vector = g, above = when.above, below = when.below, cosine = when.cosine or nil }
    end
    local list = {}
    local n = check.list(op, "when." .. key, when[key], "a list of conditions")
    if n == 0 then raise("invalid_argument", op, "when.%s: an empty list", key) end
    for i = 1, n do list[i] = M.take(op, when[key][i], (depth or 0) + 1) end
    return { [key] = list }
end

--- Calls fn(comparison) for each comparison of a condition, in order.
function M.each(when, fn)
    local list = when.all or when.any or when.none
    if not list then return fn(when) end
    for _, part in ipairs(list) do M.each(part, fn) end
    return nil
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
    local list = {}
    M.each(when, function(comparison) list[#list + 1] = comparison end)
    local array = ffi.new("steer_condition[?]", #list)
    for i, comparison in ipairs(list) do
        local to = array[i - 1]
        to.gate = comparison.below and C.STEER_GATE_BELOW or C.STEER_GATE_ABOVE
        if comparison.noted then
            to.noted = operations.note_number(op, "when.noted", comparison.noted, comparison.of, keep) + 1
        else
            to.vector = tensors.use(comparison.vector, op, "when.vector")
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
    for _, key in ipairs { "all", "any", "none" } do
        if when[key] then
            local list = {}
            for i, part in ipairs(when[key]) do list[i] = M.map(part, fn, other) end
            return { [key] = list }
        end
    end
    if not when.noted then return fn(when) end
    return other and other(when) or { noted = when.noted, of = when.of }
end

--- Text of a condition for people.
function M.text(when)
    for _, key in ipairs { "all", "any", "none" } do
        if when[key] then
            local parts = {}
            for i, part in ipairs(when[key]) do parts[i] = M.text(part) end
            return key .. "(" .. table.concat(parts, ", ") .. ")"
        end
    end
    if when.noted then return "noted " .. when.noted .. (when.of and " of the " .. when.of or "") end
    return (when.cosine and "cosine" or "dot") .. (when.above and " above " or " below ")
        .. ("%.6g"):format(when.above or when.below)
end

return M
