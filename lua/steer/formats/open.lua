--- Opens a file of steering, told by its content: what the modules of this folder read, as a spec.
--
-- Each of them gives { records, format, layers, site, operation, strength, model }: what is done, and in words what the
-- file says of it or what was assumed. A record is { layer, op, vector, scale, normalize, where, exclude, at }.
-- states_operation tells that the file itself says what is done, so that nobody may say otherwise.
local check = require "steer.core.check"
local conditions = require "steer.spec.conditions"
local error_object = require "steer.core.error"
local exists = require("steer.core.durable").exists
local file = require "steer.io._file"
local io = require "steer.io"
local low_rank = require "steer.low_rank"
local options = require "steer.core.options"
local scope = require "steer.spec.scope"
local tables = require "steer.core.tables"
local raise = error_object.raise

local M = {}

local OP = "load_spec"
local OPTIONS = {
    scale = "number", layers = "table", layer_offset = "number", op = "string", where = true, exclude = true,
    when = "table",
}
local EXPECTED = "expected what spec:save writes, GGUF control vectors, GLP, .svec, a saklas profile, a folder of "
    .. "pyreft, a steering spec of EasySteer or vectors of PyTorch"

-- Operations that may be asked of files that name none.
local ASKED = { add = { op = "add" }, ablate = { op = "ablate", scale = 0 } }

-- What makes an operation of a record.
local makers = {
    add = function(spec, record, opts) return spec.add(record.vector, record.scale, opts) end,
    ablate = function(spec, record, opts) return spec.ablate(record.vector, record.scale, opts) end,
    replace = function(spec, record, opts) return spec.replace(record.vector, record.scale, opts) end,
    keep_norm = function(spec, _, opts) return spec.keep_norm(opts) end,
    affine = function(spec, record, opts)
        opts.bias, opts.scale = record.bias, record.scale
        return spec.affine(record.read, record.write, opts)
    end,
    linear = function(_, record, opts)
        opts.bias = record.bias
        return low_rank.linear(record.matrix, opts)
    end,
}
for _, name in ipairs { "loreft", "noreft", "direft" } do
    makers[name] = function(_, record, opts)
        for _, key in ipairs { "rotate", "project", "project_bias", "weight", "bias", "scale", "orthonormal" } do
            opts[key] = record[key]
        end
        return low_rank[name](opts)
    end
end

-- ---- Formats -------------------------------------------------------------------------------------------------------

-- Vectors by layer in a safetensors file that says nothing of steering: read when the caller says what is done.
local function read_plain(map, tensors, opts)
    local records = {}
    for _, name in ipairs(tables.keys(tensors)) do
        local layer = #name < 100 and tonumber(name:match "(%d+)$")
        if not layer or tensors[name].ndim ~= 1 then
            map:fail("%s is not a vector whose name ends in its layer", file.quote(name))
        end
        records[#records + 1] = { layer = layer, op = opts.op, vector = tensors[name] }
    end
    return { format = "vectors (safetensors)", records = records, layers = "the number that ends a name is the layer: "
        .. "assumed" }
end

local function read_safetensors(map, opts, spec)
    local saklas = require "steer.formats.saklas"
    local tensors, metadata = require("steer.io.safetensors").read(map, {})
    if metadata["steer.kind"] == "spec" then
        return { spec = require("steer.spec.file").make(map.path, tensors, metadata, spec) }
    end
    local kind, sidecar = saklas.kind(tensors), nil
    if kind then
        local read
        read, sidecar = saklas.read(map, tensors, kind)
        if read then return read end
    end
    if opts.op then return read_plain(map, tensors, opts) end
    return map:fail('the file holds no steering spec: its metadata has no steer.kind = spec%s; with the option op = '
        .. '"add" or "ablate" its vectors are read by the layer that ends their names', sidecar
        and ", and there is no " .. sidecar .. ", which saklas writes beside a profile" or "")
end

local function read_json(map, opts)
    local value = require("steer.io.svec").decode(map)
    if value.directions then return require("steer.formats.svec").read(map, value, opts) end
    if value.vectors then return require("steer.formats.easysteer").read(map, value) end
    if value.representations then map:refuse "it is a configuration of pyreft: open the folder that it is in" end
    if value.tensor_sha256 then map:refuse "it is what saklas writes beside a profile: open the .safetensors" end
    return map:refuse("%s; this JSON has neither directions (.svec) nor vectors (EasySteer)", EXPECTED)
end

local readers = {
    safetensors = read_safetensors,
    gguf = function(map, opts) return require("steer.formats.control_vector").read(map, opts) end,
    zip = function(map, opts) return require("steer.formats.torch").read(map, opts) end,
    svec = read_json,
}

local function read(path, opts, spec)
    if exists(path .. "/.") then
        local pyreft = require "steer.formats.pyreft"
        local folder = pyreft.folder(path)
        if folder then return pyreft.read(folder) end
        raise("not_found", OP, "%s: is a folder without config.json; of folders those of pyreft are read", path)
    end
    local map = file.open(path)
    if map.size == 0 then map:fail "the file is empty" end
    local kind = io.content_kind(map)
    local reader = readers[kind]
    if not reader then
        map:refuse("%s, which says nothing of steering: %s", kind and "the content is " .. kind
            or "the content is in no format that is known", EXPECTED)
    end
    return reader(map, opts, spec)
end

-- ---- Specs ---------------------------------------------------------------------------------------------------------

-- What a call asks for, checked before anything is read.
local function check_options(opts)
    opts = options.check(OP, opts, OPTIONS)
    if opts.scale then
        check.number(OP, "opts.scale", opts.scale)
        if opts.scale ~= opts.scale or math.abs(opts.scale) == math.huge then
            raise("invalid_argument", OP, "opts.scale: %g, expected a finite number", opts.scale)
        end
    end
    if opts.op and not ASKED[opts.op] then
        raise("invalid_argument", OP, "opts.op: %s, expected %s", check.describe(opts.op), options.choice(ASKED))
    end
    if opts.layer_offset then check.integer(OP, "opts.layer_offset", opts.layer_offset, -1023, 1023) end
    for i = 1, opts.layers and check.list(OP, "opts.layers", opts.layers) or 0 do
        check.integer(OP, "opts.layers[" .. i .. "]", opts.layers[i], 0, 1023)
    end
    scope.selector(OP, "where", opts.where)
    scope.selector(OP, "exclude", opts.exclude)
    conditions.take(OP, opts.when)
    return opts
end

-- The records that are asked for, with the operation that is asked for.
local function choose(path, read_file, opts)
    local chosen, found, wanted = {}, {}, {}
    for _, layer in ipairs(opts.layers or {}) do wanted[layer] = true end
    if opts.op and read_file.states_operation and opts.op ~= read_file.records[1].op then
        raise("invalid_argument", OP, "opts.op: %s, but %s says that it is %s: %s", opts.op, path, read_file.format,
            read_file.operation)
    end
    for _, record in ipairs(read_file.records) do
        if opts.op and not read_file.states_operation then
            record.op, record.scale = ASKED[opts.op].op, ASKED[opts.op].scale
        end
        if not opts.layers or wanted[record.layer] then chosen[#chosen + 1] = record end
        found[record.layer] = true
    end
    for _, layer in ipairs(opts.layers or {}) do
        if not found[layer] then raise("not_found", OP, "%s: opts.layers: it has nothing for layer %d", path, layer) end
    end
    return chosen
end

-- What is refused of a file's content is a fault of the file.
local function of_file(path, what, fn, ...)
    local ok, result = pcall(fn, ...)
    if ok then return result end
    local ours = error_object.is(result) and (result.code == "invalid_argument" or result.code == "shape_mismatch")
    if not ours then error(result, 0) end
    return raise("format", OP, "%s: %s%s: %s", path, what, result.op, result.message)
end

local function make_spec(path, records, opts, spec)
    local layers = {}
    for _, record in ipairs(records) do
        local op = of_file(path, ("layer %d: "):format(record.layer), makers[record.op], spec, record, {
            normalize = record.normalize, at = record.at, where = opts.where or record.where,
            exclude = opts.exclude or record.exclude, when = opts.when,
        })
        layers[record.layer] = layers[record.layer] or {}
        table.insert(layers[record.layer], op)
    end
    return of_file(path, "", spec.spec, layers)
end

-- What the spec says of where it comes from.
local function source_lines(path, read_file, opts)
    local lines = { ("from %s: %s"):format(path, read_file.format) }
    local operation = read_file.operation
        or (opts.op and opts.op .. " (the option op)" or "add: assumed, the file names none")
    local strength = read_file.strength or "the file has none: 1"
    if opts.op == "ablate" and not read_file.states_operation then strength = "all of the projection" end
    if opts.scale then strength = ("%s; times %g (the option scale)"):format(strength, opts.scale) end
    local rows = {
        { "layers", read_file.layers }, { "site", read_file.site }, { "operation", operation },
        { "strength", strength }, { "tokens", not opts.where and read_file.tokens }, { "model", read_file.model },
    }
    for i = 1, 6 do
        if rows[i][2] then lines[#lines + 1] = ("  %s: %s"):format(rows[i][1], rows[i][2]) end
    end
    return lines
end

local function open(path, opts, spec)
    opts = check_options(opts)
    local read_file = read(path, opts, spec)
    if read_file.spec then
        if tables.first(opts) ~= nil then
            raise("invalid_argument", OP, "opts.%s: %s is a spec of Steer, which says all of it", tables.first(opts),
                path)
        end
        return read_file.spec
    end
    for i, record in ipairs(read_file.records) do record.order = i end
    table.sort(read_file.records, function(a, b)
        return a.layer < b.layer or a.layer == b.layer and a.order < b.order
    end)
    local made = make_spec(path, choose(path, read_file, opts), opts, spec)
    if opts.scale then made = made:scaled(opts.scale) end
    rawset(made, "source", source_lines(path, read_file, opts))
    return made
end

--- Says how much a file or a folder tells of steering: "spec" (a spec of Steer), "steering" (another format that is
-- read here), or nil (vectors at most).
function M.kind(path)
    if exists(path .. "/.") then return require("steer.formats.pyreft").folder(path) and "steering" end
    local map = file.open(path)
    local content = io.content_kind(map)
    if content == "gguf" or content == "svec" then return "steering" end
    if content ~= "safetensors" then return nil end
    local saklas = require "steer.formats.saklas"
    local tensors, metadata = require("steer.io.safetensors").read(map, {})
    if metadata["steer.kind"] == "spec" then return "spec" end
    local kind = saklas.kind(tensors)
    return (kind == "manifold" or kind and saklas.read(map, tensors, kind)) and "steering" or nil
end

--- Reads what a file or a folder does: see spec.load_spec. `spec` is the module with the constructors.
function M.load(path, opts, spec)
    check.path(OP, "path", path, "the name of a file")
    local ok, result = pcall(open, path, opts, spec)
    if ok then return result end
    if error_object.is(result) and result.op == "load" then
        result = error_object.new(result.code, OP, result.message, result.where)
    end
    return error(result, 0)
end

return M
