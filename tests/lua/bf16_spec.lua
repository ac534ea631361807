-- What bf16 costs: the KL divergence from a model's logits in f32 (which model_spec holds to their goldens) to those in
-- bf16 is no larger than that of transformers on the same texts. devices: cpu cuda
local helper = require "helper"
local json = require "dkjson"
local steer = require "steer"

local MODELS, SEQUENCES, LENGTH = "tests/fixtures/models/", 24, 48

local function read_json(path)
    local file = assert(io.open(path))
    local value = json.decode(file:read "*a")
    file:close()
    return value
end

-- The texts of tests/peers/bf16.py, which made the goldens: MINSTD's numbers from the seed on.
local function texts(vocab)
    local list = {}
    for s = 1, SEQUENCES do
        local ids, x = {}, s
        for i = 1, LENGTH do
            x = x * 16807 % 2147483647
            ids[i] = 4 + x % (vocab - 4)
        end
        list[s] = { tokens = ids }
    end
    return list
end

local function log_softmax(row)
    local most, sum, out = -math.huge, 0, {}
    for i = 1, #row do most = math.max(most, row[i]) end
    for i = 1, #row do sum = sum + math.exp(row[i] - most) end
    for i = 1, #row do out[i] = row[i] - most - math.log(sum) end
    return out
end

local function kl(wanted, got)
    local p, q, sum = log_softmax(wanted), log_softmax(got), 0
    for i = 1, #p do sum = sum + math.exp(p[i]) * (p[i] - q[i]) end
    return sum
end

-- Mean, standard error of the mean, and median over all positions.
local function measure(name)
    local logits = {}
    for _, dtype in ipairs { "f32", "bf16" } do
        local lm = steer.model(MODELS .. name, { device = helper.device, dtype = dtype })
        logits[dtype] = lm:forward(texts(lm.vocab))
        lm:close()
    end
    local values, sum, squares = {}, 0, 0
    for s = 1, SEQUENCES do
        local wanted, got = logits.f32[s]:totable(), logits.bf16[s]:totable()
        for k = 1, LENGTH do
            local x = kl(wanted[k], got[k])
            values[#values + 1], sum, squares = x, sum + x, squares + x * x
        end
    end
    table.sort(values)
    local n = #values
    return sum / n, math.sqrt((squares / n - (sum / n) ^ 2) / n), values[math.floor((n + 1) / 2)]
end

describe("bf16 loses no more than transformers' own", function()
    local golden = read_json "tests/fixtures/bf16.json"
    for name in io.popen("ls " .. MODELS):lines() do
        it(name, function()
            local theirs = assert(golden[name], "no golden for " .. name)
            local mean, err, median = measure(name)
            assert(median > 0 and median <= theirs.median, ("median %g, transformers %g"):format(median, theirs.median))
            -- A mixture's mean is of a few positions where another expert was chosen: both are known to their errors.
            local limit = theirs.mean + 3 * math.sqrt(err ^ 2 + theirs.error ^ 2)
            assert(mean <= limit, ("mean %g, transformers %g, limit %g"):format(mean, theirs.mean, limit))
        end)
    end
end)
