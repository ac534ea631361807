--- Edits one input, of one or several lines, on a terminal: Emacs keys, history, search, completion, paste.
local keys = require "steer.repl.keys"
local layout = require "steer.repl.layout"
local terminal = require "steer.repl.terminal"

local Editor = {}
Editor.__index = Editor

local SHOWN_CANDIDATES = 120

-- ---- The text: a list of characters and how many of them stand before the cursor ----------------------------------

function Editor:text(first, last)
    return table.concat(self.characters, "", first or 1, last or #self.characters)
end

function Editor:set(text, cursor)
    self.characters = layout.characters(text)
    self.cursor = cursor or #self.characters
end

function Editor:insert(text)
    local before, after = self:text(1, self.cursor), self:text(self.cursor + 1)
    self:set(before .. text .. after, #layout.characters(before .. text))
end

--- Takes the characters first..last out.
function Editor:cut(first, last)
    local removed = self:text(first, last)
    local rest = self:text(1, first - 1) .. self:text(last + 1)
    self:set(rest, first - 1)
    return removed
end

--- Takes characters out and keeps them for C-y; kills in a row add up.
function Editor:kill(first, last)
    if first > last then return end
    local backwards, removed = last == self.cursor, self:cut(first, last)
    local before = self.killing and self.killed or ""
    self.killed = backwards and removed .. before or before .. removed
    self.still_killing = true
end

local function in_word(character)
    return character ~= nil and character:find("^[%w_\128-\255]") ~= nil
end

--- Finds how many characters stand before the start of the word on the left (step -1) or the end of the one right.
function Editor:word(step)
    local at, last = self.cursor, step < 0 and 0 or #self.characters
    local function next_one() return self.characters[step < 0 and at or at + 1] end
    while at ~= last and not in_word(next_one()) do at = at + step end
    while at ~= last and in_word(next_one()) do at = at + step end
    return at
end

--- Finds how many characters stand before the line of the cursor, and before its end.
function Editor:line()
    local first, last = self.cursor, self.cursor
    while first > 0 and self.characters[first] ~= "\n" do first = first - 1 end
    while last < #self.characters and self.characters[last + 1] ~= "\n" do last = last + 1 end
    return first, last
end

--- Moves a line up or down; false if there is none.
function Editor:move_line(step)
    local first, last = self:line()
    local column = self.cursor - first
    if step < 0 and first > 0 then
        self.cursor = first - 1
    elseif step > 0 and last < #self.characters then
        self.cursor = last + 1
    else
        return false
    end
    first, last = self:line()
    self.cursor = math.min(first + column, last)
    return true
end

-- ---- Drawing -------------------------------------------------------------------------------------------------------

function Editor:prompts()
    if not self.search then return self.prompt end
    local text = ("(search '%s'%s) "):format(self.search.query, self.search.at and "" or ": nothing found")
    return { first = text, next = self.prompt.next, width = layout.width(text) }
end

-- Which row the cursor is on after the terminal was resized: it wraps each row that has become too long.
local function rewrapped_row(drawn, columns)
    local rows, row, column = layout.wrap(drawn.characters, drawn.cursor, drawn.prompts, drawn.columns)
    local at = 1 + math.floor(column / columns)
    for i = 1, row - 1 do
        local width = layout.width((rows[i]:gsub("\27%[[%d;]*m", "")))
        at = at + math.max(1, math.ceil(width / columns))
    end
    return at
end

--- Draws the input over what was drawn before; `at_end` puts the cursor behind it. Of an input that is taller than the
-- screen the rows around the cursor are shown.
function Editor:draw(at_end)
    local columns, height = terminal.size()
    local drawn = self.drawn
    if drawn and drawn.columns ~= columns then drawn.row = rewrapped_row(drawn, columns) end
    if drawn then drawn.row = math.min(drawn.row, height) end
    local prompts, cursor = self:prompts(), at_end and #self.characters or self.cursor
    local rows, row, column = layout.wrap(self.characters, cursor, prompts, columns)
    local first = math.max(1, math.min(row - math.floor(height / 2), #rows - height + 1))
    local last = math.min(#rows, first + height - 1)
    local out = { drawn and drawn.row > 1 and ("\27[%dA"):format(drawn.row - 1) or "", "\r\27[J" }
    out[#out + 1] = table.concat(rows, "\r\n", first, last)
    if last > row then out[#out + 1] = ("\27[%dA"):format(last - row) end
    out[#out + 1] = "\r" .. (column > 0 and ("\27[%dC"):format(column) or "")
    io.stdout:write(table.concat(out))
    io.stdout:flush()
    self.drawn = { row = row - first + 1, columns = columns, height = height, characters = self.characters,
        cursor = cursor, prompts = prompts }
end

--- Leaves the input on the screen and goes below it.
function Editor:leave_text(mark)
    self.search = nil
    self:draw(true)
    io.stdout:write(mark or "", "\r\n")
    io.stdout:flush()
    self.drawn = nil
end

-- ---- History -------------------------------------------------------------------------------------------------------

function Editor:recall(step)
    local entries, at = self.history.entries, self.at + step
    if at < 1 or at > #entries + 1 then return end
    self.edited[self.at] = self:text() -- what was typed is there on the way back
    self.at = at
    self:set(self.edited[at] or entries[at] or "")
end

--- Finds the query at or before entry `from` of the history.
function Editor:find(from)
    local entries, query = self.history.entries, self.search.query
    self.search.at = nil
    for i = math.min(from, #entries), 1, -1 do
        local start = query ~= "" and entries[i]:find(query, 1, true)
        if start then
            self.search.at = i
            self:set(entries[i], #layout.characters(entries[i]:sub(1, start - 1)))
            return
        end
    end
end

--- Handles a key during a search; true if that was all.
function Editor:search_key(key, text)
    local search = self.search
    if key == "text" then
        search.query = search.query .. text
        self:find(search.at or #self.history.entries)
    elseif key == "backspace" then
        local query = layout.characters(search.query)
        search.query = table.concat(query, "", 1, math.max(0, #query - 1))
        self:find(#self.history.entries)
    elseif key == "C-r" then
        self:find((search.at or #self.history.entries + 1) - 1)
    elseif key == "C-g" or key == "C-c" then
        self:set(search.before)
        self.search = nil
    else -- any other key takes what was found and acts on it
        if search.at then self.at = search.at end
        self.search = nil
        return key == "escape"
    end
    return true
end

-- ---- Completion ----------------------------------------------------------------------------------------------------

local function common_prefix(words)
    local prefix = words[1]
    for _, word in ipairs(words) do
        while word:sub(1, #prefix) ~= prefix do prefix = prefix:sub(1, -2) end
    end
    return prefix
end

-- Candidates in columns, as many as the screen has room for.
local function fitting(candidates, columns, height)
    local lines = layout.columns(candidates, columns, SHOWN_CANDIDATES)
    local most = math.max(1, height - 3)
    if #lines <= most then return lines end
    return layout.columns(candidates, columns, math.floor(math.min(SHOWN_CANDIDATES, #candidates) * most / #lines))
end

function Editor:complete()
    local first = self:line()
    if not self:text(first + 1, self.cursor):find("%S") then return self:insert("    ") end
    local before = self:text(1, self.cursor)
    local word, candidates = self.candidates(before)
    if #candidates == 0 then return end
    local extended = common_prefix(candidates)
    if extended ~= word and #extended >= #word then
        self:cut(self.cursor - #layout.characters(word) + 1, self.cursor)
        self:insert(extended)
    elseif #candidates > 1 then
        local cursor = self.cursor
        self:leave_text()
        for _, line in ipairs(fitting(candidates, terminal.size())) do io.stdout:write(line, "\r\n") end
        self.cursor = cursor
    end
end

-- ---- Keys: each a function of the editor; what it returns ends the input ------------------------------------------

local actions = {}

actions["C-a"] = function(self) self.cursor = self:line() end
actions["C-e"] = function(self) self.cursor = select(2, self:line()) end
actions["C-b"] = function(self) self.cursor = math.max(0, self.cursor - 1) end
actions["C-f"] = function(self) self.cursor = math.min(#self.characters, self.cursor + 1) end
actions["M-b"] = function(self) self.cursor = self:word(-1) end
actions["M-f"] = function(self) self.cursor = self:word(1) end
actions["C-p"] = function(self) if not self:move_line(-1) then self:recall(-1) end end
actions["C-n"] = function(self) if not self:move_line(1) then self:recall(1) end end
actions["C-k"] = function(self)
    local _, last = self:line()
    self:kill(self.cursor + 1, math.max(last, math.min(self.cursor + 1, #self.characters))) -- at its end the newline
end
actions["C-u"] = function(self) self:kill(self:line() + 1, self.cursor) end
actions["M-backspace"] = function(self) self:kill(self:word(-1) + 1, self.cursor) end
actions["M-d"] = function(self) self:kill(self.cursor + 1, self:word(1)) end
actions["C-w"] = function(self) -- back to white space
    local at = self.cursor
    while at > 0 and self.characters[at]:find("%s") do at = at - 1 end
    while at > 0 and not self.characters[at]:find("%s") do at = at - 1 end
    self:kill(at + 1, self.cursor)
end
actions["C-y"] = function(self) self:insert(self.killed) end
actions["C-t"] = function(self)
    local at, list = math.min(self.cursor + 1, #self.characters), self.characters
    if at < 2 then return end
    local swapped = self:text(1, at - 2) .. list[at] .. list[at - 1] .. self:text(at + 1)
    self:set(swapped, at)
end
actions["backspace"] = function(self) if self.cursor > 0 then self:cut(self.cursor, self.cursor) end end
actions["delete"] = function(self)
    if self.cursor < #self.characters then
        local cursor = self.cursor
        self:cut(cursor + 1, cursor + 1)
    end
end
actions["C-l"] = function(self)
    io.stdout:write("\27[H\27[2J")
    self.drawn = nil
end
actions["C-r"] = function(self) self.search = { query = "", before = self:text() } end
actions["C-z"] = function(self)
    self:leave_text()
    terminal.suspend()
end
actions["C-c"] = function(self)
    self:leave_text("^C")
    return "dropped"
end
actions["C-d"] = function(self)
    if #self.characters > 0 then return actions.delete(self) end
    self:leave_text()
    return "left"
end
actions["M-enter"] = function(self) self:insert("\n") end
actions["enter"] = function(self)
    local text = self:text()
    if self.is_open(text) then return self:insert("\n") end
    self:leave_text()
    return "entered"
end
actions["tab"] = Editor.complete

for other, key in pairs {
    left = "C-b", right = "C-f", home = "C-a", ["end"] = "C-e", up = "C-p", down = "C-n", ["C-left"] = "M-b",
    ["C-right"] = "M-f", ["M-left"] = "M-b", ["M-right"] = "M-f", ["M-delete"] = "M-d", ["C-delete"] = "M-d",
} do
    actions[other] = actions[key]
end

local function step(self, key, text)
    if self.search and self:search_key(key, text) then return end
    self.killing, self.still_killing = self.still_killing, false
    if key == "text" or key == "paste" then return self:insert(text) end
    local action = actions[key]
    return action and action(self)
end

local RESIZE_MS = 100 -- between looks at the terminal's size, while no key comes

-- Waits for a key; the input is drawn anew where the terminal gets another size.
local function wait(self)
    if not terminal.ready(0) then self:draw() end -- a burst of keys is drawn once
    while not terminal.ready(RESIZE_MS) do
        local columns, height = terminal.size()
        if columns ~= self.drawn.columns or height ~= self.drawn.height then self:draw() end
    end
end

local function edit(self)
    while true do
        wait(self)
        local key, text = keys.read(terminal)
        if not key then return "left" end
        local outcome = step(self, key, text)
        if outcome then return outcome end
    end
end

--- Reads an input.
-- @return its text; or nil and "dropped" (Ctrl-C), "left" (Ctrl-D, or the terminal is gone)
function Editor:read()
    self:set("")
    self.at, self.edited, self.drawn, self.search = #self.history.entries + 1, {}, nil, nil
    if not terminal.enter() then return nil, "left" end
    -- A row of blanks ends in the next row if output has left the cursor behind some text, and in this one if not.
    io.stdout:write((" "):rep((terminal.size())), "\r")
    local ok, outcome = pcall(edit, self)
    terminal.leave()
    if not ok then error(outcome, 0) end
    if outcome ~= "entered" then return nil, outcome end
    return self:text()
end

local M = {}

--- Makes an editor.
-- @tparam table options history; prompt {first=, next=, width=}; is_open(text): does it go on in another line;
-- candidates(text before the cursor): the word to complete and what it may become
function M.new(options)
    return setmetatable({
        history = options.history, prompt = options.prompt, is_open = options.is_open, candidates = options.candidates,
        killed = "",
    }, Editor)
end

return M
