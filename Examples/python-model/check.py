"""Holds sla against the libraries that made the model: python check.py policy policy-f32.gguf.

The tokens of every file against `tokenizers`; log-probabilities of pieces of the dev files against transformers, with weights and cache in
32 bits. Fails when a token differs, or a log-probability by more than 1e-4.
"""
import json
import subprocess
import sys

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from corpus import SPLITS, files

folder, gguf = sys.argv[1:]
tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def ask(requests):
    lines = "".join(json.dumps({"id": i, **request}) + "\n" for i, request in enumerate(requests))
    said = subprocess.run(["sla", "serve", "--model", gguf, "--cache-type", "f32"], input=lines, stdout=subprocess.PIPE, text=True, check=True)
    events = {event["id"]: event for event in map(json.loads, said.stdout.splitlines()) if event["type"] in ("tokens", "score")}
    return [events[i] for i in range(len(requests))]


texts = [text for split in dict.fromkeys(SPLITS) for _, text in files(split)]
ours = ask([{"type": "tokenize", "text": text} for text in texts])
ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
different = sum(event["tokens"] != theirs for event, theirs in zip(ours, ids))
print(f"{len(texts)} files, {sum(map(len, ids))} tokens: {different} files are cut otherwise")

pieces = [tokenizer.encode(text, add_special_tokens=False).ids[:500] for _, text in files("dev")]
pieces = [piece for piece in pieces if len(piece) > 1]
ours = ask([{"type": "score", "prompt": piece[:1], "completion": piece[1:]} for piece in pieces])
worst = 0.0
for event, piece in zip(ours, pieces):
    with torch.no_grad():
        logprobs = model(input_ids=torch.tensor([piece])).logits[0, :-1].log_softmax(-1)
    theirs = logprobs[torch.arange(len(piece) - 1), torch.tensor(piece[1:])].tolist()
    worst = max(worst, *(abs(token["logprob"] - other) for token, other in zip(event["completions"][0]["tokens"], theirs, strict=True)))
print(f"{sum(map(len, pieces)) - len(pieces)} log-probabilities: the largest difference from transformers' is {worst:.1e}")
sys.exit(different > 0 or worst > 1e-4)
