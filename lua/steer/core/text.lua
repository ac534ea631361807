--- Texts of others, such as axis values and reasons, for a terminal.
local json = require "steer.core.json"

local M = {}

local short = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function escape(char)
    return short[char] or ("\\x%02x"):format(char:byte())
end

--- Escapes what would control a terminal: control characters become \n, \r, \t, \x1b or \u0085, bytes that are not
-- UTF-8 \xff.
function M.printable(text)
    if not json.is_utf8(text) then return (text:gsub("[%c\128-\255]", escape)) end
    return (text:gsub("%c", escape):gsub("\194([\128-\159])", function(byte) return "\\u00" .. escape(byte):sub(3) end))
end

return M
