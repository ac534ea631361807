--- engine.lua: measures the steering engine against its bars, beside the references and PyTorch, in one run.
-- Usage: steer run bench/engine.lua [OPTIONS]; --help says which. What the columns mean: bench/README.md.
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. here .. "/../tests/lua/?.lua;" .. package.path

local steer = require "steer"
local bars = require "engine.bars"
local cases = require "engine.cases"
local common = require "common"
local exact = require "engine.exact"
local report = require "engine.report"

local HELP = [[
usage: steer run bench/engine.lua [OPTIONS]

  --device ID       device to measure (default: the first GPU, else the CPU)
  --shapes A,B,C    shapes to measure (default: all on a GPU, only the CPU's own rows on the CPU)
  --dtype NAME      of the hidden states: bf16 (default), f16, f32
  --quick           fewer samples
  --out DIR         write engine.jsonl (raw samples) and engine.md (the table) there
  --python COMMAND  Python with PyTorch (default: python3); --python none leaves PyTorch out
  --compile         time torch.compile too
  --no-graph        time plain launches between events instead of graphs (also on the CPU)
  --shrink N        divide rows and requests by N: for trying the script, the bars do not hold then
]]

-- ---- Options -------------------------------------------------------------------------------------------------------

local FLAGS = { quick = true, compile = true, ["no-graph"] = true }
local VALUES = { device = true, shapes = true, dtype = true, out = true, python = true, shrink = true }

local function fail_usage(message) common.fail_usage("engine.lua", HELP, message) end

local options = common.options(arg, "engine.lua", HELP, FLAGS, VALUES)
local device = steer.device(options.device)
local on_cpu = device.id == "cpu"
local shrink = common.shrink(options, "engine.lua", HELP)

local ctx = { device = device, dtype = options.dtype or "bf16", graph = not on_cpu and not options["no-graph"] }
local has_gpu_times = not on_cpu or options["no-graph"]

local say = common.sayer()

-- Options of bench.time for a measurement that may take `seconds` a candidate.
local function rule(seconds, more)
    local opts = {
        device = device, max_seconds = options.quick and seconds / 8 or seconds, max_samples = 300,
        gpu = has_gpu_times or false, wall = not has_gpu_times, graph = ctx.graph,
    }
    for key, value in pairs(more or {}) do opts[key] = value end
    return opts
end

local function wall_rule(seconds, more)
    local opts = rule(seconds, { gpu = false, wall = true, max_samples = 1000 })
    for key, value in pairs(more or {}) do opts[key] = value end
    return opts
end

-- ---- Measuring -----------------------------------------------------------------------------------------------------

local measured, failed = {}, {} -- by section
local records = {}              -- lines of engine.jsonl
local checks = {}               -- accuracy and invariance, as they come

local function record(section, results, in_section)
    for name, result in pairs(results) do
        if type(result) == "table" and (result.gpu or result.wall) then
            local case = in_section[name] or {}
            records[#records + 1] = {
                kind = "measurement", section = section, name = name, unit = "s", gpu = result.gpu, wall = result.wall,
                mode = result.mode, path = case.path, why = case.why, launches = case.launches,
                programs = case.programs, bytes = case.bytes, accuracy = case.accuracy, dtype = ctx.dtype,
            }
        end
    end
end

-- Runs a section: a failure is kept for the table and the others go on. `body` returns results by name and the cases.
local function section(name, body)
    say("%s", name)
    collectgarbage()
    collectgarbage()
    local ok, results, in_section = xpcall(body, function(err)
        if type(err) == "table" and err.code == "interrupted" then return err end
        return debug.traceback(tostring(err), 2)
    end)
    if ok then
        measured[name] = results
        record(name, results, in_section or {})
        return
    end
    if type(results) == "table" then error(results, 0) end
    failed[name] = results:match("^[^\n]*")
    records[#records + 1] = { kind = "failure", section = name, message = results }
    say("%s failed: %s", name, failed[name])
end

-- Calls fn for the case `name`: an error is kept in `failures`, the other cases go on. Returns fn's result or nil.
local function attempt(failures, name, fn)
    local ok, result = pcall(fn)
    if ok then return result end
    if type(result) == "table" and result.code == "interrupted" then error(result, 0) end
    failures[name] = tostring(result)
    records[#records + 1] = { kind = "failure", case = name, message = failures[name] }
    say("  %s failed: %s", name, failures[name])
    return nil
end

-- Makes the cases of a batch: name -> function that makes one.
local function make_batch(makers)
    local batch, failures = {}, {}
    for name, make in pairs(makers) do batch[name] = attempt(failures, name, make) end
    return batch, failures
end

-- Adds to `candidates` the functions of the cases over the tensors; a case that fails when it is tried drops out.
local function add_candidates(candidates, batch, failures, list)
    for name, case in pairs(batch) do
        candidates[name] = attempt(failures, name, function()
            local fns = cases.functions(case, list)
            for _, fn in ipairs(fns) do fn() end
            device:synchronize()
            return fns
        end)
    end
end

-- Checks what a case computes and keeps what was found.
local function check_case(shape, name, case, clean)
    case.accuracy = exact.accuracy(case, clean)
    checks[#checks + 1] = { shape = shape, name = name, accuracy = case.accuracy, dtype = case.ctx.dtype }
end

-- The references over one tensor, as candidates.
local function references(x)
    return steer.bench.reference("empty", x), steer.bench.reference("stream", x)
end

-- Times cases over one tensor beside the references, then checks what they compute.
local function hot(shape, makers, opts)
    local batch, failures = make_batch(makers)
    local clean = cases.hidden(ctx, shape)
    local x = clean:clone()
    local candidates = {}
    candidates.R0, candidates.R1 = references(x)
    add_candidates(candidates, batch, failures, { x })
    local results = steer.bench.interleave(candidates, opts)
    exact.finite(x)
    x:close()
    for name, case in pairs(batch) do
        attempt(failures, name .. " (accuracy)", function() check_case(shape.name, name, case, clean) end)
    end
    results.failures = failures
    return results, batch
end

local function cold(shape, makers, opts)
    local batch, failures = make_batch(makers)
    local clean = cases.hidden(ctx, shape)
    local xs, stream, size = {}, {}, ctx.dtype == "f32" and 4 or 2
    for i = 1, math.max(2, steer.bench.copies(clean:numel() * size, device) / shrink) do
        xs[i] = clean:clone()
        stream[i] = steer.bench.reference("stream", xs[i])
    end
    local candidates = { R1 = stream }
    add_candidates(candidates, batch, failures, xs)
    opts.mode = "cold"
    local results = steer.bench.interleave(candidates, opts)
    exact.finite(xs[#xs])
    for _, x in ipairs(xs) do x:close() end
    results.failures = failures
    return results, batch
end

local function wall(shape, makers, opts)
    local batch, failures = make_batch(makers)
    local x = cases.hidden(ctx, shape)
    local candidates = {}
    candidates.W0, candidates.W1 = references(x)
    add_candidates(candidates, batch, failures, { x })
    local results = steer.bench.interleave(candidates, opts)
    exact.finite(x)
    results.failures = failures
    return results, batch
end

local function maker(shape, kinds, opts)
    return function() return cases.make(ctx, shape, kinds, opts) end
end

-- Distinct specs in the mixed path's kernel and one spec in the uniform path's: what the automatic path launches when
-- nothing is captured. In a graph that must survive an update the automatic path is the mixed one for any batch.
local function paths(shape)
    return {
        distinct = maker(shape, { "cap" }, { path = "mixed" }),
        one = maker(shape, { "cap" }, { path = "uniform", specs = 1 }),
    }
end

local function invariance(shape)
    section(shape.name .. " invariance", function()
        local agreed, differ = exact.invariance(cases.make(ctx, shape, { "add", "cap", "ablate" }, { path = "mixed" }),
            cases.hidden(ctx, shape))
        checks[#checks + 1] = { shape = shape.name, agreed = agreed, differ = differ, uneven = shape.uneven }
        return {}
    end)
end

-- ---- Shapes --------------------------------------------------------------------------------------------------------

-- Time of the same work in PyTorch, in a process of its own.
local function torch(shape)
    local python = options.python or "python3"
    local words = {
        python, here .. "/peers/torch_ops.py", "--rows", shape.rows, "--hidden", shape.hidden, "--requests",
        shape.requests, "--dtype", ctx.dtype, "--device", device.id, "--seconds", options.quick and 2 or 10,
        "--samples", 1000,
    }
    if options.compile then words[#words + 1] = "--compile" end
    local pipe = assert(io.popen(common.command(words)))
    local text = pipe:read("*a")
    pipe:close()
    local answer = require("dkjson").decode(text)
    if type(answer) ~= "table" then error(("%s: no PyTorch, or its run failed (see above)"):format(python), 0) end
    local results = {}
    for name, stats in pairs(answer.results) do results["torch_" .. name] = { wall = stats } end
    results.torch_fast, results.torch_slow = results.torch_cap, results.torch_cap_loop
    records[#records + 1] = { kind = "torch", version = answer.torch, device = answer.device, name = answer.name }
    return results
end

local function measure_a()
    local shape = cases.shrunk("A", shrink)
    section("A hot", function()
        local makers = paths(shape)
        makers.automatic, makers.loop = maker(shape, { "cap" }), maker(shape, { "cap" }, { path = "loop" })
        return hot(shape, makers, rule(2))
    end)
    section("A cold", function() return cold(shape, paths(shape), rule(2)) end)
    section("A wall", function()
        return wall(shape, {
            distinct = maker(shape, { "cap" }), one = maker(shape, { "cap" }, { specs = 1 }),
        }, wall_rule(2))
    end)
    if options.python ~= "none" then
        section("A PyTorch", function()
            local results = torch(shape)
            local ours = measured["A wall"] or error("there are no wall times to compare with", 0)
            results.one, results.distinct = ours.one, ours.distinct
            return results
        end)
    else
        failed["A PyTorch"] = "left out by --python none"
    end
    for _, group in ipairs { { "A adds", "add", bars.ADDS }, { "A caps", "cap", bars.CAPS } } do
        section(group[1], function()
            local makers = {}
            for _, k in ipairs(group[3]) do
                makers["k" .. k] = maker(shape, cases.times(k, group[2]), { path = "mixed" })
            end
            return hot(shape, makers, rule(1.5))
        end)
    end
    local uneven = cases.uneven(shape)
    section("A uneven", function()
        local makers = {}
        for name, one in pairs { even = shape, uneven = uneven } do
            for _, k in ipairs(bars.UNEVEN) do
                makers[name .. k] = maker(one, cases.times(k, "cap"), { path = "mixed" })
            end
            makers[name .. " automatic"] = maker(one, { "cap" })
        end
        return hot(shape, makers, rule(1.5))
    end)
    invariance(shape)
    invariance(uneven)
end

local function update_times(shape)
    local engine, n = cases.engine(ctx, shape), shape.requests
    local specs = { cases.layered_specs(shape, n, 1), cases.layered_specs(shape, n, 2) }
    local function updates(count)
        local batches, fns = {}, {}
        for turn = 1, 2 do
            local used = {}
            for i = 1, count do used[i] = specs[turn][i] end
            batches[turn] = cases.requests_of(shape, used)
        end
        local plan = engine:plan(batches[2])
        for turn = 1, 2 do fns[turn] = function() plan:update(batches[turn]) end end
        return fns, plan
    end
    local all, plan = updates(n)
    local results = steer.bench.interleave({ all = all, one = (updates(1)) }, wall_rule(2, { sync = false }))
    local fresh = {}
    for i = 1, 5 do
        local batch = cases.requests_of(shape, cases.layered_specs(shape, n, 2 + i))
        local from = steer.bench.clock()
        plan:update(batch)
        fresh[i] = (steer.bench.clock() - from) / n
    end
    results.new, results.specs = { wall = steer.bench.stats(fresh) }, n
    return results
end

local function measure_b()
    local shape = cases.shrunk("B", shrink)
    section("B hot", function() return hot(shape, paths(shape), rule(2)) end)
    section("B wall", function()
        return wall(shape, { distinct = maker(shape, { "cap" }) }, wall_rule(2))
    end)
    section("B update", function() return update_times(shape) end)
    invariance(shape)
end

local function measure_c()
    local shape = cases.shrunk("C", shrink)
    section("C", function()
        local makers = { ["cap, one spec"] = maker(shape, { "cap" }, { path = "uniform", specs = 1 }) }
        for _, case in ipairs(bars.C_CASES) do makers[case.name] = maker(shape, case.kinds, { path = "mixed" }) end
        return hot(shape, makers, rule(2))
    end)
    invariance(shape)
end

-- The CPU's own bar: a cap against the stream that the machine's memory can do.
local function measure_cpu()
    local shape = cases.shrunk("A", shrink)
    shape.name = "cpu"
    for _, dtype in ipairs { "f32", "bf16" } do
        section("CPU " .. dtype, function()
            local here_ctx = { device = device, dtype = dtype, graph = false }
            local case = cases.make(here_ctx, shape, { "cap" })
            local clean, size = cases.hidden(here_ctx, shape), dtype == "f32" and 4 or 2
            local x, big = clean:clone(), steer.tensor.randn({ 2 ^ 26 / shrink }, { device = device })
            local results = steer.bench.interleave({
                stream = steer.bench.reference("stream", big), cap = cases.functions(case, { x }),
            }, wall_rule(6))
            exact.finite(x)
            check_case("cpu", "cap " .. dtype, case, clean)
            results.cap_bytes, results.stream_bytes = clean:numel() * size, big:numel() * 4
            return results, { cap = case }
        end)
    end
end

-- ---- What was found ------------------------------------------------------------------------------------------------

local function environment()
    local list = common.environment(device, here)
    list[#list + 1] = { "dtype", ctx.dtype }
    list[#list + 1] = { "timing", ctx.graph and "graphs of launches between events"
        or has_gpu_times and "plain launches between events" or "wall clock" }
    list[#list + 1] = { "sampling", options.quick and "quick" or "full" }
    if shrink > 1 then list[#list + 1] = { "shrunk", ("by %d: the bars do not hold"):format(shrink) } end
    return list
end

local OFF_MUST, OFF_STRETCH = 0.1, 0.04

-- Accuracy and invariance of a shape as rows.
local function check_rows(shape)
    local worst, off, of, seen, rows = 0, 0, nil, false, {}
    for _, check in ipairs(checks) do
        if check.shape == shape and check.accuracy then
            worst = math.max(worst, check.accuracy.max_ulp)
            seen = true
            -- f32 arithmetic rounds f32 results more than once.
            if check.dtype ~= "f32" and (not of or check.accuracy.off > off) then
                off, of = check.accuracy.off, check.name
            end
        end
    end
    if seen then
        rows[1] = { shape = shape, metric = "largest error against float64", value = worst, must = 1, unit = "ulp",
            from = "every case above" }
    end
    if of then
        rows[2] = { shape = shape, metric = "elements off the exact rounding", value = off, must = OFF_MUST,
            stretch = OFF_STRETCH, unit = "%", format = "%.4f", from = "the worst case: " .. of }
    end
    for _, check in ipairs(checks) do
        if check.shape == shape and check.agreed then
            rows[#rows + 1] = { shape = shape, value = #check.differ, must = 0,
                metric = "a request's bits, batches that differ" .. (check.uneven and ", unequal lengths" or ""),
                format = "%d", from = ("%d ways agree"):format(check.agreed)
                .. (#check.differ > 0 and "; other bits: " .. table.concat(check.differ, ", ") or "") }
        end
    end
    local broken = failed[shape .. " invariance"]
    if broken then rows[#rows + 1] = { shape = shape, metric = "a request's bits", failed = broken } end
    return rows
end

local function all_rows(shapes)
    local rows = {}
    for _, shape in ipairs(shapes) do
        for _, row in ipairs(bars.fill(shape, measured, failed)) do rows[#rows + 1] = row end
        for _, row in ipairs(check_rows(shape)) do rows[#rows + 1] = row end
    end
    return rows
end

local function write_results(folder, rows, list)
    common.make_folder(folder)
    local first = { kind = "environment" }
    for _, entry in ipairs(list) do first[entry[1]] = entry[2] end
    local lines = { first }
    for _, line in ipairs(records) do lines[#lines + 1] = line end
    for _, row in ipairs(rows) do
        local copy = { kind = "row", verdict = report.verdict(row) }
        for key, value in pairs(row) do copy[key] = value end
        lines[#lines + 1] = copy
    end
    common.write_lines(folder .. "/engine.jsonl", lines)
    common.write(folder .. "/engine.md", report.markdown(rows, list))
    say("wrote %s/engine.jsonl and %s/engine.md", folder, folder)
end

-- ---- The run -------------------------------------------------------------------------------------------------------

local RUN = { A = measure_a, B = measure_b, C = measure_c, cpu = measure_cpu }

local shapes = {}
for name in (options.shapes or (on_cpu and "cpu" or "A,B,C")):gmatch("[^,]+") do
    if not RUN[name] then fail_usage(("--shapes: %s, expected A, B, C or cpu"):format(name)) end
    if name == "cpu" and not on_cpu then fail_usage("--shapes: cpu is measured with --device cpu") end
    shapes[#shapes + 1] = name
end
for _, name in ipairs(shapes) do RUN[name]() end

local list, rows = environment(), all_rows(shapes)
for _, entry in ipairs(list) do print(("%-20s %s"):format(entry[1], entry[2])) end
io.write("\n", report.text(rows))
if options.out then write_results(options.out, rows, list) end
