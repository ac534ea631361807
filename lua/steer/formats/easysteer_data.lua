--- EasySteer's payloads in JSON:
--   {"version": 1, "kind": text, "tensors": {name: {"shape": [], "data": float32 in base64}}, "extra": {}}
local ffi = require "ffi"
local file = require "steer.io._file"
local tensors = require "steer.tensor"
local tables = require "steer.core.tables"

local M = {}

local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local codes = {}
for i = 1, 64 do codes[ALPHABET:byte(i)] = i - 1 end

-- Bytes of a base64 text, nil if it is none.
local function decode(text)
    local padding = #text:match "=*$"
    if #text % 4 ~= 0 or padding > 2 then return nil end
    local size, at = #text / 4 * 3 - padding, 0
    local out = ffi.new("uint8_t[?]", size + 3)
    for i = 1, #text, 4 do
        local word = 0
        for j = i, i + 3 do
            local code = codes[text:byte(j)] or j > #text - padding and 0
            if not code then return nil end
            word = word * 64 + code
        end
        out[at], out[at + 1], out[at + 2] = word / 65536, word / 256 % 256, word % 256
        at = at + 3
    end
    return out, size
end

local function read_tensor(map, what, value)
    if type(value) ~= "table" or type(value.shape) ~= "table" or type(value.data) ~= "string" or #value.shape == 0
        or #value.shape > 2 then
        map:fail("%s: expected a shape of one or two numbers and data in base64", what)
    end
    for _, size in ipairs(value.shape) do
        if type(size) ~= "number" or size % 1 ~= 0 or size < 1 or size > 2 ^ 24 then map:fail("%s: its shape", what) end
    end
    local bytes, size = decode(value.data)
    if not bytes then map:fail("%s: its data is not base64", what) end
    if map:check_shape(value.shape, 4, what) ~= size then
        map:fail("%s: %d bytes of data, its shape %s takes %.0f", what, size, file.shape_text(value.shape),
            map:check_shape(value.shape, 4, what))
    end
    local tensor = tensors.empty({ unpack(value.shape) }, { dtype = "f32", device = "cpu" })
    ffi.copy(tensor:data(), bytes, size)
    return tensor
end

-- Names of the tensors of each kind: dimensions; a pattern's capture is the layer, and the key is what it is called.
local kinds = {
    direction = { { "^layer%.(%d+)$", "vector", 1 } },
    concept_pair = { { "^h1%.layer%.(%d+)$", "h1", 1 }, { "^h2%.layer%.(%d+)$", "h2", 1 } },
    reft = { { "^rotate_layer$", "rotate_layer", 2 }, { "^learned_source_weight$", "learned_source_weight", 2 },
        { "^learned_source_bias$", "learned_source_bias", 1, optional = true } },
    linear = { { "^weight$", "weight", 2 }, { "^bias$", "bias", 1, optional = true } },
    lowrank = { { "^projector1$", "projector1", 2 }, { "^projector2$", "projector2", 2 } },
}

local function find_row(kind, name)
    for _, row in ipairs(kinds[kind]) do
        local layer = name:match(row[1])
        if layer then return row, #layer < 5 and tonumber(layer) or 0 end
    end
end

-- Raises unless the tensors of a payload fit each other.
local function check_payload(map, what, kind, payload)
    for _, row in ipairs(kinds[kind]) do
        if not payload[row[2]] and not row.optional then map:fail("%s: %s is missing", what, row[2]) end
    end
    local r, w, b = payload.rotate_layer, payload.learned_source_weight, payload.learned_source_bias
    local fits = true
    if kind == "reft" then
        fits = r:size(1) == w:size(2) and r:size(2) == w:size(1) and (not b or b:size(1) == w:size(1))
    elseif kind == "lowrank" then
        local p, q = payload.projector1, payload.projector2
        fits = p:size(1) == q:size(1) and p:size(2) == q:size(2)
    elseif kind == "linear" then
        w, b = payload.weight, payload.bias
        fits = w:size(1) == w:size(2) and (not b or b:size(1) == w:size(1))
    elseif kind == "concept_pair" then
        fits = payload.h1:size(1) == payload.h2:size(1) and payload.h1:norm() > 0
    end
    if not fits then map:fail("%s: the tensors do not fit each other", what) end
end

local function layers_of(map, what, extra, wanted)
    local stated = type(extra) == "table" and extra.layer
    if type(stated) == "number" and stated == stated then return { [stated] = true } end
    return wanted or map:fail("%s: it names no layers, expected a list of them beside it", what)
end

--- Reads a payload.
-- @tparam string kind what the algorithm takes
-- @tparam table wanted set of layers, or nil; where the payload names none it is for each of these
-- @treturn table layer -> {name = tensor}
function M.read(map, what, value, kind, wanted)
    if value.version ~= 1 then map:refuse("%s: version %s, expected 1", what, tostring(value.version)) end
    if value.kind ~= kind then map:fail("%s: kind %s, expected %s", what, tostring(value.kind), kind) end
    if type(value.tensors) ~= "table" then map:fail("%s: it has no tensors", what) end
    local found, by_layer = {}, kind == "direction" or kind == "concept_pair"
    for _, name in ipairs(tables.keys(value.tensors)) do
        local row, layer = find_row(kind, tostring(name))
        if not row then map:fail("%s: %s is not one of %s", what, file.quote(tostring(name)), kind) end
        local tensor = read_tensor(map, what .. "." .. name, value.tensors[name])
        if tensor.ndim ~= row[3] then map:fail("%s.%s: expected %d dimensions", what, name, row[3]) end
        layer = by_layer and layer or 0
        found[layer] = found[layer] or {}
        found[layer][row[2]] = tensor
    end
    if tables.first(found) == nil then map:fail("%s: it has no tensors", what) end
    for _, layer in ipairs(tables.keys(found)) do check_payload(map, what, kind, found[layer]) end
    if by_layer then return found end
    local all = {}
    for _, layer in ipairs(tables.keys(layers_of(map, what, value.extra, wanted))) do all[layer] = found[0] end
    return all
end

return M
