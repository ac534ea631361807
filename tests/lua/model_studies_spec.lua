-- The studies of scripts/: what they find on the demo model is there to be found; what they are told wrongly they say.
-- devices: cpu cuda
local files = require "files"

local MODEL = "tests/fixtures/demo-model"
local device = os.getenv("STEER_TEST_DEVICE") or "cpu"

-- Output of a study, and its exit status.
local function run(arguments)
    local pipe = io.popen(("STEER_DEVICE=%s scripts/steer run scripts/%s 2>&1; printf '\n%%d' $?"):format(device,
        arguments))
    local output, status = pipe:read("*a"):match("^(.*)\n(%d+)$")
    pipe:close()
    return output, tonumber(status)
end

local function succeeds(arguments)
    local output, status = run(arguments)
    assert(status == 0, output)
    return output
end

local function numbers(output, pattern)
    local found = { output:match(pattern) }
    assert(#found > 0, ("no %q in:\n%s"):format(pattern, output))
    for i, text in ipairs(found) do found[i] = tonumber(text) or text end
    return unpack(found)
end

describe("the study of A/B questions", function()
    it("finds layers that steer, keeps its results and goes on with them", function()
        local path = files.path "ab.jsonl"
        local output = succeeds(("study_ab.lua %s scripts/study_ab_stories.lua %s"):format(MODEL, path))
        local layer, slope = numbers(output, "most steerable: layer (%d), ([%d.]+) nats")
        assert.is_true(layer >= 3 and slope > 0.05)
        local _, against = numbers(output, ("\n +%d +([%%d.]+) +(%%d+)%%%%\n"):format(layer))
        assert.is_true(against <= 25)
        local low, high = numbers(output, ("\n +%d +([%%-%%d.]+) [^\n]* ([%%-%%d.]+)\n"):format(layer))
        assert.is_true(high - low > 2 * slope)
        assert.equals(56, #require("steer").record.read(path).cases)
        assert.equals(output, succeeds(("study_ab.lua %s scripts/study_ab_stories.lua %s"):format(MODEL, path)))
    end)
end)

describe("the study of ablation", function()
    it("finds a direction without which a behaviour is gone, and little else", function()
        local output = succeeds "study_ablation.lua"
        local with, without = numbers(output, "bad news: ([%-%d.]+) with the behaviour, ([%-%d.]+) without")
        local ablated, kl = numbers(output, "chosen: position %-%d, layer %d: ablated ([%-%d.]+), KL ([%d.]+)")
        assert.is_true(with > 5 and without < -5)
        assert.is_true(math.abs(ablated) < 3 and kl < 0.1)
        assert.truthy(output:find("\nablated   ", 1, true))
    end)

    it("says that no candidate keeps below a limit", function()
        local short = files.put("short.lua", [[
            local function texts(word)
                local list = {}
                for i = 1, 33 do list[i] = "Day " .. i .. (" " .. word):rep(4) end
                return list
            end
            return { with = texts "good", without = texts "bad", other = texts "long", yes = " yes", no = " no" }]])
        local output, status = run(("study_ablation.lua %s %s 0"):format(MODEL, short))
        assert.equals(1, status)
        assert.truthy(output:find("no candidate has a KL below the limit", 1, true))
    end)
end)

describe("the study of a persona", function()
    it("finds a layer where the trait can be turned", function()
        local output = succeeds "study_persona.lua"
        local function trait(coefficient)
            return numbers(output, ("\n +%s +([%%-%%d.]+) +[%%d.]+  [^\n]"):format(coefficient))
        end
        assert.is_true(trait "1" - trait "%-1" > 0.5)
        assert.is_true(trait "0" > trait "%-2")
        assert.equals(0, (select(2, output:gsub("\n +0 +[%-%d.]+ +0.000  ", "")) - 1)) -- no KL without steering
    end)
end)

describe("every study", function()
    it("says how it is used, and what it cannot open", function()
        for _, name in ipairs { "ab", "ablation", "persona" } do
            local output = succeeds(("study_%s.lua --help"):format(name))
            assert.equals(1, output:find(("usage: steer run study_%s.lua [MODEL"):format(name), 1, true))
            local text, status = run(("study_%s.lua /no/such/model"):format(name))
            assert.equals(1, status)
            assert.truthy(text:find("/no/such/model", 1, true))
            local wrong = files.path "wrong.lua"
            for _, content in ipairs { "return 5", "return {}", "return { { 'a' }, 2 }" } do
                files.put("wrong.lua", content)
                text, status = run(("study_%s.lua %s %s"):format(name, MODEL, wrong))
                assert.equals(1, status)
                assert.truthy(text:find("%u+: [%w ]*expected") or text:find("ITEMS: entry %d, expected"), text)
            end
            local lines = 0
            for _ in io.lines(("scripts/study_%s.lua"):format(name)) do lines = lines + 1 end
            assert.is_true(lines <= 80)
        end
    end)
end)

teardown(files.done)
