"""A judge for `sla eval`, `sla pairs` and `sla rollouts`: scores Countdown answers as the television game does.

Reads {"prompt", "completion"} lines and answers each with {"score"}, the points that `rules.judge` gives.
"""
import json
import sys

from rules import judge

for line in sys.stdin:
    answer = json.loads(line)
    numbers, target = answer["prompt"].split(">")
    score = judge([int(number) for number in numbers.split()], int(target), answer["completion"])
    print(json.dumps({"score": score}), flush=True)
