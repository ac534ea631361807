--- The commands of the session: lines that begin with a colon.
local bench = require "steer.bench"
local c = require "steer.core.c"
local complete = require "steer.repl.complete"
local devices = require "steer.device"
local docs = require "steer.repl.docs"
local evaluate = require "steer.repl.evaluate"
local ffi = require "ffi"
local layout = require "steer.repl.layout"
local option_docs = require "steer.repl.options"
local options = require "steer.core.options"
local tables = require "steer.core.tables"
local terminal = require "steer.repl.terminal"

local C = c.C
local raise = require("steer.core.error").raise

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
    if seconds < 1e-6 then return ("%.0f ns"):format(seconds * 1e9) end
    if seconds < 1e-3 then return ("%.1f us"):format(seconds * 1e6) end
    if seconds < 1 then return ("%.2f ms"):format(seconds * 1e3) end
    return ("%.3f s"):format(seconds)
end

local function needed(op, argument, what)
    if argument == "" then raise("invalid_argument", op, "%s: missing", what) end
    return argument
end

-- Other names of commands.
local ALIASES = { q = "quit", exit = "quit", h = "help", timeit = "time" }

-- ---- Help ----------------------------------------------------------------------------------------------------------

local ORDER = { "help", "time", "mem", "devices", "load", "source", "quit" }

local function overview()
    for _, name in ipairs(ORDER) do
        print((":%-18s %s"):format(name .. " " .. commands[name].arguments, commands[name].what))
    end
    print [[

An expression prints its value; a semicolon at the end mutes it. _ is the last
result, until the next input that does not mention it. Locals of an input stay
for the next ones. Ctrl-C drops the line or stops the work, Ctrl-D leaves, Tab
completes, Ctrl-R searches earlier inputs, Alt-Enter begins a new line.]]
    print("\n" .. docs.describe("steer", (terminal.size())))
end

-- All that may be asked for, methods by their own names too.
local function names_of_topics()
    local names = option_docs.names()
    for _, topic in ipairs(tables.keys(docs.topics())) do names[topic], names[topic:match "[^.:]+$"] = true, true end
    return names
end

-- A word that is no topic, such as an option's name: the topics that mention it.
local function elsewhere(word, width)
    local list = docs.mentions(word)
    if #list == 0 then
        raise("not_found", "help", "topic: nothing is known of '%s'%s", word,
            options.suggest(word, names_of_topics(), "'", "'"))
    end
    return ("There is no topic '%s', but these mention it:\n  %s"):format(word,
        table.concat(layout.columns(list, width - 2, 40), "\n  "))
end

local function help(session, topic)
    if topic == "" then return overview() end
    local width = math.min(terminal.size(), 100)
    local name = topic:match("^:(%w+)$")
    local row = commands[ALIASES[name] or name]
    if row then return print((":%s %s\n  %s"):format(name, row.arguments, row.what)) end
    local texts = { docs.topics()[topic] and docs.describe(topic, width) }
    if not texts[1] then
        local value = complete.value(session.env, topic)
        if type(value) == "function" then texts[1] = docs.of_function(value, topic, width) end
        local of_class = complete.class(value)
        texts[1] = texts[1] or of_class and docs.describe(of_class, width)
    end
    texts[1] = texts[1] or docs.describe(topic, width)
    texts[#texts + 1] = option_docs.describe(topic, width)
    texts[1] = texts[1] or elsewhere(topic, width)
    print(table.concat(texts, "\n\n"))
end

-- ---- Measuring -----------------------------------------------------------------------------------------------------

local function record_event(device)
    local out = ffi.new("steer_event *[1]")
    c.check(C.steer_event_create(out, device.handle))
    local event = c.own(out[0], C.steer_event_release)
    c.check(C.steer_event_record(event))
    return event
end

local REPEATS = 7                   -- as few where they take long
local LEAST, MOST = 0.05, 3         -- seconds of a repeat at least, and of all of them
local elapsed_out = ffi.new("double[1]")

-- Calls fn(argument) `loops` times on a device; gives the seconds of a call, those on a GPU as well.
local function timed(device, loops, fn, argument)
    device:synchronize()
    local first, start = device.id ~= "cpu" and record_event(device), C.steer_clock()
    for _ = 1, loops do fn(argument) end
    local last = first and record_event(device)
    device:synchronize()
    local wall = (C.steer_clock() - start) / loops
    if not first then return wall end
    c.check(C.steer_event_elapsed(elapsed_out, first, last))
    return wall, elapsed_out[0] / loops
end

-- "1.23 ms ± 0.05 ms" of some measurements.
local function spread_text(samples)
    local stats = bench.stats(samples)
    return ("%s ± %s"):format(seconds_text(stats.mean), seconds_text(stats.mean * stats.noise / 100)), stats
end

-- Repeats a call until its time is known; gives what is to be said of it.
local function repeated(device, once, loops, repeats, fn, argument)
    local wall, gpu, each = {}, {}, once
    if not loops then
        loops = 1
        while each * loops < LEAST do
            loops = loops * 10
            each = timed(device, loops, fn, argument)
        end
    end
    repeats = repeats or math.max(2, math.min(REPEATS, math.floor(MOST / (each * loops))))
    for i = 1, repeats do wall[i], gpu[i] = timed(device, loops, fn, argument) end
    local text, stats = spread_text(wall)
    return ("%s (mean and deviation of %d x %d, fastest %s)%s"):format(text, repeats, loops, seconds_text(stats.min),
        gpu[1] and (", %s on %s"):format(spread_text(gpu), device.id) or "")
end

-- Takes "-n 10 -r 3" off a text: loops and repeats.
local function read_counts(text)
    local counts = {}
    while text:find "^%-[nr]%s*%d" do
        local name, count, rest = text:match "^%-([nr])%s*(%d+)%s*(.*)$"
        counts[name], text = math.max(1, tonumber(count)), rest
    end
    return text, counts.n, counts.r
end

local function time(session, text)
    local loops, repeats
    text, loops, repeats = read_counts(needed("time", text, "expression"))
    local chunk, muted, skip = evaluate.compile(text, session.from)
    if not chunk then error(muted, 0) end
    local device, fn = devices.open(), session:prepare(chunk)
    local once = timed(device, 1, function(keep) session:finish(muted, skip, fn(keep)) end, session.keep_locals)
    if once > MOST / 2 and not (loops or repeats) then
        return print(("time: %s, the one time that it ran; :time -r 3 repeats it"):format(seconds_text(once)))
    end
    print("time: " .. repeated(device, once, loops, repeats, fn, session.keep_locals))
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
    local _, default = pcall(devices.open) -- STEER_DEVICE may name one that is not there
    for _, info in ipairs(devices.list()) do
        print(("%-10s %s, %s memory, %s free%s%s"):format(info.id, info.name, bytes_text(info.total_bytes),
            bytes_text(info.free_bytes), info.compute and ", compute " .. info.compute or "",
            info.id == default.id and " (default)" or ""))
    end
end

-- ---- Files and sources ---------------------------------------------------------------------------------------------

local function load_file(session, path)
    local chunk, why = loadfile(needed("load", path, "file"))
    if not chunk then error(why, 0) end
    session:finish(false, 0, session:prepare(chunk)())
end

local function lines_of(text, first, last)
    local lines, number = {}, 0
    for line in (text .. "\n"):gmatch("(.-)\n") do
        number = number + 1
        if number >= first and number <= last then lines[#lines + 1] = line end
    end
    return lines
end

-- The function that a name stands for, or a method that help knows; where it is as {source, first line, last line}.
local function find_function(session, name)
    local value = complete.value(session.env, name)
    local method = docs.method(value)
    if type(value) == "function" and not method then
        local info = debug.getinfo(value, "S")
        return info.what ~= "C" and { info.source, info.linedefined, info.lastlinedefined }, info
    end
    local entry = method or docs.entry(name)
    if not (entry and entry.arguments) then
        raise("invalid_argument", "source", "function: expected the name of one, such as steer.tensor.zeros, got %s%s",
            value == nil and "nothing of the name " or "a " .. type(value) .. ": ", name)
    end
    return { entry.source, entry.line, entry.last }
end

local function source(session, name)
    local place, info = find_function(session, needed("source", name, "function"))
    local text = place and evaluate.inputs[place[1]]
    local file = place and not text and io.open(place[1]:match("^@(.*)") or "")
    if file then
        text = file:read("*a")
        file:close()
    end
    if not text then
        raise("not_found", "source", "function: %s has no Lua source to read (%s)", name,
            place and place[1] or info.short_src)
    end
    print(("%s:%d"):format(place[1]:gsub("^[@=]", ""), place[2]))
    print(table.concat(lines_of(text, place[2], place[3]), "\n"))
end

-- arguments, what it does, run(session, argument), what its argument completes to
for name, row in pairs {
    help = { "[topic]", "what there is, or what is known of a topic", help, "topics" },
    time = { "expression", "times it, repeating what is short; -n LOOPS -r REPEATS say how often", time },
    mem = { "", "memory in use, after a collection", mem },
    devices = { "", "the devices", list_devices },
    load = { "file", "runs a Lua file in this session", load_file, "files" },
    source = { "function", "prints the source of a function", source },
    quit = { "", "leaves, as :q, exit and Ctrl-D do", function(session) session.done = true end },
} do
    commands[name] = { arguments = row[1], what = row[2], run = row[3], completes = row[4] }
end

--- Runs a line that begins with a colon; an unknown command is an error that names one that is near.
function M.run(session, line)
    local name, argument = line:match("^:%s*(%S*)%s*(.-)%s*$")
    local row = commands[ALIASES[name] or name]
    if not row then
        local near = options.suggest(name, commands, ":", "")
        raise("invalid_argument", "repl", "there is no command :%s%s :help lists them", name,
            near == "" and "," or near)
    end
    row.run(session, argument)
end

return M
