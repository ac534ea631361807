-- Operations and specs: what they take, what they refuse, what they print and how they are saved.
-- devices: cpu cuda
local B = require "batches"
local steer = require "steer"
local T = steer.tensor
local fails = B.fails

local NAN, INF = 0 / 0, math.huge

local function on_device(make, shape) return make(shape, { device = B.device }) end
local function vector(n) return B.tensor({ n or 8 }, "f32", B.randn) end

describe("operations", function()
    it("take tensors of every float dtype and lists of numbers", function()
        for _, dtype in ipairs(B.dtypes) do
            local v = B.tensor({ 5 }, dtype, B.randn)
            for _, op in ipairs { steer.add(v), steer.cap(v, { max = 1 }), steer.ablate(v, 0.5) } do op:close() end
        end
        assert.equal(3, steer.spec { [0] = { steer.add({ 1, 2, 3 }, 2) } }:hidden())
    end)

    it("keep the values that the vector had", function()
        local v = vector()
        local op = steer.add(v, 2)
        local bits = B.bytes(v)
        v:fill_(7)
        v:close()
        assert.equal(bits, B.bytes(op.vector))
    end)

    local MAKERS = {
        add = function(v, opts) return steer.add(v, 1, opts) end,
        cap = function(v, opts)
            opts = opts or {}
            if opts.min == nil and opts.max == nil then opts.max = 1 end
            return steer.cap(v, opts)
        end,
        ablate = function(v, opts) return steer.ablate(v, 0, opts) end,
    }

    for kind, make in pairs(MAKERS) do
        describe(kind, function()
            it("refuses vectors that are not finite, zero, or not one-dimensional", function()
                for _, x in ipairs { NAN, INF, -INF } do
                    local bad = vector()
                    bad:set(3, x)
                    fails("invalid_argument", function() make(bad) end, kind, "vector")
                    fails("invalid_argument", function() make { 1, x } end, kind, "vector")
                end
                if kind ~= "add" then
                    fails("invalid_argument", function() make(on_device(T.zeros, { 4 })) end, kind, "vector", "zero")
                end
                fails("invalid_argument", function() make({ 0, 0 }, { normalize = true }) end, kind, "vector", "zero")
                fails("invalid_argument", function() make(on_device(T.ones, { 2, 2 })) end, kind, "vector")
                fails("invalid_argument", function() make(on_device(T.ones, {})) end, kind, "vector")
                fails("invalid_argument", function() make(on_device(T.zeros, { 0 })) end, kind, "vector")
                fails("invalid_argument", function() make { 1, 1e300 } end, kind, "vector")
            end)

            it("refuses what is no vector", function()
                fails("invalid_argument", function() make(nil) end, kind, "vector", "nothing")
                fails("invalid_argument", function() make(3) end, kind, "vector", "3")
                fails("invalid_argument", function() make {} end, kind, "vector", "0 elements, expected 1 to")
                fails("invalid_argument", function() make { { 1 }, { 2 } } end, kind,
                    kind == "add" and "vector[1]" or "in the span")
                fails("invalid_argument", function() make { 1, "2" } end, kind, "vector[2]")
                fails("invalid_argument", function() make { x = 1 } end, kind, "vector")
                local integers = T.ones({ 4 }, { dtype = "i32", device = B.device })
                assert.is_false((pcall(make, integers)))
                local closed = vector()
                closed:close()
                fails("closed", function() make(closed) end, kind, "vector")
            end)

            it("names the nearest option", function()
                fails("invalid_argument", function() make({ 1 }, { normalise = true }) end, kind, '"normalize"')
                fails("invalid_argument", function() make({ 1 }, { were = {} }) end, kind, '"where"')
                fails("invalid_argument", function() make({ 1 }, { normalize = 1 }) end, kind, "normalize")
                fails("invalid_argument", function() make({ 1 }, { where = { promt = "all" } }) end, kind, '"prompt"')
                fails("invalid_argument", function() make({ 1 }, { when = { vector = { 1 }, abov = 1 } }) end, kind,
                    '"above"')
            end)
        end)
    end

    it("refuse conditions that are two things at once", function()
        local one = { vector = { 1 }, above = 1 }
        for text, when in pairs {
            ["when: both any and above, expected one of them"] = { any = { one }, above = 1 },
            ["when: both all and noted, expected one of them"] = { all = { one }, noted = "n" },
            ["when.none[1]: both noted and below, expected one of them"] = { none = { { noted = "n", below = 1 } } },
        } do
            fails("invalid_argument", function() steer.add({ 1 }, 1, { when = when }) end, "add: " .. text)
        end
    end)

    it("check scales", function()
        for _, kind in ipairs { "add", "ablate" } do
            for _, x in ipairs { NAN, INF, -INF, 1e300 } do
                fails("invalid_argument", function() steer[kind]({ 1 }, x) end, kind, "scale")
            end
            fails("invalid_argument", function() steer[kind]({ 1 }, { where = {} }) end, kind, "scale", "a number")
        end
    end)

    it("check bounds", function()
        fails("invalid_argument", function() steer.cap({ 1 }) end, "cap", "min, max")
        fails("invalid_argument", function() steer.cap({ 1 }, {}) end, "cap", "min, max")
        fails("invalid_argument", function() steer.cap({ 1 }, { min = -INF, max = INF }) end, "cap", "min, max")
        fails("invalid_argument", function() steer.cap({ 1 }, { min = 2, max = 1 }) end, "cap", "min", "max")
        fails("invalid_argument", function() steer.cap({ 1 }, { min = NAN }) end, "cap", "min")
        fails("invalid_argument", function() steer.cap({ 1 }, { max = NAN }) end, "cap", "max")
        fails("invalid_argument", function() steer.cap({ 1 }, { min = INF }) end, "cap", "min")
        fails("invalid_argument", function() steer.cap({ 1 }, { max = "1" }) end, "cap", "max")
        steer.cap({ 1 }, { min = 1, max = 1 }):close()
    end)

    it("check conditions", function()
        local function with(when) return function() steer.add({ 1, 2 }, 1, { when = when }) end end
        fails("invalid_argument", with { above = 1 }, "add", "when.vector")
        fails("invalid_argument", with { vector = { 1, 2 } }, "add", "above and below")
        fails("invalid_argument", with { vector = { 1, 2 }, above = 1, below = 2 }, "add", "above and below")
        fails("invalid_argument", with { vector = { 1, 2 }, above = NAN }, "add")
        fails("invalid_argument", with { vector = { 1, 2 }, below = INF }, "add")
        fails("invalid_argument", with { vector = { 0, 0 }, below = 1 }, "add", "zero")
        fails("invalid_argument", with { vector = { 1, 2 }, below = 1, cosine = 1 }, "add", "cosine")
        fails("shape_mismatch", with { vector = { 1, 2, 3 }, below = 1 }, "add", "3", "2")
    end)

    it("check selectors", function()
        local function with(where) return function() steer.add({ 1, 2 }, 1, { where = where }) end end
        for _, name in ipairs { "where", "exclude" } do
            local function make() steer.add({ 1 }, 1, { [name] = {} }) end
            fails("invalid_argument", make, "add", name, "selects nothing")
        end
        fails("invalid_argument", with { prompt = "some" }, "where.prompt", '"all"')
        fails("invalid_argument", with { prompt_positions = {} }, "where.prompt_positions", "empty")
        fails("invalid_argument", with { token_ids = {} }, "where.token_ids", "empty")
        fails("invalid_argument", with { token_ids = { 1.5 } }, "where.token_ids[1]", "integer")
        fails("invalid_argument", with { token_ids = { 1, nil, 3 } }, "where.token_ids", "holes")
        fails("invalid_argument", with { token_ids = { a = 3 } }, "where.token_ids")
        fails("invalid_argument", with { token_ids = 3 }, "token_ids")
        fails("invalid_argument", with { prompt_window = { 1 } }, "prompt_window", "1")
        fails("invalid_argument", with { prompt_window = { 1, 2, 3 } }, "prompt_window", "3")
        fails("invalid_argument", with { prompt_window = { 3, 1 } }, "prompt_window")
        fails("invalid_argument", with { generation_positions = { -1 } }, "generation_positions", "-1")
        fails("invalid_argument", with { generation_window = { -1, 2 } }, "generation_window")
        fails("invalid_argument", with { excluded = { prompt = "all" } }, "where", 'did you mean "exclude"?')
        fails("invalid_argument", with { exclude = { exclude = {} } }, "exclude", "unknown option")
    end)

    it("close twice", function()
        local op = steer.add { 1, 2 }
        op:close()
        op:close()
        fails("closed", function() steer.spec { [1] = { op } } end, "layer 1", "operation 1")
        assert.truthy(tostring(op):find("closed", 1, true))
    end)
end)

describe("specs", function()
    it("list their layers in order", function()
        local add = steer.add { 1, 2 }
        local spec = steer.spec { [9] = { add }, [0] = { add, add }, [1023] = { add }, [4] = {} }
        assert.same({ 0, 9, 1023 }, spec:layers())
        assert.is_false(spec:is_empty())
        assert.equal(2, spec:hidden())
    end)

    it("may be empty", function()
        for _, layers in ipairs { {}, { [3] = {} } } do
            local spec = steer.spec(layers)
            assert.is_true(spec:is_empty())
            assert.same({}, spec:layers())
            assert.equal(0, spec:hidden())
            assert.truthy(tostring(spec):find("empty", 1, true))
        end
    end)

    it("and operations cannot be changed", function()
        local op = steer.add({ 1, 2 }, 3)
        local spec = steer.spec { [0] = { op } }
        fails("invalid_argument", function() op.scale = 4 end, "add", "scale", "does not change")
        fails("invalid_argument", function() spec[1] = { op } end, "spec", "1", "does not change")
        assert.equal(3, op.scale)
        assert.same({ 0 }, spec:layers())
    end)

    it("do not change when their tables do", function()
        local ops = { steer.add { 1, 2 } }
        local layers = { [2] = ops }
        local spec = steer.spec(layers)
        layers[3], ops[2] = ops, ops[1]
        assert.same({ 2 }, spec:layers())
        assert.falsy(tostring(spec):find("2 operations", 1, true))
    end)

    it("live on when their operations are closed", function()
        local op = steer.add { 1, 2 }
        local spec = steer.spec { [0] = { op } }
        op:close()
        local engine = steer.engine { hidden = 2, device = B.device }
        local plan = engine:plan { { spec = spec, tokens = 1 } }
        local h = T.zeros({ 1, 2 }, { device = B.device })
        plan:apply(0, h)
        assert.same({ { 1, 2 } }, h:totable())
    end)

    it("refuse bad layers, naming them", function()
        local add = steer.add { 1, 2 }
        for _, layer in ipairs { -1, 1.5, 1024, 2 ^ 40, INF, "5" } do
            fails("invalid_argument", function() steer.spec { [layer] = { add } } end, "layer " ..
                (layer == "5" and '"5"' or tostring(layer)))
        end
        fails("invalid_argument", function() steer.spec { [true] = { add } } end, "layer true")
    end)

    it("refuse what is no list of operations, naming layer and operation", function()
        local add = steer.add { 1, 2 }
        fails("invalid_argument", function() steer.spec() end, "layers", "nothing")
        fails("invalid_argument", function() steer.spec(add) end, "layers", "an operation")
        fails("invalid_argument", function() steer.spec(steer.spec {}) end, "layers", "a spec")
        fails("invalid_argument", function() steer.spec("x") end, "layers", '"x"')
        fails("invalid_argument", function() steer.spec { [5] = add } end, "layer 5", "[5] = { operation }")
        fails("invalid_argument", function() steer.spec { [5] = 3 } end, "layer 5", "3")
        fails("invalid_argument", function() steer.spec { [5] = { add, 4 } } end, "layer 5", "operation 2", "4")
        fails("invalid_argument", function() steer.spec { [5] = { add, {} } } end, "layer 5", "operation 2", "a table")
        fails("invalid_argument", function() steer.spec { [5] = { [2] = add } } end, "layer 5")
        fails("invalid_argument", function() steer.spec { [5] = { add, name = add } } end, "layer 5", '"name"')
    end)

    it("refuse vectors of different lengths and too many operations, naming the layer", function()
        local two, three = steer.add { 1, 2 }, steer.add { 1, 2, 3 }
        local function mixed() steer.spec { [1] = { two }, [4] = { three } } end
        fails("shape_mismatch", mixed, "layer 4", "add", "3", "2")
        local many = {}
        for i = 1, 256 do many[i] = two end
        steer.spec { [7] = many }:close()
        many[257] = two
        fails("invalid_argument", function() steer.spec { [7] = many } end, "layer 7", "256")
    end)

    it("are closed once and for all", function()
        local spec = steer.spec { [0] = { steer.add { 1, 2 } } }
        spec:close()
        spec:close()
        fails("closed", function() spec:layers() end, "spec_layers")
        fails("closed", function() spec:is_empty() end)
        fails("closed", function() spec:save("/nowhere/x.safetensors") end)
        assert.truthy(tostring(spec):find("closed", 1, true))
        fails("invalid_argument", function() spec.layers(3) end, "self")
    end)

    it("print as a table", function()
        local text = tostring(steer.spec {
            [9] = { steer.ablate({ 1, 2 }, 0, { where = { prompt = "all" }, exclude = { token_ids = { 1, 2 } } }) },
            [5] = {
                steer.add({ 1, 2 }, 2.5),
                steer.cap({ 2, 1 }, { max = 1.5, normalize = false, when = { vector = { 1, 0 }, above = 0.25 } }),
            },
        })
        local lines = {}
        for line in text:gmatch("[^\n]+") do lines[#lines + 1] = line end
        assert.equal("spec: 3 operations on 2 layers, hidden 2", lines[1])
        assert.equal(5, #lines)
        assert.truthy(lines[3]:find("^  5 +add +scale=2.5 +all +always$"))
        assert.truthy(lines[4]:find("^  5 +cap +max=1.5 normalize=false +all +dot above 0.25$"))
        assert.truthy(lines[5]:find("^  9 +ablate +scale=0 +prompt=all but token_ids={1, 2} +always$"))
    end)
end)

describe("saved specs", function()
    local path

    before_each(function()
        path = os.tmpname()
        os.remove(path)
        path = path .. ".safetensors"
    end)
    after_each(function() os.remove(path) end)

    -- Both specs are the same programs: the engine makes none for the second.
    local function same_programs(a, b, hidden)
        local engine = steer.engine { hidden = hidden, device = B.device }
        local ids, ranges = { 1, 2, 3, 4 }, { phase = "prompt", prompt_tokens = 4 }
        local function plan(spec)
            return engine:plan { { spec = spec, tokens = 4, token_ids = ids, phase = ranges.phase,
                prompt_tokens = ranges.prompt_tokens } }
        end
        local first = plan(a)
        local before = engine:stats()
        local second = plan(b)
        local after = engine:stats()
        assert.equal(before.programs, after.programs)
        assert.equal(before.vectors, after.vectors)
        return first, second
    end

    it("read back equal, every field included", function()
        local v, g = vector(6), B.tensor({ 6 }, "bf16", B.randn)
        local where = {
            prompt_positions = { 0, -1 }, prompt_window = { -3, -1 }, generation = "all", token_ids = { 7, 2 ^ 40 },
        }
        local spec = steer.spec {
            [0] = { steer.add(v, 1 / 3), steer.add(v:to("f16"), -2, { normalize = true }) },
            [5] = {
                steer.cap(v, { min = -0.1 }), steer.cap(g, { max = 1e-17, normalize = false }),
                steer.cap(g, { min = -INF, max = 0.7 }),
                steer.ablate(v, 0.1, { when = { vector = g, below = 0.3, cosine = true } }),
                steer.ablate(g, nil, { when = { vector = v, above = -1 / 7 } }),
            },
            [1000] = { steer.add(g, 3, { where = where, exclude = { generation_window = { 0, 8 }, prompt = "all" } }) },
        }
        spec:save(path)
        local back = steer.load_spec(path)
        assert.equal(tostring(spec), tostring(back))
        same_programs(spec, back, 6)
        back:save(path .. ".again.safetensors")
        local function content(name)
            local file = assert(io.open(name, "rb"))
            local text = file:read("*a")
            file:close()
            return text
        end
        assert.equal(content(path), content(path .. ".again.safetensors"))
        os.remove(path .. ".again.safetensors")
    end)

    it("steer the same bits", function()
        B.rounds(5, function()
            local n = 24
            local spec = B.spec(B.random_ops(n, 6, { gates = 0.4, scopes = 0.3 }))
            spec:save(path)
            local first, second = same_programs(spec, steer.load_spec(path), n)
            local h = B.hidden(4, n, "f32")
            local other = h:clone()
            first:apply(0, h)
            second:apply(0, other)
            assert.equal(B.bytes(h), B.bytes(other))
        end)
    end)

    it("keep what operations held that were closed since", function()
        local op = steer.add({ 1, 2 }, 1, { when = { vector = { 1, 0 }, above = 3 } })
        local spec = steer.spec { [0] = { op } }
        local text = tostring(spec)
        op:close()
        spec:save(path)
        assert.equal(text, tostring(spec))
        assert.equal(text, tostring(steer.load_spec(path)))
    end)

    it("may be empty", function()
        steer.spec({}):save(path)
        assert.is_true(steer.load_spec(path):is_empty())
    end)

    it("say what is wrong with a path or a file", function()
        local spec = steer.spec { [0] = { steer.add { 1, 2 } } }
        fails("invalid_argument", function() spec:save() end, "path")
        fails("invalid_argument", function() spec:save("x.gguf") end, ".safetensors")
        fails("invalid_argument", function() steer.load_spec(3) end, "path")
        fails("not_found", function() steer.load_spec("/nowhere/x.safetensors") end, "/nowhere")
        assert.is_false((pcall(function() spec:save("/nowhere/x.safetensors") end)))
    end)

    it("refuse files that hold no spec or a broken one", function()
        local tensors = { ["1.vector"] = T.ones({ 2 }, { device = "cpu" }) }
        local function with(operations, version)
            steer.save(path, tensors, {
                ["steer.kind"] = "spec", ["steer.version"] = version or "1", ["steer.operations"] = operations,
            })
            return function() steer.load_spec(path) end
        end
        steer.save(path, tensors, { note = "a direction" })
        fails("format", function() steer.load_spec(path) end, path, "no steering spec")
        fails("format", with("[]", "2"), path, "version")
        fails("format", with("nonsense"), path, "steer.operations")
        fails("format", with("3"), path, "steer.operations")
        fails("format", with("{\"layer\":1}"), path, "steer.operations")
        fails("format", with("[3]"), path, "operation 1")
        fails("format", with("[null]"), path, "operation 1")
        fails("format", with(("["):rep(300000)), path, "steer.operations")
        local good = '"layer":5,"op":"add","vector":"1.vector"'
        assert.same({ 5 }, (function()
            with("[{" .. good .. "}]")
            return steer.load_spec(path):layers()
        end)())
        fails("format", with('[{"layer":5,"op":"add"}]'), path, "operation 1", "tensor")
        fails("format", with('[{"layer":5,"op":"add","vector":"2.vector"}]'), path, "operation 1", "2.vector")
        fails("format", with("[{" .. good .. ',"when":{"any":[{"vector":"1.vector","above":0},{"above":1}]}}]'), path,
            "operation 1: when.any[2].vector: there is no tensor nothing")
        fails("format", with('[{"layer":5,"op":"turn","vector":"1.vector"}]'), path, "operation 1", "turn")
        fails("format", with('[{"op":"add","vector":"1.vector"}]'), path, "operation 1", "layer")
        fails("format", with('[{"layer":-5,"op":"add","vector":"1.vector"}]'), path, "layer")
        fails("format", with("[{" .. good .. ',"scale":"2"}]'), path, "operation 1", "scale")
        fails("format", with("[{" .. good .. ',"colour":2}]'), path, "operation 1", "colour")
        fails("format", with("[{" .. good .. ',"where":{"prompt":"none"}}]'), path, "operation 1", "where.prompt")
        fails("format", with("[{" .. good .. ',"when":{"vector":"9","above":1}}]'), path, "operation 1", '"9"')
        fails("format", with('[{"layer":5,"op":"cap","vector":"1.vector"}]'), path, "operation 1", "min, max")
    end)
end)
