--- What torch.save wrote: one direction, directions by layer, or the two projectors of LM-Steer.
--
-- LM-Steer (Han and others 2024) is h + s*P2 P1'h on the last hidden states, so on the last layer; its files say
-- neither the layer nor the strength s.
local check = require "steer.core.check"
local file = require "steer.io._file"
local pt = require "steer.io.pt"
local raise = require("steer.core.error").raise
local tables = require "steer.core.tables"

local M = {}

local function need_layers(map, opts, what)
    if not opts.layers then
        raise("invalid_argument", "load_spec", "opts.layers: %s is %s, which names no layer: expected a list of them",
            map.path, what)
    end
    return opts.layers
end

local function need_operation(map, opts, what)
    if not opts.op then
        raise("invalid_argument", "load_spec", 'opts.op: %s is %s, which names no operation: expected "add" or '
            .. '"ablate"', map.path, what)
    end
    return opts.op
end

-- The same record for each of the layers.
local function for_layers(layers, make)
    local records = {}
    for i, layer in ipairs(layers) do
        records[i] = make()
        records[i].layer = layer
    end
    return records
end

-- The two projectors, [hidden, rank] each.
local function read_projectors(map, value, opts)
    local one, two = value.projector1, value.projector2
    if not file.is_tensor(one) or not file.is_tensor(two) then map:fail "projector1, projector2: expected tensors" end
    if one.ndim == 3 then
        map:refuse("it has %d pairs of projectors, expected one: save projector1[i] and projector2[i]", one:size(1))
    end
    if one.ndim ~= 2 or two.ndim ~= 2 or one:size(1) ~= two:size(1) or one:size(2) ~= two:size(2) then
        map:fail("projector1, projector2: shapes %s and %s, expected two of [hidden, rank]",
            file.shape_text(one:shape()), file.shape_text(two:shape()))
    end
    local read, write = one:to("f32"):transpose(1, 2):contiguous(), two:to("f32"):transpose(1, 2):contiguous()
    return {
        format = "projectors of LM-Steer", operation = "h + P2 P1'h", states_operation = true,
        records = for_layers(need_layers(map, opts, "a pair of projectors"), function()
            return { op = "affine", read = read, write = write, scale = 1 }
        end),
        layers = "the option layers; LM-Steer's own is the last one",
    }
end

-- Vectors by layer, or by names that end in one.
local function read_vectors(map, value, opts)
    local records = {}
    for _, key in ipairs(tables.keys(value)) do
        local name = tostring(key)
        local layer = type(key) == "number" and key or #name < 100 and tonumber(name:match "(%d+)$")
        if not layer or not file.is_tensor(value[key]) or value[key].ndim ~= 1 then
            map:refuse("%s is not a vector named by its layer, and no steering that is known has it",
                file.quote(name))
        end
        records[#records + 1] = { layer = layer, op = need_operation(map, opts, "a dict of vectors"),
            vector = value[key] }
    end
    if #records == 0 then map:fail "it holds nothing" end
    return { format = "vectors (PyTorch)", records = records, layers = "their names end in the layer: assumed" }
end

--- Reads a mapped file.
-- @treturn table what open.lua makes a spec of
function M.read(map, opts)
    local value = pt.read(map, {})
    if file.is_tensor(value) then
        if value.ndim ~= 1 then map:refuse("a tensor %s, expected a vector", file.shape_text(value:shape())) end
        local op, layers = need_operation(map, opts, "one vector"), need_layers(map, opts, "one vector")
        local records = for_layers(layers, function() return { op = op, vector = value } end)
        return { format = "one vector (PyTorch)", layers = "the option layers", records = records }
    end
    if type(value) ~= "table" then map:refuse("it holds %s, expected vectors", check.describe(value)) end
    if type(value[2]) == "table" and value[2].projector1 then value = value[2] end -- (arguments, parameters, ...)
    if value.projector1 or value.projector2 then return read_projectors(map, value, opts) end
    if value.rotate_layer or value["learned_source.weight"] then
        map:refuse "it is an intervention of pyreft without its layer: open the folder with its config.json"
    end
    return read_vectors(map, value, opts)
end

return M
