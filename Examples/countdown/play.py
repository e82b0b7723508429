"""Plays Countdown with the real program over JSON Lines, greedy against looking ahead, on held-out deals.

    python play.py [--sla .build/release/sla] [--prompts 1000] [-- ARGUMENTS FOR sla]

The split, the seed and the judge are the recipe's own (rules.py); the search settings are those the model's file recommends.
"""
import argparse
import json
import random
import subprocess

from rules import deals, judge


def answers(program, prompts, decoder):
    """The `done` events of one session that asks for all prompts at once."""
    requests = [{"type": "generate", "id": i, "prompt": p, "decoder": decoder, "max_tokens": 32} for i, p in enumerate(prompts)]
    lines = "".join(json.dumps(r) + "\n" for r in requests)
    output = subprocess.run(program, input=lines, stdout=subprocess.PIPE, text=True, check=True).stdout
    events = [json.loads(line) for line in output.splitlines()]
    for e in events:
        if e["type"] == "error":
            raise SystemExit(f"sla: {e['message']}")
    done = {e["id"]: e for e in events if e["type"] == "done"}
    return [done[i] for i in range(len(prompts))]


def share(won, lost):
    return won / max(1, won + lost)


def interval(differences, rng, rounds=2000):
    """95 % bootstrap interval, over prompts, of the share of decided prompts that are won."""
    draws = sorted(share(sum(d > 0 for d in s), sum(d < 0 for d in s))
                   for s in (rng.choices(differences, k=len(differences)) for _ in range(rounds)))
    return draws[rounds * 25 // 1000], draws[rounds * 975 // 1000]


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--sla", default=".build/release/sla")
    a.add_argument("--prompts", type=int, default=1000)
    a.add_argument("--split", default="held-out")
    a.add_argument("--seed", type=int, default=4)
    a.add_argument("arguments", nargs="*")
    a = a.parse_args()
    games = deals(a.split, a.prompts, a.seed)
    points = {}
    print(f"{a.prompts} {a.split} deals\ndecoder  exact  points  illegal  evaluated tokens an answer")
    for decoder in ("greedy", "sla"):
        events = answers([a.sla, *a.arguments], [prompt for prompt, _, _ in games], decoder)
        points[decoder] = p = [judge(n, t, e["text"]) for (_, n, t), e in zip(games, events)]
        evaluated = sum(e["usage"]["evaluated_tokens"] for e in events) / len(events)
        print(f"{decoder:7} {p.count(10) / len(p):6.3f} {sum(p) / len(p):7.2f} {p.count(0) / len(p):8.3f} {evaluated:10.1f}")
    differences = [s - g for s, g in zip(points["sla"], points["greedy"])]
    won, lost = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    low, high = interval(differences, random.Random(a.seed))
    print(f"sla against greedy: {won} won, {len(differences) - won - lost} tied, {lost} lost; "
          f"of the decided {share(won, lost):.3f} won (95 % interval {low:.3f} to {high:.3f})")
