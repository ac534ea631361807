--- Fuzzes chat templates for a while: mutated templates and the files that they come in must render, or fail with an
-- error of the library's, within bounded time and memory.
local steer = require "steer"
local C = require("steer.core.c").C
local fuzzing = dofile(debug.getinfo(1, "S").source:match "^@(.*/)" .. "fuzzing.lua")

local put, splice, random = fuzzing.put, fuzzing.splice, math.random

local MAX_SECONDS = 20 -- of one input, on a machine that runs other tests too
local MAX_MEGABYTES = 1000

-- ---- Inputs to begin from ------------------------------------------------------------------------------------------

local templates = {
    [=[
{%- if messages[0].role == 'system' -%}{%- set system = messages[0]['content'] %}{% set rest = messages[1:] -%}
{%- else %}{% set system = 'none' %}{% set rest = messages %}{% endif %}
{{- bos_token ~ system|trim }}
{%- for m in rest %}
    {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles: ' ~ m.role) }}{% endif %}
    {{- '<' + m['role'] + '>' + (m.content if m.content is string else m.content|tojson) + eos_token }}
    {%- if m.tool_calls is defined and m.tool_calls %}
        {%- for call in m.tool_calls %}{{ call.function.arguments|tojson(indent=2) }}{% endfor %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<assistant>' }}{% endif %}]=],
    [=[
{% macro item(x, y=2) %}[{{ x }}|{{ y }}{{ varargs }}{{ kwargs }}
{{ caller(x) if caller }}]{% endmacro %}{{ item(1) }}{{ item(1, y=3, z=[4]) }}{{ item(*[1, 2, 3]) }}
{% call(v) item('a') %}{{ v|upper }}{% endcall %}{% filter replace('a', 'b')|title %}banana{% endfilter %}
{% set text | upper %}x{{ messages|length }}{% endset %}{{ text }}{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}]=],
    [=[
{% set ns = namespace(n=0, seen=[], last=none) %}{% for m in messages if m.role != 'system' %}
{% set ns.n = ns.n + 1 %}{% set ns.seen = ns.seen + [m.role] %}{% if loop.last %}{% break %}{% endif %}
{{ loop.index }}/{{ loop.length }} {{ loop.previtem.role if loop.previtem }} {{ loop.nextitem is defined }}
{{ loop.cycle('a', 'b') }}{{ loop.changed(m.role) }}{% else %}empty{% endfor %}{{ ns.seen|unique|join(',') }}
{% for x in [1, [2, [3]]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}{{ ns.n // 2 ** 3 % 5 }}]=],
    [=[
{{ messages|map(attribute='role')|list }}
{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|first }}
{{ [3, 1, 2]|sort(reverse=true) }}{{ messages|groupby('role')|length }}{{ {'b': 1, 'a': 2.5}|dictsort }}
{{ 'Grüße'|upper ~ 'ΑΣ'.lower() ~ 'a,b'.split(',')[-1] ~ 'abc'[::-1] ~ ' x '.strip() }}
{{ '%5.2f|%-4s|%d' % (1.5, 'a', 3) }}
{{ '{0:>8}{1[0]}{x!r}'.format(1, [2], x='y') }}
{{ 'a b c'.replace(' ', '-', 1).title().center(20, '*') }}{{ 7.5|round|int }}
{{ range(10)|batch(3)|list }}{{ range(5, 0, -2)|slice(2)|list }}{{ 'x' * 3 ~ [0] * 2 }}{{ strftime_now('%Y-%m-%d') }}
{{ 1 < 2 <= 3 and not 'a' in 'abc' or none is none }}{{ (1, 'a', {'k': [true, 1e3]})|string|length }}]=],
    [=[
{# comment -#}  {%- raw %}{{ not }} {% endraw -%} {{- '{{' }}{%+ if 1 %}
 x {%- endif +%}
{{ "\u00e9\n\x41" }}{% generation %}{{ messages[-1]['content'][:3] }}{% endgeneration %}
{% block b scoped %}{{ messages }}{% endblock %}]=],
}

local fragments = {
    "{{", "}}", "{%", "%}", "{#", "#}", "{%-", "-%}", "+%}", "{% endif %}", "{% endfor %}", "{% else %}",
    "{% if 1 %}", "{% for i in range(99999) %}", "{% for i in i %}", "{% endmacro %}", "{% macro f(a) %}",
    "{{ f(f) }}", "{{ f() }}", "{% set a %}", "{% endset %}", "{% set ns.n = [ns, ns.n] %}",
    "{% set ns.n = ns.n ~ ns.n %}", "{% break %}", "{% continue %}", "{% raw %}", "{% endraw %}", "|tojson",
    "|list", "|string", "|length", "|first", "|map('string')", " * 99999", " * 'ab'", " ** 999",
    "[99999999999:]", "[::-1]", "[::0]", ".x", "['x']", "()", "(1, a=2)", "|", "~", " in ", " is ",
    " is defined", " not ", " if ", " else ", "1e308", "-1", "99999999999999999999", "none", "true", "loop",
    "messages", "'", "\"", "\\", "\\u12", "\\ud800", "(", ")", "[", "]", "{", "}", ",", ":", "*", "**", "%",
    "=", "==", "\n", "\r", "\0", "\195\169", "\239\188\155", "\255", "varargs", "caller()", "|indent(9999)",
    "|center(9999999)", ".format(", "|replace('','x')", " recursive", "{{ loop([1, 2]) }}",
    "|groupby('role')", "|xmlattr", "|round(99)", "|truncate(1)", "'%99999d' % 1", "|batch(0)",
}

local signs = { "+", "-", "*", "/", "//", "%", "**", "~", "|", ".", "<", ">=", "==", ",", " in ", " is ", " or " }

-- ---- Mutations -----------------------------------------------------------------------------------------------------

local words = {}
for _, text in ipairs(templates) do
    for word in text:gmatch "[%w_]+" do words[#words + 1] = word end
end

-- Puts another word for the next one, which mostly stays a template.
local function swap_word(t, at)
    local first, last = t:find("[%w_]+", at)
    return first and splice(t, first, last - first + 1, words[random(#words)]) or t
end

-- Puts another sign for the next one.
local function swap_sign(t, at)
    local first = t:find("[-+*/%%~|.<>=,]", at)
    return first and splice(t, first, 1, signs[random(#signs)]) or t
end

local mutations = {
    swap_word, swap_word, swap_word, swap_word, swap_word, swap_word, swap_sign, swap_sign, swap_sign,
    function(t, at) return splice(t, at, 0, fragments[random(#fragments)]) end,
    function(t, at) return splice(t, at, random(0, 4), fragments[random(#fragments)]) end,
    function(t, at) return splice(t, at, random(1, 12), "") end,
    function(t, at) return splice(t, at, 0, t:sub(at, at + random(0, 60))) end,
    function(t, at) return splice(t, at, 1, string.char(random(0, 255))) end,
    function(t, at) return t:sub(1, at - 1) end,
    function(t, at) return t:sub(1, at) .. t:sub(at):rep(random(2, 30)) end,
    function(t, at) return splice(t, at, 0, ("([{-"):sub(random(1, 4)):sub(1, 1):rep(random(1, 300))) end,
    function(t, at) -- the start of one and the end of another
        local other = templates[random(#templates)]
        return t:sub(1, at) .. other:sub(random(#other))
    end,
}

local function mutate(text)
    for _ = 1, random(3) == 1 and random(2, 6) or 1 do
        text = mutations[random(#mutations)](text, random(math.max(1, #text)))
    end
    return text:sub(1, 20000)
end

-- ---- Runs ----------------------------------------------------------------------------------------------------------

local chat = [[ [{"role": "system", "content": "s"}, {"role": "user", "content": "Hello, Zürich \ud83d\ude00"},
    {"role": "assistant", "content": null, "tool_calls": [
        {"function": {"name": "f", "arguments": {"x": 1.0, "y": [1]}}}]},
    {"role": "user", "content": [{"type": "text", "text": "part"}]}] ]]

local function length_of(text) return ("\0\0\0\0\0\0\0\0"):gsub("^.", string.char(#text), 1) .. text end
local gguf = "GGUF\3\0\0\0" .. ("\0"):rep(8) .. "\4\0\0\0\0\0\0\0"
    .. length_of "a" .. "\9\0\0\0\4\0\0\0\2\0\0\0\0\0\0\0abcdefgh"
    .. length_of "tokenizer.ggml.tokens" .. "\9\0\0\0\8\0\0\0\2\0\0\0\0\0\0\0" .. length_of "<s>" .. length_of "</s>"
    .. length_of "tokenizer.ggml.bos_token_id" .. "\4\0\0\0\1\0\0\0"
    .. length_of "tokenizer.chat_template" .. "\8\0\0\0" .. length_of "{{ bos_token }}{{ messages|length }}"
local config = [[{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template":
    [{"name": "default", "template": "{{ bos_token }}{{ messages }}"},
     {"name": "tools", "template": "{% if x %}{% endif %}"}]}]]

local function render(template)
    return template:render(chat, { bos_token = "<s>", eos_token = "</s>", add_generation_prompt = true, now = 0 })
end

local function render_file(path) return render(steer.chat_template(path)) end

-- How often each is picked, what its file is called, what is in it, and what happens with it.
local runs = {
    { 20, "input.jinja", function() return mutate(templates[random(#templates)]) end, render_file },
    { 2, "tokenizer_config.json", function() return mutate(config) end, function() render_file(fuzzing.folder) end },
    { 2, "input.gguf", function() return mutate(gguf) end, render_file },
    { 2, "messages.json", function() return mutate(chat) end, function(_, text)
        return steer.chat_template(templates[1]):render(text, { bos_token = "", eos_token = "" })
    end },
}
local picks = {}
for _, run in ipairs(runs) do
    for _ = 1, run[1] do picks[#picks + 1] = run end
end

fuzzing.begin "fuzz_template"
for i, text in ipairs(templates) do
    local ok, problem = pcall(function() return render(steer.chat_template(text)) end)
    if not ok then fuzzing.fail(0, "template %d: %s", i, tostring(problem)) end
end

local name, begun
local function one()
    local run = picks[random(#picks)]
    local text = run[3]()
    name = run[2]
    os.remove(fuzzing.folder .. "/tokenizer_config.json")
    local path = put(name, text)
    begun = C.steer_clock()
    run[4](path, text)
end

local function check(count)
    local took, megabytes = C.steer_clock() - begun, collectgarbage "count" / 1024
    if took > MAX_SECONDS then fuzzing.fail(count, "%s: it took %.1f s", name, took) end
    if megabytes < MAX_MEGABYTES then return end
    collectgarbage()
    if collectgarbage "count" / 1024 > MAX_MEGABYTES then
        fuzzing.fail(count, "%s: it left %.0f MB", name, megabytes)
    end
end

fuzzing.run("rendered", "format invalid_argument not_found io", one, check)
