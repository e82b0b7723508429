"""Holds sla's rewards against those of `reward_transformer.py --score`:

    python compare.py rewarded theirs.jsonl
"""
import json
import subprocess
import sys

model, path = sys.argv[1:]
theirs = [json.loads(line) for line in open(path)]
requests = "".join(
    json.dumps({"type": "score", "id": i, "prompt": line["prompt"], "completion": line["completion"]}) + "\n" for i, line in enumerate(theirs)
)
said = subprocess.run(
    ["sla", "serve", "--model", model, "--cache-type", "f32"], input=requests, stdout=subprocess.PIPE, text=True, check=True
).stdout
ours = {event["id"]: event for event in map(json.loads, said.splitlines()) if event["type"] == "score"}
rewards = lambda event: [token["reward"] for token in event["completions"][0]["tokens"]]
worst = max(abs(a - b) for i, line in enumerate(theirs) for a, b in zip(rewards(ours[i]), line["rewards"], strict=True))
print(f"{sum(len(line['rewards']) for line in theirs)} rewards of {len(theirs)} answers: the largest difference from PyTorch's is {worst:.1e}")
sys.exit(worst > 1e-4)
