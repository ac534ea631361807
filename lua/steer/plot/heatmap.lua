--- Heatmaps as gnuplot draws them; the texts and colours of their cells serve the terminal too.
local scale = require "steer.plot.scale"
local script = require "steer.plot.script"
local style = require "steer.plot.style"

local M = {}

local MOST_ROWS = 24                   -- labels of an axis
local PLAIN = 4096                     -- cells that are drawn one by one; more of them are one image
local SIZES = { 15, 12, 10 }           -- of letters in a cell, in pixels
local WIDE, HIGH = 0.6, 1.25           -- of a letter, as shares of its size
local ACROSS, DOWN = 0.7, 0.72         -- what the cells have of a picture

local function is_signed(chart)
    return chart.low < 0 and chart.high > 0
end

--- Gives the values at the ends of the colours.
function M.colour_range(chart)
    local low, high = chart.low, chart.high
    if is_signed(chart) and not chart.zlim then
        high = math.max(-low, high)
        return -high, high
    elseif low == high then
        return scale.range(low, high, chart.logz, false, chart.zlim)
    end
    if chart.zlim then
        return scale.range(low, high, chart.logz, false, { chart.zlim[1] or low, chart.zlim[2] or high })
    end
    return low, high
end

--- Gives a value's place on the colours, from 0 to 1.
function M.share(chart, value)
    local low, high = M.colour_range(chart)
    local share
    if chart.logz then
        share = math.log(value / low) / math.log(high / low)
    else
        share = (value / 2 - low / 2) / (high / 2 - low / 2)
    end
    return math.min(math.max(share, 0), 1)
end

local function length(text)
    return select(2, text:gsub("[^\128-\191]", ""))
end

-- What is left of a number where the greatest has so many digits.
local function rounded(value, largest, digits)
    local unit = 10 ^ (math.floor(math.log10(largest)) - digits + 1)
    local out = math.floor(value / unit + 0.5) * unit
    return out == out and math.abs(out) < math.huge and out + 0 or value
end

local function cell_text(chart, value, digits)
    if chart.format or chart.logz then return scale.text(value, chart.format, digits) end
    local largest = math.max(math.abs(chart.low), math.abs(chart.high))
    local shown = largest > 0 and rounded(value, largest, digits) or value
    if shown == 0 and chart.low > 0 then return scale.text(tonumber(("%.1g"):format(value))) end -- where nothing is 0
    local text = scale.text(shown, nil, digits)
    return text == "-0" and "0" or text
end

--- Writes the cells' numbers with as many digits as have room, from 4 down to 2; those near 0 have fewer.
-- @tparam table chart
-- @tparam number room letters that fit
-- @tparam[opt=2] number fewest digits
-- @treturn table list of texts by cell; nil where not all numbers fit, or where there is no place for any
function M.texts(chart, room, fewest)
    fewest = fewest or 2
    for digits = chart.format and fewest or 4, fewest, -1 do -- a format has its own
        local list, fits = {}, true
        for i, cell in ipairs(chart.cells) do
            list[i] = cell.stats and cell_text(chart, cell.stats.value, digits) or cell.word
            if cell.stats and length(list[i]) > room then
                fits = false
                break
            elseif length(list[i]) > room then
                list[i] = ""
            end
        end
        if fits then return list end
    end
end

-- Texts and their size for a picture of so many pixels.
local function fitting(chart)
    local size = chart.size or { 960, 560 }
    local width, height = size[1] * ACROSS / #chart.xs, size[2] * DOWN / #chart.ys
    for fewest = 3, 2, -1 do -- smaller letters rather than fewer digits
        for _, pixels in ipairs(SIZES) do
            local room = math.floor(width / (pixels * WIDE)) - 1
            local texts = height >= pixels * HIGH and M.texts(chart, room, fewest)
            if texts then return texts, pixels end
        end
    end
end

function M.settings(chart)
    local stops = {}
    for i, colour in ipairs(style.heat(chart)) do stops[i] = ("%d '%s'"):format(i - 1, colour) end
    if #stops == 1 then stops[2] = stops[1]:gsub("^0", "1") end
    local low, high = M.colour_range(chart)
    local lines = { "unset key", "set tics scale 0",
        "set object 1 rectangle from graph 0,0 to graph 1,1 behind fc rgb '#d9d9d9' fs solid noborder", -- no number
        "set palette defined (" .. table.concat(stops, ", ") .. ")",
        "set cblabel " .. script.quote(chart.zlabel) .. " offset 1,0" }
    script.set_range(lines, "x", 0.5, #chart.xs + 0.5)
    script.set_range(lines, "y", #chart.ys + 0.5, 0.5) -- the first row on top, as tensors and tables print
    script.set_range(lines, "cb", low, high)
    script.set_places(lines, chart.xs)
    script.set_ticks(lines, "y", (scale.places(chart.ys, MOST_ROWS)))
    if chart.logz then lines[#lines + 1] = "set logscale cb" end
    script.set_ticks(lines, "cb", chart.logz and scale.log(low, high, chart.format)
        or scale.linear(low, high, 7, chart.format))
    local best = chart.best
    if best then
        lines[#lines + 1] = ("set object 2 rectangle from first %.1f, first %.1f to first %.1f, first %.1f front "
            .. "fs empty border lc rgb 'black' lw 3"):format(best.x - 0.5, best.y - 0.5, best.x + 0.5, best.y + 0.5)
    end
    return lines
end

function M.plot(chart, data)
    local using, kind = "1:2:3", #chart.cells <= PLAIN and "image pixels" or "image"
    if #chart.xs == 1 or #chart.ys == 1 then -- no image for gnuplot
        using, kind = "1:2:(0.5):(0.5):3", "boxxyerror fc palette fs solid noborder"
    end
    local parts = { ("%s using %s with %s title %s"):format(data, using, kind, script.quote(chart.zlabel)) }
    local texts, size = fitting(chart)
    if texts then
        parts[#parts + 1] = ("%s using 1:2:4:5 with labels tc rgb variable font ',%d' notitle"):format(data, size)
    end
    return "plot " .. table.concat(parts, ", \\\n     ")
end

--- Tells whether letters on a colour (red, green, blue from 0 to 255) are to be white.
function M.is_dark(r, g, b)
    return 0.299 * r + 0.587 * g + 0.114 * b < 140
end

-- A number's colour that stands out from its cell's: black on light, white on dark.
local function label_colour(chart, value)
    if not value then return 0x555555 end
    return M.is_dark(style.along(style.heat(chart), M.share(chart, value))) and 0xFFFFFF or 0
end

function M.data(chart)
    local out = { ("# column\trow\tvalue\tlabel\tcolour\tlow\thigh\tmin\tmax\tn\t%s\t%s"):format(
        script.clean(chart.xlabel), script.clean(chart.ylabel)) }
    local shown = fitting(chart)
    local texts = shown or {}
    for i, cell in ipairs(chart.cells) do
        local s = cell.stats
        local numbers = s and ("%.17g\t%.17g\t%.17g\t%.17g\t%d"):format(s.low, s.high, s.min, s.max, s.n)
            or "NaN\tNaN\tNaN\tNaN\t0"
        out[#out + 1] = table.concat({ cell.i, cell.j, s and ("%.17g"):format(s.value) or "NaN",
            texts[i] and script.clean(texts[i]) or "", shown and label_colour(chart, s and s.value) or 0, numbers,
            script.clean(chart.xs[cell.i]), script.clean(chart.ys[cell.j]) }, "\t")
    end
    return table.concat(out, "\n") .. "\n"
end

return M
