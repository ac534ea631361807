--- Sessions: sequences that run together in one batch a step. What generate, score and capture are made of.
local ffi = require "ffi"
local c = require "steer.core.c"
local check = require "steer.core.check"
local options = require "steer.core.options"
require "steer.tensor" -- gives tensors their methods
local tensors = require "steer.tensor.object"
local tables = require "steer.core.tables"

local C = c.C
local raise = require("steer.core.error").raise

local M = {}

local Session = {}
Session.__topic = "session"
require("steer.core.class").strict(Session, "a session", { handle = true })

local STATES = { [0] = "waiting", "running", "stop", "length", "failed" }
local SESSION_OPTIONS = {
    sequences = "number", tokens = "number", rows = "number", vector_bytes = "number", sharing = "boolean",
    graphs = "boolean", reproducible = "boolean",
}

local session_out, id_out = ffi.new("steer_session *[1]"), ffi.new("int32_t[1]")
local count_out, tensor_out = ffi.new("int64_t[1]"), ffi.new("steer_tensor *[1]")
local capture_out = ffi.new "steer_capture *[1]"

--- Makes a session: sequences that are added, stepped, forked and steered while they run.
-- @param lm the model: lm:session{...}
-- @tparam[opt] table opts sequences (most that run at the same time, default 16; more wait), tokens (positions that the
-- KV cache has room for, default 16 times 512 or the model's context if that is less), rows (most rows of a step),
-- vector_bytes (budget of steering vectors on the device), sharing (default true: equal beginnings are computed once),
-- graphs (default true: steps that only generate are captured and replayed, on devices that can), reproducible (default
-- as the model was opened: no bit of a sequence depends on what runs beside it)
-- @return a session with add, step, status, tokens, logprobs, logits, steered, fork, set_spec, stop, drop, stats, close
function M.session(lm, opts)
    opts = options.check("session", opts, SESSION_OPTIONS)
    local desc = c.descriptor("steer_session_desc")
    desc.sequences = check.int32("session", "sequences", opts.sequences or 16)
    local tokens = opts.tokens or desc.sequences * math.min(512, lm.context)
    desc.tokens = check.integer("session", "tokens", tokens)
    desc.rows = check.integer("session", "rows", opts.rows or 0)
    desc.vector_bytes = check.integer("session", "vector_bytes", opts.vector_bytes or 0)
    desc.no_sharing = opts.sharing == false and 1 or 0
    desc.no_graphs = opts.graphs == false and 1 or 0
    if opts.reproducible == nil then opts.reproducible = lm.reproducible end
    desc.reproducible = opts.reproducible and 1 or 0
    c.alloc_as("session", nil, C.steer_session_create, session_out, lm:handle_for("session"), desc)
    return setmetatable({
        handle = c.own(session_out[0], C.steer_session_release), model = lm, sequences = tonumber(desc.sequences),
        capacity = tonumber(desc.tokens), lengths = {},
    }, Session)
end

local function use(self, op)
    if getmetatable(self) ~= Session then
        raise("invalid_argument", op, "self: expected a session, got %s; methods are called with a colon, as in "
            .. "session:step()", check.describe(self))
    end
    if self.handle == nil then raise("closed", op, "session: it is closed") end
    return self.handle
end

-- The same, and the id of a sequence.
local function use_id(self, op, id) return use(self, op), check.int32(op, "id", id) end

--- Makes what collects hidden states of sequences: the object of session:add's capture.
-- @param lm model
-- @param site a steer_site
-- @tparam table layers ascending
-- @tparam number groups
-- @tparam[opt] boolean squares also of their squares
-- @treturn table handle
function M.capture(lm, site, layers, groups, squares)
    local desc = c.descriptor("steer_capture_desc")
    local numbers = ffi.new("int32_t[?]", #layers, layers)
    desc.site, desc.groups, desc.layer_count, desc.layers = site, groups, #layers, numbers
    desc.squares = squares and 1 or 0
    c.alloc(C.steer_capture_create, capture_out, lm:handle_for("capture"), desc)
    return { handle = c.own(capture_out[0], C.steer_capture_release) }
end

-- ---- Adding --------------------------------------------------------------------------------------------------------

-- A list of ids as int32.
local function ids_of(op, name, list)
    local n = check.list(op, name, list, "a list of token ids")
    local ids = ffi.new("int32_t[?]", n + 1)
    check.fill_int32(op, name, list, n, ids)
    return ids, n
end

-- What a sequence hands to a capture: its handle, and the group of each of its n tokens.
local function groups_of(op, capture, n)
    local object = check.type(op, "capture.object", capture.object, "table", "a capture")
    if not ffi.istype("steer_capture *", object.handle) then
        raise("invalid_argument", op, "capture.object: expected a capture, got a table")
    end
    local groups, count = ids_of(op, "capture.groups", capture.groups)
    if count ~= n then
        raise("shape_mismatch", op, "capture.groups: %d entries, the sequence has %d tokens", count, n)
    end
    return object.handle, groups
end

-- 64 bits of a seed that a Lua number holds.
local function seed_of(op, seed)
    return ffi.cast("uint64_t", check.integer(op, "seed", seed, 0, check.MAX_INTEGER))
end

--- Fills the three spec handles of a descriptor from a spec (or nil).
local function fill_specs(op, target, spec)
    if spec == nil then return end
    local handles = require("steer.spec").handles(op, spec)
    target[C.STEER_SITE_EMBED], target[C.STEER_SITE_ATTENTION] = handles.embed, handles.attention
    target[C.STEER_SITE_LAYER] = handles.layer
end

local ADD_OPTIONS = {
    tokens = "table", prompt = "string", messages = "table", spec = true, max_tokens = "number",
    prompt_tokens = "number",
    temperature = "number", top_k = "number", top_p = "number", min_p = "number", repetition_penalty = "number",
    seed = "number", ignore_eos = "boolean", stop_ids = "table", logprobs_from = "number", logits_from = "number",
    capture = "table", add_generation_prompt = "boolean", tools = true, twin = "boolean", hold = "boolean",
    from = "number", apart = "boolean", others = "table",
}

--- Adds a sequence, which waits until there is room for it.
-- @tparam table request tokens (ids), prompt (a text) or messages (a chat); spec; max_tokens to generate (default 0);
-- prompt_tokens (how many of the tokens are the prompt, default all); temperature (default 0: greedy), top_k, top_p,
-- min_p, repetition_penalty, seed; ignore_eos; stop_ids; logprobs_from and logits_from (index from 0 of the first given
-- token whose log probability, or after which logits are wanted); others (ids whose log probabilities in the place of
-- the last given token are wanted too, behind those; with logprobs_from, without a twin); capture = {object, groups =
-- list, generated = group}; twin (true: the same sequence without the spec runs beside it, fed the same tokens; takes
-- the room of a sequence); hold (true: what is computed of it stays in the cache until it is dropped), from (id of a
-- sequence that is done, was held, is unsteered and has a capture of states after layers, each token in a group of its
-- own: as far as the tokens are the same, this one begins with those states, after the last captured layer below which
-- its spec does nothing); apart (true: others do not find in the cache what is computed of it, and what nobody reads
-- need not be there)
-- @treturn number id of the sequence
function Session:add(request)
    local handle, op = use(self, "session_add"), "session_add"
    check.type(op, "request", request, "table", "a table such as {prompt = text}")
    options.check(op, request, ADD_OPTIONS, "request")
    local list = self.model:tokens_of(op, request)
    local desc = c.descriptor("steer_sequence_desc")
    local ids, n = ids_of(op, "tokens", list)
    local stops, groups, others, count -- held until the call is done
    desc.tokens, desc.count = ids, n
    desc.prompt_tokens = check.integer(op, "prompt_tokens", request.prompt_tokens or n, 0)
    desc.max_tokens = check.integer(op, "max_tokens", request.max_tokens or 0)
    fill_specs(op, desc.specs, request.spec)
    desc.temperature, desc.top_p = request.temperature or 0, request.top_p or 1
    desc.min_p, desc.repetition_penalty = request.min_p or 0, request.repetition_penalty or 1
    desc.top_k = check.int32(op, "top_k", request.top_k or 0)
    desc.seed = seed_of(op, request.seed or 0)
    desc.ignore_eos, desc.twin = request.ignore_eos and 1 or 0, request.twin and 1 or 0
    desc.hold = request.hold and 1 or 0
    desc.from = check.int32(op, "from", request.from or -1)
    if request.stop_ids then
        stops, count = ids_of(op, "stop_ids", request.stop_ids)
        desc.stop_ids, desc.stop_count = stops, count
    end
    if request.others then
        others, count = ids_of(op, "others", request.others)
        desc.others, desc.other_count = others, count
    end
    desc.apart = request.apart and 1 or 0
    desc.logprobs_from = check.integer(op, "logprobs_from", request.logprobs_from or -1)
    desc.logits_from = check.integer(op, "logits_from", request.logits_from or -1)
    desc.capture_generated = -1
    if request.capture then
        desc.capture, groups = groups_of(op, request.capture, n)
        desc.capture_groups = groups
        desc.capture_generated = check.int32(op, "capture.generated", request.capture.generated or -1)
    end
    c.alloc(C.steer_session_add, id_out, handle, desc)
    local id = id_out[0]
    self.lengths[id] = n - (request.logprobs_from or 0) + (others and count or 0)
    return id
end

-- ---- Running -------------------------------------------------------------------------------------------------------

--- Runs one step of all sequences that run: a chunk of given tokens or the next token of each.
-- @treturn number sequences that are not done yet
function Session:step()
    local handle = use(self, "session_step")
    local status = C.steer_session_step(id_out, handle)
    if status ~= 0 then
        status = c.retry(status, C.steer_session_step, id_out, handle)
        c.check(status)
    end
    return id_out[0]
end

local status_out = c.descriptor("steer_sequence_status")

--- Says where a sequence stands.
-- @tparam number id what session:add gave
-- @treturn table state ("waiting", "running", "stop", "length" or "failed"), given, generated, computed, shared (of
-- those found in the cache), begun (of those with the states of another sequence)
function Session:status(id)
    c.check(C.steer_session_status(status_out, use_id(self, "session_status", id)))
    return {
        state = STATES[tonumber(status_out.state)], given = tonumber(status_out.given),
        generated = tonumber(status_out.generated), computed = tonumber(status_out.computed),
        shared = tonumber(status_out.shared), begun = tonumber(status_out.begun),
        failed_at = status_out.failed_at >= 0 and tonumber(status_out.failed_at) or nil,
    }
end

--- Gives the generated tokens of a sequence and their log probabilities.
-- @tparam number id
-- @tparam[opt=0] number start how many to skip
-- @treturn table ids
-- @treturn table log probabilities (of the model's distribution, before temperature and filters)
function Session:tokens(id, start)
    local handle = use_id(self, "session_tokens", id)
    start = check.integer("session_tokens", "start", start or 0)
    local n = self:status(id).generated
    local ids, logprobs = ffi.new("int32_t[?]", n + 1), ffi.new("float[?]", n + 1)
    c.check(C.steer_session_tokens(count_out, handle, id, start, n, ids, logprobs))
    local list, values = {}, {}
    for i = 1, tonumber(count_out[0]) do list[i], values[i] = ids[i - 1], logprobs[i - 1] end
    return list, values
end

--- Gives the log probabilities of the given tokens from logprobs_from on, then those of the others.
function Session:logprobs(id)
    local handle = use_id(self, "session_logprobs", id)
    local n = self.lengths[id] or 0
    local values = ffi.new("float[?]", math.max(n, 1))
    c.check(C.steer_session_logprobs(values, handle, id))
    local list = {}
    for i = 1, n do list[i] = values[i - 1] end
    return list
end

--- Gives what the unsteered twin says of the tokens of a sequence with one: those given from logprobs_from on, then the
-- generated ones.
-- @tparam number id
-- @treturn table per token: kl (KL(steered || unsteered) over the vocabulary, nats), logprobs (of the token under the
-- twin) and likeliest (the id that the twin finds likeliest there), each a list
function Session:twin(id)
    local handle, most = use_id(self, "session_twin", id), 2 ^ 31
    c.check(C.steer_session_twin(count_out, handle, id, 0, most, nil, nil, nil))
    local n = tonumber(count_out[0])
    local kl, logprobs = ffi.new("float[?]", n + 1), ffi.new("float[?]", n + 1)
    local likeliest = ffi.new("int32_t[?]", n + 1)
    c.check(C.steer_session_twin(count_out, handle, id, 0, n, kl, logprobs, likeliest))
    local twin = { kl = {}, logprobs = {}, likeliest = {} }
    for i = 1, n do
        twin.kl[i], twin.logprobs[i], twin.likeliest[i] = kl[i - 1], logprobs[i - 1], likeliest[i - 1]
    end
    return twin
end

--- Gives the logits of the given tokens from logits_from on.
-- @treturn tensor f32 [n, vocab] on the model's device
function Session:logits(id)
    c.check(C.steer_session_logits(tensor_out, use_id(self, "session_logits", id)))
    tensors.out[0] = tensor_out[0]
    return tensors.own()
end

--- Counts the rows of a sequence that operations of its spec selected or, where one of them has a `when`, those of
-- them that changed.
-- @treturn table { [layer] = rows }, layers without such rows left out, and under "embed" a number and under
-- "attention" a table like it where there are some
function Session:steered(id)
    local handle, layers = use_id(self, "session_steered", id), self.model.layers
    local counts = ffi.new("int64_t[?]", 3 * layers)
    c.check(C.steer_session_steered(counts, handle, id))
    local steered, attention = {}, {}
    local sites = { [tonumber(C.STEER_SITE_LAYER)] = steered, [tonumber(C.STEER_SITE_ATTENTION)] = attention }
    for _, site in ipairs(tables.keys(sites)) do
        local rows = sites[site]
        for layer = 0, layers - 1 do
            local n = tonumber(counts[site * layers + layer])
            if n > 0 then rows[layer] = n end
        end
    end
    local embed = tonumber(counts[tonumber(C.STEER_SITE_EMBED) * layers])
    if embed > 0 then steered.embed = embed end
    if tables.first(attention) ~= nil then steered.attention = attention end
    return steered
end

--- Adds a sequence with the tokens of another one so far and its settings: what is computed is shared. Its random draws
-- go on with the same numbers, so that under the same spec both choose the same tokens, and under another one only the
-- spec makes the difference. For other draws add the tokens with another seed.
-- @tparam number id
-- @tparam number max_tokens how many it generates; of 0 a twin has nothing to judge, so such a fork has none
-- @treturn number id of the new sequence
function Session:fork(id, max_tokens)
    local handle = use_id(self, "session_fork", id)
    check.integer("session_fork", "max_tokens", max_tokens)
    c.alloc(C.steer_session_fork, id_out, handle, id, max_tokens)
    local fork = id_out[0]
    self.lengths[fork] = 0 -- none that is asked for
    return fork
end

--- Gives a sequence another spec (nil: none): as if it had had it from its start. What was computed otherwise is
-- computed anew.
function Session:set_spec(id, spec)
    local handle = use_id(self, "session_set_spec", id)
    local specs = ffi.new("steer_spec *[3]")
    fill_specs("session_set_spec", specs, spec)
    c.check(C.steer_session_set_specs(handle, id, specs))
end

--- Ends a sequence; its tokens stay.
function Session:stop(id) c.check(C.steer_session_stop(use_id(self, "session_stop", id))) end

--- Forgets a sequence.
function Session:drop(id)
    c.check(C.steer_session_drop(use_id(self, "session_drop", id)))
    self.lengths[id] = nil
end

local stats_out = c.descriptor("steer_session_stats")

--- Counts what the session holds and did.
-- @treturn table running, waiting, steps, rows, blocks, blocks_free, shared_blocks, evictions, cache_bytes, graphs
-- (captured steps), replays (launches of those)
function Session:stats()
    c.check(C.steer_session_get_stats(stats_out, use(self, "session_stats")))
    local stats = {}
    for _, key in ipairs { "running", "waiting", "steps", "rows", "blocks", "blocks_free", "shared_blocks", "evictions",
        "cache_bytes", "graphs", "replays" } do
        stats[key] = tonumber(stats_out[key])
    end
    return stats
end

--- Frees the session and its KV cache now.
function Session:close()
    if getmetatable(self) ~= Session then use(self, "session_close") end
    if self.handle ~= nil then c.free(self.handle, C.steer_session_release) end
    self.handle = nil
end

function Session:__tostring()
    if self.handle == nil then return "session (closed)" end
    local stats = self:stats()
    return ("session: %d running, %d waiting, %d of %d blocks free, %d steps"):format(stats.running, stats.waiting,
        stats.blocks_free, stats.blocks, stats.steps)
end

return M
