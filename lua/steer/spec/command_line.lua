--- Steering as people write it on a command line, FILE [SCALE] [@LAYERS], and the spec that it means for a model.
local check = require "steer.core.check"
local formats = require "steer.formats.open"
local io_module = require "steer.io"
local specs = require "steer.spec"
local tensors = require "steer.tensor.object"
local tables = require "steer.core.tables"

local raise = require("steer.core.error").raise

local M = {}

--- How it is written, for usage texts.
M.FORM = "FILE [SCALE] [@LAYERS]"

local MOST_LAYER = 9999 -- a slip beyond it

local function read_layers(text)
    local layers = {}
    for part in text:gmatch "[^,]+" do
        local from, to = part:match "^(%d+)%-(%d+)$"
        from = tonumber(from or part:match "^%d+$")
        to = tonumber(to) or from
        if not from or to < from or to > MOST_LAYER then
            raise("invalid_argument", "steer", "@%s: expected layers such as @5 or @4,6-8", text)
        end
        for layer = from, to do layers[#layers + 1] = layer end
    end
    if #layers == 0 then raise("invalid_argument", "steer", "@%s: no layers", text) end
    return layers
end

--- Reads [SCALE] [@LAYERS] of a file, each at most once.
-- @treturn table path, scale (default 1), layers (nil: those of the file)
function M.read(path, rest)
    local given, scale = { path = path, scale = 1 }, nil
    for word in rest:gmatch "%S+" do
        local number = tonumber(word)
        if word:sub(1, 1) == "@" and not given.layers then
            given.layers = read_layers(word:sub(2))
        elseif not scale and number and number == number and math.abs(number) < math.huge then
            given.scale, scale = number, number
        else
            raise("invalid_argument", "steer", "%s: expected %s", check.describe(word), M.FORM)
        end
    end
    return given
end

--- Reads FILE [SCALE] [@LAYERS]; a FILE with spaces stands in quotes.
-- @treturn table as M.read gives
function M.parse(text)
    local path, rest = text:match '^%s*"([^"]+)"(.*)$'
    if not path then path, rest = text:match "^%s*(%S+)(.*)$" end
    if not path then raise("invalid_argument", "steer", "expected %s", M.FORM) end
    return M.read(path, rest)
end

--- Writes what M.parse gives as it would be given.
function M.text(given)
    local layers = given.layers and " @" .. table.concat(given.layers, ",") or ""
    return ("%s %g%s"):format(given.path, given.scale, layers)
end

-- Vectors by layer of what a file holds: tensors named by layer, [layers, hidden], or one vector for the given layers.
local function by_layer(lm, given, loaded)
    local found, plain, count = {}, nil, 0
    if tensors.is(loaded) then loaded = { [given.path] = loaded } end
    for _, name in ipairs(tables.keys(loaded)) do
        local tensor = loaded[name]
        local layer = type(name) == "number" and name
            or name ~= given.path and tonumber(name:match "(%d+)$") or nil
        if tensor.ndim == 1 and layer then
            found[layer] = tensor
        elseif tensor.ndim == 2 and tensor:size(1) == lm.layers then
            for l = 0, lm.layers - 1 do found[l] = tensor:select(1, l + 1) end
        elseif tensor.ndim == 1 then
            plain, count = tensor, count + 1
        end
    end
    if tables.first(found) ~= nil then return found end
    if count ~= 1 then
        raise("invalid_argument", "steer", "%s: it holds %d vectors without a layer in their names, expected one",
            given.path, count)
    end
    if not given.layers then
        raise("invalid_argument", "steer", "%s: one vector: say which layers, such as %s %g @%d", given.path,
            given.path, given.scale, math.floor(lm.layers / 2))
    end
    local vectors = {}
    for _, layer in ipairs(given.layers) do vectors[layer] = plain end
    return vectors
end

-- The spec, which must be one for the model: it is named where it is given, not where it would run first.
local function checked(lm, given, spec)
    if spec:hidden() ~= lm.hidden and not spec:is_empty() then
        raise("shape_mismatch", "steer", "%s: vectors of %d elements, the model's hidden size is %d", given.path,
            spec:hidden(), lm.hidden)
    end
    for _, layer in ipairs(spec:layers()) do
        if layer >= lm.layers then
            raise("invalid_argument", "steer", "%s: layer %d, the model has %d", given.path, layer, lm.layers)
        end
    end
    return spec
end

--- The spec of what a file of steering does, or that adds the vectors that another one holds.
-- @param lm model
-- @tparam table given what M.parse gives
function M.spec(lm, given)
    local kind = formats.kind(given.path)
    if kind == "spec" and (given.layers or given.scale ~= 1) then
        raise("invalid_argument", "steer", "%s: it is a spec, which has its own layers and scales", given.path)
    elseif kind then
        local opts = { layers = given.layers, scale = given.scale ~= 1 and given.scale or nil }
        return checked(lm, given, specs.load_spec(given.path, opts))
    end
    local vectors, layers = by_layer(lm, given, (io_module.load(given.path))), {}
    for _, layer in ipairs(given.layers or tables.keys(vectors)) do
        local vector = vectors[layer]
        if not vector then
            raise("invalid_argument", "steer", "%s: it has no vector for layer %d", given.path, layer)
        end
        layers[layer] = { specs.add(vector, given.scale) }
    end
    return checked(lm, given, specs.spec(layers))
end

return M
