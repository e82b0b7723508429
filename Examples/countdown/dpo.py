"""Tunes the policy on preference pairs of `sla pairs` (DPO, arXiv 2305.18290) and writes it to a GGUF of its own, without a channel:

    python dpo.py pairs.jsonl --gguf countdown.gguf --out dpo.gguf
"""
import argparse
import json
import math
import time

import torch
import torch.nn.functional as F

from model import END, encode, read, write


def load(path):
    """Pairs as (prompt's length, chosen ids, rejected ids); the ids begin with the prompt's and end with the end token."""
    for pair in map(json.loads, open(path)):
        prompt = encode(pair["prompt"])
        yield len(prompt), *(prompt + encode(pair[side]) + [END] for side in ("chosen", "rejected"))


def log_probabilities(policy, pairs):
    """log π(answer | prompt) of the chosen and of the rejected answers, [2, pairs]."""
    rows = [(start, ids) for side in (1, 2) for start, ids in ((pair[0], pair[side]) for pair in pairs)]
    length = max(len(ids) for _, ids in rows)
    ids = torch.tensor([ids + [END] * (length - len(ids)) for _, ids in rows])
    place = torch.arange(1, length)
    counts = torch.stack([(place >= start) & (place < len(answer)) for start, answer in rows])
    states, _ = policy(ids[:, :-1])
    taken = policy.output(states[-1]).log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    return (taken * counts).sum(1).view(2, -1)


def train(policy, pairs, beta, imitation, rate, size, epochs, seed):
    """-log σ(β (Δ - Δ_reference)), Δ the log-probability of the chosen answer less that of the rejected one; and, so that the chosen answers
    do not become less likely together with the rejected ones, `imitation` times the chosen tokens' -log π (arXiv 2404.19733).
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        reference = torch.cat([log_probabilities(policy, pairs[i : i + 500]) for i in range(0, len(pairs), 500)], 1)
    reference = reference[0] - reference[1]
    optimizer = torch.optim.AdamW(policy.parameters(), betas=(0.9, 0.98), weight_decay=0)
    started, done, total = time.time(), 0, epochs * (len(pairs) // size)
    losses = margins = 0.0
    for _ in range(epochs):
        for rows in torch.randperm(len(pairs), generator=generator)[: len(pairs) // size * size].view(-1, size):
            optimizer.param_groups[0]["lr"] = rate * min(1, (done + 1) / (0.1 * total)) * 0.5 * (1 + math.cos(math.pi * done / total))
            chosen, rejected = log_probabilities(policy, [pairs[row] for row in rows])
            margin = beta * (chosen - rejected - reference[rows])
            tokens = sum(len(pairs[row][1]) - pairs[row][0] for row in rows)
            loss = -F.logsigmoid(margin).mean() - imitation * chosen.sum() / tokens
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
            done, losses, margins = done + 1, losses + loss.item(), margins + (margin > 0).float().mean().item()
            if done % 50 == 0:
                print(f"step {done} of {total}  {time.time() - started:.0f} s  loss {losses / 50:.4f}  ordered right {margins / 50:.3f}", flush=True)
                losses = margins = 0.0


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("pairs")
    a.add_argument("--gguf", default="countdown.gguf")
    a.add_argument("--out", default="dpo.gguf")
    a.add_argument("--beta", type=float, default=0.1)
    a.add_argument("--imitation", type=float, default=1.0)
    a.add_argument("--rate", type=float, default=5e-5)
    a.add_argument("--size", type=int, default=64, help="pairs a step")
    a.add_argument("--epochs", type=int, default=1)
    a.add_argument("--seed", type=int, default=5)
    a.add_argument("--threads", type=int, default=1)
    a = a.parse_args()
    torch.set_num_threads(a.threads)
    policy, _, _ = read(a.gguf)
    train(policy, list(load(a.pairs)), a.beta, a.imitation, a.rate, a.size, a.epochs, a.seed)
    write(a.out, policy)
