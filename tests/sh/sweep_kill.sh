#!/usr/bin/env bash
# sweep_kill.sh: a sweep that is killed again and again, and stopped with Ctrl-C, ends with each case's line once.
set -euo pipefail
set -m # background jobs get SIGINT's default action, as in a terminal
steer=$(realpath "$(dirname "$0")/../../scripts/steer")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export STEER_DEVICE=cpu
cases=60

cat >sweep.lua <<LUA
local steer = require "steer"
return steer.sweep{ name = "killed", axes = { n = "[1:$cases]" }, run = function(case)
    local began = io.open("began", "a")
    began:write(case.n, "\n")
    began:close()
    local h, until_time = steer.tensor.ones({ 64 }), steer.bench.clock() + 0.02
    repeat h:add_(h, 0) until steer.bench.clock() > until_time
    return { n = case.n, random = math.random(), samples = { us = { 1, 2, 3 } } }
end }
LUA

fail() {
    echo "FAILED: $1"
    exit 1
}

"$steer" sweep sweep.lua -q -o whole.jsonl
rm began
stops=0
for signal in KILL KILL INT KILL KILL INT KILL KILL KILL INT KILL KILL; do
    status=0
    "$steer" sweep sweep.lua -q --resume 2>errors &
    sleep "0.$((RANDOM % 20 + 10))"
    if kill -"$signal" $! 2>/dev/null; then stops=$((stops + 1)); fi
    wait $! || status=$?
    if [ "$status" = 0 ]; then break; fi
    if [ "$signal" = INT ] && [ "$status" != 130 ]; then fail "status $status after Ctrl-C: $(cat errors)"; fi
    # What a kill in the middle of a write leaves; one that came before the header left nothing.
    if [ "$signal" = KILL ] && [ -s killed.jsonl ]; then printf '{"case":{"n":%d' $((RANDOM % cases)) >>killed.jsonl; fi
done
"$steer" sweep sweep.lua -q --resume

lines=$(wc -l <killed.jsonl)
runs=$(wc -l <began)
echo "$stops stops, $runs runs of $cases cases, $lines lines"
[ "$stops" -ge 3 ] || fail "the sweep was stopped $stops times only"
[ "$lines" = $((cases + 1)) ] || fail "expected a header and $cases lines"
[ "$runs" -le $((cases + stops)) ] || fail "cases with a line ran again"
results() { grep -o '"metrics":{[^}]*}' "$1" | sort; }
[ "$(results killed.jsonl)" = "$(results whole.jsonl)" ] || fail "the numbers differ from those of a run that nothing stopped"
"$steer" merge -o merged.jsonl killed.jsonl 2>errors || fail "the results cannot be read: $(cat errors)"
grep -q "^steer merge: $cases cases ($cases ok, 0 skipped, 0 failed)" errors || fail "$(cat errors)"
