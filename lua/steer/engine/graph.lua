--- Graphs of plans: the applies of many layers, captured once and replayed as one launch. Made by plan:graph.
local ffi = require "ffi"
local c = require "steer.core.c"
local check = require "steer.core.check"
local options = require "steer.core.options"
local tensors = require "steer.tensor.object"

local C = c.C
local raise = require("steer.core.error").raise

local M = {}

-- ---- Making --------------------------------------------------------------------------------------------------------

local Graph = {}
Graph.__index = Graph

local OPTIONS = { residual = true }
local graph_out = ffi.new("steer_plan_graph *[1]")
local stats_out = c.descriptor("steer_plan_graph_stats")

-- Layers of a list, as an array.
local function layer_array(layers)
    local count = check.list("plan_graph", "layers", layers, "a list of layers")
    local array = ffi.new("int32_t[?]", count)
    check.fill_int32("plan_graph", "layers", layers, count, array)
    return array, count
end

-- Handles of a list of `count` tensors, or of one tensor for all, as an array.
local function tensor_array(name, value, count)
    local array = ffi.new("steer_tensor *[?]", count)
    if tensors.is(value) then
        for i = 0, count - 1 do array[i] = tensors.use(value, "plan_graph", name) end
        return array
    end
    if check.list("plan_graph", name, value, "a tensor or a list of tensors") ~= count then
        raise("invalid_argument", "plan_graph", "%s: %d tensors for %d layers", name, #value, count)
    end
    for i = 1, count do array[i - 1] = tensors.use(value[i], "plan_graph", ("%s[%d]"):format(name, i)) end
    return array
end

local ARGUMENTS = { hidden = "tensors", residual = "opts.residual", layer = "layers" } -- by the library's names

--- Makes the graph of a plan, for plan:graph.
function M.graph(plan, layers, hiddens, opts)
    opts = options.check("plan_graph", opts, OPTIONS)
    local layer_list, count = layer_array(layers)
    local hidden_list = tensor_array("tensors", hiddens, count)
    local residual_list = opts.residual ~= nil and tensor_array("opts.residual", opts.residual, count) or nil
    c.alloc_as("plan_graph", ARGUMENTS, C.steer_plan_graph_create, graph_out, plan, count, layer_list, hidden_list,
        residual_list)
    local owned = c.own(graph_out[0], C.steer_plan_graph_release)
    return setmetatable({ handle = owned }, Graph)
end

-- ---- The object ----------------------------------------------------------------------------------------------------

-- Calls on a closed graph or without one end here.
local function no_graph(self, op)
    if getmetatable(self) ~= Graph then
        raise("invalid_argument", op, "self: expected a graph of a plan, got %s; methods are called with a colon, "
            .. "as in graph:launch()", check.describe(self))
    end
    return raise("closed", op, "graph: it is closed")
end

--- Steers the tensors of all layers with the batch that the plan has now, in the order of the device's stream.
-- One launch, which allocates nothing; after an update that left what was captured (more rows than were captured, or
-- programs that the captured kernels cannot run) the graph is captured anew first.
-- In a capture begun by somebody else, such as steer.bench.time with graph=true, the applies go into that one by one.
-- @return the graph
function Graph:launch()
    local handle = getmetatable(self) == Graph and self.handle or no_graph(self, "graph_launch")
    local status = C.steer_plan_graph_launch(handle)
    if status ~= 0 then c.check(c.retry(status, C.steer_plan_graph_launch, handle)) end
    return self
end

--- Counts what the graph holds and did.
-- @treturn table captured (false: launches run the applies one by one), layers, nodes (of the captured graph), rows
-- (captured rows of each apply), launches, captures, recaptures, why (reason of the last recapture or for not
-- capturing, or nil)
function Graph:stats()
    local handle = getmetatable(self) == Graph and self.handle or no_graph(self, "graph_stats")
    c.check(C.steer_plan_graph_get_stats(stats_out, handle))
    local why = ffi.string(stats_out.why)
    return {
        captured = stats_out.captured == 1, layers = stats_out.layers, nodes = stats_out.nodes,
        rows = tonumber(stats_out.rows), launches = tonumber(stats_out.launches),
        captures = tonumber(stats_out.captures), recaptures = tonumber(stats_out.recaptures),
        why = why ~= "" and why or nil,
    }
end

--- Frees the graph now; it keeps the plan and the tensors until then.
function Graph:close()
    if getmetatable(self) ~= Graph then no_graph(self, "graph_close") end
    if self.handle ~= nil then c.free(self.handle, C.steer_plan_graph_release) end
    self.handle = nil
end

function Graph:__tostring()
    if self.handle == nil then return "graph (closed)" end
    local stats = self:stats()
    local function counted(n, word, many) return ("%d %s"):format(n, n == 1 and word or many) end
    local text = ("graph: %s, %s"):format(counted(stats.layers, "layer", "layers"),
        counted(stats.launches, "launch", "launches"))
    if not stats.captured then return ("%s, applies one by one: %s"):format(text, stats.why or "not captured") end
    text = ("%s, captured for %d rows"):format(text, stats.rows)
    if stats.recaptures == 0 then return text end
    return ("%s, anew %s: %s"):format(text, counted(stats.recaptures, "time", "times"), stats.why)
end

return M
