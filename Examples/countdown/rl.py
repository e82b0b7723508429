"""Reinforcement learning with progress rewards ("Rewarding Progress", arXiv 2410.08146): PyTorch has the gradients, `sla` draws and values answers.

    python rl.py train runs/outcome-1 --alpha 0 --seed 1      # outcome rewards alone
    python rl.py train runs/progress-1 --alpha 10 --seed 1    # outcome + α · A^μ of each step
    python rl.py report runs/* --svg rl.svg                   # on held-out prompts: accuracy by samples, Pass@N, hard prompts

All runs begin with --start, a policy with a channel whose output 1 is V^μ, the chance of a prover; the two stay as they are and value the answers
of all policies. A run that was stopped goes on with the same command and comes to the same end; with more --samples it goes on too.
"""
import argparse
import json
import os
import subprocess
import time
from itertools import groupby
from math import comb
from pathlib import Path

import gguf
import numpy as np
import torch

from model import END, decode, encode, read, stored, write
from rules import deals, judge
from table import Bootstrap, markdown, text

LIMIT = 32  # tokens an answer may have; a legal one has 18 at most
STEP = ord(";")


# ---- What the engine does

def ask(program, model, requests, kind):
    """The events of one kind with which `sla` answers, those of the first request first."""
    lines = "".join(json.dumps(request | {"id": i}) + "\n" for i, request in enumerate(requests))
    said = subprocess.run([program, "serve", "--threads", "1", "--no-timing", *model], input=lines, text=True, stdout=subprocess.PIPE, check=True)
    events = [json.loads(line) for line in said.stdout.splitlines() if line.startswith((f'{{"type":"{kind}"', '{"type":"error"'))]
    for event in events:
        if event["type"] == "error":
            raise SystemExit(f"sla: {event['message']}")
    return sorted(events, key=lambda event: event["id"])


def answers(program, path, prompts, seed=None):
    """The tokens of an answer to each prompt: the likeliest ones, or with a seed drawn ones, the i-th answer with `seed` + i."""
    how = lambda i: {"decoder": "greedy"} if seed is None else {"decoder": "sample", "seed": seed + i}
    tokens = ask(program, ["--model", path], [{"prompt": prompt, "max_tokens": LIMIT} | how(i) for i, prompt in enumerate(prompts)], "token")
    return [[token["token"] for token in answer] for _, answer in groupby(tokens, key=lambda token: token["id"])]


def verdicts(program, model, prompts, drawn):
    """V^μ behind each prompt and behind each token of its answer, and log π of these tokens, by the start and its channel."""
    # The prompt's last token is scored too, so that V^μ behind the prompt is told.
    requests = [{"type": "score", "prompt": prompt[:-1], "completion": encode(prompt[-1]) + ids} for prompt, ids in zip(prompts, drawn)]
    for event in ask(program, model, requests, "score"):
        tokens = event["completions"][0]["tokens"]
        yield [1 / (1 + np.exp(-token["reward"])) for token in tokens], [token["logprob"] for token in tokens[1:]]


def points(game, ids):
    """The answer's share of the game's points."""
    _, numbers, target = game
    return judge(numbers, target, decode([token for token in ids if token != END])) / 10


def write_prover(path, channel):
    """The channel as a side-car whose reward is output 1."""
    w, (width, inputs) = gguf.GGUFWriter(path, "llama"), channel.blk[0].weight.shape
    for key, value in (("general.type", "adapter"), ("adapter.type", "reward")):
        w.add_string(key, value)
    for key, value in (("width", width), ("outputs", 1), ("block_count", len(channel.blk)), ("embedding_length", inputs)):
        w.add_uint32(f"reward.{key}", value)
    for name, p in channel.named_parameters():
        part, *rest = name.split(".")
        name = f"blk.{rest[0]}.norm.weight" if part == "norm" else name
        w.add_tensor(f"reward.{name}", stored(p[1:2] if part == "head" else p))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


# ---- Training

def returns(shares, drawn, values, steps, alpha, credit):
    """Outcome + α · A^μ for each step of each answer to a prompt, [answers, steps]."""
    out = np.empty((len(drawn), steps))
    for row, (share, ids, value) in enumerate(zip(shares, drawn, values)):
        ends = [at + 1 for at, token in enumerate(ids) if token == STEP][: steps - 1]
        v = [value[0], *(value[end] for end in ends)]
        v = np.array(v + [share] * (steps + 1 - len(v)))  # how a finished answer ends is known
        out[row] = (share == 1) + alpha * (np.diff(v) if credit == "step" else v[-1] - v[:-1])
    return out


def advantages(games, drawn, values, shares, alpha, credit):
    """For each token of each answer, its step's return less the mean of the group's other answers at this step: [answers, LIMIT]."""
    out, group = np.zeros((len(drawn), LIMIT)), len(drawn) // len(games)
    for first, (_, numbers, _) in zip(range(0, len(drawn), group), games):
        rows, steps = slice(first, first + group), len(numbers) - 1
        gain = returns(shares[rows], drawn[rows], values[rows], steps, alpha, credit)
        gain = (gain - gain.mean(0)) * group / (group - 1)
        for row, ids in enumerate(drawn[rows]):
            step = np.cumsum([0] + [token == STEP for token in ids[:-1]]).clip(max=steps - 1)
            out[first + row, : len(ids)] = gain[row, step]
    return out


def loss_of(policy, prompts, drawn, advantage, reference, kl):
    """REINFORCE, - advantage · log π, and kl / 2 · (log π - log π_start)², whose gradient is that of the KL divergence from the start; both
    summed over an answer's tokens. Also the entropy of a token and the divergence of an answer, as the draws estimate them.
    """
    rows = [encode(prompt) + ids for prompt, ids in zip(prompts, drawn)]
    length = max(map(len, rows))
    ids = torch.tensor([row + [END] * (length - len(row)) for row in rows])
    learn = torch.tensor([[len(row) - len(answer) <= at < len(row) for at in range(length)] for row, answer in zip(rows, drawn)])
    weight = torch.tensor([gain for row, answer in zip(advantage, drawn) for gain in row[: len(answer)]], dtype=torch.float32)
    states, _ = policy(ids[:, :-1])
    taken = policy.output(states[-1][learn[:, 1:]]).log_softmax(-1).gather(-1, ids[learn][:, None])[:, 0]
    drift = taken - torch.tensor([logprob for logprobs in reference for logprob in logprobs])
    loss = (kl / 2 * drift.square() - weight * taken).sum() / len(rows)
    return loss, -taken.mean().item(), drift.sum().item() / len(rows)


def train(a):
    torch.set_num_threads(1)
    policy, channel, _ = read(a.start)
    if channel is None or channel.head.out_features < 2:
        raise SystemExit(f"{a.start} has no channel of two outputs, the second of which is V^μ; recipe.sh makes one")
    a.out.mkdir(parents=True, exist_ok=True)
    settings = json.dumps({key: value for key, value in vars(a).items() if key not in ("command", "out", "samples", "sla")})
    config, log, state, current, prover = (a.out / name for name in ("config.json", "log.jsonl", "state.pt", "current.gguf", "prover.gguf"))
    if config.exists() and config.read_text() != settings:
        raise SystemExit(f"{a.out} is a run with other settings: {config.read_text()}")
    config.write_text(settings)
    write_prover(prover, channel)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=a.rate, betas=(0.9, 0.98), weight_decay=0)
    games, lines = deals("channel", -(-a.samples // a.group), a.seed), []
    if state.exists():
        saved = torch.load(state)
        policy.load_state_dict(saved["policy"])
        optimizer.load_state_dict(saved["optimizer"])
        lines = saved["lines"]
    done, before = (lines[-1]["samples"], lines[-1]["seconds"]) if lines else (0, 0)
    if not lines:
        write(a.out / "0000000.gguf", policy)
    started = time.time() - before
    while done < a.samples:
        turn = games[done // a.group :][: a.prompts]
        each = [game for game in turn for _ in range(a.group)]
        prompts = [prompt for prompt, _, _ in each]
        write(current, policy)
        drawn = answers(a.sla, current, prompts, a.seed * 10**8 + done)
        values, reference = zip(*verdicts(a.sla, ["--model", a.start, "--reward", prover], prompts, drawn))
        shares = np.array([points(game, ids) for game, ids in zip(each, drawn)])
        loss, entropy, drift = loss_of(policy, prompts, drawn, advantages(turn, drawn, values, shares, a.alpha, a.credit), reference, a.kl)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        done += len(drawn)
        lines.append(dict(samples=done, seconds=round(time.time() - started, 1), exact=float((shares == 1).mean()), points=float(10 * shares.mean()),
                          entropy=entropy, kl=drift))
        print(a.out, " ".join(f"{key} {value:.6g}" for key, value in lines[-1].items()), flush=True)
        if done % a.every == 0 or done >= a.samples:
            write(a.out / f"{done:07}.gguf", policy)
            torch.save(dict(policy=policy.state_dict(), optimizer=optimizer.state_dict(), lines=lines), f"{state}.new")
            os.replace(f"{state}.new", state)
            log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    current.unlink(missing_ok=True)


# ---- Report

def exact(a, path, games, draws=0, label=""):
    """Which answers are exact, [prompts, draws], or of the greedy answers with 0. It is kept beside the model: a report goes on where it was."""
    kept = path.with_suffix(f".{a.split}-{a.seed}-{len(games)}{label}-{draws}.npy")
    if not kept.exists():
        each = [game for game in games for _ in range(draws or 1)]
        found = answers(a.sla, path, [prompt for prompt, _, _ in each], a.seed * 10**8 if draws else None)
        np.save(kept, np.array([points(game, ids) == 1 for game, ids in zip(each, found)]).reshape(len(games), draws or 1))
    return np.load(kept)


def passed(found, n):
    """Pass@n of each prompt: the chance that n of its draws, taken without putting back, have an exact one."""
    draws = found.shape[1]
    return np.array([1 - comb(draws - right, n) / comb(draws, n) for right in found.sum(1).tolist()])


def reach(samples, curve, level):
    """The samples at which a curve first comes to a level, on straight lines between its points; None if it does not."""
    for (left, low), (right, high) in zip(zip(samples, curve), zip(samples[1:], curve[1:])):
        if low < level <= high:
            return left + (right - left) * (level - low) / (high - low)


def draw_curves(path, samples, curves, passes):
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "rl", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    for axis, (title, arms) in zip(axes, curves.items()):
        for color, (arm, runs) in enumerate(arms.items()):
            axis.plot(samples, 100 * np.mean(runs, (0, 2)), color=f"C{color}", label=arm)
            for run in runs:
                axis.plot(samples, 100 * run.mean(1), color=f"C{color}", linewidth=0.6, alpha=0.5)
        axis.set(title=f"exact answers, {title}, %", xlabel="samples")
    for color, (arm, values) in zip(("gray", "C0", "C1", "C2", "C3"), passes.items()):
        axes[2].plot(list(values), [100 * value for value in values.values()], color=color, label=arm)
    axes[2].set(title="Pass@N, %", xlabel="N", xscale="log", xticks=list(values), xticklabels=list(values))
    axes[2].minorticks_off()
    for axis in axes[0], axes[2]:
        axis.legend(frameon=False, loc="lower right")
    figure.savefig(path, metadata={"Date": None})


def report(a):
    games, paths = deals(a.split, a.prompts, a.seed), {}
    for run in a.runs:
        alpha = json.loads((run / "config.json").read_text())["alpha"]
        arm = f"outcome + {alpha:g} A" if alpha else "outcome alone"
        paths.setdefault(arm, []).append({int(path.stem): path for path in run.glob("[0-9]*.gguf")})
    # As far as all runs have come. All begin with the same policy.
    samples = sorted(set.intersection(*(set(run) for runs in paths.values() for run in runs)))
    start = next(iter(paths.values()))[0][0]
    bootstrap = Bootstrap(a.prompts)
    print(f"{a.prompts} prompts of the split {a.split}, seed {a.seed}; means over the runs, with 95 % intervals over the prompts\n")
    curves = {}  # [runs, samples, prompts] of each arm
    for title, draws in (("drawn", a.draws), ("greedy", 0)):
        curves[title] = {arm: np.array([[exact(a, run[at] if at else start, games, draws).mean(1) for at in samples] for run in runs])
                         for arm, runs in paths.items()}
        means = {arm: runs.mean(0) for arm, runs in curves[title].items()}
        base, *others = means
        rows = [[f"exact, {title}, after samples", *(word for arm in means for word in (arm, "each run")), *(f"{arm} less {base}" for arm in others)]]
        for row, at in enumerate(samples):
            rows.append([str(at), *(word for arm, runs in curves[title].items() for word in
                                    (text(bootstrap.ratio(means[arm][row])), ", ".join(f"{run[row].mean():.3f}" for run in runs))),
                         *(text(bootstrap.ratio(means[arm][row] - means[base][row])) for arm in others)])
        markdown(rows)
        level = means[base].mean(1).max()
        need = {arm: reach(samples, runs.mean(1), level) for arm, runs in means.items()}
        said = [f"{arm} {f'after {at:.0f} samples' if at else 'never'}" for arm, at in need.items()]
        print(f"The best of {base}, {level:.3f}, is reached by {', '.join(said)}.\n")

    first = exact(a, start, games, a.passes)
    hard = [game for game, right in zip(games, first.any(1)) if not right]
    last = lambda games, label="": {arm: [exact(a, run[samples[-1]], games, a.passes, label) for run in runs] for arm, runs in paths.items()}
    wide = {"start": [first[: a.wide]]} | last(games[: a.wide])
    counts = [2**i for i in range(a.passes.bit_length())]
    passes = {arm: {n: np.mean([passed(run, n).mean() for run in runs]) for n in counts} for arm, runs in wide.items()}
    markdown([[f"Pass@N of {min(a.wide, a.prompts)} of the prompts", *map(str, counts)],
              *([arm, *(f"{value:.3f}" for value in values.values())] for arm, values in passes.items())])
    solved = [f"{arm} {', '.join(str(run.any(1).sum()) for run in runs)}" for arm, runs in last(hard, "hard").items()]
    print(f"{a.passes} draws of the start solve all but {len(hard)} of the {a.prompts} prompts. Of these as many draws of a run's last policy solve: "
          + "; ".join(solved) + ".")
    if a.svg:
        draw_curves(a.svg, samples, curves, passes)


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--sla", default="sla")
    commands = a.add_subparsers(dest="command", required=True)
    t = commands.add_parser("train", help="one run")
    t.add_argument("out", type=Path, help="the folder of the run")
    t.add_argument("--start", default="countdown.gguf")
    t.add_argument("--alpha", type=float, default=0, help="weight of the progress A^μ; 0: outcome rewards alone")
    t.add_argument("--credit", choices=("step", "to-go"), default="step", help="its progress counts for a step's tokens, or for those before too")
    t.add_argument("--kl", type=float, default=0.01, help="weight of the KL divergence from the start")
    t.add_argument("--rate", type=float, default=3e-4)
    t.add_argument("--prompts", type=int, default=32, help="of an update")
    t.add_argument("--group", type=int, default=8, help="answers to a prompt, two or more")
    t.add_argument("--samples", type=int, default=6144, help="answers in all")
    t.add_argument("--every", type=int, default=1536, help="samples between two policies that are kept")
    t.add_argument("--seed", type=int, default=1)
    r = commands.add_parser("report", help="measures and draws finished runs")
    r.add_argument("runs", type=Path, nargs="+")
    r.add_argument("--split", default="held-out")
    r.add_argument("--prompts", type=int, default=500)
    r.add_argument("--seed", type=int, default=23)
    r.add_argument("--draws", type=int, default=2, help="answers drawn to each prompt, beside the greedy one")
    r.add_argument("--wide", type=int, default=120, help="prompts for Pass@N")
    r.add_argument("--passes", type=int, default=64, help="draws for Pass@N")
    r.add_argument("--svg", help="where the curves go")
    a = a.parse_args()
    {"train": train, "report": report}[a.command](a)
