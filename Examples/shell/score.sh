#!/usr/bin/env bash
# Orders answers to a prompt by their score, best first. Nothing is generated. The score is what the search would use:
# the last token's reward or the mean, as the reward channel recommends.
#   score.sh [PROMPT COMPLETION...]
set -euo pipefail
(($#)) || set -- $'3 5 7 2>24\n' '5*7=35;35-2=33;33-3=30' '7*3=21;21+5=26;26-2=24' '3+5=8;8+7=15;15+2=17'

jq -nc '$ARGS.positional | {type: "score", prompt: .[0], completions: .[1:]}' --args -- "$@" |
    "${SLA:-sla}" serve |
    jq -rs '
        def rounded: if . then . * 1000 | round / 1000 + 0 else "-" end;
        .[0].search.score as $mode
        | .[1:][]
        | if .type == "error" then "\(.message)\n" | halt_error(1) else . end
        | "score\tlogprob\tcompletion",
          (.completions
              | map({
                    logprob,
                    text: [.tokens[].text] | add,
                    score: (if $mode == "last" then .tokens[-1].reward else .reward end)})
              | sort_by(.score) | reverse[]
              | "\(.score | rounded)\t\(.logprob | rounded)\t\(.text | @json)")'
