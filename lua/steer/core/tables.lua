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

-- Whether there is something at 1 to n; compiled, as it has no next().
local function is_full(t, n)
    for i = 1, n do
        if t[i] == nil then return false end
    end
    return true
end

--- Tells whether a table of length n, as # gives it, has its n entries and nothing else.
function M.is_list(t, n)
    local count = 0
    for _ in pairs(t) do count = count + 1 end
    return count == n and is_full(t, n)
end

--- Copies entries `from` to `to` (default: all) of a list, however long it is: unpack() has room for some 8000.
function M.slice(list, from, to)
    local out = {}
    for i = from or 1, to or #list do out[#out + 1] = list[i] end
    return out
end

jit.off(M.first)
jit.off(M.is_list)
jit.off(M.keys)

return M
