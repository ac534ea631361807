--- The attributes that filters take: "name", "name.inner", "list.0" or a number, and keys made of them.
local access = require "steer.jinja.access"
local text = require "steer.jinja.text"
local value_of = require "steer.jinja.value"

local M = {}

-- The parts of "a.b.0".
local function parts_of(attribute)
    if attribute == nil or attribute == value_of.None then return {} end
    local path = value_of.text(attribute)
    if not path then return { attribute } end
    local parts = {}
    for part in (path .. "."):gmatch "([^.]*)%." do
        parts[#parts + 1] = part:find "^%d+$" and tonumber(part) or part
    end
    return parts
end

local function lower(value)
    local string = value_of.text(value)
    return string and text.lower(string) or value
end

--- Makes a function that reads an attribute of an item.
-- @param default what stands for something undefined, or nil
-- @param ignore_case whether texts are made lower case
function M.getter(attribute, default, ignore_case)
    local parts = parts_of(attribute)
    if default == value_of.None then default = nil end
    return function(item)
        for i = 1, #parts do
            item = access.getitem(item, parts[i])
            if default ~= nil and value_of.is_undefined(item) then item = default end
        end
        if ignore_case then return lower(item) end
        return item
    end
end

--- Makes a function that reads several attributes, "a,b", as a list.
function M.multi_getter(attribute, ignore_case)
    local getters = {}
    local path = value_of.text(attribute or value_of.None)
    if not path then
        getters[1] = M.getter(attribute, nil, ignore_case)
    else
        for part in (path .. ","):gmatch "([^,]*)," do getters[#getters + 1] = M.getter(part, nil, ignore_case) end
    end
    return function(item)
        local list = {}
        for i, getter in ipairs(getters) do list[i] = getter(item) end
        return value_of.list(list)
    end
end

return M
