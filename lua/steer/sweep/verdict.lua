--- What is said of a case's metric in two results files, OLD and NEW; never forced.
--
-- Times and rates, after nvbench-compare-robust: the interval of a side goes from the minimum to the third quartile of
-- its raw samples, since noise only ever makes work slower. (Of rates from the first quartile to the maximum.)
--   FASTER, SLOWER: the intervals lie apart by at least `gap` (HIGHER, LOWER of rates)
--   SAME:           they overlap by at least half of the narrower one, the centres are within `same`, and neither
--                   side's quartiles are further apart than SPREAD
--   AMBIGUOUS:      anything else, with the reason, also where a side has too few samples to tell
-- Other metrics: a number of each side is compared as it stands. Where it is the mean or the median of samples, such as
-- those of prompts or repeats, the difference has a bootstrap interval, of pairs where the samples belong together:
--   HIGHER, LOWER:  the interval lies beyond `same` on one side of 0
--   SAME:           it lies within `same`
--   AMBIGUOUS:      anything else, with the reason
local results = require "steer.sweep.results"
local statistics = require "steer.sweep.statistics"

local M = {}

local SPREAD, OVERLAP = 0.05, 0.5 -- of the centre; of the narrower interval
local FEWEST = 5                  -- samples of a side below which no verdict rests on its interval

--- Shares of the value within which it is the same: of times and rates, and of other metrics.
M.SAME, M.SAME_NUMBER = 0.01, 1e-5
M.GAP = 0.005

--- Verdicts in the order of their counts.
M.WORDS = { "FASTER", "SLOWER", "HIGHER", "LOWER", "SAME", "AMBIGUOUS" }

-- ---- Times and rates -----------------------------------------------------------------------------------------------

--- The interval of a time or a rate.
function M.interval(s, higher)
    if higher then return s.q1, s.max end
    return s.min, s.q3
end

-- How much of the narrower interval the other one covers.
local function overlap(low1, high1, low2, high2)
    local common = math.min(high1, high2) - math.max(low1, low2)
    local narrow = math.min(high1 - low1, high2 - low2)
    if common < 0 then return 0 end
    return narrow == 0 and 1 or common / narrow
end

-- Relative to the smaller value; 0 only where both are the same.
local function relative(difference, a, b)
    return difference == 0 and 0 or math.abs(difference) / math.min(math.abs(a), math.abs(b))
end

local function too_few(old, new)
    return ("fewer than %d %s"):format(FEWEST, (new.n < FEWEST and new or old).of) -- samples or repeats
end

local function judge_speed(old, new, rule)
    local low1, high1 = M.interval(old, rule.rate)
    local low2, high2 = M.interval(new, rule.rate)
    if old.n < FEWEST or new.n < FEWEST then return "AMBIGUOUS", too_few(old, new) end
    local down, up = low1 - high2, low2 - high1 -- above 0: new lies below, above old
    if down > 0 or up > 0 then
        if relative(math.max(down, up), old.value, new.value) < rule.gap then
            return "AMBIGUOUS", "the intervals lie apart by less than the gap"
        end
        if rule.rate then return down > 0 and "LOWER" or "HIGHER" end
        return down > 0 and "FASTER" or "SLOWER"
    end
    for _, s in ipairs { old, new } do
        if relative(s.q3 - s.q1, s.median, s.median) > SPREAD then return "AMBIGUOUS", "the samples are noisy" end
    end
    if relative(new.value - old.value, old.value, new.value) > rule.same then
        return "AMBIGUOUS", "the medians differ, the intervals overlap"
    end
    if overlap(low1, high1, low2, high2) < OVERLAP then return "AMBIGUOUS", "the intervals hardly overlap" end
    return "SAME"
end

-- ---- Other metrics -------------------------------------------------------------------------------------------------

-- Two numbers as they stand.
local function judge_numbers(difference, tolerance)
    if math.abs(difference) <= tolerance then return "SAME" end
    return difference > 0 and "HIGHER" or "LOWER"
end

local function judge_interval(low, high, tolerance)
    if low > tolerance then return "HIGHER" end
    if high < -tolerance then return "LOWER" end
    if low >= -tolerance and high <= tolerance then return "SAME" end
    if low <= 0 and high >= 0 then return "AMBIGUOUS", "the interval holds 0" end
    return "AMBIGUOUS", "the interval reaches into what is the same"
end

local function judge_metric(row, old, new, rule)
    local tolerance = rule.same * math.max(math.abs(old.value), math.abs(new.value))
    if old.n == 1 or new.n == 1 then return judge_numbers(row.difference, tolerance) end
    if not old.centre or old.centre ~= new.centre then
        return judge_numbers(row.difference, tolerance), "no interval: it is no mean or median of its samples"
    end
    if rule.paired and old.n == new.n then
        row.sign = statistics.sign_test(old.samples, new.samples)
    end
    if old.n < FEWEST or new.n < FEWEST then
        if math.abs(row.difference) <= tolerance then return "SAME" end
        return "AMBIGUOUS", too_few(old, new)
    end
    row.low, row.high = statistics.bootstrap(old.centre, old.samples, new.samples, row.sign ~= nil)
    return judge_interval(row.low, row.high, tolerance)
end

-- ---- Both ----------------------------------------------------------------------------------------------------------

local function is_identical(old, new)
    if old.value ~= new.value or old.n ~= new.n then return false end
    for i = 1, old.n do
        if old.samples[i] ~= new.samples[i] then return false end
    end
    return true
end

--- Gives the rule of a metric.
-- @tparam string metric
-- @tparam string better "lower", "higher" or nil
-- @tparam table opts gap and same (shares, or nil for the default), paired
-- @treturn table speed (whether it is a time or a rate), rate, better, gap, same, paired
function M.rule(metric, better, opts)
    local rate = results.is_rate(metric) and better ~= "lower"
    local speed = rate or results.is_time(metric) and better ~= "higher"
    return { speed = speed, rate = rate, better = better, gap = opts.gap or M.GAP, paired = opts.paired,
        same = opts.same or (speed and M.SAME or M.SAME_NUMBER) }
end

--- Judges a metric of a case.
-- @tparam table row of the comparison; gets difference (NEW - OLD), change (relative), low and high (of the
-- difference), sign (of the sign test, where samples are paired), verdict, reason and better (whether NEW is, if that
-- is known)
-- @tparam table old statistics as results.stats gives
-- @tparam table new
-- @tparam table rule of M.rule
function M.judge(row, old, new, rule)
    row.difference = new.value - old.value
    row.change = old.value ~= 0 and new.value / old.value - 1 or nil
    if is_identical(old, new) then
        row.verdict = "SAME"
    elseif rule.speed then
        row.verdict, row.reason = judge_speed(old, new, rule)
    else
        row.verdict, row.reason = judge_metric(row, old, new, rule)
    end
    if rule.better and row.verdict ~= "SAME" and row.verdict ~= "AMBIGUOUS" then
        row.better = (row.difference > 0) == (rule.better == "higher")
    end
end

return M
