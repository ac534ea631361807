--- `steer run`: runs a Lua script with errors, Ctrl-C and exit status as a shell user expects.
local failures = require "steer.cli._failure"
local tables = require "steer.core.tables"
local words = require "steer.cli._args"

local M = {}

M.usage = [[
usage: steer run [--] FILE.lua [ARGUMENTS]

Runs a Lua script under LuaJIT; `require "steer"` finds Steer. The script reads its arguments from `arg` or `...`.
After -- the name of the file may begin with a dash. Standard output is flushed at the end of each line.

exit status: 0, or what the script passes to os.exit; 1 after an error, with the traceback on standard error;
2 if the file cannot be read; 130 after Ctrl-C. Ctrl-C raises an error with the code `interrupted` in the next library
call; a script that catches it goes on, and a second Ctrl-C within five seconds ends it.
]]

-- A script that makes no library call for this long after Ctrl-C is ended by the library's timer.
local EXIT_AFTER_MS = 900

-- The script's `arg`, as the interpreter sets it: the file, word `at` after `run`, at 0, its arguments after it, the
-- rest before it.
local function script_arguments(at)
    local shifted = {}
    for _, i in ipairs(tables.keys(arg)) do shifted[i - at - 1] = arg[i] end
    return shifted
end

--- Runs the script that the arguments name.
-- @tparam table args
-- @tparam[opt="run"] string command for messages
function M.run(args, command)
    command = command or "run"
    local function say(...)
        io.stderr:write("steer ", command, ": ", ...)
        io.stderr:write("\n")
    end
    local at = args[1] == "--" and 2 or 1
    local path = args[at]
    if not path or at == 1 and path:sub(1, 1) == "-" then
        return words.wrong(command, path and ("unknown option '" .. path .. "'") or "which file?")
    end
    local chunk, why = loadfile(path)
    if not chunk then
        say(why)
        return why:find("^cannot ") and 2 or 1 -- cannot open or read it; else a syntax error
    end
    local c = require "steer.core.c" -- here, so that --help needs no library
    c.check(c.C.steer_interrupt_install(EXIT_AFTER_MS))
    io.stdout:setvbuf("line")
    _G.arg = script_arguments(at)
    local ok, failure = xpcall(chunk, failures.report, unpack(args, at + 1))
    if ok then return 0 end
    io.stdout:flush()
    failure = failures.of(failure)
    say(failure.interrupted and "interrupted\n" or "", failure.text)
    return failure.interrupted and 130 or 1
end

return M
