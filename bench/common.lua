--- common.lua: what the benchmark scripts share: options, notes, child processes, the environment, files.
local json = require "steer.core.json"
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

--- Reads --shrink N, by which rows and requests are divided; 1 without it.
function M.shrink(options, script, help)
    local shrink = tonumber(options.shrink or 1)
    if not shrink or shrink < 1 or shrink % 1 ~= 0 then
        M.fail_usage(script, help, "--shrink: expected an integer from 1")
    end
    return shrink
end

--- Reads --dtype NAME of the hidden states; bf16 without it.
function M.dtype(options, script, help)
    local dtype = options.dtype or "bf16"
    if not ({ bf16 = true, f16 = true, f32 = true })[dtype] then
        M.fail_usage(script, help, "--dtype: expected bf16, f16 or f32")
    end
    return dtype
end

--- A function that prints a line with the seconds since now on standard error.
function M.sayer()
    local began = steer.bench.clock()
    return function(...)
        io.stderr:write(("%7.1f s  "):format(steer.bench.clock() - began), string.format(...), "\n")
    end
end

--- What a study keeps beside its measurements: `notes` (texts), `records` (lines of its raw samples); note(format, ...)
-- adds to both; attempt(name, fn) runs fn, and a failure is a note and the rest goes on (returns whether it succeeded).
-- say: of M.sayer.
function M.log(say)
    local log = { notes = {}, records = {} }
    function log.note(...)
        local text = string.format(...)
        log.notes[#log.notes + 1] = text
        log.records[#log.records + 1] = { kind = "note", message = text }
        say("note: %s", text)
    end
    function log.attempt(name, fn)
        say("%s", name)
        collectgarbage()
        collectgarbage()
        local ok, err = pcall(fn)
        if ok then return true end
        if type(err) == "table" and err.code == "interrupted" then error(err, 0) end
        log.note("%s failed: %s", name, tostring(err))
        return false
    end
    return log
end

--- A word for the shell.
function M.quote(word) return "'" .. tostring(word):gsub("'", "'\\''") .. "'" end

--- A command for the shell of a list of words.
function M.command(words)
    local quoted = {}
    for i, word in ipairs(words) do quoted[i] = M.quote(word) end
    return table.concat(quoted, " ")
end

--- Runs a program that prints a JSON object a line, for at most `seconds`.
-- take: functions by the objects' `kind`; note: of M.log, told how the program ended if not well.
function M.children(words, seconds, take, note)
    local limited = { "timeout", "--foreground", "-k", 5, math.ceil(seconds), unpack(words) }
    local pipe, dkjson = assert(io.popen(M.command(limited) .. "; echo status $?")), require "dkjson"
    local status = "unknown"
    for text in pipe:lines() do
        local line = dkjson.decode(text, 1, nil) -- null becomes nil
        status = text:match("^status (%d+)$") or status
        if type(line) == "table" and take[line.kind] then take[line.kind](line) end
    end
    pipe:close()
    local name = words[1]:match("[^/]*$")
    if status == "124" then
        note("%s was stopped when its time was over: what it had measured by then is here", name)
    elseif status ~= "0" then
        note("%s ended with status %s", name, status)
    end
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

--- Functions for M.children that take the lines of a PyTorch process into a study: study.torch_environment, and
-- study.torch = section -> name -> how -> measurement. log: of M.log.
function M.torch_lines(study, log)
    study.torch = {}
    return {
        environment = function(line)
            study.torch_environment = line
            log.records[#log.records + 1] = line
        end,
        variant = function(line)
            local section = study.torch[line.section] or {}
            study.torch[line.section] = section
            section[line.name] = section[line.name] or {}
            section[line.name][line.how] = line
            line.kind, line.side, line.unit = "measurement", "torch", "s"
            log.records[#log.records + 1] = line
        end,
        note = function(line)
            local about = line.section == "all" and "" or table.concat({ line.section, line.name, line.how }, ", ")
                .. ": "
            log.note("PyTorch, %s%s", about, line.message)
        end,
    }
end

--- What a PyTorch process said of itself (an `environment` line), appended to the environment's list.
function M.append_torch(list, found)
    list[#list + 1] = { "PyTorch", ("%s, CUDA %s, Python %s, %s"):format(found.torch, found.cuda or "none",
        found.python, found.name) }
    list[#list + 1] = { "PyTorch's import and first use of the device", ("%.3g s and %.3g s"):format(
        found.import_seconds, found.device_seconds) }
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

--- Prints a study's page; with a folder also writes NAME.md and NAME.jsonl there.
-- list: the environment; records: the lines of raw samples, the environment not among them.
function M.publish(folder, name, page, list, records, say)
    io.write(page)
    if not folder then return end
    M.make_folder(folder)
    local lines = { { kind = "environment" } }
    for _, entry in ipairs(list) do lines[1][entry[1]] = entry[2] end
    for _, record in ipairs(records) do lines[#lines + 1] = record end
    M.write_lines(folder .. "/" .. name .. ".jsonl", lines)
    M.write(folder .. "/" .. name .. ".md", page)
    say("wrote %s/%s.md and %s/%s.jsonl", folder, name, folder, name)
end

return M
