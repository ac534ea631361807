--- cli.lua: the `steer` command. Started by scripts/steer; finds the command that was asked for and runs it.

-- Until a command asks for more, Ctrl-C ends the process as it ends others: the handler of luajit would raise an error
-- in whatever is being loaded. So does a reader that is gone: whoever started the process may have ignored that signal.
local ffi = require "ffi"
ffi.cdef "intptr_t steer_cli_signal(int, intptr_t) __asm__(\"signal\");"
local SIGINT, SIGPIPE, SIG_DFL = 2, 13, 0 -- of Linux, the same on x86-64 and arm64
ffi.C.steer_cli_signal(SIGINT, SIG_DFL)
ffi.C.steer_cli_signal(SIGPIPE, SIG_DFL)

-- name, module, what it does. A module gives `usage` (text) and `run(args)`, which returns the exit status:
-- 0 fine, 1 failed, 2 wrong usage, 130 interrupted; what else there is, its usage says.
local commands = {
    { "repl", "steer.cli.repl", "start an interactive session; so does steer alone (also -e TEXT, -i FILE)" },
    { "run", "steer.cli.run", "run a Lua script" },
    { "generate", "steer.cli.generate", "generate text with a model, steered or not" },
    { "chat", "steer.cli.chat", "talk with a model that is steered between the turns" },
    { "bench", "steer.cli.bench", "run a benchmark" },
    { "sweep", "steer.cli.sweep", "run the cases of a sweep, one line of results for each" },
    { "merge", "steer.cli.merge", "put the results of a sweep's shards into one file" },
    { "compare", "steer.cli.compare", "say which cases of a sweep became faster or slower" },
    { "plot", "steer.cli.plot", "draw the results of a sweep" },
    { "report", "steer.cli.report", "write the results of a sweep as a web page" },
    { "info", "steer.cli.info", "say which backends, devices and libraries there are" },
}

local function help()
    local lines = { "usage: steer COMMAND [ARGUMENTS]", "" }
    for _, command in ipairs(commands) do
        lines[#lines + 1] = ("  %-9s %s"):format(command[1], command[3])
    end
    lines[#lines + 1] = ""
    lines[#lines + 1] = "steer COMMAND --help says more; steer --version prints the version."
    return table.concat(lines, "\n") .. "\n"
end

local function is_help(word)
    return word == "--help" or word == "-h"
end

local function unknown(word)
    local names = { help = true, version = true }
    for _, command in ipairs(commands) do names[command[1]] = true end
    local near = require("steer.core.options").suggest(word:gsub("^%-+", ""), names, "'", "'")
    io.stderr:write(("steer: unknown command '%s'%s\nsteer --help lists the commands.\n"):format(word, near))
    return 2
end

local running = "steer" -- what messages call it: with its command, once it has one

local function main(args)
    if args[1] == "help" and args[2] then args = { args[2], "--help" } end
    local word = args[1]
    if not word or word == "-e" or word == "-i" then
        return require("steer.cli.repl").run(args)
    elseif is_help(word) or word == "help" then
        io.stdout:write(help())
        return 0
    elseif word == "--version" or word == "-v" or word == "version" then
        io.stdout:write("steer ", require("steer").version, "\n")
        return 0
    end
    for _, command in ipairs(commands) do
        if command[1] == word then
            running = "steer " .. word
            local module = require(command[2])
            local rest = { unpack(args, 2) }
            if is_help(rest[1]) then
                io.stdout:write(module.usage)
                return 0
            end
            return module.run(rest)
        end
    end
    return unknown(word)
end

local output = require "steer.cli._output"
output.watch()

-- Errors of the commands themselves; a script's errors are reported by `steer run`.
local ok, result = xpcall(main, function(e)
    return type(e) == "table" and tostring(e) or debug.traceback(tostring(e), 2)
end, arg)
if not ok then
    io.stderr:write(running, ": ", result, "\n")
    result = 1
end
if not output.flush() or result ~= 0 then os.exit(result) end
