--- The `steer` command: help, version, info, and scripts with their arguments, errors and exit status.

-- Runs a shell command; gives its output, errors and exit status.
local function shell(command)
    local errors = os.tmpname()
    local pipe = io.popen(("{ %s; } 2>%s; printf '\\n%%d' $?"):format(command, errors))
    local output, status = pipe:read("*a"):match("^(.*)\n(%d+)$")
    pipe:close()
    local file = io.open(errors)
    local text = file:read("*a")
    file:close()
    os.remove(errors)
    return output, text, tonumber(status)
end

local function steer(arguments)
    return shell("scripts/steer " .. arguments)
end

-- Runs a script given as text.
local function run(text, arguments)
    local path = os.tmpname()
    local file = io.open(path, "w")
    file:write(text)
    file:close()
    local output, errors, status = steer("run " .. path .. " " .. (arguments or ""))
    os.remove(path)
    return output, errors, status, path
end

local function assert_found(text, pattern)
    assert(text:find(pattern), ("expected %q in:\n%s"):format(pattern, text))
end

describe("steer", function()
    it("prints help, of each command too, without needing the library", function()
        for arguments, word in pairs { ["--help"] = "run", ["run --help"] = "FILE", ["info --help"] = "device",
            ["help info"] = "device", ["help help"] = "COMMAND" } do
            local output, errors, status = shell("STEER_LIB=/nonexistent scripts/steer " .. arguments)
            assert_found(output, "^usage: steer")
            assert_found(output, word)
            assert.equal("", errors)
            assert.equal(0, status)
        end
    end)

    it("prints its version", function()
        for _, option in ipairs { "--version", "-v" } do
            local output, errors, status = steer(option)
            assert_found(output, "^steer %d+%.%d+%.%d+\n$")
            assert.equal("", errors)
            assert.equal(0, status)
        end
    end)

    it("lets threads that wait spin a short while only, unless the user decides", function()
        local command = "env -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT %s scripts/steer -e \"os.getenv 'GOMP_SPINCOUNT'\""
        assert.equal('"1000"\n', (shell(command:format "")))
        assert.equal('"5"\n', (shell(command:format "GOMP_SPINCOUNT=5")))
        assert.equal("nil\n", (shell(command:format "OMP_WAIT_POLICY=active")))
    end)

    it("without a command reads inputs", function()
        local output, errors, status = steer "</dev/null"
        assert.equal("", output)
        assert.equal("", errors)
        assert.equal(0, status)
    end)

    it("names the nearest command for an unknown one", function()
        local _, errors, status = steer "inof"
        assert_found(errors, "unknown command 'inof', did you mean 'info'%?")
        assert.equal(2, status)
        assert_found(select(2, steer "--hlp"), "unknown command '%-%-hlp', did you mean 'help'%?")
        assert_found(select(2, steer "zzzzzz"), "unknown command 'zzzzzz'\n")
    end)

    it("says what is wrong with a command's words, and where there is more", function()
        for arguments, message in pairs {
            ["run"] = "which file?", ["run --outpt x"] = "unknown option '--outpt'",
            ["bench"] = "which file?", ["bench --outpt x"] = "unknown option '--outpt'",
            ["merge --outpt x"] = "unknown option '--outpt', did you mean '--output'?",
            ["sweep --outpt x"] = "unknown option '--outpt', did you mean '--output'?",
            ["generate --outpt x"] = "unknown option '--outpt'", ["compare -x"] = "unknown option '-x'",
            ["info x"] = "unexpected argument 'x'", ["repl x"] = "unknown argument 'x'",
            ["chat a b"] = "expected one model, got 2 words",
            ["generate a b c"] = "expected one prompt, in quotes, got 2 words",
            ["plot /nonexistent"] = "--x: it is missing; io: plot: cannot open /nonexistent: No such file or directory",
        } do
            local command = arguments:match "%S+"
            local output, errors, status = steer(arguments)
            assert.equal(("steer %s: %s\nsteer %s --help says more\n"):format(command, message, command), errors)
            assert.same({ "", 2 }, { output, status })
        end
    end)

    it("names the command that a file's error is of", function()
        for arguments, message in pairs {
            ["compare /nonexistent b"] = "io: compare: cannot open /nonexistent",
            ["report /nonexistent"] = "io: report: cannot open /nonexistent",
            ["generate /nonexistent"] = "not_found: model: /nonexistent",
            ["bench /nonexistent"] = "cannot open /nonexistent",
        } do
            local command = arguments:match "%S+"
            local _, errors, status = steer(arguments .. " </dev/null")
            assert.equal(("steer %s: %s: No such file or directory\n"):format(command, message), errors)
            assert.equal(command == "bench" and 2 or 1, status)
        end
    end)

    it("says what is wrong when the library cannot be loaded", function()
        local _, errors, status = shell "STEER_LIB=/nonexistent/libsteer.so scripts/steer info"
        assert_found(errors, "^steer info: not_found: library_load: STEER_LIB: cannot load /nonexistent/libsteer.so")
        assert.equal(1, status)
    end)

    it("runs through a link and from another folder", function()
        local link = os.tmpname()
        local output, _, status = shell(("ln -sf \"$PWD/scripts/steer\" %s && cd / && %s --version"):format(link, link))
        os.remove(link)
        assert_found(output, "^steer %d")
        assert.equal(0, status)
    end)

    it("takes a STEER_BUILD from where it is started", function()
        local build = os.getenv "STEER_BUILD" or "build"
        local command = "cd '%s/..' && env -u STEER_LIB STEER_BUILD=\"$(basename '%s')\" %s/scripts/steer info"
        local pipe = io.popen "pwd"
        local root = pipe:read "*l"
        pipe:close()
        local output, errors = shell(command:format(build, build, root))
        assert.equal("", errors)
        assert_found(output, "\nlibrary +/[^\n]+libsteer")
    end)

    it("refuses to stand in a folder that LUA_PATH cannot hold", function()
        for _, mark in ipairs { ";", "?" } do
            local _, errors, status = shell(([[
                dir="$(mktemp -d)" && mkdir "$dir/a%sb" && cp -r scripts lua "$dir"/a* && "$dir"/a*/scripts/steer -v
                status=$?; rm -r "$dir"; (exit $status)]]):format(mark))
            assert_found(errors, "^steer: /[^\n]+: LUA_PATH cannot hold a folder whose name has a ';' or a '%?'")
            assert.equal(1, status)
        end
    end)
end)

describe("steer info", function()
    it("lists backends and devices", function()
        local output, errors, status = steer "info"
        assert_found(output, "\nlibrary +/[^\n]+libsteer")
        assert_found(output, "\nluajit +LuaJIT 2%.1")
        assert_found(output, "\n  cpu +1 device: .*threads, matrix products")
        assert_found(output, "\n  cuda +%S+ devices?")
        assert_found(output, "\n  cpu +[^\n]*GiB memory, [%d.]+ GiB free")
        assert.equal("", errors)
        assert.equal(0, status)
    end)

    it("follows STEER_DEVICE and says why that device is missing", function()
        assert_found(shell "STEER_DEVICE=cpu scripts/steer info", "\ndefault +cpu\n")
        local output, _, status = shell "STEER_DEVICE=cuda:99 scripts/steer info"
        assert_found(output, "\ndefault +not_found: ")
        assert.equal(0, status)
    end)

    it("takes no arguments", function()
        local _, errors, status = steer "info now"
        assert_found(errors, "unexpected argument 'now'")
        assert.equal(2, status)
    end)
end)

describe("steer run", function()
    it("hands the script its arguments", function()
        local output, errors, status, path = run([[
            local a, b = ...
            print(arg[0], #arg, arg[1] == a and arg[2] == b, b)
        ]], "one 'two words'")
        assert.equal(path .. "\t2\ttrue\ttwo words\n", output)
        assert.equal("", errors)
        assert.equal(0, status)
    end)

    it("takes a name that begins with a dash after --", function()
        local output, errors, status = shell [[
            root=$PWD && dir=$(mktemp -d) && cd "$dir" && echo 'print(arg[0], arg[-1], ...)' >-dash.lua
            "$root/scripts/steer" run -- -dash.lua -x --; status=$?; rm -r "$dir"; (exit $status)]]
        assert.equal("-dash.lua\t--\t-x\t--\n", output)
        assert.equal("", errors)
        assert.equal(0, status)
        for _, word in ipairs { "generate nowhere", "sweep", "plot" } do
            local _, complaint = steer(word .. " -- -x")
            assert.is_nil(complaint:find("unknown option", 1, true), complaint)
        end
    end)

    it("leaves the globals as the interpreter sets them", function()
        local text = "local names = {} for name in pairs(_G) do names[#names + 1] = name end table.sort(names) "
            .. "print(table.concat(names, ' '))"
        assert.equal((shell(("luajit -e \"%s\""):format(text:gsub("\n", " ")))), (run(text)))
    end)

    it("shows an error of the library with the script's line", function()
        local output, errors, status, path = run([[
            print "before"
            local function inner()
                require("steer").tensor.zeros({2, -1})
            end
            inner()
        ]])
        assert.equal("before\n", output)
        assert_found(errors, "^steer run: invalid_argument: ")
        assert_found(errors, "\nstack traceback:\n")
        assert_found(errors, path:gsub("%p", "%%%0") .. ":3: in function 'inner'")
        assert_found(errors, path:gsub("%p", "%%%0") .. ":5: in ")
        assert.is_nil(errors:find("xpcall"), "the launcher's own frames are shown:\n" .. errors)
        assert.equal(1, status)
    end)

    it("shows errors of any kind", function()
        for text, message in pairs {
            ["error 'plain'"] = ":1: plain\nstack", ["error()"] = "^steer run: nil\n",
            ["error({})"] = "^steer run: table",
            ["error(setmetatable({}, {__tostring = function() error 'no text' end}))"] = "^steer run: .",
            ["local function f() return 1 + f() end f()"] = "stack overflow",
        } do
            local _, errors, status = run(text)
            assert_found(errors, message)
            assert.equal(1, status)
        end
    end)

    it("reads a script from a pipe", function()
        local output, _, status = shell [[bash -c 'scripts/steer run <(echo "print(1 + 1)")']]
        assert.equal("2\n", output)
        assert.equal(0, status)
    end)

    it("shows a syntax error", function()
        local _, errors, status = run("local x = = 1")
        assert_found(errors, "^steer run: %S+:1: unexpected symbol near '='\n$")
        assert.equal(1, status)
    end)

    it("refuses absent files, folders and unknown options", function()
        for arguments, message in pairs {
            ["nowhere.lua"] = "cannot open nowhere.lua: No such file or directory",
            ["tests"] = "cannot read tests: Is a directory",
            ["--fast"] = "unknown option '%-%-fast'", [""] = "which file%?",
        } do
            local output, errors, status = steer("run " .. arguments)
            assert.equal("", output)
            assert_found(errors, "^steer run: " .. message)
            assert.equal(2, status)
        end
    end)

    it("passes on the status of os.exit, with the output written", function()
        local output, _, status = run("io.write('half a line') os.exit(7)")
        assert.equal("half a line", output)
        assert.equal(7, status)
    end)

    it("ends with 130 where a call is interrupted", function()
        local _, errors, status = run([[
            local c = require "steer.core.c"
            c.C.steer_interrupt_raise()
            require("steer").tensor.zeros({1})
        ]])
        assert_found(errors, "^steer run: interrupted\n")
        assert_found(errors, ":3: in ")
        assert.equal(130, status)
    end)
end)

describe("standard output of steer", function()
    local script, sweep

    setup(function()
        script, sweep = os.tmpname(), os.tmpname()
        for path, text in pairs {
            [script] = "print 'a line'",
            [sweep] = "return require('steer').sweep{ name = 't', axes = { n = 1 }, run = function() return "
                .. "{ n = 1 } end }",
        } do
            local file = io.open(path, "w")
            file:write(text)
            file:close()
        end
    end)

    teardown(function()
        os.remove(script)
        os.remove(sweep)
    end)

    local function commands()
        return { "--help", "--version", "info", "info --help", "-e 1+1", "repl <" .. script, "run " .. script,
            "sweep " .. sweep .. " --list", "sweep " .. sweep .. " --help", "sweep -q -o - " .. sweep }
    end

    it("that cannot be written is said, with status 1", function()
        for _, command in ipairs(commands()) do
            for _, where in ipairs { "/dev/full", "&-" } do
                local _, errors, status = steer(("%s >%s"):format(command, where))
                assert_found(errors, "^steer[^\n]*: standard output: cannot write[^\n]*\n$")
                assert.equal(1, status, command)
            end
        end
        for text, want in pairs { ["io.write 'x' os.exit(0)"] = 1, ["io.write 'x' os.exit(true)"] = 1,
            ["io.write 'x' os.exit(3)"] = 3, ["while true do print 'x' end"] = 1, ["io.write 'x' error 'no'"] = 1 } do
            local _, errors, status = run(text, ">/dev/full")
            assert_found(errors, "steer: standard output: cannot write")
            assert.equal(want, status)
        end
    end)

    it("that nobody reads any more ends quietly, also where the signal was ignored", function()
        for _, command in ipairs { "--help", "info", "run " .. script, "sweep -q -o - " .. sweep } do
            -- The pipe's reader is gone before the command starts.
            local piped = "trap '' PIPE; { { sleep 0.1; scripts/steer %s; echo $? >&3; } | true; } 3>&1"
            local output, errors = shell(piped:format(command))
            assert.equal("", errors)
            assert.equal("141\n", output)
        end
    end)

    it("may be closed by a command that writes nothing", function()
        local output, errors, status = steer("run /dev/null >&-")
        assert.equal("", output .. errors)
        assert.equal(0, status)
    end)

    it("may be closed without a file taking its place", function()
        local path = os.tmpname()
        run(("local file = io.open(%q, 'w') io.write 'lost' io.stdout:flush() file:close()"):format(path), ">&-")
        local file = io.open(path)
        assert.equal("", file:read "*a")
        file:close()
        os.remove(path)
    end)
end)
