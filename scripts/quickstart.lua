--- quickstart.lua: finds the direction of a mood in recorded activations of a small language model, then steers a mixed
-- batch with it: unsteered, added, capped and ablated requests side by side, in one call.
-- Usage: steer run scripts/quickstart.lua [FOLDER for the saved direction]
local steer = require "steer"

local scripts = arg[0]:match("^(.*)/[^/]*$") or "."
local folder = arg[1] or "."
local device = steer.device()
local data = steer.load(scripts .. "/../tests/fixtures/demo/activations.safetensors", { device = device })
local LAYER, TRAIN, PAIRS = 5, 64, 96

local function printf(...) print(string.format(...)) end

-- ---- 1. A direction per layer, and whether it tells the moods apart on pairs it has not seen ------------------------

-- Hidden states [prompts, hidden] of one mood after one layer, for the pairs first .. last.
local function states(mood, layer, first, last)
    return data[mood .. ".last"]:narrow(1, first, last - first + 1):select(2, layer + 1):to("f32")
end

local function direction(layer)
    local happy, sad = states("happy", layer, 1, TRAIN):mean(1), states("sad", layer, 1, TRAIN):mean(1)
    return happy - sad, (happy + sad) * 0.5
end

local function accuracy(layer)
    local v, midpoint = direction(layer)
    local right = 0
    for mood, sign in pairs { happy = 1, sad = -1 } do
        local projections = (states(mood, layer, TRAIN + 1, PAIRS) - midpoint):matmul(v):totable()
        for _, p in ipairs(projections) do
            if p * sign > 0 then right = right + 1 end
        end
    end
    return right / (2 * (PAIRS - TRAIN))
end

printf("Mood direction from %d pairs, tested on %d others (%s)", TRAIN, PAIRS - TRAIN, device.id)
print "layer  |direction|  held-out accuracy"
for layer = 0, data["happy.last"]:size(2) - 1 do
    printf("%5d  %11.3f  %17.3f", layer, direction(layer):norm(), accuracy(layer))
end

-- ---- 2. One batch, five kinds of requests, one apply ----------------------------------------------------------------

local v = direction(LAYER)
local groups = {
    { name = "unsteered" },
    { name = "add 2 x", spec = steer.spec { [LAYER] = { steer.add(v, 2) } } },
    { name = "add -4 x", spec = steer.spec { [LAYER] = { steer.add(v, -4) } } },
    { name = "cap to [-2, 2]", spec = steer.spec { [LAYER] = { steer.cap(v, { min = -2, max = 2 }) } } },
    { name = "ablate", spec = steer.spec { [LAYER] = { steer.ablate(v) } } },
}

local requests = {} -- the neutral prompts, the groups in turn
for i, tokens in ipairs(data["neutral.seq_lens"]:totable()) do
    requests[i] = { spec = groups[(i - 1) % #groups + 1].spec, tokens = tokens }
end

local before = data["neutral.layer5"] -- [tokens of all prompts, hidden]
local after = before:clone()
local engine = steer.engine { hidden = before:size(2), dtype = before.dtype, device = device }
local plan = engine:plan(requests)
plan:apply(LAYER, after)

-- ---- 3. What it did -------------------------------------------------------------------------------------------------

local unit = v:normalize()

-- Per row: the projection on the direction and the norm.
local function measure(h)
    h = h:to("f32")
    return h:matmul(unit):totable(), h:norm(2):totable()
end

local columns = { measure(before) }
columns[3], columns[4] = measure(after)

local row = 0
for i, request in ipairs(requests) do
    local group = groups[(i - 1) % #groups + 1]
    group.rows = group.rows or {}
    for _ = 1, request.tokens do
        row = row + 1
        table.insert(group.rows, row)
    end
end

local function mean(values, rows)
    local sum = 0
    for _, r in ipairs(rows) do sum = sum + values[r] end
    return sum / #rows
end

printf("\nThe %d neutral prompts after layer %d, steered in one apply: means before -> after", #requests, LAYER)
print "requests          rows       projection        |hidden state|"
for _, group in ipairs(groups) do
    printf("%-14s  %6d  %7.2f -> %7.2f  %7.2f -> %7.2f", group.name, #group.rows, mean(columns[1], group.rows),
        mean(columns[3], group.rows), mean(columns[2], group.rows), mean(columns[4], group.rows))
end

local old, new, changed = before:totable(), after:totable(), 0
for _, r in ipairs(groups[1].rows) do
    for j, x in ipairs(old[r]) do
        local y = new[r][j]
        if x ~= y or 1 / x ~= 1 / y then changed = changed + 1 end -- 1/x tells 0 from -0
    end
end
assert(changed == 0, "unsteered rows changed")
printf("unsteered rows: every bit kept (%d values)", #groups[1].rows * before:size(2))

print("\n" .. tostring(plan:explain(LAYER)))

-- ---- 4. The direction as files --------------------------------------------------------------------------------------

local function same(a, b)
    return (a:to("cpu") - b:to("cpu")):norm() == 0
end

local path = folder .. "/mood"
steer.save(path .. ".safetensors", { direction = v }, { layer = LAYER, site = "residual stream after the layer" })
steer.save(path .. ".gguf", { [LAYER] = v })
assert(same(steer.load(path .. ".safetensors").direction, v), "the safetensors file differs")
assert(same(steer.load(path .. ".gguf")[LAYER], v), "the GGUF file differs")
printf("\nsaved and read back equal: %s.safetensors, %s.gguf", path, path)
