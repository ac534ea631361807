#!/bin/sh
# build.sh FOLDER JOBS CMAKE_OPTION...: configures and builds this source tree in FOLDER.
set -eu
folder=$1 jobs=$2
shift 2
cmake -S "$(dirname "$0")/../.." -B "$folder" "$@"
cmake --build "$folder" -j "$jobs"
