--- `steer sweep`: runs the cases of a sweep file, alone, resumed, or as one of many shards.
local failures = require "steer.cli._failure"
local arguments = require "steer.cli._args"

local M = {}

M.usage = [[
usage: steer sweep FILE.lua [OPTIONS]

FILE returns steer.sweep{name=, axes=, run=, skip=}. Each finished case is one JSON line of the results file, written
and synced before the next case begins. Progress is on standard error.

  -a, --axis TEXT      replace an axis' values: hidden=1024,2048, n=1:9:2, 'hidden[pow2]=10:13'
      --only TEXT      keep only these values of an axis; -a and --only may be given again
      --case JSON      run this case alone: '{"hidden":1024,"path":"mixed"}'; prints its line unless -o says where
      --list           show the cases and do not run them
      --help           after FILE: show its axes
  -o, --output FILE    results (default: NAME.jsonl here); '-' is standard output
      --resume         go on with the results file; cases in it do not run again
      --retry-failed   the same, but cases that failed run again
      --code-changed   go on with results that were measured before FILE, or a script that it loads, has changed
      --device ID      where cases run (default: STEER_DEVICE, else the first GPU, else the CPU)
      --seed N         seed of the sweep; each case derives its own from it
  -j, --jobs N         measure N cases at a time, each in a process of its own: on all GPUs in turn (or the --device),
                       else on the CPU, whose cores they share: there it is not for times. One file holds the results;
                       a process that dies is replaced, and its case runs again.
      --shard I/N      run every N-th case from the I-th on; writes NAME.IofN.jsonl, `steer merge` puts them together.
                       In a Slurm job array this is the default: its task and the number of its tasks.
  -q, --quiet          no progress

exit status: 0; 1 if the results hold a failed case or the sweep could not go on; 2 for wrong usage; 130 after Ctrl-C.
Results so far are always kept.
]]

local OPTIONS = {
    ["-a"] = { "axis", "list" }, ["--axis"] = { "axis", "list" }, ["--only"] = { "only", "list" },
    ["--case"] = { "case", "list" }, ["--list"] = { "list", "flag" }, ["--help"] = { "help", "flag" },
    ["-h"] = { "help", "flag" }, ["-o"] = { "output", "text" },
    ["--resume"] = { "resume", "flag" }, ["--retry-failed"] = { "retry_failed", "flag" },
    ["--code-changed"] = { "code_changed", "flag" },
    ["--device"] = { "device", "text" }, ["--seed"] = { "seed", "number" }, ["--shard"] = { "shard", "text" },
    ["-j"] = { "jobs", "number" }, ["--jobs"] = { "jobs", "number" }, ["--worker"] = { "worker", "flag" },
    ["-q"] = { "quiet", "flag" }, ["--quiet"] = { "quiet", "flag" },
}

-- A case that makes no library call for this long after Ctrl-C is ended by the library's timer.
local EXIT_AFTER_MS = 900

local function say(...)
    io.stderr:write("steer sweep: ", table.concat { ... }, "\n")
end

local function wrong(message) return arguments.wrong("sweep", message) end

-- The shard of a Slurm job array, or nil outside of one; nil and a message where it cannot be told.
local function slurm_shard()
    local id = tonumber(os.getenv "SLURM_ARRAY_TASK_ID")
    if not id then return nil end
    local count = tonumber(os.getenv "SLURM_ARRAY_TASK_COUNT")
    local first = tonumber(os.getenv "SLURM_ARRAY_TASK_MIN") or 0
    local step = tonumber(os.getenv "SLURM_ARRAY_TASK_STEP") or 1
    local i = (id - first) / step + 1
    if not count or i % 1 ~= 0 or i < 1 or i > count then
        return nil, ("SLURM_ARRAY_TASK_ID=%d: which of the array's tasks is this? Use a range such as --array=0-7, "
            .. "or name --shard"):format(id)
    end
    return ("%d/%d"):format(i, count)
end

-- ---- The sweep file ------------------------------------------------------------------------------------------------

-- The sweep of a file; or nil and the exit status.
local function load_sweep(path)
    local chunk, why = loadfile(path)
    if not chunk then
        say(why)
        return nil, why:find "^cannot " and 2 or 1
    end
    _G.arg = { [0] = path }
    require("steer.sweep.code").begin(path)
    local ok, value = xpcall(chunk, failures.report)
    if not ok then
        value = failures.of(value)
        say(value.message and path .. ": " or "", value.text) -- the stack lacks the file where it returned the call
        return nil, value.interrupted and 130 or 1
    end
    if not require("steer.sweep").is(value) then
        say(("%s: expected it to return steer.sweep{...}, got %s"):format(path,
            require("steer.core.check").describe(value)))
        return nil, 1
    end
    return value
end

local function show_axes(sweep)
    local axis = require "steer.axis"
    print(("sweep %s, %d axes:"):format(sweep.name, #sweep.axes))
    for _, a in ipairs(sweep.axes) do print(("  %-16s %s"):format(a.name, axis.list(a.values, 90))) end
    io.stdout:write("\n", M.usage)
end

-- Gives the exit status: 1 where the skip function fails.
local function show_cases(sweep, cases)
    local record, run = require "steer.record", require "steer.sweep.run"
    local order, skipped, failed = sweep:order(), 0, 0
    for i, case in ipairs(cases) do
        local ok, reason = pcall(run.skip_reason, sweep, case)
        if not ok then
            failed, reason = failed + 1, "  (skip fails: " .. tostring(reason) .. ")"
        elseif reason then
            skipped, reason = skipped + 1, "  (skipped: " .. reason .. ")"
        end
        print(("%6d  %s%s"):format(i, record.text(case, order), reason or ""))
    end
    print(("%d cases, %d of them skipped"):format(#cases, skipped))
    return failed > 0 and 1 or 0
end

-- ---- Running -------------------------------------------------------------------------------------------------------

local function summary(counts)
    local words = {}
    for _, name in ipairs { "ok", "skipped", "failed" } do
        if counts[name] > 0 then words[#words + 1] = counts[name] .. " " .. name end
    end
    if counts.kept > 0 then words[#words + 1] = counts.kept .. " there before" end
    if counts.failed_before > 0 then
        words[#words] = ("%s (%d of them failed, see --retry-failed)"):format(words[#words], counts.failed_before)
    end
    return (#words > 0 and table.concat(words, ", ") or "no cases") .. (counts.path ~= "-" and " -> " .. counts.path
        or "")
end

-- What starts a process that measures cases for this one.
local function workers_of(given, path)
    if not given.jobs then return nil end
    local words = { package.searchpath("steer.cli", package.path), "sweep", "--worker", path }
    if given.seed then words[5], words[6] = "--seed", ("%.0f"):format(given.seed) end
    return { count = given.jobs, words = words }
end

local function start(sweep, cases, axes, given, path)
    local run = require "steer.sweep.run"
    local opts = {
        shard = given.shard, output = given.output, workers = workers_of(given, path),
        resume = given.resume, retry_failed = given.retry_failed, code_changed = given.code_changed,
        device = given.device, seed = given.seed,
        command = "steer sweep " .. run.quote(path), folder = path:match "^(.*)/[^/]*$", progress = not given.quiet,
    }
    if given.case and not given.output then opts.output, opts.progress = "-", false end
    if given.worker then
        require("steer.sweep.jobs").work(sweep, opts)
        return 0
    end
    local ok, result = xpcall(run.start, failures.report, sweep, cases, axes, opts)
    if ok then
        if opts.progress then say(sweep.name, ": ", summary(result)) end
        return result.failed + result.failed_before > 0 and 1 or 0
    end
    result = failures.of(result)
    if result.interrupted then
        say("interrupted; results so far are kept, --resume goes on")
        return 130
    end
    say(result.message or result.text) -- an error of the library needs no traceback: the file's own code did not run
    return 1
end

-- Options that exclude each other or are wrong by themselves, or nil.
local function misuse(given)
    if not given[1] then return "which file?" end
    if given[2] then return ("unexpected argument '%s'"):format(given[2]) end
    if given.seed and (given.seed % 1 ~= 0 or given.seed < 0) then return "--seed: expected an integer from 0 up" end
    if given.jobs and (given.jobs % 1 ~= 0 or given.jobs < 1) then return "--jobs: expected an integer from 1 up" end
    if given.output == "-" and (given.resume or given.retry_failed) then
        return "--resume: standard output holds no earlier results"
    end
    return nil
end

function M.run(args)
    local given, why = arguments.parse(args, OPTIONS)
    why = why or misuse(given)
    if not why and not given.shard and not given.case then given.shard, why = slurm_shard() end
    if why then return wrong(why) end
    local c = require "steer.core.c"
    if not given.worker then c.check(c.C.steer_interrupt_install(EXIT_AFTER_MS)) end
    io.stdout:setvbuf "line"
    local sweep, status = load_sweep(given[1])
    if not sweep then return status end
    if given.help then
        show_axes(sweep)
        return 0
    end
    local ok, cases, axes = pcall(sweep.cases, sweep,
        { axis = given.axis, only = given.only, case = given.case, shard = given.shard })
    if not ok then return wrong(tostring(cases)) end
    if given.list then
        return show_cases(sweep, cases)
    end
    return start(sweep, cases, axes, given, given[1])
end

return M
