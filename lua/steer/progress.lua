--- Progress on standard error: a bar with the time left on a terminal, elsewhere a line now and then.
local terminal = require "steer.repl.terminal"

local M = {}
local Progress = {}
Progress.__index = Progress

local LINE_SECONDS = 30  -- between lines, where there is no bar
local REDRAW_SECONDS = 0.1
local BAR_WIDTH = 20
local CLEAR_LINE = "\r\27[K"

--- Writes seconds as a clock: 0:07, 12:30, 3:00:00.
function M.clock(seconds)
    seconds = math.floor(seconds + 0.5)
    local hours, minutes = math.floor(seconds / 3600), math.floor(seconds / 60) % 60
    if hours > 0 then return ("%d:%02d:%02d"):format(hours, minutes, seconds % 60) end
    return ("%d:%02d"):format(minutes, seconds % 60)
end

-- Characters, where bytes are UTF-8: the first `width` of them.
local function cut(text, width)
    local count = 0
    for at in text:gmatch "()[^\128-\191]" do
        count = count + 1
        if count > width then return text:sub(1, at - 1) end
    end
    return text
end

--- Tells whether progress can be shown as a bar.
function M.on_terminal() return terminal.is_terminal(2) and (os.getenv("TERM") or "dumb") ~= "dumb" end

--- Begins to show progress.
-- @tparam string name what goes on
-- @tparam number total how many steps there are
-- @tparam function now gives seconds
-- @tparam[opt=0] number before how many of them were done before, which tell nothing of the time left
-- @return an object with begin, part, finish, note and close
function M.new(name, total, now, before)
    before = before or 0
    return setmetatable({
        name = name, total = total, done = before, before = before,
        now = now, start = now(), drawn = -math.huge, text = "", fraction = 0,
        bar = M.on_terminal(),
    }, Progress)
end

-- Time left, from the steps done here, or nil.
function Progress:left()
    local steps = self.done - self.before + self.fraction
    if steps <= 0 then return nil end
    return (self.now() - self.start) / steps * (self.total - self.before - steps)
end

function Progress:line()
    local part = self.total > 0 and (self.done + self.fraction) / self.total or 1
    local left = self:left()
    local bar = ""
    if self.bar then
        local full = math.floor(part * BAR_WIDTH)
        bar = "[" .. ("="):rep(full) .. (" "):rep(BAR_WIDTH - full) .. "] "
    end
    return ("%s %s%d/%d %3d%% %s %s"):format(self.name, bar, self.done, self.total, math.floor(part * 100),
        left and M.clock(left) .. " left" or "", self.text)
end

function Progress:draw(always)
    local now = self.now()
    if not always and now - self.drawn < (self.bar and REDRAW_SECONDS or LINE_SECONDS) then return end
    self.drawn = now
    if self.bar then
        io.stderr:write(CLEAR_LINE, cut(self:line(), terminal.size() - 1))
    else
        io.stderr:write(self:line(), "\n")
    end
end

--- Says that a step begins.
-- @tparam string text what it is
function Progress:begin(text)
    self.text, self.fraction = text, 0
    self:draw()
end

--- Says how far the step is, or of several at once how far they are together.
-- @tparam number fraction from 0 to 1, or to the number of steps that go on
function Progress:part(fraction)
    self.fraction = math.max(0, math.min(self.total - self.done, fraction))
    self:draw()
end

--- Says that the step is done.
function Progress:finish()
    self.done, self.fraction = self.done + 1, 0
    self:draw(self.done == self.total)
end

--- Prints a line of its own.
function Progress:note(text)
    io.stderr:write(self.bar and CLEAR_LINE or "", text, "\n")
    if self.bar then self:draw(true) end
end

--- Takes the bar away.
function Progress:close()
    if self.bar then io.stderr:write(CLEAR_LINE) end
end

local silent = {}
for _, name in ipairs { "begin", "part", "finish", "note", "close" } do silent[name] = function() end end

--- Shows nothing.
M.silent = silent

return M
