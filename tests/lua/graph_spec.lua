-- Graphs of plans: one launch for many layers, right after every update, captured anew only when it must be.
-- devices: cpu cuda
local B = require "batches"
local steer = require "steer"
local T = steer.tensor
local fails = B.fails

local N, ROWS = 48, 16
local IS_CPU = B.device == "cpu" -- there launches run the applies one by one

local function engine(opts)
    opts = opts or {}
    opts.hidden, opts.device = opts.hidden or N, B.device
    if opts.compile == nil then opts.compile = "reduce-overhead" end -- whatever the environment says
    return steer.engine(opts)
end

local function on_device(make, shape, dtype) return make(shape, { device = B.device, dtype = dtype }) end
local function op(kind, opts) return B.build(B.random_op(N, { kind = kind }), opts) end

-- A spec with the given operations on every layer of a list.
local function spec_on(layers, ...)
    local spec = {}
    for _, layer in ipairs(layers) do spec[layer] = { ... } end
    return steer.spec(spec)
end

-- Checks that a launch leaves the same bits as the applies of a plan of its own.
local function same_as_applies(graph, batch, layers, hiddens, residuals, opts)
    local wanted = {}
    local plan = engine({ dtype = hiddens[1].dtype, compile = "off" }):plan(batch, opts)
    for i, layer in ipairs(layers) do
        wanted[i] = hiddens[i]:clone()
        plan:apply(layer, wanted[i], residuals and { residual = residuals[i] } or nil)
    end
    graph:launch()
    for i = 1, #layers do assert.equal(B.bytes(wanted[i]), B.bytes(hiddens[i])) end
end

local function hidden_list(count, dtype)
    local list = {}
    for i = 1, count do list[i] = B.hidden(ROWS, N, dtype) end
    return list
end

describe("a graph of a plan", function()
    it("steers every layer as the applies do, after updates with other specs and boundaries", function()
        local layers = { 0, 3, 1, 7, 3 }
        B.rounds(8, function()
            for _, dtype in ipairs(B.dtypes) do
                local specs = {}
                for i, length in ipairs { 1, 1, 2, 4, 12 } do
                    local spec = {}
                    for layer = 0, 7 do
                        local ops = {}
                        for k, o in ipairs(B.random_ops(N, math.random(length), { gates = 0.2 })) do
                            ops[k] = B.build(o)
                        end
                        if B.chance(0.7) then spec[layer] = ops end
                    end
                    specs[i] = steer.spec(spec)
                end
                local plan = engine { dtype = dtype }:plan({}, { rows = ROWS })
                local hiddens, residuals = hidden_list(#layers, dtype), hidden_list(#layers, dtype)
                local plain = plan:graph(layers, hiddens)
                local pair = plan:graph(layers, hiddens, { residual = residuals })
                for _ = 1, 6 do
                    local batch, left = {}, ROWS
                    while left > 0 and B.chance(0.8) do
                        local tokens = math.random(0, left)
                        batch[#batch + 1] = { spec = B.chance(0.8) and B.choose(specs) or nil, tokens = tokens }
                        left = left - tokens
                    end
                    plan:update(batch)
                    same_as_applies(plain, batch, layers, hiddens, nil, { rows = ROWS })
                    same_as_applies(pair, batch, layers, hiddens, residuals, { rows = ROWS })
                end
                assert.equal(6, plain:stats().launches)
            end
        end)
    end)

    it("takes one tensor for all layers, one residual for all, and strided tensors", function()
        local layers = { 0, 1, 0 }
        local batch = { { spec = spec_on(layers, op "cap"), tokens = ROWS } }
        local plan = engine():plan(batch)
        local wide = on_device(T.randn, { ROWS, 2 * N })
        local h, r = wide:narrow(2, 3, N), B.hidden(ROWS, N, "f32")
        local want = h:clone()
        for _, layer in ipairs(layers) do plan:apply(layer, want, { residual = r }) end
        plan:graph(layers, h, { residual = r }):launch()
        assert.equal(B.bytes(want), B.bytes(h:clone()))
    end)

    it("is one launch, counted as such", function()
        local e = engine()
        local plan = e:plan { { spec = spec_on({ 0, 1, 2 }, op "add"), tokens = ROWS } }
        local graph = plan:graph({ 0, 1, 2 }, B.hidden(ROWS, N, "f32"))
        for _ = 1, 5 do assert.equal(graph, graph:launch()) end
        local stats, counts = graph:stats(), e:stats()
        assert.equal(3, stats.layers)
        assert.equal(5, stats.launches)
        assert.equal(not IS_CPU, stats.captured)
        assert.equal(IS_CPU and 0 or 3, stats.nodes)
        assert.equal(IS_CPU and 0 or 1, stats.captures)
        assert.equal(0, stats.recaptures)
        assert.equal(IS_CPU and 0 or 5, counts.launches_graph)
        assert.equal(IS_CPU and 15 or 0, counts.applies)
        assert.truthy(tostring(graph):find("3 layers, 5 launches", 1, true))
        if IS_CPU then
            assert.equal("cpu captures no graphs", stats.why)
            assert.truthy(tostring(graph):find("cpu captures no graphs", 1, true))
        else
            assert.is_nil(stats.why)
        end
    end)
end)

describe("a captured graph", function()
    local L = { 0, 2 }
    local function request(spec, tokens) return { spec = spec, tokens = tokens or ROWS } end
    local PROJECT = { min = -0.01, max = 0.01 }
    local function caps(count)
        local ops = {}
        for i = 1, count do ops[i] = steer.cap(B.random_op(N, { kind = "cap" }).tensor, PROJECT) end
        return ops
    end
    local function gated(opts)
        opts.vector = B.random_op(N, { kind = "cap" }).tensor
        return steer.add(B.random_op(N, { kind = "add" }).tensor, 1, { when = opts })
    end

    it("is captured anew only for what it cannot run, and says why", function()
        if IS_CPU then return pending("the CPU captures no graphs") end
        local ADD, both = op "add", T.randn({ 2, N }, { seed = 1 })
        local STEPS = { -- requests, recaptures so far, reason
            { { request(spec_on(L, ADD)) }, 0 },
            { { request(nil, 3), request(spec_on(L, op "ablate"), 5), request(spec_on(L, ADD), 8) }, 0 },
            { {}, 0 },
            { { request(spec_on(L, ADD, caps(1)[1])) }, 1, "layer 0: a program both adds and projects" },
            { { request(spec_on({ 2 }, unpack(caps(2)))) }, 2, "layer 2: programs of 2 vectors, captured for 1" },
            { { request(spec_on({ 0 }, unpack(caps(2)))) }, 3, "layer 0: programs of 2 vectors, captured for 1" },
            { { request(spec_on(L, unpack(caps(2))), 4), request(spec_on(L, unpack(caps(1))), 2) }, 3 },
            { { request(spec_on(L, unpack(caps(7)))) }, 4, "layer 0: programs of 7 vectors, captured for 2" },
            { { request(spec_on(L, gated { above = 0.1, cosine = true })) }, 5, "layer 0: a program needs a cosine" },
            { { request(spec_on(L, gated { below = 0.1 }), 9) }, 5 },
            { { request(spec_on(L, unpack(caps(3)))) }, 6, "layer 0: programs of 3 vectors, captured for 2" },
            { { request(spec_on(L, unpack(caps(8))), 7), request(spec_on(L, ADD), 2) }, 7,
                "layer 0: programs of 8 vectors, captured for 7" },
            { { request(spec_on(L, op "cap", steer.keep_norm()), 3) }, 8, "layer 0: a program of blocks" },
            { { request(spec_on(L, ADD), 3), request(spec_on(L, ADD, steer.keep_norm()), 5) }, 8 },
            { { request(spec_on(L, unpack(caps(3)))), }, 8 },
            { { request(spec_on(L, steer.affine(both, both))) }, 9,
                "layer 0: a program of more blocks" },
            { { request(spec_on(L, gated { above = 0.1 }, steer.keep_norm()), 3) }, 10,
                "layer 0: a program of more blocks" },
            { { request(spec_on(L, op "cap", steer.keep_norm()), 3) }, 10 },
            { { request(spec_on(L, steer.ablate(T.randn({ 9, N }, { seed = 1 })))) }, 11,
                "layer 0: a program of large blocks" },
        }
        for _, dtype in ipairs(B.dtypes) do
            local plan = engine { dtype = dtype }:plan({}, { rows = ROWS })
            local hiddens = hidden_list(#L, dtype)
            plan:update { request(nil) }
            local graph = plan:graph(L, hiddens)
            for i, step in ipairs(STEPS) do
                plan:update(step[1])
                same_as_applies(graph, step[1], L, hiddens, nil, { rows = ROWS })
                local stats = graph:stats()
                assert(stats.recaptures == step[2], ("step %d: %d recaptures"):format(i, stats.recaptures))
                assert.equal(step[2] + 1, stats.captures)
                if step[3] then assert.equal(step[3], stats.why) end
            end
            assert.truthy(tostring(graph):find("anew 11 times: layer 0: a program of large blocks", 1, true))
        end
    end)

    it("is captured for the rows of the batch, rounded up, and anew for more", function()
        if IS_CPU then return pending("the CPU captures no graphs") end
        local spec = spec_on(L, op "cap")
        local hiddens = { B.hidden(100, N, "f32"), B.hidden(100, N, "f32") }
        local plan = engine():plan({ request(spec, 5) }, { rows = 100 })
        local graph = plan:graph(L, hiddens)
        local STEPS = { { 5, 8, 0 }, { 8, 8, 0 }, { 9, 16, 1 }, { 2, 16, 1 }, { 65, 100, 2 }, { 100, 100, 2 } }
        for _, step in ipairs(STEPS) do
            local batch = { request(nil, 1), request(spec, step[1] - 1) }
            plan:update(batch)
            same_as_applies(graph, batch, L, hiddens, nil, { rows = 100 })
            assert.equal(step[2], graph:stats().rows)
            assert.equal(step[3], graph:stats().recaptures)
        end
        assert.equal("65 rows, captured for 16", graph:stats().why)
    end)

    it("of a forced path is captured anew where the path is bound to its batch", function()
        local spec, other = spec_on(L, op "cap"), spec_on(L, op "add")
        for path, recaptures in pairs { mixed = 0, uniform = 1, loop = 1 } do
            local plan = engine():plan({ request(spec) }, { path = path })
            local hiddens = hidden_list(#L, "f32")
            local graph = plan:graph(L, hiddens)
            same_as_applies(graph, { request(spec) }, L, hiddens)
            plan:update { request(other) }
            for _ = 1, 2 do same_as_applies(graph, { request(other) }, L, hiddens) end
            assert.equal(IS_CPU and 0 or recaptures, graph:stats().recaptures)
        end
    end)

    it("goes into somebody else's capture apply by apply, right for every later batch", function()
        if IS_CPU then return pending("the CPU captures no graphs") end
        local plan = engine():plan({ request(spec_on(L, op "add")) })
        local hiddens = hidden_list(#L, "f32")
        local graph = plan:graph(L, hiddens)
        local outer = steer.bench.graph(function() graph:launch() end, B.device)
        assert.equal(0, graph:stats().recaptures)
        for _, spec in ipairs { spec_on(L, op "add"), spec_on(L, unpack(caps(6))), spec_on({ 2 }, op "ablate") } do
            plan:update { request(spec) }
            same_as_applies(outer, { request(spec) }, L, hiddens)
        end
        outer:close()
    end)

    it("that cannot be captured for a batch fails as its applies do, and serves the next one", function()
        local plan, hiddens = engine():plan({ request(spec_on(L, op "add")) }), hidden_list(#L, "f32")
        local graph = plan:graph(L, hiddens)
        graph:launch()
        plan:update { request(spec_on(L, unpack(caps(70)))) }
        local can, err = pcall(plan.apply, plan, 0, hiddens[1])
        for _ = 1, 2 do
            if can then graph:launch() else fails(err.code, function() graph:launch() end) end
        end
        local batch = { request(spec_on(L, unpack(caps(3)))) }
        plan:update(batch)
        same_as_applies(graph, batch, L, hiddens)
        assert.equal(not IS_CPU, graph:stats().captured)
    end)

    -- What happens during a capture does not end it: an apply after it is captured.
    local function capture_goes_on(during)
        if IS_CPU then return pending("the CPU captures no graphs") end
        local plan = engine():plan({ request(spec_on(L, op "add")) })
        local h = B.hidden(ROWS, N, "f32")
        local outer = steer.bench.graph(function()
            during(plan, h)
            plan:apply(0, h)
        end, B.device)
        local want = h:clone()
        plan:apply(0, want)
        outer:launch()
        assert.equal(B.bytes(want), B.bytes(h))
    end

    it("cannot be made during a capture, which goes on", function()
        capture_goes_on(function(plan, h)
            fails("unsupported", function() plan:graph(L, h) end, "captured")
        end)
    end)

    it("may be collected as garbage, with its plan and tensors, during a capture, which goes on", function()
        local function leave_garbage()
            local left = engine():plan({ request(spec_on(L, op "cap")) })
            left:graph(L, hidden_list(#L, "f32")):launch()
        end
        leave_garbage()
        capture_goes_on(function()
            collectgarbage()
            collectgarbage()
        end)
    end)
end)

describe("a graph", function()
    local spec = spec_on({ 0, 1 }, op "cap")
    local function plan_of(opts, plan_opts) return engine(opts):plan({ { spec = spec, tokens = ROWS } }, plan_opts) end

    it("keeps the plan and the tensors, which may be closed in any order", function()
        local device = steer.device(B.device)
        collectgarbage()
        collectgarbage()
        local before = device:memory().live_bytes
        local e = engine()
        local plan = e:plan { { spec = spec, tokens = ROWS } }
        local h = B.hidden(ROWS, N, "f32")
        local seen = h:narrow(1, 1, ROWS)
        local want = h:clone()
        plan:apply(0, want)
        plan:apply(1, want)
        local graph = plan:graph({ 0, 1 }, h)
        e:close()
        h:close()
        plan:close()
        graph:launch()
        assert.equal(B.bytes(want), B.bytes(seen))
        seen:close()
        graph:launch()
        graph:close()
        want:close()
        assert.equal("graph (closed)", tostring(graph))
        fails("closed", function() graph:launch() end, "graph")
        fails("closed", function() graph:stats() end, "graph")
        graph:close()
        collectgarbage()
        collectgarbage()
        assert.is_true(device:memory().live_bytes <= before)
    end)

    it("is refused for what cannot be", function()
        local plan, h = plan_of(), B.hidden(ROWS, N, "f32")
        local f16 = B.hidden(ROWS, N, "f16")
        local closed = h:clone()
        closed:close()
        fails("invalid_argument", function() plan:graph() end, "layers")
        fails("invalid_argument", function() plan:graph(0, h) end, "layers")
        fails("invalid_argument", function() plan:graph({}, {}) end, "layers", "none, expected 1 or more")
        fails("invalid_argument", function() plan:graph({ 0, 1.5 }, h) end, "layers[2]")
        fails("invalid_argument", function() plan:graph({ 0, -1 }, h) end, "layers[2]")
        fails("invalid_argument", function() plan:graph({ 1024 }, h) end, "layers[1]")
        fails("invalid_argument", function() plan:graph({ 0, 1 }) end, "tensors")
        fails("invalid_argument", function() plan:graph({ 0, 1 }, { h }) end, "tensors: 1 tensors for 2 layers")
        fails("invalid_argument", function() plan:graph({ 0, 1 }, { h, 3 }) end, "tensors[2]")
        fails("invalid_argument", function() plan:graph({ 0, 1 }, h, { residual = { h } }) end, "residual", "2 layers")
        fails("invalid_argument", function() plan:graph({ 0 }, h, { residul = h }) end, '"residual"')
        fails("closed", function() plan:graph({ 0 }, closed) end, "tensors")
        fails("shape_mismatch", function() plan:graph({ 0, 1 }, { h, h:narrow(1, 1, 3) }) end, "tensors[2]", "[3, 48]")
        fails("dtype_mismatch", function() plan:graph({ 0 }, f16) end, "tensors[1]", "f16")
        fails("dtype_mismatch", function() plan:graph({ 0, 1 }, h, { residual = { h, f16 } }) end, "opts.residual[2]")
        fails("invalid_argument", function() plan:graph({ 0 }, B.hidden(N, ROWS, "f32"):transpose(1, 2)) end, "strides")
        if not IS_CPU then
            fails("device_mismatch", function() plan:graph({ 0 }, h:to("cpu")) end, "tensors[1]", "cpu")
        end
        plan:close()
        fails("closed", function() plan:graph({ 0 }, h) end, "plan")
        fails("invalid_argument", function() plan.graph({}, { 0 }, h) end, "self")
    end)

    it("runs the applies one by one where compiling is off, and says so", function()
        for _, opts in ipairs { { { compile = "off" } }, { { compile = false } }, { {}, { compile = false } },
            { { compile = "reduce-overhead" }, { compile = "off" } } } do
            local plan, h = plan_of(opts[1], opts[2]), B.hidden(ROWS, N, "f32")
            local want = h:clone()
            plan:apply(0, want)
            local graph = plan:graph({ 0 }, h):launch()
            local stats = graph:stats()
            assert.equal(B.bytes(want), B.bytes(h))
            assert.is_false(stats.captured)
            assert.equal(0, stats.captures)
            assert.equal(IS_CPU and "cpu captures no graphs" or "compile is off", stats.why)
        end
        local plan = plan_of({ compile = "off" }, { compile = "reduce-overhead" })
        local graph = plan:graph({ 0 }, B.hidden(ROWS, N, "f32"))
        assert.equal(not IS_CPU, graph:stats().captured)
    end)

    it("of a plan without rows launches nothing", function()
        local graph = engine():plan({}):graph({ 0, 1 }, on_device(T.zeros, { 0, N })):launch()
        assert.is_false(graph:stats().captured)
        assert.equal(1, graph:stats().launches)
    end)

    it("takes no memory over 10,000 launches and updates", function()
        local plan, h = plan_of(), B.hidden(ROWS, N, "f32")
        local graph, device = plan:graph({ 0, 1 }, h), steer.device(B.device)
        local batches = {
            { { spec = spec, tokens = 3 }, { tokens = 4 } }, { { tokens = 2 }, { spec = spec, tokens = ROWS - 2 } },
        }
        local function rounds(count)
            for i = 1, count do
                plan:update(batches[i % 2 + 1])
                graph:launch()
            end
            device:synchronize()
            return device:memory(), device:info().free_bytes
        end
        local before, free_before = rounds(50)
        local after, free_after = rounds(10000)
        assert.equal(before.live_bytes, after.live_bytes)
        assert.equal(before.total_allocations, after.total_allocations)
        if device:info().compute then -- a GPU: nothing grows beside what we count either
            assert.is_true(free_after >= free_before - 4 * 2 ^ 20)
        end
        assert.equal(0, graph:stats().recaptures)
    end)
end)
