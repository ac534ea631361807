--- model.lua: measures how fast models run against their bars, beside Hugging Face transformers, in one run.
-- Usage: steer run bench/model.lua [OPTIONS]; --help says which. What the rows mean: bench/README.md.
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path

local steer = require "steer"
local bars = require "model.bars"
local common = require "common"
local folder = require "model.folder"
local page = require "page"
local report = require "engine.report"
local timed = require "model.timed"

local HELP = [[
usage: steer run bench/model.lua [OPTIONS]

  --device ID       device to measure (default: the first GPU, else the CPU)
  --shapes A,B      folders of bench/shapes (default: qwen2.5-0.5b,qwen2.5-1.5b,llama-3.1-8b)
  --sequences A,B   that decode together (default: 1,8,64,256)
  --contexts A,B    tokens of a prompt (default: 64); the bars and transformers are of the first
  --quick           the shape "tiny" and few sequences and samples, unless options say otherwise
  --seconds N       for each candidate of a section (default: 1)
  --greedy          the greatest logit instead of sampling from all
  --rows N          most rows of a step (default: the session's)
  --grid            a grid of layers x 8 scales x 16 prompts, against its cases in batches and one after the other
  --grid-size L,S,P,T  its layers, scales, prompts and tokens of a prompt (default: 32,8,16,64, of layers what there is)
  --only A,B        of the sections stream, decode, prefill and grid these alone, without transformers
  --load DIR        write each shape's weights there, time loading them, remove them (16 GB for llama-3.1-8b)
  --out DIR         write model.jsonl (raw samples) and model.md (the table) there
  --python COMMAND  Python with transformers (default: python3); --python none leaves it out
  --hf-seconds N    for transformers (default: 110)
  --hf-compile N    seconds after which torch.compile is not begun again (default: 0, never)
]]

-- ---- Options -------------------------------------------------------------------------------------------------------

local FLAGS = { quick = true, greedy = true, grid = true }
local VALUES = {
    device = true, shapes = true, sequences = true, contexts = true, seconds = true, rows = true, load = true,
    ["grid-size"] = true, only = true, out = true, python = true, ["hf-seconds"] = true, ["hf-compile"] = true,
}
local options = common.options(arg, "model.lua", HELP, FLAGS, VALUES)

local function usage(...) common.fail_usage("model.lua", HELP, string.format(...)) end

local function number(name, default, least)
    local value = tonumber(options[name] or default)
    if not value or value < least then usage("--%s: %s, expected a number from %g", name, options[name], least) end
    return value
end

local function integers(name, default)
    local list = {}
    for word in (options[name] or default):gmatch("[^,]+") do
        local n = tonumber(word)
        if not n or n < 1 or n % 1 ~= 0 then usage("--%s: %s, expected integers from 1", name, word) end
        list[#list + 1] = n
    end
    return list
end

local SECTIONS, only = { stream = true, decode = true, prefill = true, grid = true }, {}
for word in (options.only or ""):gmatch "[^,]+" do
    if not SECTIONS[word] then usage("--only: %s, expected stream, decode, prefill or grid", word) end
    only[word] = true
end
local function wanted(name) return not options.only or only[name] end

local device = steer.device(options.device)
local quick = options.quick
local plan = {
    sequences = integers("sequences", quick and "1,4" or "1,8,64,256"), contexts = integers("contexts", "64"),
    prefill = quick and { sequences = 2, tokens = 64 } or { sequences = 8, tokens = 1024 }, load = options.load,
}
-- The grid of a shape: layers spread evenly over its own.
local grid_size = integers("grid-size", quick and "32,2,2,16" or "32,8,16,64")
if #grid_size ~= 4 then usage("--grid-size: %s, expected layers,scales,prompts,tokens", options["grid-size"]) end
local function grid_of(shape)
    local own, grid = shape.config.num_hidden_layers, {
        layers = {}, scales = {}, prompts = grid_size[3], tokens = grid_size[4], count = quick and 1 or 2,
        batched = math.huge, alone = quick and 2 or 32, at_once = 1024, device = device,
    }
    local count = math.min(grid_size[1], own)
    for i = 1, count do grid.layers[i] = math.floor((i - 1) * own / count) end
    for i = 1, grid_size[2] do grid.scales[i] = i - math.floor(grid_size[2] / 2) - 0.5 end
    return grid
end
plan.grid = (options.grid or only.grid) and wanted "grid" and grid_of or nil
if not wanted "decode" then plan.contexts = {} end
if not wanted "prefill" then plan.prefill = nil end

local seconds = number("seconds", quick and 0.05 or 1, 0.001)
local rows = options.rows and integers("rows")[1]
local shapes = {}
for name in (options.shapes or quick and "tiny" or "qwen2.5-0.5b,qwen2.5-1.5b,llama-3.1-8b"):gmatch("[^,]+") do
    local path = ("%s/shapes/%s"):format(here, name)
    local file = io.open(path .. "/config.json")
    if not file then usage("--shapes: %s, there is no %s/config.json", name, path) end
    shapes[#shapes + 1] = { name = name, path = path, config = require("dkjson").decode(file:read("*a")) }
    file:close()
end

local say = common.sayer()
local log = common.log(say)
local records = log.records

-- ---- Steer ---------------------------------------------------------------------------------------------------------

-- Runs a section of a shape: its results are kept and recorded; a failure is a note, and the others go on.
local function section(shape, name, body)
    local ok = log.attempt(shape.name .. ", " .. name, function()
        local results = body()
        shape.found[name] = results
        for case, result in pairs(results) do
            local record = { kind = "measurement", side = "steer", shape = shape.name, section = name, name = case,
                unit = "s" }
            for key, value in pairs(result) do record[key] = value end
            records[#records + 1] = record
        end
    end)
    if not ok then shape.failed[name] = log.notes[#log.notes] end
end

-- What decodes: name -> list of specs, false without any. The later contexts go without specs.
local function candidates(lm, kept, sequences, first)
    local list = { [bars.PLAIN] = false }
    for _, steered in ipairs(first and bars.STEERED or {}) do
        local n = steered.specs or sequences
        local specs = steered.reproducible and "reproducible" or kept[steered.name] or {}
        if not steered.reproducible and #specs < n then specs = timed.specs(lm, steered.kinds, n) end
        kept[steered.name], list[steered.name] = specs, specs
    end
    return list
end

local function measure_decode(shape, lm)
    local kept = {}
    for i, context in ipairs(plan.contexts) do
        for k = #plan.sequences, 1, -1 do
            local sequences = plan.sequences[k] -- the largest first, for which specs are made
            section(shape, bars.section(sequences, context), function()
                return timed.decode(lm, {
                    device = device, sequences = sequences, context = context, rows = rows, seconds = seconds,
                    temperature = options.greedy and 0 or 1, passes = quick and 1 or 20,
                    candidates = candidates(lm, kept, sequences, i == 1),
                })
            end)
        end
    end
end

-- How fast the device's memory is: an in-place stream over more than its caches hold.
local function measure_stream(shape)
    section(shape, "stream", function()
        local size = quick and 2 ^ 24 or 2 ^ 28
        local x = steer.tensor.randn({ size }, { dtype = "bf16", device = device })
        local stream = steer.bench.time(steer.bench.reference("stream", x), {
            device = device, max_seconds = seconds, min_samples = 5, gpu = false,
        })
        shape.found.stream_bytes = 2 * 2 * size -- read and written
        x:close()
        return { stream = { wall = stream.wall } }
    end)
end

local function measure_load(shape)
    local path = options.load .. "/" .. shape.name
    section(shape, "load", function()
        folder.write(path, shape.path .. "/config.json")
        return timed.load(path, { device = device }, quick and 1 or 3)
    end)
    os.execute("rm -rf " .. common.quote(path))
end

local function measure(shape)
    local lm
    shape.found, shape.failed = {}, {}
    shape.found.weights, shape.parameters = folder.step_bytes(shape.config)
    section(shape, "open", function()
        local from = steer.bench.clock()
        lm = steer.model(shape.path, { weights = "random", seed = 1, device = device, progress = false })
        device:synchronize()
        return { open = { seconds = steer.bench.clock() - from, bytes = lm.bytes } }
    end)
    if lm then
        shape.dtype = lm.dtype
        if wanted "stream" then measure_stream(shape) end
        if wanted "decode" then measure_decode(shape, lm) end
        if plan.prefill then
            section(shape, "prefill", function()
                return timed.prefill(lm, {
                    device = device, sequences = plan.prefill.sequences, tokens = plan.prefill.tokens, rows = rows,
                    seconds = seconds,
                })
            end)
        end
        if plan.grid then section(shape, "grid", function() return timed.grid(lm, grid_of(shape)) end) end
        lm:close()
    end
    if options.load then measure_load(shape) end
end

-- ---- Transformers --------------------------------------------------------------------------------------------------

local hf = {}

-- Keeps a measurement of transformers beside ours.
local function take_variant(line)
    local name, rest = line.section:match("^(%S+) (.*)$")
    for _, shape in ipairs(shapes) do
        if shape.name == name then
            local key = "HF " .. rest
            shape.found[key] = shape.found[key] or {}
            shape.found[key][line.name .. " " .. line.how] = { wall = line.wall }
        end
    end
    line.kind, line.side, line.unit = "measurement", "transformers", "s"
    records[#records + 1] = line
end

local function keep(line) records[#records + 1] = line end

local function measure_hf()
    if options.only then
        hf.why = "transformers: left out by --only"
        return
    end
    local python, limit = options.python or "python3", number("hf-seconds", quick and 60 or 110, 1)
    if python == "none" then
        hf.why = "transformers: left out by --python none"
        return
    end
    local words = {
        python, here .. "/peers/hf_model.py", "--device", device.id, "--dtype", shapes[1].dtype or "bf16",
        "--sequences", table.concat(plan.sequences, ","), "--context", plan.contexts[1],
        "--prefill", plan.prefill.sequences .. "," .. plan.prefill.tokens, "--seconds", quick and 0.1 or seconds / 2,
    }
    local compile = number("hf-compile", 0, 0)
    if compile == 0 then words[#words + 1] = "--no-compile" end
    words[#words + 1], words[#words + 2] = "--compile-seconds", compile
    words[#words + 1] = "--shapes"
    for _, shape in ipairs(shapes) do words[#words + 1] = shape.path end
    say("transformers")
    collectgarbage() -- what a section that failed left on the device
    collectgarbage()
    common.children(words, limit, {
        environment = function(line)
            hf.environment = line
            keep(line)
        end,
        transformers = function(line) hf.version = line.version end,
        opened = keep, first_calls = keep, variant = take_variant,
        note = function(line)
            local about = { line.section, line.name, line.how }
            log.note("transformers, %s: %s", table.concat(about, ", "), line.message)
        end,
    }, log.note)
    hf.why = "transformers: see the notes"
end

-- ---- What was found ------------------------------------------------------------------------------------------------

local function environment()
    local list = common.environment(device, here)
    if hf.environment then common.append_torch(list, hf.environment) end
    if hf.version then list[#list + 1] = { "transformers", hf.version } end
    list[#list + 1] = { "sampling", options.greedy and "greedy" or "from the whole distribution, temperature 1" }
    list[#list + 1] = { "rows of a step at most", rows or "the session's default" }
    for _, shape in ipairs(shapes) do
        list[#list + 1] = { shape.name, ("%.2fM parameters, %s, %.1f MB read by a step, random weights"):format(
            shape.parameters / 1e6, shape.dtype or "not opened", shape.found.weights / 1e6) }
    end
    return list
end

-- The rows that miss their must, and those that miss their stretch, as texts.
local function shortfalls(filled)
    local short, near = {}, {}
    for _, row in ipairs(filled) do
        local verdict = report.verdict(row)
        local limit = verdict:find("^short") and row.must or verdict:find("^met must") and row.stretch
        if limit then
            table.insert(verdict:find("^short") and short or near, ("%s, %s: %.3g, bar %.3g"):format(row.shape,
                row.metric, row.value, limit))
        elseif verdict == "failed" then
            short[#short + 1] = ("%s, %s: failed: %s"):format(row.shape, row.metric, row.failed)
        end
    end
    return short, near
end

local function markdown(filled, list)
    local short, near = shortfalls(filled)
    local out = {
        "# Models: decoding, prefill, capture and loading", page.environment(list), report.table(filled),
        "## Short of a must", #short > 0 and page.bullets(short) or "Nothing that was measured.",
        "## Short of a stretch", #near > 0 and page.bullets(near) or "Nothing that was measured.",
    }
    if #log.notes > 0 then
        out[#out + 1] = "## Notes"
        out[#out + 1] = page.bullets(log.notes)
    end
    return table.concat(out, "\n\n") .. "\n"
end

for _, shape in ipairs(shapes) do measure(shape) end
measure_hf()

local filled = {}
for _, shape in ipairs(shapes) do
    for _, row in ipairs(bars.fill(shape, plan, shape.found, shape.failed, hf.why)) do
        filled[#filled + 1] = row
        local copy = { kind = "row", verdict = report.verdict(row) }
        for key, value in pairs(row) do copy[key] = value end
        records[#records + 1] = copy
    end
end
local list = environment()
common.publish(options.out, "model", markdown(filled, list), list, records, say)
