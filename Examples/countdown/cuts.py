"""Leaves of the lines of `sla rollouts` only the targets at the cuts and at the end: python cuts.py steps.jsonl >cuts.jsonl.

As they are, a step's values hold for all of its tokens, of which the search reads the last. Here that one alone is to be learned: a step
without values takes the tokens before it.
"""
import json
import sys

for line in map(json.loads, open(sys.argv[1])):
    cuts, outcome = line["steps"], line.pop("label")
    if line.get("eos", True):
        cuts = cuts + [{"at": len(line["completion"]), "value": outcome, "prover": outcome}]
    line["steps"] = [step for cut in cuts for step in ({"at": cut["at"] - 1}, cut) if step["at"] > 0]
    if cuts:
        print(json.dumps(line))
