#!/usr/bin/env python3
"""Counts requests and their answers: count.py REQUESTS EVENTS... Exits with 1 unless every id is answered once and nothing is unfinished."""

import json
import sys

ENDS = {"done", "score", "tokens", "text", "error"}


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    with open(sys.argv[1]) as lines:
        asked = [json.loads(line).get("id", number) for number, line in enumerate(lines, 1) if line.strip()]
    answers, unfinished, errors = {}, set(), 0
    for path in sys.argv[2:]:
        with open(path) as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:
                    unfinished.add("a line that is torn")
                    continue
                if event["type"] == "ready":
                    continue
                if event["type"] not in ENDS:
                    unfinished.add(event["id"])
                    continue
                unfinished.discard(event["id"])
                answers[event["id"]] = answers.get(event["id"], 0) + 1
                errors += event["type"] == "error"
    missing = len(set(asked) - answers.keys())
    strange = len(answers.keys() - set(asked))
    again = sum(count - 1 for count in answers.values())
    print(
        f"{len(asked)} requests in, {len(answers)} answers out; {missing} missing, {again} more than once, {strange} of no request,"
        f" {len(unfinished)} unfinished, {errors} errors"
    )
    return 1 if missing or again or strange or unfinished else 0


if __name__ == "__main__":
    sys.exit(main())
