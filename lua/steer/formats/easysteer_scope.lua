--- EasySteer's apply clauses as `where` and `exclude` of operations.
--
-- Its selectors have a phase each, as ours do, but for token_ids, which here select in both: prompt_tokens and
-- generation_tokens are read where that comes to the same.
local file = require "steer.io._file"
local tables = require "steer.core.tables"

local M = {}

local MAX = 2 ^ 30 -- the end of an open window, beyond any text
local KINDS = {
    prompt = "all", prompt_tokens = "list", prompt_positions = "list", prompt_window = "window",
    generation = "all", generation_tokens = "list", generation_positions = "list", generation_window = "window",
}

local function integer(map, what, value)
    if type(value) ~= "number" or value % 1 ~= 0 or math.abs(value) > MAX then
        map:fail("%s: expected integers", what)
    end
    return value
end

local function read_value(map, what, kind, value)
    if kind == "all" then
        if value ~= "all" then map:fail('%s: expected "all"', what) end
        return value
    end
    if type(value) ~= "table" or #value == 0 then map:fail("%s: expected a list", what) end
    local list, open = {}, kind == "window" and value[2] ~= value[2] -- null is read as NaN
    for i, item in ipairs(value) do list[i] = i == 2 and open and MAX or integer(map, what, item) end
    if kind == "window" and #list ~= 2 then map:fail("%s: expected a first and a last", what) end
    return list
end

local function same(a, b)
    local there = {}
    for _, id in ipairs(a) do there[id] = true end
    for _, id in ipairs(b) do
        if not there[id] then return false end
    end
    return #a == #b
end

local function selects(selector, phase)
    return selector[phase] or selector[phase .. "_positions"] or selector[phase .. "_window"]
        or selector[phase .. "_tokens"]
end

-- Makes token_ids of prompt_tokens and generation_tokens; `covered` says which phases count at all.
local function merge_tokens(map, what, selector, covered)
    local prompt, generation = selector.prompt_tokens, selector.generation_tokens
    selector.prompt_tokens, selector.generation_tokens = nil, nil
    if not prompt and not generation then return end
    if prompt and generation then
        if not same(prompt, generation) then
            map:refuse("%s: other tokens of prompts than generated ones: Steer selects ids in both", what)
        end
    elseif covered[prompt and "generation" or "prompt"] then
        map:refuse("%s: tokens of %s alone, while the other phase is selected too: Steer selects ids in both", what,
            prompt and "prompts" or "generation")
    end
    selector.token_ids = prompt or generation
end

local function or_nil(selector) return tables.first(selector) ~= nil and selector or nil end

--- Reads an apply clause.
-- @treturn table where, exclude (nil: every token; none)
function M.read(map, what, clause)
    local where, exclude = {}, {}
    for _, key in ipairs(tables.keys(clause)) do
        local name = tostring(key)
        local base = name:match "^exclude_(.*)$"
        local kind, value = KINDS[base or name], clause[key]
        if not kind or base and kind == "all" then map:fail("%s: %s is not known", what, file.quote(name)) end
        if value == value then
            (base and exclude or where)[base or name] = read_value(map, what .. "." .. name, kind, value)
        end
    end
    local covered = { prompt = selects(where, "prompt"), generation = selects(where, "generation") }
    if not covered.prompt and not covered.generation then map:fail("%s: it selects no token", what) end
    local ids = where.prompt_tokens or where.generation_tokens
    if ids and not covered.generation then exclude.generation = "all" end
    if ids and not covered.prompt then exclude.prompt = "all" end
    merge_tokens(map, what, where, covered)
    merge_tokens(map, what .. ".exclude", exclude, covered)
    if where.prompt and where.generation then where = {} end -- every token
    return or_nil(where), or_nil(exclude)
end

return M
