--- compile.lua: specialised kernels and graphs against the ordinary path, and torch.compile's modes in the same run, as
-- a study in markdown. Usage: steer run bench/compile.lua [OPTIONS]; --help says which.
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. here .. "/../tests/lua/?.lua;" .. package.path

local ffi = require "ffi"
local steer = require "steer"
local cases = require "engine.cases"
local common = require "common"
local costs = require "compile.costs"
local layers = require "compile.layers"
local modes = require "compile.modes"
local study_page = require "compile.study"

local HELP = [[
usage: steer run bench/compile.lua [OPTIONS]

  --device ID       device to measure (default: the first GPU, else the CPU)
  --dtype NAME      of the hidden states: bf16 (default), f16, f32
  --quick           fewer samples and no torch.compile
  --seconds N       time for all of it (default 150, with --quick 30): no case begins when its part's share is over
  --out DIR         write compile.md (the study) and compile.jsonl (raw samples) there
  --python COMMAND  Python with PyTorch (default: python3); --python none leaves PyTorch out
  --shrink N        divide rows and requests by N: for trying the script, the bars do not hold then
]]
local FLAGS = { quick = true }
local VALUES = { device = true, dtype = true, out = true, python = true, seconds = true, shrink = true }

local options = common.options(arg, "compile.lua", HELP, FLAGS, VALUES)
local shrink = common.shrink(options, "compile.lua", HELP)
local dtype = common.dtype(options, "compile.lua", HELP)

local total = tonumber(options.seconds or options.quick and 30 or 150)
if not total or total <= 0 then common.fail_usage("compile.lua", HELP, "--seconds: expected more than 0") end
local began = steer.bench.clock()
local ENDS = { layers = 0.2, modes = options.python == "none" and 0.85 or 0.55 } -- when a part is over, of the total
local FIRST_CALLS, TORCH_COMPILES = 0.1, 0.6 -- of the total for a process, of what is left for PyTorch

local function left() return math.max(10, total - (steer.bench.clock() - began)) end

local say = common.sayer()
local log = common.log(say)
local note, attempt, records = log.note, log.attempt, log.records
local device = steer.device(options.device)
local on_gpu = device.id ~= "cpu"
local ctx = { device = device, dtype = dtype, graph = on_gpu, seconds = options.quick and 0.02 or 0.1 }

-- The library keeps kernels in folders of this run, so that none was compiled before it.
local caches = common.first_line("mktemp -d")
ffi.cdef "int setenv(const char *name, const char *value, int overwrite);"
ffi.C.setenv("XDG_CACHE_HOME", caches .. "/here", 1)

local study = {
    modes = {}, layers = {}, costs = { cold = { first = {} }, warm = { first = {} } }, notes = log.notes,
    shapes = {}, way = on_gpu and "graph" or "wall",
}
local shapes = {}
for i, name in ipairs { "A", "B", "C" } do
    local shape = cases.shrunk(name, shrink)
    shapes[i], shapes[name] = shape, shape
    study.shapes[name] = ("%d x %d, %d requests"):format(shape.rows, shape.hidden, shape.requests)
end

local function record(section, line)
    local copy = { kind = "measurement", side = "steer", section = section, unit = "s" }
    for key, value in pairs(line) do copy[key] = value end
    records[#records + 1] = copy
end

-- ---- Steer ---------------------------------------------------------------------------------------------------------

-- Tries a specialised kernel: whether there can be any.
local function probe()
    local ok, err = pcall(cases.make, ctx, { name = "probe", rows = 4, hidden = 64, requests = 1 }, { "cap" },
        { compile = "default" })
    ctx.compiles = ok
    if ok then return end
    if type(err) == "table" and err.code == "interrupted" then error(err, 0) end
    study.unsupported = type(err) == "table" and err.message or tostring(err)
    note("there are no specialised kernels here: %s", tostring(err))
end

-- Calls fn for each of a list's entries until the part's time is over; an entry that fails is a note.
local function within(part, list, name_of, fn)
    local ends = began + ENDS[part] * total
    for i, entry in ipairs(list) do
        if steer.bench.clock() > ends then
            note("%s: the time for this part was over before %s; it and what follows (%d of %d) were left out", part,
                name_of(entry), #list - i + 1, #list)
            return
        end
        attempt(part .. ", " .. name_of(entry), function() fn(entry) end)
    end
end

local function measure_layers()
    local shape, setups, list = shapes.B, {}, {}
    for i, count in ipairs(layers.COUNTS) do list[i] = { count = count, own = false } end
    table.insert(list, 1, table.remove(list, 6)) -- what has a bar comes first
    if not options.quick then list[#list + 1] = { count = 32, own = true } end
    if on_gpu then attempt("references", function() study.references = layers.references(ctx, shape) end) end
    within("layers", list, function(entry)
        return entry.count .. (entry.own and ", vectors of their own" or "")
    end, function(entry)
        local most = entry.own and entry.count or layers.COUNTS[#layers.COUNTS]
        setups[entry.own] = setups[entry.own] or layers.prepare(ctx, shape, most, entry.own)
        local measured = layers.measure(ctx, setups[entry.own], entry.count)
        study.layers[#study.layers + 1] = measured
        record("layers", measured)
    end)
    table.sort(study.layers, function(a, b)
        if a.own ~= b.own then return b.own end
        return a.layers < b.layers
    end)
end

local function measure_modes()
    within("modes", modes.list(shapes), function(entry)
        return ("%s %s, %s"):format(entry.shape.name, entry.name, entry.batch)
    end, function(entry)
        study.modes[#study.modes + 1] = entry
        local ok, err = pcall(modes.measure, ctx, entry)
        if not ok then
            entry.failed = tostring(err)
            error(err, 0)
        end
        record("modes", entry)
    end)
end

local function measure_costs()
    study.costs = costs.measure({ device = device.id, dtype = dtype, shrink = shrink, seconds = ctx.seconds,
        caches = caches .. "/first", here = here, limit = math.max(10, FIRST_CALLS * total) }, note)
    for temperature, found in pairs(study.costs) do
        for _, line in ipairs(found.first) do record("first calls, " .. temperature, line) end
    end
end

-- ---- PyTorch -------------------------------------------------------------------------------------------------------

local take = common.torch_lines(study, log)

local function torch()
    local words = {
        options.python or "python3", here .. "/peers/torch_compile.py", "--device", device.id, "--dtype", dtype,
        "--seconds", ctx.seconds, "--compile-seconds", TORCH_COMPILES * left(),
    }
    for _, shape in ipairs(shapes) do
        for _, word in ipairs { "--shape", shape.name, shape.rows, shape.hidden, shape.requests } do
            words[#words + 1] = word
        end
    end
    if options.quick then words[#words + 1] = "--no-compile" end
    common.children(words, left(), take, note)
end

-- ---- The run -------------------------------------------------------------------------------------------------------

attempt("specialised kernels", probe)
attempt("layers", measure_layers)
attempt("modes", measure_modes)
if ctx.compiles then attempt("first calls", measure_costs) end
if options.python == "none" then
    note("PyTorch was left out by --python none")
else
    attempt("PyTorch", torch)
end
if options.quick then note("torch.compile was left out by --quick") end
if not on_gpu then note("the CPU has the wall clock only, and its graphs run layer by layer") end
os.execute("rm -rf " .. common.quote(caches))

local list = common.environment(device, here)
list[#list + 1] = { "dtype", dtype }
list[#list + 1] = { "sampling", options.quick and "quick" or "full" }
if study.torch_environment then common.append_torch(list, study.torch_environment) end
if shrink > 1 then list[#list + 1] = { "shrunk", ("rows and requests divided by %d"):format(shrink) } end
study.environment = list
common.publish(options.out, "compile", study_page.markdown(study), list, records, say)
