#!/usr/bin/env python3
"""Requests to the built-in model, one Countdown puzzle each: requests.py COUNT [SEED] [FIELDS], FIELDS such as '"max_tokens":4'."""

import random
import sys

if len(sys.argv) < 2:
    sys.exit(__doc__)
count = int(sys.argv[1])
source = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
fields = "," + sys.argv[3] if len(sys.argv) > 3 else ""
for number in range(count):
    numbers = " ".join(str(source.randint(1, 13)) for _ in range(4))
    print(f'{{"id":"r{number}","prompt":"{numbers}>{source.randint(10, 99)}\\n","decoder":"greedy"{fields}}}')
