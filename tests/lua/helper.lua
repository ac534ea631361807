--- Shared by the Lua specs: the device under test, seeds, float64 oracles and what an error must look like.
local ffi = require "ffi"
local steer = require "steer"

local M = {}

--- Device under test: STEER_TEST_DEVICE, else "cpu".
M.device = os.getenv("STEER_TEST_DEVICE") or "cpu"

--- Options for a constructor on the device under test.
function M.on(dtype, extra)
    local opts = { dtype = dtype, device = M.device }
    for key, value in pairs(extra or {}) do opts[key] = value end
    return opts
end

--- Seed of random tests: STEER_TEST_SEED repeats a failure. STEER_TEST_ROUNDS multiplies the rounds; without it
-- STEER_TEST_THIN does, which the suite sets for tests that are slow at full depth.
M.seed = tonumber(os.getenv("STEER_TEST_SEED")) or 20240229
function M.rounds(n)
    return math.max(1, math.floor(n * (tonumber(os.getenv("STEER_TEST_ROUNDS") or os.getenv("STEER_TEST_THIN")) or 1)))
end

--- Runs fn(seed) and adds the seed to what it raises, so that a failure can be repeated.
function M.with_seed(seed, fn)
    math.randomseed(seed)
    local ok, message = xpcall(fn, function(e)
        return type(e) == "string" and debug.traceback(e, 2) or tostring(e)
    end, seed)
    if not ok then error("seed " .. seed .. " (STEER_TEST_SEED=" .. seed .. "): " .. message, 0) end
end

--- Asserts that fn(...) raises a Steer error of `code` whose text contains `fragment`; returns the error.
function M.fails(code, fragment, fn, ...)
    local ok, err = pcall(fn, ...)
    if ok then error("expected the error " .. code .. ', got success ("' .. fragment .. '")', 2) end
    if not require("steer.core.error").is(err) then
        error("expected the error " .. code .. ", got: " .. tostring(err), 2)
    end
    if err.code ~= code or not tostring(err):find(fragment, 1, true) then
        error(("expected %s with %q, got %s"):format(code, fragment, tostring(err)), 2)
    end
    return err
end

--- Asserts that a Lua pattern is, or is not, in a text.
function M.found(text, pattern)
    assert(text:find(pattern), ("expected %q in:\n%s"):format(pattern, text))
end
function M.absent(text, pattern)
    local at = text:find(pattern)
    assert(not at, ("unexpected %q at: %s"):format(pattern, text:sub(at or 1, (at or 1) + 200)))
end

-- ---- Rounding ------------------------------------------------------------------------------------------------------

-- Significant bits and least exponent (of frexp) of the float dtypes; largest finite value.
local formats = {
    f32 = { bits = 24, least = -125, largest = 3.4028234663852886e38 },
    f16 = { bits = 11, least = -13, largest = 65504 },
    bf16 = { bits = 8, least = -125, largest = 3.3895313892515355e38 },
}

--- Rounds a float64 to a float dtype, to nearest even; integer dtypes wrap.
function M.round(dtype, x)
    local format = formats[dtype]
    if not format then return M.wrap(dtype, x) end
    if x ~= x or x == math.huge or x == -math.huge or x == 0 then return x end
    local _, exponent = math.frexp(x)
    local quantum = 2 ^ (math.max(exponent, format.least) - format.bits)
    local shift = 1.5 * 2 ^ 52 -- adding and taking it away rounds to an integer, ties to even
    local rounded = ((x / quantum + shift) - shift) * quantum
    if math.abs(rounded) > format.largest then return x > 0 and math.huge or -math.huge end
    return rounded
end

--- Wraps an integer to an integer dtype, as two's complement does.
function M.wrap(dtype, x)
    if dtype == "u8" then return x % 256 end
    if dtype == "i32" then return (x + 2 ^ 31) % 2 ^ 32 - 2 ^ 31 end
    return x
end

--- Largest relative error of one rounding.
function M.unit(dtype)
    local format = formats[dtype]
    return format and 2 ^ -format.bits or 0
end

--- Distance between neighbouring values of a float dtype at x.
function M.ulp(dtype, x)
    local format = formats[dtype]
    local _, exponent = math.frexp(x)
    return 2 ^ (math.max(exponent, format.least) - format.bits)
end

M.is_float = { f32 = true, f16 = true, bf16 = true }
M.floats = { "f32", "f16", "bf16" }
M.integers = { "i32", "i64", "u8" }
M.dtypes = { "f32", "f16", "bf16", "i32", "i64", "u8" }

-- ---- Values --------------------------------------------------------------------------------------------------------

--- Number of elements of a shape.
function M.count(shape)
    local n = 1
    for _, size in ipairs(shape) do n = n * size end
    return n
end

--- Flat row-major list of n random values that `dtype` holds exactly: floats around 1, small integers.
function M.values(dtype, n)
    local list = {}
    for i = 1, n do
        if M.is_float[dtype] then
            list[i] = M.round(dtype, (math.random() - 0.5) * 4)
        else
            list[i] = dtype == "u8" and math.random(0, 255) or math.random(-1000, 1000)
        end
    end
    return list
end

--- Lays a flat list out as nested tables of a shape; a scalar is its number.
function M.nest(flat, shape)
    local position = 0
    local function level(d)
        if d > #shape then
            position = position + 1
            return flat[position]
        end
        local list = {}
        for i = 1, shape[d] do list[i] = level(d + 1) end
        return list
    end
    return level(1)
end

--- Flattens nested tables in row-major order.
function M.flatten(values)
    local flat = {}
    local function walk(x)
        if type(x) ~= "table" then
            flat[#flat + 1] = x
        else
            for i = 1, #x do walk(x[i]) end
        end
    end
    walk(values)
    return flat
end

--- Elements of a tensor as a flat row-major list.
function M.read(tensor)
    return M.flatten(tensor:totable())
end

--- Makes a tensor on the device under test from a flat list, in one of M.layouts.
function M.make(flat, shape, dtype, layout)
    local tensor = steer.tensor.empty(shape, M.on(dtype))
    if layout == "transposed" and #shape >= 2 then
        local turned = {}
        for d, size in ipairs(shape) do turned[d] = size end
        turned[1], turned[2] = turned[2], turned[1]
        tensor = steer.tensor.empty(turned, M.on(dtype)):transpose(1, 2)
    elseif layout == "gaps" and #shape >= 1 then
        local wide = {}
        for d, size in ipairs(shape) do wide[d] = size end
        wide[#wide] = wide[#wide] + 3
        tensor = steer.tensor.zeros(wide, M.on(dtype)):narrow(#wide, 2, shape[#shape])
    end
    if #flat > 0 then
        tensor:copy_(steer.tensor.from(M.nest(flat, shape), { dtype = dtype, device = "cpu" }))
    end
    return tensor
end
M.layouts = { "plain", "transposed", "gaps" }

--- Asserts |got - want| <= bound, with NaN and infinities equal to themselves; `place` says where.
function M.near(got, want, bound, place)
    if got == want or (got ~= got and want ~= want) then return end
    local difference = math.abs(got - want)
    if difference <= bound then return end
    error(("%s: got %.17g, expected %.17g within %.3g (off by %.3g)"):format(place, got, want, bound, difference), 2)
end

--- Asserts the same for each element of two lists; `bounds` is a list beside them.
function M.near_lists(got, want, bounds, place)
    for i = 1, #want do
        local g, w = got[i], want[i]
        if not (g == w or math.abs(g - w) <= bounds[i]) then M.near(g, w, bounds[i], place .. ", element " .. i) end
    end
end

--- Gives the raw bytes of a contiguous CPU copy, for bit comparisons.
function M.bytes(tensor)
    local host = tensor:to("cpu"):contiguous()
    local size = { f32 = 4, f16 = 2, bf16 = 2, i32 = 4, i64 = 8, u8 = 1 }
    return ffi.string(host:data(), host:numel() * size[host.dtype])
end

return M
