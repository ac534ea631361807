-- devices: cpu
-- Tokenizers: ids and texts as the reference has them, on synthetic tokenizers and, where they are beside the checkout,
-- on those of real models; options, errors, streams, GGUF files.
local files = require "files"
local json = require "steer.core.json"
local steer = require "steer"

local root = debug.getinfo(1, "S").source:match("^@(.*)tests/lua/[^/]*$")
root = root == "" and "./" or root
local fixtures = root .. "tests/fixtures/text/synthetic/"
local shared = root .. "../shared/data/text/"

local function exists(path)
    local file = io.open(path, "rb")
    if file then file:close() end
    return file ~= nil
end

local function names(folder)
    local list = {}
    local pipe = io.popen("ls '" .. folder .. "'")
    for name in pipe:lines() do list[#list + 1] = name end
    pipe:close()
    return list
end

local function streamed(tokenizer, ids, opts)
    local stream, parts = tokenizer:stream(opts), {}
    for i, id in ipairs(ids) do parts[i] = stream:push(id) end
    parts[#parts + 1] = stream:finish()
    for _, part in ipairs(parts) do -- whole characters: no part begins with the rest of one
        assert(not part:find "^[\128-\191]", "a part of a character")
    end
    return table.concat(parts)
end

local function equal(a, b)
    if #a ~= #b then return false end
    for i = 1, #a do
        if a[i] ~= b[i] then return false end
    end
    return true
end

-- What is wrong about a case, nil if nothing is.
local function problem_of(tokenizer, case)
    local special = { special = true }
    local skip = { skip_special = true }
    if not equal(tokenizer:encode(case.text), case.ids) then return "ids" end
    if not equal(tokenizer:encode(case.text, special), case.ids_with_special) then return "ids_with_special" end
    if type(case.decoded) == "string" then
        if tokenizer:decode(case.ids) ~= case.decoded then return "decoded" end
        if streamed(tokenizer, case.ids) ~= case.decoded then return "streamed" end
    end
    if type(case.decoded_skip_special) == "string" then
        local expected, ids = case.decoded_skip_special, case.ids_with_special
        if tokenizer:decode(ids, skip) ~= expected then return "decoded_skip_special" end
        if streamed(tokenizer, ids, skip) ~= expected then return "streamed, skipping" end
    end
    return nil
end

local function check_cases(tokenizer, path)
    local count, failed = 0, {}
    for line in io.lines(path) do
        local case = json.decode(line)
        local problem = problem_of(tokenizer, case)
        count = count + 1
        if problem then failed[#failed + 1] = ("%s: %q"):format(problem, case.text) end
    end
    assert(#failed == 0, ("%d of %d differ: %s"):format(#failed, count, failed[1] or ""))
    assert.is_true(count > 100)
end

-- ---- GGUF files of a vocabulary ------------------------------------------------------------------------------------

local function u32(n) return string.char(n % 256, math.floor(n / 256) % 256, math.floor(n / 65536) % 256, 0) end
local function u64(n) return u32(n) .. "\0\0\0\0" end
local function text(s) return u64(#s) .. s end

local function texts(list)
    local parts = {}
    for i, s in ipairs(list) do parts[i] = text(s) end
    return u32(9) .. u32(8) .. u64(#list) .. table.concat(parts)
end

local function numbers(list)
    local ffi = require "ffi"
    local values = ffi.new("float[?]", #list)
    for i, x in ipairs(list) do values[i - 1] = x end
    return u32(9) .. u32(6) .. u64(#list) .. ffi.string(values, 4 * #list)
end

-- values: list of {key, encoded value}
local function gguf(values)
    local parts = { "GGUF" .. u32(3) .. u64(0) .. u64(#values) }
    for _, value in ipairs(values) do parts[#parts + 1] = text(value[1]) .. value[2] end
    return table.concat(parts) .. ("\0"):rep(64)
end

-- The texts of a tokenizer.json's ids, their types, its merges as "a b", and the rank of each text's first merge.
local function vocabulary_of(name)
    local file = json.decode(files.get(fixtures .. name .. "/tokenizer.json"))
    local tokens, types, merges, ranks = {}, {}, {}, {}
    for token, id in pairs(file.model.vocab) do tokens[id + 1], types[id + 1] = token, token:find "^<0x" and 6 or 1 end
    for _, added in ipairs(file.added_tokens) do
        tokens[added.id + 1], types[added.id + 1] = added.content, added.special and 3 or 4
    end
    for i, merge in ipairs(file.model.merges) do
        merges[i] = type(merge) == "table" and merge[1] .. " " .. merge[2] or merge
        local whole = merges[i]:gsub(" ", "")
        ranks[whole] = ranks[whole] or i
    end
    return tokens, types, merges, ranks
end

local function check_gguf(name, values)
    check_cases(steer.tokenizer(files.put(name .. ".gguf", gguf(values))), fixtures .. name .. "/cases.jsonl")
end

-- ---- Specs ---------------------------------------------------------------------------------------------------------

describe("tokenizers", function()
    teardown(files.done)

    for _, name in ipairs(names(fixtures)) do
        it("of the synthetic set " .. name .. " give the reference's ids and texts", function()
            check_cases(steer.tokenizer(fixtures .. name), fixtures .. name .. "/cases.jsonl")
        end)
    end

    for _, name in ipairs { "llama2", "llama3_1", "qwen3", "gemma3", "deepseek_v3" } do
        it("of the family " .. name .. " give the reference's ids and texts", function()
            local packed = shared .. "families/" .. name .. "/tokenizer.json.xz"
            if not exists(packed) then return pending("../shared is not there") end
            os.execute(("mkdir -p '%s/%s' && xz -dc '%s' > '%s/%s/tokenizer.json'"):format(files.folder, name, packed,
                files.folder, name))
            check_cases(steer.tokenizer(files.path(name)), shared .. "open/tok-" .. name .. ".jsonl")
        end)
    end

    it("are made of a GGUF file's byte-level vocabulary", function()
        local tokens, types, merges = vocabulary_of "bl-digits"
        check_gguf("bl-digits", { { "tokenizer.ggml.model", u32(8) .. text "gpt2" },
            { "tokenizer.ggml.pre", u32(8) .. text "smollm" }, { "tokenizer.ggml.tokens", texts(tokens) },
            { "tokenizer.ggml.token_type", numbers(types) }, { "tokenizer.ggml.merges", texts(merges) } })
        tokens, types, merges = vocabulary_of "bl-llama3-ignore-merges"
        check_gguf("bl-llama3-ignore-merges", { { "tokenizer.ggml.model", u32(8) .. text "gpt2" },
            { "tokenizer.ggml.pre", u32(8) .. text "llama-bpe" }, { "tokenizer.ggml.tokens", texts(tokens) },
            { "tokenizer.ggml.token_type", numbers(types) }, { "tokenizer.ggml.merges", texts(merges) },
            { "tokenizer.ggml.bos_token_id", u32(4) .. u32(526) } })
    end)

    it("are made of a GGUF file's scores", function()
        local tokens, types, _, ranks = vocabulary_of "ms-llama2-legacy"
        local scores = {}
        for i, token in ipairs(tokens) do scores[i] = ranks[token] and -ranks[token] or -1e6 end
        local values = { { "tokenizer.ggml.model", u32(8) .. text "llama" }, { "tokenizer.ggml.tokens", texts(tokens) },
            { "tokenizer.ggml.token_type", numbers(types) }, { "tokenizer.ggml.scores", numbers(scores) },
            { "tokenizer.ggml.bos_token_id", u32(4) .. u32(1) }, { "tokenizer.ggml.eos_token_id", u32(4) .. u32(2) },
            { "tokenizer.ggml.unknown_token_id", u32(4) .. u32(0) } }
        check_gguf("ms-llama2-legacy", values)
        local tokenizer = steer.tokenizer(files.path "ms-llama2-legacy.gguf")
        assert.same({ 1, 2, 0 }, { tokenizer.bos, tokenizer.eos, tokenizer.unk })
        assert.is_nil(tokenizer.pad)
        values[4][2] = numbers { 1, 2, 3 }
        files.fails("format", "tokenizer.ggml.scores: has 3 elements", steer.tokenizer,
            files.put("x.gguf", gguf(values)))
        values[1][2] = u32(8) .. text "bert"
        files.fails("unsupported", '"bert"', steer.tokenizer, files.put("y.gguf", gguf(values)))
        files.fails("not_found", "no tokenizer", steer.tokenizer, files.put("z.gguf", gguf {}))
    end)

    it("know their tokens", function()
        local tokenizer = steer.tokenizer(fixtures .. "bl-gpt2/tokenizer.json")
        local ids = tokenizer:encode "the cat<|endoftext|>"
        assert.equal(tokenizer.vocab - 1, ids[#ids])
        assert.equal("<|endoftext|>", tokenizer:tokens(ids)[#ids])
        assert.equal("the cat<|endoftext|>", (table.concat(tokenizer:tokens(ids)):gsub("Ġ", " ")))
        assert.equal(ids[#ids], tokenizer:id "<|endoftext|>")
        assert.is_nil(tokenizer:id "no such token")
        assert.is_true(tokenizer:is_special(ids[#ids]))
        assert.is_false(tokenizer:is_special(0))
        assert.equal("the cat", tokenizer:decode(ids, { skip_special = true }))
        assert.same({}, tokenizer:encode "")
        assert.equal("", tokenizer:decode {})
        assert.truthy(tostring(tokenizer):find(tokenizer.vocab .. " tokens", 1, true))
    end)

    it("know the roles that tokenizer_config.json names", function()
        os.execute(("mkdir -p '%s/roles' && cp '%s/ms-llama2-first/tokenizer.json' '%s/roles/'"):format(files.folder,
            fixtures, files.folder))
        files.put("roles/tokenizer_config.json", [[{"bos_token": "<s>", "eos_token": {"content": "</s>"},
            "pad_token": null, "unk_token": "no such token"}]])
        local tokenizer = steer.tokenizer(files.path "roles")
        assert.equal(tokenizer:id "<s>", tokenizer.bos)
        assert.equal(tokenizer:id "</s>", tokenizer.eos)
        assert.is_nil(tokenizer.pad)
        assert.is_nil(tokenizer.unk)
        assert.same({ tokenizer.bos }, tokenizer:encode("", { special = true }))
    end)

    -- A tokenizer whose vocabulary is the list of tokens, ids from 0.
    local function made_of(tokens, merges, normalizer)
        local vocab = {}
        for i, token in ipairs(tokens) do vocab[i] = ("%s: %d"):format(json.encode(token), i - 1) end
        for i, merge in ipairs(merges) do merges[i] = json.encode(merge) end
        return steer.tokenizer(files.put("made.json", ('{"normalizer": %s, "model": {"type": "BPE", "vocab": {%s}, '
            .. '"merges": [%s]}}'):format(normalizer, table.concat(vocab, ", "), table.concat(merges, ", "))))
    end

    it("merge over the beginning of a word where merges say so, and there alone", function()
        local tokenizer = made_of({ "a", ">", "<", "\u{2581}", "\u{2581}<", ">\u{2581}<", "\u{2581}a" },
            { { "\u{2581}", "<" }, { ">", "\u{2581}<" }, { "\u{2581}", "a" } },
            '{"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}')
        assert.same({ 0, 5, 0 }, tokenizer:encode "a> <a")
        assert.same({ 0, 4, 0 }, tokenizer:encode "a <a")
        assert.same({ 1, 6, 5, 1, 3, 4 }, tokenizer:encode "> a> <>  <")
        assert.same({ 5, 5, 6, 4 }, tokenizer:encode "> <> < a <")
    end)

    it("compose marks with the ASCII letter before them, and leave other ASCII", function()
        local tokenizer = made_of({ "e", "x", "\u{301}", "\u{e9}", "\u{1eb9}", "\u{323}" }, {}, '{"type": "NFC"}')
        for _, form in ipairs { "e\u{301}", "\u{e9}" } do
            assert.same({ 0, 3, 1 }, tokenizer:encode("e" .. form .. "x"))
            assert.same({ 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3 }, tokenizer:encode(("x"):rep(10) .. form))
            assert.same({ 3, 3 }, tokenizer:encode(form .. form))
        end
        assert.same({ 4, 2, 1 }, tokenizer:encode "e\u{301}\u{323}x") -- the dot below comes first
        assert.same({ 2 }, tokenizer:encode "\u{301}")
    end)

    it("take long texts, of which no buffer knew", function()
        local tokenizer = steer.tokenizer(fixtures .. "bl-gpt2")
        local long = ("The tower, the flood and the bells. "):rep(5000)
        local ids = tokenizer:encode(long)
        assert.equal(long, tokenizer:decode(ids))
        -- more ids than bytes: a normaliser that makes texts longer
        tokenizer = steer.tokenizer(fixtures .. "unigram-bytefallback")
        long = ("\239\183\186"):rep(3000)
        assert.is_true(#tokenizer:encode(long) > #long)
    end)

    it("say what is wrong", function()
        local tokenizer = steer.tokenizer(fixtures .. "bl-gpt2")
        files.fails("format", "text: byte 4 (0xFF) is not UTF-8", tokenizer.encode, tokenizer, "abc\255")
        files.fails("invalid_argument", "text: expected", tokenizer.encode, tokenizer, 5)
        files.fails("invalid_argument", 'did you mean "special"', tokenizer.encode, tokenizer, "a", { speciall = true })
        files.fails("invalid_argument", "ids[2]: ", tokenizer.decode, tokenizer, { 1, tokenizer.vocab })
        files.fails("invalid_argument", "ids[1]: ", tokenizer.tokens, tokenizer, { 1.5 })
        files.fails("invalid_argument", "expected a tokenizer", tokenizer.encode, "text")
        files.fails("invalid_argument", "path: expected", steer.tokenizer, nil)
        files.fails("not_found", "tokenizer.json", steer.tokenizer, files.folder)
        local stream = tokenizer:stream()
        files.fails("invalid_argument", "expected 0 to", stream.push, stream, -1)
        tokenizer:close()
        tokenizer:close()
        assert.equal("tokenizer (closed)", tostring(tokenizer))
        files.fails("closed", "it is closed", tokenizer.encode, tokenizer, "a")
        assert.is_true(#stream:push(tokenizer.vocab - 100) > 0) -- the stream keeps what it needs
    end)
end)
