--- Writes gnuplot scripts for charts and runs them.
--
-- A lines chart: {kind="lines", title={lines}, xlabel=, ylabel=, legend=, xs={values}, text_x=, low=, high=, logx=,
-- logy=, bars=, groups={{name=, look=, points={{x=, at=, stats=}}}}}; a heatmap: {kind="heatmap", title=, xlabel=,
-- ylabel=, zlabel=, xs=, ys=, low=, high=, logz=, cells={{i=, j=, stats= or word=}}}. Everything from outside is
-- quoted, so that gnuplot expands nothing.
local raise = require("steer._error").raise
local text_of = require("steer._results").text

local M = {}

M.MISSING = "gnuplot: it is not on PATH; on Debian and Ubuntu: apt-get install gnuplot-nox; elsewhere: "
    .. "http://www.gnuplot.info"

-- Okabe and Ito's colours, told apart by all kinds of colour vision, and point types for those who see none. Their
-- numbers have no common divisor: 70 lines look different.
local COLOURS = { "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000" }
local POINTS = { 7, 5, 9, 13, 11, 6, 4, 8, 12, 10 }

-- Viridis, dark to light; and blue over white to red for values on both sides of 0.
local RISING = { "#440154", "#472D7B", "#3B528B", "#2C728E", "#21918C", "#28AE80", "#5EC962", "#ADDC30", "#FDE725" }
local SIGNED = { "#2166AC", "#67A9CF", "#D1E5F0", "#F7F7F7", "#FDDBC7", "#EF8A62", "#B2182B" }

-- Control characters become a space, the two that XML has no place for, U+FFFE and U+FFFF, U+FFFD.
local function clean(text)
    return (text_of(text):gsub("%c+", " "):gsub("\194[\128-\159]", " ")
        :gsub("\239\191[\190\191]", "\239\191\189"))
end

-- In single quotes two quotes are one, but not everywhere: these are double quotes, what is special in them escaped.
local escapes = { ["\\"] = "\\\\", ['"'] = '\\"', ["`"] = "\\140" }

local function quote(text)
    return '"' .. clean(text):gsub('[\\"`]', escapes) .. '"'
end

-- Labels of ticks are formats.
local function tick(text, at)
    return ("%s %.17g"):format(quote((text_of(text):gsub("%%", "%%%%"))), at)
end

-- ---- Ranges and ticks ----------------------------------------------------------------------------------------------

local LEAST, MOST = 1e-307, 1e308 -- gnuplot takes no larger or smaller numbers

-- Room around the values; from 0 if asked and the values are not far from it.
local function range(low, high, log, from_zero)
    if log then
        local factor = math.max(10 ^ (0.05 * (math.log10(high) - math.log10(low))), 1.05)
        return math.max(low / factor, LEAST), math.min(high * factor, MOST)
    end
    local pad = high > low and math.min(high - low, MOST) * 0.05 or math.max(math.abs(high) * 0.1, 0.5)
    if from_zero and low >= 0 and low < high / 2 then return 0, high + pad end
    return math.max(low - pad, -MOST), math.min(high + pad, MOST)
end

-- 1, 2 and 5 of each decade, or the decades alone, or some of them where there are many.
local function log_ticks(low, high)
    local first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    local list, steps = {}, last - first > 4 and { 1 } or { 1, 2, 5 }
    for decade = first, last, math.max(1, math.ceil((last - first) / 12)) do
        for _, step in ipairs(steps) do
            local value = step * 10 ^ decade
            if value >= low and value <= high then list[#list + 1] = tick(value, value) end
        end
    end
    return list
end

-- Ticks at the values themselves where they have room; else nil.
local function value_ticks(values, log)
    local list, first, last = {}, values[1], values[#values]
    local function at(x) return log and math.log(x) or x end
    for i, x in ipairs(values) do
        if i > 1 and at(x) - at(values[i - 1]) < (at(last) - at(first)) / 14 then return nil end
        list[i] = tick(x, x)
    end
    return list
end

local function set_ticks(lines, axis, list)
    if list and #list > 0 then
        lines[#lines + 1] = ("set %stics (%s)"):format(axis, table.concat(list, ", "))
    else
        lines[#lines + 1] = ("set format %s '%%.7g'"):format(axis)
    end
end

local function set_range(lines, axis, low, high)
    lines[#lines + 1] = ("set %srange [%.17g:%.17g]"):format(axis, low, high)
end

-- ---- Lines ---------------------------------------------------------------------------------------------------------

-- Ticks for values that stand side by side: at most so many of them.
local function text_ticks(values, most)
    local list = {}
    for i = 1, #values, math.ceil(#values / most) do list[#list + 1] = tick(values[i], i) end
    return list
end

local MOST_COLUMNS, MOST_ROWS, MOST_CHARACTERS = 40, 24, 70 -- labels of an axis that fit side by side

local function turn_long(lines, values)
    local characters = 0
    for _, value in ipairs(values) do characters = characters + #text_of(value) + 1 end
    if characters > MOST_CHARACTERS then lines[#lines + 1] = "set xtics rotate by -35" end
end

local function lines_settings(chart)
    local lines = { "set grid back lt 1 dt 1 lc rgb '#d8d8d8' lw 1", "set border 3", "set xtics nomirror",
        "set ytics nomirror", "set key outside right top vertical Left reverse samplen 2 noenhanced" }
    if chart.legend then
        lines[#lines + 1] = "set key title " .. quote(chart.legend) .. " left"
    else
        lines[#lines + 1] = "unset key"
    end
    if chart.text_x then
        set_range(lines, "x", 0.5, #chart.xs + 0.5)
        set_ticks(lines, "x", text_ticks(chart.xs, MOST_COLUMNS))
        turn_long(lines, chart.xs)
    else
        local low, high = chart.xs[1], chart.xs[#chart.xs]
        if chart.logx then lines[#lines + 1] = "set logscale x" end
        set_ticks(lines, "x", value_ticks(chart.xs, chart.logx) or chart.logx and log_ticks(low, high))
        set_range(lines, "x", range(low, high, chart.logx))
    end
    local low, high = range(chart.low, chart.high, chart.logy, true)
    if chart.logy then
        lines[#lines + 1] = "set logscale y"
        set_ticks(lines, "y", log_ticks(low, high))
    else
        set_ticks(lines, "y")
    end
    set_range(lines, "y", low, high)
    return lines
end

local function lines_plot(chart, data)
    local parts = {}
    local style = chart.text_x and (chart.bars and "yerrorbars" or "points")
        or (chart.bars and "yerrorlines" or "linespoints")
    for i, group in ipairs(chart.groups) do
        local shift = (i - (#chart.groups + 1) / 2) * 0.5 / #chart.groups -- so that no bar hides another
        local look = group.look or i
        local x = chart.text_x and ("($1%+.3f)"):format(shift) or "1"
        parts[i] = ("%s index %d using %s:2%s with %s lc rgb '%s' lw 2 pt %d ps 1 title %s"):format(data, i - 1,
            x, chart.bars and ":3:4" or "", style, COLOURS[(look - 1) % #COLOURS + 1], POINTS[(look - 1) % #POINTS + 1],
            quote(group.name == "" and '""' or group.name)) -- an empty title is none
    end
    return "plot " .. table.concat(parts, ", \\\n     ")
end

-- One block of lines per group, two empty lines between them.
local function lines_data(chart)
    local out = { ("# x\tmedian\tq1\tq3\tmin\tmax\tn\t%s\t%s"):format(clean(chart.xlabel),
        clean(chart.legend or "group")) }
    for i, group in ipairs(chart.groups) do
        if i > 1 then out[#out + 1] = "\n" end
        for _, point in ipairs(group.points) do
            local s = point.stats
            out[#out + 1] = ("%.17g\t%.17g\t%.17g\t%.17g\t%.17g\t%.17g\t%d\t%s\t%s"):format(point.at, s.median, s.q1,
                s.q3, s.min, s.max, s.n, clean(point.x), clean(group.name))
        end
    end
    return table.concat(out, "\n") .. "\n"
end

-- ---- Heatmaps ------------------------------------------------------------------------------------------------------

local LABELLED_COLUMNS, LABELLED_ROWS = 14, 24 -- cells beyond these are too small for their numbers

local function has_labels(chart)
    return #chart.xs <= LABELLED_COLUMNS and #chart.ys <= LABELLED_ROWS
end

local function is_signed(chart)
    return chart.low < 0 and chart.high > 0
end

local function colour_range(chart)
    if is_signed(chart) then
        local most = math.max(-chart.low, chart.high)
        return -most, most
    elseif chart.low == chart.high then
        return range(chart.low, chart.high, chart.logz)
    end
    return chart.low, chart.high
end

local function heatmap_settings(chart)
    local stops = {}
    for i, colour in ipairs(is_signed(chart) and SIGNED or RISING) do stops[i] = ("%d '%s'"):format(i - 1, colour) end
    local low, high = colour_range(chart)
    local lines = { "unset key", "set tics scale 0",
        "set object 1 rectangle from graph 0,0 to graph 1,1 behind fc rgb '#d9d9d9' fs solid noborder", -- no number
        "set palette defined (" .. table.concat(stops, ", ") .. ")",
        "set cblabel " .. quote(chart.zlabel) }
    set_range(lines, "x", 0.5, #chart.xs + 0.5)
    set_range(lines, "y", 0.5, #chart.ys + 0.5)
    set_range(lines, "cb", low, high)
    set_ticks(lines, "x", text_ticks(chart.xs, MOST_COLUMNS))
    set_ticks(lines, "y", text_ticks(chart.ys, MOST_ROWS))
    turn_long(lines, chart.xs)
    if chart.logz then lines[#lines + 1] = "set logscale cb" end
    set_ticks(lines, "cb", chart.logz and log_ticks(low, high))
    return lines
end

local function heatmap_plot(chart, data, is_terminal)
    local parts = { not is_terminal and data .. " using 1:2:3 with image pixels title " .. quote(chart.zlabel) or nil }
    if is_terminal then
        parts[#parts + 1] = data .. " using 1:2:4 with labels"
    elseif has_labels(chart) then
        parts[#parts + 1] = data .. " using 1:2:4:5 with labels tc rgb variable notitle"
    end
    return "plot " .. table.concat(parts, ", \\\n     ")
end

-- A number's colour that stands out from its cell's: black on light, white on dark.
local function label_colour(chart, value)
    if not value then return 0x555555 end
    local low, high = colour_range(chart)
    local share = (value - low) / (high - low)
    if chart.logz then share = math.log(value / low) / math.log(high / low) end
    local is_dark = share < 0.6
    if is_signed(chart) then is_dark = math.abs(share - 0.5) > 0.4 end
    return is_dark and 0xFFFFFF or 0
end

local function heatmap_data(chart)
    local out = { ("# column\trow\tmedian\tlabel\tcolour\tq1\tq3\tmin\tmax\tn\t%s\t%s"):format(clean(chart.xlabel),
        clean(chart.ylabel)) }
    for _, cell in ipairs(chart.cells) do
        local s = cell.stats
        local numbers = s and ("%.17g\t%.17g\t%.17g\t%.17g\t%d"):format(s.q1, s.q3, s.min, s.max, s.n)
            or "NaN\tNaN\tNaN\tNaN\t0"
        out[#out + 1] = table.concat({ cell.i, cell.j, s and ("%.17g"):format(s.median) or "NaN",
            s and text_of(s.median) or cell.word, label_colour(chart, s and s.median), numbers, clean(chart.xs[cell.i]),
            clean(chart.ys[cell.j]) }, "\t")
    end
    return table.concat(out, "\n") .. "\n"
end

-- ---- Scripts -------------------------------------------------------------------------------------------------------

local KINDS = {
    lines = { settings = lines_settings, plot = lines_plot, data = lines_data },
    heatmap = { settings = heatmap_settings, plot = heatmap_plot, data = heatmap_data },
}

M.COLOURS = #COLOURS

--- The chart's numbers as text, columns separated by tabs.
function M.data(chart)
    return KINDS[chart.kind].data(chart)
end

local WIDTH, HEIGHT = 960, 560
local SVG = "set terminal svg size %d,%d dynamic noenhanced font 'Helvetica,Arial,sans-serif,15'"
local PNG = ("set terminal pngcairo size %d,%d noenhanced font 'Sans,15'"):format(2 * WIDTH, 2 * HEIGHT)

local function title_of(chart)
    local words = {}
    for i, line in ipairs(chart.title) do words[i] = quote(line) end
    return table.concat(words, [[."\n".]])
end

local function settings(chart)
    local lines = { "set encoding utf8", "set datafile separator \"\\t\"", "set title " .. title_of(chart),
        "set xlabel " .. quote(chart.xlabel), "set ylabel " .. quote(chart.ylabel) }
    for _, line in ipairs(KINDS[chart.kind].settings(chart)) do lines[#lines + 1] = line end
    return table.concat(lines, "\n")
end

--- The script that draws NAME.svg and NAME.png from NAME.tsv, in the folder of these. A name that begins with | or <
-- would be a command.
function M.script(chart, name)
    local plot = KINDS[chart.kind].plot(chart, quote("./" .. name .. ".tsv"))
    return table.concat({
        "# Draws the .svg and the .png beside this script from the .tsv: run gnuplot in this folder.",
        settings(chart), SVG:format(WIDTH, HEIGHT) .. " background 'white'",
        "set output " .. quote("./" .. name .. ".svg"), plot,
        PNG .. " fontscale 1.9 linewidth 2 pointscale 2", "set output " .. quote("./" .. name .. ".png"), "replot",
        "set output", "",
    }, "\n")
end

local function inline(chart, terminal, is_terminal)
    return table.concat({ "$data << END_OF_DATA\n" .. M.data(chart) .. "END_OF_DATA", settings(chart), terminal,
        KINDS[chart.kind].plot(chart, "$data", is_terminal), "" }, "\n")
end

-- ---- Running -------------------------------------------------------------------------------------------------------

local function shell_quote(text)
    return "'" .. text:gsub("'", "'\\''") .. "'"
end

--- Tells whether gnuplot is there.
function M.exists()
    return os.execute("command -v gnuplot >/dev/null 2>&1") == 0
end

-- Output and errors of a shell command; raises io with the errors if it fails.
local function run(op, command)
    local errors = os.tmpname()
    local pipe = io.popen(("{ %s; } 2>%s; printf '\\n%%d' $?"):format(command, shell_quote(errors)), "r")
    local output, status = pipe:read("*a"):match("^(.*)\n(%d+)$")
    pipe:close()
    local file = io.open(errors, "rb")
    local text = file and file:read("*a") or ""
    if file then file:close() end
    os.remove(errors)
    if status == "0" then return output end
    raise(status == "130" and "interrupted" or "io", op, "gnuplot: it failed with status %s: %s", tostring(status),
        (text:gsub("%s+$", "")))
end

--- Runs a script file in its folder.
function M.run_file(op, folder, name)
    if not M.exists() then raise("not_found", op, "%s", M.MISSING) end
    run(op, ("cd -- %s && gnuplot %s"):format(shell_quote(folder), shell_quote("./" .. name)))
end

local function run_text(op, text)
    if not M.exists() then raise("not_found", op, "%s", M.MISSING) end
    local path = os.tmpname()
    local file = assert(io.open(path, "wb"))
    file:write(text)
    file:close()
    local ok, output = pcall(run, op, "gnuplot " .. shell_quote(path))
    os.remove(path)
    if not ok then error(output, 0) end
    return output
end

--- Mends an SVG: gnuplot takes a text such as &#x41; for a character that is already escaped.
function M.mended(svg)
    return (svg:gsub("&#x", "&amp;#x"))
end

--- Draws a chart as the text of an SVG.
function M.svg(op, chart, width, height)
    return M.mended(run_text(op, inline(chart, SVG:format(width, height))))
end

--- Draws a chart for a terminal of so many columns and rows.
function M.terminal(op, chart, columns, rows, has_colour)
    local terminal = ("set terminal dumb noenhanced size %d,%d %s"):format(columns, rows,
        has_colour and "ansi256" or "mono")
    local key = chart.legend and "unset grid\nset key bmargin center horizontal\n" or "unset grid\n"
    return (run_text(op, inline(chart, key .. terminal, true)):gsub("^[%s]*\n", ""):gsub(" +\n", "\n"))
end

return M
