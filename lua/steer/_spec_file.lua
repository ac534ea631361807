--- Specs in safetensors files: vectors as tensors, operations as a JSON list in the metadata.
--
-- Metadata: steer.kind = "spec", steer.version = "1", steer.operations = a list in order of layers, each
--   {"layer":5, "op":"cap", "vector":"1.vector", "normalize":true, "min":, "max":, "scale":, "where":{}, "exclude":{},
--    "when":{"vector":"1.gate", "above":|"below":, "cosine":true}}
-- Numbers have 17 digits, so they read back equal; a bound that is absent is no bound.
local json = require "dkjson"
local check = require "steer._check"
local error_object = require "steer._error"
local io = require "steer.io"
local walk = require "steer._walk"
local raise = error_object.raise

local M = {}

local VERSION = "1"

-- ---- Writing -------------------------------------------------------------------------------------------------------

-- dkjson writes 14 digits; operations hold strings, numbers, booleans, lists and maps with string keys.
local function encode(value)
    local kind = type(value)
    if kind == "number" then return ("%.17g"):format(value) end
    if kind == "string" then return json.quotestring(value) end
    if kind == "boolean" then return tostring(value) end
    local parts = {}
    if #value > 0 or walk.first(value) == nil then
        for i, item in ipairs(value) do parts[i] = encode(item) end
        return "[" .. table.concat(parts, ",") .. "]"
    end
    for i, key in ipairs(walk.keys(value)) do parts[i] = json.quotestring(key) .. ":" .. encode(value[key]) end
    table.sort(parts)
    return "{" .. table.concat(parts, ",") .. "}"
end

--- Writes the operations of the layers `sorted` to `path`.
function M.save(path, sorted, by_layer)
    check.type("spec_save", "path", path, "string", "a file name")
    if not path:find("%.safetensors$") then
        raise("invalid_argument", "spec_save", "path: %s does not end in .safetensors", path)
    end
    local tensors, records = {}, {}
    for _, layer in ipairs(sorted) do
        for _, op in ipairs(by_layer[layer]) do
            local at = #records + 1
            local record = {
                layer = layer, op = op.kind, vector = at .. ".vector", normalize = op.normalize, scale = op.scale,
                min = op.min, max = op.max, where = op.where, exclude = op.exclude,
                at = op.at,
            }
            tensors[record.vector] = op.vector
            if op.when then
                record.when = {
                    vector = at .. ".gate", above = op.when.above, below = op.when.below, cosine = op.when.cosine,
                }
                tensors[record.when.vector] = op.when.vector
            end
            records[at] = record
        end
    end
    io.save(path, tensors, {
        ["steer.kind"] = "spec", ["steer.version"] = VERSION, ["steer.operations"] = encode(records),
    })
end

-- ---- Reading -------------------------------------------------------------------------------------------------------

local function bad(path, format, ...) raise("format", "load_spec", "%s: " .. format, path, ...) end

local FIELDS = {
    layer = "number", op = "string", vector = "string", normalize = "boolean", scale = "number", min = "number",
    max = "number", where = "table", exclude = "table", when = "table", at = "string",
}

local function tensor_named(path, tensors, at, name)
    local tensor = tensors[name]
    if tensor == nil then bad(path, "operation %d: there is no tensor %s", at, check.describe(name)) end
    return tensor
end

local function make(path, tensors, spec, at, record)
    if type(record) ~= "table" then bad(path, "operation %d: expected an object", at) end
    if record.layer == nil then bad(path, "operation %d: layer: missing", at) end
    for _, key in ipairs(walk.keys(record)) do
        if FIELDS[key] ~= type(record[key]) then bad(path, "operation %d: %s: not expected here", at, tostring(key)) end
    end
    local vector = tensor_named(path, tensors, at, record.vector)
    local opts = { normalize = record.normalize, where = record.where, exclude = record.exclude, at = record.at }
    if record.when then
        opts.when = {}
        for _, key in ipairs(walk.keys(record.when)) do opts.when[key] = record.when[key] end
        opts.when.vector = tensor_named(path, tensors, at, record.when.vector)
    end
    if record.op == "cap" then
        opts.min, opts.max = record.min, record.max
        return spec.cap(vector, opts)
    elseif record.op == "add" or record.op == "ablate" then
        return spec[record.op](vector, record.scale, opts)
    end
    return bad(path, "operation %d: op: expected add, cap or ablate, found %s", at, check.describe(record.op))
end

-- What the constructors refuse in a file is a fault of the file.
local function checked(path, at, fn, ...)
    local ok, result = pcall(fn, ...)
    if ok then return result end
    if not error_object.is(result) or (result.code ~= "invalid_argument" and result.code ~= "shape_mismatch") then
        error(result, 0)
    end
    return bad(path, "%s%s: %s", at, result.op, result.message)
end

local function records_of(path, metadata)
    if metadata["steer.kind"] ~= "spec" then
        bad(path, "the file holds no steering spec: its metadata has no steer.kind = spec")
    end
    if metadata["steer.version"] ~= VERSION then
        bad(path, "version %s of the spec format, expected %s", check.describe(metadata["steer.version"]), VERSION)
    end
    -- A null becomes false, which no field takes; nesting too deep for Lua's stack is an error of pcall.
    local ok, records, _, message = pcall(json.decode, metadata["steer.operations"] or "", 1, false)
    if not ok or type(records) ~= "table" or getmetatable(records).__jsontype ~= "array" then
        bad(path, "steer.operations: %s", ok and message or "expected a list of operations")
    end
    return records
end

--- Reads a spec from `path`; `spec` is the module with the constructors.
function M.load(path, spec)
    check.type("load_spec", "path", path, "string", "a file name")
    if not path:find("%.safetensors$") then
        raise("invalid_argument", "load_spec", "path: %s does not end in .safetensors", path)
    end
    local tensors, metadata = io.load(path)
    local layers = {}
    for at, record in ipairs(records_of(path, metadata)) do
        local op = checked(path, ("operation %d: "):format(at), make, path, tensors, spec, at, record)
        layers[record.layer] = layers[record.layer] or {}
        table.insert(layers[record.layer], op)
    end
    return checked(path, "", spec.spec, layers)
end

return M
