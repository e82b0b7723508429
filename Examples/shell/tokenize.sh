#!/usr/bin/env bash
# Shows the tokens of the text on stdin: position, id and text. The first engine's answer becomes the second one's
# requests.
#   printf '3 5 7 2>24\n' | tokenize.sh [ENGINE OPTION...]
set -euo pipefail

jq -Rsc '{type: "tokenize", text: .}' |
    "${SLA:-sla}" serve "$@" |
    jq -c '
        if .type == "error" then "\(.message)\n" | halt_error(1)
        elif .type == "tokens" then
            .tokens | to_entries[] | {type: "detokenize", id: "\(.key)\t\(.value)", tokens: [.value]}
        else empty end' |
    "${SLA:-sla}" serve "$@" |
    jq -r 'select(.type == "text") | "\(.id)\t\(.text | @json)"' |
    sort -n
