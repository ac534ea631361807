--- What the session knows of option tables is what the calls accept, and it completes them.
local complete = require "steer.repl.complete"
local options = require "steer.repl.options"
local steer = require "steer"

local T = steer.tensor

describe("the options that are known", function()
    local lm, v, session
    setup(function()
        lm = steer.model("tests/fixtures/demo-model", { device = "cpu", progress = false })
        v = T.randn({ 192 }, { seed = 1, device = "cpu" })
        session = lm:session {}
    end)
    teardown(function()
        session:close()
        lm:close()
    end)

    -- The names that a call lists when it is given one that it does not have.
    local function accepted(call)
        local ok, err = pcall(call, { no_such_option = 1 })
        assert.is_false(ok)
        local list = assert(err.message:match "[Tt]he options? %l+ (.*)$", err.message)
        local names = {}
        for name in list:gsub(" and ", ", "):gmatch "[%w_]+" do names[name] = true end
        return names
    end

    it("are those that the calls accept", function()
        local plan = steer.engine { hidden = 8, device = "cpu" }:plan { { tokens = 1 } }
        local function nothing() end
        local calls = {
            operation = function(t) steer.add(v, 1, t) end, cap = function(t) steer.cap(v, t) end,
            written = function(t) steer.set(v, 1, t) end, ablate = function(t) steer.ablate(v, 0, t) end,
            scope = function(t) steer.turn(v, 1, t) end, note = function(t) steer.note("a", t) end,
            condition = function(t) steer.patch({ v }, { 0 }, t) end,
            sae = function(t) steer.sae(v, v, t) end, affine = function(t) steer.affine({ v }, { v }, t) end,
            loreft = function(t) steer.loreft(t) end, noreft = function(t) steer.noreft(t) end,
            direft = function(t) steer.direft(t) end,
            linear = function(t) steer.linear(T.ones { 8, 8 }, t) end,
            where = function(t) steer.add(v, 1, { where = t }) end,
            selector = function(t) steer.add(v, 1, { exclude = t }) end,
            when = function(t) steer.add(v, 1, { when = t }) end,
            request = function(t) lm:generate { t } end, forward_request = function(t) lm:forward { t } end,
            score_request = function(t) lm:score { t } end, perplexity = function(t) lm:perplexity({ "a" }, t) end,
            read_request = function(t) lm:capture { t } end, capture = function(t) lm:capture("a", t) end,
            direction = function(t) lm:direction(t) end, lens = function(t) lm:lens("a", t) end,
            view = function(t) lm:view("a", t) end, calibrate = function(t) lm:calibrate(steer.spec {}, t) end,
            grid = function(t) lm:grid(t) end, session = function(t) lm:session(t) end,
            grid_prompt = function(t)
                lm:grid { vector = v, scales = 1, layers = 1, prompts = { t }, score = { "a", "b" } }
            end,
            grid_generate = function(t)
                lm:grid { vector = v, scales = 1, layers = 1, prompts = { "a" }, generate = t }
            end,
            sequence = function(t) session:add(t) end, model = function(t) steer.model("tests", t) end,
            tensor = function(t) T.zeros({ 1 }, t) end, random_tensor = function(t) T.randn({ 1 }, t) end,
            wrapped_tensor = function(t) T.wrap(1, { 1 }, t) end, engine = function(t) steer.engine(t) end,
            plan_request = function(t) steer.engine { hidden = 8 }:plan { t } end,
            plan = function(t) steer.engine { hidden = 8 }:plan({}, t) end,
            apply = function(t) plan:apply(0, T.zeros { 1, 8 }, t) end,
            plot = function(t) steer.plot({ 1, 2 }, t) end, compare = function(t) steer.compare("a", "b", t) end,
            report = function(t) steer.report("a", t) end,
            time = function(t) steer.bench.time(nothing, t) end, sweep = function(t) steer.sweep(t) end,
        }
        for set, call in pairs(calls) do
            local names = {}
            for name in pairs(options.set(set).by_name) do names[name] = true end
            assert.same(accepted(call), names, set)
        end
        for topic, arguments in pairs(options.CALLS) do
            for _, set in pairs(arguments) do
                local known = options.set(set)
                assert.truthy(calls[set] or calls[known.items], topic)
            end
        end
    end)

    it("have values that the calls take", function()
        for _, dtype in ipairs(options.set("tensor").by_name.dtype.values) do
            assert.equal(dtype, T.zeros({ 1 }, { dtype = dtype, device = "cpu" }).dtype)
        end
        for _, at in ipairs(options.set("operation").by_name.at.values) do steer.add(v, 1, { at = at }) end
        for _, reduce in ipairs(options.set("capture").by_name.reduce.values) do
            lm:capture({ "One day" }, { reduce = reduce, tokens = "all", layers = { 1 } })
        end
        for _, method in ipairs(options.set("direction").by_name.method.values) do
            lm:direction { positive = { "One day", "a b" }, negative = { "The cat", "c" }, method = method, folds = 0 }
        end
    end)

    it("are explained wherever they stand", function()
        local where = options.describe("where", 80)
        for _, part in ipairs { "an option of lm:grid,", "steer.ablate, steer.add", "prompt_window",
            "token_ids", "steer.linear, steer.loreft", "steer.noreft", "steer.direft", "exclude" } do
            assert.truthy(where:find(part, 1, true), part .. "\nnot in\n" .. where)
        end
        assert.truthy(options.describe("when", 80):find("cosine", 1, true))
        assert.truthy(options.describe("max_tokens", 80):find("lm:generate\n  number: tokens to generate (default 256)",
            1, true))
        assert.truthy(options.describe("tokens", 200):find('read (default "last", with reduce too)', 1, true))
        assert.truthy(options.describe("reduce", 200):find("tokens read: by default the last one alone", 1, true))
        assert.is_nil(options.describe("no_such_option", 80))
        for line in options.describe("device", 50):gmatch "[^\n]+" do assert.is_true(#line <= 50, line) end
    end)

    it("complete in the tables of calls, and so do their values and the keys of tables", function()
        local env = setmetatable({ steer = steer, lm = lm, v = v, held = { ["layer.1"] = v, ["layer.2"] = v, [3] = v },
            out = lm:generate { { prompt = "One", max_tokens = 1 } }, add = steer.add }, { __index = _G })
        local commands = require("steer.repl.commands").commands
        for text, wanted in pairs {
            ["steer.add(v, {wh"] = "while",
            ["steer.add(v, 1, {wh"] = "when where",
            ["add(v, 1, {nor"] = "normalize",
            ['steer.add(v, 1, {at="'] = "attention embed layer mlp",
            ['steer.add(v, 1, {at = "em'] = "embed",
            ["steer.add(v, 1, {at = "] = '"attention" "embed" "layer" "mlp"',
            ["steer.cap(v, {min = 1, m"] = "max",
            ["steer.loreft{rotate = 1, w"] = "weight when where",
            ["steer.noreft({pro"] = "project project_bias",
            ["steer.linear(a, {bia"] = "bias",
            ["steer.lor"] = "loreft",
            ["steer.add(v, 1, { where = { token"] = "token_ids",
            ["steer.add(v, 1, {\n  where = {prompt = 'all'}, -- it's {\n  wh"] = "when",
            ["lm:generate{ {max_"] = "max_tokens",
            ["lm:generate({ {max_"] = "max_tokens",
            ["lm:generate{ on"] = "on_token",
            ["lm:generate{ {prompt = [[a {]], max_"] = "max_tokens",
            ["unknown:generate{ {top_"] = "top_k top_p",
            ["lm:generate{ {max_tokens = 3, spec = steer.spec{ [5] = { steer.add(v, 1, {exc"] = "exclude",
            ["lm:generate{ {twin = "] = "false true",
            ["lm:generate{ {twin = t"] = "true",
            [":time lm:score{ {op"] = "options",
            ["lm:generate{ {spec = lm:sp"] = "",
            ['lm:capture("a", {reduce = "m'] = "mean moments",
            ["lm:grid{generate = {max_"] = "max_tokens",
            ["out:view{pro"] = "project",
            ["held["] = '"layer.1" "layer.2" 3',
            ['held["'] = "layer.1 layer.2",
            ['held["layer.1"] + held["l'] = "layer.1 layer.2",
            ["steer.tensor.zeros({1}, {dt"] = "dtype",
            ["lm:generate{ {max_tokens = 1, max_"] = "",
            ['lm:generate{ {prompt = "te'] = "",
            ["-- steer.add(v, 1, {wh"] = "",
            ["x = {wh"] = "while",
            ["f(steer.add(v, 1), {wh"] = "while",
            [":help repetition_p"] = "repetition_penalty",
            ["if true then lm:gen"] = "generate",
        } do
            local _, list = complete.candidates({ env = env, commands = commands }, text)
            assert.equal(wanted, table.concat(list, " "), text)
        end
    end)
end)
