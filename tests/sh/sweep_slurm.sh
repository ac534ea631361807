#!/usr/bin/env bash
# sweep_slurm.sh: scripts/slurm_sweep.sh as a job array of a Slurm cluster of this machine alone, started for the test.
set -euo pipefail
root=$(realpath "$(dirname "$0")/../..")
export PATH=$PATH:/usr/sbin STEER=$root/scripts/steer STEER_DEVICE=cpu

skip() {
    echo "skipped: $1"
    exit 77
}
fail() {
    echo "FAILED: $1"
    tail -n 20 "$dir"/*.log
    exit 1
}

for tool in munged slurmctld slurmd sbatch; do
    command -v "$tool" >/dev/null || skip "$tool is not installed (Debian: slurm-wlm, munge)"
done
[ "$(id -u)" = 0 ] || skip "slurmd needs root"

dir=$(mktemp -d)
chmod 755 "$dir" # munge refuses sockets that others cannot reach
pids=()
stop_all() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$dir"
}
trap stop_all EXIT

mkdir "$dir/state" "$dir/spool"
head -c 1024 /dev/urandom >"$dir/munge.key"
chmod 600 "$dir/munge.key"
munged --foreground --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" --pid-file="$dir/munge.pid" \
    --seed-file="$dir/munge.seed" --log-file="$dir/munge.log" >"$dir/munged.log" 2>&1 &
pids+=($!)

port=$((20000 + RANDOM % 10000))
host=$(hostname -s)
cat >"$dir/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
ReturnToService=2
SchedulerParameters=bf_interval=1,sched_interval=1
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=test Nodes=$host Default=YES State=UP
CONF
# Nothing here needs control groups; this plugin starts where there are none too, as in a container.
echo CgroupPlugin=cgroup/v1 >"$dir/cgroup.conf"
export SLURM_CONF=$dir/slurm.conf
slurmctld -D -c >"$dir/slurmctld.log" 2>&1 &
pids+=($!)
slurmd -D >"$dir/slurmd.log" 2>&1 &
pids+=($!)
for _ in {1..300}; do
    if sinfo -h -o %T 2>/dev/null | grep -q idle || ! kill -0 "${pids[2]}" 2>/dev/null; then break; fi
    sleep 0.2
done
sinfo -h -o %T 2>/dev/null | grep -q idle || skip "slurmd does not start here: $(tail -n 3 "$dir/slurmd.log")"

cd "$dir"
cat >grid.lua <<'LUA'
local steer = require "steer"
return steer.sweep{ name = "grid", axes = { "n=[1:7]", "path=[a,b]" }, run = function(case)
    return { x = case.n, random = math.random() }
end }
LUA
"$STEER" sweep grid.lua -q -o whole.jsonl
for _ in 1 2; do # the second time nothing is left to run
    sbatch --wait --array=0-2 "$root/scripts/slurm_sweep.sh" grid.lua || fail "the job array failed"
done
"$STEER" merge -o all.jsonl grid.*of3.jsonl 2>merged.log || fail "steer merge"
cat merged.log
[ "$(cat merged.log)" = "steer merge: 14 cases (14 ok, 0 skipped, 0 failed) -> all.jsonl" ] || fail "not each case once"
results() { grep -o '"metrics":{[^}]*}' "$1"; }
[ "$(results all.jsonl)" = "$(results whole.jsonl)" ] || fail "the numbers differ from those of one process"
