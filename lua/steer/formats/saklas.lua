--- The profiles of saklas: layer_N tensors in a safetensors file and, beside it, NAME.json, which says what they are.
--
-- The strength of each layer is in the length of its vector, so they are added as they are after layer N.
local json = require "steer.core.json"
local file = require "steer.io._file"
local tables = require "steer.core.tables"

local M = {}

local MAX_SIDECAR = 2 ^ 24 -- bytes

-- The object in NAME.json, or nil if there is no such file.
local function read_sidecar(path)
    local sidecar = path:gsub("%.[^./]+$", "") .. ".json"
    local found, map = pcall(file.open, sidecar)
    if not found then
        if map.code == "not_found" then return nil, sidecar end
        error(map, 0)
    end
    require("steer.io").content_kind(map) -- names what is no file at all
    if map.size > MAX_SIDECAR then map:fail("%.0f bytes are above the limit of %d", map.size, MAX_SIDECAR) end
    local value, problem = json.decode(map:bytes(0, map.size, "the text"))
    if type(value) ~= "table" then map:fail("not JSON: %s", problem or "expected an object") end
    return value, sidecar
end

--- Whether names of tensors are those of a profile or of another artifact of saklas.
-- @treturn string "profile", "manifold" or nil
function M.kind(tensors)
    local kind
    for _, name in ipairs(tables.keys(tensors)) do
        if name:find "^layer_%d+%.basis$" then return "manifold" end
        if not name:find "^layer_%d+$" or kind == "none" then kind = "none" else kind = "profile" end
    end
    return kind ~= "none" and kind or nil
end

local function check_vector(map, name, tensor)
    if tensor.ndim ~= 1 or tensor.dtype ~= "f32" or #name > 12 then
        map:fail("%s: %s %s, expected a vector of f32", file.quote(name), tensor.dtype, file.shape_text(tensor:shape()))
    end
end

--- Reads the tensors of a mapped file.
-- @tparam table tensors by name
-- @tparam string kind what M.kind says
-- @treturn table what open.lua makes a spec of; nil if there is no NAME.json, and its path
function M.read(map, tensors, kind)
    if kind == "manifold" then
        map:refuse("it is a fitted manifold of saklas, which moves hidden states toward points of a surface: Steer has "
            .. "no such operation. One of two nodes is a direction: write it with saklas pack export gguf")
    end
    local sidecar, path = read_sidecar(map.path)
    if not sidecar then return nil, path end
    if type(sidecar.format_version) ~= "number" or type(sidecar.method) ~= "string" then
        map:fail("%s has no format_version and method: it is not what saklas writes beside a profile", path)
    end
    local records = {}
    for _, name in ipairs(tables.keys(tensors)) do
        check_vector(map, name, tensors[name])
        records[#records + 1] = { layer = tonumber(name:match "%d+"), op = "add", vector = tensors[name] }
    end
    return {
        format = ("saklas profile, version %g, method %s"):format(sidecar.format_version, sidecar.method),
        records = records, layers = "layer_N acts after layer N, as saklas has it",
        operation = "add", strength = "1 times the vectors, whose lengths are the strengths of the layers",
    }
end

return M
