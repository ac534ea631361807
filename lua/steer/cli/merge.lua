--- `steer merge`: puts the results of a sweep's shards into one file.
local words = require "steer.cli._args"

local M = {}

M.usage = [[
usage: steer merge -o OUT [--code-changed] FILE...

Puts results files of one sweep into OUT, a new file, with the cases in the order of the sweep. Where a case is in more
than one line, the first that did not fail is taken; a case that ran twice is reported, and so are cases of the sweep
that no file holds. Cases that were measured by different code, the sweep's file or the scripts that it loads, are put
together with --code-changed only.

exit status: 0; 1 if a file cannot be read or is of another sweep or of other code (OUT is then not written); 2 for
wrong usage.
]]

local OPTIONS = { ["-o"] = { "output", "text" },
    ["--code-changed"] = { "code_changed", "flag" } }

local function wrong(message) return words.wrong("merge", message) end

local function say(format, ...)
    io.stderr:write("steer merge: ", format:format(...), "\n")
end

function M.run(args)
    local given, why = words.parse(args, OPTIONS)
    if not given then return wrong(why) end
    if not given.output then return wrong "-o: it is missing, expected the file that is written" end
    if #given == 0 then return wrong "which files?" end
    local ok, result = pcall(require("steer.sweep.merge").merge, given, given.output, given.code_changed)
    if not ok then
        say("%s", tostring(result))
        return 1
    end
    for _, twice in ipairs(result.repeated) do
        say("%s ran twice: %s line %d and %s line %d; the first is taken", twice.text, twice.first.file,
            twice.first.line, twice.second.file, twice.second.line)
    end
    for _, torn in ipairs(result.torn) do say("%s: its torn last line is left out", torn) end
    if result.missing > 0 then say("%d of the sweep's %d cases are in no file", result.missing, result.grid) end
    say("%d cases (%d ok, %d skipped, %d failed) -> %s", result.total, result.ok, result.skipped, result.failed,
        given.output)
    return 0
end

return M
