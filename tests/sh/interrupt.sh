#!/usr/bin/env bash
# interrupt.sh: Ctrl-C ends `steer run` with status 130 within a second, whatever the script is doing.
set -euo pipefail
set -m # background jobs get SIGINT's default action, as in a terminal
steer=$(dirname "$0")/../../scripts/steer
load=$(dirname "$0")/load.sh
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0

# check NAME EXPECTED_TEXT [TIMES] < SCRIPT: the script prints "ready" when it is where the signal should hit it. It ends
# after as many signals, not before.
check() {
    local name=$1 expected=$2 times=${3:-1} status=0 start
    cat >"$dir/$name.lua"
    "$steer" run "$dir/$name.lua" >"$dir/out" 2>"$dir/err" &
    local pid=$!
    local slack
    slack=$("$load") # a busy machine may take longer
    for ((i = 0; i < 200 * slack; i++)); do
        if grep -qs ready "$dir/out"; then break; fi
        sleep 0.05
    done
    sleep 0.3 # let the loop compile
    while [ "$times" -gt 1 ]; do
        kill -INT "$pid"
        sleep 1.5
        times=$((times - 1))
    done
    start=$(date +%s%N)
    kill -INT "$pid" || true # it is gone: what it said shows
    wait "$pid" || status=$?
    local ms=$((($(date +%s%N) - start) / 1000000))
    echo "$name: status $status after $ms ms"
    if [ $status != 130 ] || [ $ms -gt $((1500 * slack)) ] || ! grep -q "$expected" "$dir/err"; then
        echo "FAILED: expected status 130 within $((1500 * slack)) ms and '$expected' on standard error, which has:"
        cat "$dir/err"
        failed=1
    fi
}

check calling_the_library 'calling_the_library.lua:5' <<'LUA'
local steer = require "steer"
local t = steer.tensor.ones({16})
print "ready"
while true do
    t:add_(t, 0)
end
LUA

check pure_loop 'interrupted' <<'LUA'
print "ready"
local n = 0
while true do n = (n + 1) % 7 end
LUA

check one_long_call 'interrupted' <<'LUA'
local a = require("steer").tensor.ones({4000, 4000})
print "ready"
while true do a:matmul(a) end
LUA

check generating 'kept [1-9]' <<'LUA'
local lm = require("steer").model "tests/fixtures/demo-model"
print "ready"
local ok, err = pcall(function()
    while true do lm:generate { { prompt = "Once", max_tokens = 480, ignore_eos = true } } end
end)
io.stderr:write("kept ", #lm.last[1].text, " bytes\n")
error(err, 0)
LUA

check caught 'interrupted twice' 2 <<'LUA'
local steer = require "steer"
print "ready"
while true do pcall(steer.tensor.zeros, {10}) end
LUA

exit $failed
