--- Walking over values: iteration, lengths and elements.
local run = require "steer.jinja.run"
local text = require "steer.jinja.text"
local value_of = require "steer.jinja.value"

local kind_of = value_of.kind
local M = {}

-- Iterates over an array, which may be a list that grows.
local function each_of(array)
    local i = 0
    return function()
        i = i + 1
        return array[i]
    end
end

local function each_key(view) return each_of(view.dict.keys) end

-- Kind -> function that gives a function that gives the next element, nil at the end.
local iterators = {
    str = function(value)
        run.charge_text(#value)
        return text.each(value)
    end,
    markup = function(value)
        run.charge_text(#value.text)
        return text.each(value.text)
    end,
    list = each_of,
    tuple = each_of,
    dict = function(dict) return each_of(dict.keys) end,
    keys = each_key,
    values = function(view)
        local next_key = each_key(view)
        return function()
            local key = next_key()
            if key ~= nil then return value_of.dict_get(view.dict, key) end
        end
    end,
    items = function(view)
        local next_key = each_key(view)
        return function()
            local key = next_key()
            if key ~= nil then return value_of.tuple { key, value_of.dict_get(view.dict, key) } end
        end
    end,
    range = function(range)
        local i = -1
        return function()
            i = i + 1
            if i < range.length then return range.start + i * range.step end
        end
    end,
    generator = function(generator) return generator.next end,
    undefined = function() return function() end end,
    loop = function(loop)
        return function()
            local item = loop:advance()
            if item ~= nil then return value_of.tuple { item, loop } end
        end
    end,
}

--- Tells whether a value can be iterated over.
function M.is_iterable(value) return iterators[kind_of(value)] ~= nil end

--- Gives a function that gives the next element, nil after the last one.
function M.iterate(value)
    local iterator = iterators[kind_of(value)]
    if not iterator then run.fail("'%s' object is not iterable", value_of.type_name(value)) end
    return iterator(value)
end

--- Lists the elements of a value.
function M.elements(value)
    local list, n = {}, 0
    for item in M.iterate(value) do
        run.charge(1)
        n = n + 1
        list[n] = item
    end
    return list
end

local function count(array) return #array end
local function count_keys(view) return #view.dict.keys end

local lengths = {
    str = text.length,
    markup = function(value) return text.length(value.text) end,
    list = count, tuple = count,
    dict = function(dict) return #dict.keys end,
    keys = count_keys, values = count_keys, items = count_keys,
    range = function(range) return range.length end,
    undefined = function() return 0 end,
    loop = function(loop) return loop:get "length" end,
}

--- Gives the length of a value, nil if it has none.
function M.try_length(value)
    local length = lengths[kind_of(value)]
    return length and length(value)
end

--- Gives the length of a value.
function M.length(value)
    local length = M.try_length(value)
    if not length then run.fail("object of type '%s' has no len()", value_of.type_name(value)) end
    return length
end

--- A value that is made while it is iterated over, once.
function M.generator(name, next_item)
    return value_of.new("generator", { name = name, next = next_item })
end

--- The integers from `start` to before `stop`.
function M.range(start, stop, step)
    local length = math.max(0, math.ceil((stop - start) / step))
    return value_of.new("range", { start = start, stop = stop, step = step, length = length })
end

return M
