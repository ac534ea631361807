--- Colours of numbers on a terminal: blue below a centre, red above it, pale near it.
local terminal = require "steer.repl.terminal"

local M = {}

M.LOW, M.HIGH = { 33, 102, 172 }, { 178, 24, 43 }
M.PALE = 0.08 -- nearer to the centre there is no colour

--- Colours that standard output shows: 24 (bits), 256, or false: not a terminal, a dumb one, or NO_COLOR is set.
function M.colours()
    local kind = os.getenv "TERM" or ""
    if (os.getenv "NO_COLOR" or "") ~= "" or kind == "" or kind == "dumb" or not terminal.is_terminal(1) then
        return false
    end
    local more = os.getenv "COLORTERM" or ""
    return (more == "truecolor" or more == "24bit") and 24 or 256
end

--- Gives a text on the colour of t, from -1 to 1.
function M.text(text, t, colours)
    if not colours or math.abs(t) < M.PALE or text == "" then return text end
    local target, rgb = t < 0 and M.LOW or M.HIGH, {}
    for i = 1, 3 do rgb[i] = math.floor(255 + (target[i] - 255) * math.abs(t) + 0.5) end
    local front = math.abs(t) > 0.6 and 15 or 16 -- white on dark, black on light
    local back = ("2;%d;%d;%d"):format(rgb[1], rgb[2], rgb[3])
    if colours == 256 then
        local cube = {}
        for i = 1, 3 do -- levels 0, 95, 135, 175, 215, 255
            cube[i] = rgb[i] < 48 and 0 or rgb[i] < 115 and 1 or math.floor((rgb[i] - 35) / 40)
        end
        back = "5;" .. 16 + 36 * cube[1] + 6 * cube[2] + cube[3]
    end
    return ("\27[38;5;%d;48;%sm%s\27[0m"):format(front, back, text)
end

return M
