#!/usr/bin/env bash
# one.sh FILE [FILTER]: runs one Lua spec, or the `it`s of it whose names match a Lua pattern, or one C test, as ctest would; what
# it runs is built already. Status 1 where nothing matches, which busted takes for success.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${STEER_BUILD:-$root/build}
die() { printf '%s\n' "$*" >&2; exit 1; }

file=$(realpath -- "$1") filter=${2:-}
export STEER_BUILD=$build STEER_LIB=$build/lib/libsteer.so XDG_CACHE_HOME=$build/cache
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
export STEER_TEST_DEVICE=${STEER_TEST_DEVICE:-cpu}
cd "$root"
[ $# -le 2 ] || die "$1: $# arguments, expected FILE or FILE FILTER; a filter with spaces is one argument, in quotes"

case $file in
"$root"/tests/c/test_*.c | "$root"/tests/fuzz/fuzz_*.c)
    [ -z "$filter" ] || die "$1: a C test runs as a whole, it takes no filter"
    exec "$build/tests/$(basename "$file" .c)"
    ;;
*_spec.lua) ;;
*) die "$1: expected *_spec.lua, tests/c/test_*.c or tests/fuzz/fuzz_*.c" ;;
esac

[ "$STEER_TEST_DEVICE" != cpu ] || export STEER_TEST_ROWS=${STEER_TEST_ROWS:-0.1} # as tests/CMakeLists.txt
export LUA_PATH="$root/lua/?.lua;$root/lua/?/init.lua;$root/tests/lua/?.lua;;"
spec=(luajit "$(command -v busted)") # not --lua=luajit, which splits a filter at spaces
file=${file#"$root/"}
[ -n "$filter" ] || exec "${spec[@]}" "$file"
[ -n "$("${spec[@]}" --list --filter="$filter" "$file")" ] ||
    die "$file: no test matches '$filter', a Lua pattern, of:
$("${spec[@]}" --list "$file")"
exec "${spec[@]}" --filter="$filter" "$file"
