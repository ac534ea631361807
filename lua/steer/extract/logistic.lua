--- Logistic regression of two sets of hidden states, by truncated Newton steps on their device.
local T = require "steer.tensor"

local M = {}

local STEPS, SOLVES = 100, 250 -- of Newton's method, and of conjugate gradients within one
local TOLERANCE = 1e-6         -- of the gradient, where the rows have length 1 on average: as near as f32 comes
local NEAR = 1e-5              -- what counts as converged where rounding leaves no further step
local SHORTEST = 2 ^ -30

-- log(1 + exp(x)) and 1 / (1 + exp(-x)) without overflow.
local function softplus(x) return math.max(x, 0) + math.log(1 + math.exp(-math.abs(x))) end
local function sigmoid(x)
    local e = math.exp(-math.abs(x))
    return (x >= 0 and 1 or e) / (1 + e)
end

-- The problem: mean of softplus(z) - y z over the rows plus l2/2 |w|^2, with z = x w + b.
local Problem = {}
Problem.__index = Problem

--- Makes the problem of two sets of rows, f32 [n, hidden] and [m, hidden] on one device. Its rows are centred and
-- divided by their root mean square distance from their mean: the fields `center` and `scale`.
function M.new(p, n, l2)
    local rows = T.cat({ p, n }, 1)
    local center = rows:mean(1)
    rows = rows - center
    local count = rows:size(1)
    local scale = rows:norm() / math.sqrt(count)
    if scale > 0 then rows:div_(scale) end
    return setmetatable({
        x = rows, turned = rows:transpose(), count = count, positives = p:size(1), l2 = l2, center = center,
        scale = scale,
    }, Problem)
end

function Problem:vector(list) return T.from(list, { device = self.x.device }) end

-- Logits of the rows, a Lua list.
function Problem:logits(w, b)
    local z = self.x:matmul(w):totable()
    for i = 1, self.count do z[i] = z[i] + b end
    return z
end

function Problem:loss(z, squared)
    local sum = 0
    for i = 1, self.count do sum = sum + softplus(z[i]) - (i <= self.positives and z[i] or 0) end
    return sum / self.count + 0.5 * self.l2 * squared
end

-- The gradient (w, b) and the rows' weights in the Hessian.
function Problem:derivatives(z, w)
    local residuals, weights, gb = {}, {}, 0
    for i = 1, self.count do
        local p = sigmoid(z[i])
        residuals[i] = (p - (i <= self.positives and 1 or 0)) / self.count
        weights[i] = p * (1 - p) / self.count
        gb = gb + residuals[i]
    end
    return self.turned:matmul(self:vector(residuals)):add_(w, self.l2), gb, self:vector(weights)
end

-- Newton's direction: H s = -g by conjugate gradients, to `bound` of the residual's length.
function Problem:direction(g, gb, weights, bound)
    local r, rb = -g, -gb
    local p, pb = r:clone(), rb
    local s, sb = T.zeros_like(g), 0
    local rr = r:dot(r) + rb * rb
    for _ = 1, SOLVES do
        local rows = self.x:matmul(p):add_(pb):mul_(weights)
        local hp, hpb = self.turned:matmul(rows):add_(p, self.l2), rows:sum()
        local curvature = p:dot(hp) + pb * hpb
        if curvature ~= curvature or curvature <= 0 then break end
        local a = rr / curvature
        s:add_(p, a)
        r:sub_(hp, a)
        sb, rb = sb + a * pb, rb - a * hpb
        local next_rr = r:dot(r) + rb * rb
        if math.sqrt(next_rr) <= bound then break end
        p:mul_(next_rr / rr):add_(r)
        pb = pb * (next_rr / rr) + rb
        rr = next_rr
    end
    return s, sb
end

-- The longest step of 1, 1/2, 1/4 ... that lowers the loss enough; nil if rounding leaves none.
function Problem:step(z, w, loss, slope, s, sb)
    local along = self:logits(s, sb)
    local ww, ws, ss = w:dot(w), w:dot(s), s:dot(s)
    local t, tried = 1, {}
    while t > SHORTEST do
        for i = 1, self.count do tried[i] = z[i] + t * along[i] end
        if self:loss(tried, ww + 2 * t * ws + t * t * ss) <= loss + 1e-4 * t * slope then return t end
        t = t / 2
    end
end

--- Minimises by truncated Newton steps.
-- @return w, b, loss, steps, whether the gradient came to zero as near as f32 allows
function Problem:solve()
    local w, b = T.zeros({ self.x:size(2) }, { device = self.x.device }), 0
    for steps = 0, STEPS do
        local z = self:logits(w, b)
        local loss = self:loss(z, w:dot(w))
        local g, gb, weights = self:derivatives(z, w)
        local length = math.sqrt(g:dot(g) + gb * gb)
        if length <= TOLERANCE or steps == STEPS then return w, b, loss, steps, length <= NEAR end
        local s, sb = self:direction(g, gb, weights, math.min(0.1, math.sqrt(length)) * length)
        local t = self:step(z, w, loss, g:dot(s) + gb * sb, s, sb)
        if not t then return w, b, loss, steps, length <= NEAR end
        w:add_(s, t)
        b = b + t * sb
    end
end

return M
