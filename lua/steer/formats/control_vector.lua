--- Control vectors in GGUF files, as llama.cpp, repeng, saklas and EasySteer write them, and GLP, which says more.
--
-- The first ones say nothing of what is done with them: their tools add direction.N to the residual stream after layer
-- N, at a strength that is given beside the file. The output of layer N is what repeng, saklas and EasySteer name N.
-- llama.cpp's cvector-generator writes the output of layer L as direction.(L + 1), which llama.cpp adds after layer
-- L + 1.
local glp = require "steer.formats.glp"
local gguf = require "steer.io.gguf"
local tables = require "steer.core.tables"

local M = {}

local OFFSET_KEY = "steer.layer_offset"

local function layers_line(metadata, asked)
    if asked then
        return ("direction.N acts after layer N %s %d (the option layer_offset)"):format(asked < 0 and "-" or "+",
            math.abs(asked))
    elseif metadata[OFFSET_KEY] then
        return ("direction.N acts after layer N %s %d, which the file says (%s)"):format(
            metadata[OFFSET_KEY] > 0 and "-" or "+", math.abs(metadata[OFFSET_KEY]), OFFSET_KEY)
    end
    return "direction.N acts after layer N: assumed, as in llama.cpp, repeng, saklas and EasySteer; the file does not "
        .. "say. In files of llama.cpp's cvector-generator N is one above the layer it measured: layer_offset = -1"
end

-- Who made the file and for what, as far as it says.
local function made_by(metadata)
    local words = {}
    for _, key in ipairs { "model_hint", "method" } do
        local value = metadata["controlvector." .. key]
        if type(value) == "string" then words[#words + 1] = key:gsub("_", " ") .. " " .. value end
    end
    return #words > 0 and ", " .. table.concat(words, ", ") or ""
end

--- Reads a mapped GGUF file.
-- @treturn table what open.lua makes a spec of
function M.read(map, opts)
    local vectors, metadata, stated = gguf.read(map, { layer_offset = opts.layer_offset })
    if stated then return glp.read(map, vectors, metadata, stated) end
    local records = {}
    for _, layer in ipairs(tables.keys(vectors)) do
        records[#records + 1] = { layer = layer, op = "add", vector = vectors[layer] }
    end
    return {
        format = "control vectors (GGUF" .. made_by(metadata) .. ")", records = records,
        layers = layers_line(metadata, opts.layer_offset),
    }
end

return M
