--- `steer generate` and `steer chat` through pipes: what they write, what they refuse, and that steering between turns
-- is as if it had been there from the start. chat_pty.py has what needs a terminal.
require "helper"
local json = require "dkjson"
local steer = require "steer"

local MODEL = "tests/fixtures/demo-model"
local PROMPT = "One evening, Ruby went to the"

local function quote(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- Runs a command with an input; gives output, errors and status.
local function shell(command, input)
    local errors, given = os.tmpname(), os.tmpname()
    local file = io.open(given, "w")
    file:write(input or "")
    file:close()
    command = ("STEER_DEVICE=cpu scripts/steer %s <%s 2>%s; printf '\\n%%d' $?"):format(command, given, errors)
    local pipe = io.popen(command)
    local output, status = pipe:read("*a"):match "^(.*)\n(%d+)$"
    pipe:close()
    file = io.open(errors)
    local text = file:read "*a"
    file:close()
    os.remove(errors)
    os.remove(given)
    return output, text, tonumber(status)
end

local function assert_found(text, part)
    assert(text:find(part, 1, true), ("expected %q in:\n%s"):format(part, text))
end

local folder, vectors, short, deep
setup(function()
    folder = os.tmpname()
    os.remove(folder)
    os.execute(("mkdir %s && cp %s/* %s"):format(folder, MODEL, folder))
    local file = io.open(folder .. "/chat_template.jinja", "w")
    file:write "{% for m in messages %}{{ m.content }}{% endfor %}"
    file:close()
    vectors = folder .. "/mood.safetensors"
    local v = steer.tensor.randn({ 2, 192 }, { seed = 3, device = "cpu" }):mul_(2)
    steer.save(vectors, { ["layer.5"] = v[1]:clone(), ["layer.6"] = v[2]:clone() })
    short, deep = folder .. "/short.safetensors", folder .. "/deep.safetensors"
    steer.save(short, { v = steer.tensor.ones({ 3 }, { device = "cpu" }) })
    steer.save(deep, { ["layer.50"] = v[1]:clone() })
end)
teardown(function() os.execute("rm -r " .. folder) end)

local function read_json(path)
    local file = assert(io.open(path))
    local value = json.decode(file:read "*a")
    file:close()
    return value
end

describe("steer generate", function()
    local function expected(spec, extra)
        local request = { prompt = PROMPT, spec = spec, max_tokens = 12 }
        for key, value in pairs(extra or {}) do request[key] = value end
        return steer.model(MODEL, { device = "cpu" }):generate({ request })[1].text
    end

    it("writes the text", function()
        local output, errors, status = shell(("generate %s %s --max-tokens 12"):format(MODEL, quote(PROMPT)))
        assert.same({ expected() .. "\n", "", 0 }, { output, errors, status })
        assert.equal(output, (shell(("generate %s --max-tokens 12"):format(MODEL), PROMPT)))
        local stopped = shell(("generate %s %s --stop ' with'"):format(MODEL, quote(PROMPT)))
        assert.equal(expected(nil, { stop = " with" }) .. "\n", stopped)
    end)

    it("steers, each steering a text of its own beside the unsteered one", function()
        local command = ("generate %s %s --max-tokens 12"):format(MODEL, quote(PROMPT))
        local v = steer.load(vectors)["layer.5"]
        local spec = steer.spec { [5] = { steer.add(v, 4) } }
        assert.not_equal(expected(), expected(spec))
        local one = shell(("%s --steer '%s 4 @5'"):format(command, vectors))
        assert.equal(expected(spec) .. "\n", one)
        local both = shell(("%s --steer '%s 4 @5' --steer '%s 0 @5'"):format(command, vectors, vectors))
        assert.equal(("--- unsteered\n%s\n--- %s 4 @5\n%s\n--- %s 0 @5\n%s\n"):format(expected(), vectors,
            expected(spec), vectors, expected()), both)
    end)

    it("refuses what cannot be", function()
        for arguments, row in pairs {
            [""] = { 2, "which model?" }, [MODEL .. " a b"] = { 2, "in quotes" },
            [MODEL .. " a --system b"] = { 2, "it goes with --chat" },
            [MODEL .. " a --temprature 1"] = { 2, "did you mean" },
            ["/nonexistent a"] = { 1, "not_found" },
            [MODEL .. " a --chat"] = { 1, "no chat template: leave --chat out" },
            [MODEL .. " a --steer nofile.gguf"] = { 1, "nofile.gguf" },
            [MODEL .. " a --steer " .. quote(vectors .. " 1 @7")] = { 1, "no vector for layer 7" },
            [MODEL .. " a --steer " .. quote(short .. " 1 @5")] = { 1, "3 elements, the model's hidden size is 192" },
            [MODEL .. " a --steer " .. quote(deep)] = { 1, "layer 50, the model has 8" },
            [MODEL .. " a --max-tokens 600"] = { 1, "context is 512" }, [MODEL .. " ''"] = { 1, "no tokens" },
            [MODEL .. " a --temperature -1"] = { 1, "temperature" },
        } do
            local output, errors, status = shell("generate " .. arguments)
            assert.same({ "", row[1] }, { output, status }, arguments)
            assert_found(errors, "steer generate: ")
            assert_found(errors, row[2])
            assert.is_nil(errors:find("traceback", 1, true), errors)
        end
    end)
end)

describe("steer chat", function()
    local function chat(lines, options)
        return shell(("chat %s --max-tokens 12 --temperature 0 %s"):format(folder, options or ""),
            table.concat(lines, "\n") .. "\n")
    end

    it("steers between the turns as if it had been so from the start", function()
        local saved = folder .. "/saved.json"
        local output, _, status = chat {
            PROMPT, "/steer " .. vectors .. " 4 @5", " And then", "/steer 2", " At last", "/off", " The end",
            "/save " .. saved,
        }
        assert.equal(0, status)
        local v = steer.load(vectors)["layer.5"]
        local scales, answer = { 0, 4, 2, 0 }, 0
        local messages, said = read_json(saved), {}
        assert.equal(8, #messages)
        for i, message in ipairs(messages) do
            if message.role == "assistant" then
                answer = answer + 1
                local scale = scales[answer]
                local lm = steer.model(folder, { device = "cpu" }) -- a cache of its own
                local expected = lm:generate { {
                    messages = said, max_tokens = 12, spec = steer.spec { [5] = { steer.add(v, scale) } } } }
                assert.equal(expected[1].text, message.content, "answer " .. answer)
                assert.equal(scale ~= 0 and ("%s %d @5"):format(vectors, scale) or nil, message.steer)
                assert_found(output, message.content .. "\n")
            end
            said[i] = { role = message.role, content = message.content }
        end
    end)

    it("goes on with an answer under another steering, as a running sequence does", function()
        local saved = folder .. "/saved.json"
        local output = chat { "/continue", PROMPT, "/steer " .. vectors .. " 4 @5", "/continue", "/save " .. saved }
        assert_found(output, "there is no answer yet")
        local lm = steer.model(folder, { device = "cpu" })
        local session = lm:session { sequences = 1, tokens = 128 }
        local id = session:add { prompt = PROMPT, max_tokens = 24 }
        repeat session:step() until session:status(id).generated == 12
        session:set_spec(id, steer.spec { [5] = { steer.add(steer.load(vectors)["layer.5"], 4) } })
        while session:step() > 0 do end
        local answer = read_json(saved)[2]
        assert.equal(lm:decode((session:tokens(id)), { skip_special = true }), answer.content)
        assert.equal("unsteered, then " .. vectors .. " 4 @5", answer.steer)
        assert_found(chat({ PROMPT, "/continue" }, "--max-tokens 100"), "the answer is complete")
    end)

    it("compares the last answer with the unsteered one, with its seed", function()
        local output = chat({ PROMPT, "/compare", "/steer " .. vectors .. " 4", "/compare", "/off", "/compare" },
            "--temperature 1")
        local first = output:match "^(.-)\n%[cut"
        local title = "%-%-%- " .. vectors:gsub("%p", "%%%0") .. " 4\n"
        local steered, unsteered = output:match(title .. "(.-)\n%-%-%- unsteered\n(.-)\n")
        assert.equal(first, unsteered)
        assert.not_equal(first, steered)
        local _, count = output:gsub("there is no steering to compare with", "")
        assert.equal(2, count)
    end)

    it("forgets turns", function()
        local saved = folder .. "/saved.json"
        chat({ PROMPT, "/save " .. saved, " And", "/undo", "/save " .. saved .. "2" }, "--system 'Once.'")
        local messages = read_json(saved)
        assert.same({ "system", "user", "assistant" }, { messages[1].role, messages[2].role, messages[3].role })
        assert.same(messages, read_json(saved .. "2"))
        local output = chat({ PROMPT, "/undo", "/undo", "/compare", "/reset", "/save " .. saved }, "--system 'Once.'")
        assert_found(output, "there is no turn to forget")
        assert_found(output, "there is no answer yet")
        assert.same({ messages[1] }, read_json(saved))
    end)

    it("says what is wrong with a command and goes on", function()
        for line, message in pairs {
            ["/undoo"] = "did you mean /undo?", ["/xyzzy"] = "/xyzzy: unknown, /help lists",
            ["/steer"] = "unsteered", ["/steer 3"] = "there is no file yet",
            ["/steer nofile.gguf"] = "nofile.gguf", ["/steer " .. vectors .. " 1 @7"] = "no vector for layer 7",
            ["/steer " .. vectors .. " 1 2"] = '"2": expected FILE [SCALE] [@LAYERS]',
            ["/steer " .. vectors .. " @0-99999999999"] = "expected layers such as",
            ["/steer " .. short .. " 1 @5"] = "vectors of 3 elements, the model's hidden size is 192",
            ["/steer " .. deep] = "layer 50, the model has 8",
            ["/steer " .. vectors .. " loud"] = "expected FILE [SCALE] [@LAYERS]", ["/save"] = "which file?",
            ["/save /nonexistent/x"] = "cannot open its folder", ["/help"] = "/compare ",
        } do
            local output, errors, status = chat { line, PROMPT }
            assert.equal(0, status, line)
            assert_found(output .. errors, message)
            assert_found(output, "[cut after 12 tokens")
        end
    end)

    it("ends with a message where it cannot begin", function()
        for options, message in pairs {
            [MODEL] = "no chat template", [folder .. " --steer nofile.gguf"] = "nofile.gguf",
            ["/nonexistent"] = "not_found",
        } do
            local output, errors, status = shell("chat " .. options, PROMPT)
            assert.same({ "", 1 }, { output, status })
            assert_found(errors, "steer chat: ")
            assert_found(errors, message)
        end
    end)

    it("says that the context is full, and goes on with less", function()
        local lines = {}
        for i = 1, 30 do lines[i] = PROMPT .. (" big red barn and the little dog looked at the sky"):rep(2) end
        lines[31], lines[32], lines[33] = "/reset", PROMPT, "/undo"
        local output, errors, status = shell("chat " .. folder .. " --temperature 0 --max-tokens 500",
            table.concat(lines, "\n"))
        assert.equal(0, status)
        assert_found(errors, "the model's context is 512: /undo or /reset makes room")
        assert_found(output, "the conversation is forgotten")
        assert_found(output, "the last turn is forgotten")
    end)
end)
