--- The commands of the session: lines that begin with a colon.
local c = require "steer._c"
local complete = require "steer.repl.complete"
local devices = require "steer.device"
local docs = require "steer.repl.docs"
local evaluate = require "steer.repl.evaluate"
local ffi = require "ffi"
local options = require "steer._options"
local terminal = require "steer.repl.terminal"

local C = c.C
local raise = require("steer._error").raise

local M = {}
local commands = {}
M.commands = commands

local UNITS = { "B", "KiB", "MiB", "GiB", "TiB" }

local function bytes_text(bytes)
    local unit = 1
    while bytes >= 1024 and unit < #UNITS do bytes, unit = bytes / 1024, unit + 1 end
    return (unit == 1 and "%d %s" or "%.1f %s"):format(bytes, UNITS[unit])
end

local function seconds_text(seconds)
    if seconds < 1e-3 then return ("%.1f us"):format(seconds * 1e6) end
    if seconds < 1 then return ("%.2f ms"):format(seconds * 1e3) end
    return ("%.3f s"):format(seconds)
end

local function needed(op, argument, what)
    if argument == "" then raise("invalid_argument", op, "%s: missing", what) end
    return argument
end

-- ---- Help ----------------------------------------------------------------------------------------------------------

local ORDER = { "help", "time", "mem", "devices", "load", "source", "quit" }

local function overview()
    for _, name in ipairs(ORDER) do
        print((":%-18s %s"):format(name .. " " .. commands[name].arguments, commands[name].what))
    end
    print [[

An expression prints its value; a semicolon at the end mutes it. _ is the last result, until the next input that does
not mention it. Locals of an input stay for the next ones. Ctrl-C drops the line or stops the work, Ctrl-D leaves,
Tab completes, Ctrl-R searches earlier inputs, Alt-Enter begins a new line.]]
    print("\n" .. docs.describe("steer", (terminal.size())))
end

local function help(session, topic)
    if topic == "" then return overview() end
    local width = math.min(terminal.size(), 100)
    local row = commands[topic:match("^:(%w+)$")]
    if row then return print((":%s %s\n  %s"):format(topic:sub(2), row.arguments, row.what)) end
    local text = docs.topics()[topic] and docs.describe(topic, width)
    if not text then
        local value = complete.value(session.env, topic)
        text = type(value) == "function" and docs.of_function(value, topic, width) or docs.describe(topic, width)
    end
    if not text then
        raise("not_found", "help", "topic: nothing is known of '%s', did you mean '%s'?", topic,
            options.nearest(topic, docs.topics()))
    end
    print(text)
end

-- ---- Measuring -----------------------------------------------------------------------------------------------------

-- Runs fn() between two events of the device; gives the seconds between them and fn's results.
local function with_events(device, fn)
    local start, stop = ffi.new("steer_event *[1]"), ffi.new("steer_event *[1]")
    c.check(C.steer_event_create(start, device.handle))
    local first = c.own(start[0], C.steer_event_release)
    c.check(C.steer_event_create(stop, device.handle))
    local last = c.own(stop[0], C.steer_event_release)
    c.check(C.steer_event_record(first))
    fn()
    c.check(C.steer_event_record(last))
    local elapsed = ffi.new("double[1]")
    c.check(C.steer_event_elapsed(elapsed, first, last))
    return elapsed[0]
end

local function time(session, text)
    local chunk, muted, skip = evaluate.compile(needed("time", text, "expression"))
    if not chunk then error(muted, 0) end
    local device, gpu = devices.open(), nil
    device:synchronize()
    local start = C.steer_clock()
    local function work() session:call(chunk, muted, skip, session.keep_locals) end
    if device.id == "cpu" then work() else gpu = with_events(device, work) end
    device:synchronize()
    local wall = C.steer_clock() - start
    local on_gpu = gpu and (", %s on %s"):format(seconds_text(gpu), device.id) or ""
    print(("time: %s wall%s"):format(seconds_text(wall), on_gpu))
end

local function mem()
    collectgarbage()
    collectgarbage()
    local row = "%-10s %10s %10s %10s %12s"
    print(row:format("device", "in use", "peak", "free", "allocations"))
    for _, info in ipairs(devices.list()) do
        local memory = devices.open(info.id):memory()
        print(row:format(info.id, bytes_text(memory.live_bytes), bytes_text(memory.peak_bytes),
            bytes_text(info.free_bytes), memory.live_allocations))
    end
    print(("%-10s %10s"):format("Lua", bytes_text(collectgarbage("count") * 1024)))
end

local function list_devices()
    for _, info in ipairs(devices.list()) do
        print(("%-10s %s, %s memory, %s free%s%s"):format(info.id, info.name, bytes_text(info.total_bytes),
            bytes_text(info.free_bytes), info.compute and ", compute " .. info.compute or "",
            info.id == devices.open().id and " (default)" or ""))
    end
end

-- ---- Files and sources ---------------------------------------------------------------------------------------------

local function load_file(session, path)
    local chunk, why = loadfile(needed("load", path, "file"))
    if not chunk then error(why, 0) end
    session:call(chunk, false, 0)
end

local function source_lines(info)
    local text = evaluate.inputs[info.source]
    if not text then
        local file = info.source:sub(1, 1) == "@" and io.open(info.source:sub(2))
        if not file then return nil end
        text = file:read("*a")
        file:close()
    end
    local lines, number = {}, 0
    for line in (text .. "\n"):gmatch("(.-)\n") do
        number = number + 1
        if number >= info.linedefined and number <= info.lastlinedefined then lines[#lines + 1] = line end
    end
    return lines
end

local function source(session, text)
    needed("source", text, "function")
    local value = complete.value(session.env, text)
    if type(value) ~= "function" then
        raise("invalid_argument", "source", "function: expected the name of one, such as steer.tensor.zeros, got %s%s",
            value == nil and "nothing of the name " or "a " .. type(value) .. ": ", text)
    end
    local info = debug.getinfo(value, "S")
    local lines = source_lines(info)
    if not lines then
        raise("not_found", "source", "function: %s has no Lua source (%s)", text,
            info.what == "C" and "it is built in" or info.short_src)
    end
    print(("%s:%d"):format(info.short_src, info.linedefined))
    print(table.concat(lines, "\n"))
end

-- arguments, what it does, run(session, argument), what its argument completes to
for name, row in pairs {
    help = { "[topic]", "what there is, or what is known of a topic", help, "topics" },
    time = { "expression", "runs it and prints the wall time, and on a GPU the time there", time },
    mem = { "", "memory in use, after a collection", mem },
    devices = { "", "the devices", list_devices },
    load = { "file", "runs a Lua file in this session", load_file, "files" },
    source = { "function", "prints the source of a function", source },
    quit = { "", "leaves, as Ctrl-D does", function(session) session.done = true end },
} do
    commands[name] = { arguments = row[1], what = row[2], run = row[3], completes = row[4] }
end

--- Runs a line that begins with a colon; an unknown command is an error that names the nearest one.
function M.run(session, line)
    local name, argument = line:match("^:%s*(%S*)%s*(.-)%s*$")
    local row = commands[name]
    if not row then
        raise("invalid_argument", "repl", "there is no command :%s, did you mean :%s? :help lists them", name,
            options.nearest(name, commands))
    end
    row.run(session, argument)
end

return M
