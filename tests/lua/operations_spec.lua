-- Every kind of operation against the float64 oracle: alone, under conditions, in lists, in a residual, on every path.
-- devices: cpu cuda
--
-- STEER_TEST_SEED=n repeats the case that a failure names, STEER_TEST_ROUNDS=x makes x times as many random ones.
local B = require "batches"
local H = require "helper"
local kinds = require("operation_table").kinds
local steer = require "steer"
local T = steer.tensor

local totals = { elements = 0, off = 0, rows = 0, skipped = 0, steered = 0 }

local function check(batch, path)
    local engine = steer.engine { hidden = batch.hidden, dtype = batch.dtype, device = B.device }
    local plan = engine:plan(batch.requests, { rows = math.max(1, batch.rows), path = path })
    local counts = B.check(plan, batch, batch.before)
    for key, n in pairs(counts) do
        if batch.dtype ~= "f32" or key ~= "elements" then totals[key] = totals[key] + n end
    end
    plan:close()
    engine:close()
end

-- A batch of `tokens` rows under one spec, unsteered rows before them, rows of other operations and padding after.
local function simple(n, dtype, ops, tokens, with_residual)
    local plain = B.random_ops(n, 2)
    local rows = tokens + 5
    return {
        hidden = n, dtype = dtype, rows = rows, before = B.hidden(rows, n, dtype),
        residual = with_residual and B.hidden(rows, n, dtype) or nil, programs = { nil, ops, plain },
        requests = { { tokens = 1 }, { spec = B.spec(ops), tokens = tokens }, { spec = B.spec(plain), tokens = 2 } },
    }
end

describe("an operation", function()
    for _, kind in ipairs(kinds) do
        it(kind .. " does what its formula says", function()
            B.rounds(8, function()
                for _, dtype in ipairs(B.dtypes) do
                    local n = B.choose { 4, 33, 64, 200, 1000 }
                    check(simple(n, dtype, { B.random_any(n, { kind = kind }) }, 6))
                end
            end)
        end)

        it(kind .. " does so with a residual, under a condition, among others", function()
            B.rounds(4, function()
                for _, dtype in ipairs(B.dtypes) do
                    local n = B.choose { 5, 64, 130 }
                    local ops = { B.random_any(n), B.random_any(n, { kind = kind, gates = 0.7 }), B.random_any(n) }
                    check(simple(n, dtype, ops, 6, true))
                end
            end)
        end)
    end

    it("serves rows of any length", function()
        for _, n in ipairs { 1, 2, 8, 31, 2048, 4097, 8192, 32768 } do
            B.rounds(n > 4000 and 1 or 2, function()
                for _, dtype in ipairs(B.dtypes) do
                    check(simple(n, dtype, B.random_all(n, 3), 3))
                    check(simple(n, dtype, B.random_all(n, 2), 2, true))
                end
            end)
        end
    end)

    it("takes up to 64 vectors", function()
        B.rounds(1, function()
            for _, kind in ipairs { "affine", "ablate", "cap", "sae" } do
                for _, dtype in ipairs(B.dtypes) do
                    check(simple(200, dtype, { B.random_any(200, { kind = kind, count = 64 }) }, 5))
                end
            end
        end)
    end)
end)

describe("batches of all operations", function()
    local function random_batch(n, dtype, requests, most_tokens)
        return B.random_batch(n, dtype, function(chances)
            return B.chance(0.4) and B.random_ops(n, math.random(4), chances)
                or B.random_all(n, math.random(4), chances)
        end, requests, most_tokens)
    end

    for _, path in ipairs { "auto", "mixed", "loop" } do
        it("match the oracle, path " .. path, function()
            B.rounds(12, function()
                for _, dtype in ipairs(B.dtypes) do
                    check(random_batch(math.random(150), dtype, math.random(0, 12), 9), path)
                end
            end)
        end)
    end

    it("of hundreds of rows match the oracle", function()
        B.rounds(1, function()
            for _, dtype in ipairs(B.dtypes) do check(random_batch(64, dtype, 40, 40)) end
        end)
    end)
end)

describe("what is noted on a layer", function()
    local n, rows = 24, 40
    local g, v = T.randn({ n }, { device = "cpu", seed = 1 }), T.randn({ n }, { device = "cpu", seed = 2 })
    local function engine(dtype) return steer.engine { hidden = n, dtype = dtype, device = B.device } end
    -- Where h.g is above 0.
    local function noted(h)
        local values = h:to("cpu", "f32"):matmul(g:reshape(n, 1)):reshape(rows):totable()
        for i, x in ipairs(values) do values[i] = x > 0 end
        return values
    end
    local function differ(a, b)
        local list = {}
        for i = 1, rows do list[i] = B.bytes(a:select(1, i):contiguous()) ~= B.bytes(b:select(1, i):contiguous()) end
        return list
    end

    it("opens conditions of later layers, alone and combined, on every path", function()
        for _, dtype in ipairs(B.dtypes) do
            for _, path in ipairs { "auto", "mixed", "loop" } do
                local spec = steer.spec {
                    [2] = { steer.note("g", { when = { vector = g, above = 0 } }) },
                    [5] = { steer.add(v, 3, { when = { noted = "g" } }) },
                    [6] = { steer.add(v, 3, { when = { none = { { noted = "g" } } } }) },
                    [7] = { steer.set(v, 3, { when = { all = { { noted = "g" }, { vector = v, above = -1e30 },
                        { none = { { vector = v, above = 1e30 } } } } } }) },
                }
                local requests = { { tokens = 3 }, { spec = spec, tokens = rows - 3 } }
                local plan = engine(dtype):plan(requests, { path = path })
                local h = B.hidden(rows, n, dtype)
                local wanted, after = noted(h), h:clone()
                for i = 1, 3 do wanted[i] = false end
                plan:apply(2, after)
                assert.equal(B.bytes(h), B.bytes(after))
                local other = h:clone()
                other:mul_(-1)
                for layer, expected in pairs { [5] = true, [6] = false, [7] = true } do
                    local out = other:clone()
                    plan:apply(layer, out)
                    for i, differs in ipairs(differ(other, out)) do
                        assert.equal(i > 3 and wanted[i] == expected, differs, ("row %d, layer %d"):format(i, layer))
                    end
                end
            end
        end
    end)

    it("is forgotten at an update, and of tokens that it did not select it is not", function()
        local only = { prompt_positions = { 0, 1 } }
        local spec = steer.spec {
            [0] = { steer.note("all", { where = only, when = { vector = g, above = -1e30 } }) },
            [1] = { steer.add(v, 3, { when = { noted = "all" } }) },
        }
        local plan = engine("f32"):plan { { spec = spec, tokens = rows, position = 0, prompt_tokens = rows } }
        local h = B.hidden(rows, n, "f32")
        plan:apply(0, h)
        local out = h:clone()
        plan:apply(1, out)
        for i, differs in ipairs(differ(h, out)) do assert.equal(i <= 2, differs) end
        plan:update { { spec = spec, tokens = rows, position = 2, prompt_tokens = rows + 2 } }
        out:copy_(h)
        plan:apply(1, out)
        assert.equal(B.bytes(h), B.bytes(out))
    end)

    it("must be noted before, at whatever site, and is saved", function()
        local note = steer.note("x", { when = { vector = g, above = 0 } })
        local add = steer.add(v, 1, { when = { any = { { noted = "x" }, { vector = v, below = 0 } } } })
        local function at(site) return steer.note("x", { when = { vector = g, above = 0 }, at = site }) end
        H.fails("invalid_argument", 'layer 0: operation 1 (add): when.any[1].noted: no operation notes "x"', steer.spec,
            { [0] = { add } })
        H.fails("invalid_argument", 'notes "x", the one on layer 0 comes later', steer.spec, { [0] = { add, note } })
        H.fails("invalid_argument", "the one on layer 3 comes later", steer.spec, { [3] = { note }, [1] = { add } })
        H.fails("invalid_argument", "the one on layer 1 at attention comes later", steer.spec,
            { [0] = { add }, [1] = { at "attention" } })
        for _, layers in ipairs { { [0] = { add, at "attention" } }, { [0] = { add, at "embed" } },
            { [0] = { at "attention" }, [3] = { add } } } do
            steer.spec(layers):close()
        end
        H.fails("invalid_argument", "note: when: none, expected what is to be noted", steer.note, "x")
        H.fails("invalid_argument", "note: note: missing", steer.note)
        H.fails("shape_mismatch", "when.all[2].vector: 3 elements", steer.note, "x",
            { when = { all = { { vector = g, above = 0 }, { vector = { 1, 2, 3 }, above = 0 } } } })
        local short = steer.keep_norm { when = { vector = { 1, 2, 3 }, above = 0 } }
        H.fails("shape_mismatch", "a vector of 3", steer.spec, { [0] = { steer.add(v), short } })
        local spec, path = steer.spec { [0] = { note, add } }, os.tmpname() .. ".safetensors"
        spec:save(path)
        assert.equal(tostring(spec), tostring(steer.load_spec(path)))
        os.remove(path)
        assert.truthy(tostring(spec):find("any(noted x, dot below 0)", 1, true))
    end)
end)

describe("what is noted of a prompt, by a plan without a model,", function()
    local n = 16
    local g, v = T.randn({ n }, { seed = 1, device = "cpu" }), T.randn({ n }, { seed = 2, device = "cpu" })
    local spec = steer.spec {
        [1] = { steer.note("flag", { of = "prompt", when = { vector = g, above = 0 } }) },
        [3] = {
            steer.add(v, 1, { when = { noted = "flag" } }),
            steer.add(v, 4, { when = { none = { { noted = "flag" } } } }),
        },
    }
    -- Rows whose h.g is as it is asked for, by its sign.
    local function rows_of(signs)
        local h = T.zeros({ #signs, n }, { device = B.device })
        for i, sign in ipairs(signs) do h:select(1, i):copy_(g * sign) end
        return h
    end

    it("is known where the prompt ends in its batch", function()
        local engine = steer.engine { hidden = n, device = B.device }
        for _, path in ipairs { "auto", "mixed", "loop" } do
            local plan = engine:plan({
                { spec = spec, tokens = 3, prompt_tokens = 3 }, { spec = spec, tokens = 2, prompt_tokens = 9 },
                { spec = spec, tokens = 2, position = 4, prompt_tokens = 6 }, { tokens = 1 },
            }, { path = path })
            local signs = { 1, 1, -1, 1, -1, -1, 1, 1 }
            local h = rows_of(signs)
            plan:apply(1, h)
            local after = T.zeros({ #signs, n }, { device = B.device })
            plan:apply(3, after)
            after = after:to "cpu"
            for i, factor in ipairs { 0, 0, 4, 0, 0, 0, 1, 0 } do
                assert.is_true((after:select(1, i) - v * factor):norm() < 1e-5, path .. ", row " .. i)
            end
        end
    end)

    it("is refused where it cannot be known", function()
        local engine = steer.engine { hidden = n, device = B.device }
        local function plan(request)
            request.spec, request.tokens = spec, 2
            return engine:plan { request }
        end
        H.fails("unsupported", "verdict of the whole prompt", plan,
            { phase = "generation", position = 7, prompt_tokens = 4 })
        H.fails("invalid_argument", "prompt_tokens: missing", plan, {})
    end)
end)

-- Beside a short program, one of few and a large one: each has a kernel of its own.
local function same_in_company(batch)
    local n, dtype, results = batch.hidden, batch.dtype, {}
    local engine = steer.engine { hidden = n, dtype = dtype, device = B.device }
    for i, kind in ipairs { "set", "turn", "affine" } do
        local count = kind == "affine" and 9 or nil
        local company = { spec = B.spec { B.random_any(n, { kind = kind, count = count }) }, tokens = 4 }
        local requests = { unpack(batch.requests) }
        requests[#requests + 1] = company
        local h = T.randn({ batch.rows + 4, n }, { dtype = dtype, device = B.device, seed = 5 })
        local r = batch.residual and h:clone() or nil
        h:narrow(1, 1, batch.rows):copy_(batch.before)
        if r then r:narrow(1, 1, batch.rows):copy_(batch.residual) end
        engine:plan(requests, { path = "mixed" }):apply(0, h, { residual = r })
        results[i] = B.bytes(h:narrow(1, 1, batch.rows))
    end
    assert(results[1] == results[2], ("%s, hidden %d: other bits beside a program of few"):format(dtype, n))
    assert(results[1] == results[3], ("%s, hidden %d: other bits beside a large one"):format(dtype, n))
    engine:close()
end

-- f32 has no room for the squares of such numbers, nor for those of what is left of a row or of its projections.
describe("rows of any size", function()
    local sizes = { f32 = { 1e36, 1e19, 1e-25, 1e-38 }, f16 = { 4e3, 1e-7 }, bf16 = { 1e36, 1e19, 1e-25, 1e-38 } }
    for _, kind in ipairs(kinds) do
        it("are steered by " .. kind .. ", with the same bits in any company", function()
            B.rounds(3, function()
                local n, keeps, with_residual = B.choose { 33, 64, 1000 }, B.chance(0.3), B.chance(0.3)
                for _, dtype in ipairs(B.dtypes) do
                    local op = B.random_any(n, { kind = kind, count = B.choose { 1, 3, 9 }, gates = 0.3 })
                    local keep = keeps and B.random_any(n, { kind = "keep_norm" }) or nil
                    local batch = simple(n, dtype, { op, keep }, 6)
                    batch.rows = 9 -- no padding, in whose place the company comes
                    for _, size in ipairs(sizes[dtype]) do
                        local function states()
                            return B.tensor({ batch.rows, n }, dtype, function() return size * B.randn() end)
                        end
                        batch.before, batch.residual = states(), with_residual and states() or nil
                        check(batch)
                        same_in_company(batch)
                    end
                end
            end)
        end)
    end
end)

-- Programs of one or two vectors have a kernel of their own, as long as a launch has no others.
describe("a short program", function()
    local function short(n)
        local kind = B.choose { "set", "map", "cap", "ablate", "replace", "rotate", "affine" }
        local count = (kind == "affine" or kind == "ablate") and B.choose { 1, 2 } or kind ~= "rotate" and 1 or nil
        local ops = { B.random_any(n, { kind = kind, count = count }) }
        if B.chance(0.6) then ops[2] = B.random_any(n, { kind = "keep_norm" }) end
        return ops
    end

    -- Rows of two programs and of none; runs begin within tiles.
    local function batch_of(n, dtype, with_residual)
        local one, other = short(n), short(n)
        local batch = { hidden = n, dtype = dtype, programs = {}, requests = {}, rows = 0 }
        for i, tokens in ipairs { B.scaled(60), 5, 2, B.scaled(60), 7 } do
            batch.programs[i] = i ~= 3 and (i % 2 == 1 and one or other) or nil
            batch.requests[i] = { spec = batch.programs[i] and B.spec(batch.programs[i]), tokens = tokens }
            batch.rows = batch.rows + tokens
        end
        batch.before = B.hidden(batch.rows, n, dtype)
        batch.residual = with_residual and B.hidden(batch.rows, n, dtype) or nil
        return batch
    end

    it("does what its formula says", function()
        B.rounds(8, function()
            for _, dtype in ipairs(B.dtypes) do
                local n = B.choose { 8, 64, 512, 1000, 2048 }
                check(batch_of(n, dtype, B.chance(0.3)))
            end
        end)
    end)

    it("has the same bits in any company, also where f32 has no room for the square of a norm", function()
        B.rounds(8, function()
            for _, dtype in ipairs(B.dtypes) do
                local n = B.choose { 8, 64, 512, 1000, 2048 }
                local batch = batch_of(n, dtype, B.chance(0.3))
                if dtype ~= "f16" and B.chance(0.3) then batch.before:mul_(1e-18) end
                same_in_company(batch)
            end
        end)
    end)

    -- A program whose vectors say what a norm becomes, and rows: such as come, those along a vector, of which little
    -- may be left, so that their norms are summed, tiny ones and huge ones.
    local function kept(n, dtype, kind, with_residual)
        local op = B.random_any(n, { kind = kind.kind, count = kind.count })
        op.fields, op.ws = kind.fields, nil
        if kind.kind == "affine" then -- of the vectors that it reads
            op.fields, op.ws = { write = op.tensor, scale = 1, matrix = kind.fields.matrix }, op.vs
        end
        local tokens = { n > 1000 and 20 or B.many(600), 9 }
        local ops, rows = { op, { kind = "keep_norm", fields = {}, vs = {} } }, tokens[1] + tokens[2] + 1
        local sizes = dtype == "f16" and { 1, 1, 2 ^ -14, 2 ^ 10 } or { 1, 1, 1e-18, 1e19 }
        local spec = B.spec(ops)
        local function states()
            return B.tensor({ rows, n }, dtype, function(i)
                local r, e = math.floor(i / n), i % n
                local along = op.vs[r % #op.vs + 1][e] * math.sqrt(n)
                return sizes[r % 4 + 1] * (r % 4 == 1 and along + 0.1 * B.randn() or B.randn())
            end)
        end
        return {
            hidden = n, dtype = dtype, rows = rows, programs = { ops, nil, ops }, before = states(),
            residual = with_residual and states() or nil,
            requests = { { spec = spec, tokens = tokens[1] }, { tokens = 1 }, { spec = spec, tokens = tokens[2] } },
        }
    end

    it("keeps norms that it knows without a sum, and sums those that cancel", function()
        for k, kind in ipairs {
            { kind = "set", fields = { target = 0 } }, { kind = "cap", count = 1, fields = { max = 0.5 } },
            { kind = "ablate", count = 1, fields = { scale = 0 } },
            { kind = "ablate", count = 2, fields = { scale = 0.5 } }, { kind = "rotate", fields = { degrees = 170 } },
            { kind = "map", fields = { points = { { -1, 2 }, { 1, 90 } } } },
            { kind = "affine", count = 2, fields = { matrix = { { 40, -39 }, { -39, 40 } } } },
        } do
            for i, n in ipairs { 40, 896, 2048, 4096 } do
                math.randomseed(4 * k + i)
                local batch = kept(n, (k + i) % 2 == 0 and "bf16" or "f16", kind, (k + i) % 3 == 0)
                check(batch)
                same_in_company(batch)
            end
        end
    end)
end)

describe("the bits of a row", function()
    local function spec_of(n, i)
        return B.spec(i % 4 == 0 and B.random_ops(n, 2) or B.random_all(n, 1 + i % 3, { gates = 0.3 }))
    end

    it("under any operation are the same alone and in any batch, in a residual too", function()
        B.rounds(6, function(seed)
            local n, dtype = B.choose { 7, 64, 200, 1000, 2049 }, B.choose(B.dtypes)
            local engine = steer.engine { hidden = n, dtype = dtype, device = B.device }
            local me, other, plain = spec_of(n, 1 + seed % 3), spec_of(n, 2), B.spec(B.random_ops(n, 3))
            local tokens = math.random(9)
            local rows, residual = B.hidden(tokens, n, dtype), B.hidden(tokens, n, dtype)
            local function steered(before, requests, opts, with_residual)
                local total = 0
                for _, r in ipairs(requests) do total = total + r.tokens end
                local h = T.randn({ total, n }, { dtype = dtype, device = B.device, seed = 5 })
                local r = with_residual and h:clone() or nil
                h:narrow(1, before + 1, tokens):copy_(rows)
                if r then r:narrow(1, before + 1, tokens):copy_(residual) end
                engine:plan(requests, opts):apply(0, h, { residual = r })
                return B.bytes(h:narrow(1, before + 1, tokens))
            end
            local mine, many = { spec = me, tokens = tokens }, B.scaled(600)
            for _, with_residual in ipairs { false, true } do
                local alone = steered(0, { mine }, nil, with_residual)
                for i, way in ipairs {
                    { 0, { mine, { spec = other, tokens = 3 } } }, { 2, { { tokens = 2 }, mine } },
                    { 3, { { spec = plain, tokens = 3 }, mine } }, { 0, { mine }, { path = "loop" } },
                    { 0, { mine }, { path = "mixed" } },
                    { many + 3, { { spec = me, tokens = many + 3 }, mine, { spec = me, tokens = many } } },
                    { many, { { spec = other, tokens = many }, mine, { tokens = 40 }, { spec = plain, tokens = 9 } } },
                } do
                    assert(alone == steered(way[1], way[2], way[3], with_residual),
                        ("%s, hidden %d: other bits in way %d"):format(dtype, n, i))
                end
            end
        end)
    end)

    it("under add, cap and ablate are the same beside rows of any operation", function()
        B.rounds(4, function()
            local n, dtype = B.choose { 64, 200, 1000 }, B.choose(B.dtypes)
            local engine = steer.engine { hidden = n, dtype = dtype, device = B.device }
            local me, other = B.spec(B.random_ops(n, 3)), spec_of(n, 1)
            local rows = B.hidden(4, n, dtype)
            local alone, beside = rows:clone(), B.hidden(9, n, dtype)
            beside:narrow(1, 4, 4):copy_(rows)
            engine:plan({ { spec = me, tokens = 4 } }):apply(0, alone)
            engine:plan({ { spec = other, tokens = 3 }, { spec = me, tokens = 4 }, { spec = other, tokens = 2 } })
                :apply(0, beside)
            assert(B.bytes(alone) == B.bytes(beside:narrow(1, 4, 4)), dtype)
        end)
    end)

    it("stay where an operation does nothing: negative zeros and NaN too", function()
        local n = 8
        local v = T.ones({ n }, { device = "cpu" })
        for _, dtype in ipairs(B.dtypes) do
            local engine = steer.engine { hidden = n, dtype = dtype, device = B.device }
            local h = T.zeros({ 2, n }, H.on(dtype))
            h:mul_(-1)
            h:set(2, 3, 0 / 0)
            local before = B.bytes(h)
            local never = { vector = v, above = 1e30 }
            for _, op in ipairs {
                steer.set(v, 1, { when = { all = { never, { vector = v, below = 1 } } } }),
                steer.rotate({ v, T.arange(n, { device = "cpu" }) }, 30, { when = never }),
                steer.turn(v, 30, { when = never }), steer.replace(v, 1, { when = never }),
                steer.ablate(v, 0, { side = "positive", when = never }),
            } do
                engine:plan({ { spec = steer.spec { [0] = { op, steer.keep_norm { when = never } } }, tokens = 2 } })
                    :apply(0, h)
                assert.equal(before, B.bytes(h))
            end
        end
    end)
end)

describe("specs", function()
    it("of every operation print, are saved and read back, and make the same programs", function()
        B.rounds(4, function()
            local layers, n = {}, 24
            for i, kind in ipairs(kinds) do
                layers[i] = { B.build(B.random_any(n, { kind = kind, gates = 0.5, scopes = 0.3 })) }
            end
            local spec, path = steer.spec(layers), os.tmpname() .. ".safetensors"
            spec:save(path)
            local read = steer.load_spec(path)
            os.remove(path)
            assert.equal(tostring(spec), tostring(read))
            for _, kind in ipairs(kinds) do assert.truthy(tostring(spec):find(kind, 1, true), kind) end
            local engine = steer.engine { hidden = n, device = B.device }
            local function request(s)
                return { spec = s, tokens = 1, token_ids = { 3 }, prompt_tokens = 9, position = 2 }
            end
            local plan = engine:plan { request(spec), request(read) }
            local stats = engine:stats()
            assert.is_true(stats.programs <= #kinds)
            for i = 1, #kinds do assert.is_true(plan:explain(i).programs <= 1) end
        end)
    end)
end)

describe("a constructor", function()
    local n = 6
    local function state(seed) return T.randn({ n }, { device = "cpu", seed = seed }) end
    local function rows(k, seed) return T.randn({ k, n }, { device = "cpu", seed = seed }) end
    -- What the operations make of two rows.
    local function steered(ops, h, request)
        request = request or {}
        request.spec, request.tokens = steer.spec { [0] = ops }, 2
        local out = h:to(B.device):clone()
        steer.engine { hidden = n, device = B.device }:plan({ request }):apply(0, out)
        return out:to("cpu")
    end
    local function near(a, b)
        for r = 1, 2 do for i = 1, n do H.near(a:get(r, i), b:get(r, i), 1e-5) end end
    end
    local h = rows(2, 7)

    it("of low rank is what it is called elsewhere", function()
        local r, w, b, c = rows(3, 1), rows(3, 2), state(3):narrow(1, 1, 3), state(4):narrow(1, 1, 3)
        local function through(weight, bias) return h:matmul(weight:transpose(1, 2)) + bias end
        local function loreft(q) return h + (through(w, b) - h:matmul(q:transpose(1, 2))):matmul(q) end
        near(steered({ steer.loreft { rotate = r, weight = w, bias = b, orthonormal = false } }, h), loreft(r))
        local made = steer.loreft { rotate = r, weight = w, bias = b, orthonormal = true }
        local q = made.write
        near(steered({ made }, h), loreft(q))
        near(steered({ steer.loreft { rotate = q:to "bf16", weight = w, bias = b } }, h), loreft(q:to("bf16"):to "f32"))
        local products, spanned = q:matmul(q:transpose(1, 2)), r - r:matmul(q:transpose(1, 2)):matmul(q)
        for i = 1, 3 do products:set(i, i, products:get(i, i) - 1) end
        assert.is_true(products:abs():max() < 1e-6 and spanned:abs():max() < 1e-5)
        H.near(r[1]:norm(), r[1]:dot(q[1]), 1e-5) -- the first keeps its direction
        H.fails("invalid_argument", "rotate: its rows are not orthonormal: R R' is up to 6.23 away from the identity; "
            .. "orthonormal = true", steer.loreft, { rotate = r, weight = w })
        H.fails("invalid_argument", "rotate: row 2 lies in the span", steer.loreft,
            { rotate = { r[1], r[1] }, weight = rows(2, 1), orthonormal = true })
        near(steered({ steer.noreft { project = r, project_bias = c, weight = w, bias = b } }, h),
            h + (through(w, b) - through(r, c)):matmul(r))
        near(steered({ steer.noreft { project = r, project_bias = c, weight = w } }, h),
            h + (through(w - r, c * -1)):matmul(r))
        near(steered({ steer.direft { rotate = r, weight = w } }, h), h + h:matmul(w:transpose(1, 2)):matmul(r))
        H.fails("shape_mismatch", "loreft: weight", steer.loreft, { rotate = r, weight = rows(2, 2) })
        H.fails("invalid_argument", "loreft: rotate: missing", steer.loreft, { weight = w })
        H.fails("invalid_argument", 'did you mean "weight"', steer.direft, { rotate = r, weigth = w })
    end)

    it("of a whole matrix finds its rank, and refuses one of more than 64", function()
        local one = T.zeros({ n, n }, { device = "cpu" })
        for i = 1, n do one:set(i, i, 1) end
        local a, b = one + rows(2, 8):transpose(1, 2):matmul(rows(2, 9)), state(5)
        near(steered({ steer.linear(a) }, h), h:matmul(a:transpose(1, 2)))
        near(steered({ steer.linear(a, { bias = b }) }, h), h:matmul(a:transpose(1, 2)) + b)
        near(steered({ steer.linear(one, { bias = b }) }, h), h + b)
        near(steered({ steer.linear(one) }, h), h)
        H.fails("unsupported", "rank above 64", steer.linear, T.randn({ 70, 70 }, { device = "cpu", seed = 1 }))
        H.fails("shape_mismatch", "linear: matrix: [2, 6]", steer.linear, rows(2, 1))
        H.fails("shape_mismatch", "linear: bias: 3", steer.linear, one, { bias = { 1, 2, 3 } })
    end)

    it("patches positions of a prompt", function()
        local states = rows(2, 10)
        local out = steered(steer.patch(states, { 1, -1 }), h, { prompt_tokens = 4, position = 1 })
        assert.equal(B.bytes(states:select(1, 1)), B.bytes(out:select(1, 1):contiguous()))
        assert.equal(B.bytes(h:select(1, 2):contiguous()), B.bytes(out:select(1, 2):contiguous()))
        H.fails("shape_mismatch", "patch: states: 2 of them for 1", steer.patch, states, { 1 })
    end)

    it("names what is wrong with its arguments", function()
        local v = state(1)
        H.fails("invalid_argument", "set: target: missing", steer.set, v)
        H.fails("invalid_argument", "target: expected a number, got a table: options come third", steer.set, v, {})
        H.fails("invalid_argument", "map: points: missing", steer.map, v)
        H.fails("invalid_argument", "map: points[2]: 1 numbers", steer.map, v, { { 1, 2 }, { 3 } })
        H.fails("invalid_argument", "map: points: x is 1 after 1", steer.map, v, { { 1, 2 }, { 1, 3 } })
        H.fails("invalid_argument", "rotate: vector: 1 vector, expected 2", steer.rotate, v, 3)
        H.fails("invalid_argument", "in the span", steer.rotate, { v, v }, 3)
        H.fails("shape_mismatch", "rotate: vector[2]: 3 elements", steer.rotate, { v, { 1, 2, 3 } }, 3)
        H.fails("invalid_argument", "turn: degrees: 200", steer.turn, v, 200)
        H.fails("invalid_argument", "sae: write: missing", steer.sae, v)
        H.fails("invalid_argument", "sae: min, max: both missing, expected at least one of min, max and a scale that "
            .. "is not 1", steer.sae, v, v)
        local one = steer.sae({ v }, v:reshape(1, n), { min = 1 })
        assert.equal(B.bytes(v), B.bytes(one.vector))
        assert.equal(B.bytes(v), B.bytes(one.write))
        H.fails("invalid_argument", "activation: \"tanh\", expected linear or relu", steer.sae, v, v,
            { min = 1, activation = "tanh" })
        H.fails("shape_mismatch", "affine: write: 2 rows", steer.affine, v, rows(2, 1))
        H.fails("invalid_argument", "keep_norm: opts: unknown option", steer.keep_norm, { normalize = true })
        H.fails("invalid_argument", "side: \"up\"", steer.ablate, v, 0, { side = "up" })
        H.fails("invalid_argument", "vector[2]: all 3 elements are zero", steer.ablate, { { 1, 2, 3 }, { 0, 0, 0 } })
        H.fails("invalid_argument", "vector[2]: element 3 is NaN", steer.cap, { { 1, 2, 3 }, { 0, 1, 0 / 0 } },
            { max = 1 })
        local seven = {}
        for i = 1, 7 do seven[i] = { vector = v, above = i } end
        H.fails("invalid_argument", "when: 7 comparisons, expected at most 6", steer.add, v, 1,
            { when = { any = seven } })
        H.fails("invalid_argument", "when: both all and none", steer.add, v, 1,
            { when = { all = seven, none = seven } })
        H.fails("invalid_argument", "when.any: an empty list", steer.add, v, 1, { when = { any = {} } })
        H.fails("unsupported", "layer 0: set has no strength, expected ablate, add, affine, rotate or turn",
            function() return steer.spec { [0] = { steer.set(v, 1) } }:scaled(2) end)
    end)

    it("names which condition is wrong", function()
        local v, nan = state(1), 0 / 0
        local function refused(code, text, when) H.fails(code, "add: " .. text, steer.add, v, 1, { when = when }) end
        local good = { vector = v, above = 1 }
        for text, part in pairs {
            ['.above: expected a number, got "x"'] = { vector = v, above = "x" },
            [".any: an empty list"] = { any = {} }, [".below: inf"] = { vector = v, below = 1 / 0 },
            [': unknown option "abve"'] = { vector = v, abve = 1 }, [": expected a condition"] = 5,
            [": expected exactly one of above and below"] = { vector = v },
            [".vector: expected a one-dimensional tensor"] = { vector = 5, above = 1 },
            [".vector[2]: expected a number"] = { vector = { 1, "x" }, above = 1 },
            [".vector: all 3 elements are zero"] = { vector = { 0, 0, 0 }, above = 1 },
            [".vector: element 2 is NaN"] = { vector = { 1, nan, 1 }, above = 1 },
            [".noted: empty"] = { noted = "" }, [": both all and any"] = { all = { good }, any = { good } },
        } do
            refused("invalid_argument", "when.any[2]" .. text, { any = { good, part } })
            refused("invalid_argument", "when.all[1].none[3]" .. text,
                { all = { { none = { good, good, part } }, good } })
        end
        refused("shape_mismatch", ("when.all[2].vector: 2 elements, the operation's vector has %d"):format(n),
            { all = { good, { vector = { 1, 1 }, above = 1 } } })
        refused("invalid_argument", "when.above: ", { vector = v, above = nan })
        refused("invalid_argument", "when.vector: all 2 elements are zero", { vector = { 0, 0 }, above = 1 })
    end)

    it("gives what can be made stronger", function()
        local a, b = state(1), state(2)
        near(steered({ steer.rotate({ a, b }, 60) }, h),
            (function()
                local spec = steer.spec { [0] = { steer.rotate({ a, b }, 20) } }:scaled(3)
                local out = h:to(B.device):clone()
                steer.engine { hidden = n, device = B.device }:plan({ { spec = spec, tokens = 2 } }):apply(0, out)
                return out:to("cpu")
            end)())
    end)
end)

describe("over all of the above", function()
    it("results are the exact ones rounded, but for few", function()
        assert(totals.steered >= 0.3 * totals.rows, ("%d of %d rows are steered"):format(totals.steered, totals.rows))
        assert(totals.skipped <= 0.03 * totals.rows, ("%d of %d rows"):format(totals.skipped, totals.rows))
        assert.is_true(totals.elements > 10000)
        assert(totals.off <= 0.001 * totals.elements, ("%d of %d elements"):format(totals.off, totals.elements))
    end)
end)
