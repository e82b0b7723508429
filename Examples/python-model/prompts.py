"""Prints prompts for sla as JSON Lines: python prompts.py python dev function 120 [--seed 1].

function: the text before a function of the library and its first lines; the answer is the rest.
gap: the text before and behind a gap of one to four lines within a function; the answer fills it.
docstring: a function without what its docstring says; the answer fills that.

`meta` has what the judge needs: the function's beginning, what stood there in truth, and what follows a gap. A function whose rest also stands
in a file of the policy's split is left out, and so is a prompt that leaves no room for an answer in the policy's context.
"""
import argparse
import itertools
import json
import random
import re

from tokenizers import Tokenizer

from corpus import files, functions, is_test
from tokenizer import MIDDLE, PREFIX, SUFFIX

BEFORE, BEHIND = 900, 300  # characters of the file that a prompt has
LONGEST = 512 - 96  # tokens


def tail(text, count):
    """The last characters, from the beginning of a line."""
    return text if len(text) <= count else text[-count:].split("\n", 1)[-1]


def head(text, count):
    """The first characters, to the end of a line."""
    return text if len(text) <= count else text[:count].rsplit("\n", 1)[0] + "\n"


def candidates(split):
    """(the file's lines, the function's first line, its body's first, the one behind its last)"""
    # As bytes, in which looking is several times faster.
    known = "\n".join(text for _, text in files("policy")).encode() if split != "policy" else b""
    for path, text in files(split):
        lines = text.splitlines(keepends=True)
        for start, body, end, _ in functions(text) if not is_test(path) else ():
            # A text of some length is in two places for one reason only.
            rest = "".join(lines[body + 1 : end])
            if end - body >= 4 and len(rest) >= 80 and rest.encode() not in known:
                yield lines, start, body, end


def function(lines, start, body, end, rng):
    before, first, rest = "".join(lines[:start]), "".join(lines[start : body + 1]), "".join(lines[body + 1 : end])
    return {"prompt": tail(before + first, BEFORE), "meta": {"full": 1, "before": first, "truth": rest}}


def gap(lines, start, body, end, rng):
    count = min(rng.choice((1, 2, 3, 4)), end - body - 2)
    at = rng.randint(body + 1, end - count)
    # From within the line, behind its indentation at least, to the end of the last.
    indentation = len(lines[at]) - len(lines[at].lstrip())
    column = rng.randint(indentation, max(indentation, len(lines[at].rstrip()) - 1))
    first, whole = "".join(lines[start:at]) + lines[at][:column], "".join(lines[at : at + count])
    truth = whole[column:].removesuffix("\n")
    behind = "\n" + "".join(lines[at + count : end])
    return filling(lines, start, first, truth, behind, end)


def docstring(lines, start, body, end, rng):
    """None of a function that has none of some length."""
    found = re.fullmatch(r'(.*?""")(.{60,})("""\s*)', "".join(lines[start:body]), re.DOTALL)
    return found and filling(lines, start, found[1], found[2], found[3] + "".join(lines[body:end]), end)


def filling(lines, start, first, truth, behind, end):
    prefix, suffix = tail("".join(lines[:start]) + first, BEFORE), head(behind + "".join(lines[end:]), BEHIND)
    return {"prompt": PREFIX + prefix + SUFFIX + suffix + MIDDLE, "meta": {"full": 1, "before": first, "truth": truth, "behind": behind}}


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("folder", help="where the tokenizer is")
    a.add_argument("split")
    a.add_argument("kind", choices=["function", "gap", "docstring"])
    a.add_argument("count", type=int)
    a.add_argument("--seed", type=int, default=1)
    a = a.parse_args()
    tokenizer = Tokenizer.from_file(f"{a.folder}/tokenizer.json")
    rng = random.Random(a.seed)
    make = {"function": function, "gap": gap, "docstring": docstring}[a.kind]
    found = list(candidates(a.split))
    prompts = filter(None, (make(*candidate, rng) for candidate in rng.sample(found, len(found))))
    fitting = (prompt for prompt in prompts if len(tokenizer.encode(prompt["prompt"], add_special_tokens=False).ids) <= LONGEST)
    for prompt in itertools.islice(fitting, a.count):
        print(json.dumps(prompt))
