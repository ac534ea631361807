--- steerllm.lua: the four tables of the steerllm study, Steer and PyTorch (eager and compiled) in one run, as a study
-- in markdown. Usage: steer run bench/steerllm.lua [OPTIONS]; --help says which.
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. here .. "/../tests/lua/?.lua;" .. package.path

local steer = require "steer"
local common = require "common"
local page = require "page"
local sections = require "steerllm.sections"
local study_page = require "steerllm.study"

local HELP = [[
usage: steer run bench/steerllm.lua [OPTIONS]

  --device ID       device to measure (default: the first GPU, else the CPU)
  --dtype NAME      of the hidden states: bf16 (default), f16, f32
  --quick           fewer samples and no compilation, half a minute on a GPU
  --no-compile      without torch.compile
  --out DIR         write steerllm.md (the study) and steerllm.jsonl (raw samples) there
  --python COMMAND  Python with PyTorch (default: python3); --python none leaves PyTorch out
  --shrink N        divide rows and requests by N: for trying the script
]]
local FLAGS = { quick = true, ["no-compile"] = true }
local VALUES = { device = true, dtype = true, out = true, python = true, shrink = true }

local options = common.options(arg, "steerllm.lua", HELP, FLAGS, VALUES)
local shrink = common.shrink(options, "steerllm.lua", HELP)
local dtype = common.dtype(options, "steerllm.lua", HELP)

local say = common.sayer()
local log = common.log(say)
local opening = steer.bench.clock()
local device = steer.device(options.device)
device:synchronize()
opening = steer.bench.clock() - opening
local on_gpu = device.id ~= "cpu"
local ctx = { device = device, dtype = dtype, graph = on_gpu, seconds = options.quick and 0.1 or 0.5 }
local shapes = sections.shapes(shrink)

local function shape_text(shape)
    return ("%s%d x %d"):format(shape.requests > 1 and shape.requests .. " requests, " or "", shape.rows, shape.hidden)
end

local study = {
    ours = {}, again = {}, notes = log.notes, dtype = dtype, ways = on_gpu and { "wall", "queued", "graph" }
        or { "wall" },
    shape_names = { operations = shape_text(shapes.operations), batches = shape_text(shapes.batches),
        second = shape_text(shapes.second) },
}
local records, note, attempt = log.records, log.note, log.attempt

-- ---- Steer ---------------------------------------------------------------------------------------------------------

local function measure(name, fn, shape)
    attempt("Steer, " .. name, function()
        study.ours[name] = fn(ctx, shape)
        for case, measured in pairs(study.ours[name]) do
            local record = { kind = "measurement", side = "steer", section = name, name = case, unit = "s" }
            for key, value in pairs(measured) do record[key] = value end
            records[#records + 1] = record
        end
    end)
end

-- ---- PyTorch -------------------------------------------------------------------------------------------------------

local TORCH_SECONDS, COMPILE_SECONDS, LIMIT_SECONDS = 0.3, 50, 115
local QUICK_LIMIT_SECONDS = 25

local take = common.torch_lines(study, log)
function take.again(line)
    study.again[line.how] = line
    records[#records + 1] = line
end

local function torch()
    local python = options.python or "python3"
    local words = {
        python, here .. "/peers/torch_steerllm.py", "--device", device.id, "--dtype", dtype, "--shrink", shrink,
        "--seconds", options.quick and 0.1 or TORCH_SECONDS, "--compile-seconds", COMPILE_SECONDS,
    }
    if options.quick or options["no-compile"] then words[#words + 1] = "--no-compile" end
    common.children(words, options.quick and QUICK_LIMIT_SECONDS or LIMIT_SECONDS, take, note)
end

-- ---- The run -------------------------------------------------------------------------------------------------------

measure("operations", sections.operations, shapes.operations)
measure("batches", sections.batches, shapes.batches)
measure("second", sections.operations, shapes.second)
measure("warmup", sections.warmup, shapes.operations)
if options.python == "none" then
    note("PyTorch was left out by --python none")
else
    attempt("PyTorch", torch)
end
if options.quick or options["no-compile"] then note("torch.compile was left out by an option") end
if not on_gpu then note("the CPU has the wall clock only: nothing among many calls, nothing in graphs") end

local list = common.environment(device, here)
list[#list + 1] = { "dtype", dtype }
list[#list + 1] = { "sampling", options.quick and "quick" or "full" }
list[#list + 1] = { "Steer opens the device", page.duration(opening) }
if study.torch_environment then common.append_torch(list, study.torch_environment) end
if shrink > 1 then list[#list + 1] = { "shrunk", ("rows and requests divided by %d"):format(shrink) } end
study.environment = list

common.publish(options.out, "steerllm", study_page.markdown(study), list, records, say)
