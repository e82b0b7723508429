#!/bin/sh
# From policy.gguf, which policy.py made: countdown.gguf, the policy with its channel; paper.gguf, the paper's own channel for it; dpo.gguf, a
# tuned policy with a channel of its own. Run it here, with sla on the PATH. A rerun keeps the rollouts and the pairs that are
# there, and goes on with those that were stopped.
# `./recipe.sh notes` makes notes.gguf instead: that policy, taller and taught what its numbers still reach, with a channel of whole successes.
set -eu
judge='python3 judge.py'

# made FILE: whether it is there and complete
made() {
    [ -e "$1" ] && [ ! -e "$1.progress" ]
}

# channel POLICY NAME PROMPTS [FLAGS]: NAME.gguf, the policy with a channel trained on answers to so many prompts; the flags are of `sla rollouts`
channel() {
    policy=$1 name=$2 prompts=$3
    shift 3
    # Answers as the policy gives them, and answers that leave its path as the search does.
    made "$name-usual.jsonl" ||
        sla rollouts --model "$policy" --prompts prompts.jsonl --limit "$prompts" --judge "$judge" --cut ';' --rollouts 1 "$@" \
            --out "$name-usual.jsonl"
    made "$name-swerved.jsonl" ||
        sla rollouts --model "$policy" --prompts prompts.jsonl --limit "$prompts" --judge "$judge" --cut ';' --rollouts 1 "$@" \
            --samples 2 --answers 'sample temperature=3 min_p=0.05' --out "$name-swerved.jsonl"
    # All learn at the cuts, where the search reads; some at every token.
    cat "$name-usual.jsonl" "$name-swerved.jsonl" >"$name-all.jsonl"
    python3 cuts.py "$name-all.jsonl" >"$name-steps.jsonl"
    head -8000 "$name-usual.jsonl" >>"$name-steps.jsonl"
    sla train --model "$policy" --data "$name-steps.jsonl" --loss value --width 256 --epochs 4 --batch 128 --rate 3e-3 --held-out 0.02 \
        --cache-mib 4096 --sla 'width=4 chunk=6 depth=2 score=last min_p=0.1' --out "$name-channel.gguf"
    python3 merge.py "$policy" "$name-channel.gguf" "$name.gguf"
}

if [ "${1-}" = notes ]; then
    [ -e noted.gguf ] || python3 policy.py --from policy.gguf --layers 7 --notes 0.3 --steps 3600 --rate 1e-3 --seed 2 --out noted.gguf
    python3 prompts.py channel 4000 3 >prompts.jsonl
    channel noted.gguf notes 4000
    exit
fi

python3 prompts.py channel 24000 3 >prompts.jsonl

channel policy.gguf countdown 24000 --graded

made pairs.jsonl ||
    sla pairs --model countdown.gguf --prompts prompts.jsonl --limit 12000 --judge "$judge" --max-tokens 32 --out pairs.jsonl
sla train --model policy.gguf --data pairs.jsonl --width 128 --sla 'width=2 chunk=10 depth=2 score=mean min_p=0' --out paper.gguf
python3 dpo.py pairs.jsonl --gguf policy.gguf --out tuned.gguf
channel tuned.gguf dpo 12000 --graded
