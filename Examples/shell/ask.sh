#!/usr/bin/env bash
# Streams the answer as it is decided.
#   ask.sh [PROMPT [ENGINE OPTION...]]
set -euo pipefail
prompt=${1-$'3 5 7 2>24\n'}

jq -nc --arg prompt "$prompt" '{$prompt}' |
    "${SLA:-sla}" serve "${@:2}" |
    jq -j --unbuffered '
        if .type == "token" then .text
        elif .type == "done" then "\n"
        elif .type == "error" then "\(.message)\n" | halt_error(1)
        else empty end'
