--- Folders of pyreft (and of EasySteer's copy of it): config.json with a representation for each intervention, whose
-- tensors are in intkey_NAME.bin.
--
-- With R' the transpose of R, which is orthonormal, and W, b, P and c learned:
--   LoReFT    h + R'(W h + b - R h)         NoReFT    h + P'(W h + b - P h - c)
--   DiReFT    h + R'(W h + b)               NodiReFT  h + P'(W h + b)
--   ConsReFT  h + R'(b - R h)               LobiReFT  h + R'b                 bias  h + b
-- (Wu and others 2024, and variants in pyreft). bias is EasySteer's.
-- block_output of layer N is after layer N, block_input after layer N - 1. On which tokens an intervention acts is
-- given when a model runs, and is in no file; neither are activation functions, which are taken to be none.
local json = require "steer.core.json"
local file = require "steer.io._file"
local orthogonal = require "steer.formats.orthogonal"
local pt = require "steer.io.pt"
local tables = require "steer.core.tables"

local M = {}

local MAX_CONFIG = 2 ^ 24 -- bytes
local MAX_INTERVENTIONS = 4096
local MAX_RANK = 64

-- Fields of a representation where it is a list; the others do not change what is computed.
local FIELDS = { layer = 1, component = 2, unit = 3, max_number_of_units = 4, subspace_partition = 8, moe_key = 11 }

-- ---- Tensors of a file ---------------------------------------------------------------------------------------------

local State = {}
State.__index = State

-- What there is, for messages.
function State:names()
    local names = {}
    for i, name in ipairs(tables.keys(self.tensors)) do names[i] = file.quote(tostring(name)) end
    table.sort(names)
    return #names > 0 and table.concat(names, ", ", 1, math.min(#names, 8)) or "nothing"
end

-- The tensor of this name: f32, of this shape, where 0 is any size.
function State:get(name, ...)
    local tensor, shape = self.tensors[name], { ... }
    if tensor == nil then
        self.map:fail("there is no %s, which %s has; it has %s", name, self.class, self:names())
    end
    local fits = file.is_tensor(tensor) and tensor.ndim == #shape
    for i = 1, fits and #shape or 0 do fits = fits and (shape[i] == 0 or tensor:size(i) == shape[i]) end
    if not fits then
        self.map:fail("%s: %s, expected a tensor %s", name, file.is_tensor(tensor) and file.shape_text(tensor:shape())
            or "no tensor", (file.shape_text(shape):gsub("%f[%d]0%f[%D]", "?")))
    end
    if tensor:numel() == 0 then self.map:fail("%s has no elements", name) end
    return tensor:to("f32")
end

function State:has(name) return self.tensors[name] ~= nil end

-- R as rows [rank, hidden].
function State:rotation()
    if self:has "rotate_layer" then return self:get("rotate_layer", 0, 0):transpose(1, 2):contiguous() end
    local name = "rotate_layer.parametrizations.weight."
    local base = self:has(name .. "0.base") and self:get(name .. "0.base", 0, 0)
    return orthogonal.rows(self.map, self:get(name .. "original", 0, 0), base or nil)
end

-- W and b; LoReFT writes them without the name of their layer.
function State:source(rank, hidden)
    local prefix = self:has "weight" and "" or "learned_source."
    local bias = self:has(prefix .. "bias") and self:get(prefix .. "bias", rank) or nil
    return self:get(prefix .. "weight", rank, hidden), bias
end

-- Interventions by the name of their class: what they are called, what they do, and a record of a file's tensors.
local classes = {
    LoreftIntervention = { "LoReFT", "h + R'(W h + b - R h)", function(state)
        local r = state:rotation()
        local w, b = state:source(r:size(1), r:size(2))
        return { op = "loreft", rotate = r, weight = w, bias = b }
    end },
    DireftIntervention = { "DiReFT", "h + R'(W h + b)", function(state)
        local r = state:rotation()
        local w, b = state:source(r:size(1), r:size(2))
        return { op = "direft", rotate = r, weight = w, bias = b }
    end },
    ConsreftIntervention = { "ConsReFT", "h + R'(b - R h)", function(state)
        local r = state:rotation()
        return { op = "affine", read = -r, bias = state:get("learned_source", r:size(1)), write = r }
    end },
    LobireftIntervention = { "LobiReFT", "h + R'b", function(state)
        local r = state:rotation()
        return { op = "add", vector = state:get("learned_source", r:size(1)):matmul(r) }
    end },
    NoreftIntervention = { "NoReFT", "h + P'(W h + b - P h - c)", function(state)
        local p = state:get("proj_layer.weight", 0, 0)
        local w, b = state:source(p:size(1), p:size(2))
        local c = state:has "proj_layer.bias" and state:get("proj_layer.bias", p:size(1)) or nil
        return { op = "noreft", project = p, project_bias = c, weight = w, bias = b }
    end },
    NodireftIntervention = { "NodiReFT", "h + P'(W h + b)", function(state)
        local p = state:get("proj_layer.weight", 0, 0)
        local w, b = state:source(p:size(1), p:size(2))
        return { op = "direft", rotate = p, weight = w, bias = b }
    end },
    BiasIntervention = { "bias", "h + b", function(state) return { op = "add", vector = state:get("bias", 0) } end },
}

local function read_state(path, class)
    local map = file.open(path)
    local kind = require("steer.io").content_kind(map) -- names what is no file at all
    if map.size == 0 then map:fail "the file is empty" end
    if kind ~= "zip" then map:refuse "it is not an archive of torch.save (PyTorch 1.6 or later)" end
    local tensors = pt.read(map, {})
    if type(tensors) ~= "table" then map:fail "it holds no dict of tensors" end
    return setmetatable({ map = map, tensors = tensors, class = class }, State)
end

-- ---- The configuration ---------------------------------------------------------------------------------------------

local function present(value) -- null is read as NaN
    if value == value then return value end
    return nil
end

local function read_config(path)
    local map = file.open(path)
    require("steer.io").content_kind(map)
    if map.size > MAX_CONFIG then map:fail("%.0f bytes are above the limit of %d", map.size, MAX_CONFIG) end
    local config, problem = json.decode(map:bytes(0, map.size, "the text"))
    if type(config) ~= "table" then map:fail("not JSON: %s", problem or "expected an object") end
    local rows, types = config.representations, config.intervention_types
    if type(rows) ~= "table" or #rows == 0 or #rows > MAX_INTERVENTIONS then
        map:fail("representations: expected a list of 1 to %d, one for each intervention", MAX_INTERVENTIONS)
    end
    if type(types) ~= "table" or #types ~= #rows then
        map:fail("intervention_types: expected %d, as many as representations", #rows)
    end
    return map, rows, types
end

local function field(row, name) return present(row[FIELDS[name]] or row[name]) end

-- The layer of a component and where on it, as Steer names places: layer, site.
local function place(map, what, row)
    local layer, component = field(row, "layer"), field(row, "component")
    local named = type(component) == "string" and component:match "^model%.layers%[?%.?(%d+)%]?%.output$"
    if named and #named < 6 then return tonumber(named) end
    if type(layer) ~= "number" or layer % 1 ~= 0 or layer < 0 or layer > 1023 then
        map:fail("%s: layer %s, expected an integer from 0", what, tostring(layer))
    end
    if component == "block_output" then return layer end
    if component == "block_input" then
        if layer == 0 then return 0, "embed" end
        return layer - 1
    end
    return map:refuse("%s: component %s: Steer acts on the residual stream alone: block_output or block_input", what,
        file.quote(tostring(component)))
end

-- The name of an intervention's file.
local function file_name(map, what, row, seen)
    local component, unit, count = field(row, "component"), field(row, "unit"), field(row, "max_number_of_units")
    if unit ~= "pos" then map:refuse("%s: unit %s, expected pos (tokens)", what, file.quote(tostring(unit))) end
    if type(component) ~= "string" or component:find "[/%z]" or type(count) ~= "number" then
        map:fail("%s: a name of a component and a number of units expected", what)
    end
    local name = ("comp_%s_unit_pos_nunit_%d"):format(component:gsub("%.", "_"), count)
    if not component:find(".", 1, true) then name = ("layer_%d_%s"):format(field(row, "layer"), name) end
    seen[name] = (seen[name] or -1) + 1
    return ("intkey_%s#%d.bin"):format(name, seen[name])
end

local function read_intervention(folder, map, row, class, at, seen)
    local what = ("representation %d"):format(at)
    if type(row) ~= "table" then map:fail("%s: expected a list or an object", what) end
    for _, name in ipairs { "subspace_partition", "moe_key" } do
        if field(row, name) ~= nil then map:refuse("%s: %s: Steer has nothing like it", what, name) end
    end
    local layer, site = place(map, what, row)
    local state = read_state(folder .. "/" .. file_name(map, what, row, seen), class)
    local record = classes[class][3](state)
    local rows = record.rotate or record.project or record.write
    if rows and rows:size(1) > MAX_RANK then
        state.map:refuse("rank %d, at most %d is supported", rows:size(1), MAX_RANK)
    end
    record.layer, record.at = layer, site
    return record
end

--- The folder of interventions at or in a path, or nil.
function M.folder(path)
    local exists = require("steer.core.durable").exists
    for _, folder in ipairs { path, path .. "/intervenable_model" } do
        if exists(folder .. "/config.json") then return folder end
    end
end

--- Reads a folder.
-- @treturn table what open.lua makes a spec of
function M.read(folder)
    local map, rows, types = read_config(folder .. "/config.json")
    local records, seen, names, formulas, named = {}, {}, {}, {}, {}
    for at, row in ipairs(rows) do
        local class = type(types[at]) == "string" and types[at]:match "([%w_]+)'?>?$" or tostring(types[at])
        if not classes[class] then
            map:refuse("representation %d: an intervention of class %s; Steer knows those of pyreft (LoReFT, NoReFT, "
                .. "ConsReFT, LobiReFT, DiReFT, NodiReFT) and BiasIntervention", at, file.quote(class))
        end
        if not named[class] then
            names[#names + 1], formulas[#formulas + 1] = classes[class][1], classes[class][2]
            named[class] = true
        end
        records[at] = read_intervention(folder, map, row, class, at, seen)
    end
    return {
        format = "interventions of pyreft (" .. table.concat(names, ", ") .. ")", records = records,
        layers = "block_output of layer N is after layer N, block_input after layer N - 1", states_operation = true,
        operation = table.concat(formulas, "; ") .. ", without an activation function: assumed, the files do not say",
        strength = "1, as they were trained",
        tokens = "all: assumed, the files do not say which; the option where does",
    }
end

return M
