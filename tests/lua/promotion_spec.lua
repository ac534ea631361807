-- devices: cpu cuda
-- Two dtypes meet in the one that holds both, as in PyTorch: every operation of two tensors, for all pairs of dtypes.
local helper = require "helper"
local steer = require "steer"
local T = steer.tensor

local on = helper.on

local DTYPES = { "u8", "i32", "i64", "f16", "bf16", "f32" }

-- What torch.promote_types says, a row for each dtype.
local PROMOTED = {
    u8 = { u8 = "u8", i32 = "i32", i64 = "i64", f16 = "f16", bf16 = "bf16", f32 = "f32" },
    i32 = { u8 = "i32", i32 = "i32", i64 = "i64", f16 = "f16", bf16 = "bf16", f32 = "f32" },
    i64 = { u8 = "i64", i32 = "i64", i64 = "i64", f16 = "f16", bf16 = "bf16", f32 = "f32" },
    f16 = { u8 = "f16", i32 = "f16", i64 = "f16", f16 = "f16", bf16 = "f32", f32 = "f32" },
    bf16 = { u8 = "bf16", i32 = "bf16", i64 = "bf16", f16 = "f32", bf16 = "bf16", f32 = "f32" },
    f32 = { u8 = "f32", i32 = "f32", i64 = "f32", f16 = "f32", bf16 = "f32", f32 = "f32" },
}

local function is_float(dtype) return helper.is_float[dtype] or false end

-- Of floats with digits that f16 and bf16 do not share, or integers.
local function first(dtype)
    local floats = { { 1.25 + 2 ^ -12, 2.5, 3 }, { 100.125, 5, 6.75 } }
    return T.from(is_float(dtype) and floats or { { 1, 2, 3 }, { 100, 5, 6 } }, on(dtype))
end
local function second(dtype)
    return T.from(is_float(dtype) and { 1.001, 3.0004, 7 } or { 1, 3, 7 }, on(dtype))
end

local function each_pair(f)
    for _, a in ipairs(DTYPES) do
        for _, b in ipairs(DTYPES) do f(a, b, PROMOTED[a][b]) end
    end
end

local OPERATIONS = {
    add = function(a, b) return a + b end, sub = function(a, b) return a - b end, mul = function(a, b) return a * b end,
    div = function(a, b) return a / b end, minimum = function(a, b) return a:minimum(b) end,
    maximum = function(a, b) return a:maximum(b) end, where = function(a, b) return T.where(a:gt(2), a, b) end,
    clamp = function(a, b) return a:clamp(b) end, cat = function(a, b) return T.cat { a, b:reshape(1, 3) } end,
    stack = function(a, b) return T.stack { a[1], b } end,
}

describe("two dtypes", function()
    for name, run in pairs(OPERATIONS) do
        it("meet in the one that holds both: " .. name, function()
            each_pair(function(a, b, meet)
                local got, want = run(first(a), second(b)), run(first(a):to(meet), second(b):to(meet))
                local dtype = name == "div" and not is_float(meet) and "f32"
                    or meet == "u8" and (name == "add" or name == "sub") and "i64" or meet
                assert.equal(dtype, got.dtype, a .. " and " .. b)
                assert.equal(helper.bytes(want), helper.bytes(got), a .. " and " .. b)
            end)
        end)
    end

    it("are compared in it", function()
        each_pair(function(a, b, meet)
            for _, name in ipairs { "eq", "ne", "lt", "le", "gt", "ge" } do
                local x, y = first(a), second(b)
                local got = x[name](x, y)
                assert.equal("u8", got.dtype)
                x, y = x:to(meet), y:to(meet)
                assert.same(x[name](x, y):totable(), got:totable())
            end
        end)
        assert.same({ 0, 1 }, T.from({ 1, 1.5 }, on "bf16"):gt(T.from({ 1.001, 1.001 }, on())):totable())
    end)

    it("of floats are multiplied as matrices in it", function()
        for _, a in ipairs(helper.floats) do
            for _, b in ipairs(helper.floats) do
                local x, y, meet = first(a), second(b), PROMOTED[a][b]
                assert.equal(meet, x:matmul(y).dtype)
                assert.equal(helper.bytes(x:to(meet):matmul(y:to(meet))), helper.bytes(x:matmul(y)))
                assert.equal(x[1]:to("f32"):dot(y:to("f32")), x[1]:dot(y))
            end
        end
    end)

    it("in place leave the first as it is, rounded once", function()
        each_pair(function(a, b, meet)
            local x, y = first(a), second(b)
            if is_float(b) and not is_float(a) then
                return helper.fails("dtype_mismatch", ("other: %s, which %s cannot hold"):format(b, a), x.add_, x, y)
            end
            local want = x:to(meet):clone():add_(y:to(meet)):to(a)
            assert.equal(x, x:add_(y))
            assert.equal(a, x.dtype)
            assert.equal(helper.bytes(want), helper.bytes(x))
        end)
    end)

    it("of masks are counts where they are added, and a mask where they are multiplied", function()
        local h = T.arange(300, on())
        local many = T.zeros({ 300 }, on "u8")
        for bound = 0, 299 do many = many + h:ge(bound) end
        assert.equal(300, many:get(300))
        assert.equal("i64", many.dtype)
        assert.same({ 255, 0 }, (1 - T.from({ -254, 1 }, on "i32")):totable())
        assert.same({ -1, 0 }, (0 - T.from({ 1, 0 }, on "u8")):totable())
        assert.same({ 300, 0 }, (T.from({ 1, 0 }, on "u8") * 300):totable())
        assert.same({ 0, 0, 5 }, (T.from({ -1, 3, 5 }, on()) * T.from({ 0, 0, 1 }, on "u8")):totable())
        assert.same({ 0.5, 1, 0.25 }, ((h:gt(298) + h:ge(299)):narrow(1, 298, 3) / 4 + T.from({ 0.5, 1, -0.25 }, on()))
            :totable())
        local both = h:gt(3) * h:lt(9)
        assert.equal("u8", both.dtype)
        assert.equal(5, h:where(both, 0):gt(0):sum())
    end)
end)
