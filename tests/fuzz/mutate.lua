--- Mutations of files for the fuzzers: gives mutate(seeds), which makes a damaged one of the valid ones.
-- @tparam table fuzzing what fuzzing.lua gives
local bit = require "bit"
local fuzzing = ...
local splice, random = fuzzing.splice, math.random

local function zeros(n) return ("\0"):rep(n) end
local function any_byte() return string.char(random(0, 255)) end
local function flip(byte) return string.char(bit.bxor(byte or 0, bit.lshift(1, random(0, 7)))) end

local edges = { 0, 1, 2, 7, 8, 9, 31, 32, 127, 128, 255 }
local texts = { "0", "-1", "99999999999", "999999999999999", "[", "{", "\"", "\\", ",", "]", "}", "F64", "<f8", "|O",
    "True", "\\u12", "direction.", "data_offsets", "__metadata__", "\0", "\255", "K\0", "(", "t", "R", "}",
    "h\0", "q\0", "N", "]a", "\133", "Q", "ctorch\nSize\n", "PK\5\6", "null", "[]", "{}", "1e999", "-1.5", "\"all\"" }

-- Each takes the bytes and a position in them.
local mutations = {
    function(b, at) return splice(b, at, 1, flip(b:byte(at))) end,
    function(b, at) return splice(b, at, 1, string.char(edges[random(#edges)])) end,
    function(b, at) return b:sub(1, at - 1) end,
    function(b) return b .. zeros(random(1, 64)) end,
    function(b, at) return splice(b, at, 8, ("\255"):rep(random(1, 8)) .. zeros(random(0, 8))) end,
    function(b, at) return splice(b, at, 8, any_byte() .. zeros(7)) end,
    function(b, at) return splice(b, at, 8, zeros(7) .. any_byte()) end,
    function(b, at) return splice(b, at, random(0, 3), texts[random(#texts)]) end,
    function(b, at) return splice(b, at, random(1, 16), "") end,
    function(b, at) return splice(b, at, 0, b:sub(at, at + random(0, 40))) end,
    function(b) return (b:gsub("%d", function(d) return random(8) == 1 and tostring(random(0, 9)) or d end)) end,
}

return function(seeds)
    local bytes = seeds[random(#seeds)]
    if random(10) == 1 then -- the start of one file and the end of another
        local other = seeds[random(#seeds)]
        bytes = bytes:sub(1, random(0, #bytes)) .. other:sub(random(1, #other))
    end
    for _ = 1, random(1, 4) do
        local last = random(4) == 1 and math.min(#bytes, 40) or #bytes -- lengths and counts are at the start
        bytes = mutations[random(#mutations)](bytes, random(1, math.max(1, last)))
    end
    return bytes
end
