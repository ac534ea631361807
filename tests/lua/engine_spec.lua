-- Engines: what they take and refuse, what they share and count, and that they end in any order without a leak.
-- devices: cpu cuda
local B = require "batches"
local steer = require "steer"
local T = steer.tensor
local fails = B.fails

local function engine(hidden, opts)
    opts = opts or {}
    opts.hidden, opts.device = hidden or 8, B.device
    return steer.engine(opts)
end

local function random_spec(n, layer)
    return steer.spec { [layer or 0] = { steer.add(B.tensor({ n }, "f32", B.randn)) } }
end

local function live_bytes()
    collectgarbage()
    collectgarbage()
    return steer.device(B.device):memory().live_bytes
end

-- Nothing more is alive than before; less may be, as what earlier tests dropped goes at some collection.
local function nothing_left(before)
    local after = live_bytes()
    assert(after <= before, ("%d live bytes grew to %d"):format(before, after))
end

describe("steer.engine", function()
    it("takes a hidden size, a dtype, a device and a budget", function()
        for _, dtype in ipairs(B.dtypes) do
            local e = engine(16, { dtype = dtype, vector_bytes = 2 ^ 20 })
            assert.equal("engine: hidden 16, " .. dtype .. " on " .. B.device, tostring(e))
            assert.equal(2 ^ 20, e:stats().vector_budget)
            e:close()
        end
        assert.equal("f32", engine().dtype)
        assert.equal(2 ^ 30, engine():stats().vector_budget)
        assert.equal(B.device, steer.engine({ hidden = 4, device = steer.device(B.device) }).device)
    end)

    it("refuses what it cannot serve", function()
        fails("invalid_argument", function() steer.engine() end, "hidden", "missing")
        fails("invalid_argument", function() steer.engine { device = B.device } end, "hidden", "missing")
        fails("invalid_argument", function() steer.engine(64) end, "engine")
        fails("invalid_argument", function() steer.engine(false) end, "engine")
        for _, hidden in ipairs { 0, -1, 1.5, 32769, 0 / 0, math.huge } do
            fails("invalid_argument", function() engine(hidden) end, "hidden")
        end
        fails("invalid_argument", function() engine("64") end, "hidden", '"64"')
        fails("invalid_argument", function() engine(8, { dtype = "i32" }) end, "dtype", "bf16", "f16", "f32")
        fails("invalid_argument", function() engine(8, { dtype = "float16" }) end, "dtype")
        fails("invalid_argument", function() engine(8, { vector_bytes = -1 }) end, "vector_bytes")
        fails("invalid_argument", function() engine(8, { vector_bytes = 0.5 }) end, "vector_bytes")
        fails("invalid_argument", function() engine(8, { hiden = 8 }) end, '"hidden"')
        fails("invalid_argument", function() steer.engine { hidden = 8, device = 3 } end, "device")
        fails("invalid_argument", function() steer.engine { hidden = 8, device = "gpu zero" } end)
        fails("not_found", function() steer.engine { hidden = 8, device = "cuda:97" } end, "cuda:97")
    end)

    it("is closed once and for all", function()
        local e = engine()
        e:close()
        e:close()
        fails("closed", function() e:plan {} end, "plan_create", "engine")
        fails("closed", function() e:stats() end, "engine_stats")
        assert.equal("engine (closed)", tostring(e))
        fails("invalid_argument", function() e.plan({}, {}) end, "self", "an engine")
        fails("invalid_argument", function() e.stats() end, "self", "nothing")
    end)
end)

describe("sharing", function()
    it("makes one program of equal content, whoever built it", function()
        local v = B.tensor({ 8 }, "f32", B.randn)
        local e = engine()
        local function spec()
            return steer.spec { [0] = { steer.add(v, 2), steer.cap(v, { max = 1 }) }, [7] = { steer.ablate(v) } }
        end
        local one = e:plan { { spec = spec(), tokens = 1 } }
        local first = e:stats()
        local two = e:plan { { spec = spec(), tokens = 2 }, { tokens = 1 }, { spec = spec(), tokens = 1 } }
        local second = e:stats()
        assert.equal(2, first.programs)
        assert.equal(first.programs, second.programs)
        assert.equal(first.vectors, second.vectors)
        assert.equal(first.vector_bytes, second.vector_bytes)
        assert.is_true(second.program_hits > first.program_hits)
        assert.equal(1, two:explain(0).programs)
        one:close()
        assert.equal(1, e:stats().live_plans)
    end)

    it("tells programs apart by any of their fields", function()
        local v, g = B.tensor({ 8 }, "f32", B.randn), B.tensor({ 8 }, "f32", B.randn)
        local e = engine()
        local different = {
            steer.add(v), steer.add(v, 2), steer.add(g), steer.add(v, 1, { normalize = true }),
            steer.cap(v, { max = 1 }), steer.cap(v, { min = 1 }), steer.cap(v, { min = 1, max = 1 }),
            steer.cap(v, { max = 1, normalize = false }), steer.ablate(v), steer.ablate(v, 0.5),
            steer.ablate(v, 0, { when = { vector = g, above = 0 } }),
            steer.ablate(v, 0, { when = { vector = g, below = 0 } }),
            steer.ablate(v, 0, { when = { vector = v, above = 0 } }),
            steer.ablate(v, 0, { when = { vector = g, above = 1 } }),
            steer.ablate(v, 0, { when = { vector = g, above = 0, cosine = true } }),
        }
        local requests = {}
        for i, op in ipairs(different) do requests[i] = { spec = steer.spec { [0] = { op } }, tokens = 1 } end
        local plan = e:plan(requests)
        assert.equal(#different, plan:explain(0).programs)
        assert.equal(#different, e:stats().programs)
    end)

    it("keeps vectors within the budget, dropping what no live spec uses", function()
        local n, budget = 256, 8 * 1024 -- eight vectors
        local e = engine(n, { vector_bytes = budget })
        local plan = e:plan({}, { rows = 16 })
        for _ = 1, 40 do
            local spec = random_spec(n)
            plan:update { { spec = spec, tokens = 1 } }
            spec:close()
            assert.is_true(e:stats().vector_bytes <= budget)
        end
        local stats = e:stats()
        assert.is_true(stats.vector_evictions > 0)
        assert.is_true(stats.vectors <= 8)
    end)

    it("drops the vector whose last user went first, and counts hits, misses and evictions", function()
        local n, vectors = 256, {}
        for i = 1, 4 do vectors[i] = B.tensor({ n }, "f32", B.randn) end
        local e = engine(n, { vector_bytes = 3 * 4 * n })
        local plan = e:plan({}, { rows = 1 })
        -- Steers with vector i once; no spec uses it afterwards.
        local function use(i)
            local spec = steer.spec { [0] = { steer.add(vectors[i]) } }
            plan:update { { spec = spec, tokens = 1 } }
            plan:update {}
            spec:close()
            local s = e:stats()
            return { s.vectors, s.vector_hits, s.vector_misses, s.vector_evictions }
        end
        assert.same({ 1, 0, 1, 0 }, use(1))
        assert.same({ 2, 0, 2, 0 }, use(2))
        assert.same({ 3, 0, 3, 0 }, use(3))
        assert.same({ 3, 1, 3, 0 }, use(1)) -- still there; 2 is the oldest now
        assert.same({ 3, 1, 4, 1 }, use(4)) -- in place of 2
        assert.same({ 3, 2, 4, 1 }, use(3))
        assert.same({ 3, 3, 4, 1 }, use(1))
        assert.same({ 3, 3, 5, 2 }, use(2)) -- in place of 4
        assert.same({ 3, 3, 6, 3 }, use(4)) -- in place of 3
        assert.same({ 3, 4, 6, 3 }, use(1))
        assert.equal(3 * 4 * n, e:stats().vector_bytes)
    end)

    it("says out_of_memory when the budget is full of vectors in use, and works on", function()
        local n = 256
        local e = engine(n, { vector_bytes = 4 * 1024 })
        local spec = random_spec(n)
        local plan = e:plan({ { spec = spec, tokens = 1 } }, { rows = 16 })
        local many = {}
        for i = 1, 9 do many[i] = { spec = random_spec(n), tokens = 1 } end
        fails("out_of_memory", function() plan:update(many) end, "plan_update")
        local h, alone = T.zeros({ 16, n }, { device = B.device }), T.zeros({ 16, n }, { device = B.device })
        plan:apply(0, h)
        engine(n):plan({ { spec = spec, tokens = 1 } }, { rows = 16 }):apply(0, alone)
        assert.equal(B.bytes(alone), B.bytes(h))
    end)

    it("counts plans, updates, applies and launches per path", function()
        local e = engine()
        local a, b = random_spec(8), random_spec(8)
        local h = B.hidden(2, 8, "f32")
        local function run(requests, opts, layer)
            local plan = e:plan(requests, opts)
            plan:apply(layer or 0, h)
        end
        run { { spec = a, tokens = 2 } }
        run { { spec = a, tokens = 1 }, { spec = b, tokens = 1 } }
        run({ { spec = a, tokens = 1 }, { spec = b, tokens = 1 } }, { path = "loop" })
        run({ { spec = a, tokens = 2 } }, nil, 3)
        local stats = e:stats()
        assert.equal(4, stats.plans)
        assert.equal(4, stats.updates)
        assert.equal(4, stats.applies)
        assert.equal(1, stats.applies_none)
        assert.same({ uniform = 1, mixed = 1, loop = 2 }, stats.launches)
        local text = tostring(stats)
        for _, part in ipairs { "vectors", "programs", "updates", "uniform 1, mixed 1, loop 2", "1.0 GiB" } do
            assert.truthy(text:find(part, 1, true), part .. " is not in " .. text)
        end
    end)

    it("lets several engines work on one device", function()
        local spec = random_spec(8)
        local h = B.hidden(3, 8, "f32")
        local g = h:clone()
        local first, second = engine(), engine()
        local p, q = first:plan { { spec = spec, tokens = 3 } }, second:plan { { spec = spec, tokens = 3 } }
        p:apply(0, h)
        first:close()
        q:apply(0, g)
        assert.equal(B.bytes(h), B.bytes(g))
    end)
end)

describe("two engines on one device", function()
    it("of different dtypes and hidden sizes take turns and give the bits that each gives alone", function()
        B.rounds(4, function()
            local sides = {}
            for i, shape in ipairs { { "f32", 40 }, { "bf16", 72 } } do
                local dtype, n = shape[1], shape[2]
                local pool = {}
                for k = 1, 4 do pool[k] = { spec = B.spec(B.random_ops(n, k, { gates = 0.3, scopes = 0.3 })) } end
                local plan = engine(n, { dtype = dtype }):plan({}, { rows = 60 })
                sides[i] = { dtype = dtype, n = n, plan = plan, pool = pool }
            end
            for _ = 1, 10 do
                for _, side in ipairs(sides) do
                    side.requests = B.random_requests(side.pool, 6, 8)
                    side.before = B.hidden(60, side.n, side.dtype)
                    side.after = side.before:clone()
                    side.plan:update(side.requests)
                end
                for _, side in ipairs(sides) do side.plan:apply(0, side.after) end
                for _, side in ipairs(sides) do
                    local alone = engine(side.n, { dtype = side.dtype }):plan(side.requests, { rows = 60 })
                    alone:apply(0, side.before)
                    assert.equal(B.bytes(side.before), B.bytes(side.after))
                end
            end
        end)
    end)
end)

describe("closing", function()
    -- All orders in which four things can be closed.
    local function orders(items)
        if #items == 0 then return { {} } end
        local all = {}
        for i = 1, #items do
            local rest = {}
            for j, item in ipairs(items) do if j ~= i then rest[#rest + 1] = item end end
            for _, tail in ipairs(orders(rest)) do all[#all + 1] = { items[i], unpack(tail) } end
        end
        return all
    end

    it("works in every order, parents before children included", function()
        local before = live_bytes()
        for _, order in ipairs(orders { "op", "spec", "engine", "plan" }) do
            local things = { op = steer.add { 1, 2 } }
            things.spec = steer.spec { [0] = { things.op } }
            things.engine = engine(2)
            things.plan = things.engine:plan { { spec = things.spec, tokens = 1 } }
            local h = T.zeros({ 1, 2 }, { device = B.device })
            for _, name in ipairs(order) do
                things[name]:close()
                if name ~= "plan" and things.plan.handle ~= nil then things.plan:apply(0, h) end
            end
            fails("closed", function() things.plan:apply(0, h) end, "plan_apply")
            h:close()
        end
        nothing_left(before)
    end)

    it("leaves nothing behind after 1,000 engines dropped in random order", function()
        math.randomseed(5)
        local specs = {}
        for i = 1, 10 do specs[i] = random_spec(32, i) end
        local before = live_bytes()
        for _ = 1, 50 do
            local things = {}
            for _ = 1, 20 do
                local e = engine(32)
                things[#things + 1] = e
                local plan = e:plan { { spec = B.choose(specs), tokens = 3 }, { spec = B.choose(specs), tokens = 1 } }
                things[#things + 1] = plan
            end
            while #things > 0 do
                local thing = table.remove(things, math.random(#things))
                if math.random() < 0.8 then thing:close() end -- the others are left to the collector
            end
        end
        nothing_left(before)
    end)

    it("is not needed for memory to stay bounded: dropped plans are collected above the soft limit", function()
        local c, device = require "steer.core.c", steer.device(B.device)
        local before, e, most = live_bytes(), engine(), 0
        local default, limit = c.SOFT_LIMIT, device.soft_limit
        c.SOFT_LIMIT, device.soft_limit = before + 2 ^ 25, before + 2 ^ 25
        for _ = 1, 60 do
            e:plan({}, { rows = 2 ^ 17 }) -- a row table of 2 MiB
            most = math.max(most, device:memory().live_bytes - before)
        end
        c.SOFT_LIMIT, device.soft_limit = default, limit
        assert(most < 2 ^ 26, most .. " bytes were alive at once")
    end)

    it("frees what was never closed", function()
        local before = live_bytes()
        for _ = 1, 20 do
            local e = engine(64)
            e:plan { { spec = random_spec(64), tokens = 5 } }
        end
        nothing_left(before)
    end)
end)

describe("failing allocations", function()
    it("are made good by a second try, one by one, and nothing is lost", function()
        local device = steer.device(B.device)
        local spec = steer.spec { [0] = {
            steer.add { 1, 2, 3 }, steer.cap({ 3, 2, 1 }, { max = 1 }), steer.ablate { 1, 0, 1 },
        } }
        local before = live_bytes()
        local function round()
            local e = engine(3)
            local plan = e:plan { { spec = spec, tokens = 2 } }
            plan:update { { spec = spec, tokens = 1 } }
            plan:close()
            e:close()
        end
        local start = device:memory().total_allocations
        round()
        local allocations = device:memory().total_allocations - start
        assert.is_true(allocations > 0)
        for n = 1, allocations do
            device:fail_allocation(n)
            round()
            device:fail_allocation(0)
            nothing_left(before)
        end
    end)
end)
