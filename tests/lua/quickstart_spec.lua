--- The quickstart experiment shows the known facts of its data, within its time.
-- devices: cpu cuda
local device = os.getenv("STEER_TEST_DEVICE") or "cpu"
local MAX_SECONDS = 5

describe("scripts/quickstart.lua", function()
    local output, seconds, folder

    setup(function()
        local C = require("steer._c").C
        folder = os.tmpname()
        os.remove(folder)
        assert(os.execute("mkdir " .. folder) == 0)
        local start = C.steer_clock()
        local pipe = io.popen(("STEER_DEVICE=%s scripts/steer run scripts/quickstart.lua %s 2>&1"):format(
            device, folder))
        output = pipe:read("*a")
        pipe:close()
        seconds = C.steer_clock() - start
    end)

    teardown(function() os.execute("rm -r " .. folder) end)

    local function numbers(line)
        local found = {}
        for text in line:gmatch("%-?%d+%.?%d*") do found[#found + 1] = tonumber(text) end
        return found
    end

    local function row(pattern)
        local line = output:match("\n(" .. pattern .. "[^\n]*)")
        assert(line, ("no line %q in:\n%s"):format(pattern, output))
        return line
    end

    it("finds the known accuracy of each layer", function()
        local known = { "0.500", "0.688", "0.547", "0.781", "0.656", "1.000", "1.000", "1.000" }
        for i, accuracy in ipairs(known) do
            local line = row((" *%d +%%d+%%.%%d+ "):format(i - 1))
            assert.equal(accuracy, line:match("(%S+)$"), "layer " .. i - 1)
        end
    end)

    it("steers each group of the mixed batch by its own spec", function()
        -- rows, projection before and after, norm before and after
        local unsteered = numbers(row("unsteered  "):sub(15))
        assert.equal(unsteered[2], unsteered[3])
        assert.equal(unsteered[4], unsteered[5])
        local norm = 16.56 -- of the direction at layer 5
        local added, taken = numbers(row("add 2 x"):sub(15)), numbers(row("add %-4 x"):sub(15))
        assert.near(added[2] + 2 * norm, added[3], 0.05)
        assert.near(taken[2] - 4 * norm, taken[3], 0.1)
        local capped, ablated = numbers(row("cap"):sub(15)), numbers(row("ablate"):sub(15))
        assert.is_true(math.abs(capped[3]) <= 2.01 and capped[3] ~= capped[2])
        assert.near(0, ablated[3], 0.01)
        assert.is_true(ablated[5] < ablated[4])
        assert.equal(1490, unsteered[1] + added[1] + taken[1] + capped[1] + ablated[1])
    end)

    it("keeps unsteered rows, explains the plan and saves the direction", function()
        assert(output:find("unsteered rows: every bit kept", 1, true), output)
        assert(output:find("mixed", 1, true), output)
        assert(output:find("saved and read back equal: " .. folder, 1, true), output)
        local saved = require("steer").load(folder .. "/mood.safetensors").direction
        assert.near(16.564, saved:norm(), 0.001)
    end)

    it("takes less than " .. MAX_SECONDS .. " seconds", function()
        assert(seconds < MAX_SECONDS, seconds)
    end)
end)
