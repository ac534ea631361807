--- Finds the strength of a spec at which it changes what a model says by a given amount.
--
-- The amount is a quantile over tokens of KL(steered || unsteered), of the distributions of the next token over the
-- whole vocabulary: tokens that the steered model generates, an unsteered twin fed the same ones. So strengths of
-- different specs, layers and models become comparable, and stay where text is still text.
local check = require "steer.core.check"
local jobs = require "steer.model.jobs"
local kept = require "steer.model.kept"
local options = require "steer.core.options"
local twins = require "steer.model.twin"

local raise = require("steer.core.error").raise

local M = {}

local OP = "calibrate"
local EACH = 8 -- strengths of a round
local FIRST = 2 ^ -4 -- the least one of the first round; the next ones are twice the one before
local LEAST, MOST = 2 ^ -28, 2 ^ 20
local WIDTH = 1e-3 -- of the interval that is left, in shares of its end, below which the search is at an end

local OPTIONS = {
    prompts = true, kl = "number", quantile = "number", tokens = "number", tolerance = "number",
    temperature = "number", top_k = "number", top_p = "number", seed = "number", ignore_eos = "boolean",
}
local PASSED = { "temperature", "top_k", "top_p", "seed", "ignore_eos" }

-- ---- Measuring -----------------------------------------------------------------------------------------------------

-- The value below which the share q of a sorted list lies, between neighbours by proportion.
local function quantile(sorted, q)
    local at = 1 + (#sorted - 1) * q
    local low = math.floor(at)
    local a, b = sorted[low], sorted[math.min(low + 1, #sorted)]
    return a == b and a or a + (b - a) * (at - low)
end

-- What the tokens of all prompts of one strength say.
local function point_of(scale, kls, q)
    local total = 0
    for _, kl in ipairs(kls) do total = total + kl end
    table.sort(kls)
    return { scale = scale, kl = quantile(kls, q), mean = total / #kls, tokens = #kls }
end

-- Computes the prompts without the spec: sequences begin below what is steered, and twins find them in the cache. Gives
-- what is kept of them; nil for a spec that steers the embeddings.
local function begin(search)
    local spec, needs, longest = search.spec_of(FIRST), {}, 0
    for _, ids in ipairs(search.prompts) do
        longest = math.max(longest, #ids + search.tokens)
        for _ = 1, 2 * EACH do needs[#needs + 1] = #ids + search.tokens end
    end
    require("steer.spec").handles(OP, spec) -- it is one, also where a function of the caller's gives it
    local first = spec:layers()[1] or 0
    local layers = first > 0 and { first - 1, first } or { 0 } -- the first of both for a spec at attention
    local parts = first < search.lm.layers and not spec.embed
        and kept.parts(search.lm, OP, search.prompts, layers, longest, true)
    if parts and #parts == 1 then return kept.keep(search.lm, OP, search.prompts, layers, needs, true) end
    jobs.begin(search.lm, OP, search.prompts, needs, true)
end

-- Measures strengths in one batch: for each the list of KL of all tokens. Where logits are not finite, neither is KL.
local function measure(search, scales)
    local list, points, own = {}, {}, search.kept
    for _, scale in ipairs(scales) do
        local spec = search.spec_of(scale)
        for i, ids in ipairs(search.prompts) do
            local request = { tokens = ids, spec = spec, twin = true, max_tokens = search.tokens,
                from = own and own.of[ids] }
            for _, key in ipairs(PASSED) do request[key] = search.opts[key] end
            list[#list + 1] = { request = request, name = ("prompts[%d]"):format(i) }
        end
    end
    jobs.run(search.lm, OP, list, nil, function(session, ids)
        local n = #search.prompts
        for s, scale in ipairs(scales) do
            local kls = {}
            for i = 1, n do
                local id = ids[(s - 1) * n + i]
                for _, kl in ipairs(twins.read(session, id, {}).kl) do kls[#kls + 1] = kl == kl and kl or math.huge end
                if session:status(id).state == "failed" then kls[#kls + 1] = math.huge end
            end
            points[s] = point_of(scale, kls, search.quantile)
        end
    end, { kept = own })
    return points
end

-- ---- Searching -----------------------------------------------------------------------------------------------------

-- The strengths of the next round: doubling from where the last one ended until one is enough, then evenly between the
-- last that is not enough and the first that is.
local function next_scales(search)
    local low, high, scales = search.low, search.high, {}
    for i = 1, EACH do
        if not high then
            scales[i] = (low and low.scale * 2 or FIRST) * 2 ^ (i - 1)
        elseif not low then
            scales[i] = high.scale * 2 ^ (i - 1 - EACH)
        else
            scales[i] = low.scale + (high.scale - low.scale) * i / (EACH + 1)
        end
    end
    return scales
end

-- Takes a round's points, which rise in strength, into the search: the first that is enough is its upper end.
local function take(search, points)
    local enough = false
    for _, point in ipairs(points) do
        table.insert(search.points, point)
        if not enough and point.kl >= search.kl then
            search.high, enough = point, true
        elseif not enough then
            search.low = point
        end
    end
end

local function distance(search, point) return math.abs(point.kl - search.kl) end

-- The nearest of both ends, nil while it is not near enough.
local function near_enough(search)
    local best
    for _, point in ipairs { search.low or search.high, search.high or search.low } do
        if not best or distance(search, point) < distance(search, best) then best = point end
    end
    return distance(search, best) <= search.tolerance * search.kl and best or nil
end

local function refuse(search, what, point)
    raise("invalid_argument", OP,
        "kl: %g is not reached: %s %g, the %g quantile of KL is %.4g nats over %d tokens of %d %s", search.kl, what,
        point.scale, search.quantile, point.kl, point.tokens, #search.prompts,
        #search.prompts == 1 and "prompt" or "prompts")
end

local function find(search)
    while true do
        take(search, measure(search, next_scales(search)))
        local low, high = search.low, search.high
        local found = near_enough(search)
        if found then return found end
        if not high and low.scale >= MOST then refuse(search, "even at strength", low) end
        if not low and high.scale <= LEAST then refuse(search, "already at strength", high) end
        -- It jumps here, as choices of tokens do: below the jump.
        if low and high and high.scale - low.scale <= WIDTH * high.scale then return low end
    end
end

-- ---- The curve -----------------------------------------------------------------------------------------------------

local Curve = {}
Curve.__topic = "calibrate" -- the topic for help
require("steer.core.class").strict(Curve, "a curve", {})

local BAR = 40 -- characters of the greatest bar

function Curve:__tostring()
    local lines = { ("strength %.4g: the %g quantile of KL is %.3g nats, %s %g; %d tokens of %d %s"):format(self.scale,
        self.quantile, self.kl, self.reached and "as asked for:" or "it jumps at the asked-for", self.target,
        self.tokens, self.prompts, self.prompts == 1 and "prompt" or "prompts"),
        "  strength          KL     mean KL" }
    for _, point in ipairs(self) do
        local length = math.min(point.kl / self.target, 2) * BAR / 2
        lines[#lines + 1] = (("%10.4g  %10.4g  %10.4g  %s%s"):format(point.scale, point.kl, point.mean,
            ("#"):rep(math.floor(length + 0.5)), point.scale == self.scale and " <-" or ""):gsub("%s+$", ""))
    end
    return table.concat(lines, "\n")
end

--- Draws KL over the strengths, and what was asked for: in the terminal, or with `out` as pictures.
-- @tparam[opt] table opts as steer.plot has them
-- @treturn table the paths of what was written, nothing without `out`; not_found where gnuplot is missing
function Curve:plot(opts)
    local line = { x = {}, y = {} }
    for i, point in ipairs(self) do line.x[i], line.y[i] = point.scale, point.kl end
    return require("steer.plot").present(line, {
        title = tostring(self):match "^[^\n]*", xlabel = "strength",
        ylabel = ("KL, its %g quantile"):format(self.quantile), hline = { at = self.target, label = "asked for" },
        vline = { at = self.scale, label = "found" }, xlim = { max = 2 * self.scale }, ylim = { max = 2 * self.target },
    }, opts)
end

local function curve_of(search, found)
    local curve = {
        scale = found.scale, kl = found.kl, tokens = found.tokens, target = search.kl, quantile = search.quantile,
        prompts = #search.prompts, reached = distance(search, found) <= search.tolerance * search.kl,
    }
    for i, point in ipairs(search.points) do curve[i] = point end
    table.sort(curve, function(a, b) return a.scale < b.scale end)
    return setmetatable(curve, Curve)
end

-- ---- Public --------------------------------------------------------------------------------------------------------

local function read_prompts(lm, prompts)
    if type(prompts) == "string" then prompts = { prompts } end
    jobs.check_list(OP, "prompts", prompts)
    local list = {}
    for i, prompt in ipairs(prompts) do list[i] = lm:tokens_of(OP, prompt, ("prompts[%d]"):format(i)) end
    return list
end

local function number(opts, name, default, least, most)
    local value = opts[name] or default
    if not (value > least and value <= most) then
        raise("invalid_argument", OP, "%s: %g, expected more than %g and at most %g", name, value, least, most)
    end
    return value
end

-- What gives the spec of a strength.
local function spec_function(spec)
    if type(spec) == "function" then return spec end
    require("steer.spec").handles(OP, spec) -- it is one
    if spec:is_empty() then raise("invalid_argument", OP, "spec: it is empty, no strength of it steers anything") end
    return function(scale) return spec:scaled(scale) end
end

--- Finds the strength at which a quantile of KL(steered || unsteered) over generated tokens has a given value.
-- Eight strengths run in one batch, for each of the prompts, until one is near enough: first doubling, then evenly
-- between the two that enclose it. Where KL jumps, because other tokens are chosen, it is the greatest strength before
-- the jump. The same seed gives the same result. (The criterion of iso-KL calibration; Arditi et al. 2024,
-- arXiv:2406.11717, limit the mean.)
-- @param lm the model: lm:calibrate(spec, opts)
-- @param spec spec of add and ablate operations, which is multiplied, or function(strength) that gives a spec
-- @tparam table opts prompts (list as lm:generate takes them), kl (nats, default 1), quantile (default 0.95), tokens
-- (to generate for each prompt, default 50), tolerance (share of kl, default 0.02), temperature, top_k, top_p, seed,
-- ignore_eos
-- @treturn number strength, for spec:scaled(strength)
-- @treturn table the curve: a list of {scale, kl, mean, tokens} in order of strength, printed as a table; scale, kl,
-- tokens of what was found, reached (false where KL jumps over what was asked for); plot(opts) draws it
-- @raise invalid_argument where no strength reaches kl, which says how far it goes
function M.calibrate(lm, spec, opts)
    opts = options.check(OP, opts, OPTIONS)
    local prompts = read_prompts(lm, opts.prompts)
    local search = {
        lm = lm, opts = opts, spec_of = spec_function(spec), prompts = prompts, points = {},
        kl = number(opts, "kl", 1, 0, 1e6), quantile = number(opts, "quantile", 0.95, 0, 1),
        tolerance = number(opts, "tolerance", 0.02, 0, 1), tokens = check.integer(OP, "tokens", opts.tokens or 50, 1),
    }
    for i, ids in ipairs(prompts) do
        if #ids + search.tokens > lm.context then
            raise("invalid_argument", OP, "prompts[%d]: %d tokens and %d to generate, the model's context is %d", i,
                #ids, search.tokens, lm.context)
        end
    end
    search.kept = begin(search)
    local ok, found = pcall(find, search)
    if search.kept then kept.release(lm, search.kept) end
    if not ok then error(found, 0) end
    return found.scale, curve_of(search, found)
end

return M
