--- Results files: what is written is read again, torn last lines are mended, foreign ones are refused; and JSON.
local helper = require "helper"
local json = require "steer.core.json"
local record = require "steer.record"

local header = { name = "trial", axes = { n = { 1, 2, 3 }, path = { "a" } }, order = { "path", "n" }, seed = 7,
    version = "0.1.0" }

local function line(n, status, metrics)
    return { case = { n = n, path = "a" }, status = status or "ok", metrics = metrics or { us = n / 10 } }
end

local function read(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read "*a"
    file:close()
    return text
end

local function write(path, text)
    local file = assert(io.open(path, "wb"))
    file:write(text)
    file:close()
end

describe("json", function()
    it("writes sorted keys, 17 digits, null for what is not finite, and valid UTF-8", function()
        assert.equal('{"a":[1,null,null],"b":0.10000000000000001,"c":{},"d":[],"e":true}', json.encode {
            e = true, d = json.list(), c = {}, b = 0.1, a = { 1, 0 / 0, 1 / 0 } })
        assert.equal([["q\"\\\n\u0001\u007fé]] .. "\239\191\189\239\191\189" .. '"',
            json.encode "q\"\\\n\1\127é\255\224")
        for _, x in ipairs { 0.1 + 0.2, 2 ^ 53, -1e-310, 1.7976931348623157e308, 1 / 3, 0, -17 } do
            assert.equal(x, json.decode(json.encode(x)))
        end
    end)

    it("knows UTF-8", function()
        for text, good in pairs { ["a\194\162\226\130\172\240\144\141\136"] = true, ["\192\128"] = false,
            ["\237\160\128"] = false, ["\244\144\128\128"] = false, ["\226\130"] = false, ["\224\128\128"] = false } do
            assert.equal(good, json.is_utf8(text))
        end
    end)

    it("refuses what JSON has no form for", function()
        local cycle = {}
        cycle.cycle = cycle
        for _, value in ipairs { print, { 1, x = 2 }, 5LL, cycle, { [{}] = 1 }, { ["\255"] = 1 } } do
            helper.fails("invalid_argument", "json_encode: value: ", json.encode, value)
        end
    end)

    it("reads null as NaN and says what is wrong", function()
        local list = json.decode "[1, null]"
        assert.is_true(list[2] ~= list[2])
        for _, text in ipairs { "", "{", "{} {}", "nothing", ("["):rep(1e6), '{"a":1' } do
            local value, why = json.decode(text)
            assert.is_nil(value)
            assert.is_string(why)
        end
    end)
end)

describe("the content of a case", function()
    it("gives key and seed, whatever the order of its axes", function()
        local a, b = { x = 1, y = "1" }, {}
        b.y, b.x = "1", 1
        assert.equal(record.key(a), record.key(b))
        assert.equal(record.seed(5, a), record.seed(5, b))
        assert.is_truthy(record.key(a):find "^%x+$")
        local seen = {}
        for _, case in ipairs { { x = 1 }, { x = "1" }, { x = true }, { x = "true" }, { y = 1 }, { x = 1, y = 1 } } do
            assert.is_nil(seen[record.key(case)])
            seen[record.key(case)] = true
        end
        assert.not_equal(record.seed(5, a), record.seed(6, a))
        assert.not_equal(record.seed(5, { x = 1 }), record.seed(5, { x = 2 }))
        for n = 1, 1000 do
            local seed = record.seed(0, { n = n })
            assert.is_true(seed >= 0 and seed < 2 ^ 48 and seed % 1 == 0)
        end
    end)
end)

describe("a results file", function()
    local path
    before_each(function() path = os.tmpname() end)
    after_each(function() os.remove(path) end)

    local function make(...)
        local writer = record.create("test", path, header)
        for _, entry in ipairs { ... } do writer:add(entry) end
        writer:close()
        return read(path)
    end

    it("keeps what is written", function()
        make(line(1, "ok", { us = 0.1, nan = 0 / 0 }), line(2, "skipped"), line(3))
        local found = record.read(path)
        assert.same(header.order, { unpack(found.header.order) })
        assert.equal("trial", found.header.name)
        assert.same({ 1, 2, 3 }, { unpack(found.header.axes.n) })
        assert.equal(3, #found.cases)
        assert.equal(0.1, found.cases[1].metrics.us)
        assert.is_true(found.cases[1].metrics.nan ~= found.cases[1].metrics.nan)
        assert.equal("skipped", found.cases[2].status)
        assert.equal(record.key { n = 1, path = "a" }, found.cases[1].key)
    end)

    it("is mended wherever it was torn: whole lines stay, nothing else", function()
        local text = make(line(1), line(2))
        local ends = {}
        for at in text:gmatch "()\n" do ends[#ends + 1] = at end
        for cut = 0, #text do
            write(path, text:sub(1, cut))
            local writer, found = record.continue("test", path, header, function() end)
            local whole = (cut >= ends[2] - 1 and 1 or 0) + (cut >= ends[3] - 1 and 1 or 0)
            assert.equal(whole, #found.cases)
            for n = whole + 1, 2 do writer:add(line(n)) end
            writer:close()
            assert.equal(text, read(path))
        end
    end)

    it("is mended after a machine left zeros at its end", function()
        local text = make(line(1))
        write(path, text .. ("\0"):rep(300))
        assert.equal(#text, record.read(path).torn_from)
        record.continue("test", path, header, function() end):close()
        assert.equal(text, read(path))
    end)

    it("takes the last line of a case that failed, and names cases that ran twice", function()
        make(line(1, "failed"), line(2), line(1), line(2))
        local found = record.read(path)
        assert.equal(2, #found.cases)
        assert.equal(4, found.cases[1].line)
        assert.equal("ok", found.cases[1].status)
        assert.equal(1, #found.repeated)
        assert.same({ 3, 5 }, { found.repeated[1].first, found.repeated[1].second })
    end)

    it("with foreign content is refused and stays as it is", function()
        local text = make(line(1))
        local key = record.key { n = 1, path = "a" }
        for wrong, message in pairs {
            ["hello"] = "line 1 is not the header", ["hello\n"] = "line 1 is not the header", ["{}\n"] = "line 1",
            ['{"steer_sweep":2}\n'] = "format 2, this version reads format 1",
            ['{"steer_sweep":1}\n'] = "lacks name, axes, order or seed",
            [text .. "hello"] = "line 3 is foreign", [text .. "{}\n"] = "line 3 is foreign: it is no case",
            [text .. "\n" .. text] = "line 3 is foreign",
            [text:gsub("}\n$", "\n") .. text] = "line 2 is foreign",
            [text:gsub('"status":"ok"', '"status":"good"')] = "line 2 is foreign",
            [text:gsub(key, "0123456789abcdef")] = "its key does not belong",
            [text:gsub('"n":1,', "")] = "the case lacks the axis n",
            [text:gsub('"n":1,', '"n":1,"o":2,')] = "other axes than the header",
            [text:gsub('"metrics":{[^}]*}', '"metrics":[1.5]')] = "its metrics are a list, expected names",
            [text:gsub('"metrics":', '"samples":[[1]],"metrics":')] = "its samples are a list, expected names",
            [text:gsub('"n":%[1,', '"n":[1e999,')] = "line 1: the header lacks",
            [text:gsub('"metrics":', '"code":{"file":1},"metrics":')] = "its code is something else than hashes",
            [text:gsub('"seed":7', '"seed":null')] = "line 1: the header lacks",
        } do
            write(path, wrong)
            helper.fails("format", message, record.read, path)
            helper.fails("format", message, record.continue, "test", path, header, function() end)
            assert.equal(wrong, read(path))
        end
        write(path, "")
        helper.fails("format", "it is empty", record.read, path)
        helper.fails("io", "cannot open", record.read, "/nonexistent/results.jsonl")
        helper.fails("io", "cannot read", record.read, "/tmp")
        helper.fails("invalid_argument", "path: expected", record.read, nil)
    end)

    it("is written by one process at a time, and never over another", function()
        make(line(1))
        helper.fails("io", "exists and is not empty", record.create, "test", path, header)
        local writer = record.continue("test", path, header, function() end)
        helper.fails("io", "another process is writing", record.continue, "test", path, header, function() end)
        writer:close()
    end)

    it("is a file, or a pipe that somebody reads", function()
        helper.fails("io", "/tmp: cannot write: it is a folder", record.create, "test", "/tmp", header)
        helper.fails("io", "/tmp: cannot write: it is a folder", record.continue, "test", "/tmp", header)
        os.remove(path)
        assert.equal(0, os.execute("mkfifo " .. path))
        helper.fails("io", "cannot write: nobody reads from this pipe", record.create, "test", path, header)
        -- Calls fn(...) when somebody reads; gives what pcall does, and what was read.
        local function while_read(fn, ...)
            local reader, result = io.popen("cat " .. path), {}
            for _ = 1, 200 do
                result = { pcall(fn, ...) }
                if result[1] or not tostring(result[2]):find "nobody reads" then break end
                os.execute "sleep 0.05"
            end
            if result[1] then
                result[2]:add(line(1))
                result[2]:close()
            end
            local text = reader:read "*a"
            reader:close()
            return result[1], result[2], text
        end
        local _, err = while_read(record.continue, "test", path, header)
        assert.is_truthy(tostring(err):find "it is a pipe, which holds no earlier results")
        local ok, _, text = while_read(record.create, "test", path, header)
        assert.is_true(ok)
        os.remove(path)
        write(path, text)
        assert.equal(1, #record.read(path).cases)
    end)

    it("keeps its lines when the disk is full", function()
        helper.fails("io", "No space left on device", record.create, "test", "/dev/full", header)
        helper.fails("io", "cannot write: No such file", record.create, "test", "/nonexistent/x", header)
        local text = make(line(1))
        local script = os.tmpname()
        write(script, ([[
            local record = require "steer.record"
            local writer = record.continue("test", %q, nil, function() end)
            local ok, err = pcall(writer.add, writer, { case = { n = 2, path = "a" }, status = "ok",
                reason = ("x"):rep(4000) })
            print(ok, err)
        ]]):format(path))
        -- A limit on file sizes, with its signal ignored, stops a write half-way as a full disk does.
        local pipe = io.popen(("bash -c \"trap '' XFSZ; ulimit -f 1; scripts/steer run %s 2>&1\""):format(script))
        local output = pipe:read "*a"
        pipe:close()
        os.remove(script)
        assert.is_truthy(output:find("^false%s+io: test: %S+: cannot write: File too large"), output)
        assert.equal(text, read(path))
    end)
end)
