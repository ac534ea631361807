--- The study against PyTorch: what it finds in measurements that are known, and a small run of its script.
-- devices: cpu cuda
local studies = require "studies"
local compare = require "steerllm.compare"
local amortised = require("page").amortised
local study_page = require "steerllm.study"

local says, stats, text = studies.says, studies.stats, studies.text

local function study(torch)
    local function ours(us, off) return { wall = stats(us), path = "uniform", off = off } end
    return {
        ways = { "wall" }, notes = { "a note" }, dtype = "bf16", environment = { { "device", "a test" } },
        torch = torch, again = {},
        shape_names = { operations = "1472 x 2048", batches = "a batch", second = "512 x 2048" },
        ours = {
            operations = { add = ours(10), cap = ours(10), ablate = ours(10) },
            batches = { one = ours(10), same = ours(10), distinct = ours(10.5), three = ours(20) },
            second = { cap = ours(5, 0.01), ablate = ours(5, 0.02) }, warmup = { new_engine = ours(100) },
        },
    }
end

describe("the study", function()
    it("says where PyTorch is faster, slower, and where that is open", function()
        local s = study {
            operations = {
                add = { eager = { wall = stats(5) }, default = { wall = stats(10.05), first_calls = { 1, 2e-5 } } },
                cap = { eager = { wall = stats(40) }, default = { wall = stats(20), first_calls = { 1.00002, 2e-5 } } },
            },
            batches = { fast = { eager = { wall = stats(30) } }, loop = { eager = { wall = stats(600) } } },
        }
        local list = compare.pairs(s)
        assert.are.equal(6, #list)
        local findings, decision = text(study_page.findings(s)), text(study_page.decision(s))
        says(findings, {
            "Of 6 comparisons of the same work timed in the same way, Steer is faster in 4, PyTorch in 1; in 1",
            "add 0.50x (eager, add), cap 2.00x (compiled, cap)", "one 3.00x (eager, fast), distinct 57x (eager, loop)",
            "distinct specs take 1.05x the time of one spec", "the loop over the requests takes 20.00x",
            "Faster: cap (operations, default) 0.50x. Slower: add (operations, default) 2.01x",
            "**Where PyTorch is faster**:\n  - 1472 x 2048, add, eager, call and wait: Steer 10 µs, PyTorch 5 µs",
            "**Left open by the quartiles**:\n  - 1472 x 2048, add, compiled, call and wait",
        })
        says(decision, {
            "Batches need no sorting by spec: distinct specs cost 1.05x",
            "(the findings list them): add (1472 x 2048).",
            "pays back after up to 50000 calls",
        })
    end)

    it("claims nothing that was not measured", function()
        local s = study {}
        assert(text(study_page.findings(s)):find("no PyTorch measurement", 1, true))
        assert(text(study_page.decision(s)):find("Nothing is decided against PyTorch", 1, true))
        s.ours = {}
        says(study_page.markdown(s), { "## 1. Op", "## 2. Uni", "## 3. Aga", "## 4. Warm", "## Findings", "- a note" })
    end)

    it("says that sharing a spec pays where it does", function()
        local s = study {}
        s.ours.batches.distinct = { wall = stats(30) }
        assert(text(study_page.decision(s)):find("Requests of one spec are better served together", 1, true))
    end)

    it("counts the calls that pay a compilation back", function()
        assert.are.equal(101, amortised({ 1e-3 + 1e-5 }, stats(10), stats(19.91)))
        assert.are.equal(5, amortised({ 2e-5, 1e-5, 1e-5, 1e-5, 1e-5 }, stats(10), stats(1000)))
        assert.are.equal(math.huge, amortised({ 1 }, stats(10), stats(10)))
        assert.are.equal(math.huge, amortised({ 1 }, stats(10), stats(9)))
    end)
end)

describe("bench/steerllm.lua", function()
    it("writes its tables and samples, also without PyTorch", function()
        local page, measurements = studies.results("steerllm", "--shrink 32")
        local sections = {}
        for _, entry in ipairs(measurements) do
            sections[entry.section] = (sections[entry.section] or 0) + 1
            assert.are.equal(entry.wall.n, #entry.wall.samples)
        end
        assert.are.same({ operations = 5, batches = 6, second = 5, warmup = 2 }, sections)
        says(page, { "| projection cap | call and wait | ", "no-such-python ended with status 127" })
        assert(not page:find(" failed: ", 1, true), page)
    end)

    it("refuses what it does not know", function()
        studies.refuses("steerllm", { "--devcie cpu", "--dtype i32", "--shrink 0.5", "--out" })
    end)
end)
