--- Scores: log probabilities of given continuations, and the perplexity of texts.
local check = require "steer.core.check"
local jobs = require "steer.model.jobs"
local options = require "steer.core.options"
local twins = require "steer.model.twin"

local raise = require("steer.core.error").raise

local M = {}

local REQUEST = {
    prompt = "string", messages = "table", tokens = "table", options = true, spec = true, tools = true,
    add_generation_prompt = "boolean", twin = "boolean",
}

local function concat(a, b)
    local list = {}
    for i = 1, #a do list[i] = a[i] end
    for i = 1, #b do list[#a + i] = b[i] end
    return list
end

--- Gives the ids of an option: a text, or a list of ids; for the modules beside this one.
function M.option_ids(lm, op, name, option)
    local ids = type(option) == "table" and option or lm:encode_part(op, name, option)
    if check.list(op, name, ids, "a text or a list of token ids") == 0 then
        raise("invalid_argument", op, "%s: it has no tokens", name)
    end
    jobs.check_ids(lm, op, name, ids)
    return ids
end

local MOST_TOGETHER = 8 -- every session has room for as many outputs of a sequence

--- Whether options, lists of ids, are judged by one sequence: each is one token, the one that follows the prompt.
-- @tparam table list
-- @tparam[opt] boolean twin
function M.are_together(list, twin)
    if twin or #list > MOST_TOGETHER then return false end
    for _, ids in ipairs(list) do
        if #ids ~= 1 then return false end
    end
    return true
end

-- A request with ids in place of its texts.
local function read_request(lm, request, i)
    local name = ("requests[%d]"):format(i)
    options.check("score", request, REQUEST, name)
    if check.list("score", name .. ".options", request.options, "a list of texts") == 0 then
        raise("invalid_argument", "score", "%s.options: the list is empty", name)
    end
    local prompt, list = lm:tokens_of("score", request, name), {}
    for k, option in ipairs(request.options) do
        list[k] = M.option_ids(lm, "score", ("%s.options[%d]"):format(name, k), option)
    end
    return { tokens = prompt, options = list, spec = request.spec, twin = request.twin }
end

-- The tokens of a prompt and of an option, one list for all requests that have both; `lists` has those so far.
local function tokens_of(lists, prompt, option)
    local of = lists[prompt] or {}
    lists[prompt], of[option] = of, of[option] or concat(prompt, option)
    return of[option]
end

-- What is to be run for a request: a job for each option, or one for all.
local function jobs_of(request, name, kept, lists)
    local prompt, list, others = request.tokens, request.options, nil
    local together = M.are_together(list, request.twin)
    local from, all = kept and kept.of[prompt], { options = list, together = together }
    if together and #list > 1 then
        others = {}
        for k = 2, #list do others[k - 1] = list[k][1] end
    end
    for k = 1, together and 1 or #list do
        all[k] = {
            request = {
                tokens = tokens_of(lists, prompt, list[k]), prompt_tokens = #prompt, logprobs_from = #prompt,
                spec = request.spec, twin = request.twin, others = others, from = from, apart = from and together,
            },
            name = name, ids = list[k],
        }
    end
    return all
end

local function sum(list)
    local total = 0
    for _, x in ipairs(list) do total = total + x end
    return total
end

-- Runs jobs and gives each its log probabilities.
local function run(lm, op, list, how)
    if #list == 0 then return end
    jobs.run(lm, op, list, how and how.each, function(session, ids)
        for i, id in ipairs(ids) do
            local job = list[i]
            job.logprobs = session:logprobs(id)
            job.twin = job.request.twin and twins.read(session, id, job.ids) or nil
        end
    end, how)
    for _, job in ipairs(list) do
        for k, x in ipairs(job.logprobs) do
            if not (x > -math.huge and x < math.huge) then
                jobs.not_finite(op, job, math.min(job.request.logprobs_from + k, #job.request.tokens) - 2)
            end
        end
    end
end

-- log of the sum of exp of the scores' log probabilities, of all but number `but`.
local function log_sum(scores, but)
    local best, total = -math.huge, 0
    for k, score in ipairs(scores) do best = k ~= but and math.max(best, score.logprob) or best end
    for k, score in ipairs(scores) do total = total + (k ~= but and math.exp(score.logprob - best) or 0) end
    return best + math.log(total)
end

-- Gives scores their probability among each other, and their log odds against the others together.
local function compare(scores)
    local all = log_sum(scores)
    for k, score in ipairs(scores) do
        score.probability = math.exp(score.logprob - all)
        score.logit_difference = #scores > 1 and score.logprob - log_sum(scores, k) or nil
    end
    return scores
end

-- The scores of a request's options, and those of their twins in them.
local function scores_of(list)
    local scores, plain = {}, {}
    for k, ids in ipairs(list.options) do
        local job = list.together and list[1] or list[k]
        local logprobs = list.together and { job.logprobs[k] } or job.logprobs
        scores[k] = { logprob = sum(logprobs), tokens = #ids, logprobs = logprobs, twin = job.twin }
        plain[k] = job.twin
        if job.twin then job.twin.logprob = sum(job.twin.logprobs) end
    end
    compare(plain)
    return compare(scores)
end

--- Scores continuations of prompts. A prompt is computed once for all its options.
-- @param lm the model: lm:score{...}
-- @tparam table requests list of {prompt, messages or tokens, options = list of texts or lists of ids, spec, twin
-- (true: also without the spec, in the same batch)}
-- @treturn table per request a list with, for each option: logprob (sum over its tokens, in nats), tokens (how many),
-- logprobs (of each), probability (of this option among the request's options, by softmax of logprob), logit_difference
-- (its log odds against the other options: of two options of one token each, the difference of their logits) and twin,
-- which, where asked for, has logprob, logprobs, probability and logit_difference of the option without steering, and
-- kl, mean_kl and divergence as lm:generate gives them
function M.score(lm, requests)
    jobs.check_list("score", "requests", requests)
    local list = {}
    for i, request in ipairs(requests) do list[i] = read_request(lm, request, i) end
    return M.score_in(lm, list)
end

--- The same for the modules beside this one.
-- @tparam table requests list of {tokens, options = list of lists of ids, spec, twin}
-- @tparam[opt] table how each = function called after every step, room and kept as for jobs.run; op and name =
-- function(i), the operation and request i in messages
function M.score_in(lm, requests, how)
    local all, results, alone, lists, op = {}, {}, true, {}, how and how.op or "score"
    for i, request in ipairs(requests) do
        local name = how and how.name and how.name(i) or ("requests[%d]"):format(i)
        all[i] = jobs_of(request, name, how and how.kept, lists)
        alone = alone and #all[i] == 1
    end
    local most = alone and #all or jobs.at_once(lm)
    for from = 1, #all, most do
        local first, rest = {}, {}
        for i = from, math.min(#all, from + most - 1) do
            for k, job in ipairs(all[i]) do table.insert(k == 1 and first or rest, job) end
        end
        run(lm, op, first, how) -- the others find what it computed of the prompt, as it is not long ago
        run(lm, op, rest, how)
    end
    for i, list in ipairs(all) do results[i] = scores_of(list) end
    return results
end

-- The ids of a text, the index from 0 of the first that is judged, and whether what comes before is a prompt.
local function text_of(lm, text, name)
    if type(text) ~= "table" then
        check.type("perplexity", name, text, "string", "a text, a list of token ids or a result of lm:generate")
        text = lm:tokens_of("perplexity", text, name)
    elseif text.tokens ~= nil or text.given ~= nil then
        check.list("perplexity", name .. ".tokens", text.tokens, "those of a result of lm:generate")
        check.list("perplexity", name .. ".given", text.given, "those of a result of lm:generate")
        if #text.tokens == 0 then raise("invalid_argument", "perplexity", "%s: it generated no token", name) end
        return concat(text.given, text.tokens), #text.given, true
    end
    local n = check.list("perplexity", name, text, "a list of token ids")
    if n < 2 then
        raise("invalid_argument", "perplexity", "%s: %d token%s, expected 2 or more", name, n, n == 1 and "" or "s")
    end
    return text, 1
end

--- Measures the perplexity of texts: exp of the mean negative log probability of each token after the first. Of
-- results of lm:generate it judges the generated tokens after their prompt: without a spec, how likely the unsteered
-- model finds what was said under steering.
-- @param lm the model: lm:perplexity(texts, opts)
-- @param texts a text, or a list of texts, lists of ids and results of lm:generate
-- @tparam[opt] table opts spec
-- @return for one text a number, for a list a list of numbers; then the same of mean log probabilities, nats per token
function M.perplexity(lm, texts, opts)
    opts = options.check("perplexity", opts, { spec = true })
    local single = type(texts) == "string"
    if single then texts = { texts } end
    jobs.check_list("perplexity", "texts", texts)
    local list = {}
    for i, text in ipairs(texts) do
        local name = ("texts[%d]"):format(i)
        local ids, from, given = text_of(lm, text, name)
        list[i] = { request = { tokens = ids, prompt_tokens = given and from, logprobs_from = from,
            spec = opts.spec }, name = name }
    end
    run(lm, "perplexity", list)
    local values, means = {}, {}
    for i, job in ipairs(list) do
        means[i] = sum(job.logprobs) / #job.logprobs
        values[i] = math.exp(-means[i])
    end
    if single then return values[1], means[1] end
    return values, means
end

return M
