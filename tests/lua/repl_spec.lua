--- The interactive session without a terminal: -e, pipes, help, how values print, how text is laid out. repl_pty.py has
-- the rest.
require "helper"
local docs = require "steer.repl.docs"
local layout = require "steer.repl.layout"
local show = require "steer.repl.show"

-- Runs a shell command; gives its output, errors and exit status.
local function shell(command)
    local errors = os.tmpname()
    local pipe = io.popen(("export STEER_DEVICE=cpu; { %s; } 2>%s; printf '\\n%%d' $?"):format(command, errors))
    local output, status = pipe:read("*a"):match("^(.*)\n(%d+)$")
    pipe:close()
    local file = io.open(errors)
    local text = file:read("*a")
    file:close()
    os.remove(errors)
    return output, text, tonumber(status)
end

local function quote(text)
    return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function evaluate(text)
    return shell("scripts/steer -e " .. quote(text))
end

local function pipe(text, arguments)
    return shell("printf %s " .. quote(text) .. " | scripts/steer " .. (arguments or ""))
end

local function assert_found(text, part)
    assert(text:find(part, 1, true), ("expected %q in:\n%s"):format(part, text))
end

local function script(text)
    local path = os.tmpname()
    local file = io.open(path, "w")
    file:write(text)
    file:close()
    return path
end

describe("steer -e", function()
    it("prints the value of an expression", function()
        for text, wanted in pairs {
            ["1 + 1"] = "2\n", ["'a', nil, {}"] = '"a"\nnil\n{}\n', ["1;"] = "", ["x = 1"] = "", ["print(1)"] = "1\n",
            ["return 1, 2"] = "1\n2\n", ["local a = 1 return a"] = "1\n", ["-- nothing"] = "", [" "] = "",
            ["steer.tensor.ones({2})"] = " 1  1\n[tensor 2 f32 cpu]\n", ["(function() end)()"] = "",
            ["=1 + 1"] = "2\n", ["? steer.version"] = (evaluate ":help steer.version"),
        } do
            local output, errors, status = evaluate(text)
            assert.equal(wanted, output, text)
            assert.equal("", errors, text)
            assert.equal(0, status, text)
        end
    end)

    it("ends with 1 after an error, with the user's part of the stack", function()
        for text, parts in pairs {
            ["\n\nsteer.tensor.zeros({-1})"] = { "invalid_argument: tensor_zeros: shape",
                "\t(command line):3: in main chunk" },
            ["local function f() error 'boom' end f()"] = { "(command line):1: boom", "in function 'f'" },
            ["x = = 1"] = { "(command line):1: unexpected symbol" },
            [":time x ="] = { "(command line):1: unexpected symbol" }, ["\27LJ"] = { "wrong mode" },
            ["1 +"] = { "(command line):1: unexpected symbol near '<eof>'" },
            ["if x then"] = { "(command line):1: 'end' expected near '<eof>'" },
            [":nonsense"] = { "invalid_argument: repl: there is no command :nonsense, :help lists them" },
            [":hlep"] = { "there is no command :hlep, did you mean :help? :help lists them" },
            [":help xyzzyplugh"] = { "nothing is known of 'xyzzyplugh'\n" },
        } do
            local output, errors, status = evaluate(text)
            assert.equal("", output, text)
            for _, part in ipairs(parts) do assert_found(errors, part) end
            assert.is_nil(errors:find("lua/steer", 1, true), "the session's own frames are shown:\n" .. errors)
            assert.equal(1, status, text)
        end
    end)

    it("answers a slip in one line", function()
        local model = "steer.model('tests/fixtures/demo-model', {progress = false})"
        for text, line in pairs {
            [model .. ":genrate()"] = 'invalid_argument: model: a model has no "genrate"; did you mean "generate"?',
            [model .. ".laiers"] = 'invalid_argument: model: a model has no "laiers"; did you mean "layers"?',
            ["steer.tensor.ones({2}):summ()"] =
                'invalid_argument: tensor_index: key: a tensor has no "summ"; did you mean "sum"?',
            ["for i = 1, 2 do steer.tensro() end"] =
                "invalid_argument: steer: there is no steer.tensro, did you mean steer.tensor?",
            ["steer.tensor.zeros({-1})"] =
                "invalid_argument: tensor_zeros: shape: dimension 1 is -1, expected 0 or more",
            ["lmm:generate()"] = "(command line):1: attempt to index global 'lmm' (a nil value)",
            ["error 'boom'"] = "(command line):1: boom",
        } do
            local output, errors, status = evaluate(text)
            assert.equal("", output, text)
            assert.equal(line .. "\n", errors)
            assert.equal(1, status, text)
        end
    end)

    it("takes one text", function()
        for arguments, message in pairs {
            ["-e"] = "-e: which text?", ["-e 1 2"] = "unexpected argument '2'",
            ["repl --fast"] = "unknown argument '--fast'",
            ["-i"] = "-i: which file?", ["-i /nonexistent.lua </dev/null"] = "steer repl: cannot open /nonexistent.lua",
        } do
            local output, errors, status = shell("scripts/steer " .. arguments)
            assert.equal("", output)
            assert_found(errors, message)
            assert.equal(2, status)
        end
    end)

    it("ends with 130 when interrupted", function()
        local _, errors, status = evaluate("require('steer.core.c').C.steer_interrupt_raise() steer.tensor.zeros({1})")
        assert_found(errors, "interrupted\n")
        assert.equal(130, status)
    end)
end)

describe("steer with a pipe", function()
    it("runs inputs as if they were typed, without prompts or escapes", function()
        local output, errors, status = pipe("local x = 2\nfor i = 1, x do\n  print(i)\nend\n\nx * 21\n:source f\n")
        assert.equal("1\n2\n42\n", output)
        assert.equal("3\n{ 1, 2 }\n", (pipe("1 +\n2\n{ 1,\n2 }\n"))) -- expressions that begin no statement
        assert_found(errors, "nothing of the name f")
        assert.equal(1, status)
    end)

    it("prints what the README shows", function()
        local file = assert(io.open("README.md"))
        local session = file:read("*a"):match("\n```\n(steer> .-)```")
        file:close()
        local inputs, printed = {}, {}
        for line in session:gmatch("(.-)\n") do
            local input = line:match("^steer> (.*)$")
            table.insert(input and inputs or printed, input or line)
        end
        assert.is_true(#inputs > 3 and #printed > 5)
        assert.equal(table.concat(printed, "\n") .. "\n", (pipe(table.concat(inputs, "\n"))))
    end)

    it("ends at the first error", function()
        local output, errors, status = pipe("1\nerror('no')\n2")
        assert.equal("1\n", output)
        assert_found(errors, "no")
        assert.equal(1, status)
    end)

    it("says that the last input is not complete", function()
        local output, errors, status = pipe("for i = 1, 2 do\nprint(i)")
        assert.equal("", output)
        assert_found(errors, "'<eof>'")
        assert.equal(1, status)
    end)

    it("leaves the rest of the input to what reads it, and stops at :quit", function()
        assert.equal('"this"\n', (pipe("io.read()\nthis\n:quit\n1\n")))
    end)

    it("runs a script before", function()
        local path = script("double = function(x) return 2 * x end first = ...")
        local output, _, status = pipe("double(4), first\n", "-i " .. path .. " word")
        os.remove(path)
        assert.equal('8\n"word"\n', output)
        assert.equal(0, status)
    end)

    it("sets no globals of other modules", function()
        assert.equal("true\n", (pipe("type = 3 print = 3\nsteer.tensor.zeros({2}):numel() == 2\n")))
    end)
end)

describe(":time", function()
    it("repeats what is short and says how long it takes, how much that differs and how often it ran", function()
        local output = pipe ":time -n 4 -r 3 count = (count or 0) + 1\ncount\n"
        local wanted = "^time: [%d.]+ %a+ ± [%d.]+ %a+ %(mean and deviation of 3 x 4, fastest [%d.]+ %a+%)\n13\n$"
        assert.truthy(output:find(wanted), output)
        local loops = pipe(":time 1 + 1\n"):match "^2\ntime: .* of [2-7] x (%d+), fastest" -- fewer on a busy machine
        assert.is_true(tonumber(loops) >= 1000, loops)
        assert_found(pipe ":timeit -r 2 steer.tensor.ones({4}):sum()\n", "4\ntime: ")
        local slow = (":time local t = NOW count = (count or 0) + 1 repeat until NOW > t + 1.6\ncount\n")
            :gsub("NOW", "steer.bench.clock()")
        assert.truthy(pipe(slow):find "^time: 1%.%d+ s, the one time that it ran; .*\n1\n$")
    end)
end)

describe("help", function()
    it("has a comment for every public name", function()
        assert.same({}, docs.lacking())
    end)

    it("finds a missing comment", function()
        local path = script("local M = {}\n\n--- Has one.\nfunction M.a() end\n\nfunction M.b(x)\nend\n\nreturn M\n")
        local found, _, returns = docs.read(path)
        os.remove(path)
        assert.equal("M", returns)
        assert.same({ "Has one." }, found[1].doc)
        assert.same({ "b", "x", 6, 7 }, { found[2].name, found[2].arguments, found[2].line, found[2].last })
        assert.is_nil(found[2].doc)
    end)

    it("knows the names of the interface", function()
        for _, topic in ipairs { "steer", "tensor", "tensor.zeros", "tensor:sum", "tensor:get", "tensor.dtype", "add",
            "cap", "ablate", "spec", "spec:layers", "spec:save", "load_spec", "engine", "engine:plan", "engine:stats",
            "plan:apply", "plan:update", "plan:explain", "load", "save", "device", "device:memory", "devices" } do
            assert(docs.entry(topic), "no topic " .. topic)
        end
    end)

    it("shows the comment with its arguments", function()
        assert.equal("tensor:unsqueeze(dim)\n  Views the tensor with a new dimension of size 1 at `dim`.\n\n"
            .. "  dim  number: from 1 to t.ndim + 1, or from the end: -1 appends",
            docs.describe("tensor:unsqueeze", 100))
        for topic, part in pairs {
            ["steer.add"] = "steer.add(vector, scale, opts)\n  Adds a vector",
            zeros = "steer.tensor.zeros(shape, opts)",
            ["narrow()"] = "raises  invalid_argument if", plan = "plan:apply", softmax = "dim  number, default -1",
        } do
            assert_found(docs.describe(topic, 80), part)
        end
        assert.is_nil(docs.describe("no_such_thing", 80))
    end)

    it("keeps the items of a list apart", function()
        local text = docs.describe("load", 80)
        assert_found(text, "\n    .npy: returns a tensor\n    .npz: returns name -> tensor")
        assert_found(docs.describe("bench.time", 100), '\n           mode "hot" (default)')
        assert.is_nil(text:find " \n")
    end)

    it("of a function holds what the head of its file says", function()
        assert_found(docs.describe("spec", 80), "\n    exclude: the same keys")
    end)

    it("finds the topics that mention a word", function()
        assert.same({ "plan:apply", "plan:graph" }, docs.mentions "residual")
        assert.same({}, docs.mentions "no such word")
        local output = pipe ":help Turner\n"
        for _, topic in ipairs(docs.mentions "Turner") do assert_found(output, topic) end
        assert.is_true(#docs.mentions "direction" > 2)
        assert_found(pipe ":help exclude\n", "an option of lm:grid")
        local both = pipe ":help generate\n"
        assert_found(both, "model:generate(requests)\n  Generates text.")
        assert_found(both, "generate, an option of lm:grid")
        for wrong, near in pairs { generat = "generate", temperatur = "temperature", ["tensor.zeross"] = "tensor.zeros",
            ["model:generat"] = "model:generate" } do
            assert_found(pipe(":help " .. wrong .. "\n", "2>&1"), ("did you mean '%s'?"):format(near))
        end
        assert_found(pipe ":help add\n", "Adds a vector")
    end)

    it("is laid out to the width", function()
        for line in docs.describe("engine:plan", 60):gmatch("[^\n]+") do assert.is_true(#line <= 60, line) end
    end)
end)

describe("values", function()
    it("print readably", function()
        local steer = require "steer"
        for text, value in pairs {
            ['"a\\n\\"b\\\\\\001"'] = "a\n\"b\\\1", ["{}"] = {}, ["{ 1, 2, a = 3 }"] = { 1, 2, a = 3 },
            ['{ [-1] = 1, ["end"] = true, ["x y"] = 2 }'] = { [-1] = 1, ["x y"] = 2, ["end"] = true },
            ["{ [tensor 2x3 f32 cpu], 1 }"] = { steer.tensor.zeros({ 2, 3 }, { device = "cpu" }), 1 }, ["5LL"] = 5LL,
            ["{ spec: empty, steers nothing }"] = { steer.spec {} }, ["nan"] = 0 / 0,
        } do
            assert.equal((text:gsub("^nan$", tostring(0 / 0))), show.text(value))
        end
    end)

    it("that a file holds are rows of a table", function()
        local zeros = require("steer").tensor.zeros
        local held = { ["layer.10.weight"] = zeros({ 2, 3 }, { device = "cpu" }),
            ["layer.2.weight"] = zeros({ 1024 }, { device = "cpu", dtype = "bf16" }) }
        local wanted = [[
layer.2.weight   1024  bf16 cpu
layer.10.weight  2x3   f32 cpu
[2 tensors] ]]
        assert.equal(wanted:sub(1, -2), show.text(held))
        held["layer.2.weight"]:close()
        assert_found(show.text(held), "layer.2.weight   closed")
        local many = {}
        for i = 0, 99 do many[i] = held["layer.10.weight"] end
        assert_found(show.text(many), "\n... 60 more\n[100 tensors]")
        assert_found(show.text(many), "0   2x3")
    end)

    it("of many lines begin with their shape", function()
        local zeros = require("steer").tensor.zeros
        assert.equal("[tensor 30x3 f32 cpu]", show.text(zeros({ 30, 3 }, { device = "cpu" })):match "^[^\n]*")
        assert.equal("[tensor 3x3 f32 cpu]", show.text(zeros({ 3, 3 }, { device = "cpu" })):match "[^\n]*$")
    end)

    it("stay short", function()
        local list, deep, strings = {}, {}, {}
        for i = 1, 1e5 do list[i] = i end
        for i = 1, 5000 do strings["key" .. i] = ("x"):rep(1000) end
        local inner = deep
        for _ = 1, 1000 do
            inner.next = {}
            inner = inner.next
        end
        deep.itself, deep.list = deep, { list, list, list }
        assert_found(show.text(list), "... 99960 more")
        assert_found(show.text(strings), "... 4960 more")
        assert_found(show.text(deep), "{ itself }")
        assert.is_true(#show.text(deep) < 2000)
        assert_found(show.text(("x"):rep(1e6)), "(1000000 bytes)")
    end)
end)

describe("layout", function()
    local prompts = { first = "> ", next = ". ", width = 2 }

    local function wrap(text, cursor, columns)
        return layout.wrap(layout.characters(text), cursor, prompts, columns)
    end

    it("splits UTF-8, and bytes that are not", function()
        assert.same({ "a", "ä", "€", "𝄞", "\255", "\195" }, layout.characters("aä€𝄞\255\195"))
        assert.equal(1 + 1 + 1 + 2 + 4 + 2 + 1, layout.width("aä€世\t\1\255"))
        assert.equal(1, layout.width("e\204\129")) -- e and a combining accent
    end)

    it("wraps rows and places the cursor", function()
        for _, case in ipairs {
            { "abc", 3, 80, { "> abc" }, 1, 5 }, { "abcd", 4, 6, { "> abcd", "" }, 2, 0 },
            { "abcdef", 0, 6, { "> abcd", "ef" }, 1, 2 }, { "abcdef", 4, 6, { "> abcd", "ef" }, 2, 0 },
            { "a\nb", 2, 80, { "> a", ". b" }, 2, 2 }, { "a\n", 2, 80, { "> a", ". " }, 2, 2 },
            { "abc世", 0, 6, { "> abc", "世" }, 1, 2 }, { "", 0, 80, { "> " }, 1, 2 },
        } do
            local rows, row, column = wrap(case[1], case[2], case[3])
            assert.same({ case[4], case[5], case[6] }, { rows, row, column })
        end
    end)

    it("survives a terminal narrower than its prompt", function()
        local rows = wrap("ab世", 1, 1)
        assert.equal("> ab世", table.concat(rows))
    end)

    it("lays words out in columns", function()
        assert.same({ "a   cc  e", "bb  d" }, layout.columns({ "a", "bb", "cc", "d", "e" }, 12, 10))
        assert.same({ "a  b", "... and 1 more" }, layout.columns({ "a", "b", "c" }, 80, 2))
    end)
end)
