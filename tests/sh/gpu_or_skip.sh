#!/bin/sh
# gpu_or_skip.sh COMMAND...: runs the command where cuda:0 exists; else says why not and exits 77 (skipped).
info=$("$(dirname "$0")/../../scripts/steer" info) || exit 1
if printf '%s\n' "$info" | grep -q '^ *cuda:0 '; then exec "$@"; fi
echo "skipped: there is no cuda:0"
printf '%s\n' "$info" | grep '^ *cuda '
exit 77
