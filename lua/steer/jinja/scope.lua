--- Where names live. Each name that a frame mentions has a slot in the environment of the function around it; how the
-- slot begins is settled before anything runs, as Jinja's compiler does it:
--   "param"      it is given: a parameter, a loop's target
--   "resolve"    it is read before it is set, so it begins as the variable of that name
--   "alias"      it is set here and exists outside, so it begins as the outer one, which does not change
--   "undefined"  it is set first
-- Functions are the template, each macro, and the body of each recursive loop. Other loops and blocks are frames.
local nodes = require "steer.jinja.nodes"
local tables = require "steer.core.tables"

local M = {}

local Frame = {}
Frame.__index = Frame

--- Makes a function; `outer` is the one that it is in, or nil.
function M.new_function(outer) return { outer = outer, slots = 0 } end

--- Makes a frame within `parent` (or nil), whose names live in the function `fn`.
function M.new_frame(parent, fn)
    return setmetatable({ parent = parent, fn = fn, slots = {}, loads = {}, stores = {} }, Frame)
end

--- A frame within this one; in a function of its own if `isolated`.
function Frame:inner(isolated)
    return M.new_frame(self, isolated and M.new_function(self.fn) or self.fn)
end

--- This frame for what may not run: what is unknown there is a fault only when it does.
function Frame:soften()
    if self.soft then return self end
    return setmetatable({ soft = true }, { __index = self })
end

local function copied(t)
    local out = {}
    for _, key in ipairs(tables.keys(t)) do out[key] = t[key] end
    return out
end

-- A copy for a branch: the slots are shared.
local function branch_of(frame)
    return setmetatable({
        parent = frame.parent, fn = frame.fn, slots = frame.slots, loads = copied(frame.loads),
        stores = copied(frame.stores),
    }, Frame)
end

local function define(frame, name, how)
    if not frame.slots[name] then
        frame.fn.slots = frame.fn.slots + 1
        frame.slots[name] = frame.fn.slots
    end
    frame.loads[name] = how
end

-- The frame that has a name, from this one outwards; nil if none has.
local function owner_of(frame, name)
    while frame and not frame.loads[name] do frame = frame.parent end
    return frame
end

--- Declares a name that is given.
function Frame:declare(name)
    self.stores[name] = true
    define(self, name, "param")
end

function Frame:store(name)
    self.stores[name] = true
    if not self.loads[name] then define(self, name, owner_of(self.parent, name) and "alias" or "undefined") end
end

function Frame:load(name)
    if not owner_of(self, name) then define(self, name, "resolve") end
end

--- Finds a name: the slot, and how many functions outwards its environment is.
function Frame:find(name)
    local owner = owner_of(self, name)
    local fn, hops = self.fn, 0
    while fn ~= owner.fn do fn, hops = fn.outer, hops + 1 end
    return owner.slots[name], hops
end

-- A name that only some branches set begins as it is outside.
local function join_branches(frame, branches)
    local counts = {}
    for _, branch in ipairs(branches) do
        for _, name in ipairs(tables.keys(branch.stores)) do
            if not frame.stores[name] then counts[name] = (counts[name] or 0) + 1 end
        end
    end
    for _, branch in ipairs(branches) do
        for _, name in ipairs(tables.keys(branch.loads)) do frame.loads[name] = branch.loads[name] end
        for _, name in ipairs(tables.keys(branch.stores)) do frame.stores[name] = true end
    end
    for _, name in ipairs(tables.keys(counts)) do
        if counts[name] < #branches then
            frame.loads[name] = owner_of(frame.parent, name) and "alias" or "resolve"
        end
    end
end

-- ---- What a frame mentions -----------------------------------------------------------------------------------------

local visit -- below
local visitors = {}

local function visit_all(frame, list)
    for _, node in ipairs(list or {}) do visit(frame, node) end
end

function visitors.Name(frame, node)
    if node.ctx == "param" then
        frame:declare(node.name)
    else
        frame[node.ctx](frame, node.name)
    end
end

function visitors.NSRef(frame, node) frame:load(node.name) end
function visitors.Macro(frame, node) frame:store(node.name) end
function visitors.For(frame, node) visit(frame, node.iter) end
function visitors.CallBlock(frame, node) visit(frame, node.call) end
function visitors.FilterBlock(frame, node) visit(frame, node.filter) end
function visitors.With(frame, node) visit_all(frame, node.values) end
function visitors.SetBlock(frame, node) visit(frame, node.target) end
function visitors.Scope() end
function visitors.Block() end

function visitors.Set(frame, node)
    visit(frame, node.value)
    visit(frame, node.target)
end

visitors["If"] = function(frame, node)
    visit(frame, node.test)
    local branches = {}
    for i, list in ipairs { node.body, node.elifs, node.otherwise or {} } do
        branches[i] = branch_of(frame)
        visit_all(branches[i], list)
    end
    join_branches(frame, branches)
end

function visit(frame, node)
    local visitor = visitors[node.kind]
    if visitor then return visitor(frame, node) end
    nodes.each_child(node, function(child) visit(frame, child) end)
end

--- Notes what the nodes of a list, which stand in the frame, mention.
function Frame:analyze(list) visit_all(self, list) end

--- Notes the names of a loop's target, which the loop gives.
function Frame:declare_target(node)
    if node.kind == "Name" then return self:declare(node.name) end
    nodes.each_child(node, function(child) self:declare_target(child) end)
end

--- Tells which of the names (a set) the nodes read without having set them before.
function M.undeclared(list, names)
    local open, found = copied(names), {}
    local function search(node)
        if node.kind == "Block" then return end
        if node.kind == "Name" then
            if node.ctx == "load" and open[node.name] then
                found[node.name] = true
            else
                open[node.name] = nil
            end
        end
        nodes.each_child(node, search)
    end
    for _, node in ipairs(list) do search(node) end
    return found
end

return M
