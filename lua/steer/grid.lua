--- Grids: a direction at many layers and strengths, measured on the same prompts in few batches.
local axis = require "steer.axis"
local check = require "steer.core.check"
local code = require "steer.sweep.code"
local jobs = require "steer.model.jobs"
local json = require "steer.core.json"
local options = require "steer.core.options"
local record = require "steer.record"
local repeats = require "steer.sweep.repeats"
local results = require "steer.sweep.results"
local run = require "steer.model.grid_run"
local tables = require "steer.core.tables"

local raise = require("steer.core.error").raise

local M = {}

local OP = "grid"

-- ---- Reading the options -------------------------------------------------------------------------------------------

-- Numbers of an axis: a list, one number, or text as axes of sweeps have it.
local function read_axis(name, value)
    if type(value) == "string" then return axis.option(OP, name, value) end
    value = axis.option(OP, name, value)
    check.type(OP, name, value, "table", 'a list of numbers, or text such as "[-4:4:0.5]"')
    local ok, axes = pcall(axis.declare, OP, { [name] = value })
    if ok then return axes[1].values end
    if type(axes) == "table" and axes.message then axes.message = axes.message:gsub("^axes%.", "") end
    return error(axes, 0)
end

local function read_layers(lm, opts)
    local layers = opts.layers
    if opts.directions ~= nil then
        check.type(OP, "directions", opts.directions, "table", "a table by layer, as lm:direction gives")
    end
    if layers == nil and opts.directions then
        layers = tables.keys(opts.directions)
        table.sort(layers)
    elseif layers == nil or layers == "all" then
        layers = {}
        for layer = 0, lm.layers - 1 do layers[layer + 1] = layer end
    end
    layers = read_axis("layers", layers)
    for i, layer in ipairs(layers) do check.integer(OP, ("layers[%d]"):format(i), layer, 0, lm.layers - 1) end
    return layers
end

local function read_scales(given)
    local scales = read_axis("scales", given)
    for i, scale in ipairs(scales) do
        check.type(OP, ("scales[%d]"):format(i), scale, "number", "a number")
    end
    return scales
end

-- The vector of each layer.
local function read_vectors(opts, layers)
    if opts.vector == false then raise("invalid_argument", OP, "vector: expected a vector, got false") end
    if (opts.vector == nil) == (opts.directions == nil) then
        raise("invalid_argument", OP, "vector and directions: %s, expected one of them",
            opts.vector == nil and "neither is given" or "both are given")
    end
    local vectors = {}
    for _, layer in ipairs(layers) do
        vectors[layer] = opts.vector or opts.directions[layer]
        if vectors[layer] == nil then
            raise("invalid_argument", OP, "directions: there is none of layer %d, expected one for each layer", layer)
        end
    end
    return vectors
end

-- Options of a prompt, the first of which the scores are about: {yes=, no=}, or a list.
local function read_options(lm, name, given)
    check.type(OP, name, given, "table", "{yes = text, no = text} or a list of texts")
    local list = given
    if given.yes ~= nil or given.no ~= nil then
        options.check(OP, given, { yes = true, no = true }, name)
        if given.yes == nil then raise("invalid_argument", OP, "%s: no option yes beside no", name) end
        list = { given.yes, given.no }
    end
    if check.list(OP, name, list) < 2 then
        raise("invalid_argument", OP, "%s: %d option%s, expected 2 or more", name, #list,
            #list == 1 and "" or "s")
    end
    local ids = {}
    for k, option in ipairs(list) do
        ids[k] = require("steer.score").option_ids(lm, OP, ("%s[%d]"):format(name, k), option)
    end
    return ids
end

local PROMPT = {
    prompt = "string", messages = "table", tokens = "table", options = "table", tools = true,
    add_generation_prompt = "boolean",
}

local function read_prompts(lm, opts)
    local list, given = {}, opts.prompts
    if type(given) == "string" then given = { given } end
    jobs.check_list(OP, "prompts", given)
    for i, prompt in ipairs(given) do
        local name = ("prompts[%d]"):format(i)
        if type(prompt) == "string" then prompt = { prompt = prompt } end
        options.check(OP, prompt, PROMPT, name)
        list[i] = { tokens = lm:tokens_of(OP, prompt, name) }
        jobs.check_ids(lm, OP, name .. ".tokens", prompt.tokens or {})
        if opts.score ~= nil then
            local own = prompt.options
            if own == nil and opts.score == true then
                raise("invalid_argument", OP, "%s: it has no options, and score = true names none for all", name)
            end
            list[i].options = read_options(lm, own and name .. ".options" or "score", own or opts.score)
        elseif prompt.options then
            raise("invalid_argument", OP, "%s.options: expected score = true beside them", name)
        end
    end
    return list
end

-- Positions of the KV cache that the budget has room for, at least what the longest sequence needs.
local function read_budget(grid)
    local lm, budget = grid.lm, grid.budget
    if budget == nil then return nil end
    if budget ~= budget then raise("invalid_argument", OP, "budget: nan, expected bytes") end
    local room = math.floor(math.min(budget / lm.token_bytes, 2 ^ 31) / 16) * 16
    for i, prompt in ipairs(grid.prompts) do
        local need = math.ceil(run.length_of(grid, prompt) / 16) * 16 * (grid.twin and 2 or 1)
        if need > room then
            raise("invalid_argument", OP,
                "budget: %g bytes hold %d tokens of the KV cache, prompts[%d] needs %d (%d bytes)", budget,
                math.max(room, 0), i, need, need * lm.token_bytes)
        end
    end
    return room
end

local GENERATE = {
    max_tokens = "number", temperature = "number", top_k = "number", top_p = "number", min_p = "number",
    repetition_penalty = "number", seed = "number", stop = true, ignore_eos = "boolean",
}
local STEERING = { "where", "exclude", "when", "at", "normalize" }

local OPTIONS = {
    vector = true, directions = true, layers = true, scales = true, prompts = true, score = true, generate = "table",
    metric = "function", op = "function", where = "table", exclude = "table", when = "table", at = "string",
    normalize = "boolean", twin = "boolean", value = "string", budget = "number", name = "string", output = "string",
    resume = "boolean", retry_failed = "boolean", seed = "number", progress = "boolean", repeats = "number",
    code_changed = "boolean",
}

local function way_of(opts)
    if opts.score ~= nil and opts.generate ~= nil then
        raise("invalid_argument", OP, "score and generate: both are given, expected one of them")
    end
    local way = opts.score ~= nil and "score" or opts.generate ~= nil and "generate" or opts.metric and "metric"
    if not way then raise("invalid_argument", OP, "score, generate and metric: none is given, expected one") end
    if way == "score" and opts.metric then
        raise("invalid_argument", OP, "metric: it is for generated text, or stands alone; score has its own")
    end
    return run.ways[way]
end

-- Raises for repeats that could only measure the same again.
local function check_repeats(opts)
    if opts.repeats == nil then return end
    check.integer(OP, "repeats", opts.repeats, 1, 1e6)
    if opts.score ~= nil then
        raise("invalid_argument", OP, "repeats: scores are the same each time; expected generate with a temperature, "
            .. "or metric")
    end
    local temperature = opts.generate and opts.generate.temperature or 0
    if opts.generate and not opts.metric and temperature == 0 then
        raise("invalid_argument", OP, "repeats: without a temperature the text is the same each time; expected "
            .. "generate = {temperature = 0.8, ...}")
    end
end

local function read(lm, opts)
    if opts.scales == nil then raise("invalid_argument", OP, "scales: expected a list of strengths, got nothing") end
    local way, layers = way_of(opts), read_layers(lm, opts)
    local twin = opts.twin
    if twin == nil then twin = opts.generate ~= nil and opts.metric == nil end
    local grid = {
        lm = lm, way = way, layers = layers, scales = read_scales(opts.scales), steering = {}, twin = twin,
        vectors = read_vectors(opts, layers), directions = opts.directions or { opts.vector },
        prompts = {}, metric = opts.metric, op = opts.op or require("steer.spec").add,
        generate = options.check(OP, opts.generate, GENERATE, "generate"), known = {},
        value = opts.value, about = opts.metric and "metric" or way.metric, budget = opts.budget,
        repeats = opts.repeats,
    }
    check_repeats(opts)
    for _, key in ipairs(STEERING) do grid.steering[key] = opts[key] end
    if opts.prompts ~= nil or way ~= run.ways.metric then grid.prompts = read_prompts(lm, opts) end
    if grid.generate.max_tokens then check.integer(OP, "generate.max_tokens", grid.generate.max_tokens, 1) end
    grid.room = read_budget(grid)
    for _, layer in ipairs(layers) do -- what is wrong with one strength is wrong with all
        local hidden = run.spec_of(grid, { layer = layer, scale = grid.scales[1] }):hidden()
        if hidden ~= lm.hidden then
            raise("shape_mismatch", OP, "%s: %d elements, the model's hidden size is %d",
                opts.vector and "vector" or ("directions[%d]"):format(layer), hidden, lm.hidden)
        end
    end
    return grid
end

-- ---- What results of one file have in common -----------------------------------------------------------------------

local function function_text(fn)
    for _, name in ipairs { "add", "ablate", "cap" } do
        if fn == require("steer.spec")[name] then return name end
    end
    return "#" .. code.of(fn)
end

-- A condition, combined ones too, with the numbers of its vectors in their place.
local function condition_of(when, numbers)
    local own = {}
    for _, key in ipairs(tables.keys(when)) do
        local value, parts = when[key], {}
        if key ~= "vector" and type(value) == "table" then
            for i, part in ipairs(value) do parts[i] = condition_of(part, numbers) end
            value = parts
        end
        own[key] = key == "vector" and numbers(value) or value
    end
    return own
end

local MOST_CONTENT = 80 -- bytes of JSON that are written as they are

-- All that the numbers depend on but the axes, as JSON: vectors, prompts, settings and functions, the long ones and the
-- functions as "#" and a hash.
local function content_of(grid)
    local spec, vectors = require "steer.spec", {}
    local function numbers(vector) return spec.add(vector).vector:totable() end
    local layers = tables.keys(grid.directions)
    table.sort(layers)
    for i, layer in ipairs(layers) do vectors[i] = { layer, numbers(grid.directions[layer]) } end
    local parts = {
        model = { grid.lm.path, grid.lm.family, grid.lm.layers, grid.lm.hidden, grid.lm.dtype }, vectors = vectors,
        prompts = grid.prompts, op = function_text(grid.op), metric = grid.metric and function_text(grid.metric),
        twin = grid.twin or false,
    }
    for _, settings in ipairs { grid.steering, grid.generate } do
        for _, key in ipairs(tables.keys(settings)) do parts[key] = settings[key] end
    end
    if parts.when then parts.when = condition_of(parts.when, numbers) end
    for _, key in ipairs(tables.keys(parts)) do
        local text = json.encode(parts[key])
        if #text > MOST_CONTENT then parts[key] = "#" .. record.hash(text) end
    end
    return json.encode(parts)
end

-- ---- Results -------------------------------------------------------------------------------------------------------

local Grid = {}
Grid.__topic = "grid" -- the topic for help
require("steer.core.class").strict(Grid, "a grid", { path = true, repeats = true })

-- The means over repeats of each prompt's numbers, by layer and strength; the most prompts that one has.
local function prompts_of(self, name)
    local at, most = {}, 1
    for _, entry in ipairs(self.results.cases) do
        local list = entry.status == "ok" and (entry.samples[name] or { entry.metrics[name] }) or {}
        local key = record.key { layer = entry.case.layer, scale = entry.case.scale }
        local sums = at[key] or { count = 0 }
        for p, value in ipairs(list) do sums[p] = (sums[p] or 0) + value end
        sums.count = sums.count + (#list > 0 and 1 or 0)
        at[key], most = sums, math.max(most, #list)
    end
    return at, most
end

-- The metric that a method is asked for.
local function metric_of(self, op, name)
    if name ~= nil then check.type(op, "name", name, "string", "the name of a metric") end
    return self.results:check_metric(op, "name", name or self.value)
end

--- Gives a metric as a tensor [layers, scales, prompts] f32 on the CPU: of repeats the mean; NaN where all of a case's
-- have failed.
-- @tparam[opt] string name of a metric, default what the grid is about
function Grid:tensor(name)
    name = metric_of(self, "grid_tensor", name)
    local at, most = prompts_of(self, name)
    local values = {}
    for l, layer in ipairs(self.layers) do
        values[l] = {}
        for s, scale in ipairs(self.scales) do
            local sums, row = at[record.key { layer = layer, scale = scale }] or { count = 0 }, {}
            for p = 1, most do row[p] = sums[p] and sums[p] / sums.count or 0 / 0 end
            values[l][s] = row
        end
    end
    return require("steer.tensor").from(values, { dtype = "f32", device = "cpu" })
end

--- Draws a metric over the strengths, a line for each layer: in the terminal, or with `out` as pictures.
-- steer.plot(grid, opts) and, of a file given as output, steer.plot(path, opts) draw it in other ways.
-- @tparam[opt] string name of a metric, default what the grid is about
-- @tparam[opt] table opts as steer.plot has them; kind = "heatmap": layers by strengths
-- @treturn table the paths of what was written, nothing without `out`
function Grid:plot(name, opts)
    if type(name) == "table" then name, opts = nil, name end
    local metric = metric_of(self, "grid_plot", name)
    if opts ~= nil then check.type("grid_plot", "opts", opts, "table", "a table of options") end
    local defaults = { x = "scale", y = metric, by = "layer" }
    if opts and opts.kind == "heatmap" then defaults = { x = "scale", y = "layer", z = metric } end
    return require("steer.plot").present(self, defaults, opts)
end

local function cell(entry, name)
    local value = entry and (entry.status == "ok" and entry.metrics[name] or entry.status) or "-"
    return ("%11s"):format(type(value) == "number" and ("%.4g"):format(value) or value)
end

local MOST_COLUMNS = 9 -- of the table side by side

-- Lines of the table for scales first to last.
local function add_block(lines, self, at, first, last)
    local head = "layer \\ scale"
    for s = first, last do head = head .. ("%11s"):format(results.text(self.scales[s])) end
    lines[#lines + 1] = head
    for _, layer in ipairs(self.layers) do
        local line = ("%13d"):format(layer)
        for s = first, last do
            line = line .. cell(at[record.key { layer = layer, scale = self.scales[s] }], self.value)
        end
        lines[#lines + 1] = line
    end
end

function Grid:__tostring()
    local at = {}
    for _, entry in ipairs(repeats.join(self.results).cases) do at[entry.key] = entry end
    local lines = { ("%s, mean over %s%s"):format(self.value,
        #self.prompts == 1 and "the prompt" or ("%d prompts"):format(math.max(1, #self.prompts)),
        self.repeats and (" and %d repeats"):format(self.repeats) or "") }
    for first = 1, #self.scales, MOST_COLUMNS do
        add_block(lines, self, at, first, math.min(first + MOST_COLUMNS - 1, #self.scales))
    end
    for _, failure in ipairs(self.failures) do
        lines[#lines + 1] = ("failed: layer %d, scale %s%s: %s"):format(failure.layer, results.text(failure.scale),
            failure.repeats and (", repeat %d"):format(failure.repeats) or "", failure.reason)
    end
    return table.concat(lines, "\n")
end

local OWN = { kl = true, perplexity = true, tokens = true } -- metrics that are measured beside the caller's

-- What the grid is about: the metric of its way, or where the caller's function names its own, the first of these.
local function value_of(metrics, about)
    local own
    for _, name in ipairs(metrics) do
        if name == about then return about end
        own = own or not OWN[name] and name or nil
    end
    return own or about
end

local function result_of(grid, output, counts)
    local path = output or "a grid without a file"
    local self = setmetatable({
        results = counts.found and results.of_file(OP, path, counts.found) or results.read(OP, path),
        path = output, counts = counts, layers = grid.layers, scales = grid.scales,
        prompts = grid.prompts, repeats = grid.repeats, failures = {},
    }, Grid)
    for _, entry in ipairs(self.results.cases) do
        if entry.status == "failed" then
            table.insert(self.failures, { layer = entry.case.layer, scale = entry.case.scale,
                repeats = entry.case.repeats, reason = entry.reason })
        end
    end
    if counts.ok == 0 and counts.kept == counts.failed_before then
        local first = self.failures[1]
        raise("invalid_argument", OP, "no case was measured, all %d failed; layer %d, scale %g: %s", #self.failures,
            first.layer, first.scale, first.reason)
    end
    self.value = grid.value or value_of(self.results.metrics, grid.about)
    self.results:check_metric(OP, "value", self.value)
    return self
end

-- ---- Public --------------------------------------------------------------------------------------------------------

--- Steers every layer of a list with every strength of a list, and measures each of these cases on the same prompts.
-- Cases run together in batches. Their results go to a results file as those of a sweep, a line for each layer and
-- strength with the prompts' numbers as samples: an interrupted grid goes on with resume, and steer.compare, steer.plot
-- and steer.report read the file. The prompts are computed once without steering, and their states after each layer of
-- the grid are kept (f32, for all layers and tokens): a case begins after its layer (before it with at = "attention",
-- from the start with "embed"), and where it steers later tokens only (where) at the first of those.
-- @param lm the model: lm:grid(opts)
-- @tparam table opts
--   vector (for all layers) or directions ({[layer] = vector}, as lm:direction gives); layers (list, "all" or text such
--     as "[4:20:2]"; default those of directions, or all); scales (list or text such as "[-4:4:0.5]");
--   op: function(vector, scale, opts) that makes the operation (default steer.add; steer.ablate fits too), with where,
--     exclude, when, at and normalize as its opts;
--   prompts: list of texts or of {prompt, messages or tokens}, and options with score = true;
--   one way of measuring:
--     score = {yes = " Yes", no = " No"} (or a list of options, or true): metrics logit_difference (log odds of the
--       first option against the others), probability and logprob (of the first), and kl (of the token after the
--       prompt) with twin;
--     generate = {max_tokens =, temperature =, seed =, stop =, ...}: metrics tokens, kl (mean) and perplexity of the
--       text under the unsteered model, and what metric = function(result, number of the prompt, case) gives: a number,
--       or name -> number; with a metric there is no twin unless twin = true;
--     metric = function(spec, case): a number, a list of a number for each prompt, or name -> such;
--   twin: also run each case unsteered; value: the metric that is returned (default the first named above, or the
--     first that metric names);
--   repeats: measure each case so often: generate with its seed, the next one, ..., metric(spec, case) with
--     case.repeats from 1; print has the means, and plot, compare and report intervals with them;
--   output: the results file (default none is kept), resume, retry_failed, code_changed, seed: as sweep:start takes
--     them;
--   name (default "grid"); budget: bytes that the KV cache and kept states may have (with little of it fewer prompts
--     are kept at a time, then none, which is said); progress (default on a terminal)
-- @treturn table results: print shows the means; layers, scales, tensor(name), plot(name), failures (list of {layer,
-- scale, repeats, reason}: cases that failed, those with a metric that is not finite too), results (as a sweep's file
-- has them), path
-- @treturn tensor f32 [layers, scales, prompts] of the value, NaN where a case failed
-- @raise invalid_argument names the option; io and format for output as sweep:start
function M.grid(lm, opts)
    opts = options.check(OP, opts, OPTIONS)
    local grid = read(lm, opts)
    local sweep = require("steer.sweep").new {
        name = opts.name or "grid", axes = { layer = grid.layers, scale = grid.scales }, seed = opts.seed,
        repeats = grid.repeats, content = content_of(grid),
        run = function(case, ctx) return run.run(grid, case, ctx) end,
    }
    local progress = opts.progress
    if progress == nil then progress = require("steer.progress").on_terminal() end
    local cases, axes = sweep:cases()
    local ok, counts = pcall(require("steer.sweep.run").start, sweep, cases, axes, {
        output = opts.output or false, resume = opts.resume, retry_failed = opts.retry_failed,
        code_changed = opts.code_changed, device = lm.device, keep_default = true, progress = progress,
    })
    run.finish(grid)
    local result
    if ok then ok, result = pcall(result_of, grid, opts.output, counts) else result = counts end
    if not ok then
        if type(result) == "table" and result.op == "sweep_start" then result.op = OP end
        error(result, 0)
    end
    return result, result:tensor()
end

return M
