"""A judge for sla: how good a piece of Python is, from 0 to 1, by three things that a program can tell.

- half: how like it is to what stood there in truth, word by word;
- a quarter: how much of it parses, in the function that it belongs to;
- a quarter: how many of its lines say something new.

An answer counts up to the function's end, the first line that is indented no more than its `def`.
"""
import difflib
import json
import re
import sys

from corpus import parses


def words(text):
    return re.findall(r"\w+|[^\w\s]", text)


def columns(line):
    return len(line) - len(line.lstrip())


def within(before, text):
    """`text` up to where it leaves the function that `before` begins, and whether it leaves it."""
    least = columns(before)
    lines = text.splitlines(keepends=True)
    for i, line in enumerate(lines):
        # The first line goes on with the last one of `before`, unless that one has ended.
        if line.strip() and columns(line) <= least and (i > 0 or before.endswith("\n")) and line.strip()[0] not in ")]}":
            return "".join(lines[:i]), True
    return text, False


def whole(before, text):
    """Whether a function parses; what is indented has something to be in."""
    return parses(("if 1:\n" if columns(before) else "") + before + text)


def parsed(before, text, behind, is_cut):
    """The share of the lines that parse. Behind a gap the rest must fit too. What the limit cut off need not be complete."""
    if behind is not None:
        return float(whole(before, text + behind))
    lines = text.splitlines(keepends=True)
    for count in range(len(lines), -1, -1):
        if whole(before, "".join(lines[:count])):
            # The line that was cut, and a bracket's lines before it, are no mistake.
            return 1.0 if is_cut and count >= len(lines) - 1 else count / max(1, len(lines))
    return 0.0


def new(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return len(set(lines)) / len(lines) if lines else 0.0


def likeness(text, truth, is_cut):
    """2 · common words / all words. Of what the limit cut off only so much of the truth counts as the answer is long."""
    said, true = words(text), words(truth)
    if is_cut:
        true = true[: max(len(said), 8)]
    return difflib.SequenceMatcher(None, said, true, autojunk=False).ratio()


def score(completion, before, truth, behind=None):
    # A gap's answer has its own end; what follows is what is left of the function.
    text, has_left = (completion, True) if behind is not None else within(before, completion)
    if not text.strip():
        return 0.0
    return likeness(text, truth, not has_left) / 2 + parsed(before, text, behind, not has_left) / 4 + new(text) / 4


if __name__ == "__main__":
    for line in map(json.loads, sys.stdin):
        meta = line["meta"]
        print(json.dumps({"score": score(line["completion"], meta["before"], meta["truth"], meta.get("behind"))}), flush=True)
