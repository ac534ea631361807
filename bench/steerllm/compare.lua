--- compare.lua: which of the study's measurements do the same work, and how they compare.
--
-- A study is { ours = section -> name -> measurement, torch = section -> name -> how -> measurement, again = how ->
-- {first_calls}, ways = list of the ways of timing, notes = list of texts }; a measurement has bench.stats by way.
local page = require "page"

local M = {}

--- PyTorch's variants in the order of the tables: what they are called, and Steer's measurement of the same work.
M.VARIANTS = {
    operations = {
        { "add", "add", "add" }, { "cap", "projection cap", "cap" }, { "ablate", "ablation", "ablate" },
    },
    batches = {
        { "fast", "one spec, the operation on the whole batch (fast path)", "one" },
        { "gather_one", "one spec, rows gathered and scattered", "one" },
        { "loop", "distinct specs, a loop over the requests (slow path)", "distinct" },
        { "gather_each", "distinct specs, rows gathered and scattered for each", "distinct" },
        { "rows", "distinct specs, vectors gathered by row", "distinct" },
        { "batched", "distinct specs, batched matrix products (equal lengths, one kind of operation)", "distinct" },
        { "three_loop", "distinct programs of add, cap, ablate, a loop over the requests", "three" },
        { "three_rows", "programs of add, cap, ablate, vectors gathered by row", "three" },
    },
    second = {
        { "cap", "projection cap, first formulation", "cap" }, { "cap_sum", "projection cap, second", "cap" },
        { "ablate", "ablation, first formulation", "ablate" }, { "ablate_sum", "ablation, second", "ablate" },
    },
}
M.SECTIONS = { "operations", "batches", "second" }
M.HOWS = { "eager", "default", "reduce-overhead" }
M.HOW_NAMES = { eager = "eager", default = "compiled", ["reduce-overhead"] = "compiled (reduce-overhead)" }

--- Steer's measurement of a section, or nil.
function M.ours(study, section, name) return (study.ours[section] or {})[name] end

--- PyTorch's measurement, or nil.
function M.torch(study, section, name, how) return ((study.torch[section] or {})[name] or {})[how] end

--- Lists every pair that does the same work, timed in the same way: {section, name, label, how, way, ours, theirs,
-- ratio (theirs over ours), verdict (of Steer)}.
function M.pairs(study)
    local list = {}
    for _, section in ipairs(M.SECTIONS) do
        for _, variant in ipairs(M.VARIANTS[section]) do
            for _, how in ipairs(M.HOWS) do
                for _, way in ipairs(study.ways) do
                    local a = (M.ours(study, section, variant[3]) or {})[way]
                    local b = (M.torch(study, section, variant[1], how) or {})[way]
                    if a and b then
                        list[#list + 1] = { section = section, name = variant[1], label = variant[2], how = how,
                            way = way, same = variant[3], ours = a, theirs = b, ratio = b.median / a.median,
                            verdict = page.verdict(a, b) }
                    end
                end
            end
        end
    end
    return list
end

--- The pair with the fastest PyTorch among those that `keep` holds for, or nil.
function M.fastest(list, keep)
    local best
    for _, pair in ipairs(list) do
        if keep(pair) and (not best or pair.theirs.median < best.theirs.median) then best = pair end
    end
    return best
end

return M
