--- Checks a built CUDA module: every symbol resolves without a driver, the entry point is exported, and the code
-- of the promised GPUs is inside. Usage: luajit cuda_module.lua PATH
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
    for _, code in ipairs { "sm_80%.cubin", "sm_90%.cubin", "sm_90%.ptx" } do
        assert(listing:find(code), "no code for " .. code .. " in:\n" .. listing)
    end
    print("code for sm_80 and sm_90, and PTX")
else
    print("cuobjdump is not installed: the GPU code in it is not listed")
end
