#!/usr/bin/env bash
# sweep_jobs.sh: `steer sweep --jobs` measures what one process measures, into one file, whichever of its processes dies.
set -euo pipefail
set -m # background jobs get SIGINT's default action, as in a terminal
steer=$(realpath "$(dirname "$0")/../../scripts/steer")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export STEER_DEVICE=cpu
cases=40

cat >sweep.lua <<LUA
local steer = require "steer"
return steer.sweep{ name = "jobs", axes = { n = "[1:$cases]" }, run = function(case, ctx)
    local began = io.open("began", "a")
    began:write(case.n, "\n")
    began:close()
    if case.n == 3 then ctx.skip "not three" end
    if case.n == 4 then error "four" end
    local until_time = steer.bench.clock() + 0.06
    repeat ctx.progress(0.5) until steer.bench.clock() > until_time
    local samples = {} -- a line that is longer than a pipe holds
    for i = 1, 8000 do samples[i] = math.random() end
    return { n = case.n, samples = { us = samples }, random = math.random(), draws = steer.tensor.randn({ 3 }):sum() }
end }
LUA

fail() {
    echo "FAILED: $1"
    exit 1
}
results() { grep -o '"key":"[^"]*"\|"metrics":{[^}]*}\|"status":"[^"]*"' "$1" | sort -u; }
workers() { pgrep -P "$1" -f -- --worker || true; }

status=0
"$steer" sweep sweep.lua -q -o whole.jsonl 2>errors || status=$?
[ "$status" = 1 ] || fail "status $status of a sweep with a failed case: $(cat errors)"
"$steer" sweep sweep.lua --jobs 3 -o jobs.jsonl 2>errors || status=$?
grep -q '^jobs 40/40 100%' errors || fail "the progress does not count all: $(cat errors)"
grep -q '^steer sweep: jobs: 38 ok, 1 skipped, 1 failed -> jobs.jsonl' errors || fail "$(cat errors)"
[ "$(results jobs.jsonl)" = "$(results whole.jsonl)" ] || fail "the results differ from those of one process"

# The processes are killed one after another; then the first one is, or gets Ctrl-C.
rm began jobs.jsonl
kills=0 stops=0
for signal in KILL INT KILL none; do
    status=0
    "$steer" sweep sweep.lua -q --jobs 3 --resume 2>errors &
    parent=$!
    for _ in 1 2 3; do
        sleep 0.15
        for worker in $(workers $parent | head -n 1); do
            if kill -KILL "$worker" 2>/dev/null; then kills=$((kills + 1)); fi
        done
    done
    left=$(workers $parent)
    if [ $signal != none ] && kill -$signal $parent 2>/dev/null; then stops=$((stops + 1)); fi
    wait $parent 2>/dev/null || status=$?
    if [ $signal = INT ] && [ $status != 130 ] && [ $status != 1 ]; then fail "status $status after Ctrl-C: $(cat errors)"; fi
    sleep 0.1
    for worker in $left; do
        if [ -e "/proc/$worker" ] && ! grep -q ') Z' "/proc/$worker/stat"; then fail "a process has survived $signal"; fi
    done
done
"$steer" sweep sweep.lua -q --jobs 3 --retry-failed 2>errors || true

lines=$(grep -o '"key":"[^"]*"' jobs.jsonl | sort -u | wc -l)
runs=$(wc -l <began)
echo "$kills kills, $stops stops, $runs runs of $cases cases"
[ "$kills" -ge 2 ] || fail "only $kills processes were killed"
[ "$lines" = "$cases" ] || fail "$lines cases have a line"
[ "$runs" -le $((cases + kills + 3 * stops + 2)) ] || fail "cases with a line ran again"
grep -v '"reason":"its process ended' jobs.jsonl >last.jsonl # a case may have had bad luck twice, and was tried again
[ "$(results last.jsonl)" = "$(results whole.jsonl)" ] || fail "the results differ from those of one process"

# A case that ends its process each time is given up, and it is said how to run it.
cat >crash.lua <<'LUA'
local steer = require "steer"
return steer.sweep { name = "crash", axes = { n = { 1, 2, 3 } }, run = function(case)
    if case.n == 2 then os.execute "kill -KILL $PPID" end
    return { x = case.n }
end }
LUA
"$steer" sweep crash.lua --jobs 2 2>errors || true
grep -q '^  again: steer sweep crash.lua --device cpu --case ' errors || fail "no way to run it again: $(cat errors)"
grep -q '"command":"steer sweep crash.lua.*"reason":"its process ended 2 times' crash.jsonl || fail "$(cat crash.jsonl)"
