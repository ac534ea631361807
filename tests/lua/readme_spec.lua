--- The README's first script prints what the README says, and the paths that the README names exist.
local function read(path)
    local file = assert(io.open(path))
    local text = file:read("*a")
    file:close()
    return text
end

describe("README.md", function()
    local readme = read("README.md")
    local script, output = readme:match("\n```lua\n(.-)```.-prints:\n\n```\n(.-)```")

    it("has a first script of at most 15 lines with its real output", function()
        local _, lines = script:gsub("\n", "")
        assert.is_true(lines > 1 and lines <= 15, lines .. " lines")
        local path = os.tmpname()
        local file = io.open(path, "w")
        file:write(script)
        file:close()
        local pipe = io.popen("STEER_DEVICE=cpu scripts/steer run " .. path .. " 2>&1")
        local printed = pipe:read("*a")
        pipe:close()
        os.remove(path)
        assert.equal(output, printed)
    end)

    it("names files and folders that exist", function()
        local count = 0
        for path in readme:gmatch("`([%w_]+/[%w_/.]*)`") do
            assert.equal(0, os.execute("test -e " .. path), path .. " does not exist")
            count = count + 1
        end
        assert.is_true(count > 10)
    end)
end)
