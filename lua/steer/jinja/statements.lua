--- What the compilers of statements share: a compiler makes a closure out of a node and its frame; fn(env) runs the
-- statement, and gives "break" or "continue" where it ends the body that it is in.
--
-- env.state is the render's: out (the texts written so far), given (variables), vars (what the top level has set) and
-- captured (see evaluate.lua).
local evaluate = require "steer.jinja.evaluate"
local globals = require "steer.jinja.globals"
local run = require "steer.jinja.run"
local sequence = require "steer.jinja.sequence"
local value_of = require "steer.jinja.value"
local tables = require "steer.core.tables"

local M = {}

--- Kind of a node -> its compiler; the modules beside this one fill it.
M.compilers = {}

-- ---- Frames and targets --------------------------------------------------------------------------------------------

local function resolve(state, name)
    local value = state.vars[name]
    if value == nil then value = state.given[name] end
    if value == nil then value = globals.functions[name] end
    return value
end

--- Makes a function that gives the names of a frame what they begin with: fn(env).
function M.entry(frame)
    local steps = {}
    local names = tables.keys(frame.loads)
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

local function tuple_target(node, frame)
    local parts = {}
    for i, item in ipairs(node.items) do parts[i] = M.target(item, frame) end
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

--- Makes a function that assigns to a target: fn(env, value).
function M.target(node, frame) return targets[node.kind](node, frame) end

-- ---- Running ------------------------------------------------------------------------------------------------------

--- Writes a text.
function M.write(state, text)
    run.charge_text(#text)
    local out = state.out
    out[#out + 1] = text
end

--- Runs body(env) and gives what it wrote, and how it ended.
function M.capture(env, body)
    local state = env.state
    local out = state.out
    state.out = {}
    local ended = body(env)
    local text = table.concat(state.out)
    state.out = out
    return text, ended
end

--- Compiles the statements of a list, which stand in a frame.
function M.body(list, frame)
    local compiled = {}
    for i, node in ipairs(list) do compiled[i] = M.compilers[node.kind](node, frame) end
    local n = #compiled
    if n == 1 then return compiled[1] end
    return function(env)
        for i = 1, n do
            local ended = compiled[i](env)
            if ended then return ended end
        end
    end
end

return M
