--- All tests, by name ("x is name"): rows of steer.jinja.call whose receiver is the value that is tested.
local arithmetic = require "steer.jinja.arithmetic"
local call = require "steer.jinja.call"
local compare = require "steer.jinja.compare"
local methods = require "steer.jinja.methods_text"
local sequence = require "steer.jinja.sequence"
local show = require "steer.jinja.show"
local value_of = require "steer.jinja.value"

local kind_of = value_of.kind
local row = call.row
local M = {}

-- Tests of the kind alone.
local function of_kind(...)
    local kinds = {}
    for i = 1, select("#", ...) do kinds[select(i, ...)] = true end
    return row("", function(value) return kinds[kind_of(value)] == true end)
end

M.undefined = of_kind "undefined"
M.defined = row("", function(value) return kind_of(value) ~= "undefined" end)
M.none = of_kind "none"
M.boolean = of_kind "bool"
M.integer = of_kind("int", "bigint")
M.float = of_kind "float"
M.number = of_kind("int", "bigint", "float", "bool")
M.string = of_kind("str", "markup")
M.mapping = of_kind "dict"
M.sequence = of_kind("str", "markup", "list", "tuple", "dict", "range", "undefined")
M.escaped = of_kind "markup"
M.iterable = row("", sequence.is_iterable)
M.callable = row("", function(value) return call.is_callable(value) or kind_of(value) == "undefined" end)

M["true"] = row("", function(value) return value == true end)
M["false"] = row("", function(value) return value == false end)

local function modulo_test(name, wanted)
    M[name] = row("", function(value) return compare.equal(arithmetic.mod(value, 2), wanted) end)
end
modulo_test("odd", 1)
modulo_test("even", 0)

M.divisibleby = row("num!", function(value, num) return compare.equal(arithmetic.mod(value, num), 0) end)

M.lower = row("", function(value) return methods.islower.fn(show.str(value)) end)
M.upper = row("", function(value) return methods.isupper.fn(show.str(value)) end)

M["in"] = row("seq!", function(value, container) return compare.contains(container, value) end)

M.sameas = row("other!", function(value, other)
    local x, x_float = value_of.number(value)
    local y, y_float = value_of.number(other)
    if x_float and y_float then return x == y end
    return value == other
end)

M.filter = row("", function(value) return require("steer.jinja.filters")[show.str(value)] ~= nil end)
M.test = row("", function(value) return M[show.str(value)] ~= nil end)

-- Comparisons, under all their names.
local function comparison(names, fn)
    for name in names:gmatch "%S+" do M[name] = row("other!", fn) end
end

comparison("== eq equalto", compare.equal)
comparison("!= ne", function(a, b) return not compare.equal(a, b) end)
comparison("< lt lessthan", function(a, b) return compare.order("<", a, b) end)
comparison("<= le", function(a, b) return compare.order("<=", a, b) end)
comparison("> gt greaterthan", function(a, b) return compare.order(">", a, b) end)
comparison(">= ge", function(a, b) return compare.order(">=", a, b) end)

return M
