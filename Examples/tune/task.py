"""The task: write a word's letters in the order of the alphabet.

    python task.py prompts held-out 200 > prompts.jsonl     # prompts for sla, of a split: train, pairs or held-out
    python task.py judge                                    # a judge for sla: the share of the letters that are in their places

A split is told by the word itself, so no word is in two of them.
"""
import json
import random
import sys
import zlib

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPLITS = {"train": range(0, 8), "pairs": range(8, 9), "held-out": range(9, 10)}


def words(split, count, seed):
    generator = random.Random(seed)
    while count:
        word = "".join(generator.choice(LETTERS) for _ in range(generator.randint(4, 8)))
        if zlib.crc32(word.encode()) % 10 in SPLITS[split]:
            count -= 1
            yield word


def answer(word):
    return "".join(sorted(word))


def prompt(word):
    """As chat messages."""
    return [{"role": "user", "content": word}]


def score(word, given):
    """1 for the right answer; else half the share of the places that hold the right letter."""
    right = answer(word)
    if given.strip() == right:
        return 1.0
    return 0.5 * sum(a == b for a, b in zip(given.strip(), right)) / len(right)


if __name__ == "__main__":
    if sys.argv[1] == "prompts":
        for word in words(sys.argv[2], int(sys.argv[3]), seed=1):
            print(json.dumps({"prompt": prompt(word), "meta": {"full": 1}}))
    else:
        for line in map(json.loads, sys.stdin):
            print(json.dumps({"score": score(line["prompt"][-1]["content"], line["completion"])}), flush=True)
