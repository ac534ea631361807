--- Checks option tables: an unknown key is invalid_argument and names the nearest known one.
local raise = require("steer.core.error").raise
local check = require "steer.core.check"
local tables = require "steer.core.tables"

local M = {}
local none = {}

--- The fewest edits that turn a into b: a letter more, less or other, or two neighbours in the other order
-- (Levenshtein, Damerau).
local function distance(a, b)
    local before, last
    local row = {}
    for j = 0, #b do row[j] = j end
    for i = 1, #a do
        before, last, row = last, row, { [0] = i }
        for j = 1, #b do
            local x, y = a:byte(i), b:byte(j)
            row[j] = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x == y and 0 or 1))
            if before and j > 1 and x == b:byte(j - 1) and y == a:byte(i - 1) then
                row[j] = math.min(row[j], before[j - 2] + 1)
            end
        end
    end
    return row[#b]
end
M.distance = distance

--- Finds the key of `known` that is nearest to `word`, or nil if `known` is empty; ties go to the alphabet.
-- @tparam string word
-- @tparam table known set or map whose keys are strings
function M.nearest(word, known)
    local best, best_distance
    for _, key in ipairs(tables.keys(known)) do
        local d = distance(word:lower(), key:lower())
        if not best or d < best_distance or (d == best_distance and key < best) then best, best_distance = key, d end
    end
    return best
end

--- Says what may have been meant: ', did you mean "x"?', or nothing if nothing is near.
-- @tparam[opt='"'] string before, after what stands around the name
function M.suggest(word, known, before, after)
    local best = M.nearest(word, known)
    if not best then return "" end
    local a, b = word:lower(), best:lower()
    local begins = #a > 1 and (b:sub(1, #a) == a or a:sub(1, #b) == b)
    if not begins and distance(a, b) > math.max(#a, #b) / 2 then return "" end
    return (", did you mean %s%s%s?"):format(before or '"', best, after or '"')
end

--- The same before all that there is: ', did you mean "x"? The axes are x and y', or ': the axes are x and y'.
-- @tparam string all "axes are x and y"
function M.suggest_of(word, known, all, before, after)
    local near = M.suggest(word, known, before, after)
    return near == "" and ": the " .. all or near .. " The " .. all
end

--- Lists the keys of a map for a message: "a, b and c".
-- @tparam table known
-- @tparam[opt="and"] string word
function M.list(known, word)
    local keys = {}
    for i, key in ipairs(tables.keys(known)) do keys[i] = tostring(key) end
    table.sort(keys)
    if #keys < 2 then return keys[1] or "none" end
    return table.concat(keys, ", ", 1, #keys - 1) .. (" %s "):format(word or "and") .. keys[#keys]
end

--- The same for what is expected: "a, b or c".
function M.choice(known) return M.list(known, "or") end

local function all_of(known)
    return (#tables.keys(known) == 1 and "option is " or "options are ") .. M.list(known)
end

--- Checks an option table and returns it, or an empty table for nil.
-- @tparam string op operation for messages, such as "tensor_zeros"
-- @param opts table or nil
-- @tparam table known map from each known key to the Lua type of its value, or to true for any type
-- @tparam[opt="opts"] string name what the table is called in messages
function M.check(op, opts, known, name)
    if opts == nil then return none end
    name = name or "opts"
    if check.is_object(opts) then
        raise("invalid_argument", op, "%s: expected a table of options, got %s", name, check.describe(opts))
    end
    check.type(op, name, opts, "table", "a table of options")
    for _, key in ipairs(tables.keys(opts)) do
        local kind, value = known[key], opts[key]
        if kind == nil then
            if tables.first(known) == nil then
                raise("invalid_argument", op, "%s: unknown option %s, there are none here", name, check.describe(key))
            elseif type(key) ~= "string" then
                raise("invalid_argument", op, "%s: unknown option %s: each is given by its name, the %s", name,
                    check.describe(key), all_of(known))
            end
            raise("invalid_argument", op, '%s: unknown option "%s"%s', name, key,
                M.suggest_of(key, known, all_of(known)))
        elseif kind ~= true and type(value) ~= kind then
            check.type(op, name .. "." .. key, value, kind)
        end
    end
    return opts
end

return M
