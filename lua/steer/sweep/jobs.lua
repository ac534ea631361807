--- The cases of a sweep measured by several processes of this machine, whose lines one process writes to one file.
--
-- The workers get lists of cases, as JSON, and answer with messages, a line each: a JSON object and, behind a tab, the
-- text of a case's line. {"fields"} comes first; then for each list {"begin": i}, {"part": fraction} and {"done": i,
-- "line": {"status", "reason", "command"}, "warnings"} of each case, and {"ready"}; {"lost": message} of a device that
-- has failed ends the worker. A case whose worker is killed runs again on a new one, once.
local c = require "steer.core.c"
local devices = require "steer.device"
local ffi = require "ffi"
local json = require "steer.core.json"
local processes = require "steer.core.process"
local raise = require("steer.core.error").raise
local record = require "steer.record"
local run = require "steer.sweep.run"
local tables = require "steer.core.tables"

local M = {}

local OP = "sweep_start"
local SHARE = 4      -- lists that each worker gets of what is left, if all take equally long
local LONGEST = 1000 -- cases of a list
local ATTEMPTS = 2   -- times that a case may end its worker
local POLL_MS = 200  -- between looks for Ctrl-C

-- ---- Workers, in processes of their own ----------------------------------------------------------------------------

--- Measures what the parent process asks for, until that closes its pipe.
-- @tparam table sweep
-- @tparam table opts as Sweep:start has them: device, seed, command, folder
function M.work(sweep, opts)
    local input, output = processes.parent()
    if not input then raise("invalid_argument", OP, "--worker: it is for processes that --jobs starts") end
    local function send(message, text)
        output:write(json.encode(message), "\t", text or "", "\n")
        output:flush()
    end
    local job = run.job(sweep, opts)
    job.bar = { part = function(_, fraction) send { part = fraction } end }
    send { fields = job.fields }
    for text in input:lines() do
        job.cases = json.decode(text)
        for i, case in ipairs(job.cases) do
            send { begin = i }
            local line, warnings, more = run.line(job, case)
            send({ done = i, warnings = warnings and #warnings > 0 and warnings or nil,
                line = { status = line.status, reason = line.reason, command = line.command } },
                record.text_of_line(line):sub(1, -2))
            local ok, err = pcall(run.check_device, job.device, #job.cases - i, opts)
            if not ok then return send { lost = tostring(err) } end
            if not more then collectgarbage() end
        end
        send { ready = true }
    end
end

-- ---- The parent process --------------------------------------------------------------------------------------------

--- Lists the devices that workers get in turn: the one that was asked for, else all GPUs, else the CPU.
function M.devices_for(opts)
    local named = opts.device or os.getenv "STEER_DEVICE"
    if named and named ~= "" then return { named } end
    local list = {}
    for _, backend in ipairs(devices.backends()) do
        for i = 1, backend.name ~= "cpu" and backend.devices or 0 do
            list[i] = ("%s:%d"):format(backend.name, i - 1)
        end
    end
    return list[1] and list or { "cpu" }
end

-- Workers on the CPU share its cores, unless the user has dealt them out.
local function share_cores(list, count)
    if list[1] ~= "cpu" or (os.getenv "OMP_NUM_THREADS" or "") ~= "" then return end
    local pipe = io.popen "nproc"
    local cores = tonumber(pipe:read "*l") or 1
    pipe:close()
    local share = math.max(1, math.floor(cores / count))
    ffi.C.steer_sweep_setenv("OMP_NUM_THREADS", tostring(share), 1)
end

local Pool = {}
Pool.__index = Pool

-- `worker` is its place: number and device stay when its process is replaced.
function Pool:start(worker)
    local words = { unpack(self.job.opts.workers.words) }
    words[#words + 1], words[#words + 2] = "--device", worker.device
    worker.process = processes.start(OP, words)
    worker.fields, worker.cases, worker.at, worker.done, worker.part = nil, nil, nil, 0, 0
end

-- Appends list[first], ..., list[last] to another list.
local function append(to, list, first, last)
    for i = first, math.min(last, #list) do to[#to + 1] = list[i] end
    return to
end

-- The first cases of those that are left.
function Pool:deal(worker)
    local count = math.floor((#self.cases - self.next + 1) / (SHARE * #self.workers))
    count = math.max(1, math.min(LONGEST, count))
    local list = append({}, self.cases, self.next, self.next + count - 1)
    if #list == 0 then
        worker.cases = nil
        return
    end
    self.next, worker.cases, worker.done = self.next + #list, list, 0
    worker.process:send(json.encode(json.list(list))) -- should it be gone, its end is read next
end

function Pool:show()
    local together = 0
    for _, worker in ipairs(self.workers) do together = together + (worker.part or 0) end
    self.job.bar:part(together)
end

function Pool:finish(worker, case, line, warnings)
    worker.part, self.left = 0, self.left - 1
    run.finish(self.job, case, line, warnings)
    self:show()
end

local answers = {}

function answers.fields(self, worker, message)
    worker.fields = message.fields
    self:deal(worker)
end

function answers.begin(self, worker, message)
    worker.at = message.begin
    self.job.bar:begin(record.text(worker.cases[worker.at], self.job.order))
    self:show()
end

function answers.part(self, worker, message)
    worker.part = message.part
    self:show()
end

function answers.done(self, worker, message, text)
    self.job.writer:add_text(text .. "\n")
    worker.done, worker.at = message.done, nil
    self:finish(worker, worker.cases[message.done], message.line, message.warnings)
end

function answers.ready(self, worker) self:deal(worker) end

function answers.lost(self, worker, message)
    self.job.bar:note(("%s: in a new process"):format(message.lost))
    worker.at = nil
end

-- The line of a case that ended its worker each time.
function Pool:give_up(worker, case, how)
    local line = { case = case, seed = record.seed(self.job.seed, case), status = "failed",
        reason = ("its process ended %d times, at last with %s"):format(ATTEMPTS, how) }
    for _, key in ipairs(tables.keys(worker.fields)) do line[key] = worker.fields[key] end
    line.time, line.command = os.date "!%Y-%m-%dT%H:%M:%SZ", run.repeat_command(self.job, case, worker.device)
    self.job.writer:add_text(record.text_of_line(line))
    self:finish(worker, case, line)
end

-- A worker has ended: what it had not done goes back, and another process takes its place.
function Pool:replace(worker)
    local how, at = worker.process:wait(), worker.at
    worker.process = nil
    if not worker.fields then
        raise("io", OP, "a worker on %s ended before its first case, with %s", worker.device, how)
    end
    local rest = append({}, worker.cases or {}, worker.done + 1, math.huge)
    if at and rest[1] then
        local key = record.key(rest[1])
        self.ends[key] = (self.ends[key] or 0) + 1
        if self.ends[key] >= ATTEMPTS then
            self:give_up(worker, table.remove(rest, 1), how)
        else
            self.job.bar:note(("a worker ended with %s; again: %s"):format(how, record.text(rest[1], self.job.order)))
        end
    end
    self.cases, self.next = append(rest, self.cases, self.next, math.huge), 1
    if self.left > 0 then self:start(worker) end
end

function Pool:listen(worker)
    local lines, more = worker.process:lines()
    for _, line in ipairs(lines) do
        local head, text = line:match "^([^\t]*)\t(.*)$"
        local message = json.decode(head)
        for _, name in ipairs(tables.keys(message)) do
            if answers[name] then answers[name](self, worker, message, text) end
        end
    end
    if not more then self:replace(worker) end
end

function Pool:loop()
    while self.left > 0 do
        run.stop_if_interrupted()
        local list, at = {}, {}
        for _, worker in ipairs(self.workers) do
            list[#list + 1] = worker.process
            if worker.process then at[worker.process] = worker end
        end
        for _, process in ipairs(processes.poll(list, POLL_MS)) do self:listen(at[process]) end
        self:wake()
    end
end

-- Workers that found nothing left may have something again.
function Pool:wake()
    for _, worker in ipairs(self.workers) do
        if worker.fields and not worker.cases and self.next <= #self.cases then self:deal(worker) end
    end
end

--- Measures cases with opts.workers = {count =, words = (of a worker's command, without its device)}.
-- @raise io, interrupted
function M.run(job, cases)
    local list, count = M.devices_for(job.opts), math.min(job.opts.workers.count, #cases)
    share_cores(list, count)
    processes.survive_children()
    local pool = setmetatable({ job = job, cases = cases, next = 1, left = #cases, workers = {}, ends = {} }, Pool)
    local ok, err = pcall(function()
        for i = 1, count do
            pool.workers[i] = { device = list[(i - 1) % #list + 1] }
            pool:start(pool.workers[i])
        end
        pool:loop()
    end)
    for _, worker in ipairs(pool.workers) do
        if worker.process then worker.process:stop() end -- it holds nothing that is to be kept
    end
    if not ok then error(err, 0) end
    c.C.steer_interrupt_clear()
end

return M
