--- `steer chat`: a conversation with a model that can be steered between the turns.
local failures = require "steer.cli._failure"
local words = require "steer.cli._args"
local wrap = require "steer.cli._wrap"

local raise, steering, terminal -- when a conversation begins: --help needs no library

local M = {}

M.usage = [[
usage: steer chat MODEL [OPTIONS]

Talks with a model that has a chat template: a folder as the hub lays it out, or a .gguf file. Ctrl-C ends an answer
and keeps what there is; Ctrl-D leaves; Alt-Enter begins a new line. A line that begins with / is a command:

  /steer FILE [SCALE] [@LAYERS]  adds the vectors of a file (safetensors, gguf, npy, svec), or uses its spec
  /steer [SCALE] [@LAYERS]       the same file at another scale or layers; /steer alone says what is steered
  /off                           unsteered again
  /continue                      goes on with the last answer, as it is steered now
  /compare                       the last answer again, steered and not, side by side
  /undo                          forgets the last turn; /reset forgets all
  /save FILE                     writes the conversation as JSON
  /quit                          leaves, as Ctrl-D does
  /help                          this list

Steering holds for the whole conversation: what comes next is as if it had been there from the start.

  --system TEXT                  what stands before the conversation
  --steer 'FILE [SCALE] [@LAYERS]'  steered from the start
  --max-tokens N                 of an answer (default 512)
  --temperature T (default 0.7), --top-k, --top-p, --min-p, --repetition-penalty, --seed
  --device ID, --dtype f32|f16|bf16

exit status: 0; 1 where something cannot be read or run; 2 wrong usage; 130 after Ctrl-C where input is no terminal.
]]

local KNOWN = {
    ["--system"] = { "system", "text" }, ["--steer"] = { "steer", "text" },
    ["--max-tokens"] = { "max_tokens", "number" },
    ["--temperature"] = { "temperature", "number" }, ["--top-k"] = { "top_k", "number" },
    ["--top-p"] = { "top_p", "number" }, ["--min-p"] = { "min_p", "number" },
    ["--repetition-penalty"] = { "repetition_penalty", "number" }, ["--seed"] = { "seed", "number" },
    ["--device"] = { "device", "text" }, ["--dtype"] = { "dtype", "text" }, ["--help"] = { "help", "flag" },
    ["-h"] = { "help", "flag" },
}

local function wrong(...) return words.wrong("chat", ...) end

-- ---- A conversation ------------------------------------------------------------------------------------------------

local Chat = {}
Chat.__index = Chat

local function new_chat(lm, given)
    local messages = {}
    if given.system then messages[1] = { role = "system", content = given.system } end
    return setmetatable({
        lm = lm, given = given, messages = messages, first = #messages,
        asked = 0,  -- questions so far, also forgotten ones: each has a seed of its own
        turns = {}, -- of those that are remembered: {seed =, steer = text or nil, ids =, finish =, text =}
    }, Chat)
end

-- The request that answers the messages, or goes on with the answer `response` (ids).
function Chat:request(spec, seed, response)
    local given, ids = self.given, self.lm:tokens_of("chat", { messages = self.messages })
    local count = #ids + #(response or {})
    local left = self.lm.context - count
    if left < 1 then
        raise("invalid_argument", "chat", "the conversation has %d tokens and the model's context is %d: %s", count,
            self.lm.context, "/undo or /reset makes room")
    end
    return {
        tokens = ids, response = response, spec = spec, max_tokens = math.min(given.max_tokens or 512, left),
        temperature = given.temperature or 0.7, top_k = given.top_k, top_p = given.top_p, min_p = given.min_p,
        repetition_penalty = given.repetition_penalty, seed = seed,
    }
end

local function write(text)
    io.stdout:write(text)
    io.stdout:flush()
end

-- Runs requests; gives the results, also of answers that Ctrl-C ended, nil if there is nothing yet.
function Chat:generate(requests)
    self.lm.last = nil
    local ok, results = pcall(self.lm.generate, self.lm, requests)
    if ok then return results end
    if type(results) ~= "table" or results.code ~= "interrupted" then error(results, 0) end
    require("steer.core.c").interrupted, self.interrupted = false, true
    return self.lm.last
end

-- Says why an answer ended that the model did not end.
function Chat:note_end(turn, request)
    if turn.finish ~= "length" then return end
    local full = #request.tokens + #turn.ids >= self.lm.context
    write(("[cut after %d tokens: %s]\n"):format(#turn.ids, full
        and "the model's context is full, /undo or /reset makes room" or "/continue goes on"))
end

-- Answers the messages as the text comes, or goes on with the answer of a turn; its text is "" where Ctrl-C came first.
function Chat:answer(turn, seed)
    local request, written, show = self:request(self.spec, seed, turn.ids), 0, wrap.writer()
    local results = self:generate {
        request,
        on_token = function(_, piece)
            show(piece)
            written = written + #piece
        end,
    }
    local result = results and results[1] or { text = turn.text or "", tokens = {}, finish = "interrupted" }
    if not turn.ids then show(result.text:sub(written + 1)) end -- what Ctrl-C held back
    write "\n"
    local ids = require("steer.core.tables").slice(turn.ids or {})
    for _, id in ipairs(result.tokens) do ids[#ids + 1] = id end
    turn.ids, turn.text, turn.finish = ids, result.text, result.finish
    self:note_end(turn, request)
end

function Chat:new_seed()
    self.asked = self.asked + 1
    return (self.given.seed or 0) + self.asked
end

function Chat:say(text)
    table.insert(self.messages, { role = "user", content = text })
    local turn = { seed = self:new_seed(), steer = self.spec and self.steered }
    local ok, err = pcall(self.answer, self, turn, turn.seed)
    if not ok or turn.text == "" and self.interrupted then
        table.remove(self.messages)
        if not ok then error(err, 0) end
        return write "stopped before there was an answer: the turn is forgotten\n"
    end
    table.insert(self.messages, { role = "assistant", content = turn.text })
    table.insert(self.turns, turn)
end

local commands = {}

-- Steering as given, or that of before at another scale or layers.
function Chat:read_steering(argument)
    local word = argument:match "^%s*(%S+)"
    if not (tonumber(word) or word:find "^@") then return steering.parse(argument) end
    if not self.last then
        raise("invalid_argument", "chat", "/steer %s: there is no file yet, expected /steer %s", argument,
            steering.FORM)
    end
    local given = steering.read(self.last.path, argument)
    if not argument:find "@" then given.layers = self.last.layers end
    if not argument:gsub("@%S*", ""):find "%S" then given.scale = self.last.scale end
    return given
end

function commands.steer(self, argument)
    if argument == "" then
        return write(self.spec and ("%s\n%s\n"):format(self.steered, tostring(self.spec)) or "unsteered\n")
    end
    local given = self:read_steering(argument)
    self.spec = steering.spec(self.lm, given)
    self.last, self.steered = given, steering.text(given)
    write(tostring(self.spec) .. "\n")
end

function commands.off(self)
    self.spec = nil
    write "unsteered\n"
end

-- Goes on with the last answer as it is steered now.
commands["continue"] = function(self)
    local turn = self.turns[#self.turns]
    if not turn then return write "there is no answer yet\n" end
    if turn.finish == "stop" then return write "the answer is complete\n" end
    local answer, steer = table.remove(self.messages), self.spec and self.steered
    local ok, err = pcall(self.answer, self, turn, self:new_seed())
    answer.content = turn.text
    table.insert(self.messages, answer)
    if not ok then error(err, 0) end
    if steer ~= turn.steer then turn.steer = (turn.steer or "unsteered") .. ", then " .. (steer or "unsteered") end
end

local LEAST_COLUMNS = 50 -- of a terminal that texts stand side by side on

function commands.compare(self)
    local turn = self.turns[#self.turns]
    if not turn then return write "there is no answer yet\n" end
    if not self.spec then return write "there is no steering to compare with: /steer FILE\n" end
    local answer = table.remove(self.messages)
    local ok, failure = pcall(function()
        local requests = { self:request(self.spec, turn.seed), self:request(nil, turn.seed) }
        local titles = { self.steered, "unsteered" }
        local width = terminal.size()
        if not terminal.is_terminal(1) or width < LEAST_COLUMNS then
            for i, result in ipairs(self:generate(requests) or {}) do
                write(("--- %s\n%s\n"):format(titles[i], result.text))
            end
            return
        end
        local columns = require("steer.cli._columns").new(titles, width, write)
        function requests.on_token(i, piece) columns:push(i, piece) end
        self:generate(requests)
        columns:finish()
    end)
    table.insert(self.messages, answer)
    if not ok then error(failure, 0) end
end

function commands.undo(self)
    if not table.remove(self.turns) then return write "there is no turn to forget\n" end
    table.remove(self.messages)
    table.remove(self.messages)
    write "the last turn is forgotten\n"
end

function commands.reset(self)
    while #self.messages > self.first do table.remove(self.messages) end
    self.turns = {}
    write "the conversation is forgotten\n"
end

-- The messages as JSON; an answer that was steered says how.
function Chat:text()
    local list, turn = setmetatable({}, { __jsontype = "array" }), 0
    for i, message in ipairs(self.messages) do
        list[i] = { role = message.role, content = message.content }
        if message.role == "assistant" then
            turn = turn + 1
            list[i].steer = self.turns[turn].steer
        end
    end
    return require("steer.core.json").encode(list) .. "\n"
end

function commands.save(self, path)
    if path == "" then raise("invalid_argument", "chat", "/save FILE: which file?") end
    local ffi, c = require "ffi", require "steer.core.c"
    local out, text = ffi.new("steer_file *[1]"), self:text()
    c.check(c.C.steer_file_create(out, path))
    local file = c.own(out[0], c.C.steer_file_release)
    c.check(c.C.steer_file_write(file, text, #text))
    c.check(c.C.steer_file_commit(file))
    write(path .. "\n")
end

function commands.quit(self) self.over = true end
commands.exit, commands.q = commands.quit, commands.quit -- what people try

function commands.help() write(M.usage:match "A line that.-\n\n(.-)\n\n" .. "\n") end

-- A line of input; errors of the library are said and end nothing.
function Chat:input(line)
    local name, argument = line:match "^/(%S*)%s*(.-)%s*$"
    self.interrupted = false
    local ok, err
    if name and not commands[name] then
        local near = require("steer.core.options").suggest(name, commands, "/", "")
        return write(("/%s: unknown%s /help lists the commands\n"):format(name, near == "" and "," or near))
    elseif name then
        ok, err = pcall(commands[name], self, argument)
    else
        ok, err = pcall(self.say, self, line)
    end
    if not ok then
        if type(err) ~= "table" then error(err, 0) end
        io.stderr:write(err.message and ("%s: %s"):format(err.code, err.message) or tostring(err), "\n")
    end
end

-- ---- The loop ------------------------------------------------------------------------------------------------------

-- Reads lines from a pipe, or from a terminal that cannot move its cursor.
local function plain_reader(typed)
    local C = require("steer.core.c").C
    return function()
        while true do
            if typed then write "> " end
            local line = io.read "*l"
            if C.steer_interrupt_pending() == 0 then return line end
            C.steer_interrupt_clear() -- the terminal dropped what was typed before Ctrl-C
            if not typed then raise("interrupted", "chat", "stopped by Ctrl-C") end
        end
    end
end

-- A function that gives the next line, nil at the end.
local function reader()
    if not terminal.can_edit() then return plain_reader(terminal.is_terminal(0)) end
    local history = { entries = {} }
    local editor = require("steer.repl.editor").new {
        history = history, prompt = { first = "> ", next = "  ", width = 2 }, is_open = function() return false end,
        candidates = function(before)
            local list = {}
            local word = before:match "^/(%w*)$"
            if word then
                for _, name in ipairs {
                    "compare", "continue", "help", "off", "quit", "reset", "save", "steer", "undo",
                } do
                    if name:sub(1, #word) == word then list[#list + 1] = name end
                end
                return word, list
            end
            local path = before:match "^/%w+ +(%S*)$"
            return path or "", path and terminal.files(path) or list
        end,
    }
    return function()
        while true do
            local line, why = editor:read()
            if line then
                if line ~= "" then table.insert(history.entries, line) end
                return line
            end
            if why == "left" then return nil end
        end
    end
end

local function work(given)
    local c, steer = require "steer.core.c", require "steer"
    raise, steering = require("steer.core.error").raise, require "steer.spec.command_line"
    terminal = require "steer.repl.terminal"
    c.check(c.C.steer_interrupt_install(0))
    local lm = steer.model(given[1], { device = given.device, dtype = given.dtype })
    if not lm.template then
        raise("not_found", "chat", "%s has no chat template; steer generate %s PROMPT goes without", given[1], given[1])
    end
    local chat, next_line = new_chat(lm, given), reader()
    io.stderr:write(tostring(lm), "\n")
    if given.steer then commands.steer(chat, given.steer) end
    io.stderr:write "/help lists the commands, Ctrl-D leaves\n"
    for line in next_line do
        c.C.steer_interrupt_clear()
        if line:find "%S" then chat:input(line) end
        if chat.over then return end
        if chat.interrupted and not terminal.is_terminal(0) then
            raise("interrupted", "chat", "stopped by Ctrl-C")
        end
    end
end

function M.run(args)
    local given, why = words.parse(args, KNOWN)
    if not given then return wrong("%s", why) end
    if given.help then
        io.stdout:write(M.usage)
        return 0
    end
    if #given ~= 1 then return wrong(#given == 0 and "which model?" or "expected one model, got %d words", #given) end
    local ok, failure = xpcall(work, failures.report, given)
    if ok then return 0 end
    failure = failures.of(failure)
    io.stderr:write("steer chat: ", failure.message or failure.text, "\n")
    return failure.interrupted and 130 or 1
end

return M
