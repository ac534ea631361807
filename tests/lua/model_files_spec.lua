-- Files of models that are damaged, contradict each other or are none: the error names file, tensor or field.
-- devices: cpu
local files = require "files"
local helper = require "helper"
local steer = require "steer"
local fails = helper.fails

local DEMO = "tests/fixtures/demo-model/"

teardown(files.done)

-- A copy of the demo model, one of whose files has other content: a text, false for none, or a function of the old one.
local function broken(name, content)
    os.execute(("rm -rf '%s' && cp -r %s '%s'"):format(files.path "model", DEMO, files.path "model"))
    if type(content) == "function" then content = content(files.get(DEMO .. name)) end
    os.remove(files.path("model/" .. name))
    if content then files.put("model/" .. name, content) end
    return files.path "model"
end

-- What replaces the first `from` in a text.
local function with(from, to)
    return function(text)
        local at, last = text:find(from, 1, true)
        assert(at, "the fixture has no " .. from)
        return text:sub(1, at - 1) .. to .. text:sub(last + 1)
    end
end

local function open(path) return steer.model(path, { device = "cpu" }) end

-- ---- Weights -------------------------------------------------------------------------------------------------------

describe("weights", function()
    local WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

    it("that are cut, missing or something else are named", function()
        local cases = {
            { "format", "model.safetensors: tensor", function(b) return b:sub(1, #b / 2) end, "it is cut short" },
            { "format", "too few for a safetensors file", function(b) return b:sub(1, 5) end },
            { "format", "the file is empty", "" },
            { "format", "is a Git LFS pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n" },
            { "not_found", "no model.safetensors, no model.safetensors.index.json", false },
            { "format", "tensor model.norm.weight: missing, expected [192]",
                with("model.norm.weight", "model.nurm.weight") },
            { "unsupported", "tensor model.norm.weight: dtype ", with('"model.norm.weight":{"dtype":"BF16"',
                '"model.norm.weight":{"dtype":"I16" ') },
        }
        for _, case in ipairs(cases) do
            local err = fails(case[1], case[2], open, broken(WEIGHTS, case[3]))
            assert.equal("model", err.op)
            assert.truthy(not case[4] or err.message:find(case[4], 1, true))
        end
    end)

    it("with NaN are named", function()
        fails("format", "model.safetensors: tensor model.norm.weight: holds NaN", open, broken(WEIGHTS, function(bytes)
            local from = tonumber(bytes:match '"model.norm.weight":{[^}]-"data_offsets":%[(%d+)')
            local header = bytes:byte(1) + 256 * bytes:byte(2) + 8
            return bytes:sub(1, header + from) .. "\193\127" .. bytes:sub(header + from + 3)
        end))
    end)

    it("by an index are found beside it, all of them", function()
        for content, message in pairs {
            ['{"weight_map": {"a": "gone-1.safetensors"}}'] = 'tensor "a": there is no ',
            ['{"weight_map": {"a": "../model.safetensors"}}'] = "expected the name of a file beside it",
            ['{"weight_map": {"a": "model.safetensors"}}'] = 'tensor "a" is not in "model.safetensors"',
            ['{"weight_map": 3}'] = "weight_map: expected an object, got a number",
            ["{"] = "model.safetensors.index.json: line 1: not JSON",
        } do
            local ok, err = pcall(open, broken(INDEX, content))
            assert.is_false(ok)
            assert(tostring(err):find(message, 1, true), tostring(err))
        end
    end)

    it("of a path that cannot be are refused", function()
        fails("invalid_argument", "path: is empty", open, "")
        fails("invalid_argument", "path: has a zero byte", open, "a\0b")
        fails("not_found", "/nowhere", open, "/nowhere")
        fails("io", "is a pipe, socket or device", open, "/dev/zero")
        for _, name in ipairs { "config.json", WEIGHTS, "tokenizer.json", "chat_template.jinja" } do
            local path = broken(name, false)
            os.execute(("mkfifo '%s/%s'"):format(path, name))
            fails("io", name .. ": is a pipe", function()
                local lm = open(path)
                return lm.tokenizer, lm.template
            end)
        end
    end)
end)

describe("a file that is shortened while it is mapped", function()
    it("is named before the process ends", function()
        local path = broken("README.md", false)
        local text = files.script(([[
            local steer, path = require "steer", "%s/model.safetensors"
            local tensors = steer.load(path)
            os.execute("truncate -s 100000 '" .. path .. "'")
            for _, tensor in pairs(tensors) do tensor:sum() end
            print "all was read"]]):format(path))
        assert(text:find("model.safetensors: the file was shortened", 1, true), text)
        assert.is_nil(text:find("all was read", 1, true))
    end)
end)

-- ---- Configs -------------------------------------------------------------------------------------------------------

describe("a config", function()
    it("that contradicts the weights or itself is refused by field", function()
        local cases = {
            { "format", "config.json: num_key_value_heads", '"num_key_value_heads": 2', '"num_key_value_heads": 5' },
            { "format", "config.json: hidden_size: 1e30", '"hidden_size": 192', '"hidden_size": 1e30' },
            { "format", "config.json: max_position_embeddings: null", '"max_position_embeddings": 512',
                '"max_position_embeddings": null' },
            { "format", "expected [786, 191]", '"hidden_size": 192', '"hidden_size": 191' },
        }
        for _, case in ipairs(cases) do
            fails(case[1], case[2], open, broken("config.json", with(case[3], case[4])))
        end
    end)

    it("of a GGUF file is refused by key", function()
        local bytes = files.get "tests/fixtures/gguf/llama3_rope/model.gguf"
        -- The four bytes after a key and its type.
        local function changed(key, kind, value)
            local _, last = bytes:find("llama." .. key, 1, true)
            return files.put("x.gguf", bytes:sub(1, last) .. (kind or bytes:sub(last + 1, last + 4)) .. value
                .. bytes:sub(last + 9))
        end
        local cases = {
            { "rope.freq_base", nil, "\0\0\192\127", "llama.rope.freq_base: nan, expected a finite number" },
            { "rope.freq_base", nil, "\0\0\128\127", "llama.rope.freq_base: inf, expected a finite number" },
            { "rope.freq_base", nil, "\0\0\0\0", "its metadata as config.json: rope_theta: 0" },
            { "block_count", nil, "\255\255\255\255", "its metadata as config.json: num_hidden_layers: 4294967295" },
            { "attention.head_count", nil, "\0\0\0\0", "llama.attention.head_count: missing" },
            { "context_length", "\6\0\0\0", "\0\0\192\127", "llama.context_length: nan" },
            { "block_count", "\7\0\0\0", "\1\0\0\0", "x.gguf" },
        }
        for _, case in ipairs(cases) do
            local path = changed(case[1], case[2], case[3])
            local ok, err = pcall(open, path)
            assert.is_false(ok, case[4])
            assert(tostring(err):find(case[4], 1, true) and tostring(err):find("x.gguf", 1, true), tostring(err))
        end
        local _, last = bytes:find("tokenizer.ggml.eos_token_id", 1, true)
        fails("format", "tokenizer.ggml.eos_token_id: expected a token id", open, files.put("x.gguf",
            bytes:sub(1, last) .. "\6\0\0\0" .. bytes:sub(last + 5)))
        fails("format", "eos_token_id: 65535, expected an id below", open, files.put("x.gguf",
            bytes:sub(1, last + 4) .. "\255\255\0\0" .. bytes:sub(last + 9)))
    end)

    it("names no token that the vocabulary lacks", function()
        for _, key in ipairs { "bos", "eos" } do
            local entry = '"' .. key .. '_token_id": '
            local path = broken("config.json", with(entry .. "0", entry .. "786"))
            fails("format", ("config.json: %s_token_id: 786, expected an id below 786"):format(key), open, path)
        end
    end)
end)

-- ---- Text ----------------------------------------------------------------------------------------------------------

describe("a tokenizer", function()
    it("with holes is refused by its entry", function()
        local cases = {
            { '"merges": [', '"merges": [["zzzq", "q"], ', 'model.merges[0]: "zzzq" is not in the vocabulary' },
            { '"merges": [', '"merges": ["a", ', "model.merges[0]: expected two texts" },
            { '"vocab": {', '"vocab": {"zzzz": 5, ', "belongs to" },
            { '"vocab": {', '"vocab": {"zzzz": -5, ', 'model.vocab: "zzzz" is a number, expected an id from 0' },
            { '"vocab": {', '"vocab": {"zzzz": 1.5, ', 'model.vocab: "zzzz" is a number, expected an id from 0' },
            { '"vocab": {', '"vocab": {"zzzz": 1073741824, ', "expected fewer gaps" },
            { '"type": "BPE"', '"type": "WordLevel"', "the type WordLevel is not supported" },
        }
        for _, case in ipairs(cases) do
            local lm = open(broken("tokenizer.json", with(case[1], case[2])))
            local ok, err = pcall(lm.generate, lm, { { prompt = "Once", max_tokens = 2 } })
            assert.is_false(ok, case[3])
            local text = tostring(err)
            assert(text:find(case[3], 1, true) and text:find("tokenizer.json", 1, true), text)
            assert.same({ 2, 786 }, lm:forward({ { tokens = { 1, 2 } } })[1]:size())
        end
    end)

    it("that knows more than the model is refused by the token", function()
        local token = [[{"id": 786, "content": "Once", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": false}, ]]
        local lm = open(broken("tokenizer.json", with('"added_tokens": [', '"added_tokens": [' .. token)))
        fails("invalid_argument", "requests[1]: tokens[1]: id 786, expected 0 to 785", lm.generate, lm, { "Once" })
    end)

    it("that is missing is asked for", function()
        local lm = open(broken("tokenizer.json", false))
        fails("not_found", "has no tokenizer: give {tokens = {ids}} instead of text", lm.generate, lm, { "Once" })
        fails("not_found", "the model has no tokenizer to find texts with", lm.generate, lm,
            { { tokens = { 1 }, stop = "x" } })
    end)
end)

describe("a chat template", function()
    it("that does not end, or is none, is refused with its line", function()
        local cases = {
            { "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
                "line 1: the template does not end" },
            { "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "line 1: calls, loops or values are nested too" },
            { "{% set ns = namespace(a=[]) %}{% set ns.a = [ns] %}{{ ns }}", "nested too deeply" },
            { "{{ 'x' * 10000000000 }}", "line 1: the template does not end" },
            { "{{ messages[0.content }}", "chat_template.jinja: line 1: unexpected" },
            { "{{ raise_exception('no system') }}", "no system" },
            { "", "its prompt has no tokens" },
        }
        for _, case in ipairs(cases) do
            local lm = open(broken("chat_template.jinja", case[1]))
            local ok, err = pcall(lm.generate, lm, { { messages = { { role = "user", content = "x" } } } })
            assert.is_false(ok, case[2])
            assert(tostring(err):find(case[2], 1, true), tostring(err))
            assert.equal(2, #lm:generate({ { prompt = "Once", max_tokens = 2, ignore_eos = true } })[1].tokens)
        end
    end)
end)
