-- What steers nothing is said once on standard error; lists with holes or keys are refused.
local files = require "files"
local H = require "helper"
local steer = require "steer"
local warn = require "steer.core.warn"
local T = steer.tensor
local fails = H.fails

-- What fn writes to standard error.
local function said(fn)
    local real, text = io.stderr, {}
    warn.reset()
    io.stderr = { write = function(_, ...) -- luacheck: ignore 122
        for _, part in ipairs { ... } do text[#text + 1] = part end
    end }
    collectgarbage() -- plans of other tests are no part of it
    warn.reset()
    for i = #text, 1, -1 do text[i] = nil end
    local ok, err = pcall(fn)
    collectgarbage()
    io.stderr = real -- luacheck: ignore 122
    if not ok then error(err, 0) end
    return table.concat(text)
end

local function count(text, pattern)
    local _, n = text:gsub(pattern, "")
    return n
end

local e = steer.engine { hidden = 2, device = "cpu" }
local function add(where) return steer.add({ 1, 1 }, 1, { where = where }) end
local function rows(n) return T.zeros({ n, 2 }, { device = "cpu" }) end

describe("a warning", function()
    it("says once that a spec of generated tokens has a request without a phase", function()
        local spec = steer.spec { [0] = { add { generation = "all" }, add { generation_positions = { 0 } } } }
        local text = said(function()
            for _ = 1, 3 do e:plan { { tokens = 1 }, { spec = spec, tokens = 1 } } end
        end)
        assert.equal(1, count(text, "phase"))
        assert.truthy(text:find("requests[2]", 1, true))
        assert.equal("", said(function()
            e:plan { { spec = spec, tokens = 1, phase = "prompt" } }
            e:plan { { spec = spec, tokens = 1, phase = "generation", position = 1, prompt_tokens = 1 } }
            e:plan { { spec = steer.spec { [0] = { add { generation = "all", prompt = "all" } } }, tokens = 1 } }
            e:plan { { spec = steer.spec { [0] = { add(), add { generation = "all" } } }, tokens = 1 } }
        end))
        fails("no_effect", "requests[1]", e.plan, e, { { spec = spec, tokens = 1 } }, { strict = true })
    end)

    it("says once that a spec has none of the positions of a prompt", function()
        local lm = steer.model("tests/fixtures/demo-model", { device = "cpu", progress = false })
        local v = T.randn({ 192 }, { seed = 1, device = "cpu" })
        local function generate(...)
            local ops = {}
            for i, where in ipairs { ... } do ops[i] = steer.add(v, 1, { where = where }) end
            local request = { tokens = { 1, 2, 3 }, spec = steer.spec { [1] = ops }, max_tokens = 2 }
            return said(function() lm:generate { { tokens = { 1 } }, request, request } end)
        end
        for _, where in ipairs { { prompt_positions = { 100 } }, { prompt_positions = { 3, -4 } },
            { prompt_window = { 3, 9 } }, { prompt_window = { -9, -3 } } } do
            local text = generate(where)
            assert.equal(1, count(text, "its prompt of 3 tokens does not have"))
            assert.truthy(text:find("requests[2]: its spec steers positions that its prompt of 3 tokens does not "
                .. "have, where " .. require("steer.spec.scope").text(where), 1, true), text)
        end
        for _, where in ipairs { { prompt_positions = { 9, 2 } }, { prompt_positions = { -3 } },
            { prompt_window = { 2, 9 } }, { prompt_window = { -9, -2 } },
            { prompt_positions = { 9 }, token_ids = { 7 } }, { prompt_positions = { 9 }, generation = "all" },
            { generation_positions = { 0 } } } do
            assert.equal("", generate(where))
        end
        assert.equal("", generate({ prompt_positions = { 9 } }, { prompt = "all" }))
        assert.equal("", said(function() lm:generate { { tokens = { 1 }, spec = steer.spec {}, max_tokens = 1 } } end))
        lm:close()
    end)

    it("says once that only layers were applied that no spec names", function()
        local spec = steer.spec { [3] = { add() }, [5] = { add() } }
        local function apply(layers)
            return function()
                local plan = e:plan { { spec = spec, tokens = 2 } }
                for _ = 1, 2 do
                    for _, layer in ipairs(layers) do plan:apply(layer, rows(2)) end
                    plan:update { { spec = spec, tokens = 1 } }
                end
            end
        end
        for _, layers in ipairs { { 4 }, { 6, 7 }, { 0 } } do
            assert.equal(1, count(said(apply(layers)), "layer%(?s? were applied"), layers[1])
        end
        for _, layers in ipairs { { 0, 1, 2, 3, 4, 5 }, { 5 }, { 4, 3 }, {} } do
            assert.equal("", said(apply(layers)))
        end
        -- At the plan's end too, however it comes.
        local function last(finish)
            return function()
                local plan = e:plan { { spec = spec, tokens = 2 } }
                plan:apply(4, rows(2))
                if finish then plan:close() end
            end
        end
        assert.equal(1, count(said(last(true)), "were applied"))
        assert.equal(1, count(said(last(false)), "were applied"))
        assert.equal("", said(function() e:plan { { tokens = 2 } }:apply(4, rows(2)) end))
    end)
end)

describe("a list with a hole or a key", function()
    local HOLES = { { 1, nil, 3 }, { nil, 2 }, { 1, 2, x = 3 }, { 1, 2, [0] = 3 }, { 1, 2, [2.5] = 3 }, { [2] = 1 } }

    it("is refused wherever one is taken", function()
        local plan = e:plan { { tokens = 2 } }
        local function ids(list)
            e:plan { { tokens = 2, token_ids = list } }
        end
        local h = rows(2)
        for i, list in ipairs(HOLES) do
            for name, fn in pairs {
                from = function() T.from(list) end, nested = function() T.from { { 1, 2, 3 }, list } end,
                zeros = function() T.zeros(list) end, ids = function() ids(list) end,
                vector = function() steer.add(list) end, layers = function() plan:graph(list, h) end,
                where = function() add { token_ids = list } end,
                tensors = function()
                    local tensors = {}
                    for key in pairs(list) do tensors[key] = h end
                    plan:graph({ 0, 1 }, tensors)
                end,
                cat = function()
                    local tensors = {}
                    for key in pairs(list) do tensors[key] = h end
                    T.cat(tensors)
                end,
                ops = function()
                    local ops = {}
                    for key in pairs(list) do ops[key] = add() end
                    steer.spec { [0] = ops }
                end,
                requests = function()
                    local requests = {}
                    for key in pairs(list) do requests[key] = { tokens = 1 } end
                    e:plan(requests)
                end,
            } do
                local ok, err = pcall(fn)
                assert(not ok and err.code == "invalid_argument", ("%s %d: %s"):format(name, i, tostring(err)))
                assert(err.message:find "holes" or err.message:find "found the key" or err.message:find "got nothing",
                    ("%s %d: %s"):format(name, i, tostring(err)))
            end
        end
    end)

    it("is told from lists that were filled in any order", function()
        local list = {}
        for i = 40, 1, -1 do list[i] = i end
        assert.equal(820, T.from(list, { device = "cpu" }):sum())
        list = {}
        for i = 1, 9, 2 do list[i] = 1 end
        for i = 2, 8, 2 do list[i] = 1 end
        assert.equal(9, T.from(list, { device = "cpu" }):sum())
        list[5], list[9] = nil, nil
        fails("invalid_argument", "", T.from, list)
    end)
end)

teardown(files.done)
