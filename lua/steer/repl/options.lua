--- What there is to know of option tables: which calls take which, the keys, what they may be and what they mean. Help
-- and completion read it here; tests hold it to what the calls accept.
local layout = require "steer.repl.layout"

jit.off(true, true) -- it walks tables: see steer/core/tables.lua

local M = {}

-- A row: name, kind, meaning. A kind is a word; quoted texts, which are the values there are; or {set}, a table with
-- the keys of that set. The first row may include other sets, + set set, or say that tables of a set stand in the list
-- part, + [set].
local SETS = {
    condition = [[
when  {when}  where a condition of the token holds; also {noted = name}, or {all = {...}}, {any =}, {none =} of such
at    "layer" "mlp" "attention" "embed"  after the layer (either name), after its attention, or the embeddings
]],
    scope = [[
+ condition
where    {where}     which tokens the operation acts on; default: every token
exclude  {selector}  tokens taken away from those of where
]],
    operation = [[
+ scope
normalize  boolean  divide the vector by its norm, in float64: the default of all but add, which takes it as it is
]],
    written = [[
+ operation
write  tensor  the vector that is added instead of the one that is read, as it is
]],
    cap = [[
+ written
min  number  least projection
max  number  greatest projection
]],
    ablate = [[
+ written
side  "positive" "negative"  only where the projection is
]],
    sae = [[
+ scope
min         number  least value of a feature
max         number  greatest value of a feature; with min the same: its value
scale       number  of features (default 1)
activation  "relu" "linear"  of the encoder
threshold   number  a feature is 0 up to it (default 0)
bias        number  of the encoder; also a list, one each
]],
    affine = [[
+ scope
matrix  table   M, [k, n]; default the identity
bias    list    of k numbers (default 0)
scale   number  (default 1)
]],
    low_rank = [[
+ scope
scale  number  (default 1)
bias   list    b, of rank numbers (default 0)
]],
    loreft = [[
+ low_rank
rotate       table    R, [rank, hidden], its rows orthonormal
weight       table    W, as R
orthonormal  boolean  true: the rows of R are made orthonormal; false: taken as they are
]],
    noreft = [[
+ low_rank
project       table  P, [rank, hidden]
project_bias  list   c, of rank numbers (default 0)
weight        table  W, as P
]],
    direft = [[
+ low_rank
rotate  table  R, [rank, hidden]
weight  table  W, as R
]],
    linear = [[
+ scope
scale  number  of the change (default 1)
bias   list    of hidden numbers (default 0)
]],
    note = [[
+ scope
of  "prompt"  decided once, by the prompt's last token, for all tokens from it on; default: of each token
]],
    selector = [[
prompt                "all"   every token of the prompt
prompt_positions      list    of positions from 0 in the prompt, negative ones from its end: {0, -1}
prompt_window         list    {first, past the last} of the prompt
generation            "all"   every generated token
generation_positions  list    of positions from 0 among the generated tokens
generation_window     list    {first, past the last} of the generated tokens
token_ids             list    of token ids, wherever they stand
]],
    where = [[
+ selector
exclude  {selector}  tokens taken away from those of where
]],
    when = [[
vector  tensor   what the hidden state h is compared with
above   number   acts where h·vector is greater
below   number   acts where h·vector is less
cosine  boolean  compares the cosine of h and vector instead of h·vector
noted   text     in place of these: holds where the operation steer.note of that name did
of      "prompt"  beside noted, where the note is of the whole prompt: so taken where it is left out
all     list     of conditions that all hold
any     list     of conditions of which one holds
none    list     of conditions of which none holds
]],
    text = [[
prompt    text    that is continued or read
messages  list    a chat: {{role = "user", content = "..."}, ...}
tokens    list    of token ids, in place of a text
]],
    chat = [[
+ text
tools                  list     tools that the chat template may describe
add_generation_prompt  boolean  end messages where the answer begins (default true)
]],
    sampling = [[
temperature         number   0, the default, takes the likeliest token
top_k               number   draw from so many likeliest tokens (0: all)
top_p               number   draw from the likeliest tokens that have this share together (1: all)
min_p               number   draw from tokens that have this share of the likeliest one's probability
repetition_penalty  number   above 1: tokens that came before are less likely
seed                number   integer from 0 of what is drawn (default 0)
ignore_eos          boolean  the model's end tokens do not end it
]],
    request = [[
+ chat sampling
spec        spec     how it is steered; nil: not
max_tokens  number   tokens to generate (default 256)
stop        text     a text, or a list of texts, that ends it
response    list     ids of the answer so far, which goes on
twin        boolean  an unsteered twin runs beside it: KL, its log probabilities, first divergence
]],
    requests = [[
+ [request]
on_token  function  called as on_token(i, piece) with each new piece of text of request i
]],
    forward_request = [[
+ text
spec  spec  how it is steered
]],
    forward = "+ [forward_request]\n",
    score_request = [[
+ chat
options  list     texts, or lists of ids, that are scored after the prompt
spec     spec     how it is steered
twin     boolean  also score without the spec
]],
    score = "+ [score_request]\n",
    perplexity = "spec  spec  how the model is steered while it reads\n",
    read_request = [[
+ text
response  text  what follows the prompt: a text or ids
spec      spec  how it is steered
]],
    read_requests = "+ [read_request]\n",
    layers = 'layers  "all"  every layer; also a layer, an ascending list from 0, or text such as "[2:7]"\n',
    site = [[
at  "layer" "mlp" "attention" "embed"  where states are read: after the layer, after its attention, or the embeddings
]],
    capture = [[
+ layers site sampling
tokens      "last" "all" "response"  read (default "last", with reduce too); or positions from 0, negative from the end
reduce      "last" "mean" "sum" "squares" "moments"  what is made of the tokens read: by default the last one alone
classes     list    a label for each prompt: reduces all tokens of a class
spec        spec    steers all prompts
max_tokens  number  generates so many after each prompt, for tokens = "response"
]],
    direction = [[
+ layers site
positive     list     prompts, as lm:capture takes them
negative     list     prompts, as lm:capture takes them
method       "mean_difference" "pca" "lat" "probe" "lda"  how the direction is found (default "mean_difference")
tokens       "last" "all" "response"  of each prompt; the mean of several is taken
spec         spec     steers the prompts
folds        number   of the cross-validation (default 5; 0: none)
held_out     number   share of each list that is kept for the accuracy, in place of folds
seed         number   of the folds, of "lat" and of what is generated
max_tokens   number   generates so many after each prompt, for tokens = "response"
temperature  number   of what is generated
l2           number   of "probe": strength of the regularisation
shrinkage    number   of "lda": share of the diagonal
normalize    boolean  of "mean_difference": to length 1
]],
    lens = [[
+ layers site
top     number  how many tokens (default 5)
tokens  "all" "last" "response"  which tokens are read: also a list of positions
spec    spec    how the text is steered
]],
    view = [[
+ layers site
project  table   {name = tensor [hidden], or {[layer] = tensor}}
center   number  projection without colour, or {name = number}; default the median
spec     spec    of requests that have none
html     path    writes the view as a page as well
title    text    of the page
]],
    calibrate = [[
prompts      list     as lm:generate takes them
kl           number   nats that are aimed at (default 1)
quantile     number   of KL over the generated tokens (default 0.95)
tokens       number   to generate for each prompt (default 50)
tolerance    number   share of kl (default 0.02)
temperature  number   of what is generated (default 0)
top_k        number   draw from so many likeliest tokens
top_p        number   draw from the likeliest tokens that have this share together
seed         number   integer from 0 of what is drawn
ignore_eos   boolean  the model's end tokens do not end it
]],
    grid_prompt = [[
+ chat
options  list  of this prompt, with score = true
]],
    grid_prompts = "+ [grid_prompt]\n",
    grid_generate = [[
+ sampling
max_tokens  number  tokens to generate
stop        text    a text, or a list of texts, that ends it
]],
    grid = [[
+ layers operation
vector        tensor           for all layers
directions    table            {[layer] = vector}, as lm:direction gives
scales        list             of strengths, or text such as "[-4:4:0.5]"
prompts       {grid_prompts}   texts, or tables
score         table            {yes = " Yes", no = " No"}, a list of options, or true: each prompt has its own
generate      {grid_generate}  measures generated text
metric        function         of the generated text, or alone function(spec, case)
op            function         that makes the operation (default steer.add)
twin          boolean          also run each case unsteered
value         text             the metric that is returned
output        path             the results file; default none is kept
resume        boolean          go on with that file
retry_failed  boolean          the same, and cases that failed run again
code_changed  boolean          go on although the scripts have changed
repeats       number           measure each case so often: with generate each time with the next seed
name          text             of the sweep (default "grid")
budget        number           bytes that the KV cache may have
seed          number           of the sweep
progress      boolean          a bar (default on a terminal)
]],
    session = [[
sequences     number   most that run at the same time (default 16)
tokens        number   positions that the KV cache has room for
rows          number   most rows of a step
vector_bytes  number   budget of steering vectors on the device
sharing       boolean  equal beginnings are computed once (default true)
graphs        boolean  steps that only generate are captured and replayed (default true)
reproducible  boolean  no bit of a sequence depends on those that run beside it
]],
    sequence = [[
+ chat sampling
spec           spec     how it is steered
max_tokens     number   tokens to generate (default 0)
prompt_tokens  number   how many of the tokens are the prompt (default all)
stop_ids       list     of ids that end it
logprobs_from  number   first given token, from 0, whose log probability is wanted
others         list     of ids whose log probabilities in the place of the last given token are wanted too
logits_from    number   first given token, from 0, after which logits are wanted
hold           boolean  what is computed of it stays in the cache until it is dropped
apart          boolean  others do not find in the cache what is computed of it
from           number   id of a sequence that was held: as far as the tokens are the same, it begins with its states
capture        table    {object, groups = list, generated = group}
twin           boolean  the same sequence without the spec runs beside it
]],
    device = 'device  "cpu" "cuda:0"  where it lies; default steer.device()\n',
    model = [[
+ device
dtype     "f32" "f16" "bf16"  of the weights; default as the config says
weights   "random"  none are read: for measuring a model's speed
seed      number    of random weights
reproducible  boolean  no bit of a request depends on those that run beside it (default false)
progress  boolean   a bar on a terminal while it loads (default true)
]],
    tensor = [[
+ device
dtype  "f32" "f16" "bf16" "i32" "i64" "u8"  of the elements (default "f32")
]],
    random_tensor = "+ tensor\nseed  number  integer from 0: the same numbers on every device\n",
    wrapped_tensor = [[
+ tensor
strides  list    in elements
keep     object  that is kept alive
]],
    engine = [[
+ device
hidden        number   columns of the hidden states
dtype         "f32" "f16" "bf16"  of the hidden states (default "f32")
vector_bytes  number   budget of the vectors on the device (default 1 GiB)
compile       "off" "default" "reduce-overhead"  of its plans
wait          boolean  for kernels to be compiled (default true)
]],
    plan_request = [[
spec           spec    how its rows are steered
tokens         number  rows of it
phase          "prompt" "generation"  of its rows (default "prompt")
position       number  of its first row in the sequence
prompt_tokens  number  length of its prompt
token_ids      list    of its rows, or a tensor
]],
    plan_requests = "+ [plan_request]\n",
    plan = [[
path     "auto" "uniform" "mixed" "loop"  how rows are steered (default "auto")
rows     number   padded rows
strict   boolean  a spec that steers no row is an error
compile  "off" "default" "reduce-overhead"  default as the engine
wait     boolean  for kernels to be compiled (default true)
]],
    apply = "residual  tensor  steers the sum with it and leaves it\n",
    time = [[
+ device
mode         "hot" "cold"  "cold" takes a list of functions over buffers that exceed the cache
warmup       number   calls before the first sample
min_samples  number   (default 10)
max_samples  number   (default 10000)
max_seconds  number   (default 15)
max_noise    number   deviation, in percent of the mean, that is enough (default 0.5)
gpu          boolean  time by events of the GPU
wall         boolean  time of one call and the wait for it
graph        boolean  time a replayed graph (default true)
per_graph    number   launches between two events
sync         boolean  false leaves the wait out of the time
]],
    filter = "filter  table  axis -> a value or a list of values: only these cases\n",
    compare = [[
+ filter
metric  text     a name, a list of names, or "all"; default every time, else every metric that both have
better  "higher" "lower"  which is better; also text such as "kl=lower,accuracy=higher", or a map
gap     number   percent: intervals of times closer than this are not FASTER or SLOWER (default 0.5)
same    number   percent: what is further apart is not SAME
paired  boolean  false: samples at the same place do not belong together
]],
    report = [[
+ filter
out     path     of the page; default the results' with .html
metric  text     a name, or a list of names
better  "higher" "lower"  which is better; also text such as "kl=lower,accuracy=higher", or a map
title   text     of the page
]],
    plot = [[
+ filter
kind     "lines" "scatter" "bars" "histogram" "heatmap"  of the chart
x        text     an axis or a metric; of data the places of the points
y        text     a metric, or a heatmap's second axis; of data the names of its rows
z        text     metric of a heatmap
by       text     axis, or a list of axes: a series for each value
dash     text     axis of two values that dashes tell apart
names    list     of the series
title    text     of the chart
xlabel   text     of the x axis; also ylabel, zlabel
ylabel   text     of the y axis
zlabel   text     of a heatmap's colours
legend   text     its title; false: none
xlim     list     {low, high} or {min =, max =}
ylim     list     {low, high} or {min =, max =}
zlim     list     {low, high} or {min =, max =}
logx     boolean  logarithmic x axis
logy     boolean  logarithmic y axis
logz     boolean  logarithmic colours of a heatmap
format   text     of values, such as "%.2f"
palette  "okabe" "viridis" "magma" "blues" "greys" "blue_red"  or a list of colours
size     list     {width, height} in pixels of an SVG
hline    number   a reference line at y; also {at =, label =} or a list
vline    number   a reference line at x; also {at =, label =} or a list
best     "max" "min"  marks this point
low      list     lower ends of intervals
high     list     upper ends of intervals
error    list     half widths of intervals
bins     number   of a histogram; also a list of edges
share    boolean  of a histogram: parts of 1 instead of counts
out      path     x.svg, x.png or x.pdf; without an extension an SVG and a PNG
]],
    sweep = [[
name     text      the results file is called after it
axes     table     name -> list of values, or texts such as "hidden=[1024,2048]"
run      function  run(case, ctx) measures one case
skip     function  skip(case): the reason to leave a case out, or nil
repeats  number    how often each case runs, with another seed each time
seed     number    integer from 0
content  text      what else results of one file have in common
]],
}

-- Topic of a call -> the set of each argument, by its number.
local CALLS = {
    add = { [3] = "operation" }, ablate = { [3] = "ablate" }, cap = { [2] = "cap" }, set = { [3] = "written" },
    map = { [3] = "written" }, rotate = { [3] = "scope" }, angle = { [3] = "scope" }, turn = { [3] = "scope" },
    sae = { [3] = "sae" }, affine = { [3] = "affine" }, replace = { [3] = "scope" }, patch = { [3] = "condition" },
    loreft = { "loreft" }, noreft = { "noreft" }, direft = { "direft" }, linear = { [2] = "linear" },
    keep_norm = { "scope" }, note = { [2] = "note" },
    model = { [2] = "model" }, engine = { "engine" }, sweep = { "sweep" },
    ["model:generate"] = { "requests" }, ["model:forward"] = { "forward" }, ["model:score"] = { "score" },
    ["model:perplexity"] = { [2] = "perplexity" }, ["model:capture"] = { "read_requests", "capture" },
    ["model:direction"] = { "direction" }, ["model:lens"] = { "read_request", "lens" },
    ["model:view"] = { "read_requests", "view" }, ["results:view"] = { "view" },
    ["direction:plot"] = { "plot" }, ["calibrate:plot"] = { "plot" }, ["grid:plot"] = { [2] = "plot" },
    ["model:calibrate"] = { [2] = "calibrate" }, ["model:grid"] = { "grid" }, ["model:session"] = { "session" },
    ["session:add"] = { "sequence" }, ["engine:plan"] = { "plan_requests", "plan" },
    ["plan:update"] = { "plan_requests" }, ["plan:apply"] = { [3] = "apply" },
    plot = { [2] = "plot" }, compare = { [3] = "compare" }, report = { [2] = "report" },
    ["bench.time"] = { [2] = "time" }, ["bench.interleave"] = { [2] = "time" },
    ["tensor.full"] = { [3] = "tensor" }, ["tensor.wrap"] = { [3] = "wrapped_tensor" },
    ["tensor.rand"] = { [2] = "random_tensor" }, ["tensor.randn"] = { [2] = "random_tensor" },
}
for _, name in ipairs { "zeros", "ones", "empty", "arange", "from" } do
    CALLS["tensor." .. name] = { [2] = "tensor" }
end
M.CALLS = CALLS

-- ---- Reading the rows ----------------------------------------------------------------------------------------------

local read

-- What a kind says: values to choose from, the set of a table, whether it is a list of such.
local function read_row(name, kind, meaning)
    local row = { name = name, meaning = meaning, kind = kind }
    if kind:find '^"' then
        row.kind, row.values = "text", {}
        for value in kind:gmatch '"([^"]*)"' do table.insert(row.values, value) end
    elseif kind == "boolean" then
        row.values = { true, false }
    end
    row.set = kind:match "^{([%w_]+)}$"
    if row.set then row.kind = "table" end
    return row
end

local function include(set, words)
    for word in words:gmatch "%S+" do
        local items = word:match "^%[([%w_]+)%]$"
        if items then
            set.items = items
        else
            for _, row in ipairs(read(word)) do
                set[#set + 1] = row
                set.by_name[row.name] = row
            end
        end
    end
end

local known = {}

function read(name)
    if known[name] then return known[name] end
    local set = { by_name = {} }
    for line in SETS[name]:gmatch "[^\n]+" do
        local words = line:match "^%+ (.*)$"
        if words then
            include(set, words)
        else
            local option, rest = line:match "^(%S+)%s+(.*)$"
            local kind, meaning = rest:match '^("[^"]*")%s+([^"].*)$'
            if not kind then kind, meaning = rest:match '^(".*")  (.*)$' end
            if not kind then kind, meaning = rest:match "^(%S+)%s+(.*)$" end
            local row = read_row(option, kind, meaning)
            if not set.by_name[option] then set[#set + 1] = row end
            set.by_name[option] = row
        end
    end
    for i, row in ipairs(set) do set[i] = set.by_name[row.name] end -- a set may say more of what it includes
    known[name] = set
    return set
end

--- Gives a set of options.
-- @tparam string name
-- @treturn table list of {name=, kind=, meaning=, values= (list, or nil), set= (name, of a table)}, also by_name; items
-- (the set of a list's tables), or nil
M.set = read

-- ---- Help ----------------------------------------------------------------------------------------------------------

local function call_text(topic)
    if topic:find "^model:" then return "lm:" .. topic:sub(7) end
    if topic == "results:view" then return "out:view" end
    return topic:find ":" and topic or "steer." .. topic
end

-- Calls by the sets that they take, those within others included.
local function users()
    local list = {}
    local function visit(name, call)
        list[name] = list[name] or {}
        if list[name][call] then return end
        list[name][call] = true
        local set = read(name)
        if set.items then visit(set.items, call) end
        for _, row in ipairs(set) do
            if row.set then visit(row.set, call) end
        end
    end
    for topic, arguments in pairs(CALLS) do
        for _, set in pairs(arguments) do visit(set, call_text(topic)) end
    end
    return list
end

local function kind_text(row)
    if not row.values or row.kind == "boolean" then return row.kind end
    local quoted = {}
    for i, value in ipairs(row.values) do quoted[i] = ('"%s"'):format(value) end
    return table.concat(quoted, " ")
end

local function append(lines, first, rest, text, width)
    for _, line in ipairs(layout.fill(text, first, rest, width)) do lines[#lines + 1] = line end
end

-- The options of a table, a row each.
local function append_set(lines, name, width)
    local widest = 0
    for _, row in ipairs(read(name)) do widest = math.max(widest, #row.name) end
    for _, row in ipairs(read(name)) do
        append(lines, ("    %-" .. widest .. "s  "):format(row.name), (" "):rep(widest + 8),
            kind_text(row) .. ": " .. row.meaning, width)
    end
end

--- Describes an option wherever a call takes it; nil if none does.
-- @tparam string name
-- @tparam number width
function M.describe(name, width)
    local meanings, order = {}, {} -- the same of several calls is said once
    local sets = {}
    for set in pairs(SETS) do sets[#sets + 1] = set end
    table.sort(sets)
    local by_set = users()
    for _, set in ipairs(sets) do
        local row = by_set[set] and read(set).by_name[name]
        if row then
            local found = meanings[row.meaning]
            if not found then
                found = { row = row, calls = {} }
                meanings[row.meaning], order[#order + 1] = found, found
            end
            for call in pairs(by_set[set]) do found.calls[call] = true end
        end
    end
    if #order == 0 then return nil end
    local lines = {}
    for _, found in ipairs(order) do
        local calls = {}
        for call in pairs(found.calls) do calls[#calls + 1] = call end
        table.sort(calls)
        if #lines > 0 then lines[#lines + 1] = "" end
        append(lines, name .. ", ", "  ", "an option of " .. table.concat(calls, ", "), width)
        append(lines, "  ", "  ", kind_text(found.row) .. ": " .. found.row.meaning, width)
        if found.row.set then append_set(lines, found.row.set, width) end
    end
    return table.concat(lines, "\n")
end

--- Lists the names of all options, as a set.
function M.names()
    local names = {}
    for set in pairs(SETS) do
        for _, row in ipairs(read(set)) do names[row.name] = true end
    end
    return names
end

return M
