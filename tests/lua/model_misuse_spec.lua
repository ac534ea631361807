-- Models and sessions in the hands of somebody who means ill: every wrong call is an error of the library that names
-- what was wrong, and the model goes on.
-- devices: cpu
local helper = require "helper"
local steer = require "steer"
local error_object = require "steer.core.error"
local T = steer.tensor
local fails = helper.fails

local DEMO = "tests/fixtures/demo-model"
local PROMPT = "Once upon a time"

local lm, wanted
setup(function()
    lm = steer.model(DEMO, { device = "cpu" })
    wanted = lm:generate({ { prompt = PROMPT, max_tokens = 8 } })[1].text
end)

-- The model gives what it gave before.
local function goes_on()
    assert.equal(wanted, lm:generate({ { prompt = PROMPT, max_tokens = 8 } })[1].text)
end

local function ones(n, value) return T.full({ n }, value or 1, { device = "cpu" }) end

-- ---- Anything for anything -----------------------------------------------------------------------------------------

local JUNK = {
    0, 5, -1, 1.5, 0 / 0, 1 / 0, -1 / 0, 2 ^ 40, 2 ^ 53, 2 ^ 63, -2 ^ 63, "", "x", "a\255b", "a\0b", true, false, {},
    { 1 }, { 0, 0 }, { 3, 1 }, { -1, -9 }, { 0.5 }, { 0 / 0 }, { 1, nil, 3 }, { "a", "b" }, { {} }, { a = 1 }, tostring,
    T.ones({ 3 }, { device = "cpu" }), 5LL, coroutine.create(print), { { role = "user", content = "x" } },
    { object = { handle = 5 } }, { object = {}, groups = { 0 } },
}
local COUNT = 35 -- of the values above, some of which are false

-- Calls fn with each value; what it raises must be an error of the library.
local function with_each(name, fn)
    for i = 1, COUNT do
        local value = JUNK[i]
        local ok, err = pcall(fn, value)
        if not ok and not error_object.is(err) then
            error(("%s = %s: %s"):format(name, tostring(value), tostring(err)), 0)
        end
    end
end

-- The same with each field of a table that `base` makes.
local function with_fields(name, fields, base, fn)
    for field in fields:gmatch "%S+" do
        with_each(name .. "." .. field, function(value)
            local request = base(field)
            request[field] = value
            return fn(request)
        end)
    end
end

describe("whatever stands in a call of a model", function()
    local SAMPLING = " temperature top_k top_p min_p repetition_penalty seed ignore_eos"

    -- A request without what competes with the field.
    local function prompt_of(extra)
        return function(field)
            local request = {}
            for key, value in pairs(extra) do request[key] = value end
            if field ~= "messages" and field ~= "tokens" then request.prompt = "Once" end
            return request
        end
    end

    it("is taken or refused: methods", function()
        local names = "generate score forward perplexity capture direction session encode decode tokens chat"
        for name in names:gmatch "%a+" do
            with_each(name, function(value) return lm[name](lm, value) end)
            with_each(name .. " without a model", function(value) return lm[name](value) end)
            fails("invalid_argument", "self: expected a model, got nothing; methods are called with a colon", lm[name])
        end
        fails("invalid_argument", "self: expected a model", lm.close)
        goes_on()
    end)

    it("is taken or refused: fields of requests", function()
        with_fields("generate", "prompt messages tokens spec max_tokens stop tools add_generation_prompt" .. SAMPLING,
            prompt_of { max_tokens = 2 }, function(request) return lm:generate { request } end)
        with_fields("score", "prompt messages tokens options spec tools add_generation_prompt",
            prompt_of { options = { " a", " b" } }, function(request) return lm:score { request } end)
        with_fields("capture", "prompt messages tokens response spec", prompt_of {},
            function(request) return lm:capture { request } end)
        with_each("option", function(value) return lm:score { { prompt = "Once", options = { value } } } end)
        with_each("text", function(value) return lm:perplexity { value } end)
        with_each("on_token", function(value)
            return lm:generate { { prompt = "Once", max_tokens = 2 }, on_token = value }
        end)
        goes_on()
    end)

    it("is taken or refused: options", function()
        for reduce in ("mean moments"):gmatch "%a+" do
            with_fields("capture", "layers at tokens reduce spec max_tokens temperature seed",
                function() return { reduce = reduce } end, function(opts) return lm:capture({ "Once upon" }, opts) end)
        end
        with_fields("direction", "positive negative method layers tokens at spec held_out", function()
            return {
                positive = { "He was happy", "It was fun" }, negative = { "He was sad", "It was bad" }, held_out = 0.5,
            }
        end, function(opts) return lm:direction(opts) end)
        with_fields("model", "device dtype progress", function() return {} end,
            function(opts) return steer.model("tests/fixtures/models/llama", opts) end)
        with_each("perplexity", function(value) return lm:perplexity("a b c", { spec = value }) end)
        with_each("encode", function(value) return lm:encode("x", { special = value }) end)
        with_each("decode", function(value) return lm:decode({ 1 }, { skip_special = value }) end)
        goes_on()
    end)

    it("is taken or refused: sessions", function()
        with_fields("session", "sequences tokens rows vector_bytes sharing", function() return {} end, function(opts)
            lm:session(opts):close()
        end)
        local session = lm:session { sequences = 2, tokens = 64 }
        with_fields("add", "tokens prompt messages spec max_tokens prompt_tokens stop_ids logprobs_from logits_from "
            .. "others apart "
            .. "capture add_generation_prompt tools" .. SAMPLING, function(field)
            return (field == "prompt" or field == "messages") and {} or { tokens = { 1, 2, 3 } }
        end, function(request)
            local id = session:add(request)
            while session:step() > 0 do end
            session:drop(id)
        end)
        for name in ("add step status tokens logprobs logits steered fork set_spec stop drop stats"):gmatch "[%a_]+" do
            with_each(name, function(value) return session[name](session, value) end)
            with_each(name .. "(0, ...)", function(value) return session[name](session, 0, value) end)
            with_each(name .. " without a session", function(value) return session[name](value) end)
            fails("invalid_argument", "self: expected a session, got nothing", session[name])
        end
        fails("invalid_argument", "self: expected a session", session.close)
        session:close()
        goes_on()
    end)

    it("is taken or refused: tokenizers", function()
        local tokenizer, stream = lm.tokenizer, lm.tokenizer:stream()
        for name in ("encode decode tokens id is_special stream"):gmatch "[%a_]+" do
            with_each(name, function(value) return tokenizer[name](tokenizer, value) end)
            with_each(name .. " without one", function(value) return tokenizer[name](value) end)
            fails("invalid_argument", "self: expected a tokenizer, got nothing", tokenizer[name])
        end
        fails("invalid_argument", "self: expected a tokenizer", tokenizer.close)
        with_each("push", function(value) return stream:push(value) end)
        fails("invalid_argument", "self: expected a stream", stream.push, 5)
        fails("invalid_argument", "self: expected a stream", stream.finish)
        with_each("model", steer.model)
        with_each("tokenizer", steer.tokenizer)
        with_each("chat_template", steer.chat_template)
        goes_on()
    end)
end)

-- ---- What the errors say -------------------------------------------------------------------------------------------

describe("a request that cannot be", function()
    local function refused(code, text, requests)
        local err = fails(code, text, lm.generate, lm, requests)
        assert.equal("generate", err.op)
        goes_on()
    end

    it("is named among the others", function()
        local good = { prompt = "Once", max_tokens = 2 }
        local long = {}
        for i = 1, lm.context + 1 do long[i] = 5 end
        local cases = {
            { "invalid_argument", "requests[2].tokens: the list has holes", { tokens = { 1, nil, 3 } } },
            { "invalid_argument", "requests[2]: tokens[3]: id 786, expected 0 to 785", { tokens = { 1, 2, 786 } } },
            { "invalid_argument", "requests[2]: tokens[1]: id -1", { tokens = { -1 } } },
            { "invalid_argument", "requests[2]: tokens[2]: expected an integer, got nan", { tokens = { 1, 0 / 0 } } },
            { "invalid_argument", "requests[2]: its prompt has no tokens", { prompt = "" } },
            { "invalid_argument", "requests[2]: its prompt has no tokens", { tokens = {} } },
            { "invalid_argument", "requests[2]: it has none of prompt, messages and tokens", {} },
            { "invalid_argument", "requests[2]: it has 2 of prompt", { prompt = "a", tokens = { 1 } } },
            { "invalid_argument", "requests[2]: 513 tokens, the model's context is 512",
                { tokens = long } },
            { "invalid_argument", "requests[2]: 1 tokens and 1000000000000000 to generate, the model's context is 512",
                { tokens = { 1 }, max_tokens = 1e15 } },
            { "invalid_argument", "requests[2].max_tokens: 1e+99 is out of range, expected 0 to",
                { tokens = { 1 }, max_tokens = 1e99 } },
            { "format", "requests[2]: text: byte 2 (0xFF) is not UTF-8", { prompt = "a\255b" } },
            { "invalid_argument", "requests[2].tools: it goes with messages", { prompt = "a", tools = {} } },
            { "invalid_argument", "requests[2].stop[2]: an empty text", { prompt = "a", stop = { "x", "" } } },
            { "invalid_argument", "requests[2].stop: expected a list", { prompt = "a", stop = { x = "y" } } },
            { "invalid_argument", 'requests[2]: unknown option "max_token", did you mean "max_tokens"?',
                { prompt = "a", max_token = 3 } },
            { "invalid_argument", "requests[2]: spec: layer 8, expected 0 to 7",
                { prompt = "a", spec = steer.spec { [8] = { steer.add(ones(lm.hidden)) } } } },
            { "shape_mismatch", "requests[2]: spec: vectors of 3 elements, the model's hidden size is 192",
                { prompt = "a", spec = steer.spec { [1] = { steer.add { 1, 2, 3 } } } } },
        }
        for _, case in ipairs(cases) do
            refused(case[1], case[2], { good, case[3] })
        end
    end)

    it("is named with its part", function()
        fails("format", "score: requests[1].options[2]: text: byte 2 (0xFF)", lm.score, lm,
            { { prompt = "a", options = { "b", "a\255" } } })
        fails("invalid_argument", "score: requests[1].options[1]: it has no tokens", lm.score, lm,
            { { prompt = "a", options = { "" } } })
        fails("format", "perplexity: texts[2]: text: byte 1", lm.perplexity, lm, { "a b c", "\255" })
        fails("invalid_argument", "texts[1]: 1 token, expected 2 or more", lm.perplexity, lm, { { 1 } })
        fails("format", "capture: prompts[1].response: text: byte 1", lm.capture, lm,
            { { prompt = "a", response = "\255" } }, { tokens = "response" })
        fails("invalid_argument", "temperature: it goes with max_tokens", lm.capture, lm, { "a" }, { temperature = 1 })
        fails("invalid_argument", "on_token: expected a function", lm.generate, lm, { "a", on_token = 5 })
        fails("invalid_argument", "generate: requests: the list has holes", lm.generate, lm,
            { "a", nil, "b", on_token = print })
        fails("invalid_argument", "perplexity: texts[2]: tokens[2]: id -5", lm.perplexity, lm, { "ab c", { 1, -5 } })
        fails("invalid_argument", "perplexity: texts: the list has holes", lm.perplexity, lm, { "a b", nil, "c d" })
        fails("invalid_argument", 'score: requests: expected a list, found the key "spec"', lm.score, lm,
            { { prompt = "a", options = { "b" } }, spec = 1 })
    end)

    it("names the number that the library cannot take, whatever its size", function()
        local session = lm:session { sequences = 2, tokens = 64 }
        local BAD = {
            { "max_tokens: -1, expected 0 or more", { max_tokens = -1 } },
            { "prompt_tokens: -1 is out of range, expected at least 0", { prompt_tokens = -1 } },
            { "prompt_tokens: 4, expected 0 to 3", { prompt_tokens = 4 } },
            { "top_k: -1, expected from 0 to 2147483647", { top_k = -1 } },
            { "top_k: 8589934592 is out of range, expected an integer of 32 bits", { top_k = 2 ^ 33 } },
            { "from: sequence -2, the session has no such sequence", { from = -2 } },
            { "stop_ids[1]: 1099511627776 is out of range", { stop_ids = { 2 ^ 40 } } },
            { "tokens[2]: id -1, expected 0 to", { tokens = { 1, -1 } } },
            { "logits_from: -2, expected -1 to 2", { logits_from = -2 } },
        }
        for _, bad in ipairs(BAD) do
            bad[2].tokens = bad[2].tokens or { 1, 2, 3 }
            fails("invalid_argument", bad[1], session.add, session, bad[2])
        end
        local id = session:add { tokens = { 1, 2, 3 }, max_tokens = 2 }
        fails("invalid_argument", "start: -1, expected 0 to 0", session.tokens, session, id, -1)
        fails("invalid_argument", "start: -9007199254740992, expected 0 to 0", session.tokens, session, id, -2 ^ 53)
        fails("invalid_argument", "max_tokens: -1, expected 0 or more", session.fork, session, id, -1)
        fails("invalid_argument", "id: -1, the session has no such sequence", session.status, session, -1)
        session:close()
        local function makes(key, value) return function() lm:session { [key] = value } end end
        fails("invalid_argument", "sequences: 0, expected 1 to 65536", makes("sequences", 0))
        fails("invalid_argument", "sequences: 1099511627776 is out of range", makes("sequences", 2 ^ 40))
        fails("invalid_argument", "tokens: 0, expected 1 to", makes("tokens", 0))
        fails("invalid_argument", "rows: -1, expected 0 to 1048576", makes("rows", -1))
        fails("invalid_argument", "vector_bytes: -1, expected 0", makes("vector_bytes", -1))
    end)

    it("of a closed spec is refused", function()
        local spec = steer.spec { [1] = { steer.add(ones(lm.hidden)) } }
        spec:close()
        refused("closed", "requests[1]: spec: it is closed", { { prompt = "a", spec = spec } })
    end)
end)

-- ---- Numbers that end ----------------------------------------------------------------------------------------------

describe("logits that are not finite", function()
    local half, too_much
    setup(function()
        half = steer.model(DEMO, { device = "cpu", dtype = "f16" })
        too_much = steer.spec { [1] = { steer.add(ones(half.hidden, 6e4), 4) } } -- beyond f16
    end)

    it("name the request; the others have their results", function()
        local good = { prompt = PROMPT, max_tokens = 6 }
        local alone = half:generate({ good })[1].text
        local requests = { good, { prompt = PROMPT, max_tokens = 6, spec = too_much }, good }
        local err = fails("invalid_argument", "requests[2]: the logits at position 7 are not finite", half.generate,
            half, requests)
        assert.equal("generate", err.op)
        assert.equal(alone, half.last[1].text)
        assert.equal("failed", half.last[2].finish)
        assert.equal(alone, half.last[3].text)
        assert.equal(alone, half:generate({ good })[1].text)
    end)

    it("are no log probabilities", function()
        fails("invalid_argument", "score: requests[2]: the logits at position 7", half.score, half, {
            { prompt = PROMPT, options = { " a" } }, { prompt = PROMPT, options = { " a" }, spec = too_much },
        })
        fails("invalid_argument", "perplexity: texts[1]: the logits at position 0", half.perplexity, half, PROMPT,
            { spec = too_much })
    end)

    it("name the prompt of a grid", function()
        local opts = { vector = ones(half.hidden, 6e4), layers = { 1 }, scales = { 0, 4 }, prompts = { PROMPT, "a" } }
        for _, way in ipairs { { generate = { max_tokens = 3 } }, { score = { " a", " b" } } } do
            opts.generate, opts.score = way.generate, way.score
            local grid = half:grid(opts)
            assert.equal(1, #grid.failures)
            helper.found(grid.failures[1].reason, "grid: prompts%[%d%]: the logits at position %d are not finite")
        end
        opts.generate, opts.score = { temperature = -1 }, nil
        fails("invalid_argument", "grid: prompts[1]: temperature: -1", half.grid, half, opts)
    end)

    it("come to Lua as numbers, whatever their bits are", function()
        local session = half:session { tokens = 64 }
        local id = session:add { prompt = PROMPT, logprobs_from = 1, max_tokens = 2, spec = too_much }
        while session:step() > 0 do end
        assert.equal("failed", session:status(id).state)
        for _, x in ipairs(session:logprobs(id)) do
            assert.equal("number", type(-x)) -- LuaJIT takes other bits for other things
        end
    end)
end)

-- ---- Calls within calls, ends in the middle ------------------------------------------------------------------------

describe("on_token", function()
    it("may call the model, also where that needs more room", function()
        local inner
        local many = {}
        for i = 1, 12 do many[i] = { prompt = "Then", max_tokens = 20, ignore_eos = true } end -- 8 have room at first
        local out = lm:generate({ { prompt = PROMPT, max_tokens = 8 }, on_token = function()
            inner = inner or lm:generate(many)
        end })
        assert.equal(wanted, out[1].text)
        assert.equal(20, #inner[12].tokens)
        goes_on()
    end)

    it("may fail, yield and forget the requests", function()
        local ok, err = pcall(lm.generate, lm, { { prompt = "Once", max_tokens = 5 }, on_token = function()
            error "mine"
        end })
        assert.is_false(ok)
        assert.truthy(tostring(err):find "mine")
        local pieces = coroutine.wrap(function()
            lm:generate { { prompt = PROMPT, max_tokens = 8 }, on_token = function(_, piece)
                coroutine.yield(piece)
            end }
        end)
        assert.equal(wanted:sub(1, 3), (pieces() .. pieces() .. pieces()):sub(1, 3))
        local requests = { { prompt = PROMPT, max_tokens = 8 } }
        requests.on_token = function()
            requests[1] = nil
            collectgarbage()
        end
        assert.equal(wanted, lm:generate(requests)[1].text)
        goes_on()
    end)

    it("may close the model, which ends the call", function()
        local other = steer.model("tests/fixtures/demo-model", { device = "cpu" })
        fails("closed", "session: it is closed", other.generate, other, { { prompt = "Once", max_tokens = 5 },
            on_token = function() other:close() end })
        fails("closed", "model: it is closed", other.generate, other, { "Once" })
    end)

    it("may be where Ctrl-C comes, which keeps what there is", function()
        local C, said = require("steer.core.c").C, nil
        local err = fails("interrupted", "", lm.generate, lm, {
            { prompt = PROMPT, max_tokens = 300, ignore_eos = true },
            on_token = function()
                if not said then C.steer_interrupt_raise() end
                said = true
            end,
        })
        require("steer.core.c").interrupted = false
        assert.equal("interrupted", err.code)
        assert.equal("interrupted", lm.last[1].finish)
        assert.is_true(#lm.last[1].tokens > 0)
        goes_on()
    end)
end)

describe("a model", function()
    it("may be closed while sessions of it live", function()
        local other = steer.model(DEMO, { device = "cpu" })
        local session = other:session { tokens = 64 }
        local id = session:add { prompt = PROMPT, max_tokens = 8 }
        other:close()
        other:close()
        assert.equal("model (closed)", tostring(other))
        while session:step() > 0 do end
        assert.equal(wanted, lm:decode((session:tokens(id))))
        assert.equal("number", type(session:add { tokens = { 1, 2 } }))
        fails("closed", "model: it is closed", session.add, session, { prompt = "text" })
        fails("closed", "", other.encode, other, "x")
        session:close()
        session:close()
        fails("closed", "session: it is closed", session.step, session)
        assert.equal("session (closed)", tostring(session))
    end)

    it("and what is made of it may be collected in any order", function()
        for round = 1, 24 do
            local held = { model = steer.model("tests/fixtures/models/llama", { device = "cpu" }) }
            held.spec = steer.spec { [1] = { steer.add(ones(held.model.hidden)) } }
            held.session = held.model:session { tokens = 64, sequences = 2 }
            local id = held.session:add { tokens = { 1, 2, 3 }, max_tokens = 3, spec = held.spec, logits_from = 0 }
            held.model:generate { { tokens = { 1, 2 }, max_tokens = 2 } }
            for _, name in ipairs(({ { "model", "spec" }, { "spec", "model" }, { "spec" } })[round % 3 + 1]) do
                if round % 2 == 0 then held[name]:close() end
                held[name] = nil
                collectgarbage()
                collectgarbage()
            end
            held.session:step()
            local logits = held.session:logits(id)
            held = nil -- luacheck: ignore
            collectgarbage()
            collectgarbage()
            assert.same({ 3, 96 }, logits:size())
            assert.is_true(logits:max() > -math.huge)
        end
    end)
end)

-- ---- Memory --------------------------------------------------------------------------------------------------------

describe("a session that is full", function()
    it("lets sequences wait until there is room", function()
        local session, ids = lm:session { sequences = 4, tokens = 64, sharing = false }, {}
        for i = 1, 6 do ids[i] = session:add { tokens = { 1, 2, 3, i }, max_tokens = 28, ignore_eos = true } end
        session:step()
        assert.equal(4, session:stats().waiting)
        while session:step() > 0 do end
        for i = 1, 6 do
            local alone = lm:session { tokens = 64 }
            local id = alone:add { tokens = { 1, 2, 3, i }, max_tokens = 28, ignore_eos = true }
            while alone:step() > 0 do end
            assert.same((alone:tokens(id)), (session:tokens(ids[i])))
        end
        session:drop(ids[1])
        fails("invalid_argument", "id: 0, the session has no such sequence", session.status, session, ids[1])
        fails("invalid_argument", "id: 0, the session has no such sequence", session.fork, session, ids[1], 4)
    end)

    it("refuses what it can never hold", function()
        local session = lm:session { sequences = 1, tokens = 32 }
        fails("invalid_argument", "tokens: 2 and 100 to generate, the session's cache has room for 32", session.add,
            session, { tokens = { 1, 2 }, max_tokens = 100 })
        local id = session:add { tokens = { 1 }, max_tokens = 4, ignore_eos = true }
        while session:step() > 0 do end
        fails("invalid_argument", "and 1000 to generate", session.fork, session, id, 1000)
        assert.equal("length", session:status(id).state)
    end)

    it("says what it would need, at once", function()
        fails("out_of_memory", "KV cache: 4398046478336 bytes were asked for on cpu", lm.session, lm,
            { tokens = 2 ^ 31 - 17, sequences = 65536 })
        goes_on()
    end)

    it("is not read beyond what it was given", function()
        local session, raw = lm:session { tokens = 64 }, require "steer.core.c"
        local ffi = require "ffi"
        local desc, out = raw.descriptor "steer_capture_desc", ffi.new "steer_capture *[1]"
        local layers = ffi.new("int32_t[1]", { 0 })
        desc.site, desc.groups, desc.layer_count, desc.layers = raw.C.STEER_SITE_LAYER, 1, 1, layers
        raw.check(raw.C.steer_capture_create(out, lm:handle_for "test", desc))
        local capture = { handle = raw.own(out[0], raw.C.steer_capture_release) }
        fails("shape_mismatch", "capture.groups: 1 entries, the sequence has 3 tokens", session.add, session,
            { tokens = { 1, 2, 3 }, capture = { object = capture, groups = { 0 } } })
        fails("invalid_argument", "capture.object: expected a capture", session.add, session,
            { tokens = { 1 }, capture = { object = { handle = 5 }, groups = { 0 } } })
    end)
end)
