#!/usr/bin/env bash
# setup_options.sh: what scripts/setup.sh tells CMake: the environment's options, else those that a build folder has,
# else the defaults. A cmake that prints its arguments takes the place of CMake.
set -euo pipefail
source=$(cd "$(dirname "$0")/../.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/bin" "$folder/build"
# shellcheck disable=SC2016 # the script expands it
printf '#!/bin/sh\necho "$@" >>"%s/calls"\n' "$folder" >"$folder/bin/cmake"
chmod +x "$folder/bin/cmake"

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

# told TESTS WORD... [NAME=VALUE...]: the words stand in what CMake is told.
told() {
    local tests=$1 words=() given=()
    shift
    for word in "$@"; do
        case $word in -D*) words+=("$word") ;; *) given+=("$word") ;; esac
    done
    rm -f "$folder/calls"
    env -u STEER_CUDA -u STEER_WERROR -u STEER_BUILD_TESTS -u STEER_SANITIZE PATH="$folder/bin:$PATH" \
        STEER_BUILD="$folder/build" "${given[@]}" bash -euo pipefail -c \
        "source '$source/scripts/setup.sh'; configure_and_build $tests" >"$folder/output" 2>&1 || fail "$(cat "$folder/output")"
    for word in "${words[@]}"; do
        grep -q -e " $word\( \|$\)" "$folder/calls" || fail "$word is not in: $(cat "$folder/calls")"
    done
}

told OFF -DSTEER_CUDA=AUTO -DSTEER_BUILD_TESTS=OFF -DSTEER_WERROR=OFF -DSTEER_SANITIZE=OFF
told ON -DSTEER_CUDA=OFF -DSTEER_BUILD_TESTS=ON STEER_CUDA=OFF
printf '%s\n' '// a comment' 'STEER_CUDA:STRING=OFF' 'STEER_BUILD_TESTS:BOOL=ON' 'STEER_WERROR:BOOL=ON' \
    'STEER_SANITIZE:BOOL=OFF' >"$folder/build/CMakeCache.txt"
told OFF -DSTEER_CUDA=OFF -DSTEER_BUILD_TESTS=ON -DSTEER_WERROR=ON
grep -q '^STEER_CUDA=OFF: building the CPU runtime' "$folder/output" || fail "$(cat "$folder/output")"
told OFF -DSTEER_CUDA=AUTO -DSTEER_WERROR=OFF STEER_CUDA=AUTO STEER_WERROR=OFF
sed -i 's/STEER_BUILD_TESTS:BOOL=ON/STEER_BUILD_TESTS:BOOL=OFF/' "$folder/build/CMakeCache.txt"
told OFF -DSTEER_BUILD_TESTS=OFF
told ON -DSTEER_BUILD_TESTS=ON
echo "OK: a build keeps its options"
