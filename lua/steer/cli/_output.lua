--- Standard output of a command: output that cannot be written ends it with a message and status 1.
local ffi = require "ffi"

ffi.cdef [[
    int steer_output_error(void *file) __asm__("ferror");
    char *steer_output_strerror(int number) __asm__("strerror");
]]
local C = ffi.C

local M = {}

local stdout, exit, print_all = io.stdout, os.exit, print

local function complain(why)
    io.stderr:write("steer: standard output: cannot write", why and ": " .. why or " all of it", "\n")
end

local lost = false

--- Writes what is left of the output; says so, once, where some of it is lost.
-- @treturn boolean whether all of it is written
function M.flush()
    if lost or io.type(stdout) ~= "file" then return not lost end -- a script may have closed it
    local ok, why = stdout:flush()
    if not ok or C.steer_output_error(stdout) ~= 0 then
        lost = true
        complain(not ok and why or nil) -- where a write before has failed, its reason is gone
    end
    return not lost
end

--- Watches over print and os.exit, for scripts too.
function M.watch()
    rawset(_G, "print", function(...)
        print_all(...)
        if C.steer_output_error(stdout) ~= 0 then
            complain(ffi.string(C.steer_output_strerror(ffi.errno())))
            exit(1)
        end
    end)
    rawset(os, "exit", function(code, ...)
        if not M.flush() and (code == nil or code == true or code == 0) then code = 1 end
        exit(code, ...)
    end)
end

return M
