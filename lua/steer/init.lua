--- The `steer` package: tensors, files, steering specs and engines. Modules load when they are first used.
local steer = {}

-- Public name -> module and the field of it; without a field the module itself.
local rows = {
    tensor = { "steer.tensor" },
    device = { "steer.device", "open" },
    devices = { "steer.device", "list" },
    backends = { "steer.device", "backends" },
    version = { "steer.device", "version" },
    load = { "steer.io", "load" },
    save = { "steer.io", "save" },
    add = { "steer.spec", "add" },
    cap = { "steer.spec", "cap" },
    ablate = { "steer.spec", "ablate" },
    set = { "steer.spec", "set" },
    map = { "steer.spec", "map" },
    rotate = { "steer.spec", "rotate" },
    angle = { "steer.spec", "angle" },
    turn = { "steer.spec", "turn" },
    sae = { "steer.spec", "sae" },
    affine = { "steer.spec", "affine" },
    replace = { "steer.spec", "replace" },
    patch = { "steer.spec", "patch" },
    keep_norm = { "steer.spec", "keep_norm" },
    note = { "steer.spec", "note" },
    loreft = { "steer.low_rank", "loreft" },
    noreft = { "steer.low_rank", "noreft" },
    direft = { "steer.low_rank", "direft" },
    linear = { "steer.low_rank", "linear" },
    spec = { "steer.spec", "spec" },
    load_spec = { "steer.spec", "load_spec" },
    engine = { "steer.engine", "engine" },
    model = { "steer.model", "model" },
    bench = { "steer.bench" },
    sweep = { "steer.sweep", "new" },
    chat_template = { "steer.chat_template", "open" },
    record = { "steer.record" },
    extract = { "steer.extract" },
    compare = { "steer.compare", "compare" },
    plot = { "steer.plot", "plot" },
    report = { "steer.report", "report" },
    tokenizer = { "steer.tokenizer", "open" },
}

return setmetatable(steer, {
    names = rows,
    __index = function(_, name)
        local row = rows[name]
        if not row then
            if type(name) ~= "string" then return nil end
            local suggest, methods = require("steer.core.options").suggest, require("steer.model").Model
            local near = rawget(methods, name) and (": it is a method of a model, lm:%s(...)"):format(name)
                or suggest(name, rows, "steer.", "")
            require("steer.core.error").raise("invalid_argument", "steer", "there is no steer.%s%s", name,
                near ~= "" and near or suggest(name, methods, "lm:", ""))
        end
        local value = require(row[1])
        if row[2] then value = value[row[2]] end
        rawset(steer, name, value)
        return value
    end,
})
