--- costs.lua: first calls in processes of their own: with an empty cache on disk, and with what the first one left.
local common = require "common"

local M = {}

--- Runs first.lua twice over one cache folder.
-- opts: device, dtype, shrink, seconds (for a later call), limit (seconds for a process), caches (an empty folder),
-- here (the folder of bench). note: of common.log.
-- Returns cold and warm, each {first = list, background = line or nil}; the lines as first.lua prints them.
function M.measure(opts, note)
    local results = {}
    for _, temperature in ipairs { "cold", "warm" } do
        local found = { first = {} }
        local words = {
            "env", "XDG_CACHE_HOME=" .. opts.caches, opts.here .. "/../scripts/steer", "run",
            opts.here .. "/compile/first.lua", opts.device, opts.dtype, opts.shrink, opts.seconds,
        }
        common.children(words, opts.limit, {
            first = function(line) found.first[#found.first + 1] = line end,
            background = function(line) found.background = line end,
            note = function(line) note("first calls, %s cache, %s", temperature, line.message) end,
        }, note)
        results[temperature] = found
    end
    return results
end

return M
