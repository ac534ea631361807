-- Numbers at the ends of f32, and what a projecting operation leaves of a row when it takes almost all of it away.
-- devices: cpu cuda
local H = require "helper"
local steer = require "steer"
local T = steer.tensor

local thin = H.rounds(10) < 10 -- emulated kernels are slow
local function ones(n) return T.ones({ n }, { device = "cpu" }) end
local function unit(n, at) -- e_at
    local v = T.zeros({ n }, { device = "cpu" })
    v:set(at, 1)
    return v
end

-- One row of n elements `fill`, the first one `first`.
local function row_of(n, fill, first, dtype)
    local h = T.full({ 1, n }, fill, H.on(dtype))
    h:set(1, 1, first)
    return h
end

-- The operations of `layer` alone, and behind others on vectors of their own that never act: other kernels serve them.
local function each_length(n, layer, check)
    for _, more in ipairs(thin and { 0, 20 } or { 0, 3, 20, 70 }) do
        local ops = {}
        for i = 1, math.min(more, n - 2) do
            ops[i] = steer.add(unit(n, i + 2), 1, { when = { vector = unit(n, i + 2), above = 3e38 } })
        end
        for _, op in ipairs(layer) do ops[#ops + 1] = op end
        check(steer.spec { [0] = ops }, more)
    end
end

-- Whether the last operation, which marks element 2, acted on a row: on every path, in a residual and beside others.
local function fires(n, dtype, layer, fill, first, mark)
    local e = steer.engine { hidden = n, dtype = dtype, device = H.device }
    local seen
    local function note(h, row, what)
        local acted = math.abs(h:get(row, 2)) > mark / 2
        if seen == nil then seen = acted end
        assert(seen == acted, ("%s, hidden %d: %s says otherwise"):format(dtype, n, what))
    end
    each_length(n, layer, function(spec, more)
        for _, path in ipairs { "auto", "mixed", "loop" } do
            local h = row_of(n, fill, first, dtype)
            e:plan({ { spec = spec, tokens = 1 } }, { path = path }):apply(0, h)
            note(h, 1, path .. " behind " .. more)
        end
        local five = T.full({ 5, n }, fill, H.on(dtype))
        five:select(2, 1):fill_(first)
        e:plan({ { tokens = 2 }, { spec = spec, tokens = 3 } }):apply(0, five)
        for row = 3, 5 do note(five, row, "a row of several") end
        local delta, residual = T.zeros({ 1, n }, H.on(dtype)), row_of(n, fill, first, dtype)
        e:plan { { spec = spec, tokens = 1 } }:apply(0, delta, { residual = residual })
        note(delta, 1, "a residual")
    end)
    return seen
end

-- e1 - 1/n, to which ones are orthogonal.
local function across(n)
    local g = T.full({ n }, -1 / n, { device = "cpu" })
    g:set(1, 1 - 1 / n)
    return g
end

describe("a cosine gate", function()
    it("sees what an ablation left of a row, however little it is", function()
        for _, n in ipairs(thin and { 8, 512 } or { 8, 512, 2560 }) do
            local function after(rest, gate)
                local mark = steer.add(unit(n, 2), 100, { when = gate })
                return fires(n, "f32", { steer.ablate(ones(n)), mark }, 1, 1 + rest, 100)
            end
            for _, rest in ipairs(thin and { 1e-3, 1e-6 } or { 0.5, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6 }) do
                assert.is_true(after(rest, { vector = across(n), above = 0.5, cosine = true }), "rest " .. rest)
                assert.is_false(after(rest, { vector = across(n), below = 0.5, cosine = true }), "rest " .. rest)
                assert.is_false(after(rest, { vector = ones(n), above = 0.5, cosine = true }), "rest " .. rest)
            end
            -- Nothing is left: the cosine of a zero row is 0.
            for _, g in ipairs { ones(n), across(n) } do
                assert.is_false(after(0, { vector = g, above = 0.1, cosine = true }))
                assert.is_false(after(0, { vector = g, below = -0.1, cosine = true }))
            end
        end
    end)

    it("does so for rows of 16 bits, after several operations and a cap", function()
        for _, dtype in ipairs { "f16", "bf16" } do
            local n, rest = 512, dtype == "f16" and 2 ^ -10 or 2 ^ -7
            local g = across(n)
            local gate = { vector = g, above = 0.5, cosine = true }
            local function check(...)
                local layer = { ... }
                layer[#layer + 1] = steer.add(unit(n, 2), 100, { when = gate })
                assert.is_true(fires(n, dtype, layer, 1, 1 + rest, 100))
            end
            check(steer.ablate(ones(n)))
            check(steer.cap(ones(n), { min = 0, max = 0 }))
            check(steer.add(ones(n), 300), steer.ablate(ones(n)))
            check(steer.ablate(ones(n), 0.03), steer.ablate(ones(n), 0.03), steer.ablate(ones(n)))
        end
    end)

    it("sees rows of any size", function()
        for _, dtype in ipairs { "f32", "bf16" } do
            for _, size in ipairs(thin and { 1e-25, 1e25 } or { 1e-37, 1e-25, 1e-19, 1, 1e19, 1e25, 1e37 }) do
                local n = 64
                local function on(fill, first, gate)
                    local mark = steer.add(unit(n, 2), 10 * size, { when = gate })
                    return fires(n, dtype, { mark }, fill, first, 10 * size)
                end
                assert.is_true(on(size, size, { vector = ones(n), above = 0.9, cosine = true }), tostring(size))
                assert.is_true(on(-size, -size, { vector = ones(n), below = -0.9, cosine = true }), tostring(size))
                assert.is_false(on(size, -size, { vector = across(n), above = 0.5, cosine = true }), tostring(size))
            end
        end
    end)

    it("sees a row of zeros and leaves one that is not finite to its fate", function()
        local n = 64
        for _, x in ipairs { 0, 1 / 0, 0 / 0 } do
            local gate = { vector = ones(n), above = 0.5, cosine = true }
            local spec = steer.spec { [0] = { steer.add(unit(n, 2), 5, { when = gate }) } }
            local h = T.full({ 2, n }, x, H.on("f32"))
            steer.engine { hidden = n, device = H.device }:plan { { spec = spec, tokens = 2 } }:apply(0, h)
            local got = h:get(1, 2)
            assert(got == x or (x ~= x and got ~= got))
        end
    end)
end)

describe("a dot", function()
    it("may be beyond f32", function()
        if H.device ~= "cpu" then return end -- kernels do not hold such rows
        local n = 64
        for _, dtype in ipairs { "f32", "bf16" } do
            for _, size in ipairs { 1e25, 3e37, 3e38 } do
                for _, layer in ipairs {
                    { steer.cap(ones(n), { max = size }) }, { steer.cap(ones(n), { max = size, min = -1 }) },
                    { steer.add(unit(n, 1), 1), steer.cap(ones(n), { max = size }) },
                    { steer.ablate(ones(n), size / (math.sqrt(n) * T.full({ 1 }, size, H.on(dtype)):item())) },
                } do
                    local h, residual = T.full({ 3, n }, size, H.on(dtype)), T.full({ 3, n }, size / 2, H.on(dtype))
                    local e = steer.engine { hidden = n, dtype = dtype, device = H.device }
                    local plan = e:plan { { spec = steer.spec { [0] = layer }, tokens = 3 } }
                    plan:apply(0, h)
                    local delta = residual:clone()
                    plan:apply(0, delta, { residual = residual })
                    for _, x in ipairs { h, delta + residual } do
                        for _, at in ipairs { 1, 2, n } do
                            H.near(x:get(3, at), size / math.sqrt(n), size * 0.01, "size " .. size)
                        end
                    end
                end
            end
        end
    end)
end)

describe("a bound", function()
    it("is a number of f32 or refused", function()
        local v = { 1, 2 }
        for _, x in ipairs { 1e39, -1e39, 3.5e38 } do
            H.fails("invalid_argument", "cap: max: ", steer.cap, v, { max = x })
            H.fails("invalid_argument", "cap: min: ", steer.cap, v, { min = x })
            H.fails("invalid_argument", "cap: max: ", steer.cap, v, { min = -1e38, max = x })
            H.fails("invalid_argument", "scale: ", steer.add, v, x)
            H.fails("invalid_argument", "when.above", steer.add, v, 1, { when = { vector = v, above = x } })
        end
        assert.is_truthy(steer.cap(v, { min = -3.4e38, max = 3.4e38 }))
        H.fails("invalid_argument", "add: scale: 3e+38 times the vector", steer.add, v, 3e38)
        H.fails("invalid_argument", "cap: vector: its magnitude", steer.cap, { 3e38, 1 },
            { max = 1, normalize = false })
        H.fails("invalid_argument", "add: when.vector: its magnitude", steer.add, v, 1,
            { when = { vector = { 3e38, 0 }, above = 0 } })
        assert.is_truthy(steer.add(v, 3.4e38, { when = { vector = v, below = -3.4e38 } }))
    end)
end)

describe("a residual", function()
    it("that shares part of its memory with hidden is refused", function()
        local n, rows = 6, 4
        local e = steer.engine { hidden = n, device = H.device }
        local plan = e:plan { { spec = steer.spec { [0] = { steer.ablate(ones(n)) } }, tokens = rows } }
        local all = T.rand({ 3 * rows, 2 * n }, H.on("f32", { seed = 1 }))
        local function matrix(row, column) return all:narrow(1, row + 1, rows):narrow(2, column + 1, n) end
        for _, at in ipairs { { 0, 1 }, { 0, n - 1 }, { 1, 0 }, { rows - 1, 3 }, { 1, 5 } } do
            for _, pair in ipairs { { { 0, 0 }, at }, { at, { 0, 0 } } } do
                local h, r = matrix(pair[1][1], pair[1][2]), matrix(pair[2][1], pair[2][2])
                H.fails("invalid_argument", "residual: shares memory", plan.apply, plan, 0, h, { residual = r })
            end
        end
        plan:apply(0, matrix(0, 0), { residual = matrix(0, n) }) -- side by side in the same rows
        plan:apply(0, matrix(0, n), { residual = matrix(1, 0) })
        plan:apply(0, matrix(0, 0), { residual = matrix(rows, 0) })
        plan:apply(0, matrix(0, 0), { residual = matrix(0, 0) }) -- the same memory: both are it
        -- Rows of different strides.
        local dense = all:reshape(3 * rows * 2 * n):narrow(1, 2, rows * n):reshape(rows, n)
        H.fails("invalid_argument", "residual: shares", plan.apply, plan, 0, matrix(0, 0), { residual = dense })
        H.fails("invalid_argument", "residual: shares", plan.apply, plan, 0, dense, { residual = matrix(1, n) })
        plan:apply(0, dense, { residual = matrix(2, 1) })
    end)
end)
