--- Files of steering that other tools write: what each becomes, what is said of it, what is refused.
local files = require "files"
local helper = require "helper"
local steer = require "steer"

local T = steer.tensor
local FOLDER = "tests/fixtures/steering/" -- written by tests/peers/steering_files.py

local function fails(code, text, path, opts) return files.fails(code, text, steer.load_spec, path, opts) end

-- What a spec makes of rows of a layer.
local function steered(spec, layer, h)
    local engine = steer.engine { hidden = h:size(2), device = helper.device }
    local out = h:to(helper.device):clone()
    local request = { spec = spec, tokens = 3, prompt_tokens = 3, token_ids = { 0, 1, 2 } }
    engine:plan({ request }):apply(layer, out)
    return out:to "cpu"
end

-- Raises unless two tensors are equal but for rounding to f32, or to what `within` is of their norm.
local function near(want, got, within)
    assert.same(want:shape(), got:shape())
    local difference = (want - got):norm()
    assert(difference <= (within or 1e-6) * (1 + want:norm()), difference)
end

local h = T.randn({ 3, 8 }, { seed = 4, device = "cpu" })

-- An operation of a spec by its text.
local function ops(spec)
    local list = {}
    for line in tostring(spec):gmatch "[^\n]+" do
        local layer, op, arguments = line:match "^  (%d+) +(%w+) +(.-)  +all"
        if layer then list[#list + 1] = ("%s %s %s"):format(layer, op, arguments) end
    end
    return list
end

describe("control vectors", function()
    it("of repeng, saklas and EasySteer are added after the layer that they name", function()
        for name, layers in pairs { repeng = { 1, 2, 3 }, saklas = { 0, 2 }, easysteer = { 0, 1, 2 } } do
            local path = FOLDER .. name .. ".gguf"
            local spec, vectors = steer.load_spec(path), steer.load(path)
            assert.same(layers, spec:layers())
            for _, layer in ipairs(layers) do near(h + vectors[layer], steered(spec, layer, h)) end
        end
    end)

    it("say what was assumed and what the norms are", function()
        local text = steer.load_spec(FOLDER .. "saklas.gguf"):describe()
        for _, part in ipairs { "norm", "2.9442", "2.27034", "model hint llama", "after layer N: assumed",
            "cvector-generator", "add: assumed", "the file has none: 1", FOLDER .. "saklas.gguf" } do
            assert(text:find(part, 1, true), part .. " in " .. text)
        end
        assert(not tostring(steer.load_spec(FOLDER .. "saklas.gguf")):find("2.9442", 1, true))
    end)

    it("of llama.cpp's generator lie one layer above what they measured, which an option undoes", function()
        local vectors = steer.load(FOLDER .. "easysteer.gguf") -- the same ones, named by their layer
        local spec = steer.load_spec(FOLDER .. "llama.gguf", { layer_offset = -1 })
        assert.same({ 0, 1, 2 }, spec:layers())
        near(h + vectors[2], steered(spec, 2, h))
        assert(spec:describe():find("layer N - 1 (the option layer_offset)", 1, true))
        fails("format", "is layer -1", FOLDER .. "llama.gguf", { layer_offset = -2 })
    end)

    it("written here say their offset", function()
        local path = files.path "own.gguf"
        steer.save(path, { [0] = T.ones { 8 } }, nil, { layer_offset = 1 })
        local spec = steer.load_spec(path)
        assert.same({ 0 }, spec:layers())
        assert(spec:describe():find("which the file says", 1, true))
    end)

    it("take strength, layers, operation and tokens from the caller", function()
        local spec = steer.load_spec(FOLDER .. "repeng.gguf", {
            scale = 3, layers = { 2 }, where = { generation = "all" }, exclude = { token_ids = { 7 } },
        })
        assert(tostring(spec):find("2      add  scale=3    generation=all but token_ids={7}", 1, true), tostring(spec))
        local ablated = steer.load_spec(FOLDER .. "repeng.gguf", { op = "ablate", scale = 0.5 })
        assert.same({ "1 ablate scale=0.5", "2 ablate scale=0.5", "3 ablate scale=0.5" }, ops(ablated))
        assert(ablated:describe():find("ablate (the option op)", 1, true))
        fails("not_found", "layer 7", FOLDER .. "repeng.gguf", { layers = { 1, 7 } })
        fails("invalid_argument", "opts.op", FOLDER .. "repeng.gguf", { op = "cap" })
        fails("invalid_argument", "did you mean", FOLDER .. "repeng.gguf", { scales = 2 })
        fails("invalid_argument", "opts.scale", FOLDER .. "repeng.gguf", { scale = 0 / 0 })
        fails("invalid_argument", "where", FOLDER .. "repeng.gguf", { where = {} })
        fails("invalid_argument", "opts.layers[1]", FOLDER .. "repeng.gguf", { layers = { -1 } })
        local v = T.ones({ spec:hidden() }, { device = "cpu" })
        local gated = steer.load_spec(FOLDER .. "repeng.gguf",
            { when = { any = { { vector = v, above = 1 }, { vector = v, below = 0 } } } })
        assert(tostring(gated):find("any(dot above 1, dot below 0)", 1, true), tostring(gated))
        fails("invalid_argument", "when.any[1]: expected exactly one of above and below", FOLDER .. "repeng.gguf",
            { when = { any = { { vector = v } } } })
    end)

    it("are known by their content", function()
        local path = files.put("vectors.bin", files.get(FOLDER .. "repeng.gguf"))
        assert.same({ 1, 2, 3 }, steer.load_spec(path):layers())
        assert.same({ 1, 2 }, steer.load_spec(files.put("vectors", files.get(FOLDER .. "ibm.svec"))):layers())
    end)
end)

describe("GLP", function()
    it("projects by the alpha of the file", function()
        local spec, vectors = steer.load_spec(FOLDER .. "glp.gguf"), steer.load(FOLDER .. "glp.gguf")
        assert.same({ "1 ablate scale=-3", "3 ablate scale=-3" }, ops(spec))
        local d = vectors[3]
        near(h - (h:matmul(d) * 4):reshape(3, 1) * d:reshape(1, 8), steered(spec, 3, h))
        assert(spec:describe():find("made for Demo-3M at 0123abc", 1, true))
        local weaker = steer.load_spec(FOLDER .. "glp.gguf", { scale = 0.5, layers = { 3 } })
        assert.same({ "3 ablate scale=-1" }, ops(weaker))
    end)

    it("projects a subspace, each direction and layer with its alpha", function()
        local spec, vectors = steer.load_spec(FOLDER .. "glp_rank2.glp"), steer.load(FOLDER .. "glp_rank2.glp")
        assert.same({ 2, 8 }, vectors[3]:shape())
        assert.same({
            "1 ablate scale=0.5", "1 ablate scale=0.75", "3 ablate scale=0", "3 ablate scale=0.5",
        }, ops(spec))
        for layer, alphas in pairs { [1] = { 0.5, 0.25 }, [3] = { 1, 0.5 } } do
            local want = h
            for j, alpha in ipairs(alphas) do
                local d = vectors[layer][j]
                want = want - (h:matmul(d) * alpha):reshape(3, 1) * d:reshape(1, 8)
            end
            near(want, steered(spec, layer, h))
        end
    end)

    it("adds what says so", function()
        assert.same({ "1 add scale=1", "3 add scale=1" }, ops(steer.load_spec(FOLDER .. "glp_add.gguf")))
        assert.truthy(steer.add(steer.load(FOLDER .. "glp_add.gguf")[1]))
    end)

    it("is refused by add where it projects", function()
        local d = steer.load(FOLDER .. "glp.gguf")[1]
        local second = steer.load(FOLDER .. "glp_rank2.glp")[1][2]
        for _, vector in ipairs { d, d:to "bf16", d:clone(), d:narrow(1, 1, 4), second } do
            files.fails("invalid_argument", "projects it away", steer.add, vector, 2)
        end
        assert.truthy(steer.ablate(d))
        assert.truthy(steer.add(d * 1)) -- computed of it: the caller's own
        fails("invalid_argument", "mode project", FOLDER .. "glp.gguf", { op = "add" })
        local same = steer.load_spec(FOLDER .. "glp.gguf", { op = "ablate" })
        assert.same({ "1 ablate scale=-3", "3 ablate scale=-3" }, ops(same))
    end)

    it("is refused where it would act otherwise than it says", function()
        fails("unsupported", 'glp.mode "turn"', FOLDER .. "glp_turn.gguf")
        fails("unsupported", "what the mlp writes", FOLDER .. "glp_writer.gguf")
        fails("format", "glp.layer_ids_zero_based", FOLDER .. "glp_shifted.gguf")
        fails("format", "norm 2", FOLDER .. "glp_long.gguf")
        fails("format", "glp.spec_version 2", FOLDER .. "glp_rank2_v1.gguf")
        fails("invalid_argument", "direction.N is layer N", FOLDER .. "glp.gguf", { layer_offset = -1 })
    end)

    -- A fixture with some of its text exchanged for text of the same length.
    local function changed(name, from, to)
        local bytes = files.get(FOLDER .. name)
        local at = assert(bytes:find(from, 1, true))
        assert(#from == #to)
        return files.put(name, bytes:sub(1, at - 1) .. to .. bytes:sub(at + #from))
    end

    it("is refused with metadata that contradicts itself", function()
        fails("unsupported", "glp.hook_point", changed("glp.gguf", "stream_post_layer", "stream_pre__layer"))
        fails("format", "glp.rank is 2", changed("glp_rank2.glp", "direction.3.1", "direction.3.4"))
        fails("format", "has 1 directions", changed("glp_rank2.glp", "direction.3.1", "direction.5.1"))
        fails("format", "there twice", changed("glp_rank2.glp", "direction.3.1", "direction.1.1"))
        fails("format", "glp.dir_scales", changed("glp_rank2.glp", "1.0,0.5", "1.0,0,5"))
        fails("format", "glp.dir_scales", changed("glp_rank2.glp", "1.0,0.5", "1.0,nan"))
        fails("format", "glp.layer_scales", changed("glp_rank2.glp", "3:2.0", "3;2.0"))
        fails("format", "count from 1", changed("glp.gguf", "direction.1", "direction.0"))
        fails("format", "there twice", changed("glp.gguf", "glp.mode", "glp.rank"))
        fails("format", "glp.rank is \"turn\"", changed("glp_turn.gguf", "glp.mode", "glp.rank"))
        local older = files.get(FOLDER .. "glp.gguf"):gsub("(.)%z%z%z%z%z%z%zglp%.", function(length)
            return string.char(length:byte() + 3) .. ("\0"):rep(7) .. "dspark."
        end)
        fails("unsupported", "dspark.*", files.put("older.gguf", older))
    end)
end)

describe("other files", function()
    it(".svec is added after the layer where it was measured", function()
        local spec = steer.load_spec(FOLDER .. "ibm.svec")
        local vectors = steer.load(FOLDER .. "ibm.svec", { device = "cpu" })
        assert.same({ 1, 2 }, spec:layers())
        near(h + vectors[2], steered(spec, 2, h))
        assert(spec:describe():find("adds it before layer N: layer_offset = -1", 1, true))
        assert.same({ 0, 1 }, steer.load_spec(FOLDER .. "ibm.svec", { layer_offset = -1 }):layers())
        fails("format", "directions", files.put("object.svec", '{"directions": {"0": {"1": 2}}}'))
        fails("format", "expected a list of numbers", files.put("mixed.svec", '{"directions": {"0": {"x": 1}}}'))
        local positions = files.put("p.svec", '{"model_type": "x", "directions": {"0": [[1, 2], [3, 4]]}}')
        fails("unsupported", "2 positions", positions)
    end)

    it("profiles of saklas are added as they are", function()
        local path = FOLDER .. "saklas.safetensors"
        local spec, tensors = steer.load_spec(path), steer.load(path)
        assert.same({ 0, 2 }, spec:layers())
        near(h + tensors.layer_2, steered(spec, 2, h))
        assert(spec:describe():find("saklas profile, version 6, method manifold_pca", 1, true))
    end)

    it("are no profiles of saklas without what it writes beside them", function()
        local path = files.path "alone.safetensors"
        steer.save(path, { layer_3 = T.ones { 4 } })
        fails("format", "alone.json", path)
        assert.same({ "3 add scale=1" }, ops(steer.load_spec(path, { op = "add" })))
        files.put("alone.json", "<!DOCTYPE html>")
        fails("format", "web page", path)
        files.put("alone.json", '{"something": "else"}')
        fails("format", "format_version", path)
        steer.save(path, { ["layer_3.basis"] = T.ones { 2, 4 }, ["layer_3.mean"] = T.ones { 4 } })
        fails("unsupported", "manifold", path)
        steer.save(path, { mean = T.ones { 4 } })
        fails("format", "no steering spec", path)
        fails("format", '"mean"', path, { op = "add" })
    end)

    it("that hold no steering are named", function()
        fails("unsupported", "npy", "tests/fixtures/files/mean.npy")
        fails("unsupported", "pickle", "tests/fixtures/files/legacy.pt")
        fails("unsupported", "no format that is known", "README.md")
        fails("format", "empty", files.put("nothing", ""))
        fails("not_found", "nowhere", "/nowhere/x")
        fails("invalid_argument", "path", 3)
        fails("format", "git lfs pull", files.put("x.glp", "version https://git-lfs.github.com/spec/v1\noid 0\n"))
        fails("format", "web page", files.put("x.svec", "<!DOCTYPE html><html></html>"))
    end)

    it("of Steer say all of it themselves", function()
        local path = files.path "own.safetensors"
        steer.spec({ [4] = { steer.add { 1, 2 } } }):save(path)
        fails("invalid_argument", "opts.scale", path, { scale = 2 })
        assert.same({ 4 }, steer.load_spec(files.put("own", files.get(path))):layers())
    end)
end)

describe("EasySteer", function()
    local path = FOLDER .. "easysteer.json"

    -- The spec with text exchanged, beside the vectors that it names.
    local function changed(from, to)
        files.put("easysteer.gguf", files.get(FOLDER .. "easysteer.gguf"))
        local text = files.get(path)
        local at, last = text:find(from, 1, true)
        assert(at, from)
        return files.put("spec.json", text:sub(1, at - 1) .. to .. text:sub(last + 1))
    end

    it("specs are read with their files, layers and tokens", function()
        local spec = steer.load_spec(path)
        assert.same({ 1, 2 }, spec:layers())
        local text = tostring(spec)
        for _, part in ipairs {
            "1      add     scale=2    prompt_positions={-1} prompt_window={-5, 1073741824} token_ids={7} but "
                .. "generation_window={0, 4}",
            "1      ablate  scale=0    token_ids={3, 4} but generation=all", "direct, then erase",
        } do assert(text:find(part, 1, true), part .. " in " .. text) end
        local v = steer.load(FOLDER .. "easysteer.gguf")[2]
        near(h:select(1, 3) + v * 2, steered(spec, 2, h):select(1, 3)) -- the last position of the prompt, and all
        assert.same({ 2 }, steer.load_spec(path, { layers = { 2 } }):layers())
        fails("invalid_argument", "opts.op", path, { op = "ablate" })
    end)

    it("specs are refused by field", function()
        fails("unsupported", "sequential", changed('"sequential"', '"priority"'))
        fails("format", "conflict", changed('"sequential"', '"random"'))
        fails("not_found", '"gone.gguf"', changed("easysteer.gguf", "gone.gguf"))
        fails("format", '"direkt"', changed('"direct"', '"direkt"'))
        fails("unsupported", "experts", changed('"direct"', '"moe_router"'))
        fails("unsupported", "under data", changed('"direct"', '"loreft"'))
        fails("format", '"scales"', changed('"scale"', '"scales"'))
        fails("format", "vectors[0].scale: expected a number", changed("2.0", '"2"'))
        fails("format", "vectors[0].layers: element 2", changed("[1, 2]", "[1, -2]"))
        fails("format", "none of its layers", changed("[1, 2]", "[7]"))
        fails("format", "prompt_positions: expected integers", changed("[-1]", "[0.5]"))
        fails("format", '"phases"', changed('"prompt_positions"', '"phases"'))
        fails("unsupported", "other tokens of prompts", changed('"prompt_tokens": [7]', '"prompt_tokens": [8]'))
        fails("unsupported", "tokens of prompts alone", changed('"generation_tokens": [7]', '"generation": "all"'))
        fails("format", "params: direct takes none", changed('"name"', '"params": {"x": 1}, "name"'))
        fails("unsupported", "neither directions", changed('"vectors"', '"vector"'))
        changed("x", "x")
        files.put("easysteer.gguf", files.get(FOLDER .. "glp.gguf"))
        fails("unsupported", "GLP file that projects", files.path "spec.json")
        files.put("easysteer.gguf", "version https://git-lfs.github.com/spec/v1\n")
        fails("format", "git lfs pull", files.path "spec.json")
    end)

    it("payloads do what EasySteer computes", function()
        local golden = steer.load(FOLDER .. "easysteer_golden.safetensors")
        local spec = steer.load_spec(FOLDER .. "easysteer_maps.json")
        assert.same({ 0, 1, 2, 3, 4 }, spec:layers())
        for layer = 0, 4 do near(golden["out." .. layer], steered(spec, layer, golden["in"]), 2e-6) end
        local projectors = steer.load_spec(FOLDER .. "lm_steer.pt", { layers = { 5 }, scale = -2 })
        near(golden["out.0"], steered(projectors, 5, golden["in"]), 2e-6)
    end)

    it("payloads are refused by tensor", function()
        local text = files.get(FOLDER .. "easysteer_maps.json")
        local function put(from, to)
            local at, last = text:find(from)
            assert(at, from)
            return files.put("maps.json", text:sub(1, at - 1) .. to .. text:sub(last + 1))
        end
        fails("unsupported", "version 2", put('"version": 1', '"version": 2'))
        fails("format", "kind lowrank, expected reft", put('"kind": "reft"', '"kind": "lowrank"'))
        fails("format", "base64", put('"data": "....', '"data": "*!*!'))
        fails("format", "bytes of data", put('"shape": %[8, 2%]', '"shape": [8, 3]'))
        fails("format", "do not fit", put('"shape": %[8, 2%]', '"shape": [2, 8]'))
        fails("format", "is missing", put('"learned_source_weight"', '"learned_source_bias"'))
        fails("format", '"rotation"', put('"rotate_layer"', '"rotation"'))
        fails("format", "names no layers", put('"layers": %[0%]', '"layers": null'))
    end)
end)

describe("PyTorch's files", function()
    it("of one vector need an operation and layers", function()
        local path = FOLDER .. "direction.pt"
        local spec = steer.load_spec(path, { op = "add", layers = { 4, 6 }, scale = 2 })
        assert.same({ "4 add scale=2", "6 add scale=2" }, ops(spec))
        near(h + steer.load(path) * 2, steered(spec, 6, h))
        fails("invalid_argument", "opts.op", path, { layers = { 4 } })
        fails("invalid_argument", "opts.layers", path, { op = "add" })
        fails("invalid_argument", "opts.layers", FOLDER .. "lm_steer.pt")
    end)

    it("are refused where they hold something else", function()
        fails("unsupported", '"lin', "tests/fixtures/files/state_dict.pt", { op = "add" })
        fails("unsupported", "config.json",
            FOLDER .. "pyreft/loreft/intkey_layer_1_comp_block_output_unit_pos_nunit_1#0.bin")
        fails("unsupported", "among what Steer reads", "tests/fixtures/files/evil.pt")
    end)
end)

describe("pyreft", function()
    local golden = steer.load(FOLDER .. "pyreft/golden.safetensors")

    it("reads folders, and what they do is what pyreft computes", function()
        local compared = 0
        for name in pairs(golden) do
            local class, layer = name:match "^(%l+)%.(%d)%.in$"
            if class then
                local spec = steer.load_spec(FOLDER .. "pyreft/" .. class)
                local at = class == "nodireft" and layer - 1 or tonumber(layer) -- its place is block_input
                assert.same(class == "loreft" and { 1, 3 } or { at }, spec:layers())
                near(golden[class .. "." .. layer .. ".out"], steered(spec, at, golden[name]),
                    class == "direft" and 1e-2 or 2e-6) -- pyreft computes its W h + b in bf16
                compared = compared + 1
            end
        end
        assert.equal(7, compared)
    end)

    it("says what they do and what was assumed", function()
        local text = steer.load_spec(FOLDER .. "pyreft/lobireft"):describe()
        for _, part in ipairs { "LobiReFT", "h + R'b", "tokens: all: assumed", "activation function: assumed" } do
            assert(text:find(part, 1, true), part)
        end
        local spec = steer.load_spec(FOLDER .. "pyreft/loreft", { where = { prompt_positions = { -1 } }, scale = 0.5 })
        assert(not tostring(spec):find("tokens: all", 1, true))
        assert(tostring(spec):find("affine  2 vectors scale=0.5 write=2 vectors bias={-0.99", 1, true), tostring(spec))
    end)

    -- A copy of a folder with text of its config exchanged.
    local function changed(name, from, to)
        local folder = files.path(name)
        os.execute(("rm -rf '%s' && cp -r '%spyreft/%s' '%s'"):format(folder, FOLDER, name, folder))
        local config = files.get(folder .. "/config.json")
        local at = assert(config:find(from, 1, true), from)
        files.put(name .. "/config.json", config:sub(1, at - 1) .. to .. config:sub(at + #from))
        return folder
    end

    it("names what it cannot do", function()
        fails("unsupported", '"OtherIntervention"', changed("lobireft", "LobireftIntervention", "OtherIntervention"))
        fails("unsupported", '"mlp_output"', changed("lobireft", "block_output", "mlp_output"))
        fails("unsupported", '"h.pos"', changed("lobireft", '"pos"', '"h.pos"'))
        fails("format", "layer -2", changed("lobireft", "      2,\n", "      -2,\n"))
        fails("not_found", "nunit_7#0.bin", changed("lobireft", '"pos",\n      1,', '"pos",\n      7,'))
        fails("format", "learned_source.weight", changed("lobireft", "Lobireft", "Direft"))
        fails("format", "representations", changed("lobireft", '"representations"', '"others"'))
        fails("format", "not JSON", changed("lobireft", "{", "["))
        fails("not_found", "config.json", "tests/lua")
        local folder = changed("lobireft", "{", "{")
        files.put("lobireft/intkey_layer_2_comp_block_output_unit_pos_nunit_1#0.bin",
            "version https://git-lfs.github.com/spec/v1\n")
        fails("format", "git lfs pull", folder)
    end)
end)

describe("steering of the command line", function()
    local steering = require "steer.spec.command_line"
    local lm = { hidden = 8, layers = 4 }

    local function given(text) return steering.spec(lm, steering.parse(text)) end

    it("does what a file says, at a share of its strength and on some of its layers", function()
        assert.same({ "3 ablate scale=-1" }, ops(given(FOLDER .. "glp.gguf 0.5 @3")))
        assert.same({ "2 add scale=-1" }, ops(given(FOLDER .. "saklas.safetensors -1 @2")))
        assert.same({ 1, 3 }, given(FOLDER .. "pyreft/loreft 0.5"):layers())
        files.fails("not_found", "layer 2", given, FOLDER .. "glp.gguf 1 @2")
        files.fails("invalid_argument", "layer 4, the model has 4", given, FOLDER .. "easysteer_maps.json")
        files.fails("unsupported", "what the mlp writes", given, FOLDER .. "glp_writer.gguf")
    end)

    it("adds vectors that say nothing", function()
        local path = files.path "plain.safetensors"
        steer.save(path, { ["layer.2"] = T.ones { 8 } })
        assert.same({ "2 add scale=3" }, ops(given(path .. " 3")))
    end)
end)

teardown(files.done)
