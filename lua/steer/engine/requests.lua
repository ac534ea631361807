--- Batches on their way to C: checks request tables and writes them into an array that is kept from step to step.
local ffi = require "ffi"
local c = require "steer.core.c"
local check = require "steer.core.check"
local options = require "steer.core.options"
local tensors = require "steer.tensor.object"
local warn = require "steer.core.warn"
local Spec = require("steer.spec").Spec

local C = c.C
local raise = require("steer.core.error").raise
local type, getmetatable = type, getmetatable

local M = {}

local REQUEST = { spec = true, tokens = true, phase = true, position = true, prompt_tokens = true, token_ids = true }
local MAX = check.MAX_INTEGER
local PROMPT, GENERATION = tonumber(C.STEER_PROMPT), tonumber(C.STEER_GENERATION)

-- The array is written through views of its words: array[i].field would make a reference to the record, which is
-- garbage wherever LuaJIT does not compile it away.
local RECORD = ffi.sizeof("steer_request") / 8 -- words of 8 bytes
local function word(field) return ffi.offsetof("steer_request", field) / 8 end
local SPEC, TOKENS, POSITION, PROMPT_TOKENS = word "spec", word "tokens", word "position", word "prompt_tokens"
local TOKEN_IDS, PHASE = word "token_ids", 2 * word "phase"

local function allocate(batch, capacity)
    batch.requests, batch.capacity = ffi.new("steer_request[?]", capacity), capacity
    batch.words = ffi.cast("int64_t *", batch.requests)
    batch.specs = ffi.cast("steer_spec **", batch.requests)
    batch.phases = ffi.cast("int32_t *", batch.requests)
    return batch
end

--- Makes an empty batch: `requests` is the array, `count` its entries in use.
function M.new()
    local batch = { count = 0, ids = ffi.new("int64_t[?]", 8), ids_capacity = 8, step = 0 }
    return allocate(batch, 8)
end

-- ---- What is wrong with a request, once something is ---------------------------------------------------------------

local function wrong_site(op, i, spec)
    raise("unsupported", op, 'requests[%d]: spec: it acts at "%s", which only models have: give it to lm:generate', i,
        spec.attention and "attention" or "embed")
end

local function wrong_spec(op, i, spec)
    if getmetatable(spec) == Spec then raise("closed", op, "requests[%d].spec: it is closed", i) end
    raise("invalid_argument", op, "requests[%d].spec: expected a spec, got %s", i, check.describe(spec))
end

local function wrong_number(op, i, key, value, low)
    check.integer(op, ("requests[%d].%s"):format(i, key), value, low)
end

local function wrong_phase(op, i, phase)
    raise("invalid_argument", op, 'requests[%d].phase: expected "prompt" or "generation", got %s', i,
        check.describe(phase))
end

local function check_table(op, i, request)
    return check.type(op, ("requests[%d]"):format(i), request, "table", "a table { spec =, tokens = }")
end

-- A prompt is what a request is without a phase, and of a prompt such a spec steers nothing.
local function warn_of_phase(i, request)
    local spec = request.spec
    if request.phase == nil and getmetatable(spec) == Spec and spec.generation_only then
        warn.once("phase", 'requests[%d]: its spec steers generated tokens only, and without phase = "generation" its '
            .. "rows are of a prompt: they are not steered", i)
    end
end

-- Keys are checked when a table comes to its place in a list for the first time, and from then on once in RECHECK
-- steps: walking them costs more than all else, and a table that is used again rarely gains a key.
local RECHECK = 64
local WEAK = { __mode = "v" } -- what was seen is not kept alive
local seen = setmetatable({}, { __mode = "k" }) -- list of requests -> its tables whose keys were checked, by place

local function check_keys(op, requests, n)
    local count, slots = 0, seen[requests] or setmetatable({}, WEAK)
    for _ in pairs(requests) do count = count + 1 end
    if count ~= n then check.list(op, "requests", requests) end
    for i = 1, n do
        local request = check_table(op, i, requests[i])
        for key in pairs(request) do
            if not REQUEST[key] then options.check(op, request, REQUEST, ("requests[%d]"):format(i)) end
        end
        warn_of_phase(i, request)
        slots[i] = request
    end
    seen[requests] = slots
    return slots
end
jit.off(check_keys) -- for the reason that core/tables.lua gives

-- ---- Token ids -----------------------------------------------------------------------------------------------------

-- Elements of an integer tensor on the CPU as a pointer to int64_t, or nil if they must be converted.
local function direct_ids(ids)
    if ids.dtype == "i64" and ids:is_contiguous() then return ffi.cast("const int64_t *", ids:data()) end
    return nil
end

local function check_ids(op, i, ids, tokens)
    local name = ("requests[%d].token_ids"):format(i)
    local n
    if tensors.is(ids) then
        tensors.use(ids, op, name)
        if ids.device ~= "cpu" then
            raise("device_mismatch", op, "%s: a tensor on %s, expected one on the CPU", name, ids.device)
        elseif ids.dtype ~= "i64" and ids.dtype ~= "i32" then
            raise("dtype_mismatch", op, "%s: a tensor of %s, expected i32 or i64", name, ids.dtype)
        elseif ids.ndim ~= 1 then
            raise("shape_mismatch", op, "%s: a tensor of %d dimensions, expected 1", name, ids.ndim)
        end
        n = ids:numel()
    else
        n = check.list(op, name, ids, "a list or an i32 or i64 tensor")
    end
    if n ~= tokens then
        raise("shape_mismatch", op, "%s: %d entries, the request has %d tokens", name, n, tokens)
    end
    return n
end

-- Room for n ids in the batch's own array.
local function reserve_ids(batch, n)
    if n <= batch.ids_capacity then return end
    batch.ids_capacity = math.max(n, 2 * batch.ids_capacity)
    batch.ids = ffi.new("int64_t[?]", batch.ids_capacity)
end

local function write_ids(op, i, out, ids)
    local list = tensors.is(ids) and ids:totable() or ids
    for k = 1, #list do
        local id = list[k]
        if type(id) ~= "number" or id % 1 ~= 0 or id < -MAX or id > MAX then
            check.integer(op, ("requests[%d].token_ids[%d]"):format(i, k), id)
        end
        out[k - 1] = id
    end
    return #list
end

-- Lists go into the batch's array, i64 tensors are read where they lie.
local function fill_ids(batch, op, requests)
    local total = 0
    for i, request in ipairs(requests) do
        local ids = request.token_ids
        if ids ~= nil then total = total + check_ids(op, i, ids, request.tokens) end
    end
    reserve_ids(batch, total)
    local at = 0
    for i, request in ipairs(requests) do
        local ids = request.token_ids
        if ids ~= nil then
            local pointer = tensors.is(ids) and direct_ids(ids)
            if not pointer then
                pointer = batch.ids + at
                at = at + write_ids(op, i, pointer, ids)
            end
            batch.requests[i - 1].token_ids = pointer
        end
    end
end

-- ---- Requests ------------------------------------------------------------------------------------------------------

local function reserve(batch, n)
    if n <= batch.capacity then return end
    local capacity = batch.capacity
    while capacity < n do capacity = 2 * capacity end
    allocate(batch, capacity)
end

-- Each of these writes a part of request i through views of the batch's array. They have a loop each in M.fill: LuaJIT
-- compiles a loop for the kinds of values that it sees first, and the places of generated tokens are of other kinds
-- than those of prompts.

local function write_rows(words, specs, op, i, request)
    local at = (i - 1) * RECORD
    if type(request) ~= "table" then check_table(op, i, request) end
    local tokens = request.tokens
    if type(tokens) ~= "number" or tokens % 1 ~= 0 or tokens < -MAX or tokens > MAX then
        wrong_number(op, i, "tokens", tokens)
    end
    words[at + TOKENS] = tokens
    local spec = request.spec
    if spec == nil then
        specs[at + SPEC] = nil
    else
        if getmetatable(spec) ~= Spec or spec.handle == nil then wrong_spec(op, i, spec) end
        if spec.attention or spec.embed then wrong_site(op, i, spec) end
        specs[at + SPEC] = spec.handle
    end
    words[at + TOKEN_IDS] = 0
end

local function write_place(words, phases, op, i, request)
    local at = (i - 1) * RECORD
    local phase = request.phase
    if phase == nil or phase == "prompt" then
        phases[2 * at + PHASE] = PROMPT
    else
        if phase ~= "generation" then wrong_phase(op, i, phase) end
        phases[2 * at + PHASE] = GENERATION
    end
    local position = request.position
    if position == nil then
        words[at + POSITION] = 0
    else
        if type(position) ~= "number" or position % 1 ~= 0 or position < -MAX or position > MAX then
            wrong_number(op, i, "position", position)
        end
        words[at + POSITION] = position
    end
    local prompt_tokens = request.prompt_tokens
    if prompt_tokens == nil then
        words[at + PROMPT_TOKENS] = -1
    else
        if type(prompt_tokens) ~= "number" or prompt_tokens % 1 ~= 0 or prompt_tokens < 0 or prompt_tokens > MAX then
            wrong_number(op, i, "prompt_tokens", prompt_tokens, 0)
        end
        words[at + PROMPT_TOKENS] = prompt_tokens
    end
end

--- Checks `requests` and writes them into the batch; returns their number.
function M.fill(batch, op, requests)
    if type(requests) ~= "table" then check.type(op, "requests", requests, "table", "a list of requests") end
    local n = #requests
    reserve(batch, n)
    local words, specs, phases = batch.words, batch.specs, batch.phases
    batch.step = batch.step % RECHECK + 1
    local slots = seen[requests]
    if slots == nil or batch.step == RECHECK or requests[n + 2] ~= nil then -- the last: something lies beyond a hole
        slots = check_keys(op, requests, n)
    end
    local has_ids, unseen = false, false
    for i = 1, n do
        local request = requests[i]
        write_rows(words, specs, op, i, request)
        if request.token_ids ~= nil then has_ids = true end
        if slots[i] ~= request then unseen = true end
    end
    for i = 1, n do write_place(words, phases, op, i, requests[i]) end
    if unseen then check_keys(op, requests, n) end
    if has_ids then fill_ids(batch, op, requests) end
    batch.count = n
    return n
end

--- Rows of a plan for the batch: `padded`, or the sum of the tokens.
function M.rows(batch, padded)
    local rows = padded or 0
    if not padded then
        for i = 0, batch.count - 1 do rows = rows + tonumber(batch.requests[i].tokens) end
    end
    return rows
end

return M
