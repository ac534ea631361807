--- What a template sees as `loop`: where it is, what comes before and after, and the call that begins it anew.
local run = require "steer.jinja.run"
local sequence = require "steer.jinja.sequence"
local value_of = require "steer.jinja.value"

local M = {}

-- Reads one item ahead.
local function peek(loop)
    if loop.after == nil then loop.after = loop.next() end
    return loop.after
end

-- The length of what is looped over; what has none is read to its end.
local function length_of(loop)
    if not loop.length then
        loop.length = loop.source and sequence.try_length(loop.source)
        if not loop.length then
            local rest = {}
            for item in loop.next do
                run.charge(1)
                rest[#rest + 1] = item
            end
            loop.next = sequence.iterate(value_of.list(rest))
            loop.length = #rest + loop.index0 + 1 + (loop.after ~= nil and 1 or 0)
        end
    end
    return loop.length
end

local fields = {
    index0 = function(loop) return loop.index0 end,
    index = function(loop) return loop.index0 + 1 end,
    first = function(loop) return loop.index0 == 0 end,
    last = function(loop) return peek(loop) == nil end,
    length = length_of,
    revindex0 = function(loop) return length_of(loop) - loop.index0 - 1 end,
    revindex = function(loop) return length_of(loop) - loop.index0 end,
    depth0 = function(loop) return loop.depth0 end,
    depth = function(loop) return loop.depth0 + 1 end,
    previtem = function(loop)
        if loop.index0 == 0 then return value_of.undefined { hint = "there is no previous item" } end
        return loop.before
    end,
    nextitem = function(loop)
        local item = peek(loop)
        if item == nil then return value_of.undefined { hint = "there is no next item" } end
        return item
    end,
}

-- The field of a name, nil if there is none.
local function get(loop, name)
    return fields[name] and fields[name](loop)
end

-- Goes to the next item and gives it, nil at the end.
local function advance(loop)
    local item = loop.after
    loop.after = nil
    if item == nil then item = loop.next() end
    if item ~= nil then
        loop.index0 = loop.index0 + 1
        loop.before, loop.current = loop.current, item
    end
    return item
end

local function recurse(loop, items)
    if not loop.again then run.fail "The loop must have the 'recursive' marker to be called recursively." end
    return loop.again(items, loop.depth0 + 1)
end

--- Makes a loop.
-- @param next_item function that gives the next item
-- @param source what is looped over, nil where a test picks from it
-- @param depth0 loops around it that are the same one
-- @param again function(items, depth0) that runs the loop over other items and gives its text, or nil
function M.new(next_item, source, depth0, again)
    return value_of.new("loop", {
        next = next_item, source = source, depth0 = depth0, again = again, index0 = -1,
        get = get, advance = advance, recurse = recurse,
    })
end

return M
