--- What may stand where in a template: break and continue in loops alone, "loop" set by nobody.
local nodes = require "steer.jinja.nodes"
local run = require "steer.jinja.run"

local M = {}

local closed = { Macro = true, CallBlock = true, Block = true }
local jumps = { Break = "break", Continue = "continue" }

local function check(node, in_loop, in_any_loop)
    if jumps[node.kind] and not in_loop then
        run.syntax(node.line, "'%s' stands outside of a loop", jumps[node.kind])
    end
    if in_any_loop and node.kind == "Name" and node.ctx == "store" and node.name == "loop" then
        run.syntax(node.line, "can't assign to the special loop variable")
    end
    local is_loop = node.kind == "For"
    local inside = not (closed[node.kind] or node.closed) and (in_loop or is_loop)
    nodes.each_child(node, function(child) check(child, inside, in_any_loop or is_loop) end)
end

--- Tells whether there is a scoped block below a node.
function M.has_scoped_block(node)
    local found = node.kind == "Block" and node.scoped
    nodes.each_child(node, function(child) found = found or M.has_scoped_block(child) end)
    return found
end

--- Checks the statements of a template.
-- @raise format
function M.check(list)
    local blocks = {}
    local function find_blocks(node)
        if node.kind == "Block" then
            if blocks[node.name] then run.syntax(node.line, "block '%s' defined twice", node.name) end
            blocks[node.name] = true
        end
        nodes.each_child(node, find_blocks)
    end
    for _, node in ipairs(list) do
        find_blocks(node)
        check(node, false, false)
    end
end

return M
