--- formality.lua: finds a direction of formal against casual language in a chat model from 32 pairs of openings, and
-- steers answers with it; scored by how likely the model finds a formal reply beside a casual one.
-- Usage: steer run scripts/formality.lua MODEL [LAYER, default 40 % of the depth [FILE.safetensors for the direction]]
local steer = require "steer"

local path = assert(arg[1], "usage: steer run scripts/formality.lua MODEL [LAYER [FILE.safetensors]]")
local lm = steer.model(path)
local layer = tonumber(arg[2]) or math.floor(lm.layers * 0.4)

local TOPICS = {
    "the weather", "my cat", "the train", "a book", "breakfast", "the game", "her job", "the rain", "this city",
    "music", "the party", "school", "our trip", "the news", "his car", "dinner",
}
local formal, casual = {}, {}
for _, topic in ipairs(TOPICS) do
    table.insert(formal, "Dear Sir or Madam, I am writing to you with regard to " .. topic
        .. ". I would be most grateful if")
    table.insert(casual, "hey dude lol, so about " .. topic .. " haha yeah gonna")
    table.insert(formal, "It is with great pleasure that I address the matter of " .. topic
        .. ". Furthermore, one must")
    table.insert(casual, "omg guys " .. topic .. " is so cool!! wanna hang out n stuff cuz")
end
local directions, info = lm:direction { positive = formal, negative = casual }
print(lm)
print(("layer %d: held-out accuracy %.3f, |direction| %.1f"):format(layer, info[layer].accuracy,
    directions[layer]:norm()))

local QUESTION = { { role = "user", content = "What do you think of the new restaurant?" } }
local REPLIES = {
    " It was a great pleasure, thank you for the kind invitation.", " haha yeah dude it was so cool",
}
local SCALES = { 0, 0.25, 0.5, -0.25, -0.5 }
local texts, scored = {}, {}
for i, scale in ipairs(SCALES) do
    local spec = steer.spec { [layer] = { steer.add(directions[layer], scale) } }
    texts[i] = { messages = QUESTION, spec = spec, max_tokens = 32 }
    scored[i] = { prompt = "A: Thanks for coming to the party!\nB:", options = REPLIES, spec = spec }
end
local out, scores = lm:generate(texts), lm:score(scored)
print "scale  P(formal)  answer"
for i, scale in ipairs(SCALES) do
    print(("%5.2f  %9.3f  %s"):format(scale, scores[i][1].probability, (out[i].text:gsub("%s+", " "))))
end
if arg[3] then steer.save(arg[3], { ["layer." .. layer] = directions[layer] }) end
