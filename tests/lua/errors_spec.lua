-- devices: cpu cuda
-- Errors: what they look like, and bad input of every kind.
local ffi = require "ffi"
local helper = require "helper"
local steer = require "steer"
local options = require "steer.core.options"
local T = steer.tensor

local on = helper.on

describe("an error", function()
    it("is a table that reads well", function()
        local err = helper.fails("invalid_argument", "", T.zeros, { -1 })
        assert.equal("tensor_zeros", err.op)
        assert.equal("shape: dimension 1 is -1, expected 0 or more", err.message)
        assert.equal("invalid_argument: tensor_zeros: shape: dimension 1 is -1, expected 0 or more", tostring(err))
        assert.equal("got invalid_argument", ("got " .. err):sub(1, 20))
    end)

    it("of the library says where it arose", function()
        local err = helper.fails("out_of_memory", "", T.empty, { 2 ^ 46 }, on())
        assert.truthy(err.where:match("^src/.*%.c:%d+$"), err.where)
    end)

    it("comes from a pending interrupt, once", function()
        local C = require("steer.core.c").C
        local t = T.zeros({ 4 }, on())
        C.steer_interrupt_raise()
        helper.fails("interrupted", "", t.fill_, t, 1)
        assert.same({ 1, 1, 1, 1 }, t:fill_(1):totable())
    end)
end)

describe("a spec", function()
    it("says which of its conditions asks for what nobody notes", function()
        local v = T.ones({ 2 }, on())
        local known = steer.note("x", { when = { vector = v, above = 0 } })
        local function spec(noted, of, ...)
            local when = { all = { { vector = v, above = 0 }, { none = { { noted = noted, of = of } } } } }
            return steer.spec { [0] = { steer.add(v, 1, { when = when }), ... }, [3] = { known } }
        end
        local place = "layer 0: operation 1 (add): when.all[2].none[1]"
        helper.fails("invalid_argument", place .. '.noted: no operation notes "y"', spec, "y")
        helper.fails("invalid_argument", place .. '.noted: no operation before it notes "x"', spec, "x")
        helper.fails("invalid_argument", place .. '.of: "x" is noted of each token', spec, "x", "prompt", known)
    end)
end)

describe("option tables", function()
    it("name the nearest known key", function()
        helper.fails("invalid_argument", 'opts: unknown option "dtyp", did you mean "dtype"? The options are device '
            .. 'and dtype', T.zeros, { 1 }, { dtyp = "f32" })
        helper.fails("invalid_argument", 'did you mean "seed"? The options are device, dtype and seed', T.randn, { 1 },
            { sed = 1 })
        helper.fails("invalid_argument", 'did you mean "keepdim"', T.zeros({ 2 }, on()).sum, T.zeros({ 2 }, on()), 1,
            { keep_dim = true })
        helper.fails("invalid_argument", "opts: unknown option 1", T.zeros, { 1 }, { "f32" })
        helper.fails("invalid_argument", "opts: expected a table of options, got \"f32\"", T.zeros, { 1 }, "f32")
    end)

    it("are no objects of the package", function()
        local v = T.ones({ 2 }, on())
        local op = steer.add(v, 1, { where = { prompt = "all" } })
        local spec = steer.spec { [0] = { op } }
        helper.fails("invalid_argument", "add: opts: expected a table of options, got an operation", steer.add, v, 3,
            op)
        helper.fails("invalid_argument", "add: opts: expected a table of options, got a spec", steer.add, v, 3, spec)
        helper.fails("invalid_argument", "add: scale: expected a number, got a spec", steer.add, v, spec)
        helper.fails("invalid_argument", "shape: expected a list of integers, got a spec", T.zeros, spec)
        helper.fails("invalid_argument", "layers: expected { [layer] = { operation, ... } }, got an engine", steer.spec,
            steer.engine { hidden = 2, device = "cpu" })
    end)

    it("check the type of a value", function()
        helper.fails("invalid_argument", "opts.dtype: expected a string, got 3", T.zeros, { 1 }, { dtype = 3 })
        helper.fails("invalid_argument", 'dtype: expected bf16, f16, f32, i32, i64 or u8, got "float"', T.zeros,
            { 1 }, { dtype = "float" })
        helper.fails("invalid_argument", "device: expected an id", T.zeros, { 1 }, { device = 0 })
        helper.fails("invalid_argument", "", T.zeros, { 1 }, { device = "gpu" })
        helper.fails("not_found", "cuda:977", T.zeros, { 1 }, { device = "cuda:977" })
    end)

    it("find the nearest word", function()
        local known = { prompt = true, generation = true, token_ids = true }
        assert.equal("prompt", options.nearest("promt", known))
        assert.equal("token_ids", options.nearest("tokens", known))
        assert.equal("generation", options.nearest("Generation", known))
        assert.equal("norm", options.nearest("nrom", { norm = true, ndim = true, nor = true })) -- two letters swapped
        assert.is_nil(options.nearest("x", {}))
        helper.fails("invalid_argument", "there are none here", options.check, "op", { a = 1 }, {})
        assert.same({}, options.check("op", nil, known))
    end)
end)

describe("unknown names", function()
    it("of the package name the nearest", function()
        helper.fails("invalid_argument", "there is no steer.tensors, did you mean steer.tensor?", function()
            return steer.tensors
        end)
    end)

    it("set no global", function()
        local before = {}
        for name in pairs(_G) do before[name] = true end
        local _ = T.rand({ 2 }, on()) + 1
        for name in pairs(_G) do assert.is_true(before[name], name) end
    end)
end)

describe("shapes", function()
    it("are lists of integers from 0", function()
        helper.fails("invalid_argument", "shape: expected a list of integers, got nothing", T.zeros)
        helper.fails("invalid_argument", 'shape: expected an integer, got "3"', T.zeros, { "3" })
        helper.fails("invalid_argument", "shape: expected an integer, got 1.5", T.zeros, { 1.5 })
        helper.fails("invalid_argument", "shape: expected an integer, got nan", T.zeros, { 0 / 0 })
        helper.fails("invalid_argument", "shape: expected an integer, got inf", T.zeros, { 1 / 0 })
        helper.fails("invalid_argument", "shape: dimension 2 is -3, expected 0 or more", T.zeros, { 2, -3 })
        helper.fails("invalid_argument", "shape: 9 dimensions, expected at most 8", T.zeros,
            { 1, 1, 1, 1, 1, 1, 1, 1, 1 })
        helper.fails("invalid_argument", "shape: expected a list", T.zeros, { rows = 2 })
        helper.fails("invalid_argument", "n: -1 is out of range", T.arange, -1)
        helper.fails("invalid_argument", "value: expected a number, got nothing", T.full, { 1 })
    end)

    it("must go together", function()
        local a, b = T.zeros({ 2, 3 }, on()), T.zeros({ 2 }, on())
        helper.fails("shape_mismatch", "other: shape [2] does not broadcast to [2, 3]", function() return a + b end)
        helper.fails("shape_mismatch", "", a.add_, a, b)
        helper.fails("shape_mismatch", "", a.narrow(a, 2, 1, 1).add_, a:narrow(2, 1, 1), a) -- would have to grow
        helper.fails("shape_mismatch", "other: shape [2, 3] does not multiply with [2, 3]", a.matmul, a, a)
        helper.fails("shape_mismatch", "other: shape [] does not multiply with [2, 3]", a.matmul, a, T.zeros({}, on()))
        helper.fails("shape_mismatch", "expected two one-dimensional tensors of one length, got [2, 3] and [2]", a.dot,
            a, b)
        helper.fails("shape_mismatch", "got [2] and [3]", b.dot, b, T.zeros({ 3 }, on()))
    end)
end)

describe("dtypes", function()
    it("of integers take no floats in place", function()
        local t = T.ones({ 2 }, on("i32"))
        local err = helper.fails("dtype_mismatch", "other: f32, which i32 cannot hold; not in place it makes a tensor "
            .. "of f32", t.mul_, t, T.ones({ 2 }, on("f32")))
        assert.equal("tensor_mul", err.op)
        helper.fails("dtype_mismatch", "other: i32, expected f32, f16 or bf16", T.ones({ 1, 2 }, on()).matmul,
            T.ones({ 1, 2 }, on()), t)
    end)

    it("of integers take no fractions", function()
        local t = T.ones({ 2 }, on("i32"))
        helper.fails("dtype_mismatch", "other: 0.5 is not an integer, but the tensor is i32", function()
            return t * 0.5
        end)
        helper.fails("dtype_mismatch", "value: 1.5 is not an integer", t.fill_, t, 1.5)
        helper.fails("dtype_mismatch", "alpha: 0.5 is not an integer", t.add_, t, t, 0.5)
        for _, op in ipairs({ "softmax", "normalize" }) do
            helper.fails("dtype_mismatch", "self: has dtype i32, expected f32, f16 or bf16", t[op], t, 1)
        end
        helper.fails("dtype_mismatch", "self: i32", t.matmul, t, t)
    end)
end)

describe("devices", function()
    it("must go together", function()
        if helper.device == "cpu" then return end
        local a, b = T.zeros({ 2 }, on()), T.zeros({ 2 }, { device = "cpu" })
        helper.fails("device_mismatch", "other: is on cpu, expected " .. helper.device, function()
            return a + b
        end)
        helper.fails("device_mismatch", "", a.add_, a, b)
        helper.fails("device_mismatch", "", a.dot, a, b)
        helper.fails("device_mismatch", "list[2]: on cpu", T.cat, { a, b })
    end)
end)

describe("operands", function()
    it("are tensors or numbers", function()
        local t = T.zeros({ 2 }, on())
        helper.fails("invalid_argument", 'other: expected a tensor, got "x"', function() return t + "x" end)
        helper.fails("invalid_argument", "other: expected a tensor, got nothing", t.add_, t)
        helper.fails("invalid_argument", "self: expected a tensor, got a table", function() return {} + t end)
        helper.fails("invalid_argument", "self: expected a tensor, got a cdata", function()
            return ffi.new("struct { int x; }") - t
        end)
        helper.fails("invalid_argument", "alpha: expected a number", t.add_, t, t, "2")
        helper.fails("invalid_argument", "other: expected a tensor, got 2", t.matmul, t, 2)
        helper.fails("invalid_argument", "value: expected a number, got nothing", t.fill_, t)
        helper.fails("invalid_argument", "self: expected a tensor, got 5", t.close, 5)
    end)
end)

describe("reductions", function()
    it("refuse what has no answer", function()
        local empty, t = T.zeros({ 0, 3 }, on()), T.zeros({ 2, 3 }, on())
        for _, op in ipairs({ "max", "min", "argmax", "mean" }) do
            helper.fails("invalid_argument", "", empty[op], empty)
            helper.fails("invalid_argument", "", empty[op], empty, 1)
        end
        assert.equal(0, empty:sum())
        assert.same({ 0, 0, 0 }, empty:sum(1):totable())
        helper.fails("invalid_argument", "dim: 3 is out of range", t.sum, t, 3)
        helper.fails("invalid_argument", 'dim: expected an integer, got "rows"', t.max, t, "rows")
        helper.fails("invalid_argument", "opts: without a dim", t.sum, t, nil, { keepdim = true })
    end)

    it("refuse to normalize zero on the CPU and say NaN elsewhere", function()
        local t = T.zeros({ 3 }, on())
        if helper.device == "cpu" then
            helper.fails("invalid_argument", "self: the norm is zero, expected a direction", t.normalize, t)
            local rows = T.ones({ 3, 4 }, on())
            rows[2] = 0
            helper.fails("invalid_argument", "self: the norm of row 2 of 3 is zero", rows.normalize, rows, 2)
            local columns = rows:transpose(1, 2)
            helper.fails("invalid_argument", "self: the norm of column 2 of 3 is zero", columns.normalize, columns, 1)
        else
            local x = t:normalize():get(1)
            assert.is_true(x ~= x)
        end
    end)
end)
