--- Prompts that are computed once, unsteered, and held with their states after some layers: requests that are steered
--- above these begin there. Within a budget of memory; prompts that do not fit together are kept in turns.
local c = require "steer.core.c"
local jobs = require "steer.model.jobs"
local sessions = require "steer.model.session"
local warn = require "steer.core.warn"

local M = {}

local STATE_BYTES = 4 -- of an element: states are kept in f32

local function round_up(n) return math.ceil(n / 16) * 16 end

-- Bytes of a prompt: its keys and values, and its states.
local function bytes_of(lm, prompt, layers)
    return round_up(#prompt) * lm.token_bytes + #prompt * #layers * lm.hidden * STATE_BYTES
end

--- Splits prompts into parts that can be kept at a time.
-- @param lm model
-- @tparam string op whose budget it is, for what is said
-- @tparam table prompts list of lists of ids
-- @tparam table layers whose states are kept
-- @tparam number longest positions that the longest request needs
-- @tparam boolean twins whether a twin needs as many beside it
-- @tparam[opt] number budget bytes of cache and states; default a share of what is free
-- @treturn table list of {first, last, room = positions of the cache or nil}; nil if not even one prompt fits, which is
-- said
function M.parts(lm, op, prompts, layers, longest, twins, budget)
    local bytes = budget or jobs.affordable(lm) * lm.token_bytes
    local half = bytes < math.huge and bytes / 2 or 0 -- of no known end there is enough
    local spare = math.max(round_up(longest) * (twins and 2 or 1) * lm.token_bytes, half) -- for what runs
    local parts, at = {}, 1
    while at <= #prompts do
        local part, left, states = { first = at }, bytes - spare, 0
        while at <= #prompts and bytes_of(lm, prompts[at], layers) <= left do
            left = left - bytes_of(lm, prompts[at], layers)
            states = states + #prompts[at] * #layers * lm.hidden * STATE_BYTES
            at = at + 1
        end
        if part.first == at then
            warn.once("kept", "%s: no room to keep the states of a prompt of %d tokens after %d layer%s beside the "
                .. "cache in %.0f bytes%s: every case computes its prompts anew", op, #prompts[at], #layers,
                #layers == 1 and "" or "s", bytes, budget and " (budget)" or " of memory")
            return nil
        end
        part.last, part.room = at - 1, budget and math.floor((budget - states) / lm.token_bytes / 16) * 16
        parts[#parts + 1] = part
    end
    return parts
end

local function keep(lm, op, prompts, layers, needs, twins, how)
    local list, held, rows = {}, 0, 0
    for i, ids in ipairs(prompts) do
        local groups = {}
        for k = 1, #ids do groups[k] = rows + k - 1 end
        rows, held = rows + #ids, held + round_up(#ids)
        list[i] = { request = { tokens = ids, hold = true, capture = { groups = groups } },
            name = ("prompts[%d]"):format(i) }
    end
    local object = sessions.capture(lm, c.C.STEER_SITE_LAYER, layers, rows)
    for _, job in ipairs(list) do job.request.capture.object = object end
    local session = jobs.session_for(lm, needs, twins, how and how.room, held)
    local kept = { session = session, held = held, of = {}, ids = {} }
    jobs.run(lm, op, list, how and how.each, function(_, ids)
        for i, id in ipairs(ids) do kept.of[prompts[i]], kept.ids[i] = id, id end
    end, { kept = { session = session, of = {} } })
    session.calls, session.held = session.calls + 1, session.held + held
    return kept
end

--- Keeps prompts; gives what jobs.run takes as how.kept: `of` has the sequence of each prompt, by its list of ids.
-- @param lm model
-- @tparam string op
-- @tparam table prompts list of lists of ids
-- @tparam table layers ascending
-- @tparam table needs positions of the requests that come, for the size of the session
-- @tparam boolean twins whether there are twins among them
-- @tparam[opt] table how each, room as for jobs.run
-- @treturn table nil where memory is lacking, which is said
function M.keep(lm, op, prompts, layers, needs, twins, how)
    local ok, got = pcall(keep, lm, op, prompts, layers, needs, twins, how)
    if ok then return got end
    if type(got) ~= "table" or got.code ~= "out_of_memory" then error(got, 0) end
    warn.once("kept", "%s: %s: every case computes its prompts anew", op, got.message)
end

--- Forgets what was kept.
function M.release(lm, kept)
    local session = kept.session
    session.calls, session.held = session.calls - 1, session.held - kept.held
    if session.handle == nil then return end
    for _, id in ipairs(kept.ids) do session:drop(id) end
    if session.calls == 0 and session ~= rawget(lm, "shared_session") then session:close() end
end

return M
