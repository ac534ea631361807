--- `steer report`: writes the results of a sweep as a web page.
local words = require "steer.cli._args"

local M = {}

M.usage = [[
usage: steer report RESULTS [OPTIONS]

Writes one HTML page with the best cases and a Pareto front, plots, tables of the cases, the skipped and failed ones
with their reasons, and the environment. It opens in a browser without a network and may be printed. The plots are drawn
with gnuplot; without it the page says so.

  -o, --out FILE      the page (default: RESULTS with .html)
  --metric NAME,...   only these metrics
  --better WHICH      higher or lower for all metrics, or NAME=higher,NAME=lower: the first two are those of the Pareto
                      front (default: what the names tell)
  --filter AXIS=V     only these cases; V may be a list a,b; may be given again
  --title TEXT

exit status: 0; 1 where something cannot be read or written; 2 wrong usage.
]]

local KNOWN = {
    ["--out"] = { "out", "text" }, ["--metric"] = { "metric", "list" }, ["--filter"] = { "filter", "list" },
    ["--better"] = { "better", "list" }, ["--title"] = { "title", "text" }, ["--help"] = { "help", "flag" },
    ["-h"] = { "help", "flag" },
}

local function wrong(...) return words.wrong("report", ...) end

function M.run(args)
    local given, why = words.parse(args, KNOWN)
    if not given then return wrong("%s", why) end
    if given.help then
        io.stdout:write(M.usage)
        return 0
    end
    if #given ~= 1 then return wrong("expected one results file, got %d", #given) end
    local filters, bad = words.filters(given.filter)
    if not filters then return wrong("%s", bad) end
    local better = given.better and table.concat(given.better, ",")
    local out, notes = require("steer.report").report(given[1], { out = given.out, filter = filters, better = better,
        metric = words.split(given.metric), title = given.title })
    for _, note in ipairs(notes) do io.stderr:write("steer report: ", note, "\n") end
    io.stdout:write(out, "\n")
    return 0
end

return M
