--- Tokenizers: text to token ids and back, as the file of a model says. Ids count from 0, as everywhere in the field.
local ffi = require "ffi"
local c = require "steer.core.c"
local check = require "steer.core.check"
local class = require "steer.core.class"
local options = require "steer.core.options"

local C = c.C
local raise = require("steer.core.error").raise

local M = {}

local SLACK = 16 -- ids that a text may have beyond its bytes before a second call is needed

local tokenizer_out = ffi.new("steer_tokenizer *[1]")
local stream_out = ffi.new("steer_text_stream *[1]")
local count_out = ffi.new("int64_t[1]")
local size_out = ffi.new("size_t[1]")
local text_out = ffi.new("const char *[1]")

local Tokenizer = {}

-- tokenizer.bos and the like: the library is asked once.
local ROLES = { bos = true, eos = true, unk = true, pad = true }
local ABSENT = { handle = true, path = true, bos = true, eos = true, unk = true, pad = true }

function Tokenizer.__index(self, key)
    if ROLES[key] and rawget(self, "handle") then
        local id = C.steer_tokenizer_named(self.handle, key)
        return id >= 0 and id or nil
    end
    return class.lookup(Tokenizer, "a tokenizer", key, ABSENT, self)
end
Tokenizer.__topic, Tokenizer.__methods, Tokenizer.__names = "tokenizer", Tokenizer, ROLES -- for help and completion

local function use(self, op)
    if getmetatable(self) ~= Tokenizer then
        raise("invalid_argument", op, "self: expected a tokenizer, got %s; methods are called with a colon, as in "
            .. "tokenizer:encode(text)", check.describe(self))
    end
    if self.handle == nil then raise("closed", op, "tokenizer: it is closed") end
    return self.handle
end

--- Opens a tokenizer.
-- @tparam string path a folder with a tokenizer.json, such a file, or a .gguf file
-- @return a tokenizer with encode, decode, tokens, id, is_special, stream, close; its fields: vocab (ids are 0 to
-- vocab - 1), path, and bos, eos, unk, pad (ids, nil where the files name none); not_found if there is none at the
-- path, format or unsupported name the field at fault
function M.open(path)
    check.path("tokenizer", "path", path, "the path of a folder, of a tokenizer.json or of a .gguf file")
    c.alloc(C.steer_tokenizer_open, tokenizer_out, path)
    local handle = c.own(tokenizer_out[0], C.steer_tokenizer_release)
    return setmetatable({ handle = handle, path = path, vocab = C.steer_tokenizer_vocab(handle) }, Tokenizer)
end

-- ---- Text to ids ---------------------------------------------------------------------------------------------------

local ENCODE_OPTIONS = { special = "boolean" }
local ids_buffer, ids_room = ffi.new("int32_t[?]", 1024), 1024

local function room_for_ids(count)
    if count <= ids_room then return end
    ids_room = math.max(count, 2 * ids_room)
    ids_buffer = ffi.new("int32_t[?]", ids_room)
end

--- Turns text into token ids.
-- @tparam string text UTF-8
-- @tparam[opt] table opts special (default false): with the tokens that the tokenizer puts around a text. Special
-- tokens whose text stands in the text are found in any case
-- @treturn table list of ids; format names the first byte (from 1) that is not UTF-8
function Tokenizer:encode(text, opts)
    local handle = use(self, "tokenizer_encode")
    check.type("tokenizer_encode", "text", text, "string")
    local special = options.check("tokenizer_encode", opts, ENCODE_OPTIONS).special and 1 or 0
    room_for_ids(#text + SLACK)
    c.alloc(C.steer_tokenizer_encode, count_out, handle, text, #text, special, ids_buffer, ids_room)
    local count = tonumber(count_out[0])
    if count > ids_room then
        room_for_ids(count)
        c.alloc(C.steer_tokenizer_encode, count_out, handle, text, #text, special, ids_buffer, ids_room)
    end
    local ids = {}
    for i = 1, count do ids[i] = ids_buffer[i - 1] end
    return ids
end

-- ---- Ids to text ---------------------------------------------------------------------------------------------------

local DECODE_OPTIONS = { skip_special = "boolean" }
local text_buffer, text_room = ffi.new("char[?]", 4096), 4096

local function fill_ids(op, ids)
    local n = check.list(op, "ids", ids, "a list of token ids")
    room_for_ids(n)
    check.fill_int32(op, "ids", ids, n, ids_buffer)
    return n
end

--- Turns token ids into text.
-- @tparam table ids list
-- @tparam[opt] table opts skip_special (default false): without special tokens
-- @treturn string UTF-8; bytes that are none are U+FFFD
function Tokenizer:decode(ids, opts)
    local handle = use(self, "tokenizer_decode")
    local skip = options.check("tokenizer_decode", opts, DECODE_OPTIONS).skip_special and 1 or 0
    local count = fill_ids("tokenizer_decode", ids)
    c.alloc(C.steer_tokenizer_decode, size_out, handle, ids_buffer, count, skip, text_buffer, text_room)
    local size = tonumber(size_out[0])
    if size > text_room then
        text_room = math.max(size, 2 * text_room)
        text_buffer = ffi.new("char[?]", text_room)
        c.alloc(C.steer_tokenizer_decode, size_out, handle, ids_buffer, count, skip, text_buffer, text_room)
    end
    return ffi.string(text_buffer, size)
end

--- Gives each token's text as the vocabulary has it, such as "Ġthe" or "▁the".
-- @tparam table ids list
-- @treturn table list of strings, "" for an id that no token has
function Tokenizer:tokens(ids)
    local handle = use(self, "tokenizer_tokens")
    local pieces = {}
    for i = 1, fill_ids("tokenizer_tokens", ids) do
        local status = C.steer_tokenizer_token(text_out, size_out, handle, ids_buffer[i - 1])
        if status ~= 0 then c.check(status, nil, { id = ("ids[%d]"):format(i) }) end
        pieces[i] = text_out[0] ~= nil and ffi.string(text_out[0], size_out[0]) or ""
    end
    return pieces
end

--- Gives the id of a token.
-- @tparam string token its text as the vocabulary has it
-- @treturn number the id, nil if no token has this text
function Tokenizer:id(token)
    local handle = use(self, "tokenizer_id")
    check.type("tokenizer_id", "token", token, "string")
    local id = C.steer_tokenizer_id(handle, token, #token)
    return id >= 0 and id or nil
end

--- Tells whether an id is a special token's, which decode leaves out with skip_special.
function Tokenizer:is_special(id)
    local handle = use(self, "tokenizer_is_special")
    check.integer("tokenizer_is_special", "id", id, 0, self.vocab - 1)
    return C.steer_tokenizer_is_special(handle, id) == 1
end

-- ---- Streams -------------------------------------------------------------------------------------------------------

local Stream = {}
Stream.__index = Stream

local function use_stream(self, op)
    if getmetatable(self) == Stream then return self.handle end
    raise("invalid_argument", op, "self: expected a stream, got %s; methods are called with a colon, as in "
        .. "stream:push(id)", check.describe(self))
end

--- Makes a stream: ids go in one by one, and text comes out as soon as later ids cannot change it.
-- @tparam[opt] table opts skip_special, as in decode
-- @return a stream with push(id), which gives the text that is certain now, and finish(), which gives the rest
function Tokenizer:stream(opts)
    local handle = use(self, "tokenizer_stream")
    local skip = options.check("tokenizer_stream", opts, DECODE_OPTIONS).skip_special and 1 or 0
    c.alloc(C.steer_text_stream_create, stream_out, handle, skip)
    return setmetatable({ handle = c.own(stream_out[0], C.steer_text_stream_release) }, Stream)
end

--- Takes the next id.
-- @tparam number id
-- @treturn string whole characters that are certain now, often none
function Stream:push(id)
    local handle = use_stream(self, "text_stream_push")
    check.int32("text_stream_push", "id", id)
    c.check(C.steer_text_stream_push(text_out, size_out, handle, id), nil, { ids = "id" })
    return ffi.string(text_out[0], size_out[0])
end

--- Ends the text; the stream is as new then.
-- @treturn string the rest of the text
function Stream:finish()
    c.check(C.steer_text_stream_finish(text_out, size_out, use_stream(self, "text_stream_finish")))
    return ffi.string(text_out[0], size_out[0])
end

--- Frees the tokenizer now; its streams keep what they need.
function Tokenizer:close()
    if getmetatable(self) ~= Tokenizer then use(self, "tokenizer_close") end
    if self.handle ~= nil then c.free(self.handle, C.steer_tokenizer_release) end
    self.handle = nil
end

function Tokenizer:__tostring()
    if self.handle == nil then return "tokenizer (closed)" end
    return ("tokenizer %s: %d tokens"):format(self.path, self.vocab)
end

--- The class of tokenizers.
M.Tokenizer = Tokenizer

return M
