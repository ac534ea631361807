-- What a plan says of itself: explain, its table and its words.
-- devices: cpu cuda
local B = require "batches"
local steer = require "steer"
local T = steer.tensor
local fails = B.fails

local N = 8

local function engine(dtype) return steer.engine { hidden = N, dtype = dtype or "f32", device = B.device } end
local function ones_spec(opts) return steer.spec { [0] = { steer.add(T.ones({ N }, { device = "cpu" }), 1, opts) } } end

describe("explain", function()
    it("says path, reason, rows, programs, operations, groups, bytes and time", function()
        local v = B.tensor({ N }, "f32", B.randn)
        local spec = steer.spec { [2] = {
            steer.add(v), steer.add(v, 2), steer.cap(v, { max = 1 }), steer.ablate { 1, 0, 0, 0, 0, 0, 0, 1 },
            steer.add(v, 0),
        } }
        local add = steer.spec { [2] = { steer.add(v, 3) }, [4] = { steer.add(v) } }
        local e = engine("bf16")
        local plan = e:plan({
            { tokens = 3 }, { spec = spec, tokens = 4 }, { spec = add, tokens = 2 }, { spec = add, tokens = 1 },
            { spec = ones_spec { where = { generation = "all" } }, tokens = 1 },
        }, { rows = 20 })
        local x = plan:explain(2)
        assert.equal("mixed", x.path)
        assert.equal(20, x.rows)
        assert.equal(7, x.steered_rows)
        assert.equal(2, x.programs)
        assert.equal(4, x.ops) -- a folded add and two projecting ones, and an add
        assert.equal(2, x.max_ops)
        assert.equal(1, x.launches)
        assert.is_true(x.bytes >= 2 * 2 * 7 * N)
        -- Bytes tell the time of a GPU alone.
        assert.equal(B.device ~= "cpu", x.expected_us ~= nil)
        assert.equal(B.device ~= "cpu", tostring(x):find "expected time" ~= nil)
        assert.same({ 5 }, x.idle_specs)
        assert.equal(2, #x.groups)
        local first, second = x.groups[1], x.groups[2]
        assert.same({ 4, 4, 2, 1, 2, 5 }, { first.start, first.rows, first.request, first.adds, first.projections,
            first.source_ops })
        assert.same({ 8, 3, 3, 1, 0, 1 }, { second.start, second.rows, second.request, second.adds, second.projections,
            second.source_ops })
        assert.same({ 1, 2 }, { first.program, second.program })
        local text = tostring(x)
        for _, part in ipairs { "layer 2", "mixed", x.why, "20, 7 of them steered", "2 projecting", "an add", "idle" }
        do
            assert.truthy(text:find(part, 1, true), part .. " is not in\n" .. text)
        end
        assert.equal("none", plan:explain(3).path)
        assert.equal(3, plan:explain(4).steered_rows)
        for _, layer in ipairs { -1, 1024, 1.5, "2" } do
            fails("invalid_argument", function() plan:explain(layer) end, "plan_explain", "layer")
        end
        fails("invalid_argument", function() plan:explain() end, "layer", "nothing")
    end)

    it("counts a launch for each steered request on the loop path, else one, and none where none is", function()
        local e, spec = engine(), ones_spec()
        local requests = {
            { spec = spec, tokens = 2 }, { tokens = 1 }, { spec = spec, tokens = 3 }, { spec = spec, tokens = 0 },
        }
        for path, launches in pairs { auto = 1, mixed = 1, loop = 2 } do
            local plan = e:plan(requests, { path = path })
            assert.equal(launches, plan:explain(0).launches, path)
            assert.equal(0, plan:explain(1).launches, path)
            assert.equal("none", plan:explain(1).path)
            assert.equal(path ~= "auto", plan:explain(0).why:find("forced", 1, true) ~= nil)
        end
    end)

    it("names the kernels of a GPU and why they serve", function()
        local function caps(count)
            local ops = {}
            for i = 1, count do ops[i] = steer.cap(B.tensor({ N }, "f32", B.randn), { max = 1 }) end
            return steer.spec { [0] = ops }
        end
        local few, many = caps(2), caps(9)
        local function explained(dtype, ...)
            local requests = {}
            for i, spec in ipairs { ... } do requests[i] = { spec = spec, tokens = 4 } end
            return engine(dtype):plan(requests):explain(0)
        end
        local one = explained("bf16", few)
        if B.device == "cpu" then return assert.is_nil(one.kernels) end
        assert.truthy(one.kernels:find("^tile %(few vectors"))
        assert.truthy(tostring(one):find("1: tile (few vectors", 1, true))
        local both = explained("bf16", few, many)
        assert.equal(2, both.launches)
        assert.truthy(both.kernels:find("^tile %(.*%) and mma %(many vectors"))
        assert.equal(1, explained("bf16", many, many).launches)
        both = explained("f32", few, many)
        assert.equal(1, both.launches)
        assert.truthy(both.kernels:find("^general %("))
        local cap = steer.cap(B.tensor({ N }, "f32", B.randn), { max = 1 })
        both = explained("f16", few, steer.spec { [0] = { cap, steer.keep_norm() } })
        assert.equal(2, both.launches)
        assert.truthy(both.kernels:find("and block %("))
    end)

    it("leaves out the middle of many groups when printed", function()
        local requests = {}
        for i = 1, 40 do
            requests[i] = { spec = steer.spec { [0] = { steer.add { i, 1, 1, 1, 1, 1, 1, 1 } } }, tokens = 1 }
        end
        local x = engine():plan(requests):explain(0)
        assert.equal(40, #x.groups)
        local lines = select(2, tostring(x):gsub("\n", "\n"))
        assert.is_true(lines < 24, lines .. " lines")
        assert.truthy(tostring(x):find("more groups", 1, true))
    end)
end)
