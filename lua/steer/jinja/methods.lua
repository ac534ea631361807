--- The methods of values, by kind.
local call = require "steer.jinja.call"
local run = require "steer.jinja.run"
local sequence = require "steer.jinja.sequence"
local value_of = require "steer.jinja.value"

local None = value_of.None
local row = call.row
local M = {}

-- ---- Dictionaries --------------------------------------------------------------------------------------------------

local function view(kind)
    return row("", function(dict) return value_of.new(kind, { dict = dict }) end)
end

local dict = {
    keys = view "keys",
    values = view "values",
    items = view "items",
    get = row("key! default", function(self, key, default)
        local value = value_of.dict_get(self, key)
        if value == nil then return default == nil and None or default end
        return value
    end),
    copy = row("", function(self)
        local out = value_of.dict()
        run.charge(#self.keys)
        for _, key in ipairs(self.keys) do value_of.dict_set(out, key, value_of.dict_get(self, key)) end
        return out
    end),
}

-- ---- Lists and tuples ----------------------------------------------------------------------------------------------

local array = {
    count = row("value!", function(self, value)
        local count = 0
        for i = 1, #self do
            if require("steer.jinja.compare").equal(self[i], value) then count = count + 1 end
        end
        return count
    end),
    index = row("value! start stop", function(self, value, start, stop)
        local slice = require("steer.jinja.access").slice(self, start, stop)
        local offset = start or 0
        if offset < 0 then offset = math.max(0, offset + #self) end
        for i = 1, #slice do
            if require("steer.jinja.compare").equal(slice[i], value) then return offset + i - 1 end
        end
        run.fail("%s is not in the list", require("steer.jinja.show").repr(value))
    end),
}

local list = {
    count = array.count, index = array.index,
    copy = row("", function(self) return value_of.list(sequence.elements(self)) end),
}

-- ---- Others --------------------------------------------------------------------------------------------------------

local cycler = {
    next = row("", function(self)
        local value = self.items[self.at]
        self.at = self.at % #self.items + 1
        return value
    end),
    reset = row("", function(self)
        self.at = 1
        return None
    end),
}

local loop = {
    cycle = row(nil, function(self, args)
        if #args == 0 then run.fail "no items for cycling given" end
        return args[self.index0 % #args + 1]
    end),
    changed = row(nil, function(self, args)
        local values = value_of.tuple(args)
        if self.last_changed and require("steer.jinja.compare").equal(self.last_changed, values) then return false end
        self.last_changed = values
        return true
    end),
}

local float = {
    is_integer = row("", function(self) return self.value % 1 == 0 end),
}

local tables = {
    str = require "steer.jinja.methods_text", dict = dict, list = list, tuple = array, cycler = cycler, loop = loop,
    float = float,
}

-- A method of markup is that of its text; texts that it gives are markup, and texts that it takes are made safe.
local function markup_row(method)
    local arithmetic = require "steer.jinja.arithmetic"
    return row(nil, function(self, args, kwargs)
        local safe = {}
        for i, arg in ipairs(args) do safe[i] = type(arg) == "string" and arithmetic.escape(arg) or arg end
        local out = call.row_call(method, self.text, "method", safe, kwargs)
        return type(out) == "string" and value_of.markup(out) or out
    end)
end

--- Gives a method of a value, bound to it; nil if there is none of that name.
function M.find(value, kind, name)
    local methods = tables[kind == "markup" and "str" or kind]
    local method = methods and methods[name]
    if not method then return nil end
    if kind == "markup" then method = markup_row(method) end
    return call.callable(name, method, value)
end

return M
