--- Archives: PyTorch's .pt files, NumPy's .npz, zip archives as such, and .svec.
local steer = require "steer"
local files = require "files"
local int = files.int

local T = steer.tensor
local FOLDER = "tests/fixtures/files/" -- written by PyTorch and NumPy

-- ---- Archives made by hand: members are {name, bytes} with size, raw_size, method, crc or flags that tell lies -----

local function zip(members, comment)
    local out, directory, at = {}, {}, 0
    for i, member in ipairs(members) do
        local name, bytes = member[1], member[2]
        local numbers = int(member.method or 0, 2) .. int(0, 4) .. int(member.crc or 0, 4)
            .. int(member.size or #bytes, 4) .. int(member.raw_size or member.size or #bytes, 4) .. int(#name, 2)
        out[i] = "PK\3\4" .. int(20, 2) .. int(0, 2) .. numbers .. int(4, 2) .. name .. "\255\255\0\0" .. bytes
        directory[i] = "PK\1\2" .. int(20, 2) .. int(20, 2) .. int(member.flags or 0, 2) .. numbers
            .. int(0, 12) .. int(member.at or at, 4) .. name
        at = at + #out[i]
    end
    local text = table.concat(directory)
    return table.concat(out) .. text .. "PK\5\6" .. int(0, 4) .. int(#members, 2):rep(2) .. int(#text, 4)
        .. int(at, 4) .. int(#(comment or ""), 2) .. (comment or "")
end

local NPY = "\147NUMPY\1\0" .. int(54, 2) .. "{'descr': '|u1', 'fortran_order': False, 'shape':(2,)}" .. "\5\6"

local function load_npz(members, comment) return steer.load(files.put("x.npz", zip(members, comment))) end

-- ---- Pickles made by hand ------------------------------------------------------------------------------------------

local function text(s) return "X" .. int(#s, 4) .. s end
local function global(module, name) return "c" .. module .. "\n" .. name .. "\n" end

-- A storage of `numel` float32 whose numbers are in data/<key>.
local function storage(numel, key, class)
    return "(" .. text "storage" .. global("torch", class or "FloatStorage") .. text(key or "0") .. text "cpu"
        .. "K" .. string.char(numel) .. "tQ"
end

-- A tensor over it: offset, sizes and strides are pickles.
local function tensor(stored, offset, sizes, strides)
    return global("torch._utils", "_rebuild_tensor_v2") .. "(" .. stored .. offset .. sizes .. strides .. "\137}tR"
end

local FOUR = "\0\0\0\63\0\0\128\191\0\0\0\64\0\0\128\62" -- 0.5 -1 2 0.25
local VECTOR = tensor(storage(4), "K\0", "K\4\133", "K\1\133")

local function load_pt(program, opts, data)
    return steer.load(files.put("x.pt", zip { { "x/data.pkl", "\128\2" .. program .. "." },
        { "x/data/0", data or FOUR } }), opts)
end

describe("pt", function()
    it("reads what torch.save writes", function()
        assert.same({ 0.5, -1, 2, 0.25 }, steer.load(FOLDER .. "tensor.pt"):totable())
        assert.same({ 4, 5 }, steer.load(FOLDER .. "protocol4.pt").t:totable())
        local state = steer.load(FOLDER .. "state_dict.pt")
        assert.same({ { { 1, 2 } }, { 3 } }, { state["lin.weight"]:totable(), state["lin.bias"]:totable() })
        assert.is_nil((select(2, steer.load(FOLDER .. "tensor.pt"))))
    end)

    it("keeps tensors of every dtype and layout", function()
        local all = steer.load(FOLDER .. "values.pt")
        local expected = {
            direction = { "f32", { { 0, 1, 2 }, { 3, 4, 5 } } }, turned = { "f32", { { 0, 3 }, { 1, 4 }, { 2, 5 } } },
            rows = { "f32", { { 0, 2 }, { 3, 5 } } }, wide = { "f32", { 5, 5, 5 } }, half = { "f16", { 0.5, 65504 } },
            ids = { "i64", { 2 ^ 40, -1 } }, i32 = { "i32", { 7 } }, u8 = { "u8", { 255 } },
            scalar = { "f32", 3.5 }, param = { "f32", { 9 } }, double = { "f32", { 0.10000000149011612, math.huge } },
        }
        for name, want in pairs(expected) do assert.same(want, { all[name].dtype, all[name]:totable() }) end
        assert.same({ 0, 4 }, all.empty:shape())
        assert.same({ "f32", { 3, 4, 5 } }, { all.layer[15].dtype, all.layer[15]:totable() })
        assert.same({ "bf16", { 1, 2 } }, { all.layer[16].dtype, all.layer[16]:totable() })
    end)

    it("keeps plain values", function()
        local all = steer.load(FOLDER .. "values.pt")
        assert.same({ 1 }, all.list[1]:totable())
        assert.same({ 2, { 3.5, "x", nil, true } }, { all.list[2], all.list[3] })
        assert.same({ "caf\195\169", -5, 2 ^ 60, "9223372036854775808", 1e-3, nil, false },
            { all.name, all.n, tonumber(all.big), all.huge, all.f, all.no, all.yes })
        assert.same({ { 2, 3 }, "torch.float16", "cuda:1" }, { all.size, all.dtype, all.device })
    end)

    it("shares storages as the file does, and keeps the file's bytes", function()
        local all = steer.load(FOLDER .. "values.pt", { only = { "direction", "layer", "turned", "rows" } })
        all.direction:set(2, 1, 42)
        assert.same({ 42, 42, 42 }, { all.layer[15]:get(1), all.turned:get(1, 2), all.rows:get(2, 1) })
        local rows = all.rows
        all = nil -- luacheck: ignore
        collectgarbage()
        collectgarbage()
        assert.same({ { 0, 2 }, { 42, 5 } }, rows:totable())
        assert.equal(3, steer.load(FOLDER .. "values.pt", { only = { "direction" } }).direction:get(2, 1))
    end)

    it("leaves out what is not asked for", function()
        files.fails("unsupported", 'value["mask"]: dtype torch.BoolStorage is not one that Steer has', steer.load,
            FOLDER .. "mask.pt")
        assert.same({ 7 }, steer.load(FOLDER .. "mask.pt", { only = { "direction" } }).direction:totable())
        files.fails("not_found", 'only: has no entry "none"', steer.load, FOLDER .. "values.pt", { only = { "none" } })
        files.fails("invalid_argument", "which has no names", steer.load, FOLDER .. "tensor.pt", { only = { "a" } })
        assert.same({ 1 }, { load_pt("}" .. "K\3K\1s", { only = { 3 } })[3] })
    end)

    it("moves everything to a device", function()
        local all = load_pt("](}" .. text "a" .. VECTOR .. "q\9sh\9K\1e", { device = "cpu" })
        assert.same({ { 0.5, -1, 2, 0.25 }, 1 }, { all[2]:totable(), all[3] })
        assert.equal("cpu", all[1].a.device)
    end)

    it("runs nothing", function()
        local marker = files.path "marker"
        for module, name in pairs { os = "system", posix = "system", builtins = "eval", __builtin__ = "exec",
            subprocess = "Popen", ["torch.hub"] = "load" } do
            files.fails("unsupported", ('it names "%s.%s", which is not among what Steer reads'):format(module, name),
                load_pt, global(module, name) .. text("touch " .. marker) .. "\133R")
            files.fails("unsupported", ('it names "%s.%s"'):format(module, name), load_pt,
                text(module) .. text(name) .. "\147" .. text("touch " .. marker) .. "\133R")
        end
        assert.is_nil(io.open(marker))
        files.fails("unsupported", 'it names "posix.system"', steer.load, FOLDER .. "evil.pt",
            { only = { "direction" } })
        files.fails("unsupported", 'it names "argparse.Namespace"', steer.load, FOLDER .. "namespace.pt")
        files.fails("unsupported", "PyTorch before 1.6", steer.load, FOLDER .. "legacy.pt")
        for op, words in pairs { i = "INST", o = "OBJ", ["\129"] = "NEWOBJ", ["\130"] = "EXT1", ["\143"] = "a set",
            ["\151"] = "0x97", F = "0x46" } do
            files.fails("unsupported", words, load_pt, "(" .. op)
        end
    end)

    it("says what else it does not read", function()
        local function refuses(words, ...) files.fails("unsupported", words, load_pt, ...) end
        refuses("value is OrderedDict", global("collections", "OrderedDict"))
        refuses("value[0] is storage", "]" .. storage(4) .. "a")
        refuses("a dict has a key that is tuple", "})K\1s")
        refuses("nested deeper than 100, or in itself", "]q\0h\0a")
        refuses("attributes are set from 5", "}K\5b")
        refuses("larger than 64 bits", "\138\9" .. ("\255"):rep(9))
        refuses("protocol 9", "\128\9")
        files.fails("unsupported", "no data.pkl", steer.load, files.put("x.pt", zip { { "a", "b" } }))
        files.fails("unsupported", "a TorchScript program", steer.load,
            files.put("x.pt", zip { { "x/data.pkl", "N." }, { "x/constants.pkl", "N." } }))
        files.fails("unsupported", "high byte first", steer.load,
            files.put("x.pt", zip { { "x/data.pkl", "N." }, { "x/byteorder", "big" } }))
        refuses("9 dimensions", tensor(storage(1), "K\0", "(" .. ("K\1"):rep(9) .. "t", "(" .. ("K\1"):rep(9) .. "t"))
    end)

    describe("refuses", function()
        local cases = {
            { "an empty program", "", "the stack is empty" },
            { "a text without end", "X\255\0\0\0a", "it ends early" },
            { "a name without end", "ctorch", "it ends early" },
            { "a mark as the value", "(", "the stack is empty" },
            { "no mark", "K\1t", "there is no mark" },
            { "an append to a number", "K\1K\2a", "expected a list, found 1" },
            { "a key without value", "}(K\1u", "a key without its value" },
            { "an unknown memory", "h\5", "nothing was remembered as 5" },
            { "a call of a number", "K\1)R", "1 is called" },
            { "a call of a dtype", global("torch", "float32") .. ")R", "torch.float32 is called" },
            { "a name of numbers", "K\1K\2\147", "a name that is no text" },
            { "another persistent id", "K\1Q", "not that of a storage" },
            { "a storage in two ways", "]" .. storage(4) .. "a" .. storage(5) .. "a", "described in two ways" },
            { "an absent storage", tensor(storage(4, "7"), "K\0", "K\4\133", "K\1\133"),
                "data/7 is not in the archive" },
            { "a storage of other bytes", tensor(storage(5), "K\0", "K\4\133", "K\1\133"),
                "5 elements of torch.FloatStorage take 20 bytes, it has 16" },
            { "a tensor past its storage", tensor(storage(4), "K\1", "K\4\133", "K\1\133"), "element 4 is past" },
            { "a stride past its storage", tensor(storage(4), "K\0", "K\2K\2\134", "K\3K\1\134"), "element 4 is past" },
            { "a huge tensor", tensor(storage(4), "K\0", ("\138\7" .. ("\255"):rep(6) .. "\15"):rep(2) .. "\134",
                "K\0K\0\134"), "is too large" },
            { "a negative size", tensor(storage(4), "K\0", "J\255\255\255\255\133", "K\1\133"), "or offset is -1" },
            { "a NaN offset", tensor(storage(4), "G\127\248\0\0\0\0\0\0", "K\1\133", "K\1\133"), "or offset is" },
            { "no offset", global("torch._utils", "_rebuild_tensor_v2") .. storage(4) .. "\133R", "wrong arguments" },
            { "sizes and strides", tensor(storage(4), "K\0", "K\4\133", ")"), "wrong arguments" },
            { "an OrderedDict of a number", global("collections", "OrderedDict") .. "K\1\133R", "OrderedDict of 1" },
            { "an OrderedDict of numbers", global("collections", "OrderedDict") .. "K\1\133\133R", "than pairs" },
            { "a parameter of a number", global("torch._utils", "_rebuild_parameter") .. "K\1\133R",
                "a parameter is 1" },
        }
        for _, case in ipairs(cases) do
            it(case[1], function()
                local problem = files.fails("format", case[3], load_pt, case[2])
                assert(problem.message:find("x.pt: ", 1, true))
            end)
        end
    end)
end)

describe("npz", function()
    it("reads what NumPy writes, stored and deflated", function()
        local output = files.python([[
import numpy as np, sys
a = dict(direction=np.arange(6, dtype="<f4").reshape(2, 3), wide=np.float64([0.1, -2]), big=np.array([5], ">i4"),
         turned=np.asfortranarray(np.arange(6, dtype="i8").reshape(2, 3)), large=np.arange(100000, dtype="f4") % 7)
np.savez(sys.argv[1] + "/stored.npz", **a)
np.savez_compressed(sys.argv[1] + "/deflated.npz", **a)
np.savez(sys.argv[1] + "/one.npz", np.zeros(2, "f4"))
np.savez(sys.argv[1] + "/object.npz", a=np.array([{}], dtype=object), b=np.zeros(1, "f4"))
]], files.folder)
        if not output then return pending "no Python with NumPy" end
        assert.equal("", output)
        for _, name in ipairs { "stored.npz", "deflated.npz" } do
            local all = steer.load(files.path(name))
            assert.same({ { 0, 1, 2 }, { 3, 4, 5 } }, all.direction:totable())
            assert.same({ "f32", { 0.10000000149011612, -2 } }, { all.wide.dtype, all.wide:totable() })
            assert.same({ { 5 }, { { 0, 1, 2 }, { 3, 4, 5 } } }, { all.big:totable(), all.turned:totable() })
            assert.same({ 100000, 99999 % 7 }, { all.large:numel(), all.large:get(100000) })
            local one = steer.load(files.path(name), { only = { "big" } })
            assert.is_nil(one.wide)
            assert.same({ 5 }, one.big:totable())
            files.fails("not_found", 'only: has no array "x"', steer.load, files.path(name), { only = { "x" } })
        end
        assert.same({ 0, 0 }, steer.load(files.path "one.npz").arr_0:totable())
        files.fails("unsupported", "a.npy: it holds pickled Python objects", steer.load, files.path "object.npz")
        assert.same({ 0 }, steer.load(files.path "object.npz", { only = { "b" } }).b:totable())
    end)

    it("reads the fixture", function()
        local all = steer.load(FOLDER .. "deflated.npz")
        assert.same({ { 0.5, -1 }, ("\5"):rep(300):byte() }, { all.direction:totable(), all.u:get(300) })
    end)

    it("takes archives with comments, refuses what is no array", function()
        assert.same({ 5, 6 }, load_npz({ { "a.npy", NPY } }, ("PK\5\6"):rep(9)).a:totable())
        assert.same({}, load_npz {})
        files.fails("unsupported", "x.npz: b: it is no array of NumPy", load_npz, { { "a.npy", NPY }, { "b", "text" } })
    end)

    describe("refuses", function()
        local whole = zip { { "a.npy", NPY } }
        local function one(options)
            options[1], options[2] = "a.npy", options[2] or NPY
            return zip { options }
        end
        local cases = {
            { "a short file", "PK\3\4", "no directory at its end: the file is cut short or damaged" },
            { "a cut file", whole:sub(1, -2), "no directory at its end" },
            { "more after the end", whole .. "x", "no directory at its end" },
            { "a directory elsewhere", whole:sub(1, -7) .. "\0\0\0\0\0\0", "the directory of the archive is damaged" },
            { "a directory past the end", whole:sub(1, -7) .. "\255\255\255\0\0\0", "reach past the end" },
            { "more members than there are", (whole:gsub("(PK\5\6....)....", "%1\9\0\9\0")), "9 members do not fit" },
            { "a damaged directory", (whole:gsub("PK\1\2", "PK\1\3")), "the directory of the archive is damaged" },
            { "a member elsewhere", one { at = 3 }, "does not begin where the directory says" },
            { "a member past the end", one { at = 9999 }, "reach past the end" },
            { "a member that is too large", one { size = 2 ^ 31 }, "reaches past the end of the file" },
            { "two sizes", one { raw_size = 3 }, "stored as 66 bytes, but it has 3" },
            { "a member twice", zip { { "a.npy", NPY }, { "a.npy", NPY } }, 'member "a.npy" is there twice' },
            { "an array twice", zip { { "a.npy", NPY }, { "a", NPY } }, 'array "a" is there twice' },
            { "data that do not inflate", one { method = 8 }, "its compressed data are damaged" },
            { "data that cannot be so large", one { method = 8, raw_size = 2 ^ 31 }, "cannot be as large" },
            { "deflated data of more bytes", one { "", "\75\4\0", method = 8, raw_size = 0 }, "larger than" },
            { "deflated data of fewer bytes", one { "", "\75\4\0", method = 8, raw_size = 2 }, "their size is wrong" },
            { "a wrong checksum", one { "", "\75\4\0", method = 8, raw_size = 1 }, "their checksum is wrong" },
            { "deflated data without end", one { "", "\75", method = 8, raw_size = 1 }, "they are cut short" },
        }
        for _, case in ipairs(cases) do
            it(case[1], function()
                local problem = files.fails("format", case[3], steer.load, files.put("x.npz", case[2]))
                assert(problem.message:find("x.npz: ", 1, true))
            end)
        end
        it("encryption and other compression", function()
            files.fails("unsupported", "is encrypted", load_npz, { { "a.npy", NPY, flags = 1 } })
            files.fails("unsupported", "by method 12", load_npz, { { "a.npy", NPY, method = 12 } })
        end)
    end)
end)

describe("svec", function()
    teardown(files.done)

    local function load_svec(text_, opts) return steer.load(files.put("x.svec", text_), opts) end

    it("reads directions by layer", function()
        local vectors, metadata = load_svec('{"model_type": "llama", "directions": {"0": [0.1, -2], "15": [1e-3, 4]}, '
            .. '"explained_variances": {"0": 0.5, "15": 0.25}}')
        assert.same({ "f32", { 0.10000000149011612, -2 } }, { vectors[0].dtype, vectors[0]:totable() })
        assert.same({ 0.0010000000474974513, 4 }, vectors[15]:totable())
        assert.same({ model_type = "llama", explained_variances = { [0] = 0.5, [15] = 0.25 } }, metadata)
        local one = load_svec('{"directions": {"0": [1], "1": [[2, 3], [4, 5]]}}', { only = { 1 } })
        assert.same({ nil, { { 2, 3 }, { 4, 5 } } }, { one[0], one[1]:totable() })
    end)

    it("refuses others", function()
        local function fails(words, ...) files.fails("format", words, load_svec, ...) end
        fails("not JSON", "{")
        fails("directions: expected an object, got nothing", "{}")
        fails("directions: expected an object", '{"directions": [1]}')
        fails('the key "a" is not a layer', '{"directions": {"a": [1]}}')
        fails('the key "5000" is not a layer', '{"directions": {"5000": [1]}}')
        fails('directions "1": expected a list of numbers', '{"directions": {"1": []}}')
        fails('directions "1": element 2 is', '{"directions": {"1": [1, null]}}')
        fails('directions "1": element 2 is', '{"directions": {"1": [1, "x"]}}')
        fails("lists of 1 and 2 numbers", '{"directions": {"1": [[1], [2, 3]]}}')
        fails("the layer is there twice", '{"directions": {"1": [1], "01": [2]}}')
        files.fails("not_found", "only: has no layer 7", load_svec, '{"directions": {"1": [1]}}', { only = { 7 } })
        files.fails("unsupported", "are only read", steer.save, files.path "a.svec",
            { T.zeros({ 1 }) })
    end)
end)
