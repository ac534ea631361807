--- study_persona.lua: the vector of a trait from a model's own answers, and what adding it does to other answers.
-- The protocol of persona vectors (Chen et al. 2025, arXiv:2507.21509): a model answers questions under instructions to
-- show a trait or its opposite; answers that do not are dropped; the vector of a layer is the difference of mean hidden
-- states over response tokens. Added to them at the layer where that works best, it is judged on other questions, by
-- the model itself: by how many nats an answer is likelier under the trait's instructions than the opposite ones.
local steer = require "steer"

local scripts = arg[0]:match("^(.*)/[^/]*$") or "."
if arg[1] == "--help" then
    print "usage: steer run study_persona.lua [MODEL [TRAIT.lua]]"
    print "  MODEL  a folder or .gguf file; default the demo model, with study_persona_cheerful.lua as TRAIT"
    print "  TRAIT  returns {positive, negative: instructions; questions}; default study_persona_formal.lua"
    os.exit(0)
end
local lm = steer.model(arg[1] or scripts .. "/../tests/fixtures/demo-model")
local trait = dofile(arg[2] or scripts .. (arg[1] and "/study_persona_formal.lua" or "/study_persona_cheerful.lua"))
assert(type(trait) == "table" and trait.positive and trait.negative and trait.questions and #trait.questions > 1,
    "TRAIT: expected positive, negative and two questions or more")
local half = math.floor(#trait.questions / 2)
local train, held_out = { unpack(trait.questions, 1, half) }, { unpack(trait.questions, half + 1) }
-- A question under an instruction: a system message, or a sentence before it.
local function ids_of(instruction, question)
    if not lm.template then return lm:encode((instruction and instruction .. " " or "") .. question) end
    local messages = { instruction and { role = "system", content = instruction } }
    messages[#messages + 1] = { role = "user", content = question }
    return lm:encode(lm:chat(messages), { special = false })
end
local function likelihood(instructions, question, ids)
    local requests, sum = {}, 0
    for k, by in ipairs(instructions) do requests[k] = { tokens = ids_of(by, question), options = { ids } } end
    for _, options in ipairs(lm:score(requests)) do sum = sum + options[1].logprob end
    return sum / #instructions
end
-- Judged answers, under an instruction or steered, and means of the trait and of KL from unsteered ones.
local function answers(questions, instruction, spec)
    local requests, mean = {}, { trait = 0, kl = 0 }
    for i, question in ipairs(questions) do
        requests[i] = { tokens = ids_of(instruction, question), spec = spec, twin = true, max_tokens = 32,
            temperature = 0.7, seed = i }
    end
    local results = lm:generate(requests)
    for i, result in ipairs(results) do
        result.trait = likelihood(trait.positive, questions[i], result.tokens)
            - likelihood(trait.negative, questions[i], result.tokens)
        mean.trait, mean.kl = mean.trait + result.trait / #results, mean.kl + result.twin.mean_kl / #results
    end
    return results, mean
end

-- Answers that show what is asked for, as prompts with a response.
local function responses(set, sign)
    local kept = {}
    for _, instruction in ipairs(trait[set]) do
        for _, result in ipairs((answers(train, instruction))) do
            if sign * result.trait > 0 and result.text ~= "" then
                kept[#kept + 1] = { tokens = result.given, response = result.text }
            end
        end
    end
    print(("%s: %d of %d answers show it"):format(set, #kept, #trait[set] * half))
    return kept
end
print(lm)
local vectors = lm:direction { positive = responses("positive", 1), negative = responses("negative", -1),
    tokens = "response", held_out = 0 }
local function steered(layer, coefficient)
    local add = steer.add(vectors[layer], coefficient, { where = { generation = "all" } })
    return answers(held_out, nil, steer.spec { [layer] = { add } })
end
local best = { effect = -math.huge }
for layer = 0, lm.layers - 1, math.ceil(lm.layers / 6) do
    local more, less = select(2, steered(layer, 1)).trait, select(2, steered(layer, -1)).trait
    print(("layer %2d: trait with coefficient 1: %6.2f, with -1: %6.2f"):format(layer, more, less))
    if more - less > best.effect then best = { layer = layer, effect = more - less } end
end
print(("\nlayer %d\ncoefficient   trait      KL  answer to: %s"):format(best.layer, held_out[1]))
for _, coefficient in ipairs { -2, -1, 0, 1, 2 } do
    local out, mean = steered(best.layer, coefficient)
    print(("%11g  %6.2f  %6.3f  %s"):format(coefficient, mean.trait, mean.kl, (out[1].text:gsub("%s+", " "))))
end
