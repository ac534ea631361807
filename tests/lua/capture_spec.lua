-- Captures reduced on the device against sums in float64 of all rows: classes, moments, the last, what is generated.
-- devices: cpu cuda
local C = require("steer.core.c").C
local c = require "steer.core.c"
local capture_of = require("steer.model.session").capture
local ffi = require "ffi"
local helper = require "helper"
local steer = require "steer"
local tensors = require "steer.tensor.object"

local T = steer.tensor
local fails, near = helper.fails, helper.near

local function open(name)
    return steer.model("tests/fixtures/models/" .. name, { device = helper.device, dtype = "f32" })
end

local function prompt(lm, n, seed)
    local ids = {}
    for i, x in ipairs(T.rand({ n }, { seed = seed, device = "cpu" }):totable()) do
        ids[i] = math.floor(x * (lm.vocab - 5)) + 4
    end
    return { tokens = ids }
end

local function list_of(lm, lengths, seed)
    local list = {}
    for i, n in ipairs(lengths) do list[i] = prompt(lm, n, seed + i) end
    return list
end

-- Rows as [row][layer][k], and those of one prompt after the other.
local function rows_of(lm, prompts, opts)
    local states, info = lm:capture(prompts, opts)
    local all, by, at = states:totable(), {}, 0
    for i, n in ipairs(info.rows) do
        by[i] = {}
        for k = 1, n do by[i][k] = all[at + k] end
        at = at + n
    end
    return by
end

local function join(lists, members)
    local all = {}
    for _, i in ipairs(members) do
        for _, row in ipairs(lists[i]) do all[#all + 1] = row end
    end
    return all
end

local function mean(rows, layer, k)
    local sum = 0
    for _, row in ipairs(rows) do sum = sum + row[layer][k] end
    return sum / #rows
end

local function covariance(rows, layer, a, b)
    local sum, ma, mb = 0, mean(rows, layer, a), mean(rows, layer, b)
    for _, row in ipairs(rows) do sum = sum + (row[layer][a] - ma) * (row[layer][b] - mb) end
    return sum / #rows
end

local function check_record(record, rows, layers, hidden)
    assert.equal(#rows, record.count)
    assert.same({ layers, hidden, hidden }, record.covariance:shape())
    assert.equal(steer.device(helper.device).id, record.covariance.device)
    local means, variances, matrix = record.mean:totable(), record.variance:totable(), record.covariance:totable()
    for layer = 1, layers do
        local scale = 0
        for a = 1, hidden do scale = math.max(scale, variances[layer][a]) end
        for a = 1, hidden do
            near(means[layer][a], mean(rows, layer, a), 1e-5 * math.sqrt(scale), "mean")
            near(variances[layer][a], covariance(rows, layer, a, a), 1e-5 * scale, "variance")
            for b = 1, hidden, 7 do
                near(matrix[layer][a][b], covariance(rows, layer, a, b), 1e-5 * scale, "covariance")
            end
        end
    end
end

describe("a capture", function()
    local lm, prompts, rows
    local LABELS = { "a", "b", "a", "b", "a" }
    setup(function()
        lm = open "llama"
        prompts = list_of(lm, { 5, 9, 1, 17, 6 }, 3)
        rows = rows_of(lm, prompts, { tokens = "all" })
    end)

    it("sums by class", function()
        for _, reduce in ipairs { "mean", "sum", "squares" } do
            local states, squares, info = lm:capture(prompts, { tokens = "all", reduce = reduce, classes = LABELS })
            if reduce ~= "squares" then info = squares end
            assert.same({ "a", "b" }, info.classes)
            assert.same({ 12, 26 }, info.counts)
            assert.same({ 2, lm.layers, lm.hidden }, states:shape())
            for class, members in ipairs { { 1, 3, 5 }, { 2, 4 } } do
                local all = join(rows, members)
                for layer = 1, lm.layers do
                    for k = 1, lm.hidden, 5 do
                        local factor = reduce == "sum" and #all or 1
                        near(states:get(class, layer, k), factor * mean(all, layer, k), 1e-4 * factor, reduce)
                        if reduce == "squares" then
                            local m = mean(all, layer, k)
                            near(squares:get(class, layer, k), covariance(all, layer, k, k) + m * m, 1e-4, "squares")
                        end
                    end
                end
            end
        end
    end)

    it("gives moments of all tokens, or by class", function()
        local whole = lm:capture(prompts, { tokens = "all", reduce = "moments", layers = { 1 } })
        local by = rows_of(lm, prompts, { tokens = "all", layers = { 1 } })
        check_record(whole, join(by, { 1, 2, 3, 4, 5 }), 1, lm.hidden)
        local records, info = lm:capture(prompts, { tokens = "all", reduce = "moments", classes = LABELS })
        assert.same({ "a", "b" }, info.classes)
        check_record(records.a, join(rows, { 1, 3, 5 }), lm.layers, lm.hidden)
        check_record(records.b, join(rows, { 2, 4 }), lm.layers, lm.hidden)
    end)

    it("takes moments block by block", function()
        local demo = steer.model("tests/fixtures/demo-model", { device = helper.device })
        local many = {}
        for i = 1, 60 do many[i] = prompt(demo, 100, i) end -- more than a block of 32 MiB
        local record = demo:capture(many, { tokens = "all", reduce = "moments" })
        assert.equal(6000, record.count)
        local mean_row, squares = demo:capture(many, { tokens = "all", reduce = "squares", classes = (function()
            local labels = {}
            for i = 1, #many do labels[i] = 1 end
            return labels
        end)() })
        local scale = squares[1]:norm()
        assert((record.mean - mean_row[1]):norm() < 1e-4 * mean_row:norm())
        assert((record.variance - (squares[1] - mean_row[1] * mean_row[1])):norm() < 1e-4 * scale)
        local layer = record.covariance[6]
        assert((layer - layer:transpose()):norm() < 1e-6 * layer:norm())
    end)

    it("goes straight into steer.extract", function()
        local p, n = list_of(lm, { 20, 22, 18, 25 }, 40), list_of(lm, { 21, 17, 30 }, 60)
        local moments = { tokens = "all", reduce = "moments" }
        local v, info = steer.extract.lda((lm:capture(p, moments)), (lm:capture(n, moments)), { shrinkage = 0.05 })
        local w, about = steer.extract.lda((lm:capture(p, { tokens = "all" })), (lm:capture(n, { tokens = "all" })),
            { shrinkage = 0.05 })
        for layer = 0, lm.layers - 1 do
            assert((v[layer] - w[layer]):norm() < 1e-3, (v[layer] - w[layer]):norm())
            near(info[layer].threshold, about[layer].threshold, 1e-3 * math.abs(about[layer].threshold) + 1e-4, "")
            near(info[layer].distance, about[layer].distance, 1e-3 * about[layer].distance, "distance")
        end
        local first = lm:capture(n, { tokens = "all", reduce = "moments", layers = { 0 } })
        fails("shape_mismatch", "negative: means", steer.extract.lda, (lm:capture(p, moments)), first)
        for _, method in ipairs { "mean_difference", "pca", "lat", "lda", "probe" } do
            fails("invalid_argument", "put the call into parentheses, as in (lm:capture(prompts))", function()
                steer.extract[method](lm:capture(p), lm:capture(n))
            end)
        end
    end)

    it("takes the last of the chosen tokens", function()
        local states, info = lm:capture(prompts, { tokens = "all", reduce = "last" })
        assert.same({ 1, 1, 1, 1, 1 }, info.rows)
        local plain = lm:capture(prompts)
        assert((plain - states):norm() < 1e-5 * plain:norm())
        local first = lm:capture(prompts, { tokens = { 0 }, reduce = "last", layers = { 1 } })
        local same = lm:capture(prompts, { tokens = { 0 }, reduce = "last", layers = "[1:1]" })
        assert.equal(helper.bytes(first), helper.bytes(same))
        near(first:get(4, 1, 3), rows[4][1][2][3], 1e-5, "position 0")
    end)
end)

-- Three sequences of two captures in one session, whose steps have `rows` rows: each position in a group that
-- group_of(sequence, position) says, squares too. Gives the sums of both captures as tensors.
local function summed(lm, rows, lengths, groups, group_of)
    local session = lm:session { sequences = #lengths, tokens = 256, rows = rows, reproducible = true }
    local objects, out = {}, {}
    for i = 1, 2 do objects[i] = capture_of(lm, C.STEER_SITE_LAYER, { 0, 1 }, groups, true) end
    for i, length in ipairs(lengths) do
        local of = {}
        for k = 1, length do of[k] = group_of(i, k) end
        session:add {
            tokens = prompt(lm, length, i).tokens, max_tokens = 4, ignore_eos = true,
            capture = { object = objects[i == 3 and 2 or 1], groups = of, generated = group_of(i) },
        }
    end
    repeat until session:step() == 0
    session:close()
    for i = 1, 4 do
        local object = objects[i <= 2 and 1 or 2]
        c.check(C.steer_capture_tensor(tensors.out, object.handle, (i + 1) % 2))
        out[i] = tensors.own()
    end
    return out, objects
end

-- f32 sums of rows [row][layer][k] in order, and of their squares.
local function in_order(rows, layer, k)
    local sums, product = ffi.new("float[2]"), ffi.new("float[1]")
    for _, row in ipairs(rows) do
        local x = row[layer][k]
        product[0] = x * x
        sums[0], sums[1] = sums[0] + x, sums[1] + product[0]
    end
    return sums[0], sums[1]
end

describe("captures of many sequences", function()
    it("are served in turn, more than a step has room for", function()
        local lm = open "llama"
        local function sums(count, together)
            local out = {}
            local session = lm:session { sequences = count, tokens = 64 * count, reproducible = true }
            for i = 1, count do
                local object, groups = capture_of(lm, C.STEER_SITE_LAYER, { 1 }, 1), {}
                for k = 1, 5 + i do groups[k] = 0 end
                session:add { tokens = prompt(lm, 5 + i, i).tokens, max_tokens = 3, ignore_eos = true,
                    capture = { object = object, groups = groups, generated = 0 } }
                out[i] = object
                if not together then repeat until session:step() == 0 end
            end
            repeat until session:step() == 0
            session:close()
            for i, object in ipairs(out) do
                c.check(C.steer_capture_tensor(tensors.out, object.handle, 0))
                out[i] = helper.bytes(tensors.own())
            end
            return out
        end
        assert.same(sums(19, false), sums(19, true))
    end)
end)

describe("a sum of a capture", function()
    local LENGTHS = { 37, 23, 30 }
    -- Groups 0 .. 3 in turns, of which the second sequence has others; some positions in none, group 6 empty.
    local function mixed(i, k)
        if not k then return i == 2 and -1 or i + 3 end
        return k % 5 == 0 and -1 or (k % 2 + 2 * ((i - 1) % 2))
    end

    it("is in the order of its rows, however prompts are cut into steps", function()
        local lm = open "llama"
        local first, objects = summed(lm, 128, LENGTHS, 7, mixed)
        assert.equal(15, tonumber(C.steer_capture_counts(objects[1].handle)[0]))
        assert.equal(0, tonumber(C.steer_capture_counts(objects[1].handle)[6]))
        assert.equal(3, tonumber(C.steer_capture_counts(objects[2].handle)[6]))
        for _, rows in ipairs { 3, 7, 20, 64 } do
            local again = summed(lm, rows, LENGTHS, 7, mixed)
            for i = 1, 4 do assert(helper.bytes(first[i]) == helper.bytes(again[i])) end
        end
        local single = summed(lm, 128, LENGTHS, 64, function(i, k) -- each in a group of its own
            return k and i ~= 2 and k - 1 or -1
        end)
        for i = 1, 3, 2 do
            local states, sums, squares = single[i]:totable(), first[i]:totable(), first[i + 1]:totable()
            for group = 0, 1 do
                local rows = {}
                for k = 1, LENGTHS[i] do
                    if mixed(i, k) == group then rows[#rows + 1] = states[k] end
                end
                for layer = 1, 2 do
                    for k = 1, lm.hidden do
                        local sum, square = in_order(rows, layer, k)
                        assert(sum == sums[group + 1][layer][k] and square == squares[group + 1][layer][k])
                    end
                end
            end
        end
    end)
end)

describe("a capture of a response", function()
    local lm, spec
    setup(function()
        lm = open "qwen2"
        spec = steer.spec { [0] = { steer.add(T.randn({ lm.hidden }, { seed = 4, device = "cpu" }), 0.5) } }
    end)

    it("is the same while it is generated, afterwards, and given", function()
        local asked = list_of(lm, { 4, 7 }, 5)
        local opts = { tokens = "response", max_tokens = 6, spec = spec }
        local function captured(reduce)
            opts.reduce = reduce
            return lm:capture(asked, opts)
        end
        local out = lm:generate {
            { tokens = asked[1].tokens, spec = spec, max_tokens = 6 },
            { tokens = asked[2].tokens, spec = spec, max_tokens = 6 },
        }
        local live, info = captured "mean"
        for i = 1, 2 do assert.same(out[i].tokens, info.generated[i].tokens) end
        local states, after = captured(nil)
        for i = 1, 2 do assert.same(out[i].tokens, after.generated[i].tokens) end
        assert.same({ #out[1].tokens - 1, #out[2].tokens - 1 }, after.rows)
        local given = {}
        for i = 1, 2 do
            given[i] = { tokens = asked[i].tokens, response = { unpack(out[i].tokens, 1, #out[i].tokens - 1) } }
        end
        local again = lm:capture(given, { tokens = "response", spec = spec })
        assert((again - states):norm() < 1e-5 * states:norm())
        local means = lm:capture(given, { tokens = "response", spec = spec, reduce = "mean" })
        assert((live - means):norm() < 1e-4 * means:norm())
        local last = captured "last"
        assert((last[1] - states[after.rows[1]]):norm() < 1e-5 * last[1]:norm())
        assert.equal(after.rows[1] + after.rows[2], captured("moments").count)
        local plain = lm:capture(given, { tokens = "response", reduce = "mean" })
        assert((live - plain):norm() > 1e-2 * plain:norm())
    end)

    it("has the text that was generated", function()
        local demo = steer.model("tests/fixtures/demo-model", { device = helper.device })
        local _, info = demo:capture("One day, Tom went to the",
            { tokens = "response", reduce = "mean", max_tokens = 5 })
        local out = demo:generate { { prompt = "One day, Tom went to the", max_tokens = 5 } }
        assert.equal(out[1].text, info.generated[1].text)
        assert.same({ 4 }, info.counts)
        local function sampled(seed)
            local _, about = demo:capture("One day, Tom went to the",
                { tokens = "response", max_tokens = 8, temperature = 1.5, seed = seed, ignore_eos = true })
            assert.equal(7, about.rows[1])
            return about.generated[1].text
        end
        assert.equal(sampled(1), sampled(1))
        assert.not_equal(sampled(1), sampled(2))
    end)
end)

describe("a capture refuses", function()
    local lm, two
    setup(function()
        lm = open "llama"
        two = list_of(lm, { 3, 4 }, 1)
    end)

    it("classes that are none", function()
        local function f(classes, reduce) return lm:capture(two, { reduce = reduce or "mean", classes = classes }) end
        fails("invalid_argument", "classes: 1 labels for 2 prompts", f, { "a" })
        fails("invalid_argument", 'classes: "b" has one prompt', f, { "b", "a" })
        fails("invalid_argument", "classes[2]: expected a text", f, { "a", {} })
        fails("invalid_argument", "classes: expected a list", f, { x = "a" })
        fails("invalid_argument", "classes: they are for reduce", lm.capture, lm, two, { classes = { 1, 1 } })
        fails("invalid_argument", "classes: they are for reduce", f, { 1, 1 }, "last")
    end)

    it("prompts and tokens that are none", function()
        fails("invalid_argument", "prompts[2]: its prompt has no tokens", lm.capture, lm, { two[1], { tokens = {} } })
        fails("invalid_argument", "prompts[2]: it has none of prompt", lm.capture, lm, { two[1], {} })
        fails("invalid_argument", "prompts[2]: tokens[1]", lm.capture, lm, { two[1], { tokens = { lm.vocab } } })
        fails("invalid_argument", "prompts[1].response", lm.capture, lm, { { tokens = { 1 }, response = 5 } })
        fails("invalid_argument", "prompts[1]: it has no response", lm.capture, lm, two, { tokens = "response" })
        fails("invalid_argument", "tokens: the list is empty", lm.capture, lm, two, { tokens = {} })
        fails("invalid_argument", "reduce: \"rows\"", lm.capture, lm, two, { reduce = "rows" })
        fails("invalid_argument", "max_tokens", lm.capture, lm, two, { max_tokens = 4 })
        fails("invalid_argument", "no generated token was fed back", lm.capture, lm, two,
            { tokens = "response", max_tokens = 1 })
        fails("invalid_argument", "prompts[1]: no token was captured", lm.capture, lm, two,
            { tokens = "response", max_tokens = 1, reduce = "mean" })
    end)
end)
