--- Results files of sweeps: one JSON object a line, a header first and then a line for each finished case.
--
--   Header: {"steer_sweep":1, "name", "axes":{axis:[values]}, "order":[axes], "seed", "version", "content"}.
--   Case: {"case":{axis:value}, "key":(hash of the case), "status":"ok" | "skipped" | "failed",
--     "metrics":{name:number}, "samples":{name:[numbers]}, "path", "device", "device_name", "driver", "clock_khz",
--     "versions":{}, "git", "code":{"file":hash, "required":{name:hash}} (see sweep/code.lua), "host", "seed",
-- "seconds",
--     "time", "reason", "traceback", "command"}; what does not apply is left out.
-- Numbers have 17 significant digits, NaN and infinities are null.
local ffi = require "ffi"
local append_only = require "steer.core.durable"
local check = require "steer.core.check"
local json = require "steer.core.json"
local printable = require("steer.core.text").printable
local raise = require("steer.core.error").raise
local tables = require "steer.core.tables"

local M = {}

local FORMAT = 1
local HEAD, CASE_HEAD = '{"steer_sweep":', '{"case":' -- what the lines begin with
local STATUSES = { ok = true, skipped = true, failed = true }

-- ---- The content of a case -----------------------------------------------------------------------------------------

local function fnv1a(text)
    local hash = 0xcbf29ce484222325ULL
    for i = 1, #text do
        hash = bit.bxor(hash, ffi.cast("uint64_t", text:byte(i))) * 0x100000001b3ULL
    end
    return bit.bxor(hash, bit.rshift(hash, 32)) -- the low bits alone mix little
end

--- Gives 16 hexadecimal digits that depend on a text.
function M.hash(text)
    return bit.tohex(fnv1a(text), 16)
end

--- Gives the key of a case, 16 hexadecimal digits that depend on its axes' names and values alone.
-- @tparam table case axis -> value
function M.key(case)
    return M.hash(json.encode(case))
end

--- Gives the seed of a case: it depends on the sweep's seed and the case, not on which cases run beside it.
-- @tparam number seed of the sweep
-- @tparam table case axis -> value
-- @treturn number integer from 0 up, below 2^48
function M.seed(seed, case)
    return tonumber(fnv1a(("%.17g "):format(seed) .. json.encode(case)) % 2ULL ^ 48)
end

--- Writes a case for people: "hidden=1024 path=uniform".
-- @tparam table case axis -> value
-- @tparam table order list of the axes' names
function M.text(case, order)
    local words = {}
    for i, name in ipairs(order) do
        local value = case[name]
        words[i] = name .. "=" .. (type(value) == "number" and ("%.15g"):format(value) or printable(tostring(value)))
    end
    return table.concat(words, " ")
end

-- ---- Reading -------------------------------------------------------------------------------------------------------

local function read_file(op, path)
    local file, why = io.open(path, "rb")
    if not file then raise("io", op, "cannot open %s", why) end
    local text, message = file:read "*a"
    file:close()
    if not text then raise("io", op, "%s: cannot read: %s", path, message) end
    return text
end

-- A list of the line's text, its number and whether it ends in a newline.
local function split(text)
    local lines, at = {}, 1
    while at <= #text do
        local stop = text:find("\n", at, true)
        lines[#lines + 1] = { text = text:sub(at, (stop or #text + 1) - 1), ends = stop ~= nil, from = at - 1 }
        at = (stop or #text) + 1
    end
    return lines
end

local function is_names(list)
    if type(list) ~= "table" then return false end
    for i = 1, #list do
        if type(list[i]) ~= "string" then return false end
    end
    return true
end

-- Tells whether a value is one that an axis may have; null is NaN here.
local function is_value(value)
    return value ~= nil and type(value) ~= "table" and value == value and value ~= math.huge and value ~= -math.huge
end

local function is_values(list)
    if type(list) ~= "table" then return false end
    for i = 1, #list do
        if not is_value(list[i]) then return false end
    end
    return true
end

local function check_header(op, path, header)
    if header.steer_sweep ~= FORMAT then
        raise("format", op, "%s: line 1: results of format %s, this version reads format %d", path,
            tostring(header.steer_sweep), FORMAT)
    end
    local good = type(header.name) == "string" and type(header.axes) == "table" and is_names(header.order)
        and type(header.seed) == "number" and header.seed % 1 == 0
    for i = 1, good and #header.order or 0 do
        good = good and is_values(header.axes[header.order[i]])
    end
    if not good then raise("format", op, "%s: line 1: the header lacks name, axes, order or seed", path) end
end

local function is_number(value) return type(value) == "number" end

local function is_numbers(list)
    if type(list) ~= "table" then return false end
    for i = 1, #list do
        if type(list[i]) ~= "number" then return false end
    end
    return true
end

local function numbers_fault(what, values, test)
    if values == nil then return nil end
    if type(values) ~= "table" then return "its " .. what .. " are no table" end
    for _, name in ipairs(tables.keys(values)) do
        if type(name) ~= "string" then return ("its %s are a list, expected names"):format(what) end
        if not test(values[name]) then return ("its %s hold something else at %s"):format(what, tostring(name)) end
    end
    return nil
end

local function code_fault(code)
    if code == nil then return nil end
    local required = type(code) == "table" and code.required or {}
    local good = type(code) == "table" and type(code.file) == "string" and type(required) == "table"
    for _, name in ipairs(good and tables.keys(required) or {}) do
        good = good and type(name) == "string" and type(required[name]) == "string"
    end
    return not good and "its code is something else than hashes" or nil
end

-- What is wrong with a case's line, or nil.
local function case_fault(line, header)
    if type(line) ~= "table" or type(line.case) ~= "table" or not STATUSES[line.status] then
        return "it is no case of a sweep"
    end
    for _, name in ipairs(header.order) do
        if not is_value(line.case[name]) then return ("the case lacks the axis %s"):format(name) end
    end
    if #tables.keys(line.case) ~= #header.order then return "the case has other axes than the header" end
    if line.key ~= M.key(line.case) then return "its key does not belong to its case" end
    return numbers_fault("metrics", line.metrics, is_number) or numbers_fault("samples", line.samples, is_numbers)
        or code_fault(line.code)
end

-- Tells whether the last line is a case's that was cut short, or zeros that a machine left which went down.
local function is_torn(text)
    return text:sub(1, #CASE_HEAD) == CASE_HEAD:sub(1, #text) or text:find("%z") ~= nil
end

local function parse_cases(op, result, lines)
    for number = 2, #lines do
        local entry = lines[number]
        local line, why = json.decode(entry.text)
        if line == nil and number == #lines and is_torn(entry.text) then
            result.torn_from = entry.from
            return
        end
        entry.text = nil -- raw samples make long lines
        why = why or case_fault(line, result.header)
        if why then raise("format", op, "%s: line %d is foreign: %s", result.path, number, why) end
        result.lines[#result.lines + 1] = line
        line.line, result.unended = number, not entry.ends
    end
end

-- The line that holds for each case is its last; a failed one before it was tried again.
local function settle(result)
    local at = {}
    for _, line in ipairs(result.lines) do
        local place = at[line.key]
        if not place then
            place = #result.cases + 1
            at[line.key] = place
        elseif result.cases[place].status == "ok" and line.status == "ok" then
            result.repeated[#result.repeated + 1] = { case = line.case, first = result.cases[place].line,
                second = line.line }
        end
        result.cases[place] = line
    end
end

--- Reads a results file. A torn last line is left out.
-- @tparam string op operation for messages
-- @tparam string path
-- @treturn table path; header {name=, axes= {name = {values}}, order= {names}, seed=, version=}, nil if the file is
-- empty or its header torn; cases (a list of the lines, the last of each case, with its number as `line`; null is NaN);
-- lines (all); repeated (list of {case=, first=, second=} with the numbers of two lines of one case that ran);
-- torn_from (bytes before a torn last line, or nil)
-- @raise io, format (with the line's number)
function M.open(op, path)
    local text = read_file(op, path)
    local lines = split(text)
    local result = { path = path, cases = {}, lines = {}, repeated = {} }
    local header = lines[1] and json.decode(lines[1].text)
    if #lines < 2 and not header and text:sub(1, #HEAD) == HEAD:sub(1, #text) then
        result.torn_from = #text > 0 and 0 or nil
        return result
    end
    if type(header) ~= "table" or header.steer_sweep == nil then
        raise("format", op, "%s: line 1 is not the header of a sweep's results", path)
    end
    check_header(op, path, header)
    result.header, result.unended = header, not lines[1].ends
    parse_cases(op, result, lines)
    settle(result)
    return result
end

--- Reads a results file that holds a sweep's results, as record.open does.
-- @tparam string path
-- @raise io, format; an empty file is a format error
function M.read(path)
    check.type("record_read", "path", path, "string", "the path of a results file")
    local result = M.open("record_read", path)
    if not result.header then raise("format", "record_read", "%s: it is empty", path) end
    return result
end

-- ---- Writing -------------------------------------------------------------------------------------------------------

local Writer = {}
Writer.__index = Writer

local function write(writer, text, later)
    if writer.file.fd == 1 then io.stdout:flush() end
    writer.file:append(text, later)
end

-- The mark comes first, so that a torn header is known by its beginning.
local function header_line(header)
    return ("%s%d,%s\n"):format(HEAD, FORMAT, json.encode({
        name = header.name, axes = header.axes, order = json.list(header.order), seed = header.seed,
        version = header.version, content = header.content,
    }):sub(2))
end

--- Begins a results file.
-- @tparam string op operation for messages
-- @tparam string path a file that is not there or empty; "-" is standard output
-- @tparam table header name, axes, order, seed, version
-- @tparam[opt] string advice for a file that holds something
-- @return a writer with add(line) and close()
-- @raise io
function M.create(op, path, header, advice)
    local file = append_only.open(op, path)
    if path ~= "-" and file:size() > 0 then
        file:close()
        raise("io", op, "%s: it exists%s", path, advice and "; " .. advice or " and is not empty")
    end
    local writer = setmetatable({ file = file }, Writer)
    write(writer, header_line(header))
    return writer
end

local Held = {}
Held.__index = Held

--- Begins results that stay in memory.
-- @tparam table header as for M.create
-- @return a writer, whose found() gives them as record.open gives a file's
function M.hold(header) return setmetatable({ header = header, lines = {} }, Held) end

--- Adds a finished case, as a file's writer does.
-- @tparam table line its fields; `key` and `line` are set
function Held:add(line)
    line.key, line.line = M.key(line.case), #self.lines + 2
    self.lines[line.line - 1] = line
end

--- Does nothing: a file's writer closes its file.
function Held:close() end -- luacheck: ignore self

--- The results so far.
-- @treturn table as record.open gives a file's
function Held:found()
    local result = { header = self.header, lines = self.lines, cases = {}, repeated = {} }
    settle(result)
    return result
end

--- Goes on with a results file: a torn last line is cut off, a missing newline added.
-- @tparam string op operation for messages
-- @tparam string path
-- @tparam table header for a file that is empty or not there
-- @tparam function accept called with what the file holds before it is touched; may raise
-- @return a writer, and what the file holds, as record.open gives
function M.continue(op, path, header, accept)
    local file = append_only.open(op, path) -- before reading: from here on nobody else writes
    local ok, found = pcall(function()
        if file:size() < 0 then raise("io", op, "%s: it is a pipe, which holds no earlier results", path) end
        local held = M.open(op, path)
        if held.header then accept(held) end
        return held
    end)
    if not ok then
        file:close()
        error(found, 0)
    end
    local writer = setmetatable({ file = file }, Writer)
    if found.torn_from then file:cut(found.torn_from) end
    if found.unended and not found.torn_from then file:append("\n") end
    if not found.header then write(writer, header_line(header)) end
    return writer, found
end

local function case_line(line)
    local copy = {}
    for _, name in ipairs(tables.keys(line)) do copy[name] = line[name] end
    copy.line, copy.key = nil, M.key(line.case)
    return json.encode(copy) .. "\n"
end

--- Appends a case's line and syncs; its key is filled in.
-- @tparam table line
-- @tparam[opt] boolean later another line follows at once, with which this one is synced
function Writer:add(line, later)
    write(self, case_line(line), later)
end

--- Gives the text of a case's line, for add_text of another process's writer.
M.text_of_line = case_line

--- Appends a case's line that is text already.
function Writer:add_text(text) write(self, text) end

--- Appends a list of lines and syncs once.
function Writer:add_all(lines)
    local out = {}
    for i, line in ipairs(lines) do out[i] = case_line(line) end
    write(self, table.concat(out))
end

--- Closes the file.
function Writer:close()
    if self.file then self.file:close() end
    self.file = nil
end

require("steer.core.class").module(M, "record")

return M
