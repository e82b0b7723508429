#!/bin/sh
# All of it, in a folder of its own: ./run.sh [FOLDER], with sla on the PATH and the requirements installed. See README.md. A rerun keeps what is
# there, and goes on with what was stopped.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-/tmp/python-model}"
cd "${1:-/tmp/python-model}"
judge="python3 $here/judge.py"
# What the channel's file recommends, chosen on dev.
settings='width=8 chunk=20 depth=0 expand=sample temperature=0.6 first_chunk=2'
# Spares PyTorch page faults.
export MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=4294967296 MALLOC_TOP_PAD_=268435456 TOKENIZERS_PARALLELISM=false

# made FILE: whether it is there and complete
made() {
    [ -e "$1" ] && [ ! -e "$1.progress" ]
}

echo "== the text"
if [ ! -d debian ]; then
    version=3.11.2-6+deb12u9
    apt-get download "libpython3.11-minimal=$version" "libpython3.11-stdlib=$version" "libpython3.11-testsuite=$version" \
        "idle-python3.11=$version" python3-tk=3.11.2-3
    for package in *.deb; do dpkg -x "$package" debian; done
fi
python3 "$here/corpus.py"

echo "== the policy"
mkdir -p python
[ -e python/tokenizer.json ] || python3 "$here/tokenizer.py" python
[ -e python/model.safetensors ] || python3 "$here/policy.py" python
[ -e f32.gguf ] || sla convert python --out f32.gguf
python3 "$here/check.py" python f32.gguf
[ -e policy.gguf ] || sla convert python --out policy.gguf --type q8_0

# pairs SPLIT N: SPLIT.jsonl, N prompts of each kind, and SPLIT-pairs.jsonl, pairs of drawn answers to them
pairs() {
    for kind in function gap docstring; do python3 "$here/prompts.py" python "$1" $kind "$2"; done >"$1.jsonl"
    made "$1-pairs.jsonl" || pairs_of policy.gguf "$1.jsonl" "$1-pairs.jsonl"
}
# pairs_of POLICY PROMPTS OUT
pairs_of() {
    sla pairs --model "$1" --prompts "$2" --judge "$judge" --max-tokens 96 --temperature 0.7 --keep-cut --margin 0.05 --most 3 --out "$3"
}
# channel_of POLICY PAIRS OUT FLAGS…
channel_of() {
    policy=$1 data=$2 out=$3
    shift 3
    sla train --model "$policy" --data "$data" --truncate --epochs 2 --cache-mib 4096 --sla "$settings" --out "$out" "$@"
}

echo "== the channel"
pairs channel 350
[ -e channel.gguf ] || channel_of policy.gguf channel-pairs.jsonl channel.gguf --width 128
[ -e python.gguf ] || sla convert policy.gguf --join-reward channel.gguf --out python.gguf

echo "== a tuned policy, with a channel of its own"
[ -e tuned/model.safetensors ] || python3 "$here/dpo.py" python channel-pairs.jsonl tuned
[ -e tuned-policy.gguf ] || sla convert tuned --out tuned-policy.gguf --type q8_0
made tuned-pairs.jsonl || pairs_of tuned-policy.gguf channel.jsonl tuned-pairs.jsonl
[ -e tuned-channel.gguf ] || channel_of tuned-policy.gguf tuned-pairs.jsonl tuned-channel.gguf --width 128
[ -e tuned.gguf ] || sla convert tuned-policy.gguf --join-reward tuned-channel.gguf --out tuned.gguf

echo "== other channels, for the table"
mkdir -p ablations
# ablation NAME FLAGS…
ablation() {
    out=ablations/$1.gguf
    shift
    [ -e "$out" ] || channel_of policy.gguf channel-pairs.jsonl "$out" "$@"
}
ablation width-16 --width 16
ablation width-128 --width 128
ablation width-192 --width 192
ablation tokenwise --width 128 --loss tokenwise_bt
ablation ce --width 128 --loss seqwise_ce
ablation head-of-2 --width 128 --head-layers 2
ablation head-alone --policy-head-only

echo "== on dev"
pairs dev 100
sla eval --model python.gguf --pairs dev-pairs.jsonl
for kind in function gap; do
    python3 "$here/prompts.py" python dev $kind 100 --seed 2 >prompts.jsonl
    sla eval --model python.gguf --prompts prompts.jsonl --judge "$judge" --max-tokens 96 --decoder greedy --decoder sla \
        --decoder 'the paper: sla width=2 chunk=10 depth=2 score=mean min_p=0' --decoder 'sample temperature=0.7' --decoder 'best_of n=8'
done
