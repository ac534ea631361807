--- The running render: where it is in the template, what it may still use, and how it fails.
--
-- Every node that is evaluated, every element that is made and every 16 bytes of text cost one step. One render runs at
-- a time: nothing that a template calls leads back into Lua code of a user.
local c = require "steer.core.c"
local error_object = require "steer.core.error"

local C = c.C
local M = {}

M.COMPILE, M.RENDER = "chat_template", "chat_template_render"

--- Steps that a render has. Twenty thousand are a long chat; ten million take about a second.
M.MAX_STEPS = 1e7
--- Levels that may be entered at once, over all calls of macros: what Lua's stack holds.
M.MAX_DEPTH = 2000
--- What a level of a nested value counts that is written or compared.
M.VALUE_LEVEL = 10
--- Levels of a template's own tree and of given values.
M.MAX_NESTING = 150

local POLL_STEPS = 5000

local left, next_poll = 0, 0
local depth = 0

--- Line of the template that runs.
M.line = 1

--- Begins a render.
function M.start()
    left, depth, M.line = M.MAX_STEPS, 0, 1
    next_poll = left - POLL_STEPS
end

local function with_line(err, line)
    err.line = line
    error(err, 0)
end

--- Raises a fault of what the template computes, which names the line that runs.
function M.fail(format, ...)
    local text = select("#", ...) > 0 and format:format(...) or format
    with_line(error_object.new("invalid_argument", M.RENDER, ("line %d: %s"):format(M.line, text)), M.line)
end

--- Raises a fault of the template's text.
function M.syntax(line, format, ...)
    local text = select("#", ...) > 0 and format:format(...) or format
    with_line(error_object.new("format", M.COMPILE, ("line %d: %s"):format(line, text)), line)
end

--- Raises what the template itself raises: its own words alone are the message.
function M.refuse(message)
    with_line(error_object.new("invalid_argument", M.RENDER, message), M.line)
end

local function poll()
    if C.steer_interrupt_pending() ~= 0 then
        C.steer_interrupt_clear()
        c.interrupted = true
        error_object.raise("interrupted", M.RENDER, "stopped by Ctrl-C")
    end
    if left < 0 then
        M.fail("the template does not end within %d steps, or makes too much text", M.MAX_STEPS)
    end
    next_poll = math.max(left - POLL_STEPS, 0)
end

--- Takes n steps.
function M.charge(n)
    left = left - n
    if left < next_poll then poll() end
end

--- Takes the steps of `bytes` of text.
function M.charge_text(bytes)
    left = left - bytes / 16
    if left < next_poll then poll() end
end

--- Goes `levels` deeper; leave() goes back. An error ends the render, so nothing needs to go back after one.
function M.enter(levels)
    depth = depth + levels
    if depth > M.MAX_DEPTH then M.fail("calls, loops or values are nested too deeply") end
end

function M.leave(levels) depth = depth - levels end

return M
