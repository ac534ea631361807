--- EasySteer's steering specs in JSON: {"vectors": [{source | data, algorithm, scale, layers, normalize, apply}],
-- "conflict": "priority" | "sequential" | "error"}, as its servers take them.
--
-- h is a row, v the vector, s the scale:
--   direct           h + s*v                       erase    h - (h.v/|v|^2)*v
--   replace          s*v                           loreft   h + s*R'(W h + b - R h)
--   lm_steer         h + s*P2 P1'h                 linear   s*(W h + b), W less the identity of rank 64 at most
--   concept_replace  h + (h.h1/|h1|^2)*(h2 - h1)
-- normalize gives the row the norm that it had. source is a GGUF file of control vectors, data the tensors themselves.
local check = require "steer.core.check"
local error_object = require "steer.core.error"
local exists = require("steer.core.durable").exists
local file = require "steer.io._file"
local gguf = require "steer.io.gguf"
local scope = require "steer.formats.easysteer_scope"
local wire = require "steer.formats.easysteer_data"
local tables = require "steer.core.tables"

local M = {}

local MAX_VECTORS = 64
local FIELDS = {
    source = "string", data = "table", algorithm = "string", scale = "number", layers = "table", normalize = "boolean",
    apply = "table", params = "table", name = "string",
}

-- What records the algorithms make of a payload, for a layer; the first is the kind of data that they take.
local algorithms = {
    direct = { "direction", function(data, scale) return { op = "add", vector = data.vector, scale = scale } end },
    erase = { "direction", function(data, scale)
        return { op = "ablate", vector = data.vector, scale = scale == 0 and 1 or 0 }
    end },
    replace = { "direction", function(data, scale) return { op = "replace", vector = data.vector, scale = scale } end },
    loreft = { "reft", function(data, scale)
        return { op = "loreft", rotate = data.rotate_layer:transpose(1, 2):contiguous(), orthonormal = false,
            scale = scale, weight = data.learned_source_weight, bias = data.learned_source_bias }
    end },
    linear = { "linear", function(data, scale)
        return { op = "linear", matrix = data.weight * scale, bias = data.bias and data.bias * scale }
    end },
    lm_steer = { "lowrank", function(data, scale)
        return { op = "affine", read = data.projector1:transpose(1, 2):contiguous(),
            write = data.projector2:transpose(1, 2):contiguous(), scale = scale }
    end },
    concept_replace = { "concept_pair", function(data)
        local h1, n = data.h1, data.h1:numel()
        return { op = "affine", read = (h1 / h1:dot(h1)):reshape(1, n), write = (data.h2 - h1):reshape(1, n) }
    end },
}

local function present(value) -- null is read as NaN
    if value == value then return value end
    return nil
end

-- An object of the file without its nulls, each of its fields of the type that it must have.
local function fields(map, what, value, known)
    local checked = {}
    if type(value) ~= "table" then map:fail("%s: expected an object", what) end
    for _, key in ipairs(tables.keys(value)) do
        local field = present(value[key])
        if not known[key] then map:fail("%s: the field %s is not known", what, file.quote(tostring(key))) end
        if field ~= nil and type(field) ~= known[key] then
            map:fail("%s.%s: expected a %s, found %s", what, key, known[key], check.describe(field))
        end
        checked[key] = field
    end
    return checked
end

local function read_layers(map, what, list)
    if not list then return nil end
    local wanted = {}
    for i, layer in ipairs(list) do
        if type(layer) ~= "number" or layer % 1 ~= 0 or layer < 0 or layer > 1023 then
            map:fail("%s.layers: element %d is no layer from 0 to 1023", what, i)
        end
        wanted[layer] = true
    end
    if tables.first(wanted) == nil then map:fail("%s.layers: expected a list of layers", what) end
    return wanted
end

-- The path of a source: beside the file, or as it is.
local function find_source(map, what, source)
    if source:find "%z" then map:fail("%s.source: has a zero byte in it", what) end
    local beside = source:sub(1, 1) ~= "/" and (map.path:match "^(.*/)" or "") .. source
    for _, path in ipairs { beside or source, source } do
        if exists(path) then return path end
    end
    return error(error_object.new("not_found", "load", ("%s: %s.source: there is no %s"):format(map.path, what,
        file.quote(source))), 0)
end

-- Layer -> payload of a GGUF file.
local function read_source(map, what, vector)
    local algorithm = algorithms[vector.algorithm]
    if algorithm[1] ~= "direction" then
        map:refuse("%s: the source of %s: expected its tensors under data", what, vector.algorithm)
    end
    local path = find_source(map, what, vector.source)
    local source = file.open(path)
    if require("steer.io").content_kind(source) ~= "gguf" then source:fail "it is no GGUF file" end
    local vectors, _, stated = gguf.read(source, {})
    if stated and stated.mode == "project" then
        source:refuse("it is a GLP file that projects: %s of %s would do something else", vector.algorithm, what)
    end
    local payloads = {}
    for _, layer in ipairs(tables.keys(vectors)) do payloads[layer] = { vector = vectors[layer]:to "f32" } end
    return payloads
end

local function read_vector(map, what, value)
    local vector = fields(map, what, value, FIELDS)
    vector.algorithm = vector.algorithm or "direct"
    if vector.algorithm == "moe_router" then
        map:refuse("%s: algorithm moe_router chooses experts, not hidden states: Steer has nothing like it", what)
    end
    local algorithm = algorithms[vector.algorithm]
    if not algorithm then map:fail("%s: algorithm %s is not known", what, file.quote(vector.algorithm)) end
    if vector.params and tables.first(vector.params) ~= nil then
        map:fail("%s.params: %s takes none", what, vector.algorithm)
    end
    if (vector.source == nil) == (vector.data == nil) then map:fail("%s: expected one of source and data", what) end
    if not vector.apply then map:fail("%s.apply: missing: it says on which tokens to act", what) end
    local wanted = read_layers(map, what, vector.layers)
    local payloads = vector.source and read_source(map, what, vector)
        or wire.read(map, what .. ".data", vector.data, algorithm[1], wanted)
    local where, exclude = scope.read(map, what .. ".apply", vector.apply)
    local records = {}
    for _, layer in ipairs(tables.keys(payloads)) do
        if not wanted or wanted[layer] then
            local record = algorithm[2](payloads[layer], vector.scale or 1)
            record.layer, record.where, record.exclude = layer, where, exclude
            records[#records + 1] = record
            if vector.normalize then
                records[#records + 1] = { layer = layer, op = "keep_norm", where = where, exclude = exclude }
            end
        end
    end
    if #records == 0 then map:fail("%s: it has a payload for none of its layers", what) end
    return records, vector
end

-- Raises where vectors meet on a layer in a way that operations in a row do not have.
local function check_conflicts(map, conflict, layers)
    for _, layer in ipairs(tables.keys(layers)) do
        local there = layers[layer]
        if there.count > 1 and conflict ~= "sequential" then
            map:refuse("conflict %s: %d vectors act on layer %d; Steer applies one after the other, which is "
                .. "\"sequential\"", file.quote(conflict), there.count, layer)
        elseif there.count > 1 and there.normalize then
            map:refuse("normalize: %d vectors act on layer %d, and each would keep the norm of the one before",
                there.count, layer)
        end
    end
end

--- Reads what the JSON of a mapped file says.
-- @treturn table what open.lua makes a spec of
function M.read(map, value)
    local known = { vectors = "table", conflict = "string", debug = "boolean" }
    local spec = fields(map, "the spec", value, known)
    local conflict = spec.conflict or "priority"
    if conflict ~= "priority" and conflict ~= "sequential" and conflict ~= "error" then
        map:fail("conflict: %s, expected priority, sequential or error", file.quote(conflict))
    end
    if #spec.vectors == 0 or #spec.vectors > MAX_VECTORS then
        map:fail("vectors: expected a list of 1 to %d", MAX_VECTORS)
    end
    local records, layers, words = {}, {}, {}
    for i, item in ipairs(spec.vectors) do
        local made, vector = read_vector(map, ("vectors[%d]"):format(i - 1), item)
        words[i] = vector.algorithm .. (vector.normalize and " (norm kept)" or "")
        for _, record in ipairs(made) do
            records[#records + 1] = record
            local there = layers[record.layer] or { count = 0 }
            if record.op ~= "keep_norm" then there.count = there.count + 1 else there.normalize = true end
            layers[record.layer] = there
        end
    end
    check_conflicts(map, conflict, layers)
    return {
        format = "a steering spec of EasySteer", records = records, states_operation = true,
        layers = "direction.N acts after layer N, as in EasySteer", operation = table.concat(words, ", then "),
        strength = "as the file says",
        tokens = "as the file says; a position beyond the end of a prompt selects nothing, not its last token",
    }
end

return M
