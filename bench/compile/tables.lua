--- tables.lua: the tables of the study of compile modes, in markdown; what a study is: bars.lua.
local bars = require "compile.bars"
local page = require "page"

local M = {}

local HOWS = { "eager", "default", "reduce-overhead" }

--- The ways of timing as the page calls them.
M.WAYS = { wall = "call and wait", queued = "among many calls", graph = "in a graph" }

-- a / b, marked where the quartiles leave open which is faster.
local function ratio(a, b)
    if not (a and b) then return "-" end
    return page.times(a.median / b.median) .. (page.verdict(a, b) == "open" and " (ambiguous)" or "")
end

local function number(format, x) return x and format:format(x) or "-" end

-- What became of a specialised kernel.
local function fate(entry)
    local compile = entry.compile
    if not compile then return "-" end
    if bars.chosen(entry) then return entry.used and "yes" or "yes, but it was not launched" end
    if entry.states[1] ~= entry.states[2] then return table.concat(entry.states, "; ") end
    return compile.state == "not chosen" and "no" or compile.state .. (compile.why and ": " .. compile.why or "")
end

--- Specialised kernels at a shape.
function M.modes(study, name)
    local rows = {}
    for _, entry in ipairs(study.modes) do
        if entry.shape.name == name then
            local ordinary, compiled = bars.times(study, entry)
            local c, times = entry.compile or {}, entry.times and entry.times[study.way] or {}
            rows[#rows + 1] = {
                entry.batch, entry.name, tostring(entry.specs), page.cell(times.alone), page.cell(times.ordinary),
                entry.failed and "failed: " .. entry.failed or page.cell(compiled), ratio(ordinary, compiled),
                fate(entry), number("%.4g", c.ordinary_us) .. " / " .. number("%.4g", c.compiled_us),
                number("%.3g", c.ms), number("%d", c.pays_back),
            }
        end
    end
    return page.table({ "batch", "program", "specs", "ordinary, alone, µs", "ordinary, µs", "`default`, µs",
        "ordinary / `default`", "chosen", "kernels alone, ordinary / specialised, µs", "compiling, ms",
        "said to pay back after" }, rows)
end

local function candidates(study) return study.unsupported and { "loop", "graph" }
    or { "loop", "graph", "compiled loop", "compiled graph" } end

--- Layers one by one and in a graph: the device's time of a layer, and what a call costs.
function M.layers(study)
    local header, rows = { "layers" }, {}
    local names, on_gpu = candidates(study), study.way == "graph"
    for _, name in ipairs(on_gpu and names or {}) do header[#header + 1] = name .. ", GPU, a layer, µs" end
    for _, name in ipairs(names) do header[#header + 1] = name .. ", call and wait, µs" end
    for _, name in ipairs(on_gpu and { "loop", "graph" } or {}) do header[#header + 1] = name .. ", host, µs" end
    for _, row in ipairs(study.layers) do
        local cells = { row.layers .. (row.own and ", vectors of their own" or "") }
        local function add(name, key, parts) cells[#cells + 1] = page.cell((row[name] or {})[key], parts) end
        for _, name in ipairs(on_gpu and names or {}) do add(name, "gpu", row.layers) end
        for _, name in ipairs(names) do add(name, "wall") end
        for _, name in ipairs(on_gpu and { "loop", "graph" } or {}) do add(name, "host") end
        rows[#rows + 1] = cells
    end
    return page.table(header, rows)
end

--- What graphs cost, what they hold, and a decoding step with them.
function M.graphs(study)
    local rows = {}
    for _, row in ipairs(study.layers) do
        local graph, stats = row.graph, row.graph.stats
        rows[#rows + 1] = {
            row.layers .. (row.own and ", vectors of their own" or ""), stats.captured and "yes" or "no",
            tostring(stats.nodes), page.duration(graph.capture),
            page.calls(page.amortised({ graph.capture }, graph.wall, row.loop.wall)),
            page.cell(row.steps.loop), page.cell(row.steps.graph), ratio(row.steps.loop, row.steps.graph),
            tostring(row.update.recaptures),
        }
    end
    return page.table({ "layers", "captured", "nodes", "making the graph", "calls until it pays back",
        "update, loop, wait, µs", "update, graph, wait, µs", "loop / graph", "captures anew" }, rows)
end

--- Calls after which what the first call with a specialised kernel cost beyond an ordinary one is paid back.
function M.pays_back(line, plain)
    return page.amortised({ math.max(0, line.first - plain) + line.compiled.median }, line.compiled, line.ordinary)
end

-- Milliseconds of making a kernel available and from where it came.
local function source(compile)
    return compile and ("%s, %s"):format(number("%.3g", compile.ms), compile.source or compile.state) or "-"
end

--- First and later calls, cold and warm.
function M.costs(study)
    local rows, warm = {}, {}
    for _, line in ipairs(study.costs.warm.first) do warm[line.shape .. line.name .. line.batch] = line end
    for _, line in ipairs(study.costs.cold.first) do
        local again = warm[line.shape .. line.name .. line.batch]
        rows[#rows + 1] = {
            ("%s %s, %s"):format(line.shape, line.name, line.batch), page.duration(line.ordinary_first),
            page.duration(line.first), source(line.first_compile), again and page.duration(again.first) or "-",
            source(again and again.first_compile), page.duration(line.memory), source(line.memory_compile),
            page.cell(line.ordinary), page.cell(line.compiled), page.calls(M.pays_back(line, line.ordinary_first)),
            again and page.calls(M.pays_back(again, again.ordinary_first)) or "-",
        }
    end
    return page.table({ "program", "first call, ordinary", "nothing cached", "kernel, ms", "cached on disk",
        "kernel, ms", "in memory", "kernel, ms", "later call, ordinary, µs", "`default`, µs",
        "calls until it pays back, nothing cached", "cached on disk" }, rows)
end

--- Compilation in the background, as sentences.
function M.background(study)
    local texts = {}
    for _, temperature in ipairs { "cold", "warm" } do
        local line = study.costs[temperature].background
        if line then
            texts[#texts + 1] = ("%s: the first call took %s, and the kernel was %s after %s"):format(
                temperature == "cold" and "nothing cached" or "cached on disk", page.duration(line.first),
                line.compile.state, page.duration(line.ready))
        end
    end
    return #texts > 0 and "Compiled in the background (`wait=false`), " .. table.concat(texts, "; ") .. "." or nil
end

--- Lists what Steer and PyTorch did alike, timed alike: {label, way, ours = {first, second}, theirs = how ->
-- measurement}: ordinary and specialised, or for layers loop and graph.
function M.alike(study)
    local list = {}
    local function add(label, way, first, second, section, name, key)
        local theirs = (study.torch[section] or {})[name]
        if not (theirs and first) then return end
        local at = {}
        for how, measured in pairs(theirs) do at[how] = measured[key] end
        if next(at) then list[#list + 1] = { label = label, way = way, ours = { first, second }, theirs = at } end
    end
    for _, way in ipairs { "wall", "queued" } do
        for _, entry in ipairs(study.modes) do
            local times = entry.peer and entry.times and entry.times[way]
            if times then
                add(("%s %s, %s"):format(entry.shape.name, entry.name, entry.batch), way, times.ordinary,
                    times.compiled, entry.shape.name, entry.peer, way)
            end
        end
        for _, row in ipairs(study.layers) do
            local key = way == "wall" and "wall" or "gpu"
            if not row.own then
                add(("B, %d layers (loop, graph)"):format(row.layers), way, row.loop[key], row.graph[key], "layers",
                    tostring(row.layers), way)
            end
        end
    end
    return list
end

--- The fastest of a list or map of statistics, or nil, and its key.
function M.fastest(of)
    local best, key
    for k, s in pairs(of) do
        if not best or s.median < best.median then best, key = s, k end
    end
    return best, key
end

--- Steer beside PyTorch.
function M.torch(study)
    local rows = {}
    for _, pair in ipairs(M.alike(study)) do
        local row = { pair.label, M.WAYS[pair.way], page.cell(pair.ours[1]), page.cell(pair.ours[2]) }
        for _, how in ipairs(HOWS) do row[#row + 1] = page.cell(pair.theirs[how]) end
        row[#row + 1] = ratio(M.fastest(pair.theirs), M.fastest(pair.ours))
        rows[#rows + 1] = row
    end
    return page.table({ "work", "timed", "Steer, µs", "Steer `default` (layers: graph), µs", "PyTorch eager, µs",
        "compiled, µs", "reduce-overhead, µs", "fastest PyTorch / fastest Steer" }, rows)
end

--- PyTorch's compilations: {label, how, first (list of seconds), later, eager} of the wall clock.
function M.torch_compiled(study)
    local list = {}
    for _, section in ipairs { "layers", "A", "B", "C" } do
        local names = {}
        for name in pairs(study.torch[section] or {}) do names[#names + 1] = name end
        table.sort(names)
        for _, name in ipairs(names) do
            local measured = study.torch[section][name]
            for i = 2, #HOWS do
                local compiled = measured[HOWS[i]]
                if compiled and compiled.first_calls and measured.eager then
                    local label = section == "layers" and name .. " layers" or section .. " " .. name
                    list[#list + 1] = { label = label, how = HOWS[i], first = compiled.first_calls,
                        later = compiled.wall, eager = measured.eager.wall }
                end
            end
        end
    end
    return list
end

--- First calls of compiled PyTorch.
function M.torch_costs(study)
    local rows = {}
    for _, row in ipairs(M.torch_compiled(study)) do
        rows[#rows + 1] = { row.label, row.how, page.duration(row.first[1]), page.duration(row.later.median),
            page.duration(row.eager.median), page.calls(page.amortised(row.first, row.later, row.eager)) }
    end
    return page.table({ "PyTorch", "mode", "first call", "later call", "eager call", "calls until it pays back" }, rows)
end

return M
