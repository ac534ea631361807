--- steer.bench: times work on a device, by GPU events and by the wall clock, with statistics and raw samples.
--
-- GPU time is never taken around one short kernel: many launches are captured in a graph, and a replay of it lies
-- between two events, behind another replay that keeps the device busy. Wall time is one call and the wait for it.
local ffi = require "ffi"
local c = require "steer.core.c"
local check = require "steer.core.check"
local devices = require "steer.device"
local options = require "steer.core.options"
local tensors = require "steer.tensor.object"
local T = require "steer.tensor"

local C = c.C
local raise = require("steer.core.error").raise
local tables = require "steer.core.tables"

local M = {}

--- Monotonic time in seconds.
-- @treturn number
function M.clock() return C.steer_clock() end

-- ---- Statistics ----------------------------------------------------------------------------------------------------

-- Quantile of a sorted list, between its neighbours in proportion.
local function quantile(sorted, q)
    local at = 1 + q * (#sorted - 1)
    local low = math.floor(at)
    local high = math.min(low + 1, #sorted)
    return sorted[low] + (at - low) * (sorted[high] - sorted[low])
end

--- Describes a list of numbers.
-- @tparam table samples at least one number
-- @treturn table n, median, q1, q3, min, max, mean, noise (standard deviation in percent of the mean), samples
function M.stats(samples)
    check.type("bench_stats", "samples", samples, "table", "a list of numbers")
    local n, sum, squares, sorted = #samples, 0, 0, {}
    if n == 0 then raise("invalid_argument", "bench_stats", "samples: the list is empty") end
    for i = 1, n do
        sorted[i] = check.number("bench_stats", ("samples[%d]"):format(i), samples[i])
        sum = sum + samples[i]
    end
    local mean = sum / n
    for i = 1, n do squares = squares + (samples[i] - mean) ^ 2 end
    table.sort(sorted)
    return {
        n = n, median = quantile(sorted, 0.5), q1 = quantile(sorted, 0.25), q3 = quantile(sorted, 0.75),
        min = sorted[1], max = sorted[n], mean = mean,
        noise = n > 1 and mean ~= 0 and 100 * math.sqrt(squares / (n - 1)) / math.abs(mean) or 0,
        samples = samples,
    }
end

-- Samples on their way in, with the running deviation (Welford) that the stop rule reads.
local function recorder() return { samples = {}, n = 0, mean = 0, m2 = 0 } end

local function push(r, x)
    local n, d = r.n + 1, x - r.mean
    r.n, r.mean, r.samples[n] = n, r.mean + d / n, x
    r.m2 = r.m2 + d * (x - r.mean)
end

-- Why no more samples are needed, or nil. Seconds are those since the group began.
local function stop_reason(r, rule, seconds)
    if r.n < rule.min_samples then return nil end
    if r.n > 1 and 100 * math.sqrt(r.m2 / (r.n - 1)) <= rule.max_noise * r.mean then return "noise" end
    if r.n >= rule.max_samples then return "samples" end
    if seconds > rule.max_seconds then return "time" end
    return nil
end

-- ---- Graphs and references -----------------------------------------------------------------------------------------

local Graph = {}
Graph.__index = Graph

local graph_out = ffi.new("steer_graph *[1]")
local event_out = ffi.new("steer_event *[1]")
local INTERRUPTED = tonumber(C.STEER_E_INTERRUPTED)

--- Captures what fn launches on a device as a graph, without running it.
-- What the launches use (plans, tensors) must outlive the graph.
-- @tparam function fn
-- @param[opt] device id or device, default steer.device()
-- @return a graph with launch() and close(); unsupported on the CPU, or if fn waits, allocates or copies to the host
function M.graph(fn, device)
    check.type("bench_graph", "fn", fn, "function", "a function that launches work")
    device = devices.resolve("bench_graph", device)
    c.check(C.steer_graph_begin(device.handle))
    local ok, err = pcall(fn)
    local status = C.steer_graph_end(graph_out, device.handle)
    if status == INTERRUPTED then -- the poll came before the end of the capture
        ok, err = false, select(2, pcall(c.check, status))
        status = C.steer_graph_end(graph_out, device.handle)
    end
    if not ok then
        if status == 0 then C.steer_graph_release(graph_out[0]) end
        error(err, 0)
    end
    c.check(status)
    local owned = c.own(graph_out[0], C.steer_graph_release)
    return setmetatable({ handle = owned }, Graph)
end

--- Launches the captured work once; it runs in the order of the device's stream.
-- @return the graph
function Graph:launch()
    if self.handle == nil then raise("closed", "graph_launch", "graph: it is closed") end
    c.check(C.steer_graph_launch(self.handle))
    return self
end

--- Frees the graph now.
function Graph:close()
    if self.handle ~= nil then c.free(self.handle, C.steer_graph_release) end
    self.handle = nil
end

local REFERENCES = { empty = C.STEER_REFERENCE_EMPTY, stream = C.STEER_REFERENCE_STREAM }

--- Makes a function that runs a reference once: "empty" (a kernel that does nothing) or "stream" (every element loaded,
-- + 0, stored in place).
-- @tparam string kind
-- @tparam tensor tensor contiguous, f32, f16 or bf16
-- @treturn function to be timed
function M.reference(kind, tensor)
    local number = REFERENCES[kind]
    if not number then
        raise("invalid_argument", "bench_reference", "kind: %s, expected %s", check.describe(kind),
            options.choice(REFERENCES))
    end
    tensors.use(tensor, "bench_reference", "tensor")
    return function()
        local status = C.steer_reference_run(tensors.use(tensor, "bench_reference", "tensor"), number)
        if status ~= 0 then c.check(status) end
    end
end

local COLD_CACHES = 5       -- caches that a cold rotation goes through
local SOME_CACHE = 64 * 2 ^ 20 -- where the size is not known

--- Says how many buffers of `bytes` a cold measurement rotates over: at least five times the last-level cache.
-- @tparam number bytes
-- @param[opt] device id or device, default steer.device()
function M.copies(bytes, device)
    check.integer("bench_copies", "bytes", bytes, 1)
    local cache = devices.resolve("bench_copies", device):info().l2_bytes
    if cache <= 0 then cache = SOME_CACHE end
    return math.max(2, math.ceil(COLD_CACHES * cache / bytes))
end

-- ---- Samplers: one per candidate, each gives the seconds of a call -------------------------------------------------

local function make_event(device)
    c.check(C.steer_event_create(event_out, device.handle))
    local owned = c.own(event_out[0], C.steer_event_release)
    return owned
end

-- Calls the functions in turn, `count` times in all.
local function call_each(fns, count)
    local n = #fns
    for i = 0, count - 1 do fns[i % n + 1]() end
end

local GRAPH_SECONDS = 1e-3 -- of a replay: long against the start of a graph and the resolution of events
local FEWEST, MOST = 4, 400

-- Launches of one timed replay: a whole number of rounds over the functions.
local function launches_for(fns, rule, seconds)
    local wanted = rule.per_graph or math.min(MOST, math.max(FEWEST, math.ceil(GRAPH_SECONDS / seconds)))
    return math.ceil(wanted / #fns) * #fns
end

-- Seconds that a call takes at most, waiting at the end only.
local function estimate(fns, device)
    local from = C.steer_clock()
    call_each(fns, 8)
    device:synchronize()
    return math.max(1e-7, (C.steer_clock() - from) / 8)
end

local function gpu_sampler(fns, rule, device)
    local start, stop = make_event(device), make_event(device)
    local count = launches_for(fns, rule, estimate(fns, device))
    local function launch() call_each(fns, count) end
    local graph
    if rule.graph then
        graph = M.graph(launch, device)
        launch = function() graph:launch() end
    end
    local seconds = ffi.new("double[1]")
    local self = { recorder = recorder(), launches = count, graph = rule.graph }
    function self.sample(r)
        launch() -- keeps the device busy while the timed launches are queued
        c.check(C.steer_event_record(start))
        launch()
        c.check(C.steer_event_record(stop))
        c.check(C.steer_event_elapsed(seconds, start, stop))
        push(r, seconds[0] / count)
    end
    function self.close()
        c.free(start, C.steer_event_release)
        c.free(stop, C.steer_event_release)
        if graph then graph:close() end
    end
    self.sample(recorder()) -- the first replay also sends the graph to the device
    return self
end

-- Loaded anew for each candidate, so that each has a compiled loop of its own.
local WALL_LOOP = [[
    local C, check = ...
    return function(fns, at, device, waits, out, count)
        local n = #fns
        for i = 0, count - 1 do
            local fn = fns[at]
            local from = C.steer_clock()
            fn()
            if waits then check(C.steer_device_synchronize(device)) end
            out[i] = C.steer_clock() - from
            if not waits then check(C.steer_device_synchronize(device)) end
            at = at % n + 1
        end
        return at
    end
]]
local BLOCK, BLOCK_SECONDS = 32, 2e-3 -- calls of a candidate before the next one has its turn

local function wall_sampler(fns, rule, device)
    local loop = assert(loadstring(WALL_LOOP, "=bench wall loop"))(C, c.check)
    local out, at = ffi.new("double[?]", BLOCK), 1
    local self = { recorder = recorder(), close = function() end }
    local function run(r, count)
        at = loop(fns, at, device.handle, rule.sync, out, count)
        for i = 0, count - 1 do push(r, out[i]) end
    end
    local trial = recorder()
    run(trial, 2)
    local block = math.max(1, math.min(BLOCK, math.floor(BLOCK_SECONDS / math.max(1e-9, trial.mean))))
    for _ = 1, math.ceil(rule.warmup_calls(trial.mean) / block) do run(trial, block) end
    function self.sample(r) run(r, math.min(block, math.max(1, rule.max_samples - r.n))) end
    return self
end

-- ---- Timing --------------------------------------------------------------------------------------------------------

local KNOWN = {
    device = true, mode = "string", warmup = "number", min_samples = "number", max_samples = "number",
    max_seconds = "number", max_noise = "number", gpu = "boolean", wall = "boolean", graph = "boolean",
    per_graph = "number", sync = "boolean",
}
local WARM_SECONDS, WARM_MOST = 0.05, 200

local function positive(op, opts, key, default)
    local value = opts[key] or default
    if value <= 0 or value ~= value then
        raise("invalid_argument", op, "opts.%s: %s, expected more than 0", key, tostring(value))
    end
    return value
end

local function count_option(op, opts, key, default)
    return opts[key] and check.integer(op, "opts." .. key, opts[key], 1) or default
end

local function read_rule(op, opts)
    opts = options.check(op, opts, KNOWN)
    local device = devices.resolve(op, opts.device)
    local on_cpu = device.id == "cpu"
    local rule = {
        device = device, mode = opts.mode or "hot",
        min_samples = count_option(op, opts, "min_samples", 10),
        max_samples = count_option(op, opts, "max_samples", 10000),
        max_seconds = positive(op, opts, "max_seconds", 15), max_noise = positive(op, opts, "max_noise", 0.5),
        per_graph = count_option(op, opts, "per_graph"),
        gpu = opts.gpu, wall = opts.wall ~= false, graph = opts.graph ~= false, sync = opts.sync ~= false,
    }
    if rule.gpu == nil then rule.gpu = not on_cpu end
    if rule.mode ~= "hot" and rule.mode ~= "cold" then
        raise("invalid_argument", op, 'opts.mode: %s, expected "hot" or "cold"', check.describe(rule.mode))
    end
    if rule.gpu and rule.graph and on_cpu then
        raise("unsupported", op, "opts.gpu: the CPU captures no graphs; graph=false times plain launches")
    end
    if not (rule.gpu or rule.wall) then
        raise("invalid_argument", op, "opts.wall: nothing is left to measure on %s", device.id)
    end
    if opts.warmup then check.integer(op, "opts.warmup", opts.warmup, 0) end
    function rule.warmup_calls(seconds)
        return opts.warmup or math.min(WARM_MOST, math.ceil(WARM_SECONDS / math.max(1e-9, seconds)))
    end
    return rule
end

-- A function, or a list of functions to be called in turn, as a list.
local function read_functions(op, name, fns, rule)
    if type(fns) == "function" then fns = { fns } end
    check.type(op, name, fns, "table", "a function or a list of functions")
    if #fns == 0 then raise("invalid_argument", op, "%s: the list is empty", name) end
    for i = 1, #fns do check.type(op, ("%s[%d]"):format(name, i), fns[i], "function") end
    if rule.mode == "cold" and #fns < 2 then
        raise("invalid_argument", op,
            "%s: a cold measurement takes a list of functions over buffers that exceed the cache together", name)
    end
    return fns
end

local function group_done(samplers, rule, from)
    for _, s in ipairs(samplers) do
        if not stop_reason(s.recorder, rule, C.steer_clock() - from) then return false end
    end
    return true
end

-- Runs the samplers of all candidates in turn until each has enough; returns their statistics in the same order.
local function measure(make, lists, rule)
    local samplers, results = {}, {}
    for i, fns in ipairs(lists) do samplers[i] = make(fns, rule, rule.device) end
    local group = setmetatable({ max_seconds = rule.max_seconds * #lists }, { __index = rule })
    local from = C.steer_clock()
    repeat
        for _, s in ipairs(samplers) do
            if s.recorder.n < rule.max_samples then s.sample(s.recorder) end
        end
    until group_done(samplers, group, from)
    local seconds = C.steer_clock() - from
    for i, s in ipairs(samplers) do
        results[i] = M.stats(s.recorder.samples)
        results[i].stop, results[i].launches = stop_reason(s.recorder, group, seconds), s.launches
        results[i].graph = s.graph
        s.close()
    end
    return results
end

local Result = {}

local function section_text(name, s)
    if not s then return "" end
    return ("%s %.4g us (%.4g to %.4g, n=%d, noise %s %%)"):format(name, s.median * 1e6, s.q1 * 1e6, s.q3 * 1e6, s.n,
        (s.noise < 10 and "%.2g" or "%.0f"):format(s.noise))
end

function Result:__tostring()
    local gpu, wall = section_text("gpu", self.gpu), section_text("wall", self.wall)
    return gpu .. (gpu ~= "" and wall ~= "" and ", " or "") .. wall
end

local function run(lists, rule)
    for _, fns in ipairs(lists) do -- once each: what fails does so before anything is captured or timed
        call_each(fns, #fns)
        rule.device:synchronize()
    end
    local gpu = rule.gpu and measure(gpu_sampler, lists, rule) or {}
    local wall = rule.wall and measure(wall_sampler, lists, rule) or {}
    local info, results = rule.device:info(), {}
    for i = 1, #lists do
        results[i] = setmetatable({
            gpu = gpu[i], wall = wall[i], unit = "s", mode = rule.mode, device = rule.device.id, name = info.name,
            driver = info.driver, clock_khz = info.clock_khz,
        }, Result)
    end
    return results
end

--- Times a unit of work.
-- @param fn a function that issues one unit of work on the device, or a list of them that are called in turn (for a
-- cold measurement: one for each buffer, bench.copies says how many)
-- @tparam[opt] table opts
--   device (default steer.device());
--   mode "hot" (default) or "cold", which takes a list of functions;
--   gpu (default true on a GPU): time by events; graph (default true): over a replay of a captured graph, else over
--     plain launches; per_graph: launches between two events (default: about a millisecond of them);
--   wall (default true): time of one call and the wait for it; sync=false leaves the wait out of the time;
--   warmup: calls before the first sample (default: 0.05 s of them, at most 200);
--   the stop rule: at least min_samples (10), until the deviation is below max_noise (0.5) percent of the mean, or
--     max_samples (10000) or max_seconds (15, for each of gpu and wall) are reached
-- @treturn table gpu and wall (what bench.stats returns, and `stop`: "noise", "samples" or "time"; nil if not
-- measured), unit ("s"), mode, device, name, driver, clock_khz; tostring prints it
function M.time(fn, opts)
    local rule = read_rule("bench_time", opts)
    return run({ read_functions("bench_time", "fn", fn, rule) }, rule)[1]
end

--- Times several candidates in turn, sample by sample, so that what changes over time changes all of them alike.
-- @tparam table candidates name -> function or list of functions, as bench.time takes
-- @tparam[opt] table opts as bench.time; max_seconds is for each candidate
-- @treturn table name -> result, as bench.time returns
function M.interleave(candidates, opts)
    local op = "bench_interleave"
    local rule = read_rule(op, opts)
    check.type(op, "candidates", candidates, "table", "a table of functions by name")
    local names, lists, results = tables.keys(candidates), {}, {}
    if #names == 0 then raise("invalid_argument", op, "candidates: there are none") end
    table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
    for i, name in ipairs(names) do
        lists[i] = read_functions(op, ("candidates[%s]"):format(tostring(name)), candidates[name], rule)
    end
    for i, result in ipairs(run(lists, rule)) do results[names[i]] = result end
    return results
end

-- ---- References ----------------------------------------------------------------------------------------------------

local References = {}

function References:__tostring()
    local lines = {}
    for _, name in ipairs { "R0", "R1", "R1_cold", "W0", "W1" } do
        if self[name] then lines[#lines + 1] = section_text(name, self[name]) end
    end
    lines[#lines + 1] = ("stream of %.0f bytes of %s on %s: %.4g GB/s"):format(self.bytes, self.dtype, self.device,
        self.bytes_per_second / 1e9)
    return table.concat(lines, "\n")
end

--- Measures what times are compared with, for hidden states of a shape.
-- @tparam table shape {rows, hidden}
-- @tparam[opt] table opts dtype ("bf16"), device and the options of bench.time
-- @treturn table R0 (GPU time of a kernel that does nothing), R1 (of an in-place stream over the same hidden states),
-- R1_cold (over a rotation of at least five caches), W0 and W1 (wall time of launch and wait of the two), each as
-- bench.stats returns, in seconds; bytes (of the hidden states), bytes_per_second (read and written by the stream);
-- on the CPU R0, R1 and R1_cold are nil; tostring prints it
function M.references(shape, opts)
    local op, rest = "bench_references", {}
    check.type(op, "shape", shape, "table", "{rows, hidden}")
    if opts ~= nil then check.type(op, "opts", opts, "table", "a table of options") end
    for _, key in ipairs(tables.keys(opts or {})) do rest[key] = opts[key] end
    local dtype = rest.dtype or "bf16"
    rest.dtype = nil
    local rule = read_rule(op, rest)
    local x = T.randn(shape, { dtype = dtype, device = rule.device, seed = 1 })
    local bytes = x:numel() * tonumber(C.steer_dtype_size(tensors.dtype_codes[dtype]))
    if bytes == 0 then raise("invalid_argument", op, "shape: it has no elements") end
    local hot = M.interleave({ empty = M.reference("empty", x), stream = M.reference("stream", x) }, rest)
    local out = {
        R0 = hot.empty.gpu, R1 = hot.stream.gpu, W0 = hot.empty.wall, W1 = hot.stream.wall, bytes = bytes,
        device = rule.device.id, dtype = dtype,
    }
    out.bytes_per_second = 2 * bytes / (out.R1 or out.W1).median
    if rule.gpu then
        local streams = { M.reference("stream", x) }
        for i = 2, M.copies(bytes, rule.device) do streams[i] = M.reference("stream", x:clone()) end
        rest.mode, rest.wall = "cold", false
        out.R1_cold = M.time(streams, rest).gpu
    end
    return setmetatable(out, References)
end

require("steer.core.class").module(M, "bench")

return M
