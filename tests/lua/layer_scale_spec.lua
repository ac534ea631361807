--- The layer x scale x operation experiment and the benchmark sweeps: they run as sweeps and find what is known.
-- devices: cpu cuda
local json = require "dkjson"
local files = require "files"
local helper = require "helper"

local device = helper.device

-- Output and exit status of the launcher.
local function launch(arguments)
    local pipe = io.popen(("STEER_DEVICE=%s scripts/steer %s 2>&1; echo status $?"):format(device, arguments))
    local text = pipe:read("*a")
    pipe:close()
    return text, tonumber(text:match("status (%d+)%s*$"))
end

-- The lines of a results file that are cases.
local function cases_of(path)
    local list = {}
    for text in io.lines(path) do
        local line = assert(json.decode(text), text)
        if line.case then list[#list + 1] = line end
    end
    return list
end

describe("scripts/layer_scale_sweep.lua", function()
    local found = {} -- "layer operation scale" -> line
    local function case(layer, operation, scale) return found[("%d %s %g"):format(layer, operation, scale)].metrics end

    setup(function()
        local path = files.path "layer_scale.jsonl"
        local text, status = launch("sweep scripts/layer_scale_sweep.lua -q -o " .. path)
        assert(status == 0, text)
        local list = cases_of(path)
        assert.equal(216, #list)
        for _, line in ipairs(list) do
            assert(line.status == "ok" and line.path == "mixed", line.reason)
            assert.equal(64, #line.samples.projection)
            found[("%d %s %g"):format(line.case.layer, line.case.operation, line.case.scale)] = line
        end
    end)

    it("adds, caps and ablates as the operations say", function()
        local norm = 16.564 -- of the direction of layer 5
        for _, scale in ipairs { -4, -1, 0.5, 4 } do
            helper.near(case(5, "add", scale).projection_change, scale * norm, 0.05, "add")
        end
        for _, metric in ipairs { "projection_change", "norm_change", "angle" } do
            assert.equal(0, case(3, "add", 0)[metric])
            assert.equal(0, case(7, "ablate", 1)[metric])
        end
        helper.near(case(5, "ablate", 0).projection, 0, 0.02, "ablate")
        helper.near(case(6, "ablate", -1).projection, -case(6, "ablate", 1).projection, 0.5, "reflection")
        helper.near(case(6, "ablate", -1).norm_change, 0, 0.01, "a reflection keeps the norm")
        assert(case(5, "ablate", 0).norm_change < 0)
        assert(case(5, "add", 4).angle > case(5, "add", 1).angle and case(5, "add", 1).angle > 0)
    end)

    it("bounds the projections of all prompts from one side", function()
        local floor, ceiling = found["5 cap 1"].samples.projection, found["5 cap -1"].samples.projection
        local low, high = math.huge, -math.huge
        for i = 1, 64 do low, high = math.min(low, floor[i]), math.max(high, ceiling[i]) end
        helper.near(low - high, 16.564, 0.1, "the bounds are the means")
    end)

    it("is judged by a probe that agrees with the direction where there is a mood", function()
        for layer = 5, 7 do
            assert.equal(1, case(layer, "add", 4).verdict)
            assert.equal(0, case(layer, "add", -4).verdict)
            assert.equal(1, case(layer, "add", 4).probe_accuracy)
            assert(case(layer, "add", 4).happy > 0.9 and case(layer, "add", -4).happy < 0.1)
        end
        assert(case(0, "add", 1).probe_accuracy < 0.75)
    end)

    it("takes cases that the grid does not have, and says which it cannot", function()
        local path = files.path "more.jsonl"
        local text, status = launch("sweep scripts/layer_scale_sweep.lua -q -a 'scale=[3]' -a 'layer=[5,8]' "
            .. "-a 'operation=[add,twist]' -o " .. path)
        assert(status == 0, text)
        local ok, skipped = 0, 0
        for _, line in ipairs(cases_of(path)) do
            if line.status == "ok" then
                ok = ok + 1
                helper.near(line.metrics.projection_change, 3 * 16.564, 0.05, "add 3")
            else
                assert(line.status == "skipped" and line.reason:find("no such", 1, true))
                skipped = skipped + 1
            end
        end
        assert.same({ 1, 3 }, { ok, skipped })
    end)

    it("fails the case whose spec cannot be made, and no other", function()
        local path = files.path "broken.jsonl"
        local text, status = launch("sweep scripts/layer_scale_sweep.lua -q -a 'scale=[1,1e300,2]' --only layer=5 "
            .. "--only operation=add -o " .. path)
        assert.equal(1, status, text)
        local states = {}
        for _, line in ipairs(cases_of(path)) do states[line.case.scale] = line.status end
        assert.same({ [1] = "ok", [1e300] = "failed", [2] = "ok" }, states)
    end)

    it("prints heatmaps and leaves results and pictures in a folder", function()
        local text, status = launch("run scripts/layer_scale_sweep.lua " .. files.path "maps")
        assert(status == 0, text)
        assert(text:find("216 cases of 64 prompts in one mixed batch", 1, true), text)
        assert(text:find("layer 5 %s+0%s+0%s+0%s+0%s+0%s+100"), text)
        assert.equal(216, #cases_of(files.path "maps/layer_scale.jsonl"))
        local drawn = os.execute("command -v gnuplot >/dev/null") == 0
        for _, operation in ipairs { "add", "cap", "ablate" } do
            local picture = io.open(files.path("maps/layer_scale_" .. operation .. ".png"))
            assert.equal(drawn, picture ~= nil)
            if picture then picture:close() end
        end
    end)
end)

describe("the sweeps in bench/", function()
    teardown(files.done)

    for name, small in pairs {
        specs = "--only 'specs=[1,256]' --only batch=decode", ops = "--only 'ops=[1,8]' --only kind=add",
        hidden = "--only 'hidden=[512,1024]' --only rows=256 --only dtype=bf16",
        decode = "--only 'requests=[1,32]' --only hidden=2048",
        grid = "--only layers=4 --only 'scales=[1,2]' --only vectors=1",
    } do
        it("measure " .. name, function()
            local path = files.path(name .. ".jsonl")
            local text, status = launch(("sweep bench/%s.lua -q %s -o %s"):format(name, small, path))
            assert(status == 0, text)
            local list, ok = cases_of(path), 0
            for _, line in ipairs(list) do
                if line.status == "ok" then
                    ok = ok + 1
                    assert(line.metrics.wall_us > 0 and #line.samples.wall_us >= 10)
                else
                    assert.equal("one request has one spec", line.reason)
                end
            end
            assert(ok >= 2 and #list <= 4, text)
        end)
    end
end)
