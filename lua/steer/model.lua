--- Language models: opened from a folder or a GGUF file, they give text, scores and hidden states, steered per request.
local ffi = require "ffi"
local c = require "steer.core.c"
local check = require "steer.core.check"
local class = require "steer.core.class"
local device_module = require "steer.device"
local options = require "steer.core.options"
local progress = require "steer.progress"
local tables = require "steer.core.tables"

local C = c.C
local error_object = require "steer.core.error"
local raise = error_object.raise

local M = {}

local Model = {}
local properties = {} -- fields that are looked up when they are first asked for

local ABSENT = { handle = true, last = true, bos = true, shared_session = true } -- fields that a model may lack

function Model.__index(self, key)
    local property = properties[key]
    if property then return property(self) end
    return class.lookup(Model, "a model", key, ABSENT, self)
end

-- ---- Opening -------------------------------------------------------------------------------------------------------

local loader_out, model_out = ffi.new("steer_loader *[1]"), ffi.new("steer_model *[1]")
local share_out, info = ffi.new("double[1]"), c.descriptor("steer_model_info")
local MODEL_OPTIONS = {
    device = true, dtype = "string", progress = "boolean", weights = "string", seed = "number",
    reproducible = "boolean",
}
local DTYPES = { f32 = C.STEER_F32, f16 = C.STEER_F16, bf16 = C.STEER_BF16 }

-- Loads the weights, with a bar on a terminal once it takes longer than a moment.
local function load_weights(loader, path, shown)
    local bar, start = nil, C.steer_clock()
    repeat
        c.check(C.steer_loader_step(share_out, loader))
        if shown and not bar and share_out[0] < 1 and C.steer_clock() - start > 0.5 then
            bar = progress.new("loading " .. path, 1, C.steer_clock)
        end
        if bar then bar:part(share_out[0]) end
    until share_out[0] >= 1
    if bar then bar:close() end
end

local function open_handle(path, opts)
    local desc = c.descriptor("steer_model_desc")
    local dtype = opts.dtype
    if dtype and not DTYPES[dtype] then
        raise("invalid_argument", "model", "dtype: %s, expected %s", check.describe(dtype), options.choice(DTYPES))
    end
    if opts.weights and opts.weights ~= "random" then
        raise("invalid_argument", "model", 'weights: %s, expected "random" or none', check.describe(opts.weights))
    end
    if opts.seed and not opts.weights then
        raise("invalid_argument", "model", 'seed: is of random weights, expected weights = "random" beside it')
    end
    desc.random = opts.weights and 1 or 0
    desc.seed = check.integer("model", "seed", opts.seed or 0, 0, check.MAX_INTEGER)
    desc.dtype, desc.device = dtype and DTYPES[dtype] or -1, device_module.resolve("model", opts.device).handle
    c.alloc(C.steer_loader_create, loader_out, path, desc)
    local loader = c.own(loader_out[0], C.steer_loader_release)
    local ok, err = pcall(load_weights, loader, path, opts.progress ~= false and progress.on_terminal())
    if ok then ok, err = pcall(c.alloc, C.steer_loader_finish, model_out, loader) end
    c.free(loader, C.steer_loader_release)
    if not ok then error(err, 0) end
    return c.own(model_out[0], C.steer_model_release)
end

-- Calls fn(...), whose errors become those of `op`, about `name` if there is one.
local function about(op, name, fn, ...)
    local ok, value = pcall(fn, ...)
    if ok then return value end
    if error_object.is(value) then
        value.op, value.message = op, name and name .. ": " .. value.message or value.message
    end
    return error(value, 0)
end

-- What people give in place of a model's path: the name of a model on the hub, or a file of its folder.
local function path_advice(path, err)
    local name = path:match "^[%w._-]+/([%w._-]+)$"
    if name and err.message == path .. ": No such file or directory" then
        return ("; if it is a model of the hub: hf download %s --local-dir %s"):format(path, name)
    end
    local folder, file = path:match "^(.-)/?([^/]+)$"
    local is_part = file and (file:find "%.json$" or file:find "%.safetensors$")
    if is_part and (err.code == "format" or err.code == "not_found") then
        return ("; a model is opened by its folder: %s"):format(folder == "" and "." or folder)
    end
    return ""
end

--- Opens a language model: a folder as the hub lays it out (config.json, safetensors, tokenizer.json), or a .gguf file.
-- @tparam string path
-- @tparam[opt] table opts device (default steer.device()), dtype ("f32", "f16" or "bf16"; default as the config says,
-- for GGUF "bf16" on a GPU and "f32" on the CPU), progress (default true: a bar on a terminal while it loads),
-- weights ("random": none are read, so a folder needs only a config.json, and a GGUF file only what describes its
-- tensors; they are drawn on the device, norms 1, all others normal with deviation 0.02; for measuring a model's
-- speed), seed (of random weights, default 0), reproducible (default false: the last bits of a request may depend on
-- how many others run beside it; true: no bit does, at a price that the README states)
-- @return a model; not_found, format and unsupported name the file, field and tensor at fault; out_of_memory says how
-- much the model needs and what is free
function M.model(path, opts)
    check.path("model", "path", path, "the path of a folder or a .gguf file")
    opts = options.check("model", opts, MODEL_OPTIONS)
    local opened, handle = pcall(about, "model", nil, open_handle, path, opts)
    if not opened then
        if error_object.is(handle) then handle.message = handle.message .. path_advice(path, handle) end
        error(handle, 0)
    end
    c.check(C.steer_model_describe(info, handle))
    local eos = {}
    for i = 1, info.eos_count do eos[i] = info.eos[i - 1] end
    return setmetatable({
        handle = handle, path = path, layers = info.layers, hidden = tonumber(info.hidden),
        vocab = tonumber(info.vocab),
        context = tonumber(info.context), dtype = ffi.string(C.steer_dtype_name(info.dtype)),
        device = ffi.string(C.steer_device_id(C.steer_model_device(handle))), family = ffi.string(info.family),
        heads = info.heads, kv_heads = info.kv_heads, head_dim = info.head_dim, bytes = tonumber(info.bytes),
        token_bytes = tonumber(info.token_bytes), eos = eos, bos = info.bos >= 0 and info.bos or nil,
        reproducible = opts.reproducible == true,
    }, Model)
end

--- Gives the library's handle, for operation `op`; for the modules beside this one.
local function handle_for(self, op)
    if getmetatable(self) ~= Model then
        raise("invalid_argument", op, "self: expected a model, got %s; methods are called with a colon, as in "
            .. "lm:generate{...}", check.describe(self))
    end
    if self.handle == nil then raise("closed", op, "model: it is closed") end
    return self.handle
end
Model.handle_for = handle_for

--- lm.config: the model's config as a table.
function properties.config(self)
    local config = require("steer.core.json").decode(ffi.string(C.steer_model_config(self:handle_for("model_config"))))
    rawset(self, "config", config)
    return config
end

-- What the path has of a kind, nil if it has none: a missing tokenizer is no error until text is asked for.
local function optional(open, path)
    local ok, value = pcall(open, path)
    if ok then return value end
    if type(value) == "table" and value.code == "not_found" then return nil end
    error(value, 0)
end

--- lm.tokenizer: the model's tokenizer, nil if its folder has none.
function properties.tokenizer(self)
    local tokenizer = optional(require("steer.tokenizer").open, self.path)
    rawset(self, "tokenizer", tokenizer)
    return tokenizer
end

--- lm.template: the model's chat template, nil if its folder has none.
function properties.template(self)
    local template = optional(require("steer.chat_template").open, self.path)
    rawset(self, "template", template)
    return template
end

-- ---- Text ----------------------------------------------------------------------------------------------------------

local function tokenizer_of(self, op)
    handle_for(self, op)
    return self.tokenizer
        or raise("not_found", op, "%s has no tokenizer: give {tokens = {ids}} instead of text", self.path)
end

local function template_of(self, op)
    handle_for(self, op)
    return self.template or raise("not_found", op, "%s has no chat template: give {prompt = text}", self.path)
end

--- Turns text into token ids.
-- @tparam string text UTF-8
-- @tparam[opt] table opts special (default true: with the tokens that the model's tokenizer puts around a text)
-- @treturn table ids
function Model:encode(text, opts)
    local special = options.check("model_encode", opts, { special = "boolean" }).special
    return tokenizer_of(self, "model_encode"):encode(text, { special = special ~= false })
end

--- Turns token ids into text.
-- @tparam table ids
-- @tparam[opt] table opts skip_special (default false)
function Model:decode(ids, opts) return tokenizer_of(self, "model_decode"):decode(ids, opts) end

--- Gives each token's piece of text as the vocabulary has it.
function Model:tokens(ids) return tokenizer_of(self, "model_tokens"):tokens(ids) end

--- Writes a chat as the text that the model was trained on.
-- @tparam table messages list of {role = "user", content = "..."}
-- @tparam[opt] table opts add_generation_prompt (default true), tools, and any variable of the template
-- @treturn string the text; it holds its special tokens, so encode it with special = false
function Model:chat(messages, opts)
    local template = template_of(self, "model_chat")
    local variables = { add_generation_prompt = true }
    for _, key in ipairs(opts and tables.keys(opts) or {}) do variables[key] = opts[key] end
    return template:render(messages, variables)
end

--- Turns a text within another one, such as an option to score, into ids; `name` is what messages call it.
function Model:encode_part(op, name, text)
    check.type(op, name, text, "string", "a text or a list of token ids")
    return about(op, name, self.encode, self, text, { special = false })
end

local function ids_of(self, request)
    if request.prompt then return self:encode(request.prompt) end
    if not request.messages then return request.tokens end
    local text = self:chat(request.messages, {
        tools = request.tools, add_generation_prompt = request.add_generation_prompt ~= false,
    })
    return self:encode(text, { special = false })
end

--- Gives the token ids of a request: its tokens, or those of its prompt or messages; for the modules beside this one.
-- @tparam string op
-- @param request table with one of tokens, prompt and messages, or the text alone
-- @tparam[opt="request"] string name what the request is called in messages
function Model:tokens_of(op, request, name)
    name = name or "request"
    if type(request) == "string" then request = { prompt = request } end
    check.type(op, name, request, "table", "a text, or a table with prompt, messages or tokens")
    local given = (request.tokens and 1 or 0) + (request.prompt and 1 or 0) + (request.messages and 1 or 0)
    if given ~= 1 then
        raise("invalid_argument", op, "%s: it has %s of prompt, messages and tokens, expected one", name,
            given == 0 and "none" or tostring(given))
    end
    for _, key in ipairs(request.messages and {} or { "tools", "add_generation_prompt" }) do
        if request[key] ~= nil then raise("invalid_argument", op, "%s.%s: it goes with messages", name, key) end
    end
    if not request.tokens then tokenizer_of(self, op) end -- what its files have is no fault of this request
    if request.messages then template_of(self, op) end
    local ids = about(op, name, ids_of, self, request)
    if check.list(op, name .. ".tokens", ids, "a list of token ids") == 0 then
        raise("invalid_argument", op, "%s: its prompt has no tokens, expected 1 or more", name)
    end
    return ids
end

-- ---- Running -------------------------------------------------------------------------------------------------------

-- Methods in modules of their own, which load when they are first called.
local elsewhere = {
    forward = { "steer.generate", "forward" }, generate = { "steer.generate", "generate" },
    calibrate = { "steer.calibrate", "calibrate" }, grid = { "steer.grid", "grid" },
    score = { "steer.score", "score" }, perplexity = { "steer.score", "perplexity" },
    capture = { "steer.capture", "capture" }, direction = { "steer.direction", "direction" },
    lens = { "steer.lens", "lens" }, view = { "steer.view", "view" },
    session = { "steer.model.session", "session" },
}
for _, name in ipairs(tables.keys(elsewhere)) do
    local row = elsewhere[name]
    Model[name] = function(self, ...)
        handle_for(self, "model_" .. name)
        return require(row[1])[row[2]](self, ...)
    end
end

--- Frees the model now; sessions of it keep what they need.
function Model:close()
    if getmetatable(self) ~= Model then handle_for(self, "model_close") end
    local shared = rawget(self, "shared_session")
    if shared then shared:close() end
    if self.handle ~= nil then c.free(self.handle, C.steer_model_release) end
    self.handle, self.shared_session = nil, nil
end

function Model:__tostring()
    if self.handle == nil then return "model (closed)" end
    local kv = self.kv_heads == self.heads and "" or (" (%d for keys)"):format(self.kv_heads)
    return ("model %s: %s, %d layers, hidden %d, %d heads of %d%s, vocabulary %d, context %d, %s on %s, %.1f MB")
        :format(self.path, self.family, self.layers, self.hidden, self.heads, self.head_dim, kv, self.vocab,
            self.context, self.dtype, self.device, self.bytes / 1e6)
end

--- The class of models. The rest is for completion and help: where methods and properties are.
M.Model = Model
Model.__internal = { handle_for = true, encode_part = true, tokens_of = true } -- for the modules beside this one
Model.__topic, Model.__methods, Model.__names, Model.__elsewhere = "model", Model, properties, elsewhere

return M
