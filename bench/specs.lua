--- specs.lua: does time grow with the number of distinct specs in a batch? A sweep from 1 to 256.
-- `mixed` serves any specs in one launch; `loop` launches once for each request, as a host loop does.
-- steer sweep bench/specs.lua; steer plot specs.jsonl --x specs --y gpu_us --by batch,path --logx --logy
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. here .. "/../tests/lua/?.lua;" .. package.path

local steer = require "steer"
local timed = require "engine.timed"

local REQUESTS, HIDDEN = 256, 4096
local TOKENS = { decode = 1, prefill = 8 } -- of a request

return steer.sweep {
    name = "specs",
    axes = { "batch=[decode,prefill]", "path=[mixed,loop]", "specs[pow2]=[0:8]" },
    run = function(case, ctx)
        return timed.case({
            name = "specs", rows = REQUESTS * TOKENS[case.batch], hidden = HIDDEN, requests = REQUESTS,
            phase = case.batch == "decode" and "generation" or "prompt",
        }, { "cap" }, { specs = case.specs, path = case.path }, ctx)
    end,
}
