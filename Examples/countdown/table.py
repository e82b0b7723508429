"""Prints the paper's table for Countdown: every decoder on held-out prompts, through `sla eval`, each figure with its 95 % interval.

    python table.py [--sla sla] [--split held-out] [--prompts 1000] [--seed 7]

The policy with its channel is countdown.gguf, the paper's own channel paper.gguf, and the tuned policy with its channel dpo.gguf.
"""
import argparse
import json
import os
import subprocess
import tempfile

import numpy as np

from rules import deals, split_of

# Chosen on the split dev, see the README. `sla` alone has the settings that the channel's file recommends.
RUNS = [
    (["--model", "countdown.gguf"], [
        "greedy",
        "sample temperature=0.7",
        "sample top_k=2",
        "sample top_p=0.9",
        "beam width=4",
        "best_of n=1 min_p=0.1",
        "best_of n=2 min_p=0.1",
        "best_of n=3 min_p=0.1",
        "best_of n=4 min_p=0.1",
        "best_of n=6 min_p=0.1",
        "best_of n=8 min_p=0.1",
        "mcts width=3 simulations=4",
        "mcts simulations=16",
        "sla",
        "sla width=3 min_p=0.25",
        "sla width=2 min_p=0.3",
        "sla width=6 expand=sample",
        "progress, depth 0: sla depth=0 score=progress alpha=3",
        "progress, depth 1: sla width=3 depth=1 min_p=0.25 score=progress alpha=3",
        "progress, depth 2: sla score=progress alpha=3",
        "progress, width 2: sla width=2 min_p=0.5 score=progress alpha=3",
    ]),
    (["--model", "countdown.gguf", "--reward", "paper.gguf"], [
        "the paper's channel: sla width=2 chunk=10 depth=2 score=mean min_p=0",
        "the paper's channel, best of 4: best_of n=4 min_p=0.1 score=mean",
    ]),
    (["--model", "dpo.gguf"], [
        "dpo, greedy: greedy",
        "dpo, sla: sla",
        "dpo, sla drawn: sla width=6 expand=sample",
    ]),
]


def answers(program, model, decoders, prompts):
    """What `sla eval` says of each decoder's answers, in the order of the prompts: {decoder: [line]}."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "answers.jsonl")
        subprocess.run([program, "eval", "--prompts", prompts, "--judge", "python3 judge.py", "--max-tokens", "32", "--out", path, *model,
                        *(word for decoder in decoders for word in ("--decoder", decoder))], check=True, stdout=subprocess.DEVNULL)
        lines = [json.loads(line) for line in open(path)]
    found = {}
    for line in lines:
        found.setdefault(line["decoder"], []).append(line)
    return found


class Bootstrap:
    """95 % intervals over the prompts."""

    def __init__(self, count, rounds=2000, seed=0):
        self.weights = np.random.default_rng(seed).multinomial(count, [1 / count] * count, rounds)

    def ratio(self, part, whole=None):
        """Σ part / Σ whole and its interval; a mean without a whole."""
        part = np.asarray(part, float)
        whole = np.ones(len(part)) if whole is None else np.asarray(whole, float)
        if not whole.sum():
            return None
        sums = self.weights @ whole
        draws = (self.weights @ part)[sums > 0] / sums[sums > 0]
        return part.sum() / whole.sum(), *np.quantile(draws, (0.025, 0.975))


def text(estimate, digits=3):
    return "" if estimate is None else "{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(*estimate, d=digits)


def markdown(rows):
    print("\n".join("| " + " | ".join(row) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]]) + "\n", flush=True)


def at_cost(tokens, line):
    """A straight line's value at so many tokens, the line being given by points (tokens, value), sorted, the values arrays."""
    place = min(max(sum(cost <= tokens for cost, _ in line), 1), len(line) - 1)
    (left, below), (right, above) = line[place - 1 : place + 1]
    share = min(max((tokens - left) / (right - left), 0), 1)
    return (1 - share) * below + share * above


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--sla", default="sla")
    a.add_argument("--split", default="held-out")
    a.add_argument("--prompts", type=int, default=1000)
    a.add_argument("--seed", type=int, default=7)
    a.add_argument("--out", help="also write every answer, as JSON Lines")
    a = a.parse_args()
    games = deals(a.split, a.prompts, a.seed)
    # No deal of the splits that policy and channels were trained on.
    assert all(split_of(numbers, target) == a.split for _, numbers, target in games)
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps({"prompt": prompt}) + "\n" for prompt, _, _ in games)
        file.flush()
        found = {}
        for model, decoders in RUNS:
            found |= answers(a.sla, model, decoders, file.name)
    if a.out:
        with open(a.out, "w") as file:
            file.writelines(json.dumps(line) + "\n" for lines in found.values() for line in lines)
    bootstrap = Bootstrap(a.prompts)
    field = lambda name, key: np.array([line[key] for line in found[name]])
    exact = {name: field(name, "score") == 10 for name in found}
    base = field("greedy", "score")

    print(f"{a.prompts} prompts of the split {a.split}, seed {a.seed}; in points against greedy of the frozen policy; equity is won + tied / 2\n")
    rows = [["decoder", "equity", "of the decided won", "exact", "points", "won / tied / lost", "evaluated tokens", "steps before the first token"]]
    for name in found:
        score = field(name, "score")
        won, lost = score > base, score < base
        tied = score == base
        equity, decided, counts = ["", "", ""] if name == "greedy" else [
            f"{(won + tied / 2).mean():.4f}", text(bootstrap.ratio(won, won | lost)), f"{won.sum()} / {tied.sum()} / {lost.sum()}"]
        rows.append([name, equity, decided, text(bootstrap.ratio(exact[name])), text(bootstrap.ratio(score), 2), counts,
                     text(bootstrap.ratio(field(name, "evaluated_tokens")), 1), text(bootstrap.ratio(field(name, "first_token_step")), 1)])
    markdown(rows)

    gain = bootstrap.ratio(exact["sla"], exact["greedy"])
    print(f"sla gives {text(gain)} times greedy's exact answers.\n")
    print("Progress mode against re-ranking by the outcome (best_of) at the same evaluated tokens: exact answers, and the difference. Between\n"
          "two n a straight line.\n")
    tokens = {name: field(name, "evaluated_tokens").mean() for name in found}
    line = sorted(((tokens[name], exact[name]) for name in found if name.startswith("best_of")), key=lambda point: point[0])
    rows = [["progress mode", "evaluated tokens", "exact", "best_of", "difference"]]
    for name in found:
        if not name.startswith("progress"):
            continue
        other = at_cost(tokens[name], line)
        rows.append([name, f"{tokens[name]:.1f}", f"{exact[name].mean():.3f}", f"{other.mean():.3f}", text(bootstrap.ratio(exact[name] - other))])
    markdown(rows)

    frozen = list(found)[: len(RUNS[0][1])]
    for key, title in (("evaluated_tokens", "evaluated tokens"), ("first_token_step", "steps before the first token")):
        print(f"The frontier of exact answers by {title}: the decoders of the frozen policy that none is better than at as little.\n")
        cost = {name: field(name, key).mean() for name in found}
        rows, best = [[title, "exact", "decoder"]], -1
        for name in sorted(frozen, key=lambda name: (cost[name], -exact[name].mean())):
            if exact[name].mean() > best:
                best = exact[name].mean()
                rows.append([f"{cost[name]:.1f}", f"{best:.3f}", name])
        markdown(rows)


if __name__ == "__main__":
    main()
