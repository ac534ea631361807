-- devices: cpu cuda
-- Every tensor operation x dtype x layout on the device under test against a float64 oracle.
--
-- A row: op, dtypes, cases (lists of shapes, one an operand), run(operands...) on tensors, oracle(x, y) per element or
-- over a whole case, and how far the result may be off. Inputs are random; a failure prints its seed.
local helper = require "helper"
local steer = require "steer"
local T = steer.tensor

local ALL, FLOATS = helper.dtypes, helper.floats
local UNIT32 = helper.unit("f32")

-- ---- Float64 oracles over flat row-major lists ---------------------------------------------------------------------

local function broadcast_shape(a, b)
    local shape, n = {}, math.max(#a, #b)
    for i = 1, n do
        local sa, sb = a[#a - n + i] or 1, b[#b - n + i] or 1
        shape[i] = sa == 1 and sb or sa
    end
    return shape
end

--- Flat positions in a list of shape `from` for each element of the shape `to` it broadcasts to.
local function broadcast_index(from, to)
    local steps, step = {}, 1
    for i = #to, 1, -1 do
        local size = from[#from - #to + i] or 1
        steps[i] = size == 1 and 0 or step
        step = step * size
    end
    local positions, n = {}, helper.count(to)
    for flat = 0, n - 1 do
        local rest, position = flat, 1
        for i = #to, 1, -1 do
            position = position + rest % to[i] * steps[i]
            rest = math.floor(rest / to[i])
        end
        positions[flat + 1] = position
    end
    return positions
end

--- An oracle from fn(x, y) -> exact value, size of the terms it was added up from.
local function elementwise(fn)
    return function(case, values, dtype)
        local shape = case[2] and broadcast_shape(case[1], case[2]) or case[1]
        local first = broadcast_index(case[1], shape)
        local second = case[2] and broadcast_index(case[2], shape)
        local want, bounds = {}, {}
        for i = 1, helper.count(shape) do
            local exact, terms = fn(values[1][first[i]], second and values[2][second[i]], dtype)
            local rounded = helper.round(dtype, exact)
            if not helper.is_float[dtype] or math.abs(rounded) == math.huge then exact = rounded end
            want[i] = exact
            -- one rounding to the dtype, and f32 arithmetic before it
            bounds[i] = helper.is_float[dtype]
                and helper.ulp(dtype, exact) / 2 * 1.01 + 4 * UNIT32 * (terms or math.abs(exact)) or 0
        end
        return want, bounds, shape
    end
end

--- Splits the shape at dimension d (or everything when d is nil) and gives fn the list of each line.
local function over_lines(d, fn)
    return function(case, values, dtype)
        local shape = case[1]
        local outer, n, inner = 1, 1, 1
        for i, size in ipairs(shape) do
            if not d or i == d then n = n * size elseif i < d then outer = outer * size else inner = inner * size end
        end
        local results, line = {}, {}
        for o = 0, outer - 1 do
            for i = 0, inner - 1 do
                for k = 0, n - 1 do line[k + 1] = values[1][(o * n + k) * inner + i + 1] end
                line[n + 1] = nil
                results[#results + 1] = { fn(line, dtype) }
            end
        end
        local rest = {}
        for i, size in ipairs(shape) do
            if d and i ~= d then rest[#rest + 1] = size end
        end
        return results, rest, outer, n, inner
    end
end

local function reduction(d, fn)
    local lines = over_lines(d, fn)
    return function(case, values, dtype)
        local results, rest = lines(case, values, dtype)
        local want, bounds = {}, {}
        for i, result in ipairs(results) do
            want[i] = result[1]
            -- the dtype of a number is at least f32; f64 accumulation then rounds once (twice through f32)
            local rounded = helper.is_float[dtype] and d and dtype or "f32"
            bounds[i] = result[2] == 0 and 0
                or helper.ulp(rounded, result[1]) / 2 * 1.01 + 2 * UNIT32 * math.abs(result[1]) + 1e-12 * result[2]
                + (result[3] or 0)
        end
        return want, bounds, rest
    end
end

local function rowwise(d, fn, bound)
    local lines = over_lines(d, fn)
    return function(case, values, dtype)
        local results, _, outer, n, inner = lines(case, values, dtype)
        local want, bounds = {}, {}
        for index, result in ipairs(results) do
            local o, i = math.floor((index - 1) / inner), (index - 1) % inner
            for k = 0, n - 1 do
                local exact = result[1][k + 1]
                want[(o * n + k) * inner + i + 1] = exact
                bounds[(o * n + k) * inner + i + 1] = helper.ulp(dtype, exact) / 2 * 1.01 + bound * math.abs(exact)
            end
        end
        assert(#want == outer * n * inner)
        return want, bounds, case[1]
    end
end

local function product(case, values, dtype)
    local a, b = case[1], case[2]
    local batch = #a == 3 and a[1] or 1
    local m, k = #a == 1 and 1 or a[#a - 1], a[#a]
    local n = #b == 1 and 1 or b[#b]
    local want, bounds = {}, {}
    for s = 0, batch - 1 do
        for i = 0, m - 1 do
            for j = 0, n - 1 do
                local exact, terms = 0, 0
                for l = 0, k - 1 do
                    local term = values[1][(s * m + i) * k + l + 1] * values[2][(s * k + l) * n + j + 1]
                    exact, terms = exact + term, terms + math.abs(term)
                end
                want[#want + 1] = exact
                bounds[#bounds + 1] = helper.ulp(dtype, exact) / 2 * 1.01 + (k + 2) * UNIT32 * terms
            end
        end
    end
    local shape = {}
    if #a == 3 then shape[1] = batch end
    if #a > 1 then shape[#shape + 1] = m end
    if #b > 1 then shape[#shape + 1] = n end
    return want, bounds, shape
end

local function truncate(x)
    return x < 0 and math.ceil(x) or math.floor(x)
end

-- ---- The table -----------------------------------------------------------------------------------------------------

local PAIRS = {
    { { 7 }, { 7 } }, { { 5, 8 }, { 8 } }, { { 5, 1, 3 }, { 4, 1 } }, { { 1 }, { 2, 3 } }, { {}, { 3 } }, { {}, {} },
    { { 0, 3 }, { 3 } }, { { 33, 130 }, { 33, 1 } }, { { 2, 1, 2, 1, 2, 1, 2, 1 }, { 1, 2, 1, 2 } },
}
local SAME = {
    { { 9 }, { 9 } }, { { 6, 17 }, { 17 } }, { { 3, 4, 5 }, { 4, 1 } }, { {}, {} }, { { 130, 257 }, { 257 } },
}
local ONES = { { { 11 } }, { { 3, 67 } }, { { 2, 3, 4 } }, { {} }, { { 0, 2 } } }
local LINES = { { { 5, 7 } }, { { 3, 40, 6 } }, { { 1, 1 } }, { { 2, 3000 } }, { { 1500, 3 } } }
local MATRICES = {
    { { 3, 4 }, { 4, 5 } }, { { 4 }, { 4, 5 } }, { { 3, 4 }, { 4 } }, { { 6 }, { 6 } }, { { 2, 3, 4 }, { 2, 4, 5 } },
    { { 64, 300 }, { 300, 33 } }, { { 1, 1 }, { 1, 1 } }, { { 3, 0 }, { 0, 2 } }, { { 0, 3 }, { 3, 2 } },
}

local function terms(sum, a, b)
    return sum, math.abs(a) + math.abs(b)
end

-- u8 is added, subtracted and multiplied by numbers in i64.
local function counted(fn)
    local oracle = elementwise(fn)
    return function(case, values, dtype) return oracle(case, values, dtype == "u8" and "i64" or dtype) end
end

-- Integers are divided in f32.
local function divided(fn)
    local oracle = elementwise(fn)
    return function(case, values, dtype) return oracle(case, values, helper.is_float[dtype] and dtype or "f32") end
end

local rows = {
    { op = "a + b", dtypes = ALL, cases = PAIRS, run = function(a, b) return a + b end,
        oracle = counted(function(x, y) return terms(x + y, x, y) end) },
    { op = "a - b", dtypes = ALL, cases = PAIRS, run = function(a, b) return a - b end,
        oracle = counted(function(x, y) return terms(x - y, x, y) end) },
    { op = "a * b", dtypes = ALL, cases = PAIRS, run = function(a, b) return a * b end,
        oracle = elementwise(function(x, y) return x * y end) },
    { op = "a / b", dtypes = ALL, cases = PAIRS, nonzero = true, run = function(a, b) return a / b end,
        oracle = divided(function(x, y) return x / y end) },
    { op = "div_ of integers", dtypes = helper.integers, cases = SAME, in_place = true, nonzero = true,
        run = function(a, b) return a:div_(b) end, oracle = elementwise(function(x, y) return truncate(x / y) end) },
    { op = "add with alpha", dtypes = FLOATS, cases = PAIRS, run = function(a, b) return a:add(b, -1.75) end,
        oracle = elementwise(function(x, y) return terms(x - 1.75 * y, x, 1.75 * y) end) },
    { op = "add_", dtypes = ALL, cases = SAME, in_place = true, run = function(a, b) return a:add_(b, 3) end,
        oracle = elementwise(function(x, y) return terms(x + 3 * y, x, 3 * y) end) },
    { op = "sub_", dtypes = ALL, cases = SAME, in_place = true, run = function(a, b) return a:sub_(b) end,
        oracle = elementwise(function(x, y) return terms(x - y, x, y) end) },
    { op = "mul_", dtypes = ALL, cases = SAME, in_place = true, run = function(a, b) return a:mul_(b) end,
        oracle = elementwise(function(x, y) return x * y end) },
    { op = "div_", dtypes = FLOATS, cases = SAME, in_place = true, nonzero = true,
        run = function(a, b) return a:div_(b) end, oracle = elementwise(function(x, y) return x / y end) },
    { op = "a + a", dtypes = ALL, cases = ONES, run = function(a) return a:clone():add_(a) end,
        oracle = elementwise(function(x) return 2 * x end) },
    { op = "a + number", dtypes = ALL, cases = ONES, run = function(a) return a + 3 end,
        oracle = counted(function(x) return terms(x + 3, x, 3) end) },
    { op = "number + a", dtypes = ALL, cases = ONES, run = function(a) return 2 + a end,
        oracle = counted(function(x) return terms(2 + x, 2, x) end) },
    { op = "a - number", dtypes = ALL, cases = ONES, run = function(a) return a - 4 end,
        oracle = counted(function(x) return terms(x - 4, x, 4) end) },
    { op = "number - a", dtypes = ALL, cases = ONES, run = function(a) return 5 - a end,
        oracle = counted(function(x) return terms(5 - x, 5, x) end) },
    { op = "number * a", dtypes = ALL, cases = ONES, run = function(a) return 3 * a end,
        oracle = counted(function(x) return 3 * x end) },
    { op = "number / a", dtypes = ALL, cases = ONES, nonzero = true, run = function(a) return 100 / a end,
        oracle = divided(function(x) return 100 / x end) },
    { op = "a / number", dtypes = ALL, cases = ONES, run = function(a) return a / 7 end,
        oracle = divided(function(x) return x / 7 end) },
    { op = "-a", dtypes = ALL, cases = ONES, run = function(a) return -a end,
        oracle = counted(function(x) return -x end) },
    { op = "matmul", dtypes = FLOATS, cases = MATRICES, run = function(a, b) return a:matmul(b) end, oracle = product },
    { op = "dot", dtypes = FLOATS, cases = { { { 1 }, { 1 } }, { { 1000 }, { 1000 } } },
        run = function(a, b) return T.from(a:dot(b)) end,
        oracle = function(case, values) return product(case, values, "f32") end },
    { op = "dot of integers", dtypes = helper.integers, cases = { { { 100 }, { 100 } } },
        run = function(a, b) return T.from(a:dot(b), { dtype = "i64" }) end, oracle = function(_, values)
            local sum = 0
            for i = 1, 100 do sum = sum + values[1][i] * values[2][i] end
            return { sum }, { 0 }, {}
        end },
}

local function add_row(row)
    rows[#rows + 1] = row
end

-- Functions of one element: name -> exact value and how many times 4 roundings of f32 it may be off.
local functions = {
    exp = { math.exp }, log = { math.log }, sqrt = { math.sqrt }, asin = { math.asin }, acos = { math.acos },
    tanh = { math.tanh }, sigmoid = { function(x) return 1 / (1 + math.exp(-x)) end },
}
for name, row in pairs(functions) do
    add_row({ op = name, dtypes = FLOATS, cases = ONES, run = function(a) return a[name](a) end,
        oracle = elementwise(function(x) return row[1](x), math.abs(row[1](x)) end) })
end
add_row({ op = "abs", dtypes = ALL, cases = ONES, run = function(a) return a:abs() end,
    oracle = elementwise(function(x) return math.abs(x) end) })

-- Comparisons, of values that are often equal.
local comparisons = {
    eq = function(x, y) return x == y end, ne = function(x, y) return x ~= y end,
    lt = function(x, y) return x < y end, le = function(x, y) return x <= y end,
    gt = function(x, y) return x > y end, ge = function(x, y) return x >= y end,
}
local function few(x) return math.floor(x) % 3 end
local function mask(t)
    assert.equal("u8", t.dtype)
    return t
end
for name, holds in pairs(comparisons) do
    add_row({ op = name, dtypes = ALL, cases = PAIRS, values = few, run = function(a, b) return mask(a[name](a, b)) end,
        oracle = elementwise(function(x, y) return holds(x, y) and 1 or 0 end) })
    add_row({ op = name .. " a number", dtypes = ALL, cases = ONES, values = few,
        run = function(a) return mask(a[name](a, 1)) end,
        oracle = elementwise(function(x) return holds(x, 1) and 1 or 0 end) })
end

local function to_power(x, y) return x ^ y, 4 * math.abs(x ^ y) end
local function lesser(x, y) return math.min(x, y) end
local function greater(x, y) return math.max(x, y) end
for _, row in ipairs {
    { op = "a:pow(b)", dtypes = FLOATS, cases = PAIRS, run = function(a, b) return a:pow(b) end,
        oracle = elementwise(to_power) },
    { op = "a ^ 3", dtypes = FLOATS, cases = ONES, run = function(a) return a ^ 3 end,
        oracle = elementwise(function(x) return to_power(x, 3) end) },
    { op = "2 ^ a", dtypes = FLOATS, cases = ONES, run = function(a) return 2 ^ a end,
        oracle = elementwise(function(x) return to_power(2, x) end) },
    { op = "minimum", dtypes = ALL, cases = PAIRS, run = function(a, b) return a:minimum(b) end,
        oracle = elementwise(lesser) },
    { op = "maximum", dtypes = ALL, cases = PAIRS, run = function(a, b) return a:maximum(b) end,
        oracle = elementwise(greater) },
    { op = "clamp from below", dtypes = ALL, cases = ONES, run = function(a) return a:clamp(1) end,
        oracle = elementwise(function(x) return math.max(x, 1) end) },
    { op = "clamp from above", dtypes = ALL, cases = PAIRS, run = function(a, b) return a:clamp(nil, b) end,
        oracle = elementwise(lesser) },
    { op = "clamp", dtypes = ALL, cases = ONES, run = function(a) return a:clamp { min = 0, max = 1 } end,
        oracle = elementwise(function(x) return math.min(math.max(x, 0), 1) end) },
    { op = "where", dtypes = ALL, cases = PAIRS, run = function(a, b) return T.where(a:gt(b), a, b) end,
        oracle = elementwise(greater) },
    { op = "where a number", dtypes = ALL, cases = ONES, run = function(a) return a:where(a:lt(1), 3) end,
        oracle = elementwise(function(x) return x < 1 and x or 3 end) },
} do
    add_row(row)
end

-- Reductions along every dimension and of everything: name -> fn(line, dtype) giving value and size of the terms.
local function line_sum(line, power)
    local sum, size = 0, 0
    for _, x in ipairs(line) do
        local term = power and x * x or x
        sum, size = sum + term, size + math.abs(term)
    end
    return sum, size
end

local function variance(line)
    local mean, squares = (line_sum(line)) / #line, 0
    for _, x in ipairs(line) do squares = squares + (x - mean) ^ 2 end
    return squares / (#line - 1), squares / (#line - 1)
end

local reductions = {
    sum = function(line, dtype)
        local sum, size = line_sum(line)
        return sum, helper.is_float[dtype] and size or 0
    end,
    mean = function(line)
        local sum, size = line_sum(line)
        return sum / #line, size / #line
    end,
    norm = function(line)
        local size = math.sqrt((line_sum(line, true)))
        return size, size
    end,
    max = function(line) return math.max(unpack(line)), 0 end,
    min = function(line) return math.min(unpack(line)), 0 end,
    argmax = function(line)
        local best = 1
        for i, x in ipairs(line) do
            if x > line[best] then best = i end
        end
        return best, 0
    end,
    argmin = function(line)
        local best = 1
        for i, x in ipairs(line) do
            if x < line[best] then best = i end
        end
        return best, 0
    end,
    var = variance,
    std = function(line)
        local exact = math.sqrt((variance(line)))
        return exact, exact
    end,
}
local finds = { argmax = true, argmin = true }
local floats_of_integers = { mean = true, norm = true, var = true, std = true }

for name, fn in pairs(reductions) do
    add_row({ op = name .. "()", dtypes = ALL, cases = LINES, oracle = reduction(nil, fn), run = function(a)
        return T.from(a[name](a), { dtype = (floats_of_integers[name] or helper.is_float[a.dtype]) and "f32" or "i64" })
    end })
    for d = 1, 2 do
        add_row({ op = name .. "(" .. d .. ")", dtypes = ALL, cases = LINES, oracle = reduction(d, fn),
            run = function(a) return a[name](a, d) end })
    end
    add_row({ op = name .. "(-1, keepdim, f32)", dtypes = FLOATS, cases = { { { 4, 50 } } },
        run = function(a)
            local kept = a[name](a, -1, { keepdim = true, dtype = not finds[name] and "f32" or nil })
            assert.same({ 4, 1 }, kept:shape())
            return kept:squeeze(2)
        end,
        oracle = function(case, values) return reduction(2, fn)(case, values, "f32") end })
end

local ORDERED = { { { 5, 7 } }, { { 3, 40, 6 } }, { { 1, 1 } }, { { 2, 1100 } } }

-- Sorting and what is made of it; equal elements keep their order.
local function in_order(line, descending)
    local places = {}
    for i = 1, #line do places[i] = i end
    table.sort(places, function(i, k)
        local x, y = line[i], line[k]
        if x ~= y then return (x < y) ~= (descending or false) end
        return i < k
    end)
    return places
end

local function quantile(q)
    return function(line)
        local places, place = in_order(line), q * (#line - 1) + 1
        local low = line[places[math.floor(place)]]
        local high = line[places[math.ceil(place)]]
        local size = math.abs(low) + math.abs(high)
        return low + (high - low) * (place % 1), size, 4 * UNIT32 * size
    end
end

-- fn(line) -> a list of exact values along d, of any length.
local function lines_to_lists(d, fn)
    local lines = over_lines(d, fn)
    return function(case, values, dtype)
        local results, _, outer, _, inner = lines(case, values, dtype)
        local want, bounds, shape = {}, {}, { unpack(case[1]) }
        shape[d] = #results[1][1]
        for o = 0, outer - 1 do
            for k = 1, shape[d] do
                for i = 1, inner do
                    local result = results[o * inner + i]
                    want[#want + 1] = result[1][k]
                    bounds[#want] = result[2] and helper.ulp(dtype, result[1][k]) / 2 * 1.01
                        + 2 * UNIT32 * math.abs(result[1][k]) + 1e-12 * result[2] or 0
                end
            end
        end
        return want, bounds, shape
    end
end

local function picked(line, places, n)
    local list = {}
    for i = 1, n or #places do list[i] = line[places[i]] end
    return list
end

local function some_indices(n) return { n, 1, math.ceil(n / 2), n } end

for d = 1, 2 do
    for _, descending in ipairs { false, true } do
        local name = ("sort(%d, %s)"):format(d, descending and "descending" or "ascending")
        add_row({ op = name, dtypes = ALL, cases = ORDERED,
            run = function(a) return (a:sort(d, { descending = descending })) end,
            oracle = lines_to_lists(d, function(line) return picked(line, in_order(line, descending)) end) })
        add_row({ op = "indices of " .. name, dtypes = ALL, cases = ORDERED, values = few,
            run = function(a) return (select(2, a:sort(d, { descending = descending }))) end,
            oracle = lines_to_lists(d, function(line) return in_order(line, descending) end) })
    end
    add_row({ op = "topk(1, " .. d .. ")", dtypes = ALL, cases = ORDERED, run = function(a) return (a:topk(1, d)) end,
        oracle = lines_to_lists(d, function(line) return { math.max(unpack(line)) } end) })
    add_row({ op = "quantile(0.3, " .. d .. ")", dtypes = ALL, cases = ORDERED,
        run = function(a) return a:quantile(0.3, d) end, oracle = reduction(d, quantile(0.3)) })
    add_row({ op = "index_select(" .. d .. ")", dtypes = ALL, cases = ORDERED,
        run = function(a) return a:index_select(d, some_indices(a:size(d))) end,
        oracle = lines_to_lists(d, function(line) return picked(line, some_indices(#line)) end) })
    add_row({ op = "gather(" .. d .. ")", dtypes = ALL, cases = ORDERED,
        run = function(a) return a:gather(d, (select(2, a:sort(d)))) end,
        oracle = lines_to_lists(d, function(line) return picked(line, in_order(line)) end) })
    add_row({ op = "cumsum(" .. d .. ")", dtypes = ALL, cases = ORDERED, run = function(a) return a:cumsum(d) end,
        oracle = lines_to_lists(d, function(line, dtype)
            local sum, size, list = 0, 0, {}
            for i, x in ipairs(line) do
                sum, size = sum + x, size + math.abs(x)
                list[i] = sum
            end
            return list, helper.is_float[dtype] and size or nil
        end) })
end
add_row({ op = "quantile(0.5)", dtypes = ALL, cases = ORDERED, oracle = reduction(nil, quantile(0.5)),
    run = function(a) return T.from(a:quantile(0.5)) end })
for _, norm in ipairs {
    { "t:norm(1, 2)", function(a) return a:norm(1, 2) end, function(line)
        local sum = 0
        for _, x in ipairs(line) do sum = sum + math.abs(x) end
        return sum, sum
    end },
    { "t:norm(math.huge, 2)", function(a) return a:norm(math.huge, 2) end, function(line)
        local most = 0
        for _, x in ipairs(line) do most = math.max(most, math.abs(x)) end
        return most, 0
    end },
} do
    add_row({ op = norm[1], dtypes = ALL, cases = ORDERED, run = norm[2], oracle = reduction(2, norm[3]) })
end
add_row({ op = "cosine", dtypes = FLOATS, cases = { { { 5, 7 }, { 7 } }, { { 3, 1, 300 }, { 4, 300 } } },
    nonzero = true, run = function(a, b) return a:cosine(b) end, oracle = function(case, values)
        local n, shape = case[1][#case[1]], broadcast_shape(case[1], case[2])
        shape[#shape] = 1
        local function rows_of(from)
            local heads = { unpack(from) }
            heads[#heads] = 1
            return broadcast_index(heads, shape)
        end
        local first, second, want, bounds = rows_of(case[1]), rows_of(case[2]), {}, {}
        for r = 1, helper.count(shape) do
            local ab, aa, bb = 0, 0, 0
            for k = 1, n do
                local x, y = values[1][(first[r] - 1) * n + k], values[2][(second[r] - 1) * n + k]
                ab, aa, bb = ab + x * y, aa + x * x, bb + y * y
            end
            want[r], bounds[r] = ab / math.sqrt(aa * bb), 8 * UNIT32
        end
        shape[#shape] = nil
        return want, bounds, shape
    end })

for d = 1, 2 do
    add_row({ op = "softmax(" .. d .. ")", dtypes = FLOATS, cases = LINES, run = function(a) return a:softmax(d) end,
        oracle = rowwise(d, function(line)
            local largest, sum, list = math.max(unpack(line)), 0, {}
            for i, x in ipairs(line) do
                list[i] = math.exp(x - largest)
                sum = sum + list[i]
            end
            for i = 1, #list do list[i] = list[i] / sum end
            return list
        end, 1e-6) })
    add_row({ op = "normalize(" .. d .. ")", dtypes = FLOATS, cases = LINES, nonzero = true,
        run = function(a) return a:normalize(d) end,
        oracle = rowwise(d, function(line)
            local norm, list = math.sqrt((line_sum(line, true))), {}
            for i, x in ipairs(line) do list[i] = x / norm end
            return list
        end, 4 * UNIT32) })
end

-- ---- The test ------------------------------------------------------------------------------------------------------

local function operands(row, case, dtype, layout)
    local tensors, values = {}, {}
    for i, shape in ipairs(case) do
        values[i] = helper.values(dtype, helper.count(shape))
        for k, x in ipairs(values[i]) do
            if row.values then values[i][k] = row.values(x) end
            if row.nonzero and x == 0 then values[i][k] = 1 end
        end
        tensors[i] = helper.make(values[i], shape, dtype, layout)
    end
    return tensors, values
end

local function run_case(row, case, dtype, layout)
    local tensors, values = operands(row, case, dtype, layout)
    local want, bounds, shape = row.oracle(case, values, dtype)
    local result = row.run(tensors[1], tensors[2])
    assert.same(shape, result:shape())
    if row.in_place then assert.equal(tensors[1], result) end
    local got = helper.read(result)
    assert.equal(#want, #got)
    helper.near_lists(got, want, bounds, ("%s %s %s on %s"):format(row.op, dtype, layout, helper.device))
    if not row.in_place then -- operands stay as they are
        for i, tensor in ipairs(tensors) do
            for k, x in ipairs(helper.read(tensor)) do assert(x == values[i][k], "an operand has changed") end
        end
    end
end

-- On the CPU, whose loops are the same for every dtype, cases and dtypes take turns with the layouts.
local ALL_LAYOUTS = helper.device ~= "cpu" or os.getenv "STEER_TEST_ROUNDS" ~= nil

for number, row in ipairs(rows) do
    it(row.op, function()
        for d, dtype in ipairs(row.dtypes) do
            for c, case in ipairs(row.cases) do
                helper.with_seed(helper.seed + 1000 * number + c, function()
                    for l, layout in ipairs(helper.layouts) do
                        if ALL_LAYOUTS or (c + d + l) % #helper.layouts == 0 then run_case(row, case, dtype, layout) end
                    end
                end)
            end
        end
    end)
end

describe("NaN and infinity", function()
    it("win greatest and least elements", function()
        for _, dtype in ipairs(FLOATS) do
            local t = T.from({ { 1, 0 / 0, 3 }, { 1 / 0, 2, -1 / 0 } }, helper.on(dtype))
            local max, min, arg = t:max(2):totable(), t:min(2):totable(), t:argmax(2):totable()
            assert.is_true(max[1] ~= max[1] and min[1] ~= min[1])
            assert.same({ 1 / 0, -1 / 0 }, { max[2], min[2] })
            assert.same({ 2, 1 }, arg)
            assert.equal(2, t:argmax())
        end
    end)

    it("pass through arithmetic", function()
        local t = T.from({ 1 / 0, -1 / 0, 0 / 0, 0 }, helper.on("bf16"))
        local sum = (t - t):totable()
        for i = 1, 3 do assert.is_true(sum[i] ~= sum[i]) end
        assert.equal(1 / 0, (1 / t):totable()[4])
    end)

    it("make softmax of large values finite", function()
        local t = T.from({ 1000, 1000, -1000 }, helper.on("f32"))
        assert.same({ 0.5, 0.5, 0 }, t:softmax():totable())
    end)
end)

describe("rows of 16 bits", function()
    it("have norms that their dtype cannot hold, and keep them", function()
        for _, dtype in ipairs { "f16", "bf16" } do
            local h = T.full({ 2, 4096 }, 1100, helper.on(dtype))
            local before = h:norm(2, { keepdim = true })
            assert.equal("f32", before.dtype)
            helper.near(before:get(1, 1), h[1]:norm(), 0, "norm(2)")
            h:add_(100)
            h:mul_(before / h:norm(2, { keepdim = true }))
            helper.near(h[2]:norm(), before:get(2, 1), 0.01 * before:get(2, 1), "the norm of what was scaled back")
            local unit = h / before
            assert.equal("f32", unit.dtype)
            helper.near(unit[1]:norm(), 1, 1e-6, "h / |h|")
            assert.equal(dtype, h:clone():div_(before).dtype)
            assert.equal(dtype, h:norm(2, { dtype = dtype }).dtype)
        end
    end)
end)

describe("integers", function()
    it("of 64 bits stay exact", function()
        local t = T.from({ 2 ^ 53 - 1, 1 }, helper.on("i64"))
        assert.equal(2 ^ 53, t:sum())
        assert.equal(2 ^ 53 - 1, t:max())
        assert.same({ 2 ^ 53 - 2, 0 }, (t - 1):totable())
    end)

    it("refuse to be divided by zero in place on the CPU", function()
        if helper.device ~= "cpu" then return end
        local t = T.from({ 1, 2 }, helper.on("i32"))
        helper.fails("invalid_argument", "", t.div_, t, 0)
        assert.same({ 1 / 0, 1 / 0 }, (t / 0):totable())
    end)
end)
