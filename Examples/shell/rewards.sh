#!/usr/bin/env bash
# Shows every token of the answer with its reward and log-probability, as it is decided.
#   rewards.sh [PROMPT [ENGINE OPTION...]]
set -euo pipefail
prompt=${1-$'3 5 7 2>24\n'}

printf 'reward\tlogprob\ttoken\n'
jq -nc --arg prompt "$prompt" '{$prompt}' |
    "${SLA:-sla}" serve "${@:2}" |
    jq -r --unbuffered '
        def rounded: if . then . * 1000 | round / 1000 + 0 else "-" end;
        if .type == "token" then "\(.reward | rounded)\t\(.logprob | rounded)\t\(.text | @json)"
        elif .type == "error" then "\(.message)\n" | halt_error(1)
        else empty end'
