--- How the cases of a grid are measured: several in a batch, a row of numbers for each prompt.
--
-- A way of measuring has `sequences` (how many of them a case needs) and `run(grid, cases, how)`, which gives for each
-- case its metrics: name -> list of a number for each prompt.
local jobs = require "steer._jobs"
local raise = require("steer._error").raise
local walk = require "steer._walk"

local M = {}

local OP = "grid"
local CPU_BATCH, GPU_BATCH = 128, 1024 -- sequences of a batch; more than run at once wait in the session

--- The spec of a case.
function M.spec_of(grid, case)
    local op = grid.op(grid.vectors[case.layer], case.scale, grid.steering)
    return require("steer.spec").spec { [case.layer] = { op } }
end

-- Calls f(case's spec, prompt, number) for all cases and prompts; gives the list of what it gave.
local function requests_of(grid, cases, f)
    local list = {}
    for _, case in ipairs(cases) do
        local spec = M.spec_of(grid, case)
        for i, prompt in ipairs(grid.prompts) do list[#list + 1] = f(spec, prompt, i) end
    end
    return list
end

-- Calls f(result, number of its prompt, case), which gives metrics, for results in the order of requests_of.
local function metrics_of(grid, cases, results, f)
    local all, at = {}, 0
    for c, case in ipairs(cases) do
        all[c] = {}
        for i = 1, #grid.prompts do
            at = at + 1
            local values = f(results[at], i, case)
            for _, name in ipairs(walk.keys(values)) do
                all[c][name] = all[c][name] or {}
                all[c][name][i] = values[name]
            end
        end
    end
    return all
end

local ways = {}

-- ---- Scores --------------------------------------------------------------------------------------------------------

ways.score = { metric = "logit_difference" }

function ways.score.sequences(grid)
    local most = 0
    for _, prompt in ipairs(grid.prompts) do most = most + #prompt.options end
    return most * (grid.twin and 2 or 1)
end

function ways.score.run(grid, cases, how)
    local requests = requests_of(grid, cases, function(spec, prompt)
        return { tokens = prompt.tokens, options = prompt.options, spec = spec, twin = grid.twin }
    end)
    local scores = require("steer.score").score_in(grid.lm, requests, how)
    return metrics_of(grid, cases, scores, function(list)
        local first = list[1]
        return {
            logit_difference = first.logit_difference, probability = first.probability, logprob = first.logprob,
            kl = first.twin and first.twin.kl[1], -- of the token after the prompt
        }
    end)
end

-- ---- Generated text ------------------------------------------------------------------------------------------------

ways.generate = { metric = "kl" }

function ways.generate.sequences(grid) return #grid.prompts * (grid.twin and 2 or 1) end

local function sum(list)
    local total = 0
    for _, x in ipairs(list) do total = total + x end
    return total
end

-- Of the results of lm:generate: what the twin says, and what the caller's function does.
local function metrics_of_text(grid, result, i, case)
    local values = { tokens = #result.tokens }
    local twin = result.twin
    if twin and #result.tokens > 0 then
        values.kl, values.perplexity = twin.mean_kl, math.exp(-sum(twin.logprobs) / #result.tokens)
    end
    if not grid.metric then return values end
    local own = grid.metric(result, i, case)
    if type(own) == "table" then
        for _, name in ipairs(walk.keys(own)) do values[name] = own[name] end
    else
        values.metric = own
    end
    return values
end

function ways.generate.run(grid, cases, how)
    local requests = requests_of(grid, cases, function(spec, prompt)
        local request = { tokens = prompt.tokens, spec = spec, twin = grid.twin }
        for _, key in ipairs(walk.keys(grid.generate)) do request[key] = grid.generate[key] end
        return request
    end)
    local results = require("steer.generate").generate_in(grid.lm, requests, how)
    return metrics_of(grid, cases, results, function(result, i, case) return metrics_of_text(grid, result, i, case) end)
end

-- ---- A function of the caller's ------------------------------------------------------------------------------------

ways.metric = { metric = "metric" }

function ways.metric.sequences() return math.huge end -- a case at a time

-- A metric's numbers: one for each prompt where there are prompts, or one for all.
local function as_list(grid, name, value)
    if type(value) ~= "table" then return { value } end
    if #grid.prompts > 0 and #value ~= #grid.prompts then
        raise("invalid_argument", OP, "%s: %d numbers, expected one for each of %d prompts", name, #value,
            #grid.prompts)
    end
    return value
end

function ways.metric.run(grid, cases)
    local all = {}
    for c, case in ipairs(cases) do
        local own = grid.metric(M.spec_of(grid, case), case)
        local named = type(own) == "table" and type(walk.first(own)) == "string"
        all[c] = {}
        for _, name in ipairs(named and walk.keys(own) or {}) do all[c][name] = as_list(grid, name, own[name]) end
        if not named then all[c].metric = as_list(grid, "metric", own) end
    end
    return all
end

-- ---- Batches -------------------------------------------------------------------------------------------------------

--- Ways of measuring by the option that asks for them; `metric` is what each is about.
M.ways = ways

-- Raises where a metric is not a finite number, naming the prompt.
local function check_values(grid, metrics)
    for _, name in ipairs(walk.keys(metrics)) do
        local list = metrics[name]
        for i = 1, math.max(#list, grid.way == ways.metric and 1 or #grid.prompts) do
            local value = list[i]
            if type(value) ~= "number" or value ~= value or math.abs(value) == math.huge then
                raise("invalid_argument", OP, "prompts[%d]: %s is %s, expected a finite number", i, name,
                    tostring(value))
            end
        end
    end
end

local function key_of(case) return ("%.17g %.17g"):format(case.layer, case.scale) end

-- Measures cases; where one of several fails, each alone, so that the others keep their results.
local function measure(grid, cases, how)
    local ok, all = pcall(grid.way.run, grid, cases, how)
    if not ok and require("steer._error").is_interrupt(all) then error(all, 0) end
    if ok or #cases == 1 then
        for i, case in ipairs(cases) do
            grid.known[key_of(case)] = { metrics = ok and all[i], err = not ok and all or nil }
        end
        return
    end
    for _, case in ipairs(cases) do measure(grid, { case }, how) end
end

-- Cases that leave the beginnings of prompts alone, and twins, find them in the cache.
local function begin(grid, cases, how)
    if #grid.prompts == 0 or not (grid.twin or grid.steering.where or grid.steering.exclude) then return end
    local needs, prompts = {}, {}
    for i, prompt in ipairs(grid.prompts) do
        prompts[i] = prompt.tokens
        for _ = 1, #cases * (grid.twin and 2 or 1) do
            needs[#needs + 1] = #prompt.tokens + (grid.generate.max_tokens or 0)
        end
    end
    jobs.begin(grid.lm, OP, prompts, needs, grid.twin, how.each, grid.room)
end

-- The case and those after it that go into one batch.
local function batch_of(grid, case, cases)
    local most, from = grid.lm.device == "cpu" and CPU_BATCH or GPU_BATCH, 1
    local count = math.max(1, math.floor(most / grid.way.sequences(grid)))
    while key_of(cases[from]) ~= key_of(case) do from = from + 1 end
    return { unpack(cases, from, math.min(#cases, from + count - 1)) }
end

--- Measures a case of a sweep, and those after it in the same batch, whose results it remembers.
-- @tparam table grid what grid.lua makes of its options
-- @tparam table case
-- @tparam table ctx of the sweep
-- @treturn table metrics (means over prompts) and samples (the prompts') as a sweep takes them
function M.run(grid, case, ctx)
    local key = key_of(case)
    if not grid.known[key] then
        local how = { room = grid.room, each = function() ctx.progress(0.5) end }
        local cases = batch_of(grid, case, ctx.cases)
        begin(grid, cases, how)
        measure(grid, cases, how)
    end
    local result = grid.known[key]
    grid.known[key] = nil
    if result.err then error(result.err, 0) end
    check_values(grid, result.metrics)
    local out = { samples = {} }
    for _, name in ipairs(walk.keys(result.metrics)) do
        out[name], out.samples[name] = sum(result.metrics[name]) / #result.metrics[name], result.metrics[name]
    end
    return out
end

return M
