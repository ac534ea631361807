--- GGUF control vectors: round trips, layer offsets, every metadata type, public files, and malformed ones.
local steer = require "steer"
local files = require "files"
local int = files.int

local T = steer.tensor
local U32, STRING, ARRAY = 4, 8, 9

local function text(s) return int(#s, 8) .. s end
local function pair(key, kind, bytes) return text(key) .. int(kind, 4) .. bytes end
local function info(name, length, kind, offset, ndim)
    return text(name) .. int(ndim or 1, 4) .. int(length, 8) .. int(kind or 0, 4) .. int(offset or 0, 8)
end

local ARCHITECTURE = pair("general.architecture", STRING, text "controlvector")

-- A file of these metadata pairs and tensor descriptions; data follows at the next multiple of 32.
local function build(keys, infos, data, counts)
    counts = counts or {}
    local header = "GGUF" .. int(counts.version or 3, 4) .. int(counts.tensors or #infos, 8)
        .. int(counts.keys or #keys, 8) .. table.concat(keys) .. table.concat(infos)
    return header .. ("\0"):rep(-#header % 32) .. (data or "")
end

local function load_bytes(bytes, opts)
    return steer.load(files.put("x.gguf", bytes), opts)
end

local ONE = "\0\0\128\63" -- 1 as F32

describe("gguf", function()
    teardown(files.done)

    it("keeps layers, values and metadata", function()
        local path = files.path "round.gguf"
        local saved = { [1] = T.randn({ 5 }, { seed = 1 }), [7] = T.randn({ 5 }, { seed = 2 }) }
        local given = { ["controlvector.model_hint"] = "llama", note = "x", n = 3, big = 2 ^ 40, f = 0.5, yes = true }
        steer.save(path, saved, given)
        local loaded, metadata = steer.load(path)
        for layer, value in pairs(saved) do assert.same(value:totable(), loaded[layer]:totable()) end
        for key, value in pairs(given) do assert.equal(value, metadata[key]) end
        assert.equal("controlvector", metadata["general.architecture"])
        assert.equal(2, metadata["controlvector.layer_count"])
        assert.equal(0, metadata["steer.layer_offset"])
        steer.save(path, loaded, metadata)
        local again = files.get(path)
        steer.save(path, saved, given)
        assert.equal(again, files.get(path))
    end)

    it("writes F32 whatever the float dtype", function()
        local path = files.path "half.gguf"
        steer.save(path, { [3] = T.from({ 1, -0.5 }, { dtype = "bf16" }), [4] = T.from({ 2, 3 }, { dtype = "f16" }) })
        local loaded = steer.load(path)
        assert.same({ "f32", { 1, -0.5 } }, { loaded[3].dtype, loaded[3]:totable() })
        assert.same({ 2, 3 }, loaded[4]:totable())
    end)

    it("says which layer base was meant", function()
        local path = files.path "offset.gguf"
        files.fails("invalid_argument", "direction.0, which llama.cpp refuses; with steer.save(path, directions, nil, "
            .. "{layer_offset = 1})", steer.save, path, { [0] = T.ones({ 2 }) })
        files.fails("invalid_argument", 'value: the key "layer.5", expected layers, as in {[12] = vector}', steer.save,
            path, { ["layer.5"] = T.ones({ 2 }) })
        steer.save(path, { [0] = T.ones({ 2 }) }, nil, { layer_offset = 1 })
        assert(files.get(path):find("direction.1", 1, true))
        local loaded, metadata = steer.load(path)
        assert.same({ 1, 1 }, loaded[0]:totable())
        assert.equal(1, metadata["steer.layer_offset"])
        assert.same({ 1, 1 }, steer.load(path, { layer_offset = 0 })[1]:totable()) -- what is asked comes first
        assert.same({ 1, 1 }, steer.load(path, { layer_offset = 9 })[10]:totable())
        files.fails("format", "layer_offset -2 is layer -1", steer.load, path, { layer_offset = -2 })
        files.fails("invalid_argument", "layer_offset", steer.load, path, { layer_offset = 0.5 })
        for _, key in ipairs { "layer_offset", "layer_ofset", "Layer_Offset" } do
            files.fails("invalid_argument", "metadata." .. key .. ": layer_offset is an option, and options come "
                .. "fourth: steer.save(path, directions, nil, {layer_offset = 1})", steer.save, path,
                { [0] = T.ones({ 2 }) }, { [key] = 1 })
        end
        files.fails("not_found", "no layer 4", steer.load, path, { only = { 4 } })
    end)

    it("reads every metadata type", function()
        local nested = int(ARRAY, 4) .. int(2, 8) .. int(U32, 4) .. int(2, 8) .. int(1, 4) .. int(2, 4)
            .. int(STRING, 4) .. int(1, 8) .. text "s"
        local keys = {
            ARCHITECTURE, pair("u8", 0, "\200"), pair("i8", 1, "\200"), pair("u16", 2, "\255\255"),
            pair("i16", 3, "\255\255"), pair("u32", 4, "\255\255\255\255"), pair("i32", 5, "\255\255\255\255"),
            pair("f32", 6, ONE), pair("bool", 7, "\1"), pair("string", 8, text "a\0b"), pair("array", 9, nested),
            pair("u64", 10, int(5, 8)), pair("i64", 11, ("\255"):rep(8)),
            pair("f64", 12, "\0\0\0\0\0\0\240\63"), pair("huge", 10, ("\255"):rep(8)),
            pair("general.alignment", 4, int(64, 4)),
            pair("nan32", 6, "\176\59\148\255"), pair("nan64", 12, ("\255"):rep(8)), -- not the usual NaN
        }
        local header = build(keys,
            { info("direction.0", 2), info("direction.5", 2, 1, 64), info("direction.6", 2, 30, 128) })
        local data = (ONE .. ONE .. ("\0"):rep(56)) .. ("\0\60\0\60" .. ("\0"):rep(60)) .. "\128\63\128\63"
        local loaded, metadata = load_bytes(header .. ("\0"):rep(-#header % 64) .. data)
        assert.same({ { 1, 1 }, "f32" }, { loaded[0]:totable(), loaded[0].dtype })
        assert.same({ { 1, 1 }, "f16" }, { loaded[5]:totable(), loaded[5].dtype })
        assert.same({ { 1, 1 }, "bf16" }, { loaded[6]:totable(), loaded[6].dtype })
        for _, key in ipairs { "nan32", "nan64" } do
            assert(type(metadata[key]) == "number" and metadata[key] ~= metadata[key])
            metadata[key] = nil
        end
        metadata["general.architecture"], metadata["general.alignment"] = nil, nil
        assert.same({
            u8 = 200, i8 = -56, u16 = 65535, i16 = -1, u32 = 2 ^ 32 - 1, i32 = -1, f32 = 1, bool = true,
            string = "a\0b", array = { { 1, 2 }, { "s" } }, u64 = 5, i64 = -1, f64 = 1, huge = "18446744073709551615",
        }, metadata)
    end)

    it("reads the public control vectors", function()
        local folder = os.getenv "STEER_CONTROL_VECTORS" or "../shared/data/control-vectors"
        local pipe = io.popen("ls '" .. folder .. "'/*.gguf 2>/dev/null")
        local listing = pipe:read "*a"
        pipe:close()
        if listing == "" then return pending "no folder of public control vectors" end
        local positions = {}
        for path in listing:gmatch "[^\n]+" do
            local vectors, metadata = steer.load(path)
            for layer = 0, 27 do
                assert.same({ 1536 }, vectors[layer]:shape())
                assert.near(1, vectors[layer]:norm(), 1e-4)
            end
            assert.is_nil(vectors[28])
            assert.equal(28, metadata["controlvector.layer_count"])
            positions[type(metadata["controlvector.token_pos"])] = true
            local copy = files.path "copy.gguf"
            steer.save(copy, vectors, metadata, { layer_offset = 1 })
            assert.same(vectors[27]:totable(), steer.load(copy)[27]:totable())
        end
        assert.same({ number = true, string = true }, positions)
    end)

    it("refuses to write what is not a control vector", function()
        local path = files.path "no.gguf"
        local function fails(code, words, ...) files.fails(code, words, steer.save, path, ...) end
        fails("invalid_argument", "value: expected {[layer] = tensor}", T.ones({ 2 }))
        fails("invalid_argument", "value: has no vectors", {})
        fails("invalid_argument", "layer", { a = T.ones({ 2 }) })
        fails("invalid_argument", "layer", { [1.5] = T.ones({ 2 }) })
        fails("invalid_argument", "layer", { [-1] = T.ones({ 2 }) })
        fails("invalid_argument", "value[1]", { 5 })
        fails("shape_mismatch", "value[1]: shape [2, 2]", { T.ones({ 2, 2 }) })
        fails("shape_mismatch", "value[2]: 3 elements, expected 2", { T.ones({ 2 }), T.ones({ 3 }) })
        fails("dtype_mismatch", "value[1]: dtype i32", { T.ones({ 2 }, { dtype = "i32" }) })
        fails("invalid_argument", "metadata.a", { T.ones({ 2 }) }, { a = {} })
        fails("invalid_argument", "metadata", { T.ones({ 2 }) }, { "a" })
        fails("invalid_argument", "layer_offset", { T.ones({ 2 }) }, nil, { layer_offst = 1 })
        assert.is_nil(io.open(path))
    end)

    describe("refuses", function()
        local good = info("direction.1", 1)
        local function only(...) return build({ ARCHITECTURE }, { info(...) }, ONE) end
        local arrays = (int(ARRAY, 4) .. int(1, 8)):rep(20)
        local function other(...) return build({ ARCHITECTURE, ... }, { good }, ONE) end
        local cases = {
            { "only magic", "GGUF", "version" },
            { "version 9", build({ ARCHITECTURE }, { good }, ONE, { version = 9 }), "version 9" },
            { "no tensors", build({ ARCHITECTURE }, {}), "no tensors" },
            { "more tensors than there are", build({ ARCHITECTURE }, { good }, "", { tensors = 1000 }), "" },
            { "a huge tensor count", build({ ARCHITECTURE }, { good }, ONE, { tensors = 2 ^ 60 }), "above the limit" },
            { "a huge metadata count", build({ ARCHITECTURE }, { good }, ONE, { keys = 2 ^ 60 }), "above the limit" },
            { "a key without end", build({ int(999, 8) .. "x" }, {}, "", { tensors = 1 }), "metadata key: 999 bytes" },
            { "a huge string", other(pair("a", STRING, int(2 ^ 50, 8))), "above the limit" },
            { "a huge header", other(pair("a", STRING, int(2 ^ 24 - 100, 8))) .. ("x"):rep(2 ^ 24),
                "larger than the limit" },
            { "a huge array", other(pair("a", ARRAY, int(0, 4) .. int(2 ^ 50, 8))), "above the limit" },
            { "an array without end", other(pair("a", ARRAY, int(10, 4) .. int(900000, 8))), "reach past the end" },
            { "deep arrays", other(pair("a", ARRAY, arrays)), "nested deeper" },
            { "an unknown value type", other(pair("a", 77, "")), 'metadata "a": value type 77' },
            { "a value type in an array", other(pair("a", ARRAY, int(77, 4) .. int(1, 8))), "value type 77" },
            { "a boolean of 2", other(pair("a", 7, "\2")), "2 is not a boolean" },
            { "a key twice", other(pair("a", 7, "\1"), pair("a", 7, "\1")), "twice" },
            { "no architecture", build({}, { good }, ONE), "general.architecture is nothing" },
            { "an alignment of 3", other(pair("general.alignment", 4, int(3, 4))), "general.alignment is 3" },
            { "an alignment of 0", other(pair("general.alignment", 4, int(0, 4))), "general.alignment is 0" },
            { "an offset that is no number", other(pair("steer.layer_offset", 8, text "x")), "layer_offset is x" },
            { "a wrong name", only("bias.1", 1), 'tensor "bias.1"' },
            { "a layer that is no number", only("direction.x", 1), "expected direction.N" },
            { "a layer that is too large", only("direction.99999", 1), "99999" },
            { "a layer twice", build({ ARCHITECTURE }, { good, info("direction.01", 1, 0, 32) }, ONE), "twice" },
            { "two dimensions", only("direction.1", 1, 0, 0, 2), "2 dimensions" },
            { "an empty vector", only("direction.1", 0), "0 elements" },
            { "a huge vector", only("direction.1", 2 ^ 60), "too large" },
            { "vectors of two lengths", build({ ARCHITECTURE }, { good, info("direction.2", 2, 0, 32) }, ONE),
                "expected 1" },
            { "an overlap", build({ ARCHITECTURE }, { good, info("direction.2", 1, 0, 0) }, ONE), "expected 32" },
            { "a missing end", build({ ARCHITECTURE }, { good }, "123"), "reach past the end" },
            { "data left over", build({ ARCHITECTURE }, { good }, ONE .. ("\0"):rep(40)), "too many" },
        }
        for _, case in ipairs(cases) do
            it(case[1], function()
                local problem = files.fails("format", case[3], load_bytes, case[2])
                assert(problem.message:find("x.gguf: ", 1, true))
            end)
        end
        it("what other programs read: models, quantised vectors", function()
            files.fails("unsupported", 'general.architecture is "llama", expected "controlvector"', load_bytes,
                build({ pair("general.architecture", STRING, text "llama") }, { good }, ONE))
            files.fails("unsupported", "tensor type 8 is not one that Steer has", load_bytes, only("direction.1", 1, 8))
        end)
        it("versions that it does not read", function()
            for version, words in pairs { [1] = "version 1", [3 * 2 ^ 24] = "big-endian" } do
                files.fails("unsupported", words, load_bytes,
                    build({ ARCHITECTURE }, { good }, ONE, { version = version }))
            end
        end)
    end)
end)
