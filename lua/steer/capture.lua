--- Hidden states of prompts, gathered on the device, and directions made of them.
local ffi = require "ffi"
local c = require "steer._c"
local check = require "steer._check"
local extract = require "steer.extract"
local jobs = require "steer._jobs"
local options = require "steer._options"
local tensors = require "steer._tensor"

local C = c.C
local raise = require("steer._error").raise

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
    if type(layers) == "number" then layers = { layers } end
    check.type(op, "layers", layers, "table", '"all", a layer or a list of layers')
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

local REQUEST = { prompt = "string", messages = "table", tokens = "table", response = "string", spec = true }

local function read_prompt(lm, op, prompt, i, opts)
    local name = ("prompts[%d]"):format(i)
    if type(prompt) == "string" then prompt = { prompt = prompt } end
    options.check(op, prompt, REQUEST, name)
    local ids = lm:tokens_of(op, { prompt = prompt.prompt, messages = prompt.messages, tokens = prompt.tokens })
    local request = { prompt_tokens = #ids, spec = prompt.spec or opts.spec, tokens = {} }
    for k = 1, #ids do request.tokens[k] = ids[k] end
    for _, id in ipairs(prompt.response and lm:encode(prompt.response, { special = false }) or {}) do
        request.tokens[#request.tokens + 1] = id
    end
    if opts.max_tokens then
        request.max_tokens = check.integer(op, "max_tokens", opts.max_tokens, 1)
        request.temperature, request.seed = opts.temperature, opts.seed
    end
    return { request = request, number = i }, name
end

-- ---- Capturing -----------------------------------------------------------------------------------------------------

local OPTIONS = {
    layers = true, at = "string", tokens = true, reduce = "string", spec = true, max_tokens = "number",
    temperature = "number", seed = "number",
}
local REDUCTIONS = { mean = true, sum = true, moments = true }
local capture_out, tensor_out = ffi.new("steer_capture *[1]"), ffi.new("steer_tensor *[1]")

local function make_capture(lm, site, layers, groups, squares)
    local desc = c.descriptor("steer_capture_desc")
    local numbers = ffi.new("int32_t[?]", #layers, layers)
    desc.site, desc.groups, desc.layer_count, desc.layers = site, groups, #layers, numbers
    desc.squares = squares and 1 or 0
    c.alloc(C.steer_capture_create, capture_out, lm:handle_for("capture"), desc)
    return { handle = c.own(capture_out[0], C.steer_capture_release) }
end

local function sums_of(capture, squares)
    c.check(C.steer_capture_tensor(tensor_out, capture.handle, squares and 1 or 0))
    tensors.out[0] = tensor_out[0]
    return tensors.own()
end

-- Gives every job its groups: one for each row without a reduction, else one for each prompt.
local function assign_groups(op, list, names, which, reduced)
    local groups = 0
    for i, job in ipairs(list) do
        local request = job.request
        local positions, of = read_positions(op, names[i], which, request), {}
        for k = 1, #request.tokens do of[k] = -1 end
        for _, position in ipairs(positions) do
            of[position + 1] = groups
            if not reduced then groups = groups + 1 end
        end
        request.capture = { groups = of }
        if reduced then
            if request.max_tokens and which == "response" then request.capture.generated = groups end
            groups = groups + 1
        end
        job.rows = #positions
    end
    return groups
end

-- Divides the sums of each group by its number of rows.
local function to_means(capture, sums, op, names)
    local counts, n = C.steer_capture_counts(capture.handle), sums:size(1)
    local inverse = {}
    for i = 1, n do
        local count = tonumber(counts[i - 1])
        if count == 0 then raise("invalid_argument", op, "%s: no token was captured, its mean has none", names[i]) end
        inverse[i] = 1 / count
    end
    return sums:mul_(require("steer.tensor").from(inverse, { device = sums.device }):reshape(n, 1, 1))
end

--- Captures hidden states of prompts, on the device.
-- @param lm the model: lm:capture(prompts, opts)
-- @tparam table prompts list of texts or of {prompt, messages or tokens, response = text that follows, spec}
-- @tparam[opt] table opts layers ("all", the default, a layer or an ascending list), at ("layer", the default,
-- "attention" or "embed"), tokens ("last", the default, "all", "response": the tokens after the prompt, or a list of
-- positions from 0, negative ones from the end), reduce (nil, "mean", "sum" or "moments" over each prompt's tokens),
-- spec (for all prompts), max_tokens (generates so many, for tokens = "response" with a reduction), temperature, seed
-- @return tensor f32 on the device: [rows, layers, hidden], rows one after another by prompt and position; with a
-- reduction [prompts, layers, hidden]; with "moments" the means and then the means of squares
-- @treturn table {layers = list, rows = how many rows each prompt has}
function M.capture(lm, prompts, opts)
    local op = "capture"
    opts = options.check(op, opts, OPTIONS)
    if type(prompts) == "string" then prompts = { prompts } end
    jobs.check_list(op, "prompts", prompts)
    local site, reduce, which = SITES[opts.at or "layer"], opts.reduce, opts.tokens or "last"
    if not site then
        raise("invalid_argument", op, "at: %s, expected %s", check.describe(opts.at), options.list(SITES))
    end
    if reduce and not REDUCTIONS[reduce] then
        raise("invalid_argument", op, "reduce: %s, expected %s", check.describe(reduce), options.list(REDUCTIONS))
    end
    if type(which) ~= "table" and which ~= "last" and which ~= "all" and which ~= "response" then
        raise("invalid_argument", op, 'tokens: %s, expected "last", "all", "response" or a list of positions',
            check.describe(which))
    end
    if opts.max_tokens and (which ~= "response" or not reduce) then
        raise("invalid_argument", op, 'max_tokens: what is generated is captured with tokens = "response" and reduce')
    end
    local layers, list, names = read_layers(lm, op, opts.layers, site), {}, {}
    for i, prompt in ipairs(prompts) do list[i], names[i] = read_prompt(lm, op, prompt, i, opts) end
    local groups = assign_groups(op, list, names, which, reduce ~= nil)
    local capture, info = make_capture(lm, site, layers, groups, reduce == "moments"), { layers = layers, rows = {} }
    for i, job in ipairs(list) do
        job.request.capture.object, info.rows[i] = capture, job.rows
    end
    jobs.run(lm, op, list, nil, function() end)
    local sums = sums_of(capture)
    if reduce == "mean" then return to_means(capture, sums, op, names), info end
    if reduce == "moments" then
        return to_means(capture, sums, op, names), to_means(capture, sums_of(capture, true), op, names), info
    end
    return sums, info
end

-- ---- Directions ----------------------------------------------------------------------------------------------------

local METHODS = { mean_difference = extract.mean_difference, pca = extract.pca, probe = extract.probe }
local DIRECTION = {
    positive = "table", negative = "table", method = "string", layers = true, tokens = true, at = "string", spec = true,
    held_out = "number",
}

-- The first n rows and the others, of [rows, layers, hidden].
local function split(tensor, n) return tensor:narrow(1, 1, n), tensor:narrow(1, n + 1, tensor:size(1) - n) end

--- Finds a direction per layer that tells two sets of prompts apart.
-- The methods are those of steer.extract. Accuracy is that on prompts that the direction was not made from: the last
-- ones of each set; the direction that is returned is made from the others.
-- @param lm the model: lm:direction{...}
-- @tparam table opts positive and negative (lists of prompts as lm:capture takes them; pairs for "pca"), method
-- ("mean_difference", the default, "pca" or "probe"), layers, at, spec (as lm:capture), tokens ("last", the default,
-- or "all", "response" or positions, of which each prompt's mean is taken), held_out (share of each set that is kept
-- for the accuracy, default 0.25; 0: none)
-- @treturn table {[layer] = tensor [hidden]}
-- @treturn table {[layer] = {accuracy = on held-out prompts, train_accuracy, threshold, ...}, best = layer of the best
-- accuracy}
function M.direction(lm, opts)
    local op = "direction"
    opts = options.check(op, opts, DIRECTION)
    local method = opts.method or "mean_difference"
    if not METHODS[method] then
        raise("invalid_argument", op, "method: %s, expected %s", check.describe(method), options.list(METHODS))
    end
    local share = opts.held_out or 0.25
    if not (share >= 0 and share < 1) then
        raise("invalid_argument", op, "held_out: %g, expected 0 to less than 1", share)
    end
    local which = opts.tokens or "last"
    local sets, kept, info_of = {}, {}, nil
    for _, name in ipairs { "positive", "negative" } do
        jobs.check_list(op, name, opts[name])
        local n = #opts[name]
        local train = n - math.floor(n * share)
        if n < 2 then raise("invalid_argument", op, "%s: one prompt, expected 2 or more", name) end
        local states, info = M.capture(lm, opts[name], {
            layers = opts.layers, at = opts.at, spec = opts.spec, tokens = which,
            reduce = which ~= "last" and "mean" or nil,
        })
        sets[name], kept[name] = split(states, train)
        info_of = info
    end
    local vectors, infos = METHODS[method](sets.positive, sets.negative)
    local directions, results = {}, {}
    for i, layer in ipairs(info_of.layers) do
        local info = infos[i - 1]
        directions[layer] = vectors[i - 1]
        info.train_accuracy, info.accuracy = info.accuracy, nil
        if kept.positive:size(1) > 0 and kept.negative:size(1) > 0 then
            info.accuracy = extract.accuracy(vectors[i - 1], info.threshold, kept.positive:select(2, i),
                kept.negative:select(2, i))
            local best = results.best and results[results.best].accuracy or -1
            if info.accuracy > best then results.best = layer end
        end
        results[layer] = info
    end
    return directions, results
end

return M
