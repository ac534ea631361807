-- Plans: requests, options, paths and updates.
-- devices: cpu cuda
local ffi = require "ffi"
local B = require "batches"
local steer = require "steer"
local T = steer.tensor
local fails = B.fails

local N = 8

local function on_device(make, shape, dtype) return make(shape, { device = B.device, dtype = dtype }) end
local function engine(dtype, hidden)
    return steer.engine { hidden = hidden or N, dtype = dtype or "f32", device = B.device }
end

-- Adds 1 to every element, so that a steered row of zeros holds ones.
local function ones(opts) return steer.add(T.ones({ N }, { device = "cpu" }), 1, opts) end
local function ones_spec(opts) return steer.spec { [0] = { ones(opts) } } end

-- Which rows of a plan's batch are steered on a layer, from 0, as a list.
local function steered_rows(plan, rows, layer)
    local h = on_device(T.zeros, { rows, N })
    plan:apply(layer or 0, h)
    local list, values = {}, h:totable()
    for r = 1, rows do
        if values[r][1] ~= 0 then list[#list + 1] = r - 1 end
    end
    return list
end

if not pcall(ffi.typeof, "struct test_mallinfo") then
    ffi.cdef [[
        struct test_mallinfo {
            size_t arena, ordblks, smblks, hblks, mapped, usmblks, fsmblks, used, fordblks, keepcost;
        };
        struct test_mallinfo mallinfo2(void);
    ]]
end

-- Bytes that the C library's allocator has given out.
local function heap_bytes()
    local info = ffi.C.mallinfo2()
    return tonumber(info.used) + tonumber(info.mapped)
end

describe("requests", function()
    local e, spec, plan
    before_each(function()
        e, spec = engine(), ones_spec()
        plan = e:plan({ { spec = spec, tokens = 2 } }, { rows = 4 })
    end)

    local BAD = {
        { "requests", function() return nil end },
        { "requests", function() return { spec = 1 } end },
        { "requests", function() return 3 end },
        { "requests", function() return { { tokens = 1 }, nil, { tokens = 1 } } end },
        { "requests", function() return { { tokens = 1 }, rows = 3 } end },
        { "requests", function() return { [2] = { tokens = 1 } } end },
        { "requests[2]", function() return { { tokens = 1 }, 7 } end },
        { "requests[1].tokens", function() return { {} } end },
        { "requests[1]: tokens: -1, expected 0 or more", function() return { { tokens = -1 } } end },
        { "requests[1].tokens", function() return { { tokens = 1.5 } } end },
        { "requests[1].tokens", function() return { { tokens = "1" } } end },
        { "requests[1].tokens", function() return { { tokens = 0 / 0 } } end },
        { "requests[1].tokens", function() return { { tokens = math.huge } } end },
        { "requests[1].spec", function() return { { tokens = 1, spec = 5 } } end },
        { "requests[1].spec", function() return { { tokens = 1, spec = {} } } end },
        { "requests[1].phase", function() return { { tokens = 1, phase = "decode" } } end },
        { "requests[1].phase", function() return { { tokens = 1, phase = 1 } } end },
        { "requests[1]: position: -1, expected 0", function() return { { tokens = 1, position = -1 } } end },
        { "requests[1].position", function() return { { tokens = 1, position = 0.5 } } end },
        { "requests[1].prompt_tokens", function() return { { tokens = 1, prompt_tokens = -2 } } end },
        { '"tokens"', function() return { { token = 1, tokens = 1 } } end },
        { '"position"', function() return { { tokens = 1, positon = 3 } } end },
        { "requests[1]", function() return { { tokens = 1, [4] = 1 } } end },
        { "requests[1].token_ids", function() return { { tokens = 1, token_ids = 3 } } end },
        { "requests[1].token_ids[1]", function() return { { tokens = 1, token_ids = { 1.5 } } } end },
        { "requests[1].token_ids", function() return { { tokens = 2, token_ids = { nil, 1 } } } end },
    }
    for i, case in ipairs(BAD) do
        it("are refused when bad: case " .. i .. ", " .. case[1], function()
            fails("invalid_argument", function() e:plan(case[2]()) end, "plan_create", case[1])
            fails("invalid_argument", function() plan:update(case[2]()) end, "plan_update", case[1])
            assert.same({ 0, 1 }, steered_rows(plan, 4)) -- the plan is as it was
        end)
    end

    it("with a misspelt key that a used table gains are refused some steps later", function()
        local request = { spec = spec, tokens = 1 }
        for _ = 1, 20 do plan:update { request } end
        local requests = { request }
        request.positoin = 3
        fails("invalid_argument", function()
            for _ = 1, 64 do plan:update(requests) end
        end, "requests[1]", '"position"')
    end)

    it("name the request that a spec does not fit, from 1", function()
        local wide = steer.spec { [3] = { steer.add { 1, 2, 3 } } }
        fails("shape_mismatch", function() e:plan { { tokens = 1 }, { spec = wide, tokens = 1 } } end, "plan_create",
            "requests[2]", "3", tostring(N))
        local function update() plan:update { { spec = wide, tokens = 1 } } end
        fails("shape_mismatch", update, "plan_update", "requests[1]")
    end)

    it("with a closed spec are closed errors", function()
        local closed = ones_spec()
        closed:close()
        local function update() plan:update { { tokens = 1 }, { spec = closed, tokens = 1 } } end
        fails("closed", update, "requests[2].spec")
    end)

    it("must have as many token ids as tokens, in integers on the CPU", function()
        local function with(ids) return function() plan:update { { tokens = 2, token_ids = ids } } end end
        fails("shape_mismatch", with { 1, 2, 3 }, "requests[1].token_ids", "3", "2")
        fails("shape_mismatch", with(T.arange(3, { dtype = "i64", device = "cpu" })), "token_ids")
        fails("shape_mismatch", with(T.zeros({ 1, 2 }, { dtype = "i64", device = "cpu" })), "token_ids")
        fails("dtype_mismatch", with(T.zeros({ 2 }, { device = "cpu" })), "token_ids", "f32")
        if B.device ~= "cpu" then
            fails("device_mismatch", with(on_device(T.zeros, { 2 }, "i64")), "token_ids", "CPU")
        end
    end)

    it("take token ids as lists and as i32 and i64 tensors, views included", function()
        local by_id = ones_spec { where = { token_ids = { 2, 4 } } }
        local wide = T.arange(10, { dtype = "i64", device = "cpu" }):reshape(5, 2)
        for _, ids in ipairs {
            { 0, 2, 4, 6 }, T.from({ 0, 2, 4, 6 }, { dtype = "i32", device = "cpu" }),
            T.from({ 0, 2, 4, 6 }, { dtype = "i64", device = "cpu" }), wide:select(2, 1):narrow(1, 1, 4),
        } do
            plan:update { { spec = by_id, tokens = 4, token_ids = ids } }
            assert.same({ 1, 2 }, steered_rows(plan, 4))
        end
        e:plan { { spec = by_id, tokens = 0, token_ids = {} } }
        plan:update {
            { spec = by_id, tokens = 2, token_ids = { 2, 0 } }, { tokens = 0 },
            { spec = by_id, tokens = 2, token_ids = { 9, 4 } },
        }
        assert.same({ 0, 3 }, steered_rows(plan, 4))
    end)

    it("may be none, and at most 65,536", function()
        assert.same({}, steered_rows(e:plan({}, { rows = 2 }), 2))
        e:plan({}):apply(0, on_device(T.zeros, { 0, N }))
        local request, many = { spec = spec, tokens = 0 }, {}
        for i = 1, 65536 do many[i] = request end
        many[1] = { spec = spec, tokens = 1 }
        local big = e:plan(many)
        assert.same({ 0 }, steered_rows(big, 1))
        many[65537] = request
        fails("invalid_argument", function() big:update(many) end, "65537")
        fails("invalid_argument", function() e:plan(many) end, "65537")
    end)
end)

describe("plan options", function()
    it("are checked", function()
        local e, spec = engine(), ones_spec()
        local function with(opts) return function() e:plan({ { spec = spec, tokens = 2 } }, opts) end end
        fails("invalid_argument", with { path = "fast" }, "path", "auto", "loop", "mixed", "uniform")
        fails("invalid_argument", with { path = "none" }, "path")
        fails("invalid_argument", with { rows = 0 }, "rows")
        fails("invalid_argument", with { rows = -1 }, "rows")
        fails("invalid_argument", with { rows = 2.5 }, "rows")
        fails("shape_mismatch", with { rows = 1 }, "rows", "1", "2")
        fails("invalid_argument", with { row = 3 }, '"rows"')
        fails("invalid_argument", with { strict = 1 }, "strict")
        fails("invalid_argument", function() e:plan({ { tokens = 2 ^ 52 } }) end, "plan_create")
    end)

    it("strict: a spec that steers nothing is no_effect, and an update keeps the batch that was", function()
        local e = engine()
        local good, nothing = ones_spec(), ones_spec { where = { generation = "all" } }
        local function strict(requests) return e:plan(requests, { strict = true }) end
        fails("no_effect", function() strict { { tokens = 1 }, { spec = nothing, tokens = 1 } } end, "requests[2]")
        fails("no_effect", function() strict { { spec = good, tokens = 0 } } end, "requests[1]")
        local noop = steer.spec { [3] = { steer.add({ 1, 1, 1, 1, 1, 1, 1, 1 }, 0) } }
        fails("no_effect", function() strict { { spec = noop, tokens = 2 } } end, "requests[1]")
        strict { { spec = steer.spec {}, tokens = 2 } } -- names nothing
        local plan = strict { { spec = good, tokens = 1 }, { tokens = 1 } }
        fails("no_effect", function() plan:update { { spec = nothing, tokens = 1 } } end, "plan_update")
        assert.same({ 0 }, steered_rows(plan, 2))
    end)
end)

describe("apply", function()
    it("refuses what does not fit", function()
        local e, spec = engine(), ones_spec()
        local plan = e:plan { { spec = spec, tokens = 2 } }
        local h = on_device(T.zeros, { 2, N })
        local function apply(tensor, opts, layer) return function() plan:apply(layer or 0, tensor, opts) end end
        fails("invalid_argument", apply(nil), "plan_apply", "hidden", "nothing")
        fails("invalid_argument", apply({}), "hidden", "a table")
        for _, layer in ipairs { -1, 1024, 0.5, 0 / 0, 2 ^ 33, "1" } do
            fails("invalid_argument", apply(h, nil, layer), "plan_apply", "layer")
        end
        fails("shape_mismatch", apply(on_device(T.zeros, { 3, N })), "hidden", "[3, 8]", "[2, 8]")
        fails("shape_mismatch", apply(on_device(T.zeros, { 2, N + 1 })), "hidden")
        fails("shape_mismatch", apply(on_device(T.zeros, { 2 * N })), "hidden")
        fails("shape_mismatch", apply(on_device(T.zeros, { 1, 2, N })), "hidden")
        fails("dtype_mismatch", apply(on_device(T.zeros, { 2, N }, "bf16")), "hidden", "bf16", "f32")
        fails("dtype_mismatch", apply(on_device(T.zeros, { 2, N }, "i32")), "hidden", "i32")
        fails("invalid_argument", apply(on_device(T.zeros, { N, 2 }):transpose(1, 2)), "hidden", "strides")
        fails("invalid_argument", apply(h, { residul = h }), '"residual"')
        fails("invalid_argument", apply(h, { residual = 3 }), "residual")
        fails("shape_mismatch", apply(h, { residual = on_device(T.zeros, { 1, N }) }), "residual")
        fails("dtype_mismatch", apply(h, { residual = on_device(T.zeros, { 2, N }, "f16") }), "residual")
        if B.device ~= "cpu" then
            fails("device_mismatch", apply(T.zeros({ 2, N }, { device = "cpu" })), "hidden", "cpu", B.device)
            fails("device_mismatch", apply(h, { residual = T.zeros({ 2, N }, { device = "cpu" }) }), "residual")
        end
        local closed = h:clone()
        closed:close()
        fails("closed", apply(closed), "hidden")
        fails("closed", apply(h, { residual = closed }), "residual")
        assert.same(on_device(T.zeros, { 2, N }):totable(), h:totable())
        assert.equal(h, plan:apply(0, h))
    end)

    it("steers rows of a wider tensor in place", function()
        local wide = on_device(T.zeros, { 3, 2 * N })
        engine():plan({ { tokens = 1 }, { spec = ones_spec(), tokens = 2 } }):apply(0, wide:narrow(2, 3, N))
        for r, row in ipairs(wide:totable()) do
            for i, x in ipairs(row) do assert.equal((r > 1 and i >= 3 and i < 3 + N) and 1 or 0, x) end
        end
    end)

    it("allocates nothing on the device, on any path, with a residual too", function()
        local e, device = engine("bf16"), steer.device(B.device)
        local a, b = ones_spec(), steer.spec { [0] = { steer.ablate { 1, 2, 3, 4, 5, 6, 7, 8 }, ones() } }
        local same, mixed = { { spec = a, tokens = 6 } }, { { spec = a, tokens = 4 }, { spec = b, tokens = 2 } }
        local h, residual = on_device(T.ones, { 6, N }, "bf16"), on_device(T.ones, { 6, N }, "bf16")
        for _, way in ipairs {
            { same, "auto" }, { same, "uniform" }, { same, "loop" },
            { mixed, "auto" }, { mixed, "mixed" }, { mixed, "loop" },
        } do
            local plan = e:plan(way[1], { path = way[2] })
            local before = device:memory().total_allocations
            for layer = 0, 3 do
                plan:apply(layer, h)
                plan:apply(layer, h, { residual = residual })
            end
            assert.equal(before, device:memory().total_allocations, way[2])
        end
    end)

    it("is an error after close, and close works twice", function()
        local plan = engine():plan { { tokens = 1 } }
        plan:close()
        plan:close()
        fails("closed", function() plan:apply(0, on_device(T.zeros, { 1, N })) end, "plan_apply")
        fails("closed", function() plan:update {} end, "plan_update")
        fails("closed", function() plan:explain(0) end, "plan_explain")
        assert.equal("plan (closed)", tostring(plan))
        fails("invalid_argument", function() plan.apply({}, 0) end, "self", "a plan")
    end)
end)

describe("update", function()
    it("refuses more rows than planned and keeps the batch that was", function()
        local e, spec = engine(), ones_spec()
        local plan = e:plan { { spec = spec, tokens = 1 }, { tokens = 2 } }
        fails("shape_mismatch", function() plan:update { { spec = spec, tokens = 2 }, { spec = spec, tokens = 2 } } end,
            "plan_update", "requests[2]: tokens", "3")
        local scoped = ones_spec { where = { prompt_positions = { 0 } } }
        local huge = { { spec = scoped, tokens = 2 ^ 53 } }
        fails("shape_mismatch", function() plan:update(huge) end, "requests[1]: tokens")
        assert.same({ 0 }, steered_rows(plan, 3))
        assert.equal(plan, plan:update { { tokens = 2 }, { spec = spec, tokens = 1 } })
        assert.same({ 2 }, steered_rows(plan, 3))
        plan:update {}
        assert.same({}, steered_rows(plan, 3))
    end)

    it("and apply notice an interrupt, and work after it", function()
        local C = require("steer.core.c").C
        local plan = engine():plan({ { spec = ones_spec(), tokens = 1 } }, { rows = 2 })
        C.steer_interrupt_raise()
        fails("interrupted", function() plan:update {} end, "plan_update")
        local h = on_device(T.zeros, { 2, N })
        C.steer_interrupt_raise()
        fails("interrupted", function() plan:apply(0, h) end, "plan_apply")
        assert.same({ 0 }, steered_rows(plan, 2))
    end)

    it("keeps steering with a spec that was closed after it", function()
        local plan = engine():plan({}, { rows = 2 })
        local spec = ones_spec()
        plan:update { { spec = spec, tokens = 2 } }
        spec:close()
        collectgarbage()
        assert.same({ 0, 1 }, steered_rows(plan, 2))
    end)

    it("leaves memory flat over 10,000 random batches, of specs that stay and of specs that come and go", function()
        math.randomseed(11)
        local e = steer.engine { hidden = N, device = B.device, vector_bytes = 2 ^ 14 } -- soon full of vectors
        local pool, device = {}, steer.device(B.device)
        local function random_spec(i)
            return B.spec(B.random_ops(N, i % 3 + 1, { gates = 0.2, scopes = 0.5 }), i % 4)
        end
        for i = 1, 20 do pool[i] = { spec = random_spec(i) } end
        local plan = e:plan({}, { rows = 400 })
        local function step(i)
            plan:update((B.random_requests(pool, math.random(0, 10), 20)))
            if i % 4 ~= 0 then return end
            local entry = pool[i % 20 + 1]
            entry.spec:close()
            entry.spec = random_spec(i)
        end
        local function measure()
            collectgarbage()
            collectgarbage()
            return device:memory().live_bytes, heap_bytes(), collectgarbage("count") * 1024
        end
        for i = 1, 2000 do step(i) end
        local live, heap, lua = measure()
        for i = 2001, 10000 do step(i) end
        local live_after, heap_after, lua_after = measure()
        local function flat(what, start, finish, slack)
            assert(finish <= start + slack, ("%d %s grew to %d"):format(start, what, finish))
        end
        flat("bytes on the device", live, live_after, 2 ^ 16)
        flat("bytes of the C heap", heap, heap_after, 2 ^ 17) -- a GPU's driver allocates there too
        flat("bytes of Lua", lua, lua_after, 2 ^ 19)
    end)

    it("and apply make no garbage once compiled", function()
        local e = engine()
        local requests, specs = {}, {}
        for i = 1, 64 do
            specs[i] = ones_spec()
            requests[i] = { spec = specs[i], tokens = 1, phase = "generation", position = 40 + i, prompt_tokens = 33 }
        end
        local plan = e:plan(requests)
        local h = on_device(T.zeros, { 64, N })
        local function steps(count)
            for step = 1, count do
                for i = 1, 64 do requests[i].spec = specs[(i + step) % 64 + 1] end
                plan:update(requests)
                for layer = 0, 3 do plan:apply(layer, h) end
            end
        end
        steps(300)
        collectgarbage()
        collectgarbage("stop")
        local before = collectgarbage("count")
        steps(1000)
        local grown = collectgarbage("count") - before
        collectgarbage("restart")
        assert.is_true(grown < 256, ("%.1f KiB of garbage in 1000 steps of 64 requests"):format(grown))
    end)
end)

describe("paths", function()
    local a, b
    setup(function() a, b = ones_spec(), steer.spec { [0] = { steer.ablate { 1, 2, 3, 4, 5, 6, 7, 8 } } } end)

    it("are chosen by the batch", function()
        local e = engine()
        local function path(requests, opts) return e:plan(requests, opts):explain(0).path end
        assert.equal("uniform", path { { spec = a, tokens = 4 } })
        assert.equal("uniform", path { { spec = a, tokens = 4 }, { spec = ones_spec(), tokens = 1 } })
        assert.equal("uniform", path({ { spec = a, tokens = 4 } }, { rows = 9 }))
        assert.equal("mixed", path { { spec = a, tokens = 4 }, { tokens = 1 } })
        assert.equal("mixed", path { { spec = a, tokens = 4 }, { spec = b, tokens = 1 } })
        assert.equal("none", path { { tokens = 4 } })
        assert.equal("none", e:plan({ { spec = a, tokens = 4 } }):explain(5).path)
        assert.equal("loop", path({ { spec = a, tokens = 4 } }, { path = "loop" }))
        assert.equal("mixed", path({ { spec = a, tokens = 4 } }, { path = "mixed" }))
    end)

    it("do not depend on empty requests", function()
        local e = engine()
        local function path(requests) return e:plan(requests):explain(0).path end
        assert.equal("uniform", path { { tokens = 0 }, { spec = a, tokens = 4 } })
        assert.equal("uniform", path { { spec = a, tokens = 4 }, { spec = b, tokens = 0 } })
        e:plan({ { spec = a, tokens = 4 }, { tokens = 0 } }, { path = "uniform" })
    end)

    it("that cannot serve are unsupported, also after an update, which changes nothing then", function()
        local e = engine()
        local mixed = { { spec = a, tokens = 2 }, { tokens = 1 } }
        fails("unsupported", function() e:plan(mixed, { path = "uniform" }) end, "path", "uniform")
        local plan = e:plan({ { spec = a, tokens = 3 } }, { path = "uniform" })
        fails("unsupported", function() plan:update(mixed) end, "uniform")
        assert.same({ 0, 1, 2 }, steered_rows(plan, 3))
    end)
end)

describe("residual", function()
    it("steers delta + residual, leaves residual, writes delta", function()
        B.rounds(4, function()
            for _, dtype in ipairs(B.dtypes) do
                local n, rows = B.choose { 5, 64, 300 }, 9
                local ops = B.random_ops(n, 4, { gates = 0.3 })
                local requests = {
                    { spec = B.spec(ops), tokens = 4 }, { tokens = 2 }, { spec = B.spec(ops), tokens = 1 },
                }
                local residual, delta = B.hidden(rows, n, dtype), B.hidden(rows, n, dtype)
                local bits = B.bytes(residual)
                for _, path in ipairs { "auto", "mixed", "loop" } do
                    local plan = engine(dtype, n):plan(requests, { rows = rows, path = path })
                    B.check(plan, {
                        hidden = n, dtype = dtype, requests = requests, rows = rows, residual = residual,
                        programs = { ops, nil, ops },
                    }, delta)
                    assert.equal(bits, B.bytes(residual))
                end
            end
        end)
    end)
end)

describe("a vector of zeros", function()
    it("or a scale of 0 adds nothing, and a spec of nothing else is idle", function()
        local e = steer.engine { hidden = 4, device = B.device }
        local zeros, all = T.zeros({ 4 }, { device = "cpu" }), T.ones({ 4 }, { device = "cpu" })
        local gate = { vector = all, above = -1, cosine = true }
        for _, nothing in ipairs {
            steer.add(zeros, 2), steer.add(all, 0), steer.add(all - all),
            steer.add({ 0, -0, 0, 0 }, 1, { when = gate }),
        } do
            local idle = steer.spec { [0] = { nothing }, [1] = { nothing } }
            local some = steer.spec { [0] = { nothing, steer.add(all), nothing }, [1] = { nothing } }
            local h = T.zeros({ 3, 4 }, { device = B.device })
            local plan = e:plan { { spec = idle, tokens = 1 }, { spec = some, tokens = 2 } }
            plan:apply(0, h)
            plan:apply(1, h)
            assert.same({ 0, 1, 1 }, h:select(2, 4):totable())
            assert.same({ 1 }, plan:explain(0).idle_specs)
            fails("no_effect", function() e:plan({ { spec = idle, tokens = 1 } }, { strict = true }) end, "requests[1]")
        end
        local path = os.tmpname() .. ".safetensors"
        steer.spec { [2] = { steer.add(zeros) } }:save(path)
        assert.same({ 2 }, steer.load_spec(path):layers())
        os.remove(path)
    end)
end)
