--- Devices: what is there, opening one, waiting for it and asking what it holds.
local ffi = require "ffi"
local c = require "steer.core.c"
local check = require "steer.core.check"
local raise = require("steer.core.error").raise

local C = c.C
local M = {}

local Device = {}
require("steer.core.class").strict(Device, "a device", {})

--- Version of the loaded library, such as "0.1.0".
M.version = ffi.string(C.steer_version())

local out = ffi.new("steer_device *[1]")
local opened = {} -- id -> device object; devices stay open until the process ends

local function describe(info)
    local id = ffi.string(info.id)
    return {
        id = id,
        name = ffi.string(info.name),
        total_bytes = tonumber(info.total_bytes),
        free_bytes = tonumber(info.free_bytes),
        l2_bytes = tonumber(info.l2_bytes),
        processors = info.processors,
        clock_khz = info.clock_khz > 0 and info.clock_khz or nil,
        compute = info.compute_major > 0 and info.compute_major .. "." .. info.compute_minor or nil,
        driver = info.driver > 0 and string.format("%d.%d", info.driver / 1000, info.driver % 1000 / 10) or nil,
    }
end

--- Lists the devices, the CPU first.
-- @treturn table list of {id=, name=, total_bytes=, free_bytes=, l2_bytes=, processors=}; GPUs also have `compute`
-- (such as "9.0"), `driver` (newest CUDA version it serves, such as "13.0") and `clock_khz`
function M.list()
    local found, info = {}, c.descriptor("steer_device_info")
    for index = 0, C.steer_device_count() - 1 do
        c.check(C.steer_device_describe(info, index))
        found[index + 1] = describe(info)
    end
    return found
end

--- Lists the backends, with or without devices.
-- @treturn table list of {name=, devices= (a count), detail= (what was loaded, or why there is no device)}
function M.backends()
    local found, info = {}, c.descriptor("steer_backend_info")
    for index = 0, C.steer_backend_count() - 1 do
        c.check(C.steer_backend_describe(info, index))
        found[index + 1] = {
            name = ffi.string(info.name), devices = info.device_count, detail = ffi.string(info.detail),
        }
    end
    return found
end

--- Opens a device; the same id gives the same object.
-- @tparam[opt] string id "cpu", "cuda:1"; without it the environment's STEER_DEVICE, else the first GPU, else the CPU
-- @treturn device its `id` is a string; tostring gives the id
-- @raise invalid_argument for a malformed id, not_found (saying why) for a device that is not there
function M.open(id)
    if getmetatable(id) == Device then return id end
    if id ~= nil then
        check.type("device_open", "id", id, "string", 'a device id such as "cpu" or "cuda:0"')
        if opened[id] then return opened[id] end
    end
    c.check(C.steer_device_open(out, id))
    local handle = out[0]
    local name = ffi.string(C.steer_device_id(handle))
    local device = opened[name]
    if not device then
        device = setmetatable({ id = name, handle = handle, soft_limit = c.SOFT_LIMIT }, Device)
        opened[name] = device
    end
    if id then opened[id] = device end
    return device
end

--- Resolves the `device` option of an operation: nil, an id or a device object.
function M.resolve(op, value)
    if getmetatable(value) == Device then return value end
    if value ~= nil and type(value) ~= "string" then
        raise("invalid_argument", op, 'device: expected an id such as "cpu" or "cuda:0", got %s', check.describe(value))
    end
    return value and opened[value] or M.open(value)
end

--- Gives the device object of a library handle.
function M.of(handle)
    return M.open(ffi.string(C.steer_device_id(handle)))
end

--- Waits until all work on the device is done.
-- @treturn device self
function Device:synchronize()
    c.check(C.steer_device_synchronize(self.handle))
    return self
end

local memory = c.descriptor("steer_memory_info")

--- Says what this process holds on the device.
-- @treturn table {live_bytes=, peak_bytes=, live_allocations=, total_allocations=}
function Device:memory()
    c.check(C.steer_device_memory(memory, self.handle))
    return {
        live_bytes = tonumber(memory.live_bytes), peak_bytes = tonumber(memory.peak_bytes),
        live_allocations = tonumber(memory.live_allocations), total_allocations = tonumber(memory.total_allocations),
    }
end

--- Describes the device, as an entry of steer.devices() does.
function Device:info()
    for _, info in ipairs(M.list()) do
        if info.id == self.id then return info end
    end
    return raise("device", "device_describe", "%s is no longer listed", self.id)
end

--- Runs this thread's later work on the device on another CUDA stream.
-- @param stream a cudaStream_t as a pointer or a number; nil returns to the device's own stream
-- @raise unsupported on the CPU
-- @treturn device self
function Device:set_stream(stream)
    if type(stream) == "number" then
        check.integer("device_set_stream", "stream", stream, 0)
    elseif stream ~= nil then
        check.type("device_set_stream", "stream", stream, "cdata", "a cudaStream_t as a pointer or a number")
    end
    c.check(C.steer_device_set_stream(self.handle, ffi.cast("void *", stream)))
    return self
end

--- Test aid: makes the n-th allocation from now on fail (1 = the next); 0 turns it off.
function Device:fail_allocation(n)
    c.check(C.steer_device_fail_allocation(self.handle, check.integer("device_fail_allocation", "n", n)))
    return self
end

function Device:__tostring()
    return self.id
end

return M
