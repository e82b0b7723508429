#!/usr/bin/env bash
#SBATCH --job-name=sla
#SBATCH --array=0-3
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@60
# Answers requests with a Slurm array: sbatch [--array=0-N] slurm.sh REQUESTS FOLDER [flags of sla].
#
# Task i takes every line whose number is i modulo the number of tasks, and writes FOLDER/answers.i.jsonl. A task that a node's end, a requeue or
# its time limit breaks off goes on where it was, requeued by Slurm, or by itself when its time runs out. All requests need ids.
set -uo pipefail
requests=$1 folder=$2
shift 2
mkdir -p "$folder"
task=$SLURM_ARRAY_TASK_ID
awk -v count="$SLURM_ARRAY_TASK_COUNT" -v first="$SLURM_ARRAY_TASK_MIN" -v task="$task" 'NR % count == (task - first) % count' "$requests" |
    "${SLA:-sla}" serve --threads "${SLURM_CPUS_PER_TASK:-1}" --no-timing --ordered --resume "$folder/answers.$task.jsonl" "$@" &
answering=$!
# A minute before its time is over: what is answered is kept, the rest is for another turn.
trap 'kill -TERM "$answering" 2>/dev/null' TERM
wait "$answering"
status=$?
# The trap ended the wait.
[ $status -gt 128 ] && kill -0 "$answering" 2>/dev/null && { wait "$answering"; status=$?; }
if [ $status -eq 130 ]; then scontrol requeue "${SLURM_ARRAY_JOB_ID}_$task"; fi
exit $status
