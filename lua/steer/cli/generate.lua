--- `steer generate`: text from a model, steered or not, as it comes.
local failures = require "steer.cli._failure"
local words = require "steer.cli._args"
local wrap = require "steer.cli._wrap"

local M = {}

M.usage = [[
usage: steer generate MODEL [PROMPT] [OPTIONS]

Generates text with a model: a folder as the hub lays it out, or a .gguf file. Without PROMPT it is read from standard
input. The text is written as it comes; Ctrl-C ends it and keeps what there is.

  --chat                  PROMPT is a user's message of a chat (--system TEXT goes before it)
  --steer 'FILE [SCALE] [@LAYERS]'
                          adds the vectors of a file (safetensors, gguf, npy, svec) at the scale (default 1), or uses
                          the spec that the file holds; may be given again: each is a request of its own, after an
                          unsteered one
  --max-tokens N          (default 256)
  --temperature T         (default 0: the likeliest token) also --top-k, --top-p, --min-p, --repetition-penalty, --seed
  --stop TEXT             ends where this text would come; may be given again
  --ignore-eos            the model's end tokens do not end it
  --device ID, --dtype f32|f16|bf16

exit status: 0; 1 where something cannot be read or run; 2 wrong usage; 130 after Ctrl-C.
]]

local KNOWN = {
    ["--chat"] = { "chat", "flag" }, ["--system"] = { "system", "text" }, ["--steer"] = { "steer", "list" },
    ["--max-tokens"] = { "max_tokens", "number" }, ["--temperature"] = { "temperature", "number" },
    ["--top-k"] = { "top_k", "number" }, ["--top-p"] = { "top_p", "number" }, ["--min-p"] = { "min_p", "number" },
    ["--repetition-penalty"] = { "repetition_penalty", "number" }, ["--seed"] = { "seed", "number" },
    ["--stop"] = { "stop", "list" }, ["--ignore-eos"] = { "ignore_eos", "flag" }, ["--device"] = { "device", "text" },
    ["--dtype"] = { "dtype", "text" }, ["--help"] = { "help", "flag" }, ["-h"] = { "help", "flag" },
}
local PASSED = { "max_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "stop",
    "ignore_eos" }

local function wrong(...) return words.wrong("generate", ...) end

local function request_of(given, prompt, spec)
    local request = { spec = spec }
    for _, key in ipairs(PASSED) do request[key] = given[key] end
    if given.chat then
        request.messages = { { role = "user", content = prompt } }
        if given.system then table.insert(request.messages, 1, { role = "system", content = given.system }) end
    else
        request.prompt = prompt
    end
    return request
end

-- One request is streamed; of several each is printed under a title when all are done, or when Ctrl-C ends them.
local function generate(lm, requests, titles)
    local written, show = 0, wrap.writer()
    if #requests == 1 then
        function requests.on_token(_, piece)
            show(piece)
            written = written + #piece
        end
    end
    local ok, failure = pcall(lm.generate, lm, requests)
    for i, result in ipairs(lm.last or {}) do
        if #requests > 1 then io.stdout:write(("--- %s\n"):format(titles[i])) end
        show(result.text:sub(written + 1) .. "\n")
    end
    if not ok then error(failure, 0) end
end

local function work(given)
    local c, steer, steering = require "steer.core.c", require "steer", require "steer.spec.command_line"
    c.check(c.C.steer_interrupt_install(0))
    local prompt = given[2] or io.read "*a"
    local lm = steer.model(given[1], { device = given.device, dtype = given.dtype })
    if given.chat and not lm.template then
        require("steer.core.error").raise("not_found", "generate", "%s has no chat template: leave --chat out",
            given[1])
    end
    local requests, titles = {}, {}
    if not given.steer or #given.steer > 1 then
        requests[1], titles[1] = request_of(given, prompt), "unsteered"
    end
    for _, text in ipairs(given.steer or {}) do
        requests[#requests + 1] = request_of(given, prompt, steering.spec(lm, steering.parse(text)))
        titles[#titles + 1] = text
    end
    generate(lm, requests, titles)
end

function M.run(args)
    local given, why = words.parse(args, KNOWN)
    if not given then return wrong("%s", why) end
    if given.help then
        io.stdout:write(M.usage)
        return 0
    end
    if #given < 1 then return wrong("which model?") end
    if #given > 2 then return wrong("expected one prompt, in quotes, got %d words", #given - 1) end
    if given.system and not given.chat then return wrong("--system: it goes with --chat") end
    local ok, failure = xpcall(work, failures.report, given)
    if ok then return 0 end
    failure = failures.of(failure)
    if failure.interrupted then return 130 end
    io.stderr:write("steer generate: ", failure.message or failure.text, "\n")
    return 1
end

return M
