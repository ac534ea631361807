-- devices: cpu cuda
-- Device memory: the collector's soft limit, out of memory, and closing in any order.
local helper = require "helper"
local steer = require "steer"
local T = steer.tensor

local device = steer.device(helper.device)
local MIB = 2 ^ 20

local function settled()
    collectgarbage()
    collectgarbage()
    return device:memory()
end

describe("device memory", function()
    it("stays under 2 GiB while a loop makes and drops 10,000 tensors of 64 MiB", function()
        local before, highest = settled(), 0
        for i = 1, 10000 do
            local t = T.empty({ 16 * MIB }, helper.on("f32"))
            if i % 16 == 0 then highest = math.max(highest, device:memory().live_bytes) end
            if i % 1000 == 0 then t:set(1, i) end
        end
        local after = device:memory()
        assert.equal(before.total_allocations + 10000, after.total_allocations)
        assert.is_true(highest < 2 ^ 31 and after.live_bytes < 2 ^ 31)
        assert.is_true(after.peak_bytes < 2 ^ 31, "peak " .. after.peak_bytes)
        assert.equal(before.live_bytes, settled().live_bytes)
    end)

    it("is collected when results of arithmetic are dropped", function()
        local a = T.zeros({ MIB }, helper.on("f32"))
        for _ = 1, 300 do
            local _ = a + 1
        end
        assert.is_true(device:memory().live_bytes <= 2 ^ 30)
        a:close()
    end)

    it("raises the soft limit above what is alive and lowers it again", function()
        local kept = {} -- luacheck: ignore 241
        for i = 1, 20 do kept[i] = T.empty({ 16 * MIB }, helper.on("f32")) end
        assert.is_true(device.soft_limit > 20 * 64 * MIB)
        kept = nil -- luacheck: ignore 311
        for _ = 1, 100 do T.empty({ 16 * MIB }, helper.on("f32")) end
        assert.is_true(device.soft_limit < 1.5 * 2 ^ 30)
    end)

    it("collects and tries once more when there is none", function()
        local before = settled().total_allocations
        device:fail_allocation(1)
        local t = T.zeros({ 4 }, helper.on("f32"))
        assert.same({ 0, 0, 0, 0 }, t:totable())
        device:fail_allocation(0)
        assert.is_true(device:memory().total_allocations > before)
    end)

    it("says how much was asked and is free when it is used up", function()
        local bytes = 2 ^ 46
        local err = helper.fails("out_of_memory", ("%.0f"):format(bytes), T.empty, { bytes / 4 }, helper.on("f32"))
        assert.equal("tensor_empty", err.op)
        assert.truthy(err.message:find("free", 1, true))
        assert.truthy(err.message:find(helper.device, 1, true))
    end)

    it("refuses sizes that overflow", function()
        helper.fails("invalid_argument", "shape", T.empty, { 2 ^ 40, 2 ^ 40 }, helper.on("f32"))
        helper.fails("invalid_argument", "shape", T.empty, { 2 ^ 52, 2 ^ 10, 2 ^ 3 }, helper.on("u8"))
        helper.fails("invalid_argument", "shape", T.empty, { 2 ^ 60 }, helper.on("u8"))
    end)
end)

describe("closing", function()
    it("frees at once", function()
        local before = settled().live_bytes
        local t = T.empty({ MIB }, helper.on("f32"))
        assert.is_true(device:memory().live_bytes > before)
        t:close()
        assert.equal(before, device:memory().live_bytes)
    end)

    it("twice does nothing more", function()
        local t = T.empty({ 4 }, helper.on("f32"))
        t:close()
        t:close()
        assert.equal("[closed tensor]", tostring(t))
    end)

    it("parents before children, in every order", function()
        local before = settled().live_bytes
        for order = 1, 6 do
            local base = T.from({ { 1, 2 }, { 3, 4 } }, helper.on("f32"))
            local row = base[2]
            local element = row[1]
            local all = { base, row, element }
            local orders = { { 1, 2, 3 }, { 1, 3, 2 }, { 2, 1, 3 }, { 2, 3, 1 }, { 3, 1, 2 }, { 3, 2, 1 } }
            for step = 1, 3 do
                if orders[order][3] == 3 and step == 3 then assert.equal(3, element:item()) end
                all[orders[order][step]]:close()
            end
        end
        assert.equal(before, device:memory().live_bytes)
    end)

    it("by the collector, in any order", function()
        local before = settled().live_bytes
        for _ = 1, 200 do
            local base = T.zeros({ 8, 8 }, helper.on("f32"))
            local view = base:narrow(1, 2, 4)
            base = nil -- luacheck: ignore 311
            if math.random() < 0.2 then collectgarbage() end
            assert.equal(0, view:get(1, 1))
        end
        assert.equal(before, settled().live_bytes)
    end)

    it("makes every later use an error that names the operation", function()
        local t, u = T.zeros({ 2, 2 }, helper.on("f32")), T.zeros({ 2, 2 }, helper.on("f32"))
        t:close()
        local uses = {
            tensor_shape = function() return t:shape() end,
            tensor_index = function() return t.dtype end,
            tensor_select = function() return t[1] end,
            tensor_size = function() return #t end,
            tensor_add = function() return u + t end,
            tensor_copy = function() return u:copy_(t) end,
            tensor_sum = function() return t:sum() end,
            tensor_get = function() return t:get(1, 1) end,
            tensor_set = function() return t:set(1, 1, 0) end,
            tensor_item = function() return t:item() end,
            tensor_totable = function() return t:totable() end,
            tensor_to = function() return t:to("f16") end,
            tensor_clone = function() return t:clone() end,
            tensor_matmul = function() return u:matmul(t) end,
            tensor_fill = function() return t:fill_(1) end,
            tensor_narrow = function() return t:narrow(1, 1, 1) end,
            tensor_reshape = function() return t:reshape(4) end,
            tensor_transpose = function() return t:transpose(1, 2) end,
            tensor_softmax = function() return t:softmax() end,
            tensor_cat = function() return T.cat({ u, t }) end,
        }
        for op, use in pairs(uses) do
            local err = helper.fails("closed", "the tensor was closed", use)
            assert.equal(op, err.op)
        end
    end)
end)
