--- Arguments of a command: options from a table, the rest in order.
local suggest = require("steer.core.options").suggest
local tables = require "steer.core.tables"

local M = {}

local readers = {
    text = function(text) return text end,
    number = function(text) return tonumber(text), "a number" end,
    list = function(text) return text end,
}

-- What a command writes has one name in all of them, whichever its table lists.
local OUTPUT = { "-o", "--output", "--out" }

local function row_of(known, word)
    if known[word] then return known[word] end
    for _, name in ipairs(OUTPUT) do
        if word == name then return known["-o"] or known["--output"] or known["--out"] end
    end
end

local function unknown(word, known)
    local names = { output = row_of(known, "--output") and true }
    for _, name in ipairs(tables.keys(known)) do
        if #name > 2 then names[name:sub(3)] = true end -- not of one letter, which is near to everything
    end
    return ("unknown option '%s'%s"):format(word, suggest(word:gsub("^%-+", ""), names, "'--", "'"))
end

-- The value of an option: after its =, or the next argument.
local function read_value(kind, name, given, following)
    local text = given or following
    if not text then return nil, name .. ": a value is missing" end
    local value, expected = readers[kind](text)
    if value == nil then return nil, ("%s: expected %s, got '%s'"):format(name, expected, text) end
    return value
end

--- Says what is wrong with how a command was called.
-- @tparam string command
-- @tparam string format of string.format, which the rest are for
-- @treturn number the exit status
function M.wrong(command, format, ...)
    local message = select("#", ...) > 0 and format:format(...) or format
    io.stderr:write(("steer %s: %s\nsteer %s --help says more\n"):format(command, message, command))
    return 2
end

--- Reads arguments. After "--" all words are no options, whatever they begin with; "-o", "--output" and "--out" are one
-- option.
-- @tparam table args list of words
-- @tparam table known option ("--axis", "-a") -> {key, kind}; kinds are "flag", "text", "number" and "list" (may be
-- given again)
-- @treturn table values by key, and the other words by number; or nil and what is wrong
function M.parse(args, known)
    local out, at, ended = {}, 1, false
    while at <= #args do
        local word = args[at]
        local name, given = word:match "^(%-%-[^=]+)=(.*)$"
        local row = not ended and row_of(known, name or word)
        if word == "--" and not ended then
            ended = true
        elseif row and row[2] == "flag" then
            if given then return nil, name .. ": it takes no value" end
            out[row[1]] = true
        elseif row then
            local value, why = read_value(row[2], name or word, given, args[at + 1])
            if value == nil then return nil, why end
            if not given then at = at + 1 end
            if row[2] == "list" then
                out[row[1]] = out[row[1]] or {}
                table.insert(out[row[1]], value)
            else
                out[row[1]] = value
            end
        elseif not ended and word:sub(1, 1) == "-" and word ~= "-" then
            return nil, unknown(word, known)
        else
            out[#out + 1] = word
        end
        at = at + 1
    end
    return out
end

--- Splits "a,b" texts into one list of words; nil stays nil.
function M.split(texts)
    if not texts then return nil end
    local list = {}
    for _, text in ipairs(texts) do
        for word in text:gmatch "[^,]+" do list[#list + 1] = word end
    end
    return list
end

--- Reads filters: "hidden=1024,2048" or "hidden=[1024,2048]".
-- @tparam table texts list of texts, or nil
-- @treturn table axis -> list of values as text; or nil and what is wrong
function M.filters(texts)
    local filters = {}
    for _, text in ipairs(texts or {}) do
        local name, values = text:match "^([^=]+)=(.+)$"
        if not name then return nil, ("--filter: '%s', expected AXIS=VALUE"):format(text) end
        filters[name] = filters[name] or {}
        for value in (values:match "^%[(.*)%]$" or values):gmatch "[^,]+" do table.insert(filters[name], value) end
    end
    return filters
end

return M
