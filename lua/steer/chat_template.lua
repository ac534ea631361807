--- Chat templates: the Jinja text of a model that writes a list of messages as the model was trained to read them.
--
-- The language is Jinja2's as transformers sets it up: trim_blocks and lstrip_blocks, break and continue,
-- {% generation %}, raise_exception, strftime_now, a tojson that escapes no HTML, a sandbox without methods that change
-- lists and dictionaries. Not supported: include, import, extends, {% autoescape true %}, and integers beyond 2^53
-- other than to be printed. Numbers, texts, order and errors are Python's: lengths and slices count code points.
--
-- A render takes at most ten million steps (an evaluated node, a made element, 16 bytes of text), about a second, and
-- nests calls and values as deep as Lua's stack allows; beyond, and on Ctrl-C, it fails.
local check = require "steer.core.check"
local error_object = require "steer.core.error"
local options = require "steer.core.options"
local run = require "steer.jinja.run"
local tables = require "steer.core.tables"

local raise = error_object.raise
local M = {}

local MAX_BYTES = 2 ^ 20

local Template = {}
Template.__index, Template.__topic = Template, "chat_template"

-- ---- Opening -------------------------------------------------------------------------------------------------------

-- Calls fn, whose running out of Lua's stack is a fault of the template.
local function guarded(op, fn, ...)
    local ok, result = pcall(fn, ...)
    if ok then return result end
    if type(result) == "string" and result:find "stack overflow" then
        raise("invalid_argument", op, "line %d: the template is nested too deeply", run.line)
    end
    return error(result, 0)
end

local function compile(source)
    run.start()
    if #source > MAX_BYTES then
        raise("format", run.COMPILE, "the template has %d bytes, at most %d are taken", #source, MAX_BYTES)
    end
    if not require("steer.jinja.text").is_utf8(source) then
        raise("format", run.COMPILE, "the template is not UTF-8")
    end
    return guarded(run.COMPILE, require("steer.jinja.compile").compile, source)
end

--- Opens a chat template.
-- @tparam string source one of
--   a model's folder: chat_template.jinja, else chat_template.json, else the chat_template of tokenizer_config.json;
--     the special tokens (bos_token, eos_token, ...) of tokenizer_config.json and special_tokens_map.json are variables
--   such a .json file, or a file with a template's text; with the special tokens of its folder
--   a .gguf file: its tokenizer.chat_template, with the special tokens that it names
--   the text of a template, which has a tag or a line break in it
-- @tparam[opt] table opts name: which of several templates; default "default"
-- @return a template, compiled once, with its text in `source` and the special tokens in `tokens`
-- @raise not_found; io; format (the template, with its line, or JSON); invalid_argument
function M.open(source, opts)
    check.type(run.COMPILE, "source", source, "string", "a folder, a file or the text of a template")
    opts = options.check(run.COMPILE, opts, { name = "string" })
    local found = require("steer.model.template_files").find(source, opts.name)
    local ok, render = pcall(compile, found.text)
    if not ok then
        if found.path and error_object.is(render) and render.code == "format" then
            render.message = found.path .. ": " .. render.message
        end
        error(render, 0)
    end
    return setmetatable({ source = found.text, tokens = found.tokens, path = found.path, run = render }, Template)
end

-- ---- Rendering -----------------------------------------------------------------------------------------------------

-- What a render has that is not given: as transformers gives it.
local function defaults()
    local None = require("steer.jinja.value").None
    return { tools = None, documents = None, add_generation_prompt = false }
end

local listed = { tools = true, documents = true }

-- The time of opts.now as a number, nil for the clock.
local function time_of(now)
    if now == nil or type(now) == "number" then return now end
    check.type(run.RENDER, "opts.now", now, "table", "a number or a table, as os.time and os.date have them")
    local ok, time = pcall(os.time, now)
    if ok and time then return time end
    return raise("invalid_argument", run.RENDER, "opts.now: a date needs year, month and day")
end

local function variables(self, messages, opts)
    local convert = require "steer.jinja.convert"
    local given = defaults()
    for _, name in ipairs(tables.keys(self.tokens)) do given[name] = self.tokens[name] end
    for _, name in ipairs(tables.keys(opts)) do
        if type(name) ~= "string" then
            raise("invalid_argument", run.RENDER, "opts: expected names of variables, got %s", check.describe(name))
        end
        if listed[name] and opts[name] ~= false then
            given[name] = convert.list(opts[name], "opts." .. name)
        elseif name ~= "now" then
            given[name] = convert.value(opts[name], "opts." .. name)
        end
    end
    given.messages = convert.list(messages, "messages")
    given.strftime_now = require("steer.jinja.globals").strftime_now(time_of(opts.now))
    return given
end

--- Writes a chat as text.
-- Messages, tools and documents are lists of tables, or JSON texts, which keep the order of their keys, null, and the
-- difference between 1 and 1.0. A Lua table has no order: its keys come in the usual one of chats (role, type, id,
-- function, name, description, content, ...), then by the alphabet, unless its metatable has __jsonorder, a list of
-- keys (as dkjson takes it). An empty table is a dictionary, unless its metatable says __jsontype = "array". NaN and
-- dkjson.null are None; a number without a fraction is an integer.
-- @param messages list of {role = "user", content = "..."}
-- @tparam[opt] table opts any variables of the template; of these there are some without being given:
--   tools, documents: lists; None
--   add_generation_prompt: whether the text ends where the assistant begins to speak; false
--   bos_token, eos_token, ...: the special tokens that were found with the template
--   now: no variable, but the time for strftime_now, as os.time or os.date("*t") gives it; the clock
-- @treturn string the text
-- @raise invalid_argument: what the template raises, in its own words; a fault in what it computes, with its line; a
-- template that does not end; interrupted
function Template:render(messages, opts)
    if getmetatable(self) ~= Template then
        raise("invalid_argument", run.RENDER, "self: expected a template, got %s; call it with a colon",
            check.describe(self))
    end
    if opts == nil then opts = {} end
    check.type(run.RENDER, "opts", opts, "table", "a table of variables")
    run.start()
    return guarded(run.RENDER, self.run, guarded(run.RENDER, variables, self, messages, opts))
end

function Template:__tostring()
    local _, lines = self.source:gsub("\n", "")
    return ("chat template%s: %d lines"):format(self.path and " of " .. self.path or "", lines + 1)
end

return M
