--- The functions that every template has, and the clock.
local arguments = require "steer.jinja.arguments"
local call = require "steer.jinja.call"
local run = require "steer.jinja.run"
local sequence = require "steer.jinja.sequence"
local show = require "steer.jinja.show"
local value_of = require "steer.jinja.value"

local row = call.row
local M = {}

local MAX_RANGE = 100000
local MAX_TIME_FORMAT = 1000
local DICT_STEPS = 10 -- that an entry takes

local function range(_, start, stop, step)
    if stop == nil then start, stop = 0, start end
    start, stop, step = arguments.int(start), arguments.int(stop), arguments.int(step, 1)
    if step == 0 then run.fail "range() arg 3 must not be zero" end
    local out = sequence.range(start, stop, step)
    if out.length > MAX_RANGE then
        run.fail("Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", MAX_RANGE)
    end
    return out
end

-- dict(mapping or pairs, name=value, ...)
local function dict(_, args, kwargs)
    local out = value_of.dict()
    if #args > 1 then run.fail("dict expected at most 1 argument, got %d", #args) end
    local source = args[1]
    if source ~= nil and value_of.kind(source) == "dict" then source = value_of.new("items", { dict = source }) end
    for item in source == nil and function() end or sequence.iterate(source) do
        run.charge(DICT_STEPS)
        local pair = sequence.elements(item)
        if #pair ~= 2 then run.fail("a dict is made of pairs, got %d elements", #pair) end
        value_of.dict_set(out, pair[1], pair[2])
    end
    for _, key in ipairs(kwargs and kwargs.keys or {}) do
        value_of.dict_set(out, key, value_of.dict_get(kwargs, key))
    end
    return out
end

local rows = {
    range = row("start! stop step", range),
    dict = row(nil, dict),
    namespace = row(nil, function(_, args, kwargs)
        return value_of.new("namespace", { fields = dict(nil, args, kwargs) })
    end),
    cycler = row(nil, function(_, args)
        if #args == 0 then run.fail "at least one item has to be provided" end
        return value_of.new("cycler", { items = args, at = 1 })
    end),
    joiner = row("sep", function(_, separator)
        return value_of.new("joiner", { separator = separator == nil and ", " or separator, used = false })
    end),
    raise_exception = row("message!", function(_, message) return run.refuse(show.str(message)) end),
}

--- The functions, by name.
M.functions = {}
for _, name in ipairs { "range", "dict", "namespace", "cycler", "joiner", "raise_exception" } do
    M.functions[name] = call.callable(name, rows[name])
end

--- Makes strftime_now for a time: a number as os.time gives it, or nil for the clock when it is called.
function M.strftime_now(now)
    return call.callable("strftime_now", row("format!", function(_, format)
        format = show.str(format)
        if #format > MAX_TIME_FORMAT then run.fail("the format of a time is longer than %d bytes", MAX_TIME_FORMAT) end
        -- Microseconds, and the zone of a time that names none, as Python writes them.
        format = format:gsub("%%(.)", { f = "000000", z = "", Z = "" })
        return os.date("." .. format, now):sub(2) -- "!" and "*t" at the beginning mean something to Lua
    end))
end

return M
