#!/usr/bin/env bash
# Answers the same prompt greedily and by looking ahead: the answers' scores by the reward channel, and the tokens
# that each evaluated. Both requests run at once, each under its own id.
#   compare.sh [PROMPT [ENGINE OPTION...]]
set -euo pipefail
prompt=${1-$'4 6 8 2>96\n'}

jq -nc --arg prompt "$prompt" '("greedy", "sla") as $id | {$id, $prompt, decoder: $id}' |
    "${SLA:-sla}" serve "${@:2}" |
    jq -rs '
        def rounded: if . then . * 1000 | round / 1000 + 0 else "-" end;
        .[0].search.score as $mode
        | (.[] | select(.type == "error") | "\(.message)\n" | halt_error(1)),
          "decoder\tscore\ttokens\tanswer",
          (group_by(.id)[] | select(.[-1].type == "done")
              | (if $mode == "last" then map(select(.type == "token"))[-1].reward else .[-1].reward end) as $score
              | "\(.[-1].id)\t\($score | rounded)\t\(.[-1].usage.evaluated_tokens)\t\(.[-1].text | @json)")'
