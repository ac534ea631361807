--- timed.lua: what the sweeps measure of a case: its time beside an in-place stream over the same memory, its error.
local steer = require "steer"
local cases = require "engine.cases"
local exact = require "engine.exact"

local M = {}

local SECONDS, SAMPLES = 0.25, 200 -- for a candidate and a way of timing it
local MOST_ULP = 1                 -- a case whose result is further off is no result

--- Times a batch and the stream in turn, and holds sampled rows to float64.
-- shape, kinds, opts: as cases.make takes them, and opts.dtype ("bf16"); ctx: of the sweep's run.
-- Returns the fields of a results line: gpu_us and wall_us of an apply, those of the stream (stream_...), over_stream
-- (their ratio on the GPU, by the wall clock on the CPU), max_ulp, programs, launches, path.
function M.case(shape, kinds, opts, ctx)
    local on_gpu = ctx.device.id ~= "cpu"
    local made = { device = ctx.device, dtype = opts.dtype or "bf16", graph = on_gpu }
    local case, clean = cases.make(made, shape, kinds, opts), cases.hidden(made, shape)
    local x = clean:clone()
    ctx.progress(0.2)
    local times = steer.bench.interleave({
        case = cases.functions(case, { x }), stream = steer.bench.reference("stream", x),
    }, { device = ctx.device, max_seconds = SECONDS, max_samples = SAMPLES })
    exact.finite(x)
    x:close()
    ctx.progress(0.8)
    local ulp = exact.accuracy(case, clean).max_ulp
    clean:close()
    if ulp ~= ulp or ulp > MOST_ULP then error(("its result is %.3g units in the last place off"):format(ulp), 0) end
    local result, way = times.case, on_gpu and "gpu" or "wall"
    result.stream, result.over_stream = times.stream, result[way].median / times.stream[way].median
    result.max_ulp, result.programs, result.launches = ulp, case.programs, case.launches
    result.path = case.path
    return result
end

return M
