--- Runs the cases of a sweep one after another and writes a line for each.
local c = require "steer.core.c"
local check = require "steer.core.check"
local code = require "steer.sweep.code"
local content = require "steer.sweep.content"
local devices = require "steer.device"
local ffi = require "ffi"
local json = require "steer.core.json"
local outcome = require "steer.sweep.outcome"
local progress = require "steer.progress"
local error_object = require "steer.core.error"
local is_interrupt, raise = error_object.is_interrupt, error_object.raise
local record = require "steer.record"
local tensor = require "steer.tensor"
local tables = require "steer.core.tables"

local C = c.C
local M = {}

ffi.cdef 'int steer_sweep_setenv(const char *name, const char *value, int overwrite) __asm__("setenv");'

local OP = "sweep_start"

-- ---- What is the same for all cases --------------------------------------------------------------------------------

--- Quotes a word for a shell.
function M.quote(word)
    if word:find "^[%w_./:=@%%+,-]+$" then return word end
    return "'" .. word:gsub("'", "'\\''") .. "'"
end

-- First line that a command prints, or nil.
local function first_line(command)
    local pipe = io.popen(command .. " 2>/dev/null")
    local line = pipe:read "*l"
    pipe:close()
    return line ~= "" and line or nil
end

local function host_name()
    local file = io.open "/proc/sys/kernel/hostname"
    local name = file and file:read "*l"
    if file then file:close() end
    return name
end

-- Fields that every line of this process has.
local function surroundings(device, opts)
    local info = device:info()
    return {
        device = device.id, device_name = info.name, driver = info.driver, clock_khz = info.clock_khz,
        versions = { steer = devices.version, luajit = jit.version }, host = host_name(),
        git = opts.output ~= false and first_line("git -C " .. M.quote(opts.folder or ".")
            .. " describe --always --dirty --abbrev=40 --exclude='*'") or nil,
    }
end

-- ---- The results file ----------------------------------------------------------------------------------------------

local function output_path(sweep, opts)
    if opts.output == false then return nil end
    local path = opts.output or sweep.name .. ".jsonl"
    if not opts.shard or path == "-" then return path end
    local suffix = "." .. opts.shard:gsub("/", "of")
    local stem, ending = path:match "^(.+)(%.[^./]+)$"
    return stem and stem .. suffix .. ending or path .. suffix
end

-- What advice calls an option: the command's flag, or what a script writes.
local function advised(opts, flag, option) return opts.command and flag or option end

-- In which settings two contents differ where both are objects of JSON, as those of grids; nil where they are not.
local function content_difference(theirs, ours)
    local differences, words = content.differences(theirs, ours), {}
    for i, differs in ipairs(differences or {}) do
        words[i] = differs.a and differs.b and ("%s %s, here %s"):format(differs.name, differs.a, differs.b)
            or "other " .. differs.name
    end
    return differences and table.concat(words, "; ")
end

-- Refuses a file of another sweep, before anything in it is touched.
local function check_header(found, header, opts)
    local theirs, path = found.header, found.path
    local function differ(what, a, b)
        raise("format", OP, "%s: its %s is %s, here it is %s; %s names another file", path, what, a, b,
            advised(opts, "-o", "output"))
    end
    if theirs.name ~= header.name then differ("sweep", theirs.name, header.name) end
    if theirs.content ~= header.content then
        local how = content_difference(theirs.content, header.content)
        if not how then differ("content", tostring(theirs.content), tostring(header.content)) end
        raise("format", OP, "%s: it was measured with %s; %s names another file", path, how,
            advised(opts, "-o", "output"))
    end
    local a, b = { unpack(theirs.order) }, { unpack(header.order) }
    table.sort(a)
    table.sort(b)
    a, b = table.concat(a, " "), table.concat(b, " ")
    if a ~= b then differ("list of axes", a, b) end
    if theirs.seed ~= header.seed then
        differ("seed", ("%.0f"):format(theirs.seed),
            ("%.0f (see %s)"):format(header.seed, advised(opts, "--seed", "seed")))
    end
end

-- Refuses to mix results of this code with those of another one, which stay as they are. Cases that run again do not
-- count.
local function check_code(found, sweep, opts)
    local now = code.current(sweep.code)
    for _, line in ipairs(opts.code_changed and {} or found.cases) do
        local why = not (opts.retry_failed and line.status == "failed") and code.changed(line, now)
        if why then
            raise("format", OP, "%s: line %d was measured by other code: %s; %s goes on all the same, %s names another "
                .. "file", found.path, line.line, why, advised(opts, "--code-changed", "code_changed = true"),
                advised(opts, "-o", "output"))
        end
    end
end

-- Opens the results file; gives its writer and the status of each case in it, by key.
local function open_results(path, header, sweep, opts)
    local known = {}
    if not path then return record.hold(header), known end
    if path == "-" or not (opts.resume or opts.retry_failed) then
        return record.create(OP, path, header, ("%s goes on with it, %s names another file"):format(
            advised(opts, "--resume", "resume = true"), advised(opts, "-o", "output"))), known
    end
    local writer, found = record.continue(OP, path, header, function(held)
        check_header(held, header, opts)
        check_code(held, sweep, opts)
    end)
    for _, line in ipairs(found.cases) do known[line.key] = line.status end
    return writer, known
end

-- ---- One case ------------------------------------------------------------------------------------------------------

local Skip = {} -- marks the error that ctx.skip raises

local own_file = debug.getinfo(1, "S").short_src

-- The traceback of an error down to the case's own functions.
local function case_traceback()
    local text = debug.traceback("", 3)
    local ends = text:find("\n\t" .. own_file, 1, true)
    return text:sub(1, ends and ends - 1 or -1):gsub("^%s*stack traceback:%s*", "")
end

local function describe_error(err)
    if type(err) == "table" and err.skip == Skip then return err end
    local ok, text = pcall(tostring, err)
    return {
        text = ok and text or "an error without a text", traceback = case_traceback(),
        code = type(err) == "table" and err.code or nil, original = err,
    }
end

local function copy(t)
    local out = {}
    for _, key in ipairs(tables.keys(t)) do out[key] = t[key] end
    return out
end

local function stop_if_interrupted(failure)
    if failure and is_interrupt(failure.original) then error(failure.original, 0) end
    -- Also where the case caught the error and went on.
    if c.interrupted then raise("interrupted", OP, "stopped by Ctrl-C") end
    if C.steer_interrupt_pending() ~= 0 then
        C.steer_interrupt_clear()
        raise("interrupted", OP, "stopped by Ctrl-C")
    end
end

local function skip_reason(sweep, case)
    local ok, reason = xpcall(sweep.skip, describe_error, copy(case))
    if not ok then return nil, reason end
    if not reason then return nil end
    return type(reason) == "string" and reason or "skip said so"
end

--- Says why a sweep leaves a case out, or nil; raises what its skip function raises.
function M.skip_reason(sweep, case)
    local reason, failure = skip_reason(sweep, case)
    if failure then error(failure.original, 0) end
    return reason
end

-- Runs a case; gives the fields of its line, warnings, and whether the next case's results are there already.
local function measure(job, case, seed)
    local sweep, device, bar = job.sweep, job.device, job.bar
    local reason, failure = skip_reason(sweep, case)
    stop_if_interrupted(failure)
    if reason then return { status = "skipped", reason = reason } end
    if failure then return { status = "failed", reason = "skip: " .. failure.text, traceback = failure.traceback } end
    local ctx = { device = device, seed = seed, cases = job.cases }
    function ctx.progress(fraction)
        stop_if_interrupted()
        bar:part(math.max(0, math.min(1, check.number("sweep_progress", "fraction", fraction))))
    end
    function ctx.skip(why) error({ skip = Skip, reason = tostring(why or "ctx.skip said so") }, 0) end
    math.randomseed(seed)
    tensor.seed(seed % 2 ^ 20)
    local ok, value = xpcall(function()
        local result = sweep.run(copy(case), ctx)
        device:synchronize() -- so that what fails on the device fails here
        return result
    end, describe_error)
    if not ok and type(value) ~= "table" then value = { text = tostring(value) } end -- describing it failed
    if not ok and value.skip == Skip then return { status = "skipped", reason = value.reason } end
    stop_if_interrupted(not ok and value)
    if not ok then
        return { status = "failed", reason = value.text, traceback = value.traceback }
    end
    local out, fault = outcome.read(value)
    if not out then return { status = "failed", reason = fault } end
    return { status = "ok", metrics = out.metrics, samples = tables.first(out.samples) and out.samples, path = out.path,
        clock_khz = out.clock_khz }, out.warnings, ctx.more
end

-- ---- All cases -----------------------------------------------------------------------------------------------------

--- Raises where the device has failed, a GPU for good: the cases left would all fail in this process.
-- @tparam table opts as Sweep:start has them
function M.check_device(device, left, opts)
    local ok, err = pcall(device.synchronize, device)
    if ok then return end
    if is_interrupt(err) then error(err, 0) end
    raise("device", OP, "%s no longer works (%s); %d cases are left, %s runs them in a new process", device.id,
        tostring(err), left, advised(opts, "--resume", "resume = true"))
end

--- Gives the command that runs a case again; nil where no command runs the sweep.
function M.repeat_command(job, case, device)
    if not job.opts.command then return nil end
    local words = { job.opts.command, "--device", device }
    if job.seed ~= job.sweep.seed then words[#words + 1] = ("--seed %.0f"):format(job.seed) end
    words[#words + 1] = "--case " .. M.quote(json.encode(case))
    return table.concat(words, " ")
end

--- Gives what measuring a sweep's cases takes: sweep, order, device, seed, fields of all lines, opts; to be filled in:
-- bar, cases (those of this run).
function M.job(sweep, opts)
    local device = devices.resolve(OP, opts.device)
    if opts.device and not opts.keep_default then -- so that tensors lie there
        ffi.C.steer_sweep_setenv("STEER_DEVICE", device.id, 1)
    end
    return { sweep = sweep, order = sweep:order(), device = device, seed = opts.seed or sweep.seed,
        fields = surroundings(device, opts), opts = opts }
end

--- Runs a case: gives its line, warnings or nil, and whether the next case's results are there already.
function M.line(job, case)
    local seed, from = record.seed(job.seed, case), C.steer_clock()
    local line, warnings, more = measure(job, case, seed)
    for _, key in ipairs(tables.keys(job.fields)) do
        if line[key] == nil then line[key] = job.fields[key] end
    end
    line.case, line.seed, line.seconds = case, seed, C.steer_clock() - from
    line.code = code.current(job.sweep.code)
    line.time = os.date "!%Y-%m-%dT%H:%M:%SZ"
    line.command = M.repeat_command(job, case, job.device.id)
    return line, warnings, more
end

--- Counts a case that is done and says what is to be said of it.
-- @tparam table job with counts and bar
-- @tparam table case
-- @tparam table line status, and of a failed one reason and command
-- @tparam[opt] table warnings
function M.finish(job, case, line, warnings)
    local bar, text = job.bar, record.text(case, job.order)
    job.counts[line.status] = job.counts[line.status] + 1
    bar:finish()
    if line.status == "failed" then
        bar:note(("failed: %s: %s%s"):format(text, line.reason, line.command and "\n  again: " .. line.command or ""))
    end
    for _, warning in ipairs(warnings or {}) do bar:note(("warning: %s: %s"):format(text, warning)) end
end

local function run_all(job, cases)
    for i, case in ipairs(cases) do
        stop_if_interrupted()
        job.bar:begin(record.text(case, job.order))
        local line, warnings, more = M.line(job, case)
        job.writer:add(line, more)
        M.finish(job, case, line, warnings)
        if line.status == "failed" then M.check_device(job.device, #cases - i, job.opts) end
        if not more then collectgarbage() end -- a case's tensors make room for the next one's
    end
end

-- Cases without a line in the file, each once; and how many of the others have failed.
local function still_to_run(cases, known, opts)
    local rest, taken, failed = {}, {}, 0
    for _, case in ipairs(cases) do
        local key = record.key(case)
        local status = known[key]
        if not taken[key] and (not status or status == "failed" and opts.retry_failed) then
            rest[#rest + 1] = case
        elseif status == "failed" then
            failed = failed + 1
        end
        taken[key] = true
    end
    return rest, failed
end

--- Runs the cases; see Sweep:start. With opts.workers (see sweep/jobs.lua) other processes measure them; with
-- opts.output = false the results stay in memory, and `found` of what is returned is as record.open gives a file's.
function M.start(sweep, cases, axes, opts)
    local job = opts.workers and { sweep = sweep, order = sweep:order(), seed = opts.seed or sweep.seed, opts = opts }
        or M.job(sweep, opts)
    local path, values = output_path(sweep, opts), {}
    for _, a in ipairs(axes) do values[a.name] = a.values end
    local header = {
        name = sweep.name, axes = values, order = job.order, seed = job.seed, version = devices.version,
        content = sweep.content,
    }
    local writer, known = open_results(path, header, sweep, opts)
    local rest, failed_before = still_to_run(cases, known, opts)
    c.interrupted = false
    local kept = #cases - #rest
    job.writer, job.cases = writer, rest
    job.bar = opts.progress == false and progress.silent or progress.new(sweep.name, #cases, C.steer_clock, kept)
    job.counts = { ok = 0, skipped = 0, failed = 0, kept = kept, failed_before = failed_before, path = path }
    local run = opts.workers and require("steer.sweep.jobs").run or run_all
    local ok, err = pcall(run, job, rest)
    job.bar:close()
    writer:close()
    if not ok then error(err, 0) end
    job.counts.found = not path and writer:found() or nil
    return job.counts
end

M.stop_if_interrupted = stop_if_interrupted

return M
