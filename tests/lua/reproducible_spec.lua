-- A request of a reproducible model: the same tokens and bits alone and in random batches.
-- devices: cpu cuda
local helper = require "helper"
local steer = require "steer"
local T = steer.tensor

local function ids_of(lm, n)
    local ids = {}
    for i = 1, n do ids[i] = math.random(4, lm.vocab - 1) end
    return ids
end

local function random_spec(lm)
    local function v() return T.randn({ lm.hidden }, { seed = math.random(1e6) }) end
    local at = math.random(0, lm.layers - 1)
    return steer.spec {
        [0] = { steer.add(v(), math.random()), steer.ablate(v(), 0.5, { at = "embed" }) },
        [at > 0 and at or lm.layers] = at > 0 and { steer.cap(v(), { max = 0.2, where = { prompt = "all" } }),
            steer.add(v(), 0.5, { when = { vector = v(), above = 0 } }) } or nil,
    }
end

local function random_request(lm, beginning)
    local tokens = math.random() < 0.3 and { unpack(beginning, 1, math.random(#beginning)) } or {}
    for _, id in ipairs(ids_of(lm, math.random(1, 40))) do tokens[#tokens + 1] = id end
    return { tokens = tokens, max_tokens = math.random(0, 9), ignore_eos = true, temperature = math.random(0, 1),
        seed = math.random(100), spec = math.random() < 0.6 and random_spec(lm) or nil }
end

-- Runs all and gives what came of request number `mine`.
local function run(lm, opts, requests, mine)
    local session, id = lm:session(opts), nil
    for i, request in ipairs(requests) do
        local added = session:add(request)
        if i == mine then id = added end
        if math.random() < 0.3 then session:step() end
    end
    while session:step() > 0 do end
    local tokens, logprobs = session:tokens(id)
    local out = { tokens = tokens, logprobs = logprobs, logits = session:logits(id):to("cpu") }
    session:close()
    return out
end

local function bits(tensor) return table.concat(tensor:reshape(tensor:numel()):totable(), " ") end

describe("a reproducible model", function()
    for _, name in ipairs { "llama", "gemma2", "gpt2", "qwen3", "mixtral" } do
        for _, dtype in ipairs { "f32", "bf16" } do
            it(("gives a request the same bits alone and beside others: %s, %s"):format(name, dtype), function()
                helper.with_seed(helper.seed, function()
                    local lm = steer.model("tests/fixtures/models/" .. name,
                        { device = helper.device, dtype = dtype, reproducible = true })
                    assert.is_true(lm.reproducible)
                    local own = { tokens = ids_of(lm, 37), spec = random_spec(lm), max_tokens = 8, ignore_eos = true,
                        logits_from = 0, temperature = 0.7, seed = 3 }
                    local alone = run(lm, { sequences = 1, tokens = 64, sharing = false }, { own }, 1)
                    local expected = bits(alone.logits)
                    for round = 1, helper.rounds(100) do
                        local requests, mine = {}, math.random(1, 12)
                        for i = 1, math.random(mine, 14) do
                            requests[i] = i == mine and own or random_request(lm, own.tokens)
                        end
                        local room = { sequences = math.random(1, 14), tokens = 14 * 80,
                            rows = ({ 3, 7, 16, 33, 64, 256 })[math.random(6)], sharing = math.random() < 0.5 }
                        local got = run(lm, room, requests, mine)
                        assert.same(alone.tokens, got.tokens, "round " .. round)
                        assert.same(alone.logprobs, got.logprobs, "round " .. round)
                        assert.is_true(expected == bits(got.logits), "other bits in round " .. round)
                    end
                    lm:close()
                end)
            end)
        end
    end
end)
