--- Compiles expressions to closures: fn(env) gives the value. env[slot] is a name's value, nil before it is set; env.up
-- is the environment of the function around, env.state the render's (see compile.lua).
local access = require "steer.jinja.access"
local arithmetic = require "steer.jinja.arithmetic"
local call = require "steer.jinja.call"
local compare = require "steer.jinja.compare"
local filters = require "steer.jinja.filters"
local run = require "steer.jinja.run"
local sequence = require "steer.jinja.sequence"
local show = require "steer.jinja.show"
local tests = require "steer.jinja.tests"
local text = require "steer.jinja.text"
local value_of = require "steer.jinja.value"

local truth = value_of.truth
local M = {}

local compile -- below
local compilers = {}

-- Nodes that were compiled, from which statements take what they cost.
M.count = 0

local function compile_all(list, frame)
    local out = {}
    for i, node in ipairs(list) do out[i] = compile(node, frame) end
    return out
end

-- ---- Names and literals --------------------------------------------------------------------------------------------

--- Makes a function that gives the environment that is some functions outwards.
function M.outwards(hops)
    if hops == 0 then return function(env) return env end end
    return function(env)
        for _ = 1, hops do env = env.up end
        return env
    end
end

function compilers.Const(node)
    local value = node.value
    return function() return value end
end

function compilers.Name(node, frame)
    local slot, hops = frame:find(node.name)
    local missing = value_of.undefined { name = node.name }
    if hops == 0 then
        return function(env)
            local value = env[slot]
            if value == nil then return missing end
            return value
        end
    end
    local outwards = M.outwards(hops)
    return function(env)
        local value = outwards(env)[slot]
        if value == nil then return missing end
        return value
    end
end

local function array_of(make)
    return function(node, frame)
        local items = compile_all(node.items, frame)
        return function(env)
            local out = {}
            for i = 1, #items do out[i] = items[i](env) end
            return make(out)
        end
    end
end

compilers.List, compilers.Tuple = array_of(value_of.list), array_of(value_of.tuple)

function compilers.Dict(node, frame)
    local keys, values = {}, {}
    for i, pair in ipairs(node.items) do
        keys[i], values[i] = compile(pair.key, frame), compile(pair.value, frame)
    end
    return function(env)
        local dict = value_of.dict()
        for i = 1, #keys do value_of.dict_set(dict, keys[i](env), values[i](env)) end
        return dict
    end
end

-- ---- Operators -----------------------------------------------------------------------------------------------------

local binary = {
    ["+"] = arithmetic.add, ["-"] = arithmetic.sub, ["*"] = arithmetic.mul, ["/"] = arithmetic.div,
    ["//"] = arithmetic.floordiv, ["%"] = arithmetic.mod, ["**"] = arithmetic.pow,
}

function compilers.Binary(node, frame)
    local left, right, operate = compile(node.left, frame), compile(node.right, frame), binary[node.op]
    return function(env) return operate(left(env), right(env)) end
end

function compilers.Unary(node, frame)
    local operand, operate = compile(node.node, frame), node.op == "-" and arithmetic.neg or arithmetic.pos
    return function(env) return operate(operand(env)) end
end

compilers["And"] = function(node, frame)
    local left, right = compile(node.left, frame), compile(node.right, frame)
    return function(env)
        local value = left(env)
        if truth(value) then return right(env) end
        return value
    end
end

compilers["Or"] = function(node, frame)
    local left, right = compile(node.left, frame), compile(node.right, frame)
    return function(env)
        local value = left(env)
        if truth(value) then return value end
        return right(env)
    end
end

compilers["Not"] = function(node, frame)
    local operand = compile(node.node, frame)
    return function(env) return not truth(operand(env)) end
end

function compilers.Cond(node, frame)
    frame = frame:soften()
    local test, yes, no = compile(node.test, frame), compile(node.yes, frame), node.no and compile(node.no, frame)
    local missing = value_of.undefined {
        hint = ("the inline if-expression on line %d evaluated to false and no else section was defined.")
            :format(node.line),
    }
    return function(env)
        if truth(test(env)) then return yes(env) end
        if no then return no(env) end
        return missing
    end
end

function compilers.Concat(node, frame)
    local parts = compile_all(node.nodes, frame)
    return function(env)
        local out = {}
        for i = 1, #parts do out[i] = show.str(parts[i](env)) end
        return text.concat(out, "")
    end
end

local function order_by(op)
    return function(a, b) return compare.order(op, a, b) end
end

local comparisons = {
    ["=="] = compare.equal,
    ["!="] = function(a, b) return not compare.equal(a, b) end,
    ["<"] = order_by "<", ["<="] = order_by "<=", [">"] = order_by ">", [">="] = order_by ">=",
    ["in"] = function(item, container) return compare.contains(container, item) end,
    ["not in"] = function(item, container) return not compare.contains(container, item) end,
}

-- a < b < c is a < b and b < c, with b evaluated once.
function compilers.Compare(node, frame)
    local first, others, operations = compile(node.node, frame), {}, {}
    for i, operand in ipairs(node.operands) do
        others[i], operations[i] = compile(operand.node, frame), comparisons[operand.op]
    end
    if #others == 1 then
        local second, operate = others[1], operations[1]
        return function(env) return operate(first(env), second(env)) end
    end
    return function(env)
        local left = first(env)
        for i = 1, #others do
            local right = others[i](env)
            if not operations[i](left, right) then return false end
            left = right
        end
        return true
    end
end

-- ---- Attributes, items, slices -------------------------------------------------------------------------------------

function compilers.Getattr(node, frame)
    local object, name = compile(node.node, frame), node.attr
    return function(env) return access.getattr(object(env), name) end
end

function compilers.Getitem(node, frame)
    local object, arg = compile(node.node, frame), node.arg
    if arg.kind ~= "Slice" then
        local key = compile(arg, frame)
        return function(env) return access.getitem(object(env), key(env)) end
    end
    local function bound(part) -- None is the same as nothing
        return part and compile(part, frame) or function() return value_of.None end
    end
    local start, stop, step = bound(arg.start), bound(arg.stop), bound(arg.step)
    return function(env) return access.slice(object(env), start(env), stop(env), step(env)) end
end

-- A slice among several items, as in x[1:2, 3]: a tuple of slices is no key of anything.
function compilers.Slice(node)
    return function() return run.fail("line %d: a slice stands alone in its brackets", node.line) end
end

-- ---- Calls ---------------------------------------------------------------------------------------------------------

local function text_key(key)
    local name = value_of.text(key)
    if not name then run.fail "keywords must be strings" end
    return name
end

-- Compiles the arguments of a call: a function that gives the list and the dictionary, or nil for an empty one.
-- `extra` is nil, or gives more named arguments.
local function compile_arguments(node, frame, extra)
    local args, names, values = compile_all(node.args, frame), {}, {}
    for i, keyword in ipairs(node.kwargs) do
        names[i], values[i] = keyword.name, compile(keyword.value, frame)
    end
    local more, more_named = node.dyn_args and compile(node.dyn_args, frame),
        node.dyn_kwargs and compile(node.dyn_kwargs, frame)
    return function(env)
        local list, dict = {}, nil
        for i = 1, #args do list[i] = args[i](env) end
        for item in more and sequence.iterate(more(env)) or function() end do
            run.charge(1)
            list[#list + 1] = item
        end
        if #names > 0 or more_named or extra then dict = value_of.dict() end
        for i = 1, #names do value_of.dict_set(dict, names[i], values[i](env)) end
        if more_named then
            local named = more_named(env)
            if value_of.kind(named) ~= "dict" then
                run.fail("argument after ** must be a mapping, not %s", value_of.type_name(named))
            end
            for _, key in ipairs(named.keys) do
                value_of.dict_set(dict, text_key(key), value_of.dict_get(named, key))
            end
        end
        if extra then extra(env, dict) end
        return list, dict
    end
end

--- Compiles a call; `extra` as above.
function M.call(node, frame, extra)
    local callee, arguments = compile(node.node, frame), compile_arguments(node, frame, extra)
    return function(env)
        local value = callee(env)
        return call.call(value, arguments(env))
    end
end

function compilers.Call(node, frame) return M.call(node, frame) end

-- Makes the compiler of filters or tests.
local function applying(library, what)
    return function(node, frame)
        local row, name = library[node.name], node.name
        if not row then
            if not frame.soft then run.syntax(node.line, "No %s named '%s'.", what, name) end
            return function() return run.fail("No %s named '%s' found.", what, name) end
        end
        local value, arguments = compile(node.node, frame), compile_arguments(node, frame)
        if #node.args + #node.kwargs == 0 and not node.dyn_args and not node.dyn_kwargs then
            local none = {}
            return function(env) return call.row_call(row, value(env), name, none) end
        end
        return function(env)
            local receiver = value(env)
            return call.row_call(row, receiver, name, arguments(env))
        end
    end
end

compilers.Filter, compilers.Test = applying(filters, "filter"), applying(tests, "test")

-- What a block captured, which its filters apply to.
function compilers.Captured()
    return function(env) return env.state.captured end
end

function compile(node, frame)
    M.count = M.count + 1
    return compilers[node.kind](node, frame)
end

--- Compiles an expression that stands in a frame.
M.compile = compile

return M
