-- Random sessions against a plain oracle: every sequence is what it is alone, in a session of its own.
-- devices: cpu cuda
local helper = require "helper"
local steer = require "steer"
local C, capture = require("steer.core.c").C, require("steer.model.session").capture
local T = steer.tensor

local SLACK = helper.device == "cpu" and 1e-5 or 2e-3
local MODELS = { "models/llama", "variants/phi3_long", "models/gemma2", "models/gpt_neox_parallel", "models/gpt2",
    "models/mixtral" }
local MOST = 150 -- tokens of a sequence

local function chance(p) return math.random() < p end
local function choose(list) return list[math.random(#list)] end

local models = {}
local function open(name)
    if not models[name] then
        local lm = steer.model("tests/fixtures/" .. name, { device = helper.device, dtype = "f32" })
        local serial = pcall(function()
            local session = lm:session { sequences = 1, tokens = 16 }
            session:add { tokens = { 5 }, spec = steer.spec { [0] = { steer.add(T.ones { lm.hidden }, 1,
                { at = "attention" }) } } }
        end)
        models[name] = { lm = lm, sites = serial and { "layer", "attention", "embed" } or { "layer", "embed" } }
    end
    return models[name]
end

-- ---- What sequences are made of ------------------------------------------------------------------------------------

local function ids_of(lm, n)
    local ids = {}
    for i = 1, n do ids[i] = math.random(4, lm.vocab - 1) end
    return ids
end

-- A beginning that others have too, or none, and some more; often as long as a number of blocks, or about so.
local function random_tokens(lm, beginnings)
    local list = chance(0.7) and { unpack(choose(beginnings)) } or {}
    local n = chance(0.4) and 16 * math.random(0, 3) + math.random(-1, 1) or math.random(0, 40)
    if chance(0.3) then n = choose { 63, 64, 65, 66 } - #list end -- about phi3_long's border
    for _, id in ipairs(ids_of(lm, math.max(n, #list == 0 and 1 or 0))) do list[#list + 1] = id end
    return list
end

local function random_where()
    local from = math.random(0, 40)
    return choose {
        { prompt = "all" }, { generation = "all" }, { prompt_positions = { from } }, { prompt_positions = { -1 } },
        { prompt_window = { from, from + 20 } }, { prompt_window = { -5, -1 } }, { generation_window = { 0, 3 } },
        { generation_positions = { 1 } }, { token_ids = { 5, 9, 11, 20 } },
        { prompt = "all", exclude = { prompt_window = { 0, 20 } } },
    }
end

local function random_op(lm, sites)
    local v = T.randn({ lm.hidden }, { seed = math.random(1e6) })
    local opts = { at = choose(sites), where = chance(0.6) and random_where() or nil }
    if chance(0.3) then opts.when = { vector = T.randn({ lm.hidden }, { seed = math.random(1e6) }), above = 0.1 } end
    local kind = choose { "add", "add", "cap", "ablate" }
    local layer = opts.at == "embed" and 0 or math.random(0, lm.layers - 1)
    if kind == "add" then return layer, steer.add(v, 0.5 * math.random(), opts) end
    if kind == "ablate" then return layer, steer.ablate(v, 0.3, opts) end
    opts.min, opts.max = -0.2, 0.3
    return layer, steer.cap(v, opts)
end

local function random_spec(lm, sites)
    local layers = {}
    for _ = 1, math.random(3) do
        local layer, op = random_op(lm, sites)
        layers[layer] = layers[layer] or {}
        table.insert(layers[layer], op)
    end
    return steer.spec(layers)
end

-- ---- The oracle ----------------------------------------------------------------------------------------------------

local function log_softmax(x)
    local most, total, out = -math.huge, 0, {}
    for _, value in ipairs(x) do most = math.max(most, value) end
    for _, value in ipairs(x) do total = total + math.exp(value - most) end
    for i, value in ipairs(x) do out[i] = value - most - math.log(total) end
    return out
end

-- Log probabilities [position + 1][id + 1] after each of the tokens; `most` is the length that the sequence may have.
local function alone(lm, tokens, prompt_tokens, spec, most)
    local session = lm:session { sequences = 1, tokens = math.max(most, #tokens), sharing = false }
    local id = session:add { tokens = tokens, prompt_tokens = prompt_tokens, spec = spec, logits_from = 0,
        max_tokens = most - #tokens }
    while session:status(id).computed < #tokens do session:step() end
    local logits = session:logits(id):totable()
    session:close()
    for i, row in ipairs(logits) do logits[i] = log_softmax(row) end
    return logits
end

local function near(got, want, what, slack)
    local off = math.abs(got - want)
    if off > (slack or SLACK) * (1 + math.abs(want)) or off ~= off then
        error(("%s: %.9g, alone %.9g"):format(what, got, want), 0)
    end
end

-- What steered the first n tokens, of which some may have been found.
local function check_steered(session, id, own, all, n)
    local tokens = { unpack(all, 1, n) }
    local other = own.lm:session { sequences = 1, tokens = own.most, sharing = false }
    local same = other:add { tokens = tokens, prompt_tokens = math.min(own.prompt_tokens, n),
        spec = own.history[#own.history].spec, max_tokens = own.most - n }
    while other:status(same).computed < n do other:step() end
    if own.prompt_tokens <= n then assert.same(other:steered(same), session:steered(id)) end
    other:close()
end

local function check_choice(own, i, id, row)
    if own.temperature then return end
    local best = math.max(unpack(row))
    near(row[id + 1], best, ("token %d: the likeliest"):format(i))
end

local function check_twin(session, id, own, all, steered)
    local twin, plain = session:twin(id), alone(own.lm, all, own.prompt_tokens, nil, own.most)
    local from, given = own.logprobs_from or #own.tokens, #own.tokens
    for k, kl in ipairs(twin.kl) do
        local at, expected = from + k - 1, 0 -- index of the token, from 0
        local p, q = steered(at), plain[at]
        for t = 1, #p do expected = expected + math.exp(p[t]) * (p[t] - q[t]) end
        local what = ("twin, token %d of %d given"):format(at, given)
        near(kl, expected, what .. ": kl", 4 * SLACK)
        near(twin.logprobs[k], q[all[at + 1] + 1], what .. ": logprob", 4 * SLACK)
        near(q[twin.likeliest[k] + 1], math.max(unpack(q)), what .. ": likeliest")
    end
end

local begun = 0 -- positions that began with kept states, of all sequences

-- Holds what a session knows of a sequence to what it is alone.
local function check_sequence(session, id, own)
    local status = session:status(id)
    begun = begun + status.begun
    local generated, logprobs = session:tokens(id)
    local given, all, computed = #own.tokens, { unpack(own.tokens) }, {}
    for _, token in ipairs(generated) do all[#all + 1] = token end
    assert.equals(given, status.given)
    assert.equals(status.generated, #generated)
    local function under(spec) -- positions under a spec, computed when they are first asked for
        local key = spec or "none"
        computed[key] = computed[key] or alone(own.lm, all, own.prompt_tokens, spec, own.most)
        return computed[key]
    end
    -- Token `at` (from 0) was chosen or judged under the spec of its time; given ones under the last one that ran.
    local function steered(at)
        local spec = own.history[#own.history].spec
        for _, change in ipairs(own.history) do
            if at >= given and change.from <= at - given then spec = change.spec end
        end
        return under(spec)[at]
    end
    for i, token in ipairs(generated) do
        local row = steered(given + i - 1)
        near(logprobs[i], row[token + 1], ("token %d: log probability"):format(i))
        check_choice(own, i, token, row)
    end
    if status.computed < math.max(1, given - 1) then return end
    check_steered(session, id, own, all, status.computed)
    if own.logprobs_from then
        for k, logprob in ipairs(session:logprobs(id)) do
            local at = math.min(own.logprobs_from + k, given) - 1
            local token = own.others and own.others[own.logprobs_from + k - given] or all[at + 1]
            near(logprob, steered(at)[token + 1], ("given token %d: log probability of %d"):format(at, token))
        end
    end
    if own.logits_from and status.computed >= given then
        for k, row in ipairs(session:logits(id):totable()) do
            local got, want = log_softmax(row), under(own.history[#own.history].spec)[own.logits_from + k]
            for t = 1, #got do near(got[t], want[t], ("logits %d"):format(own.logits_from + k)) end
        end
    end
    if own.twin then check_twin(session, id, own, all, steered) end
    local length = status.state == "length" and own.most - given
    if length then assert.equals(length, #generated) end
end

-- ---- Sessions ------------------------------------------------------------------------------------------------------

local function random_room(lm)
    local blocks, sequences = math.random(5, 24), math.random(1, 6)
    return { sequences = sequences, tokens = blocks * 16, rows = chance(0.8) and math.random(64) or nil,
        sharing = chance(0.85), vector_bytes = chance(0.3) and 64 * 4 * lm.hidden or nil }, blocks
end

-- A random request that fits into a room, and what is to be known of it.
local function random_request(world)
    local lm, tokens = world.lm, random_tokens(world.lm, world.beginnings)
    local own = { lm = lm, tokens = tokens, spec = chance(0.8) and choose(world.specs) or nil }
    local max_tokens = choose { 0, 0, 1, math.random(20), 16 - #tokens % 16 }
    local twin = chance(0.3) and world.sequences > 1
    local most = math.min(MOST, lm.context, twin and math.floor(world.blocks / 2) * 16 or world.blocks * 16)
    if #tokens > most then for i = #tokens, most + 1, -1 do tokens[i] = nil end end
    if chance(0.1) then max_tokens = most end -- up to the last position that there is
    max_tokens = math.min(max_tokens, most - #tokens)
    own.most = #tokens + max_tokens
    if #tokens > 1 and chance(0.4) then own.logprobs_from = math.random(#tokens - 1) end
    if chance(0.2) then own.logits_from = math.random(0, #tokens - 1) end
    own.twin = twin and (max_tokens > 0 or own.logprobs_from) and true or nil
    if own.logprobs_from and not own.twin and chance(0.5) then
        own.others = {}
        for k = 1, math.random(0, world.sequences - 1) do own.others[k] = math.random(0, lm.vocab - 1) end
    end
    own.temperature = chance(0.2) and 1 or nil
    own.prompt_tokens = chance(0.5) and math.random(0, math.min(#tokens, choose { 12, 200 })) or #tokens
    own.history = { { from = 0, spec = own.spec } }
    return own, {
        tokens = tokens, spec = own.spec, max_tokens = max_tokens, twin = own.twin, logits_from = own.logits_from,
        logprobs_from = own.logprobs_from, others = own.others, apart = chance(0.3),
        temperature = own.temperature, prompt_tokens = own.prompt_tokens,
        ignore_eos = chance(0.7), seed = math.random(1e6), from = chance(0.7) and #world.kept > 0
            and world.kept[math.random(#world.kept)] or nil,
    }
end

local actions = {}

function actions.add(world)
    local own, request = random_request(world)
    own.id = world.session:add(request)
    table.insert(world.open, own)
end

function actions.fork(world, own)
    local session, lm = world.session, world.lm
    local status = session:status(own.id)
    local tokens, fork = { unpack(own.tokens) }, {}
    for _, token in ipairs((session:tokens(own.id))) do tokens[#tokens + 1] = token end
    local most = math.min(MOST, lm.context, own.twin and math.floor(world.blocks / 2) * 16 or world.blocks * 16)
    if #tokens >= most then return end
    local max_tokens = math.random(own.twin and 1 or 0, math.min(30, most - #tokens))
    for _, key in ipairs { "lm", "spec", "twin", "temperature", "prompt_tokens" } do fork[key] = own[key] end
    fork.id, fork.tokens, fork.most = session:fork(own.id, max_tokens), tokens, #tokens + max_tokens
    fork.history = { { from = 0, spec = own.spec } }
    assert.equals(status.given + status.generated, session:status(fork.id).given)
    table.insert(world.open, fork)
end

function actions.set_spec(world, own)
    local status = world.session:status(own.id)
    own.spec = chance(0.8) and choose(world.specs) or nil
    world.session:set_spec(own.id, own.spec)
    if status.state ~= "waiting" and status.state ~= "running" then return end
    table.insert(own.history, { from = status.generated, spec = own.spec })
end

function actions.stop(world, own) world.session:stop(own.id) end

function actions.drop(world, own)
    check_sequence(world.session, own.id, own)
    world.session:drop(own.id)
    for i, other in ipairs(world.open) do
        if other == own then return table.remove(world.open, i) end
    end
end

function actions.drop_kept(world)
    local id = table.remove(world.kept)
    if id then world.session:drop(id) end
end

-- Some of the beginnings, run through the session unsteered and held, states after some layers kept.
local function keep(world)
    local layers, list, of, groups = {}, {}, {}, 0
    for layer = 0, world.lm.layers - 1 do layers[#layers + 1] = chance(0.6) and layer or nil end
    for i = 1, #layers > 0 and math.random(0, #world.beginnings) or 0 do
        list[i], of[i] = world.beginnings[i], {}
        for k = 1, #list[i] do
            of[i][k], groups = groups, groups + 1
        end
    end
    local object = groups > 0 and capture(world.lm, C.STEER_SITE_LAYER, layers, groups)
    for i, tokens in ipairs(list) do
        world.kept[i] = world.session:add { tokens = tokens, hold = true, capture = { object = object,
            groups = of[i] } }
    end
    while world.session:step() > 0 do end
end

function actions.step(world) for _ = 1, math.random(6) do world.session:step() end end

local OFTEN = { "add", "add", "add", "step", "step", "step", "step", "step", "fork", "set_spec", "stop", "drop",
    "drop_kept" }

local function run_session()
    local model = open(choose(MODELS))
    local world = { lm = model.lm, open = {}, specs = {}, beginnings = {}, kept = {} }
    for i = 1, 3 do world.specs[i] = random_spec(world.lm, model.sites) end
    for i = 1, 3 do world.beginnings[i] = ids_of(world.lm, 16 * i + math.random(-1, 1)) end
    local room, blocks = random_room(world.lm)
    for _, tokens in ipairs(world.beginnings) do room.tokens = room.tokens + 16 * math.ceil(#tokens / 16) end
    world.session, world.blocks, world.sequences = world.lm:session(room), blocks, room.sequences
    keep(world)
    for _ = 1, math.random(10, 40) do
        local action = choose(OFTEN)
        if action == "add" or action == "step" or action == "drop_kept" and chance(0.3) then
            actions[action](world)
        elseif #world.open > 0 and action ~= "drop_kept" then
            actions[action](world, choose(world.open))
        end
    end
    local steps = 0
    while world.session:step() > 0 do
        steps = steps + 1
        if steps > 20000 then error("sequences wait for ever: " .. tostring(world.session), 0) end
    end
    while #world.open > 0 do actions.drop(world, world.open[1]) end
    while #world.kept > 0 do actions.drop_kept(world) end
    local stats = world.session:stats()
    assert.equals(stats.blocks, stats.blocks_free)
    world.session:close()
end

describe("a random session", function()
    it("gives every sequence what it is alone", function()
        for round = 1, helper.rounds(60) do helper.with_seed(helper.seed + round, run_session) end
        assert.is_true(begun > 100, begun .. " positions began with kept states")
    end)
end)

describe("a session", function()
    local function numbers(n)
        local ids = {}
        for i = 1, n do ids[i] = 4 + i % 50 end
        return ids
    end

    -- The long one gives back what lies behind its window; the twin must not wait behind it for what its sequence has.
    it("starts a sequence and its twin together, so that none waits for ever", function()
        local lm = open("variants/phi3_long").lm
        local session = lm:session { sequences = 8, tokens = 160, sharing = false }
        local long = session:add { tokens = numbers(140), max_tokens = 20, ignore_eos = true }
        repeat session:step() until session:status(long).computed >= 130
        local pair = session:add { tokens = numbers(60), max_tokens = 20, twin = true, ignore_eos = true }
        session:step()
        session:set_spec(long, steer.spec { [0] = { steer.add(T.ones { lm.hidden }, 0.1) } })
        for _ = 1, 100 do session:step() end
        assert.equals("length", session:status(long).state)
        assert.equals(20, #session:twin(pair).kl)
        session:close()
    end)

    it("forks with the random draws that come next", function()
        local session = open("models/llama").lm:session { sequences = 4, tokens = 640 }
        local request = { tokens = numbers(10), max_tokens = 40, temperature = 2, seed = 3, ignore_eos = true }
        local id = session:add(request)
        repeat session:step() until session:status(id).generated == 13
        local fork = session:fork(id, 20)
        repeat session:step() until session:status(fork).generated == 5
        local forks_fork = session:fork(fork, 15)
        request.seed = 4
        local other = session:add(request)
        while session:step() > 0 do end
        local whole = session:tokens(id)
        assert.equals(40, #whole)
        assert.same({ unpack(whole, 14, 33) }, (session:tokens(fork)))
        assert.same({ unpack(whole, 19, 33) }, (session:tokens(forks_fork)))
        assert.is_not.same(whole, (session:tokens(other)))
        session:close()
    end)

    it("counts what is steered, whether it was found in the cache or computed", function()
        local lm = open("models/llama").lm
        local request = { tokens = numbers(40), max_tokens = 3, ignore_eos = true,
            spec = steer.spec { [0] = { steer.add(T.ones { lm.hidden }, 0.1) },
                [1] = { steer.add(T.ones { lm.hidden }, 0.1, { where = { prompt_window = { 10, 20 } } }) } } }
        for _ = 1, 2 do assert.same({ [0] = 42, [1] = 10 }, lm:generate({ request })[1].steered) end
    end)

    it("refuses other specs for a sequence of which a capture has rows", function()
        local lm, groups = open("models/llama").lm, {}
        local object = capture(lm, C.STEER_SITE_LAYER, { 1 }, 1)
        for i = 1, 10 do groups[i] = 0 end
        local session = lm:session { sequences = 1, tokens = 64 }
        local id = session:add { tokens = numbers(10), max_tokens = 3, ignore_eos = true,
            capture = { object = object, groups = groups } }
        session:set_spec(id, nil)
        session:step()
        helper.fails("invalid_argument", "captured already", session.set_spec, session, id, nil)
        while session:step() > 0 do end
        assert.equals(10, tonumber(C.steer_capture_counts(object.handle)[0]))
        session:close()
    end)
end)
