-- Programs that run with the addition before their site: what they do to a row is what a plan does to it, bit for bit.
-- devices: cpu cuda
local helper = require "helper"
local steer = require "steer"
local T = steer.tensor

local LENGTHS = { 3, 5, 2, 9, 4, 1, 7, 6 }

-- A model of random weights with such a hidden size: 1088 is no power of two and more than a block of 128 threads.
local function open(hidden, dtype)
    local folder = os.tmpname()
    os.remove(folder)
    os.execute("mkdir " .. folder)
    local file = assert(io.open(folder .. "/config.json", "w"))
    file:write(([[{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": %d,
        "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": %d, "num_key_value_heads": %d,
        "vocab_size": 256, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "hidden_act": "silu", "tie_word_embeddings": true, "bos_token_id": 0, "eos_token_id": 1}]]):format(
        hidden, hidden / 32, hidden / 32))
    file:close()
    local lm = steer.model(folder, { weights = "random", seed = 4, device = helper.device, dtype = dtype })
    os.execute("rm -r " .. folder)
    return lm
end

local function ids_of(n, seed)
    local ids = {}
    for i = 1, n do ids[i] = (seed * 37 + i * 101) % 250 + 4 end
    return ids
end

-- Operations of a program: none, adds alone, one projection, two with adds, two on one vector, five, beyond f32.
local KINDS = { "none", "adds", "cap", "three", "twice", "five", "ablate", "large" }
local function operations(kind, hidden, site, seed)
    local opts, n = { at = site }, 10 * seed
    local function v(scale)
        n = n + 1
        return T.randn({ hidden }, { seed = n, device = "cpu" }) * (scale or 1)
    end
    local function cap() return steer.cap(v(), { min = -0.2, max = 0.1, at = site }) end
    if kind == "adds" then return { steer.add(v(), 0.5, opts), steer.add(v(), -0.25, opts) } end
    if kind == "cap" then return { cap() } end
    if kind == "three" then return { steer.add(v(), 0.3, opts), cap(), steer.ablate(v(), 0.5, opts) } end
    if kind == "twice" then
        local w = v()
        return { steer.ablate(w, 0.5, opts), steer.add(v(), 1, opts), steer.cap(w, { max = 0, at = site }) }
    end
    if kind == "five" then return { cap(), cap(), steer.add(v(), 0.3, opts), cap(), cap(), cap() } end
    if kind == "ablate" then return { steer.ablate(v(), 0, opts) } end
    if kind == "large" then return { steer.cap(v(1e30), { max = 0.1, at = site }), cap() } end
    if kind == "many" then return { cap(), cap(), cap(), cap(), cap(), cap(), cap(), cap() } end
end

local function layer_of(site) return site == "embed" and 0 or 1 end

-- Requests of so many kinds in turn, their specs at a site.
local function requests_of(lm, kinds, site, layer)
    local requests = {}
    for i, length in ipairs(LENGTHS) do
        local list = operations(kinds[(i - 1) % #kinds + 1], lm.hidden, site, i)
        requests[i] = { tokens = ids_of(length, i), spec = list and steer.spec { [layer] = list } or nil }
    end
    return requests
end

describe("a model's steering", function()
    local function equals_plan(lm, dtype, kinds, site)
        local hidden = lm.hidden
        local layer = layer_of(site)
        local requests, plain = requests_of(lm, kinds, site, layer), {}
        for i, request in ipairs(requests) do plain[i] = { tokens = request.tokens } end
        local function states(list)
            return lm:capture(list, { tokens = "all", layers = { layer }, at = site }):select(2, 1):to(dtype)
        end
        local expected, got = states(plain):contiguous(), states(requests):contiguous()
        local engine = steer.engine { hidden = hidden, dtype = dtype, device = helper.device }
        local batch = {}
        for i, request in ipairs(requests_of(lm, kinds, "layer", layer)) do
            batch[i] = { spec = request.spec, tokens = #request.tokens }
        end
        engine:plan(batch):apply(layer, expected)
        local what = ("%s, hidden %d, %s at %s"):format(dtype, hidden, table.concat(kinds, " "), site)
        assert.are.equal(0, (got:to("f32") - expected:to("f32")):abs():gt(0):sum(), what)
    end

    for _, dtype in ipairs { "bf16", "f16", "f32" } do
        it("is that of a plan, " .. dtype, function()
            for _, hidden in ipairs(helper.device == "cpu" and { 64 } or { 64, 544, 1088 }) do
                local lm = open(hidden, dtype)
                equals_plan(lm, dtype, KINDS, "layer")
                equals_plan(lm, dtype, { "adds", "none" }, "layer")
                equals_plan(lm, dtype, { "three", "cap" }, "attention")
                equals_plan(lm, dtype, { "cap" }, "embed")
                equals_plan(lm, dtype, { "three", "many" }, "layer")
                lm:close()
            end
        end)
    end

    it("does not depend on whether a neighbour's program can be folded", function()
        for _, dtype in ipairs { "bf16", "f32" } do
            local lm = open(helper.device == "cpu" and 64 or 544, dtype)
            local function run(last, graphs)
                local session, ids = lm:session { sequences = 12, tokens = 12 * 64, graphs = graphs }, {}
                for i = 1, 12 do
                    local kind = i == 12 and last or KINDS[i % 6 + 1]
                    local list = operations(kind, lm.hidden, "layer", i)
                    ids[i] = session:add { tokens = ids_of(4, i), max_tokens = 10, ignore_eos = true,
                        spec = list and steer.spec { [0] = list, [1] = list } or nil }
                end
                while session:step() > 0 do end
                local out = {}
                for i = 1, 11 do out[i] = { session:tokens(ids[i]) } end
                session:close()
                return out
            end
            local folded = run("cap", true)
            assert.are.same(folded, run("many", true))
            assert.are.same(folded, run("five", true))
            assert.are.same(folded, run("cap", false))
            lm:close()
        end
    end)
end)
