#!/usr/bin/env python3
"""Stands in for the engine where a test must know what it says and when. The tests of Vim use it too.

    engine.py --log FILE --script FILE     answers of the script, one for each generate request
    engine.py --log FILE --seed N          answers that follow from the prompt and the seed, with drafts that change

A script is JSON: {"model": {fields of ready's model}, "answers": [[step, …], …]}. A step is an event without its id, {"sleep": seconds},
{"raw": text} written as it is, or {"exit": status}. Beyond the last answer nothing is said. Every line that is read goes into the log.
"""
import argparse
import json
import os
import queue
import random
import sys
import threading
import time
import zlib

FIELDS = {"name": "fake", "arch": "fake", "context_length": 4096, "vocab_size": 9, "reward": True, "eos": 0}
PIECES = ["alpha", "beta", "(", ")", ", ", "\n", "\n    ", "\t", "é", "世界", "🙂", "e\u0301", " = ", "0", "x", "return ", '"', "\\", "]", "}"]


def write(text):
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


def random_answer(prompt, suffix, seed):
    """Steps of an answer: drafts, some of another branch, tokens, commits with what they dropped."""
    chance = random.Random(zlib.crc32((prompt[-200:] + "\0" + suffix[:50]).encode()) ^ seed)
    tokens = [chance.choice(PIECES) for _ in range(chance.choice([0, 1, 3, 8, 20]))]
    if chance.random() < 0.2:
        tokens.append(suffix[: chance.randint(0, 12)])  # what a model without a gap's end says
    steps, text = [], "".join(tokens)
    for start in range(0, len(tokens), 4):
        chunk = tokens[start : start + 4]
        steps.append({"sleep": chance.choice([0, 0.001, 0.01])})
        if chance.random() < 0.5:
            steps.append({"type": "draft", "text": chance.choice(PIECES) + chance.choice(PIECES)})
        draft = ""
        for token in chunk:
            draft += token
            steps.append({"type": "draft", "text": draft})
        for i, token in enumerate(chunk):
            steps.append({"type": "token", "index": start + i, "token": 1, "text": token, "logprob": -1.0, "reward": chance.random()})
        rejected = [
            {"text": "".join(chance.choice(PIECES) for _ in range(3)), "tokens": [1, 1, 1], "score": chance.random()}
            for _ in range(chance.randint(0, 2))
        ]
        steps.append(
            {"type": "commit", "index": start // 4, "from": start, "to": start + len(chunk), "score": 1.0, "rejected": rejected}
        )
    steps.append({"type": "done", "finish_reason": "stop", "text": text, "reward": 0.5, "usage": {"completion_tokens": len(tokens)}})
    return steps


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--log")
    parser.add_argument("--script")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    script = json.load(open(options.script)) if options.script else {"model": {"fill": True, "chat": True}}
    answers = iter(script.get("answers", []))
    lines, cancelled = queue.Queue(), set()

    def read():
        for line in sys.stdin.buffer:
            text = line.decode(errors="surrogateescape")
            if options.log:
                with open(options.log, "a", errors="surrogateescape") as log:
                    log.write(text)
            request = json.loads(text)
            if request.get("type") == "cancel":
                cancelled.add(request["target"])
            lines.put(request)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    model = {**FIELDS, **script.get("model", {})}
    write(json.dumps({"type": "ready", "protocol": 1, "engine": "fake", "model": model, "decoder": "sla"}) + "\n")
    while (request := lines.get()) is not None:
        name = request["id"]
        if request.get("type") == "cancel":
            write(json.dumps({"type": "cancelled", "id": name, "target": request["target"]}) + "\n")
            continue
        if options.script:
            steps = next(answers, [])
        else:
            prompt = request.get("prompt", request.get("messages"))
            steps = random_answer(prompt if isinstance(prompt, str) else json.dumps(prompt), request.get("suffix", ""), options.seed)
        for step in steps:
            if name in cancelled:
                write(json.dumps({"type": "done", "id": name, "finish_reason": "cancelled", "text": "", "reward": None}) + "\n")
                break
            if "sleep" in step:
                time.sleep(step["sleep"])
            elif "raw" in step:
                write(step["raw"])
            elif "exit" in step:
                sys.stderr.write("the fake engine was told to end\n")
                sys.stderr.flush()
                os._exit(step["exit"])
            else:
                write(json.dumps({"id": name, **step}, ensure_ascii=random.random() < 0.5) + "\n")


main()
