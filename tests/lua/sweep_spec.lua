--- steer.sweep and `steer sweep`: results of every kind, resuming, retrying, shards, seeds, merging and bad input.
-- devices: cpu cuda
local helper = require "helper"
local json = require "steer.core.json"
local record = require "steer.record"
local steer = require "steer"

local folder

local function shell(command)
    local pipe = io.popen(("{ %s; } 2>%s/errors; printf '\\n%%d' $?"):format(command, folder))
    local output, status = pipe:read("*a"):match "^(.*)\n(%d+)$"
    pipe:close()
    local file = io.open(folder .. "/errors")
    local errors = file:read "*a"
    file:close()
    return output, errors, tonumber(status)
end

local function sweep_command(arguments, environment)
    return shell(("STEER_DEVICE=%s %s scripts/steer sweep %s"):format(helper.device, environment or "", arguments))
end

local function write(name, text)
    local path = folder .. "/" .. name
    local file = assert(io.open(path, "w"))
    file:write(text)
    file:close()
    return path
end

local function read(path)
    local file = assert(io.open(path))
    local text = file:read "*a"
    file:close()
    return text
end

local function has(text, fragment)
    assert(text:find(fragment, 1, true), ("expected %q in:\n%s"):format(fragment, text))
end

-- A sweep over n = 1..count with results in a new file; gives the lines by n.
local function measure(run, opts, extra)
    local declaration = { name = "trial", axes = { n = "[1:3]" }, run = run }
    for key, value in pairs(extra or {}) do declaration[key] = value end
    local all = { output = folder .. "/results.jsonl", device = helper.device, progress = false }
    for key, value in pairs(opts or {}) do all[key] = value end
    local counts = steer.sweep(declaration):start(all)
    local lines = {}
    for _, line in ipairs(record.read(counts.path).cases) do lines[line.case.n] = line end
    return lines, counts
end

before_each(function()
    folder = os.tmpname()
    os.remove(folder)
    assert(os.execute("mkdir " .. folder) == 0)
end)

after_each(function() os.execute("rm -rf " .. folder) end)

describe("steer.sweep", function()
    it("refuses a declaration that is none", function()
        local function run() end
        for message, declaration in pairs {
            ["name: expected a name"] = { axes = { n = 1 }, run = run },
            ['name: "../x"'] = { name = "../x", axes = { n = 1 }, run = run },
            ["axes: expected a table of axes"] = { name = "x", run = run },
            ["run: expected a function"] = { name = "x", axes = { n = 1 } },
            ['unknown option "axis", did you mean "axes"'] = { name = "x", axis = {}, run = run },
            ["seed: expected an integer"] = { name = "x", axes = { n = 1 }, run = run, seed = 1.5 },
            ["declaration.skip: expected a function"] = { name = "x", axes = { n = 1 }, run = run, skip = true },
        } do
            helper.fails("invalid_argument", message, steer.sweep, declaration)
        end
        helper.fails("invalid_argument", "declaration: expected", steer.sweep, 5)
    end)

    it("writes metrics, samples, path, device, versions, seed and time of each case", function()
        local lines, counts = measure(function(case, ctx)
            assert.equal(helper.device, ctx.device.id)
            return { us = case.n / 10, path = "mixed", samples = { us = { 1, 2 }, other = { 3, 1, 2 } } }
        end, { command = "steer sweep x.lua", seed = 5 })
        assert.same({ ok = 3, skipped = 0, failed = 0, kept = 0, failed_before = 0,
            path = folder .. "/results.jsonl" },
            counts)
        local line = lines[1]
        assert.equal("ok", line.status)
        assert.equal(0.1, line.metrics.us)
        assert.equal(2, line.metrics.other) -- the median of its samples
        assert.same({ 1, 2 }, { unpack(line.samples.us) })
        assert.equal("mixed", line.path)
        assert.equal(helper.device, line.device)
        assert.equal(steer.version, line.versions.steer)
        assert.equal(record.seed(5, { n = 1 }), line.seed)
        assert.equal("steer sweep x.lua --device " .. helper.device .. " --seed 5 --case '{\"n\":1}'", line.command)
        local git = io.popen "git rev-parse HEAD 2>/dev/null"
        local head = git:read "*l"
        git:close()
        if head and head:find "^%x+$" then -- a copy without its history has none
            local revision = line.git:match "^%x+"
            assert.equal(head:sub(1, #revision), revision)
        end
        assert.is_truthy(line.time:find "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%dZ$")
        assert.is_true(line.seconds >= 0)
        assert.is_string(line.host)
        assert.is_string(line.device_name)
    end)

    it("takes what bench.time returns", function()
        local h = steer.tensor.ones({ 16 }, { device = helper.device })
        local function time()
            return steer.bench.time(function() h:add_(h, 0) end, { device = helper.device, max_samples = 20,
                max_noise = 1e9 })
        end
        local lines = measure(function(case)
            local timing = time()
            timing.path = "x"
            if case.n == 1 then return timing end
            return { fast = timing, extra = 7 }
        end)
        local whole, part = lines[1], lines[2]
        assert.equal("x", whole.path)
        assert.is_true(#whole.samples.wall_us >= 10)
        for _, name in ipairs { "wall_us", "wall_us_q1", "wall_us_q3", "wall_us_min" } do
            assert.is_true(whole.metrics[name] > 0)
            assert.is_true(part.metrics["fast_" .. name] > 0)
        end
        assert.equal(helper.device ~= "cpu", whole.metrics.gpu_us ~= nil)
        assert.is_nil(whole.metrics.clock_khz)
        assert.equal(7, part.metrics.extra)
        assert.is_true(#part.samples.fast_wall_us >= 10)
    end)

    it("keeps skipped and failed cases as lines with their reasons, and goes on", function()
        local lines, counts = measure(function(case, ctx)
            if case.n == 1 then ctx.skip "not here" end
            if case.n == 2 then steer.tensor.zeros({ -1 }) end
            if case.n == 3 then error "plain" end
            if case.n == 4 then error({}) end
            if case.n == 6 then error(setmetatable({}, { __tostring = function() error "no text" end })) end
            case.n = 100 -- its own copy
            return { x = 1 }
        end, nil, { axes = { n = "[1:8]" }, skip = function(case)
            if case.n == 5 then return "too small" end
            if case.n == 7 then error "wrong skip" end
        end })
        assert.same({ 1, 2, 5 }, { counts.ok, counts.skipped, counts.failed })
        assert.equal("not here", lines[1].reason)
        assert.equal("skipped", lines[1].status)
        assert.equal("failed", lines[2].status)
        has(lines[2].reason, "invalid_argument: ")
        has(lines[2].traceback, "sweep_spec.lua:")
        assert.is_nil(lines[2].traceback:find("sweep/run", 1, true))
        has(lines[3].reason, "plain")
        has(lines[4].reason, "table: ")
        assert.equal("too small", lines[5].reason)
        assert.equal("an error without a text", lines[6].reason)
        has(lines[7].reason, "skip: ")
        assert.equal(1, lines[8].metrics.x)
    end)

    it("fails a case whose metrics are not numbers, and writes null for NaN and infinities", function()
        local results = {
            { nil, "run: it returned nothing, expected a table of metrics" },
            { 5, "run: it returned 5, expected a table" },
            { { ["\255"] = 5, ["\254"] = 6 }, "is not UTF-8" }, { { samples = { ["\255"] = { 1 } } }, "is not UTF-8" },
            { { us = "5" }, 'run: the metric us is "5", expected a number' },
            { { us = 5LL }, "run: the metric us is a cdata, expected a number" },
            { { 1, 2 }, "run: it returned the key 1, expected the names of metrics" },
            { {}, "run: it returned no metric" },
            { { path = 1, us = 1 }, "run: its path is 1, expected a string" },
            { { samples = { us = { "x" } } }, 'run: the sample us[1] is "x"' },
            { { samples = 1 }, "run: its samples are 1" }, { { samples = { us = 1 } }, "run: the samples us are 1" },
        }
        local lines = measure(function(case) return results[case.n][1] end, nil, { axes = { n = "[1:12]" } })
        for n, row in ipairs(results) do
            assert.equal("failed", lines[n].status)
            has(lines[n].reason, row[2])
        end
        os.remove(folder .. "/results.jsonl")
        lines = measure(function(case) return { a = ({ 0 / 0, 1 / 0, -1 / 0 })[case.n], b = 1 } end)
        for n = 1, 3 do
            assert.equal("ok", lines[n].status)
            assert.is_true(lines[n].metrics.a ~= lines[n].metrics.a)
        end
        has(read(folder .. "/results.jsonl"), '"metrics":{"a":null,"b":1}')
    end)

    it("gives a case the same numbers alone, resumed and sharded", function()
        local function run(_, ctx)
            return { seed = ctx.seed, random = math.random(),
                normal = steer.tensor.randn({ 3 }, { device = helper.device }):sum() }
        end
        local function numbers(opts, name)
            local lines = measure(run, opts, nil)
            local out = {}
            for n, line in pairs(lines) do out[n] = json.encode(line.metrics) end
            os.execute(("rm %s/%s"):format(folder, name or "results.jsonl"))
            return out
        end
        local all = numbers()
        assert.not_equal(all[1], all[2])
        assert.same({ [2] = all[2] }, numbers { case = { '{"n":2}' } })
        assert.same({ [2] = all[2] }, numbers({ shard = "2/3" }, "results.2of3.jsonl"))
        assert.same({ [3] = all[3] }, numbers { only = { "n=3" } })
        assert.not_equal(all[2], numbers({ seed = 1 })[2])
    end)

    it("resumes by content, in any order and with more cases; retries what failed", function()
        local ran = {}
        local function run(case)
            ran[#ran + 1] = case.n
            if case.n == 2 and #ran < 4 then error "not yet" end
            return { x = 1 }
        end
        measure(run)
        local _, counts = measure(run, { resume = true, axis = { "n=[5,3,2,1]" } })
        assert.same({ 1, 2, 3, 5 }, ran)
        assert.same({ 1, 3, 1 }, { counts.ok, counts.kept, counts.failed_before })
        local lines
        lines, counts = measure(run, { retry_failed = true })
        assert.same({ 1, 2, 3, 5, 2 }, ran)
        assert.same({ 1, 2, 0 }, { counts.ok, counts.kept, counts.failed_before })
        assert.equal("ok", lines[2].status)
        measure(run, { case = { { n = 9 }, { n = 9 }, '{"n":1}' }, resume = true })
        assert.same({ 1, 2, 3, 5, 2, 9 }, ran)
    end)

    it("refuses a file that is not its own, and leaves it as it is", function()
        local function run() return { x = 1 } end
        measure(run)
        local path = folder .. "/results.jsonl"
        local text = read(path)
        helper.fails("io", "it exists; resume = true goes on with it, output names another file", measure, run)
        helper.fails("format", "its sweep is trial, here it is other", measure, run, { resume = true },
            { name = "other" })
        helper.fails("format", "its list of axes is n, here it is m", measure, run, { resume = true },
            { axes = { m = "[1,2]" } })
        helper.fails("format", "its seed is 0, here it is 7 (see seed)", measure, run, { resume = true, seed = 7 })
        write("results.jsonl", text .. "foreign\n")
        helper.fails("format", "line 5 is foreign", measure, run, { resume = true })
        assert.equal(text .. "foreign\n", read(path))
    end)

    it("stops on a full disk with the results so far", function()
        helper.fails("io", "No space left on device", measure, function() return { x = 1 } end,
            { output = "/dev/full" })
        helper.fails("io", "cannot write: No such file", measure, function() return { x = 1 } end,
            { output = "/nonexistent/results.jsonl" })
    end)

    it("ends when it is interrupted, also where the case catches that; results so far stay", function()
        local c = require "steer.core.c"
        for _, catches in ipairs { false, true } do
            local function run(case)
                if case.n == 2 then
                    c.C.steer_interrupt_raise()
                    local call = catches and pcall or function(f, ...) return f(...) end
                    call(steer.tensor.zeros, { 1 }, { device = helper.device })
                end
                return { x = 1 }
            end
            helper.fails("interrupted", "", measure, run)
            assert.equal(1, #record.read(folder .. "/results.jsonl").cases)
            os.remove(folder .. "/results.jsonl")
        end
        c.interrupted = false
    end)

    it("ends at a Ctrl-C that luajit itself raises as a text", function()
        local ok, err = pcall(measure, function(case)
            if case.n == 2 then error("script.lua:3: interrupted!", 0) end
            return { x = 1 }
        end)
        assert.is_false(ok)
        assert.equal("script.lua:3: interrupted!", err)
        assert.equal(1, #record.read(folder .. "/results.jsonl").cases)
    end)

    it("ends when its device is gone, after the case's line", function()
        local device = steer.device(helper.device)
        local methods = getmetatable(device).__methods
        local synchronize = methods.synchronize
        local function gone()
            require("steer.core.error").raise("device", "device_synchronize", "the device is gone")
        end
        local ok, err = pcall(measure, function(case)
            if case.n == 2 then methods.synchronize = gone end
            return { x = 1 }
        end)
        methods.synchronize = synchronize
        assert.is_false(ok)
        assert.equal("device", err.code)
        has(tostring(err), helper.device .. " no longer "
            .. "works (device: device_synchronize: the device is gone); 1 cases are left")
        local cases = record.read(folder .. "/results.jsonl").cases
        assert.equal(2, #cases)
        assert.equal("failed", cases[2].status)
        helper.fails("not_found", "cuda:99", measure, function() end, { device = "cuda:99", resume = true })
    end)

    it("puts tensors on the device of the sweep", function()
        write("s.lua", [[local steer = require "steer"
            return steer.sweep{ name = "t", axes = { n = 1 }, run = function(_, ctx)
                assert(steer.device() == ctx.device)
                return { x = 1 }
            end }]])
        local _, errors, status = shell(("cd %s && STEER_DEVICE=cpu '%s/scripts/steer' sweep s.lua --device %s"):format(
            folder, os.getenv "PWD", helper.device))
        assert.equal(0, status, errors)
    end)
end)

describe("steer sweep", function()
    local SWEEP = [[
        local steer = require "steer"
        return steer.sweep{ name = "grid", axes = { "hidden[pow2]=[3:5]", "path=[a,b]" },
            skip = function(case) return case.hidden == 8 and case.path == "b" and "too small" end,
            run = function(case)
                if case.hidden == 16 and case.path == "b" and not os.getenv "GOOD" then error "it's wrong" end
                return { x = case.hidden }
            end }
    ]]
    local file
    before_each(function() file = write("grid.lua", SWEEP) end)

    local function run(arguments, environment)
        return sweep_command(("%s -o %s/out.jsonl %s"):format(file, folder, arguments or ""), environment)
    end

    it("lists cases and shows axes without running", function()
        local output, errors, status, _ = sweep_command(file .. " --list")
        has(output,
            "     1  hidden=8 path=a\n     2  hidden=8 path=b  (skipped: too small)\n     3  hidden=16 path=a\n")
        has(output, "6 cases, 1 of them skipped\n")
        assert.equal("", errors)
        assert.equal(0, status)
        has(sweep_command(file .. " --list -a 'hidden=[64,65]' --only path=b --shard 2/2"),
            "     1  hidden=65 path=b\n1 cases")
        output, _, status = sweep_command(file .. " --help")
        has(output, "sweep grid, 2 axes:\n  hidden           8, 16, 32\n  path             a, b\n\n"
            .. "usage: steer sweep")
        assert.equal(0, status)
        output, errors, status = sweep_command(write("odd.lua", SWEEP:gsub("and \"too small\"", "and error 'odd'"))
            .. " --list")
        has(output, "     2  hidden=8 path=b  (skip fails: ")
        has(output, "odd)\n     3  hidden=16 path=a\n")
        assert.same({ "", 1 }, { errors, status })
    end)

    it("runs, resumes and retries, and says what there is", function()
        local output, errors, status, _ = run()
        assert.equal("", output)
        has(errors, "failed: hidden=16 path=b: ")
        has(errors, "steer sweep: grid: 4 ok, 1 skipped, 1 failed -> " .. folder .. "/out.jsonl\n")
        assert.equal(1, status)
        _, errors, status = run()
        has(errors, "it exists; --resume goes on with it")
        assert.equal(1, status)
        _, errors, status = run "--resume"
        has(errors, "grid: 6 there before (1 of them failed, see --retry-failed)")
        assert.equal(1, status)
        _, errors, status = run("--retry-failed", "GOOD=1")
        has(errors, "grid: 1 ok, 5 there before")
        assert.equal(0, status)
        assert.equal(8, select(2, read(folder .. "/out.jsonl"):gsub("\n", "")))
    end)

    it("gives commands that repeat a case", function()
        run()
        local failed
        for _, line in ipairs(record.read(folder .. "/out.jsonl").cases) do
            if line.status == "failed" then failed = line end
        end
        local output, _, status = shell("PATH=scripts:$PATH; " .. failed.command)
        local line = json.decode(output:match "\n(.*)\n$")
        assert.equal(failed.reason, line.reason)
        assert.equal(failed.seed, line.seed)
        assert.equal(1, status)
    end)

    describe("of code that has changed", function()
        local name

        local function put(helper_value, script_value)
            write("measure.lua", "return { value = " .. helper_value .. " }")
            write("late.lua", "return 1")
            write("part.lua", "return 1")
            name = write("code.lua", ([[
                package.path = "%s/?.lua;" .. package.path
                local measure, part = require "measure", dofile "%s/part.lua"
                return require("steer").sweep{ name = "code", axes = { n = "[1:3]" }, run = function(case)
                    if case.n > 1 then require "late" end
                    return { x_us = measure.value + %d + part }
                end }]]):format(folder, folder, script_value))
        end

        local function go(options)
            local _, errors, status = sweep_command(("%s -q -o %s/code.jsonl %s"):format(name, folder, options))
            return errors, status
        end

        it("is refused by resume and merge, unless told", function()
            put(1, 1)
            assert.equal(0, select(2, go "--only n=[1,2]"))
            assert.same({ "", 0 }, { go "--resume --only n=2" })
            local whole = read(folder .. "/code.jsonl")
            for _, change in ipairs {
                { function() put(1, 2) end, "line 2 was measured by other code: the sweep's file has changed" },
                { function() put(2, 1) end, "line 2 was measured by other code: measure has changed" },
                { function() write("part.lua", "return 2") end, "part.lua has changed" },
                { function() write("late.lua", "return 2") end, "line 3 was measured by other code: late has changed" },
                { function() os.remove(folder .. "/late.lua") end, "late is gone" },
            } do
                put(1, 1)
                change[1]()
                for _, option in ipairs { "--resume", "--retry-failed" } do
                    local errors, status = go(option)
                    has(errors, change[2])
                    has(errors, "; --code-changed goes on all the same")
                    assert.equal(1, status)
                    assert.equal(whole, read(folder .. "/code.jsonl"))
                end
            end
            put(2, 1)
            assert.same({ "", 0 }, { go "--resume --code-changed" })
            assert.equal(3, #record.read(folder .. "/code.jsonl").cases)
            has((go "--resume"), "measure has changed")
            local merge = ("scripts/steer merge -o %s/all.jsonl %%s %s/code.jsonl"):format(folder, folder)
            local _, errors, status = shell(merge:format "")
            has(errors, "were measured by different code: measure differs; --code-changed puts them together")
            assert.equal(1, status)
            assert.is_nil(io.open(folder .. "/all.jsonl"))
            _, _, status = shell(merge:format "--code-changed")
            assert.equal(0, status)
            local output = shell(("scripts/steer compare %s/all.jsonl %s/code.jsonl"):format(folder, folder))
            has(output, "/all.jsonl holds results of different code: measure differs between lines 2 and 4")
            _, errors = shell(("scripts/steer report %s/all.jsonl"):format(folder))
            has(errors, "the cases were measured by different code: measure differs between lines 2 and 4")
            has(read(folder .. "/all.html"), "the cases were measured by different code: measure differs")
        end)

        it("is said by compare; failed cases may run again by other code", function()
            put("nil", 1)
            go ""
            put(1, 1)
            assert.same({ "", 0 }, { go "--retry-failed" })
            assert.equal(0, os.execute(("mv %s/code.jsonl %s/old.jsonl"):format(folder, folder)))
            put(1, 2)
            go ""
            local output = shell(("scripts/steer compare %s/old.jsonl %s/code.jsonl"):format(folder, folder))
            has(output, "note: the code differs: the sweep's file\n")
        end)

        it("is known of results that do not say their code, and of sweeps that a script starts", function()
            measure(function() return { x = 1 } end)
            local path = folder .. "/results.jsonl"
            assert.is_truthy(record.read(path).cases[1].code.file:find "^%x+$")
            measure(function() return { x = 1 } end, { resume = true })
            write("results.jsonl", (read(path):gsub(',"code":{[^}]*}', "")))
            helper.fails("format", "line 2 was measured by other code: it does not say by which", measure,
                function() return { x = 1 } end, { resume = true })
            measure(function() return { x = 1 } end, { resume = true, code_changed = true })
        end)
    end)

    it("shards by number or by the Slurm job array, and merges", function()
        local _, _, status = run("-q --shard 1/2", "GOOD=1")
        assert.equal(0, status)
        local array = "GOOD=1 SLURM_ARRAY_TASK_ID=%d SLURM_ARRAY_TASK_COUNT=2 SLURM_ARRAY_TASK_MIN=4 "
            .. "SLURM_ARRAY_TASK_STEP=3"
        run("-q", array:format(7))
        local output, errors
        output, errors,
            status = shell(("scripts/steer merge -o %s/all.jsonl %s/out.1of2.jsonl %s/out.2of2.jsonl"):format(
            folder, folder, folder))
        assert.equal("", output)
        assert.equal("steer merge: 6 cases (5 ok, 1 skipped, 0 failed) -> " .. folder .. "/all.jsonl\n", errors)
        assert.equal(0, status)
        run("-q", "GOOD=1")
        local whole, merged = record.read(folder .. "/out.jsonl"), record.read(folder .. "/all.jsonl")
        for i, line in ipairs(whole.cases) do
            assert.equal(line.key, merged.cases[i].key)
            assert.equal(line.seed, merged.cases[i].seed)
            assert.equal(json.encode(line.metrics or {}), json.encode(merged.cases[i].metrics or {}))
        end
        for id, environment in pairs { [5] = array:format(5), [9] = "SLURM_ARRAY_TASK_ID=9",
            [10] = "SLURM_ARRAY_TASK_ID=9 SLURM_ARRAY_TASK_COUNT=2 SLURM_ARRAY_TASK_MIN=1" } do
            _, errors, status = run("", environment)
            has(errors, "which of the array's tasks is this?")
            assert.equal(2, status, id)
        end
    end)

    it("deals all GPUs out to its jobs, unless a device is named", function()
        local jobs, devices = require "steer.sweep.jobs", require "steer.device"
        local backends = devices.backends
        devices.backends = function()
            return { { name = "cpu", devices = 1 }, { name = "cuda", devices = 3 } }
        end
        local ok, err = pcall(function()
            if not os.getenv "STEER_DEVICE" then
                assert.same({ "cuda:0", "cuda:1", "cuda:2" }, jobs.devices_for {})
            end
            assert.same({ "cuda:1" }, jobs.devices_for { device = "cuda:1" })
        end)
        devices.backends = backends
        if not ok then error(err, 0) end
    end)

    it("refuses wrong usage with status 2", function()
        for arguments, message in pairs {
            [""] = "which file?", ["a.lua b.lua"] = "unexpected argument 'b.lua'",
            ["nowhere.lua"] = "cannot open nowhere.lua",
            [file .. " --axes n=1"] = "unknown option '--axes', did you mean '--axis'?",
            [file .. " -a"] = "-a: a value is missing", [file .. " --list=3"] = "--list: it takes no value",
            [file .. " -a 'hidden=[1'"] = '--axis: "hidden=[1": a bracket alone',
            [file .. " --jobs 0"] = "--jobs: expected an integer from 1 up",
            [file .. " --only x=1"] = "there is no axis x",
            [file .. " --shard 3/2"] = '--shard: "3/2", expected i/n', [file .. " --shard x"] = "--shard: ",
            [file .. " --seed x"] = "--seed: expected a number, got 'x'",
            [file .. " --seed -1"] = "an integer from 0 up",
            [file .. " --case '{'"] = "--case: expected a JSON object",
            [file .. " --case '{\"hidden\":1}'"] = "--case: path: it is nothing, expected a number",
            [file .. " --case '{\"hidden\":1e999,\"path\":\"a\"}'"] = "--case: hidden: it is not finite",
            [file .. " --case '{\"hidden\":null,\"path\":\"a\"}'"] = "--case: hidden: it is not finite",
            [file .. " --case '{\"hidden\":[1],\"path\":\"a\"}'"] = "--case: hidden: it is a table, expected a number",
            [file .. " --case '{\"hidden\":1,\"path\":\"\255\"}'"] = "--case: path: it is not UTF-8",
            [file .. " --seed 1e999"] = "an integer from 0 up",
            [file .. " --case '{\"hidden\":1,\"path\":\"a\",\"b\":2}'"] = '--case: unknown option "b"',
            [file .. " -o - --resume"] = "standard output holds no earlier results",
        } do
            local _, errors, status = sweep_command(arguments)
            has(errors, message)
            assert.equal(2, status, arguments)
        end
    end)

    it("says what is wrong with a sweep file", function()
        for text, message in pairs {
            ["return 5"] = "expected it to return steer.sweep{...}, got 5", [""] = "got nothing",
            ["return {}"] = "got a table", ["x = = 1"] = "unexpected symbol",
            ["error 'in the file'"] = ":1: in the file",
            ["return require('steer').sweep{}"] = "bad.lua: invalid_argument: sweep: name: ",
            ["error({})"] = "bad.lua:1: in main chunk",
        } do
            local _, errors, status = sweep_command(write("bad.lua", text))
            has(errors, message)
            assert.is_nil(errors:find("steer/cli/", 1, true), errors)
            assert.equal(1, status, text)
        end
        local _, errors, status = sweep_command(file .. " --device cuda:99")
        has(errors, "steer sweep: not_found: ")
        assert.equal(1, status)
    end)
end)

describe("the README's sweep", function()
    it("runs", function()
        local text = assert(read("README.md"):match "## Sweeps.-```\n(.-)```")
        local name = write("add.lua", text)
        local output, errors, status = sweep_command(name .. " -q -o - --only rows=1 --only hidden=1024")
        assert.equal(0, status, errors)
        local line = json.decode(output:match "\n(.*)\n$")
        assert.equal("ok", line.status)
        assert.equal("uniform", line.path)
        assert.is_true(line.metrics.wall_us > 0)
    end)
end)

describe("progress", function()
    it("is a bar with the time left on a terminal, and lines elsewhere", function()
        local name = write("slow.lua", [[
            local steer = require "steer"
            return steer.sweep{ name = "slow", axes = { n = "[1:3]" }, run = function(case, ctx)
                local ends = steer.bench.clock() + 0.15
                repeat ctx.progress(0.5) until steer.bench.clock() > ends
                if case.n == 2 then error "wrong" end
                return { x = 1 }
            end }]])
        local _, errors = sweep_command(name .. " -o " .. folder .. "/lines.jsonl")
        has(errors, "slow 0/3   0%  n=1\n")
        has(errors, "slow 3/3 100% 0:00 left n=3\n")
        assert.is_nil(errors:find "[\r\27]")
        if os.execute "command -v script >/dev/null" ~= 0 then return pending "script is not installed" end
        local command = ("TERM=%%s script -qec 'scripts/steer sweep %s -o %s/%%s' /dev/null"):format(
            name, folder)
        local output = shell(command:format("xterm", "bar.jsonl"))
        assert.is_truthy(output:find "\r\27%[Kslow %[=============       %] 2/3  66%% %d:%d%d left n=2", output)
        has(output, "\r\27[Kfailed: n=2: ")
        has(output, "\r\27[Ksteer sweep: slow: 2 ok, 1 failed -> ")
        assert.is_nil(shell(command:format("dumb", "dumb.jsonl")):find "\27")
    end)

    it("counts in hours, minutes and seconds", function()
        local clock = require("steer.progress").clock
        assert.same({ "0:00", "0:07", "1:00", "12:30", "3:00:00" },
            { clock(0.4), clock(7), clock(59.6), clock(750), clock(10800) })
    end)
end)

describe("steer merge", function()
    local function results(name, cases, header)
        local all = { name = "trial", axes = { n = { 1, 2, 3 } }, order = { "n" }, seed = 0, version = "1" }
        for key, value in pairs(header or {}) do all[key] = value end
        local writer = record.create("test", folder .. "/" .. name, all)
        for _, case in ipairs(cases) do
            writer:add { case = { n = case[1] }, status = case[2] or "ok", metrics = { x = case[3] } }
        end
        writer:close()
    end

    local function merge(files)
        local words = { "cd " .. folder .. " && '" .. os.getenv "PWD" .. "/scripts/steer' merge -o all.jsonl" }
        for i, name in ipairs(files) do words[i + 1] = name end
        return shell(table.concat(words, " "))
    end

    it("reports a case that ran twice, torn lines and cases that are missing", function()
        results("a", { { 2, "ok", 1 }, { 1, "failed" } })
        results("b", { { 1, "ok", 5 }, { 2, "ok", 2 } })
        local file = io.open(folder .. "/b", "a")
        file:write '{"case":{"n'
        file:close()
        local _, errors, status = merge { "a", "b" }
        assert.equal("steer merge: n=2 ran twice: a line 2 and b line 3; the first is taken\n"
            .. "steer merge: b: its torn last line is left out\nsteer merge: 1 of the sweep's 3 cases are in no file\n"
            .. "steer merge: 2 cases (2 ok, 0 skipped, 0 failed) -> all.jsonl\n", errors)
        assert.equal(0, status)
        local cases = record.read(folder .. "/all.jsonl").cases
        assert.same({ 5, 1 }, { cases[1].metrics.x, cases[2].metrics.x })
        _, errors, status = merge { "a", "b" }
        has(errors, "all.jsonl: it exists")
        assert.equal(1, status)
    end)

    it("keeps what results have in common, such as a hash of the data", function()
        results("a", { { 1 } }, { content = "b" })
        assert.equal(0, select(3, merge { "a" }))
        assert.equal("b", record.read(folder .. "/all.jsonl").header.content)
    end)

    it("refuses files of another sweep, and writes nothing then", function()
        results("a", { { 1 } })
        results("name", { { 1 } }, { name = "other" })
        results("seed", { { 1 } }, { seed = 1 })
        results("content", { { 1 } }, { content = "b" })
        results("axes", {}, { axes = { m = { 1 } }, order = { "m" } })
        write("foreign", "hello\n")
        write("empty", "")
        for name, message in pairs { name = "its sweep is other, that of a is trial", seed = "its seed is 1",
            content = "its content is b, that of a is nil",
            axes = "its list of axes is m, that of a is n", foreign = "line 1 is not the header",
                empty = "it is empty",
            absent = "cannot open absent" } do
            local _, errors, status = merge { "a", name }
            has(errors, message)
            assert.equal(1, status)
            assert.is_nil(io.open(folder .. "/all.jsonl"))
        end
        for arguments, message in pairs { [""] = "-o: it is missing", ["-o x"] = "which files?",
            ["-p x"] = "unknown option" } do
            local _, errors, status = shell("scripts/steer merge " .. arguments)
            has(errors, message)
            assert.equal(2, status)
        end
    end)
end)
