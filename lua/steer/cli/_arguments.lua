--- Reads the arguments of a command: options with a value, flags, and words.
local options = require "steer._options"

local M = {}

--- Reads arguments. `--name value` and `--name=value` are the same; `--` ends the options.
-- @tparam table args
-- @tparam table known map from option ("--x") to "value", "list" (may be given again; a list of values) or "flag"
-- @treturn table values by option, words as a list; or nil and what is wrong
function M.parse(args, known)
    local given, i = {}, 1
    while i <= #args do
        local word = args[i]
        local name, value = word:match("^(%-%-[%w%-]+)=(.*)$")
        name = name or word
        if word == "--" then
            for j = i + 1, #args do given[#given + 1] = args[j] end
            break
        elseif name:sub(1, 1) ~= "-" or name == "-" then
            given[#given + 1] = word
        elseif not known[name] then
            return nil, ("unknown option '%s', did you mean '%s'?"):format(name, options.nearest(name, known))
        elseif known[name] == "flag" then
            if value then return nil, name .. ": it takes no value" end
            given[name] = true
        else
            if not value then
                i = i + 1
                value = args[i]
            end
            if not value then return nil, name .. ": its value is missing" end
            if known[name] == "list" then
                given[name] = given[name] or {}
                table.insert(given[name], value)
            elseif given[name] then
                return nil, name .. ": it is given twice"
            else
                given[name] = value
            end
        end
        i = i + 1
    end
    return given
end

--- Turns "a=1,2" texts into a map from name to a list of values; or nil and what is wrong.
function M.filters(list)
    local filters = {}
    for _, text in ipairs(list or {}) do
        local name, values = text:match("^([^=]+)=(.+)$")
        if not name then return nil, ("--filter: '%s', expected AXIS=VALUE"):format(text) end
        filters[name] = filters[name] or {}
        for value in values:gmatch("[^,]+") do table.insert(filters[name], value) end
    end
    return filters
end

--- Splits "a,b" texts into one list; nil stays nil.
function M.split(text)
    if not text then return nil end
    local list = {}
    for _, part in ipairs(type(text) == "table" and text or { text }) do
        for word in part:gmatch("[^,]+") do list[#list + 1] = word end
    end
    return list
end

--- Says on standard error what is wrong with the usage; gives the exit status 2.
function M.wrong(command, message, usage)
    io.stderr:write("steer ", command, ": ", message, "\n", usage)
    return 2
end

return M
