--- Merging results files of one sweep.
local append_only = require "steer.core.durable"
local code = require "steer.sweep.code"
local raise = require("steer.core.error").raise
local record = require "steer.record"

local M = {}
local OP = "merge"

local function sorted(list)
    local out = require("steer.core.tables").slice(list)
    table.sort(out)
    return table.concat(out, " ")
end

-- All files must be of one sweep, with one seed and one content.
local function check_same(first, other)
    local function differ(what, a, b)
        raise("format", OP, "%s: its %s is %s, that of %s is %s", other.path, what, tostring(a), first.path,
            tostring(b))
    end
    local a, b = other.header, first.header
    if a.name ~= b.name then differ("sweep", a.name, b.name) end
    if sorted(a.order) ~= sorted(b.order) then differ("list of axes", sorted(a.order), sorted(b.order)) end
    if a.seed ~= b.seed then differ("seed", a.seed, b.seed) end
    if a.content ~= b.content then differ("content", a.content, b.content) end
end

-- Values of all files, those of the first file first.
local function join_axes(files)
    local axes, ranks = {}, {}
    for _, name in ipairs(files[1].header.order) do
        local values, rank = {}, {}
        local function take(value)
            if rank[value] == nil then
                values[#values + 1] = value
                rank[value] = #values
            end
        end
        for _, file in ipairs(files) do
            for _, value in ipairs(file.header.axes[name]) do take(value) end
        end
        for _, file in ipairs(files) do -- cases that were asked for by content
            for _, line in ipairs(file.cases) do take(line.case[name]) end
        end
        axes[name], ranks[name] = values, rank
    end
    return axes, ranks
end

-- The line of each case, and pairs of lines that ran it twice.
local function join_cases(files)
    local list, at, repeated = {}, {}, {}
    local order = files[1].header.order
    local function ran_twice(case, first, second)
        repeated[#repeated + 1] = { text = record.text(case, order),
            first = { file = first.file, line = first.line }, second = { file = second.file, line = second.line } }
    end
    for _, file in ipairs(files) do
        for _, twice in ipairs(file.repeated) do
            ran_twice(twice.case, { file = file.path, line = twice.first }, { file = file.path, line = twice.second })
        end
        for _, line in ipairs(file.cases) do
            line.file = file.path
            local place = at[line.key]
            if not place then
                place = #list + 1
                at[line.key], list[place] = place, line
            elseif line.status ~= "failed" then
                if list[place].status ~= "ok" then
                    list[place] = line
                elseif line.status == "ok" then
                    ran_twice(line.case, list[place], line)
                end
            end
        end
    end
    return list, repeated
end

local function check_code(list)
    local what, a, b = code.difference(list)
    if not what then return end
    raise("format", OP, "%s line %d and %s line %d were measured by different code: %s differs; --code-changed puts "
        .. "them together all the same", a.file, a.line, b.file, b.line, what)
end

local function sort(list, order, ranks)
    table.sort(list, function(a, b)
        for _, name in ipairs(order) do
            local x, y = ranks[name][a.case[name]], ranks[name][b.case[name]]
            if x ~= y then return x < y end
        end
        return false
    end)
end

local function count_missing(files, held)
    local axes, total, grid = files[1].header.axes, 1, {}
    for i, name in ipairs(files[1].header.order) do
        total = total * #axes[name]
        grid[i] = { name = name, values = axes[name] }
    end
    local missing = 0
    for _, case in ipairs(require("steer.axis").cases(OP, grid)) do
        if not held[record.key(case)] then missing = missing + 1 end
    end
    return missing, total
end

local function write(path, header, list)
    if append_only.exists(path) then raise("io", OP, "%s: it exists, name a new file", path) end
    local part = path .. ".part"
    os.remove(part)
    local writer = record.create(OP, part, header)
    for _, line in ipairs(list) do line.file = nil end
    local ok, err = pcall(writer.add_all, writer, list)
    writer:close()
    if ok then ok, err = os.rename(part, path) end
    if not ok then
        os.remove(part)
        if type(err) == "table" then error(err, 0) end
        raise("io", OP, "%s: %s", path, err)
    end
end

--- Merges results files.
-- @tparam table paths list of results files of one sweep
-- @tparam string output a new file; it appears when it is whole
-- @tparam[opt] boolean code_changed also where they were measured by different code
-- @treturn table total, ok, skipped, failed (counts of cases), grid and missing (cases of the first file's axes, and
-- those that no file holds), repeated (list of {text=, first= {file=, line=}, second=}), torn (paths)
-- @raise io, format
function M.merge(paths, output, code_changed)
    local files, torn, counts = {}, {}, { ok = 0, skipped = 0, failed = 0 }
    for i, path in ipairs(paths) do
        files[i] = record.open(OP, path)
        if not files[i].header then raise("format", OP, "%s: it is empty", path) end
        if files[i].torn_from then torn[#torn + 1] = path end
        check_same(files[1], files[i])
    end
    local header = files[1].header
    local axes, ranks = join_axes(files)
    local list, repeated = join_cases(files)
    if not code_changed then check_code(list) end
    local held = {}
    for _, line in ipairs(list) do
        held[line.key] = true
        counts[line.status] = counts[line.status] + 1
    end
    local missing, grid = count_missing(files, held)
    sort(list, header.order, ranks)
    write(output, { name = header.name, axes = axes, order = header.order, seed = header.seed,
        version = header.version, content = header.content }, list)
    counts.total, counts.missing, counts.grid, counts.repeated, counts.torn = #list, missing, grid, repeated, torn
    return counts
end

return M
