"""The Countdown numbers game: deal a prompt, list the legal moves, judge an answer.

A prompt is `3 5 7 2>24` and a newline; an answer is `5*7=35;35-2=33;33-3=30`: every step takes two of the numbers left and puts
back their result, until one number is left. Results are whole and positive, products at most 150.
"""
import random
import zlib


def moves(numbers):
    """Every legal next step: (text, numbers left after it). The larger number comes first."""
    out = []
    for i, a in enumerate(numbers):
        for j, b in enumerate(numbers):
            if i == j or a < b or (a == b and i > j):
                continue
            rest = [c for k, c in enumerate(numbers) if k not in (i, j)]
            results = [("+", a + b)]
            if a > b:
                results.append(("-", a - b))
            if b > 1 and a * b <= 150:
                results.append(("*", a * b))
            if b > 1 and a % b == 0:
                results.append(("/", a // b))
            out += [(f"{a}{op}{b}={r}", rest + [r]) for op, r in results]
    return out


def deal(rng):
    """Three or four numbers from 1 to 13 and a target from 1 to 100 that a random line of play reaches."""
    while True:
        numbers = [rng.randint(1, 13) for _ in range(rng.randint(3, 4))]
        left = list(numbers)
        while len(left) > 1:
            _, left = rng.choice(moves(left))
        if left[0] <= 100:
            rng.shuffle(numbers)
            return " ".join(map(str, numbers)) + ">" + str(left[0]) + "\n", numbers, left[0]


def left_by(numbers, text):
    """The numbers that are left behind the steps of a text, or None where one breaks the rules."""
    left = list(numbers)
    try:
        for step in text.split(";"):
            expression, result = step.split("=")
            op = next(c for c in expression if c in "+-*/")
            a, b = map(int, expression.split(op))
            left.remove(a)
            left.remove(b)
            value = {"+": a + b, "-": a - b, "*": a * b, "/": a // b if b and a % b == 0 else None}[op]
            if value is None or value != int(result):
                return None
            left.append(value)
        return left
    except (ValueError, StopIteration):
        return None


def reached(numbers, text):
    """The value an answer reaches by the rules, or None when it breaks them."""
    left = left_by(numbers, text.split("\n")[0])
    return left[0] if left and len(left) == 1 else None


def judge(numbers, target, text):
    """The television game's points: 10 for the target, 7 within 5 of it, 5 within 10; none for less, or for breaking the rules."""
    value = reached(numbers, text)
    off = None if value is None else abs(value - target)
    return 0 if off is None or off > 10 else 10 if off == 0 else 7 if off <= 5 else 5


# A deal belongs to one split for good, whatever the order of its numbers and whoever deals it: the policy learns from 80 % of all
# deals, the channel from 10 % the policy never saw, settings are chosen on 5 %, and the last 5 % are for the final measurement.
SPLITS = ["policy"] * 16 + ["channel"] * 2 + ["dev", "held-out"]


def split_of(numbers, target):
    return SPLITS[zlib.crc32(f"{sorted(numbers)}>{target}".encode()) % len(SPLITS)]


def deal_from(split, rng):
    """A deal from one split."""
    while True:
        prompt, numbers, target = deal(rng)
        if split_of(numbers, target) == split:
            return prompt, numbers, target


def deals(split, count, seed):
    """`count` different prompts of one split."""
    if split not in SPLITS:
        raise SystemExit(f"there is no split {split}; there are {', '.join(dict.fromkeys(SPLITS))}")
    rng, seen = random.Random(seed), {}
    while len(seen) < count:
        prompt, numbers, target = deal_from(split, rng)
        seen[prompt] = (prompt, numbers, target)
    return list(seen.values())
