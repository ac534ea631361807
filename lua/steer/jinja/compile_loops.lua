--- Compiles loops.
local checks = require "steer.jinja.checks"
local evaluate = require "steer.jinja.evaluate"
local loop_value = require "steer.jinja.loop"
local run = require "steer.jinja.run"
local scope = require "steer.jinja.scope"
local sequence = require "steer.jinja.sequence"
local statements = require "steer.jinja.statements"
local value_of = require "steer.jinja.value"

local compilers, expression, truth = statements.compilers, evaluate.compile, value_of.truth

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
        loop.test, loop.assign_tested = expression(node.test, tested), statements.target(node.target, tested)
        loop.enter_test, loop.cost = statements.entry(tested), evaluate.count - before + 1
    end
    if node.otherwise then
        local other = sibling()
        other:analyze(node.otherwise)
        loop.enter_otherwise, loop.otherwise = statements.entry(other), statements.body(node.otherwise, other)
    end
    loop.slot = inner.slots.loop
    loop.assign, loop.enter = statements.target(node.target, inner), statements.entry(inner)
    loop.body = statements.body(node.body, inner)
    return loop
end

compilers["For"] = function(node, frame)
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
            local text = statements.capture({ up = env, state = env.state }, function(own)
                return run_loop(loop, own, items, depth0, again)
            end)
            run.leave(node.depth)
            return text
        end
        statements.write(env.state, again(source(env), 0))
    end
end

compilers["Break"] = function() return function() return "break" end end
compilers["Continue"] = function() return function() return "continue" end end
