--- Classes whose objects raise an error for a name that they do not have, with the nearest one that they have.
local options = require "steer.core.options"
local raise = require("steer.core.error").raise
local tables = require "steer.core.tables"

local M = {}

-- Where a name is that the elements of an object have: "; each element has one, as in [1].text", or nil.
local function of_elements(own, key)
    local at
    for _, i in ipairs(tables.keys(own)) do
        local element = type(i) == "number" and rawget(own, i)
        if type(element) == "table" and rawget(element, key) ~= nil then at = math.min(at or i, i) end
    end
    return at and ("; each element has one, as in [%d].%s"):format(at, key)
end

--- Looks a name up that an object itself does not hold: gives the class's method, and nil for names that it may lack.
-- @tparam table class its methods, and __names: of fields that are looked up when they are asked for
-- @tparam string what an object of it is called: "a model"
-- @param key
-- @tparam table absent set of the fields that an object may lack
-- @tparam table own those that this object has
-- @raise invalid_argument
function M.lookup(class, what, key, absent, own)
    local method = class[key]
    if method ~= nil then return method end
    if type(key) ~= "string" or absent[key] or key:find "^_" then return nil end
    local names = {}
    for _, set in ipairs { class, absent, own, class.__names } do
        for _, name in ipairs(tables.keys(set)) do
            local hidden = type(name) ~= "string" or name:find "^_" or name == "handle"
            if not (hidden or class.__internal and class.__internal[name]) then
                names[name] = true
            end
        end
    end
    local op = what:match "^an? (%a+)$" or what:match ":(%a+)" or what:match "%a+$"
    return raise("invalid_argument", op, '%s has no "%s"%s', what, key,
        of_elements(own, key) or options.suggest(key, names):gsub("^,", ";"))
end

--- Makes a class strict.
-- @tparam table class its methods; gets __index, and __methods for completion
-- @tparam string what, @tparam table absent as lookup has them
function M.strict(class, what, absent)
    class.__methods, class.__name = class, class.__name or what
    function class.__index(self, key) return M.lookup(class, what, key, absent, self) end
end

--- Makes a module of the package strict; gives it.
-- @tparam table module
-- @tparam string name such as "bench", of steer.bench
function M.module(module, name)
    return setmetatable(module, { __index = function(_, key)
        if type(key) ~= "string" or key:find "^_" then return nil end
        return raise("invalid_argument", name, "there is no steer.%s.%s%s", name, key,
            options.suggest(key, module, ("steer.%s."):format(name), ""))
    end })
end

return M
