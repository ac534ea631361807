-- Documents and the order of things: the READMEs name what exists, headers are included in order, the top is tidy.
local function read(path)
    local file = assert(io.open(path))
    local text = file:read("*a")
    file:close()
    return text
end

-- The lines that a command prints.
local function lines(command)
    local pipe = io.popen(command)
    local list = {}
    for line in pipe:lines() do list[#list + 1] = line end
    pipe:close()
    return list
end

local function exists(path) return os.execute("test -e '" .. path .. "'") == 0 end

local CODE = { c = true, h = true, cu = true, cuh = true, lua = true, md = true, sh = true, py = true }

describe("the README of", function()
    local files = "\n" .. table.concat(lines "find src kernels lua tests bench scripts -type f", "\n") .. "\n"

    for _, folder in ipairs { "src", "kernels", "tests", "bench" } do
        it(folder .. " names files that exist", function()
            local text, count = read(folder .. "/README.md"), 0
            text = text:match "^(.-)\n## Log" or text -- of what was, too
            for path, extension in text:gmatch "`([%w_/.]+%.(%a+))`" do
                if CODE[extension] and not path:find "NAME" then
                    local found = files:find("/" .. path .. "\n", 1, true) or files:find("\n" .. path .. "\n", 1, true)
                    assert.is_truthy(found, folder .. "/README.md names " .. path)
                    count = count + 1
                end
            end
            for path in text:gmatch "%]%(([^)#:]+)%)" do
                assert.is_true(exists(folder .. "/" .. path), folder .. "/README.md links to " .. path)
                count = count + 1
            end
            assert.is_true(count > 8, count .. " names")
        end)
    end
end)

describe("headers", function()
    -- The folders of src/README.md from below.
    local RANK = { core = 1, backend = 2, tensor = 3, file = 4, text = 5, steering = 5, model = 6 }

    it("are included from below alone", function()
        local count = 0
        for _, line in ipairs(lines "grep -rnE '^#include \"[a-z]+/' src --include=*.[ch]") do
            local from, header = line:match '^src/([^:]+):%d+:#include "([^"]+)"'
            local own, other = from:match "^(%l+)/", header:match "^(%l+)/"
            local fits = RANK[other] and (not own or own == other or RANK[own] > RANK[other])
            assert.is_true(fits or own == "backend" and header == "tensor/dtype.h", line)
            count = count + 1
        end
        assert.is_true(count > 200, count .. " lines")
    end)

    it("of the backends are all that kernels know of the library", function()
        for _, line in ipairs(lines "grep -rnE '^#include \"[a-z]+/' kernels") do
            assert.is_truthy(line:find '#include "backend/', line)
        end
    end)
end)

describe("the top of the repository", function()
    it("has what the README's map has, and nothing else that is visible", function()
        local allowed = {}
        for name in ("CMakeLists.txt LICENSE README.md bench kernels lua scripts src tests"):gmatch "%S+" do
            allowed[name] = true
        end
        local tracked = lines "git ls-files 2>/dev/null"
        if #tracked == 0 then return pending "git is missing, or this is no clone" end
        for _, path in ipairs(tracked) do
            local top = path:match "^[^/]+"
            assert.is_true(allowed[top] or top:sub(1, 1) == ".", top)
        end
    end)
end)
