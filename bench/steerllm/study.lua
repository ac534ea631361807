--- study.lua: writes the study as markdown: objective, machine, method, four tables, findings, decision.
-- Every sentence with a number is made from the measurements; what they leave open is said to be open.
local compare = require "steerllm.compare"
local page = require "page"

local M = {}

local WAYS = { wall = "call and wait", queued = "among many calls", graph = "in a graph" }

-- ---- Text ----------------------------------------------------------------------------------------------------------

local us, cell, times = page.us, page.cell, page.times

-- PyTorch's time over Steer's, marked where the quartiles leave open which is faster.
local function ratio_cell(pair)
    return pair and times(pair.ratio) .. (pair.verdict == "open" and " (ambiguous)" or "") or "-"
end

local function each_way(study, prefix)
    local names = {}
    for _, way in ipairs(study.ways) do names[#names + 1] = prefix .. WAYS[way] end
    return names
end

local function find(list, section, name, how, way)
    return compare.fastest(list, function(p)
        return p.section == section and p.way == way and (not name or p.name == name) and (not how or p.how == how)
    end)
end

-- ---- Tables --------------------------------------------------------------------------------------------------------

local function operations_table(study, list)
    local rows = {}
    for _, variant in ipairs(compare.VARIANTS.operations) do
        for _, way in ipairs(study.ways) do
            local row = { variant[2], WAYS[way], cell((compare.ours(study, "operations", variant[3]) or {})[way]) }
            for _, how in ipairs(compare.HOWS) do
                row[#row + 1] = cell((compare.torch(study, "operations", variant[1], how) or {})[way])
            end
            row[#row + 1] = ratio_cell(find(list, "operations", variant[1], nil, way))
            rows[#rows + 1] = row
        end
    end
    return page.table({ "operation", "timed", "Steer, µs", "PyTorch eager, µs", "compiled, µs",
        "reduce-overhead, µs", "fastest PyTorch / Steer" }, rows)
end

local OWN_BATCHES = {
    { "one", "one spec" }, { "same", "a spec object for each request, of equal content" },
    { "distinct", "distinct specs" }, { "three", "distinct programs of add, cap, ablate" },
}

local function batches_table(study, list)
    local rows = {}
    local function add(first, measured, ratio)
        local row = { first, measured and measured.path or "" }
        for _, way in ipairs(study.ways) do row[#row + 1] = cell(measured and measured[way]) end
        row[#row + 1] = ratio
        rows[#rows + 1] = row
    end
    for _, own in ipairs(OWN_BATCHES) do
        add("**Steer**, " .. own[2], compare.ours(study, "batches", own[1]), "")
    end
    for _, variant in ipairs(compare.VARIANTS.batches) do
        for _, how in ipairs(compare.HOWS) do
            local measured = compare.torch(study, "batches", variant[1], how)
            if measured then
                local last = study.ways[#study.ways]
                local ratio = ratio_cell(find(list, "batches", variant[1], how, "wall"))
                if last ~= "wall" then
                    ratio = ratio .. "; " .. ratio_cell(find(list, "batches", variant[1], how, last))
                end
                add(("PyTorch %s, %s"):format(compare.HOW_NAMES[how], variant[2]), measured, ratio)
            end
        end
    end
    local header = { "batch", "path" }
    for _, name in ipairs(each_way(study, "")) do header[#header + 1] = name .. ", µs" end
    header[#header + 1] = "PyTorch / Steer's same work: " .. WAYS.wall
        .. (#study.ways > 1 and "; " .. WAYS[study.ways[#study.ways]] or "")
    return page.table(header, rows)
end

local function off(measured) return measured and measured.off and ("%.3f %%"):format(measured.off) or "-" end

local function second_table(study, list)
    local rows = {}
    for _, own in ipairs { { "cap", "projection cap" }, { "ablate", "ablation" } } do
        local measured = compare.ours(study, "second", own[1])
        local row = { "**Steer**, " .. own[2] }
        for _, way in ipairs(study.ways) do row[#row + 1] = cell(measured and measured[way]) end
        row[#row + 1], row[#row + 2] = off(measured), ""
        rows[#rows + 1] = row
    end
    for _, variant in ipairs(compare.VARIANTS.second) do
        for _, how in ipairs(compare.HOWS) do
            local measured = compare.torch(study, "second", variant[1], how)
            if measured then
                local row = { ("PyTorch %s, %s"):format(compare.HOW_NAMES[how], variant[2]) }
                for _, way in ipairs(study.ways) do row[#row + 1] = cell(measured[way]) end
                row[#row + 1] = off(measured)
                row[#row + 1] = ratio_cell(find(list, "second", variant[1], how, "wall"))
                rows[#rows + 1] = row
            end
        end
    end
    local header = { "implementation" }
    for _, name in ipairs(each_way(study, "")) do header[#header + 1] = name .. ", µs" end
    header[#header + 1], header[#header + 2] = "not the exact rounding", "PyTorch / Steer, " .. WAYS.wall
    return page.table(header, rows)
end

-- The rows of compiled PyTorch functions: label, first calls, later call, eager call.
local function compiled_rows(study)
    local list = {}
    local function add(label, first_calls, measured, eager)
        if first_calls and measured and eager then
            list[#list + 1] = { label = label, first = first_calls, later = measured.wall, eager = eager.wall }
        end
    end
    local eager = compare.torch(study, "operations", "cap", "eager")
    for _, how in ipairs { "default", "reduce-overhead" } do
        local measured = compare.torch(study, "operations", "cap", how)
        add(("PyTorch cap, %s, nothing cached"):format(how), measured and measured.first_calls, measured, eager)
        add(("PyTorch cap, %s, kernels cached on disk"):format(how), (study.again[how] or {}).first_calls, measured,
            eager)
    end
    local loop = compare.torch(study, "batches", "loop", "default")
    add("PyTorch loop over the requests, default, nothing cached", loop and loop.first_calls, loop,
        compare.torch(study, "batches", "loop", "eager"))
    return list
end

local function warmup_table(study)
    local rows = {}
    local later, eager = compare.ours(study, "operations", "cap"), compare.torch(study, "operations", "cap", "eager")
    for _, own in ipairs {
        { "new_engine", "Steer cap, new engine, spec and plan" }, { "new_vector", "Steer cap, a new vector in a plan" },
    } do
        local first = compare.ours(study, "warmup", own[1])
        if first and later then
            rows[#rows + 1] = { own[2], page.duration(first.wall.median), "-", page.duration(later.wall.median),
                eager and page.calls(page.amortised({ first.wall.median }, later.wall, eager.wall)) or "-" }
        end
    end
    if eager then rows[#rows + 1] = { "PyTorch cap, eager", "-", "-", page.duration(eager.wall.median), "-" } end
    for _, row in ipairs(compiled_rows(study)) do
        local rest = {}
        for i = 2, #row.first do rest[#rest + 1] = page.duration(row.first[i]) end
        rows[#rows + 1] = { row.label, page.duration(row.first[1]), table.concat(rest, ", "),
            page.duration(row.later.median),
            page.calls(page.amortised(row.first, row.later, row.eager)) }
    end
    return page.table({ "what", "first call", "calls after it", "later call", "calls until eager PyTorch costs more" },
        rows)
end

-- ---- Findings ------------------------------------------------------------------------------------------------------

local function count(list, verdict)
    local n = 0
    for _, pair in ipairs(list) do
        if pair.verdict == verdict then n = n + 1 end
    end
    return n
end

local function pair_text(pair, study)
    return ("%s, %s, %s, %s: Steer %s µs, PyTorch %s µs"):format(study.shape_names[pair.section], pair.label,
        compare.HOW_NAMES[pair.how], WAYS[pair.way], us(pair.ours.median), us(pair.theirs.median))
end

-- For each way of timing: Steer against the fastest PyTorch variant of each of Steer's measurements of a section.
local function against_fastest(study, list, section)
    local sentences = {}
    for _, way in ipairs(study.ways) do
        local parts, seen = {}, {}
        for _, variant in ipairs(compare.VARIANTS[section]) do
            local best = not seen[variant[3]] and compare.fastest(list, function(p)
                return p.section == section and p.way == way and p.same == variant[3]
            end)
            seen[variant[3]] = true
            if best then
                parts[#parts + 1] = ("%s %s (%s, %s)"):format(variant[3], ratio_cell(best),
                    compare.HOW_NAMES[best.how], best.name)
            end
        end
        if #parts > 0 then sentences[#sentences + 1] = WAYS[way] .. ": " .. table.concat(parts, ", ") end
    end
    if #sentences == 0 then return nil end
    return ("**%s**: the fastest PyTorch variant of the same work over Steer, %s."):format(
        study.shape_names[section], table.concat(sentences, "; "))
end

local function ratio_text(a, b) return ("%.2fx"):format(a.median / b.median) end

local function batch_findings(study, add)
    local function own(name, way) return (compare.ours(study, "batches", name) or {})[way] end
    local parts = {}
    for _, way in ipairs(study.ways) do
        local one, same, distinct = own("one", way), own("same", way), own("distinct", way)
        if one and same and distinct then
            parts[#parts + 1] = ("%s: distinct specs take %s the time of one spec, equal specs in objects of their own "
                .. "%s"):format(WAYS[way], ratio_text(distinct, one), ratio_text(same, one))
        end
    end
    if #parts > 0 then add("**What heterogeneity costs in Steer**, " .. table.concat(parts, "; ") .. ".") end
    local fast = compare.torch(study, "batches", "fast", "eager")
    local loop = compare.torch(study, "batches", "loop", "eager")
    if fast and loop then
        add(("**What it costs in PyTorch**, eager: the loop over the requests takes %s the time of the fast path by "
            .. "the wall clock."):format(ratio_text(loop.wall, fast.wall)))
    end
end

local function compile_findings(study, add)
    local gains, losses = {}, {}
    for _, section in ipairs(compare.SECTIONS) do
        for _, variant in ipairs(compare.VARIANTS[section]) do
            local eager = compare.torch(study, section, variant[1], "eager")
            for i = 2, #compare.HOWS do
                local how = compare.HOWS[i]
                local compiled = compare.torch(study, section, variant[1], how)
                if compiled and eager then
                    local text = ("%s (%s, %s) %s"):format(variant[1], section, how,
                        ratio_text(compiled.wall, eager.wall))
                    local verdict = page.verdict(compiled.wall, eager.wall)
                    if verdict == "faster" then gains[#gains + 1] = text end
                    if verdict == "slower" then losses[#losses + 1] = text end
                end
            end
        end
    end
    if #gains + #losses == 0 then return end
    add(("**torch.compile**, wall time over eager. Faster: %s. Slower: %s."):format(
        #gains > 0 and table.concat(gains, ", ") or "none", #losses > 0 and table.concat(losses, ", ") or "none"))
end

local function listed(list, verdict, study)
    local lines = {}
    for _, pair in ipairs(list) do
        if pair.verdict == verdict then lines[#lines + 1] = "  - " .. pair_text(pair, study) end
    end
    return table.concat(lines, "\n")
end

local function exactness(study, add)
    local worst_ours, worst_theirs = nil, nil
    for _, name in ipairs { "cap", "ablate" } do
        local measured = compare.ours(study, "second", name)
        if measured then worst_ours = math.max(worst_ours or 0, measured.off) end
    end
    for _, variant in ipairs(compare.VARIANTS.second) do
        local measured = compare.torch(study, "second", variant[1], "eager")
        if measured then worst_theirs = math.max(worst_theirs or 0, measured.off) end
    end
    if worst_ours and worst_theirs then
        add(("**Exactness** (%s): at most %.3f %% of Steer's elements are not the exact result rounded once, with f32 "
            .. "vectors; of eager PyTorch's up to %.3f %%, with the vectors rounded to %s before.")
            :format(study.shape_names.second, worst_ours, worst_theirs, study.dtype))
    end
end

--- The findings as a list of texts.
function M.findings(study)
    local list, texts = compare.pairs(study), {}
    local function add(text) texts[#texts + 1] = text end
    if #list == 0 then
        add("There is no PyTorch measurement to compare with (see the notes).")
    else
        add(("Of %d comparisons of the same work timed in the same way, Steer is faster in %d, PyTorch in %d; in %d "
            .. "the quartiles overlap."):format(#list, count(list, "faster"), count(list, "slower"),
                count(list, "open")))
    end
    for _, section in ipairs(compare.SECTIONS) do
        local text = against_fastest(study, list, section)
        if text then add(text) end
    end
    batch_findings(study, add)
    compile_findings(study, add)
    exactness(study, add)
    if #list > 0 then
        local lost, open = listed(list, "slower", study), listed(list, "open", study)
        add(lost ~= "" and "**Where PyTorch is faster**:\n" .. lost or "**Where PyTorch is faster**: nowhere here.")
        if open ~= "" then add("**Left open by the quartiles**:\n" .. open) end
    end
    return texts
end

-- ---- Decision ------------------------------------------------------------------------------------------------------

local WORTH = 1.10 -- a path of its own for one spec is worth having above this

local function path_decision(study)
    local way = study.ways[#study.ways]
    local one = (compare.ours(study, "batches", "one") or {})[way]
    local distinct = (compare.ours(study, "batches", "distinct") or {})[way]
    if not (one and distinct) then return nil end
    local ratio = distinct.median / one.median
    local numbers = ("distinct specs cost %.2fx of one spec, %s"):format(ratio, WAYS[way])
    return ratio <= WORTH and "Batches need no sorting by spec: " .. numbers .. "."
        or "Requests of one spec are better served together: " .. numbers .. "."
end

--- The decision as a list of texts.
function M.decision(study)
    local list, texts, lost, seen = compare.pairs(study), { path_decision(study) }, {}, {}
    for _, pair in ipairs(list) do
        local text = ("%s (%s)"):format(pair.label, study.shape_names[pair.section])
        if pair.verdict == "slower" and not seen[text] then
            lost[#lost + 1], seen[text] = text, true
        end
    end
    if #list == 0 then
        texts[#texts + 1] = "Nothing is decided against PyTorch, which was not measured."
    elseif #lost == 0 then
        texts[#texts + 1] = "Steer serves every batch of this study; no PyTorch variant was faster."
    else
        texts[#texts + 1] = "Steer serves the batches of this study except where PyTorch was faster in the way of "
            .. "timing that counts (the findings list them): " .. table.concat(lost, "; ") .. "."
    end
    local worst, never = 0, {}
    local rows = compiled_rows(study)
    for _, row in ipairs(rows) do
        local calls = page.amortised(row.first, row.later, row.eager)
        if calls == math.huge then never[#never + 1] = row.label else worst = math.max(worst, calls) end
    end
    if #rows > 0 then
        local pays = worst > 0 and ("pays back after up to %.0f calls"):format(worst) or "does not pay back"
        if worst > 0 and #never > 0 then pays = pays .. "; never for: " .. table.concat(never, "; ") end
        texts[#texts + 1] = ("Steer compiles nothing at run time, so there is no switch for it. In PyTorch "
            .. "compilation %s."):format(pays)
    end
    return texts
end

-- ---- The page ------------------------------------------------------------------------------------------------------

local METHOD = [[
- Every time is a median in microseconds with its quartiles; lower is better. A ratio is called ambiguous where the
  quartiles overlap. Raw samples: `steerllm.jsonl`.
- *call and wait*: one call and the wait for the device, by the wall clock. *among many calls*: between two events
  around many calls, so that the host's work counts where it is slower than the device. *in a graph*: the same with the
  calls captured in a CUDA graph, which leaves the device's own time.
- Steer works in place and every launch changes every row (two specs take turns); PyTorch's operations give a new
  tensor, as its users write them. The references are an empty launch and an in-place stream over the same memory.
- Steer and PyTorch run in processes of their own, one after the other; candidates of one side take turns.]]

-- What the steerllm study published for the same tables (H200, PyTorch, bf16, microseconds).
local PUBLISHED = {
    operations = "add 18, projection cap 57, ablation 40; compiled 49, 60, 56; reduce-overhead 82, 92, 86.",
    batches = "fast path 87; slow path, a spec object for each request, 1652 (18.9x), its loop compiled 1248, gathered "
        .. "and scattered 249, gathered\nand scattered for 32 unique operations 2391.",
    second = "its compiled operations against a second implementation: projection cap 61 against 75, ablation 56 "
        .. "against 42.",
    warmup = "first and later calls: default 1190 and 60 (19 calls), reduce-overhead 3140 and 1040 (3 calls).",
}

local function published(section) return "\n\nPublished by steerllm, µs: " .. PUBLISHED[section] end

--- The study as markdown.
function M.markdown(study)
    local list = compare.pairs(study)
    local function references(section)
        local parts = {}
        for _, name in ipairs { "launch", "stream" } do
            local measured = compare.ours(study, section, name)
            for _, way in ipairs(measured and study.ways or {}) do
                if measured[way] then
                    parts[#parts + 1] = ("%s %s %s µs"):format(name, WAYS[way], us(measured[way].median))
                end
            end
        end
        return #parts > 0 and "\n\nReferences: " .. table.concat(parts, ", ") .. "." or ""
    end
    return page.study(study, {
        title = "Steering operations: Steer beside PyTorch",
        objective = "What steering costs per layer: one operation on a batch, requests with a spec of their own, a "
            .. "second implementation\nof the same arithmetic, and the first call; in Steer and in PyTorch, eager and "
            .. "compiled, in one run.",
        method = METHOD, findings = M.findings(study), decision = M.decision(study),
        ("## 1. Operations (%s)\n\n"):format(study.shape_names.operations) .. operations_table(study, list)
            .. references "operations" .. published "operations",
        ("## 2. Uniform and heterogeneous batches (%s)\n\n"):format(study.shape_names.batches)
            .. batches_table(study, list) .. references "batches" .. published "batches",
        ("## 3. Against a second implementation (%s)\n\n"):format(study.shape_names.second)
            .. second_table(study, list) .. references "second" .. published "second"
            .. "\n\nThe first formulation is a matrix product and a clamp, the second sums products along the row.",
        "## 4. Warm-up and amortisation\n\n" .. warmup_table(study) .. published "warmup",
    })
end

return M
