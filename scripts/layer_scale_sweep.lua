--- layer_scale_sweep.lua: which layer, what strength, which operation? Layer x scale x operation over recorded
-- activations of a small language model: all cases of the grid are requests of one mixed batch.
-- Usage: steer run scripts/layer_scale_sweep.lua [FOLDER]      prints heatmaps; FOLDER gets the results and pictures
--        steer sweep scripts/layer_scale_sweep.lua [OPTIONS]   the same cases with all options of a sweep
--
-- The direction of a layer is the difference of means of its first 64 pairs (happy and sad), and the judge is a linear
-- probe trained on the 32 pairs that the direction has not seen. What is steered are the last tokens of 64 neutral
-- prompts; every layer is judged where it is steered. A scale means
--   add      h + scale*v, v the difference of means
--   cap      a bound on the projection, scale half-distances of the means from their midpoint (1: the happy mean, -1:
--            the sad mean): a floor from 0 up, a ceiling below
--   ablate   the projection times scale (0: taken out, -1: reflected)
local steer = require "steer"

local scripts = arg[0]:match("^(.*)/[^/]*$") or "."
local DATA = scripts .. "/../tests/fixtures/demo/activations.safetensors"
local TRAIN, PAIRS = 64, 96

local LAYERS = { 0, 1, 2, 3, 4, 5, 6, 7 }
local SCALES = { -4, -2, -1, -0.5, 0, 0.5, 1, 2, 4 }
local OPERATIONS = { "add", "cap", "ablate" }

-- ---- Directions, judges and operations ------------------------------------------------------------------------------

local found -- what the data says, loaded for the first case

local function load(device)
    local data = steer.load(DATA, { device = device })
    local happy, sad = data["happy.last"], data["sad.last"] -- [pairs, layers, hidden]
    local function pairs_of(set, first, last) return set:narrow(1, first, last - first + 1) end
    local seen = { pairs_of(happy, 1, TRAIN), pairs_of(sad, 1, TRAIN) }
    local unseen = { pairs_of(happy, TRAIN + 1, PAIRS), pairs_of(sad, TRAIN + 1, PAIRS) }
    local directions, about = steer.extract.mean_difference(seen[1], seen[2])
    local probes, judges = steer.extract.probe(unseen[1], unseen[2])
    local accuracy = {}
    for layer = 0, #LAYERS - 1 do
        accuracy[layer] = steer.extract.accuracy(probes[layer], judges[layer].threshold, seen[1]:select(2, layer + 1),
            seen[2]:select(2, layer + 1))
    end
    return { states = data["neutral.last"], directions = directions, about = about, probes = probes, judges = judges,
        accuracy = accuracy }
end

local MAKE = {
    add = function(v, scale) return steer.add(v, scale) end,
    ablate = function(v, scale) return steer.ablate(v, scale) end,
    cap = function(v, scale, about)
        local norm = v:norm()
        local bound = about.threshold / norm + scale * norm / 2 -- as a projection on v at length 1
        return steer.cap(v, scale >= 0 and { min = bound } or { max = bound })
    end,
}

-- ---- The grid as one batch ------------------------------------------------------------------------------------------

local MOST = 1024 -- cases in a batch

local function key(case) return ("%d %s %.17g"):format(case.layer, case.operation, case.scale) end

-- What a case did to the hidden states of its prompts: `before` and `after` are f32 [prompts, hidden].
local function measure(layer, before, after)
    local unit, judge = found.directions[layer]:normalize(), found.judges[layer]
    local from, to = before:matmul(unit), after:matmul(unit)
    local chords = (after:normalize(2) - before:normalize(2)):norm(2) -- exact for small angles too
    local verdicts = after:matmul(found.probes[layer])
    local metrics = {
        projection = to, projection_change = to - from, norm_change = after:norm(2) / before:norm(2) - 1,
        angle = (chords / 2):clamp(nil, 1):asin() * math.deg(2),
        happy = (verdicts * judge.weight + judge.bias):sigmoid(),
    }
    local verdict = verdicts:gt(judge.threshold):mean()
    local result = { samples = {}, verdict = verdict, probe_accuracy = found.accuracy[layer] }
    for name, values in pairs(metrics) do
        result[name], result.samples[name] = values:mean(), values:totable()
    end
    return result
end

local function spec_of(case)
    local op = MAKE[case.operation](found.directions[case.layer], case.scale, found.about[case.layer])
    return steer.spec { [case.layer] = { op } }
end

-- Steers all cases, layer by layer, in one mixed batch; gives key -> metrics.
local function steer_all(list, device)
    local states, requests = found.states, {}
    local prompts, hidden = states:size(1), states:size(3)
    for i, case in ipairs(list) do
        requests[i] = { spec = spec_of(case), tokens = prompts }
    end
    local engine = steer.engine { hidden = hidden, dtype = states.dtype, device = device }
    local plan, results = engine:plan(requests), {}
    local batch = steer.tensor.empty({ #list, prompts, hidden }, { dtype = states.dtype, device = device })
    for _, layer in ipairs(LAYERS) do
        local clean = states:select(2, layer + 1)
        batch:copy_(clean) -- every case has the same prompts
        plan:apply(layer, batch:reshape(-1, hidden))
        local before, path = clean:to("f32"), plan:explain(layer).path
        for i, case in ipairs(list) do
            local after = batch[i]:to("f32")
            if case.layer == layer then
                local result = measure(layer, before, after)
                result.path, results[key(case)] = path, result
            else
                assert((after - before):norm() == 0, "a case was steered at a layer that is not its own")
            end
        end
    end
    return results
end

local function fault(case)
    if not MAKE[case.operation] then return "no such operation" end
    if not (type(case.layer) == "number" and LAYERS[case.layer + 1]) then return "no such layer" end
    if type(case.scale) ~= "number" then return "the scale is not a number" end
end

local results = {} -- of the batches so far

-- The metrics of a case, which is steered with those that come after it in `cases`.
local function result_of(case, cases, device)
    if results[key(case)] then return results[key(case)] end
    found = found or load(device)
    local batch, reached = {}, false
    for _, other in ipairs(cases) do
        if not fault(other) then
            reached = reached or key(other) == key(case)
            local fits = reached and #batch < MOST
            if fits and (#batch == 0 or pcall(spec_of, other)) then -- a spec that cannot be fails its own case only
                batch[#batch + 1] = other
            end
        end
    end
    for name, result in pairs(steer_all(batch, device)) do results[name] = result end
    return results[key(case)]
end

local sweep = steer.sweep {
    name = "layer_scale",
    axes = { layer = LAYERS, operation = OPERATIONS, scale = SCALES },
    skip = fault,
    run = function(case, ctx) return result_of(case, ctx.cases, ctx.device) end,
}
if arg[-1] ~= "run" then return sweep end -- `steer sweep` takes it from here

-- ---- On its own: heatmaps -------------------------------------------------------------------------------------------

local SHADES = { " ", "░", "▒", "▓", "█" } -- of 0 to 1

local function cell(share)
    return (" %3.0f%s"):format(100 * share, SHADES[math.floor(share * (#SHADES - 1) + 0.5) + 1])
end

local function heatmap(operation, cases, device)
    local line = { ("%-8s"):format(operation) }
    for i, scale in ipairs(SCALES) do line[i + 1] = ("%5g"):format(scale) end
    print(table.concat(line) .. "   scale")
    for _, layer in ipairs(LAYERS) do
        line = { ("layer %d "):format(layer) }
        for i, scale in ipairs(SCALES) do
            local case = { layer = layer, operation = operation, scale = scale }
            line[i + 1] = cell(result_of(case, cases, device).verdict)
        end
        print(table.concat(line))
    end
    print()
end

local device, cases = steer.device(), sweep:cases()
found = load(device)
print(("%d cases of %d prompts in one mixed batch on %s: neutral prompts that a probe calls happy, percent\n"):format(
    #cases, found.states:size(1), device.id))
for _, operation in ipairs(OPERATIONS) do heatmap(operation, cases, device) end
print "The probe's accuracy on pairs that it has not seen, by layer:"
for _, layer in ipairs(LAYERS) do print(("layer %d  %.3f"):format(layer, found.accuracy[layer])) end

local folder = arg[1]
if folder then
    assert(os.execute("mkdir -p '" .. folder:gsub("'", "'\\''") .. "'") == 0, "cannot make the folder " .. folder)
    local path = folder .. "/layer_scale.jsonl"
    sweep:start { output = path, device = device, folder = scripts, progress = false }
    print("\nresults: " .. path)
    for _, operation in ipairs(OPERATIONS) do
        local ok, drawn = pcall(steer.plot, path, { x = "scale", y = "layer", z = "verdict",
            filter = { operation = operation }, out = ("%s/layer_scale_%s"):format(folder, operation) })
        if not ok and drawn.code ~= "not_found" then error(drawn, 0) end
        print("heatmap: " .. (ok and drawn.files.png or tostring(drawn))) -- without gnuplot, how to get it
    end
end
