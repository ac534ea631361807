--- Calling: what built-in functions, filters, tests and methods take, and the binding of arguments to it.
--
-- A row is {fn=, params=, least=, most=}: fn(receiver, ...) gets the arguments in the order of params, nil for what was
-- left out; with most = nil it is fn(receiver, list of arguments, dictionary of named ones or nil).
local run = require "steer.jinja.run"
local value_of = require "steer.jinja.value"

local kind_of = value_of.kind
local M = {}

--- Makes a row. The parameters are names in one text; those that must be given end in "!". nil takes anything.
function M.row(params, fn)
    if not params then return { fn = fn } end
    local names, least = {}, 0
    for name, needed in params:gmatch "([%w_]+)(!?)" do
        names[#names + 1] = name
        if needed == "!" then least = #names end
    end
    return { fn = fn, params = names, least = least, most = #names }
end

local function index_of(list, name)
    for i, item in ipairs(list) do
        if item == name then return i end
    end
end

local function check_count(row, name, count)
    if count > row.most then
        run.fail("%s() takes at most %d arguments, got %d", name, row.most, count)
    end
    if count < row.least then
        run.fail("%s() misses its argument '%s'", name, row.params[count + 1])
    end
end

local function bind(row, name, args, kwargs)
    if #args > row.most then check_count(row, name, #args) end
    local bound = {}
    for i = 1, #args do bound[i] = args[i] end
    for _, key in ipairs(kwargs.keys) do
        local at = index_of(row.params, key)
        if not at then run.fail("%s() got an unexpected keyword argument '%s'", name, key) end
        if bound[at] ~= nil then run.fail("%s() got multiple values for argument '%s'", name, key) end
        bound[at] = value_of.dict_get(kwargs, key)
    end
    for i = 1, row.least do
        if bound[i] == nil then run.fail("%s() misses its argument '%s'", name, row.params[i]) end
    end
    return bound
end

--- Calls a row.
-- @param receiver the value that a filter, a test or a method is of
-- @param name what messages call it
-- @param args list of values
-- @param kwargs dictionary with names as keys, or nil
function M.row_call(row, receiver, name, args, kwargs)
    run.charge(1 + #args)
    if not row.most then return row.fn(receiver, args, kwargs) end
    if kwargs and kwargs.keys[1] ~= nil then
        return row.fn(receiver, unpack(bind(row, name, args, kwargs), 1, row.most))
    end
    check_count(row, name, #args)
    return row.fn(receiver, unpack(args, 1, row.most))
end

--- A value that can be called.
function M.callable(name, row, receiver)
    return value_of.new("callable", { name = name, row = row, receiver = receiver })
end

local callers = {
    callable = function(value, args, kwargs) return M.row_call(value.row, value.receiver, value.name, args, kwargs) end,
    macro = function(macro, args, kwargs) return macro.call(macro, args, kwargs) end,
    loop = function(loop, args, kwargs)
        if #args ~= 1 or kwargs and #kwargs.keys > 0 then run.fail("loop() takes one argument") end
        return loop:recurse(args[1])
    end,
    joiner = function(joiner)
        if joiner.used then return joiner.separator end
        joiner.used = true
        return ""
    end,
}

--- Tells whether a value can be called.
function M.is_callable(value)
    local kind = kind_of(value)
    return callers[kind] ~= nil
end

--- Calls a value.
function M.call(value, args, kwargs)
    local kind = kind_of(value)
    local caller = callers[kind]
    if not caller then
        if kind == "undefined" then value_of.fail_undefined(value) end
        run.fail("'%s' object is not callable", value_of.type_name(value))
    end
    return caller(value, args, kwargs)
end

return M
