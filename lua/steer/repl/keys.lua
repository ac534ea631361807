--- Turns the bytes of a terminal into keys: "a", "C-a", "M-b", "up", "enter", "paste", ...
local M = {}

local controls = { [0x09] = "tab", [0x0a] = "enter", [0x0d] = "enter", [0x7f] = "backspace", [0x08] = "backspace" }
local finals = {
    A = "up", B = "down", C = "right", D = "left", H = "home", F = "end",
}
local numbered = {
    ["1"] = "home", ["3"] = "delete", ["4"] = "end", ["7"] = "home", ["8"] = "end", ["200"] = "paste",
}
local ESCAPE, PASTE_END = 0x1b, "\27[201~"
local ESCAPE_WAIT = 50 -- milliseconds after which an Escape is a key of its own

local function control(byte)
    return controls[byte] or "C-" .. string.char(byte + 0x60)
end

--- Reads the rest of a UTF-8 character; a byte that begins none stands for itself.
local function character(terminal, byte)
    local more = byte >= 0xf0 and byte < 0xf8 and 3 or byte >= 0xe0 and byte < 0xf0 and 2
        or byte >= 0xc2 and byte < 0xe0 and 1 or 0
    local text = string.char(byte)
    for _ = 1, more do
        if not terminal.ready(ESCAPE_WAIT) then break end
        text = text .. string.char(terminal.read_byte() or 0)
    end
    return text
end

local function pasted(terminal)
    local parts, tail = {}, ""
    repeat
        local byte = terminal.read_byte()
        if not byte then break end
        parts[#parts + 1] = string.char(byte)
        tail = (tail .. parts[#parts]):sub(-#PASTE_END)
    until tail == PASTE_END
    return (table.concat(parts):gsub("\27%[201~$", ""):gsub("\r\n?", "\n"):gsub("\n+$", ""))
end

--- Reads what follows Escape and "[" or "O".
local function sequence(terminal)
    local arguments = ""
    while terminal.ready(ESCAPE_WAIT) do
        local byte = terminal.read_byte()
        if not byte then return nil end
        if byte >= 0x40 and byte <= 0x7e then
            local first, modifier = arguments:match("^(%d*);?(%d*)$")
            local name = byte == 0x7e and numbered[first] or finals[string.char(byte)]
            if name == "paste" then return "paste", pasted(terminal) end
            local with = tonumber(modifier) and tonumber(modifier) - 1 or 0
            return name and (with >= 4 and "C-" or with >= 2 and "M-" or "") .. name or "unknown"
        end
        arguments = arguments .. string.char(byte)
    end
    return "unknown"
end

--- Reads a key. "text" comes with the character and "paste" with the text; nil when the terminal is gone.
function M.read(terminal)
    local byte = terminal.read_byte()
    if not byte then return nil end
    if byte ~= ESCAPE then
        if byte < 0x20 or byte == 0x7f then return control(byte) end
        return "text", character(terminal, byte)
    end
    if not terminal.ready(ESCAPE_WAIT) then return "escape" end
    byte = terminal.read_byte()
    if not byte then return nil end
    if byte == 0x5b or byte == 0x4f then return sequence(terminal) end
    if byte < 0x20 or byte == 0x7f then return "M-" .. control(byte) end
    return "M-" .. string.char(byte):lower()
end

return M
