--- Reads what one wants to see, tensors, lists and tables of them, into series of points or a matrix.
local check = require "steer.core.check"
local options = require "steer.core.options"
local tensors = require "steer.tensor.object"
local tables = require "steer.core.tables"

local raise = require("steer.core.error").raise

local M = {}

local MOST = 1e6 -- numbers of a series, or of a matrix

local EXPECTED = "a tensor, a list of numbers, a table of series by name, records, or the path of a results file"

-- ---- Numbers -------------------------------------------------------------------------------------------------------

local function check_count(op, name, n)
    if n == 0 then raise("invalid_argument", op, "%s: it is empty, there is nothing to draw", name) end
    if n > MOST then
        raise("invalid_argument", op, "%s: %.0f numbers, expected at most %.0f: narrow it, or take every n-th one",
            name, n, MOST)
    end
end

local function is_values(value)
    return tensors.is(value) or type(value) == "table" and (type(value[1]) == "number")
end

local function flat(values, into)
    if type(values) == "number" then
        into[#into + 1] = values
    else
        for i = 1, #values do flat(values[i], into) end
    end
    return into
end

-- The numbers of a list or a one-dimensional tensor; of a tensor of any shape where `any`.
local function numbers_of(op, name, value, any)
    if tensors.is(value) then
        check_count(op, name, value:numel())
        local shape = value:shape()
        if #shape ~= 1 and not any then
            raise("shape_mismatch", op, "%s: expected one dimension, got a tensor of %d", name, #shape)
        end
        return flat(value:totable(), {})
    end
    check.list(op, name, value, "a list of numbers or a tensor")
    check_count(op, name, #value)
    for i, x in ipairs(value) do
        if type(x) ~= "number" then
            raise("invalid_argument", op, "%s[%d]: expected a number, got %s", name, i, check.describe(x))
        end
    end
    return value
end

--- Reads the values of an axis: numbers, or words for places side by side.
function M.places(op, name, value)
    if tensors.is(value) then return numbers_of(op, name, value) end
    check.list(op, name, value, "a list of numbers or words, or a tensor")
    for i, x in ipairs(value) do
        if type(x) ~= "number" and type(x) ~= "string" and type(x) ~= "boolean" then
            raise("invalid_argument", op, "%s[%d]: expected a number or a word, got %s", name, i, check.describe(x))
        end
    end
    return value
end

-- Text in which numbers have their places by size: "layer.2" comes before "layer.10".
local function natural(text)
    return (text:gsub("%d+", function(digits) return ("%020s"):format(digits):gsub(" ", "0") end))
end

-- The keys of a map: numbers first, then names.
local function keys_of(value)
    local keys, texts = tables.keys(value), {}
    for _, key in ipairs(keys) do texts[key] = type(key) ~= "number" and natural(tostring(key)) or nil end
    table.sort(keys, function(a, b)
        if type(a) == "number" and type(b) == "number" then return a < b end
        if type(a) == "number" or type(b) == "number" then return type(a) == "number" end
        return texts[a] < texts[b]
    end)
    return keys
end

--- Gives a matrix as rows of numbers.
-- @param value tensor [rows, columns], list of lists, or map from a row's name to its numbers
-- @treturn table list of lists; shape_mismatch names the rows that differ
-- @treturn table names of the rows of a map
function M.matrix(op, name, value)
    if tensors.is(value) then
        if #value:shape() ~= 2 then
            raise("shape_mismatch", op, "%s: a heatmap needs two dimensions, got a tensor of %d", name, #value:shape())
        end
        check_count(op, name, value:numel())
        return value:totable()
    end
    local rows, count, keys = {}, 0, keys_of(value)
    for i, key in ipairs(keys) do
        local what = ("%s[%s]"):format(name, tostring(key))
        rows[i] = numbers_of(op, what, value[key])
        count = count + #rows[i]
        if #rows[i] ~= #rows[1] then
            raise("shape_mismatch", op, "%s: %d columns, the first row has %d", what, #rows[i], #rows[1])
        end
    end
    check_count(op, name, count)
    return rows, not tables.is_list(value, #value) and keys or nil
end

-- ---- Series --------------------------------------------------------------------------------------------------------

local SERIES = { name = true, x = true, y = true, low = true, high = true, error = true, dashed = "boolean",
    like = true }

local function same_length(op, name, list, n)
    if #list ~= n then raise("shape_mismatch", op, "%s: %d values, the series has %d", name, #list, n) end
    return list
end

-- Low and high ends of the intervals: given as such, or as distances.
local function interval(op, name, row, y)
    if row.error ~= nil then
        if row.low ~= nil or row.high ~= nil then
            raise("invalid_argument", op, "%s: give error, or low and high, not both", name)
        end
        local list, low, high = row.error, {}, {}
        if type(list) ~= "number" then
            list = same_length(op, name .. ".error", numbers_of(op, name .. ".error", list), #y)
        end
        for i, value in ipairs(y) do
            local distance = type(list) == "number" and list or list[i]
            if distance < 0 then
                raise("invalid_argument", op, "%s.error[%d]: expected a distance of at least 0, got %g", name, i,
                    distance)
            end
            low[i], high[i] = value - distance, value + distance
        end
        return low, high
    end
    if row.low == nil and row.high == nil then return nil end
    for _, key in ipairs { "low", "high" } do
        if row[key] == nil then
            raise("invalid_argument", op, "%s.%s: it is missing beside the other end", name, key)
        end
    end
    local low = same_length(op, name .. ".low", numbers_of(op, name .. ".low", row.low), #y)
    local high = same_length(op, name .. ".high", numbers_of(op, name .. ".high", row.high), #y)
    for i = 1, #y do
        if low[i] > high[i] then
            raise("invalid_argument", op, "%s.low[%d]: %g is above high, %g", name, i, low[i], high[i])
        end
    end
    return low, high
end

-- x and y of the rows of a tensor [n, 2].
local function pairs_of(op, name, value)
    local shape = value:shape()
    if shape[2] ~= 2 then
        raise("shape_mismatch", op, "%s: a scatter plot takes [n, 2] (x and y), or x and y apart; got [%d, %d]", name,
            shape[1], shape[2])
    end
    check_count(op, name, value:numel())
    local x, y = {}, {}
    for i, row in ipairs(value:totable()) do x[i], y[i] = row[1], row[2] end
    return x, y
end

-- A series as {name, x, y, low, high, dashed, like}.
local function read_one(op, what, name, value, opts, kind)
    local row
    if is_values(value) then
        row = { y = value }
    else
        row = options.check(op, value, SERIES, what)
        if row.y == nil then raise("invalid_argument", op, "%s.y: expected its values, got nothing", what) end
    end
    local out = { name = row.name or name, dashed = row.dashed, like = row.like }
    local where = row == value and what .. ".y" or what
    if kind == "scatter" and tensors.is(row.y) and #row.y:shape() == 2 then
        out.x, out.y = pairs_of(op, where, row.y)
        return out
    end
    out.y = numbers_of(op, where, row.y, kind == "histogram")
    local x, x_name = row.x, what .. ".x"
    if x == nil and type(opts.x) ~= "string" then x, x_name = opts.x, "opts.x" end
    if x ~= nil then out.x = same_length(op, x_name, M.places(op, x_name, x), #out.y) end
    local ends = row
    if row.low == nil and row.high == nil and row.error == nil then
        ends = opts
    end
    out.low, out.high = interval(op, ends == opts and "opts" or what, ends, out.y)
    return out
end

-- A map of series, by name or number.
local function read_map(op, value, opts, kind)
    local list = {}
    for _, key in ipairs(keys_of(value)) do
        local what = type(key) == "string" and "data." .. key or ("data[%s]"):format(tostring(key))
        local item = value[key]
        if not is_values(item) and type(item) ~= "table" then
            raise("invalid_argument", op, "%s: expected a list of numbers, a tensor or a series, got %s", what,
                check.describe(item))
        end
        list[#list + 1] = read_one(op, what, key, item, opts, kind)
    end
    return list
end

local function apply_names(op, list, names)
    if not names then return end
    if check.list(op, "opts.names", names, "a list of names") ~= #list then
        raise("invalid_argument", op, "opts.names: %d names for %d series", #names, #list)
    end
    for i, name in ipairs(names) do list[i].name = name end
end

-- The rows of a tensor with two dimensions.
local function rows_of(value)
    local rows = {}
    for i = 1, value:size(1) do rows[i] = value:select(1, i) end
    return rows
end

--- Reads series.
-- @tparam string op operation for messages
-- @param data see steer.plot
-- @tparam table opts
-- @tparam string kind
-- @treturn table list of {name, x, y, low, high, dashed, like}; x is nil where it counts from 1
-- @treturn boolean they are numbered, in the order of the list
function M.series(op, data, opts, kind)
    local list
    local numbered = true
    if tensors.is(data) and #data:shape() == 2 and kind ~= "scatter" and kind ~= "histogram" then
        check_count(op, "data", data:numel())
        list = read_map(op, rows_of(data), opts, kind)
    elseif is_values(data) or data.y ~= nil and not is_values(data[1]) and is_values(data.y) then
        list = { read_one(op, "data", "", data, opts, kind) }
    else
        list = read_map(op, data, opts, kind)
    end
    if #list == 0 then raise("invalid_argument", op, "data: it is empty, there is nothing to draw") end
    apply_names(op, list, opts.names)
    for _, one in ipairs(list) do numbered = numbered and type(one.name) == "number" end
    return list, numbered
end

--- Reads bars by name: {lda = 0.99, pca = 0.7}, or series.
function M.bars(op, data, opts)
    if tensors.is(data) or type(data[1]) == "number" or data.y ~= nil then return M.series(op, data, opts, "bars") end
    local keys = keys_of(data)
    if type(data[keys[1]]) ~= "number" then return M.series(op, data, opts, "bars") end
    local row = { name = "", x = {}, y = {} }
    for i, key in ipairs(keys) do
        if type(data[key]) ~= "number" then
            raise("invalid_argument", op, "data.%s: expected a number as the others, got %s", tostring(key),
                check.describe(data[key]))
        end
        row.x[i], row.y[i] = type(key) == "number" and key or tostring(key), data[key]
    end
    return { read_one(op, "data", "", row, opts, "bars") }, false
end

-- ---- What it is ----------------------------------------------------------------------------------------------------

--- Checks that there is something that may be drawn.
function M.check(op, data)
    if tensors.is(data) then return end
    if type(data) ~= "table" then
        raise("invalid_argument", op, "data: expected %s, got %s", EXPECTED, check.describe(data))
    end
    if tables.first(data) == nil then raise("invalid_argument", op, "data: it is empty, there is nothing to draw") end
end

--- Tells the kind of chart that fits data of which no kind is asked: a heatmap for a matrix, bars for numbers by name.
function M.kind_of(op, data)
    if tensors.is(data) then
        local n = #data:shape()
        if n == 1 or n == 2 then return n == 2 and "heatmap" or "lines" end
        raise("shape_mismatch", op, "data: expected a tensor of one or two dimensions, got %d", n)
    end
    if type(data[1]) ~= "number" and type(data[keys_of(data)[1]]) == "number" then return "bars" end
    return "lines"
end

return M
