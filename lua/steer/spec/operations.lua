--- The table of operations: what each is called, what it takes, how it is normalised, and how its strength is changed.
--
-- Constructors, printing, saving, loading and errors come from here. A row of KINDS:
--   number      in C
--   vector      "one", "two", "several" (one or more) or "none"
--   normalize   whether vectors are normalised unless the options say otherwise; nil: there is no such option
--   fields      list of { name, type, default }: what it takes beside the vector, in the order in which it is printed;
--               without a default it may be left out, with `required` it must be there
--   positional  the names that the constructor takes before its options, the vector apart
--   scaled      function(fields, by): changes them to those of another strength; nil: it has none, false: it stays
local ffi = require "ffi"
local c = require "steer.core.c"
local check = require "steer.core.check"
local options = require "steer.core.options"
local T = require "steer.tensor"
local tensors = require "steer.tensor.object"
local tables = require "steer.core.tables"

local C = c.C
local raise = require("steer.core.error").raise

local M = {}

-- ---- Types of fields -----------------------------------------------------------------------------------------------

--- A steer tensor of a vector given as a tensor or as a Lua list of numbers.
function M.to_vector(op, name, value)
    if tensors.is(value) then return value end
    local expected = "a one-dimensional tensor or a list of numbers"
    if type(value) == "table" and getmetatable(value) then
        raise("invalid_argument", op, "%s: expected %s, got %s", name, expected, check.describe(value))
    end
    if type(value) == "table" and tensors.is(value[tables.first(value)]) then
        raise("invalid_argument", op, "%s: expected %s, got a table of tensors; of directions by layer take one, as in "
            .. "directions[5]", name, expected)
    end
    for i = 1, check.list(op, name, value, expected) do check.number(op, name .. "[" .. i .. "]", value[i]) end
    return T.from(value, { dtype = "f32", device = "cpu" })
end

--- A steer tensor [n, hidden] of vectors given as such a tensor or as a list of vectors; one vector as itself.
function M.to_rows(op, name, value)
    local first = type(value) == "table" and value[1]
    if not first or type(first) == "number" or getmetatable(value) then return M.to_vector(op, name, value) end
    local rows, n = {}, check.list(op, name, value, "vectors")
    for i = 1, n do
        local label = name .. "[" .. i .. "]"
        rows[i] = M.to_vector(op, label, value[i])
        if rows[i].ndim ~= 1 then
            raise("invalid_argument", op, "%s: %d dimensions, expected one", label, rows[i].ndim)
        end
        if rows[i]:numel() ~= rows[1]:numel() then
            raise("shape_mismatch", op, "%s: %d elements, %s[1] has %d", label, rows[i]:numel(), name,
                rows[1]:numel())
        end
    end
    local all = T.empty({ n, rows[1]:numel() }, { dtype = "f32", device = "cpu" })
    for i = 1, n do all:select(1, i):copy_(rows[i]) end
    return all
end

-- The values as they are now, for saving: later changes of the tensor do not reach the operation.
local function snapshot(tensor)
    if tensor.device == "cpu" then return tensor:clone() end
    return tensor:to("cpu")
end
M.snapshot = snapshot

local function tensor_type(convert, text)
    return {
        is_tensor = true,
        take = function(op, name, value) return convert(op, name, value) end,
        describe = function(desc, name, tensor, op) desc[name] = tensors.use(tensor, op, name) end,
        keep = snapshot,
        text = text or function(tensor)
            local shape = tensor:shape()
            return tensor.ndim == 1 and "a vector" or ("%d vectors"):format(shape[1])
        end,
    }
end

local function number_text(x) return ("%.6g"):format(x) end

local MOST_NUMBERS = 4 -- that are printed

local function numbers_text(tensor)
    local n, words = tensor:numel(), {}
    for i = 1, math.min(n, MOST_NUMBERS) do words[i] = number_text(tensor:get(i)) end
    if n > MOST_NUMBERS then words[#words + 1] = ("... (%d)"):format(n) end
    return n == 1 and words[1] or "{" .. table.concat(words, ", ") .. "}"
end

local function points(op, name, value)
    local copy = {}
    for i = 1, check.list(op, name, value, "a list of {x, y}") do
        local label = ("%s[%d]"):format(name, i)
        if check.list(op, label, value[i], "{x, y}") ~= 2 then
            raise("invalid_argument", op, "%s: %d numbers, expected {x, y}", label, #value[i])
        end
        copy[i] = { check.number(op, label .. "[1]", value[i][1]), check.number(op, label .. "[2]", value[i][2]) }
    end
    return copy
end

local TYPES = {
    number = {
        take = check.number, describe = function(desc, name, value) desc[name] = value end, text = number_text,
    },
    vector = tensor_type(M.to_vector),
    rows = tensor_type(M.to_rows),
    numbers = tensor_type(function(op, name, value)
        return M.to_vector(op, name, type(value) == "number" and { value } or value)
    end, numbers_text),
    points = {
        take = points,
        describe = function(desc, name, value, _, keep)
            local array = ffi.new("double[?]", 2 * #value + 1)
            for i, point in ipairs(value) do array[2 * i - 2], array[2 * i - 1] = point[1], point[2] end
            keep[#keep + 1] = array
            desc[name], desc.point_count = array, #value
        end,
        text = function(value)
            local parts = {}
            for i, point in ipairs(value) do
                parts[i] = i <= 4 and number_text(point[1]) .. ":" .. number_text(point[2]) or nil
            end
            return table.concat(parts, " ") .. (#value > 4 and " ..." or "")
        end,
    },
}

-- One of the words in `numbers`, each with what C calls it.
local function choice(numbers)
    return {
        take = function(op, name, value)
            if type(value) ~= "string" or not numbers[value] then
                raise("invalid_argument", op, "%s: %s, expected %s", name, check.describe(value),
                    options.choice(numbers))
            end
            return value
        end,
        describe = function(desc, name, value) desc[name] = numbers[value] end,
        text = function(value) return value end,
    }
end

local OF_PROMPT = tonumber(C.STEER_PROMPT_NOTES) -- added to the number of a note of a prompt
-- Name of a note -> { number = }, kept by the operations that use it: within a spec no two names have one number.
local notes = setmetatable({}, { __mode = "v" })

-- The least number that no name has; nil: there is none.
local function free_number()
    local taken = {}
    for _, name in ipairs(tables.keys(notes)) do
        local note = notes[name]
        if note then taken[note.number] = true end
    end
    for number = 0, OF_PROMPT - 1 do
        if not taken[number] then return number end
    end
    return nil
end

--- Checks the name of a note.
function M.take_note(op, name, value)
    check.type(op, name, value, "string", "the name of a note")
    if value == "" then raise("invalid_argument", op, "%s: empty, expected the name of a note", name) end
    return value
end

--- The number of a note; `of` is "prompt" or nil. It is the name's as long as `keep` is there.
function M.note_number(op, name, value, of, keep)
    local note = notes[value]
    if not note then
        local number = free_number()
        if not number then
            collectgarbage() -- operations,
            collectgarbage() -- and what was kept for them
            number = free_number()
        end
        if not number then
            raise("unsupported", op, '%s: "%s" is one more than the %d names of notes that the operations of a process '
                .. "may have: %s", name, value, OF_PROMPT, options.list(notes))
        end
        note = { number = number }
        notes[value] = note
    end
    keep[#keep + 1] = note
    return note.number + (of and OF_PROMPT or 0)
end

--- Checks what a note is of: "prompt", or nil for each token.
function M.take_of(op, name, value)
    if value == nil or value == "prompt" then return value end
    return raise("invalid_argument", op, '%s: %s, expected "prompt"; without it a note is of each token', name,
        check.describe(value))
end

TYPES.note = {
    take = M.take_note,
    describe = function(desc, name, value, op, keep) desc[name] = M.note_number(op, name, value, nil, keep) end,
    text = function(value) return value end,
}
TYPES.of = { -- behind the note
    take = M.take_of,
    describe = function(desc) desc.note = desc.note + OF_PROMPT end,
    text = function(value) return value end,
}
TYPES.side = choice { positive = 1, negative = -1 }
TYPES.activation = choice { linear = C.STEER_FEATURE_LINEAR, relu = C.STEER_FEATURE_RELU }

-- ---- Operations ----------------------------------------------------------------------------------------------------

local function times(name)
    return function(fields, by) fields[name] = fields[name] * by end
end

local BOUNDS = { { "min", "number" }, { "max", "number" } }
local WRITE = { "write", "vector" }

M.KINDS = {
    add = {
        number = C.STEER_OP_ADD, vector = "one", normalize = false, positional = { "scale" },
        fields = { { "scale", "number", 1 } }, scaled = times "scale",
    },
    cap = { number = C.STEER_OP_CAP, vector = "several", normalize = true, fields = { BOUNDS[1], BOUNDS[2], WRITE } },
    ablate = {
        number = C.STEER_OP_ABLATE, vector = "several", normalize = true, positional = { "scale" },
        fields = { { "scale", "number", 0 }, { "side", "side" }, WRITE },
        scaled = function(fields, by) fields.scale = 1 + by * (fields.scale - 1) end,
    },
    set = {
        number = C.STEER_OP_SET, vector = "one", normalize = true, positional = { "target" },
        fields = { { "target", "number", required = true }, WRITE },
    },
    map = {
        number = C.STEER_OP_MAP, vector = "one", normalize = true, positional = { "points" },
        fields = { { "points", "points", required = true }, WRITE },
    },
    rotate = {
        number = C.STEER_OP_ROTATE, vector = "two", positional = { "degrees" },
        fields = { { "degrees", "number", required = true } }, scaled = times "degrees",
    },
    angle = {
        number = C.STEER_OP_ANGLE, vector = "two", positional = { "degrees" },
        fields = { { "degrees", "number", required = true } },
    },
    turn = {
        number = C.STEER_OP_TURN, vector = "one", positional = { "degrees" },
        fields = { { "degrees", "number", required = true } }, scaled = times "degrees",
    },
    sae = {
        number = C.STEER_OP_SAE, vector = "several", positional = { "write" },
        fields = {
            { "min", "number" }, { "max", "number" }, { "scale", "number", 1 }, { "activation", "activation", "relu" },
            { "threshold", "number", 0 }, { "bias", "numbers" }, { "write", "rows", required = true },
        },
    },
    affine = {
        number = C.STEER_OP_AFFINE, vector = "several", positional = { "write" }, scaled = times "scale",
        fields = {
            { "scale", "number", 1 }, { "write", "rows", required = true }, { "matrix", "rows" }, { "bias", "numbers" },
        },
    },
    replace = {
        number = C.STEER_OP_REPLACE, vector = "one", positional = { "scale" }, fields = { { "scale", "number", 1 } },
    },
    keep_norm = { number = C.STEER_OP_KEEP_NORM, vector = "none", fields = {} },
    note = {
        number = C.STEER_OP_NOTE, vector = "none", positional = { "note" },
        fields = { { "note", "note", required = true }, { "of", "of" } }, scaled = false,
    },
}

--- What a field is, by its type: take(op, name, value) checks a value and gives what is kept, describe(desc, name,
-- value, op, keep) puts it into a steer_op_desc, text(value) prints it; tensors also have is_tensor and keep(tensor).
function M.type_of(field) return TYPES[field[2]] end

--- Takes the vector of an operation of `kind`; nil where it has none.
function M.take_vector(kind, value)
    local how = M.KINDS[kind].vector
    if how == "none" then return nil end
    return (how == "one" and M.to_vector or M.to_rows)(kind, "vector", value)
end

--- The kinds whose strength can be changed, for messages.
function M.with_strength()
    local names = {}
    for _, kind in ipairs(tables.keys(M.KINDS)) do names[kind] = M.KINDS[kind].scaled or nil end
    return options.choice(names)
end

return M
