-- Scopes and conditions: which rows `where` and `exclude` select, and what `when` reads.
-- devices: cpu cuda
local B = require "batches"
local steer = require "steer"
local T = steer.tensor
local fails = B.fails

local N = 8

local function on_device(make, shape, dtype) return make(shape, { device = B.device, dtype = dtype }) end
local function engine(dtype, hidden)
    return steer.engine { hidden = hidden or N, dtype = dtype or "f32", device = B.device }
end

-- Adds 1 to every element, so that a steered row of zeros holds ones.
local function ones(opts) return steer.add(T.ones({ N }, { device = "cpu" }), 1, opts) end
local function ones_spec(opts) return steer.spec { [0] = { ones(opts) } } end

-- Which rows of a plan's batch are steered on a layer, from 0, as a list.
local function steered_rows(plan, rows, layer)
    local h = on_device(T.zeros, { rows, N })
    plan:apply(layer or 0, h)
    local list, values = {}, h:totable()
    for r = 1, rows do
        if values[r][1] ~= 0 then list[#list + 1] = r - 1 end
    end
    return list
end

describe("where", function()
    -- { where, exclude, request, the rows that are steered }
    local prompt = { tokens = 6, prompt_tokens = 6 }
    local chunk = { tokens = 4, position = 4, prompt_tokens = 10 } -- positions 4 to 7 of 10
    local last = { tokens = 2, position = 8, prompt_tokens = 10 }
    local decode = { tokens = 1, phase = "generation", position = 12, prompt_tokens = 10 } -- third generated token
    local draft = { tokens = 3, phase = "generation", position = 10, prompt_tokens = 10 }
    local ids = { tokens = 4, token_ids = { 5, 6, 5, 7 } }
    local CASES = {
        { { prompt = "all" }, nil, prompt, { 0, 1, 2, 3, 4, 5 } },
        { { prompt = "all" }, nil, decode, {} },
        { { generation = "all" }, nil, prompt, {} },
        { { generation = "all" }, nil, draft, { 0, 1, 2 } },
        { { prompt = "all", generation = "all" }, nil, decode, { 0 } },
        { { prompt_positions = { 0, -1 } }, nil, prompt, { 0, 5 } },
        { { prompt_positions = { 0, -1 } }, nil, chunk, {} },
        { { prompt_positions = { 5, -4, -1 } }, nil, chunk, { 1, 2 } },
        { { prompt_positions = { 0, -1 } }, nil, last, { 1 } },
        { { prompt_positions = { 12 } }, nil, decode, {} },
        { { prompt_window = { 1, 3 } }, nil, prompt, { 1, 2 } },
        { { prompt_window = { 5, -5 } }, nil, prompt, {} }, -- of this prompt, not of every one
        { { prompt_window = { -3, -1 } }, nil, prompt, { 3, 4 } },
        { { prompt_window = { 2, -2 } }, nil, prompt, { 2, 3 } },
        { { prompt_window = { 0, 6 } }, nil, chunk, { 0, 1 } },
        { { generation_positions = { 0, 2 } }, nil, decode, { 0 } },
        { { generation_positions = { 0, 2 } }, nil, draft, { 0, 2 } },
        { { generation_positions = { 1 } }, nil, decode, {} },
        { { generation_window = { 0, 2 } }, nil, draft, { 0, 1 } },
        { { generation_window = { 0, 2 } }, nil, decode, {} },
        { { token_ids = { 5 } }, nil, ids, { 0, 2 } },
        { { token_ids = { 9 } }, nil, ids, {} },
        { { token_ids = { 7 }, prompt_positions = { 1 } }, nil, ids, { 1, 3 } },
        { nil, { token_ids = { 5 } }, ids, { 1, 3 } },
        { nil, { prompt = "all" }, prompt, {} },
        { nil, { prompt_positions = { -1 } }, prompt, { 0, 1, 2, 3, 4 } },
        { { prompt_window = { 1, 5 } }, { prompt_positions = { 2, 3 } }, prompt, { 1, 4 } },
        { { prompt_positions = { 2 } }, { prompt_positions = { 2 } }, prompt, {} },
    }
    for i, case in ipairs(CASES) do
        it("selects the rows of case " .. i, function()
            local e = engine()
            local request = {}
            for key, value in pairs(case[3]) do request[key] = value end
            request.spec = ones_spec { where = case[1], exclude = case[2] }
            for _, path in ipairs { "auto", "mixed", "loop" } do
                local plan = e:plan({ { tokens = 1 }, request }, { path = path })
                local expected = {}
                for k, row in ipairs(case[4]) do expected[k] = row + 1 end
                assert.same(expected, steered_rows(plan, request.tokens + 1))
                assert.same(#expected == 0 and { 2 } or {}, plan:explain(0).idle_specs)
            end
        end)
    end

    it("scopes each operation by itself", function()
        local spec = steer.spec { [0] = {
            ones { where = { prompt_positions = { 0 } } }, ones { where = { prompt_window = { 0, 2 } } }, ones(),
        } }
        local h = on_device(T.zeros, { 3, N })
        engine():plan({ { spec = spec, tokens = 3, prompt_tokens = 3 } }):apply(0, h)
        assert.same({ 3, 2, 1 }, h:select(2, 1):totable())
    end)

    it("says what a request lacks", function()
        local e = engine()
        local function plan(where, request)
            request.spec = ones_spec { where = where }
            return function() e:plan { { tokens = 1 }, request } end
        end
        fails("invalid_argument", plan({ token_ids = { 1 } }, { tokens = 1 }), "requests[2]", "token_ids")
        fails("invalid_argument", plan({ prompt_positions = { -1 } }, { tokens = 1 }), "requests[2]", "prompt_tokens")
        fails("invalid_argument", plan({ prompt_window = { 0, -1 } }, { tokens = 1 }), "requests[2]", "prompt_tokens")
        fails("invalid_argument", plan({ generation_positions = { 0 } }, { tokens = 1, phase = "generation" }),
            "requests[2]", "prompt_tokens")
        plan({ generation = "all" }, { tokens = 1, phase = "generation" })()
        plan({ prompt_positions = { 0 } }, { tokens = 1 })()
    end)

    it("refuses rows that do not lie where their request says", function()
        local e = engine()
        local function plan(where, request)
            request.spec = where and ones_spec { where = where } or nil
            return function() e:plan { { tokens = 1 }, request } end
        end
        for _, where in ipairs { { generation_positions = { 0 } }, { generation_window = { 0, 8 } }, false } do
            for position = 0, 9, 3 do
                local request = { tokens = 1, phase = "generation", position = position, prompt_tokens = 10 }
                fails("invalid_argument", plan(where, request), "requests[2]", "position", "before the end")
            end
            plan(where, { tokens = 1, phase = "generation", position = 10, prompt_tokens = 10 })()
            plan(where, { tokens = 0, phase = "generation", prompt_tokens = 10 })() -- of no rows nothing is wrong
        end
        for _, where in ipairs { { prompt_positions = { -1 } }, { prompt_window = { 0, 3 } }, false } do
            for _, at in ipairs { { 12, 0 }, { 11, 0 }, { 1, 10 }, { 5, 6 }, { 1, 2 ^ 53 } } do
                fails("invalid_argument", plan(where, { tokens = at[1], position = at[2], prompt_tokens = 10 }),
                    "requests[2]", "tokens", "a prompt of 10 tokens")
            end
            plan(where, { tokens = 5, position = 5, prompt_tokens = 10 })()
        end
        local before = { tokens = 1, phase = "generation", position = 10, prompt_tokens = 10 }
        local p = e:plan { before }
        before.position = 9
        fails("invalid_argument", function() p:update { before } end, "requests[1]", "position")
    end)

    it("refuses windows that hold no token of any sequence", function()
        for _, window in ipairs { { 2, 2 }, { 0, 0 }, { -1, -1 }, { 3, 2 }, { -1, -3 } } do
            for _, key in ipairs { "prompt_window", "generation_window" } do
                fails("invalid_argument", function() ones { where = { [key] = window } } end, key)
                fails("invalid_argument", function() ones { exclude = { [key] = window } } end, key)
            end
        end
    end)

    it("works with 64 different scopes, more are unsupported", function()
        local ops = {}
        for i = 1, 64 do ops[i] = ones { where = { prompt_positions = { i - 1 } } } end
        local spec = steer.spec { [0] = ops }
        local h = on_device(T.zeros, { 70, N })
        engine():plan({ { spec = spec, tokens = 70 } }):apply(0, h)
        for r, row in ipairs(h:totable()) do assert.equal(r <= 64 and 1 or 0, row[1]) end
        ops[65] = ones { where = { prompt_positions = { 64 } } }
        fails("unsupported", function() steer.spec { [0] = ops } end, "spec", "64")
    end)
end)

describe("when", function()
    local axis = { 1, 0, 0, 0, 0, 0, 0, 0 }

    -- Rows whose first elements are `values`, after a spec of `ops`.
    local function run(values, ops)
        local h = B.tensor({ #values, N }, "f32", function(i) return i % N == 0 and values[i / N + 1] or 0 end)
        engine():plan({ { spec = steer.spec { [0] = ops }, tokens = #values } }):apply(0, h)
        return h:totable()
    end
    local function last_column(values, ops)
        local out = {}
        for r, row in ipairs(run(values, ops)) do out[r] = row[N] end
        return out
    end
    local mark = { 0, 0, 0, 0, 0, 0, 0, 1 }

    it("compares the dot product", function()
        local values = { -3, 0.5, 1, 2, 3 }
        local function marked(when) return last_column(values, { steer.add(mark, 1, { when = when }) }) end
        assert.same({ 0, 0, 0, 1, 1 }, marked { vector = axis, above = 1 })
        assert.same({ 1, 1, 0, 0, 0 }, marked { vector = axis, below = 1 })
        local long = { 4, 0, 0, 0, 0, 0, 0, 0 } -- not normalised
        assert.same({ 0, 1, 1, 1, 1 }, marked { vector = long, above = 1 })
    end)

    it("compares the cosine, 0 for a row of zeros", function()
        local gate = { vector = { 5, 0, 0, 0, 0, 0, 0, 0 }, above = 0.5, cosine = true }
        assert.same({ 0, 0, 1, 1 }, last_column({ -3, 0, 0.001, 9 }, { steer.add(mark, 1, { when = gate }) }))
        gate = { vector = axis, below = 0.5, cosine = true }
        assert.same({ 1, 1, 0, 0 }, last_column({ -3, 0, 0.001, 9 }, { steer.add(mark, 1, { when = gate }) }))
    end)

    it("reads h as the operations before it left it", function()
        local gated = steer.add(mark, 1, { when = { vector = axis, above = 1.5 } })
        assert.same({ 0, 1 }, last_column({ 1, 2 }, { gated }))
        assert.same({ 1, 1 }, last_column({ 1, 2 }, { steer.add(axis, 1), gated }))
        assert.same({ 0, 0 }, last_column({ 1, 2 }, { steer.cap(axis, { max = 1 }), gated }))
        assert.same({ 0, 1 }, last_column({ 1, 2 }, { gated, steer.cap(axis, { max = 1 }) }))
        local cosine = steer.add(mark, 1, { when = { vector = axis, above = 0.9, cosine = true } })
        assert.same({ 1, 1 }, last_column({ 1, 2 }, { cosine }))
        local sideways = { 0, 5, 0, 0, 0, 0, 0, 0 }
        assert.same({ 0, 0 }, last_column({ 1, 2 }, { steer.add(sideways), cosine }))
    end)
end)
