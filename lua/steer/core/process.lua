--- Child processes that are talked to by lines, over a pipe to and a pipe from each. In the child these are the file
-- descriptors 3, to read from, and 4, to write to.
local ffi = require "ffi"
local raise = require("steer.core.error").raise

ffi.cdef [[
    struct steer_process_poll { int fd; short events, revents; };
    extern char **steer_process_environment __asm__("environ");
    int steer_process_pipe(int *fds, int flags) __asm__("pipe2");
    int steer_process_control(int fd, int command, ...) __asm__("fcntl");
    int steer_process_close(int fd) __asm__("close");
    intptr_t steer_process_read(int fd, void *data, size_t bytes) __asm__("read");
    intptr_t steer_process_write(int fd, const char *data, size_t bytes) __asm__("write");
    int steer_process_poll(struct steer_process_poll *fds, unsigned long count, int timeout) __asm__("poll");
    int steer_process_actions(void *actions) __asm__("posix_spawn_file_actions_init");
    int steer_process_dup(void *actions, int fd, int as) __asm__("posix_spawn_file_actions_adddup2");
    int steer_process_null(void *actions, int fd, const char *path, int flags, unsigned int mode)
        __asm__("posix_spawn_file_actions_addopen");
    int steer_process_free(void *actions) __asm__("posix_spawn_file_actions_destroy");
    int steer_process_spawn(int *pid, const char *path, const void *actions, const void *attributes,
        const char *const *words, char *const *environment) __asm__("posix_spawn");
    int steer_process_wait(int pid, int *status, int options) __asm__("waitpid");
    int steer_process_kill(int pid, int signal) __asm__("kill");
    intptr_t steer_process_signal(int signal, intptr_t action) __asm__("signal");
    int steer_process_prctl(int option, unsigned long value, ...) __asm__("prctl");
    char *steer_process_strerror(int number) __asm__("strerror");
]]
local C = ffi.C

-- Of Linux, the same on x86-64 and arm64.
local O_CLOEXEC, F_SETFD, F_DUPFD_CLOEXEC, FD_CLOEXEC = 0x80000, 2, 1030, 1
local EINTR, POLLIN, SIGINT, SIGKILL, SIGPIPE, SIG_IGN, PR_SET_PDEATHSIG = 4, 1, 2, 9, 13, 1, 1
local FROM_PARENT, TO_PARENT = 3, 4

local M = {}
local Process = {}
Process.__index = Process

local function fail(op, what, errno)
    raise("io", op, "%s: %s", what, ffi.string(C.steer_process_strerror(errno or ffi.errno())))
end

-- The two ends of a pipe, above the descriptors that a child gets.
local function new_pipe(op)
    local fds = ffi.new("int[2]")
    if C.steer_process_pipe(fds, O_CLOEXEC) ~= 0 then fail(op, "cannot make a pipe") end
    for i = 0, 1 do
        local high = C.steer_process_control(fds[i], F_DUPFD_CLOEXEC, ffi.new("int", TO_PARENT + 1))
        if high < 0 then fail(op, "cannot make a pipe") end
        C.steer_process_close(fds[i])
        fds[i] = high
    end
    return fds[0], fds[1]
end

--- Starts a process of this program.
-- @tparam string op operation for messages
-- @tparam table words what stands behind the program's name
-- @return a process with send, lines, kill and wait
-- @raise io
function M.start(op, words)
    local from_parent, to_child = new_pipe(op)
    local from_child, to_parent = new_pipe(op)
    local actions, argv, pid = ffi.new("uint64_t[64]"), ffi.new("const char *[?]", #words + 2), ffi.new("int[1]")
    argv[0] = "steer"
    for i, word in ipairs(words) do argv[i] = word end
    C.steer_process_actions(actions)
    C.steer_process_null(actions, 0, "/dev/null", 0, 0)
    C.steer_process_dup(actions, from_parent, FROM_PARENT)
    C.steer_process_dup(actions, to_parent, TO_PARENT)
    local errno = C.steer_process_spawn(pid, "/proc/self/exe", actions, nil, argv, C.steer_process_environment)
    C.steer_process_free(actions)
    C.steer_process_close(from_parent)
    C.steer_process_close(to_parent)
    if errno ~= 0 then fail(op, "cannot start a process", errno) end
    return setmetatable({ pid = pid[0], input = to_child, output = from_child, parts = {} }, Process)
end

--- Writing to a process that is gone fails from now on, instead of ending this one.
function M.survive_children() C.steer_process_signal(SIGPIPE, SIG_IGN) end

--- Sends a line; false if the process is gone.
function Process:send(line)
    local text = line .. "\n"
    local data, done = ffi.cast("const char *", text), 0
    while done < #text do
        local n = tonumber(C.steer_process_write(self.input, data + done, #text - done))
        if n < 0 and ffi.errno() ~= EINTR then return false end
        done = done + math.max(n, 0)
    end
    return true
end

local buffer = ffi.new("char[65536]")

--- Reads what is there, once there is something.
-- @treturn table list of whole lines
-- @treturn boolean whether more may come
function Process:lines()
    local n = tonumber(C.steer_process_read(self.output, buffer, 65536))
    if n < 0 and ffi.errno() == EINTR then return {}, true end
    if n <= 0 then return {}, false end
    local text, lines, from = ffi.string(buffer, n), {}, 1
    for stop in text:gmatch "()\n" do
        lines[#lines + 1] = table.concat(self.parts) .. text:sub(from, stop - 1)
        self.parts, from = {}, stop + 1
    end
    if from <= #text then self.parts[#self.parts + 1] = text:sub(from) end -- raw samples make long lines
    return lines, true
end

--- Waits until one of some processes has something to read, or has ended.
-- @tparam table processes list
-- @tparam number milliseconds at most
-- @treturn table those that have
function M.poll(processes, milliseconds)
    local fds, ready = ffi.new("struct steer_process_poll[?]", #processes + 1), {}
    for i, process in ipairs(processes) do fds[i - 1].fd, fds[i - 1].events = process.output, POLLIN end
    if C.steer_process_poll(fds, #processes, milliseconds) > 0 then
        for i, process in ipairs(processes) do
            if fds[i - 1].revents ~= 0 then ready[#ready + 1] = process end
        end
    end
    return ready
end

--- Ends the process and waits for it.
-- @treturn string how it ended: "signal 9" or "status 1"
function Process:stop()
    C.steer_process_kill(self.pid, SIGKILL)
    return self:wait()
end

--- Waits until the process has ended, and closes its pipes.
function Process:wait()
    local status = ffi.new("int[1]")
    while C.steer_process_wait(self.pid, status, 0) < 0 and ffi.errno() == EINTR do end
    C.steer_process_close(self.input)
    C.steer_process_close(self.output)
    local signal = bit.band(status[0], 0x7f)
    return signal ~= 0 and "signal " .. signal or "status " .. bit.band(bit.rshift(status[0], 8), 0xff)
end

--- In a child: leaves Ctrl-C to the parent, ends with it, and gives the two files that lead to it.
-- @return a file to read from, a file to write to
function M.parent()
    C.steer_process_signal(SIGINT, SIG_IGN)
    C.steer_process_prctl(PR_SET_PDEATHSIG, ffi.cast("unsigned long", SIGKILL))
    local input, output = io.open "/proc/self/fd/3", io.open("/proc/self/fd/4", "w")
    for _, fd in ipairs { FROM_PARENT, TO_PARENT } do
        C.steer_process_control(fd, F_SETFD, ffi.new("int", FD_CLOEXEC))
    end
    return input, output
end

return M
