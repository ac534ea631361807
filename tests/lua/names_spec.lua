-- What people write who come from elsewhere, or by mistake: errors that help.
-- devices: cpu
local H = require "helper"
local steer = require "steer"
local T = steer.tensor
local fails = H.fails

local function t() return T.ones({ 2, 3 }, { device = "cpu" }) end

describe("a method without its object", function()
    it("says that a colon is missing", function()
        local e = steer.engine { hidden = 2, device = "cpu" }
        local plan = e:plan { { tokens = 1 } }
        local spec, op = steer.spec {}, steer.add { 1, 2 }
        local h = T.zeros({ 1, 2 }, { device = "cpu" })
        local graph = plan:graph({ 0 }, h)
        for name, fn in pairs {
            apply = function() plan.apply(0, h) end, applied = function() plan.apply(h) end,
            update = function() plan.update {} end,
            other = function() plan.apply(e, 0, h) end, explain = function() plan.explain(0) end,
            plan_graph = function() plan.graph({ 0 }, h) end, plan_close = function() plan.close() end,
            close = function() e.close() end, close_other = function() e.close(plan) end,
            stats = function() e.stats() end,
            plan = function() e.plan { { tokens = 1 } } end, spec = function() spec.layers() end,
            spec_close = function() spec.close() end, op_close = function() op.close() end,
            sum = function() h.sum() end,
            tensor_close = function() h.close() end, launch = function() graph.launch() end,
            graph_stats = function() graph.stats(plan) end, graph_close = function() graph.close(3) end,
        } do
            local err = fails("invalid_argument", "self: expected", fn)
            assert(err.message:find("with a colon", 1, true), name)
        end
        plan:apply(0, h) -- all is as it was
        e:close()
        e:close()
        fails("closed", "engine: it is closed", e.stats, e)
    end)
end)

describe("an operator that tensors do not have", function()
    it("says what to write", function()
        local h = t()
        for fragment, fn in pairs {
            ["h:gt(0)"] = function() return h > 0 end, ["h:le(0)"] = function() return 0 >= h end,
            ["remainder"] = function() return h % 2 end,
            ["tostring(t)"] = function() return h .. "x" end,
        } do
            fails("unsupported", fragment, fn)
        end
        fails("unsupported", "tostring(t)", function() return "x" .. h end)
    end)
end)

describe("a name from elsewhere", function()
    it("is answered with ours", function()
        local h = t()
        local NAMES = {
            view = "reshape", mm = "matmul", tolist = "totable", half = 't:to("f16")', dim = "t.ndim",
            relu = "t:clamp(0)", median = "t:quantile(0.5)", argsort = "local _, indices = t:sort()",
            any = "mask:max()", isnan = "t:ne(t)", masked_fill = "steer.tensor.where(mask, x, t)",
            take_along_dim = "gather", flatten = "t:reshape(-1)",
        }
        for name, ours in pairs(NAMES) do
            fails("invalid_argument", 'a tensor has no "' .. name .. '": use ' .. ours, function() return h[name] end)
        end
        fails("invalid_argument", 'got "float32", which is "f32" here', T.zeros, { 2 }, { dtype = "float32" })
        fails("invalid_argument", 'got "torch.bfloat16", which is "bf16"', T.zeros, { 2 }, { dtype = "torch.bfloat16" })
        fails("invalid_argument", "use steer.extract.mean_difference", function() return steer.extract.mean_diff end)
        fails("invalid_argument", "did you mean steer.extract.probe?", function() return steer.extract.prob end)
        fails("invalid_argument", "use steer.tensor.from", function() return T.as_tensor end)
        fails("invalid_argument", "sizes stand in a list, as in {4, 8}", T.randn, 4, 8)
        fails("invalid_argument", "sizes stand in a list, as in {4, 8}", T.zeros, 4, 8)
        assert.same({ 1, 2 }, T { 1, 2 }:totable())
        assert.equal("i32", T({ 1, 2 }, { dtype = "i32" }).dtype)
    end)

    it("gets a suggestion only where something is near", function()
        local function message(fn, ...)
            return fails("invalid_argument", "", fn, ...).message
        end
        for _, text in ipairs {
            message(function() return steer.qwertyuiop end), message(function() return t().xyzzy end),
            message(T.zeros, { 2 }, { zzzzzz = 1 }), message(function() return T.qqqq end),
        } do
            assert.falsy(text:find "did you mean", text)
        end
        assert.truthy(message(T.zeros, { 2 }, { dtyp = 1 }):find 'did you mean "dtype"')
        assert.truthy(message(function() return t().reshap end):find 'did you mean "reshape"')
    end)
end)

describe("a failure", function()
    it("names the call that was made, not one that it made itself", function()
        local ffi = require "ffi"
        local c = require "steer.core.c"
        local out, desc = ffi.new("steer_op *[1]"), c.descriptor("steer_op_desc")
        local bad = T.from({ 1, 0 / 0 }, { device = "cpu" })
        desc.kind, desc.scale, desc.vector = c.C.STEER_OP_ADD, 1, bad.handle
        assert.not_equal(0, c.C.steer_op_create(out, desc))
        assert.equal("op_create", ffi.string(c.C.steer_error_op()))
    end)

    it("of tokens that no plan can hold says how many one can", function()
        local e = steer.engine { hidden = 2, device = "cpu" }
        for _, tokens in ipairs { 2 ^ 32, 2 ^ 53 } do
            fails("invalid_argument", "requests[1]: tokens", e.plan, e, { { tokens = tokens } })
            fails("invalid_argument", "tokens", e.plan, e, { { tokens = 1 }, { tokens = tokens } }, { rows = 4 })
        end
        local plan = e:plan { { tokens = 1 } }
        fails("shape_mismatch", "requests[1]: tokens", plan.update, plan, { { tokens = 2 ^ 53 } })
    end)
end)

describe("a tensor of no rows", function()
    it("is applied whatever its strides are", function()
        local ffi = require "ffi"
        local plan = steer.engine { hidden = 4, device = "cpu" }:plan {}
        local cell = ffi.new("float[4]")
        for _, strides in ipairs { { 0, 0 }, { 4, 1 }, { 1, 7 } } do
            plan:apply(0, T.wrap(cell, { 0, 4 }, { strides = strides }))
        end
    end)
end)
