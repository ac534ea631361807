--- Specs in safetensors files: vectors as tensors, operations as a JSON list in the metadata.
--
-- Metadata: steer.kind = "spec", steer.version = "1", steer.operations = a list in order of layers, each
--   {"layer":5, "op":"cap", "vector":"1.vector", "normalize":true, "min":, "max":, "where":{}, "exclude":{}, "at":,
--    "when":{"vector":"1.gate", "above":|"below":, "cosine":true}}
-- with the fields of its kind in spec/operations.lua; those that are tensors are named, "1.write". A condition may
-- also be
-- {"all":|"any":|"none":[conditions]}, whose vectors are 1.gate, 1.gate2, and so on. Numbers have 17
-- digits, so they read back equal; a bound that is absent is no bound.
local json = require "dkjson"
local check = require "steer.core.check"
local conditions = require "steer.spec.conditions"
local error_object = require "steer.core.error"
local io = require "steer.io"
local operations = require "steer.spec.operations"
local options = require "steer.core.options"
local tables = require "steer.core.tables"
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
    if #value > 0 or tables.first(value) == nil then
        for i, item in ipairs(value) do parts[i] = encode(item) end
        return "[" .. table.concat(parts, ",") .. "]"
    end
    for i, key in ipairs(tables.keys(value)) do parts[i] = json.quotestring(key) .. ":" .. encode(value[key]) end
    table.sort(parts)
    return "{" .. table.concat(parts, ",") .. "}"
end

-- What the file says of an operation, whose tensors go to `tensors` under names that begin with `at`.
local function record_of(op, at, tensors)
    local record = { op = op.kind, normalize = op.normalize, where = op.where, exclude = op.exclude, at = op.at }
    local function put(name, tensor)
        tensors[at .. "." .. name] = tensor
        return at .. "." .. name
    end
    if op.vector then record.vector = put("vector", op.vector) end
    for _, field in ipairs(operations.KINDS[op.kind].fields) do
        local value = op[field[1]]
        if value ~= nil and operations.type_of(field).is_tensor then value = put(field[1], value) end
        record[field[1]] = value
    end
    local gates = 0
    record.when = op.when and conditions.map(op.when, function(comparison)
        gates = gates + 1
        return {
            vector = put("gate" .. (gates > 1 and gates or ""), comparison.vector), above = comparison.above,
            below = comparison.below, cosine = comparison.cosine,
        }
    end)
    return record
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
            local record = record_of(op, at, tensors)
            record.layer = layer
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
    layer = "number", op = "string", normalize = "boolean", where = "table", exclude = "table", when = "table",
    at = "string",
}

-- The tensor that a member of a record names.
local function tensor_named(path, tensors, at, member, name)
    local tensor = tensors[name]
    if tensor == nil then bad(path, "operation %d: %s: there is no tensor %s", at, member, check.describe(name)) end
    return tensor
end

-- What a field of a record is, as type() says.
local function type_in_file(field)
    if field[2] == "number" then return "number" end
    return field[2] == "points" and "table" or "string" -- the name of a tensor, or a word
end

-- Raises for keys of a record that its kind does not have.
local function check_record(path, at, record, row)
    local known = { vector = row.vector ~= "none" and "string" or nil }
    for _, field in ipairs(row.fields) do known[field[1]] = type_in_file(field) end
    for _, key in ipairs(tables.keys(record)) do
        if (FIELDS[key] or known[key]) ~= type(record[key]) then
            bad(path, "operation %d: %s: not expected here", at, tostring(key))
        end
    end
end

-- A condition of a file with its tensors; what is wrong with it otherwise, the constructors say.
local function condition_of(path, tensors, at, name, record)
    local copy = {}
    if type(record) ~= "table" then bad(path, "operation %d: %s: expected an object", at, name) end
    for _, key in ipairs(tables.keys(record)) do
        local value = record[key]
        if (key == "all" or key == "any" or key == "none") and type(value) == "table" then
            copy[key] = {}
            for i, part in ipairs(value) do
                copy[key][i] = condition_of(path, tensors, at, ("%s.%s[%d]"):format(name, key, i), part)
            end
        else
            copy[key] = value
        end
    end
    if not (copy.all or copy.any or copy.none or copy.noted) then
        copy.vector = tensor_named(path, tensors, at, name .. ".vector", record.vector)
    end
    return copy
end

local function make(path, tensors, spec, at, record)
    if type(record) ~= "table" then bad(path, "operation %d: expected an object", at) end
    if record.layer == nil then bad(path, "operation %d: layer: missing", at) end
    local row = operations.KINDS[record.op]
    if not row then
        bad(path, "operation %d: op: expected %s, found %s", at, options.choice(operations.KINDS),
            check.describe(record.op))
    end
    check_record(path, at, record, row)
    local vector = row.vector ~= "none" and tensor_named(path, tensors, at, "vector", record.vector) or nil
    local opts = { normalize = record.normalize, where = record.where, exclude = record.exclude, at = record.at }
    for _, field in ipairs(row.fields) do
        local value = record[field[1]]
        if value ~= nil and operations.type_of(field).is_tensor then
            value = tensor_named(path, tensors, at, field[1], value)
        end
        opts[field[1]] = value
    end
    if record.when then opts.when = condition_of(path, tensors, at, "when", record.when) end
    return spec.make(record.op, vector, opts)
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

--- Makes the spec of a file that was read from `path`; `spec` is the module with the constructors.
function M.make(path, tensors, metadata, spec)
    local layers = {}
    for at, record in ipairs(records_of(path, metadata)) do
        local op = checked(path, ("operation %d: "):format(at), make, path, tensors, spec, at, record)
        layers[record.layer] = layers[record.layer] or {}
        table.insert(layers[record.layer], op)
    end
    return checked(path, "", spec.spec, layers)
end

return M
