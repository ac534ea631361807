--- hidden.lua: how do the hidden size and the number of rows show in the time of a cap?
-- 32 requests with specs of their own share the rows.
-- steer sweep bench/hidden.lua; steer plot hidden.jsonl --x hidden --y gpu_us --by rows --filter dtype=bf16 --logx \
--   --logy
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. here .. "/../tests/lua/?.lua;" .. package.path

local steer = require "steer"
local timed = require "engine.timed"

return steer.sweep {
    name = "hidden",
    axes = {
        "dtype=[bf16,f32]", "rows=[256,2048,16384]", "hidden=[512,1024,1536,2048,2560,3584,4096,5120,8192,12288,16384]",
    },
    run = function(case, ctx)
        return timed.case({ name = "hidden", rows = case.rows, hidden = case.hidden, requests = 32 }, { "cap" },
            { dtype = case.dtype, path = "mixed" }, ctx)
    end,
}
