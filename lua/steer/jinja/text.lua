--- Text as code points, as Python has it: lengths, slices, white space and cases. All text is valid UTF-8.
local json = require "steer.core.json"
local run = require "steer.jinja.run"
local unicode = require "steer.jinja.unicode"

local M = {}

--- Tells whether a text is UTF-8.
function M.is_utf8(text) return not text:find "[\128-\255]" or json.is_utf8(text) end

--- Tells whether a text is ASCII, so that bytes are characters.
local function is_ascii(text) return not text:find "[\128-\255]" end
M.is_ascii = is_ascii

local CHARACTER = "[%z\1-\127\194-\244][\128-\191]*"

--- Lists the characters of a text.
function M.chars(text)
    run.charge(#text)
    local list = {}
    for char in text:gmatch(CHARACTER) do list[#list + 1] = char end
    return list
end

--- Iterates over the characters of a text.
function M.each(text) return text:gmatch(CHARACTER) end

--- Replaces each character by fn(character).
function M.map(text, fn)
    run.charge(#text)
    return (text:gsub(CHARACTER, fn))
end

--- Counts the code points of a text.
function M.length(text)
    run.charge_text(#text)
    if is_ascii(text) then return #text end
    local _, count = text:gsub("[^\128-\191]", "")
    return count
end

--- Gives the byte at which the code point at `index` (from 0, at most the length) begins, from 1.
function M.offset(text, index)
    run.charge_text(#text)
    if is_ascii(text) then return index + 1 end
    local at = 1
    for _ = 1, index do at = text:find("[^\128-\191]", at + 1) or #text + 1 end
    return at
end

--- Cuts out the code points from `start` to before `stop`, both from 0 and within the text.
function M.sub(text, start, stop)
    if start >= stop then return "" end
    return text:sub(M.offset(text, start), M.offset(text, stop) - 1)
end

--- Repeats a text.
function M.rep(text, count)
    if count <= 0 or text == "" then return "" end
    run.charge_text(#text * count)
    return text:rep(count)
end

--- Joins a list of texts.
function M.concat(list, separator)
    local bytes = 0
    for i = 1, #list do bytes = bytes + #list[i] + #separator end
    run.charge_text(bytes)
    return table.concat(list, separator)
end

local PREFIX = 64

-- Finds a long text by its beginning, so that places where it nearly is are counted.
local function find_long(text, what, from)
    local prefix = what:sub(1, PREFIX)
    while true do
        local at = text:find(prefix, from, true)
        if not at then return nil end
        run.charge_text(#what)
        if text:sub(at, at + #what - 1) == what then return at, at + #what - 1 end
        from = at + 1
    end
end

--- Finds a text in another one: the bytes where it begins and ends, or nil.
function M.find(text, what, from)
    local first, last
    if #what <= PREFIX then
        first, last = text:find(what, from, true)
    else
        first, last = find_long(text, what, from)
    end
    run.charge(1 + ((first or #text) - from) / 16)
    return first, last
end

--- Replaces a part of a text at most `most` times.
function M.replace(text, old, new, most)
    local parts, at, count = {}, 1, 0
    if old == "" then -- before every character and at the end
        for _, char in ipairs(M.chars(text)) do
            if count < most then
                parts[#parts + 1], count = new, count + 1
            end
            parts[#parts + 1] = char
        end
        if count < most then parts[#parts + 1] = new end
        return M.concat(parts, "")
    end
    while count < most do
        local from, to = M.find(text, old, at)
        if not from then break end
        parts[#parts + 1], at, count = text:sub(at, from - 1), to + 1, count + 1
    end
    if count == 0 then return text end
    parts[#parts + 1] = text:sub(at)
    return M.concat(parts, new)
end

-- ---- White space ---------------------------------------------------------------------------------------------------

local wide_spaces = {}
for _, code in ipairs { 0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000 } do
    wide_spaces[unicode.char(code)] = true
end
for code = 0x2000, 0x200A do wide_spaces[unicode.char(code)] = true end

--- Tells whether a character is white space.
function M.is_space(char)
    return char:find "^[\t-\r\28-\32]" ~= nil or wide_spaces[char] == true
end

-- The character that begins at a byte.
local function char_at(text, at) return text:match("^" .. CHARACTER, at) end

--- Gives the first byte from `at` on that is not white space.
function M.skip_space(text, at)
    while true do
        at = text:find("[^\t-\r\28-\32]", at) or #text + 1
        local char = at <= #text and text:byte(at) >= 0xC2 and char_at(text, at)
        if not char or not wide_spaces[char] then return at end
        at = at + #char
    end
end

--- Gives the last byte, up to `last`, that is not white space at the end; 0 if all is.
function M.end_of_words(text, last)
    last = last or #text
    while last > 0 do
        local start = last
        while start > 1 and text:find("^[\128-\191]", start) do start = start - 1 end
        if not M.is_space(text:sub(start, last)) then break end
        last = start - 1
    end
    return last
end

-- The set of the characters of a text.
local function set_of(text)
    local set = {}
    for char in M.each(text) do set[char] = true end
    return set
end

--- Strips characters from the sides of a text: those of `chars`, else white space.
function M.strip(text, chars, left, right)
    run.charge(1 + (#text + #(chars or "")) / 8)
    if not chars then
        local last = right and M.end_of_words(text) or #text
        return text:sub(left and M.skip_space(text, 1) or 1, last)
    end
    local set, first, last = set_of(chars), 1, #text
    while left and first <= last do
        local char = char_at(text, first)
        if not set[char] then break end
        first = first + #char
    end
    while right and last >= first do
        local start = last
        while text:find("^[\128-\191]", start) do start = start - 1 end
        if not set[text:sub(start, last)] then break end
        last = start - 1
    end
    return text:sub(first, last)
end

--- Splits a text at white space, at most `most` times; `from_right` counts them from the end.
function M.words(text, most, from_right)
    local list = {}
    if not from_right then
        local at = M.skip_space(text, 1)
        while at <= #text do
            run.charge(1)
            if #list == most then
                list[#list + 1] = text:sub(at)
                return list
            end
            local stop = at
            while true do
                stop = text:find("[\t-\r\28-\32\194-\227]", stop) or #text + 1
                local char = char_at(text, stop)
                if not char or M.is_space(char) then break end
                stop = stop + #char
            end
            list[#list + 1] = text:sub(at, stop - 1)
            at = M.skip_space(text, stop)
        end
        return list
    end
    local all = M.words(text, math.huge)
    if #all <= most then return all end
    local last = #text
    for i = #all, #all - most + 1, -1 do last = M.end_of_words(text, last) - #all[i] end
    list[1] = text:sub(1, M.end_of_words(text, last)) -- what is left over keeps the space in and before it
    for i = #all - most + 1, #all do list[#list + 1] = all[i] end
    return list
end

-- The ends of lines that str.splitlines knows; "\r\n" is one.
local line_ends = {
    ["\n"] = true, ["\r"] = true, ["\11"] = true, ["\12"] = true, ["\28"] = true, ["\29"] = true, ["\30"] = true,
    ["\194\133"] = true, ["\226\128\168"] = true, ["\226\128\169"] = true,
}

--- Splits a text into lines, with their ends or without.
function M.lines(text, keep_ends)
    local list, start, at = {}, 1, 1
    run.charge_text(#text)
    while true do
        at = text:find("[\10-\13\28-\30\194\226]", at)
        if not at then break end
        run.charge(1)
        local char = char_at(text, at)
        if line_ends[char] then
            local stop = at + #char
            if char == "\r" and text:find("^\n", stop) then stop = stop + 1 end
            list[#list + 1] = text:sub(start, keep_ends and stop - 1 or at - 1)
            start, at = stop, stop
        else
            at = at + #char
        end
    end
    if start <= #text then list[#list + 1] = text:sub(start) end
    return list
end

-- ---- Cases ---------------------------------------------------------------------------------------------------------

local SIGMA = "\206\163"

-- The small sigma at the end of a word is another letter. Marks and the like between count as nothing.
local function small_sigma(chars, i)
    local function cased(from, step)
        local at = from + step
        while chars[at] and not unicode.is_cased(chars[at]) and chars[at]:find "^['.:^`\194\204\205]" do
            at = at + step
        end
        return chars[at] and unicode.is_cased(chars[at])
    end
    return cased(i, -1) and not cased(i, 1) and "\207\130" or "\207\131"
end

local function lower_char(chars, i)
    return chars[i] == SIGMA and small_sigma(chars, i) or unicode.lower(chars[i])
end

-- Maps the characters of a text by fn(chars, i).
local function map_chars(text, fn)
    local chars, out = M.chars(text), {}
    for i = 1, #chars do out[i] = fn(chars, i) end
    return table.concat(out)
end

--- The cases of a text.
function M.lower(text)
    if is_ascii(text) then return text:lower() end
    return map_chars(text, lower_char)
end

function M.upper(text)
    if is_ascii(text) then return text:upper() end
    return M.map(text, unicode.upper)
end

function M.folded(text)
    if is_ascii(text) then return text:lower() end
    return M.map(text, unicode.folded)
end

--- Makes the first character upper (title) case and the others lower case.
function M.capitalize(text)
    return map_chars(text, function(chars, i) return i == 1 and unicode.title(chars[1]) or lower_char(chars, i) end)
end

--- Makes every first letter of a word upper case (title case) and the others lower case. starts(char before, or nil)
-- tells where words start; as str.title has it, behind all that has no case.
function M.title(text, starts)
    local first = starts and unicode.upper or unicode.title
    starts = starts or function(before) return not before or not unicode.is_cased(before) end
    return map_chars(text, function(chars, i)
        return starts(chars[i - 1]) and first(chars[i]) or lower_char(chars, i)
    end)
end

--- Makes upper case lower and lower case upper.
function M.swapcase(text)
    return map_chars(text, function(chars, i)
        return unicode.is("upper", unicode.code(chars[i])) and lower_char(chars, i) or unicode.upper(chars[i])
    end)
end

return M
