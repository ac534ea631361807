--- study_ablation.lua: finds one direction without which a behaviour is gone, and keeps the model as it is elsewhere.
--
-- The protocol of Arditi et al. 2024 (arXiv:2406.11717): candidates are the mean differences of hidden states between
-- prompts with and without the behaviour, at each layer of the first 80 % and each of the last token positions. Each
-- is ablated at every layer, from the embeddings and after attention and mlp, on all tokens but the first, whose
-- massive activations (Sun et al. 2024, arXiv:2402.17762) stay; the one that leaves least of the behaviour is chosen
-- among those whose KL on other prompts stays below a limit, and that bring the behaviour about where they are added.
local steer = require "steer"

local scripts = arg[0]:match("^(.*)/[^/]*$") or "."
if arg[1] == "--help" then
    print "usage: steer run study_ablation.lua [MODEL [PROMPTS.lua [KL, default 0.1]]]"
    print "  MODEL    a folder or .gguf file; default the demo model, with study_ablation_mood.lua as PROMPTS"
    print "  PROMPTS  returns {with, without, other: lists of texts; yes, no: what is said with the behaviour and"
    print "           without it}; default study_ablation_formal.lua"
    os.exit(0)
end
local lm = steer.model(arg[1] or scripts .. "/../tests/fixtures/demo-model")
local data = dofile(arg[2] or scripts .. (arg[1] and "/study_ablation_formal.lua" or "/study_ablation_mood.lua"))
local LIMIT, TRAIN, TEST, POSITIONS = assert(tonumber(arg[3] or 0.1), "KL: no number"), 32, 6, { -1, -2, -3 }
assert(type(data) == "table" and data.with and data.without and data.other and data.yes and data.no,
    "PROMPTS: expected with, without, other, yes and no")
local function slice(list, from, to)
    local part = {}
    for i = from, math.min(to, #list) do part[#part + 1] = list[i] end
    return part
end
local tests = {
    with = slice(data.with, TRAIN + 1, TRAIN + TEST), without = slice(data.without, TRAIN + 1, TRAIN + TEST),
}
assert(#tests.with > 0 and #tests.without > 0, "PROMPTS: expected more than 32 with and without the behaviour")

-- Ablation of a direction wherever the residual stream passes; blocks that run in parallel have no state in between.
local between = pcall(lm.capture, lm, { data.with[1] }, { at = "attention", layers = 0 })
local function everywhere(v)
    local function at(site) return steer.ablate(v, 0, { at = site, exclude = { prompt_positions = { 0 } } }) end
    local layers = {}
    for layer = 0, lm.layers - 1 do layers[layer] = { at "layer", between and at "attention" or nil } end
    table.insert(layers[0], at "embed")
    return steer.spec(layers)
end

-- Means over prompts of the behaviour's log odds, and of KL of the next token.
local function mean_score(prompts, spec, twin)
    local requests, odds, kl = {}, 0, 0
    for i, prompt in ipairs(prompts) do
        requests[i] = { prompt = prompt, options = { data.yes, data.no }, spec = spec, twin = twin }
    end
    for _, options in ipairs(lm:score(requests)) do
        odds, kl = odds + options[1].logit_difference / #prompts, kl + (twin and options[1].twin.kl[1] / #prompts or 0)
    end
    return odds, kl
end
print(lm)
local before, absent, best = mean_score(tests.with), mean_score(tests.without), nil
print "position  layer  ablated  added      KL"
for _, position in ipairs(POSITIONS) do
    local opts = { tokens = { position } }
    local a, b = lm:capture(slice(data.with, 1, TRAIN), opts), lm:capture(slice(data.without, 1, TRAIN), opts)
    local difference = a:mean(1) - b:mean(1)
    for layer = 0, math.ceil(0.8 * lm.layers) - 1, math.ceil(lm.layers / 12) do
        local v = difference:select(1, layer + 1)
        local spec, add = everywhere(v), steer.spec { [layer] = { steer.add(v) } }
        local _, kl = mean_score(slice(data.other, 1, TEST), spec, true)
        local c = { position = position, layer = layer, spec = spec, kl = kl, ablated = mean_score(tests.with, spec),
            added = mean_score(tests.without, add) - absent }
        print(("%8d  %5d  %7.2f  %5.2f  %6.3f"):format(position, layer, c.ablated, c.added, c.kl))
        if c.kl < LIMIT and c.added > 0 and not (best and best.ablated <= c.ablated) then best = c end
    end
end
if not best then
    print "no candidate has a KL below the limit and brings the behaviour about"
    os.exit(1)
end
print(("log odds of%s against%s: %.2f with the behaviour, %.2f without"):format(data.yes, data.no, before, absent))
print(("chosen: position %d, layer %d: ablated %.2f, KL %.3f"):format(best.position, best.layer, best.ablated, best.kl))
for _, request in ipairs { { "unsteered" }, { "ablated  ", best.spec } } do
    local out = lm:generate { { prompt = tests.with[1], max_tokens = 24, spec = request[2] } }
    print(request[1] .. " " .. out[1].text:gsub("%s+", " "))
end
