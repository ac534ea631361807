--- Verdicts of whole prompts: noted once, of a prompt's last token, they hold for all tokens after it, however these
-- are computed; what is noted at one site is known at others.
-- devices: cpu cuda
local C, capture = require("steer.core.c").C, require("steer.model.session").capture
local helper = require "helper"
local steer = require "steer"
local T = steer.tensor
local fails = helper.fails

local function open(name)
    return steer.model("tests/fixtures/models/" .. name, { device = helper.device, dtype = "f32" })
end

local function ids_of(lm, n, seed)
    local ids = {}
    for i, x in ipairs(T.rand({ n }, { seed = seed }):totable()) do ids[i] = math.floor(x * (lm.vocab - 5)) + 4 end
    return ids
end

local function vector(lm, seed) return T.randn({ lm.hidden }, { seed = seed, device = "cpu" }) end

local function run(session) while session:step() > 0 do end end

local function outcome(session, id)
    local tokens, logprobs = session:tokens(id)
    return { tokens = tokens, logprobs = logprobs, logits = session:logits(id):to "cpu", steered = session:steered(id) }
end

-- What there is to know of a request that runs alone.
local function alone(lm, request)
    local session = lm:session { sequences = 1, tokens = 128, sharing = false }
    local id = session:add(request)
    run(session)
    local out = outcome(session, id)
    session:close()
    return out
end

local function same(expected, got, what)
    assert.same(expected.tokens, got.tokens, what)
    assert.same(expected.steered, got.steered, what)
    for i, x in ipairs(expected.logprobs) do helper.near(x, got.logprobs[i], 1e-3) end
    local gap, size = (expected.logits - got.logits):norm(), expected.logits:norm()
    assert.is_true(gap <= 1e-4 * size, what)
end

-- h.g in float64 of each prompt's last token, unsteered, after a layer or at another site.
local function scores(lm, prompts, g, layer, at)
    local list, rows = {}, g:totable()
    for i, ids in ipairs(prompts) do
        local h = lm:capture({ { tokens = ids } }, { tokens = "last", layers = { layer }, at = at })
        local values, sum = h:to("cpu"):reshape(lm.hidden):totable(), 0
        for k, x in ipairs(values) do sum = sum + x * rows[k] end
        list[i] = sum
    end
    return list
end

-- A number between two neighbours of a list that are far apart, about in its middle.
local function between(list)
    local sorted, best, widest = { unpack(list) }, nil, -1
    table.sort(sorted)
    for i = math.ceil(#sorted / 4), math.floor(3 * #sorted / 4) do
        if sorted[i + 1] - sorted[i] > widest then best, widest = i, sorted[i + 1] - sorted[i] end
    end
    return (sorted[best] + sorted[best + 1]) / 2
end

local FROM_END = { prompt_positions = { -1 }, generation = "all" }

-- Prompts that end at each place of a block, some with a beginning in common.
local function prompts_of(lm, n)
    local list, shared = {}, ids_of(lm, 40, 99)
    for i = 1, n do
        local ids = i % 3 == 0 and { unpack(shared) } or {}
        for _, id in ipairs(ids_of(lm, ({ 1, 9, 16, 17, 32, 5, 31 })[i % 7 + 1], i)) do ids[#ids + 1] = id end
        list[i] = ids
    end
    return list
end

-- A spec that decides by h.g above a threshold after the attention of layer 0, and what it comes to where that holds
-- and where not.
local function kinds_of_spec(lm, g, threshold)
    local v, w, u = vector(lm, 3), vector(lm, 4), vector(lm, 5)
    local noted, gate, generated = { noted = "flag" }, { vector = u, above = 0 }, { generation = "all" }
    local above = { vector = g, above = threshold }
    local note = steer.note("flag", { of = "prompt", at = "attention", when = above })
    local always = steer.ablate(w, 0.5, { at = "attention", where = { generation_positions = { 1, 3 } } })
    local function add(scale, when, where, at)
        return steer.add(v, scale, { when = when, where = where, at = at })
    end
    return {
        asks = steer.spec {
            [0] = {
                add(0.4, noted, generated, "embed"), add(0.2, { none = { noted } }, generated, "embed"),
                note, add(0.5, noted, nil, "attention"), steer.ablate(w, 0, { when = { all = { noted, gate } } }),
            },
            [1] = { always, add(0.7, { none = { noted } }), add(0.3, { any = { noted, gate } }) },
        },
        [true] = steer.spec {
            [0] = {
                add(0.4, nil, generated, "embed"), add(0.5, nil, FROM_END, "attention"),
                steer.ablate(w, 0, { when = gate, where = FROM_END }),
            },
            [1] = { always, add(0.3, nil, FROM_END) },
        },
        [false] = steer.spec {
            [0] = { add(0.2, nil, generated, "embed") },
            [1] = { always, add(0.7, nil, FROM_END), add(0.3, gate, FROM_END) },
        },
    }
end

-- Requests under a spec that asks, and what each of them must come to.
local function cases(lm, n)
    local prompts, g = prompts_of(lm, n), vector(lm, 1)
    local list = scores(lm, prompts, g, 0, "attention")
    local threshold = between(list)
    local specs, requests, expected, held = kinds_of_spec(lm, g, threshold), {}, {}, 0
    for i, ids in ipairs(prompts) do
        local holds = list[i] > threshold
        held = held + (holds and 1 or 0)
        local function request(spec)
            return { tokens = ids, spec = spec, max_tokens = 4 + i % 19, ignore_eos = true, logits_from = 0,
                temperature = i % 4 == 0 and 0.8 or nil, seed = i }
        end
        requests[i], expected[i] = request(specs.asks), alone(lm, request(specs[holds]))
    end
    assert.is_true(held > 0 and held < n)
    return requests, expected, specs
end

describe("what is noted of a prompt", function()
    for _, name in ipairs { "llama", "gemma2", "mixtral" } do
        it("decides over its end and all after it, alone, in batches, in chunks, with shared beginnings: " .. name,
            function()
                local lm = open(name)
                local requests, expected, specs = cases(lm, 12)
                for i, request in ipairs(requests) do same(expected[i], alone(lm, request), "alone, " .. i) end
                for _, opts in ipairs {
                    { sequences = 12, tokens = 12 * 80, rows = 256 }, { sequences = 3, tokens = 3 * 80, rows = 7 },
                    { sequences = 2, tokens = 2 * 80, rows = 3, sharing = false },
                    { sequences = 5, tokens = 12 * 80, rows = 64, reproducible = true },
                } do
                    local session, ids = lm:session(opts), {}
                    for i, request in ipairs(requests) do
                        ids[i] = session:add(request)
                        session:add { tokens = request.tokens, spec = i % 2 == 0 and specs[true] or nil,
                            max_tokens = 3, ignore_eos = true } -- neighbours that decide nothing
                    end
                    run(session)
                    for i, id in ipairs(ids) do same(expected[i], outcome(session, id), opts.rows .. " rows, " .. i) end
                    session:close()
                end
                lm:close()
            end)
    end

    it("needs no computing of a beginning that others share", function()
        local lm = open "llama"
        local requests, expected = cases(lm, 6)
        local session = lm:session { sequences = 1, tokens = 512 }
        local request = requests[3] -- 40 tokens that several share, and its own
        request.logits_from = nil
        session:add { tokens = request.tokens, max_tokens = 1 }
        local first = session:add(request)
        run(session)
        assert.equals(math.floor((#request.tokens - 1) / 16) * 16, session:status(first).shared)
        local second = session:add { tokens = request.tokens, spec = request.spec, max_tokens = 2, ignore_eos = true }
        run(session)
        assert.same(expected[3].tokens, (session:tokens(first)))
        assert.same({ unpack(expected[3].tokens, 1, 2) }, (session:tokens(second)))
        assert.same(expected[3].steered, session:steered(first))
        lm:close()
    end)

    it("counts what is steered of a shared beginning once, beside operations without a condition", function()
        local lm = open "llama"
        for length = 15, 33 do
            local g, v = vector(lm, 1), vector(lm, 3)
            local spec = steer.spec { [0] = {
                steer.note("flag", { of = "prompt", when = { vector = g, above = 0 } }),
                steer.note("here", { where = { prompt_window = { 3, 5 } }, when = { vector = g, above = 0 } }),
                steer.add(v, 1, { where = { prompt = "all" } }),
            } }
            local request = { tokens = ids_of(lm, 34, length), prompt_tokens = length, spec = spec, max_tokens = 1,
                ignore_eos = true }
            local session = lm:session { sequences = 1, tokens = 256 }
            local first = session:add(request)
            run(session)
            local second = session:add(request)
            run(session)
            assert.equals(32, session:status(second).shared)
            assert.same({ [0] = length }, session:steered(first))
            assert.same({ [0] = length }, session:steered(second))
            session:close()
        end
        lm:close()
    end)

    it("goes on in forks, from sequences that run and that are gone", function()
        local lm = open "llama"
        local requests, expected = cases(lm, 12)
        local session = lm:session { sequences = 4, tokens = 1024, rows = 64 }
        for i, request in ipairs(requests) do
            local id = session:add(request)
            local sofar = i % 3 + 1
            while session:status(id).generated < sofar do session:step() end
            local rest = request.max_tokens - session:status(id).generated
            local before = session:tokens(id)
            if i % 2 == 0 then run(session) end -- its place in the batch is free
            local source = i % 2 == 0 and session:add { tokens = ids_of(lm, 3, i), max_tokens = 1 } or nil
            if i % 2 == 1 then
                local fork = session:fork(id, rest)
                run(session)
                local whole = { unpack(before) }
                for _, token in ipairs((session:tokens(fork))) do whole[#whole + 1] = token end
                assert.same(expected[i].tokens, whole, "fork of " .. i)
            else
                run(session)
                session:drop(source)
                local fork = session:fork(id, 3)
                run(session)
                local longer = alone(lm, { tokens = request.tokens, spec = request.spec, ignore_eos = true,
                    max_tokens = request.max_tokens + 3, logits_from = 0, temperature = request.temperature,
                    seed = request.seed })
                assert.same({ unpack(longer.tokens, request.max_tokens + 1) }, (session:tokens(fork)), "fork of " .. i)
            end
        end
        lm:close()
    end)

    it("is found anew under a spec that is set while it runs", function()
        local lm = open "llama"
        local requests = cases(lm, 8)
        local session = lm:session { sequences = 8, tokens = 1024, rows = 32 }
        for i, request in ipairs(requests) do
            local id = session:add { tokens = request.tokens, max_tokens = 9, ignore_eos = true }
            while session:status(id).generated < 1 + i % 4 do session:step() end
            local given, sofar = { unpack(request.tokens) }, session:tokens(id)
            session:set_spec(id, request.spec)
            run(session)
            for _, token in ipairs(sofar) do given[#given + 1] = token end
            local expected = alone(lm, { tokens = given, prompt_tokens = #request.tokens, spec = request.spec,
                max_tokens = 9 - #sofar, ignore_eos = true, logits_from = 0 })
            assert.same(expected.tokens, { unpack((session:tokens(id)), #sofar + 1) })
            assert.same(expected.steered, session:steered(id))
        end
        lm:close()
    end)

    it("holds for given tokens behind the prompt, in one chunk or many, and for scores", function()
        local lm = open "llama"
        local prompts, g = prompts_of(lm, 8), vector(lm, 1)
        local list = scores(lm, prompts, g, 0, "attention")
        local specs = kinds_of_spec(lm, g, between(list))
        for i, ids in ipairs(prompts) do
            local given = { unpack(ids) }
            for _, id in ipairs(ids_of(lm, 21, 50 + i)) do given[#given + 1] = id end
            local function request(spec)
                return { tokens = given, prompt_tokens = #ids, spec = spec, max_tokens = 3, ignore_eos = true,
                    logits_from = 0 }
            end
            local expected = alone(lm, request(specs[list[i] > between(list)]))
            for _, rows in ipairs { 3, 7, 128 } do
                local session = lm:session { sequences = 1, tokens = 128, rows = rows }
                local id = session:add(request(specs.asks))
                run(session)
                same(expected, outcome(session, id), rows .. " rows, " .. i)
                session:close()
            end
        end
        lm:close()
    end)

    it("is known where the prompt begins with kept states", function()
        local lm = open "gemma2"
        local ids, g, v = ids_of(lm, 37, 3), vector(lm, 1), vector(lm, 3)
        local value = scores(lm, { ids }, g, 1)[1]
        for _, threshold in ipairs { value - 1, value + 1 } do
            local spec = steer.spec {
                [1] = { steer.note("flag", { of = "prompt", when = { vector = g, above = threshold } }) },
                [2] = { steer.add(v, 1, { when = { noted = "flag" } }) },
            }
            local request = { tokens = ids, spec = spec, max_tokens = 6, ignore_eos = true, logits_from = 0 }
            local expected, groups = alone(lm, request), {}
            for i = 1, #ids do groups[i] = i - 1 end
            local session = lm:session { sequences = 4, tokens = 320, rows = 23 }
            local kept = session:add { tokens = ids, hold = true, max_tokens = 0,
                capture = { object = capture(lm, C.STEER_SITE_LAYER, { 0, 1, 2, 3 }, #ids), groups = groups } }
            run(session)
            request.from = kept
            local id = session:add(request)
            run(session)
            assert.equals(#ids, session:status(id).begun)
            same(expected, outcome(session, id))
            assert.equals(value > threshold, next(session:steered(id)) ~= nil)
            session:close()
        end
        lm:close()
    end)

    it("may be of several layers, and of a note itself", function()
        local lm = open "smollm3"
        local prompts, a, b = prompts_of(lm, 10), vector(lm, 1), vector(lm, 2)
        local first, third = scores(lm, prompts, a, 0), scores(lm, prompts, b, 2)
        local x, y = between(first), between(third)
        local function note(name, when) return steer.note(name, { of = "prompt", when = when }) end
        local spec = steer.spec {
            [0] = { note("a", { vector = a, above = x }) },
            [2] = {
                note("b", { vector = b, below = y }), note("both", { all = { { noted = "a" }, { noted = "b" } } }),
            },
            [3] = {
                steer.add(a, 1, { when = { noted = "both" } }),
                steer.add(b, 1, { when = { any = { { noted = "a" }, { noted = "b" } } } }),
            },
        }
        for i, ids in ipairs(prompts) do
            local is_a, is_b = first[i] > x, third[i] < y
            local function request(under)
                return { tokens = ids, spec = under, max_tokens = 5, ignore_eos = true, logits_from = 0 }
            end
            local expected = alone(lm, request(steer.spec { [3] = {
                steer.add(a, is_a and is_b and 1 or 0, { where = FROM_END }),
                steer.add(b, (is_a or is_b) and 1 or 0, { where = FROM_END }),
            } }))
            same(expected, alone(lm, request(spec)), "prompt " .. i)
        end
        lm:close()
    end)

    it("leaves a twin as it is, and steers as much as it says", function()
        local lm = open "llama"
        local ids, g, v = ids_of(lm, 20, 3), vector(lm, 1), vector(lm, 3)
        local value = scores(lm, { ids }, g, 0)[1]
        for _, threshold in ipairs { value - 1, value + 1 } do
            local out = lm:generate { { tokens = ids, max_tokens = 5, ignore_eos = true, twin = true,
                spec = steer.spec {
                    [0] = { steer.note("flag", { of = "prompt", when = { vector = g, above = threshold } }) },
                    [1] = { steer.add(v, 2, { when = { noted = "flag" } }) },
                } } }
            local holds = value > threshold
            assert.same(holds and { [1] = 5 } or {}, out[1].steered)
            for _, kl in ipairs(out[1].twin.kl) do assert.equals(holds, kl > 0) end
        end
        lm:close()
    end)

    it("has the same bits in any batch of a reproducible model", function()
        local lm = open "llama"
        local requests = cases(lm, 9)
        local function bits(logits) return table.concat(logits:reshape(logits:numel()):totable(), " ") end
        local expected = {}
        for i, request in ipairs(requests) do
            local session = lm:session { reproducible = true, sequences = 1, tokens = 96, sharing = false }
            local id = session:add(request)
            run(session)
            expected[i] = outcome(session, id)
            session:close()
        end
        helper.with_seed(helper.seed, function()
            for _ = 1, helper.rounds(8) do
                local session = lm:session { reproducible = true, sequences = math.random(1, 9), tokens = 9 * 96,
                    rows = ({ 3, 7, 16, 33, 256 })[math.random(5)], sharing = math.random() < 0.5 }
                local ids = {}
                for i, request in ipairs(requests) do
                    ids[i] = session:add(request)
                    if math.random() < 0.3 then session:step() end
                end
                run(session)
                for i, id in ipairs(ids) do
                    local got = outcome(session, id)
                    assert.same(expected[i].tokens, got.tokens)
                    assert.same(expected[i].logprobs, got.logprobs)
                    assert.is_true(bits(expected[i].logits) == bits(got.logits))
                end
                session:close()
            end
        end)
        lm:close()
    end)

    it("is asked for where it can be known", function()
        local lm = open "llama"
        local g, v = vector(lm, 1), vector(lm, 3)
        local function note(at, when)
            return steer.note("flag", { of = "prompt", at = at, when = when or { vector = g, above = 0 } })
        end
        local add = steer.add(v, 1, { when = { noted = "flag" } })
        fails("invalid_argument", 'or where = {generation = "all"}', steer.spec, { [0] = { add }, [1] = { note() } })
        fails("invalid_argument", "layer 0 at embed: operation 2 (add): when.noted: no operation before it", steer.spec,
            { [0] = { note(), steer.add(v, 1, { at = "embed", when = { noted = "flag" } }) } })
        fails("invalid_argument", '"flag" is noted of the token here and of the prompt on layer 0', steer.spec,
            { [0] = { note() }, [1] = { steer.note("flag", { when = { vector = g, above = 0 } }) } })
        fails("invalid_argument", '"flag" is noted of each token', steer.spec, {
            [0] = { steer.note("flag", { when = { vector = g, above = 0 } }) },
            [1] = { steer.add(v, 1, { when = { noted = "flag", of = "prompt" } }) },
        })
        fails("invalid_argument", "note: empty, expected the name", steer.note, "", { when = { noted = "flag" } })
        fails("invalid_argument", "when.noted: empty, expected the name", steer.add, v, 1, { when = { noted = "" } })
        fails("invalid_argument", 'of: "token", expected "prompt"', steer.note, "x", { of = "token" })
        fails("invalid_argument", "where: no token of a prompt, expected its last one", steer.note, "x",
            { of = "prompt", when = { vector = g, above = 0 }, where = { generation = "all" } })
        fails("invalid_argument", 'when.of: 1, expected "prompt"', steer.add, v, 1, { when = { noted = "x", of = 1 } })
        fails("invalid_argument", 'unknown option "of"', steer.add, v, 1,
            { when = { vector = g, above = 0, of = "prompt" } })
        local spec = steer.spec { [0] = { note "attention" }, [1] = { add } }
        local session = lm:session { sequences = 1, tokens = 64 }
        fails("invalid_argument", "prompt_tokens: 0, its spec decides", session.add, session,
            { tokens = { 1, 2 }, prompt_tokens = 0, spec = spec })
        local function at(selectors)
            return steer.spec { [0] = { steer.note("flag", { of = "prompt", when = { vector = g, above = 0 },
                where = selectors.where, exclude = selectors.exclude }) }, [1] = { add } }
        end
        for _, missing in ipairs { { where = { prompt_positions = { 0, 4, -2 } } },
            { where = { prompt_window = { -3, -1 } } }, { exclude = { prompt_positions = { -1 } } } } do
            fails("invalid_argument", "spec: where: leaves out position 2, the last token of the prompt", session.add,
                session, { tokens = { 1, 2, 3 }, spec = at(missing) })
            fails("invalid_argument", "requests[1]: spec: where: leaves out position 2", lm.generate, lm,
                { { tokens = { 1, 2, 3 }, max_tokens = 1, spec = at(missing) } })
        end
        for _, meeting in ipairs { { where = { prompt_positions = { 2 } } }, { where = { prompt_window = { -3, 9 } } },
            { where = { token_ids = { 999 } } }, { exclude = { prompt_positions = { -2 }, token_ids = { 3 } } } } do
            local id = session:add { tokens = { 1, 2, 3 }, spec = at(meeting) }
            fails("invalid_argument", "where: leaves out position 2", session.set_spec, session, id,
                at { where = { prompt_positions = { 1 } } })
            session:drop(id)
        end
        local plan = { { tokens = 3, prompt_tokens = 3, spec = at { where = { prompt_positions = { 0 } } } } }
        local engine = steer.engine { hidden = lm.hidden, device = "cpu" }
        fails("invalid_argument", "requests[1]: where: leaves out position 2", engine.plan, engine, plan)
        assert.truthy(tostring(spec):find("noted flag of the prompt", 1, true))
        local path = os.tmpname() .. ".safetensors"
        spec:save(path)
        assert.equals(tostring(spec), tostring(steer.load_spec(path)))
        os.remove(path)
        assert.equals(tostring(spec), tostring(spec:scaled(1)))
        rawset(spec, "attention", nil) -- as a program might that makes the library's specs itself
        fails("invalid_argument", "which no operation notes", session.add, session, { tokens = { 1, 2 }, spec = spec })
        lm:close()
    end)
end)

describe("what is noted of a token", function()
    it("is known at later sites of its layer and of others", function()
        local lm = open "llama"
        local ids, g, v = ids_of(lm, 30, 4), vector(lm, 1), vector(lm, 3)
        for _, case in ipairs { { "embed", 0, "attention", 0 }, { "embed", 0, "layer", 1 },
            { "attention", 0, "layer", 0 }, { "attention", 1, "layer", 1 }, { "layer", 0, "attention", 1 } } do
            local from, layer, to, later = unpack(case)
            local states = lm:capture({ { tokens = ids } }, { tokens = "all", layers = { layer }, at = from }):to "cpu"
            local values = states:reshape(#ids, lm.hidden):matmul(g:reshape(lm.hidden, 1)):reshape(#ids):totable()
            local threshold, positions = between(values), {}
            for i, x in ipairs(values) do if x > threshold then positions[#positions + 1] = i - 1 end end
            local noting, acting = { steer.note("there", { at = from, when = { vector = g, above = threshold } }) },
                { steer.add(v, 1, { at = to, when = { noted = "there" } }) }
            local layers = { [layer] = noting }
            if layer == later then noting[2] = acting[1] else layers[later] = acting end
            local function request(spec) return { tokens = ids, spec = spec, max_tokens = 0, logits_from = 0 } end
            local expected = alone(lm, request(steer.spec { [later] = {
                steer.add(v, 1, { at = to, where = { prompt_positions = positions } }) } }))
            same(expected, alone(lm, request(steer.spec(layers))), from .. " to " .. to)
        end
        lm:close()
    end)

    it("has a name that is free again when no operation has it", function()
        local lm = open "llama"
        local g, v, ids = vector(lm, 1), vector(lm, 3), ids_of(lm, 9, 4)
        local function spec(i)
            return steer.spec { [0] = { steer.note("name " .. i, { when = { vector = g, above = -1e9 } }) },
                [1] = { steer.add(v, 1, { when = { noted = "name " .. i } }) } }
        end
        local kept = {}
        local first = alone(lm, { tokens = ids, spec = spec(0), logits_from = 0 })
        for i = 1, 200 do
            local one = spec(i)
            if i % 50 == 0 then kept[#kept + 1] = one end
        end
        for _, one in ipairs(kept) do same(first, alone(lm, { tokens = ids, spec = one, logits_from = 0 }), "kept") end
        -- Names that are in use keep numbers of their own.
        local both = steer.spec {
            [0] = { kept[1].by_layer[0][1], steer.note("never", { when = { vector = g, above = 1e9 } }) },
            [1] = { steer.add(v, 1, { when = { noted = "name 50" } }),
                steer.add(v, 5, { when = { noted = "never" } }) },
        }
        same(first, alone(lm, { tokens = ids, spec = both, logits_from = 0 }), "both")
        lm:close()
    end)

    it("names that a process has room for are listed where one more is asked for", function()
        local program = [[local v, all = steer.tensor.ones({8}), {}
            for i = 1, 33 do all[i] = steer.note("n" .. i, {when = {vector = v, above = 0}}) end]]
        local pipe = io.popen(("STEER_DEVICE=cpu scripts/steer -e '%s' 2>&1"):format(program))
        local output = pipe:read "*a"
        pipe:close()
        assert.truthy(output:find('"n33" is one more than the 32 names', 1, true), output)
        assert.truthy(output:find("n9", 1, true), output)
    end)
end)
