"""Trains a channel of the built-in model with `sla train` and with PyTorch by the same recipe, and compares the losses of all steps:

    python training_curve.py ../../.build/release/sla data.jsonl [--loss value] [--epochs 3] [--batch 32] [--rate 1e-3] [--width 128]

The data's answers must be token ids for the loss value, or else text. Weights, order and what is held out are drawn as `sla train` draws them;
states are rounded to half precision; everything else is PyTorch's own, in 32 bits.
"""
import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "Examples" / "countdown"))
from model import END, Channel, encode, read  # noqa: E402

MASK = (1 << 64) - 1


class SplitMix64:
    def __init__(self, seed):
        self.state = seed & MASK

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
        return z ^ z >> 31

    def permutation(self, count):
        order = list(range(count))
        for i in range(count - 1, 0, -1):
            j = self.next() * (i + 1) >> 64
            order[i], order[j] = order[j], order[i]
        return order


def load(path):
    """Lines as (prompt, answers as ids with their end, labels)."""
    for line in map(json.loads, path.open()):
        ids = lambda x: encode(x) if isinstance(x, str) else x
        end = lambda x: x if x[-1] == END or line.get("eos") is False else x + [END]
        texts = [line["chosen"], line["rejected"]] if "chosen" in line else [line["completion"]]
        yield ids(line["prompt"]), [end(ids(t)) for t in texts], [1.0, 0.0] if "chosen" in line else [line["label"]]


@torch.no_grad()
def states_of(policy, examples):
    """The states [tokens, layers + 1, width] of every example's answers, one after another."""
    rows = [(prompt + answer, len(prompt)) for prompt, answers, _ in examples for answer in answers]
    length, result = max(len(r) for r, _ in rows), []
    for start in range(0, len(rows), 1000):
        some = rows[start : start + 1000]
        states = torch.stack(policy(torch.tensor([r + [END] * (length - len(r)) for r, _ in some]))[0], 2).half()
        result += [states[i, first : len(r)].clone() for i, (r, first) in enumerate(some)]
    return result


def train(policy, examples, a):
    answers = states_of(policy, examples)
    first = [0]
    for example in examples:
        first.append(first[-1] + len(example[1]))
    prompts = {}
    for prompt, _, _ in examples:
        prompts.setdefault(tuple(prompt), len(prompts))
    held = set(SplitMix64(a.seed ^ 0x0068656C646F7574).permutation(len(prompts))[: max(1, round(0.1 * len(prompts)))])
    training = [i for i, (prompt, _, _) in enumerate(examples) if prompts[tuple(prompt)] not in held]

    channel, random = Channel(policy.s, a.width), SplitMix64(a.seed)
    matrices = [x for pair in zip(channel.norm, channel.blk) for x in pair] + [channel.head]
    with torch.no_grad():
        for w in (m.weight for m in matrices):
            if w.dim() == 2:  # norms begin as ones
                draws = torch.tensor([(random.next() >> 40) * 2.0**-24 for _ in range(w.numel())]).view(w.shape)
                w.copy_((2 * draws - 1) / w.shape[1] ** 0.5)
    groups = [{"params": [m.weight for m in matrices if m.weight.dim() == d], "weight_decay": 0.01 * (d - 1)} for d in (1, 2)]
    optimizer = torch.optim.AdamW(groups, lr=a.rate)
    per_epoch = math.ceil(len(training) / a.batch)
    steps, losses = per_epoch * a.epochs, []
    rising = math.ceil(0.1 * steps)
    for epoch in range(a.epochs):
        order = [training[i] for i in SplitMix64((a.seed + (epoch + 1) * 0xD1B54A32D192ED03) & MASK).permutation(len(training))]
        for start in range(0, len(order), a.batch):
            step, batch = len(losses), order[start : start + a.batch]
            rows = [answers[j] for i in batch for j in range(first[i], first[i + 1])]
            labels = [label for i in batch for label in examples[i][2]]
            rewards = channel(torch.cat(rows).float().unbind(1))[..., 0]
            each = rewards.split([len(r) for r in rows])
            if a.loss == "seqwise_bt":
                means = torch.stack([r.mean() for r in each]).view(-1, 2)
                loss = -F.logsigmoid(means[:, 0] - means[:, 1]).mean()
            else:
                loss = F.binary_cross_entropy_with_logits(rewards, torch.cat([torch.full((len(r),), y) for r, y in zip(each, labels)]))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(channel.parameters(), 1.0)
            rate = (step + 1) / rising if step < rising else 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))
            for group in optimizer.param_groups:
                group["lr"] = a.rate * rate
            optimizer.step()
            losses.append(loss.item())
    return losses


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("sla")
    p.add_argument("data", type=Path)
    p.add_argument("--loss", choices=["seqwise_bt", "value"], default="seqwise_bt")
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--rate", type=float, default=1e-3)
    p.add_argument("--width", type=int, default=128)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options = [f"--{name}={getattr(a, name)}" for name in ("data", "loss", "epochs", "batch", "rate", "width", "seed")]
        subprocess.run([a.sla, "train", *options, "--out", f"{folder}/c.gguf", "--metrics", f"{folder}/m.jsonl"], check=True)
        ours = [line["loss"] for line in map(json.loads, open(f"{folder}/m.jsonl")) if line["type"] == "step"]
    torch.set_num_threads(1)
    policy, _, _ = read(ROOT / "Sources" / "CBuiltin" / "countdown.gguf")
    theirs = train(policy, list(load(a.data)), a)
    assert len(ours) == len(theirs)
    differences = [abs(x - y) for x, y in zip(ours, theirs)]
    for step in sorted({0, len(ours) // 10, len(ours) // 3, len(ours) // 2, len(ours) - 1}):
        print(f"step {step + 1}: sla {ours[step]:.6f}, PyTorch {theirs[step]:.6f}")
    print(f"{len(ours)} steps; largest difference {max(differences):.2g} at step {differences.index(max(differences)) + 1}, "
          f"mean {sum(differences) / len(differences):.2g}")
