--- What conditions of a spec may ask for of what its operations note, of each token or of the prompt.
local conditions = require "steer.spec.conditions"
local raise = require("steer.core.error").raise
local scope = require "steer.spec.scope"

local M = {}

-- The operations in the order in which a token meets them, as { layer =, at = place in its list, op = }.
local function in_order(layers, by_layer)
    local list = {}
    for _, layer in ipairs(layers) do
        for _, site in ipairs { "embed", "attention", false } do
            for i, op in ipairs(by_layer[layer]) do
                if (op.at or false) == site then list[#list + 1] = { layer = layer, at = i, op = op } end
            end
        end
    end
    return list
end

local function place_text(place)
    local op = place.op
    return ("layer %d%s: operation %d (%s)"):format(place.layer, op.at and " at " .. op.at or "", place.at, op.kind)
end

-- Where each name is noted first. Raises where one is noted both of tokens and of the prompt.
local function find_notes(order)
    local noted = {}
    for i, place in ipairs(order) do
        local name, first = place.op.note, noted[place.op.note]
        if name and first and first.op.of ~= place.op.of then
            raise("invalid_argument", "spec", '%s: "%s" is noted of the %s here and of the %s on layer %d, expected '
                .. "two names", place_text(place), name, place.op.of or "token", first.op.of or "token", first.layer)
        end
        if name and not first then noted[name] = { n = i, layer = place.layer, op = place.op } end
    end
    return noted
end

-- Raises unless an operation, the n-th that a token meets, can know what a condition of some name asks for.
local function check_asked(place, n, asked, when, noted)
    local note, name = noted[asked.noted], place_text(place) .. ": " .. when
    if not note then
        raise("invalid_argument", "spec", '%s.noted: no operation notes "%s"', name, asked.noted)
    end
    if asked.of and not note.op.of then
        raise("invalid_argument", "spec", '%s.of: "%s" is noted of each token, not of the prompt', name, asked.noted)
    end
    if note.n < n or (note.op.of and scope.is_generation_only(place.op.where)) then return end
    raise("invalid_argument", "spec", '%s.noted: no operation before it notes "%s", the one on layer %d%s comes '
        .. "later%s", name, asked.noted, note.layer, note.op.at and " at " .. note.op.at or "",
        note.op.of and ': expected it before, or where = {generation = "all"}, as later tokens know it on every layer'
        or "")
end

-- The condition with what each of its notes is of.
local function explicit(when, noted)
    return conditions.map(when, function(comparison) return comparison end, function(note)
        return { noted = note.noted, of = noted[note.noted].op.of }
    end)
end

--- Raises for conditions on what is not noted before. Operations that ask for what is noted of the prompt are replaced
-- by such as say so.
-- @tparam table layers numbers of the layers, ascending
-- @tparam table by_layer lists of operations, which are changed
-- @tparam function remake remake(op, when): the operation under another condition
function M.settle(layers, by_layer, remake)
    local order = in_order(layers, by_layer)
    local noted = find_notes(order)
    for n, place in ipairs(order) do
        local vague = false
        if place.op.when then
            conditions.each(place.op.when, function(comparison, name)
                if not comparison.noted then return end
                check_asked(place, n, comparison, name, noted)
                vague = vague or comparison.of ~= noted[comparison.noted].op.of
            end)
        end
        if vague then
            by_layer[place.layer][place.at] = remake(place.op, explicit(place.op.when, noted))
        end
    end
end

return M
