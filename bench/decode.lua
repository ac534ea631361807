--- decode.lua: what does a decoding step cost, one token a request, from 1 request to 1024?
-- `one`: all requests have the same spec; `distinct`: each has its own.
-- steer sweep bench/decode.lua; steer plot decode.jsonl --x requests --y gpu_us --by hidden,specs --logx --logy
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. here .. "/../tests/lua/?.lua;" .. package.path

local steer = require "steer"
local timed = require "engine.timed"

return steer.sweep {
    name = "decode",
    axes = { "hidden=[2048,4096,8192]", "specs=[one,distinct]", "requests[pow2]=[0:10]" },
    skip = function(case)
        if case.requests == 1 and case.specs == "distinct" then return "one request has one spec" end
    end,
    run = function(case, ctx)
        local one = case.specs == "one"
        return timed.case({
            name = "decode", rows = case.requests, hidden = case.hidden, requests = case.requests, phase = "generation",
        }, { "cap" }, { specs = one and 1 or nil, path = one and "uniform" or "mixed" }, ctx)
    end,
}
