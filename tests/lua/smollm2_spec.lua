-- SmolLM2-135M-Instruct, the Q4_1 GGUF file that STEER_TEST_SMOLLM2 names, against llama.cpp with the same weights
-- widened to f32: logits, greedy text and tokens. devices: cpu cuda
local helper = require "helper"
local json = require "dkjson"
local steer = require "steer"

local FOLDER = "tests/fixtures/smollm2/"
local path = os.getenv "STEER_TEST_SMOLLM2"

describe("SmolLM2-135M", function()
    local function test(name, fn)
        if path then return it(name, fn) end
        pending(name .. ": STEER_TEST_SMOLLM2 names no file", function() end)
    end

    local lm, golden
    setup(function()
        if not path then return end
        lm = steer.model(path, { device = helper.device, dtype = "f32" })
        golden = steer.load(FOLDER .. "golden.safetensors") -- tests/peers/smollm2.py made it
    end)

    -- Calls fn with each prompt's number and ids.
    local function each(fn)
        local count = 0
        while golden["ids." .. count] do
            fn(count, golden["ids." .. count]:totable())
            count = count + 1
        end
        assert.equal(6, count)
    end

    -- llama.cpp itself, whose products with quantized weights round activations to 8 bits, is up to 0.25 of a row's
    -- norm and 0.04 nats from this golden.
    test("has llama.cpp's logits, within 1e-4 of the row's root mean square", function()
        each(function(i, ids)
            local logits = lm:forward { { tokens = ids } }[1]:to("cpu")
            local best, values = golden["best." .. i]:totable(), golden["logits." .. i]:totable()
            local norms, totals = golden["norm." .. i]:totable(), golden["lse." .. i]:totable()
            for k = 1, #ids do
                local row, bound = logits[k], 1e-4 * norms[k] / math.sqrt(lm.vocab)
                local place = ("prompt %d, position %d"):format(i, k - 1)
                for j, id in ipairs(best[k]) do
                    helper.near(row:get(id + 1), values[k][j], bound, ("%s, token %d"):format(place, id))
                end
                helper.near(row:norm(), norms[k], 1e-4 * norms[k], place .. ", norm")
                helper.near(values[k][1] - math.log(row:softmax(1):get(best[k][1] + 1)), totals[k], 2 * bound, place)
            end
        end)
    end)

    test("generates llama.cpp's greedy text", function()
        local requests = {}
        each(function(i, ids) requests[i + 1] = { tokens = ids, max_tokens = 24, ignore_eos = true } end)
        local compared = 0
        for i, result in ipairs(lm:generate(requests)) do
            local tokens, margins = golden["greedy." .. i - 1]:totable(), golden["margin." .. i - 1]:totable()
            for k, id in ipairs(tokens) do
                if margins[k] <= 1e-3 then break end
                assert.equal(id, result.tokens[k], ("prompt %d, token %d"):format(i - 1, k))
                compared = compared + 1
            end
        end
        assert.is_true(compared > 100)
    end)

    test("has llama.cpp's tokens", function()
        local count = 0
        for line in io.lines(FOLDER .. "tokens.jsonl") do
            local case = json.decode(line)
            assert.same(case.ids, lm:encode(case.text, { special = false }), case.text)
            assert.equal(case.text, lm:decode(case.ids), case.text)
            count = count + 1
        end
        assert.is_true(count > 300)
    end)

    test("writes chats as its template does", function()
        local text = lm:chat { { role = "user", content = "Why is the sky blue? Answer in one sentence." } }
        assert.same(golden["ids.1"]:totable(), lm:encode(text, { special = false }))
    end)
end)
