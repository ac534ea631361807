--- Results of a sweep as compare, plot and report see them: cases, axes, metrics and what the samples say.
local bench = require "steer.bench"
local check = require "steer.core.check"
local options = require "steer.core.options"
local record = require "steer.record"
local statistics = require "steer.sweep.statistics"
local tables = require "steer.core.tables"

local raise = require("steer.core.error").raise

local M = {}

-- ---- Text ----------------------------------------------------------------------------------------------------------

--- Writes a value for people: numbers with at most four digits, without an exponent where that is short.
function M.text(value)
    if type(value) ~= "number" or value ~= value then return tostring(value) end
    local size = math.abs(value)
    if value % 1 == 0 and size < 1e7 then return ("%d"):format(value) end
    if size < 1e-3 or size >= 1e7 then return ("%.4g"):format(value) end
    local digits = ("%." .. math.max(0, 3 - math.floor(math.log10(size))) .. "f"):format(value)
    return digits:find(".", 1, true) and digits:gsub("%.?0+$", "") or digits
end

-- Ends of metric names and what they say.
local UNITS = {
    { "_?bytes_per_second$", "bytes/s" }, { "_?gb_per_s$", "GB/s" }, { "_?gib_per_s$", "GiB/s" }, { "_per_s$", "1/s" },
    { "_ns$", "ns" }, { "_us$", "µs" }, { "_ms$", "ms" }, { "_s$", "s" }, { "_seconds$", "s" }, { "_bytes$", "bytes" },
    { "_kib$", "KiB" }, { "_mib$", "MiB" }, { "_gib$", "GiB" }, { "_percent$", "%" }, { "_khz$", "kHz" },
    { "_mhz$", "MHz" }, { "_degrees$", "degrees" },
}
local TIMES = { ns = true, ["µs"] = true, ms = true, s = true }
local RATES = { ["bytes/s"] = true, ["GB/s"] = true, ["GiB/s"] = true, ["1/s"] = true }

-- The better direction of metrics whose name says it; logit_difference, probability and logprob are about the option
-- that was asked for.
local BETTER = { kl = "lower", perplexity = "lower", loss = "lower", accuracy = "higher", logit_difference = "higher",
    probability = "higher", logprob = "higher" }

--- Gives a field's value if it is a word or a number; tables and null (NaN) are nil.
function M.word(value)
    if value ~= value or type(value) == "table" then return nil end
    return value
end

--- Finds the unit that the end of a metric's name says.
-- @treturn string name without the unit, and the unit or nil; the name is nil where nothing is left of it
function M.unit(name)
    for _, row in ipairs(UNITS) do
        local at = name:find(row[1])
        if at then return at > 1 and name:sub(1, at - 1) or nil, row[2] end
    end
    return name, nil
end

--- Writes a metric or axis with its unit: "gpu (µs)".
function M.title(name)
    local stem, unit = M.unit(name)
    if not unit then return name end
    return stem and ("%s (%s)"):format(stem, unit) or unit
end

--- Tells whether a metric is a time by its name.
function M.is_time(name)
    return TIMES[select(2, M.unit(name))] == true
end

--- Tells whether a metric is a rate, such as bytes per second, by its name.
function M.is_rate(name)
    return RATES[select(2, M.unit(name))] == true
end

--- Says which direction of a metric is better as far as its name tells: "lower", "higher" or nil.
function M.better(name)
    return M.is_time(name) and "lower" or M.is_rate(name) and "higher" or BETTER[name]
end

local function check_direction(op, text)
    if text == "lower" or text == "higher" then return text end
    return raise("invalid_argument", op, 'better: "%s", expected higher, lower or a list such as '
        .. '"kl=lower,accuracy=higher"', tostring(text))
end

--- Reads which direction of metrics is better.
-- @tparam string op operation for messages
-- @param better "higher" or "lower" for all, or text such as "kl=lower,accuracy=higher", or a map from metric to
-- direction; nil: what the names tell
-- @treturn function of a metric's name: "lower", "higher" or nil
-- @treturn table names of the metrics that were given, in their order
function M.read_better(op, better)
    local given, names, all = {}, {}, nil
    if type(better) == "table" then
        for _, name in ipairs(M.sort(tables.keys(better))) do
            given[name], names[#names + 1] = check_direction(op, better[name]), name
        end
    elseif type(better) == "string" then
        for word in (better .. ","):gmatch "(.-)," do
            local name, direction = word:match "^(.+)=([^=]*)$"
            if name then
                given[name], names[#names + 1] = check_direction(op, direction), name
            else
                all = check_direction(op, word)
            end
        end
    elseif better ~= nil then
        check_direction(op, better)
    end
    return function(name) return given[name] or all or M.better(name) end, names
end

--- Sorts values: numbers first, by size, then the rest by the alphabet.
function M.sort(values)
    table.sort(values, function(a, b)
        if type(a) == type(b) and type(a) ~= "boolean" then return a < b end
        if type(a) == "number" or type(b) == "number" then return type(a) == "number" end
        return tostring(a) < tostring(b)
    end)
    return values
end

-- ---- Reading -------------------------------------------------------------------------------------------------------

local function sorted_keys(map)
    return M.sort(tables.keys(map))
end

-- Fields of a line that may be named beside the axes.
local FIELDS = { path = true, device = true, device_name = true, driver = true, host = true, git = true }

--- Gives a case's value on an axis, or of a field of its line such as "path".
function M.field(entry, name)
    local value = entry.case[name]
    if value == nil and FIELDS[name] then value = entry[name] end
    return M.word(value)
end

-- Distinct values of a field over the cases: in the order of the header, the others behind, sorted.
local function values_of(cases, name, header)
    local present, values, more = {}, {}, {}
    for _, case in ipairs(cases) do
        local value = M.field(case, name)
        if value ~= nil then present[value] = true end
    end
    for _, value in ipairs(header.axes[name] or {}) do
        if present[value] then values[#values + 1], present[value] = value, nil end
    end
    for _, value in ipairs(tables.keys(present)) do more[#more + 1] = value end
    for _, value in ipairs(M.sort(more)) do values[#values + 1] = value end
    return values
end

-- Values of the axes and names of the metrics.
local function describe(self)
    local metrics = {}
    for _, entry in ipairs(self.cases) do
        for _, name in ipairs(tables.keys(entry.metrics)) do metrics[name] = true end
        for _, name in ipairs(tables.keys(entry.samples)) do metrics[name] = true end
    end
    self.metrics, self.values = sorted_keys(metrics), {}
    for _, name in ipairs(self.axes) do self.values[name] = values_of(self.cases, name, self.header) end
    return self
end

local Results = {}
Results.__index = Results

--- Gives results with other cases, and with other axes if they are named.
function M.derive(found, cases, axes)
    return describe(setmetatable({ path = found.path, name = found.name, header = found.header, cases = cases,
        axes = axes or found.axes, repeated = found.repeated }, Results))
end

--- Reads a results file. A torn last line, as a sweep that still runs leaves it, is passed over.
-- @tparam string op operation for messages
-- @tparam string path
-- @return results: path, name (of the sweep), header, cases, axes (names), values (per axis), metrics (names), repeated
-- (the cases that were measured more than once: the last counts); io, or format if it is not a results file
function M.read(op, path) return M.of_file(op, path, record.open(op, path)) end

--- The same of what record.open or a writer of record.hold gives.
-- @tparam string path what they are called
function M.of_file(op, path, file)
    if not file.header then raise("format", op, "%s: it is empty, expected the results of a sweep", path) end
    if #file.cases == 0 then raise("invalid_argument", op, "%s: it has no cases yet", path) end
    for _, entry in ipairs(file.cases) do
        for _, name in ipairs { "metrics", "samples" } do
            if type(entry[name]) ~= "table" then entry[name] = {} end
        end
        entry.stats = {} -- of M.stats
    end
    return M.derive({ path = path, name = file.header.name, header = file.header, repeated = file.repeated },
        file.cases, file.header.order)
end

--- Tells whether a value names results, as M.of takes them.
function M.is(source)
    if type(source) ~= "table" then return type(source) == "string" end
    local found = rawget(source, "results") or source
    return type(found) == "table" and rawget(found, "cases") ~= nil and rawget(found, "metrics") ~= nil
end

--- Gives the results that an argument names: the path of a file, what lm:grid gives, or results themselves.
-- @tparam string op operation for messages
-- @tparam string name of the argument
-- @param source
function M.of(op, name, source)
    if type(source) == "string" then return M.read(op, source) end
    if M.is(source) then return rawget(source, "results") or source end
    return raise("invalid_argument", op, "%s: expected the path of a results file, or what lm:grid gives, got %s", name,
        check.describe(source))
end

-- ---- Choosing ------------------------------------------------------------------------------------------------------

--- Axes on which the cases differ.
function Results:varying()
    local names = {}
    for _, name in ipairs(self.axes) do
        if #self.values[name] > 1 then names[#names + 1] = name end
    end
    return names
end

--- Metrics without those that tell the minimum or a quartile of another one.
function Results:main_metrics()
    local have, list = {}, {}
    for _, name in ipairs(self.metrics) do have[name] = true end
    for _, name in ipairs(self.metrics) do
        local of = name:match("^(.*)_min$") or name:match("^(.*)_q[13]$")
        if not (of and have[of]) then list[#list + 1] = name end
    end
    return list
end

--- Raises invalid_argument unless `name` is an axis, or a field such as "path", of these results.
function Results:check_field(op, argument, name)
    local known = {}
    for _, axis in ipairs(self.axes) do known[axis] = true end
    if known[name] then return name end
    for _, field in ipairs(tables.keys(FIELDS)) do known[field] = true end
    if FIELDS[name] then
        if #self:values_of(name) > 0 then return name end
        raise("invalid_argument", op, '%s: no case of %s has a "%s"', argument, self.path, name)
    end
    raise("invalid_argument", op, '%s: there is no axis "%s"%s', argument, name,
        options.suggest_of(name, known, "axes are " .. table.concat(self.axes, ", ")))
end

--- Raises invalid_argument unless `name` is a metric of these results.
function Results:check_metric(op, argument, name)
    local known = {}
    for _, metric in ipairs(self.metrics) do known[metric] = true end
    if known[name] then return name end
    if #self.metrics == 0 then
        raise("invalid_argument", op, "%s: %s has no metrics: no case was measured", argument, self.path)
    end
    raise("invalid_argument", op, '%s: there is no metric "%s"%s', argument, name,
        options.suggest_of(name, known, "metrics are " .. table.concat(self.metrics, ", ")))
end

--- Values of a field over the cases, in order.
function Results:values_of(name)
    return self.values[name] or values_of(self.cases, name, self.header)
end

--- Keeps the cases that a filter lets through.
-- @tparam string op operation for messages
-- @tparam table filters map from axis (or field) to a value or a list of values; numbers may come as text
-- @return results; invalid_argument for an unknown axis or a value that no case has
function Results:filter(op, filters)
    local cases = self.cases
    for _, name in ipairs(sorted_keys(filters)) do
        local argument, wanted = "filter", filters[name]
        self:check_field(op, argument, name)
        local pass = {}
        for _, value in ipairs(type(wanted) == "table" and wanted or { wanted }) do
            local found = false
            for _, have in ipairs(self:values_of(name)) do
                if have == value or tostring(have) == tostring(value) or have == tonumber(value) then
                    pass[have], found = true, true
                end
            end
            if not found then
                local texts = {}
                for i, have in ipairs(self:values_of(name)) do texts[i] = M.text(have) end
                raise("invalid_argument", op, "%s: no case has %s=%s, there are %s", argument, name, tostring(value),
                    table.concat(texts, ", "))
            end
        end
        local kept = {}
        for _, entry in ipairs(cases) do
            local value = M.field(entry, name)
            if value ~= nil and pass[value] then kept[#kept + 1] = entry end
        end
        cases = kept
    end
    if #cases == 0 then raise("invalid_argument", op, "filter: no case of %s passes all filters", self.path) end
    return M.derive(self, cases)
end

-- ---- Numbers -------------------------------------------------------------------------------------------------------

local function is_number(x)
    return type(x) == "number" and x == x and x ~= math.huge and x ~= -math.huge
end

-- The centre that the value is of its samples, and what is drawn around it.
local function describe_centre(s, first)
    s.low, s.high = s.q1, s.q3
    if s.n == 1 then return end
    s.centre = statistics.centre_of(s.value, s.samples, first)
    if s.centre == "mean" then s.low, s.high = select(2, statistics.mean_interval(s.samples)) end
end

local function make_stats(entry, metric)
    if entry.status ~= "ok" then
        local reason = type(entry.reason) == "string" and entry.reason or "no reason given"
        return nil, entry.status .. ": " .. reason
    end
    local samples, numbers, value = entry.samples[metric] or {}, {}, entry.metrics[metric]
    for _, x in ipairs(samples) do
        if not is_number(x) then return nil, metric .. " has samples that are not numbers" end
        numbers[#numbers + 1] = x
    end
    if value ~= nil and not is_number(value) then return nil, metric .. " is not a number" end
    if metric == "" then return nil, "nothing was measured" end
    if value == nil and #numbers == 0 then return nil, metric .. " was not measured" end
    local s = bench.stats(#numbers > 0 and numbers or { value })
    s.value, s.of = value or s.median, entry.repeats and "repeats" or "samples"
    describe_centre(s, M.is_time(metric) and not entry.repeats and "median" or "mean")
    return s
end

local SPREADS = { mean = "mean and 95 % interval", median = "median and quartiles" }

--- Says what value, low and high of statistics are.
function M.spread(s)
    return s.n == 1 and "value" or SPREADS[s.centre] or "value and quartiles of its samples"
end

--- Describes a metric of a case as bench.stats does, from its samples, or from its value where it has none; and beside
-- that by value (what the case returned, which counts before its samples), centre ("mean" or "median", where the value
-- is that of the samples), low and high (of the mean its 95 % interval by Student's t, else the samples' quartiles).
-- @return the statistics; or nil and why there are none
function M.stats(entry, metric)
    local known = entry.stats[metric]
    if not known then
        known = { make_stats(entry, metric) }
        entry.stats[metric] = known
    end
    return known[1], known[2]
end

--- Sorts entries by axes, in the order of the axes' values.
function M.order(results, entries)
    local rank = {}
    for _, name in ipairs(results.axes) do
        rank[name] = {}
        for i, value in ipairs(results.values[name]) do rank[name][value] = i end
    end
    local function before(a, b)
        for _, name in ipairs(results.axes) do
            local x, y = rank[name][M.field(a, name)] or 0, rank[name][M.field(b, name)] or 0
            if x ~= y then return x < y end
        end
        return false
    end
    table.sort(entries, before)
    return entries
end

return M
