--- classes.lua: what does a batch cost whose programs are of both classes, few vectors and many, with a kernel each?
-- A is 32 requests of 64 tokens, hidden 2048, B 256 tokens, hidden 4096. mixed: a launch for each class that the batch
-- has; auto: captured by somebody else, with room for any later program.
-- steer sweep bench/classes.lua; steer plot classes.jsonl --x batch --y gpu_us --by path
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. here .. "/../tests/lua/?.lua;" .. package.path

local steer = require "steer"
local cases = require "engine.cases"
local exact = require "engine.exact"

local SECONDS, SAMPLES = 0.25, 200 -- for a candidate and a way of timing it

-- Reflections of request i: each changes every row, and rows that are steered many times stay finite.
local BATCHES = {
    all1 = function() return 1 end,
    all6 = function() return 6 end,
    all8 = function() return 8 end,
    all40 = function() return 40 end,
    all64 = function() return 64 end,
    one8 = function(i) return i == 5 and 8 or 1 end, -- one request of many vectors beside those of one
    half8 = function(i) return i % 2 == 0 and 8 or 1 end,
    one40 = function(i) return i == 5 and 40 or 1 end,
}

local function specs_of(shape, batch)
    local specs, seed = {}, 0
    for i = 1, shape.requests do
        local list = {}
        for k = 1, BATCHES[batch](i) do
            seed = seed + 1
            list[k] = steer.ablate(steer.tensor.randn({ shape.hidden }, { device = "cpu", seed = seed }), -1)
        end
        specs[i] = steer.spec { [0] = list }
    end
    return specs
end

return steer.sweep {
    name = "classes",
    axes = {
        "batch=[all1,all6,all8,all40,all64,one8,half8,one40]", "shape=[A,B]", "path=[mixed,auto]", "dtype=[bf16]",
    },
    run = function(case, ctx)
        local on_gpu = ctx.device.id ~= "cpu"
        local made = { device = ctx.device, dtype = case.dtype, graph = on_gpu }
        local shape = cases.SHAPES[case.shape]
        local x = cases.hidden(made, shape)
        local plan = cases.engine(made, shape):plan(cases.requests_of(shape, specs_of(shape, case.batch)),
            { path = case.path })
        ctx.progress(0.3)
        local times = steer.bench.interleave({
            case = function() plan:apply(0, x) end, stream = steer.bench.reference("stream", x),
        }, { device = ctx.device, max_seconds = SECONDS, max_samples = SAMPLES })
        exact.finite(x)
        x:close()
        local result, way = times.case, on_gpu and "gpu" or "wall"
        result.stream, result.over_stream = times.stream, result[way].median / times.stream[way].median
        result.launches = plan:explain(0).launches
        return result
    end,
}
