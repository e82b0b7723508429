#!/bin/sh
# From policy.gguf, which policy.py made: countdown.gguf, the policy with its channel; paper.gguf, the paper's own channel for it; dpo.gguf, a
# tuned policy with a channel of its own. Run it here, with sla on the PATH. A rerun keeps the rollouts and the pairs that are
# there, and goes on with those that were stopped.
set -eu
judge='python3 judge.py'

# made FILE: whether it is there and complete
made() {
    [ -e "$1" ] && [ ! -e "$1.progress" ]
}

# channel POLICY NAME PROMPTS: NAME.gguf, the policy with a channel trained on answers to so many prompts
channel() {
    # Answers as the policy gives them, and answers that leave its path as the search does.
    made "$2-usual.jsonl" ||
        sla rollouts --model "$1" --prompts prompts.jsonl --limit "$3" --judge "$judge" --graded --cut ';' --rollouts 1 \
            --out "$2-usual.jsonl"
    made "$2-swerved.jsonl" ||
        sla rollouts --model "$1" --prompts prompts.jsonl --limit "$3" --judge "$judge" --graded --cut ';' --rollouts 1 \
            --samples 2 --answers 'sample temperature=3 min_p=0.05' --out "$2-swerved.jsonl"
    # All learn at the cuts, where the search reads; some at every token.
    cat "$2-usual.jsonl" "$2-swerved.jsonl" >"$2-all.jsonl"
    python3 cuts.py "$2-all.jsonl" >"$2-steps.jsonl"
    head -8000 "$2-usual.jsonl" >>"$2-steps.jsonl"
    sla train --model "$1" --data "$2-steps.jsonl" --loss value --width 256 --epochs 4 --batch 128 --rate 3e-3 --held-out 0.02 \
        --cache-mib 4096 --sla 'width=4 chunk=6 depth=2 score=last min_p=0.1' --out "$2-channel.gguf"
    python3 merge.py "$1" "$2-channel.gguf" "$2.gguf"
}

python3 prompts.py channel 24000 3 >prompts.jsonl
channel policy.gguf countdown 24000

made pairs.jsonl ||
    sla pairs --model countdown.gguf --prompts prompts.jsonl --limit 12000 --judge "$judge" --max-tokens 32 --out pairs.jsonl
sla train --model policy.gguf --data pairs.jsonl --width 128 --sla 'width=2 chunk=10 depth=2 score=mean min_p=0' --out paper.gguf
python3 dpo.py pairs.jsonl --gguf policy.gguf --out tuned.gguf
channel tuned.gguf dpo 12000
