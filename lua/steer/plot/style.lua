--- Looks of series: colours by palette, dashes and point types.
local check = require "steer.core.check"
local options = require "steer.core.options"

local raise = require("steer.core.error").raise

local M = {}

-- Okabe and Ito's colours, told apart by all kinds of colour vision; the others run from dark to light, so that
-- their order shows in print too, and blue_red has white between two ends for values on both sides of 0.
local PALETTES = {
    okabe = { "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000" },
    viridis = { "#440154", "#472D7B", "#3B528B", "#2C728E", "#21918C", "#28AE80", "#5EC962", "#ADDC30", "#FDE725" },
    magma = { "#000004", "#1D1147", "#51127C", "#822681", "#B63679", "#E65164", "#FB8861", "#FEC287", "#FCFDBF" },
    blues = { "#08306B", "#08519C", "#2171B5", "#4292C6", "#6BAED6", "#9ECAE1", "#C6DBEF", "#DEEBF7", "#F7FBFF" },
    greys = { "#000000", "#252525", "#525252", "#737373", "#969696", "#BDBDBD", "#D9D9D9", "#F0F0F0", "#FFFFFF" },
    blue_red = { "#2166AC", "#67A9CF", "#D1E5F0", "#F7F7F7", "#FDDBC7", "#EF8A62", "#B2182B" },
}
-- The part of a palette that lines use: its lightest end is lost on white paper, its darkest one on a black terminal.
local ON_PAPER, ON_TERMINAL = { 0, 0.85 }, { 0.25, 0.9 }

-- Point types for those who see no colours. Their number and that of the colours have no common divisor: 70 lines
-- look different. The dash changes each time that the colours are used up.
local POINTS = { 7, 5, 9, 13, 11, 6, 4, 8, 12, 10 }
local DASHES = { 1, 2, 4, 3, 5 }
local ORDERED = 3 -- this many numbered series have a colour scale, fewer have colours of their own

--- Reads an option palette: a name, or a list of colours as "#rrggbb".
-- @treturn table list of colours, nil for nil; and whether it is one to walk along
function M.read(op, palette)
    if palette == nil then return nil end
    if type(palette) == "string" then
        local list = PALETTES[palette]
        if not list then
            raise("invalid_argument", op, 'opts.palette: there is no palette "%s"%s; there are %s, or a list of '
                .. 'colours such as "#0072B2"', palette, options.suggest(palette, PALETTES), options.list(PALETTES))
        end
        return list, palette ~= "okabe"
    end
    if check.list(op, "opts.palette", palette, "the name of a palette or a list of colours") == 0 then
        raise("invalid_argument", op, "opts.palette: it is empty, expected colours such as \"#0072B2\"")
    end
    for i, colour in ipairs(palette) do
        if type(colour) ~= "string" or not colour:find "^#%x%x%x%x%x%x$" then
            raise("invalid_argument", op, 'opts.palette[%d]: expected a colour such as "#0072B2", got %s', i,
                check.describe(colour))
        end
    end
    return palette, false
end

local function rgb(colour)
    return tonumber(colour:sub(2, 3), 16), tonumber(colour:sub(4, 5), 16), tonumber(colour:sub(6, 7), 16)
end

--- Gives the red, green and blue (0 to 255) of a place from 0 to 1 along a list of colours.
function M.along(colours, share)
    if #colours == 1 then return rgb(colours[1]) end
    local at = math.min(math.max(share, 0), 1) * (#colours - 1)
    local i = math.min(math.floor(at), #colours - 2)
    local from, to, out = { rgb(colours[i + 1]) }, { rgb(colours[i + 2]) }, {}
    for k = 1, 3 do out[k] = math.floor(from[k] + (to[k] - from[k]) * (at - i) + 0.5) end
    return unpack(out)
end

--- Gives the colours of a heatmap and how it is spread: evenly, or around 0.
function M.heat(chart)
    if chart.palette then return chart.palette end
    return chart.low < 0 and chart.high > 0 and PALETTES.blue_red or PALETTES.viridis
end

--- Gives each series of a chart its colour, dash and point type. A series may say `look` (its number among all that
-- there could be, so that a filter changes no colours), `rank` (which colour, where others share it), `dashed`.
function M.assign(chart)
    local most, ranks = 0, {}
    for i, group in ipairs(chart.groups) do
        ranks[i] = group.rank or group.look or i
        most = math.max(most, ranks[i], group.of or 0)
    end
    local along = chart.ordered and most >= ORDERED and (chart.palette or PALETTES.viridis)
        or chart.palette and chart.walked and chart.palette
    local colours = chart.palette or PALETTES.okabe
    local areas = chart.kind == "bars" or chart.kind == "histogram" -- neither dashes nor points tell these apart
    if areas and not along and most > #colours then along = chart.palette or PALETTES.viridis end
    local darkest, lightest = unpack(chart.on_terminal and ON_TERMINAL or ON_PAPER)
    for i, group in ipairs(chart.groups) do
        local rank = ranks[i]
        if along then
            local share = most > 1 and (rank - 1) / (most - 1) or 0
            group.colour = ("#%02X%02X%02X"):format(M.along(along, darkest + (lightest - darkest) * share))
        else
            group.colour = colours[(rank - 1) % #colours + 1]
        end
        group.point = POINTS[along and 1 or (rank - 1) % #POINTS + 1]
        group.dash = group.dashed and 2 or along and 1 or DASHES[math.floor((rank - 1) / #colours) % #DASHES + 1]
        if group.dashed then group.point = POINTS[along and 6 or (rank + 4) % #POINTS + 1] end -- the same shape, hollow
    end
    chart.along = along and true or false
end

return M
