--- Where the text of a chat template and the special tokens that go with it are found.
local error_object = require "steer.core.error"
local exists = require("steer.core.durable").exists
local files = require "steer.io._file"
local json = require "steer.jinja.json"
local options = require "steer.core.options"
local show = require "steer.jinja.show"
local value_of = require "steer.jinja.value"

local raise = error_object.raise
local M = {}

local OP = "chat_template"
local TOKENS = { "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token" }
-- The file that a model's own tokens stand in comes last: it wins.
local TOKEN_FILES = { "special_tokens_map.json", "tokenizer_config.json" }

-- ---- Files ---------------------------------------------------------------------------------------------------------

local LARGEST = 2 ^ 26 -- bytes of a file: far beyond any template

local function is_folder(path) return exists(path .. "/.") end

local function read(path)
    local found, file = pcall(files.open, path)
    if not found then
        file.op = OP
        error(file, 0)
    elseif file.size > LARGEST then
        raise("format", OP, "%s: %.0f bytes, expected at most %.0f", path, file.size, LARGEST)
    end
    return file:bytes(0, file.size, "the file")
end

local function read_json(path)
    local value, problem = json.decode(read(path))
    if value == nil then raise("format", OP, "%s: %s", path, problem) end
    if value_of.kind(value) ~= "dict" then
        raise("format", OP, "%s: expected an object, found a %s", path, value_of.type_name(value))
    end
    return value
end

-- ---- Special tokens ------------------------------------------------------------------------------------------------

-- The text of a token, which may be an object with its content.
local function token_text(value, path, name)
    if value_of.kind(value) == "dict" then value = value_of.dict_get(value, "content") end
    if type(value) == "string" then return value end
    return raise("format", OP, "%s: %s: expected a text or an object with content", path, name)
end

local function add_tokens(tokens, path)
    local config = read_json(path)
    for _, name in ipairs(TOKENS) do
        local value = value_of.dict_get(config, name)
        if value ~= nil and value ~= value_of.None then tokens[name] = token_text(value, path, name) end
    end
end

-- The special tokens that the files of a folder name.
local function tokens_of(folder)
    local tokens = {}
    for _, name in ipairs(TOKEN_FILES) do
        if exists(folder .. "/" .. name) then add_tokens(tokens, folder .. "/" .. name) end
    end
    return tokens
end

-- ---- Templates -----------------------------------------------------------------------------------------------------

local function refuse_name(path, name, names)
    raise("not_found", OP, "%s: there is no template %s, there are %s", path, show.repr(name), options.list(names))
end

-- The template of a JSON file's object: a text, or one of a list of {name, template}. nil if it has none.
local function template_in(config, path, wanted)
    local value = value_of.dict_get(config, "chat_template")
    if value == nil or value == value_of.None then return nil end
    if type(value) == "string" then
        if wanted and wanted ~= "default" then refuse_name(path, wanted, { default = true }) end
        return value
    end
    if value_of.kind(value) ~= "list" then
        raise("format", OP, "%s: chat_template: expected a text or a list, found a %s", path, value_of.type_name(value))
    end
    local names = {}
    for i, entry in ipairs(value) do
        local is_dict = value_of.kind(entry) == "dict"
        local name = is_dict and value_of.dict_get(entry, "name")
        local text = is_dict and value_of.dict_get(entry, "template")
        if type(name) ~= "string" or type(text) ~= "string" then
            raise("format", OP, "%s: chat_template[%d]: expected an object with the texts name and template", path, i)
        end
        names[name] = text
    end
    return names[wanted or "default"] or refuse_name(path, wanted or "default", names)
end

local function in_folder(folder, wanted)
    local path = folder .. "/chat_template.jinja"
    if wanted and wanted ~= "default" then
        local named = ("%s/additional_chat_templates/%s.jinja"):format(folder, wanted)
        if exists(named) then return read(named), named end
    end
    if exists(path) then
        if wanted and wanted ~= "default" then refuse_name(folder, wanted, { default = true }) end
        return read(path), path
    end
    for _, name in ipairs { "chat_template.json", "tokenizer_config.json" } do
        path = folder .. "/" .. name
        local text = exists(path) and template_in(read_json(path), path, wanted)
        if text then return text, path end
    end
    return raise("not_found", OP, "%s: it has no chat template: no chat_template.jinja, no chat_template.json, and no "
        .. "chat_template in a tokenizer_config.json", folder)
end

local function in_gguf(path, wanted)
    local key = "tokenizer.chat_template" .. (wanted and wanted ~= "default" and "." .. wanted or "")
    local metadata = require("steer.io.gguf_metadata").read(path, {
        [key] = "string", ["tokenizer.ggml.bos_token_id"] = "token", ["tokenizer.ggml.eos_token_id"] = "token",
        ["tokenizer.ggml.unknown_token_id"] = "token", ["tokenizer.ggml.padding_token_id"] = "token",
    })
    if not metadata[key] then raise("not_found", OP, "%s: it has no %s", path, key) end
    return {
        text = metadata[key], path = path,
        tokens = {
            bos_token = metadata["tokenizer.ggml.bos_token_id"], eos_token = metadata["tokenizer.ggml.eos_token_id"],
            unk_token = metadata["tokenizer.ggml.unknown_token_id"],
            pad_token = metadata["tokenizer.ggml.padding_token_id"],
        },
    }
end

local function in_file(path, wanted)
    if path:find "%.gguf$" then return in_gguf(path, wanted) end
    local text = path:find "%.json$" and template_in(read_json(path), path, wanted)
    if not text and path:find "%.json$" then raise("not_found", OP, "%s: it has no chat_template", path) end
    return { text = text or read(path), path = path, tokens = tokens_of(path:match "^(.*)/[^/]*$" or ".") }
end

--- Finds a template.
-- @tparam string source a folder, a file, or the text itself
-- @tparam[opt] string wanted name of one of several
-- @treturn table text, tokens (name -> text) and path (nil for a text)
function M.find(source, wanted)
    if source:find "{[{%%#]" or source:find("\n", 1, true) then return { text = source, tokens = {} } end
    if source:find("\0", 1, true) then raise("invalid_argument", OP, "source: it has a zero byte in it") end
    if is_folder(source) then
        local folder = source:gsub("(.)/+$", "%1")
        local text, path = in_folder(folder, wanted)
        return { text = text, path = path, tokens = tokens_of(folder) }
    end
    if not exists(source) then
        raise("not_found", OP, "source: %s is no folder and no file, nor a template, which has {{, {%% or {# in it",
            require("steer.core.check").describe(source))
    end
    return in_file(source, wanted)
end

return M
