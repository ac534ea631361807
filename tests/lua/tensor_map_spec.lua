-- devices: cpu cuda
-- Functions of each element, comparisons, clamp and where: NaN, infinities, shapes and what is refused. Their numbers
-- are in tensor_ops_spec.
local helper = require "helper"
local steer = require "steer"
local T = steer.tensor

local on = helper.on

local function from(values, dtype)
    return T.from(values, on(dtype or "f32"))
end

local inf, nan = 1 / 0, 0 / 0

-- Lists with NaN, which is not equal to itself.
local function same(want, got)
    assert.equal(#want, #got)
    for i, x in ipairs(want) do
        assert(x == got[i] or (x ~= x and got[i] ~= got[i]), ("element %d: %s, expected %s"):format(i, got[i], x))
    end
end

describe("functions of an element", function()
    it("have the values of IEEE where a number has none", function()
        local t = { 0, -1, inf, -inf, nan }
        local want = {
            exp = { 1, math.exp(-1), inf, 0, nan }, log = { -inf, nan, inf, nan, nan },
            sqrt = { 0, nan, inf, nan, nan }, abs = { 0, 1, inf, inf, nan },
            sigmoid = { 0.5, 1 / (1 + math.exp(1)), 1, 0, nan }, tanh = { 0, math.tanh(-1), 1, -1, nan },
            asin = { 0, -math.pi / 2, nan, nan, nan }, acos = { math.pi / 2, math.pi, nan, nan, nan },
        }
        for name, list in pairs(want) do
            for _, dtype in ipairs(helper.floats) do
                local x = from(t, dtype)
                local got = x[name](x):totable()
                for i, exact in ipairs(list) do
                    helper.near(got[i], exact, 2 * helper.unit(dtype) * math.abs(exact), name .. " of " .. t[i])
                end
            end
        end
    end)

    it("overflow to infinity and underflow to 0, rounded once", function()
        same({ inf, 0, inf }, from({ 100, -200, 88.8 }):exp():totable())
        same({ inf, helper.round("f16", math.exp(11)) }, from({ 12, 11 }, "f16"):exp():totable())
        same({ 1, 0 }, from({ 1000, -1000 }):sigmoid():totable())
    end)

    it("keep the dtype, take any layout, and abs takes integers", function()
        assert.equal("bf16", from({ 1 }, "bf16"):exp().dtype)
        assert.same({ 3, 2147483648 % 2 ^ 31 }, from({ -3, 0 }, "i32"):abs():totable())
        assert.same({ 2 ^ 53 }, from({ -2 ^ 53 }, "i64"):abs():totable())
        assert.same({ { 1, 3 }, { 2, 4 } }, from({ { -1, 2 }, { -3, 4 } }):transpose():abs():totable())
        helper.fails("dtype_mismatch", "tensor_exp: self: has dtype i32, expected f32, f16 or bf16", function()
            return from({ 1 }, "i32"):exp()
        end)
        helper.fails("dtype_mismatch", "self: i64, expected f32", function() return from({ 1 }, "i64") ^ 2 end)
        helper.fails("invalid_argument", "self: expected a tensor, got 3", T.zeros({ 1 }).sqrt, 3)
    end)
end)

describe("comparisons", function()
    it("with NaN are false, all but ne", function()
        for _, dtype in ipairs(helper.floats) do
            local x, y = from({ nan, 1, nan }, dtype), from({ 1, nan, nan }, dtype)
            for _, name in ipairs { "eq", "lt", "le", "gt", "ge" } do
                assert.same({ 0, 0, 0 }, x[name](x, y):totable())
                assert.same({ 0, 0, 0 }, y[name](y, nan):totable())
            end
            assert.same({ 1, 1, 1 }, x:ne(y):totable())
            assert.same({ 1, 0, 1 }, x:ne(x):totable())
        end
    end)

    it("give masks that can be counted, averaged and combined", function()
        local h = from { { -1, 2, 3 }, { 0, 0, 5 } }
        local positive, small = h:gt(0), h:lt(4)
        assert.same({ { 0, 1, 1 }, { 0, 0, 1 } }, positive:totable())
        assert.equal(3, positive:sum())
        assert.equal(0.5, positive:mean())
        assert.same({ { 0, 1, 1 }, { 0, 0, 0 } }, (positive * small):totable())
        assert.same({ { 1, 1, 1 }, { 1, 1, 1 } }, positive:maximum(small):totable())
        assert.same({ { 1, 0, 0 }, { 1, 1, 0 } }, positive:eq(0):totable())
        assert.same({ 1, 0 }, from({ 2 ^ 53, 2 ^ 53 - 1 }, "i64"):ge(2 ^ 53):totable())
    end)

    it("are methods, and Lua's operators say so", function()
        local h = from { 1, 2 }
        helper.fails("unsupported", "write h:gt(0) for a mask", function() return h > 0 end)
        helper.fails("unsupported", "write h:ge(0.5) for a mask", function() return h >= 0.5 end)
        helper.fails("unsupported", "write h:lt(3) for a mask", function() return h < 3 end)
        helper.fails("unsupported", "write h:gt(3) for a mask", function() return 3 < h end)
        helper.fails("unsupported", "write h:lt(x) for a mask", function() return h < h end)
        helper.fails("invalid_argument", "use t:clamp(0)", function() return h:relu() end)
        helper.fails("invalid_argument", "it is a method, as in t:exp(...)", function() return T.exp(h) end)
    end)

    it("refuse other devices and shapes, and fractions of integers", function()
        local h = from { 1, 2 }
        helper.fails("shape_mismatch", "other: shape [3] does not broadcast to [2]", h.eq, h, from { 1, 2, 3 })
        helper.fails("invalid_argument", "other: expected a tensor, got nothing", h.eq, h)
        helper.fails("dtype_mismatch", "other: 0.5 is not an integer, but the tensor is i32", function()
            return from({ 1 }, "i32"):gt(0.5)
        end)
    end)
end)

describe("clamp, minimum and maximum", function()
    it("keep NaN and take infinite bounds", function()
        for _, dtype in ipairs(helper.floats) do
            local x, y = from({ nan, 1, 2 }, dtype), from({ 0, nan, 1 }, dtype)
            same({ nan, nan, 1 }, x:minimum(y):totable())
            same({ nan, nan, 2 }, x:maximum(y):totable())
            same({ nan, 1, 1.5 }, x:clamp(0, 1.5):totable())
            same({ nan, 1, 2 }, x:clamp(-inf, inf):totable())
        end
    end)

    it("refuse no bound, bounds that exclude each other and misspelt ones", function()
        local h = from { 1 }
        helper.fails("invalid_argument", "min: expected a bound, or one for max", h.clamp, h)
        helper.fails("invalid_argument", "min: 2 is above max, 1", h.clamp, h, 2, 1)
        helper.fails("invalid_argument", 'did you mean "max"', h.clamp, h, { maz = 1 })
    end)
end)

describe("where", function()
    it("chooses bit for bit and broadcasts all three", function()
        local m = from({ 1, 0, 2 }, "u8")
        same({ nan, 5, -0 }, T.where(m, from { nan, 1, -0 }, 5):totable())
        assert.same({ { 1, 7, 1 }, { 2, 7, 2 } }, T.where(m, from { { 1 }, { 2 } }, 7):totable())
        assert.same({ { 9, 1, 9 }, { 9, 2, 9 } }, T.where(m, 9, from { { 1 }, { 2 } }):totable())
        assert.same({ { 0, 5, 0 }, { 0, 6, 0 } }, T.where(m:unsqueeze(1), from { 0 }, from { { 5 }, { 6 } }):totable())
        assert.same({ 1, 0, 1 }, T.where(m, 1, 0):totable())
        assert.equal("f32", T.where(m, 1, 0).dtype)
        assert.same({ 0, 3 }, T.where(T.zeros({ 0, 3 }, on "u8"), 1, from { 1, 2, 3 }):shape())
        local big = T.randn({ 300, 700 }, on("f16", { seed = 1 }))
        local turned = T.where(big:gt(0):transpose(), big:transpose(), 0)
        assert.equal(helper.bytes(big:clamp(0):transpose()), helper.bytes(turned))
    end)

    it("refuses masks that are none, and other shapes", function()
        local h, m = from { 1, 2 }, from({ 0, 1 }, "u8")
        helper.fails("dtype_mismatch", "mask: has dtype f32, expected u8, as comparisons give it", T.where, h, h, 0)
        helper.fails("invalid_argument", "mask: expected a tensor, got true", T.where, true, h, 0)
        helper.fails("shape_mismatch", "b: shape [3] does not broadcast to [2]", T.where, m, h, from { 1, 2, 3 })
        helper.fails("shape_mismatch", "mask: shape [2] does not broadcast to [3]", T.where, m, from { 1, 2, 3 }, 0)
        helper.fails("invalid_argument", "b: expected a tensor, got nothing", T.where, m, h)
        helper.fails("dtype_mismatch", "b: 0.5 is not an integer, but the tensor is i32", T.where, m, h:to "i32", 0.5)
    end)
end)
