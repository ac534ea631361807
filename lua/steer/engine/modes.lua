--- Compile modes: what the options of engines and plans mean, and the names of what explain reports.
local ffi = require "ffi"
local c = require "steer.core.c"
local check = require "steer.core.check"
local raise = require("steer.core.error").raise

local C = c.C
local M = {}

local MODES = {
    [false] = C.STEER_COMPILE_OFF, off = C.STEER_COMPILE_OFF, [true] = C.STEER_COMPILE_DEFAULT,
    default = C.STEER_COMPILE_DEFAULT, ["reduce-overhead"] = C.STEER_COMPILE_REDUCE_OVERHEAD,
}

--- Writes the options compile and wait into the descriptor of an engine or a plan; nil inherits.
-- @tparam string op operation for messages
-- @param desc steer_engine_desc or steer_plan_desc
-- @tparam table opts compile (false or "off", true or "default", "reduce-overhead"), wait (boolean)
function M.fill(op, desc, opts)
    if opts.compile ~= nil then
        local mode = MODES[opts.compile]
        if not mode then
            raise("invalid_argument", op, 'compile: %s, expected false or "off", true or "default", "reduce-overhead"',
                check.describe(opts.compile))
        end
        desc.compile = mode
    end
    if opts.wait ~= nil then desc.compile_background = opts.wait and -1 or 1 end
end

local MODE_NAMES = {
    [C.STEER_COMPILE_OFF] = "off", [C.STEER_COMPILE_DEFAULT] = "default",
    [C.STEER_COMPILE_REDUCE_OVERHEAD] = "reduce-overhead",
}
local STATES = {
    [C.STEER_COMPILE_STATE_OFF] = "off", [C.STEER_COMPILE_STATE_NONE] = "none",
    [C.STEER_COMPILE_STATE_COMPILING] = "compiling", [C.STEER_COMPILE_STATE_READY] = "ready",
    [C.STEER_COMPILE_STATE_NOT_CHOSEN] = "not chosen", [C.STEER_COMPILE_STATE_FAILED] = "failed",
}
local SOURCES = {
    [C.STEER_COMPILE_SOURCE_COMPILED] = "compiled", [C.STEER_COMPILE_SOURCE_MEMORY] = "memory",
    [C.STEER_COMPILE_SOURCE_DISK] = "disk",
}

local function positive(x) return x > 0 and tonumber(x) or nil end

--- Reads the compile part of a steer_explain.
-- @treturn table mode, state, ms, source, ordinary_us, compiled_us, pays_back (applies), why; nil where unknown
function M.explain(out)
    local why = ffi.string(out.compile_why)
    return {
        mode = MODE_NAMES[tonumber(out.compile)], state = STATES[tonumber(out.compile_state)],
        ms = positive(out.compile_ms), source = SOURCES[tonumber(out.compile_source)],
        ordinary_us = positive(out.ordinary_us), compiled_us = positive(out.compiled_us),
        pays_back = positive(out.pays_back), why = why ~= "" and why or nil,
    }
end

local FROM = { compiled = "compiled", memory = "found in this process", disk = "found on disk" }

--- Says in one line what M.explain gave.
function M.text(compile)
    local parts = { ("%s, %s"):format(compile.mode, compile.state) }
    local function add(format, ...) parts[#parts + 1] = format:format(...) end
    if compile.source then add("%s in %.3g ms", FROM[compile.source], compile.ms or 0) end
    if compile.compiled_us and compile.ordinary_us then
        add("%.3g us, the ordinary kernel %.3g us", compile.compiled_us, compile.ordinary_us)
        add(compile.pays_back and "pays back after %d applies" or "never pays back", compile.pays_back)
    end
    return table.concat(parts, "; ") .. (compile.why and " (" .. compile.why .. ")" or "")
end

return M
