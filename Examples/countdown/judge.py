"""A judge for `sla eval`, `sla pairs` and `sla rollouts`: scores Countdown answers as the television game does.

Reads {"prompt", "completion"} lines and answers each with {"score"}: 10 for the target, 7 within 5 of it, 5 within 10, else 0, and 0
for an answer that breaks the rules.
"""
import json
import sys

from rules import reached


def score(prompt, completion):
    numbers, target = prompt.split(">")
    value = reached([int(number) for number in numbers.split()], completion)
    off = None if value is None else abs(value - int(target))
    return 0 if off is None or off > 10 else 10 if off == 0 else 7 if off <= 5 else 5


for line in sys.stdin:
    answer = json.loads(line)
    print(json.dumps({"score": score(answer["prompt"], answer["completion"])}), flush=True)
