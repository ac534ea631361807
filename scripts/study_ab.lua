--- study_ab.lua: a steering curve on A/B questions: log odds of the matching answer over multipliers and layers.
--
-- The protocol of contrastive activation addition (Rimsky et al. 2023, arXiv:2312.06681) as steering-bench measures it
-- (Tan et al. 2024, arXiv:2407.12404): the vector of a layer is the mean difference of hidden states at the letter of
-- the answer, A or B, between matching and other answers of the training questions; added from the end of the question
-- on, it is judged on other questions. A layer's steerability is the slope of the mean log odds over the multipliers; a
-- question of negative slope is anti-steerable.
local steer = require "steer"

local scripts = arg[0]:match("^(.*)/[^/]*$") or "."
if arg[1] == "--help" then
    print "usage: steer run study_ab.lua [MODEL [ITEMS.lua [RESULTS.jsonl]]]"
    print "  MODEL    a folder or .gguf file; default the demo model, with study_ab_stories.lua"
    print "  ITEMS    returns a list of {question, matching answer, other answer}; with letters = false beside them the"
    print "           answers themselves stand in place of A and B; default study_ab_items.lua"
    print "  RESULTS  keeps the results as a sweep's, and goes on with what is there"
    os.exit(0)
end
local lm = steer.model(arg[1] or scripts .. "/../tests/fixtures/demo-model")
local items = dofile(arg[2] or scripts .. (arg[1] and "/study_ab_items.lua" or "/study_ab_stories.lua"))
for i, item in ipairs(type(items) == "table" and items or { false }) do
    local good = type(item) == "table" and type(item[1]) == "string" and item[2] and item[3]
    assert(good, ("ITEMS: entry %d, expected {question, matching answer, other answer}"):format(i))
end
local MULTIPLIERS = { -1.5, -1, -0.5, 0, 0.5, 1, 1.5 }
local chat = lm.template ~= nil

-- A question up to its answer, and the matching and the other answer.
local function question_of(item, number)
    if items.letters == false then return item[1], { item[2], item[3] } end
    local first, second = 2 + (number + 1) % 2, 3 - (number + 1) % 2 -- A matches every other time
    local text = ("%s\n\nChoices:\n (A) %s\n (B) %s"):format(item[1], item[first], item[second])
    text = (chat and lm:chat { { role = "user", content = text } } or text .. "\n\n") .. "Answer: ("
    return text, first == 2 and { "A", "B" } or { "B", "A" }
end
local function ids(text) return lm:encode(text, { special = not chat }) end

local positive, negative, held_out = {}, {}, {}
local train = math.floor(#items * 2 / 3)
for i, item in ipairs(items) do
    local text, answers = question_of(item, i)
    if i <= train then
        table.insert(positive, { tokens = ids(text .. answers[1]) })
        table.insert(negative, { tokens = ids(text .. answers[2]) })
    else
        table.insert(held_out, { tokens = ids(text), options = answers })
    end
end
assert(train >= 2 and #held_out > 0, "ITEMS: expected 4 questions or more")

local directions = lm:direction { positive = positive, negative = negative, held_out = 0 }
local grid, odds = lm:grid {
    name = "ab", directions = directions, scales = MULTIPLIERS, prompts = held_out, score = true,
    where = { prompt_positions = { -1 }, generation = "all" }, output = arg[3], resume = arg[3] ~= nil,
}

-- Slope of the least-squares line through (multiplier, value).
local function slope(values)
    local sxy, sxx, mean = 0, 0, 0
    for _, x in ipairs(MULTIPLIERS) do mean = mean + x / #MULTIPLIERS end
    for i, x in ipairs(MULTIPLIERS) do sxy, sxx = sxy + (x - mean) * values[i], sxx + (x - mean) ^ 2 end
    return sxy / sxx
end

print(lm)
print(("log odds of the matching answer: directions of %d questions, %d others steered"):format(train, #held_out))
print(grid)
print "\nlayer  steerability  anti-steerable"
local best
for l, layer in ipairs(grid.layers) do
    local means, against = odds[l]:mean(2):totable(), 0
    for p = 1, #held_out do
        if slope(odds[l]:select(2, p):totable()) < 0 then against = against + 1 end
    end
    local s = slope(means)
    print(("%5d  %12.3f  %13.0f%%"):format(layer, s, 100 * against / #held_out))
    if not best or s > best.slope then best = { layer = layer, slope = s } end
end
print(("\nmost steerable: layer %d, %.3f nats for a multiplier of 1"):format(best.layer, best.slope))
