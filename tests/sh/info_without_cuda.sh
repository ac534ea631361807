#!/bin/sh
# info_without_cuda.sh: a runtime without the CUDA module says so and works on the CPU.
set -eu
steer=$(dirname "$0")/../../scripts/steer
unset STEER_LIB STEER_DEVICE STEER_BACKEND_PATH || true
info=$("$steer" info)
printf '%s\n' "$info"
printf '%s\n' "$info" | grep -q "^library *$STEER_BUILD/lib/libsteer.so"
printf '%s\n' "$info" | grep -q '^ *cuda *no device: no module'
script=$(mktemp)
trap 'rm -f "$script"' EXIT
echo 'local T = require("steer").tensor; assert(T.ones({2, 3}):sum() == 6 and T.ones({1}).device == "cpu")' >"$script"
"$steer" run "$script"
