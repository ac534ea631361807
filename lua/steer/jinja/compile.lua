--- Compiles a template's statements to closures: fn(env) runs one, and gives "break" or "continue" where it ends the body
-- that it is in.
--
-- env.state is the render's: out (the texts written so far), given (variables), vars (what the top level has set),
-- blocks, and captured (see evaluate.lua).
local checks = require "steer.jinja.checks"
local evaluate = require "steer.jinja.evaluate"
local globals = require "steer.jinja.globals"
local loop_value = require "steer.jinja.loop"
local parser = require "steer.jinja.parser"
local run = require "steer.jinja.run"
local scope = require "steer.jinja.scope"
local sequence = require "steer.jinja.sequence"
local show = require "steer.jinja.show"
local value_of = require "steer.jinja.value"
local walk = require "steer._walk"

local truth = value_of.truth
local expression = evaluate.compile
local M = {}

local compile_body -- below

-- ---- Frames and targets --------------------------------------------------------------------------------------------

local function resolve(state, name)
    local value = state.vars[name]
    if value == nil then value = state.given[name] end
    if value == nil then value = globals.functions[name] end
    return value
end

-- Makes a function that gives the names of a frame what they begin with.
local function entry(frame)
    local steps = {}
    local names = walk.keys(frame.loads)
    table.sort(names)
    for _, name in ipairs(names) do
        local slot, how = frame.slots[name], frame.loads[name]
        if how == "resolve" then
            steps[#steps + 1] = function(env) env[slot] = resolve(env.state, name) end
        elseif how == "undefined" then
            steps[#steps + 1] = function(env) env[slot] = nil end
        elseif how == "alias" then
            local outer, hops = frame.parent:find(name)
            local outwards = evaluate.outwards(hops + (frame.fn ~= frame.parent.fn and 1 or 0))
            steps[#steps + 1] = function(env) env[slot] = outwards(env)[outer] end
        end
    end
    return function(env)
        for i = 1, #steps do steps[i](env) end
    end
end

local function name_target(node, frame)
    local slot = frame:find(node.name)
    if not frame.toplevel then
        return function(env, value) env[slot] = value end
    end
    local name = node.name
    return function(env, value)
        env[slot] = value
        env.state.vars[name] = value
    end
end

local function namespace_target(node, frame)
    local slot, hops = frame:find(node.name)
    local outwards, name = evaluate.outwards(hops), node.attr
    return function(env, value)
        local namespace = outwards(env)[slot]
        if namespace == nil or value_of.kind(namespace) ~= "namespace" then
            run.fail "cannot assign attribute on non-namespace object"
        end
        value_of.dict_set(namespace.fields, name, value)
    end
end

local target -- below

local function tuple_target(node, frame)
    local parts = {}
    for i, item in ipairs(node.items) do parts[i] = target(item, frame) end
    local wanted = #parts
    return function(env, value)
        if not sequence.is_iterable(value) then
            run.fail("cannot unpack non-iterable %s object", value_of.type_name(value))
        end
        local list = sequence.elements(value)
        if #list < wanted then run.fail("not enough values to unpack (expected %d, got %d)", wanted, #list) end
        if #list > wanted then run.fail("too many values to unpack (expected %d)", wanted) end
        for i = 1, wanted do parts[i](env, list[i]) end
    end
end

local targets = { Name = name_target, NSRef = namespace_target, Tuple = tuple_target }

-- Makes a function that assigns: fn(env, value).
function target(node, frame) return targets[node.kind](node, frame) end

-- ---- Output --------------------------------------------------------------------------------------------------------

local function write(state, text)
    run.charge_text(#text)
    local out = state.out
    out[#out + 1] = text
end

-- Runs body(env) and gives what it wrote, and how it ended.
local function capture(env, body)
    local state = env.state
    local out = state.out
    state.out = {}
    local ended = body(env)
    local text = table.concat(state.out)
    state.out = out
    return text, ended
end

local statements = {}

function statements.Output(node, frame)
    local parts, lines = {}, {}
    local before = evaluate.count
    for i, item in ipairs(node.nodes) do
        parts[i] = item.kind == "Data" and item.text or expression(item, frame)
        lines[i] = item.line
    end
    local cost = evaluate.count - before + #parts
    return function(env)
        run.charge(cost)
        for i = 1, #parts do
            local part = parts[i]
            run.line = lines[i]
            if type(part) ~= "string" then part = show.str(part(env)) end
            write(env.state, part)
        end
    end
end

-- ---- Conditions and loops ------------------------------------------------------------------------------------------

statements["If"] = function(node, frame)
    frame = frame:soften()
    local tests, bodies, lines = {}, {}, {}
    local before, nested = evaluate.count, 0
    local function add(test, body, line)
        tests[#tests + 1], lines[#lines + 1] = test and expression(test, frame) or false, line
        local at = evaluate.count
        bodies[#bodies + 1] = compile_body(body, frame)
        nested = nested + evaluate.count - at
    end
    add(node.test, node.body, node.line)
    for _, elif in ipairs(node.elifs) do add(elif.test, elif.body, elif.line) end
    if node.otherwise then add(nil, node.otherwise, node.line) end
    local cost = evaluate.count - before - nested + #tests
    return function(env)
        run.charge(cost)
        for i = 1, #tests do
            run.line = lines[i]
            if not tests[i] or truth(tests[i](env)) then return bodies[i](env) end
        end
    end
end

-- The items of `source` that pass the test of a loop, which has a frame of its own.
local function passing(source, env, loop)
    loop.enter_test(env)
    local next_item = sequence.iterate(source)
    return function()
        for item in next_item do
            run.charge(loop.cost)
            loop.assign_tested(env, item)
            if truth(loop.test(env)) then return item end
        end
    end
end

-- Runs a loop over `source`; gives what ended it, where that is not its own.
local function run_loop(loop, env, source, depth0, again)
    local next_item = loop.test and passing(source, env, loop) or sequence.iterate(source)
    local context
    if loop.slot then context = loop_value.new(next_item, not loop.test and source or nil, depth0, again) end
    local finished = false
    while true do
        run.line = loop.line
        local item
        if context then item = context:advance() else item = next_item() end
        if item == nil then break end
        run.charge(1)
        loop.assign(env, item)
        if context then env[loop.slot] = context end
        loop.enter(env)
        local ended = loop.body(env)
        if ended == "break" then break end
        finished = finished or not ended
    end
    -- As in Jinja, only a body that reached its end counts as one that ran.
    if not finished and loop.otherwise then
        loop.enter_otherwise(env)
        return loop.otherwise(env)
    end
end

local LOOP = { loop = true }

-- Whether the body of a loop can see `loop`.
local function needs_loop(node)
    return node.recursive or scope.undeclared(node.body, LOOP).loop or checks.has_scoped_block(node)
end

-- Compiles the parts of a loop, whose frames are within `frame`, in a function of its own if it is recursive.
local function loop_parts(node, frame)
    local inner = frame:inner(node.recursive)
    local function sibling() return scope.new_frame(frame, inner.fn) end
    local loop = { line = node.line }
    if needs_loop(node) then inner:declare "loop" end
    inner:declare_target(node.target)
    inner:analyze(node.body)
    if node.test then
        local tested = sibling()
        tested:declare_target(node.target)
        tested:analyze { node.test }
        local before = evaluate.count
        loop.test, loop.assign_tested = expression(node.test, tested), target(node.target, tested)
        loop.enter_test, loop.cost = entry(tested), evaluate.count - before + 1
    end
    if node.otherwise then
        local other = sibling()
        other:analyze(node.otherwise)
        loop.enter_otherwise, loop.otherwise = entry(other), compile_body(node.otherwise, other)
    end
    loop.slot = inner.slots.loop
    loop.assign, loop.enter, loop.body = target(node.target, inner), entry(inner), compile_body(node.body, inner)
    return loop
end

statements["For"] = function(node, frame)
    local before = evaluate.count
    local source = expression(node.iter, frame)
    local cost = evaluate.count - before + 1
    local loop = loop_parts(node, frame)
    if not node.recursive then
        return function(env)
            run.charge(cost)
            run.line = node.line
            return run_loop(loop, env, source(env), 0)
        end
    end
    return function(env)
        run.charge(cost)
        run.line = node.line
        local function again(items, depth0)
            run.enter(node.depth)
            local text = capture({ up = env, state = env.state }, function(own)
                return run_loop(loop, own, items, depth0, again)
            end)
            run.leave(node.depth)
            return text
        end
        write(env.state, again(source(env), 0))
    end
end

statements["Break"] = function() return function() return "break" end end
statements["Continue"] = function() return function() return "continue" end end

-- ---- Assignments ---------------------------------------------------------------------------------------------------

function statements.Set(node, frame)
    local before = evaluate.count
    local value, assign, line = expression(node.value, frame), target(node.target, frame), node.line
    local cost = evaluate.count - before + 1
    return function(env)
        run.charge(cost)
        run.line = line
        assign(env, value(env))
    end
end

-- Compiles a body that is captured, and the filters that it goes through: fn(env) gives the value, nil and how the body
-- ended where it did not reach its end.
local function captured(node, frame)
    local inner = frame:inner()
    inner:analyze(node.body)
    inner:analyze { node.filter }
    local enter, body, filter = entry(inner), compile_body(node.body, inner), expression(node.filter, inner)
    return function(env)
        run.charge(1)
        enter(env)
        local text, ended = capture(env, body)
        if ended then return nil, ended end
        run.line = node.line
        env.state.captured = text
        return filter(env)
    end
end

function statements.SetBlock(node, frame)
    local value, assign = captured(node, frame), target(node.target, frame)
    return function(env)
        local result, ended = value(env)
        if ended then return ended end
        assign(env, result)
    end
end

function statements.FilterBlock(node, frame)
    local value = captured(node, frame)
    return function(env)
        local result, ended = value(env)
        if ended then return ended end
        write(env.state, show.str(result))
    end
end

-- ---- Blocks --------------------------------------------------------------------------------------------------------

statements["With"] = function(node, frame)
    local inner = frame:inner()
    inner:analyze(node.targets)
    inner:analyze(node.body)
    local values, assigns = {}, {}
    for i, value in ipairs(node.values) do
        values[i], assigns[i] = expression(value, frame), target(node.targets[i], inner)
    end
    local enter, body = entry(inner), compile_body(node.body, inner)
    return function(env)
        run.charge(1 + #values)
        run.line = node.line
        enter(env)
        for i = 1, #values do assigns[i](env, values[i](env)) end
        return body(env)
    end
end

function statements.Scope(node, frame)
    local inner = frame:inner()
    inner:analyze(node.body)
    local enter, body = entry(inner), compile_body(node.body, inner)
    return function(env)
        enter(env)
        return body(env)
    end
end

-- A block sees the variables and what the top level has set, not the names around it unless it is scoped.
function statements.Block(node, frame)
    local inner = scope.new_frame(nil, scope.new_function())
    inner:analyze(node.body)
    local enter, body, outer = entry(inner), compile_body(node.body, inner), {}
    local at = node.scoped and frame or nil
    while at do
        for _, name in ipairs(walk.keys(at.stores)) do
            if not outer[name] then outer[name] = { frame:find(name) } end
        end
        at = at.parent
    end
    local names = walk.keys(outer)
    return function(env)
        local state = env.state
        local vars = state.vars
        state.vars = setmetatable({}, { __index = vars })
        for _, name in ipairs(names) do
            state.vars[name] = evaluate.outwards(outer[name][2])(env)[outer[name][1]]
        end
        run.enter(node.depth)
        local own = { state = state }
        enter(own)
        body(own)
        run.leave(node.depth)
        state.vars = vars
    end
end

-- ---- Macros --------------------------------------------------------------------------------------------------------

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
    local text = capture(env, macro.body)
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
    local enter, statements_of = entry(inner), compile_body(node.body, inner)
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

function statements.Macro(node, frame)
    local make, assign = macro_maker(node, frame), name_target(node, frame)
    return function(env)
        run.charge(1)
        assign(env, make(env))
    end
end

function statements.CallBlock(node, frame)
    local make = macro_maker(node, frame)
    local before = evaluate.count
    local result = evaluate.call(node.call, frame, function(env, kwargs)
        value_of.dict_set(kwargs, "caller", make(env))
    end)
    local cost = evaluate.count - before + 1
    return function(env)
        run.charge(cost)
        run.line = node.line
        write(env.state, show.str(result(env)))
    end
end

-- ---- Templates -----------------------------------------------------------------------------------------------------

function compile_body(list, frame)
    local compiled = {}
    for i, node in ipairs(list) do compiled[i] = statements[node.kind](node, frame) end
    local n = #compiled
    if n == 1 then return compiled[1] end
    return function(env)
        for i = 1, n do
            local ended = compiled[i](env)
            if ended then return ended end
        end
    end
end

--- Compiles the text of a template.
-- @return function(given) that renders it with a table from names to values
-- @raise format
function M.compile(source)
    local list = parser.parse(source)
    checks.check(list)
    local frame = scope.new_frame(nil, scope.new_function())
    frame.toplevel = true
    frame:analyze(list)
    local enter, body = entry(frame), compile_body(list, frame)
    return function(given)
        local state = { out = {}, given = given, vars = {} }
        local env = { state = state }
        enter(env)
        body(env)
        return table.concat(state.out)
    end
end

return M
