--- The code that measured a sweep's cases, as hashes: its file, and the script files that were loaded since it began.
--
-- A line's `code` is {file=hash, required={name=hash}}: modules by the name that was required, files of dofile and
-- loadfile by their path. A module that a case loads late is in the lines from that case on, so that lines of the same
-- code differ in which files they name, but never in the hash of one.
local record = require "steer.record"
local tables = require "steer.core.tables"

local M = {}

local function hash_file(path)
    local handle = path and io.open(path, "rb")
    local text = handle and handle:read "*a" -- nil of a folder
    if handle then handle:close() end
    return text and record.hash(text) or nil
end

-- Steer's own modules are in the version.
local function is_own(name)
    return name == "steer" or name:find "^steer%." or name == "dkjson"
end

local function module_names()
    local names = {}
    for _, name in ipairs(tables.keys(package.loaded)) do names[name] = true end
    return names
end

local before = module_names() -- modules that were there before the sweep's file
local file, loaded = nil, {} -- hash of the sweep's file, where a command runs one; hashes of what was loaded since

local function note_modules()
    for _, name in ipairs(tables.keys(package.loaded)) do
        if type(name) == "string" and not before[name] then
            before[name] = true
            loaded[name] = not is_own(name) and hash_file(package.searchpath(name, package.path)) or nil
        end
    end
end

--- Begins with a sweep's file, which is about to run: what it loads from here on is its code.
function M.begin(path)
    file, loaded, before = hash_file(path), {}, module_names()
    for _, name in ipairs { "loadfile", "dofile" } do
        local original = _G[name]
        rawset(_G, name, function(script, ...)
            if type(script) == "string" then loaded[script] = hash_file(script) end
            return original(script, ...)
        end)
    end
end

--- Gives the hash of the file that a function is written in.
function M.of(fn)
    local source = debug.getinfo(fn, "S").source
    return source:sub(1, 1) == "@" and hash_file(source:sub(2)) or record.hash(source)
end

--- Gives the code up to now.
-- @tparam string of hash of the sweep's file, where no command has begun with one
function M.current(of)
    note_modules()
    local required
    for _, name in ipairs(tables.keys(loaded)) do
        required = required or {}
        required[name] = loaded[name]
    end
    return { file = file or of, required = required }
end

--- Says what has changed since a line was measured, or nil.
-- @param line of a results file
-- @tparam table now what M.current gives
function M.changed(line, now)
    local code = line.code
    if not code then return "it does not say by which" end
    if code.file ~= now.file then return "the sweep's file has changed" end
    local required = now.required or {}
    for _, name in ipairs(tables.keys(code.required or {})) do
        -- What a case loads late is not there yet.
        local hash = required[name] or hash_file(package.searchpath(name, package.path)) or hash_file(name)
        if hash ~= code.required[name] then return name .. (hash and " has changed" or " is gone") end
    end
    return nil
end

--- Finds two lines that were measured by different code.
-- @tparam table lines
-- @treturn what differs, and the two lines; or nil
function M.difference(lines)
    local first, seen = lines[1], {}
    for _, line in ipairs(lines) do
        if (line.code == nil) ~= (first.code == nil) then return "the code, which one does not say", first, line end
        if line.code and line.code.file ~= first.code.file then return "the sweep's file", first, line end
        for _, name in ipairs(tables.keys(line.code and line.code.required or {})) do
            local other = seen[name]
            if other and other.code.required[name] ~= line.code.required[name] then return name, other, line end
            seen[name] = other or line
        end
    end
    return nil
end

return M
