--- Generating text: many requests as one batch, each with its own spec, sampling and end; streamed as it comes.
local check = require "steer.core.check"
local jobs = require "steer.model.jobs"
local options = require "steer.core.options"
local twins = require "steer.model.twin"
local tables = require "steer.core.tables"

local raise = require("steer.core.error").raise

local M = {}

local MAX_TOKENS = 256 -- where a request names none

local REQUEST = {
    prompt = "string", messages = "table", tokens = "table", response = "table", spec = true, max_tokens = "number",
    temperature = "number",
    top_k = "number", top_p = "number", min_p = "number", repetition_penalty = "number", seed = "number", stop = true,
    ignore_eos = "boolean", tools = true, add_generation_prompt = "boolean", twin = "boolean",
}
local FORWARD = { tokens = "table", prompt = "string", messages = "table", spec = true }
local PASSED = { "spec", "twin", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "ignore_eos" }

-- ---- Stop strings --------------------------------------------------------------------------------------------------

local function stop_list(op, name, stop)
    if stop == nil then return {} end
    if type(stop) == "string" then stop = { stop } end
    check.list(op, name, stop, "a text or a list of texts")
    for i, text in ipairs(stop) do
        check.type(op, ("%s[%d]"):format(name, i), text, "string")
        if text == "" then raise("invalid_argument", op, "%s[%d]: an empty text", name, i) end
    end
    return stop
end

-- Where the first stop string begins in the text, searched from `from` on; nil if none does.
local function find_stop(text, stops, from)
    local first
    for _, stop in ipairs(stops) do
        local at = text:find(stop, math.max(1, from - #stop + 1), true)
        if at and (not first or at < first) then first = at end
    end
    return first
end

-- How many of the last bytes of the text might be the beginning of a stop string.
local function held_back(text, stops)
    local most = 0
    for _, stop in ipairs(stops) do
        for n = math.min(#stop - 1, #text), most + 1, -1 do
            if text:sub(-n) == stop:sub(1, n) then
                most = n
                break
            end
        end
    end
    return most
end

-- ---- A request while it runs ---------------------------------------------------------------------------------------

local Stream = {}
Stream.__index = Stream

local function new_stream(lm, stops)
    local tokenizer = lm.tokenizer
    return setmetatable({ decoder = tokenizer and tokenizer:stream(), text = "", given = 0, tokens = 0, stops = stops },
        Stream)
end

-- Takes new tokens; gives the text that is certain now. At a stop string it ends.
function Stream:push(ids, last)
    if not self.decoder then return "" end
    local from = #self.text + 1
    for _, id in ipairs(ids) do self.text = self.text .. self.decoder:push(id) end
    if last then self.text = self.text .. self.decoder:finish() end
    local stop = find_stop(self.text, self.stops, from)
    if stop then self.text, self.stopped = self.text:sub(1, stop - 1), true end
    local certain = #self.text
    if not last and not stop then certain = #self.text - held_back(self.text, self.stops) end
    local piece = self.text:sub(self.given + 1, certain)
    self.given = math.max(self.given, certain)
    return piece
end

-- Ids without the end token that closed the sequence.
local function without_end(lm, ids, finish)
    if finish ~= "stop" or #ids == 0 then return ids end
    for _, eos in ipairs(lm.eos) do
        if ids[#ids] == eos then return tables.slice(ids, 1, #ids - 1) end
    end
    return ids
end

local function follow(lm, session, id, stream, last)
    if stream.stopped then return "" end
    local status = session:status(id)
    local done = status.state ~= "waiting" and status.state ~= "running"
    local ids = session:tokens(id, stream.tokens)
    stream.tokens = stream.tokens + #ids
    local piece = stream:push(done and without_end(lm, ids, status.state) or ids, done or last)
    if stream.stopped and not done then session:stop(id) end
    return piece
end

local function result_of(session, id, stream, request)
    local status = session:status(id)
    local ids, logprobs = session:tokens(id)
    local finish = status.state
    if finish == "waiting" or finish == "running" then finish = "interrupted" end
    if stream.stopped then finish = "stop" end
    return {
        text = stream.decoder and stream.text or nil, tokens = ids, logprobs = logprobs, finish = finish,
        steered = session:steered(id), given = request.tokens,
        twin = request.twin and twins.read(session, id, ids) or nil,
    }, status.failed_at
end

-- ---- Public --------------------------------------------------------------------------------------------------------

-- An answer so far stands behind the prompt and is no part of it.
local function append_response(passed, response)
    local ids, n = tables.slice(passed.tokens), #passed.tokens
    for k, id in ipairs(response) do ids[n + k] = id end
    passed.tokens, passed.prompt_tokens = ids, n
end

--- How many tokens are generated after `given` ones where nobody says; for the modules beside this one.
function M.default_tokens(lm, given) return math.max(0, math.min(MAX_TOKENS, lm.context - given)) end

local function read_request(lm, op, request, name)
    if type(request) == "string" then request = { prompt = request } end
    options.check(op, request, REQUEST, name)
    local stops = stop_list(op, name .. ".stop", request.stop)
    if #stops > 0 and not lm.tokenizer then
        raise("not_found", op, "%s: stop: the model has no tokenizer to find texts with", name)
    end
    local passed = { tokens = lm:tokens_of(op, request, name) }
    for _, key in ipairs(PASSED) do passed[key] = request[key] end
    if request.response then append_response(passed, request.response) end
    passed.max_tokens = check.integer(op, name .. ".max_tokens",
        request.max_tokens or M.default_tokens(lm, #passed.tokens), 0)
    return { request = passed, name = name }, stops
end

--- Generates text.
-- @param lm the model: lm:generate{...}
-- @tparam table requests list of requests, or one text. Each is a text, or a table with one of prompt (text), messages
-- (a chat) and tokens (ids), and spec (nil: unsteered), max_tokens (default 256), temperature (default 0: greedy),
-- top_k, top_p, min_p, repetition_penalty, seed (default 0), stop (a text or a list of texts that end it), ignore_eos,
-- response (ids of the answer so far, which goes on: the result's text is of the whole answer, its tokens are new),
-- twin (true: an unsteered twin runs beside it and is fed the same tokens).
-- Beside the requests: on_token = function(i, piece), called with each new piece of text of request i
-- @treturn table list of {text, tokens, logprobs, finish = "stop" or "length", steered = {[layer] = rows}, given = ids
-- of its prompt, twin}. twin, where asked for: per token kl (KL(steered || unsteered) over the vocabulary, nats) and
-- logprobs (of the token without steering), mean_kl, divergence (index of the first token that is not the unsteered
-- model's likeliest). After Ctrl-C the error `interrupted` is raised and lm.last has what was generated; so it has
-- where the logits of a request are not finite (its finish is "failed"), which is an error that names it
function M.generate(lm, requests) return M.generate_in(lm, requests) end

-- Raises for a key of the table of requests that is none of its list and no option of the call.
local function wrong_key(requests, key)
    local op = "generate"
    if requests[1] == nil or type(key) ~= "string" then
        raise("invalid_argument", op, "%s: expected a list of requests: write lm:generate{ {%s = ...} }",
            check.describe(key), tostring(key))
    elseif REQUEST[key] ~= nil then
        local value = requests[key]
        raise("invalid_argument", op, "requests: options of a request belong into each request, as in "
            .. "lm:generate{ {prompt = ..., %s = %s} }", key,
            type(value) == "number" and check.describe(value) or "...")
    end
    local known = { on_token = true }
    for _, name in ipairs(tables.keys(REQUEST)) do known[name] = true end
    local near = options.suggest(key, known)
    raise("invalid_argument", op, 'requests: unknown option "%s"%s', key,
        near == "" and ": beside the requests there is on_token" or near)
end

-- The table without a key.
local function without(list, key)
    local out = {}
    for _, other in ipairs(tables.keys(list)) do
        if other ~= key then out[other] = list[other] end
    end
    return out
end

--- The same for the modules beside this one.
-- @tparam[opt] table how each = function called after every step, room and kept as for jobs.run; op and name =
-- function(i), the operation and request i in messages
function M.generate_in(lm, requests, how)
    if type(requests) == "string" then requests = { requests } end
    check.type("generate", "requests", requests, "table", "a list of requests")
    for _, key in ipairs(tables.keys(requests)) do
        if type(key) ~= "number" and key ~= "on_token" then
            wrong_key(requests, key)
        end
    end
    local on_token = requests.on_token
    jobs.check_list("generate", "requests", on_token == nil and requests or without(requests, "on_token"))
    if on_token ~= nil then check.type("generate", "on_token", on_token, "function") end
    local list, streams, op = {}, {}, how and how.op or "generate"
    for i, request in ipairs(requests) do
        local stops
        list[i], stops = read_request(lm, op, request, how and how.name and how.name(i) or ("requests[%d]"):format(i))
        list[i].request.from = how and how.kept and how.kept.of[list[i].request.tokens]
        streams[i] = new_stream(lm, stops)
        if type(request) == "table" and request.response then streams[i]:push(request.response) end
    end
    local function each(session, ids)
        for i, id in ipairs(ids) do
            local piece = follow(lm, session, id, streams[i])
            if on_token and piece ~= "" then
                on_token(i, piece)
                io.stdout:flush() -- what it wrote is to be seen now
            end
        end
        if how and how.each then how.each(session, ids) end
    end
    return jobs.run(lm, op, list, each, function(session, ids)
        local results, failed, position = {}, nil, nil
        for i, id in ipairs(ids) do
            local failed_at
            follow(lm, session, id, streams[i], true)
            results[i], failed_at = result_of(session, id, streams[i], list[i].request)
            if failed_at and not failed then failed, position = list[i], failed_at end
        end
        lm.last = require("steer.view").attach(lm, list, results)
        if failed then jobs.not_finite(op, failed, position) end
        return results
    end, how)
end

--- Runs requests through the model and gives their logits.
-- @param lm the model: lm:forward{...}
-- @tparam table requests list of {tokens, prompt or messages, spec}
-- @treturn table list of tensors f32 [n, vocab] on the model's device: row i scores what follows token i
function M.forward(lm, requests)
    jobs.check_list("forward", "requests", requests)
    local list = {}
    for i, request in ipairs(requests) do
        local name = ("requests[%d]"):format(i)
        if type(request) == "string" then request = { prompt = request } end
        options.check("forward", request, FORWARD, name)
        local ids = lm:tokens_of("forward", request, name)
        list[i] = { request = { tokens = ids, spec = request.spec, logits_from = 0 }, name = name }
    end
    return jobs.run(lm, "forward", list, nil, function(session, ids)
        local logits = {}
        for i, id in ipairs(ids) do logits[i] = session:logits(id) end
        return logits
    end)
end

return M
