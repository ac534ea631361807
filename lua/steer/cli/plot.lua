--- `steer plot`: draws the results of a sweep.
local words = require "steer.cli._args"

local M = {}

M.usage = [[
usage: steer plot RESULTS --x AXIS --y METRIC [--by AXIS,...] [OPTIONS]     lines
       steer plot RESULTS --x METRIC --y METRIC [OPTIONS]                   a scatter plot
       steer plot RESULTS --x AXIS --y AXIS --z METRIC [OPTIONS]            a heatmap
       steer plot RESULTS --kind bars --x AXIS --y METRIC [OPTIONS]
       steer plot RESULTS --kind histogram --x METRIC [OPTIONS]             of the samples

Draws a metric with gnuplot, as SVG and PNG, and on a terminal in it too. The data (.tsv) and the script (.gp) stand
beside the pictures. Points are what the cases returned, error bars the 95 % interval of a mean or the quartiles around
a median. An axis is one of the sweep's, or path, device, device_name, host or git.

  --by AXIS,...       a series for each value of these
  --dash AXIS         of two values: dashes tell them apart, colours the others
  --filter AXIS=V     only these cases; V may be a list a,b; may be given again
  --kind KIND         lines (with two metrics: a path in the cases' order), scatter, bars, histogram or heatmap
  --logx --logy       logarithmic axes; --logz for a heatmap's colours
  --xlim A,B          limits of an axis, also --ylim and --zlim; either may be left out: ",1"
  --title TEXT        also --xlabel, --ylabel, --zlabel, and --legend, its title; --no-legend leaves it out
  --format FORMAT     of values, such as %.2f
  --palette NAME      okabe, viridis, magma, blues, greys, blue_red, or colours: '#0072B2,#D55E00'
  --size WxH          in pixels of the SVG; the PNG has twice as many
  --hline V[=TEXT]    a reference line; --vline; may be given again
  --best max|min      marks the best point
  --bins N --share    of a histogram: how many bins; shares instead of counts
  -o, --out PATH      x.svg, x.png or x.pdf; without extension an SVG and a PNG (default: beside RESULTS, named after
                      what is drawn)
  --terminal          draw in the terminal even where the output is none; --no-terminal: only write files

exit status: 0; 1 where something cannot be read, drawn or written, or gnuplot is missing; 2 wrong usage.
]]

local KNOWN = {
    ["--by"] = { "by", "list" }, ["--filter"] = { "filter", "list" }, ["--bins"] = { "bins", "number" },
    ["--hline"] = { "hline", "list" }, ["--vline"] = { "vline", "list" }, ["--help"] = { "help", "flag" },
    ["-h"] = { "help", "flag" }, ["-o"] = { "out", "text" }, ["--no-terminal"] = { "silent", "flag" },
    ["--no-legend"] = { "no_legend", "flag" },
}
for _, name in ipairs { "x", "y", "z", "dash", "kind", "xlim", "ylim", "zlim", "title", "xlabel", "ylabel", "zlabel",
    "legend", "format", "palette", "size", "best", "out" } do
    KNOWN["--" .. name] = { name, "text" }
end
for _, name in ipairs { "logx", "logy", "logz", "share", "terminal" } do KNOWN["--" .. name] = { name, "flag" } end

local function wrong(...) return words.wrong("plot", ...) end

-- ---- Values: a function gives the value, or nil and what was expected ----------------------------------------------

local function read_limits(text)
    local low, high = text:match "^([^,]*),([^,]*)$"
    local a, b = tonumber(low or ""), tonumber(high or "")
    if not low or not (a or low == "") or not (b or high == "") or not (a or b) then
        return nil, "LOW,HIGH, of which one may be left out"
    end
    return { min = a, max = b }
end

local function read_size(text)
    local width, height = text:match "^(%d+)[x,](%d+)$"
    if not width then return nil, "WIDTHxHEIGHT" end
    return { tonumber(width), tonumber(height) }
end

local function read_lines(texts)
    local rows = {}
    for i, text in ipairs(texts) do
        local value, label = text:match "^([^=]*)=(.*)$"
        rows[i] = { at = tonumber(value or text), label = label }
        if not rows[i].at then return nil, "a number, or NUMBER=TEXT" end
    end
    return rows
end

local function read_palette(text)
    return text:find "#" and words.split { text } or text
end

local READERS = { xlim = read_limits, ylim = read_limits, zlim = read_limits, size = read_size, hline = read_lines,
    vline = read_lines, palette = read_palette, by = words.split }
local PLAIN = { "x", "y", "z", "dash", "kind", "logx", "logy", "logz", "title", "xlabel", "ylabel", "zlabel", "legend",
    "format", "best", "bins", "share", "out" }

-- The options of steer.plot; or nil and what is wrong.
local function read_options(given)
    local opts = {}
    for _, name in ipairs(PLAIN) do opts[name] = given[name] end
    for _, name in ipairs { "xlim", "ylim", "zlim", "size", "hline", "vline", "palette", "by" } do
        local text = given[name]
        if text then
            local value, expected = READERS[name](text)
            if value == nil then
                return nil, ("--%s: expected %s, got '%s'"):format(name, expected,
                    type(text) == "table" and table.concat(text, " ") or text)
            end
            opts[name] = value
        end
    end
    if given.no_legend then opts.legend = false end
    local filters, why = words.filters(given.filter)
    opts.filter = filters
    return filters and opts, why
end

-- ---- The command ---------------------------------------------------------------------------------------------------

local function report(drawn, in_terminal)
    local results, walk = require "steer.sweep.results", require "steer.core.tables"
    if in_terminal then drawn:show() end
    for _, word in ipairs(in_terminal and {} or results.sort(walk.keys(drawn.missing))) do -- shown there
        io.stderr:write(("steer plot: not drawn: %d %s\n"):format(drawn.missing[word], word))
    end
    for _, kind in ipairs { "svg", "png", "pdf", "tsv", "gp" } do
        if drawn.files[kind] then io.stdout:write(drawn.files[kind], "\n") end
    end
end

function M.run(args)
    local given, why = words.parse(args, KNOWN)
    if not given then return wrong("%s", why) end
    if given.help then
        io.stdout:write(M.usage)
        return 0
    end
    if #given ~= 1 then return wrong("expected one results file, got %d", #given) end
    for _, name in ipairs(given.kind == "histogram" and { "--x" } or { "--x", "--y" }) do
        if not given[name:sub(3)] then
            local ok, found = pcall(require("steer.sweep.results").read, "plot", given[1])
            return wrong("%s: it is missing; %s", name, ok and ("of %s %s"):format(given[1],
                require("steer.plot.results").names_text(found)) or tostring(found))
        end
    end
    local opts, bad = read_options(given)
    if not opts then return wrong("%s", bad) end
    local drawn = require("steer.plot").plot(given[1], opts)
    report(drawn, given.terminal or not given.silent and require("steer.repl.terminal").is_terminal(1))
    return 0
end

return M
