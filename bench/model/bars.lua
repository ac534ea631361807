--- bars.lua: the bars of running a model: what each row measures, what it must be and what it should be.
--
-- Bars hold for the named shapes in bf16 on one H200. A ratio of candidates that took turns is that of their samples,
-- turn by turn. A row's `value` reads what was measured of its shape and gives
-- the value, the same from the quartiles that favour it and from those that do not, and where it comes from; it fails
-- where something was not measured.
local page = require "page"
local steer = require "steer"

local M = {}

local MS = 1e3

local function text(name, s) return ("%s %s (n=%d)"):format(name, page.duration(s.median), s.n) end

--- Bars in milliseconds of a step, by shape and number of sequences: must, stretch.
M.STEP = {
    ["qwen2.5-0.5b"] = { [1] = { 0.75, 0.40 }, [64] = { 1.1, 0.75 }, [256] = { 1.8, 1.2 } },
    ["qwen2.5-1.5b"] = { [1] = { 1.35, 0.95 }, [64] = { 1.8, 1.4 }, [256] = { 2.7, 2.0 } },
    ["llama-3.1-8b"] = { [1] = { 4.5, 4.0 }, [64] = { 5.2, 4.5 }, [256] = { 8.8, 7.5 } },
}

--- What decoding is measured with, beside no steering, and its bars against that by number of sequences.
M.STEERED = {
    { name = "add, one spec", kinds = { "add" }, specs = 1, bars = { [256] = { 1.03, 1.01 } } },
    { name = "add, own specs", kinds = { "add" }, bars = { [256] = { 1.03, 1.01 } } },
    { name = "add+cap+ablate, own specs", kinds = { "add", "cap", "ablate" },
        bars = { [1] = { 1.05, 1.02 }, [256] = { 1.05, 1.02 } } },
    { name = "reproducible", reproducible = true }, -- unsteered too
}
M.PLAIN = "unsteered"
M.CAPTURES = { last = "last token", mean = "mean" }

-- ---- Values --------------------------------------------------------------------------------------------------------

-- a / b of statistics, times `scale`.
local function ratio(a, b, name_a, name_b, scale)
    scale = scale or 1
    return scale * a.median / b.median, scale * a.q1 / b.q3, scale * a.q3 / b.q1,
        text(name_a, a) .. ", " .. text(name_b, b)
end

-- The ratio of two candidates that took turns, turn by turn.
local function paired(a, b, name_a, name_b)
    local list = {}
    for i = 1, math.min(#a.samples, #b.samples) do list[i] = a.samples[i] / b.samples[i] end
    local s = steer.bench.stats(list)
    return s.median, s.q1, s.q3, text(name_a, a) .. ", " .. text(name_b, b)
end

local function milliseconds(name, s) return s.median * MS, s.q1 * MS, s.q3 * MS, text(name, s) end

-- Statistics of what was measured; else an error {section, name}.
local function of(found, section, name)
    local results = found[section]
    local result = results and results[name]
    if not result then error({ section = section, name = name }) end
    return result.wall
end

--- Names a section of decoding.
function M.section(sequences, context) return ("b %d, context %d"):format(sequences, context) end

-- ---- Rows ----------------------------------------------------------------------------------------------------------

local function limits(row, bars)
    if bars then row.must, row.stretch = bars[1], bars[2] end
    return row
end

-- Rows of one batch of decoding.
local function decode_rows(add, shape, sequences, context, first)
    local section = M.section(sequences, context)
    local what = ("%d sequence%s, context %d"):format(sequences, sequences == 1 and "" or "s", context)
    local steps = first and M.STEP[shape.name] or {}
    add(limits({ metric = "step, " .. what, unit = "ms", value = function(found)
        return milliseconds("step", of(found, section, M.PLAIN))
    end }, steps[sequences]))
    for _, steered in ipairs(M.STEERED) do
        add(limits({ metric = ("%s / unsteered, %s"):format(steered.name, what), optional = not first,
            value = function(found)
                return paired(of(found, section, steered.name), of(found, section, M.PLAIN), "steered", "unsteered")
            end }, first and steered.bars and steered.bars[sequences]))
    end
    add { metric = "tokens per second, " .. what, more = true, format = "%.0f", value = function(found)
        local s = of(found, section, M.PLAIN)
        return sequences / s.median, sequences / s.q3, sequences / s.q1, text("step", s)
    end }
    if sequences == 1 then
        add { metric = "weights read per second in a step, percent of the stream, " .. what, more = true, unit = "%",
            format = "%.1f", value = function(found)
                local s, stream = of(found, section, M.PLAIN), of(found, "stream", "stream")
                local moved = found.weights / found.stream_bytes
                return ratio(stream, s, "stream", "step", 100 * moved)
            end }
    end
    if not first then return end
    for _, how in ipairs { "eager", "graph", "compiled" } do
        for _, name in ipairs { "plain", "hook", "hooks" } do
            local ours = name == "plain" and M.PLAIN or name == "hook" and M.STEERED[1].name or M.STEERED[2].name
            add { metric = ("HF %s, %s / ours (%s), %s"):format(how, name, ours, what), more = true, optional = true,
                value = function(found)
                    local theirs = of(found, "HF b " .. sequences, name .. " " .. how)
                    return ratio(theirs, of(found, section, ours), "HF", "ours")
                end }
        end
    end
end

local function prefill_rows(add, prefill)
    if not prefill then return end
    local what = ("%d x %d tokens"):format(prefill.sequences, prefill.tokens)
    add { metric = "prefill, " .. what, unit = "ms", value = function(found)
        return milliseconds("prefill", of(found, "prefill", "plain"))
    end }
    add { metric = "prefill / HF's, " .. what, must = 1.0, stretch = 0.75, value = function(found)
        return ratio(of(found, "prefill", "plain"), of(found, "HF prefill", "plain eager"), "ours", "HF")
    end }
    for _, name in ipairs { "last", "mean" } do
        add { metric = ("capture of every layer's %s / plain prefill"):format(M.CAPTURES[name]), must = 1.02,
            stretch = 1.01, value = function(found)
                return paired(of(found, "prefill", name), of(found, "prefill", "plain"), "captured", "plain")
            end }
    end
end

local function grid_rows(add, grid)
    if not grid then return end
    local what = ("%d layers x %d scales x %d prompts"):format(#grid.layers, #grid.scales, grid.prompts)
    add { metric = "grid, " .. what, unit = "s", value = function(found)
        local s, batches = of(found, "grid", "grid"), found.grid.batched
        local steps = "%s, %d steps of %.0f rows; in batches %d of %.0f"
        return s.median, s.q1, s.q3, steps:format(text("grid", s), found.grid.grid.steps, found.grid.grid.step_rows,
            batches.steps, batches.step_rows)
    end }
    local others = { { "alone", "one case after the other", 10, 20 }, { "batched", "batches without reuse", 1.6, 1.9 } }
    for _, other in ipairs(others) do
        add { metric = ("%s / grid, %s"):format(other[2], what), must = other[3], stretch = other[4], more = true,
            value = function(found)
                return ratio(of(found, "grid", other[1]), of(found, "grid", "grid"), other[1], "grid")
            end }
    end
end

-- All rows of a shape, without values.
local function rows_of(shape, plan)
    local rows = {}
    local function add(row)
        row.shape = shape.name
        rows[#rows + 1] = row
    end
    for i, context in ipairs(plan.contexts) do
        for _, sequences in ipairs(plan.sequences) do decode_rows(add, shape, sequences, context, i == 1) end
    end
    prefill_rows(add, plan.prefill)
    grid_rows(add, plan.grid and plan.grid(shape))
    add(limits({ metric = "load from the page cache", unit = "s", optional = not plan.load, value = function(found)
        local s = of(found, "load", "load")
        return s.median, s.q1, s.q3, text("load", s)
    end }, shape.name == "llama-3.1-8b" and { 8, 5 }))
    return rows
end

--- The rows of a shape, filled from what was measured.
-- shape: {name}; plan: what was to be measured (contexts, sequences, prefill, grid, load); found: section -> name ->
-- {wall = statistics}, with weights (bytes of a step) and stream_bytes; failed: section -> message; why: why there is
-- nothing of HF
function M.fill(shape, plan, found, failed, why)
    local filled = {}
    for _, row in ipairs(rows_of(shape, plan)) do
        local ok, value, low, high, from = pcall(row.value, found)
        row.value = nil
        if ok then
            row.value, row.low, row.high, row.from = value, low, high, from
        else
            if type(value) ~= "table" then error(value, 0) end
            row.failed = failed[value.section]
            row.skipped = not row.failed and (value.section:find("^HF") and why
                or ("not measured: %s, %s"):format(value.section, value.name)) or nil
        end
        if ok or not row.optional or row.failed then filled[#filled + 1] = row end
    end
    return filled
end

return M
