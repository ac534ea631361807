--- Finds what a word can become: globals, fields, methods, file names in quotes, commands and help topics. Looks only:
-- no function of the user's runs.
local base = require "steer._tensor"
local show = require "steer.repl.show"
local terminal = require "steer.repl.terminal"

jit.off(true, true) -- it walks tables: see steer/_walk.lua

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

-- The beginning of a string that is not closed yet, or nil.
local function open_string(text)
    local quote, start, at = nil, nil, 1
    while at <= #text do
        local byte = text:sub(at, at)
        if quote and byte == "\\" then
            at = at + 1
        elseif byte == quote then
            quote = nil
        elseif not quote and (byte == '"' or byte == "'") then
            quote, start = byte, at + 1
        elseif not quote and text:find("^%-%-", at) then
            return nil
        end
        at = at + 1
    end
    return quote and text:sub(start)
end

local function command(session, text)
    local word = text:match("^:(%w*)$")
    if word then return word, sorted_matches(session.commands, word) end
    local name, argument = text:match("^:(%w+)%s+(.*)$")
    local row = session.commands[name]
    if row and row.completes == "files" then return argument, terminal.files(argument) end
    if row and row.completes == "topics" and not argument:find("%s") then
        local list = sorted_matches(require("steer.repl.docs").topics(), argument)
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
    local path = open_string(line)
    if path then return path, terminal.files(path) end
    local chain = line:match("[%a_][%w_.:]*$") or ""
    local object, separator, word = chain:match("^(.*)([.:])([%w_]*)$")
    if not object then
        if chain == "" and line:find("[%w_)%]\"'.:]$") then return "", {} end
        return chain, globals(session.env, chain)
    end
    local value = M.value(session.env, object)
    if value == nil then return word, {} end
    return word, fields(value, word, separator == ":")
end

return M
