--- Checks a built CUDA module: every symbol resolves without a driver, the entry point is exported, and the code
-- of the GPUs that it was built for is inside. Usage: luajit cuda_module.lua PATH 80-real 90-real 90-virtual ...
local ffi = require "ffi"
ffi.cdef "void *dlopen(const char *path, int flags); void *dlsym(void *handle, const char *name); char *dlerror(void);"
local RTLD_NOW = 2
local path = arg[1]

local module = ffi.C.dlopen(path, RTLD_NOW)
if module == nil then error(ffi.string(ffi.C.dlerror()), 0) end
assert(ffi.C.dlsym(module, "steer_backend_entry") ~= nil, "steer_backend_entry is not exported")
print(path .. ": loads, with its entry point")

local cuobjdump = io.popen("cuobjdump --version 2>/dev/null"):read("*a")
if cuobjdump ~= "" then
    local listing = io.popen(("cuobjdump --list-elf --list-ptx '%s'"):format(path)):read("*a")
    for i = 2, #arg do
        local number, kind = arg[i]:match("^(%w+)%-(%a+)$")
        local code = ("sm_%s.%s"):format(assert(number, arg[i]), kind == "real" and "cubin" or "ptx")
        assert(listing:find(code, 1, true), "no code for " .. code .. " in:\n" .. listing)
        print("code for " .. code)
    end
else
    print("cuobjdump is not installed: the GPU code in it is not listed")
end
