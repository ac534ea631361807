-- devices: cpu cuda
-- Tensors: making, properties, views, elements, copies, printing and foreign memory.
local ffi = require "ffi"
local helper = require "helper"
local steer = require "steer"
local T = steer.tensor

local on = helper.on

local function from(values, dtype)
    return T.from(values, on(dtype or "f32"))
end

describe("making tensors", function()
    it("fills them", function()
        assert.same({ { 0, 0, 0 }, { 0, 0, 0 } }, T.zeros({ 2, 3 }, on()):totable())
        assert.same({ 1, 1 }, T.ones({ 2 }, on("bf16")):totable())
        assert.same({ { 7 } }, T.full({ 1, 1 }, 7, on("u8")):totable())
        assert.same({ 0, 1, 2, 3 }, T.arange(4, on("i64")):totable())
        assert.same({ 5, 4.5, 4 }, T.arange(3, on("f32", { start = 5, step = -0.5 })):totable())
        assert.same({ 2, 2 }, T.empty(2, on()):fill_(2):totable())
    end)

    it("has f32 and the default device unless told", function()
        local t = T.zeros({ 1 })
        assert.equal("f32", t.dtype)
        assert.equal(steer.device().id, t.device)
    end)

    it("takes nested tables, numbers and every dtype", function()
        for _, dtype in ipairs(helper.dtypes) do
            local t = from({ { 1, 2, 3 }, { 4, 5, 6 } }, dtype)
            assert.equal(dtype, t.dtype)
            assert.equal(helper.device, t.device)
            assert.same({ 2, 3 }, t:shape())
            assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, t:totable())
        end
        assert.equal(2.5, from(2.5):item())
        assert.same({}, from(2.5):shape())
        assert.same({ 0 }, from({}):shape())
        assert.same({ 2, 0 }, from({ {}, {} }):shape())
        assert.same({ -2 ^ 53, 2 ^ 53 }, from({ -2 ^ 53, 2 ^ 53 }, "i64"):totable())
        assert.same({ -2 ^ 31, 2 ^ 31 - 1 }, from({ -2 ^ 31, 2 ^ 31 - 1 }, "i32"):totable())
    end)

    it("keeps infinities and NaN", function()
        for _, dtype in ipairs(helper.floats) do
            local list = from({ 1 / 0, -1 / 0, 0 / 0 }, dtype):totable()
            assert.equal(1 / 0, list[1])
            assert.equal(-1 / 0, list[2])
            assert.is_true(list[3] ~= list[3])
        end
    end)

    it("rounds to nearest even", function()
        assert.same({ 1, 1.0078125 * 2 - 1, 2 ^ -14 }, from({ 1 + 2 ^ -8, 1 + 3 * 2 ^ -8, 2 ^ -14 }, "bf16"):totable())
        assert.same({ 2048, 2052, 2 ^ -24, 0, 1 / 0 }, from({ 2049, 2051, 2 ^ -24, 2 ^ -25, 65520 }, "f16"):totable())
    end)

    it("refuses ragged tables and what is not a number", function()
        helper.fails("shape_mismatch", "values[2]: expected 2 elements as in the first row, got 1", T.from,
            { { 1, 2 }, { 3 } })
        helper.fails("shape_mismatch", "values[2]: expected 2 elements", T.from, { { 1, 2 }, 3 })
        helper.fails("shape_mismatch", "values[2]: expected a number, got a table", T.from, { 1, { 2 } })
        helper.fails("invalid_argument", 'values[1][2]: expected a number, got "x"', T.from, { { 1, "x" } })
        helper.fails("invalid_argument", "values: expected a number, got nothing", T.from, nil)
        helper.fails("invalid_argument", "values[2]: 1.5 does not fit i32", T.from, { 1, 1.5 }, { dtype = "i32" })
        helper.fails("invalid_argument", "values[1]: 256 does not fit u8", T.from, { 256 }, { dtype = "u8" })
        helper.fails("invalid_argument", "values[1]: nan does not fit i64", T.from, { 0 / 0 }, { dtype = "i64" })
        helper.fails("invalid_argument", "values: nested deeper than 8", T.from, { { { { { { { { { 1 } } } } } } } } })
    end)

    it("takes a field of results that are tables", function()
        local scores = { { { p = 0.5, text = "a" }, { p = 0.25 } }, { { p = 1 }, { p = 0 } } }
        assert.same({ { 0.5, 0.25 }, { 1, 0 } }, T.from(scores, on("f32", { field = "p" })):totable())
        assert.same({ 1, 0 }, T.from(scores[2], on("u8", { field = "p" })):totable())
        helper.fails("invalid_argument", 'the first element has no "q"', T.from, scores, { field = "q" })
        helper.fails("invalid_argument", "values[2]: expected a number, got nothing", T.from, { { p = 1 }, {} },
            { field = "p" })
        helper.fails("invalid_argument", "values[1]: 0.5 does not fit i32", T.from, scores[1],
            { field = "p", dtype = "i32" })
    end)

    it("makes others like one", function()
        local t = from({ { 1, 2 } }, "f16")
        assert.same({ { 0, 0 } }, T.zeros_like(t):totable())
        assert.equal("f16", T.ones_like(t).dtype)
        assert.equal("i32", T.empty_like(t, { dtype = "i32" }).dtype)
        assert.equal(helper.device, T.zeros_like(t).device)
    end)

    it("joins and stacks", function()
        local a, b = from({ { 1, 2 }, { 3, 4 } }), from({ { 5, 6 } })
        assert.same({ { 1, 2 }, { 3, 4 }, { 5, 6 } }, T.cat({ a, b }):totable())
        assert.same({ { 1, 2, 1 }, { 3, 4, 3 } }, T.cat({ a, a:narrow(2, 1, 1) }, 2):totable())
        assert.same({ { 1, 2 }, { 5, 6 } }, T.stack({ a[1], b[1] }):totable())
        assert.same({ { 1, 5 }, { 2, 6 } }, T.stack({ a[1], b[1] }, -1):totable())
        helper.fails("shape_mismatch", "list[2]: shape [1, 2] does not join [2, 2] along dimension 2", T.cat,
            { a, b }, 2)
        helper.fails("invalid_argument", "list[1]: expected a tensor, got nothing", T.cat, {})
        helper.fails("invalid_argument", "list[2]: expected a tensor, got 3", T.stack, { a, 3 })
    end)
end)

describe("random numbers", function()
    it("are the same for the same seed, on every device and in every shape", function()
        local a = T.randn({ 1000 }, on("f32", { seed = 7 }))
        local b = T.randn({ 10, 100 }, { device = "cpu", seed = 7 })
        assert.equal(helper.bytes(a), helper.bytes(b))
        assert.are_not.equal(helper.bytes(a), helper.bytes(T.randn({ 1000 }, on("f32", { seed = 8 }))))
    end)

    it("have the right moments", function()
        local u, n = T.rand({ 100000 }, on("f32", { seed = 1 })), T.randn({ 100000 }, on("f32", { seed = 1 }))
        assert.is_true(math.abs(u:mean() - 0.5) < 0.005)
        assert.is_true(u:min() >= 0 and u:max() < 1)
        assert.is_true(math.abs(n:mean()) < 0.015)
        assert.is_true(math.abs((n * n):mean() - 1) < 0.02)
    end)

    it("continue without a seed and repeat after T.seed", function()
        T.seed(3)
        local a, b = T.rand({ 64 }, on()), T.rand({ 64 }, on())
        assert.are_not.equal(helper.bytes(a), helper.bytes(b))
        T.seed(3)
        assert.equal(helper.bytes(a), helper.bytes(T.rand({ 64 }, on())))
        helper.fails("invalid_argument", "opts.seed", T.rand, { 2 }, on("f32", { seed = -1 }))
        helper.fails("invalid_argument", "opts.seed", T.rand, { 2 }, on("f32", { seed = 1.5 }))
        helper.fails("dtype_mismatch", "opts.dtype: has dtype i32, expected f32, f16 or bf16", T.rand, { 2 }, on("i32"))
    end)
end)

describe("properties", function()
    local t = from({ { 1, 2, 3 }, { 4, 5, 6 } })

    it("describe the tensor", function()
        assert.same({ 2, 3 }, t:shape())
        assert.same({ 2, 3 }, t:size())
        assert.equal(3, t:size(2))
        assert.equal(2, t:size(-2))
        assert.equal(6, t:numel())
        assert.equal(2, t.ndim)
        assert.equal(2, #t)
        assert.same({ 3, 1 }, t:stride())
        assert.equal(1, t:stride(-1))
        assert.is_true(t:is_contiguous())
        assert.is_false(t:transpose(1, 2):is_contiguous())
        assert.is_true(T.is(t))
        assert.is_false(T.is({}))
        assert.equal(0, from(1).ndim)
        assert.equal(1, from(1):numel())
    end)

    it("are numbers, never cdata", function()
        for _, value in ipairs({ t:size(1), t:numel(), t.ndim, #t, t:stride(1), t:get(1, 1), t:sum(), t:argmax() }) do
            assert.equal("number", type(value))
        end
        assert.equal("number", type(from({ 5 }, "i64"):totable()[1]))
        assert.equal("number", type(from({ 5 }, "i64"):item()))
    end)

    it("name the nearest when misspelt", function()
        helper.fails("invalid_argument", 'a tensor has no "dtyp"; did you mean "dtype"?', function() return t.dtyp end)
        helper.fails("invalid_argument", 'did you mean "totable"?', function() return t:toTable() end)
        helper.fails("invalid_argument", "expected a row from 1", function() return t[{}] end)
        helper.fails("invalid_argument", "expected a row from 1", function() t.dtype = "f16" end)
    end)
end)

describe("views", function()
    it("share elements", function()
        local t = from({ { 1, 2, 3 }, { 4, 5, 6 } })
        t[1]:fill_(0)
        t:select(2, 3):fill_(9)
        t:narrow(2, 1, 1):add_(1)
        t:transpose(1, 2)[2]:mul_(2)
        t:reshape(6):narrow(1, 6, 1):fill_(-1)
        t:reshape({ 3, -1 })[3][1] = 8
        assert.same({ { 1, 0, 9 }, { 5, 8, -1 } }, t:totable())
        t[2] = from({ 3, 2, 1 })
        t[1] = 4
        assert.same({ { 4, 4, 4 }, { 3, 2, 1 } }, t:totable())
    end)

    it("keep the values they show", function()
        local t = T.arange(24, on("i32")):reshape(2, 3, 4)
        assert.same({ { 4, 5, 6, 7 }, { 16, 17, 18, 19 } }, t:select(2, 2):totable())
        assert.same({ { { 5, 6 } }, { { 17, 18 } } }, t:narrow(2, 2, 1):narrow(-1, 2, 2):totable())
        assert.same({ { { 0, 12 }, { 4, 16 }, { 8, 20 } } }, t:transpose(1, 3):narrow(1, 1, 1):totable())
        assert.equal(23, t[2][3][4]:item())
        assert.same({ 0 }, t[1][1]:narrow(1, 5, 0):shape())
        assert.same({ 3, 2, 4 }, t:transpose():shape())
    end)

    it("squeeze and unsqueeze", function()
        local t = T.arange(6, on("f32")):reshape(1, 6, 1)
        assert.same({ 6 }, t:squeeze():shape())
        assert.same({ 6, 1 }, t:squeeze(1):shape())
        assert.same({ 1, 6 }, t:squeeze(-1):shape())
        assert.same({ 1, 6, 1, 1 }, t:unsqueeze(-1):shape())
        assert.same({ 1, 1, 6, 1 }, t:unsqueeze(1):shape())
        helper.fails("shape_mismatch", "dimension 2 has size 6, expected 1", t.squeeze, t, 2)
    end)

    it("become contiguous on request", function()
        local t = from({ { 1, 2 }, { 3, 4 } }):transpose(1, 2)
        local err = helper.fails("unsupported",
            "shape: the tensor's strides allow no such view, expected a contiguous tensor", t.reshape, t, 4)
        assert.equal("tensor_reshape", err.op)
        assert.same({ 1, 3, 2, 4 }, t:contiguous():reshape(4):totable())
        local c = t:contiguous()
        c:contiguous():fill_(0)
        assert.same({ { 0, 0 }, { 0, 0 } }, c:totable())
        assert.same({ { 1, 3 }, { 2, 4 } }, t:totable())
    end)

    it("refuse what lies outside", function()
        local t = T.zeros({ 2, 3 }, on())
        helper.fails("invalid_argument", "index: 3 is out of range, expected 1 to 2", function() return t[3] end)
        helper.fails("invalid_argument", "index: 0 is out of range", function() return t[0] end)
        helper.fails("invalid_argument", "index: -1 is out of range", function() return t[-1] end)
        helper.fails("invalid_argument", "index: expected an integer, got 1.5", function() return t[1.5] end)
        helper.fails("invalid_argument", "index: expected an integer, got nan", function() return t[0 / 0] end)
        helper.fails("invalid_argument", "dim: 3 is out of range for a tensor of 2 dimensions, expected 1 to 2",
            t.size, t, 3)
        helper.fails("invalid_argument", "dim: 0 is out of range", t.select, t, 0, 1)
        helper.fails("invalid_argument", "dim: -3 is out of range", t.narrow, t, -3, 1, 1)
        helper.fails("invalid_argument", "start: 0 is out of range, expected 1 to 4", t.narrow, t, 2, 0, 1)
        helper.fails("invalid_argument", "length: 3 from 2 on, expected 0 to 2", t.narrow, t, 2, 2, 3)
        helper.fails("invalid_argument", "length: -1 from 2 on, expected 0 to 2", t.narrow, t, 2, 2, -1)
        helper.fails("invalid_argument", "dim1: 4 is out of range", t.transpose, t, 1, 4)
        helper.fails("invalid_argument", "dim: expected an integer, got nothing", t.narrow, t)
        helper.fails("shape_mismatch", "", t.reshape, t, 4, 2)
        helper.fails("shape_mismatch", "", t.reshape, t, -1, 4)
        helper.fails("invalid_argument", "", t.reshape, t, -1, -1)
        helper.fails("invalid_argument", "shape: dimension 1 is -2, expected 0 or more", t.reshape, t, -2, 3)
        helper.fails("invalid_argument", "a scalar has no dimensions", function() return #T.zeros({}, on()) end)
        helper.fails("invalid_argument", "index: 1 is out of range, dimension 1 has no elements", function()
            return T.zeros({ 0 }, on())[1]
        end)
    end)
end)

describe("elements", function()
    it("are read and set", function()
        local t = T.zeros({ 2, 3 }, on("bf16"))
        assert.equal(t, t:set(2, 3, 1.5))
        assert.equal(1.5, t:get(2, 3))
        assert.equal(0, t:get(1, 3))
        local s = from(4)
        assert.equal(4, s:get())
        assert.equal(5, s:set(5):item())
        assert.equal(7, from({ { 7 } }, "u8"):item())
    end)

    it("refuse a wrong index or value", function()
        local t = T.zeros({ 2, 3 }, on())
        helper.fails("invalid_argument", "index: 1 given, expected 2", t.get, t, 1)
        helper.fails("invalid_argument", "index: more than 2", t.get, t, 1, 1, 1)
        helper.fails("invalid_argument", "index: 4 is out of range, expected 1 to 3", t.get, t, 1, 4)
        helper.fails("invalid_argument", "value: expected a number, got nothing", t.set, t, 1, 1)
        helper.fails("invalid_argument", "index: more than 2", t.set, t, 1, 1, 1, 1)
        helper.fails("invalid_argument", 'index: expected an integer, got "1"', t.get, t, "1", 1)
        helper.fails("shape_mismatch", "expected one element", t.item, t)
        helper.fails("invalid_argument", "self: expected a tensor, got 3", t.get, 3, 1)
    end)
end)

describe("copies", function()
    it("convert between all dtypes", function()
        local list = { 0, 1, 2, 100 }
        for _, source in ipairs(helper.dtypes) do
            for _, target in ipairs(helper.dtypes) do
                local t = from(list, source):to(target)
                assert.equal(target, t.dtype)
                assert.same(list, t:totable())
            end
        end
    end)

    it("truncate and saturate floats into integers", function()
        local t = from({ 1.9, -1.9, 1e30, -1e30, 0 / 0, 300 })
        assert.same({ 1, -1, 2 ^ 31 - 1, -2 ^ 31, 0, 300 }, t:to("i32"):totable())
        assert.same({ 1, 0, 255, 0, 0, 255 }, t:to("u8"):totable())
    end)

    it("broadcast", function()
        local t = T.zeros({ 2, 3 }, on()):copy_(from({ 1, 2, 3 }))
        assert.same({ { 1, 2, 3 }, { 1, 2, 3 } }, t:totable())
        helper.fails("shape_mismatch", "", t.copy_, t, from({ 1, 2 }))
        helper.fails("invalid_argument", "src: expected a tensor, got a table", t.copy_, t, { 1 })
    end)

    it("are independent, and sharing is not", function()
        local t = from({ 1, 2 })
        local clone, same = t:clone(), t:to("f32")
        t:fill_(0)
        assert.same({ 1, 2 }, clone:totable())
        assert.same({ 0, 0 }, same:totable())
        t:close()
        assert.same({ 0, 0 }, same:totable())
    end)

    it("go between devices", function()
        local t = from({ { 1, 2 }, { 3, 4 } }, "bf16")
        local back = t:transpose(1, 2):to("cpu"):to(helper.device):to("cpu", "f32")
        assert.same({ { 1, 3 }, { 2, 4 } }, back:totable())
        assert.equal("cpu", back.device)
        assert.equal("f16", t:to(steer.device(helper.device), "f16").dtype)
    end)

    it("refuse unknown targets", function()
        local t = from({ 1 })
        helper.fails("invalid_argument", 'target: expected a dtype (bf16, f16, f32, i32, i64 or u8) or a device such '
            .. 'as "cuda:0", got "f64"', t.to, t, "f64")
        helper.fails("invalid_argument", "target: expected a dtype or a device", t.to, t)
        helper.fails("invalid_argument", "device: expected an id", t.to, t, 3)
        helper.fails("not_found", "cuda:977", t.to, t, "cuda:977")
    end)
end)

describe("tostring", function()
    local function check(expected, t)
        local footer = expected:gsub("DEVICE", helper.device)
        assert.equal(footer, tostring(t))
    end

    it("aligns columns and ends with shape, dtype and device", function()
        check("  1   2\n  3  40\n[tensor 2x2 f32 DEVICE]", from({ { 1, 2 }, { 3, 40 } }))
        check("   0.5000    2.2500\n  -3.0000  100.0000\n[tensor 2x2 f16 DEVICE]",
            from({ { 0.5, 2.25 }, { -3, 100 } }, "f16"))
        check("    nan     inf    -inf  1.5000\n[tensor 4 f32 DEVICE]", from({ 0 / 0, 1 / 0, -1 / 0, 1.5 }))
        check(" 1.2500e+08  1.0000e-03\n[tensor 2 f32 DEVICE]", from({ 1.25e8, 1e-3 }))
        check(" 1  2  3\n[tensor 3 i64 DEVICE]", from({ 1, 2, 3 }, "i64"))
    end)

    it("shows scalars and empty tensors", function()
        check(" 1.5000\n[tensor scalar bf16 DEVICE]", from(1.5, "bf16"))
        check("[tensor 0x3 f32 DEVICE]", T.zeros({ 0, 3 }, on()))
    end)

    it("shows slices of more dimensions", function()
        check("(1, :, :)\n 0  1\n 2  3\n(2, :, :)\n 4  5\n 6  7\n[tensor 2x2x2 u8 DEVICE]",
            T.arange(8, on("u8")):reshape(2, 2, 2))
    end)

    it("elides what is long and copies only what it shows", function()
        local t = T.zeros({ 4096, 2048 }, on("bf16"))
        t:set(4096, 2048, 7)
        local device = steer.device("cpu")
        local before = device:memory()
        local text = tostring(t)
        local lines = {}
        for l in text:gmatch("[^\n]+") do lines[#lines + 1] = l end
        assert.equal(12, #lines)
        assert.equal("[tensor 4096x2048 bf16 " .. helper.device .. "]", lines[1]) -- of a long text it comes first
        assert.equal(" 0  0  0  0  0  ...  0  0  0  0  0", lines[2])
        assert.equal(" ...", lines[7])
        assert.equal(" 0  0  0  0  0  ...  0  0  0  0  7", lines[12])
        assert.is_true(device:memory().peak_bytes <= math.max(before.peak_bytes, before.live_bytes + 65536))
        assert.truthy(tostring(T.arange(101, on("i32"))):find("4  ...   96", 1, true))
        assert.truthy(tostring(T.zeros({ 9, 2, 2 }, on())):find("...\n(7, :, :)", 1, true))
    end)

    it("fits on a terminal of 80 columns", function()
        check(" 1.5000  1.5000  1.5000  1.5000  ...  1.5000  1.5000  1.5000  2.5000\n[tensor 1x12 f32 DEVICE]",
            T.full({ 1, 12 }, 1.5, on()):add_(T.from({ { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 } }, on())))
        for _, shape in ipairs { { 12 }, { 99 }, { 101 }, { 3, 9 }, { 3, 12 }, { 3, 13 }, { 2, 3, 40 } } do
            for _, scale in ipairs { 1, 1e9, 2 ^ -20 } do
                local text = tostring(T.randn(shape, { device = helper.device, seed = 1 }) * scale)
                for l in text:gmatch("[^\n]+") do assert(#l <= 80, l) end
            end
        end
    end)
end)

describe("foreign memory", function()
    it("is shared, with strides, and kept alive", function()
        local array = ffi.new("float[6]", 1, 2, 3, 4, 5, 6)
        local t = T.wrap(array, { 2, 3 })
        assert.equal("cpu", t.device)
        assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, t:totable())
        assert.same({ { 1, 4 }, { 2, 5 }, { 3, 6 } }, T.wrap(array, { 3, 2 }, { strides = { 1, 3 } }):totable())
        t:mul_(2)
        assert.equal(12, array[5])
        array = nil -- luacheck: ignore 311
        local row = t[2]
        t = nil -- luacheck: ignore 311
        collectgarbage()
        collectgarbage()
        assert.same({ 8, 10, 12 }, row:totable())
    end)

    it("is taken by pointer, number and 64-bit address, on every device", function()
        local owner = from({ 1, 2, 3 }, "f16")
        local opts = on("f16", { keep = owner })
        local address = ffi.cast("uintptr_t", owner:data())
        assert.same({ 1, 2, 3 }, T.wrap(owner:data(), { 3 }, opts):totable())
        assert.same({ 1, 2 }, T.wrap(address, { 2 }, opts):totable())
        assert.same({ 1, 2, 3 }, T.wrap(tonumber(address), { 3 }, opts):totable())
    end)

    it("lets go of what it kept", function()
        for _, close in ipairs({ true, false }) do
            local gone = false
            local keep = newproxy(true)
            getmetatable(keep).__gc = function() gone = true end
            local t = T.wrap(ffi.new("float[1]"), { 1 }, { keep = keep })
            keep = nil -- luacheck: ignore 311
            collectgarbage()
            assert.is_false(gone)
            if close then t:close() end
            t = nil -- luacheck: ignore 311
            collectgarbage()
            collectgarbage()
            assert.is_true(gone)
        end
    end)

    it("is checked as far as can be", function()
        local array = ffi.new("float[6]")
        helper.fails("shape_mismatch", "shape: needs 28 bytes, the array has 24", T.wrap, array, { 7 })
        helper.fails("shape_mismatch", "shape: needs 32 bytes", T.wrap, array, { 2, 3 }, { strides = { 5, 1 } })
        helper.fails("shape_mismatch", "opts.strides: 1 given, expected 2", T.wrap, array, { 2, 3 },
            { strides = { 1 } })
        helper.fails("invalid_argument", "pointer: is NULL", T.wrap,
            ffi.cast("void *", nil), { 1 }, { device = "cpu" })
        helper.fails("invalid_argument", "pointer: expected a pointer", T.wrap, "abc", { 1 })
        helper.fails("invalid_argument", "pointer: expected a pointer", T.wrap, nil, { 1 })
        assert.same({ 0 }, T.wrap(ffi.cast("void *", nil), { 0 }, { device = "cpu" }):shape())
    end)
end)

describe("compiled loops", function()
    it("have no part of the library that cannot be compiled", function()
        local script = [[
            local T = require("steer").tensor
            local opts = { device = "]] .. helper.device .. [[" }
            local a, b = T.zeros({ 64 }, opts), T.ones({ 64 }, opts)
            for _ = 1, 2000 do a:add_(b) a:mul_(0.5) a:sub_(b, 0.25) end
            for i = 1, 2000 do a:set(1 + i % 64, a:get(1 + i % 64) + #a + a:numel()) end
            for _ = 1, 2000 do local c = a + b; local d = c:narrow(1, 2, 5):sum(); c:close() b:fill_(d) end
        ]]
        local path = os.tmpname()
        local file = assert(io.open(path, "w"))
        file:write(script)
        file:close()
        local run = ("LUA_PATH='%s' luajit -jv=%s.trace %s 2>&1"):format(package.path, path, path)
        local printed = io.popen(run):read("*a")
        local trace = assert(io.open(path .. ".trace")):read("*a")
        os.remove(path)
        os.remove(path .. ".trace")
        assert.equal("", printed)
        assert.truthy(trace:find("loop", 1, true), trace)
        for l in trace:gmatch("[^\n]+") do
            -- A side trace may not start where it would leave its function: that says nothing about the code.
            if not l:find("return to lower frame", 1, true) then assert.is_nil(l:match("NYI"), l) end
        end
    end)
end)
