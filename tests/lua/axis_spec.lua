--- Axes of a sweep: nvbench's text, declarations, what the command line changes, and the cases that come of them.
local axis = require "steer.axis"
local helper = require "helper"

local function parse(text) return axis.parse("test", "--axis", text) end

local function declare(axes) return axis.declare("test", axes) end

describe("the text of an axis", function()
    it("gives values, lists, ranges with their end, and powers of two", function()
        for text, values in pairs {
            ["n=8"] = { 8 }, ["n=[8]"] = { 8 }, ["n=[1,8,32]"] = { 1, 8, 32 }, [" n = [ 1 , 2 ] "] = { 1, 2 },
            ["n=[1:4]"] = { 1, 2, 3, 4 }, ["n=[1:8:3]"] = { 1, 4, 7 }, ["n=[8:1:-3]"] = { 8, 5, 2 },
            ["n=[0.1:0.5:0.1]"] = { 0.1, 0.2, 0.3, 0.4, 0.5 }, ["n=[-1:1]"] = { -1, 0, 1 }, ["n=[3:3]"] = { 3 },
            ["n[pow2]=[10:13:1]"] = { 1024, 2048, 4096, 8192 }, ["n[pow2]=[0,3,62]"] = { 1, 8, 2 ^ 62 },
            ["n[pow2]=5"] = { 32 }, ["n[]=[1,2]"] = { 1, 2 },
            ["n=1,8"] = { 1, 8 }, ["n = uniform, mixed"] = { "uniform", "mixed" }, ["n=1:8:3"] = { 1, 4, 7 },
            ["n[pow2]=0,3"] = { 1, 8 },
            ["n=[1e-3,2.5E2,.5,5.,+3,-0]"] = { 1e-3, 250, 0.5, 5, 3, 0 },
            ["n=mixed"] = { "mixed" }, ["n=[uniform,mixed]"] = { "uniform", "mixed" },
            ["n=[true,false]"] = { true, false },
            ["n=[cuda:0,cuda:1]"] = { "cuda:0", "cuda:1" }, ["n=cuda:0"] = { "cuda:0" },
            ["n=[a b,nan,0x10,1.2.3,--1]"] =
                { "a b", "nan", "0x10", "1.2.3", "--1" }, ["n=a=b"] = { "a=b" },
        } do
            local found = parse(text)
            assert.equal("n", found.name)
            assert.same(values, found.values, text)
        end
        assert.equal("0", ("%g"):format(parse("n=-0").values[1])) -- not "-0", which would be another case
    end)

    it("that does not parse is refused with what was expected", function()
        for text, message in pairs {
            [""] = "expected name=value", ["n"] = "expected name=value", ["=1"] = "expected a name",
            ["1n=1"] = "expected a name", ["a b=1"] = "expected a name", ["n="] = "there is no value after the =",
            ["n=[]"] = "the list is empty", ["n=[ ]"] = "the list is empty",
            ["n=[1,,2]"] = "value 2 of the list is empty",
            ["n=[1,2"] = "a bracket alone", ["n=1]"] = "a bracket alone", ["n=1,"] = "value 2 of the list is empty",
            ["n=[[1]]"] = "a bracket inside brackets", ["n=[1:]"] = '"" in a range is not a number',
            ["n=[1:x]"] = '"x" in a range is not a number', ["n=[1:2:3:4]"] = "a range has three numbers at most",
            ["n=[1:4:0]"] = "the stride is 0", ["n=[4:1]"] = "holds no value", ["n=[1:4:-1]"] = "holds no value",
            ["n=[1:1e9]"] = "more than 1000000 values", ["n=[1:1e999]"] = "more than 1000000 values",
            ["n=[0:1:1e-300]"] = "more than 1000000 values", ["n=[1,2,1]"] = "the value 1 appears twice",
            ["n=1e999"] = "value 1 is not finite", ["n=\255"] = "value 1 is not UTF-8",
            ["n[pow2]=1.5"] = "1.5 is no exponent", ["n[pow2]=[-1:3]"] = "-1 is no exponent",
            ["n[pow2]=[0:63]"] = "63 is no exponent", ["n[pow2]=x"] = "x is no exponent",
            ["n[pow10]=1"] = "unknown flag [pow10]",
        } do
            local err = helper.fails("invalid_argument", message, parse, text)
            assert.is_truthy(err.message:find('--axis: "' .. text .. '": ', 1, true), err.message)
        end
    end)

    it("never fails otherwise, whatever the text", function()
        local alphabet = { "n", "=", "[", "]", ":", ",", "1", "-", ".", "e", " ", "pow2", "9" }
        helper.with_seed(helper.seed, function()
            for _ = 1, helper.rounds(3000) do
                local text = math.random() < 0.7 and "n=" or ""
                for _ = 1, math.random(0, 9) do text = text .. alphabet[math.random(#alphabet)] end
                local ok, result = pcall(parse, text)
                assert(ok and #result.values > 0 or result.code == "invalid_argument",
                    text .. ": " .. tostring(result))
            end
        end)
    end)
end)

describe("a declaration of axes", function()
    it("keeps the order of texts and sorts names", function()
        local list = declare { "z=[1,2]", "a[pow2]=3", y = { "u", "m" }, b = "[1:3]", c = 5, d = false }
        local names = {}
        for i, a in ipairs(list) do names[i] = a.name end
        assert.same({ "z", "a", "b", "c", "d", "y" }, names)
        assert.same({ 8 }, list[2].values)
        assert.same({ 1, 2, 3 }, list[3].values)
        assert.same({ false }, list[5].values)
        assert.same({ 4, 8 }, declare({ ["n[pow2]"] = "[2,3]" })[1].values)
    end)

    it("with something else in it is refused", function()
        for message, axes in pairs {
            ["axes: there are none"] = {}, ["axes: expected a table of axes, got 5"] = 5,
            ["axes.n: expected a list of values"] = { n = print },
            ["axes.n: expected a list of values that"] = { n = {} },
            ["axes.n: value 1 is a table"] = { n = { {} } }, ["axes.n: value 2 is not finite"] = { n = { 1, 0 / 0 } },
            ["axes.n: the value 2 appears twice"] = { n = { 2, 2 } }, ["axes[1]: expected text"] = { { 1, 2 } },
            ["axes: n is declared twice"] = { "n=1", n = { 2 } }, ["axes.1n: expected a name"] = { ["1n"] = { 1 } },
            ["axes.n: expected a list of values that is"] = { n = { 1, x = 2 } },
            ["axes: the key true"] = { [true] = { 1 } },
        } do
            helper.fails("invalid_argument", message, declare, axes)
        end
    end)
end)

describe("axes", function()
    local axes
    before_each(function() axes = declare { "n=[1,8,32]", "path=[uniform,mixed]", "id=[x,2]" } end)

    it("give the cases with the last changing fastest", function()
        local list = {}
        for i, case in ipairs(axis.cases("test", declare { "a=[1,2]", "b=[x,y]" })) do list[i] = case.a .. case.b end
        assert.same({ "1x", "1y", "2x", "2y" }, list)
        helper.fails("invalid_argument", "axes: 1000000000 cases, expected at most 1000000", axis.cases, "test",
            declare { "a=[1:1000]", "b=[1:1000]", "c=[1:1000]" })
    end)

    it("are overridden in the type that they have", function()
        assert.same({ 2, 4 }, axis.override("test", axes, "n[pow2]=[1,2]")[1].values)
        assert.same({ "8" }, axis.override("test", axes, "path=8")[2].values)
        assert.same({ 1, 8, 32 }, axes[1].values)
        helper.fails("invalid_argument", "--axis: n=x: the values of this axis are numbers", axis.override, "test",
            axes,
            "n=x")
        helper.fails("invalid_argument", "there is no axis pat, did you mean path? The axes are id, n and path",
            axis.override, "test", axes, "pat=x")
        helper.fails("invalid_argument", "there is no axis scale: the axes are id, n and path", axis.override, "test",
            axes, "scale=1")
    end)

    it("are filtered to values that are there", function()
        assert.same({ 8, 32 }, axis.filter("test", axes, "n=[32,8]")[1].values)
        assert.same({ 8, 32 }, axis.filter("test", axes, "n=[5:40]")[1].values)
        helper.fails("invalid_argument", "--only: n=9: the axis has no such value, it has 1, 8, 32", axis.filter,
            "test",
            axes, "n=9")
        helper.fails("invalid_argument", "no such value as 9", axis.filter, "test", axes, "n=[8,9]")
        helper.fails("invalid_argument", "the axis has no such value", axis.filter, "test", axes, "n=[2:7]")
    end)

    it("are options of calls, where they are numbers", function()
        for value, expected in pairs { ["3"] = { 3 }, ["2,5"] = { 2, 5 }, ["[2:4]"] = { 2, 3, 4 } } do
            assert.same(expected, axis.option("test", "layers", value))
        end
        for _, value in ipairs { "2-5", "al", "2,x" } do
            helper.fails("invalid_argument", ('layers: "%s", expected numbers'):format(value), axis.option, "test",
                "layers", value)
        end
    end)
end)
