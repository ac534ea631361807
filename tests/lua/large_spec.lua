-- Batches larger than a GPU's cache take kernels of their own; a request's bits must be those it has alone.
-- devices: cpu cuda
local helper = require "helper"
local steer = require "steer"

local ELEMENT = { f32 = 4, f16 = 2, bf16 = 2 }
-- More than the last-level cache of the device under test; the CPU has one path and needs no such size.
local BYTES = helper.device == "cpu" and 2 ^ 20 or 80 * 2 ^ 20

local function vector(hidden, seed)
    return steer.tensor.randn({ hidden }, { dtype = "f32", device = helper.device, seed = seed })
end

-- Programs of one request; what differs is the number of vectors that a kernel holds.
local programs = {
    ["add"] = function(v) return { steer.add(v(1), 0.5) } end,
    ["cap"] = function(v) return { steer.cap(v(1), { min = 1, max = 2 }) } end,
    ["add and cap"] = function(v) return { steer.add(v(1), 0.5), steer.cap(v(2), { min = 1, max = 2 }) } end,
    ["add, cap and ablate"] = function(v)
        return { steer.add(v(1), 0.5), steer.cap(v(2), { max = -1 }), steer.ablate(v(3), 0.25) }
    end,
    ["four projections"] = function(v)
        local first, second = steer.ablate(v(1)), steer.cap(v(2), { min = 3 })
        return { first, second, steer.ablate(v(3), -1), steer.cap(v(4), { max = 0 }) }
    end,
    ["five projections"] = function(v)
        local ops = {}
        for i = 1, 5 do ops[i] = steer.ablate(v(i), i / 2) end
        return ops
    end,
    ["six projections, an add"] = function(v)
        local ops = { steer.cap(v(1), { min = 3 }), steer.cap(v(2), { max = -1 }), steer.add(v(3), 0.5) }
        for i = 4, 7 do ops[i] = steer.ablate(v(i), -1) end
        return ops
    end,
    ["nine operations"] = function(v)
        local ops = { steer.add(v(0), -0.5) }
        for i = 1, 8 do ops[i + 1] = steer.cap(v(i), { min = 1, max = 2 }) end
        return ops
    end,
}

local function requests_of(engine_hidden, program, count, tokens)
    local requests = {}
    for i = 1, count do
        local ops = program(function(k) return vector(engine_hidden, 100 * i + k) end)
        requests[i] = { spec = i % 5 ~= 0 and steer.spec { [3] = ops } or nil, tokens = tokens + i % 3 }
    end
    return requests
end

local function check(dtype, hidden, program, with_residual)
    local engine = steer.engine { hidden = hidden, dtype = dtype, device = helper.device }
    local count = 40
    local tokens = math.ceil(BYTES / (hidden * ELEMENT[dtype]) / count)
    local requests = requests_of(hidden, program, count, tokens)
    local plan = engine:plan(requests)
    local rows = 0
    for _, request in ipairs(requests) do rows = rows + request.tokens end
    local before = steer.tensor.randn({ rows, hidden }, helper.on(dtype, { seed = 1 }))
    local residual = with_residual and steer.tensor.randn({ rows, hidden }, helper.on(dtype, { seed = 2 })) or nil
    local after = before:clone()
    plan:apply(3, after, residual and { residual = residual } or nil)
    local first = 1
    for i, request in ipairs(requests) do
        if i % 13 == 1 or not request.spec then
            local n = math.min(request.tokens, 7) -- the request's first rows, alone
            local alone = before:narrow(1, first, n):clone()
            local small = engine:plan { { spec = request.spec, tokens = n } }
            small:apply(3, alone, residual and { residual = residual:narrow(1, first, n) } or nil)
            local difference = (after:narrow(1, first, n) - alone):norm()
            assert.equal(0, difference, ("request %d of %s, hidden %d"):format(i, dtype, hidden))
            small:close()
        end
        first = first + request.tokens
    end
    plan:close()
    engine:close()
end

describe("a batch larger than the cache", function()
    for name, program in pairs(programs) do
        for _, dtype in ipairs { "f32", "f16", "bf16" } do
            it(("gives %s the bits of a request alone, %s"):format(name, dtype), function()
                for _, hidden in ipairs { 64, 200, 1536, 8192 } do check(dtype, hidden, program, false) end
                for _, hidden in ipairs { 1536, 4096 } do check(dtype, hidden, program, true) end
            end)
        end
    end
end)

-- Rows with sums and rows without take turns, so that a row's sums must not meet those of the row before last.
local alternating = { { "cap", "add" }, { "add, cap and ablate", "add" }, { "six projections, an add", "add", "cap" } }

local function check_alternating(dtype, hidden, names)
    local engine = steer.engine { hidden = hidden, dtype = dtype, device = helper.device }
    local specs, requests = {}, {}
    for i, name in ipairs(names) do
        specs[i] = steer.spec { [0] = programs[name](function(k) return vector(hidden, 10 * i + k) end) }
    end
    for i = 1, math.min(65536, math.ceil(BYTES / (hidden * ELEMENT[dtype]))) do
        requests[i] = { spec = specs[i % #specs + 1], tokens = 1 }
    end
    local mixed, loop = engine:plan(requests, { path = "mixed" }), engine:plan(requests, { path = "loop" })
    local one = steer.tensor.randn({ #requests, hidden }, helper.on(dtype, { seed = 1 }))
    local other = one:clone()
    mixed:apply(0, one)
    loop:apply(0, other)
    assert.equal(0, (one - other):norm(), ("%s, hidden %d: %s"):format(dtype, hidden, table.concat(names, ", ")))
    mixed:close()
    loop:close()
    engine:close()
end

describe("rows that each have another program than the row before", function()
    for _, dtype in ipairs { "f32", "f16", "bf16" } do
        it("have the bits of a launch for each, " .. dtype, function()
            for _, names in ipairs(alternating) do
                for _, hidden in ipairs { 1536, 8192 } do check_alternating(dtype, hidden, names) end
            end
        end)
    end
end)

describe("the widest rows", function()
    for _, dtype in ipairs { "f32", "bf16" } do
        it(("are steered with a residual as without, %s"):format(dtype), function()
            local hidden, rows = 32768, 5
            local engine = steer.engine { hidden = hidden, dtype = dtype, device = helper.device }
            local spec = steer.spec { [0] = programs["nine operations"](function(k) return vector(hidden, k) end) }
            local plan = engine:plan { { spec = spec, tokens = rows } }
            local sum = steer.tensor.randn({ rows, hidden }, helper.on(dtype, { seed = 3 }))
            local delta, residual = sum:clone(), sum:clone():fill_(0)
            plan:apply(0, delta, { residual = residual }) -- nothing beside the delta: the bits of the plain form
            plan:apply(0, sum)
            assert.equal(0, (delta - sum):norm())
            assert.is_true(sum:norm() > 0)
        end)
    end
end)

describe("the limits", function()
    it("hold 1,024 layers, each with a program of its own", function()
        local v, layers = steer.tensor.ones({ 4 }), {}
        for layer = 0, 1023 do layers[layer] = { steer.add(v, layer + 1) } end
        local spec = steer.spec(layers)
        assert.equal(1024, #spec:layers())
        local engine = steer.engine { hidden = 4, device = helper.device }
        local plan = engine:plan { { tokens = 1 }, { spec = spec, tokens = 2 } }
        assert.equal(1024, engine:stats().programs)
        local h = steer.tensor.zeros({ 3, 4 }, helper.on("f32"))
        for layer = 0, 1023 do plan:apply(layer, h) end
        assert.same({ 0, 1024 * 1025 / 2, 1024 * 1025 / 2 }, h:select(2, 4):totable())
    end)

    it("hold more than 2^31 elements of hidden states: the last rows get the bits that they get alone", function()
        local hidden, rows = 32768, 65536 + 5 -- 2^31 elements and some, 2^32 bytes and some, of bf16
        for _, info in ipairs(steer.devices()) do
            if info.id == steer.device(helper.device).id and info.total_bytes < 12 * 2 ^ 30 then
                return pending("needs 12 GiB of memory")
            end
        end
        local engine = steer.engine { hidden = hidden, dtype = "bf16", device = helper.device }
        local h = steer.tensor.empty({ rows, hidden }, helper.on("bf16")) -- of the CPU's only what is touched is real
        local residual = steer.tensor.empty({ rows, hidden }, helper.on("bf16"))
        local tail, added = h:narrow(1, rows - 2, 3), residual:narrow(1, rows - 2, 3)
        added:copy_(steer.tensor.randn({ 3, hidden }, helper.on("bf16", { seed = 6 })))
        for name, program in pairs(programs) do
            local spec = steer.spec { [0] = program(function(k) return vector(hidden, k) end) }
            local alone = engine:plan { { spec = spec, tokens = 2 } }
            for _, path in ipairs { "mixed", "loop" } do
                local plan = engine:plan({ { tokens = rows - 2 }, { spec = spec, tokens = 2 } }, { path = path })
                for _, r in ipairs { false, residual } do
                    local start = steer.tensor.randn({ 3, hidden }, helper.on("bf16", { seed = 5 }))
                    tail:copy_(start)
                    plan:apply(0, h, r and { residual = r } or nil)
                    alone:apply(0, start:narrow(1, 2, 2), r and { residual = added:narrow(1, 2, 2) } or nil)
                    assert(helper.bytes(start) == helper.bytes(tail), name .. ", path " .. path)
                end
                plan:close()
            end
        end
        h:close()
        residual:close()
    end)
end)
