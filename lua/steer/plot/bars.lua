--- Bars side by side, with intervals, as gnuplot draws them.
local script = require "steer.plot.script"

local M = {}

local ROOM = 0.8 -- of a place, for its bars

function M.settings(chart)
    local lines = script.frame(chart)
    lines[#lines + 1] = "set style fill solid 0.85 noborder"
    lines[#lines + 1] = "set errorbars lc rgb 'black' lw 1.5"
    lines[#lines + 1] = "set xtics scale 0"
    script.set_x(lines, chart)
    local low, high = script.set_y(lines, chart, true)
    if chart.best then chart.best.on_top = chart.best.y > (low + high) / 2 end
    if low < 0 and high > 0 and not chart.logy then
        lines[#lines + 1] = "set arrow from graph 0, first 0 to graph 1, first 0 nohead front lc rgb '#888888' lw 1"
    end
    script.add_marks(lines, chart)
    return lines
end

M.data = script.data

function M.plot(chart, data)
    local parts, n = {}, #chart.groups
    local width = ROOM / n
    local columns, style = "2", "boxes"
    if chart.bars then columns, style = "2:3:4", "boxerrorbars" end
    for i, group in ipairs(chart.groups) do
        local x = ("($1%+.4f)"):format((i - (n + 1) / 2) * width)
        parts[i] = ("%s index %d using %s:%s:(%.4f) with %s lc rgb '%s' %s"):format(data, i - 1, x, columns,
            width * (n > 1 and 0.95 or 1), style, group.colour, script.title_of(chart, i))
    end
    return "plot " .. table.concat(parts, ", \\\n     ")
end

return M
