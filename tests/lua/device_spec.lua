-- devices: cpu cuda
-- Devices: listing, opening, asking, and why one is missing.
local helper = require "helper"
local steer = require "steer"

describe("steer.devices", function()
    it("lists the CPU first", function()
        local list = steer.devices()
        assert.equal("cpu", list[1].id)
        assert.is_true(list[1].total_bytes > 2 ^ 20)
        assert.is_true(list[1].free_bytes > 0 and list[1].free_bytes <= list[1].total_bytes)
        assert.is_true(list[1].processors >= 1)
        assert.is_nil(list[1].compute)
    end)

    it("describes GPUs", function()
        for i = 2, #steer.devices() do
            local info = steer.devices()[i]
            assert.equal("cuda:" .. i - 2, info.id)
            assert.truthy(info.compute:match("^%d+%.%d$"))
            assert.is_true(info.total_bytes > 2 ^ 30 and #info.name > 0)
        end
    end)

    it("says what each backend found, or why there is nothing", function()
        local names = {}
        for _, backend in ipairs(steer.backends()) do
            names[backend.name] = backend
            assert.is_true(#backend.detail > 0)
        end
        assert.equal(1, names.cpu.devices)
        assert.equal(#steer.devices() - 1, names.cuda.devices)
    end)
end)

describe("steer.device", function()
    it("gives the same object for the same id", function()
        local device = steer.device(helper.device)
        assert.equal(helper.device, device.id)
        assert.equal(helper.device, tostring(device))
        assert.equal(device, steer.device(helper.device))
        assert.equal(device, steer.device(device))
    end)

    it("prefers the first GPU when no device is named", function()
        local wanted = os.getenv("STEER_DEVICE")
        if not wanted or wanted == "" then wanted = #steer.devices() > 1 and "cuda:0" or "cpu" end
        assert.equal(wanted, steer.device().id)
    end)

    it("waits and describes", function()
        local device = steer.device(helper.device)
        assert.equal(device, device:synchronize())
        assert.equal(helper.device, device:info().id)
        local memory = device:memory()
        assert.is_true(memory.live_bytes >= 0 and memory.peak_bytes >= memory.live_bytes)
    end)

    it("refuses what is not a device id", function()
        helper.fails("invalid_argument", "id", steer.device, "gpu zero")
        helper.fails("invalid_argument", "id", steer.device, "cuda:-1")
        helper.fails("invalid_argument", "id", steer.device, "cuda:x")
        helper.fails("invalid_argument", 'id: expected a device id such as "cpu" or "cuda:0", got 3', steer.device, 3)
        helper.fails("invalid_argument", "id: expected a device id", steer.device, {})
    end)

    it("says why a device is missing", function()
        local err = helper.fails("not_found", "cuda:977", steer.device, "cuda:977")
        assert.equal("device_open", err.op)
    end)

    it("counts what tensors hold", function()
        local device = steer.device(helper.device)
        collectgarbage()
        collectgarbage()
        local before = device:memory()
        local t = steer.tensor.zeros({ 1024, 256 }, helper.on("f32"))
        local during = device:memory()
        assert.is_true(during.live_bytes >= before.live_bytes + 2 ^ 20)
        assert.equal(before.live_allocations + 1, during.live_allocations)
        local view = t[1]
        t:close()
        assert.equal(during.live_bytes, device:memory().live_bytes) -- the view keeps the storage
        view:close()
        assert.equal(before.live_bytes, device:memory().live_bytes)
    end)

    if helper.device == "cpu" then
        it("has no streams on the CPU", function()
            local cpu = steer.device("cpu")
            helper.fails("unsupported", "", cpu.set_stream, cpu, 0)
            helper.fails("invalid_argument", "stream: expected", cpu.set_stream, cpu, "main")
        end)
    end
end)
