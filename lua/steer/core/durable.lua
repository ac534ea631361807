--- Files written through libc: whole, or growing by lines, each of which is written or not at all, and synced.
local ffi = require "ffi"
local raise = require("steer.core.error").raise

ffi.cdef [[
    int steer_append_open(const char *path, int flags, ...) __asm__("open");
    int steer_append_close(int fd) __asm__("close");
    int steer_append_access(const char *path, int mode) __asm__("access");
    int steer_append_control(int fd, int command, ...) __asm__("fcntl");
    int steer_append_sync(int fd) __asm__("fsync");
    int steer_append_lock(int fd, int operation) __asm__("flock");
    int steer_append_truncate(int fd, int64_t length) __asm__("ftruncate");
    int64_t steer_append_seek(int fd, int64_t offset, int whence) __asm__("lseek");
    intptr_t steer_append_write(int fd, const char *data, size_t bytes) __asm__("write");
    char *steer_append_strerror(int number) __asm__("strerror");
]]
local C = ffi.C

-- Of Linux, the same on x86-64 and arm64.
local O_WRONLY, O_CREAT, O_APPEND, O_NONBLOCK, O_CLOEXEC = 0x1, 0x40, 0x400, 0x800, 0x80000
local LOCK_EX, LOCK_NB, SEEK_END, F_SETFL = 2, 4, 2, 4
local EINTR, ENXIO, EAGAIN, EISDIR, EINVAL, EROFS = 4, 6, 11, 21, 22, 30

-- What the system says less clearly.
local REASONS = { [EISDIR] = "it is a folder, expected a file", [ENXIO] = "nobody reads from this pipe" }

local M = {}
local File = {}
File.__index = File

local function fail(op, path, doing)
    local errno = ffi.errno()
    raise("io", op, "%s: cannot %s: %s", path, doing, REASONS[errno] or ffi.string(C.steer_append_strerror(errno)))
end

-- Opens a file without waiting for somebody to read from it, should it be a pipe.
local function open(op, path, flags)
    local fd = C.steer_append_open(path, O_WRONLY + O_NONBLOCK + O_CLOEXEC + flags, ffi.new("int", 0x1B6)) -- rw-rw-rw-
    if fd < 0 then fail(op, path, "write") end
    C.steer_append_control(fd, F_SETFL, ffi.new("int", flags)) -- from here on it waits
    return fd
end

--- Tells whether there is something at a path.
function M.exists(path)
    return C.steer_append_access(path, 0) == 0
end

-- Pipes and terminals cannot be synced.
local function sync(fd, op, path)
    while C.steer_append_sync(fd) ~= 0 do
        local errno = ffi.errno()
        if errno == EINVAL or errno == EROFS then return end
        if errno ~= EINTR then fail(op, path, "sync") end
    end
end

-- Makes the name of a new file last, too.
local function sync_folder(op, path)
    local folder = path:match "^(.*)/[^/]*$" or "."
    if folder == "" then folder = "/" end
    local fd = C.steer_append_open(folder, O_CLOEXEC)
    if fd < 0 then return end -- a folder that may be written but not read
    sync(fd, op, folder)
    C.steer_append_close(fd)
end

local LOCK_SECONDS = 0.2

--- Opens a file for appending and takes its lock, which lasts until it is closed or the process ends.
-- @tparam string op operation for messages
-- @tparam string path "-" is standard output
-- @raise io; a file that another process is appending to is one too
function M.open(op, path)
    if path == "-" then return setmetatable({ fd = 1, op = op, path = "standard output" }, File) end
    local fd = open(op, path, O_CREAT + O_APPEND)
    -- A child of this process holds the locks of files that it closes until it has become another program.
    local locked, patience = C.steer_append_lock(fd, LOCK_EX + LOCK_NB), os.clock() + LOCK_SECONDS
    while locked ~= 0 and ffi.errno() == EAGAIN and os.clock() < patience do
        locked = C.steer_append_lock(fd, LOCK_EX + LOCK_NB)
    end
    -- Some network file systems have no locks: there the file is written without one.
    if locked ~= 0 and ffi.errno() == EAGAIN then
        C.steer_append_close(fd)
        raise("io", op, "%s: another process is writing to it", path)
    end
    sync_folder(op, path)
    return setmetatable({ fd = fd, op = op, path = path }, File)
end

--- Bytes in the file; below 0 for a pipe.
function File:size()
    return tonumber(C.steer_append_seek(self.fd, 0, SEEK_END))
end

--- Cuts the file to its first `bytes` bytes.
function File:cut(bytes)
    if C.steer_append_truncate(self.fd, bytes) ~= 0 then fail(self.op, self.path, "shorten it") end
    sync(self.fd, self.op, self.path)
end

--- Appends text and syncs. If that fails (a full disk), what was written of it is taken off again.
-- @tparam string text
-- @tparam[opt] boolean later text follows soon, with which this one is synced: until then it outlives the process, but
-- not the machine
function File:append(text, later)
    local from, done = self:size(), 0
    local data = ffi.cast("const char *", text)
    while done < #text do
        local n = tonumber(C.steer_append_write(self.fd, data + done, #text - done))
        if n > 0 then
            done = done + n
        elseif ffi.errno() ~= EINTR then
            local message = ffi.string(C.steer_append_strerror(ffi.errno()))
            if from >= 0 then C.steer_append_truncate(self.fd, from) end
            raise("io", self.op, "%s: cannot write: %s", self.path, message)
        end
    end
    self.unsynced = later
    if not later then sync(self.fd, self.op, self.path) end
end

--- Replaces what a file holds.
-- @raise io
function M.write(op, path, text)
    local file = M.open(op, path)
    local ok, err = pcall(function()
        if file:size() > 0 then file:cut(0) end
        file:append(text)
    end)
    file:close()
    if not ok then error(err, 0) end
end

--- Closes the file; standard output stays open.
function File:close()
    if self.unsynced then C.steer_append_sync(self.fd) end
    if self.fd > 1 then C.steer_append_close(self.fd) end
    self.fd = nil
end

return M
