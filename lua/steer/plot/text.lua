--- Charts in the terminal: bars, histograms and heatmaps of blocks and colours; lines and scatter plots by gnuplot.
local gnuplot = require "steer.plot.gnuplot"
local heatmap = require "steer.plot.heatmap"
local layout = require "steer.repl.layout"
local results = require "steer.sweep.results"
local scale = require "steer.plot.scale"
local script = require "steer.plot.script"
local style = require "steer.plot.style"
local tables = require "steer.core.tables"

local M = {}

-- ---- Text and colours ----------------------------------------------------------------------------------------------

local function pad(text, width, right)
    local room = (" "):rep(width - layout.width(text))
    return right and room .. text or text .. room
end

-- A text in at most so many columns.
local function cut(text, width)
    if layout.width(text) <= width then return text end
    local out, columns = {}, 1
    for _, character in ipairs(layout.characters(text)) do
        local shown, more = layout.cell(character)
        columns = columns + more
        if columns > width then break end
        out[#out + 1] = shown
    end
    return table.concat(out) .. "…"
end

local function code(r, g, b, colours)
    if colours == 24 then return ("2;%d;%d;%d"):format(r, g, b) end
    local cube = {}
    for i, x in ipairs { r, g, b } do -- levels 0, 95, 135, 175, 215, 255
        cube[i] = x < 48 and 0 or x < 115 and 1 or math.floor((x - 35) / 40)
    end
    return "5;" .. 16 + 36 * cube[1] + 6 * cube[2] + cube[3]
end

local function front(text, colour, colours)
    if not colours or text == "" then return text end
    local r, g, b = style.along({ colour }, 0)
    if heatmap.is_dark(r, g, b) and r + g + b < 60 then return text end -- black on what may be black
    return ("\27[38;%sm%s\27[0m"):format(code(r, g, b, colours), text)
end

local function on(text, r, g, b, colours)
    return ("\27[38;5;%d;48;%sm%s\27[0m"):format(heatmap.is_dark(r, g, b) and 15 or 16, code(r, g, b, colours), text)
end

local function title_lines(chart, columns)
    local lines = {}
    for _, line in ipairs(chart.title) do
        for _, part in ipairs(line ~= "" and script.wrapped(script.clean(line), columns) or {}) do
            lines[#lines + 1] = cut(part, columns)
        end
    end
    return lines
end

local function add_best(lines, chart)
    if chart.best then lines[#lines + 1] = "best: " .. script.clean(chart.best.text) end
end

-- What is not drawn, counted.
local function add_missing(lines, chart)
    local words = {}
    for _, word in ipairs(results.sort(tables.keys(chart.missing or {}))) do
        words[#words + 1] = ("%d %s"):format(chart.missing[word], word)
    end
    if #words > 0 then lines[#lines + 1] = "not drawn: " .. table.concat(words, ", ") end
end

-- ---- Bars ----------------------------------------------------------------------------------------------------------

local EIGHTHS = { "▏", "▎", "▍", "▌", "▋", "▊", "▉" }

-- A bar from `from` to `to`, in eighths of a column, in so many columns; whole columns where it begins within.
local function bar(from, to, width)
    local first, last = math.floor(from / 8 + 0.5), to / 8
    local whole = math.floor(last)
    local rest = math.floor((last - whole) * 8 + 0.5)
    if rest == 8 then whole, rest = whole + 1, 0 end
    if whole < first then return (" "):rep(width) end
    return (" "):rep(first) .. ("█"):rep(whole - first) .. (rest > 0 and EIGHTHS[rest] or "")
        .. (" "):rep(width - whole - (rest > 0 and 1 or 0))
end

-- Gives a function from a value to its bar, which ends where the range does.
local function ruler(low, high, width, log)
    local function at(x)
        local share = (x / 2 - low / 2) / (high / 2 - low / 2)
        if log then share = (math.log(x) - math.log(low)) / (math.log(high) - math.log(low)) end
        return math.min(math.max(share, 0), 1) * width * 8
    end
    local zero = log and 0 or at(0)
    return function(x)
        local to = at(x)
        if x ~= 0 and math.abs(to - zero) < 1 and not log then to = x > 0 and zero + 1 or zero - 1 end
        if to >= zero then return bar(zero, to, width) end
        return bar(math.min(to, zero - 8), zero, width)
    end
end

-- Rows of {label, name, value, text, colour} as bars.
local function draw_rows(lines, rows, low, high, columns, colours, log)
    local widths = { 0, 0, 0 }
    for _, row in ipairs(rows) do
        for k, text in ipairs { row.label, row.name, row.text } do
            widths[k] = math.max(widths[k], layout.width(text))
        end
    end
    widths[1], widths[2] = math.min(widths[1], math.floor(columns / 3)), math.min(widths[2], math.floor(columns / 4))
    local width = math.max(columns - widths[1] - (widths[2] > 0 and widths[2] + 1 or 0) - widths[3] - 3, 4)
    local draw = ruler(low, high, width, log)
    for _, row in ipairs(rows) do
        local line = pad(cut(row.label, widths[1]), widths[1]) .. " "
        if widths[2] > 0 then line = line .. pad(cut(row.name, widths[2]), widths[2]) .. " " end
        line = line .. front(row.value and draw(row.value) or (" "):rep(width), row.colour, colours) .. " " .. row.text
        lines[#lines + 1] = line:match "^.*[^ ]" or "" -- without the spaces at its end
    end
end

local function value_text(chart, stats)
    if not stats then return "-" end
    local text = scale.text(stats.value, chart.format, 4)
    if stats.low == stats.high then return text end
    return ("%s [%s, %s]"):format(text, scale.text(stats.low, chart.format, 4),
        scale.text(stats.high, chart.format, 4))
end

-- The ends of the bars: 0 and what lies farthest from it.
local function bar_ends(chart)
    if chart.logy then return scale.range(chart.low, chart.high, true, false, chart.ylim) end
    local low, high = math.min(chart.low, 0), math.max(chart.high, 0)
    if low == high then high = 1 end
    if chart.ylim then low, high = chart.ylim[1] or low, chart.ylim[2] or high end
    return low, high
end

local function draw_bars(chart, columns, _, colours)
    local lines, rows, several = title_lines(chart, columns), {}, #chart.groups > 1
    local at = {}
    for g, group in ipairs(chart.groups) do
        at[g] = {}
        for _, point in ipairs(group.points) do at[g][point.at] = point end
    end
    for i, x in ipairs(chart.xs) do
        for g, group in ipairs(chart.groups) do
            local point = at[g][i]
            rows[#rows + 1] = { label = g == 1 and script.clean(x) or "", colour = group.colour,
                name = several and script.clean(group.name) or "", value = point and point.stats and point.stats.value,
                text = point and value_text(chart, point.stats) or "" }
        end
    end
    if chart.ylabel ~= "" then lines[#lines + 1] = ("%s: %s"):format(chart.xlabel == "" and "bars" or chart.xlabel,
        chart.ylabel) end
    local low, high = bar_ends(chart)
    draw_rows(lines, rows, low, high, columns, colours, chart.logy)
    add_best(lines, chart)
    return lines
end

-- ---- Heatmaps ------------------------------------------------------------------------------------------------------

local SHADES = { "·", "░", "▒", "▓", "█" }
local LEAST_CELL, MOST_CELL = 2, 12 -- columns of a cell
local MOST_ROWS = 48                -- that are shown even where they scroll

local function shade(share)
    return SHADES[math.min(math.floor(share * #SHADES) + 1, #SHADES)]
end

-- A chart of the means of blocks of cells, so that it fits; the chart itself where it does.
local function pooled(chart, columns, rows)
    local across, down = math.ceil(#chart.xs / columns), math.ceil(#chart.ys / rows)
    if across <= 1 and down <= 1 then return chart end
    local small = setmetatable({ xs = {}, ys = {}, cells = {},
        note = ("each cell is the mean of %d x %d"):format(down, across) }, { __index = chart })
    for i = 1, #chart.xs, across do small.xs[#small.xs + 1] = chart.xs[i] end
    for j = 1, #chart.ys, down do small.ys[#small.ys + 1] = chart.ys[j] end
    local sums, counts = {}, {}
    for _, cell in ipairs(chart.cells) do
        local at = math.floor((cell.j - 1) / down) * #small.xs + math.ceil(cell.i / across)
        if cell.stats then sums[at], counts[at] = (sums[at] or 0) + cell.stats.value, (counts[at] or 0) + 1 end
    end
    local low, high = math.huge, -math.huge
    for at = 1, #small.xs * #small.ys do
        local mean = counts[at] and sums[at] / counts[at]
        small.cells[at] = { i = (at - 1) % #small.xs + 1, j = math.floor((at - 1) / #small.xs) + 1, word = "",
            stats = mean and { value = mean } }
        if mean then low, high = math.min(low, mean), math.max(high, mean) end
    end
    small.low, small.high = low, high
    return small
end

local function draw_cell(chart, cell, text, width, colours)
    if not cell.stats then return pad(cut(cell.word == "" and "" or cell.word, width - 1), width) end
    local share = heatmap.share(chart, cell.stats.value)
    if colours then
        local r, g, b = style.along(style.heat(chart), share)
        local before = math.floor((width - #text) / 2)
        return on(pad((" "):rep(before) .. text, width), r, g, b, colours)
    elseif text ~= "" then
        return pad(shade(share) .. " " .. text, width)
    end
    return shade(share):rep(width)
end

-- The names of the columns below them, those that have room: below the numbers, or in the middle.
local function column_names(chart, label, width, left)
    local line, free = (" "):rep(label), label
    for i, x in ipairs(chart.xs) do
        local text = cut(script.clean(x), math.max(width - 1, 8))
        local at = label + (i - 1) * width + (left and 2 or math.max(0, math.floor((width - layout.width(text)) / 2)))
        if at >= free then
            line = pad(line, at) .. text
            free = at + layout.width(text) + 1
        end
    end
    return line
end

local function scale_line(chart, columns, colours)
    local low, high = heatmap.colour_range(chart)
    local words = {}
    for i = 0, 9 do
        if colours then
            local r, g, b = style.along(style.heat(chart), i / 9)
            words[#words + 1] = on(" ", r, g, b, colours)
        elseif i % 2 == 0 then
            words[#words + 1] = shade(i / 10)
        end
    end
    local from, to = scale.text(low, chart.format, 4), scale.text(high, chart.format, 4)
    local room = columns - #from - #to - (colours and 10 or #SHADES) - 4
    local name = chart.zlabel ~= "" and room > 4 and "  " .. cut(script.clean(chart.zlabel), room) or ""
    return ("%s %s %s%s"):format(from, table.concat(words), to, name)
end

local function draw_heatmap(whole, columns, rows, colours)
    local lines, label = title_lines(whole, columns), 0
    for _, y in ipairs(whole.ys) do label = math.max(label, layout.width(script.clean(y))) end
    label = math.min(label, math.floor(columns / 4))
    local room = columns - label - 1
    local chart = pooled(whole, math.floor(room / LEAST_CELL), math.max(rows - #lines - 5, MOST_ROWS))
    local width = math.min(math.floor(room / #chart.xs), MOST_CELL)
    local texts = heatmap.texts(chart, colours and width - 1 or width - 3)
    local shown = texts or {}
    if chart.ylabel ~= "" then lines[#lines + 1] = cut(script.clean(chart.ylabel), columns) end
    for j = 1, #chart.ys do
        local line = pad(cut(script.clean(chart.ys[j]), label), label, type(chart.ys[j]) == "number") .. " "
        for i = 1, #chart.xs do
            local at = (j - 1) * #chart.xs + i
            line = line .. draw_cell(chart, chart.cells[at], chart.cells[at].stats and shown[at] or "", width, colours)
        end
        lines[#lines + 1] = line:gsub(" +$", "")
    end
    lines[#lines + 1] = column_names(chart, label + 1, width, texts and not colours)
    if chart.xlabel ~= "" then
        local name = cut(script.clean(chart.xlabel), columns)
        local before = label + 1 + math.floor((width * #chart.xs - layout.width(name)) / 2)
        lines[#lines + 1] = (" "):rep(math.min(math.max(before, 0), columns - layout.width(name))) .. name
    end
    lines[#lines + 1] = scale_line(chart, columns, colours)
    if chart.note then lines[#lines + 1] = cut("(" .. chart.note .. ")", columns) end
    add_best(lines, whole)
    return lines
end

-- ---- Histograms ----------------------------------------------------------------------------------------------------

-- Neighbouring bins as one, so that they fit: edges and counts.
local function merged(chart, most)
    local n = #chart.xs - 1
    local step, edges, counts = math.max(1, math.ceil(n / most)), {}, {}
    for b = 1, n, step do edges[#edges + 1] = chart.xs[b] end
    edges[#edges + 1] = chart.xs[n + 1]
    for g, group in ipairs(chart.groups) do
        counts[g] = {}
        for b = 1, n do
            local at = math.ceil(b / step)
            counts[g][at] = (counts[g][at] or 0) + group.counts[b]
        end
    end
    return edges, counts
end

local function edge_texts(edges)
    local digits = 3
    while digits < 15 do -- as many as tell them apart
        local last, same = nil, false
        for _, edge in ipairs(edges) do
            local text = scale.text(edge, nil, digits)
            same, last = same or text == last, text
        end
        if not same then break end
        digits = digits + 1
    end
    local texts, width = {}, 0
    for i, edge in ipairs(edges) do
        texts[i] = scale.text(edge, nil, digits)
        width = math.max(width, #texts[i])
    end
    return texts, width
end

-- Many series: a row of shades each, a column for each bin.
local function draw_rows_of_bins(chart, columns, rows, colours)
    local map = { kind = "heatmap", title = chart.title, xs = {}, ys = {}, cells = {}, low = 0,
        high = chart.high, xlabel = chart.xlabel, ylabel = chart.legend or "", zlabel = chart.ylabel }
    for b = 1, #chart.xs - 1 do map.xs[b] = tonumber(("%.3g"):format(chart.xs[b] / 2 + chart.xs[b + 1] / 2)) end
    for j, group in ipairs(chart.groups) do
        map.ys[j] = group.name
        for b, count in ipairs(group.counts) do
            map.cells[#map.cells + 1] = { i = b, j = j, stats = { value = count } }
        end
    end
    return draw_heatmap(map, columns, rows, colours)
end

local GAP = 2
local MOST_HISTOGRAMS = 4 -- series side by side

local function draw_histogram(chart, columns, rows, colours)
    if #chart.groups > MOST_HISTOGRAMS then return draw_rows_of_bins(chart, columns, rows, colours) end
    local lines = title_lines(chart, columns)
    local edges, counts = merged(chart, math.max(rows - #lines - 3, 4))
    local texts, label = edge_texts(edges)
    local n, most = #chart.groups, 0
    for _, list in ipairs(counts) do
        for _, count in ipairs(list) do most = math.max(most, count) end
    end
    local room = math.floor((columns - 2 * label - 3) / n) - GAP
    local format = chart.ylabel == "share" and "%.3f" or "%d"
    local number = #format:format(most)
    local draw = ruler(0, most, math.max(room - number - 1, 2), false)
    local head = pad(cut(chart.xlabel, 2 * label + 2), 2 * label + 3)
    for _, group in ipairs(chart.groups) do
        local name = n > 1 and script.clean(group.name) or chart.ylabel
        head = head .. (" "):rep(GAP) .. front(pad(cut(name, room), room), group.colour, colours)
    end
    lines[#lines + 1] = head:gsub(" +$", "")
    for b = 1, #edges - 1 do
        local line = pad(texts[b], label, true) .. " … " .. pad(texts[b + 1], label, true)
        for g, group in ipairs(chart.groups) do
            local count = counts[g][b]
            line = line .. (" "):rep(GAP) .. front(draw(count), group.colour, colours) .. " "
                .. pad(count > 0 and format:format(count) or "0", number, true)
        end
        lines[#lines + 1] = line
    end
    return lines
end

-- ---- Lines ---------------------------------------------------------------------------------------------------------

local MOST_LINES, MOST_INTERVALS = 9, 2 -- that characters can tell apart

-- A chart of some of many series, the first and the last among them.
local function thinned(chart)
    local n = #chart.groups
    if n <= MOST_LINES then return chart end
    local groups = {}
    for k = 0, MOST_LINES - 1 do groups[k + 1] = chart.groups[math.floor(k * (n - 1) / (MOST_LINES - 1) + 0.5) + 1] end
    return setmetatable({ groups = groups, note = ("%d of %d series; a picture has all"):format(MOST_LINES, n) },
        { __index = chart })
end

-- Which letter is which series, in lines of so many columns.
local function legend(lines, chart, columns, colours)
    if not chart.legend then return end
    local line = chart.legend ~= "" and "  " .. script.clean(chart.legend) .. ":" or " "
    local width = layout.width(line)
    for i, group in ipairs(chart.groups) do
        local letter = script.letter(i)
        local name = cut(script.clean(group.name), 40)
        local more = 2 + layout.width(letter) + 1 + layout.width(name)
        if width + more > columns then
            lines[#lines + 1], line, width = line, " ", 1
        end
        line = line .. "  " .. front(letter, group.colour, colours) .. " " .. name
        width = width + more
    end
    lines[#lines + 1] = line
end

-- Intervals of more than a few series cannot be told apart.
local function without_intervals(chart)
    if not chart.bars or #chart.groups <= MOST_INTERVALS then return chart end
    return setmetatable({ bars = false, ylabel = chart.measure }, { __index = chart })
end

local function draw_lines(chart, columns, rows, colours, op)
    local shown, lines = without_intervals(thinned(chart)), title_lines(chart, columns)
    if shown.ylabel ~= "" then lines[#lines + 1] = cut(script.clean(shown.ylabel), columns) end
    lines[#lines + 1] = gnuplot.terminal(op, shown, columns, math.max(rows - #lines - 1, 8), colours):gsub("\n+$", "")
    legend(lines, shown, columns, colours)
    if shown.note then lines[#lines + 1] = "  (" .. shown.note .. ")" end
    add_best(lines, chart)
    return lines
end

-- ---- Public --------------------------------------------------------------------------------------------------------

local DRAW = { lines = draw_lines, scatter = draw_lines, bars = draw_bars, histogram = draw_histogram,
    heatmap = draw_heatmap }

--- Draws a chart with characters.
-- @tparam string op operation for messages
-- @tparam table chart
-- @tparam number columns
-- @tparam number rows that lines and scatter plots fill; others need what they need, histograms join bins and heatmaps
-- cells so that they fit
-- @param colours false, 256 or 24 (bits)
-- @treturn string
function M.draw(op, chart, columns, rows, colours)
    chart = setmetatable({ on_terminal = true }, { __index = chart })
    if chart.groups then style.assign(chart) end
    local lines = DRAW[chart.kind](chart, columns, rows, colours, op)
    add_missing(lines, chart)
    return table.concat(lines, "\n") .. "\n"
end

return M
