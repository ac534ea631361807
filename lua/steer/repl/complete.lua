--- Finds what a word can become: globals, fields, methods, options of calls and their values, keys of tables, file
-- names in quotes, commands and help topics. Looks only: no function of the user's runs.
local base = require "steer.tensor.object"
local context = require "steer.repl.context"
local options = require "steer.repl.options"
local show = require "steer.repl.show"
local steer = require "steer"
local terminal = require "steer.repl.terminal"

jit.off(true, true) -- it walks tables: see steer/core/tables.lua

local M = {}

-- ---- Looking into values -------------------------------------------------------------------------------------------

local raw_meta = debug.getmetatable

-- The tables that indexing a value looks into, first one first. A class of the package whose __index is a function says
-- where its methods are.
local function places(value)
    local list, seen = {}, {}
    local follow
    local function follow_meta(meta)
        local index = rawget(meta, "__index")
        if type(index) == "function" then index = rawget(meta, "__methods") end
        follow(index)
    end
    follow = function(at)
        if type(at) ~= "table" or seen[at] then return end
        seen[at] = true
        list[#list + 1] = at
        local meta = raw_meta(at)
        if meta then follow_meta(meta) end
    end
    if type(value) == "table" then
        follow(value)
    elseif base.is(value) then
        follow(base.methods)
        follow(base.getters)
    elseif type(value) ~= "cdata" then
        local meta = raw_meta(value)
        if type(meta) == "table" then follow_meta(meta) end
    end
    return list
end

-- The package loads its parts, and a model its tokenizer, when they are first used: the names are known before.
local function lazy_names(value)
    local meta = type(value) == "table" and raw_meta(value)
    return meta and (rawget(meta, "names") or rawget(meta, "__names")) or {}
end

--- Looks up a field without calling a function of the user's.
function M.field(value, name)
    for _, place in ipairs(places(value)) do
        local found = rawget(place, name)
        if found ~= nil then return found end
    end
    if lazy_names(value)[name] then
        local ok, found = pcall(function() return value[name] end)
        return ok and found or nil
    end
    return nil
end

--- Looks up a dotted name such as "steer.tensor.zeros" or "t:sum" in `env`.
function M.value(env, path)
    if not path:find("^[%a_][%w_]*") or path:find("[.:]$") then return nil end
    local value = env
    for name in path:gmatch("[^.:]+") do
        value = M.field(value, name)
        if value == nil then return nil end
    end
    return value
end

--- Gives the help topic of an object's class, nil if it has none.
function M.class(value)
    if base.is(value) then return "tensor" end
    local meta = type(value) == "table" and raw_meta(value)
    return meta and rawget(meta, "__topic") or nil
end

-- ---- Candidates ----------------------------------------------------------------------------------------------------

local function sorted_matches(names, prefix)
    local list = {}
    for name in pairs(names) do
        if type(name) == "string" and name:sub(1, #prefix) == prefix then list[#list + 1] = name end
    end
    table.sort(list)
    return list
end

local function fields(value, prefix, methods_only)
    local names = {}
    for _, place in ipairs(places(value)) do
        local internal = rawget(place, "__internal") or {}
        for name, field in next, place do
            local fits = type(name) == "string" and name:find("^[%a_][%w_]*$") and not show.keywords[name]
            local hidden = internal[name]
                or name ~= prefix and type(name) == "string" and name:find("^_") and prefix == ""
            if fits and not hidden and (not methods_only or type(field) == "function") then names[name] = true end
        end
    end
    if methods_only and base.is(value) then
        for name in pairs(base.getters) do names[name] = nil end
    end
    for name in pairs(methods_only and {} or lazy_names(value)) do names[name] = true end
    return sorted_matches(names, prefix)
end

local function globals(env, prefix)
    local names = {}
    for name in pairs(show.keywords) do names[name] = true end
    for _, name in ipairs(fields(env, prefix)) do names[name] = true end
    return sorted_matches(names, prefix)
end

-- ---- Options: keys of the tables that calls of the package take, and their values ---------------------------------

-- The topic of a call by what it calls, as far as that is known, else by its last name.
local function topic_of(env, chain)
    local object, separator, name = chain:match "^(.*)([.:])([%w_]+)$"
    local value = M.value(env, chain)
    if type(value) == "function" then
        for topic in pairs(options.CALLS) do
            if not topic:find ":" and M.value({ steer = steer }, "steer." .. topic) == value then return topic end
        end
    end
    local owner = object and M.value(env, object)
    if owner ~= nil then return (M.class(owner) or "") .. separator .. name end
    for topic in pairs(options.CALLS) do
        if value == nil and topic:match "[^.:]+$" == (name or chain) then return topic end
    end
end

-- The options of the table that the cursor is in, and that table; nil where it is none of a call's.
local function options_at(env, stack)
    local first = #stack
    while stack[first] and not stack[first].call do first = first - 1 end
    local call = stack[first]
    local arguments = call and options.CALLS[topic_of(env, call.call)]
    local set = arguments and arguments[call.bracket == "{" and 1 or call.index]
    for at = call and call.bracket == "{" and first or first + 1, #stack do
        local frame = stack[at]
        if not set or frame.bracket ~= "{" then return nil end
        set = options.set(set)
        if at == #stack then return set, frame end
        if frame.key then
            local row = set.by_name[frame.key]
            set = row and row.set
        else
            set = set.items
        end
    end
end

-- Names of options that are not given yet, or values of the one that is being given, as one writes them.
local function option_words(set, frame)
    local words, row = {}, frame.key and set.by_name[frame.key]
    if not frame.key then
        for _, option in ipairs(set) do words[option.name] = not frame.given[option.name] or nil end
    end
    for _, value in ipairs(row and row.values or {}) do
        words[type(value) == "string" and ('"%s"'):format(value) or tostring(value)] = true
    end
    return words
end

-- Keys of a table as they stand in brackets; in an open string without the quotes.
local function keys_in_brackets(value, quoted)
    local words = {}
    for key in next, type(value) == "table" and value or {} do
        if type(key) == "string" then words[quoted and ("%q"):format(key) or key] = true end
        if type(key) == "number" and quoted then words[("%.14g"):format(key)] = true end
    end
    return words
end

-- What can stand in a string that is open.
local function in_string(env, stack, text)
    local frame = stack[#stack]
    if frame and frame.indexed then return sorted_matches(keys_in_brackets(M.value(env, frame.indexed)), text) end
    local set, at = options_at(env, stack)
    local row, words = set and at.key and set.by_name[at.key], {}
    if not row or row.kind == "path" then return terminal.files(text) end
    for _, value in ipairs(row.values or {}) do words[tostring(value)] = true end
    return sorted_matches(words, text)
end

-- ---- Completing ----------------------------------------------------------------------------------------------------

local function command(session, text)
    local word = text:match("^:(%w*)$")
    if word then return word, sorted_matches(session.commands, word) end
    local name, argument = text:match("^:(%w+)%s+(.*)$")
    local row = session.commands[name]
    if row and row.completes == "files" then return argument, terminal.files(argument) end
    if row and row.completes == "topics" and not argument:find("%s") then
        local names = options.names()
        for topic in pairs(require("steer.repl.docs").topics()) do names[topic] = true end
        local list = sorted_matches(names, argument)
        if #list > 0 then return argument, list end
    end
end

--- Completes the end of a text.
-- @tparam table session its env and commands
-- @tparam string before what stands before the cursor
-- @return the word that is completed, and the list of what it can become
function M.candidates(session, before)
    local line = before:match("[^\n]*$")
    if line == before and before:find("^:") then
        local word, list = command(session, before)
        if word then return word, list end
    end
    local env = session.env
    local stack, inside = context.read(before:gsub("^:%w+%s", ""))
    if inside.comment then return "", {} end
    if inside.string then return inside.string, in_string(env, stack, inside.string) end
    local chain, frame = line:match("[%a_][%w_.:]*$") or "", stack[#stack]
    if chain == "" and line:find("[%w_)%]\"'.:]$") then return "", {} end
    if frame and not chain:find "[.:]" then
        local set, at = options_at(env, stack)
        local words = set and option_words(set, at)
            or frame.indexed and keys_in_brackets(M.value(env, frame.indexed), true) or {}
        local list = sorted_matches(words, chain)
        if #list > 0 then return chain, list end
    end
    local object, separator, word = chain:match("^(.*)([.:])([%w_]*)$")
    if not object then return chain, globals(env, chain) end
    local value = M.value(env, object)
    if value == nil then return word, {} end
    return word, fields(value, word, separator == ":")
end

return M
