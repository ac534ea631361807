--- The .svec files of IBM's activation-steering: a direction of norm 1 per layer, and no strength.
--
-- Layer N is the output of decoder layer N, where its library measures it. The library adds it before layer N, which is
-- after layer N - 1; {layer_offset = -1} puts it there.
local svec = require "steer.io.svec"
local tables = require "steer.core.tables"

local M = {}

--- Reads a mapped file, whose JSON is `value`.
-- @treturn table what open.lua makes a spec of
function M.read(map, value, opts)
    local vectors, metadata = svec.read(map, {}, value)
    local records, offset = {}, opts.layer_offset or 0
    for _, layer in ipairs(tables.keys(vectors)) do
        if vectors[layer].ndim ~= 1 then
            map:refuse("layer %d has a vector for each of %d positions, expected one", layer, vectors[layer]:size(1))
        end
        records[#records + 1] = { layer = layer + offset, op = "add", vector = vectors[layer] }
    end
    local model = metadata.model_type and ", model type " .. metadata.model_type or ""
    return {
        format = "activation-steering (.svec)" .. model,
        records = records,
        layers = (opts.layer_offset and "N acts after layer N %s %d (the option layer_offset)"
            or "N acts after layer N, where it was measured; activation-steering itself adds it before layer N: "
            .. "layer_offset = -1"):format(offset < 0 and "-" or "+", math.abs(offset)),
    }
end

return M
