--- Fuzzes tokenizers for a while: mutated tokenizer.json files must open, or fail with one of the file codes;
-- what opens must encode mutated texts, and decode what it gave, or say why not.
local json = require "steer.core.json"
local steer = require "steer"
local steer_error = require "steer.core.error"
local fuzzing = dofile(debug.getinfo(1, "S").source:match "^@(.*/)" .. "fuzzing.lua")

local get, put, splice, lines_of, random = fuzzing.get, fuzzing.put, fuzzing.splice, fuzzing.lines_of, math.random
local sets = debug.getinfo(1, "S").source:match("^@(.*)fuzz/[^/]*$") .. "fixtures/text/synthetic/"

-- ---- What to begin from --------------------------------------------------------------------------------------------

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
    local tokenizer = steer.tokenizer(put("tokenizer.json", bytes))
    for _ = 1, 5 do
        local text = any_text()
        put("text", text)
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

fuzzing.begin "fuzz_tokenizer"
for _, bytes in ipairs(corpus) do try(bytes) end
fuzzing.run("opened", "format unsupported io not_found out_of_memory", function()
    try(mutate(corpus[random(#corpus)]))
end)
