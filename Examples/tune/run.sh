#!/bin/sh
# All of it, in a folder of its own: ./run.sh [FOLDER], with sla on the PATH and the requirements installed. See README.md.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-/tmp/tune}"
cd "${1:-/tmp/tune}"
export PYTHONPATH="$here" TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
judge="python3 $here/task.py judge"

python3 "$here/task.py" prompts pairs 3000 >pairs-prompts.jsonl
python3 "$here/task.py" prompts held-out 300 >prompts.jsonl

echo "== a small model"
[ -e policy/config.json ] || python3 "$here/policy.py" policy

echo "== pairs of its answers"
[ -e pairs.jsonl ] || sla pairs --model policy --prompts pairs-prompts.jsonl --judge "$judge" --max-tokens 16 --samples 4 --out pairs.jsonl

echo "== DPO into an adapter"
[ -e adapter/adapter_config.json ] || python3 "$here/dpo.py" policy pairs.jsonl adapter

echo "== a channel on the model with its adapter"
[ -e tuned-pairs.jsonl ] || sla pairs --model policy --lora adapter --prompts pairs-prompts.jsonl --judge "$judge" --max-tokens 16 \
    --samples 4 --out tuned-pairs.jsonl
[ -e channel.gguf ] || sla train --model policy --lora adapter --data tuned-pairs.jsonl --width 64 --batch 32 --epochs 6 --rate 2e-3 --out channel.gguf
[ -e head.gguf ] || sla train --model policy --lora adapter --data tuned-pairs.jsonl --policy-head-only --batch 32 --epochs 6 --rate 2e-3 --out head.gguf

echo "== before"
sla eval --model policy --prompts prompts.jsonl --judge "$judge" --full 1 --max-tokens 16 --decoder greedy --decoder 'sample temperature=1'
echo "== after: the adapter, and look-ahead with the channel"
sla eval --model policy --lora adapter --reward channel.gguf --prompts prompts.jsonl --judge "$judge" --full 1 --max-tokens 16 \
    --decoder greedy --decoder 'sample temperature=1' --decoder 'sla width=4 chunk=2 depth=3 min_p=0.05' --decoder 'best_of n=8 temperature=1'
echo "== the same with the baseline, a head without a channel"
sla eval --model policy --lora adapter --reward head.gguf --prompts prompts.jsonl --judge "$judge" --full 1 --max-tokens 16 \
    --decoder greedy --decoder 'sla width=4 chunk=2 depth=3 min_p=0.05' --decoder 'best_of n=8 temperature=1'

echo "== the authors' way: policy and channel in one directory"
[ -e rewarded/config.json ] || python3 "$here/reward_transformer.py" policy pairs.jsonl rewarded
sla inspect rewarded
sla eval --model rewarded --pairs pairs.jsonl
python3 "$here/reward_transformer.py" --score rewarded pairs.jsonl >theirs.jsonl
python3 "$here/compare.py" rewarded theirs.jsonl
sla eval --model rewarded --prompts prompts.jsonl --judge "$judge" --full 1 --max-tokens 16 \
    --decoder greedy --decoder 'sla width=4 chunk=2 depth=3 min_p=0.05'
