-- What went wrong in other systems: one test for each, so that it does not go wrong here.
-- devices: cpu cuda
local B = require "batches"
local oracle = require "oracle"
local steer = require "steer"
local T = steer.tensor

local N = 16

local function engine(dtype, hidden)
    return steer.engine { hidden = hidden or N, dtype = dtype or "f32", device = B.device }
end
local function zeros(rows) return T.zeros({ rows, N }, { device = B.device }) end
local function axis(i, length)
    local v = {}
    for k = 1, N do v[k] = k == i and (length or 1) or 0 end
    return v
end

-- All orders of a list.
local function orders(list)
    if #list <= 1 then return { list } end
    local all = {}
    for i = 1, #list do
        local rest = {}
        for j = 1, #list do if j ~= i then rest[#rest + 1] = list[j] end end
        for _, tail in ipairs(orders(rest)) do all[#all + 1] = { list[i], unpack(tail) } end
    end
    return all
end

describe("elsewhere", function()
    it("a batch [unsteered, unsteered, steered] steered all: here neighbours keep their bits in every order", function()
        for _, dtype in ipairs(B.dtypes) do
            local e = engine(dtype)
            local kinds = {
                steered = steer.spec { [0] = { steer.add(axis(3, 5)), steer.ablate(axis(1)) } }, empty = steer.spec {},
            }
            for _, order in ipairs(orders { "none", "none", "steered", "empty" }) do
                local requests = {}
                for i, kind in ipairs(order) do
                    requests[i] = { tokens = 2, spec = kinds[kind] }
                end
                for _, path in ipairs { "auto", "mixed", "loop" } do
                    local h = B.hidden(9, N, dtype)
                    local after = h:clone()
                    e:plan(requests, { path = path, rows = 9 }):apply(0, after)
                    for row = 1, 9 do
                        local same = B.bytes(h[row]) == B.bytes(after[row])
                        assert.equal(order[math.ceil(row / 2)] ~= "steered", same)
                    end
                end
            end
        end
    end)

    it("a batched form reordered operations: cap then add gave 0.5 where one after the other gives 1.0", function()
        -- h.v = 2: capped to 0.5, then 0.5 is added; the other order adds first and ends at the cap.
        local cap, add = steer.cap(axis(1), { max = 0.5 }), steer.add(axis(1), 0.5)
        local cap_add, add_cap = steer.spec { [0] = { cap, add } }, steer.spec { [0] = { add, cap } }
        for _, path in ipairs { "auto", "mixed", "loop" } do
            local h = zeros(4)
            for row = 1, 4 do h:set(row, 1, 2) end
            local plan = engine():plan({
                { spec = cap_add, tokens = 1 }, { spec = add_cap, tokens = 1 }, { tokens = 1 },
                { spec = cap_add, tokens = 1 },
            }, { path = path })
            plan:apply(0, h)
            assert.same({ 1, 0.5, 2, 1 }, h:select(2, 1):totable())
        end
    end)

    it("a replay with more segments than at capture skipped work: here an update may bring any number", function()
        local e = engine()
        local plan = e:plan({ { spec = steer.spec { [0] = { steer.add(axis(1)) } }, tokens = 32 } }, { rows = 32 })
        assert.equal(1, #plan:explain(0).groups)
        for _, count in ipairs { 1, 2, 5, 32 } do
            local requests = {}
            for i = 1, count do
                requests[i] = { spec = steer.spec { [0] = { steer.add(axis(1), i) } }, tokens = math.floor(32 / count) }
            end
            plan:update(requests)
            local h = zeros(32)
            plan:apply(0, h)
            local values = h:select(2, 1):totable()
            for row = 1, 32 do
                local request = math.ceil(row / math.floor(32 / count))
                assert.equal(request <= count and request or 0, values[row])
            end
        end
    end)

    it("a strength was baked into a captured graph: here an update with another strength takes effect", function()
        local plan = engine():plan({}, { rows = 2 })
        for _, strength in ipairs { 1, -4, 0.25, 1 } do
            plan:update { { spec = steer.spec { [0] = { steer.add(axis(2), strength) } }, tokens = 2 } }
            local h = zeros(2)
            plan:apply(0, h)
            assert.same({ strength, strength }, h:select(2, 2):totable())
        end
    end)

    describe("vectors silently steered nothing: here the plan says so", function()
        local IDLE = {
            { "a scope that selects no token", function()
                return { steer.add(axis(1), 1, { where = { generation = "all" } }) }
            end },
            { "a scale of 0", function() return { steer.add(axis(1), 0) } end },
            { "an ablation that keeps everything", function() return { steer.ablate(axis(1), 1) } end },
            { "an exclusion of everything", function()
                return { steer.add(axis(1), 1, { exclude = { prompt = "all" } }) }
            end },
        }
        for _, case in ipairs(IDLE) do
            it("with " .. case[1], function()
                local e, spec = engine(), steer.spec { [4] = case[2]() }
                local requests = { { tokens = 1 }, { spec = spec, tokens = 2 } }
                local x = e:plan(requests):explain(4)
                assert.same({ 2 }, x.idle_specs)
                assert.equal("none", x.path)
                assert.truthy(tostring(x):find("idle specs", 1, true))
                B.fails("no_effect", function() e:plan(requests, { strict = true }) end, "requests[2]")
            end)
        end

        it("and does not call a spec idle that steers in another request or on another layer", function()
            local e = engine()
            local spec = steer.spec { [4] = { steer.add(axis(1), 1, { where = { prompt_positions = { 0 } } }) } }
            local requests = { { spec = spec, tokens = 1, position = 3 }, { spec = spec, tokens = 1, position = 0 } }
            assert.same({}, e:plan(requests, { strict = true }):explain(7).idle_specs)
        end)
    end)

    it("padding rows got steered: here rows past the requests keep their bits on every path", function()
        for _, dtype in ipairs(B.dtypes) do
            local spec = steer.spec { [0] = { steer.add(axis(1)), steer.cap(axis(2), { max = -9 }) } }
            for _, path in ipairs { "auto", "uniform", "mixed", "loop" } do
                local plan = engine(dtype):plan({ { spec = spec, tokens = 7 } }, { rows = 20, path = path })
                for _, tokens in ipairs { 7, 20, 0, 3 } do
                    plan:update { { spec = spec, tokens = tokens } }
                    local h = B.hidden(20, N, dtype)
                    local after = h:clone()
                    plan:apply(0, after)
                    for row = 1, 20 do
                        assert.equal(row > tokens, B.bytes(h[row]) == B.bytes(after[row]))
                    end
                end
            end
        end
    end)

    it("bf16 was rounded after every operation of a chain: here it is rounded once, at the end", function()
        math.randomseed(17)
        local n, rows = 512, 40
        for _, dtype in ipairs { "bf16", "f16" } do
            for _, length in ipairs { 3, 16, 64 } do
                local ops = B.random_ops(n, length)
                local batch = {
                    hidden = n, dtype = dtype, rows = rows, requests = { { spec = B.spec(ops), tokens = rows } },
                    programs = { ops },
                }
                local counts = B.check(engine(dtype, n):plan(batch.requests), batch, B.hidden(rows, n, dtype))
                local share = counts.off / counts.elements
                assert(share <= 0.001, ("%s, %d operations: %.3f %% off"):format(dtype, length, 100 * share))
            end
        end
    end)

    it("GGUF directions were off by one layer: here file and spec agree on what a layer is", function()
        local path = os.tmpname()
        os.remove(path)
        path = path .. ".gguf"
        local v = T.from(axis(5, 0.5), { device = "cpu" })
        steer.save(path, { [7] = v })
        local layers = steer.load(path)
        os.remove(path)
        local operations = {}
        for layer, direction in pairs(layers) do operations[layer] = { steer.add(direction, 2) } end
        local spec = steer.spec(operations)
        assert.same({ 7 }, spec:layers())
        local plan = engine():plan({ { spec = spec, tokens = 1 } })
        for layer = 6, 8 do
            local h = zeros(1)
            plan:apply(layer, h)
            assert.equal(layer == 7 and 1 or 0, h:get(1, 5))
        end
    end)
end)

-- The oracle must be worth comparing with: its own checks fail on what went wrong above.
describe("the oracle", function()
    it("refuses a steered neighbour, a value off by two units, and NaN", function()
        local function batch(after)
            return {
                hidden = 2, dtype = "bf16", rows = 2, before = oracle.from { 1, 2, 3, 4 }, after = oracle.from(after),
                requests = { { tokens = 1 }, { tokens = 1 } },
                programs = { nil, { { kind = "add", v = oracle.from { 1, 1 } } } },
            }
        end
        assert.truthy(oracle.check(batch { 1, 2, 4, 5 }))
        assert.truthy(oracle.check(batch { 1, 2, 4, 5 + 2 ^ -5 }))
        for _, after in ipairs {
            { 1, 2 + 2 ^ -20, 4, 5 }, { 1, 2, 3, 4 }, { 1, 2, 4, 5 + 2 ^ -4 }, { 1, 2, 0 / 0, 5 }, { 0 / 0, 2, 4, 5 },
        } do
            local counts, message = oracle.check(batch(after))
            assert.is_nil(counts)
            assert.truthy(message:find("row", 1, true))
        end
    end)

    it("rounds to nearest even in every dtype", function()
        assert.equal(1, oracle.round(1 + 2 ^ -9, "bf16"))
        assert.equal(1 + 2 ^ -6, oracle.round(1 + 3 * 2 ^ -8, "bf16"))
        assert.equal(0, oracle.round(2 ^ -25, "f16"))
        assert.equal(2 ^ -23, oracle.round(1.5 * 2 ^ -24, "f16"))
        assert.equal(-(1 + 2 ^ -10), oracle.round(-(1 + 1.1 * 2 ^ -10), "f16"))
        assert.equal(2 ^ -23, oracle.ulp(1, "f32"))
    end)
end)
