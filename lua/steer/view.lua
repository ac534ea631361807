--- Tokens coloured by the projection of their hidden states on directions, in the terminal and as one HTML page.
local axis = require "steer.axis"
local capture = require "steer.capture"
local check = require "steer.core.check"
local options = require "steer.core.options"
local pieces = require "steer.model.pieces"
local T = require "steer.tensor"
local tables = require "steer.core.tables"

local raise = require("steer.core.error").raise

local M = {}

local View = {}
View.__topic = "view" -- the topic for help
require("steer.core.class").strict(View, "a view", {})

--- Shows the view in as many colours as standard output has; without colours as a table of numbers.
function View:__tostring() return require("steer.view.text").text(self) end

--- Gives the view as text.
-- @tparam[opt] table opts colours: 24 (bits), 256 or false (a table of numbers); default what the terminal shows;
-- columns: of the terminal
function View:text(opts)
    opts = options.check("view_text", opts, { colours = true, columns = "number" })
    if opts.colours ~= nil and opts.colours ~= 24 and opts.colours ~= 256 and opts.colours ~= false then
        raise("invalid_argument", "view_text", "colours: %s, expected 24, 256 or false", check.describe(opts.colours))
    end
    return require("steer.view.text").text(self, opts.colours, opts.columns)
end

--- Writes the view as one HTML page that loads nothing: layers as rows, unsteered beside steered, numbers on hover.
-- @tparam string path
-- @tparam[opt] string title
function View:html(path, title)
    check.type("view_html", "path", path, "string", "the path of the page")
    require("steer.core.durable").write("view_html", path, require("steer.view.html").page(self, title))
end

-- ---- Directions ----------------------------------------------------------------------------------------------------

local function read_vector(lm, op, name, v)
    if not T.is(v) then
        raise("invalid_argument", op, "%s: expected a tensor [%d], got %s", name, lm.hidden, check.describe(v))
    end
    if v.ndim ~= 1 or v:size(1) ~= lm.hidden then
        raise("shape_mismatch", op, "%s: [%s], expected [%d]", name, table.concat(v:shape(), ", "), lm.hidden)
    end
    return v:to(lm.device, "f32")
end

local function layers_of(lm, op, layers)
    local list = {}
    if layers == nil or layers == "all" then
        for layer = 0, lm.layers - 1 do list[layer + 1] = layer end
        return list
    end
    layers = axis.option(op, "layers", layers)
    check.list(op, "layers", layers, '"all", a layer, a list of layers or text such as "[2:7]"')
    for i, layer in ipairs(layers) do
        list[i] = check.integer(op, ("layers[%d]"):format(i), layer, 0, lm.layers - 1)
    end
    if #list == 0 then raise("invalid_argument", op, "layers: the list is empty") end
    table.sort(list)
    return list
end

-- Rows {name, layer, vector}, by name and layer.
local function read_rows(lm, op, opts)
    check.type(op, "project", opts.project, "table", "a table such as {mood = direction}")
    local names, rows = tables.keys(opts.project), {}
    if #names == 0 then raise("invalid_argument", op, "project: it is empty, expected {name = direction}") end
    for _, name in ipairs(names) do check.type(op, "project", name, "string", "a table such as {mood = direction}") end
    table.sort(names)
    for _, name in ipairs(names) do
        local given, label = opts.project[name], "project." .. name
        if type(given) ~= "table" or getmetatable(given) then
            local v = read_vector(lm, op, label, given)
            for _, layer in ipairs(opts.at == "embed" and { 0 } or layers_of(lm, op, opts.layers)) do
                rows[#rows + 1] = { name = name, layer = layer, vector = v }
            end
        else
            local layers = opts.at == "embed" and { 0 } or opts.layers or tables.keys(given)
            for _, layer in ipairs(layers_of(lm, op, layers)) do
                rows[#rows + 1] = { name = name, layer = layer,
                    vector = read_vector(lm, op, ("%s[%d]"):format(label, layer), given[layer]) }
            end
        end
    end
    return rows
end

-- ---- Numbers -------------------------------------------------------------------------------------------------------

local function quantile(values, share)
    table.sort(values)
    return values[math.max(1, math.ceil(share * #values))]
end

-- What is white in a row, and how far from it the colours go.
local function scale(op, row, results, center)
    local values = {}
    for _, result in ipairs(results) do
        for _, side in ipairs { "steered", "unsteered" } do
            for _, x in ipairs(result[side] and result[side][row.index] or {}) do
                if x ~= x or math.abs(x) == math.huge then
                    raise("invalid_argument", op, "project.%s: its projection after layer %d is not finite", row.name,
                        row.layer)
                end
                values[#values + 1] = x
            end
        end
    end
    row.center = center or quantile(values, 0.5)
    for i, x in ipairs(values) do values[i] = math.abs(x - row.center) end
    row.spread = quantile(values, 0.95)
    if row.spread == 0 then row.spread = 1 end
end

-- The projections of the tokens of a prompt of some name, a list for each row.
local function project(lm, op, name, rows, prompt, spec, at)
    local layers, place = {}, {}
    for _, row in ipairs(rows) do place[row.layer] = true end
    for layer = 0, lm.layers - 1 do
        if place[layer] then
            layers[#layers + 1] = layer
            place[layer] = #layers
        end
    end
    local states, info = capture.capture_as(lm, op, function() return name end, { prompt },
        { layers = layers, at = at, tokens = "all", spec = spec })
    local values = {}
    for i, row in ipairs(rows) do values[i] = states:select(2, place[row.layer]):matmul(row.vector):totable() end
    return values, info.tokens[1]
end

local OPTIONS = {
    project = true, layers = true, at = "string", center = true, spec = true, html = "string", title = "string",
}

local function check_center(op, name, center)
    check.number(op, name, center)
    if center - center ~= 0 then raise("invalid_argument", op, "%s: %g, expected a finite number", name, center) end
end

local function read_center(op, rows, center)
    if type(center) == "number" then check_center(op, "center", center) end
    if center == nil or type(center) == "number" then return function() return center end end
    check.type(op, "center", center, "table", "a number, or {name = number}")
    local known = {}
    for _, row in ipairs(rows) do known[row.name] = true end
    for _, name in ipairs(tables.keys(center)) do
        if not known[name] then
            raise("invalid_argument", op, "center: project has no %s%s", check.describe(name),
                options.suggest(tostring(name), known))
        end
        check_center(op, "center." .. tostring(name), center[name])
    end
    return function(name) return center[name] end
end

-- One request's tokens: a text or a table as lm:capture takes it, without its spec.
local function split(op, request, name)
    if type(request) == "string" then return { prompt = request } end
    check.type(op, name, request, "table", "a text, or a table with prompt, messages or tokens")
    local prompt = {}
    for _, key in ipairs(tables.keys(request)) do
        if key ~= "spec" then prompt[key] = request[key] end
    end
    return prompt, request.spec
end

local function is_one(requests)
    return type(requests) == "string"
        or type(requests) == "table" and (requests.prompt or requests.messages or requests.tokens)
end

--- Projects the hidden states of every token on directions and shows the tokens coloured by it: blue below the centre,
-- red above. Tokens of a steered request are run without their spec too, for comparison.
-- @param lm the model: lm:view(requests, opts); out:view(opts) shows what lm:generate gave
-- @tparam table requests a text or {prompt, messages or tokens, response, spec}, as lm:capture takes it, or a list
-- @tparam table opts project ({name = tensor [hidden], or {[layer] = tensor} as lm:direction gives}), layers (as
-- lm:capture takes them; default all, or those of the directions), at (as for lm:capture), center (projection without
-- colour: a number or {name = number}, such as a direction's threshold; default the median of the tokens shown), spec
-- (of requests that have none), html (path: writes the page as well), title
-- @return a view, which print shows in the colours that the terminal has, or as a table of numbers where it has none
-- or NO_COLOR is set; view:text{colours = 24, 256 or false}, view:html(path). view.rows lists {name, layer, center,
-- spread}; view[i] has pieces and tokens (all of a request's), prompt_tokens, steered and unsteered (lists by row of
-- lists by token of projections h·v; without a spec only unsteered)
function M.view(lm, requests, opts)
    local op = "view"
    opts = options.check(op, opts, OPTIONS)
    local rows, list = read_rows(lm, op, opts), is_one(requests) and { requests } or requests
    local center = read_center(op, rows, opts.center)
    check.list(op, "requests", list, "a text or a list of requests")
    if #list == 0 then raise("invalid_argument", op, "requests: the list is empty") end
    local view = setmetatable({ rows = rows }, View)
    for i, request in ipairs(list) do
        local name = ("requests[%d]"):format(i)
        local prompt, spec = split(op, request, name)
        local result = { prompt_tokens = 0 }
        spec = spec or opts.spec
        if spec then result.steered = project(lm, op, name, rows, prompt, spec, opts.at) end
        result.unsteered, result.tokens = project(lm, op, name, rows, prompt, nil, opts.at)
        result.pieces = pieces.of(lm, result.tokens)
        result.prompt_tokens = prompt.response and #lm:tokens_of(op,
            { prompt = prompt.prompt, messages = prompt.messages, tokens = prompt.tokens }) or #result.tokens
        view[i] = result
    end
    for i, row in ipairs(rows) do
        row.index, row.vector = i, nil
        scale(op, row, view, center(row.name))
    end
    if opts.html then view:html(opts.html, opts.title) end
    return view
end

--- Gives the results of lm:generate their method view.
-- @param lm model
-- @tparam table list of {request = {tokens, spec}}
-- @tparam table results
function M.attach(lm, list, results)
    local function view(self, opts)
        if self ~= results then
            raise("invalid_argument", "view", "self: expected what lm:generate gave; call it with a colon")
        end
        local requests = {}
        for i, job in ipairs(list) do
            requests[i] = { tokens = job.request.tokens, response = results[i].tokens, spec = job.request.spec }
        end
        return M.view(lm, requests, opts)
    end
    local outputs = { view = view, __topic = "results" }
    require("steer.core.class").strict(outputs, "a list of results", {})
    return setmetatable(results, outputs)
end

return M
