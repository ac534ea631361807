--- Warnings on standard error, each kind once a process.
local M = {}

local said = {}

--- Writes "steer: warning: ..." unless a warning of this kind was written before.
-- @tparam string kind
function M.once(kind, format, ...)
    if said[kind] then return end
    said[kind] = true
    io.stderr:write("steer: warning: ", format:format(...), " (this is said once)\n")
end

--- Forgets what was said, for tests.
function M.reset() said = {} end

return M
