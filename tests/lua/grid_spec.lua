-- lm:grid: its numbers are those of each case alone; its files go on after a kill; what it refuses and what it keeps.
-- devices: cpu cuda
local files = require "files"
local helper = require "helper"
local record = require "steer.record"
local steer = require "steer"
local T = steer.tensor
local fails = helper.fails

local MODEL = "tests/fixtures/demo-model"
local lm = steer.model(MODEL, { device = helper.device, dtype = "f32" })

local function vector(seed) return T.randn({ lm.hidden }, { seed = seed }) end

local directions = {}
for layer = 0, 3 do directions[layer] = vector(layer + 1) end

local function ids_of(n, seed)
    local ids = {}
    for i, x in ipairs(T.rand({ n }, { seed = seed }):totable()) do ids[i] = math.floor(x * (lm.vocab - 5)) + 4 end
    return ids
end

local prompts = { { tokens = ids_of(20, 1) }, { tokens = ids_of(3, 2) }, { tokens = ids_of(41, 3) } }
local options = { { 7 }, { 12, 5 }, { 9 } }

local function new_path(name)
    local path = files.path(name)
    os.remove(path)
    return path
end

-- Calls f(layer, scale, number of the prompt, place in a tensor) for all of a grid.
local function each(g, f)
    for l, layer in ipairs(g.layers) do
        for s, scale in ipairs(g.scales) do
            for p = 1, #g.prompts do f(layer, scale, p, { l, s, p }) end
        end
    end
end

-- Within 1e-5 of what they are made of: of their own size, or that of the log probabilities whose difference they are.
local function near(a, b, size)
    assert.is_true(math.abs(a - b) < 1e-5 * math.max(1, math.abs(size or a)), ("%.9g, %.9g"):format(a, b))
end

local function at(tensor, place) return tensor[place[1]][place[2]]:totable()[place[3]] end

-- How far the same case may be apart in batches of other sizes.
local batches = helper.device == "cpu" and 1e-5 or 1e-3

describe("a grid of scores", function()
    for _, case in ipairs {
        { "of every token", {} }, { "of later tokens", { where = { generation = "all", prompt_positions = { -1 } } } },
        { "by another operation", { op = steer.ablate, at = "attention" } },
    } do
        it("equals each case alone: " .. case[1], function()
            local opts = { directions = directions, layers = { 0, 2, 3 }, scales = { -1, 0.5, 2 }, prompts = prompts,
                score = options, twin = true }
            for key, value in pairs(case[2]) do opts[key] = value end
            local g, tensor = lm:grid(opts)
            assert.same({ 3, 3, 3 }, tensor:shape())
            local kl, spread = g:tensor "kl", 0
            each(g, function(layer, scale, p, place)
                local op = (case[2].op or steer.add)(directions[layer], scale, { where = opts.where, at = opts.at })
                lm.shared_session:close() -- nothing of the grid is found in a cache
                lm.shared_session = nil
                local score = lm:score { { tokens = prompts[p].tokens, options = options, twin = true,
                    spec = steer.spec { [layer] = { op } } } }[1][1]
                near(score.logit_difference, at(tensor, place), score.logprob)
                near(score.twin.kl[1], at(kl, place))
                spread = math.max(spread, math.abs(score.logit_difference - at(tensor, { 1, 1, p })))
            end)
            assert.is_true(spread > 0.01)
            assert.equals(0, #g.failures)
            assert.truthy(tostring(g):find("logit_difference, mean over 3 prompts", 1, true))
        end)
    end

    it("computes beginnings that are not steered once", function()
        local function rows(where)
            if lm.shared_session then lm.shared_session:close() end
            lm.shared_session = nil
            lm:grid { vector = vector(1), layers = { 1, 2, 3 }, scales = { 1, 2, 3 }, score = { { 7 }, { 8 } },
                where = where, prompts = { { tokens = ids_of(130, 1) } } }
            return lm.shared_session:stats().rows
        end
        local all, later = rows(), rows { generation = "all", prompt_positions = { -1 } }
        assert.is_true(later < all / 4, later .. " of " .. all)
    end)

    -- Runs a grid in a new session: its tensor, how many sequences began with kept states and how many were held.
    local function grid_of(opts)
        local session = lm:session { sequences = 1, tokens = 16 }
        local Session, begun, held = getmetatable(session), 0, 0
        local add = Session.add
        session:close()
        if lm.shared_session then lm.shared_session:close() end
        lm.shared_session = nil
        function Session.add(self, request)
            begun, held = begun + (request.from and 1 or 0), held + (request.hold and 1 or 0)
            return add(self, request)
        end
        local ok, g, tensor = pcall(lm.grid, lm, opts)
        Session.add = add
        assert(ok, g)
        local stats = lm.shared_session:stats()
        assert.equals(stats.blocks, stats.blocks_free) -- nothing is held any more
        assert.same({ 0, 0 }, { lm.shared_session.calls, lm.shared_session.held })
        return tensor, begun, held
    end

    it("computes prompts once, and in parts within its budget, to the same numbers", function()
        local layers = { 0, 3, 7 } -- states of the longest prompt: 41 tokens of 3 layers of 192 elements
        local opts = { vector = vector(1), layers = layers, scales = { -1, 1 }, prompts = prompts, score = options }
        local states, longest = 41 * 3 * lm.hidden * 4, 48 * lm.token_bytes
        local want, begun, held = grid_of(opts)
        assert.same({ 54, 3 }, { begun, held })
        for budget, expected in pairs { [2 * (longest + states)] = { 54, 3 }, [2 * (longest + states) - 100] = { 0, 0 },
            [4 * (longest + states)] = { 54, 3 } } do
            opts.budget = budget
            local got
            got, begun, held = grid_of(opts)
            assert.same(expected, { begun, held })
            assert.is_true((want - got):norm() < batches * (1 + want:norm()))
            assert.is_true(lm.shared_session.capacity * lm.token_bytes + (held > 0 and states or 0) <= budget)
        end
    end)

    it("begins after the layer at every site, and goes on where nothing is gained", function()
        local opts = { vector = vector(1), scales = { 1, 2 }, prompts = prompts, generate = { max_tokens = 1 } }
        for site, expected in pairs { layer = 12, mlp = 12, attention = 12, embed = 0 } do
            opts.at, opts.layers = site, site == "embed" and { 0 } or { 4, 6 }
            assert.equals(expected, (select(2, grid_of(opts))))
        end
        opts.at, opts.layers, opts.scales = nil, { 7 }, { 1 } -- an unsteered pass would cost as much as the one case
        assert.equals(0, (select(2, grid_of(opts))))
    end)

    it("has options of its own for each prompt, and yes and no", function()
        local list = { { tokens = prompts[1].tokens, options = { { 7 }, { 8 } } },
            { tokens = prompts[2].tokens, options = { { 8 }, { 7 } } } }
        local _, own = lm:grid { vector = vector(1), layers = 1, scales = 1, prompts = list, score = true }
        local _, same = lm:grid { vector = vector(1), layers = 1, scales = "1", score = { yes = { 7 }, no = { 8 } },
            prompts = { { tokens = prompts[1].tokens }, { tokens = prompts[2].tokens } } }
        own, same = own[1][1]:totable(), same[1][1]:totable()
        assert.is_true(math.abs(own[1] - same[1]) < batches and math.abs(own[2] + same[2]) < batches)
    end)

    it("keeps to its budget", function()
        local opts = { directions = directions, scales = { 1 }, prompts = prompts, score = options, twin = true }
        local _, free = lm:grid(opts)
        opts.budget = 96 * lm.token_bytes
        local _, tight = lm:grid(opts)
        assert.is_true(lm.shared_session.capacity <= 96)
        assert.is_true((free - tight):norm() < batches, tostring(free) .. tostring(tight))
        opts.budget = 95 * lm.token_bytes
        fails("invalid_argument", "hold 80 tokens of the KV cache, prompts[3] needs 96", lm.grid, lm, opts)
    end)
end)

describe("a grid of texts", function()
    it("has what the twin says and what a function does", function()
        local opts = { vector = vector(3), layers = { 1, 3 }, scales = { 0, 4 }, prompts = prompts,
            generate = { max_tokens = 6, ignore_eos = true } }
        local g, kl = lm:grid(opts)
        assert.equals("kl", g.value)
        local perplexity = g:tensor "perplexity"
        each(g, function(layer, scale, p, place)
            local out = lm:generate { { tokens = prompts[p].tokens, max_tokens = 6, ignore_eos = true, twin = true,
                spec = steer.spec { [layer] = { steer.add(vector(3), scale) } } } }
            near(out[1].twin.mean_kl, at(kl, place))
            near(lm:perplexity(out)[1], at(perplexity, place))
            if scale == 0 then assert.is_true(at(kl, place) < 1e-6) end
        end)
        opts.metric = function(result, i, case) return { first = result.tokens[1], layer = case.layer, prompt = i } end
        opts.value = "first"
        local own, first = lm:grid(opts)
        assert.is_true(at(own:tensor "layer", { 2, 1, 1 }) == 3 and at(own:tensor "prompt", { 1, 1, 2 }) == 2)
        each(own, function(layer, scale, p, place)
            local out = lm:generate { { tokens = prompts[p].tokens, max_tokens = 1,
                spec = steer.spec { [layer] = { steer.add(vector(3), scale) } } } }
            assert.equals(out[1].tokens[1], at(first, place))
        end)
        fails("invalid_argument", 'there is no metric "kl"', own.tensor, own, "kl") -- no twin was asked for
    end)

    it("keeps its prompts where its function uses the model", function()
        local opts = { vector = vector(3), layers = { 1, 3, 5 }, scales = { 1, 4 }, prompts = prompts,
            generate = { max_tokens = 3, ignore_eos = true } }
        function opts.metric(result, i, case)
            local long = {}
            for k = 1, i == 1 and 40 or 1 do long[k] = { tokens = ids_of(60, 100 * i + k), max_tokens = 2 } end
            lm:generate(long) -- in a larger session
            return result.tokens[1] + result.tokens[3] / 1e3 + case.layer
        end
        local g, tensor = lm:grid(opts)
        each(g, function(layer, scale, p, place)
            local out = lm:generate { { tokens = prompts[p].tokens, max_tokens = 3, ignore_eos = true,
                spec = steer.spec { [layer] = { steer.add(vector(3), scale) } } } }[1].tokens
            assert.is_true(math.abs(out[1] + out[3] / 1e3 + layer - at(tensor, place)) < 1e-3)
        end)
    end)
end)

describe("a grid with repeats", function()
    it("samples each with the next seed, and joins them", function()
        local path = new_path "repeats.jsonl"
        local opts = { vector = vector(3), layers = { 1, 3 }, scales = { 0, 4 }, prompts = prompts, repeats = 3,
            generate = { max_tokens = 5, ignore_eos = true, temperature = 1, seed = 7 }, output = path, value = "first",
            metric = function(result, i, case)
                return { first = result.tokens[1], last = result.tokens[5], place = 10 * i + case.repeats }
            end }
        local g, first = lm:grid(opts)
        assert.same({ 2, 2, 3 }, first:shape())
        local last, differ = g:tensor "last", false
        each(g, function(layer, scale, p, place)
            local sums = { 0, 0 }
            for seed = 7, 9 do
                local out = lm:generate { { tokens = prompts[p].tokens, max_tokens = 5, ignore_eos = true,
                    temperature = 1, seed = seed,
                    spec = steer.spec { [layer] = { steer.add(vector(3), scale) } } } }[1].tokens
                differ = differ or seed > 7 and out[1] ~= sums[1]
                sums[1], sums[2] = sums[1] + out[1], sums[2] + out[5]
            end
            near(sums[1] / 3, at(first, place))
            near(sums[2] / 3, at(last, place))
        end)
        assert.is_true(differ)
        assert.same({ 12, 22, 32 }, g:tensor("place")[1][1]:totable())
        assert.equals(12, #record.read(path).cases)
        local text = tostring(g)
        assert.truthy(text:find("first, mean over 3 prompts and 3 repeats", 1, true))
        assert.truthy(text:find(("%11s"):format(("%.4g"):format(first[1][1]:mean())), 1, true))
        assert.truthy(tostring(steer.compare(path, path, { metric = "last" })):find("4 SAME", 1, true))
        opts.repeats, opts.resume = 4, true -- more of the same
        assert.equals(12, lm:grid(opts).counts.kept)
    end)

    it("keeps those that others beside them fail", function()
        local named = lm:grid { vector = vector(3), layers = { 1 }, scales = { 1 },
            metric = function() return { mood = { 1, 2 }, tokens = { 3, 4 }, words = { 5, 6 } } end }
        assert.equals("mood", named.value)
        local wide = tostring(lm:grid { vector = vector(3), layers = { 1, 2 }, scales = "[1:12]",
            metric = function(_, case) return case.scale end })
        assert.truthy(wide:find("\n +1 +1 +2 +3 +4 +5 +6 +7 +8 +9\n.*\n +2 +10 +11 +12$"), wide)
        local g, tensor = lm:grid { vector = vector(3), layers = { 1, 2 }, scales = { 1 }, repeats = 2,
            metric = function(_, case) return (case.layer == 2 or case.repeats == 1) and 0 / 0 or { 5, 6 } end }
        assert.same({ 5, 6 }, tensor[1][1]:totable())
        assert.is_true(tensor[2]:ne(tensor[2]):mean() == 1)
        assert.same({ 1, 2, 2 }, { g.failures[1].layer, g.failures[2].layer, g.failures[3].layer })
        assert.truthy(tostring(g):find("failed: layer 1, scale 1, repeat 1: ", 1, true))
    end)
end)

describe("a grid of a function", function()
    it("keeps what was measured where others fail", function()
        local path = new_path "nan.jsonl"
        local bad = { [1] = { 1, 0 / 0 }, [2] = { 1, math.huge }, [3] = "no" }
        local opts = { directions = directions, layers = { 0, 1, 2, 3 }, scales = { 5 }, output = path,
            metric = function(spec, case)
                assert.equals(case.layer, spec:layers()[1])
                if case.layer == 3 and bad[3] == "raise" then error "broken" end
                return bad[case.layer] or { case.layer, case.scale }
            end }
        local g, tensor = lm:grid(opts)
        assert.same({ 0, 5 }, tensor[1][1]:totable())
        assert.is_true(at(tensor, { 2, 1, 1 }) ~= at(tensor, { 2, 1, 1 }))
        assert.equals(3, #g.failures)
        assert.truthy(g.failures[1].reason:find("prompts[2]: metric is nan, expected a finite number", 1, true))
        assert.truthy(g.failures[2].reason:find("prompts[2]: metric is inf", 1, true))
        assert.truthy(tostring(g):find("failed: layer 1, scale 5: ", 1, true))
        assert.equals(4, #record.read(path).cases)
        bad = { [2] = { 8, 9 }, [3] = "raise" }
        opts.retry_failed = true
        g = lm:grid(opts)
        assert.equals(1, #g.failures)
        assert.truthy(g.failures[1].reason:find("broken", 1, true))
        assert.same({ 8, 9 }, g:tensor()[3][1]:totable())
        bad = { 0 / 0, 0 / 0, 0 / 0, [0] = 0 / 0 }
        opts.output, opts.retry_failed = nil, nil
        fails("invalid_argument", "no case was measured, all 4 failed; layer 0, scale 5: ", lm.grid, lm, opts)
    end)
end)

describe("a results file of a grid", function()
    local SCRIPT = [[
        local ffi = require "ffi"
        ffi.cdef "int kill(int, int); int getpid(void);"
        local steer = require "steer"
        local lm = steer.model("%s", { device = "%s", dtype = "f32" })
        local calls, most = 0, tonumber(os.getenv "MOST")
        local g, tensor = lm:grid { vector = steer.tensor.randn({ lm.hidden }, { seed = 1 }), layers = "[0:3]",
            scales = { -2, 1, 3 }, output = os.getenv "OUTPUT", resume = true,
            metric = function(spec)
                calls = calls + 1
                if calls > most then ffi.C.kill(ffi.C.getpid(), 9) end
                return select(2, lm:perplexity({ { 5, 9, 11 }, { 44, 7, 3, 8 } }, { spec = spec }))
            end }
        print(g.counts.ok, g.counts.kept)
        print(table.concat(tensor:reshape(24):totable(), " "))
    ]]
    local function run(most, path)
        return files.script(SCRIPT:format(MODEL, helper.device), ("MOST=%d OUTPUT='%s'"):format(most, path))
    end

    it("goes on after a kill -9 to the same numbers", function()
        local whole = run(1e6, new_path "whole.jsonl"):match "^12\t0\n(.*)$"
        assert.truthy(whole)
        local path = new_path "killed.jsonl"
        run(5, path)
        assert.equals(5, #record.open("test", path).cases)
        assert.equals("7\t5\n" .. whole, run(1e6, path))
        -- The last line may be torn.
        local bytes = files.get(files.path "whole.jsonl")
        files.put("killed.jsonl", bytes:sub(1, #bytes - 300))
        local kept = run(1e6, path)
        assert.equals("1\t11\n" .. whole, kept)
    end)

    it("is refused where vectors, prompts or settings are others; compare and plot read it", function()
        local path = new_path "same.jsonl"
        local function grid(change)
            local opts = { directions = directions, layers = { 1, 2 }, scales = { 1, 2 }, prompts = prompts,
                score = options, output = path, resume = true }
            for key, value in pairs(change or {}) do opts[key] = value or nil end
            return lm:grid(opts)
        end
        grid()
        assert.equals(4, grid().counts.kept)
        local longer = grid { scales = { 1, 2, 3 } } -- more of the same
        assert.equals(4, longer.counts.kept)
        assert.equals(2, longer.counts.ok)
        local others = {}
        for layer, v in pairs(directions) do others[layer] = layer == 3 and v * 2 or v end
        for _, change in ipairs {
            { "other vectors", { directions = others } }, { "other prompts", { prompts = { prompts[1] } } },
            { "other prompts", { score = { { 1 }, { 2 } } } }, { "twin false, here true", { twin = true } },
            { 'where none, here {"generation":"all"}', { where = { generation = "all" } } },
            { 'op "add", here "ablate"', { op = steer.ablate } },
            { "other op", { op = function(v, scale) return steer.add(v, scale) end } },
            { "other when", { when = { vector = vector(9), above = 0 } } },
        } do
            fails("format", path .. ": it was measured with " .. change[1], grid, change[2])
        end
        local either = { { vector = vector(9), above = 0 }, { vector = vector(8), below = 0 } }
        local combined = { output = new_path "combined.jsonl", when = { any = either } }
        grid(combined)
        assert.equals(4, grid(combined).counts.kept)
        combined.when = { any = { either[1], { vector = vector(7), below = 0 } } }
        fails("format", "it was measured with other when; output names another file", grid, combined)
        local made = { output = new_path "made.jsonl", score = false, generate = { max_tokens = 2 },
            metric = function() return 1 end }
        grid(made)
        made.generate = { max_tokens = 3, seed = 1 }
        fails("format", "it was measured with max_tokens 2, here 3; seed none, here 1; output names", grid, made)
        fails("io", "it exists; resume = true goes on with it, output names another file", grid, { resume = false })
        local second = new_path "second.jsonl"
        grid { output = second, directions = others, scales = { 1, 2, 3 } }
        assert.truthy(tostring(steer.compare(path, second, { metric = "probability" })))
        assert.equals(tostring(steer.compare(path, path)), tostring(steer.compare(longer, longer)))
        local bare = grid { output = false, resume = false }
        assert.truthy(tostring(steer.compare(longer, bare)):find("NEW a grid without a file", 1, true))
        fails("invalid_argument", "out: expected a path, the grid has no file", steer.report, bare)
        assert.equals(files.path "bare.html", (steer.report(bare, { out = files.path "bare.html" })))
        assert.equals(6, #steer.record.read(path).cases)
        if require("steer.plot.gnuplot").exists() then
            local plot, drawn = require "steer.plot", nil
            local terminal = plot.terminal
            function plot.terminal(...)
                drawn = terminal(...)
                return ""
            end
            longer:plot()
            plot.terminal = terminal
            assert.truthy(drawn:find("logit_difference against scale", 1, true))
            fails("invalid_argument", 'there is no metric "odds"', longer.plot, longer, "odds")
            fails("invalid_argument", "name: expected the name of a metric", longer.tensor, longer, 5)
            fails("invalid_argument", "opts: expected a table of options", longer.plot, longer, "probability", "x")
            local paths = longer:plot { kind = "heatmap", best = "max", out = files.path "map.svg" }
            assert.truthy(files.get(paths.svg):find(": logit_difference over scale and layer<", 1, true))
            assert.truthy(tostring(steer.plot(longer, { x = "probability", y = "logit_difference" })):find "scatter")
            local found = steer.plot(path, { x = "scale", y = "probability", by = "layer", out = files.path "same" })
            assert.truthy(files.get(found.files.svg):find("</svg>", 1, true))
            steer.report(path, { out = files.path "same.html" })
        end
    end)
end)

describe("lm:grid refuses", function()
    local function refuses(code, text, change)
        local opts = { vector = vector(1), layers = { 1 }, scales = { 1 }, prompts = prompts, score = options }
        for key, value in pairs(change) do opts[key] = value end
        for _, key in ipairs(change.without or {}) do opts[key] = nil end
        opts.without = nil
        fails(code, text, lm.grid, lm, opts)
    end

    it("what it cannot work with", function()
        local empty = { tokens = {} }
        refuses("invalid_argument", "vector: expected a vector, got false", { vector = false })
        refuses("invalid_argument", "prompts[2].tokens[2]: -1 is out of range",
            { prompts = { "a", { tokens = { 1, -1 } } } })
        refuses("invalid_argument", "score: no option yes", { score = { no = " x" } })
        refuses("invalid_argument", "score: the list has holes", { score = { [2] = " x" } })
        refuses("invalid_argument", '"samples" is the name of something else', { without = { "score" },
            generate = { max_tokens = 2 }, metric = function() return { samples = 1 } end })
        refuses("invalid_argument", "layers[2]: 8 is out of range, expected 0 to 7", { layers = { 1, 8 } })
        refuses("invalid_argument", "directions: there is none of layer 2",
            { directions = { [1] = vector(1) }, layers = { 1, 2 }, without = { "vector" } })
        refuses("invalid_argument", "vector and directions: both are given", { directions = directions })
        refuses("invalid_argument", "vector and directions: neither is given", { without = { "vector" } })
        refuses("shape_mismatch", "vector: 3 elements, the model's hidden size is 192", { vector = { 1, 2, 3 } })
        refuses("invalid_argument", "scales: expected a list of strengths", { without = { "scales" } })
        refuses("invalid_argument", "the value 1 appears twice", { scales = { 1, 1 } })
        refuses("invalid_argument", "scales: value 1 is not finite", { scales = { 0 / 0 } })
        refuses("invalid_argument", "layers: expected a list of values that is not empty", { layers = {} })
        refuses("invalid_argument", "prompts[1]: metric is nil, expected a finite number",
            { generate = { max_tokens = 1 }, metric = function() end, without = { "score" } })
        refuses("invalid_argument", "prompts: the list is empty", { prompts = {} })
        refuses("invalid_argument", "prompts[2]: its prompt has no tokens", { prompts = { prompts[1], empty } })
        refuses("invalid_argument", "prompts[1]: it has none of prompt, messages", { prompts = { {} } })
        refuses("invalid_argument", "prompts[1]: it has no options", { score = true })
        refuses("invalid_argument", "prompts[1].options: expected score = true", { generate = {},
            prompts = { { tokens = { 5 }, options = { { 1 }, { 2 } } } }, without = { "score" } })
        refuses("invalid_argument", "score: 1 option, expected 2 or more", { score = { { 1 } } })
        refuses("invalid_argument", "score: 1 option, expected 2 or more", { score = { yes = { 1 } } })
        refuses("invalid_argument", "score[2]: it has no tokens", { score = { { 1 }, {} } })
        refuses("invalid_argument", "score, generate and metric: none is given", { without = { "score" } })
        refuses("invalid_argument", "score and generate: both are given", { generate = {} })
        refuses("invalid_argument", "metric: it is for generated text", { metric = print })
        for _, numbers in ipairs { {}, { 1 }, { 1, 2, 3, 4, 5, 6, 7 } } do
            refuses("invalid_argument", ("metric: %d numbers, expected one for each of"):format(#numbers),
                { metric = function() return numbers end, without = { "score" } })
        end
        refuses("invalid_argument", 'there is no metric "kl"', { value = "kl" })
        refuses("invalid_argument", "budget: 100 bytes hold 0 tokens", { budget = 100 })
        refuses("invalid_argument", "repeats: scores are the same each time; expected generate", { repeats = 2 })
        refuses("invalid_argument", "repeats: without a temperature the text is the same each time",
            { repeats = 2, generate = { max_tokens = 2 }, without = { "score" } })
        refuses("invalid_argument", 'scales: "-1..1", expected numbers; a range is written',
            { scales = "-1..1" })
        refuses("invalid_argument", 'prompts[1]: metric is "x", expected a finite number',
            { metric = function() return { "x", 1, 2 } end, without = { "score" } })
        refuses("invalid_argument", "prompts: expected a list of texts or tables, got nothing",
            { without = { "prompts" } })
        refuses("invalid_argument", "repeats: 0 is out of range", { repeats = 0 })
        refuses("invalid_argument", "generate.max_tokens: 0 is out of range, expected at least 1",
            { generate = { max_tokens = 0 }, without = { "score" } })
        refuses("invalid_argument", "budget: nan", { budget = 0 / 0 })
        refuses("invalid_argument", 'unknown option "layer"', { layer = 3 })
    end)
end)

teardown(files.done)
