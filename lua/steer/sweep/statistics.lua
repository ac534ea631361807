--- Statistics of a few numbers: the interval of a mean, the bootstrap of a difference, the sign test.
local M = {}

M.LEVEL = 0.95        -- of all intervals
M.RESAMPLES = 5000    -- of a bootstrap
local SEED = 20260101 -- of the resampling: equal samples give equal intervals
local NORMAL = 1.959963984540054 -- the normal distribution's quantile at (1 + LEVEL) / 2
local LARGE = 200     -- degrees of freedom from which on an expansion gives Student's quantile to six digits

-- ---- Centres -------------------------------------------------------------------------------------------------------

local function mean(list)
    local sum = 0
    for i = 1, #list do sum = sum + list[i] end
    return sum / #list
end

local function median(list)
    local sorted, n = {}, #list
    for i = 1, n do sorted[i] = list[i] end -- unpack takes some thousands only
    table.sort(sorted)
    return (sorted[math.floor((n + 1) / 2)] + sorted[math.ceil((n + 1) / 2)]) / 2
end

--- Centres of a list by name.
M.centres = { mean = mean, median = median }

local function is_near(a, b) return math.abs(a - b) <= 1e-6 * math.max(math.abs(a), math.abs(b)) end

--- Says which centre of its samples a value is: "mean", "median" or nil; `first` where it is both.
function M.centre_of(value, samples, first)
    for _, name in ipairs { first, "mean", "median" } do
        if is_near(value, M.centres[name](samples)) then return name end
    end
    return nil
end

-- ---- Student's interval --------------------------------------------------------------------------------------------

-- Probability that Student's t with so many degrees of freedom lies within +-sqrt(freedom) tan(angle): the finite
-- series of Abramowitz and Stegun, 26.7.3 and 26.7.4.
local function within(angle, freedom)
    local cosine, odd = math.cos(angle) ^ 2, freedom % 2 == 1
    local term = odd and math.cos(angle) or 1
    local sum = freedom > 1 and term or 0
    for k = odd and 3 or 2, freedom - 2, 2 do
        term = term * cosine * (k - 1) / k
        sum = sum + term
    end
    if odd then return 2 / math.pi * (angle + math.sin(angle) * sum) end
    return math.sin(angle) * sum
end

--- The quantile of Student's t at (1 + LEVEL) / 2.
function M.student(freedom)
    if freedom > LARGE then -- Abramowitz and Stegun, 26.7.5
        local z = NORMAL
        return z + (z ^ 3 + z) / (4 * freedom) + (5 * z ^ 5 + 16 * z ^ 3 + 3 * z) / (96 * freedom ^ 2)
    end
    local low, high = 0, math.pi / 2
    for _ = 1, 60 do
        local middle = (low + high) / 2
        if within(middle, freedom) < M.LEVEL then low = middle else high = middle end
    end
    return math.sqrt(freedom) * math.tan((low + high) / 2)
end

--- The mean of a list and its interval by Student's t; one number has no interval.
-- @tparam table list of numbers, not empty
-- @treturn number mean
-- @treturn number lower end, or nil
-- @treturn number upper end, or nil
function M.mean_interval(list)
    local n, middle, squares = #list, mean(list), 0
    if n == 1 then return middle end
    for i = 1, n do squares = squares + (list[i] - middle) ^ 2 end
    local half = M.student(n - 1) * math.sqrt(squares / (n - 1) / n)
    return middle, middle - half, middle + half
end

-- ---- Bootstrap -----------------------------------------------------------------------------------------------------

-- Picks integers from 1 to n at random (Marsaglia's xorshift).
local function generator()
    local state = SEED
    return function(n)
        state = bit.bxor(state, bit.lshift(state, 13))
        state = bit.bxor(state, bit.rshift(state, 17))
        state = bit.bxor(state, bit.lshift(state, 5))
        return math.floor(state % 2 ^ 32 / 2 ^ 32 * n) + 1
    end
end

-- The normal distribution below x <= 0 (Abramowitz and Stegun, 26.2.17), to 1e-7.
local function normal(x)
    local k, sum = 1 / (1 - 0.2316419 * x), 0
    for _, b in ipairs { 1.330274429, -1.821255978, 1.781477937, -0.356563782, 0.319381530 } do sum = (sum + b) * k end
    return sum * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
end

--- The share of resamples below an interval for n samples: more extreme than (1 - LEVEL) / 2, since resamples of few
-- samples vary too little (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", expanded percentiles).
function M.tail(n) return normal(-math.sqrt(n / (n - 1)) * M.student(n - 1)) end

local function percentiles(list, tail)
    table.sort(list)
    local function at(share)
        local place = 1 + share * (#list - 1)
        local below = math.floor(place)
        return list[below] + (place - below) * (list[math.min(below + 1, #list)] - list[below])
    end
    return at(tail), at(1 - tail)
end

--- The interval of a difference of centres, NEW minus OLD, by the percentile bootstrap (Efron 1979) with percentiles
-- for few samples (M.tail). The resampling is the same each time.
-- @tparam string centre "mean" or "median"
-- @tparam table old numbers, two or more
-- @tparam table new numbers, two or more
-- @tparam boolean paired whether numbers at the same place belong together and are drawn together; as many of both
-- @treturn number lower end
-- @treturn number upper end
function M.bootstrap(centre, old, new, paired)
    local of, differences, a, b, pick = M.centres[centre], {}, {}, {}, generator()
    for r = 1, M.RESAMPLES do
        for i = 1, #old do
            local at = pick(#old)
            a[i] = old[at]
            if paired then b[i] = new[at] end
        end
        for i = 1, paired and 0 or #new do b[i] = new[pick(#new)] end
        differences[r] = of(b) - of(a)
    end
    return percentiles(differences, M.tail(math.min(#old, #new)))
end

-- ---- Sign test -----------------------------------------------------------------------------------------------------

--- The two-sided sign test of pairs; ties do not count.
-- @tparam table old numbers
-- @tparam table new as many numbers
-- @treturn table up and down (pairs where NEW is higher and lower), ties, p
function M.sign_test(old, new)
    local up, down = 0, 0
    for i = 1, #old do
        if new[i] > old[i] then up = up + 1 elseif new[i] < old[i] then down = down + 1 end
    end
    local n, sum = up + down, 0
    local log = -n * math.log(2) -- of the chance of k heads in n throws
    for k = 0, math.min(up, down) do
        sum = sum + math.exp(log)
        log = log + math.log((n - k) / (k + 1))
    end
    return { up = up, down = down, ties = #old - n, p = math.min(1, 2 * sum) }
end

return M
