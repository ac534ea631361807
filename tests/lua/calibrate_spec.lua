-- lm:calibrate: the strength that it finds has the KL that was asked for, by other means too; what it refuses.
-- devices: cpu cuda
local files = require "files"
local helper = require "helper"
local steer = require "steer"
local T = steer.tensor
local fails = helper.fails

local lm = steer.model("tests/fixtures/models/llama", { device = helper.device, dtype = "f32" })
local vector = T.randn({ lm.hidden }, { seed = 2 })
local spec = steer.spec { [1] = { steer.add(vector, 0.5), steer.ablate(T.randn({ lm.hidden }, { seed = 3 })) } }
local prompts = { { tokens = { 5, 9, 20, 31 } }, { tokens = { 40, 8, 8 } }, { tokens = { 77 } } }

-- The quantile of KL of a strength, from what lm:generate says.
local function measured(strength, tokens, q)
    local requests, kls = {}, {}
    for i, prompt in ipairs(prompts) do
        requests[i] = { tokens = prompt.tokens, spec = spec:scaled(strength), twin = true, max_tokens = tokens }
    end
    for _, result in ipairs(lm:generate(requests)) do
        for _, kl in ipairs(result.twin.kl) do kls[#kls + 1] = kl end
    end
    table.sort(kls)
    local at = (#kls - 1) * q
    local low = math.floor(at)
    return kls[low + 1] + (at - low) * ((kls[low + 2] or 0) - kls[low + 1]), #kls
end

describe("a calibrated strength", function()
    it("has the quantile of KL that was asked for", function()
        for _, case in ipairs { { 0.02, 0.95, 9 }, { 0.3, 0.5, 12 } } do
            local kl, q, tokens = unpack(case)
            local strength, curve = lm:calibrate(spec, { prompts = prompts, kl = kl, quantile = q, tokens = tokens })
            local found, n = measured(strength, tokens, q)
            assert.is_true(math.abs(found - curve.kl) < 1e-4 * math.max(1, found))
            assert.equals(n, curve.tokens)
            local stats = lm.shared_session:stats()
            assert.equals(stats.blocks, stats.blocks_free) -- no prompt is held any more
            assert.equals(strength, curve.scale)
            if curve.reached then
                assert.is_true(math.abs(found - kl) <= 0.02 * kl)
            else
                assert.is_true(found < kl and measured(strength * 1.002, tokens, q) > kl)
            end
            for i = 2, #curve do assert.is_true(curve[i].scale > curve[i - 1].scale) end
            assert.is_true(#curve % 8 == 0 and #curve <= 48)
            assert.truthy(tostring(curve):find("<-", 1, true))
        end
    end)

    it("draws its curve", function()
        if not require("steer.plot.gnuplot").exists() then return pending "no gnuplot" end
        local _, curve = lm:calibrate(spec, { prompts = prompts, kl = 0.02, tokens = 4 })
        local paths = curve:plot { out = files.path "curve.svg" }
        for _, text in ipairs { ">asked for<", ">found<", ">KL, its 0.95 quantile<", ">strength<" } do
            assert.truthy(files.get(paths.svg):find(text, 1, true), text)
        end
        assert.truthy(files.get(paths.tsv):find(("\n%.17g\t%.17g\t"):format(curve.scale, curve.kl), 1, true))
        files.done()
    end)

    it("is the same for the same seed, and finds tiny and huge vectors", function()
        local function of(scale, opts)
            local sized = steer.spec { [1] = { steer.add(vector, scale) } }
            opts.prompts, opts.kl, opts.tokens = prompts, 0.05, 8
            local strength, curve = lm:calibrate(sized, opts)
            return strength, tostring(curve)
        end
        local sampled = function(seed) return select(2, of(1, { temperature = 1, seed = seed })) end
        assert.equals(sampled(4), sampled(4))
        assert.not_equals(sampled(4), sampled(5))
        local one = of(1, {})
        assert.is_true(math.abs(of(1e-4, {}) / one / 1e4 - 1) < 0.05)
        assert.is_true(math.abs(of(1e4, {}) / one * 1e4 - 1) < 0.05)
    end)

    it("may be that of a function, and lies below a jump", function()
        local strength = lm:calibrate(function(s) return steer.spec { [1] = { steer.add(vector, s * s) } } end,
            { prompts = prompts, kl = 0.1, tokens = 6 })
        local straight = lm:calibrate(steer.spec { [1] = { steer.add(vector) } },
            { prompts = prompts, kl = 0.1, tokens = 6 })
        assert.is_true(math.abs(strength ^ 2 / straight - 1) < 0.05)
        local _, curve = lm:calibrate(function(s)
            return steer.spec { [1] = { steer.add(vector, s < 1 and s * 1e-3 or 50) } }
        end, { prompts = prompts, kl = 0.1, tokens = 6 })
        assert.is_false(curve.reached)
        assert.is_true(curve.scale < 1 and curve.scale > 0.998)
        assert.is_true(curve.kl < 0.1 and curve[#curve].kl > 0.1)
    end)
end)

describe("lm:calibrate refuses", function()
    local function refuses(code, text, s, opts)
        for key, value in pairs { prompts = prompts, tokens = 4 } do
            if opts[key] == nil then opts[key] = value end
        end
        fails(code, text, lm.calibrate, lm, s, opts)
    end

    it("what no strength reaches", function()
        refuses("invalid_argument", "kl: 400 is not reached: even at strength", spec, { kl = 400 })
        refuses("invalid_argument", "the 0.95 quantile of KL is 0 nats over 12 tokens of 3 prompts",
            steer.spec { [1] = { steer.add(vector, 1, { where = { generation_positions = { 50 } } }) } }, {})
        refuses("invalid_argument", "kl: 0.1 is not reached: already at strength",
            function() return steer.spec { [1] = { steer.add(vector, 50) } } end, { kl = 0.1 })
    end)

    it("what it cannot work with", function()
        refuses("invalid_argument", "prompts: the list is empty", spec, { prompts = {} })
        refuses("invalid_argument", "prompts: expected a list of texts or tables, got 3", spec, { prompts = 3 })
        refuses("invalid_argument", "prompts[2]: its prompt has no tokens", spec,
            { prompts = { prompts[1], { tokens = {} } } })
        refuses("invalid_argument", "prompts[1]: it has none of prompt, messages", spec, { prompts = { {} } })
        refuses("invalid_argument", "prompts[1]: 4 tokens and 100000 to generate", spec, { tokens = 100000 })
        local capped = steer.spec { [2] = { steer.cap(vector, { max = 1 }) } }
        refuses("unsupported", "layer 2: cap has no strength", capped, {})
        refuses("invalid_argument", "spec: it is empty", steer.spec {}, {})
        refuses("invalid_argument", "spec: expected what steer.spec makes, got nothing", nil, {})
        refuses("invalid_argument", "spec: layer 99", steer.spec { [99] = { steer.add(vector) } }, {})
        refuses("invalid_argument", "kl: nan, expected more than 0", spec, { kl = 0 / 0 })
        refuses("invalid_argument", "kl: inf, expected more than 0", spec, { kl = math.huge })
        refuses("invalid_argument", "quantile: 2, expected more than 0 and at most 1", spec, { quantile = 2 })
        refuses("invalid_argument", 'unknown option "quantil"', spec, { quantil = 2 })
    end)
end)
