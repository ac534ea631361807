--- Text that is written to a terminal as it comes, without breaking words at its edge: a word that does not fit is
-- taken back and begins the next row.
local layout = require "steer.repl.layout"
local terminal = require "steer.repl.terminal"

local M = {}

local Wrap = {}
Wrap.__index = Wrap

--- Makes a writer, at the beginning of a row.
-- @tparam function write takes text
-- @tparam function width gives the columns of the terminal
function M.new(write, width)
    return setmetatable({ write = write, width = width, column = 0, word = "", word_columns = 0 }, Wrap)
end

-- Begins a row: with the word that did not fit, unless it is as long as a row.
function Wrap:break_row(out, columns)
    local moves = self.word_columns > 0 and self.word_columns < self.column and self.word_columns < columns
    if moves then
        out[#out + 1] = ("\27[%dD\27[K\n%s"):format(self.word_columns, self.word)
        self.column = self.word_columns
    else
        out[#out + 1] = "\n"
        self.column, self.word, self.word_columns = 0, "", 0
    end
end

--- Writes text. A space that would begin a row is left out; the last column stays empty, so that the cursor never hangs
-- over the edge.
function Wrap:push(text)
    local out, most = {}, self.width() - 1
    for _, character in ipairs(layout.characters(text)) do
        local shown, columns = layout.cell(character)
        if character == "\n" then
            out[#out + 1] = "\n"
            self.column, self.word, self.word_columns = 0, "", 0
        elseif character == " " and self.column >= most then
            self.word, self.word_columns = "", 0
            self:break_row(out, most)
        else
            if self.column + columns > most then self:break_row(out, most) end
            out[#out + 1] = shown
            self.column = self.column + columns
            local ends = character == " " or columns == 2 -- ideographs may begin a row
            self.word = ends and "" or self.word .. shown
            self.word_columns = ends and 0 or self.word_columns + columns
        end
    end
    self.write(table.concat(out))
end

--- Makes a function that writes text to standard output as it comes: on a terminal that can move its cursor without
-- breaking words, elsewhere as it is.
function M.writer()
    local function write(text)
        io.stdout:write(text)
        io.stdout:flush()
    end
    if not terminal.can_edit() then return write end
    local wrap = M.new(write, function() return (terminal.size()) end)
    return function(text) wrap:push(text) end
end

return M
