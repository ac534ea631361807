#!/usr/bin/env bash
#SBATCH --job-name=steer-sweep
#SBATCH --output=%x.%A_%a.log
# slurm_sweep.sh: runs a sweep as a Slurm job array, each task one shard.
#
#   sbatch --array=1-8 --gpus-per-task=1 --ntasks=1 scripts/slurm_sweep.sh FILE.lua [OPTIONS of steer sweep]
#   steer merge -o all.jsonl NAME.*of8.jsonl
#
# Submit it from the folder where results should be. A task that is requeued, or submitted again with the same --array,
# goes on where it was. STEER names the command (default: scripts/steer in that folder, else steer on PATH).
set -euo pipefail
if [ -z "${SLURM_ARRAY_TASK_ID:-}" ]; then
    echo "slurm_sweep.sh: this is no task of a job array; submit it with sbatch --array=1-N" >&2
    exit 2
fi
steer=${STEER:-}
if [ -z "$steer" ] && [ -x scripts/steer ]; then steer=scripts/steer; fi
exec "${steer:-steer}" sweep --resume "$@"
