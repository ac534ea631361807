--- `steer info`: what this installation has, and why a device is missing.
local M = {}

M.usage = [[
usage: steer info

Prints the version, the library and LuaJIT, then each backend with what was found or why it has no device, and each
device with its memory. The default device, which scripts get when they name none, is STEER_DEVICE if that is set,
else the first GPU, else the CPU.
]]

local function gib(bytes)
    return ("%.1f GiB"):format(bytes / 2 ^ 30)
end

local function describe(device)
    local words = { device.name, gib(device.total_bytes) .. " memory", gib(device.free_bytes) .. " free" }
    if device.compute then words[#words + 1] = "compute " .. device.compute end
    if device.driver then words[#words + 1] = "driver for CUDA " .. device.driver end
    return table.concat(words, ", ")
end

local function default_device(steer)
    local ok, device = pcall(steer.device)
    return ok and device.id or tostring(device)
end

function M.run(args)
    if args[1] then
        return require("steer.cli._args").wrong("info", "unexpected argument '%s'", args[1])
    end
    local steer, c = require "steer", require "steer.core.c"
    local function line(name, ...)
        print(("%-10s %s"):format(name, table.concat { ... }))
    end
    line("steer", steer.version)
    line("library", c.path)
    line("luajit", jit.version, ", ", jit.os, " ", jit.arch, ", compiler ", jit.status() and "on" or "off")
    print "backends"
    for _, backend in ipairs(steer.backends()) do
        local count = backend.devices == 0 and "no device" or backend.devices == 1 and "1 device"
            or backend.devices .. " devices"
        line("  " .. backend.name, count, backend.detail ~= "" and ": " or "", backend.detail)
    end
    print "devices"
    for _, device in ipairs(steer.devices()) do
        line("  " .. device.id, describe(device))
    end
    line("default", default_device(steer))
    return 0
end

return M
