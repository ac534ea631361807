-- Specialised kernels: what is built for a plan, what is chosen, what is remembered, and that faults leave the
-- ordinary path in place. That they give the ordinary path's bits is also checked in modes_spec.lua.
-- devices: cpu cuda
--
-- On the backend that records and replays, the environment makes the compiler slow, failing or absent: see
-- replay_kernels.c.
local ffi = require "ffi"
local B = require "batches"
local files = require "files"
local steer = require "steer"
local fails = B.fails
local T = steer.tensor

ffi.cdef "int setenv(const char *name, const char *value, int overwrite); int unsetenv(const char *name);"

local changed = {}
local function set(name, value)
    if changed[name] == nil then changed[name] = os.getenv(name) or false end
    if value then ffi.C.setenv(name, tostring(value), 1) else ffi.C.unsetenv(name) end
end
local function restore()
    for name, value in pairs(changed) do
        if value then ffi.C.setenv(name, value, 1) else ffi.C.unsetenv(name) end
    end
    changed = {}
end

local REPLAY = B.device ~= "cpu" and (os.getenv("STEER_BACKEND_PATH") or ""):find("replay", 1, true)

local function engine(opts)
    opts.device, opts.compile = B.device, opts.compile == nil and "default" or opts.compile
    return steer.engine(opts)
end

local made, problem = pcall(engine, { hidden = 16 })
local MISSING = not made and problem.message

describe("mode default without a compiler", function()
    after_each(restore)

    it("is unsupported, and says what is missing", function()
        if REPLAY then set("STEER_TEST_COMPILER", "missing") elseif not MISSING then return pending("there is one") end
        local err = fails("unsupported", function() engine { hidden = 16 } end, "compile")
        if B.device == "cpu" then assert.truthy(err.message:find("cpu", 1, true)) end
        fails("unsupported", function() engine { hidden = 16, compile = false }:plan({}, { compile = true }) end)
    end)
end)

if MISSING then return end

-- Each test has sizes of its own, so that kernels that this process has built for another do not count.
local next_hidden = 256
local function own_hidden()
    next_hidden = next_hidden + 8
    return next_hidden
end

local function cap(hidden, max) return steer.cap(T.randn({ hidden }, { seed = 3 + hidden }), { max = max or 0.1 }) end
local function spec(op) return steer.spec { [0] = { op }, [1] = { op } } end

-- Applies to the same hidden states with and without mode default: asserts equal bits, returns nothing.
local function same_bits(plan, ordinary, hidden, rows, dtype)
    for layer = 0, 1 do
        local h = B.hidden(rows, hidden, dtype)
        local copy = h:clone()
        assert(B.bytes(plan:apply(layer, h)) == B.bytes(ordinary:apply(layer, copy)), "other bits on layer " .. layer)
    end
end

-- What explain says of a layer once the thread has done its work.
local function settled(plan, layer)
    local deadline = os.time() + 60
    repeat
        local compile = plan:explain(layer).compile
        if compile.state ~= "compiling" then return compile end
    until os.time() > deadline
    error "still compiling"
end

describe("mode default", function()
    before_each(function()
        set("XDG_CACHE_HOME", files.path("cache"))
        set("STEER_COMPILE_GAIN", -1000) -- the kernels are to run, however fast they are
    end)
    after_each(function()
        restore()
        os.execute(("rm -rf '%s'"):format(files.path("cache")))
    end)
    teardown(files.done)

    it("builds a kernel for the plan, runs it, and says what it cost", function()
        local hidden = own_hidden()
        local e = engine { hidden = hidden, dtype = "bf16" }
        local requests = { { spec = spec(cap(hidden)), tokens = 40 } }
        local plan, ordinary = e:plan(requests), e:plan(requests, { compile = false })
        for layer = 0, 1 do
            local compile = plan:explain(layer).compile
            assert.equal("ready", compile.state)
            assert.equal("compiled", compile.source)
            assert.truthy(compile.ms > 0 and compile.ordinary_us > 0 and compile.compiled_us > 0)
            assert.truthy(compile.why:find "than the ordinary kernel")
        end
        assert.equal("off", ordinary:explain(0).compile.state)
        assert.equal("none", plan:explain(7).compile.state)
        assert.truthy(tostring(plan:explain(0)):find("default, ready; compiled in", 1, true))
        same_bits(plan, ordinary, hidden, 40, "bf16")
        local stats = e:stats()
        assert.same({ 1, 1, 0, 0, 2 },
            { stats.compiles, stats.memory_hits, stats.disk_hits, stats.failures, stats.launches_compiled })
        assert.equal(2, stats.launches.uniform)
    end)

    it("gives the ordinary path's bits for long rows", function()
        for _, size in ipairs { { 5120, 1100 }, { 12288, 1100 }, { 12288, 2400 } } do
            local hidden, rows = size[1], B.many(size[2])
            local e = engine { hidden = hidden, dtype = "bf16" }
            local one, other = spec(cap(hidden)), spec(cap(hidden, 0.2))
            for _, requests in ipairs {
                { { spec = one, tokens = rows } },
                { { spec = one, tokens = B.many(500) }, { spec = other, tokens = rows - B.many(500) } },
            } do
                local plan = e:plan(requests)
                local compile = plan:explain(0).compile
                assert(compile.state == "ready", ("hidden %d, %d rows: %s"):format(hidden, rows, compile.why))
                same_bits(plan, e:plan(requests, { compile = false }), hidden, rows, "bf16")
            end
        end
    end)

    it("gives the ordinary path's bits for every shape of programs and batch", function()
        for _, dtype in ipairs(B.dtypes) do
            local hidden = B.choose { 64, 200, 1024 }
            local e = engine { hidden = hidden, dtype = dtype }
            local plan, ordinary = e:plan({}, { rows = 48 }), e:plan({}, { rows = 48, compile = false })
            B.rounds(6, function()
                local pool, most = {}, B.choose { 1, 2, 4, 9 }
                for i = 1, math.random(3) do
                    local ops = B.random_ops(hidden, most, { gates = B.choose { 0, 0.4 } })
                    local built = {}
                    for k, op in ipairs(ops) do built[k] = B.build(op) end
                    pool[i] = { spec = steer.spec { [0] = built, [1] = { built[1] } } }
                end
                local requests = {}
                for i = 1, math.random(4) do
                    requests[i] = { spec = B.chance(0.8) and B.choose(pool).spec or nil, tokens = math.random(0, 12) }
                end
                local residual = B.chance(0.5) and B.hidden(48, hidden, dtype) or nil
                for _ = 1, 2 do -- kernels for residuals are built at the update after the first
                    plan:update(requests)
                    ordinary:update(requests)
                    for layer = 0, 1 do
                        local h = B.hidden(48, hidden, dtype)
                        local copy = h:clone()
                        plan:apply(layer, h, { residual = residual })
                        ordinary:apply(layer, copy, { residual = residual })
                        assert(B.bytes(h) == B.bytes(copy), "other bits in " .. dtype)
                        local compile = plan:explain(layer).compile
                        assert(compile.state ~= "failed", compile.why)
                    end
                end
            end)
            assert.truthy(e:stats().launches_compiled > 0)
            assert.equal(0, e:stats().failures)
        end
    end)

    it("is not chosen where it is not faster, and the ordinary kernel serves", function()
        set("STEER_COMPILE_GAIN", 99.9)
        local hidden = own_hidden()
        local e = engine { hidden = hidden, dtype = "f32" }
        local requests = { { spec = spec(cap(hidden)), tokens = 8 } }
        local plan = e:plan(requests)
        local compile = plan:explain(0).compile
        assert.equal("not chosen", compile.state)
        assert.is_nil(compile.pays_back)
        assert.truthy(compile.why:find("at least 99.9 % is asked for", 1, true))
        same_bits(plan, e:plan(requests, { compile = false }), hidden, 8, "f32")
        assert.equal(0, e:stats().launches_compiled)
    end)

    it("says after how many applies a kernel has paid back", function()
        if not REPLAY then return pending("times are the device's own") end
        set("STEER_COMPILE_GAIN", nil)
        set("STEER_TEST_COMPILE_MS", 20)
        local hidden = own_hidden()
        local compile = engine { hidden = hidden }:plan({ { spec = spec(cap(hidden)), tokens = 8 } }):explain(0).compile
        assert.equal("ready", compile.state) -- 10 us and 5 us: see replay_kernels.c
        assert.equal(math.floor(compile.ms * 1000 / 5) + 1, compile.pays_back)
        set("STEER_TEST_COMPILED_US", 9.5)
        hidden = own_hidden()
        compile = engine { hidden = hidden }:plan({ { spec = spec(cap(hidden)), tokens = 8 } }):explain(0).compile
        assert.equal("not chosen", compile.state)
        assert.truthy(compile.why:find("5 % faster", 1, true))
    end)

    it("refuses values of its environment variables that it cannot read", function()
        set("STEER_COMPILE_GAIN", "much")
        fails("invalid_argument", function() engine { hidden = 16 } end, "STEER_COMPILE_GAIN", "much")
        set("STEER_COMPILE_GAIN", nil)
        set("STEER_CACHE_BYTES", "1 GB")
        fails("invalid_argument", function() engine { hidden = 16 } end, "STEER_CACHE_BYTES", "1 GB")
    end)

    it("has no stale kernels after an update, and does not build one for each of many bounds", function()
        local hidden = own_hidden()
        local e = engine { hidden = hidden, dtype = "f32" }
        local plan, ordinary = e:plan({}, { rows = 9 }), e:plan({}, { rows = 9, compile = false })
        for i = 1, 20 do
            local requests = { { spec = spec(cap(hidden, -i / 50)), tokens = 9 } }
            plan:update(requests)
            ordinary:update(requests)
            same_bits(plan, ordinary, hidden, 9, "f32")
            assert.equal("ready", plan:explain(0).compile.state)
        end
        assert.equal(5, e:stats().compiles) -- four for their very bounds, then one for all
        local two = { { spec = spec(cap(hidden, 0.01)), tokens = 4 }, { spec = spec(cap(hidden, 0.02)), tokens = 5 } }
        plan:update(two)
        ordinary:update(two)
        same_bits(plan, ordinary, hidden, 9, "f32")
        assert.equal(40 + 2, e:stats().launches_compiled)
    end)

    it("leaves tensors that it was not built for to the ordinary kernel", function()
        local hidden = own_hidden()
        local e = engine { hidden = hidden, dtype = "bf16" }
        local requests = { { spec = spec(cap(hidden)), tokens = 4 } }
        local plan, ordinary = e:plan(requests), e:plan(requests, { compile = false })
        local wide = B.hidden(4, hidden + 1, "bf16") -- rows that do not begin at multiples of 16 bytes
        local copy = wide:clone()
        plan:apply(0, wide:narrow(2, 2, hidden))
        ordinary:apply(0, copy:narrow(2, 2, hidden))
        assert(B.bytes(wide) == B.bytes(copy))
        assert.equal(0, e:stats().launches_compiled)
    end)

    it("has no kernels for forced paths and captured graphs have them too", function()
        local hidden = own_hidden()
        local e = engine { hidden = hidden, dtype = "f16" }
        local requests = { { spec = spec(cap(hidden)), tokens = 6 }, { tokens = 2 } }
        local forced = e:plan(requests, { path = "mixed" })
        assert.truthy(forced:explain(0).compile.why:find "forced")
        local plan, ordinary = e:plan(requests), e:plan(requests, { compile = false })
        local before = B.hidden(8, hidden, "f16")
        local h, want = before:clone(), ordinary:apply(0, before:clone())
        local graph = plan:graph({ 0 }, h)
        graph:launch()
        assert(B.bytes(want) == B.bytes(h))
        assert.truthy(e:stats().launches_compiled > 0)
        requests = { { tokens = 3 }, { spec = spec(cap(hidden, -0.3)), tokens = 5 } }
        plan:update(requests)
        ordinary:update(requests)
        h:copy_(before)
        graph:launch()
        assert(B.bytes(ordinary:apply(0, before:clone())) == B.bytes(h))
    end)
end)

describe("compiling in the background", function()
    before_each(function()
        set("XDG_CACHE_HOME", files.path("cache"))
        set("STEER_COMPILE_GAIN", -1000)
        set("STEER_TEST_COMPILE_MS", 1000)
    end)
    after_each(restore)

    it("lets the ordinary kernel serve until the other is there", function()
        local hidden = own_hidden()
        local e = engine { hidden = hidden, dtype = "f32", wait = false }
        local requests = { { spec = spec(cap(hidden)), tokens = 5 } }
        local plan, ordinary = e:plan(requests), e:plan(requests, { compile = false })
        if REPLAY then assert.equal("compiling", plan:explain(0).compile.state) end
        same_bits(plan, ordinary, hidden, 5, "f32")
        local compile = settled(plan, 0)
        assert.equal("ready", compile.state)
        assert.equal("compiled", compile.source)
        local before = e:stats().launches_compiled
        same_bits(plan, ordinary, hidden, 5, "f32")
        assert.equal(before + 2, e:stats().launches_compiled)
    end)

    it("ends with its engine, soon and without harm", function()
        set("STEER_TEST_COMPILE_MS", 20000)
        local start = os.time()
        for _ = 1, 3 do
            local hidden = own_hidden()
            local e = engine { hidden = hidden, wait = false }
            local plan = e:plan { { spec = spec(cap(hidden)), tokens = 5 } }
            plan:close()
            e:close()
        end
        collectgarbage()
        assert.truthy(os.time() - start < 10)
    end)

    -- What a process of its own prints; it is to end with status 0.
    local function process(script)
        local path = files.put("script.lua", script)
        local pipe = io.popen(("luajit '%s' 2>&1; echo status $?"):format(path))
        local text = pipe:read "*a"
        pipe:close()
        return text
    end

    local SCRIPT = [[
local steer = require "steer"
local hidden, wait, exit = %d, %s, %s
local engine = steer.engine { hidden = hidden, device = "%s", compile = "default", wait = wait }
local v = steer.tensor.randn({ hidden }, { seed = 5 })
local plan = engine:plan { { spec = steer.spec { [0] = { steer.cap(v, { max = 0 }) } }, tokens = 16 } }
local h = steer.tensor.ones({ 16, hidden }, { device = "%s" })
plan:apply(0, h)
local compile, stats = plan:explain(0).compile, engine:stats()
print(compile.state, compile.source, "compiles " .. stats.compiles, "disk_hits " .. stats.disk_hits,
    h:sum(1):sum(1):item())
if exit then os.exit(0) end
]]
    local function run(hidden, wait, exit)
        return process(SCRIPT:format(hidden, tostring(wait), tostring(exit), B.device, B.device))
    end

    it("does not hinder the end of the process", function()
        set("STEER_TEST_COMPILE_MS", 20000)
        local start = os.time()
        for _, exit in ipairs { "true", "false" } do
            local text = run(own_hidden(), "false", exit)
            assert.truthy(text:find "status 0" and (not REPLAY or text:find "compiling"), text)
        end
        assert.truthy(os.time() - start < 15)
    end)

    it("is remembered on disk for the next process; what is damaged there is built again", function()
        set("STEER_TEST_COMPILE_MS", nil)
        local hidden = own_hidden()
        local first = run(hidden, "true", "false")
        assert.truthy(first:find "ready%s+compiled%s+compiles 1%s+disk_hits 0", first)
        local second = run(hidden, "true", "false")
        assert.truthy(second:find "ready%s+disk%s+compiles 0%s+disk_hits 1", second)
        assert.equal(first:match "[%-%d%.e]+%s+status", second:match "[%-%d%.e]+%s+status")
        os.execute(("for f in '%s'/steer/*.entry; do printf x | dd of=$f bs=1 seek=100 conv=notrunc status=none; done")
            :format(files.path("cache")))
        local third = run(hidden, "true", "false")
        assert.truthy(third:find "ready%s+compiled%s+compiles 1", third)
        assert.truthy(run(hidden, "true", "false"):find "ready%s+disk")
    end)

    it("does without a disk that takes nothing, and says so", function()
        set("STEER_TEST_COMPILE_MS", nil)
        set("XDG_CACHE_HOME", files.put("a-file", ""))
        local hidden = own_hidden()
        local plan = engine { hidden = hidden }:plan { { spec = spec(cap(hidden)), tokens = 5 } }
        local compile = plan:explain(0).compile
        assert.equal("ready", compile.state)
        assert.truthy(compile.why:find("not cached on disk", 1, true), compile.why)
    end)
end)

describe("a compiler that fails or is interrupted", function()
    before_each(function() set("XDG_CACHE_HOME", files.path("cache")) end)
    after_each(restore)

    it("leaves the ordinary kernel in place", function()
        if not REPLAY then return pending("the device's compiler does not fail") end
        set("STEER_TEST_COMPILER", "failing")
        local hidden = own_hidden()
        local e = engine { hidden = hidden, dtype = "f32" }
        local requests = { { spec = spec(cap(hidden)), tokens = 5 } }
        local plan = e:plan(requests)
        local compile = plan:explain(0).compile
        assert.equal("failed", compile.state)
        assert.truthy(compile.why:find("the compiler refuses", 1, true))
        assert.equal(1, e:stats().failures)
        same_bits(plan, e:plan(requests, { compile = false }), hidden, 5, "f32")
    end)

    it("stops at Ctrl-C, which the next call reports, and goes on at the next update", function()
        if not REPLAY then return pending("the device's compiler is too fast to be hit") end
        local C = require("steer.core.c").C
        set("STEER_TEST_COMPILE_MS", 20000)
        set("STEER_COMPILE_GAIN", -1000)
        local hidden = own_hidden()
        local e = engine { hidden = hidden, dtype = "f32" }
        local requests = { { spec = spec(cap(hidden)), tokens = 5 } }
        local plan, ordinary = e:plan({}, { rows = 5 }), e:plan(requests, { compile = false })
        assert.equal(0, C.steer_interrupt_install(0))
        os.execute "(sleep 0.3; kill -INT $PPID) &"
        local start = os.time()
        pcall(function() plan:update(requests) end)
        assert.truthy(os.time() - start < 10)
        fails("interrupted", function()
            for _ = 1, 3 do plan:explain(0) end
        end)
        assert.equal("none", plan:explain(0).compile.state)
        same_bits(plan, ordinary, hidden, 5, "f32")
        set("STEER_TEST_COMPILE_MS", nil)
        plan:update(requests)
        assert.equal("ready", plan:explain(0).compile.state)
        same_bits(plan, ordinary, hidden, 5, "f32")
    end)
end)
