"""What PyTorch's autograd and AdamW make of a small reward channel: training.json, for Tests/Training/PyTorchTests.swift.

    python make_training.py
"""
import json
from pathlib import Path

import torch
import torch.nn.functional as F

LAYERS, POLICY, WIDTH, EPSILON = 2, 6, 5, 1e-5
LENGTHS = [3, 5, 1, 4]  # chosen and rejected answers of two pairs, or four graded answers
LABELS = [1.0, 0.0, 0.25, 0.75]
STEPS = {0: [(2, 0.5, 1.0)], 3: [(1, 0.25, 0.75), (3, 0.125, 0.5)]}  # of graded answers: end, value, prover
torch.set_default_dtype(torch.float64)


def shapes(hidden, outputs, width):
    """The parameters in the order of the channel's file; without a channel those of the head."""
    for i in range(LAYERS if width else 0):
        columns = POLICY + (width if i else 0)
        yield [columns]
        yield [width, columns]
    columns = POLICY + width
    for rows in [*hidden, outputs]:
        yield [rows, columns]
        columns = rows


def rewards(parameters, states, width):
    """states [tokens, layers + 1, policy] to the head's outputs [tokens, outputs]."""
    r, parameters = None, list(parameters)
    for i in range(LAYERS if width else 0):
        x = states[:, i] if r is None else torch.cat((states[:, i], r), -1)
        y = F.silu(F.linear(F.rms_norm(x, (x.shape[-1],), parameters[2 * i], EPSILON), parameters[2 * i + 1]))
        r = y if r is None else r + y
    x = states[:, LAYERS] if r is None else torch.cat((states[:, LAYERS], r), -1)
    for w in parameters[2 * LAYERS if width else 0 : -1]:
        x = F.silu(F.linear(x, w))
    return F.linear(x, parameters[-1])


def loss_of(name, outputs, pairs):
    answers = outputs.split(LENGTHS)
    s = [a[:, 0] for a in answers]
    if name == "seqwise_bt":
        return -F.logsigmoid(torch.stack([s[0].mean() - s[1].mean(), s[2].mean() - s[3].mean()])).mean()
    if name == "tokenwise_bt":
        losses = []
        for c, r in ((s[0], s[1]), (s[2], s[3])):
            n = max(len(c), len(r))
            c, r = (torch.cat((x, x[-1:].expand(n - len(x)))) for x in (c, r))
            losses.append(-F.logsigmoid(c - r).mean())
        return torch.stack(losses).mean()
    if name == "seqwise_ce":
        return F.binary_cross_entropy(torch.stack([x.sigmoid().mean() for x in s]), torch.tensor(LABELS))
    if name == "tokenwise_ce" and pairs:
        # The authors' ck_loss: all chosen tokens of the batch, all rejected ones, and the mean of the two.
        chosen, rejected = torch.cat(s[0::2]), torch.cat(s[1::2])
        return (-F.logsigmoid(chosen).mean() - F.logsigmoid(-rejected).mean()) / 2
    if name == "tokenwise_ce":
        return F.binary_cross_entropy_with_logits(torch.cat(s), torch.cat([torch.full_like(x, y) for x, y in zip(s, LABELS)]))
    values, provers = [], []
    for i, (a, label) in enumerate(zip(answers, LABELS)):
        start, steps = 0, STEPS.get(i, [])
        for end, value, prover in steps + [(len(a), label, label if steps else None)]:
            values.append((a[start:end, 0], value))
            if prover is not None and a.shape[1] > 1:
                provers.append((a[start:end, 1], prover))
            start = end
    return sum(F.binary_cross_entropy_with_logits(torch.cat([x for x, _ in part]), torch.cat([torch.full_like(x, y) for x, y in part]))
               for part in (values, provers) if part)


def case(name, hidden, outputs, generator, pairs=False, width=WIDTH):
    # Numbers that 32-bit weights and 16-bit states hold exactly.
    draw = lambda *shape: torch.randint(-128, 129, shape, generator=generator) / 64
    parameters = [(1 + draw(*s) / 8 if len(s) == 1 else draw(*s) / 2).requires_grad_() for s in shapes(hidden, outputs, width)]
    states = draw(sum(LENGTHS), LAYERS + 1, POLICY)
    flat = lambda tensors: [float(f"{x:.8g}") for t in tensors for x in t.detach().flatten().tolist()]
    result = {"loss": name, "pairs": pairs, "width": width, "hidden": hidden, "outputs": outputs, "weights": flat(parameters), "states": states.flatten().tolist()}
    optimizer = torch.optim.AdamW([{"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
                                   {"params": [p for p in parameters if p.dim() == 2], "weight_decay": 0.1}], lr=0.01)
    losses = []
    for step in range(20):
        loss = loss_of(name, rewards(parameters, states, width), pairs)
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            result["gradient"] = flat(p.grad for p in parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
    return result | {"losses": losses, "trained": flat(parameters)}


if __name__ == "__main__":
    generator = torch.Generator().manual_seed(1)
    cases = [case(name, hidden, 2 if name == "value" else 1, generator, pairs=name.endswith("_bt"))
             for name in ("seqwise_bt", "tokenwise_bt", "seqwise_ce", "tokenwise_ce", "value") for hidden in ([], [5])]
    cases += [case("tokenwise_ce", hidden, 1, generator, pairs=True) for hidden in ([], [5])]
    cases += [case("seqwise_bt", hidden, 1, generator, pairs=True, width=0) for hidden in ([], [5])]
    fixture = {"layers": LAYERS, "policy": POLICY, "lengths": LENGTHS, "labels": LABELS,
               "steps": {i: [{"end": e, "value": v, "prover": p} for e, v, p in s] for i, s in STEPS.items()}, "cases": cases}
    (Path(__file__).parent / "training.json").write_text(json.dumps(fixture) + "\n")
