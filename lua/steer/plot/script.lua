--- Lines of gnuplot scripts. Everything from outside goes through quote, so that gnuplot expands nothing.
local scale = require "steer.plot.scale"

local M = {}

--- Makes a text one that gnuplot, XML and a table with tabs can hold: control characters become a space, the two that
-- XML has no place for, U+FFFE and U+FFFF, U+FFFD.
function M.clean(value)
    return (scale.text(value):gsub("%c+", " "):gsub("\194[\128-\159]", " ")
        :gsub("\239\191[\190\191]", "\239\191\189"))
end

-- In single quotes two quotes are one, but not everywhere: these are double quotes, what is special in them escaped.
local escapes = { ["\\"] = "\\\\", ['"'] = '\\"', ["`"] = "\\140" }

--- Writes a text as gnuplot reads it.
function M.quote(text)
    return '"' .. M.clean(text):gsub('[\\"`]', escapes) .. '"'
end

--- Breaks a text into lines of at most so many characters, as far as its spaces allow.
function M.wrapped(text, most)
    local lines, length = {}, 0
    for space, word in text:gmatch "(%s*)(%S+)" do
        local more = select(2, (space .. word):gsub("[^\128-\191]", ""))
        if #lines == 0 or length + more > most then
            lines[#lines + 1], length = #lines == 0 and space .. word or word, 0
        else
            lines[#lines] = lines[#lines] .. space .. word
        end
        length = length + more
    end
    return #lines > 0 and lines or { text }
end

--- Gives lines of text as one for gnuplot; those with more characters than `most` are broken at spaces.
function M.quote_lines(list, most)
    local words = {}
    for _, line in ipairs(list) do
        for _, part in ipairs(M.wrapped(line, most)) do words[#words + 1] = M.quote(part) end
    end
    return table.concat(words, [[."\n".]])
end

local LONGEST = 40 -- characters of a label beside an axis

local function cut(text)
    local _, count = text:gsub("[^\128-\191]", "")
    if count <= LONGEST then return text end
    local at = 0
    for _ = 1, LONGEST - 1 do at = text:find("[^\128-\191]", at + 1) end
    return text:sub(1, (text:find("[^\128-\191]", at + 1)) - 1) .. "…"
end

--- Sets the ticks of an axis to a list of {at, text}. Labels of ticks are formats.
function M.set_ticks(lines, axis, list)
    local words = {}
    for i, tick in ipairs(list) do
        words[i] = ("%s %.17g"):format(M.quote((cut(tick[2]):gsub("%%", "%%%%"))), tick[1])
    end
    lines[#lines + 1] = ("set %stics (%s)"):format(axis, table.concat(words, ", "))
end

function M.set_range(lines, axis, low, high)
    lines[#lines + 1] = ("set %srange [%.17g:%.17g]"):format(axis, low, high)
end

-- ---- What lines, bars and histograms share -------------------------------------------------------------------------

local MOST_COLUMNS, CLOSE = 40, 14   -- labels below an axis; turned ones that stand close
local MOST_KEYS, SMALL_KEYS = 12, 18 -- entries of a legend of ordered series; of one in the usual letters

--- Settings of the frame, the grid and the legend.
function M.frame(chart)
    local lines = { "set grid back lt 1 dt 1 lc rgb '#d8d8d8' lw 1", "set border 3", "set xtics nomirror",
        "set ytics nomirror", "set key outside right top vertical Left reverse samplen 2 noenhanced" }
    if chart.legend then
        lines[#lines + 1] = "set key title " .. M.quote(chart.legend) .. " left"
        if #chart.groups > SMALL_KEYS and not chart.along then
            lines[#lines + 1] = ("set key maxrows 40 spacing 0.8 font ',%d'"):format(#chart.groups > 26 and 10 or 12)
        end
    else
        lines[#lines + 1] = "unset key"
    end
    return lines
end

--- Sets the ticks of an x axis to values that stand side by side; words that are too long for that are turned.
function M.set_places(lines, values, format)
    local ticks, long = scale.places(values, MOST_COLUMNS, format)
    M.set_ticks(lines, "x", ticks)
    if long then
        lines[#lines + 1] = ("set xtics rotate by %d%s"):format(#ticks > CLOSE and -60 or -35,
            #ticks > CLOSE and " font ',11'" or "")
    end
end

local WIDTH = 960 -- of a picture without a size

--- The x axis: places of words side by side, or numbers.
function M.set_x(lines, chart)
    local format = chart.xformat
    if chart.text_x then
        M.set_range(lines, "x", 0.5, #chart.xs + 0.5)
        M.set_places(lines, chart.xs, format)
        return
    end
    local from, to = chart.xs[1], chart.xs[#chart.xs]
    for _, row in ipairs(chart.vline or {}) do from, to = math.min(from, row.at), math.max(to, row.at) end
    local low, high = scale.range(from, to, chart.logx, false, chart.xlim)
    if chart.logx then lines[#lines + 1] = "set logscale x" end
    local at_values = not chart.xlim and not chart.scattered
        and scale.values(chart.xs, chart.logx, format, chart.size and chart.size[1] / WIDTH)
    M.set_ticks(lines, "x", at_values or chart.logx and scale.log(low, high, format)
        or scale.linear(low, high, 9, format))
    M.set_range(lines, "x", low, high)
end

--- The y axis.
function M.set_y(lines, chart, from_zero)
    local low, high = scale.range(chart.low, chart.high, chart.logy, from_zero, chart.ylim)
    if chart.logy then lines[#lines + 1] = "set logscale y" end
    M.set_ticks(lines, "y", chart.logy and scale.log(low, high, chart.format)
        or scale.linear(low, high, 7, chart.format, chart.whole_y))
    M.set_range(lines, "y", low, high)
    return low, high
end

-- An arrow without a head, and its text at its end: above it, or right of it.
local function reference(lines, chart, axis, row)
    local from, to = ("graph 0, first %.17g"):format(row.at), ("graph 1, first %.17g"):format(row.at)
    local place = ("graph 0.99, first %.17g right offset 0,0.6"):format(row.at)
    if axis == "x" then
        from, to = ("first %.17g, graph 0"):format(row.at), ("first %.17g, graph 1"):format(row.at)
        place = ("first %.17g, graph 0.97 left offset %g,0"):format(row.at, chart.on_terminal and 2 or 0.7)
    end
    lines[#lines + 1] = ("set arrow from %s to %s nohead front lc rgb '#444444' lw 1.5 dt 2"):format(from, to)
    if row.label then
        lines[#lines + 1] = ("set label %s at %s front boxed tc rgb '#444444'"):format(M.quote(row.label), place)
    end
end

--- Reference lines and the mark at the best point.
function M.add_marks(lines, chart)
    lines[#lines + 1] = "set style textbox opaque margins 0.4,0.4 fillcolor rgb 'white' noborder"
    for _, row in ipairs(chart.hline or {}) do reference(lines, chart, "y", row) end
    for _, row in ipairs(chart.vline or {}) do reference(lines, chart, "x", row) end
    local best = chart.best
    if best then
        lines[#lines + 1] = ("set label %s at first %.17g, first %.17g %s point pt 6 ps 2.4 lw 2 lc rgb 'black' "
            .. "offset %s front boxed"):format(M.quote(best.text), best.x, best.y, best.on_right and "right" or "left",
            (best.on_right and "-1.5," or "1.5,") .. (best.on_top and "-0.6" or "0.6"))
    end
end

--- The letter of a series' points in the terminal.
function M.letter(i)
    return string.char(65 + (i - 1) % 26)
end

--- The title of a series in the legend; ordered series that are many have some of them.
function M.title_of(chart, i)
    local name, n = chart.groups[i].name, #chart.groups
    if chart.along and n > MOST_KEYS then
        local step = math.ceil(n / MOST_KEYS)
        if (i - 1) % step ~= 0 and i ~= n then return "notitle" end
    end
    return "title " .. M.quote(name == "" and '""' or name) -- an empty title is none
end

local COLUMNS = "# x\tvalue\tlow\thigh\tmin\tmax\tn\t%s\t%s"

--- One block of lines for each series, two empty lines between them.
function M.data(chart)
    local out = { COLUMNS:format(M.clean(chart.xlabel), M.clean(chart.legend or "group")) }
    for i, group in ipairs(chart.groups) do
        if i > 1 then out[#out + 1] = "\n" end
        for _, point in ipairs(group.points) do
            local s = point.stats
            local numbers = s and ("%.17g\t%.17g\t%.17g\t%.17g\t%.17g\t%d"):format(s.value, s.low, s.high,
                s.min, s.max, s.n)
                or "NaN\tNaN\tNaN\tNaN\tNaN\t0"
            out[#out + 1] = ("%.17g\t%s\t%s\t%s"):format(point.at, numbers, M.clean(point.x), M.clean(group.name))
        end
    end
    return table.concat(out, "\n") .. "\n"
end

return M
