--- Fuzzes the readers for a while: mutated files must load, or fail with an error of the library's file codes.
local steer = require "steer"
local HERE = debug.getinfo(1, "S").source:match "^@(.*/)"
local fuzzing = dofile(HERE .. "fuzzing.lua")
local mutate = assert(loadfile(HERE .. "mutate.lua"))(fuzzing)

local T = steer.tensor
local get, put, random = fuzzing.get, fuzzing.put, math.random

-- ---- Valid files to begin from -------------------------------------------------------------------------------------

local function saved(extension, ...)
    local path = fuzzing.folder .. "/seed." .. extension
    steer.save(path, ...)
    local bytes = get(path)
    os.remove(path)
    return bytes
end

local function npy(descr, order, shape, data)
    local header = ("{'descr': '%s', 'fortran_order': %s, 'shape': %s, }\n"):format(descr, order, shape)
    return "\147NUMPY\2\0" .. string.char(#header, 0, 0, 0) .. header .. data
end

-- A control vector whose metadata has an array of an array.
local function nested_gguf()
    local header = "GGUF\3\0\0\0" .. "\1\0\0\0\0\0\0\0" .. "\2\0\0\0\0\0\0\0"
        .. "\20\0\0\0\0\0\0\0general.architecture\8\0\0\0" .. "\13\0\0\0\0\0\0\0controlvector"
        .. "\1\0\0\0\0\0\0\0a\9\0\0\0" .. "\9\0\0\0\1\0\0\0\0\0\0\0" .. "\1\0\0\0\2\0\0\0\0\0\0\0xy"
        .. "\11\0\0\0\0\0\0\0direction.3" .. "\1\0\0\0" .. "\2\0\0\0\0\0\0\0" .. "\1\0\0\0" .. ("\0"):rep(8)
    return header .. ("\0"):rep(-#header % 32) .. "\0\60\0\60"
end

local function fixture(name) return get("tests/fixtures/files/" .. name) end

local corpus = {
    pt = { fixture "tensor.pt", fixture "state_dict.pt", fixture "values.pt", fixture "protocol4.pt" },
    npz = { fixture "deflated.npz", fixture "stored.npz" },
    svec = {
        '{"model_type": "x", "directions": {"0": [1, -2.5e3], "7": [[1], [2]]}, "explained_variances": {"0": 1}}',
    },
    safetensors = {
        saved("safetensors", { a = T.randn({ 3, 4 }), b = T.arange(5, { dtype = "u8" }), c = T.zeros({ 0 }) },
            { note = "some \"text\"", n = 5 }),
        saved("safetensors", { x = T.randn({ 2 }, { dtype = "bf16" }), y = T.arange(3, { dtype = "i64" }) }),
        saved("safetensors", {}),
    },
    npy = {
        saved("npy", T.randn({ 2, 3 })),
        saved("npy", T.from(5, { dtype = "i64" })),
        npy(">f4", "True", "(2, 3)", ("\63\128\0\0"):rep(6)),
        npy(">i8", "False", "(2,)", ("\1\2\3\4\5\6\7\8"):rep(2)),
        npy("|u1", "True", "(2, 2, 2)", "12345678"),
    },
    gguf = {
        saved("gguf", { T.randn({ 4 }), T.randn({ 4 }) }, { s = "text", n = 7, f = 0.5, b = true, l = 2 ^ 40 }),
        saved("gguf", { [0] = T.randn({ 9 }) }, nil, { layer_offset = 1 }),
        nested_gguf(),
    },
}

-- ---- The loop ------------------------------------------------------------------------------------------------------

-- Reads every element, so that a view that reaches too far is found. A view that repeats elements may have any size.
local function touch(value, seen)
    if T.is(value) then return value:numel() <= 1e6 and value:clone():totable() end
    if type(value) ~= "table" or seen[value] then return end
    seen[value] = true
    for _, item in pairs(value) do touch(item, seen) end
end

local function load(kind, bytes) touch((steer.load(put("input." .. kind, bytes))), {}) end

fuzzing.begin "fuzz_files"
local kinds = { "safetensors", "npy", "gguf", "pt", "npz", "svec" }
for _, kind in ipairs(kinds) do
    for _, bytes in ipairs(corpus[kind]) do load(kind, bytes) end
end
fuzzing.run("loaded", "format unsupported io not_found out_of_memory", function()
    local kind = kinds[random(#kinds)]
    load(kind, mutate(corpus[kind]))
end)
