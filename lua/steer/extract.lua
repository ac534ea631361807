--- steer.extract: steering directions from recorded hidden states: difference of means, whitened difference, principal
-- components, probe.
--
-- Every method takes two sets of hidden states, those that show a trait (`positive`) and those that do not
-- (`negative`): float tensors [n, hidden] on one device, or [n, layers, hidden] for a direction per layer. Matrix
-- products run on that device in f32, with vectors of n numbers on the CPU in between; the direction is f32 and lies on
-- that device.
local check = require "steer.core.check"
local logistic = require "steer.extract.logistic"
local options = require "steer.core.options"
local shuffle = require "steer.core.shuffle"
local base = require "steer.tensor.object"
local T = require "steer.tensor"
local whiten = require "steer.extract.whiten"

local raise = require("steer.core.error").raise

local M = {}

-- ---- Input ---------------------------------------------------------------------------------------------------------

-- One set as f32, checked; `ndim` is that of the other set.
local function read_set(op, name, set)
    local handle = base.use(set, op, name)
    base.check_float(op, name, base.dtype_codes[set.dtype])
    if set.ndim ~= 2 and set.ndim ~= 3 then
        raise("shape_mismatch", op, "%s: %s, expected [n, hidden] or [n, layers, hidden]", name,
            base.shape_text(handle))
    end
    if set:numel() == 0 then raise("invalid_argument", op, "%s: it has no hidden states", name) end
    local rows = set:to("f32")
    local norm = rows:norm()
    if norm ~= norm or norm == math.huge then
        raise("invalid_argument", op, "%s: it holds NaN or infinite values", name)
    end
    return rows
end

local function read_sets(op, positive, negative, paired)
    local p, n = read_set(op, "positive", positive), read_set(op, "negative", negative)
    if positive.device ~= negative.device then
        raise("device_mismatch", op, "negative: on %s, but positive is on %s", negative.device, positive.device)
    end
    local same = p.ndim == n.ndim and (not paired or p:size(1) == n:size(1))
    for d = 2, same and p.ndim or 1 do same = same and p:size(d) == n:size(d) end
    if not same then
        raise("shape_mismatch", op, "negative: %s does not go with %s%s", base.shape_text(negative.handle),
            base.shape_text(positive.handle), paired and ", expected one row for each row of positive" or "")
    end
    return p, n
end

-- A call of lm:capture that comes last gives both of its results, the second in the place of the options.
local function read_options(op, opts, known)
    if type(opts) == "table" and opts.rows and opts.positions then
        raise("invalid_argument", op, "opts: this is what lm:capture gives second; put the call into parentheses, "
            .. "as in (lm:capture(prompts))")
    end
    return options.check(op, opts, known)
end

-- Runs fn(positive, negative, more) on [n, hidden], or on each layer of [n, layers, hidden].
local function each_layer(op, fn, positive, negative, more)
    if positive.ndim == 2 then return fn(positive, negative, more) end
    local directions, infos = {}, {}
    for layer = 0, positive:size(2) - 1 do
        local function of_layer(set) return set and set:select(2, layer + 1) end
        local ok, direction, info = pcall(fn, of_layer(positive), of_layer(negative), of_layer(more))
        if not ok then
            if type(direction) == "table" and direction.code ~= "interrupted" and direction.op == op then
                direction.message = ("layer %d: %s"):format(layer, direction.message)
            end
            error(direction, 0)
        end
        directions[layer], infos[layer] = direction, info
    end
    return directions, infos
end

-- ---- What a direction says -----------------------------------------------------------------------------------------

local function share_above(rows, direction, threshold)
    local above, projections = 0, rows:matmul(direction):totable()
    for i = 1, #projections do
        if projections[i] > threshold then above = above + 1 end
    end
    return above, #projections
end

local function accuracy(direction, threshold, positive, negative)
    local hits, n = share_above(positive, direction, threshold)
    local misses, m = share_above(negative, direction, threshold)
    return (hits + m - misses) / (n + m)
end

--- Tells how well a direction tells two sets of hidden states apart, such as pairs that it was not made from.
-- @tparam tensor direction [hidden]
-- @tparam number threshold projection h·direction above which a hidden state counts as positive: info.threshold of the
-- methods below
-- @tparam tensor positive [n, hidden]
-- @tparam tensor negative [m, hidden]
-- @treturn number share of the n + m hidden states that lie on their side, 0 to 1
-- @raise shape_mismatch, device_mismatch
function M.accuracy(direction, threshold, positive, negative)
    local op = "extract_accuracy"
    local handle = base.use(direction, op, "direction")
    check.number(op, "threshold", threshold)
    local p, n = read_sets(op, positive, negative)
    if direction.ndim ~= 1 or p.ndim ~= 2 or p:size(2) ~= direction:numel() then
        raise("shape_mismatch", op, "direction: %s does not go with %s, expected [hidden] and [n, hidden]",
            base.shape_text(handle), base.shape_text(positive.handle))
    end
    return accuracy(direction:to("f32"), threshold, p, n)
end

-- What every method says about its direction: the threshold half-way between the means unless given, and the accuracy.
local function describe(direction, positive, negative, info)
    if not info.threshold then
        info.threshold = ((positive:mean(1) + negative:mean(1)) * 0.5):dot(direction)
    end
    info.accuracy = accuracy(direction, info.threshold, positive, negative)
    return direction, info
end

-- ---- Difference of means -------------------------------------------------------------------------------------------

local function difference(op, p_mean, n_mean)
    local v = p_mean - n_mean
    if v:norm() == 0 then raise("invalid_argument", op, "positive: its mean is that of negative, no direction") end
    return v
end

--- Takes the difference of the means, mean(positive) - mean(negative): adding it moves the one mean to the other.
-- Source: activation addition (Turner et al. 2023, arXiv:2308.10248) and contrastive activation addition (Rimsky et
-- al. 2024, arXiv:2312.06681).
-- @tparam tensor positive [n, hidden] or [n, layers, hidden]
-- @tparam tensor negative [m, hidden] or [m, layers, hidden]
-- @tparam[opt] table opts normalize: length 1 (default false: the length is the distance of the means)
-- @return direction [hidden], or a table of them by layer from 0, which steer.save writes to .gguf (layer_offset = 1)
-- @return info, or a table of them by layer: threshold (projection half-way between the means), accuracy (on these
-- rows)
-- @raise invalid_argument for equal means and values that are not finite, shape_mismatch, dtype_mismatch,
-- device_mismatch
function M.mean_difference(positive, negative, opts)
    local op = "extract_mean_difference"
    opts = read_options(op, opts, { normalize = "boolean" })
    local p, n = read_sets(op, positive, negative)
    return each_layer(op, function(p_rows, n_rows)
        local v = difference(op, p_rows:mean(1), n_rows:mean(1))
        return describe(opts.normalize and v:normalize() or v, p_rows, n_rows, {})
    end, p, n)
end

-- ---- First principal components of differences ---------------------------------------------------------------------

local SQUARINGS = 30     -- the power 2^30 of the Gram matrix: what is equal after it is equal in f32
local RANK_ONE = 1e-6    -- how far the squares of the eigenvalues may sum from 1
local POLISHES = 3

-- Leading eigenvector, up to its length, of a symmetric matrix without negative eigenvalues, by squaring it until it
-- has rank one. The eigenvalues sum to 1.
local function leading(k)
    for _ = 1, SQUARINGS do
        local squares = k:norm() ^ 2 -- the trace of the squared matrix
        if squares > 1 - RANK_ONE then break end
        k = k:matmul(k):mul_(1 / squares)
    end
    return k:select(1, k:norm(2):argmax())
end

-- The first principal component of rows whose squares sum to 1, at length 1.
local function component(d)
    local turned = d:transpose()
    local v
    if d:size(1) <= d:size(2) then -- the smaller of the two matrices with these eigenvalues
        v = turned:matmul(leading(d:matmul(turned))):normalize()
    else
        v = leading(turned:matmul(d)):normalize()
    end
    for _ = 1, POLISHES do v = turned:matmul(d:matmul(v)):normalize() end
    return v
end

--- Takes the first principal component of the differences of pairs, positive[i] - negative[i].
-- The differences are not centred: that is the component of the differences taken in both directions, which have mean
-- zero (representation reading swaps the sides of random pairs to the same end; centring without it would remove the
-- very mean that the pairs share). It has length 1 and points from negative to positive.
-- Source: representation engineering (Zou et al. 2023, arXiv:2310.01405).
-- @tparam tensor positive [n, hidden] or [n, layers, hidden]
-- @tparam tensor negative of the same shape: row i is the other side of pair i
-- @return direction [hidden] of length 1, or a table of them by layer from 0
-- @return info, or a table of them by layer: threshold (projection half-way between the means), accuracy (on these
-- rows), explained (share of the squared differences that lies along the direction)
-- @raise invalid_argument if all pairs are equal or values are not finite, shape_mismatch, dtype_mismatch,
-- device_mismatch
function M.pca(positive, negative, opts)
    local op = "extract_pca"
    read_options(op, opts, {})
    local p, n = read_sets(op, positive, negative, true)
    return each_layer(op, function(p_rows, n_rows)
        local d = p_rows - n_rows
        local length = d:norm()
        if length == 0 then
            raise("invalid_argument", op, "positive: every row equals that of negative, no direction")
        end
        d:div_(length) -- squares of what is very long or short would leave f32
        local v = component(d)
        local along = d:matmul(v)
        if along:sum() < 0 then v:mul_(-1) end
        return describe(v, p_rows, n_rows, { explained = along:norm() ^ 2 })
    end, p, n)
end

-- Differences of random pairs of the rows of two sets.
local function random_differences(p, n, seed)
    local pool, shape = T.cat({ p, n }, 1), p:shape()
    local order = shuffle.order(pool:size(1), seed)
    if #order % 2 == 1 then order[#order] = nil end
    local twos = shuffle.rows(pool, order):reshape(#order / 2, 2, unpack(shape, 2))
    return twos:select(2, 1) - twos:select(2, 2)
end

--- Linear artificial tomography: takes the first principal component of the differences of random pairs of all rows,
-- centred; labels serve for its sign alone. It has length 1 and points from negative to positive.
-- It finds what varies most among the rows: the trait, where that is the largest difference between them.
-- Source: representation engineering (Zou et al. 2023, arXiv:2310.01405, section 3.1).
-- @tparam tensor positive [n, hidden] or [n, layers, hidden]
-- @tparam tensor negative [m, hidden] or [m, layers, hidden]; n + m is at least 4
-- @tparam[opt] table opts seed (0) of the pairs
-- @return direction [hidden] of length 1, or a table of them by layer from 0
-- @return info, or a table of them by layer: threshold (projection half-way between the means), accuracy (on these
-- rows), explained (share of the squared centred differences that lies along the direction)
-- @raise invalid_argument if all rows are equal or values are not finite, shape_mismatch, dtype_mismatch,
-- device_mismatch
function M.lat(positive, negative, opts)
    local op = "extract_lat"
    opts = read_options(op, opts, { seed = "number" })
    local seed = check.integer(op, "opts.seed", opts.seed or 0, 0)
    local p, n = read_sets(op, positive, negative)
    if p:size(1) + n:size(1) < 4 then
        raise("invalid_argument", op, "positive: it and negative have %d rows, expected 4 or more",
            p:size(1) + n:size(1))
    end
    return each_layer(op, function(p_rows, n_rows, d)
        d = d - d:mean(1)
        local length = d:norm()
        if length == 0 then raise("invalid_argument", op, "positive: all random pairs differ equally, no direction") end
        d:div_(length)
        local v = component(d)
        local sign = p_rows:mean(1):dot(v) - n_rows:mean(1):dot(v)
        if sign == 0 then raise("invalid_argument", op, "positive: its mean is that of negative, no sign") end
        if sign < 0 then v:mul_(-1) end
        return describe(v, p_rows, n_rows, { explained = d:matmul(v):norm() ^ 2 })
    end, p, n, random_differences(p, n, seed))
end

-- ---- Whitened difference -------------------------------------------------------------------------------------------

-- The direction and what is said of it, from means and the covariance within the sets.
local function whitened(op, shrinkage, p_mean, n_mean, covariance)
    local v = difference(op, p_mean, n_mean)
    if covariance.trace == 0 then
        raise("invalid_argument", op, "positive: neither set varies, expected different rows within a set")
    end
    local share = shrinkage == "ledoit-wolf" and whiten.ledoit_wolf(covariance) or shrinkage
    local w = whiten.solve(covariance, share, v)
    local info = { shrinkage = share, distance = math.sqrt(math.max(0, w:dot(v))) }
    w = w:normalize()
    info.threshold = ((p_mean + n_mean) * 0.5):dot(w)
    return w, info
end

local function is_record(set) return type(set) == "table" and rawget(set, "covariance") ~= nil end

-- The same from records of lm:capture(prompts, {reduce = "moments"}), by layer from 0.
local function whitened_records(op, shrinkage, positive, negative)
    if not (is_record(positive) and is_record(negative)) then
        raise("invalid_argument", op, 'negative: expected two tensors, or two records of reduce = "moments"')
    end
    if shrinkage == "ledoit-wolf" then
        raise("invalid_argument", op, "opts.shrinkage: Ledoit and Wolf's needs rows, expected a number for moments")
    end
    local p, n, directions, infos = positive, negative, {}, {}
    if base.shape_text(p.mean.handle) ~= base.shape_text(n.mean.handle) then
        raise("shape_mismatch", op, "negative: means %s do not go with %s", base.shape_text(n.mean.handle),
            base.shape_text(p.mean.handle))
    end
    local share = p.count / (p.count + n.count)
    local function pooled(name, i) return (p[name][i] * share):add_(n[name][i], 1 - share) end
    for i = 1, p.mean:size(1) do
        local covariance = whiten.of_matrix(pooled("covariance", i), pooled("variance", i))
        directions[i - 1], infos[i - 1] = whitened(op, shrinkage, p.mean[i], n.mean[i], covariance)
    end
    return directions, infos
end

--- Takes the difference of the means, whitened by the covariance within the sets: the direction that tells two normal
-- distributions of one covariance apart best (linear discriminant analysis). It has length 1 and points from negative
-- to positive. The covariance is shrunk to the identity times its mean variance.
-- Source: Fisher 1936; shrinkage of Ledoit and Wolf 2004.
-- @tparam tensor positive [n, hidden] or [n, layers, hidden]; or what lm:capture gives with reduce = "moments", for a
-- covariance over tokens
-- @tparam tensor negative [m, hidden] or [m, layers, hidden], or such a record
-- @tparam[opt] table opts shrinkage: "ledoit-wolf" (the default for rows) or a share above 0, at most 1 (for records
-- 0.1; 1 gives the difference of means at length 1)
-- @return direction [hidden] of length 1, or a table of them by layer from 0
-- @return info, or a table of them by layer: threshold (projection half-way between the means), accuracy (on these
-- rows; not of records), shrinkage (the share), distance (of the means, in standard deviations along the direction)
-- @raise invalid_argument for equal means, sets that do not vary and values that are not finite, shape_mismatch,
-- dtype_mismatch, device_mismatch
function M.lda(positive, negative, opts)
    local op = "extract_lda"
    opts = read_options(op, opts, { shrinkage = true })
    local is_moments = is_record(positive) or is_record(negative)
    local shrinkage = opts.shrinkage or is_moments and 0.1 or "ledoit-wolf"
    if shrinkage ~= "ledoit-wolf" and not (type(shrinkage) == "number" and shrinkage > 0 and shrinkage <= 1) then
        raise("invalid_argument", op, 'opts.shrinkage: %s, expected "ledoit-wolf" or a share above 0, at most 1',
            check.describe(shrinkage))
    end
    if is_moments then return whitened_records(op, shrinkage, positive, negative) end
    local p, n = read_sets(op, positive, negative)
    return each_layer(op, function(p_rows, n_rows)
        local p_mean, n_mean = p_rows:mean(1), n_rows:mean(1)
        local covariance = whiten.of_rows(T.cat({ p_rows - p_mean, n_rows - n_mean }, 1))
        local w, info = whitened(op, shrinkage, p_mean, n_mean, covariance)
        return describe(w, p_rows, n_rows, info)
    end, p, n)
end

-- ---- Logistic-regression probe -------------------------------------------------------------------------------------

--- Trains a linear probe by logistic regression; its weights, at length 1, are the direction.
-- It minimises the mean log loss + l2/2 |w|^2 with an intercept that is not penalised. Before that the rows are centred
-- and divided by their root mean square distance from their mean, so that l2 means the same for every model.
-- Source: linear classifier probes (Alain and Bengio 2016, arXiv:1610.01644).
-- @tparam tensor positive [n, hidden] or [n, layers, hidden]
-- @tparam tensor negative [m, hidden] or [m, layers, hidden]
-- @tparam[opt] table opts l2 (0.001): weight of the penalty, above 0
-- @return direction [hidden] of length 1, or a table of them by layer from 0
-- @return info, or a table of them by layer: weight and bias (a hidden state is positive with probability
-- 1 / (1 + exp(-(weight * h·direction + bias)))), threshold (projection of probability one half), accuracy (on these
-- rows), loss, steps, converged (whether the gradient came to zero as near as f32 allows)
-- @raise invalid_argument if no direction tells the sets apart or values are not finite, shape_mismatch,
-- dtype_mismatch, device_mismatch
function M.probe(positive, negative, opts)
    local op = "extract_probe"
    opts = read_options(op, opts, { l2 = "number" })
    local l2 = opts.l2 or 1e-3
    if l2 ~= l2 or l2 <= 0 or l2 == math.huge then
        raise("invalid_argument", op, "opts.l2: %s, expected more than 0", tostring(l2))
    end
    local p, n = read_sets(op, positive, negative)
    return each_layer(op, function(p_rows, n_rows)
        local problem = logistic.new(p_rows, n_rows, l2)
        local w, b, loss, steps, converged = problem:solve()
        local norm = w:norm()
        if norm == 0 then raise("invalid_argument", op, "positive: no direction tells it from negative") end
        local v, weight = w * (1 / norm), norm / problem.scale
        local bias = b - weight * problem.center:dot(v)
        return describe(v, p_rows, n_rows, {
            weight = weight, bias = bias, threshold = -bias / weight, loss = loss, steps = steps,
            converged = converged,
        })
    end, p, n)
end

-- Other names of the methods.
local ELSEWHERE = {
    mean_diff = "mean_difference", diff_mean = "mean_difference", diffmean = "mean_difference",
    difference_of_means = "mean_difference", logistic = "probe", whitened = "lda", whitened_difference = "lda",
}

return setmetatable(M, {
    __index = function(_, name)
        if type(name) ~= "string" then return nil end
        local ours = ELSEWHERE[name]
        return raise("invalid_argument", "extract", "there is no steer.extract.%s%s", name, ours
            and (": use steer.extract.%s"):format(ours) or options.suggest(name, M, "steer.extract.", ""))
    end,
})
