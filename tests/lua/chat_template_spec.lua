--- Chat templates: the language as Python's jinja2 has it, where templates are found, what they are given, and how they
-- fail. fixtures/jinja/cases.jsonl has templates written for this test and what jinja2 3.1.2 makes of them, set up as
-- transformers does; its first line has their variables.
local files = require "files"
local steer = require "steer"
local steer_error = require "steer.core.error"
local json = require "steer.jinja.json"
local run = require "steer.jinja.run"
local value_of = require "steer.jinja.value"

local SHARED = "../shared/data/text"
local NOW = { year = 2025, month = 3, day = 9, hour = 14, min = 5, sec = 7 }

-- Renders the text of a template; opts as for render.
local function render(text, opts, messages)
    return steer.chat_template(text .. "{##}"):render(messages or {}, opts)
end

-- The error of rendering a template.
local function fault(code, text, template, opts, messages)
    return files.fails(code, text, render, template, opts, messages)
end

local function field(dict, name) return value_of.dict_get(dict, name) end

-- ---- The language --------------------------------------------------------------------------------------------------

describe("the language", function()
    it("is that of jinja2", function()
        local variables, wrong, count = nil, {}, 0
        for line in io.lines "tests/fixtures/jinja/cases.jsonl" do
            run.start()
            local case = assert(json.decode(line))
            if not variables then
                variables = field(case, "variables").map
                variables.strftime_now = require("steer.jinja.globals").strftime_now(os.time(NOW))
            else
                local ok, out = pcall(function()
                    local rendered = require("steer.jinja.compile").compile(field(case, "t"))
                    run.start()
                    return rendered(variables)
                end)
                local want, message = field(case, "out"), field(case, "error")
                local right = want and ok and out == want
                    or message and not ok and steer_error.is(out) and out.message:find(message, 1, true)
                if not right then
                    wrong[#wrong + 1] = ("%s\n   gives  %s\n   not    %s"):format(field(case, "t"), tostring(out),
                        want or "an error: " .. message)
                end
                count = count + 1
            end
        end
        assert.is_true(count > 1700)
        assert.equal("", table.concat(wrong, "\n"))
    end)

    it("takes white space away around tags", function()
        assert.equal("a\n  b\n", render "{% if true %}\na\n  b\n  {% endif %}\n")
        assert.equal("ab", render "a  {%- if true -%}  b  {%- endif -%}  ")
        assert.equal("  x\ny", render "  {%+ if true +%}x\n{% endif %}y")
        assert.equal("a {{ b }} c", render "a {% raw %}{{ b }}{% endraw %} c")
    end)

    it("tells undefined, None and false apart", function()
        assert.equal("||None|False", render("{{ x }}|{{ y.z }}|{{ none }}|{{ false }}", { y = { a = 1 } }))
        assert.equal("FalseTrueTrue", render "{{ x is defined }}{{ none is defined }}{{ none is none }}")
        assert.equal("d|None|d", render "{{ x|default('d') }}|{{ none|default('d') }}|{{ none|default('d', true) }}")
    end)

    it("keeps what loops set inside them, except in namespaces", function()
        local text = "{% set x = 0 %}{% set ns = namespace(x=0) %}{% for i in [1, 2] %}{% set x = x + i %}"
            .. "{% set ns.x = ns.x + i %}{% endfor %}{{ x }} {{ ns.x }}"
        assert.equal("0 3", render(text))
    end)

    it("counts characters, not bytes", function()
        assert.equal("4 ü üß G ßürG", render("{{ s|length }} {{ s[2] }} {{ s[2:] }} {{ s[0] }} {{ s[::-1] }}",
            { s = "Grüß" }))
        assert.equal("GRÜSS ['Grüß\\n']", render("{{ s|upper }} {{ [s ~ '\n'] }}", { s = "Grüß" }))
    end)

    it("writes numbers as Python does", function()
        assert.equal("1 1.0 0.1 1e+16 1e-05", render "{{ 1 }} {{ 1.0 }} {{ 0.1 }} {{ 1e16 }} {{ 0.00001 }}")
        assert.equal("0.30000000000000004 3.0 -4 2", render "{{ 0.1 + 0.2 }} {{ 6 / 2 }} {{ -7 // 2 }} {{ -7 % 3 }}")
    end)

    it("marks what the assistant says without writing anything", function()
        assert.equal("<hi>", render "<{% generation %}{{ 'hi' }}{% endgeneration %}>")
    end)
end)

-- ---- Opening -------------------------------------------------------------------------------------------------------

describe("steer.chat_template", function()
    local folder = files.folder
    local function fresh(list)
        os.execute("rm -rf '" .. folder .. "'/*")
        for name, bytes in pairs(list) do
            if name:find "/" then os.execute(("mkdir -p '%s/%s'"):format(folder, name:match "^(.*)/")) end
            files.put(name, bytes)
        end
    end
    teardown(files.done)

    local CONFIG = [[{"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "pad_token": null,
        "unk_token": "?", "chat_template": "C{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}"}]]

    it("reads tokenizer_config.json and its special tokens", function()
        fresh { ["tokenizer_config.json"] = CONFIG }
        local template = steer.chat_template(folder)
        assert.equal("C<s></s>False", template:render {})
        assert.same({ bos_token = "<s>", eos_token = "</s>", unk_token = "?" }, template.tokens)
        assert.equal("C!</s>False", template:render({}, { bos_token = "!" }))
        assert.equal("C<s></s>False", steer.chat_template(folder .. "/tokenizer_config.json"):render {})
        assert.equal("chat template of " .. folder .. "/tokenizer_config.json: 1 lines", tostring(template))
    end)

    it("prefers chat_template.jinja, then chat_template.json", function()
        fresh {
            ["tokenizer_config.json"] = CONFIG, ["chat_template.json"] = [[{"chat_template": "J{{ bos_token }}"}]],
            ["chat_template.jinja"] = "T{{ bos_token }}",
            ["special_tokens_map.json"] = [[{"bos_token": "<x>", "cls_token": "<c>"}]],
        }
        assert.equal("T<s>", steer.chat_template(folder .. "/"):render {})
        assert.equal("T<s>", steer.chat_template(folder .. "/chat_template.jinja"):render {})
        os.remove(folder .. "/chat_template.jinja")
        local template = steer.chat_template(folder)
        assert.equal("J<s>", template:render {})
        assert.equal("<c>", template.tokens.cls_token)
    end)

    it("picks one of several by name", function()
        fresh {
            ["tokenizer_config.json"] = [[{"chat_template": [{"name": "default", "template": "D"},
                {"name": "tool_use", "template": "T"}]}]],
            ["additional_chat_templates/rag.jinja"] = "R",
        }
        assert.equal("D", steer.chat_template(folder):render {})
        assert.equal("T", steer.chat_template(folder, { name = "tool_use" }):render {})
        assert.equal("R", steer.chat_template(folder, { name = "rag" }):render {})
        files.fails("not_found", "there is no template 'other', there are default and tool_use", steer.chat_template,
            folder, { name = "other" })
    end)

    it("reads GGUF files", function()
        local function text(s) return files.int(#s, 8) .. s end
        local function entry(key, kind, bytes) return text(key) .. files.int(kind, 4) .. bytes end
        local body = entry("tokenizer.chat_template", 8, text "G{{ bos_token }}{{ eos_token }}")
            .. entry("list", 9, files.int(9, 4) .. files.int(1, 8) .. files.int(5, 4) .. files.int(2, 8) .. "12345678")
            .. entry("tokenizer.ggml.tokens", 9, files.int(8, 4) .. files.int(2, 8) .. text "<a>" .. text "<b>")
            .. entry("tokenizer.ggml.bos_token_id", 4, files.int(1, 4))
            .. entry("tokenizer.ggml.eos_token_id", 4, files.int(0, 4))
        local bytes = "GGUF" .. files.int(3, 4) .. files.int(0, 8) .. files.int(5, 8) .. body
        assert.equal("G<b><a>", steer.chat_template(files.put("m.gguf", bytes)):render {})
        for cut = 24, #bytes - 1, 7 do
            files.fails("format", "", steer.chat_template, files.put("cut.gguf", bytes:sub(1, cut)))
        end
        files.fails("format", "token 9 is named, but there are 2 tokens", steer.chat_template,
            files.put("far.gguf", bytes:sub(1, -5) .. files.int(9, 4)))
        files.fails("not_found", "tokenizer.chat_template", steer.chat_template,
            files.put("none.gguf", (bytes:gsub("chat_template", "chat_tempLate"))))
    end)

    it("takes the text itself", function()
        assert.equal("1", steer.chat_template("{{ 1 }}"):render {})
        assert.equal("a\nb", steer.chat_template("a\nb\n"):render {})
    end)

    it("says what is missing or malformed", function()
        files.fails("not_found", "/nowhere", steer.chat_template, "/nowhere")
        files.fails("invalid_argument", "source: expected a folder, a file or the text of a template, got nothing",
            steer.chat_template)
        files.fails("invalid_argument", 'did you mean "name"', steer.chat_template, "{{ 1 }}", { nam = "x" })
        fresh {}
        files.fails("not_found", "it has no chat template", steer.chat_template, folder)
        for text, problem in pairs {
            ["{"] = "expected a name in double quotes", ["[]"] = "expected an object, found a list",
            ['{"chat_template": 5}'] = "chat_template: expected a text or a list, found a int",
            ['{"chat_template": [{"name": "x"}]}'] = "chat_template[1]: expected an object with the texts name",
            ['{"chat_template": "", "bos_token": 5}'] = "bos_token: expected a text or an object with content",
            ['{"chat_template": "{% if %}"}'] = "tokenizer_config.json: line 1: expected an expression, got %}",
        } do
            fresh { ["tokenizer_config.json"] = text }
            files.fails("format", problem, steer.chat_template, folder)
        end
        fresh { ["tokenizer_config.json"] = "{}" }
        files.fails("not_found", "it has no chat_template", steer.chat_template, folder .. "/tokenizer_config.json")
    end)
end)

-- ---- Variables -----------------------------------------------------------------------------------------------------

describe("what a template is given", function()
    it("is what transformers gives where nothing is said", function()
        assert.equal("[] None None False",
            render "{{ messages }} {{ tools }} {{ documents }} {{ add_generation_prompt }}")
    end)

    it("may be JSON texts, which keep order, null and floats", function()
        local tools = '[{"type": "function", "function": {"b": 1, "a": 2.0, "c": null, "d": [], "e": {}}}]'
        assert.equal(tools, render("{{ tools|tojson }}", { tools = tools }))
        local messages = '[{"role": "user", "content": null}, {"role": "x", "content": "Z\\u00fcrich \\ud83d\\ude00"}]'
        assert.equal("None Zürich 😀", render("{{ messages[0].content }} {{ messages[1].content }}", nil, messages))
        assert.equal("[1, 12345678901234567890, 1.5, 1e+16]",
            render("{{ documents }}", { documents = "[1, 12345678901234567890, 1.5, 1e16]" }))
    end)

    it("comes in the usual order of chats from Lua tables", function()
        local call = { ["function"] = { arguments = { z = 1, b = 2 }, name = "f" }, id = "1", type = "function" }
        assert.equal('{"role": "assistant", "content": "x", "tool_calls": [{"type": "function", "id": "1", "function": '
            .. '{"name": "f", "arguments": {"b": 2, "z": 1}}}], "zeta": true}',
            render("{{ messages[0]|tojson }}", nil,
                { { content = "x", role = "assistant", zeta = true, tool_calls = { call } } }))
    end)

    it("may say its own order and kind by metatables, as dkjson does", function()
        local ordered = setmetatable({ a = 1, b = 2, c = 3 }, { __jsonorder = { "c", "a" } })
        local empty = setmetatable({}, { __jsontype = "array" })
        assert.equal('{"c": 3, "a": 1, "b": 2} [] {}', render("{{ x|tojson }} {{ y|tojson }} {{ z|tojson }}",
            { x = ordered, y = empty, z = {} }))
        local read = require("dkjson").decode '{"d": [], "e": null}'
        assert.equal('{"d": []}', render("{{ x|tojson }}", { x = read }))
        assert.equal("None None", render("{{ x }} {{ y }}", { x = require("dkjson").null, y = 0 / 0 }))
        assert.equal("1 1.5 -3 True", render("{{ a }} {{ b }} {{ c }} {{ d }}", { a = 1, b = 1.5, c = -3, d = true }))
    end)

    it("is refused where a template has nothing like it", function()
        fault("invalid_argument", "opts.x.y[2]: a function cannot be given", "", { x = { y = { 1, print } } })
        fault("invalid_argument", "opts.x: a cdata cannot be given", "", { x = 1LL })
        fault("invalid_argument", "opts.x: the text is not UTF-8", "", { x = "\255" })
        fault("invalid_argument", "opts.x: a key is 1, expected names alone or a list", "", { x = { 1, a = 2 } })
        local cycle = {}
        cycle.x = cycle
        fault("invalid_argument", "it is nested too deeply", "", { x = cycle })
        fault("invalid_argument", "messages: expected a list or a JSON text, got 5", "", nil, 5)
        fault("invalid_argument", "messages: expected a list, got a table with names", "", nil, { role = "user" })
        fault("invalid_argument", "messages: the text is no JSON: at byte 2: expected a value", "", nil, "[x]")
        fault("invalid_argument", "opts.tools: expected a list, got a JSON text of another kind (dict)", "",
            { tools = "{}" })
        fault("invalid_argument", "opts: expected a table of variables", "", 5)
        files.fails("invalid_argument", "call it with a colon", steer.chat_template("{{ 1 }}").render, {})
    end)

    it("has the time that it is told, or the clock's", function()
        local format = "{{ strftime_now('%Y-%m-%d %H:%M:%S') }}"
        assert.equal("2025-03-09 14:05:07", render(format, { now = NOW }))
        assert.equal("2025-03-09 14:05:07", render(format, { now = os.time(NOW) }))
        assert.is_truthy(render(format):find "^20%d%d%-")
        assert.equal("!t *t 100%", render("{{ strftime_now('!t *t 100%%') }}"))
        fault("invalid_argument", "opts.now: expected a number or a table", "", { now = "today" })
        fault("invalid_argument", "opts.now: a date needs year, month and day", "", { now = {} })
    end)
end)

-- ---- Failing -------------------------------------------------------------------------------------------------------

describe("a fault", function()
    it("of the text names its line", function()
        local err = fault("format", "line 2: unknown tag 'endfor', expected 'elif' or 'else' or 'endif'",
            "{% if x %}\n{% endfor %}")
        assert.equal(2, err.line)
        fault("format", "line 3: expected }}, got 'b'", "\n\n{{ a b }}")
        fault("format", "line 1: No filter named 'nofilter'.", "{{ a|nofilter }}")
        fault("format", "line 2: {% include %} is not supported", "\n{% include 'x' %}")
        fault("format", "line 1: 'break' stands outside of a loop", "{% break %}")
        fault("format", "the template is not UTF-8", "{{ '\255' }}")
        fault("format", "at most 1048576 are taken", ("x"):rep(2 ^ 20))
    end)

    it("of what is computed names its line", function()
        local err = fault("invalid_argument", "line 2: 'x' is undefined", "{% if true %}\n{{ x.y }}{% endif %}")
        assert.equal(2, err.line)
        fault("invalid_argument", "line 4: 'dict object' has no attribute 'content'",
            "{% for m in messages %}\n\n\n{{ 'a' ~ m.content.strip() }}{% endfor %}", nil, { { role = "user" } })
        fault("invalid_argument", "line 2: unsupported operand type(s)",
            "{% macro f(x) %}\n{{ x + 1 }}{% endmacro %}\n{{ f(none) }}")
        fault("invalid_argument", "line 2: can only concatenate str", "{% macro f() %}\n{% endmacro %}{{ f() + 1 }}")
    end)

    it("that the template raises has its own words", function()
        local err = fault("invalid_argument", "roles", "\n{{ raise_exception('roles must alternate') }}")
        assert.equal("roles must alternate", err.message)
        assert.equal(2, err.line)
    end)
end)

describe("a template without end", function()
    local steps = run.MAX_STEPS
    before_each(function() run.MAX_STEPS = steps / 20 end)
    after_each(function() run.MAX_STEPS = steps end)

    local function stops(text, template)
        fault("invalid_argument", text, template)
        assert.equal("1", render "{{ 1 }}") -- the next one is as free as ever
    end

    it("stops within seconds", function()
        run.MAX_STEPS = steps
        local begin = os.clock()
        stops("does not end within 10000000 steps", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}"
            .. "{% endfor %}")
        assert.is_true(os.clock() - begin < 20)
    end)

    it("stops", function()
        local loop = "{% for i in range(99999) %}"
        stops("does not end within", loop .. loop .. "{% endfor %}{% endfor %}")
        stops("does not end within", loop .. loop .. "text{% endfor %}{% endfor %}")
        stops("does not end within", "{% macro f(n) %}{% if n %}{{ f(n - 1) ~ f(n - 1) }}{% endif %}{% endmacro %}"
            .. "{{ f(60) }}")
        stops("makes too much text", "{{ 'a' * 99999999999 }}")
        stops("makes too much text", "{% set ns = namespace(s='a') %}" .. loop
            .. "{% set ns.s = ns.s + ns.s %}{% endfor %}")
        stops("makes too much text", "{{ [0] * 99999999999 }}")
        stops("does not end within", "{% set ns = namespace(s=[]) %}{% for i in range(99) %}"
            .. "{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s|tojson }}")
        stops("Range too big", "{{ range(10 ** 9) }}")
        stops("does not end within", "{{ ('a' * 30000000).find('a' * 3000000 ~ 'b') }}")
    end)

    it("that calls itself stops", function()
        stops("nested too deeply", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}")
        stops("nested too deeply", "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}")
        stops("nested too deeply", "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns }}")
        local deep = "{% macro f(n) %}{% if n %}x{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(100) }}"
        assert.equal(("x"):rep(100), render(deep))
    end)

    it("that is nested without end is refused", function()
        local closing = { ["("] = ")", ["["] = "]", ["{1:"] = "}" }
        for _, part in ipairs { "(", "[", "not ", "-", "{1:", "1 if " } do
            files.fails("format", "the template is nested too deeply", steer.chat_template, "{{ " .. part:rep(9999)
                .. "1" .. (closing[part] or ""):rep(9999) .. " }}")
        end
        for _, part in ipairs { "+1", ".x", "|list", "()", "[0]" } do
            fault("format", "the template is nested too deeply", "{{ a" .. part:rep(9999) .. " }}")
        end
        fault("format", "the template is nested too deeply", ("{% if a %}"):rep(9999))
    end)

    it("stops at Ctrl-C", function()
        local C = require("steer.core.c").C
        local loop = "{% for i in range(99999) %}"
        C.steer_interrupt_raise()
        fault("interrupted", "stopped by Ctrl-C", loop .. loop .. "{% endfor %}{% endfor %}")
        assert.equal(0, C.steer_interrupt_pending())
        require("steer.core.c").interrupted = false
        assert.equal("1", render "{{ 1 }}")
    end)
end)

describe("a long chat", function()
    it("is written in no time", function()
        local messages = {}
        for i = 1, 100 do
            messages[i] = { role = i % 2 == 1 and "user" or "assistant", content = ("text "):rep(50) }
        end
        local template = steer.chat_template(
            "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles') }}"
            .. "{% endif %}{{ '<' + m['role'] + '>' + m.content|trim + '\n' }}{% endfor %}")
        local best = math.huge
        for _ = 1, 10 do
            local begin = os.clock()
            template:render(messages)
            best = math.min(best, os.clock() - begin)
        end
        assert.is_true(best < 0.01, ("it took %.1f ms"):format(best * 1e3))
    end)
end)

-- ---- Real templates ------------------------------------------------------------------------------------------------

-- What a case must come to; nil if it does, else what is wrong.
local function case_fault(template, case)
    local opts = { now = NOW }
    for _, name in ipairs { "special", "options" } do
        local given = field(case, name)
        for _, key in ipairs(given.keys) do opts[key] = given.map[key] end
    end
    local form = { comma = ", ", colon = ": " }
    for _, key in ipairs { "tools", "documents" } do
        if type(opts[key]) == "table" then opts[key] = json.encode(opts[key], form) end
    end
    local ok, out = pcall(template.render, template, json.encode(field(case, "messages"), form), opts)
    local level, want, problem = field(case, "level"), field(case, "rendered"), field(case, "error")
    local right
    if level == "raise" then
        right = not ok and steer_error.is(out) and out.message == field(problem, "message")
    elseif level == "runtime-error" then
        right = not ok and steer_error.is(out)
    else
        right = ok and out == want
    end
    return not right and ("%s, %s:\n%s\n-- expected --\n%s"):format(field(case, "case"), level, tostring(out),
        want or field(problem, "message")) or nil
end

describe("the templates of models", function()
    it("render every open case as jinja2 does", function()
        local pipe = io.popen("ls " .. SHARED .. "/open/chat-*.jsonl 2>/dev/null")
        local paths, wrong, count = {}, {}, 0
        for path in pipe:lines() do paths[#paths + 1] = path end
        pipe:close()
        if #paths == 0 then return pending("there is no " .. SHARED) end
        for _, path in ipairs(paths) do
            local family = path:match "chat%-(.*)%.jsonl$"
            local template = steer.chat_template(("%s/templates/%s.jinja"):format(SHARED, family))
            for line in io.lines(path) do
                run.start()
                local problem = case_fault(template, assert(json.decode(line)))
                if problem then wrong[#wrong + 1] = family .. ", " .. problem end
                count = count + 1
            end
        end
        assert.is_true(count > 1000)
        assert.equal("", table.concat(wrong, "\n\n"))
    end)
end)
