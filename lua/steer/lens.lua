--- The logit lens: which tokens a model would say if it stopped after each of its layers.
local ffi = require "ffi"
local c = require "steer.core.c"
local capture = require "steer.capture"
local check = require "steer.core.check"
local options = require "steer.core.options"
local pieces = require "steer.model.pieces"
local layout = require "steer.repl.layout"
local tensors = require "steer.tensor.object"

local raise = require("steer.core.error").raise
local printable = require("steer.core.text").printable
local C = c.C

local M = {}

-- ---- Showing -------------------------------------------------------------------------------------------------------

local Lens = {}
Lens.__topic = "lens" -- the topic for help
require("steer.core.class").strict(Lens, "a lens", {})

local WIDTH, CELL = 100, 10 -- columns of the table, and of a token in it

-- A text at exactly `columns` columns.
local function fit(text, columns)
    local cut, width = {}, 0
    for _, character in ipairs(layout.characters(printable(text))) do
        local shown, more = layout.cell(character)
        if width + more > columns then
            while width >= columns and #cut > 0 do
                width = width - layout.width(table.remove(cut))
            end
            cut[#cut + 1], width = "~", width + 1
            break
        end
        cut[#cut + 1], width = shown, width + more
    end
    return table.concat(cut) .. (" "):rep(columns - width)
end

local function trimmed(line) return (line:gsub(" +$", "")) end

-- The likeliest token after each layer and token, as many of the last tokens as fit.
local function add_grid(lines, lens)
    local shown = math.min(#lens.positions, math.floor((WIDTH - 5) / (CELL + 2)))
    local first = #lens.positions - shown + 1
    local head = { "layer" }
    for i = first, #lens.positions do head[#head + 1] = fit(lens.pieces[i], CELL) end
    lines[1] = trimmed(table.concat(head, "  "))
    for _, layer in ipairs(lens.layers) do
        local row = { ("%5d"):format(layer) }
        for i = first, #lens.positions do row[#row + 1] = fit(lens[layer][i][1].token, CELL) end
        lines[#lines + 1] = trimmed(table.concat(row, "  "))
    end
    lines[#lines + 1] = ""
end

--- Writes the likeliest token after each layer and token, then the likeliest ones after the last token.
function Lens:__tostring()
    local lines, last = {}, #self.positions
    if last > 1 then add_grid(lines, self) end
    lines[#lines + 1] = "layer  after " .. check.describe(printable(self.pieces[last]))
    for _, layer in ipairs(self.layers) do
        local row = { ("%5d"):format(layer) }
        for _, entry in ipairs(self[layer][last]) do
            row[#row + 1] = ("%.3f %s"):format(entry.probability, fit(entry.token, CELL))
        end
        lines[#lines + 1] = trimmed(table.concat(row, "  "))
    end
    return table.concat(lines, "\n")
end

-- ---- Reading -------------------------------------------------------------------------------------------------------

local tensor_out = ffi.new("steer_tensor *[1]")
local CHUNK_BYTES = 2 ^ 25 -- of logits at once

--- Gives what the last norm and the head make of hidden states [n, hidden].
local function logits_of(lm, states)
    c.alloc(C.steer_model_logits, tensor_out, lm:handle_for("lens"), states.handle)
    tensors.out[0] = tensor_out[0]
    return tensors.own()
end

-- The `top` largest of n probabilities, largest first, of equals the first; and how many are larger than that of `id`.
local function largest(p, n, top, id)
    local ids, values, count, rank = {}, {}, 0, 1
    local least, own = -1, id and p[id] or math.huge
    for k = 0, n - 1 do
        local x = p[k]
        if x > own then rank = rank + 1 end
        if x > least then
            local at = math.min(count + 1, top)
            while at > 1 and values[at - 1] < x do
                ids[at], values[at], at = ids[at - 1], values[at - 1], at - 1
            end
            ids[at], values[at], count = k, x, math.min(count + 1, top)
            if count == top then least = values[top] end
        end
    end
    return ids, values, rank
end

-- What is read from one row of probabilities.
local function read_row(lm, p, top, following)
    local entry, ids, values, rank = {}, largest(p, lm.vocab, top, following)
    if #ids == 0 then return nil end -- all are NaN
    for k = 1, #ids do entry[k] = { id = ids[k], token = pieces.one(lm, ids[k]), probability = values[k] } end
    if following then entry.following = { id = following, probability = p[following], rank = rank } end
    return entry
end

local OPTIONS = { layers = true, top = "number", tokens = true, at = "string", spec = true }

--- Reads hidden states as tokens: the last norm and the head applied to the states after each layer. After the last
-- layer these are the model's own probabilities.
-- Source: the logit lens (nostalgebraist 2020, "interpreting GPT: the logit lens").
-- @param lm the model: lm:lens(text, opts)
-- @param text a text, or a table with prompt, messages or tokens, response and spec, as lm:capture takes it
-- @tparam[opt] table opts layers (as lm:capture takes them), top (default 5: how many tokens),
-- tokens ("all", the default, "last", "response" or positions), at and spec as for lm:capture
-- @treturn table {[layer] = list by position of lists of {id, token, probability}, likeliest first}; such a list has
-- `following` = {id, probability, rank} of the token that follows in the text, where one does. Beside the layers:
-- layers, positions (from 0), pieces (texts of the tokens there). print shows it as a table
function M.lens(lm, text, opts)
    local op = "lens"
    opts = options.check(op, opts, OPTIONS)
    local top = check.integer(op, "top", opts.top or 5, 1, lm.vocab)
    local states, info = capture.capture_as(lm, op, function() return "text" end, { text }, {
        layers = opts.layers, at = opts.at, tokens = opts.tokens or "all", spec = opts.spec,
    })
    local ids, positions = info.tokens[1], info.positions[1]
    local lens = setmetatable({ layers = info.layers, positions = positions, pieces = {} }, Lens)
    local all = pieces.of(lm, ids)
    for i, position in ipairs(positions) do lens.pieces[i] = all[position + 1] end
    local most = math.max(1, math.floor(CHUNK_BYTES / (4 * lm.vocab)))
    for i, layer in ipairs(info.layers) do
        lens[layer] = {}
        for from = 1, #positions, most do
            local count = math.min(most, #positions - from + 1)
            local logits = logits_of(lm, states:select(2, i):narrow(1, from, count))
            local host = logits:softmax(2):to("cpu"):contiguous()
            local p = ffi.cast("const float *", host:data())
            for k = 0, count - 1 do
                local position = positions[from + k]
                lens[layer][from + k] = read_row(lm, p + k * lm.vocab, top, ids[position + 2])
                    or raise("invalid_argument", op, "layer %d: the state at position %d is not finite", layer,
                        position)
            end
            logits:close()
            host:close()
        end
    end
    return lens
end

return M
