--- Fuzzes steer.load_spec for a while: mutated files of steering become a spec that can be printed, described and
-- planned, or fail with an error of the library.
local steer = require "steer"
local steer_error = require "steer.core.error"
local HERE = debug.getinfo(1, "S").source:match "^@(.*/)"
local fuzzing = dofile(HERE .. "fuzzing.lua")
local mutate = assert(loadfile(HERE .. "mutate.lua"))(fuzzing)

local FIXTURES = "tests/fixtures/steering/"
local get, put, random = fuzzing.get, fuzzing.put, math.random

local function fixtures(names)
    local list = {}
    for name in names:gmatch "%S+" do list[#list + 1] = get(FIXTURES .. name) end
    return list
end

-- By the name of the file that is mutated: its seeds, and the options that it is opened with.
local kinds = {
    { "x.gguf", fixtures "glp.gguf glp_add.gguf glp_rank2.glp repeng.gguf saklas.gguf easysteer.gguf llama.gguf" },
    { "x.svec", fixtures "ibm.svec" },
    { "maps.json", fixtures "easysteer.json easysteer_maps.json" },
    { "easysteer.gguf", fixtures "easysteer.gguf glp.gguf", open = "spec.json" }, -- which a spec names
    { "x.safetensors", fixtures "saklas.safetensors" },
    { "saklas.json", fixtures "saklas.json", open = "saklas.safetensors" },
    { "x.pt", fixtures "lm_steer.pt", opts = { layers = { 1 } } },
    { "y.pt", fixtures "direction.pt", opts = { layers = { 1 }, op = "add" } },
}

-- The folders of pyreft: their configuration or one of their files is mutated.
for folder in ("loreft noreft consreft lobireft direft nodireft"):gmatch "%S+" do
    os.execute(("cp -r '%spyreft/%s' '%s'"):format(FIXTURES, folder, fuzzing.folder))
    for _, name in ipairs(fuzzing.lines_of("ls '" .. FIXTURES .. "pyreft/" .. folder .. "'")) do
        local path = folder .. "/" .. name
        kinds[#kinds + 1] = { path, { get(FIXTURES .. "pyreft/" .. path) }, open = folder }
    end
end

put("spec.json", get(FIXTURES .. "easysteer.json"))
put("easysteer.gguf", get(FIXTURES .. "easysteer.gguf"))
put("saklas.safetensors", get(FIXTURES .. "saklas.safetensors"))
put("x.json", get(FIXTURES .. "saklas.json")) -- beside x.safetensors

-- What is missing among the options is no fault of a file.
local function is_option(problem)
    return steer_error.is(problem) and problem.code == "invalid_argument" and problem.message:find "^opts%."
end

local engines = {}

local function open(kind)
    local ok, spec = pcall(steer.load_spec, fuzzing.folder .. "/" .. (kind.open or kind[1]), kind.opts)
    if not ok then
        if is_option(spec) then return end
        error(spec, 0)
    end
    local hidden = spec:hidden()
    assert(#tostring(spec) > 0 and #spec:describe() > 0)
    if hidden == 0 or hidden > 64 then return end
    engines[hidden] = engines[hidden] or steer.engine { hidden = hidden, device = "cpu" }
    engines[hidden]:plan({ { spec = spec, tokens = 2, prompt_tokens = 2, token_ids = { 3, 7 } } }):close()
    spec:close()
end

fuzzing.begin "fuzz_steering"
for _, kind in ipairs(kinds) do
    for _, bytes in ipairs(kind[2]) do
        put(kind[1], bytes)
        if kind[1] ~= "easysteer.gguf" or bytes ~= kind[2][2] then open(kind) end -- GLP is refused there
    end
    put(kind[1], kind[2][1])
end
fuzzing.run("became a spec", "format unsupported io not_found out_of_memory", function()
    local kind = kinds[random(#kinds)]
    put(kind[1], mutate(kind[2]))
    local ok, problem = pcall(open, kind)
    if ok or steer_error.is(problem) then put(kind[1], kind[2][1]) end -- whole again for the others
    if not ok then error(problem, 0) end
end)
