--- Which tokens an operation acts on: checks `where`, `exclude` and `when` tables and turns them into what C reads.
local ffi = require "ffi"
local c = require "steer.core.c"
local check = require "steer.core.check"
local options = require "steer.core.options"
local raise = require("steer.core.error").raise
local tables = require "steer.core.tables"

local M = {}

local SELECTOR = {
    prompt = true, generation = true, prompt_positions = "table", generation_positions = "table",
    prompt_window = "table", generation_window = "table", token_ids = "table",
}
-- `exclude` may stand in `where`, see spec.lua, which takes it out first.
local KNOWN = { where = { exclude = "table" }, exclude = SELECTOR }
for _, key in ipairs(tables.keys(SELECTOR)) do KNOWN.where[key] = SELECTOR[key] end
local GATE = { vector = true, above = "number", below = "number", cosine = "boolean" }

-- A checked copy of a list of integers; an empty one would select nothing, or, dropped, everything.
local function integers(op, name, list)
    local copy = {}
    for i = 1, check.list(op, name, list) do copy[i] = check.integer(op, name .. "[" .. i .. "]", list[i]) end
    if #copy == 0 then raise("invalid_argument", op, "%s: an empty list selects no token", name) end
    return copy
end

--- Checks a selector table and returns a copy, nil for nil.
-- @tparam string op operation for messages
-- @tparam string name "where" or "exclude"
-- @param selector table with any of prompt = "all", generation = "all", prompt_positions, generation_positions,
-- prompt_window, generation_window and token_ids, or nil
function M.selector(op, name, selector)
    if selector == nil then return nil end
    check.type(op, name, selector, "table", 'a table such as {generation = "all"}')
    options.check(op, selector, KNOWN[name], name)
    local copy = {}
    for _, key in ipairs(tables.keys(selector)) do
        local label, value = name .. "." .. key, selector[key]
        if key == "prompt" or key == "generation" then
            if value ~= "all" then
                raise("invalid_argument", op, "%s: expected \"all\", got %s", label, check.describe(value))
            end
            copy[key] = value
        else
            copy[key] = integers(op, label, value)
            if key:find("_window", 1, true) and #copy[key] ~= 2 then
                raise("invalid_argument", op, "%s: expected { first, past the last }, got %d numbers", label,
                    #copy[key])
            end
        end
    end
    if tables.first(copy) == nil then
        raise("invalid_argument", op, "%s: selects nothing, expected some of %s", name, options.list(SELECTOR))
    end
    return copy
end

--- Whether a checked selector selects generated tokens only.
function M.is_generation_only(selector)
    if not selector or selector.token_ids then return false end
    return not (selector.prompt or selector.prompt_positions or selector.prompt_window)
end

-- Whether [from, past), counted from the end where negative, has none of a prompt's n tokens.
local function is_outside(from, past, n)
    if from < 0 then from = from + n end
    if past < 0 then past = past + n end
    return math.max(from, 0) >= math.min(past, n)
end

--- Whether a checked selector selects positions of a prompt alone, and a prompt of n tokens has none of them.
function M.is_beyond(selector, n)
    if not selector or selector.prompt or selector.generation or selector.generation_positions
        or selector.generation_window or selector.token_ids then return false end
    for _, position in ipairs(selector.prompt_positions or {}) do
        if position >= -n and position < n then return false end
    end
    local window = selector.prompt_window
    return not window or is_outside(window[1], window[2], n)
end

-- An int64_t array of a list; `keep` holds it while C reads it.
local function array(list, keep)
    local values = ffi.new("int64_t[?]", #list, list)
    keep[#keep + 1] = values
    return values, #list
end

--- Makes the steer_selector of a checked selector; `keep` receives what it points to.
function M.describe(selector, keep)
    if not selector then return nil end
    local desc = c.descriptor("steer_selector")
    keep[#keep + 1] = desc
    desc.prompt_all = selector.prompt and 1 or 0
    desc.generation_all = selector.generation and 1 or 0
    for _, phase in ipairs { "prompt", "generation" } do
        local positions, window = selector[phase .. "_positions"], selector[phase .. "_window"]
        if positions then
            desc[phase .. "_positions"], desc[phase .. "_position_count"] = array(positions, keep)
        end
        if window then
            desc["has_" .. phase .. "_window"] = 1
            desc[phase .. "_window"][0], desc[phase .. "_window"][1] = window[1], window[2]
        end
    end
    if selector.token_ids then desc.token_ids, desc.token_id_count = array(selector.token_ids, keep) end
    return desc
end

--- Checks a comparison: a vector and exactly one of above and below.
-- @tparam string op operation for messages
-- @tparam string name of the comparison in messages, such as "when.any[2]"
function M.gate(op, name, when)
    options.check(op, when, GATE, name)
    if (when.above == nil) == (when.below == nil) then
        raise("invalid_argument", op, "%s: expected exactly one of above and below", name)
    end
end

local ORDER = {
    "prompt", "prompt_positions", "prompt_window", "generation", "generation_positions", "generation_window",
    "token_ids",
}
local SHOWN = 6 -- entries of a list that a text shows

--- Text of a checked selector for people: "prompt=all token_ids={1, 2}".
function M.text(selector)
    if not selector then return "" end
    local parts = {}
    for _, key in ipairs(ORDER) do
        local value = selector[key]
        if type(value) == "table" then
            local shown = table.concat(value, ", ", 1, math.min(#value, SHOWN))
            value = "{" .. shown .. (#value > SHOWN and (", ... %d in all"):format(#value) or "") .. "}"
        end
        if value then parts[#parts + 1] = key .. "=" .. value end
    end
    return table.concat(parts, " ")
end

return M
