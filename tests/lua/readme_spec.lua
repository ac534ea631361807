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
            local function h() return steer.tensor.zeros({ 3, 8 }) end
            local h4, h5, h6 = h(), h(), h()
            local _ = h4, h5, h6, g, happy, sad, other_happy, other_sad
        ]]
        for _, heading in ipairs { "Tensors", "Finding a direction", "Operations", "Which tokens, and when",
            "Compile modes and graphs" } do
            local text = assert(readme:match("## " .. heading .. ".-\n```\n(.-)```"), heading)
            text = text:gsub("\nsteer%.", "\nlocal _ = steer."):gsub("^steer%.", "local _ = steer.")
            local printed = run(prelude .. text, "scripts/steer run /dev/stdin")
            assert.is_nil(printed:find "stack traceback", heading .. ": " .. printed)
            assert.is_truthy(printed:find "%d", heading)
        end
    end)

    it("shows a session with a model as it is, whatever the last digits", function()
        if not require("steer.plot.gnuplot").exists() then return pending "gnuplot is missing" end
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

    -- Calls fn with a folder for files.
    local function with_folder(fn)
        local folder = os.tmpname() .. ".d"
        assert.equal(0, os.execute("mkdir " .. folder))
        local ok, err = pcall(fn, folder)
        os.execute("rm -r " .. folder)
        if not ok then error(err, 0) end
    end

    local function write(path, text)
        local file = assert(io.open(path, "w"))
        file:write(text)
        file:close()
    end

    -- The demo model with a chat template, and its layers twice, so that it has as many as the examples steer.
    local function write_model(folder)
        local steer, json = require "steer", require "dkjson"
        local demo, twice = "tests/fixtures/demo-model/", {}
        for name, tensor in pairs((steer.load(demo .. "model.safetensors"))) do
            local before, layer, after = name:match "^(.-layers%.)(%d+)(%..*)$"
            twice[name] = tensor
            if layer then twice[before .. layer + 8 .. after] = tensor end
        end
        assert.equal(0, os.execute(("mkdir %s && cp %stokenizer* %s"):format(folder, demo, folder)))
        local config = json.decode(read(demo .. "config.json"))
        config.num_hidden_layers = 16
        write(folder .. "/config.json", json.encode(config))
        write(folder .. "/chat_template.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}")
        steer.save(folder .. "/model.safetensors", twice)
    end

    it("has a script for a model of one's own, and a session, that run as they stand", function()
        with_folder(function(folder)
            write_model(folder .. "/smollm2.gguf")
            local text = ""
            for block in readme:match("\n## Your own model\n(.-)\n### Chat"):gmatch "\n```\n(local .-)```" do
                text = text .. block
            end
            assert.truthy(text:find("session:fork", 1, true))
            write(folder .. "/own.lua", text)
            local printed = run("", ("sh -c 'cd %s && exec $OLDPWD/scripts/steer run own.lua'"):format(folder))
            assert.is_nil(printed:find "stack traceback", printed)
            assert.truthy(printed:find("\n.+\t%l+\t%d+\n"), printed)
        end)
    end)

    it("has a sweep that runs as it stands, and what is done with its results", function()
        if not require("steer.plot.gnuplot").exists() then return pending "gnuplot is missing" end
        with_folder(function(folder)
            write(folder .. "/add.lua", readme:match "\n## Sweeps\n.-\n```\n(.-)```")
            local function command(line)
                local inside = ("cd %s && export PATH=$OLDPWD/scripts:$PATH && { %s\n}; echo status $?")
                    :format(folder, line)
                local printed = run("", "sh -c '" .. inside .. "'")
                assert.equal("0", printed:match "status (%d+)\n$", line .. "\n" .. printed)
                return printed
            end
            assert.truthy(command("steer sweep add.lua --jobs 2"):find("12 ok -> add.jsonl", 1, true))
            command "cp add.jsonl old.jsonl; cp add.jsonl new.jsonl"
            local count = 0
            for line in readme:match("\n### Comparing, plotting, reporting\n\n```\n(.-)```"):gmatch "[^\n]+" do
                if not line:find "cap%.jsonl" then -- of another sweep
                    command(line)
                    count = count + 1
                end
            end
            assert.is_true(count >= 4, count)
            assert.truthy(read(folder .. "/add.html"):find ">hidden<")
        end)
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
