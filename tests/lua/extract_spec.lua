--- Steering directions from recorded hidden states: NumPy's float64 values, the demo's known facts, public vectors.
-- devices: cpu cuda
local steer = require "steer"
local files = require "files"
local helper = require "helper"

local T, extract = steer.tensor, steer.extract
local fails = helper.fails
local METHODS = { "mean_difference", "pca", "lat", "probe", "lda" }
local PUBLIC = {
    { "happy_diffmean.gguf", "mean_difference" }, { "refuse-pca.gguf", "pca" }, { "style-probe.gguf", "probe" },
}
local PUBLIC_FOLDER = os.getenv("STEER_CONTROL_VECTORS") or "../shared/data/control-vectors"

-- What the three methods give, in float64, by ways of their own: means, the singular value decomposition, and Newton's
-- method with an explicit Hessian.
local NUMPY = [[
import numpy as np, sys
folder, l2 = sys.argv[1], float(sys.argv[2])
p, n = (np.load(f"{folder}/{name}.npy").astype(np.float64) for name in ("positive", "negative"))
mean = p.mean(0) - n.mean(0)
u, s, vt = np.linalg.svd(p[:min(len(p), len(n))] - n[:min(len(p), len(n))], full_matrices=False)
first = vt[0] * np.sign(((p[:min(len(p), len(n))] - n[:min(len(p), len(n))]) @ vt[0]).sum())
x, y = np.concatenate([p, n]), np.concatenate([np.ones(len(p)), np.zeros(len(n))])
center = x.mean(0)
x = x - center
scale = np.sqrt((x * x).sum() / len(x))
x = np.concatenate([x / scale, np.ones((len(x), 1))], 1)
penalty = np.full(x.shape[1], l2)
penalty[-1] = 0
w = np.zeros(x.shape[1])
def loss(w): return np.logaddexp(0, x @ w).mean() - (y * (x @ w)).mean() + (penalty * w * w).sum() / 2
for _ in range(100):
    q = 1 / (1 + np.exp(-(x @ w)))
    g = x.T @ (q - y) / len(x) + penalty * w
    if np.linalg.norm(g) < 1e-12: break
    step = np.linalg.solve((x.T * (q * (1 - q) / len(x))) @ x + np.diag(penalty), -g)
    t = 1.0
    while loss(w + t * step) > loss(w) and t > 1e-9: t /= 2
    w = w + t * step
norm = np.linalg.norm(w[:-1])
v, weight = w[:-1] / norm, norm / scale
numbers = [s[0] ** 2 / (s * s).sum(), weight, w[-1] - weight * (center @ v), loss(w), np.linalg.norm(g)]
for row in (mean, first, v, numbers): print(" ".join(f"{x:.17g}" for x in row))
]]

-- Two sets that differ along a random direction, in rows of which some dimensions are far larger than others.
local function two_sets(n, m, hidden, shift, seed)
    local scales = T.rand({ hidden }, { seed = seed, device = "cpu" }):mul_(3)
    scales:set(1, 60)
    local v = T.randn({ hidden }, { seed = seed + 1, device = "cpu" })
    local p = T.randn({ n, hidden }, { seed = seed + 2, device = "cpu" }) * scales + v * shift
    return p, T.randn({ m, hidden }, { seed = seed + 3, device = "cpu" }) * scales
end

local function here(tensor, dtype) return tensor:to(helper.device, dtype or tensor.dtype) end

-- What NumPy says of two sets on the CPU: mean_difference, pca and probe as lists, numbers; nil without NumPy.
local function numpy(p, n, l2)
    steer.save(files.path "positive.npy", p)
    steer.save(files.path "negative.npy", n)
    local output = files.python(NUMPY, files.folder, l2)
    if not output then return nil end
    local rows = {}
    for line in output:gmatch("[^\n]+") do
        local row = {}
        for word in line:gmatch("%S+") do row[#row + 1] = assert(tonumber(word), output) end
        rows[#rows + 1] = row
    end
    assert(#rows == 4, output)
    assert(rows[4][5] < 1e-9, "NumPy's own solution is not one")
    return { mean_difference = rows[1], pca = rows[2], probe = rows[3], numbers = rows[4] }
end

local function near_list(got, want, bound, place)
    local norm = 0
    for _, x in ipairs(want) do norm = norm + x * x end
    for i, x in ipairs(want) do helper.near(got[i], x, bound * math.sqrt(norm), place .. ", element " .. i) end
end

describe("steer.extract", function()
    teardown(files.done)

    it("agrees with NumPy's float64, whichever side is longer", function()
        for _, case in ipairs {
            { 40, 40, 24, 2 }, { 12, 12, 200, 1 }, { 30, 50, 33, 0.3 }, { 100, 100, 64, 0 }, { 1, 1, 8, 1 },
        } do
            local p, n = two_sets(case[1], case[2], case[3], case[4], case[3])
            local want = numpy(p, n, 1e-2)
            if not want then return pending "no Python with NumPy" end
            local place = ("%d and %d rows of %d"):format(case[1], case[2], case[3])
            p, n = here(p), here(n)
            near_list(extract.mean_difference(p, n):totable(), want.mean_difference, 1e-6, place)
            if case[1] == case[2] then
                local v, info = extract.pca(p, n)
                near_list(v:totable(), want.pca, 1e-5, "pca, " .. place)
                helper.near(info.explained, want.numbers[1], 1e-5, place)
            end
            local w, info = extract.probe(p, n, { l2 = 1e-2 })
            assert(info.converged, place)
            near_list(w:totable(), want.probe, 1e-4, "probe, " .. place)
            helper.near(info.weight, want.numbers[2], 1e-4 * want.numbers[2], place)
            helper.near(info.bias, want.numbers[3], 1e-4 * math.max(1, math.abs(want.numbers[3])), place)
            helper.near(info.loss, want.numbers[4], 1e-6, place)
        end
    end)

    it("finds what was written down for four pairs", function()
        local p = here(T.from { { 2, 0, 1 }, { 3, 1, 0 }, { 1, 0, 1 }, { 2, 1, 2 } })
        local n = here(T.from { { 0, 0, 1 }, { -1, 1, 1 }, { 0, 1, 1 }, { -1, 0, 2 } })
        assert.same({ 2.5, 0, -0.25 }, extract.mean_difference(p, n):totable())
        local unit = extract.mean_difference(p, n, { normalize = true })
        helper.near(unit:norm(), 1, 1e-6, "normalize")
        local v, info = extract.pca(p, n)
        near_list(v:totable(), { 0.98868094, 0.06894907, -0.13325176 }, 1e-6, "pca") -- numpy.linalg.svd
        helper.near(info.explained, 0.92965413, 1e-6, "explained")
        assert.equal(1, info.accuracy)
        local w, probe = extract.probe(p, n, { l2 = 1e-3 })
        near_list(w:totable(), { 0.97523803, -0.22064310, 0.01508020 }, 1e-4, "probe")
        near_list({ probe.weight, probe.bias }, { 4.9928272, -2.6600118 }, 1e-4, "weight and bias")
        for i, row in ipairs { p, n } do
            for k = 1, 4 do assert.equal(i == 1, row[k]:dot(w) > probe.threshold) end
        end
    end)

    it("shows the known accuracy of each layer of the demo", function()
        local data = steer.load("tests/fixtures/demo/activations.safetensors", { device = helper.device })
        local happy, sad = data["happy.last"], data["sad.last"]
        local function held_out(set, layer) return set:narrow(1, 65, 32):select(2, layer + 1) end
        local known = { [0] = 0.5, 0.6875, 0.546875, 0.78125, 0.65625, 1, 1, 1 }
        local train_happy, train_sad = happy:narrow(1, 1, 64), sad:narrow(1, 1, 64)
        local v, info = extract.mean_difference(train_happy, train_sad)
        for layer = 0, 7 do
            assert.equal(known[layer], extract.accuracy(v[layer], info[layer].threshold, held_out(happy, layer),
                held_out(sad, layer)), "layer " .. layer)
        end
        helper.near(v[5]:norm(), 16.564, 0.001, "norm of layer 5")
        for _, method in ipairs { "pca", "probe" } do
            local w, about = extract[method](train_happy, train_sad)
            for layer = 5, 7 do
                assert.equal(1, extract.accuracy(w[layer], about[layer].threshold, held_out(happy, layer),
                    held_out(sad, layer)), method)
            end
        end
    end)

    it("gives f32 on the device of the states, whatever their dtype", function()
        local p, n = two_sets(20, 20, 16, 2, 7)
        for _, dtype in ipairs(helper.floats) do
            for _, method in ipairs(METHODS) do
                local v, info = extract[method](here(p, dtype), here(n, dtype))
                assert.same({ "f32", steer.device(helper.device).id, { 16 } }, { v.dtype, v.device, v:shape() })
                assert(info.accuracy > 0.5 and info.threshold == info.threshold)
                assert(v:to("cpu"):dot(extract[method](p, n)) / v:norm() > 0.99 * extract[method](p, n):norm(), method)
            end
        end
    end)

    it("finds the public control vectors again, in their shapes and norms", function()
        if not io.open(PUBLIC_FOLDER .. "/" .. PUBLIC[1][1]) then return pending "no public control vectors here" end
        local pairs_count = 24
        for _, row in ipairs(PUBLIC) do
            local public = steer.load(PUBLIC_FOLDER .. "/" .. row[1])
            local states = {}
            for layer = 0, 27 do states[layer + 1] = public[layer]:to("f32") end
            local directions = T.stack(states, 1) -- [layers, hidden]
            local n = T.randn({ pairs_count, 28, 1536 }, { device = "cpu", seed = 3 })
            local p = T.randn({ pairs_count, 28, 1536 }, { device = "cpu", seed = 4 }) * 0.02 + n + directions * 8
            local found = extract[row[2]](here(p), here(n),
                row[2] == "mean_difference" and { normalize = true } or nil)
            for layer = 0, 27 do
                assert.same(public[layer]:shape(), found[layer]:shape())
                helper.near(public[layer]:norm(), found[layer]:norm(), 1e-4, row[1])
                local cosine = found[layer]:to("cpu"):dot(states[layer + 1])
                -- A probe separates: with fewer pairs than dimensions it turns to what sets these pairs apart.
                assert(cosine > (row[2] == "probe" and 0.9 or 0.999), row[1] .. ": " .. cosine)
            end
            steer.save(files.path "found.gguf", found, nil, { layer_offset = 1 })
            local again = steer.load(files.path "found.gguf", { layer_offset = -1 })
            assert.same(public[27]:shape(), again[27]:shape())
            assert(again[0] and not again[28])
        end
    end)

    it("solves a probe whose sides cannot be told apart by a hair", function()
        local p, n = two_sets(200, 200, 32, 0.01, 11)
        local _, info = extract.probe(here(p), here(n), { l2 = 1e-6 })
        assert(info.converged and info.loss < 0.694 and info.loss > 0.4, info.loss)
        p, n = two_sets(40, 10, 6, 30, 12) -- far apart, and sides of different sizes
        local _, far = extract.probe(here(p), here(n), { l2 = 1e-5 })
        assert(far.converged and far.accuracy == 1, far.steps)
    end)

    it("finds the same components of states whose squares f32 cannot hold", function()
        local p = T.randn({ 6, 5 }, helper.on("f32", { seed = 1 }))
        local n = T.randn({ 6, 5 }, helper.on("f32", { seed = 2 }))
        for _, method in ipairs { "pca", "lat" } do
            local v, info = extract[method](p, n)
            for _, scale in ipairs { 1e25, 1e-25 } do
                local w, scaled = extract[method](p * scale, n * scale)
                assert.is_true((v - w):norm() < 1e-5)
                helper.near(scaled.explained, info.explained, 1e-5, method)
                assert.equals(info.accuracy, scaled.accuracy)
            end
        end
    end)

    it("says what is wrong with its arguments", function()
        local p, n = here(T.randn { 4, 8 }), here(T.randn { 4, 8 })
        local broken = p:clone():set(1, 2, 0 / 0)
        for _, method in ipairs(METHODS) do
            local f = extract[method]
            fails("invalid_argument", "positive: expected a tensor", f, nil, n)
            fails("invalid_argument", "negative: expected a tensor", f, p, { 1, 2 })
            fails("dtype_mismatch", "negative: i32", f, p, n:to("i32"))
            fails("shape_mismatch", "positive: [8]", f, p[1], n)
            fails("shape_mismatch", "negative: [4, 7]", f, p, n:narrow(2, 1, 7))
            fails("shape_mismatch", "negative: [4, 1, 8]", f, p, n:unsqueeze(2))
            fails("invalid_argument", "negative: it has no hidden states", f, p, n:narrow(1, 1, 0))
            fails("invalid_argument", "positive: it holds NaN", f, broken, n)
            fails("invalid_argument", "positive: ", f, p, p:clone())
            fails("invalid_argument", "layer 0: positive: ", f, p:unsqueeze(2), p:clone():unsqueeze(2))
            fails("invalid_argument", 'unknown option "lr"', f, p, n, { lr = 1 })
            if helper.device ~= "cpu" then fails("device_mismatch", "negative: on cpu", f, p, n:to("cpu")) end
            local closed = p:clone()
            closed:close()
            fails("closed", "positive", f, closed, n)
        end
        fails("shape_mismatch", "expected one row for each row of positive", extract.pca, p, n:narrow(1, 1, 3))
        for _, l2 in ipairs { 0, -1, 0 / 0, math.huge } do
            fails("invalid_argument", "opts.l2", extract.probe, p, n, { l2 = l2 })
        end
        fails("shape_mismatch", "direction: [7]", extract.accuracy, p[1]:narrow(1, 1, 7), 0, p, n)
        fails("invalid_argument", "threshold", extract.accuracy, p[1], "0", p, n)
    end)
end)
