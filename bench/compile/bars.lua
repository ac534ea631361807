--- bars.lua: the bars of the compile modes: what was measured, what it must be and what it should be.
--
-- A study is { modes = list (modes.lua), layers = list (layers.lua), costs = {cold, warm} (costs.lua), torch = section
-- -> name -> how -> measurement, references, shapes, way (of the device's own time: "graph" or "wall"), unsupported
-- (why there are no specialised kernels), notes, environment }. A row is one of engine/report.lua.
local M = {}

local US = 1e6

--- Layers of the graph that has a bar.
M.LAYERS = 32

local function text(name, s) return ("%s %.4g us (n=%d)"):format(name, s.median * US, s.n) end

local function case_name(entry) return ("%s %s, %s"):format(entry.shape.name, entry.name, entry.batch) end

--- Whether specialised kernels were chosen for an entry of study.modes, for both of its layers.
function M.chosen(entry) return entry.states ~= nil and entry.states[1] == "ready" and entry.states[2] == "ready" end

--- What an entry of study.modes is held to and its time in mode `default`, in the device's own time; nil for what is
-- missing. Where specialised kernels were chosen, they must beat the ordinary path in a graph of the plan and alone.
function M.times(study, entry)
    local times = entry.times and entry.times[study.way] or {}
    local ordinary = times.ordinary
    if ordinary and times.alone and M.chosen(entry) and times.alone.median < ordinary.median then
        ordinary = times.alone
    end
    return ordinary, times.compiled
end

--- The measurement of `count` layers with one vector for all layers of a spec, or nil.
function M.of_layers(study, count)
    for _, row in ipairs(study.layers) do
        if row.layers == count and not row.own then return row end
    end
    return nil
end

-- A row of the time of a layer in the graph `name`, or why there is none.
local function per_layer(study, name, row)
    local measured = M.of_layers(study, M.LAYERS)
    local s = measured and measured[name] and measured[name].gpu
    if not s then
        row.skipped = measured and not measured[name] and study.unsupported or "not measured on this device"
        return row
    end
    local n = M.LAYERS
    row.value, row.low, row.high = s.median / n * US, s.q1 / n * US, s.q3 / n * US
    row.from = text(("%d layers"):format(n), s) .. (measured[name].stats.captured and "" or ", not captured")
    return row
end

local function replay(study, row)
    local worst
    for _, measured in ipairs(study.layers) do
        local s = measured.graph and measured.graph.host
        if s and (not worst or s.median > worst.host.median) then worst = { host = s, layers = measured.layers } end
    end
    if not worst then
        row.skipped = "not measured on this device"
        return row
    end
    local s = worst.host
    row.value, row.low, row.high = s.median * US, s.q1 * US, s.q3 * US
    row.from = text(("the slowest, %d layers:"):format(worst.layers), s)
    return row
end

-- The worst ratio over the entries that `keep` holds for: `worse(a, b)` compares ratios, `ratio_of` gives median, low,
-- high of one.
local function worst_ratio(study, row, keep, ratio_of, worse)
    local of
    for _, entry in ipairs(study.modes) do
        local ordinary, compiled = M.times(study, entry)
        if ordinary and compiled and keep(entry) then
            local value, low, high = ratio_of(ordinary, compiled)
            if not row.value or worse(value, row.value) then
                row.value, row.low, row.high, of = value, low, high, entry
            end
        end
    end
    if of then
        local ordinary, compiled = M.times(study, of)
        row.from = ("the worst, %s: %s, %s"):format(case_name(of), text("specialised", compiled),
            text("ordinary", ordinary))
    else
        row.skipped = study.unsupported or row.none or "not measured"
    end
    return row
end

-- Compilations by their source: the slowest one of the first calls of a process and of the programs in `modes`.
local function slowest(study, row, temperature, source, modes)
    local function see(compile, name)
        if compile and compile.source == source and compile.ms and compile.ms > (row.value or -1) then
            row.value, row.from = compile.ms, "the slowest, " .. name
        end
    end
    local found = study.costs[temperature]
    for _, line in ipairs(found and found.first or {}) do
        for _, key in ipairs { "first_compile", "second_compile", "memory_compile" } do
            see(line[key], ("%s %s, %s"):format(line.shape, line.name, line.batch))
        end
    end
    for _, entry in ipairs(modes) do see(entry.compile, case_name(entry)) end
    if not row.value then row.skipped = study.unsupported or ("no kernel came from: " .. source) end
    return row
end

-- How many of the results that were compared differ from the ordinary path, and which.
local function differing(study, row)
    local compared, differ = 0, {}
    local function see(same, name)
        if same == nil then return end
        compared = compared + 1
        if not same then differ[#differ + 1] = name end
    end
    for _, entry in ipairs(study.modes) do see(entry.same, case_name(entry)) end
    for _, measured in ipairs(study.layers) do
        for _, name in ipairs { "graph", "compiled loop", "compiled graph" } do
            see((measured[name] or {}).same, ("%s of %d layers"):format(name, measured.layers))
        end
        see((measured.update or {}).same, ("graph of %d layers after an update"):format(measured.layers))
    end
    if compared == 0 then
        row.skipped = "nothing was compared"
        return row
    end
    row.value = #differ
    row.from = ("%d compared"):format(compared)
        .. (#differ > 0 and "; other bits: " .. table.concat(differ, ", ") or "")
    return row
end

local function recaptures(study, row)
    for _, measured in ipairs(study.layers) do
        if measured.update and measured.graph.stats.captured then
            row.value = (row.value or 0) + measured.update.recaptures
        end
    end
    row.from = "batches of the same shape with other specs"
    if not row.value then row.skipped = "no graph was captured on this device" end
    return row
end

--- The rows of a study.
function M.rows(study)
    local rows = {
        per_layer(study, "graph", { shape = "B", metric = ("graph of %d layers, a layer"):format(M.LAYERS), must = 2.2,
            stretch = 1.5, unit = "us" }),
        per_layer(study, "compiled graph", { shape = "B", unit = "us",
            metric = ("graph of %d layers, specialised kernels, a layer"):format(M.LAYERS) }),
        replay(study, { shape = "B", metric = "replay from Lua, host time", must = 3, unit = "us" }),
        worst_ratio(study, { shape = "A, B, C", metric = "specialised / ordinary, any program", must = 1.02 },
            function() return true end, function(o, c) return c.median / o.median, c.q1 / o.q3, c.q3 / o.q1 end,
            function(a, b) return a > b end),
        worst_ratio(study, { shape = "A, B, C", metric = "ordinary / specialised, where chosen", must = 1.10,
            more = true, none = "no specialised kernel was chosen" },
            M.chosen, function(o, c) return o.median / c.median, o.q1 / c.q3, o.q3 / c.q1 end,
            function(a, b) return a < b end),
        slowest(study, { shape = "A, B, C", metric = "first compile, any program", must = 400, unit = "ms" }, "cold",
            "compiled", study.modes),
        slowest(study, { shape = "A, B", metric = "kernel from disk", must = 5, unit = "ms" }, "warm", "disk", {}),
        recaptures(study, { shape = "B", metric = "captures anew after an update", must = 0, format = "%d" }),
        differing(study, { shape = "all", metric = "results with other bits", must = 0, format = "%d" }),
    }
    return rows
end

return M
