--- Hidden states of prompts and of what is generated after them, gathered and reduced on the device.
local ffi = require "ffi"
local axis = require "steer.axis"
local c = require "steer.core.c"
local check = require "steer.core.check"
local jobs = require "steer.model.jobs"
local options = require "steer.core.options"
local T = require "steer.tensor"
local tensors = require "steer.tensor.object"

local C = c.C
local raise = require("steer.core.error").raise

local M = {}

-- ---- Which layers and tokens ---------------------------------------------------------------------------------------

local SITES = { embed = C.STEER_SITE_EMBED, attention = C.STEER_SITE_ATTENTION, layer = C.STEER_SITE_LAYER }
SITES.mlp = SITES.layer

local function read_layers(lm, op, layers, site)
    if site == SITES.embed then return { 0 } end
    if layers == nil or layers == "all" then
        layers = {}
        for layer = 0, lm.layers - 1 do layers[layer + 1] = layer end
        return layers
    end
    layers = axis.option(op, "layers", layers)
    check.list(op, "layers", layers, '"all", a layer, a list of layers or text such as "[2:7]"')
    if #layers == 0 then raise("invalid_argument", op, "layers: the list is empty") end
    local sorted = {}
    for i, layer in ipairs(layers) do
        sorted[i] = check.integer(op, ("layers[%d]"):format(i), layer, 0, lm.layers - 1)
        if i > 1 and layer <= sorted[i - 1] then
            raise("invalid_argument", op, "layers: %d follows %d, expected ascending layers", layer, sorted[i - 1])
        end
    end
    return sorted
end

-- Positions (from 0) of a request's tokens that are captured, in ascending order.
local function read_positions(op, name, which, request)
    local n, list = #request.tokens, {}
    if which == "last" then return { n - 1 } end
    if which == "all" or which == "response" then
        for i = which == "all" and 0 or request.prompt_tokens, n - 1 do list[#list + 1] = i end
        if #list == 0 and not request.max_tokens then
            raise("invalid_argument", op, "%s: it has no response: give response = text, or max_tokens", name)
        end
        return list
    end
    for i, position in ipairs(which) do
        check.integer(op, ("tokens[%d]"):format(i), position)
        local at = position < 0 and n + position or position
        if at < 0 or at >= n then
            raise("invalid_argument", op, "%s: position %d, it has %d tokens", name, position, n)
        end
        list[i] = at
        if i > 1 and at <= list[i - 1] then
            raise("invalid_argument", op, "%s: positions %s, expected ascending ones", name, table.concat(which, ", "))
        end
    end
    return list
end

-- ---- Prompts -------------------------------------------------------------------------------------------------------

-- Options of what is generated.
local SAMPLING = { "temperature", "seed", "top_k", "top_p", "min_p", "repetition_penalty", "ignore_eos" }
local REQUEST = { prompt = "string", messages = "table", tokens = "table", response = true, spec = true }

local function response_ids(lm, op, name, response)
    if response == nil then return {} end
    if type(response) ~= "table" then return lm:encode_part(op, name .. ".response", response) end
    check.list(op, name .. ".response", response, "a text or a list of token ids")
    return response
end

local function read_prompt(lm, op, prompt, name, opts)
    if type(prompt) == "string" then prompt = { prompt = prompt } end
    options.check(op, prompt, REQUEST, name)
    local given = { prompt = prompt.prompt, messages = prompt.messages, tokens = prompt.tokens }
    local ids = lm:tokens_of(op, given, name)
    local request = { prompt_tokens = #ids, spec = prompt.spec or opts.spec, tokens = {} }
    for k = 1, #ids do request.tokens[k] = ids[k] end
    for _, id in ipairs(response_ids(lm, op, name, prompt.response)) do
        request.tokens[#request.tokens + 1] = id
    end
    if opts.max_tokens then
        request.max_tokens = check.integer(op, "max_tokens", opts.max_tokens, 1)
        for _, key in ipairs(SAMPLING) do request[key] = opts[key] end
    end
    return request
end

-- The class of each prompt, from 1, and the labels in order of their first prompt.
local function read_classes(op, classes, count)
    local labels, number, sizes, of = {}, {}, {}, {}
    if check.list(op, "classes", classes, "a list of labels, one for each prompt") ~= count then
        raise("invalid_argument", op, "classes: %d labels for %d prompts", #classes, count)
    end
    for i, label in ipairs(classes) do
        if label ~= label then
            raise("invalid_argument", op, "classes[%d]: nan, expected a text, a number or a boolean", i)
        end
        if type(label) ~= "string" and type(label) ~= "number" and type(label) ~= "boolean" then
            check.type(op, ("classes[%d]"):format(i), label, "string", "a text, a number or a boolean")
        end
        if not number[label] then
            labels[#labels + 1], sizes[#sizes + 1], number[label] = label, 0, #labels + 1
        end
        of[i] = number[label]
        sizes[of[i]] = sizes[of[i]] + 1
    end
    for i, size in ipairs(sizes) do
        if size == 1 then
            raise("invalid_argument", op, "classes: %s has one prompt, expected 2 or more", check.describe(labels[i]))
        end
    end
    return of, labels
end

-- ---- One run -------------------------------------------------------------------------------------------------------

local tensor_out = ffi.new "steer_tensor *[1]"

local function sums_of(capture, squares)
    c.check(C.steer_capture_tensor(tensor_out, capture.handle, squares and 1 or 0))
    tensors.out[0] = tensor_out[0]
    return tensors.own()
end

-- Runs requests; gives what each generated.
local function run(lm, job, requests, first)
    local list = {}
    for i, request in ipairs(requests) do
        list[i] = { request = request, name = job.name_of((first or 1) + i - 1) }
    end
    return jobs.run(lm, job.op, list, nil, function(session, ids)
        local generated = {}
        for i, id in ipairs(ids) do
            local status = session:status(id)
            if status.state == "failed" then jobs.not_finite(job.op, list[i], status.failed_at) end
            generated[i] = { tokens = (session:tokens(id)) }
        end
        return generated
    end)
end

-- Captures requests into `groups` groups; group_of(i, k) is that of captured position k of request i, from 0, and
-- group_of(i) that of what it generates, -1: none.
local function run_groups(lm, job, requests, first, groups, group_of)
    local capture = require("steer.model.session").capture(lm, job.site, job.layers, groups, job.reduce == "squares")
    local list = {}
    for i, request in ipairs(requests) do
        local of = {}
        for k = 1, #request.tokens do of[k] = -1 end
        for k, position in ipairs(request.positions) do of[position + 1] = group_of(i, k) end
        list[i] = {
            tokens = request.tokens, prompt_tokens = request.prompt_tokens, spec = request.spec,
            max_tokens = request.max_tokens, capture = { object = capture, groups = of, generated = group_of(i) },
        }
        for _, key in ipairs(SAMPLING) do list[i][key] = request[key] end
    end
    return capture, run(lm, job, list, first)
end

-- Every captured position as a row: [rows, layers, hidden].
local function rows_of(lm, job, requests, first)
    local before, rows = {}, 0
    for i, request in ipairs(requests) do before[i], rows = rows, rows + #request.positions end
    local capture = run_groups(lm, job, requests, first, rows, function(i, k) return k and before[i] + k - 1 or -1 end)
    return sums_of(capture)
end

-- ---- Reductions ----------------------------------------------------------------------------------------------------

-- Divides the sums of each group by its number of rows.
local function to_means(job, sums, counts)
    local inverse = {}
    for i, count in ipairs(counts) do
        if count == 0 then
            raise("invalid_argument", job.op, "%s: no token was captured, its mean has none", job.group_name(i))
        end
        inverse[i] = 1 / count
    end
    return sums:mul_(T.from(inverse, { device = sums.device }):reshape(#counts, 1, 1))
end

-- Sums, means or squares of prompts or classes.
local function sums(lm, job, requests, info)
    local groups = job.labels and #job.labels or #requests
    local capture, generated = run_groups(lm, job, requests, 1, groups, function(i, k)
        if not k and not requests[i].max_tokens then return -1 end
        return (job.class and job.class[i] or i) - 1
    end)
    local counts = C.steer_capture_counts(capture.handle)
    info.counts = {}
    for i = 1, groups do info.counts[i] = tonumber(counts[i - 1]) end
    if job.max_tokens then info.generated = generated end
    local total = sums_of(capture)
    if job.reduce == "sum" then return total end
    local means = to_means(job, total, info.counts)
    if job.reduce == "mean" then return means end
    return means, to_means(job, sums_of(capture, true), info.counts)
end

local BLOCK_BYTES = 2 ^ 25 -- of rows whose moments are taken at once

-- Adds rows [n, layers, hidden] to a record whose covariance is not divided yet (Chan, Golub and LeVeque 1979).
local function add_moments(record, rows)
    local n, before = rows:size(1), record.count
    local mean = rows:mean(1)
    local shift = mean - record.mean
    for layer = 1, rows:size(2) do
        local centred, gap = rows:select(2, layer) - mean[layer], shift[layer]
        record.covariance[layer]:add_(centred:transpose():matmul(centred))
        local weight = before * n / (before + n)
        if weight > 0 then
            record.covariance[layer]:add_(gap:unsqueeze(2):matmul(gap:unsqueeze(1)), weight)
        end
        record.variance[layer]:add_((centred * centred):sum(1)):add_(gap * gap, weight)
    end
    record.mean:add_(shift, n / (before + n))
    record.count = before + n
end

local function moments_of(lm, job, requests)
    local hidden, layers = lm.hidden, #job.layers
    local function zeros(...) return T.zeros({ layers, ... }, { device = lm.device }) end
    local record = { count = 0, mean = zeros(hidden), variance = zeros(hidden), covariance = zeros(hidden, hidden) }
    local most, from = math.max(1, math.floor(BLOCK_BYTES / (4 * layers * hidden))), 1
    while from <= #requests do
        local block, rows = { requests[from] }, #requests[from].positions
        while requests[from + #block] and rows + #requests[from + #block].positions <= most do
            block[#block + 1] = requests[from + #block]
            rows = rows + #block[#block].positions
        end
        add_moments(record, rows_of(lm, job, block, from))
        from = from + #block
    end
    record.covariance:mul_(1 / record.count)
    record.variance:mul_(1 / record.count)
    return record
end

local function moments(lm, job, requests)
    if not job.labels then return moments_of(lm, job, requests) end
    local records = {}
    for number, label in ipairs(job.labels) do
        local members = {}
        for i, request in ipairs(requests) do
            if job.class[i] == number then members[#members + 1] = request end
        end
        records[label] = moments_of(lm, job, members)
    end
    return records
end

-- Reduction -> whether what is generated adds to it while it is generated, whether classes share it, what computes it.
local REDUCTIONS = {
    mean = { live = true, classes = true, compute = sums }, sum = { live = true, classes = true, compute = sums },
    squares = { live = true, classes = true, compute = sums }, moments = { classes = true, compute = moments },
    last = { compute = function(lm, job, requests) return rows_of(lm, job, requests, 1) end },
    rows = { compute = function(lm, job, requests) return rows_of(lm, job, requests, 1) end },
}

-- ---- Capturing -----------------------------------------------------------------------------------------------------

local OPTIONS = {
    layers = true, at = "string", tokens = true, reduce = "string", classes = "table", spec = true,
    max_tokens = "number", temperature = "number", seed = "number", top_k = "number", top_p = "number",
    min_p = "number", repetition_penalty = "number", ignore_eos = "boolean",
}

local function read_options(lm, op, name_of, count, opts)
    local job = { op = op, name_of = name_of, which = opts.tokens or "last", reduce = opts.reduce or "rows" }
    job.site, job.max_tokens, job.how = SITES[opts.at or "layer"], opts.max_tokens, REDUCTIONS[job.reduce]
    if not job.site then
        raise("invalid_argument", op, "at: %s, expected %s", check.describe(opts.at), options.choice(SITES))
    end
    if not job.how or opts.reduce == "rows" then
        raise("invalid_argument", op, "reduce: %s, expected nothing, last, mean, moments, squares or sum",
            check.describe(opts.reduce))
    end
    local which = job.which
    if type(which) ~= "table" and which ~= "last" and which ~= "all" and which ~= "response" then
        raise("invalid_argument", op, 'tokens: %s, expected "last", "all", "response" or a list of positions',
            check.describe(which))
    end
    if type(which) == "table" and check.list(op, "tokens", which) == 0 then
        raise("invalid_argument", op, "tokens: the list is empty")
    end
    for _, key in ipairs(opts.max_tokens and {} or SAMPLING) do
        if opts[key] ~= nil then raise("invalid_argument", op, "%s: it goes with max_tokens", key) end
    end
    if opts.max_tokens and which ~= "response" then
        raise("invalid_argument", op, 'max_tokens: what is generated is captured with tokens = "response"')
    end
    if opts.classes and not job.how.classes then
        raise("invalid_argument", op, "classes: they are for reduce = mean, moments, squares or sum")
    end
    if opts.classes then job.class, job.labels = read_classes(op, opts.classes, count) end
    function job.group_name(i)
        return job.labels and "class " .. tostring(job.labels[i]) or name_of(i)
    end
    job.layers = read_layers(lm, op, opts.layers, job.site)
    return job
end

-- Generates after the requests and makes what was fed back part of their tokens.
local function generate_first(lm, job, requests)
    local generated = run(lm, job, requests)
    for i, request in ipairs(requests) do
        local tokens = generated[i].tokens
        for k = 1, #tokens - 1 do request.tokens[#request.tokens + 1] = tokens[k] end
        request.max_tokens = nil
        for _, key in ipairs(SAMPLING) do request[key] = nil end
        if #tokens < 2 and #request.tokens == request.prompt_tokens then
            raise("invalid_argument", job.op, "%s: it ended at once, no generated token was fed back",
                job.name_of(i))
        end
    end
    return generated
end

--- Captures as M.capture, for operation `op`, which calls the list of prompts `name`; of a list that is not the
-- caller's it is a function(i), which names prompt i.
function M.capture_as(lm, op, name, prompts, opts)
    local name_of = name
    if type(name) == "string" then
        jobs.check_list(op, name, prompts)
        function name_of(i) return ("%s[%d]"):format(name, i) end
    end
    local job, requests = read_options(lm, op, name_of, #prompts, opts), {}
    local info = { layers = job.layers, classes = job.labels, rows = {}, tokens = {}, positions = {} }
    for i, prompt in ipairs(prompts) do
        requests[i] = read_prompt(lm, op, prompt, name_of(i), opts)
    end
    if job.max_tokens and not job.how.live then info.generated = generate_first(lm, job, requests) end
    for i, request in ipairs(requests) do
        local positions = read_positions(op, name_of(i), job.which, request)
        request.positions = job.reduce == "last" and { positions[#positions] } or positions
        info.rows[i], info.tokens[i], info.positions[i] = #request.positions, request.tokens, request.positions
    end
    local states, squares = job.how.compute(lm, job, requests, info)
    for _, result in ipairs(info.generated or {}) do
        result.text = lm.tokenizer and lm:decode(result.tokens, { skip_special = true }) or nil
    end
    if squares then return states, squares, info end
    return states, info
end

--- Captures hidden states of prompts, and of what is generated after them, reduced on the device.
-- @param lm the model: lm:capture(prompts, opts)
-- @tparam table prompts list of texts or of {prompt, messages or tokens, response = text (or ids) that follows, spec}
-- @tparam[opt] table opts layers ("all", the default, a layer, an ascending list or text such as "[2:7]"), at ("layer",
-- the default, "attention" or "embed"), tokens ("last", the default, "all", "response": the tokens after the prompt, or
-- a list of positions from 0, negative ones from the end), reduce (below; of the tokens that `tokens` names: the mean
-- over a prompt has tokens = "all", by default it is of its last token), classes (a label for each prompt: reduces
-- all tokens of a class instead of each prompt's), spec (for all prompts), max_tokens (generates so many after each
-- prompt, for tokens = "response"; the last one is not fed back and has no hidden state), temperature, seed, top_k,
-- top_p, min_p, repetition_penalty, ignore_eos (as for lm:generate)
-- @return tensor f32 on the device: without a reduction [rows, layers, hidden], rows one after another by prompt and
-- position; "last" (the last of each prompt's tokens), "mean" and "sum" give [prompts, layers, hidden], with classes
-- [classes, layers, hidden]; "squares" gives the means and then the means of squares; "moments" gives a record of all
-- tokens, or {[class] = record}: count, mean and variance [layers, hidden], covariance [layers, hidden, hidden], which
-- steer.extract.lda takes
-- @treturn table layers (list); of each prompt rows (how many of its given tokens are read), tokens (all given ones),
-- positions; classes (labels in order), counts (tokens in each sum), generated (list of {tokens, text})
function M.capture(lm, prompts, opts)
    opts = options.check("capture", opts, OPTIONS)
    if type(prompts) == "string" then prompts = { prompts } end
    return M.capture_as(lm, "capture", "prompts", prompts, opts)
end

return M
