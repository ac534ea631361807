-- Unsteered twins: their numbers against float64 sums over logits, in batches, in chunks and while specs change.
-- devices: cpu cuda
local helper = require "helper"
local steer = require "steer"
local T = steer.tensor
local fails = helper.fails

local lm = steer.model("tests/fixtures/models/llama", { device = helper.device, dtype = "f32" })

local function spec_of(seed, scale, opts)
    return steer.spec { [1] = { steer.add(T.randn({ lm.hidden }, { seed = seed }), scale or 0.5, opts) } }
end

local function ids_of(n, seed)
    local ids = {}
    for i, x in ipairs(T.rand({ n }, { seed = seed }):totable()) do ids[i] = math.floor(x * (lm.vocab - 5)) + 4 end
    return ids
end

local function log_softmax(x)
    local most, total, out = -math.huge, 0, {}
    for _, value in ipairs(x) do most = math.max(most, value) end
    for _, value in ipairs(x) do total = total + math.exp(value - most) end
    for i, value in ipairs(x) do out[i] = value - most - math.log(total) end
    return out
end

-- What a twin says of the tokens of `ids` from index `from` (from 0) on, from logits of both.
local function oracle(ids, from, spec, prompt_tokens)
    local session, out = lm:session { sequences = 2 }, { kl = {}, logprobs = {}, likeliest = {} }
    local a = session:add { tokens = ids, prompt_tokens = prompt_tokens, spec = spec, logits_from = 0 }
    local b = session:add { tokens = ids, logits_from = 0 }
    while session:step() > 0 do end
    local steered, plain = session:logits(a):totable(), session:logits(b):totable()
    session:close()
    for i = from, #ids - 1 do
        local p, q, kl, best = log_softmax(steered[i]), log_softmax(plain[i]), 0, 1
        for t = 1, #p do
            kl = kl + math.exp(p[t]) * (p[t] - q[t])
            if q[t] > q[best] then best = t end
        end
        table.insert(out.kl, kl)
        table.insert(out.logprobs, q[ids[i + 1] + 1])
        table.insert(out.likeliest, best - 1)
    end
    return out
end

local function near(a, b, slack)
    assert.equals(#a, #b)
    for i = 1, #a do assert.is_true(math.abs(a[i] - b[i]) <= slack, ("[%d]: %g, %g"):format(i, a[i], b[i])) end
end

local function agrees(expected, twin)
    near(expected.kl, twin.kl, 2e-5)
    near(expected.logprobs, twin.logprobs, 1e-4)
    assert.same(expected.likeliest, twin.likeliest)
end

local function concat(a, b)
    local list = { unpack(a) }
    for _, id in ipairs(b) do list[#list + 1] = id end
    return list
end

describe("twins", function()
    -- Every kind of request, in sessions with room for all, for two, in steps of few rows, with and without sharing.
    local rooms = {
        { sequences = 32, tokens = 4096 }, { sequences = 2, tokens = 192 }, { sequences = 5, tokens = 512, rows = 7 },
        { sequences = 6, tokens = 600, sharing = false },
    }
    for i, room in ipairs(rooms) do
        it("see the same tokens, whatever the room: " .. i, function()
            local session, list = lm:session(room), {}
            local beginning = ids_of(40, 77)
            for k = 1, 7 do
                local tokens = k % 3 == 0 and concat(beginning, ids_of(k, k)) or ids_of(3 + 9 * k % 31, k)
                list[k] = {
                    tokens = tokens, spec = k ~= 5 and spec_of(k, 0.2 * k) or nil, twin = k ~= 4, ignore_eos = true,
                    max_tokens = k % 2 == 0 and 5 + k or 0,
                    logprobs_from = k % 2 == 1 and math.max(1, #tokens - k) or nil,
                    temperature = k == 6 and 1 or nil, seed = k,
                }
                if k == 2 then list[k].logprobs_from = 2 end
            end
            local ids = {}
            for k, request in ipairs(list) do ids[k] = session:add(request) end
            while session:step() > 0 do end
            for k, id in ipairs(ids) do
                if k == 4 then
                    fails("invalid_argument", "it has no twin", session.twin, session, id)
                else
                    local request, n = list[k], #list[k].tokens
                    local all = concat(request.tokens, (session:tokens(id)))
                    assert.equals(n + request.max_tokens, #all)
                    agrees(oracle(all, request.logprobs_from or n, request.spec, n), session:twin(id))
                end
            end
            local stats = session:stats()
            assert.equals(stats.blocks, stats.blocks_free)
            for _, id in ipairs(ids) do session:drop(id) end
            session:close()
        end)
    end

    it("agree exactly where nothing is steered, and change no token", function()
        local requests = { { tokens = ids_of(9, 1), max_tokens = 12 }, { tokens = ids_of(20, 2), max_tokens = 12 } }
        local alone = lm:generate(requests)
        for i, request in ipairs(requests) do request.twin, request.spec = true, i == 2 and spec_of(3, 2) or nil end
        local out = lm:generate(requests)
        assert.same(alone[1].tokens, out[1].tokens)
        assert.equals(0, out[1].twin.mean_kl)
        assert.is_nil(out[1].twin.divergence)
        assert.same(out[1].logprobs, out[1].twin.logprobs)
        assert.is_true(out[2].twin.mean_kl > 0.01)
        local first
        for i, id in ipairs(out[2].tokens) do first = first or (alone[2].tokens[i] ~= id and i) or nil end
        assert.equals(first, out[2].twin.divergence)
        assert.is_nil(alone[1].twin)
    end)

    it("go with their sequences: forks, other specs, ends", function()
        local session, tokens = lm:session { sequences = 6, tokens = 600 }, ids_of(30, 5)
        local a = session:add { tokens = tokens, spec = spec_of(1), twin = true, max_tokens = 4, logprobs_from = 20 }
        assert.same({}, session:twin(a).kl)
        fails("invalid_argument", "id: expected an integer, got 0.7", session.twin, session, 0.7)
        session:step()
        session:set_spec(a, spec_of(2, 1))
        while session:step() > 0 do end
        local all = concat(tokens, (session:tokens(a)))
        local given = oracle(tokens, 20, spec_of(2, 1))
        local twin = session:twin(a)
        near(given.kl, { unpack(twin.kl, 1, 10) }, 2e-5) -- as if it had had the second spec from the start
        assert.equals(14, #twin.kl)
        local b = session:fork(a, 3)
        while session:step() > 0 do end
        local longer = concat(all, (session:tokens(b)))
        agrees(oracle(longer, #all, spec_of(2, 1), 30), session:twin(b))
        local none = session:fork(b, 0) -- generates nothing that a twin could judge
        assert.equals(0, session:step())
        assert.same({ 0, #longer }, { session:status(none).generated, session:status(none).given })
        fails("invalid_argument", "twin", session.twin, session, none)
        session:drop(none)
        local d = session:add { tokens = tokens, spec = spec_of(1), twin = true, max_tokens = 50, ignore_eos = true }
        repeat session:step() until session:status(d).generated == 1 -- the one that is behind catches up first
        session:stop(d)
        assert.equals(0, session:step())
        assert.equals(1, #session:twin(d).kl)
        fails("invalid_argument", "no such sequence", session.status, session, d + 1) -- the twin's
        for _, id in ipairs { a, b, d } do session:drop(id) end
        local stats = session:stats()
        assert.equals(stats.blocks, stats.blocks_free)
        session:close()
    end)

    it("survive any order of calls, and none waits for ever", function()
        for round = 1, helper.rounds(12) do
            helper.with_seed(helper.seed + round, function()
                local session, open = lm:session { sequences = 4, tokens = 224, rows = 5 + round % 9 }, {}
                local function pick(n) return math.random(n) end
                for _ = 1, 80 do
                    local at, what = #open > 0 and pick(#open) or nil, pick(9)
                    if not at or what <= 3 then
                        local n = pick(45)
                        open[#open + 1] = session:add { tokens = ids_of(n, pick(3)), twin = pick(3) > 1,
                            ignore_eos = true, max_tokens = pick(6), spec = pick(4) > 1 and spec_of(pick(2)) or nil,
                            logprobs_from = n > 1 and pick(2) == 1 and pick(n - 1) or nil }
                    elseif what == 4 then
                        session:drop(table.remove(open, at))
                    elseif what == 5 then
                        session:stop(open[at])
                    elseif what == 6 then
                        session:set_spec(open[at], pick(2) == 1 and spec_of(pick(2)) or nil)
                    elseif what == 7 then
                        open[#open + 1] = session:fork(open[at], 1 + pick(3))
                    else
                        session:step()
                    end
                end
                local steps = 0
                while session:step() > 0 do
                    steps = steps + 1
                    assert(steps < 2000, "sequences wait for ever")
                end
                for _, id in ipairs(open) do
                    local status = session:status(id)
                    local ok, twin = pcall(session.twin, session, id)
                    if ok then
                        -- One that was stopped before it had caught up with another spec knows nothing of it.
                        assert.is_true(#twin.kl >= status.generated or status.state == "stop")
                        for _, kl in ipairs(twin.kl) do assert.is_true(kl >= 0 and kl < 50) end
                    end
                    session:drop(id)
                end
                local stats = session:stats()
                assert.equals(stats.blocks, stats.blocks_free)
                session:close()
            end)
        end
    end)

    it("say what is missing", function()
        local function add(room, request)
            local session = lm:session(room)
            local ok, err = pcall(session.add, session, request)
            session:close()
            if not ok then error(err, 0) end
        end
        local tokens = ids_of(30, 5)
        fails("invalid_argument", "room for one sequence", add, { sequences = 1, tokens = 512 },
            { tokens = tokens, twin = true, max_tokens = 1 })
        fails("invalid_argument", "twice 31 tokens, the session's cache has room for 48", add,
            { sequences = 2, tokens = 48 }, { tokens = tokens, twin = true, max_tokens = 1 })
        fails("invalid_argument", "name no token", add, { sequences = 2, tokens = 512 },
            { tokens = tokens, twin = true })
    end)
end)

describe("scores with a twin", function()
    it("are those of the options with and without the spec", function()
        local spec, prompt = spec_of(4, 1), ids_of(25, 3)
        local options = { { 7 }, { 9 }, { 7, 12, 5 } }
        local request = { tokens = prompt, options = options, spec = spec, twin = true }
        local both = lm:score { request }[1]
        local steered = lm:score { { tokens = prompt, options = options, spec = spec } }[1]
        local plain = lm:score { { tokens = prompt, options = options } }[1]
        for k, score in ipairs(both) do
            near({ steered[k].logprob, plain[k].logprob, plain[k].probability, plain[k].logit_difference },
                { score.logprob, score.twin.logprob, score.twin.probability, score.twin.logit_difference }, 1e-4)
            local twin = oracle(concat(prompt, options[k]), #prompt, spec, #prompt)
            near(twin.kl, score.twin.kl, 2e-5)
            assert.is_nil(steered[k].twin)
        end
        local pair = lm:score { { tokens = prompt, options = { { 7 }, { 9 } }, spec = spec } }[1]
        local logits = lm:forward { { tokens = prompt, spec = spec } }[1]:totable()[#prompt]
        near({ logits[8] - logits[10], logits[10] - logits[8] }, { pair[1].logit_difference, pair[2].logit_difference },
            1e-4)
        assert.is_nil(lm:score { { tokens = prompt, options = { { 7 } } } }[1][1].logit_difference)
    end)
end)

describe("lm:score and lm:generate name the request", function()
    it("that has no prompt, no tokens or no such layer", function()
        local good = { tokens = { 5 }, options = { { 7 }, { 9 } } }
        fails("invalid_argument", "requests[2]: it has none of prompt, messages and tokens, expected one", lm.score, lm,
            { good, { options = { { 7 }, { 9 } } } })
        fails("invalid_argument", "requests[2]: its prompt has no tokens", lm.score, lm,
            { good, { tokens = {}, options = { { 7 } } } })
        fails("invalid_argument", "requests[1].options[2]: it has no tokens", lm.score, lm,
            { { tokens = { 5 }, options = { { 7 }, {} } } })
        fails("invalid_argument", "requests[2]: its prompt has no tokens", lm.generate, lm,
            { { tokens = { 5 } }, { tokens = {} } })
        fails("invalid_argument", "requests[1]: spec: layer 9, expected 0 to 1", lm.generate, lm,
            { { tokens = { 5 }, max_tokens = 1, spec = steer.spec { [9] = { steer.add(T.ones { lm.hidden }) } } } })
        fails("invalid_argument", "twin", lm.generate, lm, { { tokens = { 5 }, max_tokens = 0, twin = true } })
    end)
end)

describe("the perplexity of what was generated", function()
    it("is that of the tokens after their prompts without steering", function()
        local out = lm:generate { { tokens = ids_of(9, 1), max_tokens = 8, spec = spec_of(1, 2), twin = true },
            { tokens = { 5 }, max_tokens = 8, spec = spec_of(1, 2), twin = true } }
        local perplexities, means = lm:perplexity(out)
        for i, result in ipairs(out) do
            local total = 0
            for _, x in ipairs(result.twin.logprobs) do total = total + x end
            near({ total / #result.tokens }, { means[i] }, 1e-4)
            near({ math.exp(-means[i]) }, { perplexities[i] }, 1e-9)
        end
        out[2].tokens = {}
        fails("invalid_argument", "texts[2]: it generated no token", lm.perplexity, lm, out)
        out[2].given = nil
        fails("invalid_argument", "texts[2].given: expected those of a result", lm.perplexity, lm, out)
        fails("invalid_argument", "texts[1]: expected a text, a list", lm.perplexity, lm, { 3 })
    end)
end)
