"""How well a channel tells half-way what becomes of an answer: python halfway.py countdown.gguf steps.jsonl [countdown.gguf steps.jsonl …].

steps.jsonl are answers of `sla rollouts`. For each number of steps left: the area under the ROC curve, by the channel's outputs behind the
last step, of three things: whether the target can still be reached at all, how often the policy's rollouts end on it, and whether the
answer did.
"""
import json
import sys

import numpy as np
import torch

from model import decode, encode, read
from policy import lines
from rules import left_by
from table import markdown


def area(scores, good, bad):
    """The chance that of one draw from the good and one from the bad the good one has the higher score; weights, ties count half."""
    _, place = np.unique(scores, return_inverse=True)
    good, bad = (np.bincount(place, weight) for weight in (good, bad))
    return float((good * (np.cumsum(bad) - bad / 2)).sum() / (good.sum() * bad.sum()))


def cuts(path):
    """(prompt, answer up to a cut, steps left, target still reachable, share of rollouts that end on it, the answer ended on it)"""
    for line in map(json.loads, open(path)):
        numbers, target = line["prompt"].split(">")
        numbers = [int(n) for n in numbers.split()]
        for step in line["steps"]:
            text = decode(line["completion"][: step["at"]])
            left = left_by(numbers, text.removesuffix(";"))
            steps = len(numbers) - 1 - text.count(";")
            if steps > 0:
                yield line["prompt"], text, steps, left is not None and int(target) in lines(tuple(sorted(left))), step["value"], line["label"] >= 1


@torch.no_grad()
def outputs(policy, channel, rows):
    """What the channel says behind each cut, [cuts, outputs]."""
    said, lengths = [None] * len(rows), {}
    for i, (prompt, text, *_) in enumerate(rows):
        ids = encode(prompt + text)
        lengths.setdefault(len(ids), []).append((i, ids))
    for group in lengths.values():
        states, _ = policy(torch.tensor([ids for _, ids in group]))
        for (i, _), row in zip(group, channel([h[:, -1] for h in states]).numpy()):
            said[i] = row
    return np.stack(said)


if __name__ == "__main__":
    table = [["model", "steps left", "cuts", "reachable", "output", "area: reachable", "area: rollouts", "area: the answer"]]
    for model, path in zip(sys.argv[1::2], sys.argv[2::2]):
        policy, channel, _ = read(model)
        rows = list(cuts(path))
        said = outputs(policy, channel, rows)
        steps, *truths = (np.array(column, float) for column in zip(*(row[2:] for row in rows)))
        for left in (1, 2):
            here = steps == left
            for output, name in zip(said[here].T, "QV"):
                table.append([model, str(left), str(here.sum()), f"{truths[0][here].mean():.3f}", name,
                              *(f"{area(output, truth[here], 1 - truth[here]):.3f}" for truth in truths)])
    markdown(table)
