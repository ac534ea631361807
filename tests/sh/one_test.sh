#!/usr/bin/env bash
# one_test.sh: one.sh runs what it is told to, fails with it, and says so where there is nothing to run; scripts/test starts
# nothing for an option that there is not.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
fail() { printf '%s\n' "$*" "$said" >&2; exit 1; }
# of COMMAND STATUS TEXT ARGUMENT...: what it comes to with these arguments.
of() {
    local status=0 command=$1 wanted=$2 text=$3
    shift 3
    said=$(timeout 60 "$command" "$@" 2>&1) || status=$?
    [ "$status" = "$wanted" ] || fail "$command $*: status $status, expected $wanted"
    case $said in *"$text"*) ;; *) fail "$command $*: expected '$text'" ;; esac
}
expect() { of tests/sh/one.sh "$@"; }

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

of scripts/test 0 "usage: scripts/test" --help
of scripts/test 2 "--bogus: ctest has no such option" --bogus
of scripts/test 2 "--regexp=x: ctest has no such option" -j2 -R one --regexp=x
of scripts/test 2 "usage: scripts/test" -k
