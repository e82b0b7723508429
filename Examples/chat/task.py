"""Prompts and judge for a chat model: one sentence that has five given words.

    python3 task.py prompts N SEED        N prompts as chat messages, JSON Lines
    python3 task.py judge                 a judge for sla: a share of 1

The score is the share of the words that stand in the answer, halved where it is not one sentence of at most 32 words that ends, and where it speaks of
sentences or words instead.
"""
import json
import random
import re
import sys

WORDS = """apple baker bird blanket boat book bottle bridge brother bus butter candle castle chair cheese child circus clock cloud coat coffee
cousin dance desert dinner doctor door dream drum engine farmer feather field fire fish flower forest friend garden ghost glass gold guitar hammer
harbor hat hill honey horse house island jacket journey kitchen ladder lake lamp letter library lion market mirror moon morning mountain music
needle neighbor night ocean orange painter paper park piano pillow pirate planet pocket queen rain river road rope sailor sand school shadow
sheep shoe silver snow soldier song spoon spring star station stone storm street sugar summer sun table teacher tiger tower train tree
umbrella valley village violin wall water whistle wind window winter wolf wood""".split()


def prompts(count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        words = rng.sample(WORDS, 5)
        text = "Write one sentence with the words {}, {}, {}, {} and {}.".format(*words)
        yield {"prompt": [{"role": "user", "content": text}], "meta": {"words": words}}


def score(answer, words):
    answer = answer.strip()
    said = re.findall(r"[a-z']+", answer.lower())
    there = sum(word in said or word + "s" in said for word in words) / len(words)
    is_one = re.fullmatch(r"[^.!?\n]+[.!?]", answer) and len(said) <= 32
    is_own = not re.search(r"sentence|words?\b", answer.lower())
    return there * (1 if is_one else 0.5) * (1 if is_own else 0.5)


if __name__ == "__main__":
    if sys.argv[1] == "prompts":
        for prompt in prompts(int(sys.argv[2]), int(sys.argv[3])):
            print(json.dumps(prompt))
    else:
        for line in map(json.loads, sys.stdin):
            print(json.dumps({"score": score(line["completion"], line["meta"]["words"])}), flush=True)
