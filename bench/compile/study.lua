--- study.lua: writes the study of compile modes in markdown: bars, tables, findings, decision. Its fields: bars.lua.
-- Every sentence with a number is made from the measurements; what they leave open is said to be open.
local bars = require "compile.bars"
local page = require "page"
local report = require "engine.report"
local tables = require "compile.tables"

local M = {}

-- ---- What the measurements say -------------------------------------------------------------------------------------

-- Counts of the entries with both times: {n, chosen, faster, slower, open, beyond (of the slower: by more than 2 %),
-- gains (of the chosen, the largest first)}.
local function tally(study)
    local t = { n = 0, chosen = 0, faster = 0, slower = 0, open = 0, beyond = 0, gains = {} }
    for _, entry in ipairs(study.modes) do
        local ordinary, compiled = bars.times(study, entry)
        if ordinary and compiled then
            local verdict = page.verdict(compiled, ordinary)
            t.n, t[verdict] = t.n + 1, t[verdict] + 1
            if verdict == "slower" and compiled.median > 1.02 * ordinary.median then t.beyond = t.beyond + 1 end
            if bars.chosen(entry) then
                t.chosen = t.chosen + 1
                t.gains[t.chosen] = { ratio = ordinary.median / compiled.median, entry = entry, verdict = verdict }
            end
        end
    end
    table.sort(t.gains, function(a, b) return a.ratio > b.ratio end)
    return t
end

local function gain_text(gain)
    local entry = gain.entry
    return ("%s for %s %s, %s"):format(page.times(gain.ratio), entry.shape.name, entry.name, entry.batch)
end

-- The most calls that a first call takes to be paid back, over the programs where it is; how many of how many are.
local function payback(study, temperature)
    local worst, paid, all = 0, 0, 0
    for _, line in ipairs(study.costs[temperature].first) do
        local calls = tables.pays_back(line, line.ordinary_first)
        all = all + 1
        if calls < math.huge then worst, paid = math.max(worst, calls), paid + 1 end
    end
    return worst, paid, all
end

-- The least number of layers from which a graph is faster than the loop, call and wait, at every number measured.
local function pays_from(study)
    local from
    for i = #study.layers, 1, -1 do
        local row = study.layers[i]
        if not row.own then
            if page.verdict(row.graph.wall, row.loop.wall) ~= "faster" then break end
            from = row.layers
        end
    end
    return from
end

-- ---- Findings ------------------------------------------------------------------------------------------------------

local function specialised_findings(study, add)
    local t = tally(study)
    if t.n == 0 then
        add(("**Specialised kernels** were not measured: %s."):format(study.unsupported or "see the notes"))
        return
    end
    add(("**Specialised kernels**: of %d programs, `default` is faster in %d and slower in %d (in %d by more than "
        .. "2 %%); in %d the quartiles overlap. A specialised kernel was chosen for %d.")
        :format(t.n, t.faster, t.slower, t.beyond, t.open, t.chosen))
    if t.chosen > 0 then
        add(("Where one was chosen it gains from %s to %s."):format(gain_text(t.gains[t.chosen]),
            gain_text(t.gains[1])))
    end
end

local function cost_findings(study, add)
    for _, temperature in ipairs { "cold", "warm" } do
        local worst, paid, all = payback(study, temperature)
        if all > 0 then
            local least, most = math.huge, 0
            for _, line in ipairs(study.costs[temperature].first) do
                least, most = math.min(least, line.first), math.max(most, line.first)
            end
            add(("**First calls**, %s: %s to %s; paid back in %d of %d programs%s."):format(
                temperature == "cold" and "nothing cached" or "kernels cached on disk", page.duration(least),
                page.duration(most), paid, all, paid > 0 and (", after at most %.0f calls"):format(worst) or ""))
        end
    end
end

local function graph_findings(study, add)
    local row = bars.of_layers(study, bars.LAYERS) or study.layers[#study.layers]
    if not row then return end
    local parts, n = {}, row.layers
    local function compare(what, key)
        local loop, graph = row.loop[key], row.graph[key]
        if loop and graph then
            parts[#parts + 1] = ("%s %s µs one by one, %s µs as a graph (%s)"):format(what, page.us(loop.median),
                page.us(graph.median), page.verdict(graph, loop))
        end
    end
    compare("GPU time", "gpu")
    compare("call and wait", "wall")
    compare("host time", "host")
    add(("**%d layers**: %s."):format(n, table.concat(parts, "; ")))
    if not row.graph.stats.captured then add("Graphs ran uncaptured here, layer by layer.") end
    local from = pays_from(study)
    add(from and ("A graph is faster than the loop, call and wait, from %d layers on."):format(from)
        or "No graph is measurably faster than the loop, call and wait.")
    for _, own in ipairs(study.layers) do
        local shared = own.own and bars.of_layers(study, own.layers)
        local key = own.graph.gpu and "gpu" or "wall"
        if shared then
            add(("With vectors of their own for each of %d layers the graph takes %s the time."):format(own.layers,
                page.times(own.graph[key].median / shared.graph[key].median)))
        end
    end
end

local function torch_findings(study, add)
    local wins, losses, open = 0, {}, 0
    for _, pair in ipairs(tables.alike(study)) do
        local theirs, how = tables.fastest(pair.theirs)
        local ours = tables.fastest(pair.ours)
        local verdict = page.verdict(ours, theirs)
        if verdict == "faster" then wins = wins + 1 end
        if verdict == "open" then open = open + 1 end
        if verdict == "slower" then
            losses[#losses + 1] = ("%s, %s, %s: Steer %s µs, PyTorch %s µs"):format(pair.label, how,
                tables.WAYS[pair.way], page.us(ours.median), page.us(theirs.median))
        end
    end
    if wins + open + #losses == 0 then
        add("There is no PyTorch measurement to compare with (see the notes).")
        return
    end
    add(("**Beside PyTorch**, the fastest of each side: Steer is faster in %d, PyTorch in %d; in %d the quartiles "
        .. "overlap."):format(wins, #losses, open)
        .. (#losses > 0 and " PyTorch: " .. table.concat(losses, "; ") .. "." or ""))
    local compiled, never, worst, longest = tables.torch_compiled(study), 0, 0, 0
    for _, row in ipairs(compiled) do
        local calls = page.amortised(row.first, row.later, row.eager)
        if calls == math.huge then never = never + 1 else worst = math.max(worst, calls) end
        longest = math.max(longest, row.first[1])
    end
    if #compiled > 0 then
        add(("**torch.compile**: first calls up to %s; of %d compilations %d are never paid back%s."):format(
            page.duration(longest), #compiled, never,
            worst > 0 and (", the others after at most %.0f calls"):format(worst) or ""))
    end
end

--- The findings as a list of texts.
function M.findings(study)
    local texts = {}
    local function add(text) texts[#texts + 1] = text end
    specialised_findings(study, add)
    cost_findings(study, add)
    graph_findings(study, add)
    torch_findings(study, add)
    return texts
end

-- ---- Decision ------------------------------------------------------------------------------------------------------

local SHARE, CALLS = 0.5, 1000 -- specialised kernels are the default above this share of programs, paid back by then

-- Reasons against specialised kernels as the default.
local function against(study, t)
    local list = {}
    if t.beyond > 0 then list[#list + 1] = ("%d programs are slower by more than 2 %%"):format(t.beyond) end
    if t.chosen < SHARE * t.n then
        list[#list + 1] = ("a specialised kernel was chosen for %d of %d programs"):format(t.chosen, t.n)
    end
    local worst, paid, all = payback(study, "cold")
    if paid < all then
        list[#list + 1] = ("the first call is not paid back in %d of %d programs"):format(all - paid, all)
    end
    if paid > 0 and worst > CALLS then
        list[#list + 1] = ("the first call is paid back only after up to %.0f calls"):format(worst)
    end
    if all == 0 then list[#list + 1] = "what a first call costs was not measured" end
    return list
end

--- The decision as a list of texts.
function M.decision(study)
    local texts, t = {}, tally(study)
    if t.n == 0 then
        texts[1] = "Nothing is decided about specialised kernels, which were not measured; compilation stays off."
    else
        local reasons = against(study, t)
        texts[1] = #reasons > 0
            and ("Compilation stays off unless it is asked for: %s."):format(table.concat(reasons, "; "))
            or ("Specialised kernels should be the default: chosen for %d of %d programs, none slower by more than "
                .. "2 %%, the first call paid back within %d calls."):format(t.chosen, t.n, CALLS)
        local best = t.gains[1]
        texts[2] = best and best.verdict == "faster"
            and ("`compile=\"default\"` is worth asking for with programs such as these: %s."):format(
                gain_text(best))
            or "`compile=\"default\"` gains nothing on this device."
    end
    local from = pays_from(study)
    if from then
        texts[#texts + 1] = ("Where the same tensors are steered step by step, `plan:graph` serves %d and more layers "
            .. "faster; it stays a call of its own, as it holds on to its tensors."):format(from)
    elseif #study.layers > 0 then
        local captured = study.layers[1].graph.stats.captured
        texts[#texts + 1] = captured and "`plan:graph` is not worth its capture here."
            or "Nothing is decided about graphs, which this device does not capture."
    end
    return texts
end

-- ---- The page ------------------------------------------------------------------------------------------------------

local METHOD = [[
- Times are medians with their quartiles; lower is better. A ratio is called ambiguous where the quartiles overlap. Raw
  samples: `compile.jsonl`.
- *in a graph*: launches captured in a CUDA graph, between two events. *among many calls*: between two events around
  many calls, so that the host's work and the gaps between launches count. *call and wait*: by the wall clock. *host*:
  the call alone, the device idle before it.
- Programs are timed as layers of a graph that `plan:graph` captures, *ordinary* in mode `reduce-overhead`, and
  *ordinary, alone* on the path of the batch captured by itself. Where specialised kernels were chosen they are compared
  with the faster of the two. A program of n operations has caps, adds and ablations in turn. *uniform*: one spec for
  all requests; *mixed*: as many distinct specs as the table says. Two specs take turns, so that every launch changes
  every row. *kernels alone* is what the library measured when it chose.
- *loop*: `plan:apply` layer by layer, *graph*: one `graph:launch()`; a cap per layer, bounds that change from layer to
  layer, a spec for each request; one vector for all layers of a spec unless said.
- First calls: planning and applying, vectors and the ordinary kernel already on the device, in a process with an empty
  cache folder and in a second process with the folder that the first one left.
- Whatever is timed first gave the bits of the ordinary path, and its hidden states are finite after the timing.]]

local function modes_sections(study)
    local parts = {}
    for _, name in ipairs { "A", "B", "C" } do
        if study.shapes[name] then
            parts[#parts + 1] = ("### %s: %s\n\n"):format(name, study.shapes[name]) .. tables.modes(study, name)
        end
    end
    return table.concat(parts, "\n\n")
end

local function references_text(study)
    local r = study.references
    return r and ("\n\nReferences in a graph: an empty kernel %s µs, an in-place stream over the hidden states %s µs.")
        :format(page.us(r.empty.median), page.us(r.stream.median)) or ""
end

--- The study as markdown.
function M.markdown(study)
    local background = tables.background(study)
    return page.study(study, {
        title = "Compile modes",
        objective = "What specialised kernels (`default`) and graphs (`plan:graph`) gain and cost, against the "
            .. "ordinary path and beside\ntorch.compile's modes in the same run, and whether one of them should be the "
            .. "default.",
        method = METHOD, findings = M.findings(study), decision = M.decision(study),
        "## Bars\n\n" .. report.table(bars.rows(study)),
        ("## 1. Specialised kernels, %s\n\n"):format(tables.WAYS[study.way]) .. modes_sections(study),
        ("## 2. Layers and graphs (%s)\n\n"):format(study.shapes.B) .. tables.layers(study) .. references_text(study)
            .. "\n\n" .. tables.graphs(study),
        "## 3. First calls\n\n" .. tables.costs(study) .. (background and "\n\n" .. background or ""),
        "## 4. Beside PyTorch\n\n" .. tables.torch(study) .. "\n\n" .. tables.torch_costs(study),
    })
end

return M
