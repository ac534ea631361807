--- What a sweep's run function returned, as the metrics, samples and path of a results line.
local check = require "steer.core.check"
local json = require "steer.core.json"
local tables = require "steer.core.tables"

local M = {}

local TIMING_FIELDS = { gpu = true, wall = true, unit = true, mode = true, device = true, name = true, driver = true,
    clock_khz = true }
local PARTS = { "q1", "q3", "min" }

-- A result of bench.time.
local function is_timing(value)
    return type(value) == "table" and value.unit == "s" and (type(value.gpu) == "table" or type(value.wall) == "table")
end

local function fail(format, ...)
    error({ fault = format:format(...) }, 0)
end

local function put(out, name, value)
    if type(name) ~= "string" then fail("it returned the key %s, expected the names of metrics", tostring(name)) end
    if not json.is_utf8(name) then fail("the metric's name %s is not UTF-8", check.describe(name)) end
    if out.metrics[name] ~= nil then fail("the metric %s comes from two places", name) end
    if type(value) ~= "number" then
        fail("the metric %s is %s, expected a number", name, check.describe(value))
    end
    if value ~= value or math.abs(value) == math.huge then
        out.warnings[#out.warnings + 1] = ("the metric %s is %s, written as null"):format(name, tostring(value))
    end
    out.metrics[name] = value
end

local function put_samples(out, name, list)
    if type(list) ~= "table" then
        fail("the samples %s are %s, expected a list", tostring(name), check.describe(list))
    end
    local copy = {}
    for i = 1, #list do
        if type(list[i]) ~= "number" then
            fail("the sample %s[%d] is %s, expected a number", tostring(name), i, check.describe(list[i]))
        end
        copy[i] = list[i]
    end
    if #copy > 0 then out.samples[name] = copy end
end

-- Times in microseconds, the median under the plain name.
local function put_timing(out, prefix, timing)
    for _, which in ipairs { "gpu", "wall" } do
        local stats, name = timing[which], prefix .. which .. "_us"
        if stats then
            local samples = {}
            for i, seconds in ipairs(stats.samples) do samples[i] = seconds * 1e6 end
            put(out, name, stats.median * 1e6)
            for _, part in ipairs(PARTS) do put(out, name .. "_" .. part, stats[part] * 1e6) end
            put_samples(out, name, samples)
        end
    end
    out.clock_khz = timing.clock_khz or out.clock_khz
end

local function read(value)
    local out = { metrics = {}, samples = {}, warnings = {} }
    if type(value) ~= "table" then fail("it returned %s, expected a table of metrics", check.describe(value)) end
    local whole = is_timing(value)
    if whole then put_timing(out, "", value) end
    local names = tables.keys(value)
    table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
    for _, name in ipairs(names) do
        local entry = value[name]
        if name == "path" then
            if type(entry) ~= "string" then fail("its path is %s, expected a string", check.describe(entry)) end
            out.path = entry
        elseif name == "samples" then
            if type(entry) ~= "table" then fail("its samples are %s, expected a table", check.describe(entry)) end
            for _, of in ipairs(tables.keys(entry)) do put_samples(out, of, entry[of]) end
        elseif is_timing(entry) then
            put_timing(out, tostring(name) .. "_", entry)
        elseif not (whole and TIMING_FIELDS[name]) then
            put(out, name, entry)
        end
    end
    for _, name in ipairs(tables.keys(out.samples)) do
        if out.metrics[name] == nil then put(out, name, require("steer.bench").stats(out.samples[name]).median) end
    end
    if tables.first(out.metrics) == nil then fail "it returned no metric" end
    return out
end

--- Reads what run returned.
-- @treturn table metrics, samples, path, clock_khz, warnings (texts about numbers that are not finite);
-- or nil and what is wrong with it
function M.read(value)
    local ok, result = pcall(read, value)
    if ok then return result end
    if type(result) == "table" and result.fault then return nil, "run: " .. result.fault end
    error(result, 0)
end

return M
