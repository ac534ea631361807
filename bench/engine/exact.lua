--- exact.lua: holds what a case computes to float64 arithmetic, and a request's bits to those of other batches.
local ffi = require "ffi"
local steer = require "steer"
local cases = require "engine.cases"
local oracle = require "oracle"

local M = {}

local SAMPLED_ROWS = 64

local function doubles(tensor)
    local host = tensor:to("cpu", "f32"):contiguous()
    local n = host:numel()
    local from, out = ffi.cast("float *", host:data()), oracle.buffer(n)
    for i = 0, n - 1 do out[i] = from[i] end
    return out
end

-- Rows to look at, spread over all of them, the first and the last among them.
local function sampled(rows)
    local count, list = math.min(rows, SAMPLED_ROWS), {}
    for i = 0, count - 1 do list[i + 1] = 1 + math.floor(i * (rows - 1) / math.max(1, count - 1)) end
    return list
end

-- Applies a plan once, in the way that is timed: in a graph where there are graphs.
local function apply(ctx, plan, x)
    if not ctx.graph then
        plan:apply(0, x)
        return
    end
    local graph = steer.bench.graph(function() plan:apply(0, x) end, ctx.device)
    graph:launch()
    ctx.device:synchronize()
    graph:close()
end

--- Raises an error unless the sampled rows are finite: what was timed must have been arithmetic on numbers.
function M.finite(x)
    for _, row in ipairs(sampled(x:size(1))) do
        local norm = x:select(1, row):to("f32"):norm()
        if norm ~= norm or norm == math.huge then error(("row %d is not finite after the timing"):format(row), 0) end
    end
end

-- Where terms cancel, f32 cannot be exact to the last place of what is left: there the unit is this part of the terms.
local CANCELLED = 2 ^ -20

--- Applies the first turn of a case to clean hidden states and compares sampled rows with float64.
-- Returns {max_ulp = largest error in units of the last place (or of CANCELLED), beyond = elements that are off by more
-- than one place of the dtype, cancelled ones included, off = percent of the elements that are not the exact value
-- rounded once, elements}.
function M.accuracy(case, clean)
    local ctx, shape, n = case.ctx, case.shape, case.shape.hidden
    local x = clean:clone()
    apply(ctx, case.plans[1], x)
    local scale, worst, off, beyond, elements = oracle.buffer(n), 0, 0, 0, 0
    for _, row in ipairs(sampled(shape.rows)) do
        local h, got = doubles(clean:select(1, row)), doubles(x:select(1, row))
        oracle.row(cases.oracle_ops(case, cases.request_of(shape, row), doubles), h, n, scale)
        for i = 0, n - 1 do
            local wrong, place = math.abs(got[i] - h[i]), oracle.ulp(h[i], ctx.dtype)
            if wrong ~= wrong then wrong = math.huge end
            if wrong > place then beyond = beyond + 1 end
            worst = math.max(worst, wrong / math.max(place, CANCELLED * scale[i]))
            if got[i] ~= oracle.round(h[i], ctx.dtype) then off = off + 1 end
        end
        elements = elements + n
    end
    x:close()
    return { max_ulp = worst, beyond = beyond, off = 100 * off / elements, elements = elements }
end

local SIZES = { f32 = 4, f16 = 2, bf16 = 2 }

local function bytes(tensor)
    local host = tensor:to("cpu"):contiguous()
    return ffi.string(host:data(), host:numel() * SIZES[host.dtype])
end

-- The bits of a contiguous tensor as integers, where they lie.
local function words(tensor)
    return steer.tensor.wrap(tensor:data(), { tensor:numel() * SIZES[tensor.dtype] / 4 },
        { dtype = "i32", device = tensor.device, keep = tensor })
end

--- Tells whether two tensors of one shape and dtype hold the same bits; each is a multiple of four bytes.
function M.same_bits(a, b)
    local difference = words(a) - words(b)
    local same = difference:max() == 0 and difference:min() == 0
    difference:close()
    return same
end

--- Compares the bits of one request's rows over the batches and paths that can serve it.
-- case: distinct specs. Returns the number of ways that agreed and a list of those that did not.
function M.invariance(case, clean)
    local ctx, shape = case.ctx, case.shape
    local chosen = math.floor(shape.requests / 3) + 1
    local alone, start, rows = cases.alone(case, chosen)
    local function part(x, first) return x:narrow(1, first, rows) end
    local x = clean:clone()
    apply(ctx, case.plans[1], x)
    local expected = bytes(part(x, start))
    local agreed, differ = 0, {}
    local function compare(name, got)
        if got == expected then agreed = agreed + 1 else differ[#differ + 1] = name end
    end

    local mine = part(clean, start):clone()
    alone:apply(0, mine)
    compare("alone", bytes(mine))
    mine:copy_(part(clean, start))
    cases.alone(case, chosen, "mixed"):apply(0, mine)
    compare("alone, mixed", bytes(mine))
    x:copy_(clean)
    cases.again(case, "loop").plans[1]:apply(0, x)
    compare("loop", bytes(part(x, start)))
    x:copy_(clean)
    cases.again(case, "auto").plans[1]:apply(0, x)
    compare("automatic path", bytes(part(x, start)))

    local at = shape.rows + 1
    for i = 1, shape.requests do -- the requests' rows in reverse order
        local tokens = cases.tokens(shape, i)
        at = at - tokens
        x:narrow(1, at, tokens):copy_(clean:narrow(1, cases.start(shape, i), tokens))
        if i == chosen then start = at end
    end
    cases.reversed(case):apply(0, x)
    compare("reverse order", bytes(part(x, start)))
    x:close()
    return agreed, differ
end

return M
