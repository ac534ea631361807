--- timed.lua: times a model: steps of decoding, prefill, prefill with captures, loading. Candidates take turns.
local ffi = require "ffi"
local c = require "steer.core.c"
local steer = require "steer"
local clock = steer.bench.clock

local M = {}

M.BLOCK = 8 -- steps of a sample
local BLOCKS = 8 -- samples of a candidate before its sequences begin anew: 64 steps
local FEWEST, MOST = 3, 40 -- samples of a prefill

--- A list of `n` ids below lm.vocab, of a seed.
function M.ids(lm, n, seed)
    local list, x = {}, seed * 7919 + 1
    for i = 1, n do
        x = x * 16807 % (2 ^ 31 - 1) -- Park and Miller's generator
        list[i] = x % lm.vocab
    end
    return list
end

-- Results: bench.stats by name, each with unit and device.
local function results_of(samples)
    local results = {}
    for name, list in pairs(samples) do results[name] = { wall = steer.bench.stats(list) } end
    return results
end

local function round_up(n) return math.ceil(n / 16) * 16 end

-- ---- Specs ---------------------------------------------------------------------------------------------------------

local POOL = 2 ^ 22 -- normal numbers of which vectors are cut: at other offsets they are other vectors
local MAKE = {
    add = function(v) return steer.add(v, 0.01) end,
    cap = function(v) return steer.cap(v, { min = -0.05, max = 0.05 }) end,
    ablate = function(v) return steer.ablate(v) end,
}

--- Lists `n` specs with operations of the kinds on every layer, each with a vector of its own.
function M.specs(lm, kinds, n)
    local pool = steer.tensor.randn({ POOL + lm.hidden }, { device = "cpu", seed = 7 })
    local list, at = {}, 0
    for i = 1, n do
        local layers = {}
        for layer = 0, lm.layers - 1 do
            local ops = {}
            for k, kind in ipairs(kinds) do
                at = (at + 8191) % POOL -- a prime: it does not come back soon
                ops[k] = MAKE[kind](pool:narrow(1, at + 1, lm.hidden))
            end
            layers[layer] = ops
        end
        list[i] = steer.spec(layers)
    end
    return list
end

-- ---- Decoding ------------------------------------------------------------------------------------------------------

-- Sequences of a candidate: all generate when `begin` returns.
local function make_run(lm, opts, candidate)
    local specs = candidate ~= "reproducible" and candidate
    local n, context = opts.sequences, opts.context
    local rows = opts.rows or (opts.device.id == "cpu" and 256 or 2048)
    local staggered = 2 * math.ceil(n * context / rows) -- steps that the first may be ahead of the last
    local room = M.BLOCK * (BLOCKS + 1) + staggered + 8
    local self = { ids = {}, prompts = {} }
    for i = 1, n do self.prompts[i] = M.ids(lm, context, i) end
    local session = lm:session {
        sequences = n, tokens = n * round_up(context + room), rows = opts.rows,
        reproducible = candidate == "reproducible",
    }
    function self.begin()
        for i = 1, n do
            if self.ids[i] then session:drop(self.ids[i]) end
            self.ids[i] = session:add {
                tokens = self.prompts[i], spec = specs and specs[(i - 1) % #specs + 1] or nil, max_tokens = room,
                temperature = opts.temperature, seed = i, ignore_eos = true,
            }
        end
        repeat session:step() until session:status(self.ids[n]).generated > 0
    end
    function self.block(device)
        local from = clock()
        for _ = 1, M.BLOCK do session:step() end
        device:synchronize()
        return (clock() - from) / M.BLOCK
    end
    -- Fails unless all sequences were there in all of the steps.
    function self.check()
        for i, id in ipairs(self.ids) do
            local status = session:status(id)
            if status.state ~= "running" or status.generated < M.BLOCK * BLOCKS then
                error(("sequence %d of %d: %s after %d tokens"):format(i, n, status.state, status.generated), 0)
            end
        end
    end
    function self.close() session:close() end
    return self
end

--- Times steps in which each sequence has its next token computed and sampled.
-- opts: sequences, context (tokens of a prompt), candidates (name -> list of specs; unsteered: false, or "reproducible"
-- in such a session), seconds (of each), passes (at most), temperature, rows, device
-- @treturn table name -> {wall = statistics of the seconds of a step}
function M.decode(lm, opts)
    local names, runs, samples = {}, {}, {}
    for name in pairs(opts.candidates) do names[#names + 1] = name end
    table.sort(names)
    for i, name in ipairs(names) do
        runs[i], samples[name] = make_run(lm, opts, opts.candidates[name]), {}
    end
    local from, pass = clock(), 0
    repeat
        pass = pass + 1
        for _, run in ipairs(runs) do run.begin() end
        if pass == 1 then
            for _, run in ipairs(runs) do run.block(opts.device) end -- what is made once is made now
        end
        for k = 1, BLOCKS do
            for i = 1, #runs do
                local at = k % 2 == 0 and i or #runs + 1 - i -- in both directions in turn
                table.insert(samples[names[at]], runs[at].block(opts.device))
            end
        end
        for _, run in ipairs(runs) do run.check() end
    until pass >= opts.passes or clock() - from > opts.seconds * #runs
    for _, run in ipairs(runs) do run.close() end
    return results_of(samples)
end

-- ---- Prefill -------------------------------------------------------------------------------------------------------

-- A capture of all layers with a group for each sequence.
local function make_capture(lm, groups)
    local desc, out = c.descriptor("steer_capture_desc"), ffi.new("steer_capture *[1]")
    local layers = ffi.new("int32_t[?]", lm.layers)
    for i = 0, lm.layers - 1 do layers[i] = i end
    desc.site, desc.groups, desc.layer_count, desc.layers = c.C.STEER_SITE_LAYER, groups, lm.layers, layers
    c.alloc(c.C.steer_capture_create, out, lm:handle_for("capture"), desc)
    return { handle = c.own(out[0], c.C.steer_capture_release) }
end

-- Which group each of `tokens` tokens of sequence i belongs to, by what is captured.
local GROUPS = {
    last = function(k, tokens, i) return k == tokens and i - 1 or -1 end,
    mean = function(_, _, i) return i - 1 end,
}

--- Times prefills, each with a first token sampled: plain, and with captures of every layer's last token and mean.
-- opts: sequences, tokens (of each), seconds (of each candidate), rows, device
-- @treturn table "plain", "last" and "mean" -> {wall = statistics of the seconds of a prefill}
function M.prefill(lm, opts)
    local n, tokens = opts.sequences, opts.tokens
    local session = lm:session {
        sequences = n, tokens = n * round_up(tokens + 1), rows = opts.rows, sharing = false,
    }
    local prompts = {}
    for i = 1, n do prompts[i] = M.ids(lm, tokens, i) end
    local function timed(what)
        local object, ids = what and make_capture(lm, n), {}
        for i = 1, n do
            local groups
            if what then
                groups = {}
                for k = 1, tokens do groups[k] = GROUPS[what](k, tokens, i) end
            end
            ids[i] = session:add {
                tokens = prompts[i], max_tokens = 1, capture = what and { object = object, groups = groups } or nil,
            }
        end
        opts.device:synchronize()
        local from = clock()
        repeat until session:step() == 0
        opts.device:synchronize()
        local seconds = clock() - from
        for _, id in ipairs(ids) do
            if session:status(id).generated ~= 1 then error("a prompt gave no token", 0) end
            session:drop(id)
        end
        return seconds
    end
    local names, samples = { "plain", "last", "mean" }, { plain = {}, last = {}, mean = {} }
    local function turn(k)
        for i = 1, #names do
            local name = names[k % 2 == 0 and i or #names + 1 - i]
            table.insert(samples[name], timed(name ~= "plain" and name))
        end
    end
    turn(0)
    for _, name in ipairs(names) do samples[name] = {} end
    local from, k = clock(), 0
    repeat
        k = k + 1
        turn(k)
    until k >= MOST or k >= FEWEST and clock() - from > opts.seconds * #names
    session:close()
    return results_of(samples)
end

-- ---- Grids -------------------------------------------------------------------------------------------------------

local OPTIONS = { { 11 }, { 12 } } -- the two continuations of which a grid's score tells one from the other

-- The cases of a grid in an order that mixes layers, scales and prompts: case(i) gives a spec, one object for all
-- prompts, and a prompt's tokens.
local function cases_of(opts, prompts, vector)
    local total, specs = #opts.layers * #opts.scales * #prompts, {}
    return total, function(i)
        local k = (i - 1) * 7919 % total -- a prime that divides none
        local layer, scale = k % #opts.layers, math.floor(k / #opts.layers) % #opts.scales
        local prompt, of = math.floor(k / (#opts.layers * #opts.scales)), layer * #opts.scales + scale
        specs[of] = specs[of] or steer.spec {
            [opts.layers[layer + 1]] = { steer.add(vector, opts.scales[scale + 1]) },
        }
        return specs[of], prompts[prompt + 1].tokens
    end
end

-- Scores the first `count` cases, `at_once` of them in one call.
local function score(lm, case, count, at_once)
    for first = 1, count, at_once do
        local requests = {}
        for i = first, math.min(first + at_once - 1, count) do
            local spec, tokens = case(i)
            requests[#requests + 1] = { tokens = tokens, options = OPTIONS, spec = spec }
        end
        lm:score(requests)
    end
end

-- What the shared session of a model has done so far.
local function stats_of(lm)
    local session = rawget(lm, "shared_session")
    local stats = session and session:stats() or { steps = 0, rows = 0 }
    return { session = session, steps = stats.steps, rows = stats.rows }
end

--- Times a grid: a vector at every layer and scale, two options scored after every prompt; and its cases with lm:score,
-- in batches, where each case computes its prompt, and one after the other. Where those are fewer than all cases, the
-- time of all follows from theirs.
-- opts: layers, scales, prompts, tokens (of a prompt), count (grids), batched, alone (how many cases of those), at_once
-- @treturn table "grid", "batched" and "alone" -> {wall = statistics of the seconds of all cases, steps (of the last
-- one), step_rows (rows of each)}
function M.grid(lm, opts)
    local samples, prompts, work = { grid = {}, batched = {}, alone = {} }, {}, {}
    for i = 1, opts.prompts do prompts[i] = { tokens = M.ids(lm, opts.tokens, i) } end
    for k = 0, opts.count do -- the first is not counted; each has a vector of its own, so that nothing is there already
        local vector = steer.tensor.randn({ lm.hidden }, { device = "cpu", seed = 100 + k })
        local total, case = cases_of(opts, prompts, vector)
        -- f runs a share of the cases.
        local function time(name, share, f)
            local before, from = stats_of(lm), clock()
            f()
            opts.device:synchronize()
            if k > 0 then samples[name][k] = (clock() - from) / share end
            local now = stats_of(lm)
            local base = now.session == before.session and before or { steps = 0, rows = 0 }
            local steps = now.steps - base.steps
            work[name] = { steps = steps / share, step_rows = (now.rows - base.rows) / math.max(steps, 1) }
        end
        time("grid", 1, function()
            lm:grid {
                vector = vector, layers = opts.layers, scales = opts.scales, prompts = prompts, score = OPTIONS,
                progress = false,
            }
        end)
        local batched, alone = math.min(opts.batched, total), math.min(opts.alone, total)
        time("batched", batched / total, function() score(lm, case, batched, opts.at_once) end)
        time("alone", alone / total, function() score(lm, case, alone, 1) end)
    end
    local results = results_of(samples)
    for name, done in pairs(work) do results[name].steps, results[name].step_rows = done.steps, done.step_rows end
    return results
end

-- ---- Loading -------------------------------------------------------------------------------------------------------

--- Times the opening of a folder with weights, `count` times after one that brings its files to the page cache.
function M.load(folder, opts, count)
    local samples = {}
    for i = 0, count do
        local from = clock()
        local lm = steer.model(folder, { device = opts.device, progress = false })
        opts.device:synchronize()
        if i > 0 then samples[i] = clock() - from end
        lm:close()
    end
    return results_of({ load = samples })
end

return M
