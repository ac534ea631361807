--- Random orders that a seed repeats, on every machine.
local T = require "steer.tensor"

local M = {}

--- Gives the numbers 1 to n in a random order.
function M.order(n, seed)
    local keys, order = T.rand({ n }, { seed = seed, device = "cpu" }):totable(), {}
    for i = 1, n do order[i] = i end
    table.sort(order, function(a, b) return keys[a] < keys[b] or keys[a] == keys[b] and a < b end)
    return order
end

--- Gives the rows of a tensor that `order` lists, as a tensor.
function M.rows(tensor, order)
    local rows = {}
    for i, row in ipairs(order) do rows[i] = tensor:narrow(1, row, 1) end
    return T.cat(rows, 1)
end

return M
