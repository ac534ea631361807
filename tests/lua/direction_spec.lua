-- Directions from prompts: LAT and LDA against float64, planted directions, cross-validation, the table and the plot.
-- devices: cpu cuda
local files = require "files"
local gnuplot = require "steer.plot.gnuplot"
local helper = require "helper"
local steer = require "steer"

local T, extract = steer.tensor, steer.extract
local fails, near = helper.fails, helper.near
local METHODS = { "mean_difference", "pca", "lat", "probe", "lda" }

local function here(tensor) return tensor:to(helper.device) end
local function random(shape, seed) return T.randn(shape, { seed = seed, device = "cpu" }) end

-- ---- Float64: lists of rows ----------------------------------------------------------------------------------------

local function dot(a, b)
    local sum = 0
    for i = 1, #a do sum = sum + a[i] * b[i] end
    return sum
end

local function mean_of(rows)
    local mean = {}
    for k = 1, #rows[1] do
        mean[k] = 0
        for _, row in ipairs(rows) do mean[k] = mean[k] + row[k] / #rows end
    end
    return mean
end

local function minus(a, b)
    local list = {}
    for k = 1, #a do list[k] = a[k] - b[k] end
    return list
end

-- Rows without their mean.
local function centred(rows)
    local mean, list = mean_of(rows), {}
    for i, row in ipairs(rows) do list[i] = minus(row, mean) end
    return list, mean
end

-- The matrix of mean products of rows.
local function products(rows)
    local h, matrix = #rows[1], {}
    for i = 1, h do
        matrix[i] = {}
        for k = 1, h do
            local sum = 0
            for _, row in ipairs(rows) do sum = sum + row[i] * row[k] end
            matrix[i][k] = sum / #rows
        end
    end
    return matrix
end

-- Gauss's elimination with pivots.
local function solve(matrix, b)
    local n, a = #b, {}
    for i = 1, n do
        a[i] = { unpack(matrix[i]) }
        a[i][n + 1] = b[i]
    end
    for i = 1, n do
        local best = i
        for k = i + 1, n do if math.abs(a[k][i]) > math.abs(a[best][i]) then best = k end end
        a[i], a[best] = a[best], a[i]
        for k = i + 1, n do
            local f = a[k][i] / a[i][i]
            for j = i, n + 1 do a[k][j] = a[k][j] - f * a[i][j] end
        end
    end
    local x = {}
    for i = n, 1, -1 do
        x[i] = a[i][n + 1]
        for k = i + 1, n do x[i] = x[i] - a[i][k] * x[k] end
        x[i] = x[i] / a[i][i]
    end
    return x
end

local function unit(v)
    local length, list = math.sqrt(dot(v, v)), {}
    for i, x in ipairs(v) do list[i] = x / length end
    return list
end

-- Ledoit and Wolf's share, from the definitions of their paper: no products of rows with rows.
local function ledoit_wolf(rows, matrix)
    local n, h, trace = #rows, #matrix, 0
    for i = 1, h do trace = trace + matrix[i][i] end
    local mu, spread, noise = trace / h, 0, 0
    for i = 1, h do
        for k = 1, h do spread = spread + (matrix[i][k] - (i == k and mu or 0)) ^ 2 end
    end
    for _, row in ipairs(rows) do
        for i = 1, h do
            for k = 1, h do noise = noise + (row[i] * row[k] - matrix[i][k]) ^ 2 end
        end
    end
    return math.min(noise / n ^ 2, spread) / spread, mu
end

-- Direction, share, distance and threshold of LDA.
local function lda(p, n, share)
    local rows, p_mean = centred(p)
    local others, n_mean = centred(n)
    for _, row in ipairs(others) do rows[#rows + 1] = row end
    local matrix = products(rows)
    local found, mu = ledoit_wolf(rows, matrix)
    share = share or found
    for i = 1, #matrix do
        for k = 1, #matrix do matrix[i][k] = (1 - share) * matrix[i][k] + (i == k and share * mu or 0) end
    end
    local delta = minus(p_mean, n_mean)
    local w = solve(matrix, delta)
    local v = unit(w)
    return v, share, math.sqrt(dot(w, delta)), (dot(p_mean, v) + dot(n_mean, v)) / 2
end

local function near_list(got, want, bound, place)
    assert.equal(#want, #got)
    for i, x in ipairs(want) do near(got[i], x, bound, place .. ", element " .. i) end
end

-- Two sets apart along a direction, in noise whose dimensions are of very different sizes.
local function planted(n, m, hidden, shift, seed, noise)
    local scales = T.ones({ hidden }, { device = "cpu" })
    for i = 1, noise and hidden / 8 or 0 do scales:set(i, noise) end
    local v = random({ hidden }, seed):normalize()
    return random({ n, hidden }, seed + 1) * scales + v * shift, random({ m, hidden }, seed + 2) * scales, v
end

describe("steer.extract.lda", function()
    it("agrees with float64, whichever side is longer", function()
        for _, case in ipairs { { 30, 26, 12, 1 }, { 9, 11, 40, 3 }, { 40, 40, 24, 0.5, 30 }, { 2, 2, 6, 2 } } do
            local p, n = planted(case[1], case[2], case[3], case[4], case[3], case[5])
            for _, share in ipairs { 0, 0.03, 1 } do
                local given = share > 0 and share or nil
                local want, shrinkage, distance, threshold = lda(p:totable(), n:totable(), given)
                local v, info = extract.lda(here(p), here(n), { shrinkage = given })
                local place = ("%d and %d of %d, share %g"):format(case[1], case[2], case[3], share)
                near_list(v:totable(), want, 1e-4, place)
                near(info.shrinkage, shrinkage, 1e-5, place)
                near(info.distance, distance, 1e-4 * distance, place)
                near(info.threshold, threshold, 1e-4 * math.max(1, math.abs(threshold)), place)
            end
        end
    end)

    it("tells apart what the difference of means does not", function()
        local p, n, v = planted(200, 200, 64, 3, 5, 40)
        local function accuracy(method)
            local w, info = extract[method](here(p:narrow(1, 1, 100)), here(n:narrow(1, 1, 100)))
            return extract.accuracy(w, info.threshold, here(p:narrow(1, 101, 100)), here(n:narrow(1, 101, 100))), w
        end
        local plain, whitened = accuracy "mean_difference", accuracy "lda"
        assert(whitened > 0.75 and plain < 0.6, ("whitened %g, plain %g"):format(whitened, plain))
        local _, w = accuracy "lda"
        assert(w:to("cpu"):dot(v) > 0.7, w:to("cpu"):dot(v))
    end)

    it("gives the difference of means with a share of 1, and takes layers", function()
        local p, n = planted(8, 8, 16, 2, 3)
        p, n = T.stack({ p, p * 2 }, 2), T.stack({ n, n * 2 }, 2)
        local v = extract.lda(here(p), here(n), { shrinkage = 1 })
        local mean = extract.mean_difference(here(p), here(n), { normalize = true })
        for layer = 0, 1 do near_list(v[layer]:totable(), mean[layer]:totable(), 1e-6, "layer " .. layer) end
    end)

    it("says what is wrong", function()
        local p, n = here(random({ 4, 8 }, 1)), here(random({ 4, 8 }, 2))
        for _, share in ipairs { 0, -1, 1.5, 0 / 0, "oas" } do
            fails("invalid_argument", "opts.shrinkage", extract.lda, p, n, { shrinkage = share })
        end
        local same = T.ones({ 3, 8 }, { device = helper.device })
        fails("invalid_argument", "neither set varies", extract.lda, same, same * 2)
        fails("invalid_argument", "positive: its mean", extract.lda, p, p:clone())
        local record = { count = 1, covariance = p }
        fails("invalid_argument", "two records", extract.lda, record, n)
        fails("invalid_argument", "needs rows", extract.lda, record, record, { shrinkage = "ledoit-wolf" })
        fails("invalid_argument", "use steer.extract.lda", function() return extract.whitened end)
    end)
end)

describe("steer.extract.lat", function()
    -- The first principal component of the same pairs by power iteration in float64.
    local function oracle(p, n, seed)
        local pool, d = {}, {}
        for _, row in ipairs(p) do pool[#pool + 1] = row end
        for _, row in ipairs(n) do pool[#pool + 1] = row end
        local order = require("steer.core.shuffle").order(#pool, seed)
        for i = 1, #order - 1, 2 do d[#d + 1] = minus(pool[order[i]], pool[order[i + 1]]) end
        local matrix, v = products((centred(d))), unit(minus(mean_of(p), mean_of(n)))
        for _ = 1, 2000 do
            local next_v = {}
            for i, row in ipairs(matrix) do next_v[i] = dot(row, v) end
            v = unit(next_v)
        end
        if dot(mean_of(p), v) < dot(mean_of(n), v) then v = minus(mean_of { v, v }, mean_of { v, v }) end
        return v
    end

    it("agrees with float64", function()
        for _, case in ipairs { { 30, 26, 12, 6 }, { 9, 12, 40, 20 }, { 3, 2, 5, 5 } } do
            local p, n = planted(case[1], case[2], case[3], case[4], case[3])
            for seed = 0, 2 do
                local v, info = extract.lat(here(p), here(n), { seed = seed })
                near_list(v:totable(), oracle(p:totable(), n:totable(), seed), 1e-4, "seed " .. seed)
                assert(info.explained > 0 and info.explained <= 1 + 1e-6)
            end
        end
    end)

    it("says what is wrong", function()
        local p = here(random({ 4, 8 }, 1))
        fails("invalid_argument", "2 rows, expected 4", extract.lat, p:narrow(1, 1, 1), p:narrow(1, 2, 1))
        fails("invalid_argument", "no direction", extract.lat, p * 0, p * 0)
        fails("invalid_argument", "opts.seed", extract.lat, p, p * 2, { seed = -1 })
    end)
end)

describe("a planted direction", function()
    it("is found by every method", function()
        local p, n, v = planted(150, 150, 48, 8, 9)
        for _, method in ipairs(METHODS) do
            local w, info = extract[method](here(p), here(n))
            local cosine = w:to("cpu"):dot(v) / w:norm()
            assert(cosine > 0.9, method .. ": " .. cosine)
            assert(info.accuracy > 0.99, method .. ": " .. info.accuracy)
        end
    end)
end)

-- ---- With a model --------------------------------------------------------------------------------------------------

local function demo_prompts()
    local prompts = require("dkjson").decode(files.get "tests/fixtures/demo/prompts.json")
    return prompts.happy, prompts.sad
end

describe("lm:direction", function()
    local lm, happy, sad
    setup(function()
        lm = steer.model("tests/fixtures/demo-model", { device = helper.device })
        happy, sad = demo_prompts()
    end)
    teardown(files.done)

    it("finds the mood of the demo model by every method, and says so in a table", function()
        local at3 = {}
        for _, method in ipairs(METHODS) do
            local v, info = lm:direction { positive = happy, negative = sad, method = method, layers = { 3, 6 } }
            at3[method] = info[3].accuracy
            assert.equal(1, info[6].accuracy, method)
            assert.equal(6, info.best)
            assert.same({ lm.hidden }, v[6]:shape())
            assert.equal(5, #info[6].folds)
            local text = tostring(info)
            assert.truthy(text:find(method .. " of 96 positive and 96 negative prompts, 5 folds", 1, true), text)
            assert.truthy(text:find("    6 +[%d.]+ +1.000 +1.000  <%- best"), text)
            assert.truthy(text:find(("%.3f"):format(info[3].accuracy), 1, true))
        end
        -- The mood is there before it is what sets the means apart.
        assert(at3.lda > 0.95 and at3.mean_difference < 0.8, at3.lda .. " and " .. at3.mean_difference)
    end)

    it("keeps the last prompts where it is told to", function()
        local _, info = lm:direction { positive = happy, negative = sad, held_out = 1 / 3 }
        local known = { [0] = 0.5, 0.6875, 0.546875, 0.78125, 0.65625, 1, 1, 1 }
        for layer = 0, 7 do near(info[layer].accuracy, known[layer], 2 / 64, "layer " .. layer) end
        assert.equal(5, info.best)
        local _, none = lm:direction { positive = happy, negative = sad, folds = 0, layers = 5 }
        assert.is_nil(none[5].accuracy)
        assert.is_nil(none.best)
        assert.truthy(tostring(none):find("none held out", 1, true))
    end)

    it("does not praise what it learnt by heart", function()
        local tiny = steer.model("tests/fixtures/models/llama", { device = helper.device, dtype = "f32" })
        local sets = {}
        for s = 1, 2 do
            sets[s] = {}
            for i = 1, 12 do
                local ids = {}
                for k, x in ipairs(T.rand({ 6 }, { seed = 50 * s + i, device = "cpu" }):totable()) do
                    ids[k] = math.floor(x * (tiny.vocab - 5)) + 4
                end
                sets[s][i] = { tokens = ids }
            end
        end
        local _, info = tiny:direction {
            positive = sets[1], negative = sets[2], method = "probe", l2 = 1e-6, folds = 12,
        }
        local best = 0
        for layer = 0, tiny.layers - 1 do
            assert.equal(1, info[layer].train_accuracy)
            best = math.max(best, info[layer].accuracy)
        end
        assert(best < 0.85, best)
    end)

    it("repeats itself by seed, with pairs that stay together", function()
        local function folds(opts)
            opts.positive, opts.negative, opts.layers = { unpack(happy, 1, 40) }, { unpack(sad, 1, 40) }, { 3 }
            local _, info = lm:direction(opts)
            return info[3].folds
        end
        assert.same(folds { seed = 4 }, folds { seed = 4 })
        assert.not_same(folds { seed = 4 }, folds { seed = 5 })
        assert.equal(40, #folds { folds = 40 })
        local twice = { happy[1], happy[2], happy[1], happy[2] }
        local _, info = lm:direction { positive = twice, negative = { sad[1], sad[2], sad[1] }, layers = 5 }
        assert.equal(3, info.folds)
    end)

    it("takes the mean of tokens and of responses", function()
        local _, info = lm:direction {
            positive = { happy[1], happy[2], happy[3] }, negative = { sad[1], sad[2], sad[3] }, tokens = "response",
            max_tokens = 12, layers = { 5 },
        }
        assert(info[5].accuracy >= 0.5 and info[5].train_accuracy > 0.8)
    end)

    it("draws held-out accuracy by layer", function()
        if not gnuplot.exists() then return pending "no gnuplot" end
        local _, info = lm:direction { positive = happy, negative = sad, method = "lda" }
        local paths = info:plot { out = files.path "accuracy.svg" }
        assert.equal(files.path "accuracy.svg", paths.svg)
        assert.truthy(files.get(paths.svg):find("lda of 96 positive and 96 negative prompts, 5 folds", 1, true))
        local data = files.get(paths.tsv)
        for layer = 0, 7 do
            assert.truthy(data:find(("\n%d\t%.17g\t"):format(layer, info[layer].accuracy), 1, true), data)
        end
        local text = files.script(([[
            local steer = require "steer"
            local lm = steer.model("tests/fixtures/demo-model", { device = "cpu" })
            local p = require("dkjson").decode(io.open("tests/fixtures/demo/prompts.json"):read "*a")
            local _, info = lm:direction { positive = p.happy, negative = p.sad, layers = { 4, 5 } }
            info:plot()]]))
        assert.truthy(text:find("held out", 1, true), text)
        assert.truthy(text:find("mean_difference of 96", 1, true), text)
        fails("invalid_argument", "self", info.plot)
    end)

    it("says what is wrong", function()
        local function f(opts) return lm:direction(opts) end
        local one, two = { "a b" }, { "a b", "c d" }
        fails("invalid_argument", "negative: 1 prompt, expected 2", f, { positive = two, negative = one })
        fails("invalid_argument", "positive: expected a list", f, { negative = two })
        fails("invalid_argument", "positive[2]: its prompt has no tokens", f,
            { positive = { "a", { tokens = {} } }, negative = two })
        fails("invalid_argument", "method", f, { positive = two, negative = two, method = "caa" })
        fails("invalid_argument", "folds: 3, expected at most 2: a list has no more prompts", f,
            { positive = two, negative = two, folds = 3 })
        fails("invalid_argument", "folds: 1 is out of range", f, { positive = two, negative = two, folds = 1 })
        fails("invalid_argument", "held_out", f, { positive = two, negative = two, folds = 2, held_out = 0.5 })
        fails("invalid_argument", "l2: method lda has no", f,
            { positive = two, negative = two, method = "lda", l2 = 1 })
        fails("invalid_argument", "layers[1]", f, { positive = two, negative = two, layers = { 8 } })
        fails("invalid_argument", "layer 0: positive: its mean is that of negative", f,
            { positive = two, negative = two })
        fails("invalid_argument", "negative: 2 prompts, and 96 positive ones: pca takes pairs", f,
            { positive = happy, negative = two, method = "pca" })
        fails("invalid_argument", "fold 1 of 2: layer 0: positive: neither set varies", f,
            { positive = two, negative = { "e f", "g h" }, method = "lda" })
    end)
end)
