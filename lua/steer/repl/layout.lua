--- Lays text out on a terminal's rows: width of UTF-8 characters, wrapping, where the cursor stands.
local M = {}

--- Splits text into characters; a byte that is not UTF-8 is one of its own.
function M.characters(text)
    local list, at = {}, 1
    while at <= #text do
        local character = text:match("^[\194-\223][\128-\191]", at)
            or text:match("^[\224-\239][\128-\191][\128-\191]", at)
            or text:match("^[\240-\244][\128-\191][\128-\191][\128-\191]", at) or text:sub(at, at)
        list[#list + 1], at = character, at + #character
    end
    return list
end

local function code_point(character)
    local a, b, c, d = character:byte(1, 4)
    if #character == 2 then return (a - 0xc0) * 0x40 + b - 0x80 end
    if #character == 3 then return (a - 0xe0) * 0x1000 + (b - 0x80) * 0x40 + c - 0x80 end
    return (a - 0xf0) * 0x40000 + (b - 0x80) * 0x1000 + (c - 0x80) * 0x40 + d - 0x80
end

-- Ranges of code points that take no column or two; all others take one.
local combining = { { 0x300, 0x36f }, { 0x483, 0x489 }, { 0x591, 0x5bd }, { 0x64b, 0x65f }, { 0x1ab0, 0x1aff },
    { 0x1dc0, 0x1dff }, { 0x200b, 0x200f }, { 0x20d0, 0x20ff }, { 0xfe00, 0xfe0f }, { 0xfe20, 0xfe2f } }
local wide = { { 0x1100, 0x115f }, { 0x2e80, 0x303e }, { 0x3041, 0xa4cf }, { 0xac00, 0xd7a3 }, { 0xf900, 0xfaff },
    { 0xfe30, 0xfe6f }, { 0xff00, 0xff60 }, { 0xffe0, 0xffe6 }, { 0x1f300, 0x1f64f }, { 0x1f680, 0x1f6ff },
    { 0x1f900, 0x1f9ff }, { 0x20000, 0x3fffd } }

local function within(point, ranges)
    for _, range in ipairs(ranges) do
        if point >= range[1] and point <= range[2] then return true end
    end
    return false
end

--- Gives what a terminal shows for a character, and its columns.
function M.cell(character)
    local byte = character:byte()
    if #character > 1 then
        local point = code_point(character)
        return character, within(point, combining) and 0 or within(point, wide) and 2 or 1
    end
    if byte == 9 then return "    ", 4 end
    if byte < 32 then return "^" .. string.char(byte + 64), 2 end
    return byte < 127 and character or "?", 1
end

--- Gives the columns of a text.
function M.width(text)
    if not text:find "[^\32-\126]" then return #text end
    local columns = 0
    for _, character in ipairs(M.characters(text)) do columns = columns + select(2, M.cell(character)) end
    return columns
end

--- Wraps characters into rows of at most `columns`.
-- @tparam table characters "\n" begins a line
-- @tparam number cursor how many characters stand before it
-- @tparam table prompts {first=, next=, width=}: what the lines begin with, and its columns
-- @return rows, row of the cursor (from 1), its column (from 0)
function M.wrap(characters, cursor, prompts, columns)
    local rows, row, column = {}, { prompts.first }, prompts.width
    local cursor_row, cursor_column
    local function break_row(start, width)
        rows[#rows + 1] = table.concat(row)
        row, column = { start }, width
    end
    for i = 1, #characters + 1 do
        local shown, width
        if i <= #characters and characters[i] ~= "\n" then shown, width = M.cell(characters[i]) end
        -- The cursor needs a column too, so that it never hangs over the edge.
        if column + math.max(width or 0, i == cursor + 1 and 1 or 0) > columns then break_row("", 0) end
        if i == cursor + 1 then cursor_row, cursor_column = #rows + 1, column end
        if shown then
            row[#row + 1], column = shown, column + width
        elseif i <= #characters then
            break_row(prompts.next, prompts.width)
        end
    end
    rows[#rows + 1] = table.concat(row)
    return rows, cursor_row, cursor_column
end

--- Fills lines of `width` columns with the words of a text.
-- @tparam string text
-- @tparam string first what the first line begins with
-- @tparam string rest what the others begin with
-- @return list of lines
function M.fill(text, first, rest, width)
    local lines, line = {}, first
    local empty = true
    for word in text:gmatch("%S+") do
        if not empty and #line + 1 + #word > width then
            lines[#lines + 1], line, empty = line, rest, true
        end
        line, empty = line .. (empty and "" or " ") .. word, false
    end
    lines[#lines + 1] = line
    return lines
end

--- Lays words out in columns, as ls does.
-- @tparam table words at most `limit` of them are shown
-- @return list of lines
function M.columns(words, columns, limit)
    local widest, count = 0, math.min(#words, limit)
    for i = 1, count do widest = math.max(widest, M.width(words[i])) end
    local across = math.max(1, math.floor(columns / (widest + 2)))
    local down, lines = math.ceil(count / across), {}
    for line = 1, down do
        local parts = {}
        for i = line, count, down do
            parts[#parts + 1] = words[i] .. (i + down <= count and (" "):rep(widest + 2 - M.width(words[i])) or "")
        end
        lines[line] = table.concat(parts)
    end
    if #words > count then lines[#lines + 1] = ("... and %d more"):format(#words - count) end
    return lines
end

return M
