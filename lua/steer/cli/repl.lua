--- `steer repl`: the interactive session, also what `steer` without a command starts.
local words = require "steer.cli._args"

local M = {}

M.usage = [[
usage: steer [repl]                      an interactive session
       steer [repl] -i FILE [ARGUMENTS]  runs a script, then stays in a session with its globals
       steer [repl] -e TEXT              runs Lua text, prints the value of an expression, and ends

`steer` is there without a require. Expressions print themselves, :help lists the commands. Inputs from a pipe run as
if they were typed, and the first error ends them. Earlier inputs are kept in ~/.local/state/steer/history
($XDG_STATE_HOME). NO_COLOR and TERM=dumb are respected.

exit status: 0; 1 after an error with -e or from a pipe; 2 for wrong usage or a FILE that cannot be read; 130 if
what runs with -e or from a pipe is interrupted.
]]

local function wrong(message) return words.wrong("repl", message) end

local function run_text(text, extra)
    if not text then return wrong "-e: which text?" end
    if extra then return wrong("unexpected argument '" .. extra .. "'") end
    local session = require("steer.repl").new "(command line)"
    if session:input(text) then return 0 end
    return require("steer.repl.evaluate").was_interrupted() and 130 or 1
end

local function run_script(path, ...)
    if not path then return wrong "-i: which file?" end
    local script = { [0] = path, ... }
    _G.arg = script
    local session = require("steer.repl").new()
    if not session:script(path, ...) then return 2 end
    return session:loop()
end

function M.run(args)
    local option = args[1]
    if option == "-e" then return run_text(args[2], args[3]) end
    if option == "-i" then return run_script(unpack(args, 2)) end
    if option then return wrong("unknown argument '" .. option .. "'") end
    return require("steer.repl").new():loop()
end

return M
