--- What stands before the cursor, as Lua sees it: the calls and tables that are open, and whether a string is.
local keywords = require("steer.repl.show").keywords

local M = {}

local CLOSES = { [")"] = "(", ["}"] = "{", ["]"] = "[" }

-- Past a long string or comment that begins at `at` with [[ or [=[; nil if it has no end.
local function past_long(text, at)
    local equals = text:match("^%[(=*)%[", at)
    local _, stop = text:find("]" .. equals .. "]", at, true)
    return stop and stop + 1
end

-- Past a comment at `at`; nil where the text ends inside.
local function past_comment(text, at)
    if text:find("^%-%-%[=*%[", at) then return past_long(text, at + 2) end
    return text:find("\n", at, true)
end

-- Past a string at `at`; nil, and what of it is there, where the text ends inside.
local function past_string(text, at)
    local quote, i = text:sub(at, at), at + 1
    while i <= #text do
        local byte = text:sub(i, i)
        if byte == quote then return i + 1 end
        if byte == "\n" then return i end -- a mistake
        i = i + (byte == "\\" and 2 or 1)
    end
    return nil, text:sub(at + 1)
end

local function open(state, bracket)
    local frame = { bracket = bracket, index = 1, given = {} }
    frame[bracket == "[" and "indexed" or "call"] = state.chain
    state.stack[#state.stack + 1], state.chain = frame, nil
end

-- A name: it goes on with what stands before it, or begins anew.
local function take_name(state, name)
    local before = state.joiner and state.chain
    state.chain = before and before .. state.joiner .. name or not state.joiner and name or "?" .. state.joiner .. name
    if keywords[name] then state.chain = nil end
    state.joiner = nil
end

local function take_sign(state, text, at, sign)
    local frame = state.stack[#state.stack]
    if sign == "(" or sign == "{" or sign == "[" then
        open(state, sign)
    elseif CLOSES[sign] then
        if frame and frame.bracket == CLOSES[sign] then table.remove(state.stack) end
        state.chain = "?"
    elseif sign == "." or sign == ":" then
        state.joiner = sign
        return
    else
        if sign == "," or sign == ";" then
            if frame then frame.index, frame.key = frame.index + 1, nil end
        elseif sign == "=" and frame and frame.bracket == "{" and text:sub(at + 1, at + 1) ~= "=" then
            frame.key = state.chain or "?"
            frame.given[frame.key] = true
        end
        state.chain = nil
    end
    state.joiner = nil
end

--- Reads a text up to the cursor.
-- @tparam string text
-- @treturn table list of the brackets that are open, outermost first: {bracket = "(", "{" or "[", call = dotted name
-- that is called, index = which argument or entry is being written, key = name before the = that is open, given = set
-- of the names before others, indexed = dotted name before [}
-- @treturn table what the cursor is in: string = what is there of an open string; comment = true; word = the name, with
-- dots and colons, that is being written
function M.read(text)
    local state, at = { stack = {} }, 1
    while at <= #text do
        local name, sign = text:match("^[%a_][%w_]*", at), text:sub(at, at)
        local past, inside = at + 1
        if text:find("^%-%-", at) then
            past = past_comment(text, at)
            if not past then return state.stack, { comment = true } end
        elseif text:find("^%[=*%[", at) then
            past = past_long(text, at)
            if not past then return state.stack, { comment = true } end
            state.chain = "?"
        elseif sign == '"' or sign == "'" then
            past, inside = past_string(text, at)
            if not past then return state.stack, { string = inside } end
            state.chain = "?"
        elseif name then
            past = at + #name
            if past > #text then break end
            take_name(state, name)
        elseif text:find("^[%d]", at) then
            past = at + #text:match("^[%w_.]+", at)
            state.chain = nil
        elseif not sign:find "%s" then
            take_sign(state, text, at, sign)
        end
        at = past
    end
    return state.stack, { word = text:match "[%a_][%w_.:]*$" or text:match "[%w_.:)%]\"']*$" }
end

return M
