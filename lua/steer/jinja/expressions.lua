--- Parses expressions. Parser holds the tokens; the statements add their methods to it (parser.lua).
local lexer = require "steer.jinja.lexer"
local nodes = require "steer.jinja.nodes"
local run = require "steer.jinja.run"
local value_of = require "steer.jinja.value"

local Parser = {}
Parser.__index = Parser

-- ---- Tokens --------------------------------------------------------------------------------------------------------

--- Makes the parser of a template.
function Parser.new(source)
    return setmetatable({ tokens = lexer.tokens(source), at = 1, level = 0, tags = {} }, Parser)
end

function Parser:current() return self.tokens[self.at] end

function Parser:next()
    local token = self.tokens[self.at]
    if token.type ~= "eof" then self.at = self.at + 1 end
    return token
end

--- Tells whether the current token (or the one `ahead`) is of a type, and of a value where one is given.
function Parser:is(type, value, ahead)
    local token = self.tokens[self.at + (ahead or 0)]
    return token ~= nil and token.type == type and (value == nil or token.value == value)
end

--- Skips a token of a type and value; tells whether it was there.
function Parser:skip(type, value)
    local found = self:is(type, value)
    if found then self:next() end
    return found
end

local readable = {
    eof = "the end of the template", variable_begin = "{{", variable_end = "}}", block_begin = "{%", block_end = "%}",
    data = "text", name = "a name", integer = "an integer", float = "a float", string = "a string",
}

local function describe(token)
    if token.type == "name" then return "'" .. token.value .. "'" end
    return readable[token.type] or "'" .. token.type .. "'"
end

function Parser:fail(format, ...) run.syntax(self:current().line, format, ...) end

--- Takes a token of a type and value, which must be there.
function Parser:expect(type, value)
    if not self:is(type, value) then
        self:fail("expected %s, got %s", value and "'" .. value .. "'" or readable[type] or "'" .. type .. "'",
            describe(self:current()))
    end
    return self:next()
end

-- Goes a level deeper in what calls itself.
function Parser:deeper(fn, ...)
    self.level = self.level + 1
    if self.level > run.MAX_NESTING then self:fail("the template is nested too deeply") end
    local result = fn(self, ...)
    self.level = self.level - 1
    return result
end

-- ---- Operators -----------------------------------------------------------------------------------------------------

-- Parses operands of `inner` with operators between them, from the left.
local function left_to_right(inner, operators)
    return function(self)
        local line = self:current().line
        local left = self[inner](self)
        while operators[self:current().type] do
            local op = self:next().type
            left = nodes.new("Binary", line, { op = op, left = left, right = self[inner](self) })
            line = self:current().line
        end
        return left
    end
end

function Parser:expression()
    return self:deeper(function()
        local line = self:current().line
        local value = self:disjunction()
        while self:skip("name", "if") do
            local test = self:disjunction()
            local no = self:skip("name", "else") and self:expression() or nil
            value = nodes.new("Cond", line, { test = test, yes = value, no = no })
            line = self:current().line
        end
        return value
    end)
end

function Parser:disjunction()
    local left = self:conjunction()
    while self:is("name", "or") do
        local line = self:next().line
        left = nodes.new("Or", line, { left = left, right = self:conjunction() })
    end
    return left
end

function Parser:conjunction()
    local left = self:negation()
    while self:is("name", "and") do
        local line = self:next().line
        left = nodes.new("And", line, { left = left, right = self:negation() })
    end
    return left
end

function Parser:negation()
    if not self:is("name", "not") then return self:comparison() end
    local line = self:next().line
    return nodes.new("Not", line, { node = self:deeper(Parser.negation) })
end

local comparisons = { ["=="] = true, ["!="] = true, [">"] = true, [">="] = true, ["<"] = true, ["<="] = true }

function Parser:comparison_operator()
    if comparisons[self:current().type] then return self:next().type end
    if self:skip("name", "in") then return "in" end
    if self:is("name", "not") and self:is("name", "in", 1) then
        self:next()
        self:next()
        return "not in"
    end
end

function Parser:comparison()
    local line = self:current().line
    local node, operands = self:sum(), {}
    while true do
        local op = self:comparison_operator()
        if not op then break end
        operands[#operands + 1] = nodes.new("Operand", line, { op = op, node = self:sum() })
    end
    if #operands == 0 then return node end
    return nodes.new("Compare", line, { node = node, operands = operands })
end

Parser.sum = left_to_right("concatenation", { ["+"] = true, ["-"] = true })

function Parser:concatenation()
    local line = self:current().line
    local parts = { self:product() }
    while self:skip("~") do parts[#parts + 1] = self:product() end
    return #parts == 1 and parts[1] or nodes.new("Concat", line, { nodes = parts })
end

Parser.product = left_to_right("power", { ["*"] = true, ["/"] = true, ["//"] = true, ["%"] = true })
Parser.power = left_to_right("unary", { ["**"] = true })

-- A sign binds closer than a filter: -1|abs is (-1)|abs.
local function signed(self)
    if not (self:is "-" or self:is "+") then return self:postfix(self:primary()) end
    local token = self:next()
    return self:postfix(nodes.new("Unary", token.line, { op = token.type, node = self:deeper(signed) }))
end

function Parser:unary() return self:filters_and_tests(signed(self)) end

-- ---- Primary expressions -------------------------------------------------------------------------------------------

local constants = {
    ["true"] = true, True = true, ["false"] = false, False = false, none = value_of.None, None = value_of.None,
}

local function constant(line, value) return nodes.new("Const", line, { value = value }) end

local function parse_name(self)
    local token = self:next()
    local value = constants[token.value]
    if value ~= nil then return constant(token.line, value) end
    return nodes.new("Name", token.line, { name = token.value, ctx = "load" })
end

local function parse_string(self)
    local line, parts = self:current().line, {}
    while self:is "string" do parts[#parts + 1] = self:next().value end
    return constant(line, table.concat(parts))
end

local function parse_number(self)
    local token = self:next()
    return constant(token.line, token.value)
end

local function parse_parentheses(self)
    self:next()
    local node = self:tuple { parentheses = true }
    self:expect ")"
    return node
end

-- Parses what is separated by commas, with a last one or without, up to a closing bracket.
local function parse_items(self, close, parse)
    local items = {}
    while not self:is(close) do
        if #items > 0 then self:expect "," end
        if self:is(close) then break end
        items[#items + 1] = parse(self)
    end
    self:expect(close)
    return items
end

local function parse_list(self)
    local line = self:next().line
    return nodes.new("List", line, { items = parse_items(self, "]", Parser.expression) })
end

local function parse_dict(self)
    local line = self:next().line
    return nodes.new("Dict", line, { items = parse_items(self, "}", function()
        local key = self:expression()
        self:expect ":"
        return nodes.new("Pair", key.line, { key = key, value = self:expression() })
    end) })
end

local primaries = {
    name = parse_name, string = parse_string, integer = parse_number, float = parse_number,
    ["("] = parse_parentheses, ["["] = parse_list, ["{"] = parse_dict,
}

function Parser:primary()
    local parse = primaries[self:current().type]
    if not parse then self:fail("expected an expression, got %s", describe(self:current())) end
    return parse(self)
end

local function ends_tuple(self, stop_word)
    return self:is "variable_end" or self:is "block_end" or self:is ")" or stop_word and self:is("name", stop_word)
end

--- Parses one expression, or several with commas as a tuple.
-- @tparam table opts parse: name of the method for the elements ("expression"); stop_word: a name that ends it;
-- parentheses: whether it stands in them, so that it may be empty
function Parser:tuple(opts)
    local line, items, has_comma = self:current().line, {}, false
    while not ends_tuple(self, opts.stop_word) do
        items[#items + 1] = self[opts.parse or "expression"](self)
        if not self:skip "," then break end
        has_comma = true
    end
    if has_comma or #items == 0 and opts.parentheses then
        return nodes.new("Tuple", line, { items = items })
    end
    if #items == 0 then self:fail("expected an expression, got %s", describe(self:current())) end
    return items[1]
end

-- ---- What follows an expression ------------------------------------------------------------------------------------

local function parse_slice_part(self)
    if self:is ":" or self:is "]" or self:is "," then return nil end
    return self:expression()
end

local function parse_subscript_item(self)
    local line = self:current().line
    local start = not self:is ":" and self:expression() or nil
    if not self:skip ":" then return start end
    local stop, step = parse_slice_part(self), nil
    if self:skip ":" then step = parse_slice_part(self) end
    return nodes.new("Slice", line, { start = start, stop = stop, step = step })
end

local function parse_attribute(self, node)
    local line = self:next().line
    local token = self:next()
    if token.type == "name" then return nodes.new("Getattr", line, { node = node, attr = token.value }) end
    if token.type ~= "integer" then run.syntax(token.line, "expected a name or a number after '.'") end
    return nodes.new("Getitem", line, { node = node, arg = constant(token.line, token.value) })
end

local function parse_subscript(self, node)
    local line = self:next().line
    local items = {}
    while not self:is "]" do
        if #items > 0 then self:expect "," end
        items[#items + 1] = parse_subscript_item(self)
    end
    self:expect "]"
    local arg = items[1]
    if #items ~= 1 then arg = nodes.new("Tuple", line, { items = items }) end
    return nodes.new("Getitem", line, { node = node, arg = arg })
end

-- Parses the arguments of a call into the fields of a node.
function Parser:arguments(node)
    local line = self:expect("(").line
    node.args, node.kwargs = {}, {}
    local function ensure(in_order)
        if not in_order then run.syntax(line, "invalid syntax for function call expression") end
    end
    while not self:is ")" do
        if self:skip "*" then
            ensure(not node.dyn_args and not node.dyn_kwargs)
            node.dyn_args = self:expression()
        elseif self:skip "**" then
            ensure(not node.dyn_kwargs)
            node.dyn_kwargs = self:expression()
        elseif self:is "name" and self:is("=", nil, 1) then
            ensure(not node.dyn_kwargs)
            local token = self:next()
            self:next()
            node.kwargs[#node.kwargs + 1] = nodes.new("Keyword", token.line,
                { name = token.value, value = self:expression() })
        else
            ensure(not node.dyn_args and not node.dyn_kwargs and #node.kwargs == 0)
            node.args[#node.args + 1] = self:expression()
        end
        if not self:is ")" then self:expect "," end
    end
    self:expect ")"
    return node
end

local function parse_call(self, node)
    local line = self:current().line
    return nodes.new("Call", line, self:arguments { node = node })
end

function Parser:postfix(node)
    while true do
        if self:is "." then
            node = parse_attribute(self, node)
        elseif self:is "[" then
            node = parse_subscript(self, node)
        elseif self:is "(" then
            node = parse_call(self, node)
        else
            return node
        end
    end
end

local function dotted_name(self)
    local name = self:expect("name").value
    while self:skip "." do name = name .. "." .. self:expect("name").value end
    return name
end

--- Parses a filter after its "|".
function Parser:filter(node)
    local line = self:current().line
    local filter = { name = dotted_name(self), node = node, args = {}, kwargs = {} }
    if self:is "(" then self:arguments(filter) end
    return nodes.new("Filter", line, filter)
end

--- Parses the filters of what a block captures; the first one stands here without a "|" where `inline` is set.
function Parser:filter_chain(inline)
    local node = nodes.new("Captured", self:current().line, {})
    while inline or self:skip "|" do
        node, inline = self:filter(node), false
    end
    return node
end

local argument_starts = {
    name = true, string = true, integer = true, float = true, ["("] = true, ["["] = true, ["{"] = true,
}

local function parse_test(self, node)
    local line = self:next().line
    local negated = self:skip("name", "not")
    local test = { name = dotted_name(self), node = node, args = {}, kwargs = {} }
    local follows = self:is("name", "else") or self:is("name", "or") or self:is("name", "and")
    if self:is "(" then
        self:arguments(test)
    elseif argument_starts[self:current().type] and not follows then
        if self:is("name", "is") then self:fail("you cannot chain multiple tests with is") end
        test.args[1] = self:postfix(self:primary())
    end
    node = nodes.new("Test", line, test)
    return negated and nodes.new("Not", line, { node = node }) or node
end

function Parser:filters_and_tests(node)
    while true do
        if self:skip "|" then
            node = self:filter(node)
        elseif self:is("name", "is") then
            node = parse_test(self, node)
        elseif self:is "(" then
            node = parse_call(self, node)
        else
            return node
        end
    end
end

return Parser
