--- `steer chat`: a conversation with a model that can be steered between the turns.
local failures = require "steer.cli._failure"
local words = require "steer.cli._args"

local M = {}

M.usage = [[
usage: steer chat MODEL [OPTIONS]

Talks with a model that has a chat template: a folder as the hub lays it out, or a .gguf file. Ctrl-C ends an answer
and keeps what there is; Ctrl-D leaves. A line that begins with / is a command:

  /steer FILE [SCALE] [@LAYERS]   adds the vectors of a file (safetensors, gguf, npy), or uses the spec that it holds
  /off                            unsteered again
  /compare                        the last answer again, beside the one of the unsteered model
  /undo                           forgets the last turn; /reset forgets all
  /save FILE                      writes the conversation as JSON
  /help

  --system TEXT                   what stands before the conversation
  --steer 'FILE [SCALE] [@LAYERS]'  steered from the start
  --max-tokens N                  of an answer (default 512)
  --temperature T (default 0.7), --top-k, --top-p, --min-p, --repetition-penalty, --seed
  --device ID, --dtype f32|f16|bf16

exit status: 0; 1 where something cannot be read or run; 2 wrong usage.
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

local function wrong(...)
    io.stderr:write("steer chat: ", string.format(...), "\nsteer chat --help says more\n")
    return 2
end

-- ---- A conversation ------------------------------------------------------------------------------------------------

local Chat = {}
Chat.__index = Chat

local function new_chat(lm, given)
    local messages = {}
    if given.system then messages[1] = { role = "system", content = given.system } end
    return setmetatable({ lm = lm, given = given, messages = messages, first = #messages, turns = 0 }, Chat)
end

function Chat:request(spec)
    local given = self.given
    return {
        messages = self.messages, spec = spec, max_tokens = given.max_tokens or 512,
        temperature = given.temperature or 0.7, top_k = given.top_k, top_p = given.top_p, min_p = given.min_p,
        repetition_penalty = given.repetition_penalty, seed = (given.seed or 0) + self.turns,
    }
end

local function write(text)
    io.stdout:write(text)
    io.stdout:flush()
end

-- Answers the messages; gives the text, also of an answer that Ctrl-C ended.
function Chat:generate(spec)
    local ok, results = pcall(self.lm.generate, self.lm, {
        self:request(spec), on_token = function(_, piece) write(piece) end,
    })
    write "\n"
    if ok then return results[1].text end
    if type(results) ~= "table" or results.code ~= "interrupted" then error(results, 0) end
    require("steer._c").interrupted = false
    return self.lm.last[1].text
end

function Chat:say(text)
    table.insert(self.messages, { role = "user", content = text })
    self.turns = self.turns + 1
    local ok, answer = pcall(self.generate, self, self.spec)
    if not ok then
        table.remove(self.messages)
        error(answer, 0)
    end
    table.insert(self.messages, { role = "assistant", content = answer })
end

local commands = {}

function commands.steer(self, argument)
    local steering = require "steer._steering"
    local given = steering.parse(argument)
    self.spec = steering.spec(self.lm, given)
    write(tostring(self.spec) .. "\n")
end

function commands.off(self)
    self.spec = nil
    write "unsteered\n"
end

function commands.compare(self)
    if #self.messages < self.first + 2 then return write "there is no answer yet\n" end
    local answer = table.remove(self.messages)
    if self.spec then
        write "--- steered\n"
        self:generate(self.spec)
    end
    write "--- unsteered\n"
    self:generate()
    table.insert(self.messages, answer)
end

function commands.undo(self)
    if #self.messages < self.first + 2 then return write "there is no turn to forget\n" end
    table.remove(self.messages)
    table.remove(self.messages)
    write "the last turn is forgotten\n"
end

function commands.reset(self)
    while #self.messages > self.first do table.remove(self.messages) end
    write "the conversation is forgotten\n"
end

function commands.save(self, path)
    local c = require "steer._c"
    if path == "" then error({ code = "invalid_argument", op = "chat", message = "/save FILE: which file?" }, 0) end
    local ffi = require "ffi"
    local out, text = ffi.new("steer_file *[1]"), require("steer._json").encode(self.messages) .. "\n"
    c.check(c.C.steer_file_create(out, path))
    local file = c.own(out[0], c.C.steer_file_release)
    c.check(c.C.steer_file_write(file, text, #text))
    c.check(c.C.steer_file_commit(file))
    write(path .. "\n")
end

function commands.help() write(M.usage:match "A line that.-\n\n(.-)\n\n" .. "\n") end

-- A line of input; errors of the library are said and end nothing.
function Chat:input(line)
    local name, argument = line:match "^/(%S*)%s*(.-)%s*$"
    local ok, err
    if name and not commands[name] then
        local near = require("steer._options").nearest(name, commands)
        return write(("/%s: unknown, did you mean /%s? /help lists the commands\n"):format(name, tostring(near)))
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

-- A function that gives the next line, nil at the end.
local function reader()
    local terminal = require "steer.repl.terminal"
    if not terminal.can_edit() then return function() return io.read "*l" end end
    local history = { entries = {} }
    local editor = require("steer.repl.editor").new {
        history = history, prompt = { first = "> ", next = "  ", width = 2 }, is_open = function() return false end,
        candidates = function(before)
            local list = {}
            local word = before:match "^/(%w*)$"
            if word then
                for _, name in ipairs { "compare", "help", "off", "reset", "save", "steer", "undo" } do
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
    local c, steer = require "steer._c", require "steer"
    c.check(c.C.steer_interrupt_install(0))
    local lm = steer.model(given[1], { device = given.device, dtype = given.dtype })
    if not lm.template then
        error({ code = "not_found", op = "chat", message = given[1] .. " has no chat template" }, 0)
    end
    local chat, next_line = new_chat(lm, given), reader()
    io.stderr:write(tostring(lm), "\n/help lists the commands, Ctrl-D leaves\n")
    if given.steer then chat:input("/steer " .. given.steer) end
    for line in next_line do
        if line:find "%S" then chat:input(line) end
    end
end

function M.run(args)
    local given, why = words.parse(args, KNOWN)
    if not given then return wrong("%s", why) end
    if given.help then
        io.stdout:write(M.usage)
        return 0
    end
    if #given ~= 1 then return wrong(#given == 0 and "which model?" or "one model: got %d words", #given) end
    local ok, failure = xpcall(work, failures.report, given)
    if ok then return 0 end
    failure = failures.of(failure)
    io.stderr:write("steer chat: ", failure.message or failure.text, "\n")
    return failure.interrupted and 130 or 1
end

return M
