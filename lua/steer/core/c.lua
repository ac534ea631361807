--- The one module that loads libsteer: finds it, declares and checks its interface, turns statuses into errors and
-- keeps device memory that only the collector can free below a soft limit.
local ffi = require "ffi"
local error_object = require "steer.core.error"

local M = {}

-- ---- Finding the library -------------------------------------------------------------------------------------------

local multiarch = { x64 = "x86_64-linux-gnu", arm64 = "aarch64-linux-gnu" }

-- Where libsteer may lie relative to this file: <tree>/lua/steer/core/c.lua or <prefix>/share/lua/5.1/steer/core/c.lua.
local function candidates()
    local here = debug.getinfo(1, "S").source:match("^@(.*)steer/core/c%.lua$")
    if not here then return {} end
    local function up(folder) -- without the last name where there is one
        local shorter, name = folder:match("^(.-)([^/]+)/$")
        if not shorter or name == "." or name == ".." then return folder .. "../" end
        return shorter
    end
    local prefix = up(up(up(here)))
    return {
        up(here) .. "build/lib/libsteer.so",
        prefix .. "lib/libsteer.so",
        prefix .. "lib/" .. (multiarch[jit.arch] or jit.arch) .. "/libsteer.so",
        prefix .. "lib64/libsteer.so",
    }
end

local function exists(path)
    local file = io.open(path, "rb")
    if file then file:close() end
    return file ~= nil
end

local function load_library()
    local named = os.getenv("STEER_LIB")
    if named and named ~= "" then
        local ok, library = pcall(ffi.load, named)
        if not ok then
            error_object.raise("not_found", "library_load", "STEER_LIB: cannot load %s: %s", named, library)
        end
        return library, named
    end
    local tried = candidates()
    for _, path in ipairs(tried) do
        if exists(path) then
            local ok, library = pcall(ffi.load, path)
            if ok then return library, path end
            error_object.raise("not_found", "library_load", "cannot load %s: %s", path, library)
        end
    end
    local ok, library = pcall(ffi.load, "steer")
    if ok then return library, "libsteer.so" end
    error_object.raise("not_found", "library_load",
        "libsteer.so is not in %s nor where the system looks (%s); build it, or set STEER_LIB to its path",
        table.concat(tried, ", "), library)
end

-- A second load of this module (a reload) finds the types declared already.
if not pcall(ffi.typeof, "steer_tensor") then ffi.cdef(require "steer.core.cdef") end

local C, path = load_library()
-- A collected namespace closes the library under live handles, so the registry keeps it.
debug.getregistry()["steer.library " .. path] = C

--- The library's functions. Call them as C.steer_...; do not cache single functions.
M.C = C
--- Path from which the library was loaded.
M.path = path

-- ---- Checking that declarations and library agree ------------------------------------------------------------------

local descriptors = {
    "steer_backend_info", "steer_device_info", "steer_memory_info", "steer_selector", "steer_op_desc",
    "steer_engine_desc", "steer_engine_stats", "steer_request", "steer_plan_desc", "steer_explain", "steer_group",
    "steer_plan_graph_stats", "steer_model_desc", "steer_model_info", "steer_capture_desc", "steer_session_desc",
    "steer_sequence_desc", "steer_sequence_status", "steer_session_stats",
}

local function verify()
    local declared, found = tonumber(C.STEER_ABI_VERSION), C.steer_abi_version()
    if declared ~= found then
        error_object.raise("unsupported", "library_load", "%s has interface version %d, this package needs %d", path,
            found, declared)
    end
    for _, name in ipairs(descriptors) do
        local ours, theirs = ffi.sizeof(name), tonumber(C.steer_sizeof(name))
        if ours ~= theirs then
            error_object.raise("unsupported", "library_load", "%s: %s has %d bytes, this package declares %d", path,
                name, theirs, ours)
        end
    end
end
verify()

-- ---- Statuses ------------------------------------------------------------------------------------------------------

local OUT_OF_MEMORY = tonumber(C.STEER_E_OUT_OF_MEMORY)
local INTERRUPTED = tonumber(C.STEER_E_INTERRUPTED)

--- Set when a call was interrupted, so that the REPL stops work that catches the error.
M.interrupted = false

-- The library's names for the tensors of a method.
local METHOD_NAMES = { dst = "self", src = "self", a = "self", b = "other" }

-- The user's message: indices count from 1, and what it begins with ("list[2].member", else its first word) has the
-- name in `names`, if there.
local function message_of(names)
    local message = ffi.string(C.steer_error_message_from(1))
    local whole = message:match "^[%w_.%[%]]+"
    if whole and names[whole] then return names[whole] .. message:sub(#whole + 1) end
    return (message:gsub("^[%w_]+", names))
end

local function raise_last(status, op, names)
    if status == INTERRUPTED then M.interrupted = true end
    local failed = ffi.string(C.steer_error_op())
    local method = failed:find("^tensor_") and failed ~= "tensor_copy"
    error(error_object.new(ffi.string(C.steer_status_name(status)), op or failed,
        message_of(names or method and METHOD_NAMES or {}), ffi.string(C.steer_error_where())), 0)
end

--- Raises the library's last error if `status` is not 0.
-- @tparam number status
-- @tparam[opt] string op the user's operation, where the library's has another name
-- @tparam[opt] table names the user's names for arguments that the library calls otherwise: { data = "pointer" }
function M.check(status, op, names)
    if status ~= 0 then raise_last(status, op, names) end
end

--- Calls fn(...) again after `status` of a first call, if memory was out: collects garbage before it.
-- @return the status that holds
function M.retry(status, fn, ...)
    if status == OUT_OF_MEMORY then
        collectgarbage()
        collectgarbage()
        status = fn(...)
    end
    return status
end

--- Calls a library function that may allocate: out of memory collects garbage and tries once more. Raises on failure.
-- Use as c.alloc(C.steer_tensor_create, out, ...).
function M.alloc(fn, ...)
    local status = M.retry(fn(...), fn, ...)
    if status ~= 0 then raise_last(status) end
end

--- The same for an operation that the library calls otherwise: `op` and `names` as of check.
function M.alloc_as(op, names, fn, ...)
    local status = M.retry(fn(...), fn, ...)
    if status ~= 0 then raise_last(status, op, names) end
end

--- Gives a handle its finalizer. `release` is the library function itself (C.steer_engine_release).
function M.own(handle, release)
    local owned = ffi.gc(handle, release) -- no tail call: one to ffi.gc ends a trace
    return owned
end

--- Releases an owned handle now. Should that fail, it keeps its finalizer.
function M.free(handle, release)
    release(handle)
    ffi.gc(handle, nil)
end

--- Makes a zeroed descriptor with struct_size set.
function M.descriptor(name)
    local desc = ffi.new(name)
    desc.struct_size = ffi.sizeof(name)
    return desc
end

-- ---- Soft limit ----------------------------------------------------------------------------------------------------

--- Live device bytes above which an allocation collects garbage first: the collector cannot see device memory.
M.SOFT_LIMIT = 2 ^ 30
local GROWTH = 1.4

local memory = M.descriptor("steer_memory_info")

local function live_bytes(device)
    M.check(C.steer_device_memory(memory, device.handle))
    return tonumber(memory.live_bytes)
end

--- Makes room before an allocation of `bytes` on `device` (a device object, see device.lua).
function M.room(device, bytes)
    local wanted = live_bytes(device) + bytes
    if wanted <= device.soft_limit then return end
    collectgarbage()
    -- What is alive is in use: leave space for garbage on top of it, or every allocation would collect.
    device.soft_limit = math.max(M.SOFT_LIMIT, GROWTH * (live_bytes(device) + bytes))
end

return M
