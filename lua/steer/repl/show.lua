--- Prints results: tensors by their corner, tables to a bounded depth and length, strings quoted.
jit.off(true, true) -- it walks tables: see steer/core/tables.lua

local base = require "steer.tensor.object"

local M = {}

local ITEMS = { 40, 12, 6, 6 } -- entries shown of a table, by depth
local KEYS = 1000             -- keys that are put in order
local STRING = 400
local keywords = {}
for word in ("and break do else elseif end false for function goto if in local nil not or repeat return then true "
    .. "until while"):gmatch("%a+") do
    keywords[word] = true
end
M.keywords = keywords --- set of Lua's reserved words

local escapes = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\" }

local function quote(text)
    local cut = #text > STRING and ("... (%d bytes)"):format(#text) or ""
    return '"' .. text:sub(1, STRING):gsub('[%c"\\]', function(c)
        return escapes[c] or ("\\%03d"):format(c:byte())
    end) .. '"' .. cut
end

-- Inside a table, an object of several lines is its first line, a tensor "[tensor 6 f32 cpu]".
local function short(value)
    if base.is(value) then return base.title(value) end
    local text = tostring(value)
    if not text:find("\n") then return text end
    return text:match("^[^\n]*") .. " ..."
end

local function has_text(value)
    local meta = debug.getmetatable(value)
    return type(meta) == "table" and rawget(meta, "__tostring") ~= nil
end

-- Inside a table a number has the digits that one reads.
local function number_text(value)
    return value % 1 == 0 and tostring(value) or ("%.6g"):format(value)
end

-- Keys beside the list part, in order: numbers, names, the rest; and how many there are.
local function other_keys(value, length)
    local keys, count = {}, 0
    for key in next, value do
        if not (type(key) == "number" and key >= 1 and key <= length and key % 1 == 0) then
            count = count + 1
            if count <= KEYS then keys[count] = key end
        end
    end
    local rank = { number = 1, string = 2 }
    table.sort(keys, function(a, b)
        local ra, rb = rank[type(a)] or 3, rank[type(b)] or 3
        if ra ~= rb then return ra < rb end
        if ra == 3 then return tostring(a) < tostring(b) end
        return a < b
    end)
    return keys, count
end

local describe

local function key_text(key)
    if type(key) == "string" and key:find("^[%a_][%w_]*$") and not keywords[key] then return key end
    return "[" .. (type(key) == "string" and quote(key) or short(key)) .. "]"
end

local function items_of(value, inside, depth, width)
    local length, limit, items = #value, ITEMS[depth], {}
    local function add(key, prefix)
        if #items < limit then items[#items + 1] = prefix .. describe(rawget(value, key), inside, depth + 1, width) end
    end
    local keys, count = other_keys(value, length)
    local zero = rawget(value, 0) ~= nil -- lists by layer begin there
    if zero then add(0, "[0] = ") end
    for i = 1, math.min(length, limit) do add(i, "") end
    for _, key in ipairs(keys) do
        if key ~= 0 then add(key, key_text(key) .. " = ") end
    end
    local left = length + count - #items
    if left > 0 then items[#items + 1] = ("... %d more"):format(left) end
    return items
end

-- Items side by side in lines of at most `width` columns, without the comma that ends a line.
local function filled(items, width)
    local lines = {}
    for _, item in ipairs(items) do
        local last = lines[#lines]
        if last and #last + 2 + #item + 1 <= width then
            lines[#lines] = last .. ", " .. item
        else
            lines[#lines + 1] = item
        end
    end
    return lines
end

local function describe_table(value, inside, depth, width)
    if inside[value] then return "{ itself }" end
    if next(value) == nil then return "{}" end
    if not ITEMS[depth] then return "{ ... }" end
    inside[value] = true
    local items = items_of(value, inside, depth, width)
    inside[value] = nil
    local line = "{ " .. table.concat(items, ", ") .. " }"
    if #line + 4 * depth <= width and not line:find("\n") then return line end
    local indent = ("    "):rep(depth)
    local lines = type(rawget(value, 1)) == "number" and filled(items, width - #indent) or items
    return "{\n" .. indent .. table.concat(lines, ",\n" .. indent) .. "\n" .. indent:sub(5) .. "}"
end

describe = function(value, inside, depth, width)
    local kind = type(value)
    if kind == "string" then return quote(value) end
    if kind == "number" and depth > 1 then return number_text(value) end
    if kind == "table" and not has_text(value) then return describe_table(value, inside, depth, width) end
    return depth > 1 and short(value) or tostring(value)
end

-- Names in the order of people: "layer.2" before "layer.10".
local function natural(key)
    return type(key) == "number" and ("%020.6f"):format(key)
        or tostring(key):gsub("%d+", function(digits) return ("0"):rep(20 - #digits) .. digits end)
end

-- What a file of tensors gives: a row for each; nil of any other table.
local function tensors_text(tensors, width)
    local keys, rows, widest, sizes = {}, {}, 0, 0
    for key, value in next, tensors do
        if not base.is(value) then return nil end
        keys[#keys + 1] = key
    end
    if #keys == 0 then return nil end
    table.sort(keys, function(a, b) return natural(a) < natural(b) end)
    for i = 1, math.min(#keys, ITEMS[1]) do
        local tensor = tensors[keys[i]]
        local closed = tensor.handle == nil
        rows[i] = { tostring(keys[i]), closed and "closed" or base.size_text(tensor),
            closed and "" or tensor.dtype .. " " .. tensor.device }
        widest, sizes = math.max(widest, #rows[i][1]), math.max(sizes, #rows[i][2])
    end
    local format = ("%%-%ds  %%-%ds  %%s"):format(math.min(widest, math.max(8, width - sizes - 20)), sizes)
    for i, row in ipairs(rows) do rows[i] = format:format(unpack(row)):gsub(" +$", "") end
    if #keys > #rows then rows[#rows + 1] = ("... %d more"):format(#keys - #rows) end
    rows[#rows + 1] = ("[%d tensor%s]"):format(#keys, #keys == 1 and "" or "s")
    return table.concat(rows, "\n")
end

--- Gives a value as text of about `width` columns.
function M.text(value, width)
    if type(value) == "table" and not has_text(value) then
        local text = tensors_text(value, width or 80)
        if text then return text end
    end
    return describe(value, {}, 1, width or 80)
end

return M
