--- Steering operations and specs: what is done to the hidden states of each layer, checked when it is written down.
--
-- h is one hidden-state row, v the vector, p = h.v. Operations of a layer run in the order given. Options of each:
--   normalize: divide v by its norm, in float64: the default of cap, ablate, set and map; add takes v as it is
--   where:     which tokens: { prompt = "all", generation = "all", prompt_positions = { 0, -1 },
--              prompt_window = { a, b }, generation_positions = { 0 }, generation_window = { 0, 8 },
--              token_ids = { ... } }; selectors add up. Positions count from 0, in a prompt negative ones from its
--              end; windows are half-open. Default: every token
--   exclude:   the same keys, beside `where` or in it: tokens taken away
--   when:      per token: { vector = g, above = x } or { vector = g, below = x }: the operation acts where h.g (with
--              cosine = true the cosine of h and g, 0 for h = 0) is beyond x. h is read as the operations before this
--              one left it. { noted = name } acts where steer.note, before this operation, noted it of the token; noted
--              of the prompt (steer.note has that), it acts from the prompt's last token on, or not at all.
--              { all = { ... } }, { any = { ... } } and { none = { ... } } combine up to six comparisons
--   at:        where a model is steered: "layer" (after the layer, the default; also "mlp"), "attention" (after its
--              attention block was added) or "embed" (the embeddings, on layer 0); plans of an engine know only "layer"
local ffi = require "ffi"
local c = require "steer.core.c"
local check = require "steer.core.check"
local class = require "steer.core.class"
local conditions = require "steer.spec.conditions"
local notes = require "steer.spec.notes"
local operations = require "steer.spec.operations"
local options = require "steer.core.options"
local scope = require "steer.spec.scope"
local tensors = require "steer.tensor.object"
local tables = require "steer.core.tables"

local C = c.C
local raise = require("steer.core.error").raise
local KINDS = operations.KINDS

local M = {}

-- ---- Operations ----------------------------------------------------------------------------------------------------

local Op, op_metatable = {}, {} -- methods; what finds them and the fields
local fields_of = setmetatable({}, { __mode = "k" }) -- operation -> its fields, which can be read and not set
local kept_of = setmetatable({}, { __mode = "k" }) -- operation -> what lives as long: the names of its notes

-- What an operation may lack.
local ABSENT = { vector = true, where = true, exclude = true, when = true, at = true, normalize = true, handle = true }
for _, row in pairs(KINDS) do
    for _, field in ipairs(row.fields) do ABSENT[field[1]] = true end
end

function op_metatable:__index(key)
    local value = fields_of[self][key]
    if value ~= nil then return value end
    return class.lookup(Op, "an operation", key, ABSENT, fields_of[self])
end
op_metatable.__methods = Op -- for completion
op_metatable.__name = "an operation"

function op_metatable:__newindex(key)
    raise("invalid_argument", fields_of[self].kind, "%s: an operation does not change, make a new one", tostring(key))
end

local op_out = ffi.new("steer_op *[1]")

local SHARED_OPTIONS = { normalize = "boolean", where = true, exclude = true, when = "table", at = "string" }

-- Sites of a model where an operation may act, and what each is kept as: nil is after the layer, the default.
local SITES = { layer = false, mlp = false, attention = "attention", embed = "embed" }

local function site_of(kind, at)
    if at == nil then return nil end
    if SITES[at] == nil then
        raise("invalid_argument", kind, "at: %s, expected %s", check.describe(at), options.choice(SITES))
    end
    return SITES[at] or nil
end

-- The options that the constructor of each kind knows.
local OPTIONS = {}
for kind, row in pairs(KINDS) do
    local known, positional = {}, {}
    for _, name in ipairs(row.positional or {}) do positional[name] = true end
    for _, key in ipairs(tables.keys(SHARED_OPTIONS)) do known[key] = SHARED_OPTIONS[key] end
    if row.normalize == nil then known.normalize = nil end
    for _, field in ipairs(row.fields) do
        if not positional[field[1]] then known[field[1]] = field[2] == "number" and "number" or true end
    end
    OPTIONS[kind] = known
end

-- The selectors of an operation; `exclude` may stand beside `where` or in it.
local function selectors(kind, opts)
    local where, exclude = opts.where, opts.exclude
    if type(where) == "table" and where.exclude ~= nil then
        if exclude ~= nil then
            raise("invalid_argument", kind, "exclude: given twice, beside where and in it")
        end
        exclude = where.exclude
        local rest = {}
        for _, key in ipairs(tables.keys(where)) do
            if key ~= "exclude" then rest[key] = where[key] end
        end
        where = #tables.keys(rest) > 0 and rest or nil
    end
    return scope.selector(kind, "where", where), scope.selector(kind, "exclude", exclude)
end

-- Takes the fields of an operation into `self` and its descriptor. Returns the tensors to be kept, by name.
local function take_fields(self, desc, kind, opts, keep)
    local given = {}
    for _, field in ipairs(KINDS[kind].fields) do
        local name, value, how = field[1], opts[field[1]], operations.type_of(field)
        if value == nil then value = field[3] end
        if value ~= nil then
            value = how.take(kind, name, value)
            how.describe(desc, name, value, kind, keep)
            if how.is_tensor then given[name] = value end
            self[name] = value
        elseif field.required then
            raise("invalid_argument", kind, "%s: missing", name)
        end
    end
    return given
end

--- Makes an operation of a kind of the table in spec/operations.lua, its arguments and options all in `opts`.
function M.make(kind, vector, opts)
    local row, desc, keep = KINDS[kind], c.descriptor("steer_op_desc"), {}
    local v = operations.take_vector(kind, vector)
    local normalize = opts.normalize
    if normalize == nil then normalize = row.normalize end
    local where, exclude = selectors(kind, opts)
    local self = {
        kind = kind, normalize = normalize, where = where, exclude = exclude, at = site_of(kind, opts.at),
    }
    desc.kind, desc.normalize = row.number, normalize and 1 or 0
    desc.scale, desc.min, desc.max = 1, -math.huge, math.huge
    if v then desc.vector = tensors.use(v, kind, "vector") end
    local given = take_fields(self, desc, kind, opts, keep)
    desc.where, desc.exclude = scope.describe(self.where, keep), scope.describe(self.exclude, keep)
    local when = conditions.take(kind, opts.when)
    if when then conditions.describe(kind, desc, when, keep) end
    c.check(C.steer_op_create(op_out, desc), kind, conditions.names(when))
    self.handle = c.own(op_out[0], C.steer_op_release)
    self.vector = v and operations.snapshot(v)
    for _, name in ipairs(tables.keys(given)) do self[name] = operations.snapshot(given[name]) end
    if self.min == -math.huge then self.min = nil end -- no bound
    if self.max == math.huge then self.max = nil end
    self.when = when and conditions.map(when, function(comparison)
        return {
            vector = operations.snapshot(comparison.vector), above = comparison.above, below = comparison.below,
            cosine = comparison.cosine,
        }
    end)
    local op = setmetatable({}, op_metatable)
    fields_of[op], kept_of[op] = self, keep
    return op
end

-- What an operation was made of, its vector apart, as M.make takes it.
local function options_of(op)
    local opts = { normalize = op.normalize, where = op.where, exclude = op.exclude, when = op.when, at = op.at }
    for _, field in ipairs(KINDS[op.kind].fields) do opts[field[1]] = op[field[1]] end
    return opts
end

-- The operation under another condition.
local function remake(op, when)
    local opts = options_of(op)
    opts.when = when
    return M.make(op.kind, op.vector, opts)
end

-- Raises for options in the place of a number, where they are easily given.
local function refuse_options(kind, name, value)
    for _, field in ipairs(KINDS[kind].fields) do
        if field[1] == name and field[2] == "number" and type(value) == "table" and not check.is_object(value) then
            raise("invalid_argument", kind, "%s: expected a number, got a table: options come third, as in "
                .. "steer.%s(v, %g, {...})", name, kind, field[3] or 1)
        end
    end
end

-- Makes an operation from the arguments of its constructor: those of the table, then the options.
local function construct(kind, vector, opts, ...)
    local merged = {}
    for i, name in ipairs(KINDS[kind].positional or {}) do
        merged[name] = select(i, ...)
        refuse_options(kind, name, merged[name])
    end
    opts = options.check(kind, opts, OPTIONS[kind])
    for _, key in ipairs(tables.keys(opts)) do merged[key] = opts[key] end
    return M.make(kind, vector, merged)
end

-- Directions of a file that projects them away look like any others, and added they do the opposite.
local function check_additive(vector)
    local origin = tensors.is(vector) and tensors.origin(vector)
    if origin and origin.mode == "project" then
        raise("invalid_argument", "add", "vector: it is a direction of %s, which projects it away: h - alpha*(h.d)*d. "
            .. "Added, it would push along what it removes; use steer.load_spec, which does what the file says, or "
            .. "steer.ablate", origin.path)
    end
end

--- Adds a vector: h + scale*v.
-- @param vector one-dimensional float tensor on any device, or a list of numbers; its values are copied
-- @tparam[opt=1] number scale
-- @tparam[opt] table opts normalize (default false: v is taken as it is), where, exclude, when,
-- at: `:help spec` has them
-- @return an operation, which does nothing where the scale or all of v is 0 (specs that steer nothing are idle_specs of
-- plan:explain); invalid_argument for NaN, infinite or not one-dimensional vectors and non-finite scales
function M.add(vector, scale, opts)
    check_additive(vector)
    return construct("add", vector, opts, scale)
end

--- Caps the projection: h + (clamp(p, min, max) - p)*v. Of several vectors it caps the length of the part of h in their
-- span.
-- @param vector one-dimensional float tensor on any device, or a list of numbers; or several, as [n, hidden] or a list
-- of vectors, which are made orthonormal in float64; their values are copied
-- @tparam table opts min, max (at least one, min <= max), normalize (default true, in float64), write (the vector that
-- is added instead of v, as it is), where, exclude, when, at: `:help spec` has them
-- @return an operation; invalid_argument for bad vectors and for missing, crossed or NaN bounds
function M.cap(vector, opts) return construct("cap", vector, opts) end

--- Ablates a direction: h + (scale - 1)*p*v; scale 0 removes the projection, 1 keeps it. Of several vectors it scales
-- the part of h in their span.
-- @param vector one-dimensional float tensor on any device, or a list of numbers; or several, as [n, hidden] or a list
-- of vectors, which are made orthonormal in float64; their values are copied
-- @tparam[opt=0] number scale
-- @tparam[opt] table opts side ("positive" or "negative": only where p is), write (the vector that is added instead of
-- v, as it is), normalize (default true, in float64), where, exclude, when, at: `:help spec` has them
-- @return an operation; invalid_argument for NaN, infinite, zero or not one-dimensional vectors and non-finite scales
function M.ablate(vector, scale, opts) return construct("ablate", vector, opts, scale) end

--- Sets the projection: h + (target - p)*v.
-- @param vector one-dimensional float tensor on any device, or a list of numbers; its values are copied
-- @tparam number target what p becomes; a one-sided set is a cap with one bound
-- @tparam[opt] table opts write (the vector that is added instead of v, as it is), normalize (default true), where,
-- exclude, when, at: `:help spec` has them
-- @return an operation; invalid_argument for bad vectors and targets that are no finite f32 numbers
function M.set(vector, target, opts) return construct("set", vector, opts, target) end

--- Maps the projection: h + (f(p) - p)*v, f piecewise linear through points, constant beyond the first and the last.
-- @param vector one-dimensional float tensor on any device, or a list of numbers; its values are copied
-- @tparam table points list of {x, y}, x ascending, 1 to 64 of them
-- @tparam[opt] table opts write (the vector that is added instead of v, as it is), normalize (default true), where,
-- exclude, when, at: `:help spec` has them
-- @return an operation; invalid_argument for bad vectors and points
function M.map(vector, points, opts) return construct("map", vector, opts, points) end

--- Rotates the part of h in the plane of two vectors, from the first toward the second.
-- @param vectors two, as [2, hidden] or a list; made orthonormal in float64, the first keeps its direction
-- @tparam number degrees
-- @tparam[opt] table opts where, exclude, when, at: `:help spec` has them
-- @return an operation; invalid_argument for vectors of one direction
function M.rotate(vectors, degrees, opts) return construct("rotate", vectors, opts, degrees) end

--- Sets the angle of the part of h in the plane of two vectors, which keeps its length: Angular Steering (Vu and
-- Nguyen 2025). Its adaptive form, which acts on states along the first vector a, is when = {vector = a, above = 0}.
-- @param vectors two, as [2, hidden] or a list; made orthonormal in float64, the first keeps its direction
-- @tparam number degrees from the first vector; 90 is along the second
-- @tparam[opt] table opts where, exclude, when, at: `:help spec` has them
-- @return an operation; invalid_argument for vectors of one direction
function M.angle(vectors, degrees, opts) return construct("angle", vectors, opts, degrees) end

--- Turns h toward a direction by an angle, at most up to it, and away from it where the angle is negative; |h| stays.
-- @param vector one-dimensional float tensor on any device, or a list of numbers; normalised in float64
-- @tparam number degrees -180 to 180
-- @tparam[opt] table opts where, exclude, when, at: `:help spec` has them
-- @return an operation, which leaves h along the direction or its opposite as it is
function M.turn(vector, degrees, opts) return construct("turn", vector, opts, degrees) end

-- A list of one vector, or a tensor of one row, as that vector.
local function single(value)
    if tensors.is(value) and value.ndim == 2 and value:size(1) == 1 then return value[1] end
    return type(value) == "table" and #value == 1 and type(value[1]) ~= "number" and value[1] or value
end

--- Clamps features of a sparse autoencoder: h + (clamp(scale*z, min, max) - z)*w, z = activation(h.v + bias).
-- @param encode the row v of the encoder, or several as [n, hidden] or a list; taken as it is
-- @param decode the row w of the decoder, or as many
-- @tparam table opts min, max (both: z becomes that), scale (default 1, 0 or more), activation ("relu", the default, or
-- "linear"), threshold (z is 0 up to it, default 0: JumpReLU), bias (a number, or one each: the encoder's, less v.b of
-- what the autoencoder subtracts from h), where, exclude, when, at: `:help spec` has them
-- @return an operation; the features of one operation see h as it was before all of them
function M.sae(encode, decode, opts) return construct("sae", single(encode), opts, single(decode)) end

--- Adds an affine map of low rank: h + scale * U'(M (V h) + bias).
-- @param read V: [n, hidden] or a list of vectors, n at most 64; taken as they are
-- @param write U: [k, hidden] or a list of vectors, k at most 64
-- @tparam[opt] table opts matrix (M, [k, n], default the identity), bias (k numbers, default 0), scale (default 1),
-- where, exclude, when, at: `:help spec` has them
-- @return an operation; shape_mismatch for what does not fit together
function M.affine(read, write, opts) return construct("affine", read, opts, write) end

--- Replaces h: scale*v, such as an activation recorded elsewhere (activation patching).
-- @param vector one-dimensional float tensor on any device, or a list of numbers; its values are copied
-- @tparam[opt=1] number scale
-- @tparam[opt] table opts where, exclude, when, at: `:help spec` has them
-- @return an operation
function M.replace(vector, scale, opts) return construct("replace", vector, opts, scale) end

--- Replaces h at positions of a prompt: a list of operations, as in steer.spec{ [5] = steer.patch(states, {0, 3}) }.
-- @param states [n, hidden] or a list of n vectors, such as lm:capture gives of another prompt
-- @tparam table positions list of n positions, from 0, negative ones from the prompt's end; a spec has room for 64
-- @tparam[opt] table opts when, at: `:help spec` has them
-- @return a list of operations
function M.patch(states, positions, opts)
    opts = options.check("patch", opts, { when = "table", at = "string" })
    local rows, n = operations.to_rows("patch", "states", states), check.list("patch", "positions", positions)
    if n == 0 then raise("invalid_argument", "patch", "positions: the list is empty") end
    if rows.ndim == 1 then rows = rows:reshape(1, rows:numel()) end
    if rows.ndim ~= 2 or rows:size(1) ~= n then
        raise("shape_mismatch", "patch", "states: %d of them for %d positions", rows:size(1), n)
    end
    local list = {}
    for i = 1, n do
        list[i] = M.replace(rows:select(1, i), 1, {
            where = { prompt_positions = { positions[i] } }, when = opts.when, at = opts.at,
        })
    end
    return list
end

--- Gives h the norm that it had before the operations of its layer: what stands before this one turns h only.
-- @tparam[opt] table opts where, exclude, when, at: `:help spec` has them
-- @return an operation, which leaves a zero row as it is
function M.keep_norm(opts) return construct("keep_norm", nil, opts) end

--- Notes for each token whether a condition holds, for operations after it on this layer or later ones: those with
-- when = {noted = name} act where it did. Or, with of = "prompt", once for a whole prompt: whether the condition holds
-- of its last token. Operations that ask for that act from there on: on that token those after the note, on all
-- later tokens those on any layer, if where = {generation = "all"} says that they are of later tokens alone. It is
-- decided on the device as the prompt is computed, and kept with its keys and values: Conditional Activation Steering
-- (Lee et al. 2025) by its mode "last". A mean over a prompt is not known while it is computed:
-- lm:capture(prompts, {tokens = "all", reduce = "mean"}) has it, for a script that chooses the spec.
-- @tparam string name
-- @tparam table opts when (required), of ("prompt"; nil: of each token), where, exclude, at: `:help spec` has them
-- @return an operation, which changes nothing; tokens that it does not select are not noted, and a prompt whose last
-- token stands where `where` has no positions is refused: its note could never hold. Plans of an engine know of prompts
-- what is in their batch: generated rows under a spec that asks for more are `unsupported` there
function M.note(name, opts) return construct("note", nil, opts, name) end

--- Frees the operation now; specs made of it keep what they need, its values for saving included.
function Op:close()
    local fields = fields_of[self]
    if not fields then
        raise("invalid_argument", "op_close", "self: expected an operation, got %s; methods are called with a colon, "
            .. "as in op:close()", check.describe(self))
    end
    if fields.handle ~= nil then c.free(fields.handle, C.steer_op_release) end
    fields.handle = nil
end

-- Columns of an operation in a table: kind, arguments, where, exclude and when.
local function op_columns(op)
    local arguments = {}
    for _, field in ipairs(KINDS[op.kind].fields) do
        local value, default = op[field[1]], field[3]
        if value ~= nil and (value ~= default or field[1] == "scale") then
            arguments[#arguments + 1] = field[1] .. "=" .. operations.type_of(field).text(value)
        end
    end
    if op.at then arguments[#arguments + 1] = "at=" .. op.at end
    if op.normalize ~= KINDS[op.kind].normalize then
        arguments[#arguments + 1] = "normalize=" .. tostring(op.normalize)
    end
    local where = scope.text(op.where or op.of and { prompt_positions = { -1 } })
    if op.exclude then where = where .. (where == "" and "all but " or " but ") .. scope.text(op.exclude) end
    local when = op.when and conditions.text(op.when) or ""
    return op.kind, table.concat(arguments, " "), where == "" and "all" or where, when == "" and "always" or when
end

function op_metatable:__tostring()
    if self.handle == nil then return self.kind .. " (closed)" end
    local kind, arguments, where, when = op_columns(self)
    local v = self.vector
    local vectors = not v and "" or v.ndim == 1 and (", vector of %d"):format(v:numel())
        or (", %d vectors of %d"):format(v:size(1), v:size(2))
    return ("%s%s%s, where %s, when %s"):format(kind, arguments == "" and "" or " " .. arguments, vectors, where, when)
end

-- ---- Specs ---------------------------------------------------------------------------------------------------------

local Spec = {}
Spec.__topic, Spec.__name = "spec", "a spec"
class.strict(Spec, "a spec",
    { handle = true, attention = true, embed = true, by_layer = true, source = true })

function Spec.__newindex(_, key)
    raise("invalid_argument", "spec", "%s: a spec does not change, make a new one", tostring(key))
end

local spec_out = ffi.new("steer_spec *[1]")

-- The operations of one layer, checked, as a list of our own.
local function check_layer(layer, ops)
    if type(layer) ~= "number" or layer % 1 ~= 0 or math.abs(layer) >= 2 ^ 31 then
        raise("invalid_argument", "spec", "layer %s: expected an integer from 0", check.describe(layer))
    end
    local name = "layer " .. layer
    if getmetatable(ops) == op_metatable then
        raise("invalid_argument", "spec", "%s: expected a list of operations, got one: write [%d] = { operation }",
            name, layer)
    end
    local copy = {}
    for i = 1, check.list("spec", name, ops, "a list of operations") do
        local op = ops[i]
        if getmetatable(op) ~= op_metatable then
            raise("invalid_argument", "spec", "%s: operation %d: expected what steer.add, steer.cap and others "
                .. "make, got %s", name, i, check.describe(op))
        end
        if op.handle == nil then raise("closed", "spec", "%s: operation %d (%s) is closed", name, i, op.kind) end
        if op.at == "embed" and layer ~= 0 then
            raise("invalid_argument", "spec", '%s: operation %d (%s): at "embed" is before layer 0: write it under [0]',
                name, i, op.kind)
        end
        copy[i] = op
    end
    return copy
end

-- The library's spec of the operations at one site; nil if there are none, unless it is the default one.
local function create(layers, by_layer, count, site)
    local numbers, handles = ffi.new("int32_t[?]", count + 1), ffi.new("steer_op *[?]", count + 1)
    local at = 0
    for _, layer in ipairs(layers) do
        for _, op in ipairs(by_layer[layer]) do
            if op.at == site then
                numbers[at], handles[at] = layer, op.handle
                at = at + 1
            end
        end
    end
    if site and at == 0 then return nil end
    c.check(C.steer_spec_create(spec_out, at, numbers, handles), "spec")
    return c.own(spec_out[0], C.steer_spec_release)
end

-- Raises unless the vectors at all sites have one length.
local function check_lengths(handles)
    local length = 0
    for _, site in ipairs { "layer", "attention", "embed" } do
        local n = handles[site] and tonumber(C.steer_spec_hidden(handles[site])) or 0
        if length > 0 and n > 0 and n ~= length then
            raise("shape_mismatch", "spec", "at %s: vectors of %d elements, others have %d", site, n, length)
        end
        length = math.max(length, n)
    end
    return length
end

-- Whether no operation can act on a token of a prompt.
local function is_generation_only(layers, by_layer)
    for _, layer in ipairs(layers) do
        for _, op in ipairs(by_layer[layer]) do
            if not scope.is_generation_only(op.where) then return false end
        end
    end
    return true
end

--- Says what a spec selects if nothing of a sequence with a prompt of n tokens is among it, else nil.
function M.misses(spec, n)
    local first
    for _, layer in ipairs(spec.sorted) do
        for _, op in ipairs(spec.by_layer[layer]) do
            if not scope.is_beyond(op.where, n) then return nil end
            first = first or op.where
        end
    end
    return first and scope.text(first)
end

--- Makes an immutable spec: for each layer (from 0) the operations on it, in order.
-- @tparam table layers { [layer] = { operation, ... }, ... }; empty steers nothing. A list without [layer] = is layers
-- 1 to n, as everywhere in Lua
-- @return a spec; invalid_argument names layer and operation, shape_mismatch if the vectors differ in length
function M.spec(layers)
    if type(layers) ~= "table" or check.is_object(layers) then
        raise("invalid_argument", "spec", "layers: expected { [layer] = { operation, ... } }, got %s",
            check.describe(layers))
    end
    local by_layer, sorted, count = {}, {}, 0
    for _, layer in ipairs(tables.keys(layers)) do
        local copy = check_layer(layer, layers[layer])
        if #copy > 0 then
            by_layer[layer], sorted[#sorted + 1], count = copy, layer, count + #copy
        end
    end
    table.sort(sorted)
    notes.settle(sorted, by_layer, remake)
    local handle = create(sorted, by_layer, count)
    local attention, embed = create(sorted, by_layer, count, "attention"), create(sorted, by_layer, count, "embed")
    return setmetatable({
        handle = handle, attention = attention, embed = embed, by_layer = by_layer, sorted = sorted, count = count,
        length = check_lengths { layer = handle, attention = attention, embed = embed },
        generation_only = count > 0 and is_generation_only(sorted, by_layer),
    }, Spec)
end

local function alive(self, op)
    if getmetatable(self) ~= Spec then
        raise("invalid_argument", op, "self: expected a spec, got %s; methods are called with a colon, as in "
            .. "spec:layers()", check.describe(self))
    end
    if self.handle == nil then raise("closed", op, "spec: it is closed") end
    return self
end

--- Lists the layers that the spec names, in ascending order.
function Spec:layers()
    alive(self, "spec_layers")
    local copy = {}
    for i, layer in ipairs(self.sorted) do copy[i] = layer end
    return copy
end

--- Tells whether the spec has no operation.
function Spec:is_empty() return alive(self, "spec_is_empty").count == 0 end

--- Length of the spec's vectors; 0 if it is empty.
function Spec:hidden() return alive(self, "spec_hidden").length end

local function scaled_op(layer, op, by)
    local row = KINDS[op.kind]
    if row.scaled == false then return op end
    if not row.scaled then
        raise("unsupported", "spec_scaled", "layer %d: %s has no strength, expected %s", layer, op.kind,
            operations.with_strength())
    end
    local opts = options_of(op)
    row.scaled(opts, by)
    return M.make(op.kind, op.vector, opts)
end

--- Gives a spec of another strength: what operations add is multiplied, what they take away of a projection too.
-- @tparam number by 1: as it is; 0: it does nothing; 2: twice as much
-- @return a spec; unsupported for operations of no strength (cap)
function Spec:scaled(by)
    alive(self, "spec_scaled")
    check.number("spec_scaled", "by", by)
    local layers = {}
    for _, layer in ipairs(self.sorted) do
        layers[layer] = {}
        for i, op in ipairs(self.by_layer[layer]) do layers[layer][i] = scaled_op(layer, op, by) end
    end
    return M.spec(layers)
end

--- Gives the library's specs by site, for sessions of models.
function M.handles(op, spec)
    if getmetatable(spec) ~= Spec then
        raise("invalid_argument", op, "spec: expected what steer.spec makes, got %s%s", check.describe(spec),
            type(spec) == "table" and ": write steer.spec{ [layer] = {operation} }" or "")
    end
    alive(spec, op)
    return { layer = spec.handle, attention = spec.attention, embed = spec.embed }
end

--- Writes the spec to a safetensors file: the vectors as tensors, the operations as JSON in the metadata.
-- @tparam string path ends in .safetensors
function Spec:save(path)
    alive(self, "spec_save")
    require("steer.spec.file").save(path, self.sorted, self.by_layer)
end

--- Reads what a file of steering does, whatever its name ends in: what spec:save wrote (equal content, so the same
-- programs), GGUF control vectors (llama.cpp, repeng, saklas, EasySteer), GLP, .svec of activation-steering, saklas
-- profiles, folders of pyreft, EasySteer's specs in JSON, vectors and LM-Steer's projectors of PyTorch. print(spec) and
-- spec:describe() say what it does and what was assumed where the file is silent.
-- @tparam string path of a file or of a folder
-- @tparam[opt] table opts for all but specs of Steer: scale (times the strength that the file says), layers (a list: of
-- these alone), layer_offset (added to the layers that control vectors and .svec name), op ("add" or "ablate", for
-- files that name no operation), where, exclude, when (`:help spec`)
-- @return a spec; format (damaged), unsupported (whole, but nothing that Steer does: the message names it), not_found,
-- io, invalid_argument
function M.load_spec(path, opts) return require("steer.formats.open").load(path, opts, M) end

--- Frees the spec now; plans that use it keep what they need.
function Spec:close()
    if getmetatable(self) ~= Spec then alive(self, "spec_close") end
    if self.handle == nil then return end
    for _, site in ipairs { "handle", "attention", "embed" } do
        if self[site] ~= nil then c.free(self[site], C.steer_spec_release) end
        rawset(self, site, nil)
    end
    self.by_layer = nil
end

local function number_text(x) return ("%.6g"):format(x) end

-- The norms of an operation's vectors: one number, or the least and the greatest.
local function norm_text(op)
    if not op.vector then return "" end
    local v = op.vector:to "f32"
    if v.ndim == 1 then return number_text(v:norm()) end
    local norms = v:norm(2)
    local least, greatest = number_text(norms:min()), number_text(norms:max())
    return least == greatest and least or least .. " to " .. greatest
end

-- A column of norms behind the arguments.
local function add_norms(self, rows)
    local at = 1
    table.insert(rows[1], 4, "norm")
    for _, layer in ipairs(self.sorted) do
        for _, op in ipairs(self.by_layer[layer]) do
            at = at + 1
            table.insert(rows[at], 4, norm_text(op))
        end
    end
end

local function plural(n, noun) return n .. " " .. noun .. (n == 1 and "" or "s") end

-- The spec as a table, and what it says of the file that it comes from.
local function table_text(self, with_norms)
    if self.handle == nil then return "spec (closed)" end
    if self.count == 0 then return "spec: empty, steers nothing" end
    local rows, widest = { { "layer", "op", "arguments", "where", "when" } }, {}
    for _, layer in ipairs(self.sorted) do
        for _, op in ipairs(self.by_layer[layer]) do
            local row = { tostring(layer), op_columns(op) }
            if op.vector and op.vector.ndim == 2 then row[3] = ("%d vectors %s"):format(op.vector:size(1), row[3]) end
            rows[#rows + 1] = row
        end
    end
    if with_norms then add_norms(self, rows) end
    for _, row in ipairs(rows) do
        for column, text in ipairs(row) do widest[column] = math.max(widest[column] or 0, #text) end
    end
    local lines = { ("spec: %s on %s, hidden %d"):format(plural(self.count, "operation"),
        plural(#self.sorted, "layer"), self:hidden()) }
    for _, row in ipairs(rows) do
        for column, text in ipairs(row) do row[column] = text .. (" "):rep(widest[column] - #text) end
        lines[#lines + 1] = "  " .. table.concat(row, "  "):gsub(" +$", "")
    end
    for _, line in ipairs(rawget(self, "source") or {}) do lines[#lines + 1] = line end
    return table.concat(lines, "\n")
end

function Spec:__tostring() return table_text(self) end

--- Describes the spec: what print shows, and the norm of each vector.
-- @treturn string
function Spec:describe()
    if getmetatable(self) ~= Spec then alive(self, "spec_describe") end
    return table_text(self, true)
end

--- The class of specs, for engine.lua.
M.Spec = Spec

return M
