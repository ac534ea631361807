--- How the cases of a grid are measured: several in a batch, a row of numbers for each prompt.
--
-- A way of measuring has `sequences` (how many of them a case needs) and `run(grid, cases, how)`, which gives for each
-- case its metrics: name -> list of a number for each prompt.
local check = require "steer.core.check"
local jobs = require "steer.model.jobs"
local kept = require "steer.model.kept"
local raise = require("steer.core.error").raise
local tables = require "steer.core.tables"

local M = {}

local OP = "grid"
local CPU_BATCH, GPU_BATCH = 128, 1024 -- sequences of a batch; more than run at once wait in the session

--- The spec of a case.
function M.spec_of(grid, case)
    local op = grid.op(grid.vectors[case.layer], case.scale, grid.steering)
    return require("steer.spec").spec { [case.layer] = { op } }
end

-- Calls f(case's spec, prompt, case) for all cases and prompts; gives the list of what it gave.
local function requests_of(grid, cases, f)
    local list = {}
    for _, case in ipairs(cases) do
        local spec = M.spec_of(grid, case)
        for _, prompt in ipairs(grid.prompts) do list[#list + 1] = f(spec, prompt, case) end
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
            local values = f(results[at], (grid.before or 0) + i, case)
            for _, name in ipairs(tables.keys(values)) do
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

-- Sequences of a prompt of a case.
local function sequences_of(grid, prompt)
    local together = not prompt.options or require("steer.score").are_together(prompt.options, grid.twin)
    return (together and 1 or #prompt.options) * (grid.twin and 2 or 1)
end

function ways.score.sequences(grid)
    local most = 0
    for _, prompt in ipairs(grid.prompts) do most = most + sequences_of(grid, prompt) end
    return most
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

local TAKEN = { samples = true, path = true } -- of what a sweep's run returns

-- Of the results of lm:generate: what the twin says, and what the caller's function does.
local function metrics_of_text(grid, result, i, case)
    local values = { tokens = #result.tokens }
    local twin = result.twin
    if twin and #result.tokens > 0 then
        values.kl, values.perplexity = twin.mean_kl, math.exp(-sum(twin.logprobs) / #result.tokens)
    end
    if not grid.metric then return values end
    local own = grid.metric(result, i, case)
    if own == nil then raise("invalid_argument", OP, "prompts[%d]: metric is nil, expected a finite number", i) end
    if type(own) == "table" then
        for _, name in ipairs(tables.keys(own)) do
            if TAKEN[name] then
                raise("invalid_argument", OP, 'prompts[%d]: metric: "%s" is the name of something else', i, name)
            end
            values[name] = own[name]
        end
    else
        values.metric = own
    end
    return values
end

function ways.generate.run(grid, cases, how)
    local requests = requests_of(grid, cases, function(spec, prompt, case)
        local request = { tokens = prompt.tokens, spec = spec, twin = grid.twin }
        for _, key in ipairs(tables.keys(grid.generate)) do request[key] = grid.generate[key] end
        if (case.repeats or 1) > 1 then -- past the last seed they start over
            request.seed = ((request.seed or 0) % check.MAX_INTEGER + case.repeats - 1) % check.MAX_INTEGER
        end
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
        local named = type(own) == "table" and type(tables.first(own)) == "string"
        all[c] = {}
        for _, name in ipairs(named and tables.keys(own) or {}) do all[c][name] = as_list(grid, name, own[name]) end
        if not named then all[c].metric = as_list(grid, "metric", own) end
    end
    return all
end

-- ---- Batches -------------------------------------------------------------------------------------------------------

--- Ways of measuring by the option that asks for them; `metric` is what each is about.
M.ways = ways

-- Raises where a metric is not a finite number, naming the prompt.
local function check_values(grid, metrics)
    for _, name in ipairs(tables.keys(metrics)) do
        local list = metrics[name]
        for i = 1, math.max(#list, grid.way == ways.metric and 1 or #grid.prompts) do
            local value = list[i]
            if type(value) ~= "number" or value ~= value or math.abs(value) == math.huge then
                raise("invalid_argument", OP, "prompts[%d]: %s is %s, expected a finite number", i, name,
                    type(value) == "number" and tostring(value) or check.describe(value))
            end
        end
    end
end

local function key_of(case) return ("%.17g %.17g %d"):format(case.layer, case.scale, case.repeats or 1) end

-- ---- Prompts that are computed once --------------------------------------------------------------------------------

--- Positions of the longest sequence of a prompt.
function M.length_of(grid, prompt)
    local given, more = #prompt.tokens, 0
    if grid.way == ways.generate then
        more = grid.generate.max_tokens or require("steer.generate").default_tokens(grid.lm, given)
    end
    for _, ids in ipairs(prompt.options or {}) do more = math.max(more, #ids) end
    return given + more
end

-- Positions of all sequences of `count` cases.
local function needs_of(grid, count)
    local needs = {}
    for _, prompt in ipairs(grid.prompts) do
        for _ = 1, count * sequences_of(grid, prompt) do
            needs[#needs + 1] = M.length_of(grid, prompt)
        end
    end
    return needs
end

local function tokens_of(prompts)
    local list = {}
    for i, prompt in ipairs(prompts) do list[i] = prompt.tokens end
    return list
end

-- Layers up to which the cases are all alike, if their states are worth an unsteered pass.
local function common_layers(grid, cases)
    local below = ({ embed = math.huge, attention = 1 })[grid.steering.at] or 0
    local seen, layers, saved = {}, {}, 0
    for _, case in ipairs(cases) do
        local layer = case.layer - below
        saved = saved + math.max(0, layer + 1) / grid.lm.layers
        if layer >= 0 and not seen[layer] then layers[#layers + 1], seen[layer] = layer, true end
    end
    table.sort(layers)
    return saved > 1 and layers or {}
end

-- Decides which prompts are kept at a time: grid.parts, one of all where none is.
local function choose_parts(grid, cases)
    grid.layers_kept = #grid.prompts > 0 and grid.way ~= ways.metric and common_layers(grid, cases) or {}
    if #grid.layers_kept > 0 then
        local longest = 0
        for _, prompt in ipairs(grid.prompts) do longest = math.max(longest, M.length_of(grid, prompt)) end
        grid.parts = kept.parts(grid.lm, OP, tokens_of(grid.prompts), grid.layers_kept, longest,
            grid.twin, grid.budget)
    end
    if grid.parts then return end
    grid.parts, grid.layers_kept = { { first = 1, last = #grid.prompts, room = grid.room } }, {}
end

-- Computes the prompts of a part, for `count` cases at a time: what is kept of them, nil where nothing is. Cases that
-- leave the beginnings of prompts alone, and twins, find these in the cache in any case.
local function begin(grid, count, each, room)
    local prompts, needs = tokens_of(grid.prompts), needs_of(grid, count)
    local how = { each = each, room = room }
    if #grid.layers_kept > 0 then
        local own = kept.keep(grid.lm, OP, prompts, grid.layers_kept, needs, grid.twin, how)
        if own then return own end
    end
    if #prompts > 0 and (grid.twin or grid.steering.where or grid.steering.exclude) then
        jobs.begin(grid.lm, OP, prompts, needs, grid.twin, each, room)
    end
end

-- Measures cases on the prompts of a part.
local function run_part(grid, part, cases, how)
    local view = setmetatable({ prompts = tables.slice(grid.prompts, part.first, part.last), before = part.first - 1 },
        { __index = grid })
    local all_at_once = #grid.parts == 1
    local own = grid.kept or begin(view, how.count, how.each, part.room)
    if all_at_once then grid.kept = own end
    if not own then grid.layers_kept = {} end
    local function name(i) return ("prompts[%d]"):format(part.first + (i - 1) % #view.prompts) end
    local ok, all = pcall(grid.way.run, view, cases,
        { op = OP, name = name, each = how.each, room = part.room, kept = own })
    if own and not all_at_once then kept.release(grid.lm, own) end
    if not ok then error(all, 0) end
    return all
end

local function run_parts(grid, cases, how)
    local all = {}
    for _, part in ipairs(grid.parts) do
        local got = run_part(grid, part, cases, how)
        if #grid.parts == 1 then return got end
        for c, metrics in ipairs(got) do
            all[c] = all[c] or {}
            for _, name in ipairs(tables.keys(metrics)) do
                all[c][name] = all[c][name] or {}
                for i = part.first, part.last do all[c][name][i] = metrics[name][i - part.first + 1] end
            end
        end
    end
    return all
end

--- Forgets the prompts that a grid has kept.
function M.finish(grid)
    if grid.kept then kept.release(grid.lm, grid.kept) end
    grid.kept = nil
end

-- ---- Cases ---------------------------------------------------------------------------------------------------------

-- Measures cases; where one of several fails, each alone, so that the others keep their results.
local function measure(grid, cases, how)
    local ok, all = pcall(run_parts, grid, cases, how)
    if not ok and require("steer.core.error").is_interrupt(all) then error(all, 0) end
    if not ok and all == nil then all = "an error without a message" end
    if ok or #cases == 1 then
        for i, case in ipairs(cases) do
            grid.known[key_of(case)] = { metrics = ok and all[i], err = not ok and all or nil, more = i < #cases }
        end
        return
    end
    for _, case in ipairs(cases) do measure(grid, { case }, how) end
end

-- How many cases go into one batch.
local function count_of(grid)
    local most = grid.lm.device == "cpu" and CPU_BATCH or GPU_BATCH
    return math.max(1, math.floor(most * #grid.parts / grid.way.sequences(grid)))
end

-- The case and those after it that go into one batch.
local function batch_of(case, cases, count)
    local from = 1
    while key_of(cases[from]) ~= key_of(case) do from = from + 1 end
    return tables.slice(cases, from, math.min(#cases, from + count - 1))
end

--- Measures a case of a sweep, and those after it in the same batch, whose results it remembers.
-- @tparam table grid what grid.lua makes of its options
-- @tparam table case
-- @tparam table ctx of the sweep
-- @treturn table metrics (means over prompts) and samples (the prompts') as a sweep takes them
function M.run(grid, case, ctx)
    local key = key_of(case)
    if not grid.known[key] then
        if not grid.parts then choose_parts(grid, ctx.cases) end
        local how = { count = count_of(grid), each = function() ctx.progress(0.5) end }
        measure(grid, batch_of(case, ctx.cases, how.count), how)
    end
    local result = grid.known[key]
    grid.known[key] = nil
    if result.err then error(result.err, 0) end
    ctx.more = result.more
    check_values(grid, result.metrics)
    local out = { samples = {} }
    for _, name in ipairs(tables.keys(result.metrics)) do
        out[name], out.samples[name] = sum(result.metrics[name]) / #result.metrics[name], result.metrics[name]
    end
    return out
end

return M
