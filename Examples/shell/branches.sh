#!/usr/bin/env bash
# Shows each chunk that was kept (+) and the candidates that looking ahead dropped for it (-), with their scores.
#   branches.sh [PROMPT [ENGINE OPTION...]]
set -euo pipefail
prompt=${1-$'3 5 7 2>24\n'}

jq -nc --arg prompt "$prompt" '{$prompt, decoder: "sla", include: ["branches"]}' |
    "${SLA:-sla}" serve "${@:2}" |
    jq -rs '
        def rounded: if . then . * 1000 | round / 1000 + 0 else "-" end;
        (.[] | select(.type == "error") | "\(.message)\n" | halt_error(1)),
        (map(select(.type == "token").text) as $text
            | .[] | select(.type == "commit")
            | "+ \(.score | rounded)\t\($text[.from:.to] | add | @json)",
              (.rejected[] | "- \(.score | rounded)\t\(.text | @json)"))'
