"""Trains the reward channel of a frozen policy and puts it, with the recommended search settings, into the policy's GGUF:

    python channel.py [--gguf countdown.gguf] [--sidecar PATH]
"""
import argparse
import math
import time

import torch
import torch.nn.functional as F

from model import END, Channel, decode, encode, read, write
from rules import deals, judge
from search import LIMIT

# Chosen with search.py on the dev split; a chunk is a step of the game (`5*7=35;` is six tokens).
SEARCH = {"width": 3, "chunk": 6, "depth": 2, "score": "last", "min_p": 0.1}
LENGTH = 10 + 18  # longer answers are illegal anyway: they are cut


@torch.no_grad()
def branches(policy, prompts, generator, swerve=0.3, width=3, min_p=0.03):
    """One answer to each prompt, as the search makes them: greedy, but a token is now and then one of the next most likely ones."""
    answers = {}
    groups = {}
    for i, p in enumerate(prompts):
        groups.setdefault(len(encode(p)), []).append(i)
    for group in groups.values():
        states, past = policy(torch.tensor([encode(prompts[i]) for i in group]))
        ids = []
        for _ in range(LIMIT):
            p, tokens = policy.output(states[-1][:, -1]).softmax(-1).topk(width)
            allowed = (p >= min_p * p[:, :1]).float()
            allowed[:, 0] = 1
            rank = torch.multinomial(allowed, 1, generator=generator)
            rank[torch.rand(len(group), 1, generator=generator) > swerve] = 0
            ids.append(tokens.gather(1, rank))
            if (torch.cat(ids, 1) == END).any(1).all():
                break
            states, past = policy(ids[-1], past)
        for i, row in zip(group, torch.cat(ids, 1).tolist()):
            answers[i] = row[: row.index(END) + 1] if END in row else row
    return [answers[i] for i in range(len(prompts))]


def answered(policy, games, generator):
    """Prompt and answer as rows of tokens, which tokens are the answer's, and the points (a tenth of them) each answer got."""
    ids = torch.full((len(games), LENGTH), END)
    mask = torch.zeros(len(games), LENGTH, dtype=torch.bool)
    points = torch.zeros(len(games))
    for row, ((prompt, numbers, target), answer) in enumerate(zip(games, branches(policy, [g[0] for g in games], generator))):
        start = len(encode(prompt))
        tokens = (encode(prompt) + answer)[:LENGTH]
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, start : len(tokens)] = True
        if answer[-1] == END:
            points[row] = judge(numbers, target, decode(answer[:-1])) / 10
    return ids, mask, points


def train(policy, games, answers, width, epochs, size, rate, seed):
    """Cross-entropy of every answer token's reward towards the points the answer got: the reward becomes a value, and its last token's a verdict."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    channel = Channel(policy.s, width)
    parts = []
    for _ in range(answers):
        for start in range(0, len(games), 2000):
            ids, mask, points = answered(policy, games[start : start + 2000], generator)
            with torch.no_grad():  # the policy is frozen: its states are computed once; only the answers' are kept
                states = torch.stack([h[mask] for h in policy(ids)[0]], 1)
            parts.append((states, points[:, None].expand_as(mask)[mask]))
    states, labels = (torch.cat(x) for x in zip(*parts))
    print(f"{len(games) * answers} answers, {len(labels)} tokens, {labels.mean() * 10:.2f} points a token", flush=True)
    optimizer = torch.optim.AdamW(channel.parameters(), lr=rate, weight_decay=0.01)
    total, step = epochs * (len(labels) // size), 0
    for epoch in range(epochs):
        losses = 0.0
        for rows in torch.randperm(len(labels), generator=generator)[: len(labels) // size * size].view(-1, size):
            optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / total))
            loss = F.binary_cross_entropy_with_logits(channel(states[rows].unbind(1)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses, step = losses + loss.item(), step + 1
        print(f"epoch {epoch + 1}  loss {losses * size / len(labels):.4f}", flush=True)
    return channel


@torch.no_grad()
def accuracy(policy, channel, games, seed):
    """How often, of two branches from one prompt that got different points, the better one's reward is higher: at their ends and half-way."""
    generator = torch.Generator().manual_seed(seed)
    sides = []
    for _ in range(2):
        ids, mask, points = answered(policy, games, generator)
        rewards = channel(policy(ids)[0])
        first, count = mask.int().argmax(1), mask.sum(1)
        read_at = lambda part: rewards.gather(1, (first + (count * part).long().clamp(min=1) - 1)[:, None])[:, 0]
        sides.append((points, read_at(0.5), read_at(1.0)))
    (p, *left), (q, *right) = sides
    return [((l > r) == (p > q))[p != q].float().mean().item() for l, r in zip(left, right)]


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--gguf", default="countdown.gguf")
    a.add_argument("--out", help="where to write; the same file when not given")
    a.add_argument("--sidecar", help="also write the channel alone, as a side-car GGUF")
    a.add_argument("--games", type=int, default=8000)
    a.add_argument("--answers", type=int, default=4, help="answers to each game")
    a.add_argument("--width", type=int, default=128)
    a.add_argument("--epochs", type=int, default=4)
    a.add_argument("--size", type=int, default=1024, help="tokens a step")
    a.add_argument("--rate", type=float, default=2e-3)
    a.add_argument("--seed", type=int, default=3)
    a.add_argument("--threads", type=int, default=1)
    a = a.parse_args()
    torch.set_num_threads(a.threads)
    policy, _, _ = read(a.gguf)
    started = time.time()
    channel = train(policy, deals("channel", a.games, a.seed), a.answers, a.width, a.epochs, a.size, a.rate, a.seed)
    write(a.out or a.gguf, policy, channel, SEARCH)
    if a.sidecar:
        write(a.sidecar, policy, channel, SEARCH, sidecar=True)
    half, end = accuracy(policy, read(a.out or a.gguf)[1], deals("dev", 2000, a.seed), a.seed)
    print(f"{time.time() - started:.0f} s; pairs ordered right: {half:.3f} half-way, {end:.3f} at the end")
