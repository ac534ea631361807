--- The methods of texts, as Python's str has them.
local arguments = require "steer.jinja.arguments"
local call = require "steer.jinja.call"
local format = require "steer.jinja.format"
local run = require "steer.jinja.run"
local sequence = require "steer.jinja.sequence"
local text = require "steer.jinja.text"
local unicode = require "steer.jinja.unicode"
local value_of = require "steer.jinja.value"

local None, kind_of = value_of.None, value_of.kind
local row = call.row
local M = {}

-- The bytes between two code points that are given as for a slice: first, last, and the offset of the first one.
local function window(self, start, stop)
    local length = text.length(self)
    local function clip(value, default)
        if value == nil or value == None then return default end
        local at = arguments.int(value)
        if at < 0 then at = at + length end
        return math.max(0, at)
    end
    local from, to = clip(start, 0), math.min(clip(stop, length), length)
    if from > length or from > to then return nil end
    return text.offset(self, from), text.offset(self, to) - 1
end

-- ---- Sides ---------------------------------------------------------------------------------------------------------

local function stripping(left, right)
    return row("chars", function(self, chars)
        return text.strip(self, arguments.optional_text(chars, "strip arg"), left, right)
    end)
end

M.strip, M.lstrip, M.rstrip = stripping(true, true), stripping(true, false), stripping(false, true)

-- Makes startswith or endswith: matches(part, affix) tells it of one affix.
local function affix_test(name, matches)
    return row("prefix! start stop", function(self, affix, start, stop)
        local first, last = window(self, start, stop)
        local affixes = kind_of(affix) == "tuple" and affix or { affix }
        for i = 1, #affixes do
            local item = value_of.text(affixes[i])
            if not item then
                if kind_of(affix) == "undefined" then value_of.fail_undefined(affix) end
                run.fail("%s first arg must be str or a tuple of str, not %s", name, value_of.type_name(affixes[i]))
            end
            if first and matches(self:sub(first, last), item) then return true end
        end
        return false
    end)
end

M.startswith = affix_test("startswith", function(part, affix) return part:sub(1, #affix) == affix end)
M.endswith = affix_test("endswith", function(part, affix)
    return #affix <= #part and part:sub(#part - #affix + 1) == affix
end)

M.removeprefix = row("prefix!", function(self, prefix)
    prefix = arguments.text(prefix, "removeprefix() argument")
    return self:sub(1, #prefix) == prefix and self:sub(#prefix + 1) or self
end)
M.removesuffix = row("suffix!", function(self, suffix)
    suffix = arguments.text(suffix, "removesuffix() argument")
    local matches = suffix ~= "" and #suffix <= #self and self:sub(-#suffix) == suffix
    return matches and self:sub(1, #self - #suffix) or self
end)

-- ---- Finding -------------------------------------------------------------------------------------------------------

-- The first byte of the last place at which a text is in self, from byte `first` to `last`.
local function find_last(self, what, first, last)
    local cost, initial = (1 + #what / 64) / 4, what:byte(1)
    for at = last - #what + 1, first, -1 do
        run.charge(cost)
        if (not initial or self:byte(at) == initial) and self:sub(at, at + #what - 1) == what then return at end
    end
end

local function finding(name, from_right, must_be)
    return row("sub! start stop", function(self, what, start, stop)
        what = arguments.text(what, name .. "() argument")
        local first, last = window(self, start, stop)
        local at
        if first and from_right then
            at = find_last(self, what, first, last)
        elseif first then
            at = text.find(self, what, first)
            if at and at + #what - 1 > last then at = nil end
        end
        if at then return text.length(self:sub(1, at - 1)) end
        if must_be then run.fail "substring not found" end
        return -1
    end)
end

M.find, M.rfind = finding("find", false), finding("rfind", true)
M.index, M.rindex = finding("index", false, true), finding("rindex", true, true)

M.count = row("sub! start stop", function(self, what, start, stop)
    what = arguments.text(what, "count() argument")
    local first, last = window(self, start, stop)
    if not first then return 0 end
    if what == "" then return text.length(self:sub(first, last)) + 1 end
    local count, at = 0, first
    while true do
        local from, to = text.find(self, what, at)
        if not from or to > last then return count end
        count, at = count + 1, to + 1
    end
end)

M.replace = row("old! new! count", function(self, old, new, count)
    return text.replace(self, arguments.text(old, "replace() argument 1"), arguments.text(new, "replace() argument 2"),
        arguments.count(count))
end)

-- ---- Splitting and joining -----------------------------------------------------------------------------------------

local function split_left(self, separator, most)
    local parts, at = {}, 1
    while #parts < most do
        local from, to = text.find(self, separator, at)
        if not from then break end
        parts[#parts + 1], at = self:sub(at, from - 1), to + 1
    end
    parts[#parts + 1] = self:sub(at)
    return parts
end

local function split_right(self, separator, most)
    local parts, last = {}, #self
    while #parts < most do
        local at = find_last(self, separator, 1, last)
        if not at then break end
        parts[#parts + 1], last = self:sub(at + #separator, last), at - 1
    end
    parts[#parts + 1] = self:sub(1, last)
    local out = {}
    for i = #parts, 1, -1 do out[#out + 1] = parts[i] end
    return out
end

local function splitting(split, from_right)
    return row("sep maxsplit", function(self, separator, most)
        separator, most = arguments.optional_text(separator, "sep"), arguments.count(most)
        if separator == "" then run.fail "empty separator" end
        return value_of.list(separator and split(self, separator, most) or text.words(self, most, from_right))
    end)
end

M.split, M.rsplit = splitting(split_left, false), splitting(split_right, true)

M.splitlines = row("keepends", function(self, keep_ends)
    return value_of.list(text.lines(self, keep_ends ~= nil and value_of.truth(keep_ends)))
end)

local function partitioning(from_right)
    return row("sep!", function(self, separator)
        separator = arguments.text(separator, "sep")
        if separator == "" then run.fail "empty separator" end
        local at
        if from_right then at = find_last(self, separator, 1, #self) else at = text.find(self, separator, 1) end
        if at then return value_of.tuple { self:sub(1, at - 1), separator, self:sub(at + #separator) } end
        return value_of.tuple(from_right and { "", "", self } or { self, "", "" })
    end)
end

M.partition, M.rpartition = partitioning(false), partitioning(true)

M.join = row("iterable!", function(self, iterable)
    local parts = sequence.elements(iterable)
    for i, item in ipairs(parts) do
        parts[i] = value_of.text(item)
        if not parts[i] then
            run.fail("sequence item %d: expected str instance, %s found", i - 1, value_of.type_name(item))
        end
    end
    return text.concat(parts, self)
end)

-- ---- Cases ---------------------------------------------------------------------------------------------------------

local function of_text(fn) return row("", function(self) return fn(self) end) end

M.lower, M.upper, M.casefold = of_text(text.lower), of_text(text.upper), of_text(text.folded)
M.capitalize, M.title = of_text(text.capitalize), of_text(text.title)
M.swapcase = of_text(text.swapcase)

-- ---- Classes -------------------------------------------------------------------------------------------------------

local function every(self, passes)
    if self == "" then return false end
    for _, char in ipairs(text.chars(self)) do
        if not passes(char) then return false end
    end
    return true
end

local function in_any(...)
    local classes = { ... }
    return function(char)
        local code = unicode.code(char)
        for _, class in ipairs(classes) do
            if unicode.is(class, code) then return true end
        end
        return false
    end
end

local function class_test(passes) return of_text(function(self) return every(self, passes) end) end

M.isalpha, M.isdecimal = class_test(in_any "alpha"), class_test(in_any "decimal")
M.isdigit = class_test(in_any("decimal", "digit"))
M.isnumeric = class_test(in_any("decimal", "digit", "numeric"))
M.isalnum = class_test(in_any("alpha", "decimal", "digit", "numeric"))
M.isspace = class_test(text.is_space)
M.isascii = of_text(text.is_ascii)
M.isprintable = of_text(function(self)
    return self == "" or every(self, function(char) return not unicode.is("unprintable", unicode.code(char)) end)
end)
M.isidentifier = of_text(function(self)
    local word = in_any("alpha", "decimal")
    return not self:find "^%d" and every(self, function(char) return char == "_" or word(char) end)
end)

-- Tells whether all that has case in a text is of a class, and that there is some.
local function case_test(class)
    return of_text(function(self)
        local found = false
        for _, char in ipairs(text.chars(self)) do
            if unicode.is(class, unicode.code(char)) then
                found = true
            elseif unicode.is_cased(char) then
                return false
            end
        end
        return found
    end)
end

M.islower, M.isupper = case_test "lower", case_test "upper"
M.istitle = of_text(function(self)
    local found, inside = false, false
    for _, char in ipairs(text.chars(self)) do
        local cased, large = unicode.is_cased(char), not unicode.is("lower", unicode.code(char))
        if cased and large == inside then return false end
        found, inside = found or cased, cased
    end
    return found
end)

-- ---- Widths --------------------------------------------------------------------------------------------------------

local function padding(share_left)
    return row("width! fillchar", function(self, width, fill)
        fill = fill == nil and " " or arguments.text(fill, "the fill character")
        if text.length(fill) ~= 1 then run.fail "The fill character must be exactly one character long" end
        width = arguments.int(width)
        local missing = math.max(0, width - text.length(self))
        local left = share_left(missing, width)
        return text.rep(fill, left) .. self .. text.rep(fill, missing - left)
    end)
end

M.ljust = padding(function() return 0 end)
M.rjust = padding(function(missing) return missing end)
M.center = padding(function(missing, width) -- the odd one goes left where both are odd
    return math.floor(missing / 2) + (missing % 2 == 1 and width % 2 == 1 and 1 or 0)
end)

M.zfill = row("width!", function(self, width)
    local sign, rest = self:match "^([+-]?)(.*)$"
    return sign .. text.rep("0", arguments.int(width) - text.length(self)) .. rest
end)

M.expandtabs = row("tabsize", function(self, size)
    size = arguments.int(size, 8)
    local column = 0
    return text.map(self, function(char)
        if char == "\t" then
            local width = size > 0 and size - column % size or 0
            column = column + width
            return text.rep(" ", width)
        end
        column = (char == "\n" or char == "\r") and 0 or column + 1
    end)
end)

-- ---- Formatting ----------------------------------------------------------------------------------------------------

M.format = row(nil, function(self, args, kwargs) return format.str_format(self, args, kwargs) end)
M.format_map = row("mapping!", function(self, mapping)
    if kind_of(mapping) ~= "dict" then run.fail("format_map() argument must be a mapping") end
    return format.str_format(self, {}, mapping)
end)

return M
