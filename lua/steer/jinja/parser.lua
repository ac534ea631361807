--- Parses a template into a list of statements.
local Parser = require "steer.jinja.expressions"
local nodes = require "steer.jinja.nodes"
local run = require "steer.jinja.run"

-- ---- Targets -------------------------------------------------------------------------------------------------------

local constants = { ["true"] = true, ["false"] = true, none = true, True = true, False = true, None = true }

-- Makes what was parsed a target of an assignment; ctx is "store" or "param".
local function as_target(node, ctx)
    if node.kind == "Tuple" then
        for _, item in ipairs(node.items) do as_target(item, ctx) end
    elseif node.kind == "Name" then
        node.ctx = ctx
    elseif node.kind ~= "NSRef" then
        run.syntax(node.line, "can't assign to '%s'", node.kind:lower())
    end
    return node
end

local function target_name(self, ctx)
    local token = self:expect "name"
    if constants[token.value] then run.syntax(token.line, "can't assign to '%s'", token.value) end
    return nodes.new("Name", token.line, { name = token.value, ctx = ctx })
end

-- A name, or a name and its attribute, which has to be a namespace's.
function Parser:settable()
    local line = self:current().line
    if not (self:is "name" and self:is(".", nil, 1)) then return self:primary() end
    local name = self:next().value
    self:next()
    return nodes.new("NSRef", line, { name = name, attr = self:expect("name").value })
end

-- ---- Bodies --------------------------------------------------------------------------------------------------------

local function has(list, word)
    for _, item in ipairs(list) do
        if item == word then return true end
    end
    return false
end

-- The statements up to a tag with one of the words, which is taken up to behind the word; gives them and the word.
function Parser:body(...)
    local ends = { ... }
    self:skip ":"
    self:expect "block_end"
    local list = self:deeper(Parser.statements, ends)
    return list, self:next().value
end

local function body_only(self, word)
    local list = self:body(word)
    return list
end

-- ---- Statements ----------------------------------------------------------------------------------------------------

local statements = {}

statements["if"] = function(self, line)
    local node = { elifs = {} }
    node.test = self:tuple { parse = "disjunction" }
    local word
    node.body, word = self:body("elif", "else", "endif")
    while word == "elif" do
        local elif = { elifs = {} }
        local elif_line = self:current().line
        elif.test = self:tuple { parse = "disjunction" }
        elif.body, word = self:body("elif", "else", "endif")
        node.elifs[#node.elifs + 1] = nodes.new("If", elif_line, elif)
    end
    if word == "else" then node.otherwise = body_only(self, "endif") end
    return nodes.new("If", line, node)
end

statements["for"] = function(self, line)
    local node = { target = as_target(self:tuple { parse = "primary", stop_word = "in" }, "store") }
    self:expect("name", "in")
    node.iter = self:tuple { parse = "disjunction", stop_word = "recursive" }
    if self:skip("name", "if") then node.test = self:expression() end
    node.recursive = self:skip("name", "recursive")
    local word
    node.body, word = self:body("endfor", "else")
    if word == "else" then node.otherwise = body_only(self, "endfor") end
    return nodes.new("For", line, node)
end

function statements.set(self, line)
    local target = as_target(self:tuple { parse = "settable" }, "store")
    if self:skip "=" then
        return nodes.new("Set", line, { target = target, value = self:tuple {} })
    end
    local filter = self:filter_chain(false)
    return nodes.new("SetBlock", line, { target = target, filter = filter, body = body_only(self, "endset") })
end

-- The parameters of a macro or a call block, into the fields of a node.
local function signature(self, node)
    node.args, node.defaults = {}, {}
    self:expect "("
    while not self:is ")" do
        if #node.args > 0 then self:expect "," end
        node.args[#node.args + 1] = target_name(self, "param")
        if self:skip "=" then
            node.defaults[#node.defaults + 1] = self:expression()
        elseif #node.defaults > 0 then
            self:fail("non-default argument follows default argument")
        end
    end
    self:expect ")"
    return node
end

function statements.macro(self, line)
    local name = target_name(self, "store").name
    local node = signature(self, { name = name })
    node.body = body_only(self, "endmacro")
    return nodes.new("Macro", line, node)
end

function statements.call(self, line)
    local node = self:is "(" and signature(self, {}) or { args = {}, defaults = {} }
    node.call = self:expression()
    if node.call.kind ~= "Call" then run.syntax(line, "expected a call") end
    node.body = body_only(self, "endcall")
    return nodes.new("CallBlock", line, node)
end

function statements.filter(self, line)
    local filter = self:filter_chain(true)
    return nodes.new("FilterBlock", line, { filter = filter, body = body_only(self, "endfilter") })
end

statements["with"] = function(self, line)
    local node = { targets = {}, values = {} }
    while not self:is "block_end" do
        if #node.targets > 0 then self:expect "," end
        node.targets[#node.targets + 1] = as_target(self:tuple { parse = "primary" }, "param")
        self:expect "="
        node.values[#node.values + 1] = self:expression()
    end
    node.body = body_only(self, "endwith")
    return nodes.new("With", line, node)
end

function statements.block(self, line)
    local node = { name = self:expect("name").value }
    node.scoped = self:skip("name", "scoped")
    self:skip("name", "required")
    node.body = body_only(self, "endblock")
    self:skip("name", node.name)
    return nodes.new("Block", line, node)
end

-- Marks what the assistant says, for training; here it is printed as it is.
function statements.generation(self, line)
    return nodes.new("Scope", line, { body = body_only(self, "endgeneration"), closed = true })
end

function statements.autoescape(self, line)
    local option = self:expression()
    if option.kind ~= "Const" or option.value ~= false then
        run.syntax(line, "{%% autoescape %%} is supported with false alone")
    end
    return nodes.new("Scope", line, { body = body_only(self, "endautoescape") })
end

function statements.print(self, line)
    local node = { nodes = {} }
    while not self:is "block_end" do
        if #node.nodes > 0 then self:expect "," end
        node.nodes[#node.nodes + 1] = self:expression()
    end
    return nodes.new("Output", line, node)
end

statements["break"] = function(_, line) return nodes.new("Break", line, {}) end
statements["continue"] = function(_, line) return nodes.new("Continue", line, {}) end

for _, name in ipairs { "include", "import", "from", "extends" } do
    statements[name] = function(_, line)
        return run.syntax(line, "{%% %s %%} is not supported: a chat template stands alone", name)
    end
end

-- ---- The tree ------------------------------------------------------------------------------------------------------

function Parser:fail_tag(token, ends)
    local looking = #ends > 0 and (", expected '%s'"):format(table.concat(ends, "' or '")) or ""
    local open = self.tags[#self.tags]
    local inside = open and (" (the innermost open tag is '%s' of line %d)"):format(open.value, open.line) or ""
    run.syntax(token.line, "unknown tag '%s'%s%s", token.value, looking, inside)
end

function Parser:statement(ends)
    if not self:is "name" then self:fail("expected the name of a tag") end
    local token = self:current()
    local parse = statements[token.value]
    if not parse then self:fail_tag(token, ends) end
    self:next()
    self.tags[#self.tags + 1] = token
    local node = parse(self, token.line)
    self.tags[#self.tags] = nil
    self:expect "block_end"
    return node
end

-- The statements up to a tag with one of the words `ends`, the end of the template where there are none.
function Parser:statements(ends)
    local list, output = {}, nil
    local function add(node, line)
        if not output then
            output = { line = line, nodes = {} }
            list[#list + 1] = output
        end
        table.insert(output.nodes, node)
    end
    while not self:is "eof" do
        local token = self:next()
        if token.type == "data" then
            add(nodes.new("Data", token.line, { text = token.value }), token.line)
        elseif token.type == "variable_begin" then
            add(self:tuple {}, token.line)
            self:expect "variable_end"
        else
            output = nil
            if self:is "name" and has(ends, self:current().value) then break end
            list[#list + 1] = self:statement(ends)
        end
    end
    if self:is "eof" and #ends > 0 then
        local open = self.tags[#self.tags]
        self:fail("the template ends within '%s' of line %d, expected '%s'", open.value, open.line,
            table.concat(ends, "' or '"))
    end
    for i, item in ipairs(list) do
        if not item.kind then list[i] = nodes.new("Output", item.line, item) end
    end
    return list
end

local M = {}

--- Parses a template.
-- @return list of statements
-- @raise format
function M.parse(source)
    local parser = Parser.new(source)
    return parser:statements {}
end

return M
