--- common.lua: what the benchmark scripts share: options, child processes, the environment's description, files.
local json = require "steer._json"
local steer = require "steer"

local M = {}

--- Ends a script whose options are wrong.
function M.fail_usage(script, help, message)
    io.stderr:write(script, ": ", message, "\n", help)
    os.exit(2)
end

--- Reads `--name value` and `--flag` words; --help prints `help` and ends the script.
-- flags, values: sets of names. Returns name -> value, or true for a flag.
function M.options(words, script, help, flags, values)
    local options, i = {}, 1
    while i <= #words do
        local name = words[i]:match("^%-%-(.+)$")
        if words[i] == "-h" or name == "help" then
            io.write(help)
            os.exit(0)
        elseif name and flags[name] then
            options[name] = true
        elseif name and values[name] and words[i + 1] then
            i = i + 1
            options[name] = words[i]
        else
            M.fail_usage(script, help, ("%s: unknown option, or its value is missing"):format(words[i]))
        end
        i = i + 1
    end
    return options
end

--- A function that prints a line with the seconds since now on standard error.
function M.sayer()
    local began = steer.bench.clock()
    return function(...)
        io.stderr:write(("%7.1f s  "):format(steer.bench.clock() - began), string.format(...), "\n")
    end
end

--- A word for the shell.
function M.quote(word) return "'" .. tostring(word):gsub("'", "'\\''") .. "'" end

--- A command for the shell of a list of words.
function M.command(words)
    local quoted = {}
    for i, word in ipairs(words) do quoted[i] = M.quote(word) end
    return table.concat(quoted, " ")
end

--- The first line that a shell command prints, or "unknown".
function M.first_line(command)
    local pipe = io.popen(command .. " 2>/dev/null")
    local line = pipe and pipe:read("*l")
    if pipe then pipe:close() end
    return line and line ~= "" and line or "unknown"
end

--- Lists what every benchmark says of its machine and its programs: {name, text} in order.
-- folder: of the script, inside the repository.
function M.environment(device, folder)
    local info = device:info()
    local list = {
        { "device", ("%s, %s, %d processors, last-level cache %.1f MiB"):format(info.id, info.name, info.processors,
            info.l2_bytes / 2 ^ 20) },
        { "highest clock", info.clock_khz and ("%.0f MHz"):format(info.clock_khz / 1000) or "unknown" },
        { "Steer", steer.version }, { "LuaJIT", jit.version },
        { "revision", M.first_line("git -C " .. M.quote(folder) .. " describe --always --dirty") },
        { "date", os.date("!%Y-%m-%d %H:%M UTC") },
    }
    if device.id ~= "cpu" then
        list[#list + 1] = { "CUDA driver serves", info.driver or "unknown" }
        list[#list + 1] = { "nvidia-smi (driver, SM and memory clocks, power limit)", M.first_line(
            "nvidia-smi --query-gpu=driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit"
            .. " --format=csv,noheader -i " .. device.id:match("%d+")) }
    end
    return list
end

--- Writes a file as a whole.
function M.write(path, text)
    local file = assert(io.open(path, "w"))
    assert(file:write(text))
    assert(file:close())
end

--- Writes a list of tables as lines of JSON: sorted keys, 17 significant digits, NaN and infinities as null.
function M.write_lines(path, records)
    local lines = {}
    for i, record in ipairs(records) do lines[i] = json.encode(record) end
    M.write(path, table.concat(lines, "\n") .. "\n")
end

--- Makes a folder and those above it.
function M.make_folder(path) os.execute("mkdir -p " .. M.quote(path)) end

return M
