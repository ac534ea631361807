#!/usr/bin/env bash
# interrupt_start.sh: Ctrl-C ends every command with status 130 and without a traceback while it is still being loaded.
set -euo pipefail
set -m # background jobs get SIGINT's default action, as in a terminal
steer=$(realpath "$(dirname "$0")/../../scripts/steer")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export STEER_DEVICE=cpu
echo 'local steer = require "steer"; local h = steer.tensor.ones{8}; while true do h:add_(h, 0) end' >loop.lua
cat >loops.lua <<'LUA'
local steer = require "steer"
return steer.sweep{ name = "loops", axes = { n = "[1:2]" }, run = function()
    local h = steer.tensor.ones{8}
    while true do h:add_(h, 0) end
end }
LUA

for command in "run loop.lua" "sweep loops.lua -q -o /dev/null" "-e while(true)do(require'steer').devices()end"; do
    read -ra words <<<"$command"
    for ((ms = 4; ms < 100; ms += 6)); do
        status=0
        "$steer" "${words[@]}" >out 2>err &
        sleep "0.$(printf %03d $ms)"
        kill -INT $!
        wait $! || status=$?
        if [ "$status" != 130 ] || grep -q 'interrupted!' err; then
            echo "FAILED: steer $command: status $status after Ctrl-C at $ms ms: $(cat err)"
            exit 1
        fi
    done
    echo "steer $command: 130"
done
