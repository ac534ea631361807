--- Prints results: tensors by their corner, tables to a bounded depth and length, strings quoted.
jit.off(true, true) -- it walks tables: see steer/_walk.lua

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

-- Inside a table, an object of several lines is its first line, a tensor its last one: "[tensor 6 f32 cpu]".
local function short(value)
    local text = tostring(value)
    if not text:find("\n") then return text end
    if type(value) == "cdata" then return text:match("[^\n]*$") end
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

--- Gives a value as text of about `width` columns.
function M.text(value, width)
    return describe(value, {}, 1, width or 80)
end

return M
