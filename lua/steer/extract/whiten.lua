--- Whitening: covariances of hidden states, how much to shrink them, and solving with them, on their device.
--
-- A covariance is {apply = function(v), variance = tensor [hidden], trace =, hidden =, fourth =, square =}; of rows it
-- is never formed. The last two, which only rows have, are what Ledoit and Wolf's share is made of.
local M = {}

local STEPS, ROUNDS = 400, 4 -- of conjugate gradients, and how often they begin anew from the true residual
local TOLERANCE = 1e-7       -- of the residual's length

--- The covariance of centred rows, f32 [n, hidden].
function M.of_rows(x)
    local n, hidden, turned = x:size(1), x:size(2), x:transpose()
    local gram = n <= hidden and x:matmul(turned) or turned:matmul(x) -- the smaller of two of the same norm
    local lengths = x:norm(2)
    return {
        hidden = hidden, variance = (x * x):mean(1), trace = x:norm() ^ 2 / n,
        fourth = (lengths * lengths):norm() ^ 2 / n, square = (gram:norm() / n) ^ 2, count = n,
        apply = function(v) return turned:matmul(x:matmul(v)):mul_(1 / n) end,
    }
end

--- The covariance that a matrix [hidden, hidden] is, with its diagonal.
function M.of_matrix(matrix, variance)
    return {
        hidden = variance:numel(), variance = variance, trace = variance:sum(),
        apply = function(v) return matrix:matmul(v) end,
    }
end

--- The share of the identity that a covariance of rows should get.
-- Source: Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices".
function M.ledoit_wolf(covariance)
    local spread = covariance.square - covariance.trace ^ 2 / covariance.hidden -- distance from the identity, squared
    local noise = (covariance.fourth - covariance.square) / covariance.count
    if spread <= 0 or noise >= spread then return 1 end
    return math.max(noise / spread, 1e-6) -- above 0, so that there is one solution
end

-- Conjugate gradients, preconditioned by the diagonal.
local function descend(apply, scaling, residual, bound)
    local r = residual:clone()
    local z = r * scaling
    local p, x, rz = z:clone(), nil, r:dot(z)
    for _ = 1, STEPS do
        local ap = apply(p)
        local curvature = p:dot(ap)
        if curvature ~= curvature or curvature <= 0 then break end
        local a = rz / curvature
        x = x and x:add_(p, a) or p * a
        r:sub_(ap, a)
        if r:norm() <= bound then break end
        z = r * scaling
        local next_rz = r:dot(z)
        p:mul_(next_rz / rz):add_(z)
        rz = next_rz
    end
    return x
end

--- Solves ((1 - share) covariance + share mean variance identity) x = b.
-- @param covariance as above
-- @tparam number share above 0, at most 1
-- @tparam tensor b f32 [hidden]
-- @treturn tensor x
function M.solve(covariance, share, b)
    local ridge = share * covariance.trace / covariance.hidden
    local function apply(v) return covariance.apply(v):mul_(1 - share):add_(v, ridge) end
    local scaling = 1 / (covariance.variance * (1 - share)):add_(ridge)
    local bound, x, residual = TOLERANCE * b:norm(), b:clone():zero_(), b
    for _ = 1, ROUNDS do
        local more = descend(apply, scaling, residual, bound)
        if not more then break end
        x:add_(more)
        local left = b - apply(x)
        if left:norm() <= bound or left:norm() >= residual:norm() then break end
        residual = left
    end
    return x
end

return M
