-- Sequences that begin with kept states: their bits are those of the whole way; who may be begun from.
-- devices: cpu cuda
local helper = require "helper"
local steer = require "steer"
local C, capture = require("steer.core.c").C, require("steer.model.session").capture
local T = steer.tensor
local fails = helper.fails

local FIXTURES = "tests/fixtures/"
local TOKENS, MORE = 37, 5

local function names()
    local list = {}
    for _, folder in ipairs { "models", "variants" } do
        for name in io.popen("ls " .. FIXTURES .. folder):lines() do list[#list + 1] = folder .. "/" .. name end
    end
    return list
end

local function ids_of(lm, n, seed)
    local ids = {}
    for i, x in ipairs(T.rand({ n }, { seed = seed }):totable()) do ids[i] = math.floor(x * (lm.vocab - 5)) + 4 end
    return ids
end

local function run(session) while session:step() > 0 do end end

-- A held, unsteered sequence whose states after the layers are kept.
local function keep(session, tokens, layers, change)
    local groups, request = {}, { tokens = tokens, hold = true }
    for i = 1, #tokens do groups[i] = i - 1 end
    request.capture = { object = capture(session.model, C.STEER_SITE_LAYER, layers, #tokens), groups = groups }
    for key, value in pairs(change or {}) do request[key] = value end
    local id = session:add(request)
    run(session)
    return id
end

-- What there is to know of a request.
local function outcome(session, request)
    local id = session:add(request)
    run(session)
    local tokens, logprobs = session:tokens(id)
    return { logits = session:logits(id):to "cpu", tokens = tokens, logprobs = logprobs, steered = session:steered(id),
        begun = session:status(id).begun }
end

local function same(a, b, what)
    assert.same(a.steered, b.steered)
    assert.equals(0, (a.logits - b.logits):norm(), what)
    assert.same(a.tokens, b.tokens)
    assert.same(a.logprobs, b.logprobs)
end

-- Operations at a layer; which ones is the number's.
local function steering(lm, number)
    local v, w = T.randn({ lm.hidden }, { seed = 1 }), T.randn({ lm.hidden }, { seed = 2 })
    local all = {
        { steer.ablate(v), steer.add(w, 0.2), steer.cap(w, { min = -0.1, max = 0.2 }) }, { steer.add(v, 0.4) },
        { steer.add(v, 1, { where = { prompt_positions = { 3, -1 }, generation = "all" } }) },
        { steer.add(v, 1, { when = { vector = w, above = 0 } }) },
    }
    return all[number % #all + 1]
end

describe("a sequence that begins with kept states has the bits of the whole way:", function()
    for number, name in ipairs(names()) do
        it(name, function()
            for _, dtype in ipairs { "f32", number % 3 == 0 and "f16" or "bf16" } do
                local lm = steer.model(FIXTURES .. name, { device = helper.device, dtype = dtype })
                local tokens, given, all = ids_of(lm, TOKENS, 3), {}, {}
                for i, id in ipairs(tokens) do given[i] = id end
                for i, id in ipairs(ids_of(lm, 3, 4)) do given[TOKENS + i] = id end -- which nobody kept
                for layer = 0, lm.layers - 1 do all[layer + 1] = layer end
                local session = lm:session { reproducible = true, sequences = 4, tokens = 320, rows = 23 }
                local alone = lm:session {
                    reproducible = true, sequences = 1, tokens = 64, sharing = false, rows = 64,
                }
                local kept = keep(session, tokens, all)
                local only = dtype ~= "f32" and number % lm.layers
                for layer = only or 0, only or lm.layers - 1 do
                    local request = { tokens = given, prompt_tokens = TOKENS, max_tokens = MORE, logits_from = 0,
                        ignore_eos = true, spec = steer.spec { [layer] = steering(lm, layer + number) } }
                    local whole = outcome(alone, request)
                    request.from = kept
                    local begun = outcome(session, request)
                    same(begun, whole, ("%s, layer %d"):format(dtype, layer))
                    assert.equals(TOKENS, begun.begun)
                end
                session:close()
                alone:close()
            end
        end)
    end
end)

describe("a sequence begins", function()
    local lm = steer.model(FIXTURES .. "demo-model", { device = helper.device, dtype = "f32" })
    local tokens, v = ids_of(lm, 50, 5), T.randn({ lm.hidden }, { seed = 6 })
    local alone = lm:session { reproducible = true, sequences = 1, tokens = 80, sharing = false, rows = 64 }

    -- Runs a request with and without kept states; gives how many positions began with them.
    local function begun(session, kept, spec, change)
        local request = { tokens = tokens, max_tokens = 3, logits_from = 0, ignore_eos = true, spec = spec }
        for key, value in pairs(change or {}) do request[key] = value end
        local whole = outcome(alone, request)
        request.from = kept
        local got = outcome(session, request)
        same(got, whole, tostring(spec))
        return got.begun
    end

    local function at(layer, site) return { [layer] = { steer.add(v, 1, { at = site }) } } end

    it("after the last kept layer that nothing is done below", function()
        local session = lm:session { reproducible = true, sequences = 4, tokens = 640, rows = 64, sharing = false }
        local kept = keep(session, tokens, { 2, 5 })
        assert.equals(50, begun(session, kept, steer.spec(at(2))))
        assert.equals(50, begun(session, kept, steer.spec(at(4))))
        assert.equals(50, begun(session, kept, steer.spec(at(7))))
        assert.equals(50, begun(session, kept, nil))
        assert.equals(50, begun(session, kept, steer.spec(at(3, "attention"))))
        assert.equals(50, begun(session, kept, steer.spec(at(2, "mlp"))))
        assert.equals(0, begun(session, kept, steer.spec(at(2, "attention"))))
        assert.equals(0, begun(session, kept, steer.spec(at(1))))
        assert.equals(0, begun(session, kept, steer.spec(at(0, "embed"))))
        local both = at(6)
        both[1] = at(1)[1]
        assert.equals(0, begun(session, kept, steer.spec(both)))
    end)

    it("as far as the tokens are the same", function()
        local session = lm:session { reproducible = true, sequences = 4, tokens = 640, rows = 20, sharing = false }
        local kept, other = keep(session, tokens, { 2 }), {}
        for i = 1, 33 do other[i] = i == 20 and (tokens[i] + 1) % lm.vocab or tokens[i] end
        assert.equals(19, begun(session, kept, steer.spec(at(3)), { tokens = other }))
        assert.equals(0, begun(session, kept, steer.spec(at(3)), { tokens = ids_of(lm, 9, 8) }))
    end)

    it("with what is captured of it, its twin and its log probabilities", function()
        local session = lm:session { reproducible = true, sequences = 4, tokens = 640, rows = 64, sharing = false }
        local kept, groups, got = keep(session, tokens, { 1, 3 }), {}, {}
        for i = 1, 50 do groups[i] = i - 1 end
        for k, from in ipairs { -1, kept } do
            local object = capture(lm, C.STEER_SITE_LAYER, { 3, 6 }, 50)
            local request = { tokens = tokens, spec = steer.spec(at(5)), from = from, logprobs_from = 2, twin = true,
                capture = { object = object, groups = groups }, max_tokens = 3 }
            local id, out = session:add(request), require("ffi").new "steer_tensor *[1]"
            run(session)
            C.steer_capture_tensor(out, object.handle, 0)
            local tensors = require "steer.tensor.object"
            tensors.out[0] = out[0]
            got[k] = { states = tensors.own():to "cpu", twin = session:twin(id), logprobs = session:logprobs(id),
                begun = session:status(id).begun }
        end
        assert.is_true(got[1].begun == 0 and got[2].begun == 50)
        local slack = helper.device == "cpu" and 0 or 2e-3
        assert.is_true((got[1].states - got[2].states):norm() <= slack * got[1].states:norm())
        for i, x in ipairs(got[1].logprobs) do assert.is_true(math.abs(x - got[2].logprobs[i]) <= slack * 10) end
        for i, x in ipairs(got[1].twin.kl) do assert.is_true(math.abs(x - got[2].twin.kl[i]) <= slack * 10) end
        assert.equals(51, #got[2].twin.kl)
    end)

    it("anew where its spec or what it began from is gone", function()
        local session = lm:session { reproducible = true, sequences = 2, tokens = 320, rows = 16, sharing = false }
        local kept = keep(session, tokens, { 4 })
        local request = { tokens = tokens, logits_from = 0, ignore_eos = true, max_tokens = 2 }
        for _, change in ipairs { "spec", "drop" } do
            request.spec, request.from = steer.spec(at(5)), nil
            if change == "spec" then request.spec = steer.spec(at(1)) end
            local whole = outcome(alone, request)
            request.spec, request.from = steer.spec(at(5)), kept
            local id = session:add(request)
            session:step()
            assert.equals(16, session:status(id).begun)
            if change == "spec" then session:set_spec(id, steer.spec(at(1))) else session:drop(kept) end
            run(session)
            assert.equals(change == "spec" and 0 or 16, session:status(id).begun)
            same({ logits = session:logits(id):to "cpu", tokens = session:tokens(id), steered = session:steered(id),
                logprobs = select(2, session:tokens(id)) }, whole, change)
            session:drop(id)
        end
        local stats = session:stats()
        assert.equals(stats.blocks, stats.blocks_free)
    end)

    it("without the keys below where nobody reads them, or anew where somebody comes to", function()
        local session = lm:session { reproducible = true, sequences = 2, tokens = 320, rows = 16, graphs = false }
        local kept = keep(session, tokens, { 4 })
        local request = { tokens = tokens, logprobs_from = 50 - 1, others = { 7 }, spec = steer.spec(at(5)) }
        local function logprobs(change)
            local id = session:add(request)
            session:step()
            if change then change() end
            run(session)
            local list, begins = session:logprobs(id), session:status(id).begun
            session:drop(id)
            return list, begins
        end
        local whole = logprobs()
        request.from, request.apart = kept, true
        local own, begins = logprobs()
        assert.same(whole, own)
        assert.equals(1, begins) -- the blocks before it were found
        request.spec = steer.spec { [5] = { steer.add(v, 2) } }
        own, begins = logprobs()
        assert.equals(49, begins)
        assert.same({ own, 49 }, { logprobs() }) -- it left nothing to be found
        local again, none = logprobs(function() session:drop(kept) end)
        assert.same({ own, 0 }, { again, none })
        request.from, request.apart = nil, nil
        assert.same(own, logprobs())
    end)

    it("only from what is done, held, unsteered and kept", function()
        local session = lm:session { reproducible = true, sequences = 3, tokens = 320 }
        local function refuses(text, id) fails("invalid_argument", text, session.add, session, { tokens = tokens,
            from = id }) end
        local groups = {}
        for i = 1, 50 do groups[i] = i - 1 end
        refuses("from: sequence 0, the session has no such sequence", 0)
        refuses("its blocks are not held", keep(session, tokens, { 1 }, { hold = false }))
        refuses("it is steered", keep(session, tokens, { 1 }, { spec = steer.spec(at(2)) }))
        local id = session:add { tokens = tokens, hold = true }
        refuses("its tokens are not computed yet", id)
        run(session)
        refuses("it has no capture of states after layers", id)
        refuses("it has no capture of states after layers", keep(session, tokens, { 0 }, { capture = {
            object = capture(lm, C.STEER_SITE_EMBED, { 0 }, 50), groups = groups } }))
        session:drop(id)
        refuses("the session has no such sequence", id)
        fails("invalid_argument", "from: expected an integer", session.add, session, { tokens = tokens, from = 0.5 })
        -- A group of two tokens is no state of either.
        groups[20] = 2
        local kept = keep(session, tokens, { 1 }, { capture = { groups = groups,
            object = capture(lm, C.STEER_SITE_LAYER, { 1 }, 50) } })
        id = session:add { tokens = tokens, from = kept, spec = steer.spec(at(3)) }
        run(session)
        assert.equals(2, session:status(id).begun)
    end)
end)
