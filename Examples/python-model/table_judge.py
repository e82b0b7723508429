"""The table's judge for sla, which nothing was trained on: how good a piece of Python is, from 0 to 1.

- half: edit similarity to what stood there in truth, character by character;
- a quarter: the share of its names that are known: defined before it, by it, or by Python;
- a quarter: whether it parses, in the function that it belongs to.

An answer counts up to the function's end, as judge.py reads it. Of what the limit cut off only so much of the truth counts as the answer is long.
"""
import builtins
import json
import keyword
import re
import sys

from rapidfuzz.distance import Levenshtein

from judge import parsed, within

PYTHON = {*dir(builtins), *keyword.kwlist, *keyword.softkwlist, "self", "cls"}
# What binds a name, as far as a pattern can tell: an assignment, a loop, an import, a definition, a clause with `as`.
BINDING = re.compile(r"(\w+)\s*(?:=(?!=)|:=)|(?:for|import|as|def|class|lambda)\s+(\w+)")


def names(text):
    """Those that are read or bound, without attributes, and without what stands in strings and comments of one line."""
    text = re.sub(r"#.*|\"[^\"\n]*\"|'[^'\n]*'", "", text)
    return re.findall(r"(?<![\w.])[A-Za-z_]\w*", text)


def known(text, around):
    bound = {name for pair in BINDING.findall(text) for name in pair}
    there = PYTHON | bound | set(re.findall(r"\w+", around))
    used = names(text)
    return sum(name in there for name in used) / len(used) if used else 0.0


def score(prompt, completion, before, truth, behind=None):
    text, has_left = (completion, True) if behind is not None else within(before, completion)
    if not text.strip():
        return 0.0
    likeness = Levenshtein.normalized_similarity(text, truth if has_left else truth[: len(text)])
    return likeness / 2 + known(text, prompt) / 4 + parsed(before, text, behind, not has_left) / 4


if __name__ == "__main__":
    for line in map(json.loads, sys.stdin):
        meta = line["meta"]
        value = score(line["prompt"], line["completion"], meta["before"], meta["truth"], meta.get("behind"))
        print(json.dumps({"score": value}), flush=True)
