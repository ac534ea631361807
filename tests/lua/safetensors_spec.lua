--- The safetensors format: round trips, files made by hand and by Python, and every way of being malformed.
local steer = require "steer"
local files = require "files"

local T = steer.tensor

-- A file of this header and data.
local function build(header, data)
    return files.int(#header, 8) .. header .. (data or "")
end

local function load_bytes(bytes, opts)
    return steer.load(files.put("x.safetensors", bytes), opts)
end

local function entry(name, dtype, shape, first, stop)
    return ('"%s":{"dtype":"%s","shape":%s,"data_offsets":[%s,%s]}'):format(name, dtype, shape, first, stop)
end

-- Reads a file as the format's documentation says, with nothing but Python's own library.
local reader = [[
import json, struct, sys
data = open(sys.argv[1], "rb").read()
n = struct.unpack_from("<Q", data)[0]
header = json.loads(data[8:8 + n].decode("utf-8"))
assert n % 8 == 0
print(sorted(header.pop("__metadata__", {}).items()))
for name, e in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
    a, b = e["data_offsets"]
    print(repr(name), e["dtype"], e["shape"], a, data[8 + n + a:8 + n + b].hex())
]]

describe("safetensors", function()
    teardown(files.done)

    it("keeps every dtype, shape and value", function()
        local saved = {
            a = T.from({ { 1, 2.5 }, { -3, 1e30 } }), b = T.from({ 1, 2, 3 }, { dtype = "f16" }),
            c = T.from({ 0.5, -0 }, { dtype = "bf16" }), d = T.from({ -5, 2 ^ 31 - 1 }, { dtype = "i32" }),
            e = T.from({ { 2 ^ 53 } }, { dtype = "i64" }), f = T.from({ 0, 255, 7 }, { dtype = "u8" }),
            scalar = T.from(4.25), empty = T.zeros({ 0, 3 }),
            turned = T.from({ { 1, 2, 3 }, { 4, 5, 6 } }):transpose(1, 2),
        }
        local path = files.path "all.safetensors"
        steer.save(path, saved, { note = "caf\195\169 \"x\"\n", n = 1.5, yes = true })
        local loaded, metadata = steer.load(path)
        for name, value in pairs(saved) do
            local got = loaded[name]
            assert.same({ value.dtype, value:shape(), value:totable() }, { got.dtype, got:shape(), got:totable() })
            assert.equal("cpu", got.device)
            loaded[name] = nil
        end
        assert.is_nil(next(loaded))
        assert.same({ note = "caf\195\169 \"x\"\n", n = "1.5", yes = "true" }, metadata)
    end)

    it("writes the same bytes for the same input, and reads them back without metadata", function()
        local path = files.path "same.safetensors"
        local saved = { z = T.arange(3), a = T.arange(2, { dtype = "u8" }), m = T.arange(5, { dtype = "i64" }) }
        steer.save(path, saved, { b = "1", a = "2" })
        local first = files.get(path)
        steer.save(path, { m = saved.m, z = saved.z, a = saved.a }, { a = "2", b = "1" })
        assert.equal(first, files.get(path))
        steer.save(path, {})
        assert.same({ {}, {} }, { steer.load(path) })
    end)

    it("is what Python reads", function()
        local path = files.path "py.safetensors"
        steer.save(path, { ["t\"\195\169"] = T.from({ 1, -2 }), u = T.from({ 7, 8, 9 }, { dtype = "u8" }) },
            { k = "v\t" })
        local text = files.python(reader, path)
        if not text then return pending "no Python with NumPy" end
        assert.equal("[('k', 'v\\t')]\n't\"\195\169' F32 [2] 0 0000803f000000c0\n'u' U8 [3] 8 070809\n", text)
    end)

    it("loads views: nothing is read before use and the file keeps its bytes", function()
        local path = files.put("view.safetensors", build("{" .. entry("a", "F32", "[2]", 0, 8) .. "}", ("\0"):rep(8)))
        local before = files.get(path)
        local a = steer.load(path).a
        a:fill_(3)
        assert.equal(before, files.get(path))
        steer.save(path, { a = a }) -- over the file that is mapped
        a:fill_(4)
        assert.same({ 3, 3 }, steer.load(path).a:totable())
    end)

    it("loads a file larger than memory", function()
        local size = 2 ^ 40
        local path = files.put("large.safetensors",
            build("{" .. entry("a", "U8", "[1099511627776]", 0, "1099511627776") .. "}"))
        local header = #files.get(path)
        local file = io.open(path, "r+b")
        local fits = file:seek("set", header + size - 1) and file:write "\9"
        if not (file:close() and fits) then return pending "the file system has no files of 1 TiB" end
        local a = steer.load(path).a
        assert.equal(9, a:get(size))
        os.remove(path)
    end)

    it("loads only the names asked for, beside any dtype of the format", function()
        local sizes = { BOOL = 1, I8 = 1, I16 = 2, U16 = 2, U32 = 4, U64 = 8, C64 = 8, F8_E4M3 = 1, F8_E5M2 = 1,
            F8_E8M0 = 1, F8_E4M3FNUZ = 1, F8_E5M2FNUZ = 1, F6_E2M3 = 0.75, F6_E3M2 = 0.75, F4 = 0.5 }
        for dtype, size in pairs(sizes) do
            local bytes = build("{" .. entry("a", dtype, "[2,2]", 0, 4 * size) .. ","
                .. entry("b", "F32", "[1]", 4 * size, 4 * size + 4) .. "}", ("\0"):rep(4 * size + 4))
            local loaded = load_bytes(bytes, { only = { "b" } })
            assert.is_nil(loaded.a)
            assert.same({ 0 }, loaded.b:totable())
            files.fails("not_found", 'no tensor "c"', load_bytes, bytes, { only = { "c" } })
            files.fails("unsupported", 'x.safetensors: tensor "a": dtype ' .. dtype .. " is not one that Steer has",
                load_bytes, bytes)
        end
        for _, name in ipairs { "f4", "f6a", "f8a" } do -- as other libraries write them
            local path = "tests/fixtures/files/" .. name .. ".safetensors"
            assert.same({ 0.5, -1, 2, 0.25 }, steer.load(path, { only = { "direction" } }).direction:totable())
        end
    end)

    it("leaves out tensors of too many dimensions", function()
        local bytes = build("{" .. entry("a", "U8", "[1,1,1,1,1,1,1,1,1]", 0, 1) .. "," .. entry("b", "U8", "[1]", 1, 2)
            .. "}", "12")
        assert.same({ 50 }, load_bytes(bytes, { only = { "b" } }).b:totable())
        files.fails("unsupported", "9 dimensions, at most 8", load_bytes, bytes)
    end)

    it("rounds float64 to f32 once", function()
        local half = "\0\0\0\16\0\0\240\63" -- 1 + 2^-24: half a step, to the even neighbour
        local more = "\1\0\0\16\0\0\240\63"
        local loaded = load_bytes(build("{" .. entry("a", "F64", "[2,1]", 1, 17) .. "," .. entry("u", "U8", "[1]", 0, 1)
            .. "}", "\7" .. half .. more)).a
        assert.equal("f32", loaded.dtype)
        assert.same({ { 1 }, { 1 + 2 ^ -23 } }, loaded:totable())
        assert.same({ 0.5, -1, 2, 0.25 }, steer.load("tests/fixtures/files/mean.safetensors").mean:totable())
    end)

    it("reads escapes, white space and data that is not aligned", function()
        local loaded, metadata = load_bytes(build(
            '{ "\\u00e9\\n\\ud83d\\ude00" : {"shape":[ ], "dtype":"F32"\n,\t"data_offsets":[1,5]},'
            .. entry("u", "U8", "[1]", 0, 1) .. ',"__metadata__":{"a\\\\":"\\"","":"\\/"}}   ', "\5\0\0\128\63"))
        assert.equal(1, loaded["\195\169\n\240\159\152\128"]:item())
        assert.same({ 5 }, loaded.u:totable())
        assert.same({ ["a\\"] = '"', [""] = "/" }, metadata)
    end)

    it("takes the recorded demonstration activations", function()
        local path = "tests/fixtures/demo/activations.safetensors"
        if not io.open(path) then return pending "no demonstration file" end
        local demo = steer.load(path)
        assert.same({ 96, 8, 192 }, demo["happy.last"]:shape())
        assert.equal("bf16", demo["happy.last"].dtype)
    end)

    describe("refuses", function()
        local function one(...) return "{" .. entry("a", ...) .. "}" end
        local a, b = entry("a", "F32", "[1]", 0, 4), entry("b", "F32", "[1]", 4, 8)
        local deep = ("["):rep(100000)
        local cases = {
            { "an empty file", "", "empty" },
            { "a short file", "\1\2\3", "too few" },
            { "a header that reaches past the end", files.int(100, 8) .. "{}", "100 bytes at offset 8 reach past" },
            { "a huge header", files.int(100000001, 8) .. "{}", "above the format's limit" },
            { "the hugest header", ("\255"):rep(8) .. "{}", "above the format's limit" },
            { "no header", build "", "expected '{'" },
            { "text that is not JSON", build "abcdef", "expected '{'" },
            { "a header that ends early", build('{"a"'), "expected ':'" },
            { "an open string", build('{"a'), "a string without its end" },
            { "a backslash at the end", build('{"a\\'), "a string without its end" },
            { "a control character in a string", build('{"a\n":{}}'), "a string without its end" },
            { "a bad escape", build('{"a\\ux":{}}'), "" },
            { "text after the header", build('{}x'), "more text after" },
            { "deep nesting", build('{"a":' .. deep), "expected '{'" },
            { "deep nesting in a shape", build('{"a":{"shape":' .. deep), "expected an integer" },
            { "an entry that is no object", build('{"a":1}'), "expected '{'" },
            { "an unknown field", build('{"a":{"x":1}}'), 'the unknown field "x"' },
            { "a missing dtype", build('{"a":{"shape":[],"data_offsets":[0,0]}}'), 'tensor "a" has no dtype' },
            { "a missing shape", build('{"a":{"dtype":"U8","data_offsets":[0,0]}}'), 'tensor "a" has no shape' },
            { "a missing data_offsets", build('{"a":{"dtype":"U8","shape":[]}}'), 'tensor "a" has no data_offsets' },
            { "a tensor twice", build("{" .. a .. "," .. a .. "}", "1234"), 'the key "a" is there twice' },
            { "a field twice", build('{"a":{"dtype":"U8","dtype":"U8"}}'), 'the key "dtype" is there twice' },
            { "metadata twice", build('{"__metadata__":{"a":"1","a":"2"}}'), 'the key "a" is there twice' },
            { "metadata that is no string", build('{"__metadata__":{"a":1}}'), "expected '\"'" },
            { "metadata that is no object", build('{"__metadata__":[]}'), "expected '{'" },
            { "an unknown dtype", build(one("F31", "[1]", 0, 4), "1234"), 'dtype "F31" is not known' },
            { "half a byte", build(one("F4", "[3]", 0, 1), "1"), "F4 [3] does not fill whole bytes" },
            { "a negative size", build(one("F32", "[-1]", 0, 4), "1234"), "an integer from 0 up" },
            { "a fraction", build(one("F32", "[1.5]", 0, 4), "1234"), "expected ']'" },
            { "a leading zero", build(one("F32", "[01]", 0, 4), "1234"), "an integer from 0 up" },
            { "a number that is too large", build(one("U8", "[18446744073709551617]", 0, 1), "1"), "is too large" },
            { "a shape that overflows", build(one("F32", "[4294967296,4294967296]", 0, 0)),
                'tensor "a": shape [4294967296, 4294967296] is too large' },
            { "an empty shape that overflows", build(one("F32", "[0,999999999999999,99999]", 0, 0)),
                "is too large" },
            { "a list without end", build('{"a":{"shape":[' .. ("1,"):rep(100)), "more than 64 numbers" },
            { "offsets that do not match", build(one("F32", "[4]", 0, 8), "12345678"),
                'x.safetensors: tensor "a": data_offsets [0, 8] do not match 16 bytes of F32 [4]' },
            { "offsets that cross", build(one("F32", "[1]", 4, 0), "1234"), "not a begin and an end" },
            { "three offsets", build('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0,0]}}'), "not a begin and" },
            { "an overlap", build("{" .. a .. "," .. entry("b", "F32", "[1]", 2, 6) .. "}", "123456"),
                'tensor "b": its data begins at 2, overlapping tensor "a", which ends at 4' },
            { "a hole", build("{" .. a .. "," .. entry("b", "F32", "[1]", 5, 9) .. "}", "123456789"),
                'tensor "b": its data begins at 5, leaving a hole after tensor "a", which ends at 4' },
            { "a hole at the start", build("{" .. b .. "}", "12345678"), "leaving a hole after the start" },
            { "missing data", build("{" .. a .. "," .. b .. "}", "1234567"),
                "the tensors take 8 bytes of data, the file has 7" },
            { "data left over", build("{" .. a .. "}", "12345"), "the tensors take 4 bytes of data, the file has 5" },
        }
        for _, case in ipairs(cases) do
            it(case[1], function()
                local problem = files.fails("format", case[3], load_bytes, case[2])
                assert(problem.message:find("x.safetensors: ", 1, true))
            end)
        end

        it("more dimensions than a tensor has", function()
            files.fails("unsupported", "9 dimensions, at most 8", load_bytes,
                build(one("U8", "[1,1,1,1,1,1,1,1,1]", 0, 1), "1"))
        end)
    end)
end)
