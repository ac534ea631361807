-- Random calls with random, often wrong, arguments: each works or raises an error of the library, and nothing crashes.
-- devices: cpu cuda
local B = require "batches"
local steer = require "steer"
local error_object = require "steer.core.error"
local T = steer.tensor
local random, choose, chance = math.random, B.choose, B.chance

local N = 4
local VECTORS = {
    T.ones({ N }, { device = B.device }), { 1, 2, 3, 4 }, T.ones({ N }, { device = "cpu", dtype = "bf16" }),
}
local JUNK = {
    0, 1, -1, 2, 1.5, 0 / 0, 1 / 0, -1 / 0, 2 ^ 53, 2 ^ 63, "x", "", true, false, {}, { 1 }, { nil, 2 }, { a = 1 },
    T.ones({ 3 }, { device = "cpu" }), T.zeros({ N }, { device = B.device }), T.ones({ 2, N }, { device = B.device }),
    T.ones({ N }, { device = "cpu", dtype = "i32" }), 0LL, print, io.stdout, coroutine.create(print),
}
local KEYS = {
    "where", "when", "exclude", "vector", "above", "normalize", "min", "max", "spec", "tokens", "phase", "position",
    "path", "rows", "strict", "hidden", "dtype", "device", "residual", "token_ids", "compile", "wait",
}

local KINDS = { "op", "spec", "engine", "plan", "graph" }

-- What earlier calls made, at most 20 of each kind.
local made = { op = {}, spec = {}, engine = {}, plan = {}, graph = {} }
local function keep(kind, thing)
    local list = made[kind]
    list[#list < 20 and #list + 1 or random(20)] = thing
end
local function any(kind) return made[kind][random(math.max(1, #made[kind]))] end

local function junk()
    if chance(0.2) then return any(choose(KINDS)) end
    if chance(0.1) then return nil end
    return choose(JUNK)
end

-- Mostly what `make` makes, sometimes junk.
local function maybe(make)
    if chance(0.8) then return make() end
    return junk()
end

local function vector() return maybe(function() return choose(VECTORS) end) end
local function number() return maybe(random) end
local function list(make, most)
    return maybe(function()
        local items = {}
        for i = 1, random(0, most) do items[i] = maybe(make) end
        return items
    end)
end

local function selector()
    local name = choose {
        "prompt", "generation", "prompt_positions", "prompt_window", "generation_window", "token_ids",
    }
    local value = "all"
    if name:find "_" then value = name:find "window" and { random(0, 2), random(2, 4) } or { random(0, 3) } end
    return { [name] = maybe(function() return value end) }
end

local function op_options()
    local opts = chance(0.1) and { [choose(KEYS)] = junk() } or {}
    if chance(0.3) then opts.where = maybe(selector) end
    if chance(0.2) then opts.exclude = maybe(selector) end
    if chance(0.3) then opts.when = maybe(function() return { vector = vector(), above = number() } end) end
    return opts
end

local function request()
    local tokens = random(0, 3)
    local r = { tokens = maybe(function() return tokens end), spec = maybe(function() return any "spec" end) }
    if chance(0.3) then r.phase = maybe(function() return choose { "prompt", "generation" } end) end
    if chance(0.5) then r.position = maybe(function() return random(0, 9) end) end
    if chance(0.7) then r.prompt_tokens = maybe(function() return random(0, 9) end) end
    if chance(0.1) then r[choose(KEYS)] = junk() end
    if chance(0.6) then
        r.token_ids = maybe(function()
            local ids = {}
            for i = 1, tokens do ids[i] = random(0, 4) end
            return ids
        end)
    end
    return r
end

local CALLS = {
    function() keep("op", steer.add(vector(), number(), maybe(op_options))) end,
    function() keep("op", steer.ablate(vector(), number(), maybe(op_options))) end,
    function()
        local opts = op_options()
        opts.max = number()
        keep("op", steer.cap(vector(), opts))
    end,
    function()
        local layer = maybe(function() return random(0, 3) end)
        if layer == nil or layer ~= layer then layer = 0 end
        keep("spec", steer.spec { [layer] = list(function() return any "op" end, 3) })
    end,
    function()
        keep("engine", steer.engine(maybe(function()
            return { hidden = maybe(function() return N end), device = B.device, dtype = choose(B.dtypes) }
        end)))
    end,
    function()
        keep("plan", any("engine"):plan(list(request, 4), maybe(function()
            local path = choose { "auto", "mixed", "loop", "uniform" }
            local compile = choose { "off", false, "reduce-overhead" }
            return { rows = maybe(function() return random(20) end), path = path, compile = maybe(function()
                return compile
            end) }
        end)))
    end,
    function() any("plan"):update(list(request, 4)) end,
    function()
        local plan = any "plan"
        local rows = plan:explain(0).rows
        local h = maybe(function() return T.ones({ rows, N }, { device = B.device, dtype = plan.dtype }) end)
        plan:apply(maybe(function() return random(0, 3) end), h, chance(0.2) and { residual = junk() } or nil)
    end,
    function()
        local plan = any "plan"
        local shape = { plan:explain(0).rows, N }
        local function hidden() return T.ones(shape, { device = B.device, dtype = plan.dtype }) end
        local layers, one = list(function() return random(0, 3) end, 3), hidden()
        local hiddens = chance(0.5) and one or list(hidden, 3)
        keep("graph", plan:graph(layers, hiddens, chance(0.2) and { residual = maybe(hidden) } or nil))
    end,
    function() any("graph"):launch() end,
    function() return tostring(any "graph") .. tostring(any("graph"):stats().why) end,
    function() return tostring(any("plan"):explain(junk())) end,
    function() return tostring(any "spec") .. tostring(any "op") .. tostring(any("engine"):stats()) end,
    function() if chance(0.05) then any(choose(KINDS)):close() end end,
}

describe("misuse", function()
    it("ends in an error of the library", function()
        keep("op", steer.add(VECTORS[1]))
        keep("spec", steer.spec { [0] = { any "op" } })
        keep("engine", steer.engine { hidden = N, device = B.device })
        keep("plan", any("engine"):plan { { spec = any "spec", tokens = 2 } })
        keep("graph", any("plan"):graph({ 0 }, T.ones({ 2, N }, { device = B.device })))
        B.rounds(4, function()
            local worked, refused = 0, 0
            for _ = 1, 2000 do
                local ok, err = xpcall(choose(CALLS), function(e)
                    return error_object.is(e) and e or debug.traceback(e)
                end)
                if ok then worked = worked + 1 else refused = refused + 1 end
                if not ok and not error_object.is(err) then error(err, 0) end
            end
            assert(worked > 300 and refused > 300, worked .. " calls worked, " .. refused .. " were refused")
        end)
    end)
end)
