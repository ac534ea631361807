--- text.lua: how fast tokenizers are read, encode and decode. Usage: steer run bench/text.lua [OPTIONS] [PATH ...]
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path

local steer = require "steer"
local common = require "common"
local page = require "page"
local report = require "engine.report"

local HELP = [[
usage: steer run bench/text.lua --tokenizers A,B [OPTIONS]

  --tokenizers A,B  folders, tokenizer.json files (also .xz) or .gguf files
  --text FILE       English prose (default: the README and bench/README.md of this repository)
  --seconds N       for each measurement (default: 0.5)
  --out DIR         write text.jsonl (raw samples) and text.md (the table) there
]]
local VALUES = { tokenizers = true, text = true, seconds = true, out = true }
local options = common.options(arg, "text.lua", HELP, {}, VALUES)
local seconds = tonumber(options.seconds or 0.5)
if not options.tokenizers then common.fail_usage("text.lua", HELP, "--tokenizers: expected at least one") end
if not seconds or seconds <= 0 then common.fail_usage("text.lua", HELP, "--seconds: expected a number above 0") end

local say = common.sayer()
local log = common.log(say)

local function read(path)
    local file, message = io.open(path, "rb")
    if not file then common.fail_usage("text.lua", HELP, "--text: " .. message) end
    local text = file:read("*a")
    file:close()
    return text
end

local text = options.text and read(options.text) or read(here .. "/../README.md") .. read(here .. "/README.md")

-- Seconds of calls of fn, until the time is over: of this process alone, whose one thread does all.
local function timed(fn)
    local samples, from = {}, steer.bench.clock()
    repeat
        local began = os.clock()
        fn()
        samples[#samples + 1] = os.clock() - began
    until #samples >= 3 and steer.bench.clock() - from > seconds
    return steer.bench.stats(samples)
end

-- The file itself, unpacked into a temporary one if it ends in .xz; then whether it is temporary.
local function unpacked(path)
    if not path:find("%.xz$") then return path, false end
    local name = os.tmpname()
    if os.execute(("xz -dc %s > %s"):format(common.quote(path), name)) ~= 0 then error("xz could not unpack it", 0) end
    return name, true
end

local rows, records = {}, log.records

local function add(name, metric, stats, amount, more)
    local row = { shape = name, metric = metric, from = ("%s (n=%d)"):format(page.duration(stats.median), stats.n) }
    for key, value in pairs(more) do row[key] = value end
    if amount then
        row.value, row.low, row.high = amount / stats.median, amount / stats.q3, amount / stats.q1
    else
        row.value, row.low, row.high = stats.median, stats.q1, stats.q3
    end
    rows[#rows + 1] = row
    records[#records + 1] = { kind = "measurement", section = name, name = metric, unit = "s", wall = stats }
end

local function measure(path)
    local name = path:gsub("/tokenizer%.json.*$", ""):match("[^/]*$")
    local file, temporary = unpacked(path)
    local ok, err = pcall(function()
        local tokenizer = steer.tokenizer(file)
        add(name, "read", timed(function() steer.tokenizer(file):close() end), nil, {
            unit = "s", must = 1, stretch = 0.4,
        })
        local bytes = #text / 1e6
        add(name, "encode, MB/s", timed(function() tokenizer:encode(text) end), bytes, {
            more = true, must = 3, stretch = 15,
        })
        local ids = tokenizer:encode(text)
        add(name, "decode, MB/s", timed(function() tokenizer:decode(ids) end), bytes, { more = true })
        tokenizer:close()
    end)
    if temporary then os.remove(file) end
    if not ok then error(err, 0) end
end

for path in options.tokenizers:gmatch("[^,]+") do log.attempt(path, function() measure(path) end) end

local list = common.environment(steer.device("cpu"), here)
list[#list + 1] = { "text", ("%.2f MB, %s"):format(#text / 1e6, options.text or "this repository's own") }
local out = { "# Tokenizers", page.environment(list), report.table(rows) }
if #log.notes > 0 then out[#out + 1] = "## Notes\n\n" .. page.bullets(log.notes) end
common.publish(options.out, "text", table.concat(out, "\n\n") .. "\n", list, records, say)
