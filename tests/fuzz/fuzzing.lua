--- What the fuzzers share: their arguments, the folder of inputs, files, spliced text and the loop.
-- A fuzzer is started as: scripts/steer run tests/fuzz/fuzz_NAME.lua [seconds] [seed]
-- On a failure, or a crash, the input stays in the folder that is printed first.
local steer_error = require "steer.core.error"
local C = require("steer.core.c").C

local M = {}

local seconds = tonumber(arg[1]) or 10
local seed = tonumber(arg[2]) or os.time()

function M.lines_of(command)
    local pipe, list = io.popen(command), {}
    for line in pipe:lines() do list[#list + 1] = line end
    pipe:close()
    return list
end

--- The folder of inputs.
M.folder = M.lines_of("mktemp -d")[1]

function M.get(path)
    local file = assert(io.open(path, "rb"))
    local bytes = file:read "*a"
    file:close()
    return bytes
end

--- Writes a file of the folder of inputs and gives its path.
function M.put(name, bytes)
    local path = M.folder .. "/" .. name
    os.remove(path) -- an older one may still be mapped, and must not be shortened
    local file = assert(io.open(path, "wb"))
    file:write(bytes)
    file:close()
    return path
end

--- Puts `new` for `length` bytes at `at`.
function M.splice(bytes, at, length, new) return bytes:sub(1, at - 1) .. new .. bytes:sub(at + length) end

--- Ends in a failure of input `count`.
function M.fail(count, format, ...)
    print(("%s: input %d (seed %d), kept in %s: "):format(M.name, count, seed, M.folder) .. format:format(...))
    os.exit(1)
end

--- First call of a fuzzer: says how to repeat it.
function M.begin(name)
    M.name = name
    print(("%s: seed %d, %g s, inputs in %s"):format(name, seed, seconds, M.folder))
    io.stdout:flush()
    math.randomseed(seed)
end

--- Calls one() for the seconds: it makes an input and works, or raises an error of the library.
-- @tparam string worked what inputs did that were taken, for the last line
-- @tparam string codes the codes of errors that inputs may end in
-- @tparam function one
-- @tparam[opt] function check called with the count after each input
function M.run(worked, codes, one, check)
    local allowed = {}
    for code in codes:gmatch "%S+" do allowed[code] = true end
    local count, taken, deadline = 0, 0, C.steer_clock() + seconds
    while C.steer_clock() < deadline do
        local ok, problem = pcall(one)
        count, taken = count + 1, taken + (ok and 1 or 0)
        if not ok and not (steer_error.is(problem) and allowed[problem.code]) then
            M.fail(count, "%s", tostring(problem))
        end
        if check then check(count) end
    end
    print(("%s: %d inputs, of which %d %s and the others were refused"):format(M.name, count, taken, worked))
    os.execute("rm -rf '" .. M.folder .. "'")
end

return M
