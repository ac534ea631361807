--- Histograms as gnuplot draws them: filled steps, which show through where series overlap.
local script = require "steer.plot.script"

local M = {}

function M.settings(chart)
    local lines = script.frame(chart)
    script.set_x(lines, chart)
    script.set_y(lines, chart, true)
    script.add_marks(lines, chart)
    return lines
end

--- A block for each series: the edges of the bins, and what is in the bin that begins there.
function M.data(chart)
    local out = { ("# edge\t%s\t%s"):format(script.clean(chart.ylabel), script.clean(chart.legend or "group")) }
    for i, group in ipairs(chart.groups) do
        if i > 1 then out[#out + 1] = "\n" end
        local function add(edge, count)
            out[#out + 1] = ("%.17g\t%.17g\t%s"):format(edge, count, script.clean(group.name))
        end
        add(chart.xs[1], chart.base)
        for b, count in ipairs(group.counts) do add(chart.xs[b], math.max(count, chart.base)) end
        add(chart.xs[#chart.xs], chart.base)
    end
    return table.concat(out, "\n") .. "\n"
end

function M.plot(chart, data, is_terminal)
    local parts = {}
    for i, group in ipairs(chart.groups) do
        if not is_terminal then
            parts[#parts + 1] = ("%s index %d using 1:2 with fillsteps fc rgb '%s' fs transparent solid %.2f noborder "
                .. "notitle"):format(data, i - 1, group.colour, #chart.groups == 1 and 0.85 or 0.35)
        end
        parts[#parts + 1] = ("%s index %d using 1:2 with steps lc rgb '%s' lw %g dt %d %s"):format(data, i - 1,
            group.colour, #chart.groups == 1 and 0.5 or 2, group.dash, script.title_of(chart, i))
    end
    return "plot " .. table.concat(parts, ", \\\n     ")
end

return M
