#!/usr/bin/env bash
# sweep_parallel.sh: the README's recipe for GNU parallel runs each case once, one process per device.
set -euo pipefail
root=$(realpath "$(dirname "$0")/../..")
export PATH=$root/scripts:$PATH STEER_DEVICE=cpu
recipe=$(grep -m 1 "^parallel " "$root/README.md" | sed "s/add.lua/grid.lua/")
fail() {
    echo "FAILED: $1"
    exit 1
}

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >grid.lua <<'LUA'
local steer = require "steer"
return steer.sweep{ name = "grid", axes = { "n=[1:7]", "path=[a,b]" }, run = function(case)
    return { x = case.n, random = math.random() }
end }
LUA

expected="steer sweep grid.lua --resume --shard 3/4 --device cuda:2"
eval "${recipe/parallel /parallel --dry-run }" | grep -x "$expected" || fail "the recipe does not say '$expected': $recipe"
# This machine may have no GPU: the same with its CPU.
on_cpu=${recipe/cuda:\{= \$_-- =\}/cpu}
[ "$on_cpu" != "$recipe" ] || fail "the recipe names its devices in another way: $recipe"
for _ in 1 2; do eval "$on_cpu" 2>errors || fail "$(cat errors)"; done
steer merge -o all.jsonl grid.*of4.jsonl 2>merged
cat merged
[ "$(cat merged)" = "steer merge: 14 cases (14 ok, 0 skipped, 0 failed) -> all.jsonl" ] || fail "not each case once"
steer sweep grid.lua -q -o whole.jsonl
results() { grep -o '"metrics":{[^}]*}' "$1"; }
[ "$(results all.jsonl)" = "$(results whole.jsonl)" ] || fail "the numbers differ from those of one process"
