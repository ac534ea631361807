--- Helpers of the specs of studies: made-up statistics, and small runs of a study's script.
package.path = "bench/?.lua;" .. package.path
local json = require "dkjson"

local M = {}

M.device = os.getenv("STEER_TEST_DEVICE") or "cpu"

--- Statistics of about `us` microseconds, one percent to both sides.
function M.stats(us)
    return { n = 10, median = us * 1e-6, q1 = us * 0.99e-6, q3 = us * 1.01e-6, min = us * 0.98e-6 }
end

--- A list of texts as one.
function M.text(list) return table.concat(list, "\n") end

--- Fails unless all parts stand in the text.
function M.says(found, parts)
    for _, part in ipairs(parts) do assert(found:find(part, 1, true), part .. "\nis missing in\n" .. found) end
end

--- Runs bench/NAME.lua. Returns its output and exit status.
function M.run(name, arguments)
    local pipe = io.popen(("scripts/steer run bench/%s.lua %s 2>&1; echo status $?"):format(name, arguments))
    local output = pipe:read("*a")
    pipe:close()
    return output, tonumber(output:match("status (%d+)%s*$"))
end

--- Runs bench/NAME.lua without PyTorch on the device of the test, into a folder that goes away. Returns its page, its
-- measurements (lines of the kind) and its output; an exit status other than 0 fails.
function M.results(name, arguments)
    local folder = os.tmpname()
    os.remove(folder)
    local output, status = M.run(name, ("--device %s --quick %s --python no-such-python --out %s"):format(M.device,
        arguments, folder))
    assert(status == 0, output)
    local measurements = {}
    for line in io.lines(("%s/%s.jsonl"):format(folder, name)) do
        local found = assert(json.decode(line), line)
        if found.kind == "measurement" then measurements[#measurements + 1] = found end
    end
    local file = assert(io.open(("%s/%s.md"):format(folder, name)))
    local page = file:read("*a")
    file:close()
    os.execute("rm -r '" .. folder .. "'")
    return page, measurements, output
end

--- Fails unless bench/NAME.lua refuses each of the arguments and says how it is used.
function M.refuses(name, list)
    for _, bad in ipairs(list) do
        local output, status = M.run(name, bad)
        assert(status == 2, output)
        assert(output:find("usage:", 1, true), output)
    end
end

return M
