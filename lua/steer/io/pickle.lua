--- Python's pickles, read without running anything: the opcodes that plain values take, names that the caller allows.
--
-- A pickle is a program for a stack machine. What it builds here are texts, numbers and booleans as they are, M.NONE,
-- {kind = "list" | "tuple", ...} and {kind = "dict", keys =, values =}; the caller's names may make others.
local file = require "steer.io._file"

local M = {}

--- Python's None.
M.NONE = { kind = "None" }

local MARK = { kind = "a mark" }

local Machine = {}
Machine.__index = Machine

function Machine:fail(format, ...)
    self.map:fail("pickle: byte %d: %s", self.op_at - 1, format:format(...))
end

function Machine:refuse(format, ...)
    self.map:refuse("pickle: byte %d: %s; nothing in the file was run", self.op_at - 1, format:format(...))
end

-- ---- The program's text --------------------------------------------------------------------------------------------

function Machine:take(size)
    local stop = self.at + size - 1
    if stop > #self.text then self:fail("it ends early") end
    local bytes = self.text:sub(self.at, stop)
    self.at = stop + 1
    return bytes
end

function Machine:number(kind) return file.unpack(kind, self:take(file.sizes[kind])) end

function Machine:line()
    local stop = self.text:find("\n", self.at, true) or self:fail("it ends early")
    local line = self.text:sub(self.at, stop - 1)
    self.at = stop + 1
    return line
end

-- Two's complement, low byte first, of any length up to that of an unsigned 64-bit integer.
function Machine:long(size)
    local bytes = self:take(size)
    if size == 0 then return 0 end
    if size <= 8 then return file.exact("i64", bytes .. (bytes:byte(-1) > 127 and "\255" or "\0"):rep(8 - size)) end
    if size == 9 and bytes:byte(9) == 0 then return file.exact("u64", bytes) end
    self:refuse("an integer of %d bytes is larger than 64 bits", size)
end

-- ---- The stack -----------------------------------------------------------------------------------------------------

function Machine:push(value) self.stack[#self.stack + 1] = value end

function Machine:pop(kind)
    local value = table.remove(self.stack)
    if value == nil or value == MARK then self:fail("the stack is empty") end
    if kind and (type(value) ~= "table" or value.kind ~= kind) then
        self:fail("expected a %s, found %s", kind, M.describe(value))
    end
    return value
end

function Machine:top(kind)
    local value = self:pop(kind)
    self:push(value)
    return value
end

-- What was pushed since the last mark, which goes too.
function Machine:pop_mark()
    local stack, items = self.stack, {}
    local at = #stack
    while at > 0 and stack[at] ~= MARK do at = at - 1 end
    if at == 0 then self:fail("there is no mark") end
    for i = at + 1, #stack do items[i - at] = stack[i] end
    for i = #stack, at, -1 do stack[i] = nil end
    return items
end

function Machine:tuple(items)
    items.kind = "tuple"
    self:push(items)
end

-- The last n values as a tuple.
function Machine:pop_tuple(n)
    local items = {}
    for i = n, 1, -1 do items[i] = self:pop() end
    self:tuple(items)
end

function Machine:remember(index) self.memo[index] = self:top() end

function Machine:recall(index)
    local value = self.memo[index]
    if value == nil then self:fail("nothing was remembered as %.0f", index) end
    self:push(value)
end

function Machine:append(items)
    local list = self:top "list"
    for _, item in ipairs(items) do list[#list + 1] = item end
end

--- Sets an item of a dict; one that is there is replaced.
function Machine:set(dict, key, value)
    if type(key) ~= "string" and type(key) ~= "number" or key ~= key then
        self:refuse("a dict has a key that is %s, expected text or a number", M.describe(key))
    end
    if dict.values[key] == nil then dict.keys[#dict.keys + 1] = key end
    dict.values[key] = value
end

function Machine:set_items(items)
    if #items % 2 ~= 0 then self:fail("a key without its value") end
    local dict = self:top "dict"
    for i = 1, #items, 2 do self:set(dict, items[i], items[i + 1]) end
end

function Machine:global(module, name)
    local full = module .. "." .. name
    self:push(self.names[full] or self:refuse("it names %s, which is not among what Steer reads (tensors, dicts, "
        .. "lists, tuples, text, numbers)", file.quote(full)))
end

function Machine:reduce()
    local arguments, callee = self:pop "tuple", self:pop()
    if type(callee) ~= "table" or not callee.call then self:fail("%s is called", M.describe(callee)) end
    self:push(callee.call(self, arguments))
end

-- Attributes of an OrderedDict, such as the versions in a state dict, hold nothing of its items.
function Machine:build()
    local state = self:pop()
    if not (type(state) == "table" and state.kind == "dict") then
        self:refuse("attributes are set from %s", M.describe(state))
    end
    self:top "dict"
end

-- ---- The opcodes ---------------------------------------------------------------------------------------------------

--- Makes an empty dict.
function M.dict() return { kind = "dict", keys = {}, values = {} } end

--- Describes a value of a pickle for a message.
function M.describe(value)
    if type(value) == "table" then return value.name or value.kind end
    return type(value) == "string" and "the text " .. file.quote(value) or tostring(value)
end

local function big_endian_f64(m) return file.unpack("f64", m:take(8):reverse()) end
local function sized(kind) return function(m) m:push(m:take(m:number(kind))) end end
local function constant(value) return function(m) m:push(value) end end

local opcodes = {
    ["\128"] = function(m) -- PROTO
        local version = m:number "u8"
        if version > 5 then m:refuse("protocol %d is not known", version) end
    end,
    ["\149"] = function(m) m:take(8) end, -- FRAME
    ["("] = constant(MARK), N = constant(M.NONE), ["\136"] = constant(true), ["\137"] = constant(false),
    K = function(m) m:push(m:number "u8") end,
    M = function(m) m:push(m:number "u16") end,
    J = function(m) m:push(m:number "i32") end,
    ["\138"] = function(m) m:push(m:long(m:number "u8")) end, -- LONG1
    ["\139"] = function(m) m:push(m:long(m:number "u32")) end, -- LONG4
    G = function(m) m:push(big_endian_f64(m)) end,
    X = sized "u32", ["\140"] = sized "u8", ["\141"] = sized "u64", -- text
    B = sized "u32", C = sized "u8", ["\142"] = sized "u64", -- bytes
    ["]"] = function(m) m:push { kind = "list" } end,
    ["}"] = function(m) m:push(M.dict()) end,
    [")"] = function(m) m:tuple {} end,
    t = function(m) m:tuple(m:pop_mark()) end,
    ["\133"] = function(m) m:pop_tuple(1) end,
    ["\134"] = function(m) m:pop_tuple(2) end,
    ["\135"] = function(m) m:pop_tuple(3) end,
    a = function(m)
        local item = m:pop()
        m:append { item }
    end,
    e = function(m) m:append(m:pop_mark()) end,
    s = function(m)
        local value, key = m:pop(), m:pop()
        m:set_items { key, value }
    end,
    u = function(m) m:set_items(m:pop_mark()) end,
    q = function(m) m:remember(m:number "u8") end,
    r = function(m) m:remember(m:number "u32") end,
    ["\148"] = function(m) -- MEMOIZE
        m:remember(m.memoized)
        m.memoized = m.memoized + 1
    end,
    h = function(m) m:recall(m:number "u8") end,
    j = function(m) m:recall(m:number "u32") end,
    c = function(m) m:global(m:line(), m:line()) end,
    ["\147"] = function(m) -- STACK_GLOBAL
        local name, module = m:pop(), m:pop()
        if type(name) ~= "string" or type(module) ~= "string" then m:fail("a name that is no text") end
        m:global(module, name)
    end,
    Q = function(m) m:push(m.persistent(m, m:pop())) end,
    R = Machine.reduce, b = Machine.build,
}

-- What the others do, for the message that refuses them.
local refused = {
    i = "INST, which makes an object", o = "OBJ, which makes an object", ["\129"] = "NEWOBJ, which makes an object",
    ["\146"] = "NEWOBJ_EX, which makes an object", ["\130"] = "EXT1", ["\131"] = "EXT2", ["\132"] = "EXT4",
    ["\143"] = "EMPTY_SET, which makes a set", ["\145"] = "FROZENSET, which makes a set", P = "PERSID",
}

--- Reads a pickle.
-- @param map of the pickle, for its messages
-- @tparam string text
-- @tparam table names full name -> value of the names that it may use; one that has call(machine, tuple) may be called
-- @tparam function persistent makes a value of an id (machine, id)
-- @raise format (damaged), unsupported (names and opcodes that are not allowed)
function M.read(map, text, names, persistent)
    local machine = setmetatable({ map = map, text = text, at = 1, op_at = 1, stack = {}, memo = {}, memoized = 0,
        names = names, persistent = persistent }, Machine)
    while true do
        machine.op_at = machine.at
        local op = machine:take(1)
        if op == "." then break end
        local act = opcodes[op]
        if not act then machine:refuse("the opcode %s", refused[op] or ("0x%02x"):format(op:byte())) end
        act(machine)
    end
    return machine:pop()
end

return M
