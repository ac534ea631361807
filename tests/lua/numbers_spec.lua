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

-- A layer of `count` operations on vectors of their own, each of which takes half of an element away, and then `last`,
-- whose vector is all ones; what it makes of a row, in f64.
local function long_layer(n, count, size, last)
    local ops = {}
    for i = 1, count do ops[i] = steer.cap(unit(n, i + 1), { max = size / 2 }) end
    for _, op in ipairs(last.ops) do ops[#ops + 1] = op end
    return steer.spec { [0] = ops }, function(row)
        local x, sum = {}, 0
        for i = 1, n do x[i] = i > 1 and i <= count + 1 and math.min(row[i], size / 2) or row[i] end
        for i = 1, n do sum = sum + x[i] end
        local c = last.change(sum / math.sqrt(n))
        for i = 1, n do x[i] = x[i] + c / math.sqrt(n) end
        return x
    end
end

-- What the last operations do to the dot with ones / sqrt(n), which may be beyond f32, or a norm that they take away.
local function beyond(n, size)
    local function cap(options)
        local function change(s) return math.min(options.max, s) - s end
        return { ops = { steer.cap(ones(n), options) }, change = change }
    end
    local gate = { vector = ones(n), above = 0.5, cosine = true } -- stays closed
    local lost = { ops = { steer.ablate(ones(n)), steer.add(unit(n, 1), size / 4, { when = gate }) },
        change = function(s) return -s end }
    local added = { ops = { steer.add(ones(n), size / 64), steer.ablate(ones(n), 0.25) },
        change = function(s) return (s + size / 64 * math.sqrt(n)) / 4 - s end }
    return size > 1e30 and { cap { max = size }, added, lost, cap { max = size, min = -1 } } or { lost }
end

describe("a dot", function()
    local function numbers(h, n)
        local list = {}
        for i = 1, n do list[i] = h:get(1, i) end
        return list
    end

    it("may be beyond f32, in every batch with the same bits", function()
        local function check(dtype, n, size, count, last)
            local what = ("%s, hidden %d, size %g, %d before"):format(dtype, n, size, count)
            local spec, oracle = long_layer(n, count, size, last)
            local other = steer.spec { [0] = { steer.add(unit(n, 1), 1), steer.ablate(unit(n, 2)) } }
            local e = steer.engine { hidden = n, dtype = dtype, device = H.device }
            local function rows(of) return T.full({ of, n }, size, H.on(dtype)) end
            local alone = rows(1)
            local want = oracle(numbers(alone, n))
            e:plan({ { spec = spec, tokens = 1 } }):apply(0, alone)
            local got, error_of = H.bytes(alone), size * math.max(1e-5, 2 * H.unit(dtype))
            H.near_lists(numbers(alone, n), want, setmetatable({}, { __index = function() return error_of end }), what)
            local function same(plan, of, from, to, residual, note)
                local h = rows(of)
                plan:apply(0, h, residual and { residual = T.zeros({ of, n }, H.on(dtype)) } or nil)
                for row = from, to, math.max(1, to - from) do
                    assert(got == H.bytes(h:narrow(1, row, 1)), what .. ": row " .. row .. note)
                end
            end
            for _, path in ipairs { "mixed", "loop" } do
                same(e:plan({ { spec = spec, tokens = 1 } }, { path = path }), 1, 1, 1, false, " " .. path)
            end
            for _, residual in ipairs { false, true } do
                local note = residual and " with a residual" or ""
                for _, of in ipairs(thin and { count < 9 and 5 or 33 } or { 5, 40 }) do
                    same(e:plan { { spec = spec, tokens = of } }, of, 1, of, residual, " of a uniform batch" .. note)
                    local mixed = { { tokens = 1 }, { spec = other, tokens = 1 }, { spec = spec, tokens = of - 2 } }
                    same(e:plan(mixed), of, 3, of, residual, " of a mixed batch" .. note)
                end
            end
            -- The sum of both is steered, and what is added goes to the delta.
            local delta, residual = T.full({ 3, n }, size / 2, H.on(dtype)), T.full({ 3, n }, size / 2, H.on(dtype))
            e:plan({ { spec = spec, tokens = 3 } }):apply(0, delta, { residual = residual })
            for i = 1, n do
                H.near(delta:get(3, i) + residual:get(3, i), want[i], 2 * error_of, what .. ": with a residual")
            end
        end
        local counts = thin and { 0, 4, 9, 70 }
            or { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 20, 31, 40, 64, 70 }
        local turn = 0
        for _, dtype in ipairs(H.floats) do
            for _, count in ipairs(counts) do
                turn = turn + 1
                for _, n in ipairs(thin and { turn % 3 > 0 and 96 or 99 } or { 96, 99 }) do
                    local sizes = thin and { 3e38 } or { 3e37, 3e38 }
                    for _, size in ipairs(dtype == "f16" and { 1024 } or sizes) do
                        local kinds = beyond(n, size)
                        for i, last in ipairs(kinds) do
                            if not thin or i == turn % #kinds + 1 then check(dtype, n, size, count, last) end
                        end
                    end
                end
            end
        end
    end)

    it("leaves a row that is not finite to its fate", function()
        local n = 96
        for _, dtype in ipairs(H.floats) do
            for _, count in ipairs(thin and { 0, 3 } or { 0, 3, 20 }) do
                for _, x in ipairs { 1 / 0, 0 / 0 } do
                    local h = T.full({ 3, n }, 1, H.on(dtype))
                    h:select(1, 2):fill_(x)
                    local e = steer.engine { hidden = n, dtype = dtype, device = H.device }
                    local spec = long_layer(n, count, 2, { ops = { steer.ablate(ones(n)) } })
                    e:plan({ { spec = spec, tokens = 3 } }):apply(0, h)
                    assert(h:get(2, n) ~= h:get(2, n) or math.abs(h:get(2, n)) == 1 / 0)
                    for _, row in ipairs { 1, 3 } do H.near(h:get(row, n), 0, 0.01, "beside it") end
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
