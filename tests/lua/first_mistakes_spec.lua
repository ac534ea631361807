--- What a newcomer writes first and wrongly is answered by what to write instead.
local helper = require "helper"
local steer = require "steer"

local fails = helper.fails

describe("a first mistake", function()
    local lm, v, spec
    setup(function()
        lm = steer.model("tests/fixtures/demo-model", { device = "cpu", progress = false })
        v = steer.tensor.randn({ 192 }, { seed = 1, device = "cpu" })
        spec = steer.spec { [5] = { steer.add(v) } }
    end)
    teardown(function() lm:close() end)

    local function invalid(expected, fn, ...) fails("invalid_argument", expected, fn, ...) end

    it("with vectors, operations and specs", function()
        invalid("vector: expected a one-dimensional tensor or a list of numbers, got a spec", steer.add, spec)
        invalid("vector: expected a one-dimensional tensor or a list of numbers, got an operation", steer.add,
            steer.add(v))
        for _, directions in ipairs { { [0] = v, v }, { [5] = v }, { ["layer.5"] = v } } do
            invalid("got a table of tensors; of directions by layer take one, as in directions[5]", steer.add,
                directions, 2)
        end
        invalid("scale: expected a number, got a table: options come third, as in steer.add(v, 1, {...})", steer.add, v,
            { scale = 2 })
        invalid("options come third, as in steer.ablate(v, 0, {...})", steer.ablate, v, { at = "attention" })
        invalid("layer 5: expected a list of operations, got a tensor", steer.spec, { [5] = v })
        local function generate(wrong) return lm:generate { { prompt = "One day", spec = wrong } } end
        invalid("spec: expected what steer.spec makes, got a tensor", generate, v)
        invalid("got an operation: write steer.spec{ [layer] = {operation} }", generate, steer.add(v))
        invalid("got a table: write steer.spec{ [layer] = {operation} }", generate, { [5] = { steer.add(v) } })
        invalid("spec: expected what steer.spec makes, got a tensor", lm.calibrate, lm, v, { prompts = { "One" } })
    end)

    it("with lists, and with names of options", function()
        invalid('positive: expected a list of prompts, got "happy"', lm.direction, lm,
            { positive = "happy", negative = "sad" })
        invalid("unknown option 1: each is given by its name, the options are", lm.direction, lm, { "happy" })
        invalid('options: expected a list of texts, got " Tom"', lm.score, lm,
            { { prompt = "One day", options = " Tom" } })
        invalid("directions: expected a table by layer, as lm:direction gives, got a tensor", lm.grid, lm,
            { directions = v, layers = { 5 }, scales = { 1 }, prompts = { "One day" }, score = { "a", "b" } })
        invalid('requests: expected a list, found "prompt": write { {prompt = ...} }', lm.score, lm, { prompt = "a" })
        invalid('where: expected a table such as {generation = "all"}, got "generation"', steer.add, v, 1,
            { where = "generation" })
        invalid('where.generation: expected "all", got true', steer.add, v, 1, { where = { generation = true } })
        invalid("exclude: expected a table such as", steer.add, v, 1, { exclude = 5 })
        local session = lm:session { sequences = 1 }
        invalid("request: expected a table such as {prompt = text}, got \"One day\"", session.add, session, "One day")
        session:close()
        fails("unsupported", "expected .safetensors, .npy or .gguf", steer.save, "x.txt", v)
        local out = lm:generate { { prompt = "One day", spec = spec, max_tokens = 2 } }
        invalid("project: expected a table such as {mood = direction}, got a tensor", out.view, out, { project = v })
        invalid("project.mood: expected a tensor [192], got a spec", out.view, out, { project = { mood = spec } })
    end)

    it("with the names of methods", function()
        local function call(object, name) return function() return object[name](object) end end
        local out, session = lm:generate { { prompt = "One day", max_tokens = 1 } }, lm:session {}
        invalid('a model has no "genrate"; did you mean "generate"?', call(lm, "genrate"))
        invalid('a list of results has no "veiw"; did you mean "view"?', call(out, "veiw"))
        invalid('a session has no "set_specs"; did you mean "set_spec"?', call(session, "set_specs"))
        invalid('a spec has no "layer"; did you mean "layers"?', call(spec, "layer"))
        invalid('an engine has no "plans"; did you mean "plan"?', call(steer.engine { hidden = 8 }, "plans"))
        local info = select(2, lm:direction { positive = { "a b", "One" }, negative = { "The", "c" }, folds = 0 })
        local grid = lm:grid { vector = v, layers = "5", scales = 1, prompts = "One day", score = { " a", " b" } }
        for object, message in pairs {
            [grid] = 'a grid has no "xy"', [info] = 'what lm:direction gives second has no "xy"',
            [lm:lens("One day", { layers = 1 })] = 'a lens has no "xy"', [lm.tokenizer] = 'a tokenizer has no "xy"',
            [lm:view("One day", { project = { x = v }, layers = "[4:5]" })] = 'a view has no "xy"',
            [steer.device "cpu"] = 'a device has no "xy"', [steer.plot { 1, 2 }] = 'a chart has no "xy"',
        } do
            invalid(message, call(object, "xy"))
        end
        invalid('a list of results has no "text"; each element has one, as in [1].text', call(out, "text"))
        invalid('gives second has no "threshold"; each element has one, as in [0].threshold', call(info, "threshold"))
        invalid('did you mean "tensor"?', call(grid, "tensr"))
        for name, near in pairs { genrate = "did you mean lm:generate?", spce = "did you mean steer.spec?",
            generate = "a method of a model, lm:generate(...)" } do
            invalid(near, function() return steer[name] end)
        end
        invalid("there is no steer.bench.tme, did you mean steer.bench.time?", function() return steer.bench.tme end)
        invalid('an operation has no "clsoe"; did you mean "close"?', call(steer.add(v), "clsoe"))
        assert.is_nil(steer.add(v).where or steer.add(v).min)
        assert.is_nil(grid.path or grid.repeats or lm.tokenizer.pad)
        for _, absent in ipairs { "template", "_private" } do assert.is_nil(lm[absent]) end
        assert.is_nil(out[2])
        local names = select(2, require("steer.repl.complete").candidates({ env = { lm = lm } }, "lm:"))
        assert.is_nil(table.concat(names, " "):find "tokens_of")
        assert.truthy(table.concat(names, " "):find "generate")
        local docs = require "steer.repl.docs"
        assert.is_nil(docs.describe("model", 80):find "encode_part")
        assert.equal(docs.describe("model", 80), docs.describe("lm", 80))
        session:close()
    end)

    it("with a model's path: a name of the hub, a file of the folder", function()
        fails("not_found", "No such file or directory; if it is a model of the hub: hf download Qwen/Qwen2.5-0.5B "
            .. "--local-dir Qwen2.5-0.5B", steer.model, "Qwen/Qwen2.5-0.5B")
        for _, file in ipairs { "config.json", "model.safetensors" } do
            local ok, err = pcall(steer.model, "tests/fixtures/demo-model/" .. file)
            assert.is_false(ok)
            assert.truthy(err.message:find("; a model is opened by its folder: tests/fixtures/demo-model", 1, true))
        end
        local ok, err = pcall(steer.model, "no/such/folder")
        assert.is_false(ok)
        assert.equal("no/such/folder: No such file or directory", err.message)
    end)

    it("is spared by help on what calls of a model give", function()
        local complete, docs = require "steer.repl.complete", require "steer.repl.docs"
        local directions, info = lm:direction { positive = { "One day", "a b" }, negative = { "The cat", "c" } }
        local grid = lm:grid { directions = directions, layers = 5, scales = 1, prompts = { "One" },
            score = { "a", "b" } }
        local _, curve = lm:calibrate(spec, { prompts = { "One day" }, tokens = 2 })
        local view = lm:view("One day", { project = { x = v }, layers = { 5 } })
        for topic, value in pairs { direction = info, grid = grid, calibrate = curve, view = view,
            lens = lm:lens "One day" } do
            assert.equal(topic, complete.class(value))
            assert.truthy(docs.describe(topic, 80):find("model:" .. topic, 1, true))
        end
        for _, kind in ipairs { "add", "cap", "ablate" } do
            assert.truthy(docs.describe(kind, 80):find("exclude,%s+when,%s+at:%s+`:help%s+spec`%s+has%s+them"), kind)
        end
    end)
end)
