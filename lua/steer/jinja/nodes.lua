--- The nodes of a template's tree: tables with kind, line, the fields of their kind, and depth (levels below, with it).
local run = require "steer.jinja.run"

local M = {}

-- Kind -> fields that hold nodes or lists of nodes, in the order in which names are looked for.
local fields = {
    Output = { "nodes" }, If = { "test", "body", "elifs", "otherwise" },
    For = { "target", "iter", "body", "otherwise", "test" },
    Set = { "target", "value" }, SetBlock = { "target", "filter", "body" },
    Macro = { "args", "defaults", "body" }, CallBlock = { "call", "args", "defaults", "body" },
    FilterBlock = { "body", "filter" }, With = { "targets", "values", "body" }, Scope = { "body" },
    Block = { "body" },
    Tuple = { "items" }, List = { "items" }, Dict = { "items" }, Pair = { "key", "value" },
    Cond = { "test", "yes", "no" }, And = { "left", "right" }, Or = { "left", "right" }, Not = { "node" },
    Binary = { "left", "right" }, Unary = { "node" }, Concat = { "nodes" },
    Compare = { "node", "operands" }, Operand = { "node" },
    Getattr = { "node" }, Getitem = { "node", "arg" }, Slice = { "start", "stop", "step" },
    Call = { "node", "args", "kwargs", "dyn_args", "dyn_kwargs" },
    Filter = { "node", "args", "kwargs", "dyn_args", "dyn_kwargs" },
    Test = { "node", "args", "kwargs", "dyn_args", "dyn_kwargs" },
    Keyword = { "value" },
}

--- Calls visit(child) for the nodes right below a node.
function M.each_child(node, visit)
    for _, field in ipairs(fields[node.kind] or {}) do
        local child = node[field]
        if child and child.kind then
            visit(child)
        elseif child then
            for i = 1, #child do visit(child[i]) end
        end
    end
end

--- Makes a node out of its fields; a tree that is too deep is a fault of the template.
function M.new(kind, line, node)
    run.charge(1)
    node.kind, node.line = kind, line
    local depth = 0
    M.each_child(node, function(child) depth = math.max(depth, child.depth) end)
    node.depth = depth + 1
    if node.depth > run.MAX_NESTING then run.syntax(line, "the template is nested too deeply") end
    return node
end

return M
