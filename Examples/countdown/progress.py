"""The claim of "Rewarding Progress": search by progress against re-ranking by the outcome, at equal evaluated tokens and at equal accuracy.

    python progress.py --model notes.gguf [--split held-out] [--prompts 1000] [--seed 17] [--decoder SETTINGS …]
"""
import argparse
import json
import tempfile

import numpy as np

from rules import deals
from table import Bootstrap, answers, at_cost, markdown, text

RERANKED = [f"best_of n={n} min_p=0.1" for n in (1, 2, 3, 4, 6, 8, 12, 16)]
# Chosen on the split dev, see the README.
SEARCHES = [f"beam {shape} chunk=6 {score}" for shape, score in (
    ("width=1 n=3 min_p=0.1", "score=progress"),
    ("width=2 n=2 min_p=0.1", "score=progress"),
    ("width=2 n=4 min_p=0.1", "score=progress"),
    ("width=2 n=4 min_p=0.1", "score=last"),
    ("width=2 n=4 min_p=0.1", "score=prover"),
    ("width=2 n=4 min_p=0.1", "score=total"),
    ("width=3 n=3 min_p=0.2", "score=progress"),
    ("width=3 n=6 min_p=0.05 expand=sample", "score=progress"),
)]

if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--sla", default="sla")
    a.add_argument("--model", default="notes.gguf")
    a.add_argument("--split", default="held-out")
    a.add_argument("--prompts", type=int, default=1000)
    a.add_argument("--seed", type=int, default=17)
    a.add_argument("--decoder", action="append", help="instead of those chosen")
    a = a.parse_args()
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps({"prompt": prompt}) + "\n" for prompt, _, _ in deals(a.split, a.prompts, a.seed))
        file.flush()
        found = answers(a.sla, ["--model", a.model], ["greedy", *RERANKED, *(a.decoder or SEARCHES)], file.name)
    field = lambda name, key: np.array([line[key] for line in found[name]])
    exact = {name: (field(name, "score") == 10).astype(float) for name in found}
    tokens = {name: field(name, "evaluated_tokens").mean() for name in found}
    line = [(tokens[name], exact[name]) for name in RERANKED]
    bootstrap = Bootstrap(a.prompts)

    print(f"{a.prompts} prompts of the split {a.split}, seed {a.seed}; best_of at the same tokens, and the tokens at which best_of is as exact: a\n"
          "straight line between two n\n")
    rows = [["decoder", "evaluated tokens", "exact", "best_of at the same tokens", "difference", "best_of's tokens for the same, times"]]
    for name in found:
        others = [""] * 3
        if name not in RERANKED:
            same = at_cost(tokens[name], line)
            # Where best_of becomes as exact; it may never.
            costs = np.linspace(line[0][0], line[-1][0], 1000)
            enough = [cost for cost in costs if at_cost(cost, line).mean() >= exact[name].mean()]
            others = [f"{same.mean():.3f}", text(bootstrap.ratio(exact[name] - same)),
                      f"{enough[0] / tokens[name]:.2f}" if enough else f"over {costs[-1] / tokens[name]:.2f}"]
        rows.append([name, f"{tokens[name]:.1f}", text(bootstrap.ratio(exact[name])), *others])
    markdown(rows)
