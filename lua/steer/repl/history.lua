--- Inputs of earlier sessions, in ${XDG_STATE_HOME:-~/.local/state}/steer/history: a line each, with \n and \\ escaped.
-- Sessions only ever append a whole entry in one write, so several at once lose nothing.
local terminal = require "steer.repl.terminal"

local M = {}
local History = {}
History.__index = History

local KEPT = 10000 -- entries of the file that a session reads

local function folder()
    local state, home = os.getenv("XDG_STATE_HOME") or "", os.getenv("HOME") or ""
    if state:sub(1, 1) == "/" then return state .. "/steer" end -- relative ones are to be ignored
    if home ~= "" then return home .. "/.local/state/steer" end
end

local function escape(text)
    return (text:gsub("\\", "\\\\"):gsub("\n", "\\n"))
end

local function unescape(line)
    return (line:gsub("\\(.)", function(c) return c == "n" and "\n" or c end))
end

--- Reads the history.
-- @tparam function warn called once, with a text, when the history cannot be written
function M.open(warn)
    local self = setmetatable({ entries = {}, warn = warn, folder = folder() }, History)
    local file = self.folder and io.open(self.folder .. "/history", "rb")
    if not file then return self end
    local text = file:read("*a") or "" -- a folder of that name reads as nothing
    file:close()
    local lines = {}
    for line in text:gmatch("[^\n]+") do lines[#lines + 1] = line end
    for i = math.max(1, #lines - KEPT + 1), #lines do self.entries[#self.entries + 1] = unescape(lines[i]) end
    self.torn = text ~= "" and text:sub(-1) ~= "\n" -- a write that was cut off: do not grow that line
    return self
end

local function append(path, text)
    local file, why = io.open(path, "ab")
    if not file then return nil, why end
    file:setvbuf("full", #text + 1) -- one write
    local ok, message = file:write(text)
    local closed, late = file:close()
    return ok and closed, message or late
end

--- Adds an entry, unless it is blank or the last one again.
function History:add(text)
    local entries = self.entries
    if not text:find("%S") or entries[#entries] == text then return end
    entries[#entries + 1] = text
    local ok, why = nil, "neither XDG_STATE_HOME nor HOME is set"
    if self.folder then
        local line = (self.torn and "\n" or "") .. escape(text) .. "\n"
        ok, why = append(self.folder .. "/history", line)
        if not ok then
            terminal.make_folder(self.folder)
            ok, why = append(self.folder .. "/history", line)
        end
    end
    self.torn = self.torn and not ok
    if not ok and self.warn then
        self.warn("the history is not kept: " .. why)
        self.warn = nil
    end
end

return M
