#!/bin/sh
# All of it, in a folder of its own: ./run.sh [FOLDER], with sla on the PATH and the requirements installed. See README.md. A rerun keeps what is
# there, and goes on with what was stopped.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-/tmp/python-model}"
cd "${1:-/tmp/python-model}"
judge="python3 $here/judge.py"
# What the channel's file recommends, chosen on dev.
settings='width=4 chunk=8 depth=1 expand=sample'
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
    for kind in function gap; do python3 "$here/prompts.py" python "$1" $kind "$2"; done >"$1.jsonl"
    made "$1-pairs.jsonl" ||
        sla pairs --model policy.gguf --prompts "$1.jsonl" --judge "$judge" --max-tokens 96 --keep-cut --margin 0.05 --most 3 --out "$1-pairs.jsonl"
}

echo "== the channel"
pairs channel 400
[ -e channel.gguf ] || sla train --model policy.gguf --data channel-pairs.jsonl --truncate --width 128 --epochs 2 --cache-mib 4096 --sla "$settings" --out channel.gguf
[ -e python.gguf ] || sla convert policy.gguf --join-reward channel.gguf --out python.gguf

echo "== on dev"
pairs dev 100
sla eval --model python.gguf --pairs dev-pairs.jsonl
for kind in function gap; do
    python3 "$here/prompts.py" python dev $kind 100 --seed 2 >prompts.jsonl
    sla eval --model python.gguf --prompts prompts.jsonl --judge "$judge" --max-tokens 96 --decoder greedy --decoder sla \
        --decoder 'the paper: sla width=2 chunk=10 depth=2 score=mean min_p=0' --decoder 'sample temperature=0.7' --decoder 'best_of n=8'
done
