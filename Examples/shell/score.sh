#!/usr/bin/env bash
# Orders answers to a prompt by their reward, best first. Nothing is generated.
#   score.sh [PROMPT COMPLETION...]
set -euo pipefail
(($#)) || set -- $'3 5 7 2>24\n' '5*7=35;35-2=33;33-3=30' '3*7=21;21+5=26;26-2=24' '3*5=15;15+7=22;22+2=24'

jq -nc '$ARGS.positional | {type: "score", prompt: .[0], completions: .[1:]}' --args -- "$@" |
    "${SLA:-sla}" serve |
    jq -r '
        def rounded: if . then . * 1000 | round / 1000 else "-" end;
        if .type == "error" then "\(.message)\n" | halt_error(1)
        elif .type == "score" then
            "reward\tlogprob\tcompletion",
            (.completions | sort_by(.reward) | reverse[]
                | "\(.reward | rounded)\t\(.logprob | rounded)\t\([.tokens[].text] | add | @json)")
        else empty end'
