--- `steer plot`: draws the results of a sweep.
local words = require "steer.cli._args"

local M = {}

M.usage = [[
usage: steer plot RESULTS --x AXIS --y METRIC [--by AXIS,...] [OPTIONS]     lines
       steer plot RESULTS --x AXIS --y AXIS --z METRIC [OPTIONS]            a heatmap

Draws a metric with gnuplot, as SVG and PNG. The data (.tsv) and the script (.gp) stand beside the pictures. Points are
medians, error bars quartiles. An axis is one of the sweep's, or path, device, device_name, host or git.

  --by AXIS,...       a line for each value of these
  --filter AXIS=V     only these cases; V may be a list a,b; may be given again
  --logx --logy       logarithmic axes; --logz for a heatmap's colours
  --title TEXT
  --out PATH          the pictures, without extension (default: beside RESULTS, named after what is drawn)
  --terminal          also draw in the terminal

exit status: 0; 1 where something cannot be read, drawn or written, or gnuplot is missing; 2 wrong usage.
]]

local KNOWN = {
    ["--x"] = { "x", "text" }, ["--y"] = { "y", "text" }, ["--z"] = { "z", "text" }, ["--by"] = { "by", "list" },
    ["--filter"] = { "filter", "list" }, ["--logx"] = { "logx", "flag" }, ["--logy"] = { "logy", "flag" },
    ["--logz"] = { "logz", "flag" }, ["--title"] = { "title", "text" }, ["--out"] = { "out", "text" },
    ["--terminal"] = { "terminal", "flag" }, ["--help"] = { "help", "flag" }, ["-h"] = { "help", "flag" },
}

local function wrong(...)
    io.stderr:write("steer plot: ", string.format(...), "\nsteer plot --help says more\n")
    return 2
end

local function report(drawn, in_terminal)
    local plot, results, walk = require "steer.plot", require "steer._results", require "steer._walk"
    if in_terminal then
        local terminal = require "steer.repl.terminal"
        local columns, rows = terminal.size()
        io.stdout:write(plot.terminal(drawn.chart, columns, math.min(rows - 1, 30), terminal.has_colour()))
    end
    for _, word in ipairs(results.sort(walk.keys(drawn.missing))) do
        io.stderr:write(("steer plot: not drawn: %d %s\n"):format(drawn.missing[word], word))
    end
    for _, kind in ipairs { "svg", "png", "tsv", "gp" } do io.stdout:write(drawn.files[kind], "\n") end
end

function M.run(args)
    local given, why = words.parse(args, KNOWN)
    if not given then return wrong("%s", why) end
    if given.help then
        io.stdout:write(M.usage)
        return 0
    end
    if #given ~= 1 then return wrong("expected one results file, got %d", #given) end
    for _, name in ipairs { "--x", "--y" } do
        if not given[name:sub(3)] then return wrong("%s: it is missing", name) end
    end
    local filters, bad = words.filters(given.filter)
    if not filters then return wrong("%s", bad) end
    report(require("steer.plot").plot(given[1], {
        x = given.x, y = given.y, z = given.z, by = words.split(given.by), filter = filters,
        logx = given.logx, logy = given.logy, logz = given.logz, title = given.title, out = given.out,
    }), given.terminal)
    return 0
end

return M
