-- The logit lens: the last layer gives the model's own logits, the others what norm and head make of their states.
-- devices: cpu cuda
local helper = require "helper"
local steer = require "steer"

local T = steer.tensor
local fails, near = helper.fails, helper.near

local function open(name, dtype)
    return steer.model("tests/fixtures/models/" .. name, { device = helper.device, dtype = dtype or "f32" })
end

local function prompt(lm, n, seed)
    local ids = {}
    for i, x in ipairs(T.rand({ n }, { seed = seed, device = "cpu" }):totable()) do
        ids[i] = math.floor(x * (lm.vocab - 5)) + 4
    end
    return { tokens = ids }
end

-- Probabilities in float64 of a row of logits.
local function softmax(row)
    local most, sum, p = -math.huge, 0, {}
    for _, x in ipairs(row) do most = math.max(most, x) end
    for k, x in ipairs(row) do
        p[k] = math.exp(x - most)
        sum = sum + p[k]
    end
    for k = 1, #p do p[k] = p[k] / sum end
    return p
end

-- Checks one list of a lens against probabilities: sorted, the largest, and the rank of what follows.
local function check_list(list, p, top, following)
    local order = {}
    for k = 1, #p do order[k] = k end
    table.sort(order, function(a, b) return p[a] > p[b] end)
    assert.equal(top, #list)
    for k, entry in ipairs(list) do
        near(entry.probability, p[order[k]], 1e-4 * p[order[k]] + 1e-6, "probability")
        near(p[entry.id + 1], p[order[k]], 1e-4 * p[order[k]] + 1e-6, "id")
        if k > 1 then assert(entry.probability <= list[k - 1].probability) end
    end
    if not following then return assert.is_nil(list.following) end
    local larger, near_by = 0, 0
    for k = 1, #p do
        if p[k] > p[following + 1] * (1 + 1e-4) then larger = larger + 1 end
        if p[k] > p[following + 1] * (1 - 1e-4) then near_by = near_by + 1 end
    end
    assert.equal(following, list.following.id)
    near(list.following.probability, p[following + 1], 1e-4 * p[following + 1] + 1e-6, "following")
    assert(list.following.rank > larger and list.following.rank <= near_by, list.following.rank)
end

describe("a lens", function()
    for _, name in ipairs { "llama", "gemma2", "gpt2", "phi", "cohere", "granite", "stablelm" } do
        it("ends in the model's own probabilities: " .. name, function()
            local lm = open(name)
            local request = prompt(lm, 11, 5)
            local lens, logits = lm:lens(request, { top = 4 }), lm:forward { request }[1]:totable()
            assert.equal(lm.layers, #lens.layers)
            for i = 1, 11 do
                check_list(lens[lm.layers - 1][i], softmax(logits[i]), 4, request.tokens[i + 1])
                assert.equal(i - 1, lens.positions[i])
            end
            lm:close()
        end)
    end

    it("reads each layer by the norm and the head", function()
        local lm = open "llama"
        local request = prompt(lm, 6, 2)
        local weights = steer.load("tests/fixtures/models/llama/model.safetensors")
        local norm = weights["model.norm.weight"]:to("f32"):totable()
        local head = (weights["lm_head.weight"] or weights["model.embed_tokens.weight"]):to("f32"):totable()
        local eps = lm.config.rms_norm_eps
        local spec = steer.spec { [0] = { steer.add(T.randn({ lm.hidden }, { seed = 3, device = "cpu" }), 1) } }
        local states = lm:capture({ request }, { tokens = "all", spec = spec }):totable()
        local lens = lm:lens(request, { top = 3, spec = spec })
        for layer = 0, lm.layers - 1 do
            for i = 1, 6 do
                local h, squares, logits = states[i][layer + 1], 0, {}
                for k = 1, lm.hidden do squares = squares + h[k] ^ 2 / lm.hidden end
                for id, row in ipairs(head) do
                    logits[id] = 0
                    for k = 1, lm.hidden do
                        logits[id] = logits[id] + row[k] * norm[k] * h[k] / math.sqrt(squares + eps)
                    end
                end
                check_list(lens[layer][i], softmax(logits), 3, request.tokens[i + 1])
            end
        end
    end)

    it("shows tokens as a table", function()
        local lm = steer.model("tests/fixtures/demo-model", { device = helper.device })
        local text = "The rain was cold and dark.\n Max"
        local lens = lm:lens(text, { layers = { 0, 7 }, top = 2 })
        local lines = {}
        for line in (tostring(lens) .. "\n"):gmatch "(.-)\n" do lines[#lines + 1] = line end
        assert.truthy(lines[1]:find("^layer .* was .* cold "), lines[1])
        assert.truthy(lines[1]:find("\\n", 1, true))
        assert.truthy(lines[2]:find "^    0  ")
        assert.truthy(lines[3]:find "^    7  ")
        assert.equal('layer  after " Max"', lines[5])
        local best = lens[7][#lens.positions][1]
        assert.truthy(lines[7]:find(("    7  %.3f %s"):format(best.probability, best.token), 1, true), lines[7])
        assert.equal(7, #lines)
        local last = lm:lens(text, { tokens = "last", layers = 7, top = 2 })
        assert.equal(best.id, last[7][1][1].id)
        assert.equal('layer  after " Max"', tostring(last):match "^[^\n]*")
        for line in tostring(lm:lens(text:rep(9))):gmatch "[^\n]+" do assert(#line <= 110, line) end
        assert.truthy(tostring(lm:lens "\230\188\162\240\159\153\130"):find("\230\188\162", 1, true))
    end)

    it("works in chunks, and without a tokenizer", function()
        local lm = open "qwen2"
        local lens = lm:lens({ tokens = { 4, 5, 6 } }, { tokens = { -1 }, top = lm.vocab, layers = { 0 } })
        assert.equal(lm.vocab, #lens[0][1])
        assert.equal("#" .. lens[0][1][1].id, lens[0][1][1].token)
        local sum = 0
        for _, entry in ipairs(lens[0][1]) do sum = sum + entry.probability end
        near(sum, 1, 1e-5, "sum")
        assert.same({ 2 }, lens.positions)
    end)

    it("says what is wrong", function()
        local lm = open "llama"
        local one = { tokens = { 4, 5 } }
        fails("invalid_argument", "top: 0", lm.lens, lm, one, { top = 0 })
        fails("invalid_argument", "top: " .. lm.vocab + 1, lm.lens, lm, one, { top = lm.vocab + 1 })
        fails("invalid_argument", "layers[1]", lm.lens, lm, one, { layers = { 99 } })
        fails("invalid_argument", "lens: text: its prompt has no tokens", lm.lens, lm, { tokens = {} })
        fails("invalid_argument", "position 2", lm.lens, lm, one, { tokens = { 2 } })
        fails("invalid_argument", 'unknown option "k"', lm.lens, lm, one, { k = 3 })
        local function full(x) return T.full({ lm.hidden }, x, { device = "cpu" }) end
        local bad = steer.spec { [0] = { steer.add(full(1e38)), steer.cap(full(1e15), { max = -1 }) } }
        fails("invalid_argument", "not finite", lm.lens, lm, one, { spec = bad })
        lm:close()
        fails("closed", "model", lm.lens, lm, one)
    end)
end)
