--- The README's Lua runs and prints what the README says, its commands have the options that it shows, and the paths
-- that it names exist.
local function read(path)
    local file = assert(io.open(path))
    local text = file:read("*a")
    file:close()
    return text
end

-- What a command prints for an input.
local function run(input, command)
    local path = os.tmpname()
    local file = io.open(path, "w")
    file:write(input)
    file:close()
    local pipe = io.popen(("STEER_DEVICE=cpu %s <%s 2>&1"):format(command, path))
    local printed = pipe:read("*a")
    pipe:close()
    os.remove(path)
    return printed
end

describe("README.md", function()
    local readme = read("README.md")
    local script, output = readme:match("\n```lua\n(.-)```.-prints:\n\n```\n(.-)```")

    it("has a first script of at most 15 lines with its real output", function()
        local _, lines = script:gsub("\n", "")
        assert.is_true(lines > 1 and lines <= 15, lines .. " lines")
        assert.equal(output, run(script, "scripts/steer run /dev/stdin"))
    end)

    it("shows a session as it is", function()
        local session = readme:match("## An interactive session.-```\n(.-)```")
        local inputs, outputs = {}, {}
        for line in session:gmatch "[^\n]*\n" do
            local input = line:match "^steer> (.*)"
            table.insert(input and inputs or outputs, input or line)
        end
        assert.is_true(#inputs > 5)
        assert.equal(table.concat(outputs), run(table.concat(inputs), "scripts/steer"))
    end)

    it("has examples that run", function()
        local prelude = [[
            local steer = require "steer"
            local v, g = steer.tensor.randn({ 8 }, { seed = 1 }), steer.tensor.randn({ 8 }, { seed = 2 })
            local function some(seed) return steer.tensor.randn({ 20, 8 }, { seed = seed }) end
            local happy, sad, other_happy, other_sad = some(3) + v, some(4), some(5) + v, some(6)
            local requests = { { spec = steer.spec{ [5] = { steer.add(v) } }, tokens = 3 } }
            local plan = steer.engine{ hidden = 8 }:plan(requests)
            local _ = g, happy, sad, other_happy, other_sad
        ]]
        for _, heading in ipairs { "Tensors", "Finding a direction", "Which tokens, and when" } do
            local text = assert(readme:match("## " .. heading .. ".-\n```\n(.-)```"), heading)
            text = text:gsub("\nsteer%.", "\nlocal _ = steer."):gsub("^steer%.", "local _ = steer.")
            local printed = run(prelude .. text, "scripts/steer run /dev/stdin")
            assert.is_nil(printed:find "stack traceback", heading .. ": " .. printed)
            assert.is_truthy(printed:find "%d", heading)
        end
    end)

    it("shows a session with a model as it is, whatever the last digits", function()
        if not require("steer._gnuplot").exists() then return pending "gnuplot is missing" end
        local folder = os.tmpname() .. ".d"
        assert.equal(0, os.execute(("mkdir %s && ln -s $PWD/tests $PWD/scripts %s"):format(folder, folder)))
        local inputs, outputs = {}, {}
        for text in readme:match("\n### Directions from prompts\n(.-)\n### Three studies"):gmatch "\n```\n(.-)```" do
            table.insert((text:find "^local " or text:find "^print%(") and inputs or outputs, text)
        end
        local printed = run(table.concat(inputs), ("cd %s && exec scripts/steer"):format(folder))
        os.execute("rm -r " .. folder)
        -- Numbers are N: processors round in different orders.
        local function skeleton(line) return (line:gsub("%-?%d[%d.e+-]*", "N"):gsub("[%s#]+", " "):gsub(" $", "")) end
        local seen, count = {}, 0
        for line in printed:gmatch "[^\n]+" do seen[skeleton(line)] = true end
        for _, text in ipairs(outputs) do
            if not text:find "Paris" then -- of a larger model
                for line in text:gmatch "[^\n]+" do
                    local cut = line:find "^%s*%.%.%.$"
                    assert.is_true(cut ~= nil or seen[skeleton(line)], line .. "\nnot in\n" .. printed)
                    count = count + 1
                end
            end
        end
        assert.is_true(#inputs >= 7 and count > 60, count .. " lines")
    end)

    it("shows options that the commands have", function()
        local usages, count = {}, 0
        for command, rest in readme:gmatch "\n[%w/]-steer (%l+) ([^\n]*)" do
            usages[command] = usages[command] or run("", "scripts/steer " .. command .. " --help")
            for option in rest:gsub("#.*", ""):gmatch "%-%-?%a[%w-]*" do
                assert.is_truthy(usages[command]:find(option, 1, true), command .. " " .. option)
                count = count + 1
            end
        end
        assert.is_true(count > 10)
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
