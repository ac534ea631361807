--- quickstart.lua: opens a small language model, finds the direction of a mood in it, and steers one batch with it: the
-- same prompt unsteered, pushed, capped and ablated, with the text and the chances of happy and sad events beside it.
-- Usage: steer run scripts/quickstart.lua [FOLDER for the saved direction]
local steer = require "steer"

local fixtures = (arg[0]:match "^(.-)[^/]*$" .. "../tests/fixtures"):gsub("scripts/%.%./", "")
local folder = arg[1] or "."
local lm = steer.model(fixtures .. "/demo-model")
local file = assert(io.open(fixtures .. "/demo/prompts.json"))
local prompts = require("dkjson").decode(file:read "*a")
file:close()

local function printf(...) print(string.format(...)) end

print(lm)

-- ---- 1. A direction per layer, and whether it tells the moods apart on prompts it has not seen ----------------------

local directions, info = lm:direction { positive = prompts.happy, negative = prompts.sad, held_out = 1 / 3 }
local layer = info.best

printf("\nMood direction from %d happy and %d sad prompts, tested on %d others", #prompts.happy * 2 / 3,
    #prompts.sad * 2 / 3, #prompts.happy / 3 * 2)
print "layer  |direction|  held-out accuracy"
for l = 0, lm.layers - 1 do
    printf("%5d  %11.3f  %17.3f%s", l, directions[l]:norm(), info[l].accuracy,
        l == layer and "  <- steered below" or "")
end

-- ---- 2. One batch: the same prompt under seven specs ----------------------------------------------------------------

local v = directions[layer]
local function spec(op) return steer.spec { [layer] = { op } } end
local rows = {
    { "unsteered" },
    { "add 1 x", spec(steer.add(v, 1)) },
    { "add 2 x", spec(steer.add(v, 2)) },
    { "add -1.5 x", spec(steer.add(v, -1.5)) },
    { "cap min 8", spec(steer.cap(v, { min = 8 })) },
    { "cap max -8", spec(steer.cap(v, { max = -8 })) },
    { "ablate", spec(steer.ablate(v)) },
}

local PROMPT = prompts.neutral[1]
local EVENTS = {
    happy = { " found the ball", " won a prize", " made a new friend", " got a sweet gift", " heard good news",
        " shared the ball", " saw a rainbow" },
    sad = { " lost the ball", " broke the ball", " lost a friend", " fell and got hurt", " heard bad news",
        " missed the bus", " saw a dead bird" },
}

local texts, scored, options = {}, {}, {}
for _, mood in ipairs { "happy", "sad" } do
    for _, event in ipairs(EVENTS[mood]) do options[#options + 1] = event end
end
for i, row in ipairs(rows) do
    texts[i] = { prompt = PROMPT, spec = row[2], max_tokens = 32, stop = "\n" }
    scored[i] = { prompt = PROMPT, options = options, spec = row[2] }
end
local out = lm:generate(texts)
local chances = steer.tensor.from(lm:score(scored), { field = "probability" }) -- [rows, events]
local happy = chances:narrow(2, 1, #EVENTS.happy):sum(2):totable()

printf("\n%s ...", PROMPT)
print "spec        happy event  sad event  rows  text"
for i, row in ipairs(rows) do
    printf("%-10s  %11.2f  %9.2f  %4d %s", row[1], happy[i], 1 - happy[i], out[i].steered[layer] or 0, out[i].text)
    rows[i] = row[1]
end
print("\n" .. steer.plot({ x = rows, y = happy }, { kind = "bars", format = "%.2f", title = "happy event" }):text(72))

-- ---- 3. The direction as files --------------------------------------------------------------------------------------

local path = folder .. "/mood"
steer.save(path .. ".safetensors", { ["direction." .. layer] = v }, { site = "residual stream after the layer" })
steer.save(path .. ".gguf", { [layer] = v })
assert((steer.load(path .. ".gguf")[layer]:to("cpu") - v:to("cpu")):norm() == 0, "the GGUF file differs")
printf("saved: %s.safetensors, %s.gguf; now try", path, path)
printf("  scripts/steer generate %s 'One day, Tom' --steer '%s.gguf -1.5'", fixtures .. "/demo-model", path)
