-- The bits of a row: they depend on its values and its program alone, and stay where nothing steers them.
-- devices: cpu cuda
local ffi = require "ffi"
local B = require "batches"
local steer = require "steer"
local T = steer.tensor

local N = 8
local THIN = B.scaled(10) < 10 -- emulated kernels are slow: dtypes take turns with sizes

local function on_device(make, shape, dtype) return make(shape, { device = B.device, dtype = dtype }) end
local function engine(dtype, hidden)
    return steer.engine { hidden = hidden or N, dtype = dtype or "f32", device = B.device }
end
local function ones_spec() return steer.spec { [0] = { steer.add(T.ones({ N }, { device = "cpu" })) } } end

describe("the bits of a row", function()
    local function request(spec, tokens) return { spec = spec, tokens = tokens } end

    local function invariant(lengths, with_residual)
        B.rounds(6, function()
            local n = B.choose { 1, 7, 64, 200, 1000, 2049 }
            for _, dtype in ipairs(B.dtypes) do
                local e = engine(dtype, n)
                local spec = B.spec(B.random_ops(n, B.choose(lengths), { gates = 0.3 }))
                local other = B.spec(B.random_ops(n, 2))
                local tokens = math.random(5)
                local rows, residual = B.hidden(tokens, n, dtype), B.hidden(tokens, n, dtype)
                -- The bytes of `rows` after a batch in which they come after `before` other rows.
                local function steered(before, requests, opts)
                    local total = 0
                    for _, r in ipairs(requests) do total = total + r.tokens end
                    local h = B.hidden((opts or {}).rows or total, n, dtype)
                    local r = with_residual and B.hidden(h:size(1), n, dtype) or nil
                    h:narrow(1, before + 1, tokens):copy_(rows)
                    if r then r:narrow(1, before + 1, tokens):copy_(residual) end
                    e:plan(requests, opts):apply(0, h, { residual = r })
                    return B.bytes(h:narrow(1, before + 1, tokens))
                end
                local me = request(spec, tokens)
                local alone = steered(0, { me })
                local WAYS = {
                    { 0, { me, request(other, 3) } }, { 3, { request(other, 3), me } }, { 2, { request(nil, 2), me } },
                    { 4, { request(other, 4), me, request(nil, 30) } },
                    { 9, { request(spec, 9), me, request(spec, 7) } },
                    { 0, { me }, { path = "mixed" } }, { 0, { me }, { path = "loop" } },
                    { 0, { me }, { path = "uniform" } }, { 0, { me }, { rows = 90 } },
                    { 5, { request(other, 5), me, request(other, 1) }, { path = "loop" } },
                }
                for i, way in ipairs(WAYS) do
                    assert(alone == steered(way[1], way[2], way[3]),
                        ("%s, hidden %d: other bits in way %d"):format(dtype, n, i))
                end
            end
        end)
    end

    it("depend on its values and its program alone", function() invariant({ 1, 2, 3, 4, 5 }) end)
    it("do so under long programs", function() invariant { 9, 17, 40 } end)
    it("do so with a residual", function() invariant({ 1, 2, 5, 20 }, true) end)

    -- Rows of one program share a kernel's tile where there are enough of them; alone they have one each.
    local function same_among_many(n, dtype, lengths, many, gates, with_residual)
        local e, tokens = engine(dtype, n), 20
        local rows, other = B.hidden(tokens, n, dtype), B.spec(B.random_ops(n, 3))
        local residual = with_residual and B.hidden(tokens, n, dtype)
        for _, length in ipairs(lengths) do
            local spec = B.spec(B.random_ops(n, length, { gates = gates or 0.2 }))
            local me = request(spec, tokens)
            local function steered(before, requests)
                local total = 0
                for _, r in ipairs(requests) do total = total + r.tokens end
                local h = T.randn({ total, n }, { dtype = dtype, device = B.device, seed = 11 })
                h:narrow(1, before + 1, tokens):copy_(rows)
                local r = residual and h:clone()
                if r then r:narrow(1, before + 1, tokens):copy_(residual) end
                e:plan(requests):apply(0, h, { residual = r or nil })
                return B.bytes(h:narrow(1, before + 1, tokens))
            end
            local alone = steered(0, { me })
            local WAYS = {
                { many + 3, { request(spec, many + 3), me, request(spec, many) } },
                { many + 5, { request(spec, many + 5), me, request(other, many) } },
                { many, { request(other, many), me, request(nil, many) } },
            }
            for i, way in ipairs(WAYS) do
                assert(alone == steered(way[1], way[2]),
                    ("%s, hidden %d, %d operations: other bits in way %d"):format(dtype, n, length, i))
            end
        end
    end

    it("are the same among thousands of rows", function()
        B.rounds(3, function()
            for _, dtype in ipairs(B.dtypes) do
                same_among_many(B.choose { 64, 264, 1000, 1001 }, dtype, { 1, 3, 7, 12, 40 }, B.many(1100))
            end
        end)
    end)
    it("are the same among long rows", function()
        B.rounds(1, function() same_among_many(B.choose { 8192, 8200 }, "bf16", { 6, 12 }, B.many(1060)) end)
    end)
    it("are the same among long rows of one vector or two", function()
        for i, n in ipairs { 5120, 12288, 16384 } do
            math.randomseed(i)
            same_among_many(n, B.choose { "f16", "bf16" }, { 1, 1, 2 }, B.many(1060), 0)
            same_among_many(n, B.choose { "f16", "bf16" }, { 1 }, B.many(1060), 0, true)
        end
    end)

    it("are the same in long rows of long programs", function()
        B.rounds(2, function()
            same_among_many(B.choose { 2048, 2120, 3072, 4096 }, B.choose { "f16", "bf16" }, { 12, 24, 70 },
                B.many(1100), 0)
        end)
    end)

    it("keep negative zeros that only a gate's vector would touch, beside any program", function()
        local n, v, g = 64, {}, {}
        for i = 1, n do v[i], g[i] = i % 2, 1 end
        local function vector(values) return T.from(values, { device = "cpu" }) end
        local me = steer.spec { [0] = {
            steer.cap(vector(v), { max = -1, when = { vector = vector(g), above = -1e30 } }), -- pushes along -v
        } }
        local cosine = steer.spec { [0] = {
            steer.cap(vector(v), { max = 1, when = { vector = vector(g), above = 0, cosine = true } }),
        } }
        for _, dtype in ipairs(B.dtypes) do
            local e = engine(dtype, n)
            local function steered(requests)
                local h = T.full({ #requests, n }, -0.0, { dtype = dtype, device = B.device })
                e:plan(requests):apply(0, h)
                return B.bytes(h:narrow(1, 1, 1))
            end
            local alone = steered { request(me, 1) }
            assert(alone ~= B.bytes(T.full({ 1, n }, -0.0, { dtype = dtype, device = B.device })), "it was not steered")
            assert(alone == steered { request(me, 1), request(cosine, 1) }, dtype .. ": other bits beside a cosine")
        end
    end)

    it("are those of the row itself where the residual is zero", function()
        B.rounds(10, function()
            for _, dtype in ipairs(B.dtypes) do
                local n, rows = B.choose { 1, 2, 31, 64, 65, 333, 2048, 2049 }, 6
                local e = engine(dtype, n)
                local plan = e:plan { { spec = B.spec(B.random_ops(n, B.choose { 1, 1, 2, 3 })), tokens = rows } }
                local h = B.hidden(rows, n, dtype)
                h:set(2, n, 0 / 0)
                h:set(3, 1, 1 / 0)
                h[4]:mul_(dtype == "f16" and 2 ^ 13 or 2 ^ 126) -- its update may overflow
                local delta, residual = h:clone(), h:clone():fill_(0)
                plan:apply(0, h)
                plan:apply(0, delta, { residual = residual })
                assert(B.bytes(h) == B.bytes(delta), ("%s, hidden %d"):format(dtype, n))
            end
        end)
    end)

    -- Captures an apply of the plan; a function that replays it.
    local function captured(plan, h, residual)
        local c, device = require "steer.core.c", steer.device(B.device)
        c.check(c.C.steer_graph_begin(device.handle))
        plan:apply(0, h, { residual = residual })
        local out = ffi.new("steer_graph *[1]")
        c.check(c.C.steer_graph_end(out, device.handle))
        local graph = ffi.gc(out[0], c.C.steer_graph_release)
        return function() c.check(c.C.steer_graph_launch(graph)) end
    end

    -- What was captured before the batches were known gives the bits of applies that know them.
    local function same_in_a_graph(dtype, n, rows, with_residual)
        local specs = {}
        for i, length in ipairs { 1, 2, 5, 9, 40 } do specs[i] = B.spec(B.random_ops(n, length, { gates = 0.2 })) end
        local function vector(seed) return T.randn({ n }, { device = "cpu", seed = seed }) end
        specs[6] = steer.spec { [0] = { steer.add(vector(1)) } }
        specs[7] = steer.spec { [0] = { steer.add(vector(2)), steer.cap(vector(3), { max = 0.1 }) } }
        specs[8], specs[9] = B.spec(B.random_all(n, 2)), B.spec(B.random_all(n, 3, { gates = 0.3 }))
        local plan, input = engine(dtype, n):plan({}, { rows = rows }), B.hidden(rows, n, dtype)
        local residual = with_residual and B.hidden(rows, n, dtype) or nil
        local h = input:clone()
        plan:update { { spec = specs[1], tokens = 2 } }
        plan:apply(0, h, { residual = residual })
        local replay = captured(plan, h, residual)
        local all = {}
        for i, spec in ipairs(specs) do all[i] = { spec = spec, tokens = i % 2 + 1 } end
        for i, batch in ipairs {
            { { spec = specs[1], tokens = rows } }, { { tokens = 3 }, { spec = specs[4], tokens = 9 } }, {},
            { { spec = specs[5], tokens = 1 }, { spec = specs[2], tokens = 20 }, { spec = specs[1], tokens = 7 } },
            { { spec = specs[6], tokens = 4 }, { spec = specs[7], tokens = 6 },
                { spec = specs[3], tokens = rows - 10 } },
            { { spec = specs[8], tokens = rows } },
            { { spec = specs[9], tokens = 2 }, { spec = specs[8], tokens = 9 } },
            all,
        } do
            plan:update(batch)
            h:copy_(input)
            replay()
            local direct = input:clone()
            engine(dtype, n):plan(batch, { rows = rows }):apply(0, direct, { residual = residual })
            assert(B.bytes(direct) == B.bytes(h), ("%s, hidden %d: other bits in batch %d"):format(dtype, n, i))
        end
    end

    it("are the same in a graph, replayed after updates with other specs and boundaries", function()
        if B.device == "cpu" then return pending("graphs need a GPU") end
        math.randomseed(23)
        for i, dtype in ipairs(B.dtypes) do
            same_in_a_graph(dtype, 200, 32)
            same_in_a_graph(dtype, B.choose { 64, 500, 512, 1000, 1001 }, 33, true)
            if not THIN or i ~= 2 then same_in_a_graph(dtype, B.choose { 1024, 2048, 4096 }, B.many(1100)) end
            if not THIN or i == 2 then same_in_a_graph(dtype, B.choose { 5120, 8192, 8200 }, 40) end
        end
    end)

    -- Captured for one request of all rows, replayed with runs that begin anywhere, also more than it has blocks for.
    local function same_in_pieces(dtype, n, rows, length, path)
        local specs = {}
        for i = 1, 7 do
            local caps = {}
            for k = 1, length do
                caps[k] = steer.cap(T.randn({ n }, { device = "cpu", seed = 8 * i + k }), { max = 0.1 })
            end
            specs[i] = steer.spec { [0] = caps }
        end
        local plan = engine(dtype, n):plan({ { spec = specs[1], tokens = rows } }, { rows = rows, path = path })
        local input = B.hidden(rows, n, dtype)
        local h = input:clone()
        plan:apply(0, h)
        local replay = captured(plan, h)
        for _, lengths in ipairs { { 1 }, { 3 }, { 2, 1, 4 }, { 37, 91, 64, 11 }, { rows } } do
            local batch, left = {}, rows
            while left > 0 do
                local tokens = math.min(left, lengths[#batch % #lengths + 1])
                batch[#batch + 1] = { spec = specs[#batch % 8 + 1], tokens = tokens } -- the eighth has none
                left = left - tokens
            end
            plan:update(batch)
            h:copy_(input)
            replay()
            local direct = input:clone()
            engine(dtype, n):plan(batch, { path = "loop" }):apply(0, direct)
            assert(B.bytes(direct) == B.bytes(h), ("%s, hidden %d, %d vectors, %s: other bits for requests of %s")
                :format(dtype, n, length, path, table.concat(lengths, ", ")))
        end
    end

    it("are the same in a graph replayed with more and shorter requests", function()
        if B.device == "cpu" then return pending("graphs need a GPU") end
        math.randomseed(29)
        for i, dtype in ipairs(B.dtypes) do
            for p, path in ipairs { "auto", "mixed" } do
                for l, length in ipairs { 1, 2, 4, 6 } do
                    if not THIN or (i + p + l) % 2 == 0 then
                        same_in_pieces(dtype, B.choose { 200, 512, 1024 }, B.many(1201), length, path)
                    end
                end
            end
            for _, length in ipairs { 8, 40 } do
                same_in_pieces(dtype, 8 * B.scaled(256), B.many(1201), length, "mixed")
            end
        end
    end)

    it("stay where no program covers it: NaN payloads, infinities and negative zeros too", function()
        local SPECIAL = {
            f32 = { 0x7fc00001, 0xffc12345, 0x7f800000, 0xff800000, 0x80000000, 0x00000001, 0x7fa00000, 0x3f800000 },
            f16 = { 0x7e01, 0xfe77, 0x7c00, 0xfc00, 0x8000, 0x0001, 0x7d00, 0x3c00 },
            bf16 = { 0x7fc1, 0xffd3, 0x7f80, 0xff80, 0x8000, 0x0001, 0x7fa0, 0x3f80 },
        }
        for _, dtype in ipairs(B.dtypes) do
            local host = T.zeros({ 12, N }, { device = "cpu", dtype = dtype })
            local bits = ffi.cast(dtype == "f32" and "uint32_t *" or "uint16_t *", host:data())
            for i = 0, 12 * N - 1 do bits[i] = SPECIAL[dtype][i % N + 1] end
            local before = B.bytes(host)
            local size = #before / 12
            for _, path in ipairs { "auto", "mixed", "loop" } do
                local plan = engine(dtype):plan({
                    { tokens = 2 }, { spec = ones_spec(), tokens = 3 },
                    { tokens = 1 }, { spec = ones_spec(), tokens = 1 },
                }, { rows = 12, path = path })
                local h = host:to(B.device):clone()
                plan:apply(0, h)
                plan:apply(1, h)
                local after = B.bytes(h)
                for _, range in ipairs { { 0, 2 }, { 5, 6 }, { 7, 12 } } do
                    assert.equal(before:sub(range[1] * size + 1, range[2] * size), after:sub(range[1] * size + 1,
                        range[2] * size))
                end
                assert.not_equal(before, after)
            end
        end
    end)

    it("are spoilt by a NaN in its own values only", function()
        local h = on_device(T.ones, { 3, N })
        h:set(2, 4, 0 / 0)
        local spec = steer.spec { [0] = { steer.ablate { 1, 2, 3, 4, 5, 6, 7, 8 } } }
        engine():plan({ { spec = spec, tokens = 3 } }):apply(0, h)
        for r, row in ipairs(h:totable()) do
            for _, x in ipairs(row) do assert.equal(r == 2, x ~= x) end
        end
    end)
end)
