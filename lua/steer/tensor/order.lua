--- Order and choice along a dimension, added to the tensor's methods: sorting, taking by index, cumulative sums,
-- quantiles, cosines. Indices count from 1.
local c = require "steer.core.c"
local check = require "steer.core.check"
local devices = require "steer.device"
local options = require "steer.core.options"
local raise = require("steer.core.error").raise
local base = require "steer.tensor.object"
require "steer.tensor.elementwise"
local values = require "steer.tensor.elements"

local C = c.C
local methods, use, dim_index = base.methods, base.use, base.dim_index
local dims, codes, names = base.dims, base.dtype_codes, base.dtype_names

local function dtype_of(handle)
    return names[tonumber(C.steer_tensor_dtype(handle))]
end

--- Checks self and a dimension (the last by default).
-- @return the handle, and the dimension from 0
local function along(op, self, dim)
    local handle = use(self, op, "self")
    return handle, dim_index(op, "dim", dim or -1, C.steer_tensor_ndim(handle))
end

-- ---- Sorting -------------------------------------------------------------------------------------------------------

local function sort(op, self, dim, descending)
    local handle, d = along(op, self, dim)
    local sorted, indices = base.create_like(handle), base.create_like(handle, codes.i64)
    c.alloc(C.steer_tensor_sort, sorted.handle, indices.handle, handle, d, descending and 1 or 0)
    return sorted, indices, d
end

local sort_options = { descending = "boolean" }

--- Sorts along a dimension. Equal elements keep their order; NaN counts as the greatest, so it comes last.
-- @tparam[opt=-1] number dim
-- @tparam[opt] table opts descending=true puts the greatest (and NaN) first
-- @return the sorted tensor, and where each of its elements was along the dimension (i64)
function methods:sort(dim, opts)
    local op = "tensor_sort"
    local sorted, indices = sort(op, self, dim, options.check(op, opts, sort_options).descending)
    return sorted, indices:add_(1)
end

local topk_options = { largest = "boolean" }

--- Takes the k greatest elements along a dimension, the greatest first. NaN counts as the greatest.
-- @tparam number k from 0 to the dimension's size
-- @tparam[opt=-1] number dim
-- @tparam[opt] table opts largest=false takes the least, the least first
-- @return the elements, and where each was along the dimension (i64)
function methods:topk(k, dim, opts)
    local op = "tensor_topk"
    local handle, d = along(op, self, dim)
    check.integer(op, "k", k, 0, tonumber(C.steer_tensor_size(handle, d)))
    local largest = options.check(op, opts, topk_options).largest ~= false
    local sorted, indices = sort(op, self, dim, largest)
    local best, places = sorted:narrow(d + 1, 1, k):clone(), indices:narrow(d + 1, 1, k) + 1
    sorted:close()
    indices:close()
    return best, places
end

-- ---- Taking by index -----------------------------------------------------------------------------------------------

--- Reads indices: an i64 or i32 tensor, or nested lists of numbers.
local function read_index(op, index, handle)
    if type(index) == "table" then
        index = values.from(op, index, devices.of(C.steer_tensor_device(handle)), codes.i64)
    end
    return index, use(index, op, "index")
end

--- Takes the elements of `self` at an index along d, from 0, into a tensor of the shape in `dims`.
local function take(op, self, index, d)
    local handle = use(self, op, "self")
    local dst = base.create(devices.of(C.steer_tensor_device(handle)), codes[dtype_of(handle)],
        C.steer_tensor_ndim(handle))
    c.alloc_as(op, nil, C.steer_tensor_gather, dst.handle, handle, index.handle, d, 1)
    return dst
end

--- Takes some indices of a dimension, in the order given: h:index_select(1, {3, 1, 1}) are rows 3, 1 and 1.
-- @tparam number dim from 1, or from the end
-- @param index list of numbers, or a one-dimensional i64 or i32 tensor, counting from 1
-- @raise invalid_argument if an index lies outside
function methods:index_select(dim, index)
    local op = "tensor_index_select"
    local handle, d = along(op, self, check.integer(op, "dim", dim))
    local hi
    index, hi = read_index(op, index, handle)
    if C.steer_tensor_ndim(hi) ~= 1 then
        raise("shape_mismatch", op, "index: shape %s, expected one dimension; t:gather(dim, index) takes an index for "
            .. "each element", base.shape_text(hi))
    end
    for i = 0, C.steer_tensor_ndim(handle) - 1 do dims[i] = C.steer_tensor_size(handle, i) end
    dims[d] = C.steer_tensor_size(hi, 0)
    return take(op, self, index, d)
end

--- Takes elements along a dimension, an index for each: t:gather(2, i) has t:get(r, i:get(r, k)) at r, k.
-- @tparam number dim from 1, or from the end
-- @param index i64 or i32 tensor, or nested lists, counting from 1; of as many dimensions as the tensor, and in the
-- others at most of its size, where the first ones are taken
-- @return tensor of the shape of index
-- @raise invalid_argument if an index lies outside
function methods:gather(dim, index)
    local op = "tensor_gather"
    local handle, d = along(op, self, check.integer(op, "dim", dim))
    local hi
    index, hi = read_index(op, index, handle)
    local ndim = C.steer_tensor_ndim(handle)
    if C.steer_tensor_ndim(hi) ~= ndim then
        raise("shape_mismatch", op, "index: shape %s, expected %d dimensions like the tensor; "
            .. "t:index_select(dim, index) takes the same indices everywhere", base.shape_text(hi), ndim)
    end
    local from = self
    for i = 0, ndim - 1 do
        local size, own = tonumber(C.steer_tensor_size(hi, i)), tonumber(C.steer_tensor_size(handle, i))
        if i ~= d and size > own then
            raise("shape_mismatch", op, "index: shape %s is larger than %s in dimension %d", base.shape_text(hi),
                base.shape_text(handle), i + 1)
        elseif i ~= d and size < own then
            from = from:narrow(i + 1, 1, size)
        end
    end
    for i = 0, ndim - 1 do dims[i] = C.steer_tensor_size(hi, i) end
    return take(op, from, index, d)
end

-- ---- Sums up to each element, quantiles, cosines -------------------------------------------------------------------

--- Sums the elements up to each along a dimension; accumulates as sum. Integers give i64.
-- @tparam[opt=-1] number dim
function methods:cumsum(dim)
    local op = "tensor_cumsum"
    local handle, d = along(op, self, dim)
    local wide = base.floats[dtype_of(handle)] and self or self:to("i64")
    local dst = base.create_like(wide.handle)
    c.alloc(C.steer_tensor_cumsum, dst.handle, wide.handle, d)
    return dst
end

--- The quantile q of f32 lines sorted along d, from 1; NaN of lines that have one.
local function quantile_of(sorted, q, d)
    local n = sorted:size(d)
    local place = q * (n - 1) + 1
    local low = math.floor(place)
    local result, last = sorted:select(d, low), sorted:select(d, n)
    if place > low then result = result + (sorted:select(d, low + 1) - result) * (place - low) end
    return base.where("tensor_quantile", last:ne(last), last, result)
end

local quantile_options = { dtype = "string", keepdim = "boolean" }

--- Gives a quantile along a dimension, or of everything, between two elements by linear interpolation. NaN where there
-- is a NaN; as mean, integers give f32.
-- @param q number from 0 to 1 (0.5 is the median), or a list of numbers
-- @tparam[opt] number dim
-- @tparam[opt] table opts keepdim, dtype as of sum
-- @return a tensor without that dimension (of a list: with a first dimension for it), or a number (a list of numbers)
-- @raise invalid_argument if there are no elements
function methods:quantile(q, dim, opts)
    local op = "tensor_quantile"
    local handle = use(self, op, "self")
    local list = type(q) == "table" and q or { check.type(op, "q", q, "number", "a number or a list of numbers") }
    for i = 1, check.list(op, "q", list) do
        check.number(op, "q", list[i])
        if not (list[i] >= 0 and list[i] <= 1) then
            raise("invalid_argument", op, "q: %.14g is out of range, expected 0 to 1", list[i])
        end
    end
    opts = options.check(op, opts, quantile_options)
    local d = dim and dim_index(op, "dim", dim, C.steer_tensor_ndim(handle)) + 1 or 1
    local lines = dim and self or self:contiguous():reshape(-1)
    if lines:size(d) == 0 then raise("invalid_argument", op, "self: has no elements to take a quantile of") end
    local sorted = sort(op, lines:to("f32"), d)
    local results = {}
    for i = 1, #list do
        local result = quantile_of(sorted, list[i], d)
        if dim then
            result = result:to(opts.dtype or base.floats[self.dtype] and self.dtype or "f32")
            results[i] = opts.keepdim and result:unsqueeze(d) or result
        else
            results[i] = result:item()
        end
    end
    sorted:close()
    if type(q) ~= "table" then return results[1] end
    return dim and require("steer.tensor").stack(results) or results
end

--- Gives the cosine of the angle between vectors along a dimension: h:cosine(v) for rows h [n, hidden] and v [hidden]
-- has n elements. 0 where one of them is 0. Computed in f32, in [-1, 1].
-- @tparam tensor other float tensor that broadcasts, of the same size along dim
-- @tparam[opt=-1] number dim of the shape that both broadcast to
-- @return an f32 tensor, or a number for two vectors
function methods:cosine(other, dim)
    local op = "tensor_cosine"
    local ha, hb = use(self, op, "self"), use(other, op, "other")
    base.check_float(op, "self", tonumber(C.steer_tensor_dtype(ha)))
    base.check_float(op, "other", tonumber(C.steer_tensor_dtype(hb)))
    local na, nb = C.steer_tensor_ndim(ha), C.steer_tensor_ndim(hb)
    local ndim = math.max(na, nb)
    local back = dim_index(op, "dim", dim or -1, ndim) - ndim -- from the end, where both have it
    if -back > na or -back > nb or self:size(back) ~= other:size(back) then
        raise("shape_mismatch", op, "other: shape %s does not go with %s, expected the same size along dimension %d",
            base.shape_text(hb), base.shape_text(ha), ndim + back + 1)
    end
    local a, b = self:to("f32"), other:to("f32")
    local lengths, products = a:norm(back) * b:norm(back), base.binary(op, tonumber(C.STEER_MUL), a, b, 1)
    local cosines = (products:sum(back) / lengths):clamp(-1, 1)
    products:close()
    local result = base.where(op, lengths:eq(0), base.scalar_like(op, "a", 0, a.handle), cosines)
    return ndim == 1 and result:item() or result
end
