"""Trains the policy on transcripts of games and writes it to a GGUF: python policy.py [--out PATH] [--steps N].

With --from it goes on from a policy that is there; with --notes it learns after every step what can still be reached.
"""
import argparse
import functools
import math
import random
import time

import torch
import torch.nn.functional as F

from model import END, Policy, Shape, decode, encode, linear, number, number_id, read, taller, write
from rules import deal_from, moves, reached

LENGTH = 10 + 18 + 1  # the longest prompt, the longest answer with its end token, the note behind it
FAR = 11  # what a note behind a step says when nothing within 10 of the target can be reached any more
SILENT = -1  # where there is no such note


@functools.cache
def lines(numbers):
    """How many lines of play end in each value: {value: lines}. numbers is a sorted tuple."""
    if len(numbers) == 1:
        return {numbers[0]: 1}
    count = {}
    for _, rest in steps(numbers):
        for value, ways in lines(rest).items():
            count[value] = count.get(value, 0) + ways
    return count


@functools.cache
def steps(numbers):
    """The legal steps from a sorted tuple of numbers: (tokens, sorted numbers after it).

    Sums and products are written with the smaller number first. The rules allow both orders; this one lets the first token of a step,
    where the search branches, say already what kind of step it is.
    """
    out = []
    for text, rest in moves(list(numbers)):
        a, op, b, *equals = encode(text)
        out.append(((b, op, a, *equals) if chr(op) in "+*" else (a, op, b, *equals), tuple(sorted(rest))))
    return out


def transcript(rng):
    """One game as tokens, which of them are worth imitating, and the notes behind its steps.

    The policy must be honest before it is good: trained on solutions alone it learns to copy the target behind the last `=`, right or
    wrong, and no reward channel can then tell right from wrong. So a game starts with some random steps, whose choices are not
    imitated but whose results are, and goes on with a line, out of all those that come nearest to the target, drawn evenly. The note
    behind the end token, how far off the result is (`x` when a rule was broken), makes the policy work out how good an answer is. It
    is never shown: an answer ends at its end token.

    The note behind a step, at its result and its `;`, is how near the target the best end is that the numbers left still have. It is no
    token.
    """
    prompt, numbers, target = deal_from("policy", rng)
    left = tuple(sorted(numbers))
    wander = rng.choices((0, 1, 2, 3), (50, 25, 15, 10))[0]
    slip = rng.randrange(len(left) - 1) if rng.random() < 0.08 else None  # this step breaks a rule; nothing is imitated in such a game
    ids = encode(prompt)
    learn = [False] * len(ids)
    notes = [SILENT] * len(ids)
    for turn in range(len(left) - 1):
        wrong = rng.choice(("number", "result")) if turn == slip else None
        if wrong == "number":
            other = rng.randint(1, 13)
            left = swapped(left, left[rng.randrange(len(left))], other)
        imitate = turn >= wander and slip is None
        choices = steps(left)
        if imitate:
            value = min(lines(left), key=lambda v: (abs(v - target), v))
            step, after = rng.choices(choices, [lines(rest).get(value, 0) for _, rest in choices])[0]
        else:
            step, after = rng.choice(choices)
        if wrong == "result":
            result = number(step[-1])
            other = max(1, result + rng.choice((-10, -3, -2, -1, 1, 2, 3, 10)))
            step, after = step[:-1] + (number_id(other),), swapped(after, result, other)
        ids += [*step, ord(";") if len(after) > 1 else END]
        learn += [imitate] * 3 + [True, wrong != "result", True]  # number, sign, number; `=`, result; `;` or the end
        left = after
        broken = slip is not None and turn >= slip
        note = SILENT if len(left) == 1 else FAR if broken else min(FAR, min(abs(v - target) for v in lines(left)))
        notes += [SILENT] * 4 + [note] * 2
    value = reached(numbers, decode(ids[ids.index(ord("\n")) + 1 : -1]))
    ids.append(ord("x") if value is None else number_id(abs(value - target)))
    return ids, learn + [True], notes + [SILENT]


def swapped(numbers, old, new):
    at = numbers.index(old)
    return tuple(sorted(numbers[:at] + (new,) + numbers[at + 1 :]))


def batch(rng, size):
    """Inputs [size, LENGTH - 1], the tokens that follow them, which of those to learn, and the notes that are due at the inputs."""
    ids = torch.full((size, LENGTH), END)
    learn = torch.zeros(size, LENGTH, dtype=torch.bool)
    due = torch.full((size, LENGTH), SILENT)
    for row in range(size):
        tokens, mask, notes = transcript(rng)
        ids[row, : len(tokens)] = torch.tensor(tokens)
        learn[row, : len(tokens)] = torch.tensor(mask)
        due[row, : len(tokens)] = torch.tensor(notes)
    return ids[:, :-1], ids[:, 1:], learn[:, 1:], due[:, :-1]


class Muon(torch.optim.Optimizer):
    """torch.optim.Muon in float32, for processors without instructions for bfloat16."""

    def __init__(self, matrices, weight_decay, momentum):
        super().__init__(matrices, {"lr": 0, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                mean.lerp_(p.grad, 1 - group["momentum"])
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(orthogonal(p.grad.lerp(mean, group["momentum"])), alpha=group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)


def orthogonal(matrix):
    """About the nearest matrix whose singular values are alike: five steps of Newton and Schulz, with Muon's coefficients."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.T if tall else x


def train(policy, size, rate, seed, count, noted):
    """count steps of size transcripts, none of them seen twice; the rate warms up, then falls along half a cosine.

    Muon for the blocks' matrices, AdamW for the rest. The notes behind steps, weighed with `noted`, are read by a head that is thrown away: what
    they ask for has to be in the states, where a channel finds it.
    """
    rng = random.Random(seed)
    head = linear(policy.s.width, FAR + 1)
    torch.nn.init.zeros_(head.weight)
    matrix = lambda name, p: name.startswith("blk") and p.dim() == 2
    matrices = [p for name, p in policy.named_parameters() if matrix(name, p)]
    others = [p for name, p in policy.named_parameters() if not matrix(name, p)]
    # Without instructions for it, bfloat16 is far slower than float32.
    narrow = torch.cpu.get_capabilities().get("avx512_bf16", False)
    optimizers = {10 * rate: (torch.optim.Muon if narrow else Muon)(matrices, weight_decay=0.01, momentum=0.95),
                  rate: torch.optim.AdamW([*others, head.weight], betas=(0.9, 0.98), weight_decay=0.01)}
    started, running = time.time(), None
    for step in range(count):
        schedule = min(1, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / count)))
        inputs, targets, learn, due = batch(rng, size)
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            states, _ = policy(inputs)
            logits = policy.output(states[-1][learn])
            notes = head(states[-1][due != SILENT])
        losses = torch.stack((F.cross_entropy(logits.float(), targets[learn]), F.cross_entropy(notes.float(), due[due != SILENT])))
        (losses[0] + noted * losses[1]).backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        for peak, optimizer in optimizers.items():
            optimizer.param_groups[0]["lr"] = peak * schedule
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        running = losses.detach() if running is None else 0.98 * running + 0.02 * losses.detach()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}  {time.time() - started:.0f} s  loss {running[0]:.4f}" + f"  notes {running[1]:.4f}" * (noted > 0), flush=True)
    return policy


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--out", default="countdown.gguf")
    a.add_argument("--from", dest="start", help="a GGUF whose policy goes on learning, with its own width")
    a.add_argument("--width", type=int, default=128, help="of the states, in heads of 32")
    a.add_argument("--layers", type=int, default=5, help="with --from more than the file has are put on top")
    a.add_argument("--notes", type=float, default=0, help="weight of the notes behind steps")
    a.add_argument("--steps", type=int, default=4500)
    a.add_argument("--size", type=int, default=128, help="transcripts a step")
    a.add_argument("--rate", type=float, default=2e-3)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--threads", type=int, default=1)
    a = a.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    heads = a.width // 32
    policy = taller(read(a.start)[0], a.layers) if a.start else Policy(
        Shape(width=a.width, layers=a.layers, heads=heads, kv_heads=heads // 2, feed_forward=a.width * 5 // 2))
    write(a.out, train(policy, a.size, a.rate, a.seed, a.steps, a.notes))
