--- The .svec format of IBM's activation-steering: JSON with a direction per layer.
--   {"model_type": text, "directions": {"15": [numbers]}, "explained_variances": {"15": number}}
local check = require "steer.core.check"
local file = require "steer.io._file"
local json = require "steer.core.json"
local raise = require("steer.core.error").raise
local tensors = require "steer.tensor"
local tables = require "steer.core.tables"

local M = {}

local MAX_BYTES = 2 ^ 28 -- of text: 80 layers of 8192 numbers take fifteen million
local MAX_LAYER = 1023

-- Key of an object -> layer.
local function read_layer(map, what, key)
    local layer = type(key) == "string" and key:find "^%d+$" and #key <= 6 and tonumber(key)
    if not layer or layer > MAX_LAYER then
        map:fail("%s: the key %s is not a layer from 0 to %d", what, file.quote(tostring(key)), MAX_LAYER)
    end
    return layer
end

local function check_object(map, what, value)
    if type(value) ~= "table" or value[1] ~= nil then
        map:fail("%s: expected an object, got %s", what, check.describe(value))
    end
end

-- Numbers, or (where there is a vector per position) lists of as many numbers.
local function check_numbers(map, what, list, nested)
    if type(list) ~= "table" or #list == 0 or not tables.is_list(list, #list) then
        map:fail("%s: expected a list of numbers", what)
    end
    local inner = nested and type(list[1]) == "table" and list[1]
    for i, item in ipairs(list) do
        if inner then
            check_numbers(map, what, item, false)
            if #item ~= #inner then map:fail("%s: lists of %d and %d numbers", what, #inner, #item) end
        elseif type(item) ~= "number" or item ~= item then -- null is read as NaN
            map:fail("%s: element %d is %s, expected a number", what, i, check.describe(item))
        end
    end
end

--- Reads the JSON of a mapped file, an object.
function M.decode(map)
    if map.size > MAX_BYTES then map:fail("%.0f bytes are above the limit of %d", map.size, MAX_BYTES) end
    local value, problem = json.decode(map:bytes(0, map.size, "the text"))
    if type(value) ~= "table" then map:fail("not JSON: %s", problem or "expected an object") end
    return value
end

-- The rest of the file: text and numbers by layer.
local function read_metadata(map, value)
    local metadata = {}
    if type(value.model_type) == "string" then metadata.model_type = value.model_type end
    if value.explained_variances then
        check_object(map, "explained_variances", value.explained_variances)
        metadata.explained_variances = {}
        for _, key in ipairs(tables.keys(value.explained_variances)) do
            local layer = read_layer(map, "explained_variances", key)
            metadata.explained_variances[layer] = value.explained_variances[key]
        end
    end
    return metadata
end

--- Reads a mapped file: layer -> tensor (f32, each number rounded once), and {model_type =, explained_variances =}.
-- @param map from _file.open
-- @tparam table opts only: list of layers
-- @tparam[opt] table value what M.decode gives
function M.read(map, opts, value)
    local vectors, wanted = {}, {}
    value = value or M.decode(map)
    check_object(map, "directions", value.directions)
    for _, layer in ipairs(opts.only or {}) do wanted[layer] = true end
    for _, key in ipairs(tables.keys(value.directions)) do
        local layer, what = read_layer(map, "directions", key), "directions " .. file.quote(tostring(key))
        check_numbers(map, what, value.directions[key], true)
        if vectors[layer] then map:fail("%s: the layer is there twice", what) end
        if not opts.only or wanted[layer] then vectors[layer] = tensors.from(value.directions[key]) end
    end
    for _, layer in ipairs(opts.only or {}) do
        if not vectors[layer] then
            raise("not_found", "load", "%s: only: has no layer %s", map.path, tostring(layer))
        end
    end
    return vectors, read_metadata(map, value)
end

return M
