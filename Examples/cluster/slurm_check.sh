#!/usr/bin/env bash
# Answers requests with a Slurm array on a cluster of this machine alone, kills one of its processes, requeues a task, and counts.
#
#   slurm_check.sh FOLDER [COUNT [TASKS]]    # as root; requests (2000), tasks (2)
set -euo pipefail
if [ $# -lt 1 ]; then
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
count=${2:-2000} tasks=${3:-2}
if [ -z "${SLURM_CONF:-}" ]; then exec "$here/slurm-here.sh" "$1/cluster" "$0" "$@"; fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
"$here/requests.py" "$count" >"$folder/requests.jsonl"
"${SLA:-sla}" serve --no-timing --ordered <"$folder/requests.jsonl" >"$folder/alone.jsonl"
rm -rf "$folder/answers"

submit() { sbatch --parsable --array="0-$((tasks - 1))" --output="$folder/task-%a.log" "$here/slurm.sh" "$folder/requests.jsonl" "$folder/answers"; }
# The process that writes the answers of a task, once it does.
writer() {
    until [ -s "$folder/answers/answers.$1.jsonl" ]; do sleep 0.05; done
    for process in /proc/[0-9]*; do
        if { tr '\0' '\n' <"$process/cmdline"; } 2>/dev/null | grep -qxF "$folder/answers/answers.$1.jsonl"; then
            echo "${process#/proc/}"
            return
        fi
    done
    echo "task $1 was done before it could be killed; take more requests" >&2
    exit 1
}
job=$(submit)
# Task 0 fails in the middle of its work: its process is killed, and the task is put into the queue again.
process=$(writer 0)
kill -9 "$process"
echo "task 0's process $process was killed when its file had $(stat -c %s "$folder/answers/answers.0.jsonl") bytes"
while squeue -h -j "${job}_0" -t RUNNING | grep -q .; do sleep 0.2; done
sacct() { scontrol show job "${job}_0" | grep -oE 'JobState=[A-Z]+|ExitCode=[0-9:]+' | tr '\n' ' '; }
echo "task 0: $(sacct)"
scontrol requeue "${job}_0"
# The last task is requeued while it runs: Slurm ends it, and it goes on.
last=$((tasks - 1))
if squeue -h -j "${job}_$last" -t RUNNING | grep -q .; then
    scontrol requeue "${job}_$last"
    echo "task $last was requeued while it ran"
fi
while squeue -h -j "$job" | grep -q .; do sleep 0.5; done
"$here/count.py" "$folder/requests.jsonl" "$folder"/answers/answers.*.jsonl
# Request by request the same bytes as those of one process.
cmp <(grep -hv '"type":"ready"' "$folder"/answers/answers.*.jsonl | sort) <(grep -v '"type":"ready"' "$folder/alone.jsonl" | sort)
echo "the same events as those of one process"
