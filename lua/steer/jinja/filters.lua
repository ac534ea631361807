--- All filters, by name: rows of steer.jinja.call whose receiver is the value that is filtered.
local tables = require "steer.core.tables"

local M = {}
for _, module in ipairs { "filters_list", "filters_text" } do
    local rows = require("steer.jinja." .. module)
    for _, name in ipairs(tables.keys(rows)) do M[name] = rows[name] end
end
return M
