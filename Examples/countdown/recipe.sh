#!/bin/sh
# From countdown.gguf, the policy that policy.py trained, makes: countdown.gguf with its channel, paper.gguf, the paper's own channel for it,
# and dpo.gguf, a tuned policy with a channel of its own. Run it in this folder, with sla on the PATH; a rerun goes on where it was stopped.
set -eu

# channel POLICY OUT: a channel by rollouts. Half the answers go where the search goes and the policy seldom does.
channel() {
    for answers in 'sample' 'sample temperature=3 min_p=0.05'; do
        sla rollouts --model "$1" --prompts prompts.jsonl --judge 'python3 judge.py' --graded --cut ';' --rollouts 1 \
            --answers "$answers" --max-tokens 32 --out "$2.$(echo "$answers" | tr -c 'a-z0-9\n' _).jsonl"
    done
}
