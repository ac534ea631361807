--- Inputs of earlier sessions, in ${XDG_STATE_HOME:-~/.local/state}/steer/history: a line each, with \n and \\ escaped.
-- Sessions only ever append a whole entry in one write, so several at once lose nothing.
local files = require "steer.io._file"
local terminal = require "steer.repl.terminal"

local M = {}
local History = {}
History.__index = History

local KEPT, KEPT_BYTES = 10000, 2 ^ 22 -- what a session reads of the file: entries, in so many bytes at its end

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

-- The end of the file; or nil and why it is no file to write to: opening a pipe would wait for somebody.
local function read_end(path)
    local found, file
    repeat found, file = pcall(files.open, path) until found or file.code ~= "interrupted" -- what ran before it was
    if not found and file.code == "not_found" then return "" end
    if not found then return nil, file.message end
    local from = math.max(0, file.size - KEPT_BYTES)
    local text = file:bytes(from, file.size - from, "the history")
    return from > 0 and (text:match "^[^\n]*\n(.*)$" or "") or text
end

--- Reads the history.
-- @tparam function warn called once, with a text, when the history cannot be written
function M.open(warn)
    local self = setmetatable({ entries = {}, warn = warn, folder = folder() }, History)
    if not self.folder then return self end
    local text, why = read_end(self.folder .. "/history")
    self.refused = why
    if not text then return self end
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
    local ok, why = nil, self.refused or "neither XDG_STATE_HOME nor HOME is set"
    if self.folder and not self.refused then
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
