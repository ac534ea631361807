-- devices: cpu
-- The declarations that LuaJIT sees are those of the library.
local ffi = require "ffi"

local root = debug.getinfo(1, "S").source:match("^@(.*)tests/lua/[^/]*$")
root = root == "" and "./" or root

describe("the generated declarations", function()
    it("are those of src/steer.h", function()
        local status = os.execute(root .. "scripts/gen_cdef --check")
        assert.is_true(status == 0 or status == true)
    end)

    it("are noticed when stale", function()
        local folder = os.tmpname()
        os.remove(folder)
        assert(os.execute(("mkdir -p %s/scripts %s/src %s/lua/steer/core"):format(folder, folder, folder)))
        for file, to in pairs { ["scripts/gen_cdef"] = "scripts", ["src/*.h"] = "src",
            ["lua/steer/core/cdef.lua"] = "lua/steer/core" } do
            assert(os.execute(("cp %s%s %s/%s/"):format(root, file, folder, to)))
        end
        local function check()
            local pipe = io.popen(folder .. "/scripts/gen_cdef --check 2>&1; echo $?")
            local said = pipe:read "*a"
            pipe:close()
            return said
        end
        local untouched, stale = check(), "lua/steer/core/cdef.lua is stale: run scripts/gen_cdef\n1\n"
        local changes = { ["steer.h"] = { "STEER_MAX_DIMS = 8", "STEER_MAX_DIMS = 9" },
            ["steer_model.h"] = { "int64_t max_tokens;", "int32_t max_tokens;" } }
        local said = {}
        for name, change in pairs(changes) do
            local header = assert(io.open(root .. "src/" .. name)):read "*a"
            local changed, count = header:gsub(change[1], change[2])
            assert(count > 0, name .. " has no " .. change[1])
            local file = assert(io.open(folder .. "/src/" .. name, "w"))
            file:write(changed)
            file:close()
            said[name] = check()
            assert(os.execute(("cp %ssrc/%s %s/src/"):format(root, name, folder)))
        end
        os.execute("rm -r " .. folder)
        assert.equal("0\n", untouched)
        assert.same({ ["steer.h"] = stale, ["steer_model.h"] = stale }, said)
    end)

    it("stand beside a comment for every function", function()
        local before, count = "", 0
        for line in io.lines(root .. "src/steer.h") do
            local name = line:match "^[%w_][%w_ ]-[ *](steer_[%w_]+)%("
            if name then
                local said = before:find "%*/$" and not before:find "^%a[^/]*;" or line:find "/%*"
                assert(said or name:find "_retain$" or name:find "_release$", name .. " has no comment in src/steer.h")
                count = count + 1
            end
            before = line
        end
        assert.is_true(count > 80, count)
    end)

    it("load once, whatever is loaded again", function()
        local c = require "steer.core.c"
        package.loaded["steer.core.c"] = nil
        local again = require "steer.core.c"
        assert.equal(c.C.steer_abi_version(), again.C.steer_abi_version())
        package.loaded["steer.core.c"] = c
    end)

    it("agree with the library on every descriptor", function()
        local C = require("steer.core.c").C
        local text = require "steer.core.cdef"
        local seen = 0
        for name in text:gmatch("typedef struct ([%w_]+) {%s*uint32_t struct_size") do
            assert.equal(ffi.sizeof(name), tonumber(C.steer_sizeof(name)), name)
            seen = seen + 1
        end
        assert.is_true(seen >= 9)
        assert.equal(0, tonumber(C.steer_sizeof("steer_nothing")))
    end)

    it("name the status codes as the errors do", function()
        local C = require("steer.core.c").C
        local codes = {
            "invalid_argument", "shape_mismatch", "dtype_mismatch", "device_mismatch", "out_of_memory", "not_found",
            "io", "format", "unsupported", "closed", "interrupted", "no_effect", "device",
        }
        for i, name in ipairs(codes) do
            assert.equal(name, ffi.string(C.steer_status_name(-i)))
            assert.equal(-i, tonumber(C["STEER_E_" .. name:upper()]))
        end
    end)

    it("are refused when the library cannot be loaded", function()
        local script = ([[STEER_LIB=/nonexistent/libsteer.so luajit -e 'package.path = "%slua/?.lua;%slua/?/init.lua"
            local ok, err = pcall(require, "steer.core.c") io.write(tostring(err))' 2>&1]]):format(root, root)
        local text = io.popen(script):read("*a")
        assert.truthy(text:find("not_found: library_load: STEER_LIB: cannot load /nonexistent/libsteer.so", 1, true),
            text)
    end)
end)
