--- What a command says of an error in a user's file: the message and the file's part of the stack.
local M = {}

-- The frames below the user's: the command that called the file.
local OWN_FRAMES = "\n\t%[C%]: in function 'xpcall'\n\t[^\n]*steer/cli/%w+%.lua:"

--- Handler for xpcall, which a command of this folder calls with the user's function.
-- @treturn table text (message and traceback), interrupted (by Ctrl-C), message (of an error of the library, else nil)
function M.report(err)
    local text = debug.traceback(tostring(err), 2)
    local ends, structured = text:find(OWN_FRAMES), type(err) == "table"
    return { text = ends and text:sub(1, ends - 1) or text, interrupted = structured and err.code == "interrupted",
        message = structured and tostring(err) or nil }
end

--- Gives what xpcall returned as a failure: a text where the handler itself failed.
function M.of(value)
    return type(value) == "table" and value or { text = tostring(value), interrupted = false }
end

return M
