--- The terminal through libc: is it one, its size, raw mode, reading bytes; and the names of files.
local ffi = require "ffi"

-- Names of our own, so that declarations at the prompt do not collide with them. A terminal's attributes stay opaque:
-- cfmakeraw does what is needed, and their layout differs between systems.
if not pcall(ffi.typeof, "struct steer_repl_pollfd") then
    ffi.cdef [[
    struct steer_repl_pollfd { int fd; short events; short revents; };
    struct steer_repl_size { unsigned short rows, columns, x, y; };
    struct steer_repl_glob { size_t count; char **paths; size_t rest[30]; };
    int steer_repl_isatty(int fd) __asm__("isatty");
    int steer_repl_get(int fd, void *attributes) __asm__("tcgetattr");
    int steer_repl_set(int fd, int when, const void *attributes) __asm__("tcsetattr");
    void steer_repl_make_raw(void *attributes) __asm__("cfmakeraw");
    int steer_repl_ioctl(int fd, unsigned long request, ...) __asm__("ioctl");
    int steer_repl_poll(struct steer_repl_pollfd *fds, unsigned long count, int timeout) __asm__("poll");
    long steer_repl_read(int fd, void *buffer, size_t size) __asm__("read");
    int steer_repl_raise(int signal) __asm__("raise");
    int steer_repl_mkdir(const char *path, unsigned int mode) __asm__("mkdir");
    int steer_repl_glob(const char *pattern, int flags, void *failed, struct steer_repl_glob *out) __asm__("glob");
    void steer_repl_globfree(struct steer_repl_glob *found) __asm__("globfree");
    ]]
end

local C = ffi.C
local M = {}

-- Linux's values.
local EINTR, TCSADRAIN, TIOCGWINSZ, POLLIN, SIGTSTP, GLOB_MARK = 4, 1, 0x5413, 1, 20, 2

--- Tells whether a file descriptor is a terminal.
function M.is_terminal(fd)
    return C.steer_repl_isatty(fd) == 1
end

--- Tells whether the terminal on standard input and output understands cursor movements.
function M.can_edit()
    local kind = os.getenv("TERM") or ""
    return kind ~= "" and kind ~= "dumb" and M.is_terminal(0) and M.is_terminal(1)
end

--- Tells whether output may be coloured: not to a file, a dumb terminal or a user who sets NO_COLOR.
function M.has_colour()
    return (os.getenv("NO_COLOR") or "") == "" and M.can_edit()
end

local window = ffi.new("struct steer_repl_size")

--- Gives the terminal's columns and rows; 80 by 24 where it does not say.
function M.size()
    if C.steer_repl_ioctl(1, TIOCGWINSZ, window) ~= 0 or window.columns == 0 or window.rows == 0 then return 80, 24 end
    return window.columns, window.rows
end

-- ---- Raw mode: every key is a byte, Ctrl-C too ---------------------------------------------------------------------

local cooked, raw = ffi.new("uint64_t[64]"), ffi.new("uint64_t[64]")

--- Switches to raw mode and asks for pastes to be marked. Output then needs "\r\n".
function M.enter()
    if C.steer_repl_get(0, cooked) ~= 0 then return false end
    ffi.copy(raw, cooked, ffi.sizeof(raw))
    C.steer_repl_make_raw(raw)
    C.steer_repl_set(0, TCSADRAIN, raw)
    io.stdout:write("\27[?2004h")
    io.stdout:flush()
    return true
end

--- Goes back to the mode before enter().
function M.leave()
    io.stdout:write("\27[?2004l")
    io.stdout:flush()
    C.steer_repl_set(0, TCSADRAIN, cooked)
end

--- Stops the process as Ctrl-Z does; returns when it is continued.
function M.suspend()
    M.leave()
    C.steer_repl_raise(SIGTSTP)
    M.enter()
end

local buffer, at, filled = ffi.new("uint8_t[4096]"), 0, 0
local waiting = ffi.new("struct steer_repl_pollfd[1]")

--- Tells whether a byte can be read within `timeout` milliseconds.
function M.ready(timeout)
    if at < filled then return true end
    waiting[0].fd, waiting[0].events = 0, POLLIN
    return C.steer_repl_poll(waiting, 1, timeout) > 0
end

--- Reads a byte, waiting for it; nil when the terminal is gone.
function M.read_byte()
    while at >= filled do
        local count = tonumber(C.steer_repl_read(0, buffer, 4096))
        if count == 0 or count < 0 and ffi.errno() ~= EINTR then return nil end
        at, filled = 0, math.max(count, 0)
    end
    at = at + 1
    return buffer[at - 1]
end

-- ---- Files ---------------------------------------------------------------------------------------------------------

--- Makes a folder and those above it, for this user alone; whether it is there afterwards shows when it is used.
function M.make_folder(path)
    local made = path:sub(1, 1) == "/" and "" or "."
    for part in path:gmatch("[^/]+") do
        made = made .. "/" .. part
        C.steer_repl_mkdir(made, 448) -- 0700
    end
end

--- Lists the files whose names begin with `prefix`, in order; folders end in "/".
function M.files(prefix)
    local found, names = ffi.new("struct steer_repl_glob"), {}
    if C.steer_repl_glob(prefix:gsub("[%[%]*?\\]", "\\%0") .. "*", GLOB_MARK, nil, found) == 0 then
        for i = 0, tonumber(found.count) - 1 do names[i + 1] = ffi.string(found.paths[i]) end
    end
    C.steer_repl_globfree(found)
    return names
end

return M
