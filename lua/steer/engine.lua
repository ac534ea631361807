--- The steering engine: plans a batch of requests once and steers the hidden states of every layer with it.
local ffi = require "ffi"
local c = require "steer.core.c"
local check = require "steer.core.check"
local strict = require("steer.core.class").strict
local compile = require "steer.engine.modes"
local device_module = require "steer.device"
local explain = require "steer.engine.explain"
local graph = require "steer.engine.graph"
local options = require "steer.core.options"
local requests_of = require "steer.engine.requests"
local use = require("steer.tensor.object").use
local warn = require "steer.core.warn"

local C = c.C
local raise = require("steer.core.error").raise

local M = {}

local function handle_of(self, class) return getmetatable(self) == class and self.handle or nil end

-- Raises for a method that was called on something else than an open object of the class.
local function no_object(self, op, class, name, example)
    if getmetatable(self) ~= class then
        raise("invalid_argument", op, "self: expected %s, got %s; methods are called with a colon, as in %s", name,
            check.describe(self), example)
    end
    return raise("closed", op, "%s: it is closed", name:match "%a+$")
end

-- ---- Plan ----------------------------------------------------------------------------------------------------------

local Plan = {}
Plan.__topic = "plan"
strict(Plan, "a plan", { handle = true, batch = true })

local plan_out = ffi.new("steer_plan *[1]")
local PATHS = {
    auto = C.STEER_PATH_AUTO, uniform = C.STEER_PATH_UNIFORM, mixed = C.STEER_PATH_MIXED, loop = C.STEER_PATH_LOOP,
}
local PLAN_OPTIONS = { path = "string", rows = "number", strict = "boolean", compile = true, wait = "boolean" }
local ROW_BYTES = 20 -- of a plan's row table on the device at most, for the soft limit

-- Warns if the plan's batch was applied, but only to layers that it does not steer.
local function warn_of_missed(handle)
    if C.steer_plan_is_missed(handle) ~= 0 then
        warn.once("missed", "plan:apply: only layers were applied on which the plan's specs steer nothing; layers "
            .. "count from 0, and plan:explain(layer) says what a layer does")
    end
end

local function release(handle)
    warn_of_missed(handle)
    C.steer_plan_release(handle)
end

-- Calls on a closed plan or without one end here.
local function no_plan(self, op) return no_object(self, op, Plan, "a plan", "plan:apply(layer, h)") end

local function make_plan(engine, handle, requests, opts)
    opts = options.check("plan_create", opts, PLAN_OPTIONS)
    local path = opts.path or "auto"
    if not PATHS[path] then
        raise("invalid_argument", "plan_create", "path: %s, expected %s", check.describe(path), options.choice(PATHS))
    end
    local batch = requests_of.new()
    local desc = c.descriptor("steer_plan_desc")
    desc.path, desc.strict = PATHS[path], opts.strict and 1 or 0
    if opts.rows then desc.rows = check.integer("plan_create", "rows", opts.rows, 1) end
    compile.fill("plan_create", desc, opts)
    desc.request_count = requests_of.fill(batch, "plan_create", requests)
    desc.requests = batch.requests
    c.room(device_module.resolve("plan_create", engine.device), ROW_BYTES * requests_of.rows(batch, opts.rows))
    local status = c.retry(C.steer_plan_create(plan_out, handle, desc), C.steer_plan_create, plan_out, handle, desc)
    c.check(status, "plan_create")
    local owned = c.own(plan_out[0], release)
    return setmetatable({ handle = owned, batch = batch, hidden = engine.hidden, dtype = engine.dtype }, Plan)
end

--- Replaces the batch: the same plan for the next step. The new rows may not exceed the plan's rows.
-- @tparam table requests as engine:plan takes them
-- @return the plan; on an error it is as it was
function Plan:update(requests)
    local handle = handle_of(self, Plan) or no_plan(self, "plan_update")
    local batch = self.batch
    warn_of_missed(handle)
    local count = requests_of.fill(batch, "plan_update", requests)
    local status = C.steer_plan_update(handle, count, batch.requests)
    if status ~= 0 then
        status = c.retry(status, C.steer_plan_update, handle, count, batch.requests)
        c.check(status, "plan_update")
    end
    return self
end

local APPLY_OPTIONS = { residual = true }

--- Steers the hidden states of a layer in place.
-- @tparam number layer from 0
-- @tparam tensor hidden [rows, hidden] in the engine's dtype, on its device; rows past the requests' tokens stay as
-- they are
-- @tparam[opt] table opts residual: a tensor like `hidden`, which is then the delta: delta + residual is steered,
-- residual stays, and delta receives steered - residual
-- @return hidden; shape_mismatch, dtype_mismatch or device_mismatch if a tensor does not fit the plan
function Plan:apply(layer, hidden, opts)
    local handle = handle_of(self, Plan) or no_plan(self, "plan_apply")
    check.int32("plan_apply", "layer", layer)
    local residual = nil
    if opts ~= nil then
        options.check("plan_apply", opts, APPLY_OPTIONS)
        if opts.residual ~= nil then residual = use(opts.residual, "plan_apply", "residual") end
    end
    local status = C.steer_plan_apply(handle, layer, use(hidden, "plan_apply", "hidden"), residual)
    if status ~= 0 then c.check(status) end
    return hidden
end

--- Explains what applying the plan to a layer does.
-- @tparam number layer from 0
-- @treturn table path, why, rows, steered_rows, programs, ops (after folding), max_ops, launches, kernels (a GPU's,
-- by name, and why they serve; else nil), bytes (least memory traffic), expected_us (at a GPU's measured bandwidth,
-- else nil), compile (of the specialised kernel: mode, state ("off", "none", "compiling", "ready", "not chosen" or
-- "failed"), source ("compiled", "memory" or "disk"), ms, ordinary_us, compiled_us, pays_back (applies until it has,
-- nil: never), why), groups (rows that share a program: start from 1, rows, request, program, adds, projections,
-- source_ops), idle_specs (requests, from 1, whose spec steers nothing); tostring prints it
function Plan:explain(layer)
    local handle = handle_of(self, Plan) or no_plan(self, "plan_explain")
    return explain.plan(handle, check.int32("plan_explain", "layer", layer))
end

--- Captures the applies of many layers, so that graph:launch() replays them all as one launch.
-- After plan:update the same graph steers the new batch. Where the compile option (or STEER_COMPILE) says off, and on
-- the CPU, its launches run the applies one by one.
-- @tparam table layers list of layers, in the order of the applies
-- @param tensors list of as many tensors as plan:apply takes them, or one for all layers; the graph keeps them
-- @tparam[opt] table opts residual: list of as many tensors, or one for all layers
-- @return a graph with launch(), stats() and close(); shape_mismatch, dtype_mismatch or device_mismatch if a tensor
-- does not fit the plan, unsupported while a graph is being captured
function Plan:graph(layers, tensors, opts)
    local handle = handle_of(self, Plan) or no_plan(self, "plan_graph")
    return graph.graph(handle, layers, tensors, opts)
end

--- Frees the plan now; graphs of it keep what they need.
function Plan:close()
    if getmetatable(self) ~= Plan then no_plan(self, "plan_close") end
    if self.handle ~= nil then c.free(self.handle, release) end
    self.handle, self.batch = nil, nil
end

function Plan:__tostring()
    if self.handle == nil then return "plan (closed)" end
    local count = self.batch.count
    return ("plan: hidden %d, %s, %d request%s"):format(self.hidden, self.dtype, count, count == 1 and "" or "s")
end

-- ---- Engine --------------------------------------------------------------------------------------------------------

local Engine = {}
Engine.__topic = "engine"
strict(Engine, "an engine", { handle = true })

local engine_out = ffi.new("steer_engine *[1]")
local ENGINE_OPTIONS = {
    hidden = "number", dtype = "string", device = true, vector_bytes = "number", compile = true, wait = "boolean",
}
local DTYPES = { f32 = C.STEER_F32, f16 = C.STEER_F16, bf16 = C.STEER_BF16 }

--- Makes an engine for the hidden states of one model on one device.
-- @tparam table opts hidden (columns, 1 to 32768), dtype ("f32", the default, "f16", "bf16"), device (default
-- steer.device()), vector_bytes (budget of the vectors kept on the device, default 1 GiB), compile and wait (of its
-- plans: see engine:plan; default: STEER_COMPILE of the environment, 0, 1, "default" or "reduce-overhead")
function M.engine(opts)
    opts = options.check("engine", opts, ENGINE_OPTIONS)
    if opts.hidden == nil then
        raise("invalid_argument", "engine", "hidden: missing, expected the number of columns of the hidden states")
    end
    local dtype = opts.dtype or "f32"
    if not DTYPES[dtype] then
        raise("invalid_argument", "engine", "dtype: %s, expected %s", check.describe(dtype), options.choice(DTYPES))
    end
    local device = device_module.resolve("engine", opts.device)
    local desc = c.descriptor("steer_engine_desc")
    desc.hidden = check.integer("engine", "hidden", opts.hidden)
    desc.dtype, desc.device = DTYPES[dtype], device.handle
    if opts.vector_bytes then desc.vector_bytes = check.integer("engine", "vector_bytes", opts.vector_bytes, 1) end
    compile.fill("engine", desc, opts)
    c.room(device, 0)
    c.alloc_as("engine", nil, C.steer_engine_create, engine_out, desc)
    local owned = c.own(engine_out[0], C.steer_engine_release)
    return setmetatable({ handle = owned, hidden = opts.hidden, dtype = dtype, device = device.id }, Engine)
end

local function engine_handle(self, op)
    return handle_of(self, Engine) or no_object(self, op, Engine, "an engine", "engine:stats()")
end

--- Plans a batch: rows lie in the order of the requests, padding after them.
-- @tparam table requests list of { spec = (nil: unsteered), tokens = rows, phase = "prompt" or "generation",
-- position = of its first row in the sequence, prompt_tokens = length of its prompt, token_ids = list or i32 or i64
-- tensor on the CPU }
-- @tparam[opt] table opts path ("auto", "uniform", "mixed" or "loop"; unsupported where it cannot serve), rows (padded
-- rows, default the sum of the tokens), strict (a spec that steers no row is no_effect), compile (default as the
-- engine: "default" or true compiles kernels for the plan's programs and uses them where they are faster, unsupported
-- where there is no compiler; "reduce-overhead" is for plan:graph; "off" or false turns both off), wait (default true;
-- false compiles on a thread of its own while the ordinary kernels serve)
-- @return a plan; shape_mismatch if a spec's vectors are not as long as the engine's hidden size
function Engine:plan(requests, opts) return make_plan(self, engine_handle(self, "plan_create"), requests, opts) end

--- Counts what the engine holds and did.
-- @treturn table vectors, vector_bytes, vector_budget, vector_hits, vector_misses, vector_evictions, programs,
-- program_hits, plans, live_plans, updates, applies, applies_none, launches = {uniform, mixed, loop}, launches_graph
-- (replays of plan graphs), and of specialised kernels launches_compiled, compiles, memory_hits, disk_hits, failures;
-- tostring prints
function Engine:stats() return explain.stats(engine_handle(self, "engine_stats")) end

--- Frees the engine now; its plans keep what they need.
function Engine:close()
    if getmetatable(self) ~= Engine then engine_handle(self, "engine_close") end
    if self.handle ~= nil then c.free(self.handle, C.steer_engine_release) end
    self.handle = nil
end

function Engine:__tostring()
    if self.handle == nil then return "engine (closed)" end
    return ("engine: hidden %d, %s on %s"):format(self.hidden, self.dtype, self.device)
end

return M
