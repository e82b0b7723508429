#!/usr/bin/env bash
# Answers the same prompt greedily and by looking ahead, and shows how many tokens each evaluated for it.
# Both requests run at once, each under its own id.
#   compare.sh [PROMPT [ENGINE OPTION...]]
set -euo pipefail
prompt=${1-$'3 5 7 2>24\n'}

jq -nc --arg prompt "$prompt" '("greedy", "sla") as $id | {$id, $prompt, decoder: $id}' |
    "${SLA:-sla}" serve "${@:2}" |
    jq -rs '
        def rounded: if . then . * 1000 | round / 1000 else "-" end;
        (.[] | select(.type == "error") | "\(.message)\n" | halt_error(1)),
        "decoder\treward\ttokens\tanswer",
        (map(select(.type == "done")) | sort_by(.id)[]
            | "\(.id)\t\(.reward | rounded)\t\(.usage.evaluated_tokens)\t\(.text | @json)")'
