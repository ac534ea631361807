--- tostring of a tensor: aligned columns and its shape, from a copy of the shown corners only.
local base = require "steer.tensor.object"

local methods, meta = base.methods, base.metatable

-- A dimension longer than its limit shows `edge` elements at each end.
local VECTOR = { limit = 100, edge = 5 }
local COLUMNS = { limit = 12, edge = 5 }
local ROWS = { limit = 20, edge = 5 }
local OUTER = { limit = 6, edge = 3 }
local PER_LINE = 10  -- elements of a vector on a line, if they fit
local LINE_WIDTH = 80
local LONG = 8 -- lines above which the shape comes first

local function rule_of(d, ndim)
    if ndim == 1 then return VECTOR end
    return d == ndim and COLUMNS or ndim == 2 and ROWS or OUTER
end

--- Finds the ranges of each dimension to show: { {start, length}, ... }, one range or two.
local function shown_ranges(shape)
    local ranges = {}
    for d, size in ipairs(shape) do
        local rule = rule_of(d, #shape)
        if size <= rule.limit then
            ranges[d] = { { 1, size } }
        else
            ranges[d] = { { 1, rule.edge }, { size - rule.edge + 1, rule.edge } }
        end
    end
    return ranges
end

--- Copies the shown corners side by side into a small tensor of nested tables.
local function corners(tensor, ranges)
    local shape, whole = {}, true
    for d, list in ipairs(ranges) do
        shape[d] = list[1][2] + (list[2] and list[2][2] or 0)
        whole = whole and not list[2]
    end
    if whole then return tensor:totable() end
    local small = require("steer.tensor").empty(shape, { dtype = tensor.dtype, device = tensor.device })
    local function copy(from, to, d)
        if d > #ranges then
            to:copy_(from)
            return
        end
        local start = 1
        for _, range in ipairs(ranges[d]) do
            copy(from:narrow(d, range[1], range[2]), to:narrow(d, start, range[2]), d + 1)
            start = start + range[2]
        end
    end
    copy(tensor, small, 1)
    return small:totable()
end

local function each(values, visit)
    if type(values) == "number" then return visit(values) end
    for i = 1, #values do each(values[i], visit) end
end

--- Picks one printf format for all shown numbers.
local function pick_format(values)
    local integral, largest, least = true, 0, math.huge
    each(values, function(x)
        local size = math.abs(x)
        if size < math.huge then -- finite
            integral = integral and x % 1 == 0
            largest = math.max(largest, size)
            if size > 0 then least = math.min(least, size) end
        end
    end)
    if integral and largest < 1e15 then return "%.0f" end
    if largest >= 1e6 or least < 1e-4 and largest < 1e-2 then return "%.4e" end
    return "%.4f"
end

local function text_of(x, format)
    if x ~= x then return "nan" end
    if x == math.huge then return "inf" elseif x == -math.huge then return "-inf" end
    return string.format(format, x)
end

--- Writes one line of numbers; `gap` is the position before which "..." stands, or nil.
local function line(row, first, last, gap, format, width)
    local parts = {}
    for i = first, last do
        if i == gap then parts[#parts + 1] = "..." end
        local text = text_of(row[i], format)
        parts[#parts + 1] = string.rep(" ", width - #text) .. text
    end
    return " " .. table.concat(parts, "  ")
end

local function gap_of(list)
    return list[2] and list[1][2] + 1 or nil
end

--- Gives how many numbers fit on a line.
local function fitting(width)
    return math.max(2, math.floor((LINE_WIDTH + 1) / (width + 2)))
end

--- Writes a row on one line: what does not fit is left out of its middle.
local function row_line(row, gap, format, width)
    local fit = fitting(width)
    if #row + (gap and 1 or 0) <= fit then return line(row, 1, #row, gap, format, width) end
    local ends, edge = {}, math.max(1, math.floor((fit - 1) / 2)) -- "..." takes the place of a number
    for i = 1, edge do ends[i], ends[edge + i] = row[i], row[#row - edge + i] end
    return line(ends, 1, 2 * edge, edge + 1, format, width)
end

local function vector_lines(lines, row, gap, format, width)
    if gap then
        lines[#lines + 1] = row_line(row, gap, format, width)
        return
    end
    local per_line = math.min(PER_LINE, fitting(width))
    for first = 1, #row, per_line do
        lines[#lines + 1] = line(row, first, math.min(first + per_line - 1, #row), nil, format, width)
    end
end

--- Writes the 2-D slices of nested tables, each under a heading such as "(1, 2, :, :)" if there is more than one.
local function slices(lines, values, ranges, d, heading, format, width)
    local gap = gap_of(ranges[d])
    if d < #ranges - 1 then
        for i = 1, #values do
            if i == gap then lines[#lines + 1] = "..." end
            local index = i <= ranges[d][1][2] and i or ranges[d][2][1] + i - gap
            slices(lines, values[i], ranges, d + 1, heading .. index .. ", ", format, width)
        end
        return
    end
    if heading ~= "" then lines[#lines + 1] = "(" .. heading .. ":, :)" end
    for i = 1, #values do
        if i == gap then lines[#lines + 1] = " ..." end
        lines[#lines + 1] = row_line(values[i], gap_of(ranges[d + 1]), format, width)
    end
end

--- Writes a tensor's shape as "2x3".
function base.size_text(tensor)
    local sizes = tensor:shape()
    for d, size in ipairs(sizes) do sizes[d] = string.format("%.0f", size) end
    return #sizes == 0 and "scalar" or table.concat(sizes, "x")
end

--- Names a tensor: "[tensor 2x3 f32 cpu]".
function base.title(tensor)
    if tensor.handle == nil then return "[closed tensor]" end
    return string.format("[tensor %s %s %s]", base.size_text(tensor), tensor.dtype, tensor.device)
end

function meta.__tostring(self)
    if self.handle == nil then return base.title(self) end
    local shape, lines = self:shape(), {}
    if self:numel() > 0 then
        local ranges = shown_ranges(shape)
        local values = corners(self, ranges)
        local format, width = pick_format(values), 0
        each(values, function(x) width = math.max(width, #text_of(x, format)) end)
        if #shape == 0 then
            lines[1] = " " .. text_of(values, format)
        elseif #shape == 1 then
            vector_lines(lines, values, gap_of(ranges[1]), format, width)
        else
            slices(lines, values, ranges, 1, "", format, width)
        end
    end
    table.insert(lines, #lines > LONG and 1 or #lines + 1, base.title(self))
    return table.concat(lines, "\n")
end

--- Gives the tensor as text, as print shows it: long dimensions are elided and never copied. Waits for the GPU.
function methods:tostring()
    base.use(self, "tensor_tostring", "self")
    return meta.__tostring(self)
end
