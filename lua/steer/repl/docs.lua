--- Help from the doc comments of the package's own sources, read when help is asked for.
-- Topics: "add" (steer.add), "tensor" (a module), "tensor.zeros", "tensor:sum" (a method), "plan:apply", ...
local base = require "steer.tensor.object"
local layout = require "steer.repl.layout"
local steer = require "steer"
local terminal = require "steer.repl.terminal"

jit.off(true, true) -- it walks tables: see steer/core/tables.lua

local M = {}

local folder = debug.getinfo(1, "S").source:match("^@(.*)repl/docs%.lua$")

-- ---- Reading a source file -----------------------------------------------------------------------------------------

-- What a line of code defines: owner, "." or ":", name, arguments (nil for a value).
local function definition(line)
    local owner, separator, name, arguments = line:match("^function ([%w_]+)([.:])([%w_]+)%((.-)%)")
    if owner then return owner, separator, name, arguments end
    name, arguments = line:match("^local function ([%w_]+)%((.-)%)")
    if not name then name, arguments = line:match("^function ([%w_]+)%((.-)%)") end
    if name then return "", "", name, arguments end
    owner, name = line:match("^([%w_]+)%.([%w_]+)%s*=")
    if owner then return owner, ".", name, nil end
end

--- Reads the definitions of a Lua file.
-- @return list of {owner=, separator=, name=, arguments=, line=, last=, doc= (list of lines, or nil)}, the file's own
-- doc, and the name that the file returns
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
                    line = number, last = line:find("%send$") and number, doc = block or beside and { beside } or nil }
            elseif line:find("^end") and #found > 0 then
                found[#found].last = found[#found].last or number
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

-- Methods of models that are for the modules beside theirs.
local internal = require("steer.model").Model.__internal

-- The topic of a definition in a module of the package, or nil if it is not public.
local function topic_of(entry, module, returns, public)
    if entry.name:find("^_") or entry.owner == "Model" and internal[entry.name] then return nil end
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
local methods = {} -- function -> its topic, where no source says so

-- A documented definition wins over a later assignment to the same name.
local function add(topic, entry)
    if topic and not (index[topic] and index[topic].doc) then index[topic] = entry end
end

-- Path -> module of the sources that hold public names or the methods of tensors.
local function sources(public)
    local list = {}
    for _, place in ipairs { "", "tensor/" } do
        for _, path in ipairs(terminal.files(folder .. place)) do
            local file = path:match("([%w_]+)%.lua$")
            if file and file ~= "cli" then
                list[path] = "steer." .. place:gsub("/", ".") .. (file == "init" and "" or file)
            end
        end
    end
    for _, modules in pairs { public.modules, public.fields } do
        for module in pairs(modules) do
            local path = package.searchpath(module, package.path)
            if path then list[path] = module end
        end
    end
    return list
end

-- The definition of a function, found by where it is; its source may be any Lua file.
local function definition_of(fn)
    local info = debug.getinfo(fn, "S")
    local path = info.source:match("^@(.*)")
    for _, entry in ipairs(path and (M.read(path)) or {}) do
        if entry.line == info.linedefined then
            entry.source = info.source
            return entry
        end
    end
end

-- Names that exist when the modules are loaded, but that no line of their sources defines with a comment.
local function add_values(name, value)
    if type(value) == "function" then
        add(name, definition_of(value) or { name = name })
    elseif index[name] == nil then
        add(name, { name = name })
    end
end

-- The arguments and the comment of a function of another module, as a method: without its first argument, the model.
local function as_method(entry)
    local doc = {}
    for _, line in ipairs(entry.doc) do
        if not line:find("^@param lm ") then doc[#doc + 1] = line end
    end
    return { name = entry.name, arguments = entry.arguments:gsub("^[^,]+,?%s*", ""), doc = doc, line = entry.line,
        last = entry.last, source = entry.source }
end

-- Methods of models stand in modules of their own, and so do the classes of what they give.
local function add_methods_elsewhere()
    local model = require("steer.model").Model
    for method, row in pairs(model.__elsewhere) do
        local path = package.searchpath(row[1], package.path)
        local found, _, returns = M.read(path)
        for _, entry in ipairs(found) do
            entry.source = "@" .. path
            if entry.owner == returns and entry.name == row[2] then
                add("model:" .. method, as_method(entry))
                methods[model[method]] = "model:" .. method
            elseif entry.separator == ":" and entry.doc and not entry.name:find "^_" then
                add(entry.owner:lower() .. ":" .. entry.name, entry)
            end
        end
    end
end

local function add_loaded()
    for name, row in pairs(getmetatable(steer).names) do
        local ok, value = pcall(function() return steer[name] end)
        if ok and not (index[name] and index[name].doc) then add_values(name, value) end
        if ok and not row[2] and type(value) == "table" then
            for field, item in pairs(value) do
                local topic = type(field) == "string" and not field:find("^_") and name .. "." .. field
                if topic and not (index[topic] and index[topic].doc) then add_values(topic, item) end
            end
        end
    end
    for name in pairs(base.methods) do add("tensor:" .. name, { name = name }) end
    for name in pairs(base.getters) do add("tensor." .. name, { name = name }) end
end

-- What a file's own comment says after its first paragraph, or nil.
local function second_part(head)
    for i, line in ipairs(head or {}) do
        if line == "" then return { unpack(head, i + 1) } end
    end
end

--- Gives the index: topic -> definition (see read); `more` stands in the head of the file, for the function after which
-- it is named.
function M.topics()
    if index then return index end
    index = {}
    local public = public_names()
    for path, module in pairs(sources(public)) do
        local found, head, returns = M.read(path)
        for _, entry in ipairs(found) do
            entry.source = "@" .. path
            if entry.name == module:match("[^.]+$") then entry.more = second_part(head) end
            add(topic_of(entry, module, returns, public), entry)
        end
        if module == "steer." then add("steer", { doc = head }) end
        if public.modules[module] then add(public.modules[module], { doc = head }) end
    end
    add_methods_elsewhere()
    add_loaded()
    return index
end

--- Gives the definition of a topic, nil if there is none; "steer." before it may be left out.
function M.entry(topic)
    local all = M.topics()
    return all[topic] or all[topic:gsub("^steer%.", "")]
end

--- Lists the public names that have no doc comment, in order.
function M.lacking()
    local lacking = {}
    for topic, entry in pairs(M.topics()) do
        if not entry.doc then lacking[#lacking + 1] = topic end
    end
    table.sort(lacking)
    return lacking
end

-- ---- Showing a topic -----------------------------------------------------------------------------------------------

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

-- Adds a line of a comment to its paragraphs {indent=, text=}. An indented line is an item of a list, and deeper ones
-- go on with it; other lines make one paragraph until a blank one.
local function add_line(paragraphs, line)
    local indent, last = #line:match("^ *"), paragraphs[#paragraphs]
    local goes_on = last and line ~= "" and (last.indent > 0 and indent > last.indent or indent + last.indent == 0)
    if goes_on then
        last.text = last.text .. " " .. line
    else
        paragraphs[#paragraphs + 1] = { indent = indent, text = line }
    end
end

local function append_filled(lines, paragraph, first, rest, width)
    if paragraph.indent > 0 then first, rest = rest .. "  ", rest .. "    " end
    if not paragraph.text:find("%S") and not first:find("%S") then return end
    for _, line in ipairs(layout.fill(paragraph.text, first, rest, width)) do lines[#lines + 1] = line end
end

--- Lays a doc comment out: the text, then the arguments, results and errors in columns.
local function doc_lines(doc, width)
    local text, tags, lines, widest = {}, {}, {}, 0
    for _, line in ipairs(doc) do
        if line:find("^@") then tags[#tags + 1] = {} end
        add_line(tags[#tags] or text, line)
    end
    for _, paragraph in ipairs(text) do append_filled(lines, paragraph, "  ", "  ", width) end
    for _, tag in ipairs(tags) do
        tag.name, tag[1].text = read_tag(tag[1].text)
        widest = math.max(widest, #tag.name)
    end
    if #tags > 0 then lines[#lines + 1] = "" end
    for _, tag in ipairs(tags) do
        local first, rest = "  " .. tag.name .. (" "):rep(widest - #tag.name + 2), (" "):rep(widest + 4)
        for i, paragraph in ipairs(tag) do append_filled(lines, paragraph, i == 1 and first or rest, rest, width) end
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

local function append_members(lines, topic, width)
    for _, line in ipairs(layout.columns(members(topic), width - 2, math.huge)) do lines[#lines + 1] = "  " .. line end
end

local function describe(topic, entry, width)
    local lines = { signature(topic, entry) }
    if not entry.doc then
        lines[2] = "  (no description)"
    else
        for _, line in ipairs(doc_lines(entry.doc, width)) do lines[#lines + 1] = line end
    end
    if entry.more then
        lines[#lines + 1] = ""
        for _, line in ipairs(doc_lines(entry.more, width)) do lines[#lines + 1] = line end
    end
    if #members(topic) > 0 then
        lines[#lines + 1] = ""
        append_members(lines, topic, width)
    end
    return table.concat(lines, "\n")
end

--- Gives the definition of a method that another module has, nil for any other function.
function M.method(fn)
    local topics = M.topics()
    return methods[fn] and topics[methods[fn]]
end

--- Describes a function by the comment above its definition; nil if there is none.
function M.of_function(fn, name, width)
    local topics = M.topics()
    if methods[fn] then return describe(methods[fn], M.method(fn), width) end
    local entry = definition_of(fn)
    if not (entry and entry.doc) then return nil end
    for topic, known in pairs(topics) do
        if known.source == entry.source and known.line == entry.line then return describe(topic, known, width) end
    end
    local lines = doc_lines(entry.doc, width)
    table.insert(lines, 1, name .. "(" .. (entry.arguments or "") .. ")")
    return table.concat(lines, "\n")
end

--- Lists the topics whose comments hold a word, in order.
function M.mentions(word)
    local list, pattern = {}, "%f[%w_]" .. word:gsub("%W", "%%%0") .. "%f[^%w_]"
    for topic, entry in pairs(M.topics()) do
        local text = table.concat(entry.doc or {}, "\n") .. "\n" .. table.concat(entry.more or {}, "\n")
        if text:find(pattern) then list[#list + 1] = topic end
    end
    table.sort(list)
    return list
end

--- Describes a topic; nil if there is none of that name. A name whose owner is not known finds the methods, fields and
-- classes of that name.
function M.describe(topic, width)
    topic = topic:gsub("%(%)$", "")
    local bare = topic == "steer" and topic or topic:gsub("^steer%.", "")
    if bare == "lm" then bare = "model" end -- as it is called in all examples
    local entry = M.entry(bare)
    if entry then return describe(bare, entry, width) end
    local found = {}
    local last = bare:match(":([^.:]+)$") or bare -- of a method of what is not known
    for name, same_name in pairs(M.topics()) do
        if name:match("[^.:]+$") == last then found[#found + 1] = { name, same_name } end
    end
    table.sort(found, function(a, b) return a[1] < b[1] end)
    for i, pair in ipairs(found) do found[i] = describe(pair[1], pair[2], width) end
    if #members(bare) > 0 then
        local lines = { bare }
        append_members(lines, bare, width)
        found[#found + 1] = table.concat(lines, "\n")
    end
    return #found > 0 and table.concat(found, "\n\n") or nil
end

return M
