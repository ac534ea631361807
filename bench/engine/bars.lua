--- bars.lua: the bars of the steering engine: what each row measures, what it must be and what it should be.
--
-- A row's `value` reads the measurements of its section (results by name, as bench.interleave returns them) and gives
-- the value, the same from the quartiles that favour it and from those that do not, and where it comes from.
local M = {}

local US = 1e6

local function text(name, s) return ("%s %.4g us (n=%d)"):format(name, s.median * US, s.n) end

-- a / b of statistics.
local function ratio(a, b, name_a, name_b)
    return a.median / b.median, a.q1 / b.q3, a.q3 / b.q1, text(name_a, a) .. ", " .. text(name_b, b)
end

-- Gives a function of the section's results: the ratio of the `what` ("gpu" or "wall") of two of them.
local function over(what, above, below)
    return function(m) return ratio(m[above][what], m[below][what], above, below) end
end

local function gpu(above, below) return over("gpu", above, below) end
local function wall(above, below) return over("wall", above, below) end

-- a - b in microseconds.
local function difference(a, b)
    return function(m)
        local x, y = m[a].gpu, m[b].gpu
        return (x.median - y.median) * US, (x.q1 - y.q3) * US, (x.q3 - y.q1) * US, text(a, x) .. ", " .. text(b, y)
    end
end

local function microseconds(what, name)
    return function(m)
        local s = m[name][what]
        return s.median * US, s.q1 * US, s.q3 * US, text(name, s)
    end
end

local rows = {
    { "A", "A hot", "GPU hot, t/R1", gpu("distinct", "R1"), must = 1.35, stretch = 1.10 },
    { "A", "A cold", "GPU cold, t/R1 cold", gpu("distinct", "R1"), must = 1.15, stretch = 1.05 },
    { "A", "A hot", "distinct specs / one spec, hot", gpu("distinct", "one"), must = 1.05, stretch = 1.01 },
    { "A", "A cold", "distinct specs / one spec, cold", gpu("distinct", "one") },
    { "A", "A hot", "captured automatic plan / R1", gpu("automatic", "R1") },
    { "A", "A hot", "one launch per request / R1", gpu("loop", "R1") },
    { "A", "A wall", "wall of apply + wait / W1", wall("distinct", "W1"), must = 1.20, stretch = 1.08 },
    { "A", "A wall", "wall of apply + wait / W0", wall("distinct", "W0"), must = 1.45 },
    { "A", "A PyTorch", "PyTorch fast path / one spec, wall", wall("torch_fast", "one"), more = true },
    { "A", "A PyTorch", "PyTorch slow path / distinct specs, wall", wall("torch_slow", "distinct"), must = 120,
        stretch = 180, more = true },
    { "B", "B hot", "GPU, t - R0", difference("distinct", "R0"), must = 2.4, stretch = 1.2, unit = "us" },
    { "B", "B hot", "distinct specs / one spec", gpu("distinct", "one"), must = 1.10, stretch = 1.03 },
    { "B", "B hot", "GPU hot, t/R1", gpu("distinct", "R1") },
    { "B", "B wall", "wall of apply + wait / W1", wall("distinct", "W1"), must = 1.20, stretch = 1.06 },
    { "B", "B wall", "wall of apply + wait / W0", wall("distinct", "W0"), must = 1.3 },
    { "B", "B update", "plan:update, 256 specs all changed, 32 layers", microseconds("wall", "all"), must = 25,
        stretch = 8, unit = "us" },
    { "B", "B update", "plan:update, per further distinct spec", function(m)
        local a, b, n = m.all.wall, m.one.wall, m.specs - 1
        return (a.median - b.median) / n * US, (a.q1 - b.q3) / n * US, (a.q3 - b.q1) / n * US,
            text("all", a) .. ", " .. text("one spec", b)
    end, must = 0.1, stretch = 0.03, unit = "us", format = "%.4f" },
    { "B", "B update", "plan:update with specs never seen before, per spec", microseconds("wall", "new"),
        unit = "us" },
}

local ADDS = { 2, 4, 8, 16, 64 }
for _, k in ipairs(ADDS) do
    rows[#rows + 1] = { "A", "A adds", ("add only, t(%d)/t(1)"):format(k), gpu("k" .. k, "k1"), must = 1.05,
        stretch = 1.00 }
end
local CAPS = { { 2, 1.3, 1.1 }, { 4, 1.7, 1.3 }, { 8, 2.5, 1.6 }, { 16, 3.5, 2 }, { 64, 10, 4 } }
for _, bar in ipairs(CAPS) do
    rows[#rows + 1] = { "A", "A caps", ("%d caps, t(%d)/t(1)"):format(bar[1], bar[1]), gpu("k" .. bar[1], "k1"),
        must = bar[2], stretch = bar[3] }
end

M.UNEVEN = { 1, 4, 8, 64 } -- caps of a spec that requests of unequal lengths are measured with
for _, k in ipairs(M.UNEVEN) do
    rows[#rows + 1] = { "A", "A uneven", ("%d caps, requests of unequal / equal lengths"):format(k),
        gpu("uneven" .. k, "even" .. k), must = 2 }
end
rows[#rows + 1] = { "A", "A uneven", "captured automatic plan, unequal / equal lengths",
    gpu("uneven automatic", "even automatic") }

--- The batches of shape C, by name: their operations.
M.C_CASES = {
    { name = "add", kinds = { "add" }, must = 0.93, stretch = 0.98 },
    { name = "cap", kinds = { "cap" }, must = 0.90, stretch = 0.96 },
    { name = "add+cap+ablate", kinds = { "add", "cap", "ablate" }, must = 0.82, stretch = 0.92 },
    { name = "8 mixed", kinds = { "add", "cap", "ablate", "add", "cap", "ablate", "cap", "ablate" }, must = 0.60,
        stretch = 0.85 },
}
for _, case in ipairs(M.C_CASES) do
    rows[#rows + 1] = { "C", "C", ("R1/t, %s"):format(case.name), gpu("R1", case.name), must = case.must,
        stretch = case.stretch, more = true }
end
rows[#rows + 1] = { "C", "C", "R1/t, cap, one spec", gpu("R1", "cap, one spec"), more = true }

for _, dtype in ipairs { "f32", "bf16" } do
    rows[#rows + 1] = { "cpu", "CPU " .. dtype, ("cap, %s: percent of the stream's bandwidth"):format(dtype),
        function(m)
            local a, b = m.stream.wall, m.cap.wall
            local scale = 100 * m.cap_bytes / m.stream_bytes
            return scale * a.median / b.median, scale * a.q1 / b.q3, scale * a.q3 / b.q1,
                text("cap", b) .. ("; stream of %d MiB "):format(m.stream_bytes / 2 ^ 20) .. text("", a)
        end, must = 60, more = true, unit = "%", format = "%.1f" }
end

--- Numbers of operations of a spec that shape A is measured with.
M.ADDS, M.CAPS = { 1 }, { 1 }
for _, k in ipairs(ADDS) do M.ADDS[#M.ADDS + 1] = k end
for _, bar in ipairs(CAPS) do M.CAPS[#M.CAPS + 1] = bar[1] end

-- What failed in a section that went on without it, or nil.
local function failures_of(results)
    local texts = {}
    for name, message in pairs(results.failures or {}) do texts[#texts + 1] = name .. ": " .. message end
    table.sort(texts)
    return #texts > 0 and table.concat(texts, "; ") or nil
end

--- The rows of a shape's sections, filled from what was measured.
-- measured: section -> results by name; failed: section -> message.
function M.fill(shape, measured, failed)
    local filled = {}
    for _, bar in ipairs(rows) do
        if bar[1] == shape then
            local row = { shape = bar[1], metric = bar[3], must = bar.must, stretch = bar.stretch, more = bar.more,
                unit = bar.unit, format = bar.format }
            local section = bar[2]
            if measured[section] then
                local ok, value, low, high, from = pcall(bar[4], measured[section])
                if ok then
                    row.value, row.low, row.high, row.from = value, low, high, from
                else
                    row.failed = failures_of(measured[section])
                    row.skipped = not row.failed and "not measured on this device" or nil
                end
            else
                row.failed = failed[section] or "the section did not run"
            end
            filled[#filled + 1] = row
        end
    end
    return filled
end

return M
