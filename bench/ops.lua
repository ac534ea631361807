--- ops.lua: what does each further operation of a program cost? Adds fold into one, the others do not.
-- 32 requests of 64 tokens, hidden 2048, each request with a program and vectors of its own.
-- steer sweep bench/ops.lua; steer plot ops.jsonl --x ops --y gpu_us --by kind --logx --logy
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. here .. "/../tests/lua/?.lua;" .. package.path

local steer = require "steer"
local cases = require "engine.cases"
local timed = require "engine.timed"

local MIXED = { "add", "cap", "ablate" } -- in turn

return steer.sweep {
    name = "ops",
    axes = { "kind=[add,cap,ablate,mixed]", "ops=[1,2,3,4,6,8,12,16,24,32,48,64]" },
    run = function(case, ctx)
        local kinds = {}
        for i = 1, case.ops do kinds[i] = case.kind == "mixed" and MIXED[(i - 1) % #MIXED + 1] or case.kind end
        return timed.case(cases.SHAPES.A, kinds, { path = "mixed" }, ctx)
    end,
}
