--- Texts side by side in columns of a terminal, written row by row while they grow.
local layout = require "steer.repl.layout"

local M = {}

local Columns = {}
Columns.__index = Columns

local GAP = " | "

-- The first line of a text in `width` columns and what follows it; nil as long as more text could change the line.
local function take_line(text, width)
    local columns, bytes, space = 0, 0, nil
    for _, character in ipairs(layout.characters(text)) do
        if character == "\n" then return text:sub(1, bytes), text:sub(bytes + 2) end
        if character == " " then space = bytes end
        columns = columns + select(2, layout.cell(character))
        if columns > width then
            if space then return text:sub(1, space), text:sub(space + 2) end
            return text:sub(1, bytes), text:sub(bytes + 1)
        end
        bytes = bytes + #character
    end
end

--- Makes columns of equal width, under their titles.
-- @tparam table titles list of texts
-- @tparam number width columns of the terminal
-- @tparam function write takes text
function M.new(titles, width, write)
    local self = setmetatable({ rest = {}, lines = {}, row = 0, write = write }, Columns)
    self.width = math.floor((width - #GAP * (#titles - 1)) / #titles)
    for i in ipairs(titles) do self.rest[i], self.lines[i] = "", {} end
    for i, title in ipairs(titles) do
        if #title > self.width then title = "..." .. title:sub(3 - self.width) end
        self:push(i, title .. "\n" .. ("-"):rep(self.width) .. "\n")
    end
    return self
end

-- Writes the rows that all columns have; at the end also those that some have.
function Columns:flush(last)
    while true do
        local cells, some, all = {}, false, true
        for i, lines in ipairs(self.lines) do
            local line = lines[self.row + 1]
            some, all = some or line ~= nil, all and line ~= nil
            cells[i] = line or ""
        end
        if not all and not (last and some) then return end
        self.row = self.row + 1
        for i = 1, #cells - 1 do
            cells[i] = cells[i] .. (" "):rep(self.width - layout.width(cells[i]))
        end
        self.write(table.concat(cells, GAP):gsub("%s+$", "") .. "\n")
    end
end

--- Adds text to a column.
function Columns:push(i, text)
    self.rest[i] = self.rest[i] .. text
    while true do
        local line, rest = take_line(self.rest[i], self.width)
        if not line then break end
        table.insert(self.lines[i], line)
        self.rest[i] = rest
    end
    self:flush(false)
end

--- Writes what is left.
function Columns:finish()
    for i, rest in ipairs(self.rest) do
        if rest ~= "" then table.insert(self.lines[i], rest) end
    end
    self:flush(true)
end

return M
