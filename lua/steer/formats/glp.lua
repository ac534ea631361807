--- What a GLP file does: its mode is the operation, its alphas are the strengths. io/glp.lua has the format.
local tables = require "steer.core.tables"

local M = {}

local TOLERANCE = 1e-3 -- of norms and products of directions, as the format's own reader has it

local function direction(tensor, j) return tensor.ndim == 2 and tensor:select(1, j) or tensor end

-- Raises unless the directions of a layer are of norm 1 and orthogonal: the alphas mean nothing else.
local function check_basis(map, layer, tensor, rank)
    for j = 1, rank do
        local d = direction(tensor, j)
        local norm = d:norm()
        if norm ~= norm or math.abs(norm - 1) > TOLERANCE then
            map:fail("layer %d: direction %d has norm %g, expected 1: what is projected away grows with its square",
                layer, j - 1, norm)
        end
        for k = 1, j - 1 do
            local product = d:dot(direction(tensor, k))
            if math.abs(product) > TOLERANCE then
                map:fail("layer %d: directions %d and %d are not orthogonal (product %g)", layer, k - 1, j - 1, product)
            end
        end
    end
end

local function model_line(metadata)
    local name, version = metadata["general.base_model.0.name"], metadata["general.base_model.0.version"]
    if type(name) ~= "string" then return nil end
    local text = "made for " .. name
    if type(version) == "string" then text = text .. " at " .. version end
    return text .. "; of another model its directions mean nothing"
end

local function site_line(stated)
    if not stated.site then return "after the layer: assumed, the file has no glp.hook_point" end
    if type(stated.derived_at) == "string" and stated.derived_at ~= stated.site then
        return ("after the layer (%s), from hidden states of another place (%s)"):format(stated.site, stated.derived_at)
    end
    return "after the layer (" .. stated.site .. ")"
end

--- Gives the operations: h - alpha*(h.d)*d for every direction of mode "project", h + d of mode "add".
-- @param map of the file
-- @tparam table vectors, metadata, stated what io/gguf.lua read
-- @treturn table what open.lua makes a spec of
function M.read(map, vectors, metadata, stated)
    local project, records = stated.mode == "project", {}
    for _, layer in ipairs(tables.keys(vectors)) do
        if project then check_basis(map, layer, vectors[layer], stated.rank) end
        for j = 1, stated.rank do
            local alpha = stated.alpha * stated.by_direction[j] * (stated.by_layer[layer] or 1)
            records[#records + 1] = {
                layer = layer, op = project and "ablate" or "add", vector = direction(vectors[layer], j),
                scale = project and 1 - alpha or 1,
            }
        end
    end
    local alphas = metadata["glp.dir_scales"] and ", by direction" or ""
    if metadata["glp.layer_scales"] then alphas = alphas .. ", by layer" end
    return {
        format = "GLP (GGUF), mode " .. stated.mode .. (metadata["glp.mode"] and "" or ", which no glp.mode means"),
        records = records, layers = "direction.N acts after layer N, as GLP has it", site = site_line(stated),
        operation = project and "h - alpha*(h.d)*d, which is ablate with the scale 1 - alpha; it is refused by add"
            or "h + d", states_operation = true, model = model_line(metadata),
        strength = project and ("alpha = %g%s, as the file says"):format(stated.alpha, alphas)
            or "1: in mode add the vectors have their strength in them",
    }
end

return M
