--- Ranges and ticks of axes, and how numbers are written on a chart.
local raise = require("steer.core.error").raise

local M = {}

local LEAST, MOST = 1e-307, 1e308 -- gnuplot takes no larger or smaller numbers
local DRAWN = 1e300               -- beyond this it may crash where there is but one value

--- Tells whether a value is a number that can be drawn: a finite one that gnuplot takes.
function M.is_finite(x)
    return type(x) == "number" and math.abs(x) <= DRAWN
end

-- ---- Numbers -------------------------------------------------------------------------------------------------------

--- Writes a value: numbers by a format of string.format, or as %g does, whole ones with all digits.
-- @tparam[opt] string format
-- @tparam[opt=6] number digits for %g
function M.text(value, format, digits)
    if type(value) ~= "number" then return tostring(value) end
    if value ~= value then return "nan" end
    if format then return format:format(value) end
    if value % 1 == 0 and math.abs(value) < 1e7 then return ("%d"):format(value) end
    return ("%." .. (digits or 6) .. "g"):format(value)
end

--- Checks an option for string.format: one conversion of a number.
function M.check_format(op, format)
    if format == nil then return nil end
    local bare = format:gsub("%%%%", "")
    local _, count = bare:gsub("%%", "")
    if count ~= 1 or not bare:find "%%[-+ #0]*%d?%d?%.?%d?%d?[eEfgGd]" then
        raise("invalid_argument", op, 'opts.format: expected one conversion of a number, such as "%%.2f" or '
            .. '"%%g ms", got "%s"', format)
    end
    return format
end

-- ---- Ranges --------------------------------------------------------------------------------------------------------

--- Gives a range with room around values; from 0 if asked and the values are not far from it, and to 0.
-- @tparam[opt] table limits {low, high} that the user wants; either may be nil
function M.range(low, high, log, from_zero, limits)
    local a, b
    if limits then -- room is a share of what is seen
        local least, most = math.max(low, limits[1] or low), math.min(high, limits[2] or high)
        if least < most then low, high = least, most end
    end
    if log then
        local factor = math.max(10 ^ (0.05 * (math.log10(high) - math.log10(low))), 1.05)
        a, b = math.max(low / factor, LEAST), math.min(high * factor, MOST)
    else
        local pad = math.min(high / 2 - low / 2, MOST / 2) * 0.1
        -- A range that a double can hardly divide is drawn as one value.
        local size = math.max(math.abs(low), math.abs(high))
        if pad <= 1e-13 * size then pad = size * 0.1 end
        if pad < LEAST then pad = 0.5 end
        a, b = math.max(low - pad, -MOST), math.min(high + pad, MOST)
        if from_zero and low >= 0 and low < high / 2 then a = 0 end
        if from_zero and high == 0 and low < 0 then b = 0 end
    end
    if limits then a, b = limits[1] or a, limits[2] or b end
    if a < b then return a, b end
    if limits and not limits[1] then return log and b / 10 or b - math.max(math.abs(b) * 0.1, 1), b end
    return a, log and a * 10 or a + math.max(math.abs(a) * 0.1, 1) -- the values lie beyond what can be drawn
end

-- ---- Ticks: lists of {at, text} ------------------------------------------------------------------------------------

--- Gives ticks at round numbers, with as many digits as tell them apart; at most about `most` of them, at whole
-- numbers only if asked.
function M.linear(low, high, most, format, whole)
    local rough = high / most - low / most
    local decade = 10 ^ math.floor(math.log10(rough))
    local step = decade * 10
    for _, factor in ipairs { 1, 2, 5 } do
        if factor * decade >= rough * 0.999 then
            step = factor * decade
            break
        end
    end
    if whole then step = math.max(step, 1) end
    local list, largest = {}, math.max(math.abs(low), math.abs(high))
    local digits = math.max(1, math.ceil(math.log10(largest) + 1e-9) - math.floor(math.log10(step) + 1e-9))
    for i = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) do
        local x = i * step + 0 -- no -0
        list[#list + 1] = { x, M.text(x, format, math.min(digits, 15)) }
        if #list > 2 * most then break end
    end
    return list
end

--- Gives ticks at 1, 2 and 5 of each decade, or the decades alone, or some of them where there are many.
function M.log(low, high, format)
    local first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    local list, steps = {}, last - first > 4 and { 1 } or { 1, 2, 5 }
    for decade = first, last, math.max(1, math.ceil((last - first) / 12)) do
        for _, step in ipairs(steps) do
            local x = step * 10 ^ decade
            if x >= low and x <= high then list[#list + 1] = { x, M.text(x, format) } end
        end
    end
    if #list < 2 then return M.linear(low, high, 6, format) end
    return list
end

local CHARACTERS = 64 -- that fit below an axis side by side

local function characters(values, format)
    local count = 0
    for _, x in ipairs(values) do count = count + #M.text(x, format) + 2 end
    return count
end

--- Gives ticks at the values themselves where they have room, else nil.
-- @tparam table values sorted numbers
-- @tparam boolean log
-- @tparam[opt] string format
-- @tparam[opt=1] number share width of the picture, of that of the default
function M.values(values, log, format, share)
    local room = CHARACTERS * (share or 1)
    if #values > 14 or characters(values, format) > room then return nil end
    local list, first, last = {}, values[1], values[#values]
    local function at(x) return log and math.log(x) or x end
    for i, x in ipairs(values) do
        list[i] = { x, M.text(x, format) }
        local gap = i > 1 and (at(x) - at(values[i - 1])) / (at(last) - at(first)) * room
        if gap and gap < (#list[i][2] + #list[i - 1][2]) / 2 + 1 then return nil end
    end
    return list
end

--- Gives ticks for values that stand side by side at 1, 2, ...: at most so many of them, evenly thinned.
-- @treturn boolean second: they are too long to stand side by side
function M.places(values, most, format)
    local step, numeric = math.ceil(#values / most), true
    for _, value in ipairs(values) do numeric = numeric and type(value) == "number" end
    local list, shown
    repeat -- numbers are thinned until they fit
        list, shown = {}, {}
        for i = 1, #values, step do
            list[#list + 1], shown[#shown + 1] = { i, M.text(values[i], format) }, values[i]
        end
        step = step + 1
    until not numeric or characters(shown, format) <= CHARACTERS or #list < 3
    return list, not numeric and characters(shown, format) > CHARACTERS
end

return M
