--- NumPy's .npz format: a zip archive of .npy files, stored (np.savez) or deflated (np.savez_compressed).
local file = require "steer.io._file"
local npy = require "steer.io.npy"
local raise = require("steer.core.error").raise
local zip = require "steer.io.zip"

local M = {}

local function read_array(archive, name)
    local member = archive:open(name .. ".npy") or archive:open(name)
    if member.size < 6 or member:bytes(0, 6, "magic") ~= "\147NUMPY" then member:refuse("it is no array of NumPy") end
    return npy.read(member)
end

--- Reads a mapped file: name -> tensor.
-- @param map from _file.open
-- @tparam table opts only: list of names
function M.read(map, opts)
    local archive, arrays, names, known = zip.open(map), {}, {}, {}
    for i, name in ipairs(archive.names) do
        names[i] = name:gsub("%.npy$", "")
        if known[names[i]] then map:fail("array %s is there twice", file.quote(names[i])) end
        known[names[i]] = true
    end
    for _, name in ipairs(opts.only or names) do
        if not known[name] then
            raise("not_found", "load", "%s: only: has no array %s", map.path, file.quote(tostring(name)))
        end
        arrays[name] = read_array(archive, name)
    end
    return arrays
end

return M
