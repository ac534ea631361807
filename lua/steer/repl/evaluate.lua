--- Compiles and runs what is typed: expressions give their value, Ctrl-C stops the work, errors get the user's part of
-- the stack.
local c = require "steer.core.c"
local error_object = require "steer.core.error"
local show = require "steer.repl.show"

local C = c.C
local M = {}

local here = debug.getinfo(1, "S")
local package_folder = here.source:match("^(@.*)repl/evaluate%.lua$") or "@steer/"

local session_folder = package_folder .. "repl/"

local function is_library(source)
    return source:sub(1, #package_folder) == package_folder
end

-- ---- Compiling -----------------------------------------------------------------------------------------------------

-- Chunk name -> text of the inputs so far, for `:source`.
M.inputs = {}
local count = 0

--- Tells whether a syntax error means that the text goes on in another line, by the rule of luajit.
local function is_open(message)
    return message:sub(-7) == "'<eof>'"
end

--- Tells whether a text is the beginning of a statement or of an expression, such as "1 +".
function M.is_open(text)
    local value, as_value = loadstring("return " .. text, "=input")
    local chunk, message = loadstring(text, "=input")
    return not (value or chunk) and (is_open(message) or is_open(as_value))
end

--- Takes a closing semicolon off; one inside a comment does not count.
local function without_semicolon(text)
    local body = text:match("^(.-)%s*;%s*$")
    if not body or loadstring(text .. "=") or loadstring("return " .. text .. "=") then return text, false end
    return body, true
end

--- Compiles an input: as an expression if it is one, else as statements whose locals are kept (see run).
-- @tparam string text
-- @tparam[opt] string from where it comes from, for messages; default which input it is
-- @return a function, whether a closing semicolon mutes the result, how many of its results come before the value's;
-- or nil and the syntax error
function M.compile(text, from)
    count = count + 1
    local name = "=" .. (from or ("<input %d>"):format(count))
    M.inputs[name] = text
    local body, muted = without_semicolon(text)
    -- Not a tail call, which would drop the chunk's frame.
    local chunk, as_value = load("return nil, " .. body, name, "t")
    if chunk then return chunk, muted, 1 end
    local message
    chunk, message = load(text, name, "t")
    if not chunk then return nil, is_open(as_value) and as_value or message end
    -- A text that ends in a return has no place for the call.
    return load(body .. "\n;(...)()", name, "t") or chunk, muted, 0
end

-- ---- Running -------------------------------------------------------------------------------------------------------

--- From now on no code but the library's is compiled: compiled loops never look whether Ctrl-C was pressed.
function M.stay_interruptible()
    local funcinfo = require("jit.util").funcinfo
    jit.attach(function(prototype) -- called for each function that is parsed, wherever it comes from
        if not is_library(funcinfo(prototype).source) then jit.off(prototype) end
    end, "bc")
end

local stopping = false

-- Runs between instructions of code that is not compiled. After Ctrl-C it raises at every instruction, so that a pcall
-- of the user's ends too; the library's own code is left alone until it calls C or returns, so that it loses nothing.
local function poll()
    if not stopping then
        if C.steer_interrupt_pending() == 0 and not c.interrupted then return end
        stopping = true
        debug.sethook(poll, "", 1)
    end
    if not is_library(debug.getinfo(2, "S").source) then
        error(error_object.new("interrupted", "repl", "stopped by Ctrl-C"), 0)
    end
end

local FRAMES = 12 -- of the stack that are shown

local function frame_text(info)
    local place = info.short_src .. ":" .. (info.currentline > 0 and info.currentline .. ":" or "")
    if info.what == "main" then return place .. " in main chunk" end
    if info.name then return ("%s in function '%s'"):format(place, info.name) end
    return info.what == "C" and place .. " in a function" or ("%s in function <%s:%d>"):format(place, info.short_src,
        info.linedefined)
end

-- Whether a frame is an input of one line itself: whoever typed it knows where it is.
local function is_typed_line(info)
    local input = info.what == "main" and M.inputs[info.source]
    return input and not input:find "\n"
end

-- The stack from `level` on, up to where the session called the user's code; none if nothing but a typed line is in it.
-- An error of the library hides the library's frames: it is about the call.
local function user_frames(level, hide_library)
    local lines, has_lua = {}, false
    for at = level + 1, level + 100 do
        local info = debug.getinfo(at, "Snlf")
        if not info or info.func == xpcall then break end
        local hidden = is_library(info.source) or info.what == "C" and #lines == 0
        local ours = info.source:sub(1, #session_folder) == session_folder
        if not (ours or hide_library and hidden) then
            lines[#lines + 1] = "\t" .. frame_text(info)
            has_lua = has_lua or info.what ~= "C" and not is_typed_line(info)
        end
        if #lines == FRAMES then
            lines[FRAMES + 1] = "\t..."
            break
        end
    end
    return has_lua and lines or {}
end

local function report(err)
    -- There is no room left to walk the stack; running out of it here, some versions of LuaJIT lose the error.
    if type(err) == "string" and err:find("stack overflow$") then return err end
    local known = error_object.is(err)
    local ok, text = pcall(type(err) == "table" and show.text or tostring, err)
    if not ok or type(text) ~= "string" then text = "an error whose tostring fails" end
    if known and err.code == "interrupted" then text = "interrupted" end
    local frames = user_frames(2, known)
    if #frames > 0 then text = text .. "\nstack traceback:\n" .. table.concat(frames, "\n") end
    return text
end

--- Runs a function so that Ctrl-C reaches what is not compiled in it; the library's code stays compiled.
-- @return true and the results, or false and the error as text
function M.run(fn, ...)
    C.steer_interrupt_clear()
    stopping, c.interrupted = false, false
    debug.sethook(poll, "", 1000)
    return (function(...)
        debug.sethook()
        C.steer_interrupt_clear() -- the library's calls between inputs are not to fail
        return ...
    end)(xpcall(fn, report, ...))
end

--- Tells whether the last run was stopped by Ctrl-C.
function M.was_interrupted()
    return stopping or c.interrupted
end

--- Makes the function that ends a chunk of statements: it copies the chunk's locals to `env`, where later inputs find
-- them.
function M.keep_locals(env)
    return function()
        local i = 1
        while true do
            local name, value = debug.getlocal(2, i)
            if not name then return end
            if name:find("^[%a_]") then rawset(env, name, value) end
            i = i + 1
        end
    end
end

return M
