--- cpu_model.lua: decoding on the CPU against what its memory can do, beside llama.cpp on the same files, in one run.
-- Usage: steer run bench/cpu_model.lua [OPTIONS] [FILE.gguf ...]; --help says which.
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path

local steer = require "steer"
local common = require "common"
local page = require "page"
local report = require "engine.report"
local timed = require "model.timed"

local HELP = [[
usage: steer run bench/cpu_model.lua [OPTIONS]

  --shape NAME      folder of bench/shapes, with random weights (default: qwen2.5-0.5b; none leaves it out)
  --gguf FILE       a GGUF file, for Steer and llama.cpp
  --python COMMAND  Python with llama_cpp (default: python3); --python none leaves it out
  --bf16 FILE       where llama.cpp puts the weights of --gguf as bf16, if the file is not there; measured too
  --passes N        64 steps each (default: 2)
  --quick           fewer samples; the shape "tiny" unless --shape says otherwise
  --out DIR         write cpu_model.jsonl (raw samples) and cpu_model.md (the table) there
]]
local FLAGS = { quick = true }
local VALUES = { shape = true, gguf = true, python = true, bf16 = true, passes = true, out = true }
local options = common.options(arg, "cpu_model.lua", HELP, FLAGS, VALUES)
local passes = tonumber(options.passes or options.quick and 1 or 2)
if not passes or passes < 1 then common.fail_usage("cpu_model.lua", HELP, "--passes: expected an integer from 1") end

local SEQUENCES, CONTEXT = { 1, 8 }, 32
local device, say = steer.device("cpu"), common.sayer()
local log = common.log(say)
local records, found = log.records, {} -- found: name -> number of sequences or "stream" -> statistics
local names, bytes = {}, {}            -- models in order; bytes that a step reads of each

local function keep(name, what, side, stats)
    found[name] = found[name] or {}
    found[name][what] = stats
    records[#records + 1] = { kind = "measurement", side = side, name = name, section = tostring(what), unit = "s",
        wall = stats }
end

-- ---- Steer ---------------------------------------------------------------------------------------------------------

local STREAM = options.quick and 2 ^ 22 or 2 ^ 27 -- elements of bf16
local stream_of = steer.tensor.randn({ STREAM }, { dtype = "bf16", device = device })

-- Seconds of an in-place stream and of decoding in turn: what else runs on the machine changes from second to second.
local function measure(name, lm)
    local samples, stream = { {}, {} }, {}
    local run = steer.bench.reference("stream", stream_of)
    for _ = 1, passes do
        local streamed = steer.bench.time(run, { device = device, min_samples = 3, max_samples = 8 })
        for _, sample in ipairs(streamed.wall.samples) do stream[#stream + 1] = sample end
        for k, sequences in ipairs(SEQUENCES) do
            local wall = timed.decode(lm, {
                device = device, sequences = sequences, context = CONTEXT, candidates = { plain = false }, passes = 1,
                seconds = 1, temperature = 0,
            }).plain.wall
            for _, sample in ipairs(wall.samples) do table.insert(samples[k], sample) end
        end
    end
    keep(name, "stream", "steer", steer.bench.stats(stream))
    for k, sequences in ipairs(SEQUENCES) do keep(name, sequences, "steer", steer.bench.stats(samples[k])) end
end

-- Opens a model, measures and closes it. Of the weights a step reads all but the tables of rotations.
local function take(name, path, opts)
    log.attempt(name, function()
        opts.device, opts.progress = device, false
        local lm = steer.model(path, opts)
        names[#names + 1] = name
        bytes[name] = lm.bytes - 4 * lm.context * lm.head_dim
        measure(name, lm)
        lm:close()
    end)
end

-- ---- llama.cpp -----------------------------------------------------------------------------------------------------

-- A file's size: what llama.cpp reads in a step, about, as its blocks are widened in registers.
local function size_of(path)
    local file = assert(io.open(path))
    local size = file:seek("end")
    file:close()
    return size
end

local function take_llama(line)
    local file, sequences = line.section:match("^(.*) b (%d+)$")
    keep("llama.cpp, " .. file, tonumber(sequences), "llama.cpp", line.wall)
end

local function measure_llama()
    local words = { options.python or "python3", here .. "/peers/llama_cpp_model.py", options.gguf,
        "--sequences", table.concat(SEQUENCES, ","), "--context", CONTEXT, "--steps", 64 * passes }
    if options.bf16 then words[#words + 1], words[#words + 2] = "--make-bf16", options.bf16 end
    common.children(words, 300, {
        environment = function(line) records[#records + 1] = line end,
        note = function(line) log.note("llama.cpp, %s: %s", line.section, line.message) end, variant = take_llama,
    }, log.note)
end

-- ---- Rows ----------------------------------------------------------------------------------------------------------

local function text(name, s) return ("%s %s (n=%d)"):format(name, page.duration(s.median), s.n) end

local rows = {}
local function add(shape, metric, a, b, scale, more)
    local row = { shape = shape, metric = metric, more = true, format = "%.3g" }
    for key, value in pairs(more or {}) do row[key] = value end
    if a and b then
        row.value, row.low, row.high = scale * a.median / b.median, scale * a.q1 / b.q3, scale * a.q3 / b.q1
        row.from = (row.above and text(row.above, a) .. ", " or "") .. text("step", b)
    else
        row.skipped = "not measured"
    end
    rows[#rows + 1] = row
end

local SECOND = { median = 1, q1 = 1, q3 = 1, n = 1 }

local function speed(name, at)
    for _, sequences in ipairs(SEQUENCES) do
        add(name, ("tokens per second, %d"):format(sequences), SECOND, at[sequences], sequences, { format = "%.1f" })
    end
    add(name, "eight requests against one", at[1], at[8], 8,
        name:find("^llama") and { above = "one" } or { above = "one", must = 5, stretch = 7 })
end

local function rows_of(name)
    local at = found[name] or {}
    speed(name, at)
    add(name, ("one request's %.1f MB a step: percent of the stream"):format(bytes[name] / 1e6), at.stream, at[1],
        100 * bytes[name] / (4 * STREAM), { must = 75, stretch = 85, unit = "%", above = "stream" })
    local file = name:match("([^/]*)$")
    local theirs = found["llama.cpp, " .. file:gsub(" as %w+$", "")]
    if not theirs then return end
    for _, sequences in ipairs(SEQUENCES) do
        add(name, ("llama.cpp's step / ours, %d"):format(sequences), theirs[sequences], at[sequences], 1,
            { above = "llama.cpp" })
    end
end

-- ---- The run -------------------------------------------------------------------------------------------------------

local shape = options.shape or options.quick and "tiny" or "qwen2.5-0.5b"
if shape ~= "none" then
    take(shape, ("%s/shapes/%s"):format(here, shape), { weights = "random", seed = 1, dtype = "bf16" })
end
if options.gguf then
    if options.python ~= "none" then log.attempt("llama.cpp", measure_llama) end
    local function base(path) return path:match("([^/]*)$") end
    take(base(options.gguf) .. " as f32", options.gguf, { dtype = "f32" })
    take(base(options.gguf) .. " as bf16", options.gguf, { dtype = "bf16" })
    if options.bf16 then take(base(options.bf16), options.bf16, { dtype = "bf16" }) end
end
for _, name in ipairs(names) do rows_of(name) end
local others = {}
for name in pairs(found) do
    if name:find("^llama.cpp") then others[#others + 1] = name end
end
table.sort(others)
for _, name in ipairs(others) do speed(name, found[name]) end
for _, path in ipairs { options.gguf, options.bf16 } do
    local ok, size = pcall(size_of, path)
    if ok then log.note("%s: %.1f MB, which llama.cpp reads in a step, about", path:match("[^/]*$"), size / 1e6) end
end

local list = common.environment(device, here)
list[#list + 1] = { "load at the end (1, 5, 15 minutes)", common.first_line("cut -d' ' -f1-3 /proc/loadavg") }
local out = { "# Models on the CPU", page.environment(list), report.table(rows) }
if #log.notes > 0 then out[#out + 1] = "## Notes\n\n" .. page.bullets(log.notes) end
for _, row in ipairs(rows) do
    local copy = { kind = "row", verdict = report.verdict(row) }
    for key, value in pairs(row) do copy[key] = value end
    records[#records + 1] = copy
end
common.publish(options.out, "cpu_model", table.concat(out, "\n\n") .. "\n", list, records, say)
