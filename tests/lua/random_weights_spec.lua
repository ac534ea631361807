-- Models whose weights are drawn: every architecture runs, a seed gives the same model, others give others.
-- devices: cpu cuda
local helper = require "helper"
local steer = require "steer"
local fails = helper.fails

local MODELS = "tests/fixtures/models/"

-- A folder with the config of a fixture alone.
local function config_only(name)
    local folder = os.tmpname()
    os.remove(folder)
    os.execute(("mkdir %s && cp %s%s/config.json %s"):format(folder, MODELS, name, folder))
    return folder
end

local function open(folder, seed)
    return steer.model(folder, { weights = "random", seed = seed, device = helper.device, dtype = "f32" })
end

local PROMPT = { 5, 17, 3, 40, 11 }

local function logits(lm) return lm:forward({ { tokens = PROMPT } })[1]:to("cpu"):totable() end

describe("random weights", function()
    it("make a model of every architecture, as large as the one of its files", function()
        for name in io.popen("ls " .. MODELS):lines() do
            local folder = config_only(name)
            local lm = open(folder, 1)
            local stored = steer.model(MODELS .. name, { device = helper.device, dtype = "f32" })
            assert.are.equal(stored.bytes, lm.bytes, name)
            for _, row in ipairs(logits(lm)) do
                for _, x in ipairs(row) do assert(x == x and math.abs(x) < 1e4, name) end
            end
            lm:close()
            stored:close()
            os.execute("rm -r " .. folder)
        end
    end)

    it("are normal with deviation 0.02, and norms do not scale", function()
        local lm = open("bench/shapes/tiny", 3)
        local ids = {}
        for i = 1, 512 do ids[i] = i - 1 end
        local rows = lm:capture({ { tokens = ids } }, { at = "embed", tokens = "all" }):to("cpu")
        local mean, square = rows:mean(), (rows * rows):mean()
        assert(math.abs(mean) < 4 * 0.02 / math.sqrt(512 * lm.hidden), mean)
        assert(math.abs(math.sqrt(square) / 0.02 - 1) < 0.01, square)
        -- Logits of a tied head are products of an embedding with a row that the last norm gave the norm sqrt(hidden).
        local last = lm:forward({ { tokens = { 7 } } })[1]:to("cpu")
        local deviation = math.sqrt((last * last):mean())
        assert(math.abs(deviation / (0.02 * math.sqrt(lm.hidden)) - 1) < 0.15, deviation)
        lm:close()
    end)

    it("make the model that a GGUF file describes", function()
        for name in io.popen("ls tests/fixtures/gguf"):lines() do
            local path = "tests/fixtures/gguf/" .. name .. "/model.gguf"
            local lm, stored = open(path, 1), steer.model(path, { device = helper.device, dtype = "f32" })
            assert.are.same({ stored.bytes, stored.layers, stored.hidden }, { lm.bytes, lm.layers, lm.hidden })
            local rows = logits(lm)
            assert.are_not.same(logits(stored), rows)
            for _, row in ipairs(rows) do
                for _, x in ipairs(row) do assert(x == x and math.abs(x) < 1e4, name) end
            end
            lm:close()
            stored:close()
        end
        fails("unsupported", "a folder with a config.json or a GGUF file", open, MODELS .. "llama/model.safetensors", 1)
        fails("not_found", "nowhere", open, "/nowhere/x.gguf", 1)
    end)

    it("depend on the seed alone", function()
        local a, b, other = open("bench/shapes/tiny", 1), open("bench/shapes/tiny", 1), open("bench/shapes/tiny", 2)
        local first = logits(a)
        assert.are.same(first, logits(b))
        assert.are_not.same(first, logits(other))
        for _, lm in ipairs { a, b, other } do lm:close() end
    end)

    it("are asked for in words that are known", function()
        local function model(opts) return steer.model("bench/shapes/tiny", opts) end
        fails("invalid_argument", 'weights: "zero", expected "random"', model, { weights = "zero" })
        fails("invalid_argument", 'expected weights = "random"', model, { seed = 1 })
        fails("invalid_argument", "seed", model, { weights = "random", seed = -1 })
        fails("not_found", "config.json", steer.model, "bench/shapes", { weights = "random" })
        fails("not_found", "safetensors", steer.model, "bench/shapes/tiny")
    end)
end)
