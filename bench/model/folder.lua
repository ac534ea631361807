--- folder.lua: writes a folder of a config with random weights in one safetensors file, to time how it loads.
local common = require "common"
local ffi = require "ffi"
local json = require "steer.core.json"
local steer = require "steer"

local M = {}

local BLOCK = 8 * 2 ^ 20 -- elements that are written at once

-- The tensors of a config of the families llama and qwen2 in order: {name, shape}.
local function tensors_of(config)
    local hidden, size = config.hidden_size, config.intermediate_size
    local dim = config.head_dim or hidden / config.num_attention_heads
    local q, kv = config.num_attention_heads * dim, config.num_key_value_heads * dim
    local list = { { "model.embed_tokens.weight", { config.vocab_size, hidden } } }
    for i = 0, config.num_hidden_layers - 1 do
        local function add(name, ...) list[#list + 1] = { ("model.layers.%d.%s"):format(i, name), { ... } } end
        add("input_layernorm.weight", hidden)
        for name, rows in pairs { q = q, k = kv, v = kv } do
            add(("self_attn.%s_proj.weight"):format(name), rows, hidden)
            if config.model_type == "qwen2" then add(("self_attn.%s_proj.bias"):format(name), rows) end
        end
        add("self_attn.o_proj.weight", hidden, q)
        add("post_attention_layernorm.weight", hidden)
        add("mlp.gate_proj.weight", size, hidden)
        add("mlp.up_proj.weight", size, hidden)
        add("mlp.down_proj.weight", hidden, size)
    end
    list[#list + 1] = { "model.norm.weight", { hidden } }
    if not config.tie_word_embeddings then list[#list + 1] = { "lm_head.weight", { config.vocab_size, hidden } } end
    return list
end

-- The header of a safetensors file and the bytes of its data.
local function header_of(tensors)
    local header, at = {}, 0
    for _, tensor in ipairs(tensors) do
        local bytes = 2
        for _, n in ipairs(tensor[2]) do bytes = bytes * n end
        header[tensor[1]] = { dtype = "BF16", shape = tensor[2], data_offsets = { at, at + bytes } }
        at = at + bytes
    end
    local text = json.encode(header)
    return text .. (" "):rep(-#text % 8), at
end

--- Bytes of the weights in bf16 that a step of decoding reads: all, but of an embedding that is not the head a row.
-- config: a table
-- @treturn number bytes of a step
-- @treturn number parameters of the model
function M.step_bytes(config)
    local _, bytes = header_of(tensors_of(config))
    local embedding = config.tie_word_embeddings and 0 or 2 * config.vocab_size * config.hidden_size
    return bytes - embedding, bytes / 2
end

--- Writes config.json and model.safetensors (bf16, deviation 0.02) to the folder.
-- @tparam string folder
-- @tparam string config path of the config.json
-- @treturn number bytes of the weights
function M.write(folder, config)
    common.make_folder(folder)
    assert(os.execute(("cp %s %s"):format(common.quote(config), common.quote(folder .. "/config.json"))) == 0)
    local file = assert(io.open(config))
    local header, bytes = header_of(tensors_of(require("dkjson").decode(file:read("*a"))))
    file:close()
    local values = steer.tensor.randn({ BLOCK }, { dtype = "bf16", device = "cpu", seed = 1 }):mul_(0.02)
    local block = ffi.string(values:data(), 2 * BLOCK)
    file = assert(io.open(folder .. "/model.safetensors", "w"))
    local size = ffi.new("uint64_t[1]", #header)
    assert(file:write(ffi.string(size, 8), header))
    for at = 0, bytes - 1, 2 * BLOCK do
        assert(file:write(bytes - at < 2 * BLOCK and block:sub(1, bytes - at) or block))
    end
    assert(file:close())
    return bytes
end

return M
