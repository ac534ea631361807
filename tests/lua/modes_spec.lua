-- Compile modes: the switches, and that every mode gives the bits of the ordinary path, by applies and by graphs.
-- devices: cpu cuda
--
-- STEER_TEST_SEED=n repeats the case that a failure names, STEER_TEST_ROUNDS=x makes x times as many random ones.
local ffi = require "ffi"
local B = require "batches"
local steer = require "steer"
local fails = B.fails

ffi.cdef "int setenv(const char *name, const char *value, int overwrite); int unsetenv(const char *name);"

local function set_environment(value)
    if value then ffi.C.setenv("STEER_COMPILE", value, 1) else ffi.C.unsetenv("STEER_COMPILE") end
end

local function engine(opts)
    opts.hidden, opts.device = opts.hidden or 16, B.device
    return steer.engine(opts)
end

-- Why a mode is not to be had here, or nil.
local function missing(mode)
    local ok, err = pcall(engine, { compile = mode })
    if ok then return nil end
    assert(err.code == "unsupported", tostring(err))
    return err.message
end

local NO_DEFAULT = missing "default"

local function mode_of(engine_opts, plan_opts)
    local plan = engine(engine_opts):plan({ { tokens = 1 } }, plan_opts)
    return plan:explain(0).compile.mode, plan
end

describe("the compile option", function()
    local before = os.getenv "STEER_COMPILE"
    before_each(function() set_environment(nil) end)
    after_each(function() set_environment(before) end)

    it("is off without a word, and a plan's own before its engine's before the environment's", function()
        assert.equal("off", mode_of {})
        for _, off in ipairs { false, "off" } do -- luacheck: ignore 511
            assert.equal("off", mode_of { compile = off })
            assert.equal("off", mode_of({ compile = "reduce-overhead" }, { compile = off }))
        end
        assert.equal("off", mode_of({ compile = false }))
        assert.equal("off", mode_of({ compile = "reduce-overhead" }, { compile = false }))
        assert.equal("reduce-overhead", mode_of { compile = "reduce-overhead" })
        assert.equal("reduce-overhead", mode_of({ compile = false }, { compile = "reduce-overhead" }))
        set_environment "reduce-overhead"
        assert.equal("reduce-overhead", mode_of {})
        assert.equal("off", mode_of { compile = "off" })
        set_environment "0"
        assert.equal("off", mode_of {})
        assert.equal("reduce-overhead", mode_of({}, { compile = "reduce-overhead" }))
        set_environment ""
        assert.equal("off", mode_of {})
    end)

    it("is read from the environment when the engine is made", function()
        set_environment "reduce-overhead"
        local e = engine {}
        set_environment "0"
        assert.equal("reduce-overhead", e:plan({}):explain(0).compile.mode)
    end)

    it("refuses other values, and names them", function()
        for _, value in ipairs { 1, "on", "Default", "", "max-autotune", {} } do
            fails("invalid_argument", function() engine { compile = value } end, "compile", "reduce-overhead")
            fails("invalid_argument", function() engine({}):plan({}, { compile = value }) end, "compile", "default")
        end
        fails("invalid_argument", function() engine { wait = 1 } end, "wait")
        fails("invalid_argument", function() engine({}):plan({}, { wait = "no" }) end, "wait")
        fails("invalid_argument", function() engine { compil = "off" } end, '"compile"')
        for _, value in ipairs { "2", "on", "off", "true", "reduce_overhead", " 1" } do
            set_environment(value)
            fails("invalid_argument", function() engine {} end, "STEER_COMPILE", value, "reduce-overhead")
            assert.equal("off", mode_of { compile = "off" })
        end
    end)

    it("default is unsupported without a compiler, and says what is missing", function()
        if not NO_DEFAULT then return pending("there is a compiler") end
        for _, value in ipairs { true, "default" } do -- luacheck: ignore 511
            fails("unsupported", function() engine { compile = value } end, "compile")
            fails("unsupported", function() engine({}):plan({}, { compile = value }) end, "compile")
        end
        for _, value in ipairs { "1", "default" } do
            set_environment(value)
            fails("unsupported", function() engine {} end, "STEER_COMPILE")
            assert.equal("reduce-overhead", mode_of { compile = "reduce-overhead" })
        end
    end)

    it("captures graphs unless it is off", function()
        local h = B.hidden(2, 16, "f32")
        local function graph(opts) return engine(opts):plan({ { tokens = 2 } }):graph({ 0 }, h):stats() end
        local captures = B.device ~= "cpu"
        assert.equal(captures, graph({}).captured)
        assert.equal(captures, graph({ compile = "reduce-overhead" }).captured)
        assert.is_false(graph({ compile = "off" }).captured)
        set_environment "0"
        assert.is_false(graph({}).captured)
        if captures then assert.equal("compile is off", graph({}).why) end
    end)

    it("shows in explain", function()
        local _, plan = mode_of {}
        local part = plan:explain(0).compile
        assert.same({ mode = "off", state = "off" }, part)
        assert.is_nil(tostring(plan:explain(0)):find "compile")
        _, plan = mode_of { compile = "reduce-overhead", wait = false }
        part = plan:explain(0).compile
        assert.equal("none", part.state)
        assert.truthy(tostring(plan:explain(0)):find("compile          reduce-overhead, none", 1, true))
        for _, key in ipairs { "compiles", "memory_hits", "disk_hits", "failures", "launches_compiled" } do
            assert.equal(0, engine({}):stats()[key])
        end
    end)
end)

describe("every mode", function()
    local LAYERS = 3
    setup(function() ffi.C.setenv("STEER_COMPILE_GAIN", "-1000", 1) end) -- specialised kernels serve, fast or not
    teardown(function() ffi.C.unsetenv "STEER_COMPILE_GAIN" end)

    -- A pool of specs over all layers; ops[layer] is what the oracle needs of one.
    local function random_pool(n, most_ops)
        local pool = {}
        for i = 1, math.random(5) do
            local spec, ops = {}, {}
            for layer = 0, LAYERS - 1 do
                ops[layer] = B.random_ops(n, math.random(most_ops), { gates = B.choose { 0, 0.3 }, scopes = 0.2 })
                spec[layer] = {}
                for k, op in ipairs(ops[layer]) do spec[layer][k] = B.build(op) end
            end
            pool[i] = { spec = steer.spec(spec), ops = ops }
        end
        return pool
    end

    -- The bytes of each layer after the plan's applies to copies of the hidden states.
    local function applied(plan, befores, residuals)
        local bytes = {}
        for i, before in ipairs(befores) do
            bytes[i] = B.bytes(plan:apply(i - 1, before:clone(), residuals and { residual = residuals[i] }))
        end
        return bytes
    end

    local function same(want, got, what)
        for i = 1, #want do
            assert(want[i] == got[i], ("%s: other bits on layer %d than the ordinary path gives"):format(what, i - 1))
        end
    end

    -- One plan and graph per mode over a chain of random batches; the ordinary plan is checked against the oracle.
    local function check_modes(modes, n, dtype, most_ops)
        local rows, layers, plans, graphs = 40, {}, {}, {}
        local befores, residuals, moving = {}, {}, {}
        for i = 1, LAYERS do
            layers[i] = i - 1
            befores[i], residuals[i] = B.hidden(rows, n, dtype), B.hidden(rows, n, dtype)
            moving[i] = befores[i]:clone()
        end
        local with = B.chance(0.4) and residuals or nil
        for _, mode in ipairs(modes) do
            plans[mode] = engine({ hidden = n, dtype = dtype, compile = mode }):plan({}, { rows = rows })
            graphs[mode] = plans[mode]:graph(layers, moving, with and { residual = with })
        end
        local pool = random_pool(n, most_ops)
        for _ = 1, 5 do
            local batch = { hidden = n, dtype = dtype, rows = rows, layer = math.random(0, LAYERS - 1) }
            batch.requests, batch.programs = B.random_requests(pool, math.random(0, 7), 5)
            for r, ops in pairs(batch.programs) do batch.programs[r] = ops[batch.layer] end
            batch.residual = with and with[batch.layer + 1]
            plans.off:update(batch.requests)
            B.check(plans.off, batch, befores[batch.layer + 1])
            local want, got = applied(plans.off, befores, with), {}
            for _, mode in ipairs(modes) do
                plans[mode]:update(batch.requests)
                same(want, applied(plans[mode], befores, with), mode)
                for i, h in ipairs(moving) do h:copy_(befores[i]) end
                graphs[mode]:launch()
                for i, h in ipairs(moving) do got[i] = B.bytes(h) end
                same(want, got, "the graph of " .. mode)
            end
        end
    end

    for _, dtype in ipairs(B.dtypes) do
        it("gives the same bits in " .. dtype, function()
            local modes = { "off", "reduce-overhead", not NO_DEFAULT and "default" or nil }
            B.rounds(12, function()
                check_modes(modes, B.choose { 1, 7, 64, 96, 200, 1024 }, dtype, B.choose { 1, 3, 12 })
            end)
        end)
    end
end)
