--- Files: steer.load and steer.save by the extension of a file.
local raise = require("steer.core.error").raise
local check = require "steer.core.check"
local options = require "steer.core.options"
local file = require "steer.io._file"
local tables = require "steer.core.tables"

local M = {}

-- What each format is called by the extension of its files: its module and the options that it takes; a format without
-- `save` is only read.
local pytorch = { module = "steer.io.pt", content = "zip", load = { device = true, only = "table" } }
local formats = {
    safetensors = { module = "steer.io.safetensors", load = { device = true, only = "table" }, save = {} },
    npy = { module = "steer.io.npy", load = { device = true }, save = {} },
    npz = { module = "steer.io.npz", content = "zip", load = { device = true, only = "table" } },
    gguf = {
        module = "steer.io.gguf",
        load = { device = true, only = "table", layer_offset = "number" },
        save = { layer_offset = "number" },
    },
    glp = { module = "steer.io.gguf", content = "gguf", load = { device = true, only = "table" } },
    svec = { module = "steer.io.svec", load = { device = true, only = "table" } },
    pt = pytorch, pth = pytorch, bin = pytorch, ckpt = pytorch, pkl = pytorch, pickle = pytorch,
}
for name, format in pairs(formats) do format.content = format.content or name end

local KNOWN = {
    load = ".safetensors, .npy, .npz, .gguf, .glp, .svec or .pt", save = ".safetensors, .npy or .gguf",
}
local PICKLE_ADVICE = "looks like a pickle outside of PyTorch's archives (joblib, or PyTorch before 1.6): it can run "
    .. "code when it is read, so Steer does not; convert it in Python: "
    .. "safetensors.torch.save_file({'direction': tensor}, 'x.safetensors')"

local function extension(path)
    return (path:match "%.([^./]+)$" or ""):lower()
end

-- What people have in place of a file: how its content begins, in small letters, and what to do.
local imposters = {
    { "^version https://git%-lfs", "is a Git LFS pointer, not the file itself; fetch the file with: git lfs pull" },
    { "^%s*<!doctype", "is a web page, not the file itself; download the raw file" },
    { "^%s*<html", "is a web page, not the file itself; download the raw file" },
}

--- Says what the content of a mapped file is: "safetensors", "gguf", "npy", "zip", "pickle" or "svec" (an object of
-- JSON); nil if it says nothing.
-- @raise format for what people have in place of a file (a Git LFS pointer, a web page)
function M.content_kind(map)
    local start = map:bytes(0, math.min(map.size, 64), "start")
    local text = start:gsub("^\239\187\191", ""):lower()
    for _, imposter in ipairs(imposters) do
        if text:find(imposter[1]) then map:fail("%s", imposter[2]) end
    end
    if start:sub(1, 6) == "\147NUMPY" then return "npy" end
    if start:sub(1, 4) == "GGUF" then return "gguf" end
    if start:sub(9, 9) == "{" and start:find("%z", 1) then return "safetensors" end
    if start:find "^PK[\3\5]" then return "zip" end
    if start:find "^\128[\1-\5]" then return "pickle" end
    if text:find "^%s*{" then return "svec" end
end

local function refuse_extension(op, path, ext)
    raise("unsupported", op, "%s: the extension %s is not known, expected %s", path,
        ext == "" and "(none)" or "." .. ext, KNOWN[op])
end

-- The format of a mapped file, when name and content agree.
local function detect(map)
    local ext, kind = extension(map.path), M.content_kind(map)
    local format = formats[ext]
    if kind == "pickle" or format == pytorch and not kind and map.size > 0 then map:refuse("%s", PICKLE_ADVICE) end
    if not format then refuse_extension("load", map.path, ext) end
    if map.size == 0 then map:fail("the file is empty") end
    if kind == "zip" and format.content ~= "zip" then
        map:refuse "the content is a zip archive; if PyTorch wrote it, rename it to .pt, if NumPy did, to .npz"
    elseif kind ~= format.content and (kind or ext ~= "safetensors") then
        map:fail("the content is not %s%s", ext, kind and ", it looks like " .. kind or "")
    end
    return format
end

-- Raises for an option of the format among the metadata, which would be written as such.
local function check_metadata(metadata, known)
    for _, key in ipairs(tables.keys(metadata)) do
        for _, option in ipairs(tables.keys(known)) do
            if type(key) == "string" and options.distance(key:lower(), option) <= 2 then
                raise("invalid_argument", "save", "metadata.%s: %s is an option, and options come fourth: "
                    .. "steer.save(path, directions, nil, {%s = 1})", key, option, option)
            end
        end
    end
end

local function check_options(op, opts, known)
    local checked = options.check(op, opts, known)
    for i, item in ipairs(checked.only or {}) do
        if type(item) ~= "string" and type(item) ~= "number" then
            raise("invalid_argument", op, "opts.only[%d]: expected a name or a layer, got %s", i, check.describe(item))
        end
    end
    if checked.layer_offset then check.integer(op, "opts.layer_offset", checked.layer_offset, -1023, 1023) end
    return checked
end

-- Moves the tensors of a value, which may be tables in tables; one that is there twice is moved once.
local function to_device(value, device, seen)
    if file.is_tensor(value) then return value:to(device) end
    if type(value) ~= "table" or seen[value] then return value end
    seen[value] = true
    for _, key in ipairs(tables.keys(value)) do value[key] = to_device(value[key], device, seen) end
    return value
end

--- Loads a file by its extension.
--   .safetensors: returns name -> tensor, and the metadata (string -> string)
--   .npy:         returns a tensor
--   .npz:         returns name -> tensor
--   .gguf (.glp): control vectors: returns layer -> tensor ([rank, hidden] where a GLP file has several directions of
--                 a layer), and the metadata; steer.add refuses what a GLP file projects
--   .svec:        vectors of IBM's activation-steering: returns layer -> tensor, and {model_type, explained_variances}
--   .pt (.pth, .bin, .ckpt): what torch.save wrote: tensors, dictionaries and lists of them and plain values, as
--                 tensors, tables and values; lists count from 1, None is nil. Nothing in the file is run: what is no
--                 such value is refused by its name
-- float64 becomes f32, each number rounded once. Tensors on the CPU are views of the file where it holds them as they
-- are: nothing is read before it is used, and writing to them does not change the file. The file must not be shortened
-- while they are alive: reading what it lost ends the process with a message. Saving over it is safe.
-- @tparam string path
-- @tparam[opt] table opts device ("cpu"); only: list of the names (layers) to load, not for .npy; what it leaves out
-- may have any dtype of the format; layer_offset: for .gguf, added to N of direction.N
-- @raise not_found, io, format (damaged, or not what its name says), unsupported (whole, but nothing that Steer reads)
function M.load(path, opts)
    local map = file.open(path)
    local format = detect(map)
    opts = check_options("load", opts, format.load)
    local value, metadata = require(format.module).read(map, opts)
    return opts.device and to_device(value, opts.device, {}) or value, metadata
end

--- Saves a file by its extension. It appears whole or not at all; what was there before is replaced at the end.
--   .safetensors: value is {name = tensor}, or {[layer] = tensor}, named layer.N; metadata values are
--                 strings, numbers or booleans, stored as text
--   .npy:         value is a tensor (not bf16, which NumPy lacks); no metadata
--   .gguf:        value is {[layer] = vector}; metadata values are strings, numbers or booleans
-- @tparam string path
-- @param value what to save, on any device
-- @tparam[opt] table metadata
-- @tparam[opt] table opts layer_offset: for .gguf, layer N is written as direction.(N + layer_offset)
-- @raise invalid_argument, shape_mismatch, dtype_mismatch, unsupported, io, not_found (no such folder)
function M.save(path, value, metadata, opts)
    check.type("save", "path", path, "string", "the name of a file")
    local ext = extension(path)
    local format = formats[ext]
    if not format then refuse_extension("save", path, ext) end
    if not format.save then
        raise("unsupported", "save", "%s: files of .%s are only read, use %s", path, ext, KNOWN.save)
    end
    if metadata ~= nil then
        check_metadata(check.type("save", "metadata", metadata, "table", "a table of strings"), format.save)
    end
    opts = check_options("save", opts, format.save)
    require(format.module).write(path, value, metadata, opts)
end

return M
