--- The npy format: round trips with NumPy itself, versions, byte orders, and malformed headers.
local steer = require "steer"
local files = require "files"

local T = steer.tensor

local function build(header, data, version)
    version = version or 1
    local length = files.int(#header, version == 1 and 2 or 4)
    return "\147NUMPY" .. string.char(version, 0) .. length .. header .. (data or "")
end

local function dict(descr, shape, fortran)
    return ("{'descr': '%s', 'fortran_order': %s, 'shape': %s, }\n"):format(descr, fortran and "True" or "False", shape)
end

local function load_bytes(bytes, opts)
    return steer.load(files.put("x.npy", bytes), opts)
end

describe("npy", function()
    teardown(files.done)

    it("keeps every dtype, shape and value", function()
        for _, dtype in ipairs { "f32", "f16", "i32", "i64", "u8" } do
            for _, value in ipairs {
                T.from({ { 1, 2, 3 }, { 4, 5, 6 } }, { dtype = dtype }), T.from({ 7 }, { dtype = dtype }),
                T.from(8, { dtype = dtype }), T.zeros({ 0, 2 }, { dtype = dtype }),
                T.from({ { 1, 2, 3 }, { 4, 5, 6 } }, { dtype = dtype }):transpose(1, 2),
            } do
                local path = files.path "round.npy"
                steer.save(path, value)
                local got = steer.load(path)
                assert.same({ dtype, value:shape(), value:totable() }, { got.dtype, got:shape(), got:totable() })
            end
        end
    end)

    it("is what NumPy reads", function()
        local path = files.path "ours.npy"
        local script = "import numpy, sys; a = numpy.load(sys.argv[1]); print(a.dtype, a.shape, a.tolist())"
        for text, value in pairs {
            ["float32 (2, 3) [[1.0, 2.0, 3.0], [4.0, 5.0, 6.5]]"] = T.from({ { 1, 2, 3 }, { 4, 5, 6.5 } }),
            ["float16 (1,) [0.5]"] = T.from({ 0.5 }, { dtype = "f16" }),
            ["int64 () -9007199254740992"] = T.from(-2 ^ 53, { dtype = "i64" }),
            ["int32 (2, 0) [[], []]"] = T.zeros({ 2, 0 }, { dtype = "i32" }),
            ["uint8 (3,) [0, 1, 255]"] = T.from({ 0, 1, 255 }, { dtype = "u8" }),
        } do
            steer.save(path, value)
            local output = files.python(script, path)
            if not output then return pending "no Python with NumPy" end
            assert.equal(text .. "\n", output)
        end
    end)

    it("reads what NumPy writes: byte orders, Fortran order, versions 1 to 3", function()
        local output = files.python([[
import numpy as np, sys
from numpy.lib import format
folder = sys.argv[1]
base = np.arange(24).reshape(2, 3, 4)
for i, dtype in enumerate(["<f4", ">f4", "<f2", ">f2", "<i4", ">i4", "<i8", ">i8", "|u1"]):
    for order in "CF":
        for version in (1, 2, 3):
            with open("%s/n%d%s%d.npy" % (folder, i, order, version), "wb") as f:
                format.write_array(f, np.array(base, dtype=dtype, order=order), (version, 0))
np.save(folder + "/scalar.npy", np.float32(2.5))
np.save(folder + "/object.npy", np.array([{}], dtype=object))
np.save(folder + "/record.npy", np.zeros(2, dtype=[("a", "<f4")]))
]], files.folder)
        if not output then return pending "no Python with NumPy" end
        assert.equal("", output)
        local expected = T.arange(24):reshape(2, 3, 4):totable()
        for i, dtype in ipairs { "f32", "f32", "f16", "f16", "i32", "i32", "i64", "i64", "u8" } do
            for order in ("CF"):gmatch "." do
                for version = 1, 3 do
                    local got = steer.load(files.path(("n%d%s%d.npy"):format(i - 1, order, version)))
                    assert.same({ dtype, expected }, { got.dtype, got:totable() })
                end
            end
        end
        assert.equal(2.5, steer.load(files.path "scalar.npy"):item())
        files.fails("unsupported", "pickled Python objects", steer.load, files.path "object.npy")
        files.fails("unsupported", "array of records", steer.load, files.path "record.npy")
    end)

    it("rounds float64 to f32 once, in both byte orders", function()
        local one_and_more = "\1\0\0\16\0\0\240\63" -- above 1 + 2^-24, half a step of f32
        for descr, bytes in pairs { ["<f8"] = one_and_more, [">f8"] = one_and_more:reverse() } do
            local got = load_bytes(build(dict(descr, "(1, 2)", true), bytes .. bytes))
            assert.same({ "f32", { { 1 + 2 ^ -23, 1 + 2 ^ -23 } } }, { got.dtype, got:totable() })
        end
        assert.same({ 0.5, -1, 2, 0.25 }, steer.load("tests/fixtures/files/mean.npy"):totable())
    end)

    it("reads Python 2's long integers, native byte order and the names of dtypes", function()
        assert.same({ { 0.5, -1 }, { 2, 0.25 } }, steer.load("tests/fixtures/files/old.npy"):totable())
        for _, name in ipairs { "a", "b" } do
            assert.same({ 0.5, -1, 2, 0.25 }, steer.load("tests/fixtures/files/" .. name .. ".npy"):totable())
        end
        for descr, dtype in pairs { f4 = "f32", ["=f4"] = "f32", ["|f4"] = "f32", float32 = "f32", int32 = "i32",
            ["<i"] = "i32" } do
            assert.equal(dtype, load_bytes(build(dict(descr, "(1,)"), "1234")).dtype)
        end
        assert.same({ 3 }, load_bytes(build(dict(">float16", "(1L,)"), "\66\0")):totable())
        assert.equal("i64", load_bytes(build(dict("int64", "()"), "12345678")).dtype)
        assert.equal("u8", load_bytes(build(dict("uint8", "(1,)"), "1")).dtype)
    end)

    it("reads NaNs of any bits", function()
        local nan = load_bytes(build(dict("<f4", "(2,)"), "\176\59\148\255\255\255\255\127"))
        for i = 1, 2 do
            assert(nan:get(i) ~= nan:get(i))
            assert(nan:totable()[i] ~= nan:totable()[i])
            assert(nan[i]:item() ~= nan[i]:item())
        end
        assert(tostring(nan):find "nan")
    end)

    it("refuses what npy cannot hold", function()
        local path = files.path "no.npy"
        files.fails("unsupported", 'value: NumPy has no bf16; save value:to("f32")', steer.save, path,
            T.zeros({ 1 }, { dtype = "bf16" }))
        files.fails("invalid_argument", "metadata", steer.save, path, T.zeros({ 1 }), { a = "b" })
        files.fails("invalid_argument", "value: expected a tensor", steer.save, path, { a = T.zeros({ 1 }) })
        assert.is_nil(io.open(path))
    end)

    describe("refuses", function()
        local cases = {
            { "a file that is only magic", "\147NUMPY", "magic and version" },
            { "version 4", build(dict("<f4", "(1,)"), "1234", 4), "version 4" },
            { "version 0", build(dict("<f4", "(1,)"), "1234", 0), "version 0" },
            { "a header length that is cut", "\147NUMPY\1\0\5", "header length" },
            { "a header that reaches past the end", "\147NUMPY\1\0\255\0{}", "header: 255 bytes" },
            { "a huge header", "\147NUMPY\2\0\255\255\255\255{}", "above the limit" },
            { "a header that is no dictionary", build("[]"), "expected '{'" },
            { "an open dictionary", build("{"), "expected a key" },
            { "an unknown key", build("{'x': 1}"), 'the key "x" is not known' },
            { "a key twice", build("{'shape': (), 'shape': ()}"), "twice" },
            { "no shape", build("{'descr': '<f4', 'fortran_order': False}"), "there is no shape" },
            { "an order that is no truth value", build("{'fortran_order': 1}"), "expected True or False" },
            { "a shape that is no tuple", build("{'shape': 3}"), "expected '('" },
            { "a number in parentheses", build("{'shape': (3)}"), "expected ','" },
            { "a negative size", build(dict("<f4", "(-1,)")), "expected a size" },
            { "a size that is too large", build(dict("<f4", "(99999999999999999999,)")), "is too large" },
            { "a shape that overflows", build(dict("<f4", "(4294967296, 4294967296)")), "is too large" },
            { "an open tuple", build("{'shape': (1, 2"), "expected ')'" },
            { "text after the dictionary", build(dict("<f4", "(1,)") .. "x", "1234"), "more text after" },
            { "missing data", build(dict("<f4", "(2,)"), "1234567"), "<f4 [2] takes 8 bytes, the file has 7" },
            { "data left over", build(dict("<f4", "(1,)"), "12345"), "takes 4 bytes, the file has 5" },
            { "another format inside", "GGUF" .. ("\0"):rep(30), "the content is not npy, it looks like gguf" },
            { "other content", "hello, this is text", "the content is not npy" },
        }
        for _, case in ipairs(cases) do
            it(case[1], function()
                local problem = files.fails("format", case[3], load_bytes, case[2])
                assert(problem.message:find("x.npy: ", 1, true))
            end)
        end
        it("dtypes that Steer lacks", function()
            for _, descr in ipairs { "<c8", "|b1", "<U3", "<f16", "bool", "x" } do
                files.fails("unsupported", "x.npy: dtype \"" .. descr .. '" is not one that Steer has', load_bytes,
                    build(dict(descr, "(1,)"), "12345678"))
            end
        end)
        it("options that it has no use for", function()
            files.fails("invalid_argument", "only", load_bytes, build(dict("<f4", "()"), "1234"), { only = {} })
        end)
    end)
end)
