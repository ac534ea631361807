--- GLP (GGUF Layer Projection): GGUF control vectors whose metadata says what is done with them.
--
-- glp.mode = "project" is h - sum over j of alpha_j*(h.d_j)*d_j, "add" (or no mode) is h + d. direction.N is the first
-- direction of layer N, from 1; direction.N.J are the others of a subspace. alpha_j of layer L
-- is glp.alpha_default (1) times glp.dir_scales[j] times glp.layer_scales[L]; those two and several directions need
-- glp.spec_version 2. A file whose site (glp.hook_point) or version is another than what is known here is refused, as
-- the format asks of readers.
-- Source: spec/GLP.md of github.com/msuiche/weightless.
local check = require "steer.core.check"
local file = require "steer.io._file"
local tables = require "steer.core.tables"

local M = {}

local MAX_RANK = 64
local HERE = "residual_stream_post_layer" -- after the layer: what operations of a spec read and write
local WRITES = { ffn_out_pre_residual = "the mlp", attn_out_pre_residual = "attention" }

local function is_finite(x) return type(x) == "number" and x == x and math.abs(x) < math.huge end

local function quoted(value) return type(value) == "string" and file.quote(value) or check.describe(value) end

-- A value of the metadata that must be of this Lua type, or nil.
local function typed(map, metadata, key, kind)
    local value = metadata[key]
    if value ~= nil and type(value) ~= kind then map:fail("%s is %s, expected a %s", key, quoted(value), kind) end
    return value
end

local function check_site(map, metadata)
    local site = typed(map, metadata, "glp.hook_point", "string")
    if site == nil or site == HERE then return end
    if WRITES[site] then
        map:refuse("glp.hook_point is %s: its directions were made for what %s writes, before it is added to the "
            .. "residual stream, and their strength holds there alone; Steer acts on the residual stream (%s)",
            file.quote(site), WRITES[site], HERE)
    end
    map:refuse("glp.hook_point %s is not known, expected %s", file.quote(site), HERE)
end

local function check_version(map, metadata)
    local version = typed(map, metadata, "glp.spec_version", "number") or 1
    if version ~= 1 and version ~= 2 then
        map:refuse("glp.spec_version %.0f is not known (1 and 2 are)", version)
    end
    local rank = typed(map, metadata, "glp.rank", "number") or 1
    if rank % 1 ~= 0 or rank < 1 or rank > MAX_RANK then
        map:refuse("glp.rank is %s, expected 1 to %d", tostring(rank), MAX_RANK)
    end
    for _, key in ipairs { "glp.dir_scales", "glp.layer_scales" } do
        if version == 1 and metadata[key] ~= nil then map:fail("%s needs glp.spec_version 2, the file says 1", key) end
    end
    if version == 1 and rank > 1 then map:fail("glp.rank %d needs glp.spec_version 2, the file says 1", rank) end
    if rank > 1 and metadata["glp.orthonormal"] ~= true then
        map:fail("glp.rank is %d and glp.orthonormal %s, expected true", rank, quoted(metadata["glp.orthonormal"]))
    end
    return rank
end

-- A list of the metadata, "1,2.5", as what `form` captures of each item, in numbers; nil if it is not there.
local function numbers(map, metadata, key, form, expected)
    local text, list = typed(map, metadata, key, "string"), {}
    for part in (text or ""):gmatch "[^,]+" do
        local first, second = part:match("^%s*" .. form .. "%s*$")
        list[#list + 1] = { tonumber(first), tonumber(second or 0) }
        local last = list[#list]
        if not is_finite(last[1]) or not is_finite(last[2]) then
            map:fail("%s: %s, expected %s", key, file.quote(part), expected)
        end
    end
    return text and list
end

-- The layers that the file lists beside the names of its tensors, which must be the same ones.
local function check_layers(map, metadata, layers)
    local listed = numbers(map, metadata, "glp.layer_ids_zero_based", "(%d+)", "layers such as 10,11,12")
    if not listed or #listed == 0 then return end
    local said, same = {}, true
    for _, item in ipairs(listed) do said[item[1]] = true end
    for _, layer in ipairs(tables.keys(layers)) do same = same and said[layer] end
    if not same or #tables.keys(said) ~= #tables.keys(layers) then
        map:fail("glp.layer_ids_zero_based lists other layers than direction.N has: one of them is wrong, and a file "
            .. "that is one layer off steers without an error; have it exported again")
    end
end

-- Multipliers of directions (from 1) and of layers.
local function read_scales(map, metadata, rank)
    local by_direction, by_layer = {}, {}
    local listed = numbers(map, metadata, "glp.dir_scales", "(%S+)", "numbers such as 1,0.5")
    if listed and #listed ~= rank then
        map:fail("glp.dir_scales has %d numbers, expected %d as in glp.rank", #listed, rank)
    end
    for j = 1, rank do by_direction[j] = listed and listed[j][1] or 1 end
    for _, pair in ipairs(numbers(map, metadata, "glp.layer_scales", "(%d+):(%S+)", "pairs such as 10:0.5") or {}) do
        if by_layer[pair[1]] then map:fail("glp.layer_scales: layer %d is there twice", pair[1]) end
        by_layer[pair[1]] = pair[2]
    end
    return by_direction, by_layer
end

--- Checks the metadata and the names of the tensors against each other.
-- @param map from _file.open
-- @tparam table metadata of the file
-- @tparam table infos of its tensors: {layer, index (0: direction.N, j: direction.N.j), dtype, what}
-- @treturn table nil for control vectors that say nothing of GLP; else mode, rank, alpha, by_direction, by_layer
-- @raise format, unsupported
function M.check(map, metadata, infos)
    local mode, older, is_glp = typed(map, metadata, "glp.mode", "string"), false, false
    for _, key in ipairs(tables.keys(metadata)) do
        older, is_glp = older or key:sub(1, 7) == "dspark.", is_glp or key:sub(1, 4) == "glp."
    end
    if older and not is_glp then
        map:refuse "its metadata has the keys dspark.* of before GLP, which are read no more; have it exported again"
    end
    if not is_glp then return nil end
    if mode ~= nil and mode ~= "project" and mode ~= "add" then
        map:refuse("glp.mode %s is not known, expected project or add", file.quote(mode))
    end
    check_site(map, metadata)
    local rank, layers = check_version(map, metadata), {}
    for _, info in ipairs(infos) do
        if info.layer == 0 then map:fail("%s: layers of GLP files count from 1", info.what) end
        if info.dtype ~= "f32" then map:fail("%s: GLP files have F32, found %s", info.what, info.dtype) end
        if info.index >= rank then map:fail("%s: glp.rank is %d", info.what, rank) end
        layers[info.layer] = (layers[info.layer] or 0) + 1
    end
    for _, layer in ipairs(tables.keys(layers)) do
        if layers[layer] ~= rank then
            map:fail("layer %d has %d directions, glp.rank is %d", layer, layers[layer], rank)
        end
    end
    check_layers(map, metadata, layers)
    local alpha = typed(map, metadata, "glp.alpha_default", "number") or 1
    if not is_finite(alpha) then map:fail("glp.alpha_default is %s, expected a number", tostring(alpha)) end
    local by_direction, by_layer = read_scales(map, metadata, rank)
    return { mode = mode or "add", rank = rank, alpha = alpha, by_direction = by_direction, by_layer = by_layer,
        site = metadata["glp.hook_point"], derived_at = metadata["glp.derived_at"] }
end

return M
