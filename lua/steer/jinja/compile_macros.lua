--- Compiles macros and call blocks.
local evaluate = require "steer.jinja.evaluate"
local run = require "steer.jinja.run"
local scope = require "steer.jinja.scope"
local show = require "steer.jinja.show"
local statements = require "steer.jinja.statements"
local value_of = require "steer.jinja.value"

local compilers, expression = statements.compilers, evaluate.compile

local SPECIAL = { "caller", "kwargs", "varargs" }
local special_set = { caller = true, kwargs = true, varargs = true }

-- Declares the parameters of a macro: names of its own, and of those that Jinja gives where the body asks for them.
local function declare_parameters(node, inner)
    local own = {}
    for i, arg in ipairs(node.args) do
        inner:declare(arg.name)
        own[arg.name] = i
    end
    local wanted = scope.undeclared(node.body, special_set)
    if wanted.caller and own.caller and own.caller <= #node.args - #node.defaults then
        run.syntax(node.line, 'the argument "caller" must be omitted or be given a default')
    end
    for _, name in ipairs(SPECIAL) do
        wanted[name] = wanted[name] and not own[name]
        if wanted[name] then inner:declare(name) end
    end
    return wanted
end

-- Puts the arguments of a call into the slots of a macro's environment.
local function bind(macro, env, args, kwargs)
    local count, named = #macro.arguments, {}
    for _, key in ipairs(kwargs and kwargs.keys or {}) do named[#named + 1] = key end
    local used = {}
    for i, name in ipairs(macro.arguments) do
        local value = args[i]
        if value == nil and kwargs then
            value = kwargs.map[name]
            used[name] = value ~= nil
        end
        env[macro.slots[name]] = value
    end
    local wanted = macro.wanted
    if wanted.caller then
        local caller = kwargs and kwargs.map.caller
        used.caller = caller ~= nil
        if caller == nil or caller == value_of.None then
            caller = value_of.undefined { name = "caller", hint = "No caller defined" }
        end
        env[macro.slots.caller] = caller
    end
    local rest = value_of.dict()
    for _, key in ipairs(named) do
        if not used[key] then
            if not wanted.kwargs then
                run.fail("macro '%s' takes no keyword argument '%s'", macro.name or "caller", key)
            end
            value_of.dict_set(rest, key, kwargs.map[key])
        end
    end
    if wanted.kwargs then env[macro.slots.kwargs] = rest end
    if wanted.varargs then
        local more = {}
        for i = count + 1, #args do more[#more + 1] = args[i] end
        env[macro.slots.varargs] = value_of.tuple(more)
    elseif #args > count then
        run.fail("macro '%s' takes not more than %d argument(s)", macro.name or "caller", count)
    end
end

local function call_macro(macro, args, kwargs)
    local env = { up = macro.env, state = macro.env.state }
    local line = run.line
    run.charge(1 + #args)
    run.enter(macro.levels)
    bind(macro, env, args, kwargs)
    local text = statements.capture(env, macro.body)
    run.leave(macro.levels)
    run.line = line
    return text
end

-- Compiles a macro or the body of a call block: fn(env) makes it.
local function macro_maker(node, frame)
    local inner = frame:inner(true)
    local wanted = declare_parameters(node, inner)
    inner:analyze(node.defaults)
    inner:analyze(node.body)
    local names, slots = {}, inner.slots
    for i, arg in ipairs(node.args) do names[i] = arg.name end
    local defaults, first = {}, #node.args - #node.defaults
    for i, default in ipairs(node.defaults) do defaults[first + i] = expression(default, inner) end
    local enter, statements_of = statements.entry(inner), statements.body(node.body, inner)
    local function body(env)
        enter(env)
        for i = 1, #names do
            local slot = slots[names[i]]
            if env[slot] == nil and defaults[i] then
                env[slot] = defaults[i](env)
            elseif env[slot] == nil then
                env[slot] = value_of.undefined { hint = ("parameter '%s' was not provided"):format(names[i]) }
            end
        end
        statements_of(env)
    end
    return function(env)
        return value_of.new("macro", {
            name = node.name, arguments = names, slots = slots, wanted = wanted, env = env, body = body,
            levels = node.depth, call = call_macro,
        })
    end
end

function compilers.Macro(node, frame)
    local make, assign = macro_maker(node, frame), statements.target({ kind = "Name", name = node.name }, frame)
    return function(env)
        run.charge(1)
        assign(env, make(env))
    end
end

function compilers.CallBlock(node, frame)
    local make = macro_maker(node, frame)
    local before = evaluate.count
    local result = evaluate.call(node.call, frame, function(env, kwargs)
        value_of.dict_set(kwargs, "caller", make(env))
    end)
    local cost = evaluate.count - before + 1
    return function(env)
        run.charge(cost)
        run.line = node.line
        statements.write(env.state, show.str(result(env)))
    end
end
