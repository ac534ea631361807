--- What a plan does on a layer and what an engine holds, as tables that print themselves.
local ffi = require "ffi"
local c = require "steer.core.c"
local compile = require "steer.engine.modes"

local C = c.C
local M = {}

-- ---- Text ----------------------------------------------------------------------------------------------------------

local UNITS = { "B", "KiB", "MiB", "GiB", "TiB" }

local function bytes_text(bytes)
    local unit = 1
    while bytes >= 1024 and unit < #UNITS do bytes, unit = bytes / 1024, unit + 1 end
    return (unit == 1 and "%d %s" or "%.1f %s"):format(bytes, UNITS[unit])
end

local function fields_text(title, fields)
    local lines = { title }
    for _, field in ipairs(fields) do lines[#lines + 1] = ("  %-16s %s"):format(field[1], field[2]) end
    return lines
end

local SHOWN = 12 -- groups that a text shows

local function append_groups(lines, groups)
    if #groups == 0 then return end
    local row = "%9s %8s %8s %8s  %s"
    lines[#lines + 1] = row:format("from row", "rows", "request", "program", "operations")
    local hidden = #groups > SHOWN and #groups - SHOWN + 1 or 0 -- the middle ones, when there are too many
    local head = hidden > 0 and SHOWN / 2 or #groups
    for i, group in ipairs(groups) do
        if i <= head or i > head + hidden then
            local folded = group.adds > 0 and (group.projections > 0 and "an add and " or "an add") or ""
            local left = group.projections > 0 and group.projections .. " projecting" or ""
            lines[#lines + 1] = row:format(group.start, group.rows, group.request, group.program,
                ("%d, folded to %s%s"):format(group.source_ops, folded, left))
        elseif i == head + 1 then
            lines[#lines + 1] = ("%9s %d more groups"):format("...", hidden)
        end
    end
end

-- ---- A plan on a layer ---------------------------------------------------------------------------------------------

local PATHS = {
    [tonumber(C.STEER_PATH_UNIFORM)] = "uniform", [tonumber(C.STEER_PATH_MIXED)] = "mixed",
    [tonumber(C.STEER_PATH_LOOP)] = "loop", [tonumber(C.STEER_PATH_NONE)] = "none",
}

local Explanation = {}
Explanation.__index = Explanation

function Explanation:__tostring()
    local fields = {
        { "path", ("%s (%s)"):format(self.path, self.why) },
        { "rows", ("%d, %d of them steered"):format(self.rows, self.steered_rows) },
    }
    if self.launches > 0 then
        fields[3] = { "programs", ("%d, %d operations after folding"):format(self.programs, self.ops) }
        fields[4] = { "launches", self.launches .. (self.kernels and ": " .. self.kernels or "") }
        fields[5] = { "memory traffic", bytes_text(self.bytes) }
        fields[6] = self.expected_us and { "expected time", ("%.3g us"):format(self.expected_us) } or nil
    end
    if self.compile.mode ~= "off" then fields[#fields + 1] = { "compile", compile.text(self.compile) } end
    if #self.idle_specs > 0 then
        local shown = table.concat(self.idle_specs, ", ", 1, math.min(SHOWN, #self.idle_specs))
        fields[#fields + 1] = { "idle specs", ("of requests %s%s: they steer nothing"):format(shown,
            #self.idle_specs > SHOWN and ", ..." or "") }
    end
    local lines = fields_text(("plan on layer %d"):format(self.layer), fields)
    append_groups(lines, self.groups)
    return table.concat(lines, "\n")
end

local function groups_of(handle, layer, count)
    local groups, cell = {}, c.descriptor("steer_group")
    local numbers, programs = {}, 0 -- by first appearance on the layer
    for i = 1, count do
        c.check(C.steer_plan_group(cell, handle, layer, i - 1))
        if not numbers[cell.program] then
            programs = programs + 1
            numbers[cell.program] = programs
        end
        groups[i] = {
            program = numbers[cell.program], start = tonumber(cell.start) + 1, rows = tonumber(cell.rows),
            request = cell.request + 1, adds = cell.adds, projections = cell.projections,
            source_ops = cell.source_ops,
        }
    end
    return groups
end

local function idle_specs_of(handle, count)
    local idle, cell = {}, ffi.new("int32_t[1]")
    for i = 1, count do
        c.check(C.steer_plan_idle_spec(cell, handle, i - 1))
        idle[i] = cell[0] + 1
    end
    return idle
end

--- Explains the plan `handle` on a layer; rows, requests and programs count from 1.
function M.plan(handle, layer)
    local out = c.descriptor("steer_explain")
    c.check(C.steer_plan_explain(out, handle, layer))
    return setmetatable({
        layer = layer, path = PATHS[tonumber(out.path)], why = ffi.string(out.why), rows = tonumber(out.rows),
        steered_rows = tonumber(out.steered_rows), programs = out.programs, ops = out.ops, max_ops = out.max_ops,
        launches = out.launches, bytes = tonumber(out.bytes),
        kernels = out.kernels[0] ~= 0 and ffi.string(out.kernels) or nil,
        expected_us = out.expected_us > 0 and out.expected_us or nil, compile = compile.explain(out),
        groups = groups_of(handle, layer, out.groups), idle_specs = idle_specs_of(handle, out.idle_specs),
    }, Explanation)
end

-- ---- An engine -----------------------------------------------------------------------------------------------------

local COUNTS = {
    "vectors", "vector_bytes", "vector_budget", "vector_hits", "vector_misses", "vector_evictions", "programs",
    "program_hits", "plans", "live_plans", "updates", "applies", "applies_none", "launches_graph",
    "launches_compiled", "compiles", "memory_hits", "disk_hits", "failures",
}

local Stats = {}
Stats.__index = Stats

function Stats:__tostring()
    local launches = self.launches
    return table.concat(fields_text("engine", {
        { "vectors", ("%d, %s of %s"):format(self.vectors, bytes_text(self.vector_bytes),
            bytes_text(self.vector_budget)) },
        { "vector look-ups", ("%d found, %d new, %d evicted"):format(self.vector_hits, self.vector_misses,
            self.vector_evictions) },
        { "programs", ("%d alive, %d shared"):format(self.programs, self.program_hits) },
        { "plans", ("%d alive, %d made, %d updates"):format(self.live_plans, self.plans, self.updates) },
        { "applies", ("%d, %d had nothing to do"):format(self.applies, self.applies_none) },
        { "launches", ("uniform %d, mixed %d, loop %d, specialised %d, graphs %d"):format(launches.uniform,
            launches.mixed, launches.loop, self.launches_compiled, self.launches_graph) },
        { "compiled kernels", ("%d built, %d found in this process, %d on disk, %d failed"):format(self.compiles,
            self.memory_hits, self.disk_hits, self.failures) },
    }), "\n")
end

--- Reads the counters of the engine `handle`.
function M.stats(handle)
    local out, stats = c.descriptor("steer_engine_stats"), {}
    c.check(C.steer_engine_get_stats(out, handle))
    for _, key in ipairs(COUNTS) do stats[key] = tonumber(out[key]) end
    stats.launches = {
        uniform = tonumber(out.launches_uniform), mixed = tonumber(out.launches_mixed),
        loop = tonumber(out.launches_loop),
    }
    return setmetatable(stats, Stats)
end

return M
