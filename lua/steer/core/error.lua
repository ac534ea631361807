--- The error object: a table {code=, op=, message=, where=} whose tostring reads "code: op: message".
-- `code` is one of invalid_argument, shape_mismatch, dtype_mismatch, device_mismatch, out_of_memory, not_found, io,
-- format, unsupported, closed, interrupted, no_effect, device. `where` is a position in the library's C source, or nil.
local Error = {}
Error.__index = Error

function Error:__tostring()
    return self.code .. ": " .. self.op .. ": " .. self.message
end

function Error.__concat(a, b)
    return tostring(a) .. tostring(b)
end

local M = {}

--- Makes an error without raising it.
function M.new(code, op, message, where)
    return setmetatable({ code = code, op = op, message = message, where = where }, Error)
end

--- Raises an error; the message is string.format(format, ...) and begins with the argument at fault.
function M.raise(code, op, format, ...)
    error(M.new(code, op, select("#", ...) > 0 and string.format(format, ...) or format), 0)
end

--- Tells whether `value` is an error of this library.
function M.is(value)
    return getmetatable(value) == Error
end

--- Tells whether an error is Ctrl-C's: this library's, or the text that luajit itself raises where no handler of the
-- library is installed.
function M.is_interrupt(value)
    if M.is(value) then return value.code == "interrupted" end
    return type(value) == "string" and value:find "interrupted!$" ~= nil
end

return M
