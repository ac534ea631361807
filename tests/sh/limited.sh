#!/usr/bin/env bash
# limited.sh SECONDS COMMAND...: runs a test whose processes may use so much CPU time each, however long a machine that
# has other things to do takes over it.
ulimit -t "$1"
shift
exec "$@"
