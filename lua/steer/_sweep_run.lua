--- Runs the cases of a sweep one after another and writes a line for each.
local c = require "steer._c"
local check = require "steer._check"
local code = require "steer._code"
local devices = require "steer.device"
local ffi = require "ffi"
local json = require "steer._json"
local outcome = require "steer._outcome"
local progress = require "steer.progress"
local raise = require("steer._error").raise
local record = require "steer.record"
local tensor = require "steer.tensor"
local walk = require "steer._walk"

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
        git = first_line("git -C " .. M.quote(opts.folder or ".")
            .. " describe --always --dirty --abbrev=40 --exclude='*'"),
    }
end

-- ---- The results file ----------------------------------------------------------------------------------------------

local function output_path(sweep, opts)
    local path = opts.output or sweep.name .. ".jsonl"
    if not opts.shard or path == "-" then return path end
    local suffix = "." .. opts.shard:gsub("/", "of")
    local stem, ending = path:match "^(.+)(%.[^./]+)$"
    return stem and stem .. suffix .. ending or path .. suffix
end

-- Refuses a file of another sweep, before anything in it is touched.
local function check_header(found, header)
    local theirs, path = found.header, found.path
    local function differ(what, a, b)
        raise("format", OP, "%s: its %s is %s, here it is %s; name another file with -o", path, what, a, b)
    end
    if theirs.name ~= header.name then differ("sweep", theirs.name, header.name) end
    if theirs.content ~= header.content then differ("content", tostring(theirs.content), tostring(header.content)) end
    local a, b = { unpack(theirs.order) }, { unpack(header.order) }
    table.sort(a)
    table.sort(b)
    a, b = table.concat(a, " "), table.concat(b, " ")
    if a ~= b then differ("list of axes", a, b) end
    if theirs.seed ~= header.seed then
        differ("seed", ("%.0f"):format(theirs.seed), ("%.0f (see --seed)"):format(header.seed))
    end
end

-- Refuses to mix results of this code with those of another one, which stay as they are. Cases that run again do not
-- count.
local function check_code(found, sweep, opts)
    local now = code.current(sweep.code)
    for _, line in ipairs(opts.code_changed and {} or found.cases) do
        local why = not (opts.retry_failed and line.status == "failed") and code.changed(line, now)
        if why then
            raise("format", OP, "%s: line %d was measured by other code: %s; --code-changed goes on all the same, "
                .. "-o names another file", found.path, line.line, why)
        end
    end
end

-- Opens the results file; gives its writer and the status of each case in it, by key.
local function open_results(path, header, sweep, opts)
    local known = {}
    if path == "-" or not (opts.resume or opts.retry_failed) then
        return record.create(OP, path, header, "--resume goes on with it, -o names another file"), known
    end
    local writer, found = record.continue(OP, path, header, function(held)
        check_header(held, header)
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
    for _, key in ipairs(walk.keys(t)) do out[key] = t[key] end
    return out
end

local function stop_if_interrupted(failure)
    if failure and failure.code == "interrupted" then error(failure.original, 0) end
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

-- Runs a case; gives the fields of its line.
local function measure(job, case, seed)
    local sweep, device, bar = job.sweep, job.device, job.bar
    local reason, failure = skip_reason(sweep, case)
    stop_if_interrupted(failure)
    if reason then return { status = "skipped", reason = reason } end
    if failure then return { status = "failed", reason = "skip: " .. failure.text, traceback = failure.traceback } end
    local ctx = { device = device, seed = seed, cases = job.cases }
    function ctx.progress(fraction)
        stop_if_interrupted()
        bar:part(check.number("sweep_progress", "fraction", fraction))
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
    return { status = "ok", metrics = out.metrics, samples = walk.first(out.samples) and out.samples, path = out.path,
        clock_khz = out.clock_khz }, out.warnings
end

-- ---- All cases -----------------------------------------------------------------------------------------------------

-- A GPU that has failed fails for good: the cases left would all fail in this process.
local function check_device(device, left)
    local ok, err = pcall(device.synchronize, device)
    if ok then return end
    if type(err) == "table" and err.code == "interrupted" then error(err, 0) end
    raise("device", OP, "%s no longer works (%s); %d cases are left, --resume runs them in a new process", device.id,
        tostring(err), left)
end

local function repeat_command(opts, sweep, device, seed, case)
    if not opts.command then return nil end
    local words = { opts.command, "--device", device.id }
    if seed ~= sweep.seed then words[#words + 1] = ("--seed %.0f"):format(seed) end
    words[#words + 1] = "--case " .. M.quote(json.encode(case))
    return table.concat(words, " ")
end

-- One case from its beginning to its line.
local function run_case(job, case, left)
    local bar, text = job.bar, record.text(case, job.order)
    bar:begin(text)
    local seed, from = record.seed(job.seed, case), C.steer_clock()
    local line, warnings = measure(job, case, seed)
    for _, key in ipairs(walk.keys(job.fields)) do
        if line[key] == nil then line[key] = job.fields[key] end
    end
    line.case, line.seed, line.seconds = case, seed, C.steer_clock() - from
    line.code = code.current(job.sweep.code)
    line.time = os.date "!%Y-%m-%dT%H:%M:%SZ"
    line.command = repeat_command(job.opts, job.sweep, job.device, job.seed, case)
    job.writer:add(line)
    job.counts[line.status] = job.counts[line.status] + 1
    bar:finish()
    if line.status == "failed" then
        bar:note(("failed: %s: %s\n  again: %s"):format(text, line.reason, line.command or "-"))
        check_device(job.device, left)
    end
    for _, warning in ipairs(warnings or {}) do bar:note(("warning: %s: %s"):format(text, warning)) end
end

local function run_all(job, cases)
    for i, case in ipairs(cases) do
        stop_if_interrupted()
        run_case(job, case, #cases - i)
        collectgarbage() -- a case's tensors make room for the next one's
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

--- Runs the cases; see Sweep:start.
function M.start(sweep, cases, axes, opts)
    local device = devices.resolve(OP, opts.device)
    if opts.device and not opts.keep_default then -- so that tensors lie there
        ffi.C.steer_sweep_setenv("STEER_DEVICE", device.id, 1)
    end
    local seed, path, values = opts.seed or sweep.seed, output_path(sweep, opts), {}
    for _, a in ipairs(axes) do values[a.name] = a.values end
    local header = {
        name = sweep.name, axes = values, order = sweep:order(), seed = seed, version = devices.version,
        content = sweep.content,
    }
    local fields = surroundings(device, opts)
    local writer, known = open_results(path, header, sweep, opts)
    local rest, failed_before = still_to_run(cases, known, opts)
    c.interrupted = false
    local bar = opts.progress == false and progress.silent or progress.new(sweep.name, #rest, C.steer_clock)
    local job = {
        sweep = sweep, order = header.order, device = device, seed = seed, fields = fields, writer = writer,
        opts = opts, bar = bar, cases = rest,
        counts = { ok = 0, skipped = 0, failed = 0, kept = #cases - #rest, failed_before = failed_before, path = path },
    }
    local ok, err = pcall(run_all, job, rest)
    bar:close()
    writer:close()
    if not ok then error(err, 0) end
    return job.counts
end

return M
