"""The prover study of "Rewarding Progress": a channel for each prover, and how well the beam over progress does by it.

    python policy.py --width 64 --layers 3 --steps 600 --seed 3 --out weaker.gguf
    python provers.py --model countdown.gguf --weaker weaker.gguf [--stronger FILE] [--prompts 2000] [--dev 400]

The model has a channel, which the prover that looks ahead goes by. Files are made in --folder, and those that are there are kept.
"""
import argparse
import json
import os
import subprocess
import sys

import numpy as np

from rules import deals
from table import Bootstrap, answers, markdown, text


def provers(a):
    """{name: flags of `sla rollouts`}"""
    found = {"the policy itself": ["--prover", "sample"]}
    for k in (2, 4, 8, 16):
        found[f"best of {k}"] = ["--prover", f"best_of n={k}"]
    if a.weaker:
        found["a weaker policy"] = ["--prover-model", a.weaker, "--prover", "sample"]
    found["look-ahead"] = ["--prover", "sla"]
    if a.stronger:
        found["a stronger policy"] = ["--prover-model", a.stronger, "--prover", "sample"]
    found["best of 4, first pit"] = [*found["best of 4"], "--first-pit", "--rollouts", "4"]
    if a.weaker:
        found["a weaker policy, its answers"] = [*found["a weaker policy"], "--answers-by", "prover"]
    return found


def channel(a, name, flags):
    """A side-car channel by one prover; what `sla rollouts` says of the prover is in its steps."""
    steps, cuts, out = (os.path.join(a.folder, name.replace(" ", "-").replace(",", "") + end) for end in (".jsonl", "-cuts.jsonl", ".gguf"))
    if not os.path.exists(out):
        subprocess.run([a.sla, "rollouts", "--model", a.model, "--prompts", os.path.join(a.folder, "prompts.jsonl"), "--judge", "python3 judge.py",
                        "--full", "10", "--cut", ";", "--samples", "2", "--answers", "sample temperature=2 min_p=0.05", "--max-tokens", "32",
                        "--threads", a.threads, "--out", steps, *(flags if "--rollouts" in flags else ["--rollouts", "1", *flags])], check=True)
        with open(cuts, "w") as file:
            subprocess.run(["python3", "cuts.py", steps], stdout=file, check=True)
        subprocess.run([a.sla, "train", "--model", a.model, "--data", cuts, "--loss", "value", "--width", "128", "--epochs", "4", "--batch", "64",
                        "--rate", "3e-3", "--held-out", "0.02", "--threads", a.threads, "--out", out], check=True)
    values = [(step["value"], step["prover"]) for line in map(json.loads, open(steps)) for step in line["steps"]]
    return out, *np.mean(values, 0)


def write(path, games):
    with open(path, "w") as file:
        file.writelines(json.dumps({"prompt": prompt}) + "\n" for prompt, _, _ in games)
    return path


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--sla", default="sla")
    a.add_argument("--model", default="countdown.gguf")
    a.add_argument("--weaker")
    a.add_argument("--stronger")
    a.add_argument("--folder", default="provers")
    a.add_argument("--prompts", type=int, default=2000)
    a.add_argument("--dev", type=int, default=400)
    a.add_argument("--seed", type=int, default=13)
    a.add_argument("--threads", default="1")
    a.add_argument("--beam", default="beam width=2 n=3 chunk=6 min_p=0.1")
    a = a.parse_args()
    os.makedirs(a.folder, exist_ok=True)
    write(os.path.join(a.folder, "prompts.jsonl"), deals("channel", a.prompts, a.seed))
    dev = write(os.path.join(a.folder, "dev.jsonl"), deals("dev", a.dev, a.seed))
    bootstrap = Bootstrap(a.dev)
    scores = ["last", "progress alpha=1", "progress alpha=3", "prover"]
    rows = [["prover", "policy's value", "prover's value", "score=last", *(f"more with {score}" for score in scores[1:]), "evaluated tokens"]]
    for name, flags in provers(a).items():
        reward, policy, prover = channel(a, name, flags)
        found = answers(a.sla, ["--model", a.model, "--reward", reward, "--threads", a.threads], [f"{a.beam} score={score}" for score in scores], dev)
        base, *others = (np.array([line["score"] == 10 for line in lines], float) for lines in found.values())
        exact = [text(bootstrap.ratio(values)) for values in (base, *(other - base for other in others))]
        tokens = np.mean([line["evaluated_tokens"] for lines in found.values() for line in lines])
        rows.append([name, f"{policy:.3f}", f"{prover:.3f}", *exact, f"{tokens:.1f}"])
        print(f"{name}: {rows[-1][1:]}", file=sys.stderr, flush=True)
    print(f"{a.dev} prompts of the split dev, seed {a.seed}: exact answers of {a.beam}\n")
    markdown(rows)
