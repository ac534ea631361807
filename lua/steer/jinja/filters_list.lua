--- Filters of lists, dictionaries and other things with elements.
local arguments = require "steer.jinja.arguments"
local attributes = require "steer.jinja.attributes"
local call = require "steer.jinja.call"
local compare = require "steer.jinja.compare"
local run = require "steer.jinja.run"
local sequence = require "steer.jinja.sequence"
local show = require "steer.jinja.show"
local text = require "steer.jinja.text"
local value_of = require "steer.jinja.value"

local None, kind_of, truth = value_of.None, value_of.kind, value_of.truth
local row = call.row
local M = {}

-- ---- Single elements -----------------------------------------------------------------------------------------------

local function missing(hint) return value_of.undefined { hint = hint } end

M.first = row("", function(value)
    local item = sequence.iterate(value)()
    return item == nil and missing "No first item, sequence was empty." or item
end)

local reversible = { str = true, markup = true, list = true, tuple = true, range = true, dict = true, keys = true,
    values = true, items = true, undefined = true }

-- The elements of a value that has an end, from there.
local function reversed(value)
    local list = sequence.elements(value)
    local i = #list + 1
    return function()
        i = i - 1
        return list[i]
    end
end

M.last = row("", function(value)
    if not reversible[kind_of(value)] then run.fail("'%s' object is not reversible", value_of.type_name(value)) end
    local item = reversed(value)()
    return item == nil and missing "No last item, sequence was empty." or item
end)

M.random = row("", function(value)
    local list = sequence.elements(value)
    return list[1] == nil and missing "No random item, sequence was empty." or list[math.random(#list)]
end)

local function extreme(op)
    return row("case_sensitive attribute", function(value, case_sensitive, attribute)
        local key = attributes.getter(attribute, nil, not arguments.is_true(case_sensitive))
        local best, best_key
        for item in sequence.iterate(value) do
            local item_key = key(item)
            if best == nil or compare.order(op, item_key, best_key) then best, best_key = item, item_key end
        end
        return best == nil and missing "No aggregated item, sequence was empty." or best
    end)
end

M.min, M.max = extreme "<", extreme ">"

M.sum = row("attribute start", function(value, attribute, start)
    local total, getter = start or 0, attributes.getter(attribute)
    if value_of.text(total) then run.fail "sum() can't sum strings [use ''.join(seq) instead]" end
    for item in sequence.iterate(value) do total = require("steer.jinja.arithmetic").add(total, getter(item)) end
    return total
end)

M.length = row("", sequence.length)
M.count = M.length

-- ---- Whole lists ---------------------------------------------------------------------------------------------------

M.list = row("", function(value) return value_of.list(sequence.elements(value)) end)

M.join = row("d attribute", function(value, separator, attribute)
    local getter, parts = attributes.getter(attribute), {}
    for item in sequence.iterate(value) do parts[#parts + 1] = show.str(getter(item)) end
    return text.concat(parts, separator and show.str(separator) or "")
end)

M.reverse = row("", function(value)
    local kind = kind_of(value)
    local string = value_of.text(value)
    if string then
        local out = {}
        for char in reversed(string) do out[#out + 1] = char end
        out = table.concat(out)
        return kind == "str" and out or value_of.markup(out)
    end
    if reversible[kind] then return sequence.generator("reversed", reversed(value)) end
    if not sequence.is_iterable(value) then run.fail "argument must be iterable" end
    local out = {}
    for item in reversed(value) do out[#out + 1] = item end
    return value_of.list(out)
end)

M.sort = row("reverse case_sensitive attribute", function(value, reverse, case_sensitive, attribute)
    local key = attributes.multi_getter(attribute, not arguments.is_true(case_sensitive))
    return value_of.list(compare.sort(sequence.elements(value), key, arguments.is_true(reverse)))
end)

M.unique = row("case_sensitive attribute", function(value, case_sensitive, attribute)
    local key, seen = attributes.getter(attribute, nil, not arguments.is_true(case_sensitive)), {}
    local next_item
    return sequence.generator("do_unique", function()
        next_item = next_item or sequence.iterate(value)
        for item in next_item do
            run.charge(1)
            local at = value_of.key(key(item))
            if not seen[at] then
                seen[at] = true
                return item
            end
        end
    end)
end)

-- Puts elements into rows of `size(i)` elements; fill(list, i) may add to a row.
local function rows_of(name, list, size, fill)
    local at, i = 1, 0
    return sequence.generator(name, function()
        i = i + 1
        local wanted = size(i)
        if not wanted then return nil end
        local out = {}
        for _ = 1, math.min(wanted, #list - at + 1) do
            out[#out + 1], at = list[at], at + 1
        end
        fill(out, i)
        run.charge(1 + #out)
        return value_of.list(out)
    end)
end

M.batch = row("linecount! fill_with", function(value, count, fill_with)
    local list = sequence.elements(value)
    count = arguments.int(count)
    if count < 1 then run.fail "the size of a batch is at least 1" end
    return rows_of("do_batch", list, function(i) return (i - 1) * count < #list and count or nil end, function(out)
        if fill_with == nil or fill_with == None then return end
        run.charge(count)
        for i = #out + 1, count do out[i] = fill_with end
    end)
end)

M.slice = row("slices! fill_with", function(value, count, fill_with)
    local list = sequence.elements(value)
    count = arguments.int(count)
    if count == 0 then run.fail "integer division or modulo by zero" end
    local each, extra = math.floor(#list / count), #list % count
    return rows_of("sync_do_slice", list, function(i) return i <= count and each + (i <= extra and 1 or 0) or nil end,
        function(out, i)
            if fill_with ~= nil and fill_with ~= None and i > extra then out[#out + 1] = fill_with end
        end)
end)

M.groupby = row("attribute! default case_sensitive", function(value, attribute, default, case_sensitive)
    local key = attributes.getter(attribute, default, not arguments.is_true(case_sensitive))
    local shown = attributes.getter(attribute, default)
    local groups, last_key = {}, nil
    for _, item in ipairs(compare.sort(sequence.elements(value), key)) do
        local item_key = key(item)
        if last_key == nil or not compare.equal(item_key, last_key) then
            groups[#groups + 1] = value_of.tuple { shown(item), value_of.list {}, named = true }
            last_key = item_key
        end
        local members = groups[#groups][2]
        members[#members + 1] = item
    end
    return value_of.list(groups)
end)

-- ---- Dictionaries --------------------------------------------------------------------------------------------------

local function items_of(dict)
    return sequence.iterate(value_of.new("items", { dict = dict }))
end

M.items = row("", function(value)
    local kind, next_item = kind_of(value), nil
    return sequence.generator("do_items", function()
        if kind == "undefined" then return nil end
        if kind ~= "dict" then run.fail "Can only get item pairs from a mapping." end
        next_item = next_item or items_of(value)
        return next_item()
    end)
end)

M.dictsort = row("case_sensitive by reverse", function(value, case_sensitive, by, reverse)
    if kind_of(value) ~= "dict" then
        if kind_of(value) == "undefined" then value_of.fail_undefined(value) end
        run.fail("'%s' object has no attribute 'items'", value_of.type_name(value))
    end
    by = by or "key"
    if by ~= "key" and by ~= "value" then run.fail 'You can only sort by either "key" or "value"' end
    local pairs_list = {}
    for item in items_of(value) do pairs_list[#pairs_list + 1] = item end
    local key = attributes.getter(by == "key" and 0 or 1, nil, not arguments.is_true(case_sensitive))
    return value_of.list(compare.sort(pairs_list, key, arguments.is_true(reverse)))
end)

-- ---- Filters and tests of elements ---------------------------------------------------------------------------------

-- A generator of what a function gives for the items, without those that it gives nil for; prepare() makes the function
-- when the first item is asked for.
local function lazily(name, value, prepare)
    local next_item, transform
    return sequence.generator(name, function()
        if not next_item then
            if not truth(value) then return nil end
            next_item, transform = sequence.iterate(value), prepare()
        end
        for item in next_item do
            run.charge(1)
            local out = transform(item)
            if out ~= nil then return out end
        end
    end)
end

local function tail(list, from)
    local out = {}
    for i = from, #list do out[#out + 1] = list[i] end
    return out
end

-- A function that calls the filter or test of the name, with the arguments after the first `skipped` ones.
local function named(library, what, args, kwargs, skipped)
    local name = value_of.text(args[skipped + 1])
    local found = name and library[name]
    if not found then run.fail("No %s named %s.", what, show.repr(args[skipped + 1])) end
    local rest = tail(args, skipped + 2)
    return function(item) return call.row_call(found, item, name, rest, kwargs) end
end

local function attribute_map(kwargs)
    local attribute, default
    for _, key in ipairs(kwargs.keys) do
        if key == "attribute" then
            attribute = value_of.dict_get(kwargs, key)
        elseif key == "default" then
            default = value_of.dict_get(kwargs, key)
        else
            run.fail("Unexpected keyword argument '%s'", key)
        end
    end
    return attributes.getter(attribute, default)
end

M.map = row(nil, function(value, args, kwargs)
    return lazily("sync_do_map", value, function()
        if #args == 0 and kwargs and kwargs.map.attribute ~= nil then return attribute_map(kwargs) end
        if #args == 0 then run.fail "map requires a filter argument" end
        return named(require "steer.jinja.filters", "filter", args, kwargs, 0)
    end)
end)

local function selecting(name, wanted, by_attribute)
    local skipped = by_attribute and 1 or 0
    return row(nil, function(value, args, kwargs)
        return lazily(name, value, function()
            if by_attribute and #args == 0 then run.fail "Missing parameter for attribute name" end
            local getter = by_attribute and attributes.getter(args[1])
            local test = truth
            if args[skipped + 1] ~= nil then
                test = named(require "steer.jinja.tests", "test", args, kwargs, skipped)
            end
            return function(item)
                local tested = item
                if getter then tested = getter(item) end
                if truth(test(tested)) == wanted then return item end
            end
        end)
    end)
end

M.select, M.reject = selecting("sync_do_select", true), selecting("sync_do_reject", false)
M.selectattr, M.rejectattr = selecting("sync_do_selectattr", true, true), selecting("sync_do_rejectattr", false, true)

return M
