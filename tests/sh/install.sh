#!/bin/sh
# install.sh BUILD: installs into a fresh prefix, moves it, and uses the command, the Lua package and the C library there.
set -eu
cd "$(dirname "$0")/../.."
build=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
unset STEER_BUILD STEER_LIB STEER_BACKEND_PATH LUA_PATH || true

cmake --install "$build" --prefix "$dir/first" >/dev/null
prefix=$dir/moved
mv "$dir/first" "$prefix"

echo "-- the command, through a link from elsewhere"
mkdir "$dir/bin"
ln -s "$prefix/bin/steer" "$dir/bin/steer"
cat >"$dir/script.lua" <<'LUA'
local steer = require "steer"
local t = steer.tensor.arange(4)
print(arg[0] == (...) and arg[2] == select(2, ...), select("#", ...), t:sum())
LUA
cd /
"$dir/bin/steer" --version
"$dir/bin/steer" info | tee "$dir/info"
grep -q "^library *$prefix/lib.*/libsteer.so" "$dir/info"
test "$("$dir/bin/steer" run "$dir/script.lua" "$dir/script.lua" "two words")" = "true	2	6"

echo "-- a C program, through pkg-config"
cat >"$dir/main.c" <<'C'
#include <steer.h>
#include <stdio.h>
int main(void) {
    steer_device *device;
    if (steer_abi_version() != STEER_ABI_VERSION || steer_device_open(&device, "cpu") != STEER_OK) return 1;
    printf("%s on %s\n", steer_version(), steer_device_id(device));
    steer_device_release(device);
    return steer_device_open(&device, "tpu") == STEER_OK;
}
C
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name steer.pc)")
export PKG_CONFIG_PATH
libdir=$(pkg-config --variable=libdir steer)
# shellcheck disable=SC2046 # the flags are words
cc -Wall -Wextra -Werror "$dir/main.c" -o "$dir/main" $(pkg-config --cflags --libs steer) -Wl,-rpath,"$libdir"
"$dir/main"

echo "-- a CMake project, through find_package"
mkdir "$dir/project"
cat >"$dir/project/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.22)
project(consumer C)
find_package(steer 0.1 REQUIRED)
add_executable(main ../main.c)
target_link_libraries(main PRIVATE steer::steer)
CMAKE
cmake -S "$dir/project" -B "$dir/project/build" -DCMAKE_PREFIX_PATH="$prefix" >/dev/null
cmake --build "$dir/project/build" >/dev/null
"$dir/project/build/main"
