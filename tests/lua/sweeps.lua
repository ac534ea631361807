--- Results files for the specs of compare, plot and report.
local files = require "files"
local record = require "steer.record"

local M = {}

--- Samples around a centre, the same ones every time: `spread` is the distance of the outermost in percent.
function M.samples(centre, spread, n)
    n = n or 20
    local list = {}
    for i = 1, n do list[i] = centre * (1 + (spread or 0.2) / 100 * (((i * 7) % n) / (n - 1) * 2 - 1)) end
    return list
end

--- A measured case.
function M.ok(case, metrics, samples, more)
    local line = { case = case, status = "ok", metrics = metrics, samples = samples, device = "cpu", git = "abc123" }
    for key, value in pairs(more or {}) do line[key] = value end
    return line
end

--- Writes a results file of the lines; axes and their order come from `order` and the cases. Gives its path.
function M.write(name, order, lines, sweep)
    local axes, seen = {}, {}
    for _, axis in ipairs(order) do axes[axis], seen[axis] = {}, {} end
    for _, line in ipairs(lines) do
        for _, axis in ipairs(order) do
            local value = line.case[axis]
            if not seen[axis][value] then
                seen[axis][value] = true
                table.insert(axes[axis], value)
            end
        end
    end
    local path = files.path(name)
    os.remove(path)
    local writer = record.create("test", path,
        { name = sweep or "speed", axes = axes, order = order, seed = 1, version = "1.2.3" })
    for _, line in ipairs(lines) do writer:add(line) end
    writer:close()
    return path
end

--- Runs `steer` with arguments in a clean environment; gives output, errors and exit status.
function M.steer(arguments, before)
    local errors = os.tmpname()
    local pipe = io.popen(("{ %s scripts/steer %s; } 2>%s; printf '\\n%%d' $?"):format(before or "", arguments, errors))
    local output, status = pipe:read("*a"):match("^(.*)\n(%d+)$")
    pipe:close()
    local file = io.open(errors)
    local text = file:read("*a")
    file:close()
    os.remove(errors)
    return output, text, tonumber(status)
end

--- A folder for PATH with only the commands named, so that gnuplot is not found.
function M.path_without_gnuplot()
    local folder = files.path("bin")
    os.execute("mkdir -p " .. folder)
    for _, name in ipairs { "luajit", "sh", "dirname", "readlink", "rm", "cat" } do
        os.execute(("ln -sf $(command -v %s) %s/%s"):format(name, folder, name))
    end
    return "PATH=" .. folder
end

return M
