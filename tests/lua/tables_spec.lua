-- The package walks tables outside compiled code: some LuaJITs compile next() and pairs() into code that crashes.
local tables = require "steer.core.tables"

describe("walking tables", function()
    it("lists keys", function()
        local keys = tables.keys { 7, 8, a = 1 }
        table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
        assert.same({ 1, 2, "a" }, keys)
        assert.same({}, tables.keys {})
        assert.equal("a", tables.first { a = 1 })
        assert.is_nil(tables.first {})
    end)

    it("tells lists, however their entries came to be there", function()
        local function is_list(t) return tables.is_list(t, #t) end
        assert.is_true(is_list {} and is_list { 1, 2, 3 } and is_list { [1] = 1, [2] = 2 })
        assert.is_false(is_list { [1] = 1, [3] = 2 } or is_list { [1] = 1, where = 2 } or is_list { 1, x = 2 }
            or is_list { 1, nil, 3 } or is_list { [0] = 1, 2 } or is_list { [2] = 1 } or is_list { [1] = 1, [1.5] = 2 })
    end)

    it("goes through core/tables.lua, or happens in files that keep themselves from the compiler", function()
        local root = debug.getinfo(tables.keys, "S").source:match("^@(.*)core/tables%.lua$")
        local pipe = assert(io.popen(("find '%s' -name '*.lua'"):format(root)))
        local files, found = 0, {}
        for path in pipe:lines() do
            files = files + 1
            local file = assert(io.open(path))
            local text = file:read("*a"):gsub("%-%-[^\n]*", "")
            file:close()
            for line in text:gmatch("[^\n]+") do -- one that begins at the margin runs once, when the module is loaded
                local walks = line:find("^%s.*[^%w_]pairs%s*%(") or line:find("^%s.*[^%w_.:]next%s*[(,]")
                if walks and not text:find("jit.off(", 1, true) then found[#found + 1] = path .. ": " .. line end
            end
        end
        pipe:close()
        assert.is_true(files > 10)
        assert.same({}, found)
    end)
end)
