--- Walking tables outside compiled code.
--
-- The LuaJIT of Debian 12 may compile next() and pairs() into x64 code that crashes (LuaJIT#829, mended in April 2022).
-- Functions of this package walk tables through this module, which is kept from the compiler.
local M = {}

--- Gives some key of the table, nil if it is empty.
function M.first(t) return (next(t)) end

--- Lists the keys of the table, in no order.
function M.keys(t)
    local keys = {}
    for key in pairs(t) do keys[#keys + 1] = key end
    return keys
end

jit.off(M.first)
jit.off(M.keys)

return M
