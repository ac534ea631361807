--- A view of projections as text: coloured tokens, or a table of numbers.
local layout = require "steer.repl.layout"
local paint = require "steer.view.paint"
local printable = require("steer.core.text").printable

local M = {}

local function number(x) return ("%.4g"):format(x) end

-- ---- Coloured ------------------------------------------------------------------------------------------------------

local LABEL = 11 -- columns before the text

-- Tokens on the colours of their values, wrapped.
local function add_tokens(lines, label, result, values, row, columns, colours)
    local line, width = { label .. (" "):rep(LABEL - #label) }, LABEL
    local function put(text, t)
        local part = {} -- of this line, in one colour
        for _, character in ipairs(layout.characters(text)) do
            local shown, more = layout.cell(character)
            if width + more > columns and width > LABEL then
                line[#line + 1] = paint.text(table.concat(part), t, colours)
                lines[#lines + 1] = table.concat(line)
                line, width, part = { (" "):rep(LABEL) }, LABEL, {}
            end
            part[#part + 1], width = shown, width + more
        end
        line[#line + 1] = paint.text(table.concat(part), t, colours)
    end
    for i, piece in ipairs(result.pieces) do
        if i == result.prompt_tokens + 1 then put("|", 0) end
        put(printable(piece), math.max(-1, math.min(1, (values[i] - row.center) / row.spread)))
    end
    lines[#lines + 1] = table.concat(line)
end

local function legend(row, colours)
    local low, high = number(row.center - row.spread), number(row.center + row.spread)
    return ("%s after layer %d: %s .. %s .. %s"):format(printable(row.name), row.layer, paint.text(low, -1, colours),
        number(row.center), paint.text(high, 1, colours))
end

local function coloured(view, colours, columns)
    local lines = {}
    for i, result in ipairs(view) do
        if #view > 1 then lines[#lines + 1] = ("[%d]"):format(i) end
        for k, row in ipairs(view.rows) do
            lines[#lines + 1] = legend(row, colours)
            for _, side in ipairs { "steered", "unsteered" } do
                local values = result[side] and result[side][k]
                if values then add_tokens(lines, side, result, values, row, columns, colours) end
            end
        end
    end
    return table.concat(lines, "\n")
end

-- ---- Numbers -------------------------------------------------------------------------------------------------------

local TOKEN = 16 -- columns of a token

local function pad(text, columns) return text .. (" "):rep(columns - layout.width(text)) end

local function add_table(lines, view, result)
    local heads, columns = {}, {}
    for k, row in ipairs(view.rows) do
        for _, side in ipairs { "steered", "unsteered" } do
            if result[side] then
                heads[#heads + 1] = ("%s@%d%s"):format(printable(row.name), row.layer,
                    side == "unsteered" and result.steered and " unsteered" or "")
                columns[#columns + 1] = result[side][k]
            end
        end
    end
    lines[#lines + 1] = pad("token", TOKEN) .. "  " .. table.concat(heads, "  ")
    for i, piece in ipairs(result.pieces) do
        local cells = { pad((i > result.prompt_tokens and "|" or "") .. printable(piece), TOKEN) }
        for k, values in ipairs(columns) do
            local text = number(values[i])
            cells[k + 1] = (" "):rep(layout.width(heads[k]) - #text) .. text
        end
        lines[#lines + 1] = table.concat(cells, "  ")
    end
end

--- Gives a view as text.
-- @param view as lm:view gives
-- @param[opt] colours 24, 256 or false; nil: what standard output shows
-- @tparam[opt] number columns default those of the terminal
function M.text(view, colours, columns)
    if colours == nil then colours = paint.colours() end
    columns = math.max(LABEL + 2, columns or (require("steer.repl.terminal").size()))
    if colours then return coloured(view, colours, columns) end
    local lines = {}
    for i, result in ipairs(view) do
        if #view > 1 then lines[#lines + 1] = ("[%d]"):format(i) end
        add_table(lines, view, result)
    end
    return table.concat(lines, "\n")
end

return M
