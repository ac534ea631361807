--- The matrix behind PyTorch's torch.nn.utils.parametrizations.orthogonal of a tall one: its Householder map.
--
-- With X [n, k] the trained tensor and v_j its column j below the diagonal, with 1 on it, the matrix is
-- B (H_1 ... H_k) I D, where H_j = 1 - 2 v_j v_j' / (v_j'v_j), I is [n, k], D the signs on X's diagonal and B [n, n]
-- the matrix from which the training began (nothing in older files).
local ffi = require "ffi"
local file = require "steer.io._file"
local tensors = require "steer.tensor"

local M = {}

-- Applies H_j to the column at `column` of n numbers; x is X by rows of k.
local function reflect(x, n, k, j, column)
    local square, product = 1, column[j]
    for i = j + 1, n - 1 do
        local v = x[i * k + j]
        square, product = square + v * v, product + v * column[i]
    end
    local factor = 2 * product / square
    column[j] = column[j] - factor
    for i = j + 1, n - 1 do column[i] = column[i] - factor * x[i * k + j] end
end

--- Gives the columns of the matrix as rows [k, n], f32.
-- @param map the file, for errors
-- @param original f32 [n, k]
-- @param base f32 [n, n], or nil
-- @raise unsupported for other maps (square matrices have one)
function M.rows(map, original, base)
    local n, k = original:size(1), original:size(2)
    if k >= n then
        map:refuse("rotate_layer is [%d, %d]: the rank must be below the hidden size", n, k)
    end
    if base and (base:size(1) ~= n or base:size(2) ~= n) then
        map:fail("rotate_layer's base is %s, expected [%d, %d]", file.shape_text(base:shape()), n, n)
    end
    local rows = tensors.empty({ k, n }, { dtype = "f32", device = "cpu" })
    local trained, column = original:contiguous(), ffi.new("double[?]", n)
    local x, out = ffi.cast("const float *", trained:data()), ffi.cast("float *", rows:data())
    for c = 0, k - 1 do
        ffi.fill(column, n * 8)
        column[c] = 1
        for j = k - 1, 0, -1 do reflect(x, n, k, j, column) end
        local sign = x[c * k + c] < 0 and -1 or x[c * k + c] > 0 and 1 or 0
        for i = 0, n - 1 do out[c * n + i] = sign * column[i] end
    end
    return base and rows:matmul(base:transpose(1, 2)) or rows
end

return M
