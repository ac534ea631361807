--- Directions from prompts: a direction per layer that tells two sets of prompts apart, with cross-validated accuracy.
local capture = require "steer.capture"
local check = require "steer.core.check"
local extract = require "steer.extract"
local options = require "steer.core.options"
local shuffle = require "steer.core.shuffle"
local T = require "steer.tensor"

local raise = require("steer.core.error").raise

local M = {}

-- ---- What was found ------------------------------------------------------------------------------------------------

local Info = {}
Info.__topic = "direction" -- the topic for help
require("steer.core.class").strict(Info, "what lm:direction gives second", { best = true, folds = true })

local function number(format, value) return value and format:format(value) or "-" end

--- Writes the accuracies as a table.
function Info:__tostring()
    local how = self.folds and ("%d folds"):format(self.folds) or "the last ones held out"
    local lines = {
        ("%s of %d positive and %d negative prompts, %s"):format(self.method, self.positive, self.negative,
            self.best and how or "none held out"),
        "layer  |direction|  held out  accuracy on its own prompts",
    }
    local ties = 0
    for _, layer in ipairs(self.layers) do
        local row = self[layer]
        lines[#lines + 1] = ("%5d  %11.3f  %8s  %27.3f%s"):format(layer, row.norm, number("%.3f", row.accuracy),
            row.train_accuracy, layer == self.best and "  <- best" or "")
        if self.best and row.accuracy == self[self.best].accuracy then ties = ties + 1 end
    end
    if ties > 1 then
        lines[#lines + 1] = ("(best: the first of %d equal layers; where steering works, lm:grid tells)"):format(ties)
    end
    return table.concat(lines, "\n")
end

local function line_of(info, name, field)
    local line = { name = name, x = info.layers, y = {} }
    for i, layer in ipairs(info.layers) do line.y[i] = info[layer][field] end
    return line
end

--- Draws held-out accuracy by layer: in the terminal, or with `out` as pictures.
-- @tparam[opt] table opts as steer.plot has them, such as out, the path of the pictures
-- @treturn table the paths of what was written, nothing without `out`; not_found where gnuplot is missing
function Info:plot(opts)
    if getmetatable(self) ~= Info then
        raise("invalid_argument", "direction_plot", "self: expected what lm:direction gives second, got %s; call it "
            .. "with a colon", check.describe(self))
    end
    local lines = { line_of(self, "its own", "train_accuracy") }
    if self.best then table.insert(lines, 1, line_of(self, "held out", "accuracy")) end
    return require("steer.plot").present(lines, {
        title = tostring(self):match "^[^\n]*", xlabel = "layer", ylabel = "accuracy", legend = "prompts",
        hline = { at = 0.5, label = "chance" }, vline = self.best and { at = self.best, label = "best" } or nil,
    }, opts)
end

-- ---- Folds ---------------------------------------------------------------------------------------------------------

local function between(tensor, from, to) return tensor:narrow(1, from, to - from + 1) end

local function without(tensor, from, to)
    local n, parts = tensor:size(1), {}
    if from > 1 then parts[1] = between(tensor, 1, from - 1) end
    if to < n then parts[#parts + 1] = between(tensor, to + 1, n) end
    return #parts == 1 and parts[1] or T.cat(parts, 1)
end

-- Accuracy by layer (from 0) of directions on a fold, which are made of the other rows.
local function try_fold(make, sets, fold, folds)
    local train, kept = {}, {}
    for _, name in ipairs { "positive", "negative" } do
        local set = sets[name]
        local n = set:size(1)
        local from, to = math.floor((fold - 1) * n / folds) + 1, math.floor(fold * n / folds)
        train[name], kept[name] = without(set, from, to), between(set, from, to)
    end
    local ok, directions, infos = pcall(make, train.positive, train.negative)
    if not ok then
        if type(directions) == "table" and directions.message and directions.code ~= "interrupted" then
            directions.message = ("fold %d of %d: %s"):format(fold, folds, directions.message)
        end
        error(directions, 0)
    end
    local accuracies = {}
    for layer = 0, #directions do
        accuracies[layer] = extract.accuracy(directions[layer], infos[layer].threshold,
            kept.positive:select(2, layer + 1), kept.negative:select(2, layer + 1))
    end
    return accuracies, kept.positive:size(1) + kept.negative:size(1)
end
jit.off(try_fold) -- it walks a table: see steer/core/tables.lua

-- Mean accuracy by layer over all folds, each prompt counting once, and those of the folds.
local function cross_validate(make, sets, folds, seed)
    local n, m, mixed = sets.positive:size(1), sets.negative:size(1), {}
    mixed.positive = shuffle.rows(sets.positive, shuffle.order(n, seed))
    mixed.negative = shuffle.rows(sets.negative, shuffle.order(m, n == m and seed or seed + 1)) -- pairs stay pairs
    local means, each = {}, {}
    for fold = 1, folds do
        local accuracies, count = try_fold(make, mixed, fold, folds)
        for layer = 0, #accuracies do
            each[layer] = each[layer] or {}
            each[layer][fold] = accuracies[layer]
            means[layer] = (means[layer] or 0) + accuracies[layer] * count / (n + m)
        end
    end
    return means, each
end

-- ---- Finding directions --------------------------------------------------------------------------------------------

-- Methods, with the options of theirs that are options here.
local METHODS = {
    mean_difference = { "normalize" }, pca = {}, lat = { "seed" }, probe = { "l2" }, lda = { "shrinkage" },
}
local OPTIONS = {
    positive = true, negative = true, method = "string", layers = true, tokens = true, at = "string", spec = true,
    folds = "number", held_out = "number", seed = "number", l2 = "number", shrinkage = true, normalize = "boolean",
    max_tokens = "number", temperature = "number",
}

-- The method as a function of two sets.
local function read_method(op, opts)
    local name = opts.method or "mean_difference"
    if not METHODS[name] then
        raise("invalid_argument", op, "method: %s, expected %s", check.describe(name), options.choice(METHODS))
    end
    local passed = {}
    for _, key in ipairs(METHODS[name]) do passed[key] = opts[key] end
    for _, key in ipairs { "l2", "shrinkage", "normalize" } do
        if opts[key] ~= nil and passed[key] == nil then
            raise("invalid_argument", op, "%s: method %s has no such option", key, name)
        end
    end
    return function(positive, negative) return extract[name](positive, negative, passed) end, name
end

local function read_folds(op, opts, n, m)
    if opts.held_out then
        if opts.folds then raise("invalid_argument", op, "held_out: it does not go with folds, expected one") end
        if not (opts.held_out >= 0 and opts.held_out < 1) then
            raise("invalid_argument", op, "held_out: %g, expected 0 to less than 1", opts.held_out)
        end
        return nil
    end
    local least = math.min(n, m)
    if not opts.folds or opts.folds == 0 then return opts.folds or math.min(5, least) end
    if opts.folds > least then
        raise("invalid_argument", op, "folds: %.14g, expected at most %d: a list has no more prompts", opts.folds,
            least)
    end
    return check.integer(op, "folds", opts.folds, 2)
end

-- Directions and what is said of them by layer from 0, with accuracies of held-out prompts.
local function find(make, sets, folds, share, seed)
    if folds then
        local vectors, infos = make(sets.positive, sets.negative)
        local means, each = {}, {}
        if folds > 0 then means, each = cross_validate(make, sets, folds, seed) end
        return vectors, infos, means, each
    end
    local kept, train = {}, {}
    for _, name in ipairs { "positive", "negative" } do
        local n = sets[name]:size(1)
        kept[name] = math.floor(n * share)
        train[name] = between(sets[name], 1, n - kept[name])
    end
    local vectors, infos = make(train.positive, train.negative)
    local accuracies = {}
    for layer = 0, kept.positive > 0 and kept.negative > 0 and #vectors or -1 do
        local function of(name)
            local n = sets[name]:size(1)
            return between(sets[name], n - kept[name] + 1, n):select(2, layer + 1)
        end
        accuracies[layer] = extract.accuracy(vectors[layer], infos[layer].threshold, of "positive", of "negative")
    end
    return vectors, infos, accuracies, {}
end

--- Finds a direction per layer that tells two sets of prompts apart, and how well it does on prompts that it was not
-- made from.
-- The methods are those of steer.extract: "mean_difference", "pca" (of pairs), "lat" (PCA of random pairs), "probe"
-- (logistic regression) and "lda" (difference of means, whitened). Accuracy is measured by cross-validation: the
-- prompts are split at random into folds, pairs staying together where both lists are of one length; a direction and a
-- threshold made from the others judge each fold. The direction that is returned is made from all prompts.
-- @param lm the model: lm:direction{...}
-- @tparam table opts positive and negative (lists of prompts as lm:capture takes them), method (default
-- "mean_difference"), layers, at, spec, max_tokens, temperature (as lm:capture), tokens ("last", the default, or "all",
-- "response" or positions, of which each prompt's mean is taken), folds (default 5, or as many as there are prompts; 0:
-- none), seed (0: of the folds, of "lat" and of what is generated), held_out (a share: keeps the last prompts of each
-- list for the accuracy instead, and makes the direction from the others), and of the methods l2, shrinkage, normalize
-- @treturn table {[layer] = tensor [hidden]}
-- @treturn table by layer {accuracy = on held-out prompts, folds = of each fold, train_accuracy, threshold, norm, and
-- what the method says}; best = first layer of the best accuracy, layers, method. print shows a table, info:plot()
-- draws it
function M.direction(lm, opts)
    local op = "direction"
    opts = options.check(op, opts, OPTIONS)
    local make, method = read_method(op, opts)
    local which, seed, sets, given = opts.tokens or "last", check.integer(op, "seed", opts.seed or 0, 0), {}, nil
    for _, name in ipairs { "positive", "negative" } do
        check.list(op, name, opts[name], "a list of prompts")
        if #opts[name] < 2 then
            raise("invalid_argument", op, "%s: %d prompt%s, expected 2 or more", name, #opts[name],
                #opts[name] == 1 and "" or "s")
        end
    end
    if method == "pca" and #opts.positive ~= #opts.negative then
        raise("invalid_argument", op, "negative: %d prompts, and %d positive ones: pca takes pairs, expected as many",
            #opts.negative, #opts.positive)
    end
    local folds = read_folds(op, opts, #opts.positive, #opts.negative)
    for _, name in ipairs { "positive", "negative" } do
        sets[name], given = capture.capture_as(lm, op, name, opts[name], {
            layers = opts.layers, at = opts.at, spec = opts.spec, tokens = which,
            reduce = which ~= "last" and "mean" or nil, max_tokens = opts.max_tokens, temperature = opts.temperature,
            seed = opts.max_tokens and seed or nil,
        })
    end
    local vectors, infos, means, each = find(make, sets, folds, opts.held_out, seed)
    local directions, info = {}, setmetatable({
        method = method, layers = given.layers, positive = #opts.positive, negative = #opts.negative, folds = folds,
    }, Info)
    for i, layer in ipairs(given.layers) do
        local row = infos[i - 1]
        directions[layer], info[layer] = vectors[i - 1], row
        row.train_accuracy, row.accuracy, row.folds = row.accuracy, means[i - 1], each[i - 1]
        row.norm = vectors[i - 1]:norm()
        if row.accuracy and row.accuracy > (info.best and info[info.best].accuracy or -1) then info.best = layer end
    end
    return directions, info
end

return M
