--- The options of steer.plot: which there are, which kind of chart has them, and what they must be.
local check = require "steer.core.check"
local options = require "steer.core.options"
local scale = require "steer.plot.scale"
local style = require "steer.plot.style"
local tables = require "steer.core.tables"

local raise = require("steer.core.error").raise

local M = {}

--- Names of the kinds of charts.
M.KINDS = { lines = true, scatter = true, bars = true, histogram = true, heatmap = true }

-- Option -> Lua type (true: any), and the kinds that have it (nil: all).
local SERIES, AXES = "lines scatter bars histogram", "lines scatter histogram"
local ROWS = {
    kind = { "string" }, x = { true }, y = { true }, z = { "string", "heatmap" }, by = { true, SERIES },
    dash = { "string", "lines" }, filter = { "table" }, names = { "table", SERIES },
    title = { "string" }, xlabel = { "string" }, ylabel = { "string" }, zlabel = { "string", "heatmap" },
    legend = { true, SERIES },
    xlim = { "table", AXES }, ylim = { "table", SERIES }, zlim = { "table", "heatmap" },
    logx = { "boolean", AXES }, logy = { "boolean", SERIES }, logz = { "boolean", "heatmap" },
    format = { "string" }, palette = { true }, size = { "table" },
    hline = { true, SERIES }, vline = { true, AXES }, best = { "string", "lines scatter bars heatmap" },
    low = { true, "lines bars" }, high = { true, "lines bars" }, error = { true, "lines bars" },
    bins = { true, "histogram" }, share = { "boolean", "histogram" }, out = { "string" },
}
local KNOWN = {}
for _, name in ipairs(tables.keys(ROWS)) do KNOWN[name] = ROWS[name][1] end

-- How the kinds are called in messages.
local NOUNS = { lines = "lines", scatter = "scatter plots", bars = "bars", histogram = "histograms",
    heatmap = "heatmaps" }

--- Checks the option table as such, and the kind.
function M.check(op, opts)
    opts = options.check(op, opts, KNOWN)
    if opts.kind and not M.KINDS[opts.kind] then
        raise("invalid_argument", op, 'opts.kind: there is no kind "%s"%s; there are %s', opts.kind,
            options.suggest(opts.kind, M.KINDS), options.list(M.KINDS))
    end
    return opts
end

--- Raises invalid_argument for an option that a kind of chart has not.
function M.check_kind(op, opts, kind)
    M.check(op, opts)
    for _, name in ipairs(tables.keys(opts)) do
        local kinds = ROWS[name][2]
        if kinds and opts[name] and not (" " .. kinds .. " "):find(" " .. kind .. " ", 1, true) then
            local words = {}
            for word in kinds:gmatch "%S+" do words[#words + 1] = NOUNS[word] end
            raise("invalid_argument", op, "opts.%s: it is for %s, this chart is of the kind %s", name,
                table.concat(words, ", "):gsub(", ([^,]*)$", " and %1"), kind)
        end
    end
end

-- ---- Values --------------------------------------------------------------------------------------------------------

-- {low, high}, or {min =, max =} of which one may be missing.
local function read_limits(op, name, value, log)
    if value == nil then return nil end
    local low, high = value[1], value[2]
    if low == nil and high == nil then low, high = value.min, value.max end
    if low == nil and high == nil then
        raise("invalid_argument", op, "opts.%s: expected {low, high}, or {min =, max =} with one of them", name)
    end
    for _, x in ipairs { low == nil and 0 or low, high == nil and 0 or high } do
        if not scale.is_finite(x) then
            raise("invalid_argument", op, "opts.%s: expected finite numbers, got %s", name, check.describe(x))
        end
    end
    if low and high and low >= high then
        raise("invalid_argument", op, "opts.%s: the low limit %s is not below the high one %s", name, scale.text(low),
            scale.text(high))
    end
    if log and (low and low <= 0 or high and high <= 0) then
        raise("invalid_argument", op, "opts.%s: a log axis needs limits above 0", name)
    end
    return { low, high }
end

-- A number, a list of them, {at =, label =} or a list of these.
local function read_references(op, name, value, log)
    if value == nil then return nil end
    if type(value) == "number" or type(value) == "table" and value.at ~= nil then value = { value } end
    check.list(op, "opts." .. name, value, "a number, {at =, label =}, or a list of these")
    local rows = {}
    for i, item in ipairs(value) do
        local what = ("opts.%s[%d]"):format(name, i)
        if type(item) == "number" then item = { at = item } end
        item = options.check(op, item, { at = "number", label = "string" }, what)
        if not scale.is_finite(item.at) then
            raise("invalid_argument", op, "%s: expected a finite number, got %s", what, check.describe(item.at))
        end
        if log and item.at <= 0 then
            raise("invalid_argument", op, "%s: %s cannot be on a log axis", what, scale.text(item.at))
        end
        rows[i] = { at = item.at, label = item.label }
    end
    return rows
end

-- The title of the legend; nil where there is none.
local function read_legend(op, given, default)
    if given == nil then return default end
    if given == false then return nil end
    return check.type(op, "opts.legend", given, "string", "its title, or false for none")
end

local LEAST_SIZE, MOST_SIZE = 120, 10000

local function read_size(op, size)
    if size == nil then return nil end
    if check.list(op, "opts.size", size, "{width, height} in pixels") ~= 2 then
        raise("invalid_argument", op, "opts.size: expected {width, height} in pixels, got %d entries", #size)
    end
    return { check.integer(op, "opts.size[1]", size[1], LEAST_SIZE, MOST_SIZE),
        check.integer(op, "opts.size[2]", size[2], LEAST_SIZE, MOST_SIZE) }
end

-- ---- The best point ------------------------------------------------------------------------------------------------

-- A place in words: "scale 2, layer 5".
local function place_text(value, label, name, legend)
    local words = { (label ~= "" and label .. " " or "") .. scale.text(value, nil, 4) }
    if name then words[2] = (legend and legend ~= "" and legend .. " " or "") .. scale.text(name) end
    return table.concat(words, ", ")
end

-- Walks over the drawn points: visit(x, y, value, where).
local function each_point(chart, visit)
    for _, cell in ipairs(chart.cells or {}) do
        if cell.stats then
            visit(cell.i, cell.j, cell.stats.value,
                place_text(chart.xs[cell.i], chart.xlabel, chart.ys[cell.j], chart.ylabel))
        end
    end
    local n = #(chart.groups or {})
    for g, group in ipairs(chart.groups or {}) do
        local shift = 0
        if chart.kind == "bars" then shift = (g - (n + 1) / 2) * 0.8 / n
        elseif chart.text_x then shift = (g - (n + 1) / 2) * 0.5 / n end
        for _, point in ipairs(group.points) do
            if point.stats then
                visit(point.at + shift, point.stats.value, point.stats.value,
                    place_text(point.x, chart.xlabel, n > 1 and group.name or nil, chart.legend))
            end
        end
    end
end

local function find_best(op, chart, way)
    if way ~= "max" and way ~= "min" then
        raise("invalid_argument", op, 'opts.best: expected "max" or "min", got "%s"', way)
    end
    local best
    each_point(chart, function(x, y, value, where)
        if not best or (way == "max" and value > best.value or way == "min" and value < best.value) then
            local text = ("%s at %s"):format(scale.text(value, chart.format, 4), where)
            best = { x = x, y = y, value = value, text = text }
        end
    end)
    if best and not chart.cells then
        local first, last = chart.xs[1], chart.xs[#chart.xs]
        if chart.text_x then first, last = 1, #chart.xs end
        best.on_right = best.x > (first + last) / 2
    end
    return best
end

-- ---- Public --------------------------------------------------------------------------------------------------------

local function check_reference_range(chart)
    for _, row in ipairs(chart.hline or {}) do
        chart.low, chart.high = math.min(chart.low, row.at), math.max(chart.high, row.at)
    end
end

--- Gives a chart what the options say of its looks.
function M.apply(op, chart, opts)
    M.check_kind(op, opts, chart.kind)
    chart.palette, chart.walked = style.read(op, opts.palette)
    chart.size = read_size(op, opts.size)
    chart.format = scale.check_format(op, opts.format)
    for _, axis in ipairs { "x", "y", "z" } do
        chart[axis .. "label"] = opts[axis .. "label"] or chart[axis .. "label"]
        chart[axis .. "lim"] = read_limits(op, axis .. "lim", opts[axis .. "lim"], opts["log" .. axis])
    end
    chart.measure = opts.ylabel or chart.measure
    chart.legend = read_legend(op, opts.legend, chart.legend)
    chart.hline = read_references(op, "hline", opts.hline, opts.logy)
    chart.vline = read_references(op, "vline", opts.vline, opts.logx)
    check_reference_range(chart)
    if opts.best then chart.best = find_best(op, chart, opts.best) end
    return chart
end

return M
