--- Tables of records, or of columns by name, as the charts of results see cases.
local check = require "steer.core.check"
local results = require "steer.sweep.results"
local tensors = require "steer.tensor.object"
local tables = require "steer.core.tables"

local raise = require("steer.core.error").raise

local M = {}

local function is_column(value)
    return tensors.is(value) or type(value) == "table" and tables.first(value) == 1
end

local function is_record(value)
    return type(value) == "table" and type(tables.first(value)) == "string"
end

--- Tells whether data is a list of records ({layer = 2, accuracy = 0.9}), or a table of columns of which x names one.
function M.is(data, opts)
    if type(data) ~= "table" or type(opts.x) ~= "string" then return false end
    return is_record(data[1]) or is_column(data[opts.x])
end

local function column(op, name, value)
    if not tensors.is(value) then
        check.list(op, name, value, "a list or a tensor")
        return value
    end
    if #value:shape() ~= 1 then
        raise("shape_mismatch", op, "%s: expected one dimension, got a tensor of %d", name, #value:shape())
    end
    return value:totable()
end

local function records_of(op, data)
    local names, rows = results.sort(tables.keys(data)), {}
    local columns, length = {}, nil
    for _, name in ipairs(names) do
        columns[name] = column(op, "data." .. tostring(name), data[name])
        length = length or #columns[name]
        if #columns[name] ~= length then
            raise("shape_mismatch", op, "data.%s: %d values, %s has %d", name, #columns[name], names[1], length)
        end
    end
    for i = 1, length do
        rows[i] = {}
        for _, name in ipairs(names) do rows[i][name] = columns[name][i] end
    end
    return rows
end

-- Which fields are metrics: what is drawn along y (or z, or counted), the others are axes.
local function metrics_of(opts, kind)
    if kind == "histogram" then return { opts.x } end
    return { opts.z or opts.y }
end

local function entry_of(op, row, at, metrics, axes, seen)
    local entry = { case = {}, metrics = {}, samples = {}, status = "ok", stats = {} }
    check.type(op, ("data[%d]"):format(at), row, "table", "a record as the others")
    for _, name in ipairs(results.sort(tables.keys(row))) do
        if type(name) ~= "string" then
            raise("invalid_argument", op, "data[%d]: expected fields by name, found the key %s", at,
                check.describe(name))
        end
        local value, is_metric = row[name], false
        for _, metric in ipairs(metrics) do is_metric = is_metric or metric == name end
        if is_metric and type(value) == "table" then
            entry.samples[name] = value
        elseif is_metric then
            entry.metrics[name] = value
        else
            entry.case[name] = value
            if not seen[name] then axes[#axes + 1], seen[name] = name, true end
        end
    end
    return entry
end

--- Makes results of records or columns.
-- @treturn results as sweep/results.read gives, without a file
function M.read(op, data, opts, kind)
    for _, key in ipairs(opts.z and { "y" } or kind == "histogram" and {} or { "y" }) do
        check.type(op, "opts." .. key, opts[key], "string", "the name of a field")
    end
    local rows = is_record(data[1]) and data or records_of(op, data)
    check.list(op, "data", rows, "a list of records")
    local cases, axes, seen, metrics = {}, {}, {}, metrics_of(opts, kind)
    for i, row in ipairs(rows) do cases[i] = entry_of(op, row, i, metrics, axes, seen) end
    return results.derive({ path = "the table", header = { axes = {} } }, cases, results.sort(axes))
end

return M
