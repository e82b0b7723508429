"""Prints Countdown prompts for `sla eval` as JSON Lines: `python3 prompts.py dev 100 1` deals 100 of the split dev with seed 1."""
import json
import sys

from rules import deals

for prompt, _, _ in deals(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])):
    print(json.dumps({"prompt": prompt, "meta": {"full": 10}}))
