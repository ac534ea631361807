--- The interactive session: reads inputs from a terminal, a pipe or the command line, and prints what they give.
local commands = require "steer.repl.commands"
local complete = require "steer.repl.complete"
local c = require "steer.core.c"
local evaluate = require "steer.repl.evaluate"
local history = require "steer.repl.history"
local show = require "steer.repl.show"
local steer = require "steer"
local terminal = require "steer.repl.terminal"

local M = {}
local Session = {}
Session.__index = Session

local colours = { prompt = "\27[1;36m", error = "\27[31m", faint = "\27[2m" }

function Session:paint(name, text)
    return self.colour and colours[name] .. text .. "\27[0m" or text
end

-- What the session loads has the session's globals, unless it is given others.
local function share_loaders(env)
    for _, row in ipairs { { "load", 4 }, { "loadstring", 4 }, { "loadfile", 3 } } do
        local name, arguments = row[1], row[2]
        local original = _G[name]
        env[name] = function(...)
            local chunk, why = original(...)
            if not chunk then return nil, why end
            return select("#", ...) < arguments and setfenv(chunk, env) or chunk
        end
    end
    function env.dofile(path)
        local chunk, why = env.loadfile(path)
        if not chunk then error(why, 0) end
        return chunk()
    end
end

--- Makes a session. What is typed sees the globals, but what it sets stays in the session's own table, so that it
-- cannot disturb the library.
-- @tparam[opt] string from where its inputs come from, for messages; default their numbers
function M.new(from)
    -- `_` is held for the next input that mentions it; beyond that only weakly, so that it pins no memory.
    local results = setmetatable({}, { __mode = "v", __index = _G })
    local env = setmetatable({ steer = steer }, { __index = results })
    env._G = env
    local self = { env = env, from = from, results = results, commands = commands.commands,
        colour = terminal.has_colour() }
    self.keep_locals = evaluate.keep_locals(env)
    share_loaders(env)
    evaluate.stay_interruptible()
    c.check(c.C.steer_interrupt_install(0)) -- Ctrl-C never ends the process
    return setmetatable(self, Session)
end

function Session:complain(text)
    io.stdout:flush()
    io.stderr:write(terminal.is_terminal(2) and self:paint("error", text) or text, "\n")
end

-- ---- Running inputs ------------------------------------------------------------------------------------------------

-- Prints a value; one that can be drawn, such as a chart, is drawn above that where output is a terminal.
local function print_value(value, columns)
    local meta = debug.getmetatable(value)
    local draw = type(meta) == "table" and rawget(meta, "__draw")
    if draw and terminal.is_terminal(1) then draw(value) end
    print(show.text(value, columns))
end

--- Prints the results after the first `skip` unless muted, and keeps the first of them as `_`.
function Session:finish(muted, skip, ...)
    if skip > 0 then return self:finish(muted, 0, select(skip + 1, ...)) end
    local count = select("#", ...)
    if count > 0 and (...) ~= nil then
        rawset(self.env, "_", nil) -- what the user may have put there
        self.held = { (...) }
        self.results._ = (...)
    end
    if muted then return end
    local columns = terminal.size()
    for i = 1, count do print_value((select(i, ...)), columns) end
end

--- Gives a chunk the session's globals.
function Session:prepare(chunk)
    return setfenv(chunk, self.env)
end

-- What people type out of habit: "=x" is an expression in Lua's own prompt, "?x" and "x?" are help in others, and so
-- are the words that leave them.
local LEAVING = { exit = true, quit = true }

local function translate(text, env)
    local word = text:match "^%s*(%l+)%(?%)?%s*$"
    if LEAVING[word] and rawget(env, word) == nil then return ":quit" end
    local topic = text:match "^%s*([%w_.:]+)%?%s*$"
    if topic then return ":help " .. topic end
    return text:match("^%s*=(.*)$") or (text:gsub("^%s*%?", ":help "))
end

-- An input without what surrounds its running; it raises errors.
local function work(self, text)
    text = translate(text, self.env)
    if not text:find("%f[%w_]_%f[^%w_]") then self.held = nil end
    if text:find("^%s*:") then return commands.run(self, text:match("^%s*(.*)$")) end
    local chunk, muted, skip = evaluate.compile(text, self.from)
    if not chunk then error(muted, 0) end
    self:finish(muted, skip, self:prepare(chunk)(self.keep_locals))
end

-- Runs fn(self, ...) so that Ctrl-C stops it and an error is printed; gives whether it ended well. No result passes
-- through here: a forgotten slot of this frame would keep it from the collector.
local function guarded(self, fn, ...)
    local ok, why = evaluate.run(fn, self, ...)
    io.stdout:flush()
    if not ok then self:complain(tostring(why)) end
    return ok
end

--- Runs an input: a command, an expression or statements.
-- @return whether it ended well
function Session:input(text)
    if not text:find("%S") then return true end
    return guarded(self, work, text)
end

--- Runs a script in the session, with its arguments; what it returns is ignored.
-- @return false if the file cannot be read; its errors are printed and leave what ran before
function Session:script(path, ...)
    local chunk, why = loadfile(path)
    if chunk then
        guarded(self, function(session, ...) session:prepare(chunk)(...) end, ...)
        return true
    end
    local unread = why:find "^cannot " -- or else a syntax error, which names the script itself
    self:complain(unread and "steer repl: " .. why or why)
    return not unread
end

-- ---- Where inputs come from ----------------------------------------------------------------------------------------

local PROMPT, MORE = "steer> ", "    .. "

--- Tells whether an input goes on in another line.
local function is_open(text, env)
    text = translate(text, env)
    return not text:find("^%s*:") and text:find("%S") ~= nil and evaluate.is_open(text)
end

--- Makes the function that reads inputs with the editor.
local function editing_reader(self)
    local past = history.open(function(why) self:complain("steer: " .. why) end)
    local editor = require("steer.repl.editor").new {
        history = past, is_open = function(text) return is_open(text, self.env) end,
        prompt = { first = self:paint("prompt", PROMPT), next = self:paint("prompt", MORE), width = #PROMPT },
        candidates = function(before) return complete.candidates(self, before) end,
    }
    return function()
        local text, why = editor:read()
        if text then past:add(text) end
        return text or why == "dropped" and "" or nil
    end
end

--- Makes the function that reads inputs a line at a time. Prompts are for a terminal that cannot move its cursor.
local function plain_reader(self, prompts)
    return function()
        local text
        repeat
            if prompts then
                io.stdout:write(text and MORE or PROMPT)
                io.stdout:flush()
            end
            local line = io.stdin:read("*l")
            if c.C.steer_interrupt_pending() ~= 0 then -- the terminal dropped what was typed before Ctrl-C
                c.C.steer_interrupt_clear()
                text = nil
                if not prompts then return nil, "interrupted" end
            end
            if not line then return text end
            text = text and text .. "\n" .. line or line
        until not is_open(text, self.env)
        return text
    end
end

local function banner(self)
    local ok, devices = pcall(steer.devices) -- a late Ctrl-C interrupts it
    local names = {}
    for _, device in ipairs(ok and devices or {}) do names[#names + 1] = device.id end
    print(self:paint("faint", ("Steer %s, %s, :help lists commands, Ctrl-D leaves"):format(steer.version,
        table.concat(names, " "))))
end

--- Reads and runs inputs until the end of the input. At a terminal an error goes on; from a pipe it ends the session.
-- @return the exit status
function Session:loop()
    local typed = terminal.is_terminal(0)
    local read = typed and terminal.can_edit() and editing_reader(self) or plain_reader(self, typed)
    if typed then banner(self) end
    while not self.done do
        local text, why = read()
        if not text then return why == "interrupted" and 130 or 0 end
        if not self:input(text) and not typed then return evaluate.was_interrupted() and 130 or 1 end
    end
    return 0
end

return M
