--- What the results of a file have in common beside their axes, as its header says: of a grid an object of JSON, whose
-- long settings and functions are "#" and a hash.
local json = require "steer.core.json"
local tables = require "steer.core.tables"

local M = {}

-- Text of a setting, nil for the hash of one.
local function text_of(value)
    if type(value) == "string" and value:find "^#%x+$" then return nil end
    return value == nil and "none" or json.encode(value)
end

--- In which settings two contents differ.
-- @tparam[opt] string a content of a header
-- @tparam[opt] string b
-- @treturn table list of {name, a, b: texts of its values, nil for hashes} by name; nil where a content is no object
function M.differences(a, b)
    a, b = json.decode(tostring(a)), json.decode(tostring(b))
    if type(a) ~= "table" or type(b) ~= "table" then return nil end
    local known, list = {}, {}
    for _, content in ipairs { a, b } do
        for _, name in ipairs(tables.keys(content)) do known[tostring(name)] = true end
    end
    local names = tables.keys(known)
    table.sort(names)
    for _, name in ipairs(names) do
        local old, new = text_of(a[name]), text_of(b[name])
        local same = old == new
        if not (old and new) then same = a[name] == b[name] end
        if not same then list[#list + 1] = { name = name, a = old, b = new } end
    end
    return list
end

return M
