#!/usr/bin/env bash
# one_test.sh: one.sh runs what it is told to, fails with it, and says so where there is nothing to run.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
fail() { printf '%s\n' "$*" "$said" >&2; exit 1; }
# expect STATUS TEXT ARGUMENT...: what one.sh comes to with these arguments.
expect() {
    local status=0 wanted=$1 text=$2
    shift 2
    said=$(tests/sh/one.sh "$@" 2>&1) || status=$?
    [ "$status" = "$wanted" ] || fail "one.sh $*: status $status, expected $wanted"
    case $said in *"$text"*) ;; *) fail "one.sh $*: expected '$text'" ;; esac
}

cat >"$folder/two_spec.lua" <<'SPEC'
describe("one of two", function()
    it("holds", function() assert.is_true(true) end)
    it("fails", function() assert.is_true(false) end)
end)
SPEC
expect 1 "1 success / 1 failure" "$folder/two_spec.lua"
expect 0 "1 success / 0 failures" "$folder/two_spec.lua" "of two holds"
expect 1 "0 successes / 1 failure" "$folder/two_spec.lua" "fails"
expect 1 "no test matches 'neither'" "$folder/two_spec.lua" "neither"
expect 1 "one of two holds" "$folder/two_spec.lua" "neither" # what there is
expect 0 "" tests/c/test_json.c
expect 1 "takes no filter" tests/c/test_json.c "name"
expect 1 "expected *_spec.lua" tests/sh/one.sh
expect 1 "3 arguments, expected FILE or FILE FILTER" tests/lua/names_spec.lua suggestion only
