--- Compiles a template: its text to the function that renders it.
local checks = require "steer.jinja.checks"
local evaluate = require "steer.jinja.evaluate"
local parser = require "steer.jinja.parser"
local run = require "steer.jinja.run"
local scope = require "steer.jinja.scope"
local show = require "steer.jinja.show"
local statements = require "steer.jinja.statements"
local value_of = require "steer.jinja.value"
local tables = require "steer.core.tables"
require "steer.jinja.compile_loops"
require "steer.jinja.compile_macros"

local compilers, expression, truth = statements.compilers, evaluate.compile, value_of.truth
local M = {}

function compilers.Output(node, frame)
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
            statements.write(env.state, part)
        end
    end
end

compilers["If"] = function(node, frame)
    frame = frame:soften()
    local tests, bodies, lines = {}, {}, {}
    local before, nested = evaluate.count, 0
    local function add(test, body, line)
        tests[#tests + 1], lines[#lines + 1] = test and expression(test, frame) or false, line
        local at = evaluate.count
        bodies[#bodies + 1] = statements.body(body, frame)
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

-- ---- Assignments ---------------------------------------------------------------------------------------------------

function compilers.Set(node, frame)
    local before = evaluate.count
    local value, assign, line = expression(node.value, frame), statements.target(node.target, frame), node.line
    local cost = evaluate.count - before + 1
    return function(env)
        run.charge(cost)
        run.line = line
        assign(env, value(env))
    end
end

-- Compiles a body that is captured, and the filters that it goes through: fn(env) gives the value, or nil and how the
-- body ended where it did not reach its end.
local function captured(node, frame)
    local inner = frame:inner()
    inner:analyze(node.body)
    inner:analyze { node.filter }
    local enter, body = statements.entry(inner), statements.body(node.body, inner)
    local filter = expression(node.filter, inner)
    return function(env)
        run.charge(1)
        enter(env)
        local text, ended = statements.capture(env, body)
        if ended then return nil, ended end
        run.line = node.line
        env.state.captured = text
        return filter(env)
    end
end

function compilers.SetBlock(node, frame)
    local value, assign = captured(node, frame), statements.target(node.target, frame)
    return function(env)
        local result, ended = value(env)
        if ended then return ended end
        assign(env, result)
    end
end

function compilers.FilterBlock(node, frame)
    local value = captured(node, frame)
    return function(env)
        local result, ended = value(env)
        if ended then return ended end
        statements.write(env.state, show.str(result))
    end
end

-- ---- Blocks --------------------------------------------------------------------------------------------------------

compilers["With"] = function(node, frame)
    local inner = frame:inner()
    inner:analyze(node.targets)
    inner:analyze(node.body)
    local values, assigns = {}, {}
    for i, value in ipairs(node.values) do
        values[i], assigns[i] = expression(value, frame), statements.target(node.targets[i], inner)
    end
    local enter, body = statements.entry(inner), statements.body(node.body, inner)
    return function(env)
        run.charge(1 + #values)
        run.line = node.line
        enter(env)
        for i = 1, #values do assigns[i](env, values[i](env)) end
        return body(env)
    end
end

function compilers.Scope(node, frame)
    local inner = frame:inner()
    inner:analyze(node.body)
    local enter, body = statements.entry(inner), statements.body(node.body, inner)
    return function(env)
        enter(env)
        return body(env)
    end
end

-- A block sees the variables and what the top level has set, not the names around it unless it is scoped.
function compilers.Block(node, frame)
    local inner = scope.new_frame(nil, scope.new_function())
    inner:analyze(node.body)
    local enter, body, outer = statements.entry(inner), statements.body(node.body, inner), {}
    local at = node.scoped and frame or nil
    while at do
        for _, name in ipairs(tables.keys(at.stores)) do
            if not outer[name] then outer[name] = { frame:find(name) } end
        end
        at = at.parent
    end
    local names = tables.keys(outer)
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

-- ---- Templates -----------------------------------------------------------------------------------------------------

--- Compiles the text of a template.
-- @return function(given) that renders it with a table from names to values
-- @raise format
function M.compile(source)
    local list = parser.parse(source)
    checks.check(list)
    local frame = scope.new_frame(nil, scope.new_function())
    frame.toplevel = true
    frame:analyze(list)
    local enter, body = statements.entry(frame), statements.body(list, frame)
    return function(given)
        local state = { out = {}, given = given, vars = {} }
        local env = { state = state }
        enter(env)
        body(env)
        return table.concat(state.out)
    end
end

return M
