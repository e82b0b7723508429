#!/usr/bin/env bash
# Answers requests with GNU parallel: parallel.sh REQUESTS FOLDER [flags of sla].
#
# FOLDER gets answers.1.jsonl, answers.2.jsonl, … for every $CHUNK requests (500), by $JOBS processes at a time (the cores), and jobs.log. What was
# interrupted, in whatever way, goes on with the same command: GNU parallel starts what has not ended well, and sla skips what is answered.
# All requests need ids, since each process counts lines of its own.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
requests=$1 folder=$2
shift 2
mkdir -p "$folder"
flags=${*:+$(printf '%q ' "$@")}
# A process for each core, and not a thread of each for each.
parallel --will-cite --pipe -N "${CHUNK:-500}" --jobs "${JOBS:-$(nproc)}" --joblog "$folder/jobs.log" --resume-failed \
    "${SLA:-sla} serve --threads 1 --no-timing --ordered --resume $(printf %q "$folder")/answers.{#}.jsonl $flags" <"$requests"
