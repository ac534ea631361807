--- steer.sweep: declares a sweep, says which cases it has and runs them.
local axis = require "steer.axis"
local check = require "steer.core.check"
local code = require "steer.sweep.code"
local json = require "steer.core.json"
local options = require "steer.core.options"
local raise = require("steer.core.error").raise
local repeats = require "steer.sweep.repeats"
local tables = require "steer.core.tables"

local M = {}

local Sweep = {}
require("steer.core.class").strict(Sweep, "a sweep", { content = true })

local KNOWN = {
    name = "string", axes = true, skip = "function", run = "function", seed = "number", content = "string",
    repeats = "number",
}

--- Tells whether a value is a sweep.
function M.is(value)
    return getmetatable(value) == Sweep
end

-- The axes, and behind them that of the repeats.
local function read_axes(op, declaration)
    local axes, count, values = axis.declare(op, declaration.axes), declaration.repeats, {}
    if count == nil then return axes end
    for i = 1, check.integer(op, "repeats", count, 1, 1e6) do values[i] = i end
    for _, a in ipairs(axes) do
        if a.name == repeats.AXIS then raise("invalid_argument", op, "repeats: the axes have a %s too", a.name) end
    end
    axes[#axes + 1] = { name = repeats.AXIS, values = values }
    return axes
end

--- Declares a sweep.
-- @tparam table declaration
--   name: of letters, digits, _, . and -, the results file is called after it;
--   axes: name -> list of numbers, strings or booleans, or text as nvbench has it, {"hidden[pow2]=[10:13:1]",
--     "requests=[1,8,32]"}; texts keep their order, the last axis changes fastest;
--   run(case, ctx): measures one case, a table axis -> value. Returns metrics (name -> number), beside them
--     samples= {name = {numbers}} and path= (a string) if it likes; a result of bench.time, alone or as a value, is
--     gpu_us and wall_us with their quartiles and samples. ctx.device is the device, ctx.seed a number that depends on
--     the case and the sweep's seed alone (math.random and tensors without a seed begin with it too),
--     ctx.progress(fraction) shows how far the case is, ctx.skip(reason) leaves it out, ctx.cases lists all cases of
--     this run in their order, for a sweep that measures several at once and remembers them: it sets ctx.more = true
--     where the next case's results are remembered, whose lines then are synced to the disk together;
--   skip(case): the reason to leave the case out, or nil (optional);
--   repeats: how often each case runs, with another ctx.seed each time: an axis "repeats" of 1 to this number, the last
--     one, which compare, plot and report join (mean and 95 % interval);
--   seed: integer from 0 up (default 0);
--   content: what else results of one file have in common, such as a hash of the data (optional)
-- @treturn sweep
-- @raise invalid_argument
function M.new(declaration)
    local op = "sweep"
    check.type(op, "declaration", declaration, "table", "{name=, axes=, run=}")
    options.check(op, declaration, KNOWN, "declaration")
    local name = check.type(op, "name", declaration.name, "string", "a name for the sweep")
    if not name:find "^[%w_][%w_.-]*$" then
        raise("invalid_argument", op, 'name: "%s", expected letters, digits, _, . and -', name)
    end
    check.type(op, "run", declaration.run, "function", "a function that measures a case")
    return setmetatable({
        name = name, axes = read_axes(op, declaration), run = declaration.run,
        skip = declaration.skip or function() end, code = code.of(declaration.run),
        seed = check.integer(op, "seed", declaration.seed or 0, 0), content = declaration.content,
    }, Sweep)
end

-- A case that was named by its content, with all axes and nothing else.
local function check_case(op, self, case)
    if type(case) == "string" then
        local value, why = json.decode(case)
        if type(value) ~= "table" then
            raise("invalid_argument", op, "--case: expected a JSON object, got %s%s", case,
                why and " (" .. why .. ")" or "")
        end
        case = value
    end
    local known, out = {}, {}
    for _, a in ipairs(self.axes) do
        known[a.name] = true
        local value = case[a.name]
        local fault = axis.value_fault(value)
        if fault then raise("invalid_argument", op, "--case: %s: it %s", a.name, fault) end
        out[a.name] = value == 0 and 0 or value -- no -0, which is another text
    end
    options.check(op, case, known, "--case")
    return out
end

local function read_shard(op, shard)
    local i, n = shard:match "^(%d+)/(%d+)$"
    i, n = tonumber(i), tonumber(n)
    if not i or n < 1 or i < 1 or i > n then
        raise("invalid_argument", op, "--shard: %s, expected i/n with i from 1 to n, such as 1/4",
            check.describe(shard))
    end
    return i, n
end

local SELECTION = { axis = "table", only = "table", case = "table", shard = "string" }

--- Lists the cases that a run would have.
-- @tparam[opt] table opts
--   axis: list of texts that replace an axis' values; only: list of texts that name the values to keep;
--   case: list of cases (tables or JSON) to take instead of the grid;
--   shard: "i/n", every n-th case from the i-th on
-- @treturn table list of cases (axis -> value)
-- @treturn table list of the axes with the values they have now, {name=, values=}
-- @raise invalid_argument
function Sweep:cases(opts)
    local op = "sweep_cases"
    opts = options.check(op, opts, SELECTION)
    local axes = self.axes
    for _, text in ipairs(opts.axis or {}) do axes = axis.override(op, axes, text) end
    local kept, cases = axes, {}
    for _, text in ipairs(opts.only or {}) do kept = axis.filter(op, kept, text) end
    if opts.case and #opts.case > 0 then
        for i, case in ipairs(opts.case) do cases[i] = check_case(op, self, case) end
    else
        cases = axis.cases(op, kept)
    end
    if opts.shard then
        local i, n = read_shard(op, opts.shard)
        local mine = {}
        for at = i, #cases, n do mine[#mine + 1] = cases[at] end
        cases = mine
    end
    return cases, axes
end

--- Names of the axes in their order.
function Sweep:order()
    local names = {}
    for i, a in ipairs(self.axes) do names[i] = a.name end
    return names
end

local RUN = { output = "string", resume = "boolean", retry_failed = "boolean", device = true, seed = "number",
    code_changed = "boolean", command = "string", folder = "string", progress = "boolean" }

--- Runs the sweep's cases and writes a line for each to a results file (see record.lua).
-- @tparam[opt] table opts what sweep:cases takes, and
--   output: the results file (default NAME.jsonl; with a shard NAME.IofN.jsonl, also where it is given), "-" prints the
--     lines;
--   resume: go on with an existing file, leaving out the cases it holds;
--   retry_failed: the same, but cases that failed run again;
--   code_changed: go on although the script files have changed since the file's cases were measured;
--   device (default steer.device()); seed (default the sweep's); progress=false shows none
-- @treturn table path and how many cases were ok, skipped, failed, and kept from before (failed_before of them failed)
-- @raise invalid_argument; io (a file that exists without resume, a full disk); format (a file of another sweep, or
-- of other code); device (it is gone); interrupted. Results so far stay.
function Sweep:start(opts)
    local op = "sweep_start"
    local known, selection = {}, {}
    for _, key in ipairs(tables.keys(SELECTION)) do known[key] = SELECTION[key] end
    for _, key in ipairs(tables.keys(RUN)) do known[key] = RUN[key] end
    opts = options.check(op, opts, known)
    for _, key in ipairs(tables.keys(SELECTION)) do selection[key] = opts[key] end
    if opts.seed then check.integer(op, "seed", opts.seed, 0) end
    local cases, axes = self:cases(selection)
    return require("steer.sweep.run").start(self, cases, axes, opts)
end

function Sweep:__tostring()
    local lines = { "sweep " .. self.name }
    for i, a in ipairs(self.axes) do lines[i + 1] = ("  %s  %s"):format(a.name, axis.list(a.values, 80)) end
    return table.concat(lines, "\n")
end

return M
