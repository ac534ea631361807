--- grid.lua: a search over layers x scales x vectors: all of its cases as one batch against one case after the other.
-- Each case steers its own copy of a prompt at one layer; the time is that of all layers of the whole search, changing
-- the plan to it included, by the wall clock. Both ways must give the same bits.
-- steer sweep bench/grid.lua; steer plot grid.jsonl --x scales --y wall_us --by how,vectors \
--   --filter layers=16 --logx --logy
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. here .. "/../tests/lua/?.lua;" .. package.path

local steer = require "steer"
local exact = require "engine.exact"

local HIDDEN, TOKENS, SEED = 2048, 16, 7

-- The requests of the search, case by case, in two turns: the second takes away what the first adds.
local function search(case)
    local vectors = steer.tensor.randn({ case.vectors, HIDDEN }, { device = "cpu", seed = SEED })
    local turns = { {}, {} }
    for turn, sign in ipairs { 1, -1 } do
        for layer = 0, case.layers - 1 do
            for scale = 1, case.scales do
                for v = 1, case.vectors do
                    local spec = steer.spec { [layer] = { steer.add(vectors[v], sign * scale / 4) } }
                    table.insert(turns[turn], { spec = spec, tokens = TOKENS })
                end
            end
        end
    end
    return turns
end

-- Functions that run the search as one batch over all rows.
local function as_batch(engine, turns, x, layers)
    local plan, fns = engine:plan(turns[2]), {}
    for turn, requests in ipairs(turns) do
        fns[turn] = function()
            plan:update(requests)
            for layer = 0, layers - 1 do plan:apply(layer, x) end
        end
    end
    return fns
end

-- Functions that run it case after case.
local function one_by_one(engine, turns, x, layers)
    local plan, rows, fns = engine:plan { turns[2][1] }, {}, {}
    for i = 1, #turns[1] do rows[i] = x:narrow(1, (i - 1) * TOKENS + 1, TOKENS) end
    for turn, requests in ipairs(turns) do
        local alone = {}
        for i, request in ipairs(requests) do alone[i] = { request } end
        fns[turn] = function()
            for i = 1, #alone do
                plan:update(alone[i])
                for layer = 0, layers - 1 do plan:apply(layer, rows[i]) end
            end
        end
    end
    return fns
end

return steer.sweep {
    name = "grid",
    axes = { "how=[batch,alone]", "layers=[4,16]", "vectors=[1,8]", "scales=[1,2,4,8,16]" },
    run = function(case, ctx)
        local turns = search(case)
        local engine = steer.engine { hidden = HIDDEN, dtype = "bf16", device = ctx.device }
        local clean = steer.tensor.randn({ #turns[1] * TOKENS, HIDDEN }, { dtype = "bf16", device = ctx.device,
            seed = SEED })
        local x, y = clean:clone(), clean:clone()
        local batch, alone = as_batch(engine, turns, x, case.layers), one_by_one(engine, turns, y, case.layers)
        batch[1]()
        alone[1]()
        if not exact.same_bits(x, y) then error("the batch and the cases alone differ", 0) end
        batch[2]()
        alone[2]()
        ctx.progress(0.3)
        local result = steer.bench.time(case.how == "batch" and batch or alone, {
            device = ctx.device, gpu = false, max_seconds = 1, max_samples = 200,
        })
        exact.finite(x)
        exact.finite(y)
        result.cases, result.us_per_case = #turns[1], result.wall.median * 1e6 / #turns[1]
        for _, tensor in ipairs { clean, x, y } do tensor:close() end
        engine:close()
        return result
    end,
}
