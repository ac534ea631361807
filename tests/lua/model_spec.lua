-- Models of every architecture against their goldens; steered sequences in chunks, in batches, with shared beginnings.
-- devices: cpu cuda
local files = require "files"
local helper = require "helper"
local steer = require "steer"
local T = steer.tensor
local fails = helper.fails

local MODELS = "tests/fixtures/models/"

local function names()
    local list = {}
    for name in io.popen("ls " .. MODELS):lines() do list[#list + 1] = name end
    return list
end

local function open(name) return steer.model(MODELS .. name, { device = helper.device, dtype = "f32" }) end

-- Largest norm of a row of a - b over that of the row of b, for tensors [n, width].
local function distance(a, b)
    a, b = a:to("cpu"), b:to("cpu")
    local worst, gap, size = 0, (a - b):norm(2):totable(), b:norm(2):totable()
    for i = 1, #gap do worst = math.max(worst, gap[i] / size[i]) end
    return worst
end

local function requests_of(golden, extra)
    local list = {}
    for i = 1, golden.ids:size(1) do
        list[i] = { tokens = golden.ids[i]:totable() }
        for key, value in pairs(extra or {}) do list[i][key] = value end
    end
    return list
end

-- Runs requests in a session of its own and gives session and ids.
local function run(lm, opts, requests)
    local session = lm:session(opts)
    local ids = {}
    for i, request in ipairs(requests) do ids[i] = session:add(request) end
    while session:step() > 0 do end
    return session, ids
end

describe("models against their goldens", function()
    for _, name in ipairs(names()) do
        it(name, function()
            local lm, golden = open(name), steer.load(MODELS .. name .. "/golden.safetensors")
            local requests = requests_of(golden)
            local n = #requests[1].tokens
            local logits, states = lm:forward(requests), lm:capture(requests, { tokens = "all" })
            for i = 1, #requests do
                assert.is_true(distance(logits[i], golden.logits[i]) < 1e-4)
                for layer = 0, lm.layers - 1 do
                    local rows = states:narrow(1, (i - 1) * n + 1, n):select(2, layer + 1)
                    assert.is_true(distance(rows, golden["hidden." .. layer][i]) < 1e-4)
                end
            end
            local greedy, margins = golden.greedy:totable(), golden.margin:totable()
            local out = lm:generate(requests_of(golden, { max_tokens = golden.greedy:size(2), ignore_eos = true }))
            for i, result in ipairs(out) do
                for k, id in ipairs(greedy[i]) do
                    if margins[i][k] <= 1e-3 then break end
                    assert.equals(id, result.tokens[k])
                end
            end
            lm:close()
        end)
    end
end)

describe("rotations with long factors", function()
    it("turn sequences by their whole length, of tokens to generate too", function()
        local shorts, longs = '"short_factor": %[.-%]', '"long_factor": %[.-%]'
        os.execute("cp -r tests/fixtures/variants/phi3_long " .. files.folder)
        local config = files.get(files.path("phi3_long/config.json"))
        local function opened(edit)
            files.put("phi3_long/config.json", edit(config))
            return steer.model(files.path("phi3_long"), { device = helper.device, dtype = "f32" })
        end
        local both = opened(function(text) return text end)
        local long = opened(function(text)
            return (text:gsub(shorts, (text:match(longs):gsub("long", "short"))))
        end)
        local short = opened(function(text)
            return (text:gsub(longs, (text:match(shorts):gsub("short", "long"))))
        end)
        local ids = {}
        for i = 1, 100 do ids[i] = i * 7 % 61 end
        local function logits(lm, n, more)
            local session, list = run(lm, { sequences = 1, tokens = 256, rows = 16 },
                { { tokens = { unpack(ids, 1, n) }, logits_from = 0, max_tokens = more } })
            return session:logits(list[1])
        end
        for _, case in ipairs { { 64, 0, short, long }, { 65, 0, long, short }, { 30, 34, short, long },
            { 30, 35, long, short } } do
            local n, more, same, other = unpack(case)
            assert.equals(0, distance(logits(both, n, more), logits(same, n, more)))
            assert.is_true(distance(logits(both, n, more), logits(other, n, more)) > 1e-3)
        end
    end)
end)

-- ---- Steering ------------------------------------------------------------------------------------------------------

local function spec_for(lm, seed)
    local function v(k) return T.randn({ lm.hidden }, { seed = seed * 10 + k }) end
    local layers = { [0] = { steer.add(v(1), 0.5) }, [lm.layers - 1] = { steer.cap(v(2), { max = 0.2 }) } }
    table.insert(layers[0], steer.ablate(v(3), 0, { at = "embed" }))
    table.insert(layers[0], steer.add(v(4), 0.3, { at = "attention", where = { prompt_positions = { 0, -1 } } }))
    table.insert(layers[0], steer.add(v(5), 1, { where = { generation = "all" }, when = { vector = v(6), above = 0 } }))
    return steer.spec(layers)
end

local function prompt(lm, n, seed)
    local ids = {}
    for i, x in ipairs(T.rand({ n }, { seed = seed }):totable()) do ids[i] = math.floor(x * (lm.vocab - 5)) + 4 end
    return ids
end

-- Requests of mixed kinds whose results must not depend on how they are run.
local function mixed(lm)
    local a, b = spec_for(lm, 1), spec_for(lm, 2)
    local shared = prompt(lm, 40, 9)
    local list = {}
    for i = 1, 9 do
        local ids = prompt(lm, 3 + 5 * i % 17, i)
        if i % 3 == 0 then ids = { unpack(shared) } end
        ids[#ids + 1] = 4 + i
        list[i] = {
            tokens = ids, spec = ({ a, b })[i % 3 + 1], max_tokens = 6 + i % 4, ignore_eos = true, logits_from = 0,
            prompt_tokens = i == 5 and #ids - 2 or nil,
            temperature = i % 4 == 0 and 0.8 or nil, seed = i, top_k = i % 4 == 0 and 5 or nil,
        }
    end
    return list
end

local function same(expected, session, ids, requests)
    for i, id in ipairs(ids) do
        local tokens, logprobs = session:tokens(id)
        assert.same(expected[i].tokens, tokens, "request " .. i)
        for k, value in ipairs(logprobs) do assert.is_true(math.abs(value - expected[i].logprobs[k]) < 1e-3) end
        assert.is_true(distance(session:logits(id), expected[i].logits) < 1e-4)
        assert.same(expected[i].steered, session:steered(id))
        assert.equals(#requests[i].tokens, session:status(id).given)
    end
end

-- Runs each request alone, then all in a batch and in chunks, with and without shared beginnings: the same came of it.
local function check_alone_and_together(lm, requests)
    local expected = {}
    for i, request in ipairs(requests) do
        local session, ids = run(lm, { sequences = 1, tokens = 80, sharing = false }, { request })
        local tokens, logprobs = session:tokens(ids[1])
        expected[i] = {
            tokens = tokens, logprobs = logprobs, logits = session:logits(ids[1]):clone(),
            steered = session:steered(ids[1]),
        }
        session:close()
    end
    for _, opts in ipairs {
        { sequences = 9, tokens = 9 * 80, rows = 256 }, { sequences = 2, tokens = 160, rows = 7 },
        { sequences = 3, tokens = 160, rows = 3, sharing = false },
    } do
        local session, ids = run(lm, opts, requests)
        same(expected, session, ids, requests)
        session:close()
    end
end

describe("steered sequences", function()
    for _, name in ipairs { "llama", "gemma2", "mistral", "olmo2", "mixtral" } do
        it("give the same alone, in a batch, in chunks and with shared beginnings: " .. name, function()
            local lm = open(name)
            check_alone_and_together(lm, mixed(lm))
            lm:close()
        end)
    end

    -- A spec of every kind of operation over the sites of a model.
    local function every_kind(lm, seed)
        local n = 0
        local function v(count)
            n = n + 1
            return T.randn(count and { count, lm.hidden } or { lm.hidden }, { seed = 100 * seed + n }):mul_(0.3)
        end
        local bound = 0.1 * seed
        return steer.spec {
            [0] = {
                steer.affine(v(3), v(3), { bias = { 0.1, 0, -0.1 }, at = "embed" }), steer.keep_norm { at = "embed" },
                steer.sae(v(2), v(2), { min = 0.2, max = 0.4, bias = { 0.1, 0 }, at = "attention" }),
                steer.rotate(v(2), 20), steer.cap(v(3), { max = bound }), steer.keep_norm(),
                steer.note("mood", { when = { vector = v(), above = 0 } }),
            },
            [lm.layers - 1] = {
                steer.add(v(), 1, { when = { noted = "mood" } }),
                steer.set(v(), bound, { write = v(), when = { any = { { vector = v(), above = 0 },
                    { none = { { vector = v(), above = 0.1, cosine = true } } } } } }),
                steer.map(v(), { { -1, 0 }, { 1, bound } }, { at = "attention" }), steer.turn(v(), 10),
                steer.angle(v(2), 45, { where = { generation = "all" } }),
                steer.replace(v(), 1, { where = { prompt_positions = { 1 } } }),
                steer.ablate(v(), 0, { side = "positive", where = { prompt_window = { 0, 9 } } }),
            },
        }
    end

    it("give the same under operations of every kind, alone, in a batch, in chunks, from the cache", function()
        local lm = open "llama"
        local a, b, plain = every_kind(lm, 1), every_kind(lm, 2), spec_for(lm, 1)
        local requests = mixed(lm)
        for i, request in ipairs(requests) do request.spec = ({ a, b, plain })[i % 3 + 1] end
        check_alone_and_together(lm, requests)
        lm:close()
    end)

    it("equal the engine's plan on the hidden states of each site", function()
        local lm = open "llama"
        local v = T.randn({ lm.hidden }, { seed = 3, device = "cpu" })
        local ids = prompt(lm, 12, 1)
        local plain = lm:capture({ { tokens = ids } }, { tokens = "all" }):to("cpu")
        local spec = steer.spec { [0] = { steer.add(v, 2) } }
        local steered = lm:capture({ { tokens = ids } }, { tokens = "all", spec = spec }):to("cpu")
        local expected = plain:select(2, 1) + v * 2
        assert.is_true(distance(steered:select(2, 1), expected) < 1e-5)
        assert.is_true(distance(steered:select(2, 2), plain:select(2, 2)) > 1e-3)
        local at = lm:capture({ { tokens = ids } }, { tokens = "all", at = "attention" }):to("cpu")
        local there = steer.spec { [1] = { steer.add(v, 2, { at = "attention" }) } }
        local changed = lm:capture({ { tokens = ids } }, { tokens = "all", at = "attention", spec = there }):to("cpu")
        assert.is_true(distance(changed:select(2, 1), at:select(2, 1)) < 1e-6)
        assert.is_true(distance(changed:select(2, 2), at:select(2, 2) + v * 2) < 1e-5)
        local embedded = lm:capture({ { tokens = ids } }, { tokens = "all", at = "embed" }):to("cpu")
        local first = steer.spec { [0] = { steer.add(v, 2, { at = "embed" }) } }
        local moved = lm:capture({ { tokens = ids } }, { tokens = "all", at = "embed", spec = first }):to("cpu")
        assert.is_true(distance(moved:select(2, 1), embedded:select(2, 1) + v * 2) < 1e-5)
    end)

    it("are counted by layer and site", function()
        local lm = open "llama"
        local v = T.randn({ lm.hidden }, { seed = 3, device = "cpu" })
        local spec = steer.spec {
            [0] = { steer.add(v, 1, { at = "embed" }) },
            [1] = { steer.add(v, 1, { where = { generation = "all" } }), steer.cap(v, { max = 1, at = "attention" }) },
        }
        local out = lm:generate {
            { tokens = { 1, 2, 3 }, spec = spec, max_tokens = 4, ignore_eos = true },
            { tokens = { 4 }, max_tokens = 2, ignore_eos = true },
        }
        assert.same({ [1] = 3, embed = 6, attention = { [1] = 6 } }, out[1].steered)
        assert.same({}, out[2].steered)
    end)

    it("count where conditions held, also what is found in the cache", function()
        local lm = open "llama"
        local v, gate = T.randn({ lm.hidden }, { seed = 3 }), T.randn({ lm.hidden }, { seed = 4 })
        local ids = prompt(lm, 50, 3)
        local seen = lm:capture({ { tokens = ids } }, { tokens = "all", layers = { 1 } }):to("cpu")
        local values = seen:select(2, 1):matmul(gate:to("cpu"):reshape(lm.hidden, 1)):reshape(#ids):totable()
        local sorted = { unpack(values) }
        table.sort(sorted)
        for _, place in ipairs { 10, 25, 49 } do
            local threshold = (sorted[place] + sorted[place + 1]) / 2
            local when = { vector = gate, above = threshold }
            for _, operations in ipairs { { steer.add(v, 1, { when = when }) },
                { steer.add(v, 1, { when = when }),
                    steer.ablate(v, 0, { when = when, where = { prompt_window = { 0, 10 } } }) } } do
                local spec = steer.spec { [1] = operations, [0] = { steer.add(v, 0) } }
                local session, list = run(lm, { sequences = 1, tokens = 256, rows = 16 },
                    { { tokens = ids, spec = spec, max_tokens = 0 }, { tokens = ids, spec = spec, max_tokens = 0 } })
                for i, id in ipairs(list) do
                    assert.same({ [1] = #ids - place }, session:steered(id))
                    assert.equals(i == 1, session:status(id).shared == 0)
                end
                session:close()
            end
        end
    end)

    it("fork, and take another spec while they run", function()
        local lm = open "llama"
        local spec, ids = spec_for(lm, 4), prompt(lm, 37, 2)
        local session = lm:session { sequences = 4, tokens = 512 }
        local id = session:add { tokens = ids, max_tokens = 12, ignore_eos = true }
        for _ = 1, 5 do session:step() end
        local sofar = session:tokens(id)
        local fork = session:fork(id, 12 - #sofar)
        session:set_spec(id, spec)
        while session:step() > 0 do end
        local expected = lm:generate { { tokens = ids, max_tokens = 12, ignore_eos = true } }[1].tokens
        local whole = { unpack(sofar) }
        for _, token in ipairs(session:tokens(fork)) do whole[#whole + 1] = token end
        assert.same(expected, whole)
        assert.equals(32, session:status(fork).shared)
        -- The sequence goes on as if its spec had been there from the start.
        local given = { unpack(ids) }
        for _, token in ipairs(sofar) do given[#given + 1] = token end
        local rest = lm:generate { { tokens = given, max_tokens = 12 - #sofar, ignore_eos = true } }[1].tokens
        assert.same(rest, session:tokens(fork))
        local steered = run(lm, { sequences = 1, tokens = 64 }, {
            { tokens = given, prompt_tokens = #ids, spec = spec, max_tokens = 12 - #sofar, ignore_eos = true } })
        local after = steered:tokens(0)
        local all = session:tokens(id)
        assert.same(after, { unpack(all, #sofar + 1) })
        assert.equals(0, session:stats().running)
        session:drop(fork)
        fails("invalid_argument", "no such sequence", session.status, session, fork)
    end)

    it("go on with a response as if they had not stopped", function()
        local lm, ids = open "llama", nil
        local v = T.randn({ lm.hidden }, { seed = 3, device = "cpu" })
        local spec = steer.spec { [0] = { steer.add(v, 1, { where = { generation = "all" } }) } }
        local function run_with(extra)
            local request = { tokens = { 5, 6, 7 }, spec = spec, max_tokens = 12, ignore_eos = true, response = ids }
            for key, value in pairs(extra) do request[key] = value end
            return lm:generate({ request })[1].tokens
        end
        local whole = run_with {}
        ids = run_with { max_tokens = 5 }
        assert.same({ unpack(whole, 6) }, run_with { max_tokens = 7 })
        assert.not_same({ unpack(whole, 6) }, run_with { max_tokens = 7, spec = steer.spec {} })
    end)

    it("share blocks only under the same spec", function()
        local lm = open "llama"
        local spec, ids = spec_for(lm, 4), prompt(lm, 50, 2)
        local session = lm:session { sequences = 1, tokens = 512 }
        local function shared(request)
            local id = session:add(request)
            while session:step() > 0 do end
            return session:status(id).shared
        end
        assert.equals(0, shared { tokens = ids })
        assert.equals(48, shared { tokens = ids })
        assert.equals(0, shared { tokens = ids, spec = spec })
        assert.equals(48, shared { tokens = ids, spec = spec })
        assert.equals(16, shared { tokens = ids, logits_from = 20 })
        assert.equals(0, shared { tokens = ids, spec = spec, prompt_tokens = 7 })
        -- Of a spec of later tokens the beginning is the unsteered one, which is known; and so the other way round.
        local function later(where)
            return steer.spec { [1] = { steer.add(T.randn({ lm.hidden }), 1, { where = where }) } }
        end
        assert.equals(48, shared { tokens = ids, spec = later { generation = "all" } })
        assert.equals(48, shared { tokens = ids, spec = later { prompt_positions = { -1 } } })
        assert.equals(32, shared { tokens = ids, spec = later { prompt_positions = { -1, 40 } } })
        assert.equals(16, shared { tokens = ids, spec = later { generation = "all" }, prompt_tokens = 17 })
        local others = prompt(lm, 50, 12)
        assert.equals(0, shared { tokens = others, spec = later { prompt_window = { 20, 22 }, generation = "all" } })
        assert.equals(16, shared { tokens = others })
    end)
end)

-- ---- Captures and scores -------------------------------------------------------------------------------------------

describe("captured steps", function()
    it("give the same bits as steps that are launched piece by piece, whatever specs come and go", function()
        local lm = open("llama")
        local function generate(graphs)
            local session = lm:session { sequences = 12, tokens = 12 * 64, graphs = graphs }
            local ids = {}
            for i = 1, 12 do
                ids[i] = session:add {
                    tokens = { i, 2 * i, 3 }, max_tokens = 8 + 3 * i, ignore_eos = true, seed = i,
                    temperature = i % 3 == 0 and 1 or 0, top_p = 0.9, repetition_penalty = i % 4 == 0 and 1.2 or 1,
                    spec = i % 2 == 0 and spec_for(lm, i) or nil,
                }
            end
            local steps = 0
            while session:step() > 0 do
                steps = steps + 1
                if steps == 6 then session:set_spec(ids[3], spec_for(lm, 77)) end
                if steps == 9 then session:set_spec(ids[10], nil) end
                if steps == 14 then
                    ids[13] = session:fork(ids[12], 9)
                    local v = T.randn({ lm.hidden }, { seed = 5 })
                    session:set_spec(ids[11], steer.spec { [1] = { steer.add(v, 2) } })
                end
            end
            local out = {}
            for i, id in ipairs(ids) do
                local tokens, logprobs = session:tokens(id)
                out[i] = { tokens = tokens, logprobs = logprobs }
            end
            return out, session:stats()
        end
        local eager, stats = generate(false)
        assert.equals(0, stats.replays)
        local captured
        captured, stats = generate(true)
        assert.same(eager, captured)
        if helper.device == "cpu" then
            assert.equals(0, stats.replays)
        else
            assert.is_true(stats.replays > 10 and stats.graphs > 0 and stats.graphs <= stats.replays)
        end
        lm:close()
    end)
end)

describe("captures", function()
    it("reduce on the device what all tokens are", function()
        local lm = open "qwen2"
        local prompts = { { tokens = prompt(lm, 9, 1) }, { tokens = prompt(lm, 21, 2) } }
        local all, info = lm:capture(prompts, { tokens = "all" })
        assert.same({ 9, 21 }, info.rows)
        all = all:to("cpu")
        local last = lm:capture(prompts):to("cpu")
        local mean, sum = lm:capture(prompts, { tokens = "all", reduce = "mean" }), lm:capture(prompts,
            { tokens = "all", reduce = "sum", layers = { 1 } })
        local m, squares = lm:capture(prompts, { tokens = { 0, -1 }, reduce = "squares" })
        local start = 1
        for i, n in ipairs(info.rows) do
            local rows = all:narrow(1, start, n)
            for layer = 1, lm.layers do
                local states = rows:select(2, layer)
                assert.is_true((states[n] - last[i][layer]):norm() < 1e-4)
                assert.is_true((states:mean(1) - mean:to("cpu")[i][layer]):norm() < 1e-5)
                local two = states[1] + states[n]
                assert.is_true((two / 2 - m:to("cpu")[i][layer]):norm() < 1e-5)
                local squared = states[1] * states[1] + states[n] * states[n]
                assert.is_true((squared / 2 - squares:to("cpu")[i][layer]):norm() < 1e-4)
            end
            assert.is_true((rows:select(2, 2):sum(1) - sum:to("cpu")[i][1]):norm() < 1e-4)
            start = start + n
        end
    end)

    it("take the tokens of a response", function()
        local lm = open "llama"
        local spec = spec_for(lm, 1)
        local ids = prompt(lm, 6, 1)
        local out = lm:generate { { tokens = ids, spec = spec, max_tokens = 5, ignore_eos = true } }[1]
        local mean = lm:capture({ { tokens = ids } },
            { tokens = "response", reduce = "mean", max_tokens = 4, spec = steer.spec {} })
        local plain = lm:generate { { tokens = ids, max_tokens = 4, ignore_eos = true } }[1]
        assert.equals(5, #out.tokens)
        local whole = { unpack(ids) }
        for i = 1, 3 do whole[#whole + 1] = plain.tokens[i] end -- the last one is not fed back
        local all = lm:capture({ { tokens = whole } }, { tokens = { 6, 7, 8 }, reduce = "mean" })
        assert.same({ 1, lm.layers, lm.hidden }, mean:shape())
        assert.is_true((mean - all):norm() < 1e-4 * all:norm())
    end)

    it("refuse what cannot be", function()
        local lm = open "llama"
        local one = { { tokens = { 1, 2 } } }
        fails("invalid_argument", "layers[1]", lm.capture, lm, one, { layers = { lm.layers } })
        fails("invalid_argument", "position 2", lm.capture, lm, one, { tokens = { 2 } })
        fails("invalid_argument", "the list is empty", lm.capture, lm, {})
        fails("invalid_argument", "reduce", lm.capture, lm, one, { reduce = "median" })
        fails("invalid_argument", "response", lm.capture, lm, one, { tokens = "response" })
        fails("unsupported", "parallel", function()
            local neox = open "gpt_neox_parallel"
            neox:capture(one, { at = "attention" })
        end)
    end)
end)

describe("scores", function()
    -- Options of one token each are judged together, unless they are many.
    local function check(lm, options)
        local ids = prompt(lm, 20, 3)
        local scores = lm:score { { tokens = ids, options = options }, { tokens = { 4 }, options = { { 5 } } } }
        local total = 0
        for k, option in ipairs(options) do
            local whole = { unpack(ids) }
            for _, id in ipairs(option) do whole[#whole + 1] = id end
            local logits = lm:forward { { tokens = whole } }[1]:to("cpu")
            local sum = 0
            for i, id in ipairs(option) do sum = sum + math.log(logits:softmax(2):get(#ids + i - 1, id + 1)) end
            assert.is_true(math.abs(sum - scores[1][k].logprob) < 1e-4)
            assert.equals(#option, scores[1][k].tokens)
            total = total + scores[1][k].probability
        end
        assert.is_true(math.abs(total - 1) < 1e-9)
    end

    it("are sums of log softmax", function()
        local lm = open "llama"
        for _, options in ipairs {
            { { 5, 6 }, { 7 }, { 5, 8, 9 } }, { { 5 } }, { { 5 }, { 7 }, { 5 } },
            { { 5 }, { 6 }, { 7 }, { 8 }, { 9 }, { 10 }, { 11 }, { 12 } },
            { { 5 }, { 6 }, { 7 }, { 8 }, { 9 }, { 10 }, { 11 }, { 12 }, { 13 } },
        } do check(lm, options) end
        local perplexity, mean = lm:perplexity { { 4, 5, 6 } }
        assert.is_true(math.abs(math.exp(-mean[1]) - perplexity[1]) < 1e-9)
    end)
end)

-- ---- What is refused -----------------------------------------------------------------------------------------------

describe("a model refuses", function()
    local lm
    setup(function() lm = open "llama" end)

    it("tokens that it does not have", function()
        fails("invalid_argument", "tokens[2]: id " .. lm.vocab, lm.generate, lm, { { tokens = { 1, lm.vocab } } })
        fails("invalid_argument", "no tokens", lm.generate, lm, { { tokens = {} } })
        fails("invalid_argument", "context", lm.generate, lm, { { tokens = { 1 }, max_tokens = lm.context } })
        fails("not_found", "no tokenizer", lm.generate, lm, { "text" })
        fails("invalid_argument", "expected one", lm.generate, lm, { { max_tokens = 1 } })
    end)

    it("calls that are written otherwise", function()
        fails("invalid_argument", "lm:generate{ {prompt = ...} }", lm.generate, lm, { prompt = "x" })
        for wrong, message in pairs {
            max_tokens = "belong into each request, as in lm:generate{ {prompt = ..., max_tokens = 5} }",
            on_tokens = 'unknown option "on_tokens", did you mean "on_token"?',
            max_token = 'unknown option "max_token", did you mean "max_tokens"?',
            xyzzy = 'unknown option "xyzzy": beside the requests there is on_token',
        } do
            fails("invalid_argument", message, lm.generate, lm, { { prompt = "x" }, [wrong] = 5 })
        end
        fails("invalid_argument", "methods are called with a colon", lm.generate, { { tokens = { 1 } } })
        fails("invalid_argument", "on_token", lm.generate, lm, { { tokens = { 1 } }, on_token = 5 })
        fails("invalid_argument", "id " .. lm.vocab, lm.generate, lm, { { tokens = { 1 }, response = { lm.vocab } } })
    end)

    it("specs that do not fit", function()
        local v = T.randn({ lm.hidden }, { seed = 1 })
        local deep = steer.spec { [lm.layers] = { steer.add(v) } }
        local wide = steer.spec { [0] = { steer.add(T.ones({ 3 })) } }
        fails("invalid_argument", "layer " .. lm.layers, lm.generate, lm, { { tokens = { 1 }, spec = deep } })
        fails("shape_mismatch", "hidden size", lm.generate, lm, { { tokens = { 1 }, spec = wide } })
        fails("unsupported", "attention", function()
            local spec = steer.spec { [0] = { steer.add(v, 1, { at = "attention" }) } }
            steer.engine { hidden = lm.hidden, device = helper.device }:plan { { spec = spec, tokens = 1 } }
        end)
        fails("invalid_argument", "[0]", steer.spec, { [1] = { steer.add(v, 1, { at = "embed" }) } })
        fails("invalid_argument", "at:", steer.add, v, 1, { at = "resid_post" })
    end)

    it("settings out of range", function()
        for _, case in ipairs {
            { "temperature", -1 }, { "top_p", 0 }, { "top_p", 1.5 }, { "min_p", -0.1 }, { "repetition_penalty", 0 },
            { "temperature", 0 / 0 },
        } do
            fails("invalid_argument", case[1], lm.generate, lm, { { tokens = { 1 }, [case[1]] = case[2] } })
        end
    end)

    it("too many for its cache, and goes on", function()
        local session = lm:session { sequences = 2, tokens = 32 }
        fails("invalid_argument", "room for 32", session.add, session, { tokens = { 1 }, max_tokens = 40 })
        local id = session:add { tokens = { 1 }, max_tokens = 20, ignore_eos = true }
        local waits = session:add { tokens = { 2 }, max_tokens = 20, ignore_eos = true }
        session:step()
        assert.equals("waiting", session:status(waits).state)
        while session:step() > 0 do end
        assert.equals("length", session:status(id).state)
        assert.equals("length", session:status(waits).state)
    end)
end)

teardown(files.done)
