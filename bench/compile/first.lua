--- first.lua: what the first call of a plan costs with and without specialised kernels, in a process of its own.
-- compile.lua starts it with an empty cache folder and then once more: nothing is in memory then, everything on disk.
-- Usage: steer run bench/compile/first.lua DEVICE DTYPE SHRINK SECONDS; prints a JSON object a line, by `kind`: first,
-- background, note.
local bench = (arg[0]:match("^(.*)/[^/]*$") or ".") .. "/.."
package.path = bench .. "/?.lua;" .. bench .. "/../tests/lua/?.lua;" .. package.path

local steer = require "steer"
local cases = require "engine.cases"
local modes = require "compile.modes"
local json = require "steer.core.json"

local device, dtype, shrink, seconds = steer.device(arg[1]), arg[2], tonumber(arg[3]), tonumber(arg[4])
local on_gpu = device.id ~= "cpu"
local ctx = { device = device, dtype = dtype, graph = on_gpu, seconds = seconds, compiles = true }

local function emit(line)
    io.write(json.encode(line), "\n")
    io.flush()
end

-- Seconds from here to the end of the plan's first apply, and the plan.
local function first_call(case, turn, x, opts)
    local requests = cases.requests_of(case.shape, case.specs[turn])
    device:synchronize()
    local from = steer.bench.clock()
    local plan = case.engine:plan(requests, opts)
    plan:apply(0, x)
    device:synchronize()
    return steer.bench.clock() - from, plan
end

local function measure(shape, name, kinds, batch)
    local specs = batch == "uniform" and 1 or math.min(shape.requests, 32)
    local case = cases.make(ctx, shape, kinds, { path = batch, specs = specs, compile = "off" })
    local clean = cases.hidden(ctx, shape)
    local x = clean:clone()
    case.plans[1]:apply(0, x) -- its vectors and the ordinary kernel are on the device from here on
    local line = { kind = "first", shape = shape.name, name = name, batch = batch }
    line.ordinary_first = first_call(case, 1, x, { compile = "off" })
    for i, key in ipairs { "first", "second", "memory" } do
        local plan
        line[key], plan = first_call(case, i == 2 and 2 or 1, x, { compile = "default" })
        line[key .. "_compile"] = plan:explain(0).compile
    end
    local entry = { shape = shape, kinds = kinds }
    modes.time(ctx, entry, modes.plans(ctx, case), { clean = clean, x = x, y = clean:clone() })
    local times = entry.times[on_gpu and "graph" or "wall"]
    line.ordinary, line.compiled = times.alone or times.ordinary, times.compiled
    emit(line)
end

local PATIENCE = 10 -- seconds for a compilation in the background

-- The first call when a new program is compiled in the background, and the seconds until that was done.
local function measure_background(shape)
    local kinds = { "ablate", "cap", "cap", "add", "ablate" }
    local case = cases.make(ctx, shape, kinds, { path = "mixed", specs = 2, compile = "off" })
    local x = cases.hidden(ctx, shape)
    case.plans[1]:apply(0, x)
    local from = steer.bench.clock()
    local call, plan = first_call(case, 1, x, { compile = "default", wait = false })
    local compile
    repeat
        compile = plan:explain(0).compile
    until compile.state ~= "compiling" or steer.bench.clock() - from > PATIENCE
    emit { kind = "background", shape = shape.name, first = call, ready = steer.bench.clock() - from,
        compile = compile }
end

local function attempt(name, fn, ...)
    local ok, err = pcall(fn, ...)
    if not ok then emit { kind = "note", message = name .. ": " .. tostring(err) } end
end

local function eight()
    local kinds = {}
    for i = 1, 8 do kinds[i] = ({ "cap", "add", "ablate" })[(i - 1) % 3 + 1] end
    return kinds
end

local a, b = cases.shrunk("A", shrink), cases.shrunk("B", shrink)
for _, case in ipairs {
    { b, "cap", { "cap" }, "mixed" }, { a, "cap", { "cap" }, "uniform" }, { a, "cap", { "cap" }, "mixed" },
    { a, "8 operations", eight(), "mixed" },
} do attempt(("%s %s %s"):format(case[1].name, case[2], case[4]), measure, unpack(case)) end
attempt("background", measure_background, b)
