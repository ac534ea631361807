--- Reading from values: attributes, items and slices, with Jinja's order of looking: x.name is a method first,
-- x["name"] an item first. What is not there is undefined.
local run = require "steer.jinja.run"
local text = require "steer.jinja.text"
local value_of = require "steer.jinja.value"

local kind_of, number_of = value_of.kind, value_of.number
local M = {}

-- ---- Items ---------------------------------------------------------------------------------------------------------

-- The index of an element as one from 1, nil if it is none.
local function position(index, length)
    local at, is_float = number_of(index)
    if not at or is_float then return nil end
    if at < 0 then at = at + length end
    return at >= 0 and at < length and at + 1 or nil
end

local function array_item(array, index)
    local at = position(index, #array)
    return at and array[at]
end

local function text_item(value, index)
    local at = position(index, text.length(value))
    return at and text.sub(value, at - 1, at)
end

local item_readers = {
    str = text_item,
    markup = function(value, index)
        local char = text_item(value.text, index)
        return char and value_of.markup(char)
    end,
    list = array_item,
    tuple = array_item,
    range = function(range, index)
        local at = position(index, range.length)
        return at and range.start + (at - 1) * range.step
    end,
    dict = function(dict, key)
        local kind = kind_of(key)
        if kind == "list" or kind == "dict" then return nil end
        return value_of.dict_get(dict, key)
    end,
}

local function item_of(value, key)
    local read = item_readers[kind_of(value)]
    return read and read(value, key)
end

-- ---- Attributes ----------------------------------------------------------------------------------------------------

local function set(...)
    local names = {}
    for i = 1, select("#", ...) do names[select(i, ...)] = true end
    return names
end

-- Methods that change a list or a dictionary: the sandbox has none of them.
local mutating = {
    list = set("append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"),
    dict = set("clear", "pop", "popitem", "setdefault", "update"),
}

-- Attributes that are not methods.
local fields = {
    namespace = function(namespace, name) return value_of.dict_get(namespace.fields, name) end,
    loop = function(loop, name) return loop:get(name) end,
    tuple = function(tuple, name) -- of groupby
        if tuple.named then return name == "grouper" and tuple[1] or name == "list" and tuple[2] or nil end
    end,
    cycler = function(cycler, name)
        if name == "current" then return cycler.items[cycler.at] end
    end,
    macro = function(macro, name)
        if name == "name" then return macro.name or value_of.None end
    end,
}

--- Gives the attribute of a value, nil if it has none of that name.
function M.attribute(value, name)
    local kind = kind_of(value)
    if kind == "undefined" then value_of.fail_undefined(value) end
    local field = fields[kind] and fields[kind](value, name)
    if field ~= nil then return field end
    local method = require("steer.jinja.methods").find(value, kind, name)
    if method then return method end
    if mutating[kind] and mutating[kind][name] then
        return value_of.undefined {
            name = name, hint = ("access to attribute '%s' of '%s' object is unsafe."):format(name, kind),
        }
    end
end

--- value.name
function M.getattr(value, name)
    local found = M.attribute(value, name)
    if found == nil then found = item_of(value, name) end
    if found == nil then return value_of.undefined { name = name, object = value } end
    return found
end

--- value[key]
function M.getitem(value, key)
    run.charge(1)
    if kind_of(value) == "undefined" then value_of.fail_undefined(value) end
    local found = item_of(value, key)
    local name = value_of.text(key)
    if found == nil and name then found = M.attribute(value, name) end
    if found == nil then return value_of.undefined { name = key, object = value } end
    return found
end

-- ---- Slices --------------------------------------------------------------------------------------------------------

local function slice_index(value)
    if value == nil or value == value_of.None then return nil end
    local index, is_float = number_of(value)
    if kind_of(value) == "undefined" or not index or is_float then
        run.fail("slice indices must be integers or None or have an __index__ method")
    end
    return index
end

-- The bounds of a slice of `length` elements, from 0, as Python adjusts them.
local function bounds(length, start, stop, step)
    local low, high = 0, length
    if step < 0 then low, high = -1, length - 1 end
    local function clip(index, default)
        if index == nil then return default end
        if index < 0 then index = index + length end
        return math.max(low, math.min(high, index))
    end
    return clip(start, step < 0 and high or low), clip(stop, step < 0 and low or high)
end

local function slice_array(array, start, stop, step)
    local out = {}
    run.charge(math.max(0, (stop - start) / step))
    for i = start, stop - (step > 0 and 1 or -1), step do out[#out + 1] = array[i + 1] end
    return out
end

local function slice_text(value, start, stop, step)
    if step == 1 then return text.sub(value, start, stop) end
    return table.concat(slice_array(text.chars(value), start, stop, step))
end

local slicers = {
    str = slice_text,
    markup = function(value, ...) return value_of.markup(slice_text(value.text, ...)) end,
    list = function(...) return value_of.list(slice_array(...)) end,
    tuple = function(...) return value_of.tuple(slice_array(...)) end,
    range = function(range, start, stop, step)
        return require("steer.jinja.sequence").range(range.start + start * range.step,
            range.start + stop * range.step, step * range.step)
    end,
}

--- value[start:stop:step]; what is left out is nil or None.
function M.slice(value, start, stop, step)
    local kind = kind_of(value)
    if kind == "undefined" then value_of.fail_undefined(value) end
    if not slicers[kind] then run.fail("'%s' object is not subscriptable", value_of.type_name(value)) end
    start, stop, step = slice_index(start), slice_index(stop), slice_index(step) or 1
    if step == 0 then run.fail("slice step cannot be zero") end
    local length = require("steer.jinja.sequence").length(value)
    start, stop = bounds(length, start, stop, step)
    return slicers[kind](value, start, stop, step)
end

return M
