--- Files: steer.load and steer.save for .safetensors, .npy and .gguf control vectors.
local raise = require("steer._error").raise
local check = require "steer._check"
local options = require "steer._options"
local file = require "steer.io._file"
local walk = require "steer._walk"

local M = {}

-- What each format is called, the options it takes, and how its content begins.
local formats = {
    safetensors = { module = "steer.io.safetensors", load = { device = true, only = "table" }, save = {} },
    npy = { module = "steer.io.npy", load = { device = true }, save = {} },
    gguf = {
        module = "steer.io.gguf",
        load = { device = true, only = "table", layer_offset = "number" },
        save = { layer_offset = "number" },
    },
}

local archives = { pt = true, pth = true, bin = true, ckpt = true, pkl = true, pickle = true, npz = true }
local PICKLE_ADVICE = "it can run code when it is read, so Steer does not; convert it in Python: "
    .. "safetensors.torch.save_file({'direction': tensor}, 'x.safetensors')"
local NPZ_ADVICE = "an archive of arrays; save each one in Python: np.save('x.npy', arrays['name'])"

local function extension(path)
    return (path:match "%.([^./]+)$" or ""):lower()
end

-- What the content says it is; nil if it says nothing.
local function content_kind(map)
    local start = map:bytes(0, math.min(map.size, 9), "start")
    if start:sub(1, 6) == "\147NUMPY" then return "npy" end
    if start:sub(1, 4) == "GGUF" then return "gguf" end
    if start:sub(9, 9) == "{" then return "safetensors" end
    if start:sub(1, 4) == "PK\3\4" then return "zip" end
    if start:find "^\128[\2-\5]" then return "pickle" end
end

local function refuse_extension(op, path, ext)
    raise("unsupported", op, "%s: the extension %s is not known, expected .safetensors, .npy or .gguf", path,
        ext == "" and "(none)" or "." .. ext)
end

-- The format of a mapped file, when name and content agree.
local function detect(map)
    local ext, kind = extension(map.path), content_kind(map)
    if ext == "npz" then raise("unsupported", "load", "%s: %s", map.path, NPZ_ADVICE) end
    if archives[ext] and (kind == nil or kind == "zip" or kind == "pickle") or kind == "pickle" or kind == "zip" then
        raise("unsupported", "load", "%s: looks like a pickle or an archive of one (PyTorch, joblib): %s", map.path,
            PICKLE_ADVICE)
    end
    if not formats[ext] then refuse_extension("load", map.path, ext) end
    if map.size == 0 then map:fail("the file is empty") end
    if kind ~= ext and (kind or ext ~= "safetensors") then
        map:fail("the content is not %s%s", ext, kind and ", it looks like " .. kind or "")
    end
    return formats[ext]
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

local function to_device(value, device)
    if not device then return value end
    if type(value) == "table" and not file.is_tensor(value) then
        for _, key in ipairs(walk.keys(value)) do value[key] = value[key]:to(device) end
        return value
    end
    return value:to(device)
end

--- Loads a file by its extension.
--   .safetensors: returns name -> tensor, and the metadata (string -> string)
--   .npy:         returns a tensor
--   .gguf:        control vectors: returns layer -> tensor, and the metadata
-- Tensors on the CPU are views of the file: nothing is read before it is used, and writing to them does not change the
-- file. The file must not be shortened while they are alive; saving over it is safe.
-- @tparam string path
-- @tparam[opt] table opts device ("cpu"); only: list of the names (layers) to load, not for .npy; layer_offset: for
-- .gguf, added to N of direction.N
-- @raise not_found, io, format (malformed), unsupported (pickles, other formats)
function M.load(path, opts)
    local map = file.open(path)
    local format = detect(map)
    opts = check_options("load", opts, format.load)
    local value, metadata = require(format.module).read(map, opts)
    return to_device(value, opts.device), metadata
end

--- Saves a file by its extension. It appears whole or not at all; what was there before is replaced at the end.
--   .safetensors: value is {name = tensor}; metadata values are strings, numbers or booleans, stored as text
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
    if archives[ext] then
        raise("unsupported", "save", "%s: Steer writes no pickles or archives, use .safetensors", path)
    end
    if not format then refuse_extension("save", path, ext) end
    if metadata ~= nil then check.type("save", "metadata", metadata, "table", "a table of strings") end
    opts = check_options("save", opts, format.save)
    require(format.module).write(path, value, metadata, opts)
end

return M
