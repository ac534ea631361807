--- Splits a template into tokens: data between tags, and what stands in tags.
--
-- A token is {type=, value=, line=}. Types: "data", "variable_begin", "variable_end", "block_begin", "block_end",
-- "name", "string", "integer", "float", "eof", and each operator by itself. White space around tags is settled here:
-- "-" in a tag, the newline after a block or comment (trim_blocks), the space before one on its line (lstrip_blocks).
local run = require "steer.jinja.run"
local text = require "steer.jinja.text"
local unicode = require "steer.jinja.unicode"
local value_of = require "steer.jinja.value"

local M = {}

-- ---- Strings -------------------------------------------------------------------------------------------------------

local simple_escapes = {
    ["\\"] = "\\", ["'"] = "'", ['"'] = '"', a = "\a", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", v = "\v",
    ["\n"] = "",
}
local code_lengths = { x = 2, u = 4, U = 8 }

-- The text of an escape after its backslash, and how many bytes it takes.
local function unescape(body, at, line)
    local letter = body:sub(at, at)
    if simple_escapes[letter] then return simple_escapes[letter], 1 end
    local octal = body:match("^[0-7][0-7]?[0-7]?", at)
    if octal then return unicode.char(tonumber(octal, 8)), #octal end
    local length = code_lengths[letter]
    if length then
        local digits = body:match("^" .. ("%x"):rep(length), at + 1)
        if not digits then run.syntax(line, "the escape \\%s needs %d hexadecimal digits", letter, length) end
        local code = tonumber(digits, 16)
        if code > 0x10FFFF or code >= 0xD800 and code < 0xE000 then
            run.syntax(line, "the escape \\%s%s is no character", letter, digits)
        end
        return unicode.char(code), 1 + length
    end
    if letter == "N" then run.syntax(line, "the escape \\N is not supported, write \\u and the code") end
    return "\\", 0 -- one that is not known stays as it is
end

local function unquote(body, line)
    if not body:find("\\", 1, true) then return body end
    local parts, at = {}, 1
    while true do
        local slash = body:find("\\", at, true)
        parts[#parts + 1] = body:sub(at, (slash or 0) - 1)
        if not slash then return table.concat(parts) end
        local char, length = unescape(body, slash + 1, line)
        parts[#parts + 1] = char
        at = slash + 1 + length
    end
end

-- Finds the end of a string that begins at `at`; nil if there is none.
local function string_end(source, at)
    local quote = source:sub(at, at)
    local stop = at + 1
    while true do
        stop = source:find("[\\" .. quote .. "]", stop)
        if not stop then return nil end
        if source:sub(stop, stop) == quote then return stop end
        stop = stop + 2
    end
end

-- ---- Numbers and names ---------------------------------------------------------------------------------------------

-- Digits that may have single underscores between them: where they end, or nil.
local function digits_end(source, at, class)
    local stop = source:match("^" .. class .. "+()", at)
    while stop do
        local more = source:match("^_" .. class .. "+()", stop)
        if not more then return stop end
        stop = more
    end
end

local function float_end(source, at)
    if source:sub(at - 1, at - 1) == "." then return nil end
    local whole = digits_end(source, at, "%d")
    local fraction = whole and source:find("^%.%d", whole) and digits_end(source, whole + 1, "%d")
    local exponent = whole and source:match("^[eE][+-]?()%d", fraction or whole)
    return exponent and digits_end(source, exponent, "%d") or fraction or nil
end

local integer_forms = {
    { "^0[bB]_?[01]", "[01]", 2 }, { "^0[oO]_?[0-7]", "[0-7]", 8 }, { "^0[xX]_?%x", "%x", 16 },
}

local function integer_at(source, at)
    for _, form in ipairs(integer_forms) do
        if source:find(form[1], at) then
            local first = source:match("^_?()", at + 2)
            local stop = digits_end(source, first, form[2])
            return tonumber((source:sub(first, stop - 1):gsub("_", "")), form[3]), stop
        end
    end
    local stop = source:find("^0", at) and digits_end(source, at, "0") or digits_end(source, at, "%d")
    return tonumber((source:sub(at, stop - 1):gsub("_", ""))), stop
end

local function number_at(source, at)
    local stop = float_end(source, at)
    if stop then
        local digits = source:sub(at, stop - 1):gsub("_", "")
        return "float", value_of.float(tonumber(digits)), stop
    end
    local x
    x, stop = integer_at(source, at)
    if x > value_of.MAX_INTEGER then x = value_of.bigint((source:sub(at, stop - 1):gsub("_", ""))) end
    return "integer", x, stop
end

-- A name ends where neither a letter nor a digit is.
local function name_end(source, at)
    local stop = at
    while true do
        stop = source:match("^[%w_]*()", stop)
        local char = source:match("^[\194-\244][\128-\191]*", stop)
        local code = char and unicode.code(char)
        if not code or not (unicode.is("alpha", code) or unicode.is("decimal", code)) then
            return stop > at and stop or nil
        end
        stop = stop + #char
    end
end

-- ---- Inside tags ---------------------------------------------------------------------------------------------------

local operators = {}
for operator in ("// ** == != >= <= + - / * % ~ [ ] ( ) { } > < = . : | , ;"):gmatch "%S+" do
    operators[operator] = true
end
local closing = { ["{"] = "}", ["("] = ")", ["["] = "]" }
local closers = { ["}"] = true, [")"] = true, ["]"] = true }

local Lexer = {}
Lexer.__index = Lexer

function Lexer:add(type, value)
    run.charge(1)
    self.tokens[#self.tokens + 1] = { type = type, value = value, line = self.line }
end

-- Moves to a byte and counts the lines on the way. The next line break is kept, so that each is looked for once.
function Lexer:move(at)
    while self.line_break < at do
        self.line = self.line + 1
        self.line_break = self.source:find("\n", self.line_break + 1, true) or math.huge
    end
    self.at = at
end

function Lexer:operator()
    local operator = self.source:sub(self.at, self.at + 1)
    if not operators[operator] then operator = operator:sub(1, 1) end
    if not operators[operator] then
        local char = self.source:match("^[%z\1-\127\194-\244][\128-\191]*", self.at)
        run.syntax(self.line, "unexpected character '%s'", char)
    end
    local open = self.open
    if closing[operator] then
        open[#open + 1] = closing[operator]
    elseif closers[operator] then
        local expected = table.remove(open)
        if not expected then run.syntax(self.line, "unexpected '%s'", operator) end
        if expected ~= operator then
            run.syntax(self.line, "unexpected '%s', expected '%s'", operator, expected)
        end
    end
    self:add(operator, operator)
    self:move(self.at + #operator)
end

-- One token inside a tag.
function Lexer:token()
    local source, at = self.source, self.at
    if source:find("^%d", at) then
        local type, value, stop = number_at(source, at)
        self:add(type, value)
        return self:move(stop)
    end
    local stop = name_end(source, at)
    if stop then
        self:add("name", source:sub(at, stop - 1))
        return self:move(stop)
    end
    if source:find("^['\"]", at) then
        stop = string_end(source, at)
        if not stop then run.syntax(self.line, "the string does not end") end
        self:add("string", unquote(source:sub(at + 1, stop - 1), self.line))
        return self:move(stop + 1)
    end
    return self:operator()
end

-- Where the end of a tag leads to, nil if it is not here. `close` is "%}" or "}}".
local function tag_end(source, at, close, trims)
    local sign = source:sub(at, at)
    if source:sub(at, at + 1) == close then
        local stop = at + 2
        if trims and source:sub(stop, stop) == "\n" then stop = stop + 1 end
        return stop
    elseif (sign == "-" or sign == "+" and trims) and source:sub(at + 1, at + 2) == close then
        return sign == "-" and text.skip_space(source, at + 3) or at + 3
    end
end

-- The tokens of a tag from behind its beginning to its end.
function Lexer:tag(kind, close)
    local source = self.source
    local begin = self.line
    self:add(kind .. "_begin")
    self.open = {}
    while true do
        self:move(text.skip_space(source, self.at))
        if self.at > #source then run.syntax(begin, "the tag does not end, expected %s", close) end
        local stop = #self.open == 0 and tag_end(source, self.at, close, kind == "block")
        if stop then
            self:add(kind .. "_end")
            self:move(stop)
            return
        end
        self:token()
    end
end

-- ---- Between tags --------------------------------------------------------------------------------------------------

-- The data before a tag, without the white space that the tag takes away.
function Lexer:data_before(data, sign, is_variable)
    if sign == "-" then return data:sub(1, text.end_of_words(data)) end
    if sign == "+" or is_variable then return data end
    local line_start = data:find "\n[^\n]*$"
    if (line_start or self.line_starting) and text.skip_space(data, (line_start or 0) + 1) > #data then
        return data:sub(1, line_start or 0)
    end
    return data
end

function Lexer:data(data)
    if data ~= "" then self:add("data", data) end
end

function Lexer:comment(body)
    local stop = self.source:find("#}", body, true)
    if not stop then run.syntax(self.line, "the comment does not end, expected #}") end
    local signed = stop > body and self.source:find("^[-+]", stop - 1)
    self:move(tag_end(self.source, signed and stop - 1 or stop, "#}", true))
end

-- Finds the tag that ends a raw block, from `at` on: where it begins, its sign and where its own end begins.
local function find_endraw(source, at)
    while true do
        local start = source:find("{%", at, true)
        if not start then return nil end
        local sign = source:match("^[-+]", start + 2) or ""
        local word = text.skip_space(source, start + 2 + #sign)
        if source:sub(word, word + 5) == "endraw" then
            local close = text.skip_space(source, word + 6)
            local stop = tag_end(source, close, "%}", true)
            if stop then return start, sign, stop end
        end
        at = start + 2
    end
end

-- The byte where a {% raw %} that is at `at` ends, nil if there is none.
local function raw_begin(source, at)
    local word = text.skip_space(source, at)
    if source:sub(word, word + 2) ~= "raw" then return nil end
    local close = text.skip_space(source, word + 3)
    return tag_end(source, close, "%}", false)
end

function Lexer:raw(body)
    self:move(body)
    self.line_starting = self.source:sub(body - 1, body - 1) == "\n"
    local start, sign, stop = find_endraw(self.source, body)
    if not start then run.syntax(self.line, "the raw block does not end, expected {%% endraw %%}") end
    self:data(self:data_before(self.source:sub(body, start - 1), sign, false))
    self:move(stop)
end

local kinds = { ["{"] = "variable", ["%"] = "block" }

-- Data up to the next tag, and the tag.
function Lexer:step()
    local source = self.source
    local start = source:find("{[{%%#]", self.at)
    if not start then
        self:data(source:sub(self.at))
        self.at = #source + 1
        return
    end
    local mark = source:sub(start + 1, start + 1)
    local sign = source:match("^[-+]", start + 2) or ""
    local data = self:data_before(source:sub(self.at, start - 1), sign, mark == "{")
    self:data(data)
    self:move(start)
    local inside = start + 2 + #sign
    local raw = mark == "%" and raw_begin(source, inside)
    if mark == "#" then
        self:comment(inside)
    elseif raw then
        self:raw(raw)
    else
        self:move(inside)
        self:tag(kinds[mark], mark == "{" and "}}" or "%}")
    end
    self.line_starting = source:sub(self.at - 1, self.at - 1) == "\n"
end

--- Lists the tokens of a template.
function M.tokens(source)
    source = source:gsub("\r\n?", "\n"):gsub("\n$", "")
    local lexer = setmetatable({
        source = source, at = 1, line = 1, line_break = source:find("\n", 1, true) or math.huge, tokens = {},
        line_starting = true,
    }, Lexer)
    while lexer.at <= #source do lexer:step() end
    lexer:add "eof"
    return lexer.tokens
end

return M
