--- Help from the doc comments of the package's own sources, read when help is asked for.
-- Topics: "add" (steer.add), "tensor" (a module), "tensor.zeros", "tensor:sum" (a method), "plan:apply", ...
local base = require "steer._tensor"
local steer = require "steer"
local terminal = require "steer.repl.terminal"

local M = {}

local folder = debug.getinfo(1, "S").source:match("^@(.*)repl/docs%.lua$")

-- ---- Reading a source file -----------------------------------------------------------------------------------------

-- What a line of code defines: owner, "." or ":", name, arguments (nil for a value).
local function definition(line)
    local owner, separator, name, arguments = line:match("^%s*function ([%w_]+)([.:])([%w_]+)%((.-)%)")
    if owner then return owner, separator, name, arguments end
    name, arguments = line:match("^%s*local function ([%w_]+)%((.-)%)")
    if not name then name, arguments = line:match("^%s*function ([%w_]+)%((.-)%)") end
    if name then return "", "", name, arguments end
    owner, name = line:match("^([%w_]+)%.([%w_]+)%s*=")
    if owner then return owner, ".", name, nil end
end

--- Reads the definitions of a Lua file.
-- @return list of {owner=, separator=, name=, arguments=, line=, doc= (list of lines, or nil)}, the file's own doc, and
-- the name that the file returns
function M.read(path)
    local file = io.open(path, "r")
    if not file then return {}, nil, nil end
    local found, block, head, returns, number = {}, nil, nil, nil, 0
    for line in file:lines() do
        number = number + 1
        local start, more = line:match("^%s*%-%-%-%s?(.*)$"), line:match("^%s*%-%-%s?(.*)$")
        if start and not start:find("^%-") then
            block = { start }
        elseif more and block then
            block[#block + 1] = more
        else
            local owner, separator, name, arguments = definition(line)
            if owner then
                local beside = line:match("%s%-%-%-%s(.*)$")
                found[#found + 1] = { owner = owner, separator = separator, name = name, arguments = arguments,
                    line = number, doc = block or beside and { beside } or nil }
            end
            if block and not head and #found == 0 then head = block end
            block = nil
            returns = line:match("^return ([%w_]+)$") or returns
        end
    end
    file:close()
    return found, head, returns
end

-- ---- The topics of the package -------------------------------------------------------------------------------------

-- The topic of a definition in a module of the package, or nil if it is not public.
local function topic_of(entry, module, returns, public)
    if entry.name:find("^_") then return nil end
    if entry.owner == "methods" then return "tensor:" .. entry.name end
    if entry.owner == "getters" then return "tensor." .. entry.name end
    local whole, fields = public.modules[module], public.fields[module] or {}
    if entry.owner == returns and entry.separator == "." then
        return whole and whole .. "." .. entry.name or fields[entry.name]
    elseif entry.separator == ":" and (whole or public.fields[module]) and entry.owner:find("^%u") then
        return entry.owner:lower() .. ":" .. entry.name
    end
end

local function public_names()
    local public = { modules = {}, fields = {} }
    for name, row in pairs(getmetatable(steer).names) do
        if row[2] then
            public.fields[row[1]] = public.fields[row[1]] or {}
            public.fields[row[1]][row[2]] = name
        else
            public.modules[row[1]] = name
        end
    end
    return public
end

local index

-- A documented definition wins over a later assignment to the same name.
local function add(topic, entry)
    if topic and not (index[topic] and index[topic].doc) then index[topic] = entry end
end

--- Gives the index: topic -> {signature=, doc=, source=, line=}.
function M.topics()
    if index then return index end
    index = {}
    local public = public_names()
    for _, path in ipairs(terminal.files(folder)) do
        local file = path:match("([%w_]+)%.lua$")
        if file and file ~= "_cdef" and file ~= "cli" then
            local found, head, returns = M.read(path)
            local module = "steer." .. file
            for _, entry in ipairs(found) do
                entry.source = "@" .. path
                add(topic_of(entry, module, returns, public), entry)
            end
            if file == "init" then add("steer", { doc = head, module = true }) end
            if public.modules[module] then add(public.modules[module], { doc = head, module = true }) end
        end
    end
    return index
end

--- Lists the public names that have no doc comment, in order.
function M.lacking()
    local names, lacking = {}, {}
    for topic in pairs(M.topics()) do names[topic] = true end
    for name, row in pairs(getmetatable(steer).names) do
        names[name] = true
        local value = steer[name]
        if not row[2] and type(value) == "table" then
            for field in pairs(value) do
                if type(field) == "string" and not field:find("^_") then names[name .. "." .. field] = true end
            end
        end
    end
    for name in pairs(base.methods) do names["tensor:" .. name] = true end
    for name in pairs(base.getters) do names["tensor." .. name] = true end
    for name in pairs(names) do
        if not (index[name] and index[name].doc) then lacking[#lacking + 1] = name end
    end
    table.sort(lacking)
    return lacking
end

-- ---- Showing a topic -----------------------------------------------------------------------------------------------

local function fill(text, first, rest, width)
    local lines, line = {}, first
    local empty = true
    for word in text:gmatch("%S+") do
        if not empty and #line + 1 + #word > width then
            lines[#lines + 1], line, empty = line, rest, true
        end
        line, empty = line .. (empty and "" or " ") .. word, false
    end
    lines[#lines + 1] = line
    return lines
end

-- A tag as a name and a text: "@tparam[opt=1] number dim of x" as "dim" and "number, default 1: of x".
local function read_tag(text)
    local tag, option, rest = text:match("^@(%a+)(%b[])%s*(.*)$")
    if not tag then tag, rest = text:match("^@(%a+)%s*(.*)$") end
    local default = option and (option:match("^%[opt=(.*)%]$") or "")
    if tag == "tparam" or tag == "param" then
        local kind = tag == "tparam" and rest:match("^%S+") or ""
        local name, what = rest:sub(#kind + 1):match("^%s*(%S+)%s*(.*)$")
        if not name then return tag, rest end
        if default then
            kind = kind .. (kind == "" and "" or ", ") .. (default == "" and "optional" or "default " .. default)
        end
        return name, kind .. (kind ~= "" and what ~= "" and ": " or "") .. what
    end
    local names = { ["return"] = "gives", treturn = "gives", raise = "raises" }
    return names[tag] or tag, rest
end

--- Lays a doc comment out: the text, then the arguments, results and errors in columns.
local function doc_lines(doc, width)
    local text, tags = { "" }, {}
    for _, line in ipairs(doc) do
        if line:find("^@") then
            tags[#tags + 1] = line
        elseif #tags > 0 then
            tags[#tags] = tags[#tags] .. " " .. line
        elseif line == "" then
            text[#text + 1] = ""
        else
            text[#text] = text[#text] .. " " .. line
        end
    end
    local lines, widest, rows = {}, 0, {}
    for _, paragraph in ipairs(text) do
        for _, line in ipairs(fill(paragraph, "  ", "  ", width)) do lines[#lines + 1] = line end
    end
    for i, tag in ipairs(tags) do
        rows[i] = { read_tag(tag) }
        widest = math.max(widest, #rows[i][1])
    end
    if #rows > 0 then lines[#lines + 1] = "" end
    for _, row in ipairs(rows) do
        local first = "  " .. row[1] .. (" "):rep(widest - #row[1] + 2)
        for _, line in ipairs(fill(row[2], first, (" "):rep(widest + 4), width)) do lines[#lines + 1] = line end
    end
    return lines
end

local function signature(topic, entry)
    local name = (topic:find(":", 1, true) or topic == "steer" or topic == "") and topic or "steer." .. topic
    if topic:find("^tensor%.") and entry.owner == "getters" then return "tensor." .. entry.name end
    return name .. (entry.arguments and "(" .. entry.arguments .. ")" or "")
end

-- Names below a topic: functions of a module, methods of a class.
local function members(topic)
    local list = {}
    for name in pairs(M.topics()) do
        local below = topic == "steer" and not name:find("[.:]") and name ~= "steer"
            or name:sub(1, #topic) == topic and name:find("^[.:]", #topic + 1)
        if below then list[#list + 1] = name end
    end
    table.sort(list)
    return list
end

local function describe(topic, entry, width)
    local lines = { signature(topic, entry) }
    if not entry.doc then
        lines[2] = "  (no description)"
    else
        for _, line in ipairs(doc_lines(entry.doc, width)) do lines[#lines + 1] = line end
    end
    local below = members(topic)
    if #below > 0 then
        lines[#lines + 1] = ""
        for _, line in ipairs(fill(table.concat(below, "  "), "  ", "  ", width)) do lines[#lines + 1] = line end
    end
    return table.concat(lines, "\n")
end

--- Describes a function by where it is defined; nil if no comment stands above it.
function M.of_function(fn, name, width)
    local info = debug.getinfo(fn, "S")
    for topic, entry in pairs(M.topics()) do
        if entry.source == info.source and entry.line == info.linedefined then return describe(topic, entry, width) end
    end
    if info.source:sub(1, 1) ~= "@" then return nil end
    for _, entry in ipairs((M.read(info.source:sub(2)))) do
        if entry.line == info.linedefined and entry.doc then
            local lines = doc_lines(entry.doc, width)
            table.insert(lines, 1, name .. "(" .. (entry.arguments or "") .. ")")
            return table.concat(lines, "\n")
        end
    end
    return nil
end

--- Describes a topic; nil if there is none of that name. A bare name finds methods and fields too.
function M.describe(topic, width)
    local all = M.topics()
    topic = topic:gsub("%(%)$", "")
    topic = topic == "steer" and topic or topic:gsub("^steer%.", "")
    if all[topic] then return describe(topic, all[topic], width) end
    local found = {}
    for name, entry in pairs(all) do
        if name:match("[^.:]+$") == topic then found[#found + 1] = { name, entry } end
    end
    table.sort(found, function(a, b) return a[1] < b[1] end)
    for i, pair in ipairs(found) do found[i] = describe(pair[1], pair[2], width) end
    return #found > 0 and table.concat(found, "\n\n") or nil
end

return M
