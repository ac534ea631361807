--- Fuzzes tokenizers for a while: mutated tokenizer.json files must open, or fail with one of the file codes;
-- what opens must encode mutated texts, and decode what it gave, or say why not.
-- usage: scripts/steer run tests/fuzz/fuzz_tokenizer.lua [seconds] [seed]
-- On a failure, or a crash, the input stays in the folder that is printed first.
local json = require "steer._json"
local steer = require "steer"
local steer_error = require "steer._error"
local C = require("steer._c").C

local seconds = tonumber(arg[1]) or 10
local seed = tonumber(arg[2]) or os.time()
local allowed = { format = true, unsupported = true, io = true, not_found = true, out_of_memory = true }
local random = math.random
local sets = debug.getinfo(1, "S").source:match("^@(.*)fuzz/[^/]*$") .. "fixtures/text/synthetic/"

local function lines_of(command)
    local pipe, list = io.popen(command), {}
    for line in pipe:lines() do list[#list + 1] = line end
    pipe:close()
    return list
end

local function get(path)
    local file = assert(io.open(path, "rb"))
    local bytes = file:read "*a"
    file:close()
    return bytes
end

local function put(path, bytes)
    local file = assert(io.open(path, "wb"))
    file:write(bytes)
    file:close()
end

-- ---- What to begin from --------------------------------------------------------------------------------------------

local folder = lines_of("mktemp -d")[1]
local corpus, texts = {}, {}
for i, name in ipairs(lines_of("ls '" .. sets .. "'")) do
    corpus[i] = get(sets .. name .. "/tokenizer.json")
    local count = 0
    for line in io.lines(sets .. name .. "/cases.jsonl") do
        count = count + 1
        if count % 10 == 0 then texts[#texts + 1] = json.decode(line).text end
    end
end

-- ---- Mutations -----------------------------------------------------------------------------------------------------

local function splice(bytes, at, length, new) return bytes:sub(1, at - 1) .. new .. bytes:sub(at + length) end

local values = { "0", "-1", "2147483647", "4294967296", "1e300", "null", "true", "[]", "{}", '""', '"a"', '"<unk>"',
    '"Sequence"', '"ByteLevel"', '"Metaspace"', '"Fuse"', '"Strip"', '"Replace"',
    '"\\u2581"', '"(a+)+b"', '"\\\\s*"', '"[^a]|"' }
local pieces = { ",", "[", "]", "{", "}", '"', "\\", "\\u0000", "\255", "(", "*", "\\\\p{L}", "1" }

-- Another value where one stands: after a colon or within a list.
local function swap_value(bytes, at)
    local from, to = bytes:find('[:%[,]%s*"?[^",:%[%]{}]*"?', at)
    if not from then return bytes end
    return splice(bytes, from + 1, to - from, values[random(#values)])
end

-- The component types of a file are few: exchanging them makes pipelines that nobody wrote.
local function swap_component(bytes)
    local other = corpus[random(#corpus)]
    local key = ({ '"normalizer":', '"pre_tokenizer":', '"post_processor":', '"decoder":' })[random(4)]
    local from, to = bytes:find(key, 1, true)
    local start, stop = other:find(key, 1, true)
    if not from or not start then return bytes end
    local here, there = bytes:match("^%s*(%b{})", to + 1) or bytes:match("^%s*null", to + 1),
        other:match("^%s*(%b{})", stop + 1) or "null"
    if not here then return bytes end
    local begins = bytes:find(here, to + 1, true)
    return splice(bytes, begins, #here, there)
end

local mutations = {
    swap_value, swap_value, swap_component, swap_component,
    function(b, at) return splice(b, at, 1, string.char(random(0, 255))) end,
    function(b, at) return splice(b, at, random(0, 3), pieces[random(#pieces)]) end,
    function(b, at) return splice(b, at, random(1, 30), "") end,
    function(b, at) return splice(b, at, 0, b:sub(at, at + random(0, 60))) end,
    function(b, at) return b:sub(1, at - 1) end,
    function(b) return (b:gsub("%d+", function(d) return random(200) == 1 and tostring(random(0, 999)) or d end)) end,
    function(b) return (b:gsub("true", function(w) return random(3) == 1 and "false" or w end)) end,
    function(b) return (b:gsub("false", function(w) return random(5) == 1 and "true" or w end)) end,
}

local function mutate(bytes)
    for _ = 1, random(1, 3) do
        local at = random(1, random(3) == 1 and #bytes or math.min(#bytes, 1500)) -- the pipeline stands first or last
        if random(2) == 1 then at = math.max(1, #bytes - at) end
        bytes = mutations[random(#mutations)](bytes, at)
    end
    return bytes
end

local function any_text()
    local text = texts[random(#texts)] .. texts[random(#texts)]
    if random(4) == 1 then text = text:sub(random(#text), random(#text)) end
    if random(6) == 1 then text = splice(text, random(1, #text + 1), random(0, 2), string.char(random(0, 255))) end
    return text
end

-- ---- The loop ------------------------------------------------------------------------------------------------------

local function try(bytes)
    local path = folder .. "/tokenizer.json"
    os.remove(path)
    put(path, bytes)
    local tokenizer = steer.tokenizer(path)
    for _ = 1, 5 do
        local text = any_text()
        put(folder .. "/text", text)
        local ok, ids = pcall(tokenizer.encode, tokenizer, text, { special = random(2) == 1 })
        if ok then
            for _ = 1, random(0, 3) do ids[#ids + 1] = random(0, tokenizer.vocab - 1) end
            local whole, stream, parts = tokenizer:decode(ids), tokenizer:stream(), {}
            for i, id in ipairs(ids) do parts[i] = stream:push(id) end
            parts[#parts + 1] = stream:finish()
            assert(table.concat(parts) == whole, "a stream gives another text than decode")
        elseif not (steer_error.is(ids) and (ids.code == "format" or ids.code == "unsupported")) then
            error(ids, 0)
        end
    end
end

print(("fuzz_tokenizer: seed %d, %g s, inputs in %s"):format(seed, seconds, folder))
io.stdout:flush()
math.randomseed(seed)
for _, bytes in ipairs(corpus) do try(bytes) end
local count, opened, deadline = 0, 0, C.steer_clock() + seconds
while C.steer_clock() < deadline do
    local ok, problem = pcall(try, mutate(corpus[random(#corpus)]))
    count, opened = count + 1, opened + (ok and 1 or 0)
    if not ok and not (steer_error.is(problem) and allowed[problem.code]) then
        print(("fuzz_tokenizer: input %d (seed %d), kept in %s: %s"):format(count, seed, folder, tostring(problem)))
        os.exit(1)
    end
end
print(("fuzz_tokenizer: %d inputs, of which %d opened and the others were refused"):format(count, opened))
os.execute("rm -rf '" .. folder .. "'")
