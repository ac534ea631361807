-- The benchmark of models: what its rows say of measurements that are known, and a small run of its script.
-- devices: cpu cuda
local studies = require "studies"
local bars = require "model.bars"
local steer = require "steer"

-- Statistics of samples around `ms`, alternately 1 % to either side.
local function wall(ms)
    local samples = {}
    for i = 1, 10 do samples[i] = ms * 1e-3 * (i % 2 == 0 and 1.01 or 0.99) end
    return { wall = steer.bench.stats(samples) }
end

local function filled(shape, found, failed, more)
    local plan = { contexts = { 64 }, sequences = { 1, 256 }, prefill = { sequences = 8, tokens = 1024 } }
    for key, value in pairs(more or {}) do plan[key] = value end
    found.weights, found.stream_bytes = 1e9, 4e9
    local by_metric = {}
    for _, row in ipairs(bars.fill({ name = shape }, plan, found, failed or {}, "no transformers")) do
        by_metric[row.metric] = row
    end
    return by_metric
end

describe("rows of the benchmark of models", function()
    it("compare with bars, with not being steered and with transformers", function()
        local rows = filled("llama-3.1-8b", {
            stream = { stream = wall(1) },
            ["b 1, context 64"] = { [bars.PLAIN] = wall(4), ["add+cap+ablate, own specs"] = wall(4.2) },
            ["b 256, context 64"] = {
                [bars.PLAIN] = wall(8), ["add, one spec"] = wall(8), ["add, own specs"] = wall(9),
            },
            ["HF b 256"] = { ["hook eager"] = wall(24) },
            prefill = { plain = wall(100), last = wall(101), mean = wall(102) },
            ["HF prefill"] = { ["plain eager"] = wall(200) },
        })
        local function is(metric, value, must)
            local row = assert(rows[metric], metric)
            assert(math.abs(row.value - value) < 1e-9 * value, metric .. ": " .. tostring(row.value))
            assert.are.equal(must, row.must)
        end
        is("step, 1 sequence, context 64", 4, 4.5)
        is("step, 256 sequences, context 64", 8, 8.8)
        is("add, one spec / unsteered, 256 sequences, context 64", 1, 1.03)
        is("add, own specs / unsteered, 256 sequences, context 64", 1.125, 1.03)
        is("add+cap+ablate, own specs / unsteered, 1 sequence, context 64", 1.05, 1.05)
        is("tokens per second, 256 sequences, context 64", 32000)
        is("weights read per second in a step, percent of the stream, 1 sequence, context 64", 100 * (1e9 / 4) / 4e9)
        is("HF eager, hook / ours (add, one spec), 256 sequences, context 64", 3)
        is("prefill / HF's, 8 x 1024 tokens", 0.5, 1)
        is("capture of every layer's mean / plain prefill", 1.02, 1.02)
        -- Samples that took turns are compared turn by turn: their spread is not that of the ratio.
        local ratio = rows["add, own specs / unsteered, 256 sequences, context 64"]
        assert(ratio.high - ratio.low < 1e-9)
    end)

    it("say why something is missing", function()
        local rows = filled("tiny", {}, { prefill = "it broke" }, { load = "/somewhere" })
        assert.are.equal("not measured: b 1, context 64, unsteered", rows["step, 1 sequence, context 64"].skipped)
        assert.are.equal("it broke", rows["prefill, 8 x 1024 tokens"].failed)
        assert.are.equal("it broke", rows["capture of every layer's mean / plain prefill"].failed)
        assert.are.equal("it broke", rows["prefill / HF's, 8 x 1024 tokens"].failed)
        local alone = filled("tiny", { prefill = { plain = wall(100) } })
        assert.are.equal("no transformers", alone["prefill / HF's, 8 x 1024 tokens"].skipped)
        assert(rows["load from the page cache"].skipped)
        assert.is_nil(rows["step, 1 sequence, context 64"].must)
        assert.is_nil(filled("tiny", {})["load from the page cache"])
    end)
end)

describe("bench/model.lua", function()
    it("writes its table and samples, also without transformers", function()
        local folder = os.tmpname()
        os.remove(folder)
        local page, measurements = studies.results("model", "--contexts 16,48 --load " .. folder)
        os.execute("rm -rf '" .. folder .. "'")
        local found = {}
        for _, entry in ipairs(measurements) do
            found[entry.section] = (found[entry.section] or 0) + 1
            if entry.wall then assert.are.equal(entry.wall.n, #entry.wall.samples) end
        end
        assert.are.same({
            open = 1, stream = 1, ["b 1, context 16"] = 5, ["b 4, context 16"] = 5, ["b 1, context 48"] = 1,
            ["b 4, context 48"] = 1, prefill = 3, load = 1,
        }, found)
        studies.says(page, { "3.08M parameters", "| tiny | step, 4 sequences, context 48 | ",
            "no-such-python ended with status 127", "## Short of a must" })
        assert(not page:find(" failed", 1, true), page)
    end)

    it("refuses what it does not know", function()
        studies.refuses("model", { "--devcie cpu", "--device cpu --shapes huge", "--device cpu --sequences 0",
            "--device cpu --seconds no", "--out" })
    end)
end)

describe("bench/cpu_model.lua", function()
    it("writes its table and samples", function()
        local folder = os.tmpname()
        os.remove(folder)
        local output, status = studies.run("cpu_model", "--quick --python none --out " .. folder)
        assert.are.equal(0, status, output)
        local file = assert(io.open(folder .. "/cpu_model.md"))
        studies.says(file:read("*a"), { "| tiny | tokens per second, 8 | ", "| tiny | eight requests against one | ",
            "percent of the stream" })
        file:close()
        os.execute("rm -r '" .. folder .. "'")
    end)

    it("refuses what it does not know", function() studies.refuses("cpu_model", { "--shapes tiny", "--passes 0" }) end)
end)

describe("bench/text.lua", function()
    local fixture = "tests/fixtures/text/synthetic/bl-gpt2"

    it("writes its table", function()
        local output, status = studies.run("text", "--seconds 0.01 --tokenizers " .. fixture .. ",no-such-folder")
        assert.are.equal(0, status, output)
        studies.says(output, {
            "| bl-gpt2 | read | ", "| bl-gpt2 | encode, MB/s | ", "no-such-folder failed: not_found",
        })
    end)

    it("refuses what it does not know", function()
        studies.refuses("text", { "", "--tokenizers " .. fixture .. " --seconds 0",
            "--tokenizers " .. fixture .. " --text no-such-file" })
    end)
end)
