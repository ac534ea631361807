--- `steer compare`: says which cases of a sweep became faster or slower between two results files.
local words = require "steer.cli._args"

local M = {}

M.usage = [[
usage: steer compare OLD NEW [OPTIONS]

Compares two results files of the same sweep. Cases are matched by what is in them. Each side is the median of its raw
samples and the interval [minimum, third quartile]; the verdicts are
  FASTER, SLOWER   the intervals lie apart
  SAME             they overlap by half or more, and the medians are close
  AMBIGUOUS        anything else, with the reason: measure again, with more samples
Cases that are skipped, failed or in one file only are listed too.

  --metric NAME       metrics to compare, separated by commas (default: every time)
  --higher            higher is better, as for bytes per second
  --filter AXIS=V     only these cases; V may be a list a,b; may be given again
  --gap PERCENT       intervals closer than this are not FASTER or SLOWER (default 0.5)
  --same PERCENT      medians further apart than this are not SAME (default 1)
  --format F          text (default), markdown or csv
  --fail-on WHAT      exit with 3 where a case is
                        slower   SLOWER, or measured in OLD and failed in NEW
                        faster   FASTER
                        any      anything but SAME, or in one file only

exit status: 0 compared; 1 a file cannot be read, is of another sweep or shares no case; 2 wrong usage; 3 what
--fail-on asks about has happened.
]]

local KNOWN = {
    ["--metric"] = { "metric", "list" }, ["--higher"] = { "higher", "flag" }, ["--filter"] = { "filter", "list" },
    ["--gap"] = { "gap", "number" }, ["--same"] = { "same", "number" }, ["--format"] = { "format", "text" },
    ["--fail-on"] = { "fail_on", "text" }, ["--help"] = { "help", "flag" }, ["-h"] = { "help", "flag" },
}

local function wrong(...)
    io.stderr:write("steer compare: ", string.format(...), "\nsteer compare --help says more\n")
    return 2
end

function M.run(args)
    local given, why = words.parse(args, KNOWN)
    if not given then return wrong("%s", why) end
    if given.help then
        io.stdout:write(M.usage)
        return 0
    end
    if #given ~= 2 then return wrong("expected two results files, got %d", #given) end
    local filters, bad = words.filters(given.filter)
    if not filters then return wrong("%s", bad) end
    local compare, options = require "steer.compare", require "steer._options"
    local format = compare.formats[given.format or "text"]
    if not format then
        return wrong("--format: '%s', expected %s", given.format, options.list(compare.formats))
    end
    local what = given.fail_on
    if what and not compare.FAIL_ON[what] then
        return wrong("--fail-on: '%s', expected %s", what, options.list(compare.FAIL_ON))
    end
    local result = compare.compare(given[1], given[2], { metric = words.split(given.metric), filter = filters,
        higher = given.higher, gap = given.gap, same = given.same })
    io.stdout:write(format(result))
    return what and result:fails(what) and 3 or 0
end

return M
