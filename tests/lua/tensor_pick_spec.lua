-- devices: cpu cuda
-- Sorting, taking by index, cumulative sums, quantiles, variances, cosines and norms: NaN, sizes, views and what is
-- refused. Their numbers are in tensor_ops_spec.
local helper = require "helper"
local steer = require "steer"
local T = steer.tensor

local on, fails = helper.on, helper.fails
local inf, nan = 1 / 0, 0 / 0

local function from(values, dtype)
    return T.from(values, on(dtype or "f32"))
end

-- Lists with NaN, which is not equal to itself; zeros by their sign.
local function same(want, got)
    assert.equal(#want, #got)
    for i, x in ipairs(want) do
        local y = got[i]
        assert(x == y and 1 / x == 1 / y or (x ~= x and y ~= y), ("element %d: %s, expected %s"):format(i, y, x))
    end
end

describe("sort", function()
    it("puts NaN last, keeps equal elements in their order and every bit", function()
        for _, dtype in ipairs(helper.floats) do
            local t = from({ 2, nan, 0, -0, -inf, inf, nan, -3 }, dtype)
            local up, at = t:sort()
            same({ -inf, -3, 0, -0, 2, inf, nan, nan }, up:totable())
            assert.same({ 5, 8, 3, 4, 1, 6, 2, 7 }, at:totable())
            local down, from_at = t:sort(1, { descending = true })
            same({ nan, nan, inf, 2, 0, -0, -3, -inf }, down:totable())
            assert.same({ 2, 7, 6, 1, 3, 4, 8, 5 }, from_at:totable())
            assert.equal(dtype, up.dtype)
            assert.equal("i64", at.dtype)
        end
    end)

    it("of integers is exact at the ends of their range", function()
        local wide = { 2 ^ 53, -2 ^ 53, 0, 2 ^ 53 - 1, -1 }
        assert.same({ -2 ^ 53, -1, 0, 2 ^ 53 - 1, 2 ^ 53 }, from(wide, "i64"):sort():totable())
        local rows = from({ wide, { 5, 4, 3, 2, 1 } }, "i64"):sort(2)
        assert.same({ { -2 ^ 53, -1, 0, 2 ^ 53 - 1, 2 ^ 53 }, { 1, 2, 3, 4, 5 } }, rows:totable())
        assert.same({ -2 ^ 31, -1, 2 ^ 31 - 1 }, from({ -1, 2 ^ 31 - 1, -2 ^ 31 }, "i32"):sort():totable())
        assert.same({ 255, 128, 0 }, from({ 128, 0, 255 }, "u8"):sort(1, { descending = true }):totable())
    end)

    it("of many rows and of long ones agrees with the CPU", function()
        for _, shape in ipairs { { 700, 33 }, { 3, 70000 }, { 65, 9, 17 } } do
            for _, dtype in ipairs { "f32", "bf16" } do
                local t = T.randn(shape, on(dtype, { seed = 5 }))
                for d = 1, #shape do
                    local up, at = t:sort(d)
                    local host_up, host_at = t:to("cpu"):sort(d)
                    assert.equal(helper.bytes(host_up), helper.bytes(up))
                    assert.equal(helper.bytes(host_at), helper.bytes(at))
                    assert.equal(helper.bytes(up), helper.bytes(t:gather(d, at)))
                end
            end
        end
    end)

    it("takes empty tensors, and names a wrong dimension or option", function()
        local up, at = T.zeros({ 0, 3 }, on()):sort()
        assert.same({ { 0, 3 }, { 0, 3 } }, { up:shape(), at:shape() })
        assert.same({ 2, 0 }, (T.zeros({ 2, 0 }, on()):sort()):shape())
        fails("invalid_argument", "a scalar has no dimensions", up.sort, T.zeros({}, on()))
        fails("invalid_argument", 'did you mean "descending"', function() return up:sort(1, { descend = true }) end)
    end)
end)

describe("topk", function()
    it("gives the greatest or the least, and where they were", function()
        local t = from { { 3, 1, nan }, { 2, 7, 5 } }
        local best, at = t:topk(2)
        same({ nan, 3, 7, 5 }, helper.read(best))
        assert.same({ { 3, 1 }, { 2, 3 } }, at:totable())
        local least, low = t:topk(1, 1, { largest = false })
        same({ 2, 1, 5 }, helper.read(least))
        assert.same({ { 2, 1, 2 } }, low:totable())
        assert.same({ 2, 0 }, (t:topk(0)):shape())
        fails("invalid_argument", "k: 4 is out of range, expected 0 to 3", t.topk, t, 4)
        fails("invalid_argument", "k: expected an integer, got nothing", t.topk, t)
    end)
end)

describe("index_select and gather", function()
    local t = from { { 1, 2, 3 }, { 4, 5, 6 } }

    it("take indices from 1, of lists and of integer tensors, from any layout", function()
        assert.same({ { 4, 5, 6 }, { 1, 2, 3 }, { 4, 5, 6 } }, t:index_select(1, { 2, 1, 2 }):totable())
        assert.same({ { 3, 1 }, { 6, 4 } }, t:index_select(-1, from({ 3, 1 }, "i32")):totable())
        assert.same({ { 2, 5 }, { 1, 4 } }, t:transpose():index_select(1, from({ 2, 1 }, "i64")):totable())
        assert.same({ { 1, 5 } }, t:narrow(2, 1, 2):gather(1, { { 1, 2 } }):totable())
        assert.same({ { 3 }, { 4 } }, t:gather(2, { { 3 }, { 1 } }):totable())
        assert.same({ { 4, 2 } }, t:gather(1, from({ { 2, 9, 1 } }, "i64"):index_select(2, { 1, 3 })):totable())
        assert.same({ 0, 3 }, t:index_select(1, {}):shape())
        assert.same({ 30, 10 }, from({ 10, 20, 30 }, "u8"):index_select(1, { 3, 1 }):totable())
    end)

    it("refuse what lies outside on every device", function()
        fails("invalid_argument", "tensor_index_select: index: has 3, expected 1 to 2 for a dimension of size 2",
            t.index_select, t, 1, { 1, 3 })
        fails("invalid_argument", "index: has 0, expected 1 to 3", t.index_select, t, 2, { 0 })
        fails("invalid_argument", "tensor_gather: index: has -1, expected 1 to 3", t.gather, t, 2, { { -1 } })
        fails("invalid_argument", "src has no elements along dim", t.index_select, T.zeros({ 0, 2 }, on()), 1, { 1 })
    end)

    it("refuse other dtypes and shapes of indices, and say what to use", function()
        fails("dtype_mismatch", "index: has dtype f32, expected i64 or i32", t.index_select, t, 1,
            from { 1 })
        fails("dtype_mismatch", "index: has dtype u8, expected i64 or i32; where takes masks", t.gather, t, 1, t:gt(0))
        fails("shape_mismatch", "t:gather(dim, index)", t.index_select, t, 1, { { 1 } })
        fails("shape_mismatch", "t:index_select(dim, index)", t.gather, t, 1, { 1 })
        fails("shape_mismatch", "index: shape [3, 1] is larger than [2, 3] in dimension 1", t.gather, t, 2,
            { { 1 }, { 1 }, { 1 } })
        fails("invalid_argument", "index: expected a tensor, got 1", t.index_select, t, 1, 1)
        fails("invalid_argument", "dim: expected an integer, got nothing", t.index_select, t)
    end)
end)

describe("cumsum", function()
    it("accumulates beyond the dtype and rounds each sum once", function()
        local ones = T.ones({ 5000 }, on "bf16"):cumsum():totable()
        for _, i in ipairs { 1, 255, 257, 1025, 4097, 5000 } do assert.equal(helper.round("bf16", i), ones[i]) end
        local bytes = T.full({ 3000 }, 200, on "u8"):cumsum()
        assert.equal("i64", bytes.dtype)
        assert.equal(600000, bytes:get(3000))
        local down = T.ones({ 2100, 70 }, on "f32"):cumsum(1)
        assert.equal(2100, down:get(2100, 70))
        assert.same({ 0, 3 }, T.zeros({ 0, 3 }, on()):cumsum(1):shape())
    end)

    it("carries NaN and infinity on", function()
        same({ 1, inf, inf, nan, nan }, from({ 1, inf, 5, -inf, 1 }):cumsum():totable())
    end)
end)

describe("quantile", function()
    it("interpolates, of everything, along a dimension and for lists", function()
        local t = from { { 1, 2, 3, 4 }, { 8, 6, 7, 5 } }
        assert.equal(4.5, t:quantile(0.5))
        assert.same({ 1, 8 }, t:quantile { 0, 1 })
        assert.same({ 2.5, 6.5 }, t:quantile(0.5, 2):totable())
        assert.same({ { 1, 5 }, { 4, 8 } }, t:quantile({ 0, 1 }, 2):totable())
        assert.same({ { 1.75 }, { 5.75 } }, t:quantile(0.25, -1, { keepdim = true }):totable())
        assert.same({ 4, 4, 5, 4 }, t:to("i32"):quantile(0.5, 1, { dtype = "f16" }):to("i32"):totable())
        assert.equal("f32", t:to("u8"):quantile(0.5, 1).dtype)
        assert.equal("bf16", t:to("bf16"):quantile(0.5, 1).dtype)
        assert.equal(-inf, from({ -inf, 1 }):quantile(0))
    end)

    it("is NaN where there is one", function()
        local list = from({ { 1, nan, 2 }, { 1, 2, 3 } }):quantile(0, 2):totable()
        same({ nan, 1 }, list)
    end)

    it("refuses what is no share, and nothing", function()
        local t = from { 1 }
        fails("invalid_argument", "q: 95 is out of range, expected 0 to 1", t.quantile, t, 95)
        fails("invalid_argument", "q: nan is out of range", t.quantile, t, nan)
        fails("invalid_argument", "q: expected a number or a list of numbers, got nothing", t.quantile, t)
        fails("invalid_argument", "self: has no elements", t.quantile, T.zeros({ 3, 0 }, on()), 0.5, 2)
    end)
end)

describe("var and std", function()
    it("are of a sample, or with correction = 0 of a population", function()
        local t = from { { 1, 2, 3, 4 }, { 5, 5, 5, 5 } }
        assert.same({ 1.25, 0 }, t:var(2, { correction = 0 }):totable())
        helper.near(t:var(2):get(1), 5 / 3, 1e-6, "var")
        helper.near(t:std(2):get(1), math.sqrt(5 / 3), 1e-6, "std")
        helper.near(t:var(), 17.5 / 7, 1e-6, "var of everything")
        helper.near(t:std { correction = 0 }, math.sqrt(17.5 / 8), 1e-6, "std of everything")
        same({ nan, 0 }, { from({ 3 }):var(), from({ 3 }):var { correction = 0 } })
        same({ nan }, { from({ 1, nan }):var() })
    end)

    it("lose nothing to a large mean", function()
        local x = T.arange(4096, on("f32", { start = 2 ^ 23, step = 1 }))
        helper.near(x:var { correction = 0 }, (4096 ^ 2 - 1) / 12, 0.1, "var of 4096 neighbours at 2^23")
        local down = x:reshape(2048, 2):var(1, { correction = 0 })
        for i = 1, 2 do helper.near(down:get(i), (2048 ^ 2 - 1) / 3, 0.1, "var of every second one") end
    end)

    it("refuse no elements and other corrections", function()
        local t, none = from { 1, 2 }, T.zeros({ 0 }, on())
        fails("invalid_argument", "self: has no elements to take the variance of", none.var, none)
        fails("invalid_argument", "opts.correction: 2 is out of range, expected 0 to 1", t.std, t, { correction = 2 })
        fails("invalid_argument", 'did you mean "correction"', t.var, t, 1, { corection = 0 })
    end)
end)

describe("argmin", function()
    it("is the first of the least, or of NaN", function()
        local t = from { { 2, 1, 1 }, { 3, nan, nan } }
        assert.same({ 2, 2 }, t:argmin(2):totable())
        assert.equal(5, t:argmin())
    end)
end)

describe("cosine", function()
    it("takes rows and a vector, pairs of rows, and two vectors", function()
        local h, v = from { { 3, 4 }, { 0, 0 }, { -1, 0 } }, from { 1, 0 }
        local got = h:cosine(v):totable()
        helper.near(got[1], 0.6, 1e-6, "cosine")
        same({ 0, -1 }, { got[2], got[3] })
        assert.same({ 3 }, h:cosine(h):shape())
        assert.equal(1, v:cosine(v * 1e-18))
        helper.near(h[1]:to("bf16"):cosine(v), 0.6, 1e-6, "cosine of mixed dtypes")
        assert.is_true(h:cosine(from { nan, 0 }):get(1) ~= 0)
        assert.is_true(T.randn({ 500, 3 }, on("f32", { seed = 2 })):cosine(T.ones({ 3 }, on())):abs():max() <= 1)
    end)

    it("refuses vectors of other lengths and integers", function()
        local h = from { { 3, 4 } }
        fails("shape_mismatch", "other: shape [3] does not go with [1, 2], expected the same size along dimension 2",
            h.cosine, h, from { 1, 2, 3 })
        fails("shape_mismatch", "expected the same size along dimension 1", h.cosine, h, from { 1, 2 }, 1)
        fails("dtype_mismatch", "other: i32, expected f32, f16 or bf16", h.cosine, h, from({ 1, 2 }, "i32"))
    end)
end)

describe("norm", function()
    local t = from { { 3, -4 }, { 0, 12 } }

    it("is of everything, along a dimension, or with p first as in PyTorch", function()
        assert.equal(13, t:norm())
        assert.same({ 5, 12 }, t:norm(2):totable())
        assert.same({ 5, 12 }, t:norm(2, 2):totable())
        assert.same({ 7, 12 }, t:norm(1, 2):totable())
        assert.same({ 3, 12 }, t:norm(math.huge, 1):totable())
        assert.same({ { 7 }, { 12 } }, t:norm(1, -1, { keepdim = true }):totable())
        assert.same({ 19, 12, 13 }, { t:norm { p = 1 }, t:norm { p = math.huge }, t:norm { p = 2 } })
        assert.same({ 3, 16 }, t:norm({ p = 1, dim = 1 }):totable())
        assert.equal("bf16", t:to("bf16"):norm({ dim = 2, dtype = "bf16" }).dtype)
        assert.equal("f32", t:to("f16"):norm(1, 2).dtype)
        assert.equal(7, t:to("i32")[1]:norm { p = 1 })
        assert.equal(5, t[1]:norm(-1):item())
    end)

    it("refuses a number alone that reads as p", function()
        local v = t[1]
        fails("invalid_argument", "dim: 1 alone is a dimension; write t:norm() for the Euclidean norm of everything, "
            .. "t:norm{p = 1} for another", v.norm, v, 1)
        fails("invalid_argument", "dim: 2 alone is a dimension", v.norm, v, 2)
        fails("invalid_argument", "dim: math.huge alone is a dimension", t.norm, t, math.huge)
        fails("invalid_argument", "p: expected 1, 2 or math.huge, got 3", t.norm, t, 3, 1)
        fails("invalid_argument", 'did you mean "keepdim"', t.norm, t, { keepdims = true })
    end)
end)
