--- Helpers of the file specs: a folder that goes away, raw bytes, and calls that must fail.
local steer_error = require "steer.core.error"

local M = {}

local function output(command)
    local pipe = io.popen(command)
    local text = pipe:read("*a")
    pipe:close()
    return text
end

-- The temporary folder, M.folder, is made when it is asked for; what comes after done() has another one.
setmetatable(M, { __index = function(_, key)
    if key ~= "folder" then return nil end
    M.folder = output("mktemp -d"):gsub("%s+$", "")
    return M.folder
end })

--- Removes the temporary folder.
function M.done()
    if rawget(M, "folder") then os.execute("rm -rf '" .. M.folder .. "'") end
    M.folder = nil
end

function M.path(name) return M.folder .. "/" .. name end

function M.put(name, bytes)
    local path = M.path(name)
    local file = assert(io.open(path, "wb"))
    assert(file:write(bytes))
    file:close()
    return path
end

function M.get(path)
    local file = assert(io.open(path, "rb"))
    local bytes = file:read("*a")
    file:close()
    return bytes
end

--- Names in the temporary folder.
function M.listing() return output("ls -A '" .. M.folder .. "'") end

--- Asserts that fn(...) raises an error of this code whose message has this text in it.
function M.fails(code, text, fn, ...)
    local ok, problem = pcall(fn, ...)
    assert(not ok, "expected an error of code " .. code)
    assert(steer_error.is(problem), "not an error of the library: " .. tostring(problem))
    assert(problem.code == code and problem.message:find(text, 1, true),
        ("expected %s with %q, got %s"):format(code, text, tostring(problem)))
    return problem
end

--- Output of a Python script given as text, or nil where Debian's Python with NumPy is missing.
function M.python(script, ...)
    if output("/usr/bin/python3 -c 'import numpy; print(1)' 2>/dev/null") ~= "1\n" then return nil end
    local words = { "/usr/bin/python3", "'" .. M.put("script.py", script) .. "'" }
    for i = 1, select("#", ...) do words[#words + 1] = "'" .. select(i, ...) .. "'" end
    return output(table.concat(words, " ") .. " 2>&1")
end

--- Runs Lua text in a process of its own, after some shell commands; gives its output.
function M.script(text, before)
    local path = M.put("script.lua", text)
    return output(("sh -c \"%s exec luajit '%s'\" 2>&1"):format(before or "", path))
end

--- Little-endian integer of n bytes.
function M.int(value, n)
    local bytes = {}
    for i = 1, n do
        bytes[i] = string.char(value % 256)
        value = math.floor(value / 256)
    end
    return table.concat(bytes)
end

return M
