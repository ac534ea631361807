--- Lines and scatter plots as gnuplot draws them.
local script = require "steer.plot.script"
local series = require "steer.plot.series"

local M = {}

local MANY, DENSE = 40, 15 -- points of a series: from here on lines have no points, intervals are bands

function M.settings(chart)
    local lines = script.frame(chart)
    script.set_x(lines, chart)
    local low, high = script.set_y(lines, chart, not chart.scattered)
    if chart.best then chart.best.on_top = chart.best.y > (low + high) / 2 end
    script.add_marks(lines, chart)
    return lines
end

M.data = script.data

local function most_points(chart)
    local most = 0
    for _, group in ipairs(chart.groups) do most = math.max(most, #group.points) end
    return most
end

local function style_of(chart, bars, points, is_terminal)
    if chart.text_x or chart.scattered and not chart.joined then return bars and "yerrorbars" or "points" end
    if bars then return "yerrorlines" end
    return (points > MANY or is_terminal and points > DENSE) and "lines" or "linespoints"
end

-- The size of points: the more there are, the smaller.
local function size_of(chart, points)
    if chart.scattered and not chart.joined then return points > 200 and 0.5 or 0.8 end
    return #chart.groups > 10 and 0.6 or points > DENSE and 0.7 or 1
end

--- The plot command: each series an element, its interval as bars or as a band behind it.
function M.plot(chart, data, is_terminal)
    local parts, points = {}, most_points(chart)
    local shown = series.has_intervals(chart)
    local bands = shown and points > DENSE and not chart.text_x and not chart.scattered
    local style = style_of(chart, shown and not bands, points, is_terminal)
    local size = size_of(chart, points)
    for i, group in ipairs(chart.groups) do
        local shift = (i - (#chart.groups + 1) / 2) * 0.5 / #chart.groups -- so that no bar hides another
        local x = chart.text_x and ("($1%+.3f)"):format(shift) or "1"
        if bands and not is_terminal then
            parts[#parts + 1] = ("%s index %d using %s:3:4 with filledcurves fc rgb '%s' fs transparent solid 0.2 "
                .. "noborder notitle"):format(data, i - 1, x, group.colour)
        end
        local dash = style:find "line" and (" dt %d"):format(group.dash) or ""
        local point = is_terminal and script.quote(script.letter(i)) or group.point
        parts[#parts + 1] = ("%s index %d using %s:2%s with %s lc rgb '%s' lw 2%s pt %s ps %g %s"):format(data, i - 1,
            x, shown and not bands and ":3:4" or "", style, group.colour, dash, point, size, script.title_of(chart, i))
    end
    return "plot " .. table.concat(parts, ", \\\n     ")
end

return M
