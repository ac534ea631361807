--- steer.load and steer.save as a whole: choosing the format, options, pickles, and saves that fail and leave no trace.
-- devices: cpu cuda
local steer = require "steer"
local files = require "files"

local T = steer.tensor

local function fails(code, text, ...) return files.fails(code, text, ...) end

describe("load", function()
    it("reports absent files, folders and bad paths", function()
        fails("not_found", "absent.npy: cannot open", steer.load, files.path "absent.npy")
        fails("not_found", "/nowhere/x.npy", steer.load, files.path "nowhere/x.npy")
        fails("io", "is a folder", steer.load, files.folder)
        fails("invalid_argument", "path: expected the name of a file, got nothing", steer.load)
        fails("invalid_argument", "path", steer.load, {})
        fails("invalid_argument", "path: is empty", steer.load, "")
        fails("invalid_argument", "zero byte", steer.load, "a\0b.npy")
        os.execute("mkfifo '" .. files.path "pipe.npy" .. "'")
        fails("io", "pipe", steer.load, files.path "pipe.npy")
    end)

    it("wants name and content to agree", function()
        steer.save(files.path "a.npy", T.zeros({ 2 }))
        local npy = files.get(files.path "a.npy")
        fails("format", "the content is not safetensors, it looks like npy", steer.load,
            files.put("b.safetensors", npy))
        fails("format", "the content is not gguf, it looks like npy", steer.load, files.put("b.gguf", npy))
        fails("unsupported", "the extension .txt is not known", steer.load, files.put("b.txt", npy))
        fails("unsupported", "the extension (none) is not known", steer.load, files.put("b", npy))
        assert.same({ 0, 0 }, steer.load(files.put("UPPER.NPY", npy)):totable())
        for _, name in ipairs { "e.npy", "e.safetensors", "e.gguf" } do
            fails("format", name .. ": the file is empty", steer.load, files.put(name, ""))
        end
    end)

    it("refuses pickles with advice, by name and by content", function()
        local pickle = "\128\2}q\0." .. ("x"):rep(30)
        for _, name in ipairs { "a.pt", "a.pth", "a.bin", "a.ckpt", "a.pkl", "a.safetensors", "a.npy", "a.npz" } do
            fails("unsupported", "safetensors.torch.save_file", steer.load, files.put(name, pickle))
        end
        fails("unsupported", "rename it to .pt", steer.load, files.put("a.safetensors", "PK\3\4" .. ("x"):rep(30)))
        fails("unsupported", "can run code", steer.load, files.put("a.pickle", "(dp0\n."))
        -- A header of 640 bytes begins as a pickle does.
        steer.save(files.path "a.safetensors", { a = T.zeros({ 1 }) }, { pad = "" })
        local pad = 640 - files.get(files.path "a.safetensors"):byte(1)
        steer.save(files.path "a.safetensors", { a = T.zeros({ 1 }) }, { pad = ("x"):rep(pad) })
        assert.equal("\128\2", files.get(files.path "a.safetensors"):sub(1, 2))
        assert.same({ 0 }, steer.load(files.path "a.safetensors").a:totable())
    end)

    it("names what people have in place of a file", function()
        for _, name in ipairs { "a.safetensors", "a.gguf", "a.npy", "a.npz", "a.pt", "a.svec", "a.txt" } do
            fails("format", name .. ": is a Git LFS pointer, not the file itself; fetch the file with: git lfs pull",
                steer.load, files.put(name, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7\nsize 12\n"))
            for _, page in ipairs { "<!DOCTYPE html>\n<html>", "\n  <html lang=en>", "\239\187\191<!doctype html>" } do
                fails("format", name .. ": is a web page, not the file itself; download the raw file", steer.load,
                    files.put(name, page))
            end
        end
    end)

    it("checks its options", function()
        local path = files.path "o.safetensors"
        steer.save(path, { a = T.zeros({ 1 }) })
        assert.equal("cpu", steer.load(path, { device = "cpu" }).a.device)
        assert.equal("cpu", steer.load(path, { device = steer.device "cpu" }).a.device)
        fails("invalid_argument", 'did you mean "device"', steer.load, path, { devise = "cpu" })
        fails("invalid_argument", "only", steer.load, path, { only = "a" })
        fails("invalid_argument", "opts.only[1]", steer.load, path, { only = { {} } })
        fails("invalid_argument", "opts", steer.load, path, "cpu")
        assert(not pcall(steer.load, path, { device = "tpu" }))
    end)
end)

describe("save", function()
    teardown(files.done)

    it("checks its arguments before it touches the disk", function()
        local path, before = files.path "x.safetensors", files.listing()
        fails("invalid_argument", "path: expected the name of a file", steer.save)
        fails("unsupported", "the extension .txt", steer.save, files.path "x.txt", { a = T.zeros({ 1 }) })
        fails("unsupported", "files of .pt are only read", steer.save, files.path "x.pt", { a = T.zeros({ 1 }) })
        fails("invalid_argument", "value: expected {name = tensor}, got nothing", steer.save, path)
        fails("invalid_argument", "value: expected {name = tensor}, got a tensor", steer.save, path, T.zeros({ 1 }))
        fails("invalid_argument", 'value["a"]: expected a tensor, got 5', steer.save, path, { a = 5 })
        fails("invalid_argument", "value: the key 0.5 is neither a name nor a layer", steer.save, path,
            { [0.5] = T.zeros({ 1 }) })
        fails("invalid_argument", "value: the key -1 is neither", steer.save, path, { [-1] = T.zeros({ 1 }) })
        fails("invalid_argument", "value: layer.1 and the layer in its name are both there", steer.save, path,
            { T.zeros({ 1 }), ["layer.1"] = T.zeros({ 1 }) })
        fails("invalid_argument", "__metadata__", steer.save, path, { __metadata__ = T.zeros({ 1 }) })
        fails("invalid_argument", "not UTF-8", steer.save, path, { ["\255"] = T.zeros({ 1 }) })
        fails("invalid_argument", "metadata: expected a table", steer.save, path, {}, "note")
        fails("invalid_argument", "metadata.a: expected a string", steer.save, path, {}, { a = {} })
        fails("invalid_argument", "metadata: the key 1", steer.save, path, {}, { "a" })
        fails("invalid_argument", "metadata.a", steer.save, path, {}, { a = "\255" })
        fails("invalid_argument", "unknown option", steer.save, path, {}, nil, { layer_offset = 1 })
        local closed = T.zeros({ 1 })
        closed:close()
        fails("closed", 'value["a"]', steer.save, path, { a = closed })
        assert.equal(before, files.listing())
    end)

    it("writes directions by layer under names that are read as their layers", function()
        local path, directions = files.path "by_layer.safetensors", {}
        for layer = 0, 11 do directions[layer] = T.full({ 4 }, layer + 1) end
        steer.save(path, directions)
        local loaded = steer.load(path)
        assert.same({ 1, 1, 1, 1 }, loaded["layer.0"]:totable())
        assert.same({ 12, 12, 12, 12 }, loaded["layer.11"]:totable())
        local spec = steer.load_spec(path, { op = "add", layers = { 0, 11 } })
        assert.same({ 0, 11 }, spec:layers())
        local given = { path = path, scale = 2, layers = { 11 } }
        spec = require("steer.spec.command_line").spec({ hidden = 4, layers = 12 }, given)
        assert.same({ 11 }, spec:layers())
    end)

    it("reports a missing folder, a folder in the way, and a device", function()
        local value = { a = T.zeros({ 1 }) }
        fails("not_found", "nowhere/x.safetensors: cannot open its folder", steer.save,
            files.path "nowhere/x.safetensors", value)
        files.put("file", "")
        fails("not_found", "Not a directory", steer.save, files.path "file/x.safetensors", value)
        os.execute("mkdir '" .. files.path "d.safetensors" .. "'")
        fails("io", "is a folder", steer.save, files.path "d.safetensors", value)
        assert.is_false(pcall(steer.save, "/proc/x.safetensors", value))
    end)

    it("leaves the old file when the system stops the writing", function()
        local path = files.path "kept.safetensors"
        steer.save(path, { a = T.from({ 1, 2 }) })
        local old, before = files.get(path), files.listing()
        local body = [[
local steer = require "steer"
local ok, problem = pcall(steer.save, %q, { a = steer.tensor.zeros({ 1000000 }) })
io.write(tostring(ok), " ", tostring(problem))]]
        local text = files.script(body:format(path), "trap '' XFSZ; ulimit -f 100;")
        assert(text:find("^false io: .*kept.safetensors: cannot write: File too large"), text)
        os.remove(files.path "script.lua")
        assert.equal(old, files.get(path))
        assert.equal(before, files.listing())
    end)

    it("takes tensors and views of any device, and loads to it", function()
        local device = os.getenv "STEER_TEST_DEVICE" or "cpu"
        local x = T.randn({ 30, 7 }, { device = device, seed = 3 })
        local path = files.path "device.safetensors"
        steer.save(path, { x = x, turned = x:transpose(1, 2), part = x:narrow(2, 3, 2):to "bf16" })
        local loaded = steer.load(path, { device = device })
        assert.equal(device, loaded.x.device)
        assert.same(x:totable(), loaded.x:totable())
        assert.same(x:transpose(1, 2):totable(), loaded.turned:totable())
        assert.same(x:narrow(2, 3, 2):to("bf16"):totable(), loaded.part:totable())
        for _, extension in ipairs { "npy", "gguf" } do
            path = files.path("device." .. extension)
            steer.save(path, extension == "npy" and x[2] or { [2] = x[2] })
            local got = steer.load(path, { device = device })
            assert.same(x[2]:totable(), (extension == "npy" and got or got[2]):totable())
        end
    end)

    it("drops the file when a tensor cannot be written", function()
        local io_file = require "steer.io._file"
        local path, before = files.path "dropped.npy", files.listing()
        local ok, problem = pcall(io_file.write, path, function(writer)
            writer:bytes "half"
            error("stop", 0)
        end)
        assert.same({ false, "stop" }, { ok, problem })
        assert.equal(before, files.listing())
    end)

    it("writes through a link and keeps permissions", function()
        local path, link = files.path "real.npy", files.path "link.npy"
        steer.save(path, T.zeros({ 1 }))
        os.execute(("chmod 600 '%s'; ln -s real.npy '%s'"):format(path, link))
        steer.save(link, T.ones({ 1 }))
        assert.same({ 1 }, steer.load(path):totable())
        local pipe = io.popen(("stat -c %%a '%s'; readlink '%s'"):format(path, link))
        assert.equal("600\nreal.npy\n", pipe:read "*a")
        pipe:close()
    end)
end)
