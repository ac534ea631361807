--- `steer compare`: says which cases of a sweep changed between two results files.
local words = require "steer.cli._args"

local M = {}

M.usage = [[
usage: steer compare OLD NEW [OPTIONS]

Compares two results files of the same sweep. Cases are matched by what is in them; repeats of a case are joined.

Times: each side is the median of its raw samples and the interval [minimum, third quartile]
  FASTER, SLOWER   the intervals lie apart
  SAME             they overlap by half or more, and the medians are close
Other metrics: the difference NEW - OLD; where a side has samples, such as those of prompts, with its 95 % interval by
the bootstrap. Samples at the same place are pairs, which the sign test counts too.
  HIGHER, LOWER    the interval lies beside 0; of numbers without samples: they differ
  SAME             they are equal
Both:
  AMBIGUOUS        anything else, with the reason: measure again, with more samples
Cases that are skipped, failed or in one file only are listed too.

  --metric NAME,...   metrics to compare, or all (default: every time; without any, every metric of both)
  --better WHICH      higher or lower for all metrics, or NAME=higher,NAME=lower (default: what the names tell)
  --filter AXIS=V     only these cases; V may be a list a,b; may be given again
  --gap PERCENT       intervals of times closer than this are not FASTER or SLOWER (default 0.5)
  --same PERCENT      what is further apart is not SAME (default: 1 for times, 0.001 for other metrics)
  --unpaired          samples at the same place are not of the same prompt
  --format F          text (default), markdown or csv
  --fail-on WHAT      exit with 3 where a case is
                        slower   SLOWER, or measured in OLD and failed in NEW
                        worse    the same, or HIGHER or LOWER against --better
                        faster, better, higher, lower
                        any      anything but SAME, or in one file only

exit status: 0 compared; 1 a file cannot be read, is of another sweep, steers with another operation or shares no
case; 2 wrong usage; 3 what --fail-on asks about has happened.
]]

local KNOWN = {
    ["--metric"] = { "metric", "list" }, ["--better"] = { "better", "list" }, ["--filter"] = { "filter", "list" },
    ["--gap"] = { "gap", "number" }, ["--same"] = { "same", "number" }, ["--format"] = { "format", "text" },
    ["--unpaired"] = { "unpaired", "flag" }, ["--fail-on"] = { "fail_on", "text" }, ["--help"] = { "help", "flag" },
    ["-h"] = { "help", "flag" },
}

local function wrong(...) return words.wrong("compare", ...) end

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
    local compare, options = require "steer.compare", require "steer.core.options"
    local format = compare.formats[given.format or "text"]
    if not format then
        return wrong("--format: '%s', expected %s", given.format, options.choice(compare.formats))
    end
    local what = given.fail_on
    if what and not compare.FAIL_ON[what] then
        return wrong("--fail-on: '%s', expected %s", what, options.choice(compare.FAIL_ON))
    end
    local result = compare.compare(given[1], given[2], { metric = words.split(given.metric), filter = filters,
        better = given.better and table.concat(given.better, ","), gap = given.gap, same = given.same,
        paired = not given.unpaired }, true)
    io.stdout:write(format(result))
    return what and result:fails(what) and 3 or 0
end

return M
