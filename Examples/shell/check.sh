#!/usr/bin/env bash
# Runs every script of this folder as its README prints it, and fails where one answers wrongly.
#   SLA=.build/release/sla Examples/shell/check.sh
set -uo pipefail
here=$(dirname "$0")
failures=0

# expect NAME STATUS PATTERN COMMAND...: the command exits with the status, and a line of its output matches.
expect() {
    local name=$1 status=$2 pattern=$3 output got=0
    output=$("${@:4}" 2>&1) || got=$?
    if [[ $got -eq $status ]] && grep -qE -- "$pattern" <<<"$output"; then
        echo "ok      $name"
    else
        failures=$((failures + 1))
        printf 'FAILED  %s: exit status %d, expected %d and a line like %s\n%s\n' \
            "$name" "$got" "$status" "$pattern" "$output"
    fi
}

step='[0-9]+[-+*/][0-9]+=[0-9]+'
answer="$step;$step;$step"
number='-?[0-9]+(\.[0-9]+)?(e-?[0-9]+)?'
tab=$'\t'

expect 'ask' 0 "^$answer\$" "$here/ask.sh" $'3 5 7 2>24\n'
expect 'ask, three numbers' 0 "^$step;$step\$" "$here/ask.sh" $'4 6 3>27\n'
expect 'ask, default prompt' 0 "^$answer\$" "$here/ask.sh"
expect 'ask, engine options' 0 "^$answer\$" "$here/ask.sh" $'3 5 7 2>24\n' --threads 1
expect 'ask, empty prompt' 1 '.' "$here/ask.sh" ''
expect 'ask, no engine' 127 '.' env SLA=./no-such-engine "$here/ask.sh"
expect 'rewards, numbers' 0 "^$number$tab$number$tab\"[0-9]+\"\$" "$here/rewards.sh"
expect 'rewards, end of answer' 0 "^$number$tab$number$tab\"\"\$" "$here/rewards.sh"
expect 'compare, greedy' 0 "^greedy$tab$number${tab}[0-9]+$tab\"$answer\"\$" "$here/compare.sh"
expect 'compare, sla' 0 "^sla$tab$number${tab}[0-9]+$tab\"$answer\"\$" "$here/compare.sh"
expect 'score' 0 "^$number$tab$number$tab\"7\*3=21;21\+5=26;26-2=24\"\$" "$here/score.sh"
expect 'score, negative' 0 "^$number$tab$number$tab\"-7=1\"\$" "$here/score.sh" $'8 7>1\n' '8-7=1' '-7=1'
expect 'branches, kept' 0 "^\+ $number$tab\"" "$here/branches.sh"
expect 'branches, dropped' 0 "^- $number$tab\"" "$here/branches.sh"
# shellcheck disable=SC2016
expect 'tokenize' 0 "^0${tab}[0-9]+$tab\"12\"\$" bash -c 'printf "12 5>60\n" | "$0"' "$here/tokenize.sh"

exit $((failures > 0))
