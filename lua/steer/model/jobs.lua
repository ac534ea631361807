--- Runs lists of requests of a model in its shared session, kept between calls so that beginnings stay computed.
local c = require "steer.core.c"
local check = require "steer.core.check"
local device_module = require "steer.device"
local specs = require "steer.spec"
local tables = require "steer.core.tables"
local warn = require "steer.core.warn"

local raise = require("steer.core.error").raise

local M = {}

local CPU_SEQUENCES, GPU_SEQUENCES = 32, 256
local AHEAD = 8192 -- tokens that are added before a step: enough to fill it, also where much is found in the cache
local MEMORY_SHARE = 0.6 -- of what is free, that a cache may take

local function round_up(n) return math.ceil(n / 16) * 16 end

--- Positions that a cache can have, by the memory that is free.
function M.affordable(lm)
    for _, device in ipairs(device_module.list()) do
        if device.id == lm.device and device.free_bytes and device.free_bytes > 0 then
            return math.floor(device.free_bytes * MEMORY_SHARE / lm.token_bytes)
        end
    end
    return math.huge
end

--- Sequences that run at the same time, at most.
function M.at_once(lm) return lm.device == "cpu" and CPU_SEQUENCES or GPU_SEQUENCES end

--- The shared session of a model, with room for sequences of the given needs (positions each): all at once if memory
-- allows, but at least for the longest, and the twin beside it where there are twins.
-- @tparam[opt] number room most positions that its cache may have, at least what the longest needs
-- @tparam[opt] number held positions that are to be held in it besides
local function session_for(lm, needs, twins, room, held)
    held = held or 0
    local longest, total = 0, 0
    for _, need in ipairs(needs) do
        longest, total = math.max(longest, round_up(need)), total + round_up(need)
    end
    local most = M.at_once(lm)
    local sequences = math.min(#needs, most)
    local shared = rawget(lm, "shared_session")
    local enough = math.min(total, longest * most) + held
    room = room and math.floor(room / 16) * 16 or math.huge
    local fits = shared and shared.sequences >= sequences and shared.capacity <= room
    if fits and shared.capacity - shared.held >= enough then return shared end
    local least = longest * (twins and 2 or 1) + held
    local tokens = math.max(least, math.min(math.max(enough, 2048), M.affordable(lm), room))
    if fits and shared.capacity - shared.held >= tokens then return shared end
    if shared and shared.calls == 0 then shared:close() end -- else the calls that run in it still need it
    rawset(lm, "shared_session", nil)
    shared = lm:session { sequences = math.max(sequences, math.min(8, most)), tokens = tokens }
    shared.calls, shared.held = 0, 0
    rawset(lm, "shared_session", shared)
    return shared
end
M.session_for = session_for

-- Positions beyond a prompt may be meant for longer ones of the same list; a spec that has no others steers nothing.
local function warn_of_positions(job)
    local request = job.request
    local n = request.prompt_tokens or #request.tokens
    local missed = request.spec and specs.misses(request.spec, n)
    if missed then
        warn.once("positions", "%s: its spec steers positions that its prompt of %d token%s does not have, where %s: "
            .. "it is not steered", job.name, n, n == 1 and "" or "s", missed)
    end
end

-- Adds a job's request; gives its id.
local function add(session, op, job)
    local ok, id = pcall(session.add, session, job.request)
    if ok then
        warn_of_positions(job)
        return id
    end
    if type(id) == "table" and id.message then
        id.op, id.message = op, ("%s: %s"):format(job.name, id.message)
    end
    return error(id, 0)
end

-- Adds all requests. Those that generate nothing are begun meanwhile, so that a device does not wait for the last one.
local function add_all(session, op, list, ids, each)
    local tokens = 0
    for i, job in ipairs(list) do
        ids[i] = add(session, op, job)
        tokens = tokens + (job.request.max_tokens and -math.huge or #job.request.tokens)
        if tokens >= AHEAD then
            tokens = 0
            session:step()
            if each then each(session, ids) end
        end
    end
end

--- Adds requests to the shared session and steps until all are done.
-- @param lm model
-- @tparam string op for messages
-- @tparam table list of {request = what session:add takes, name = what messages call it, such as "requests[3]"}
-- @tparam[opt] function each called after every step with the session and the ids
-- @tparam function finish called with the session and the ids at the end, also of an interrupt, whose error goes on
-- after it; gives what is returned
-- @tparam[opt] table how room = most positions that the cache may have, at least what the longest request needs; kept =
-- what model/kept.keep gave, whose session has room for the requests
function M.run(lm, op, list, each, finish, how)
    local needs = {}
    local twins
    for _, job in ipairs(list) do
        local given, more = #job.request.tokens, job.request.max_tokens or 0
        needs[#needs + 1] = given + more
        if given + more > lm.context then
            local asked = given <= lm.context and (" and %.0f to generate"):format(more) or ""
            raise("invalid_argument", op, "%s: %d tokens%s, the model's context is %d", job.name, given, asked,
                lm.context)
        end
        if job.request.twin then needs[#needs + 1], twins = needs[#needs], true end
    end
    local session, ids = how and how.kept and how.kept.session or session_for(lm, needs, twins, how and how.room), {}
    session.calls = session.calls + 1 -- on_token may call the model again
    local ok, err = pcall(function()
        add_all(session, op, list, ids, each)
        while session:step() > 0 do
            if each then each(session, ids) end
        end
        if each then each(session, ids) end
    end)
    local result
    if ok or (type(err) == "table" and err.code == "interrupted") then
        if not ok then c.C.steer_interrupt_clear() end -- noticed, but not by the library if on_token ran
        local finished, value = pcall(finish, session, ids)
        if ok and not finished then ok, err = false, value end
        result = value
    end
    session.calls = session.calls - 1
    if session.handle ~= nil then
        for i, id in ipairs(ids) do
            if not (ok and list[i].request.hold) then session:drop(id) end
        end
        if session.calls == 0 and session ~= rawget(lm, "shared_session") then session:close() end
    end
    if not ok then error(err, 0) end
    return result
end

--- Computes unsteered prompts, which requests that run next then find in the cache: twins, and those whose specs leave
-- their beginnings alone.
-- @tparam table prompts list of lists of ids
-- @tparam table needs positions of all requests that come, for the size of the session
-- @tparam boolean twins whether there are twins among them
-- @tparam[opt] function each
-- @tparam[opt] number room most positions that the cache may have, at least what the longest request needs
function M.begin(lm, op, prompts, needs, twins, each, room)
    local list, all = {}, {}
    for i, ids in ipairs(prompts) do
        list[i], all[i] = { request = { tokens = ids }, name = ("prompts[%d]"):format(i) }, #ids
    end
    for _, need in ipairs(needs) do all[#all + 1] = need end
    session_for(lm, all, twins, room)
    M.run(lm, op, list, each, function() end, { room = room })
end

--- Raises the error of a job whose logits at a position (from 0) are not finite.
function M.not_finite(op, job, position)
    raise("invalid_argument", op, "%s: the logits at position %d are not finite: a spec or the weights are too large",
        job.name, position)
end

--- Checks ids of a list before a session has them, which would not know what the caller calls them.
function M.check_ids(lm, op, name, ids)
    for i, id in ipairs(ids) do check.integer(op, ("%s[%d]"):format(name, i), id, 0, lm.vocab - 1) end
end

--- Checks a list of requests: a table of at least one entry.
function M.check_list(op, name, list)
    check.type(op, name, list, "table", "a list of " .. (name == "requests" and name or "texts or tables"))
    local key = #list == 0 and tables.first(list)
    if type(key) == "string" then
        raise("invalid_argument", op, "%s: expected a list, found %s: write { {%s = ...} }", name,
            check.describe(key), key)
    end
    if check.list(op, name, list) == 0 then
        raise("invalid_argument", op, "%s: the list is empty, expected at least one request", name)
    end
    return list
end

return M
