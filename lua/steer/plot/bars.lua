--- Bars side by side, with intervals, as gnuplot draws them.
local script = require "steer.plot.script"

local M = {}

local ROOM = 0.8 -- of a place, for its bars

function M.settings(chart)
    local lines = script.frame(chart)
    lines[#lines + 1] = "set style fill solid 0.85 noborder"
    lines[#lines + 1] = "set xtics scale 0"
    script.set_x(lines, chart)
    local low, high = script.set_y(lines, chart)
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
    for i, group in ipairs(chart.groups) do
        local x = ("($1%+.4f)"):format((i - (n + 1) / 2) * width)
        parts[#parts + 1] = ("%s index %d using %s:2:(%.4f) with boxes lc rgb '%s' %s"):format(data, i - 1, x,
            width * (n > 1 and 0.95 or 1), group.colour, script.title_of(chart, i))
        if chart.bars then
            parts[#parts + 1] = ("%s index %d using %s:2:3:4 with yerrorbars lc rgb 'black' lw 1.5 pt 0 notitle")
                :format(data, i - 1, x)
        end
    end
    return "plot " .. table.concat(parts, ", \\\n     ")
end

return M
