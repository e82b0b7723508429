#!/usr/bin/env python3
"""Speaks the engine's protocol with answers from a script, so that the tests can say what comes, and when.

engine.py SCRIPT LOG: SCRIPT is a JSON file, LOG gets every line that comes in.
  ready     the model's part of the event ready; default: an engine that knows everything
  refuses   fields that are refused by name
  answers   the first entry fits whose "ends" the prompt ends with (or whose "has" is in the last message):
            text, or tokens; drafts: [[token, text]] said before that token; rejected: texts, in one commit at the end;
            rewards; progress: tokens of 100 that are computed at once; first_ms, token_ms: pauses; finish: the reason; error: the fields of an error instead; die: after so
            many tokens the process ends
  invent    true: what no entry fits gets an answer made up from the prompt (see invent)
"""

import heapq
import json
import os
import re
import select
import sys
import time

WORDS = ["alpha", " beta", "(x)", "\n", "  ", " = ", "ü", "return", ";", "\n\t", "end", "0", " →", ")"]


def invent(prompt, suffix):
    """The answer to a prompt that no entry fits. The random sessions compute the same, so that they know what fits where."""
    seed = 7
    for byte in prompt.encode()[-40:] + suffix.encode()[:20]:
        seed = (seed * 31 + byte) % 65521
    tokens = []
    for _ in range(seed % 9):
        seed = (seed * 171 + 11213) % 65521
        tokens.append(WORDS[seed % len(WORDS)])
    return tokens


def main():
    with open(sys.argv[1]) as file:
        script = json.load(file)
    log = open(sys.argv[2], "a", buffering=1)
    queue, order, running = [], 0, {}

    def say(event):
        os.write(1, (json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n").encode())

    def later(milliseconds, id, action):
        nonlocal order
        order += 1
        heapq.heappush(queue, (time.monotonic() + milliseconds / 1000, order, id, action))

    def done(id, reason):
        text = running.pop(id)
        timing = {"first_token_ms": 1, "total_ms": 12, "cached_tokens": 0}
        say({"type": "done", "id": id, "finish_reason": reason, "text": text, "reward": 0.5, "usage": {}, "timing": timing})

    def answer(request):
        id = request["id"]
        for field in request:
            if field in script.get("refuses", []):
                message = f"there is no field {field} here"
                return say({"type": "error", "id": id, "code": "invalid_request", "field": field, "message": message})
        prompt = request.get("prompt")
        if prompt is None:
            prompt = request["messages"][-1]["content"]
        for entry in script.get("answers", []):
            if "ends" in entry and prompt.endswith(entry["ends"]) or "has" in entry and entry["has"] in prompt:
                break
        else:
            entry = {"tokens": invent(prompt, request.get("suffix", ""))} if script.get("invent") else {"text": ""}
        if "error" in entry:
            return say({"type": "error", "id": id, "line": 1, **entry["error"]})
        running[id] = ""
        tokens = entry.get("tokens")
        if tokens is None:
            tokens = re.findall(r"\s*\w+|\s*[^\w\s]|\s+$", entry["text"])
        if request["max_tokens"] == 0:
            tokens = []
        at = entry.get("first_ms", script.get("first_ms", 1))

        def token(index):
            if entry.get("die") == index:
                os._exit(3)
            running[id] += tokens[index]
            reward = entry.get("rewards", [0.5] * len(tokens))[index]
            say({"type": "token", "id": id, "index": index, "token": 1, "text": tokens[index], "logprob": -1, "reward": reward})

        if "progress" in entry and "progress" in request.get("include", []):
            say({"type": "progress", "id": id, "computed": entry["progress"], "prompt_tokens": 100})
        for index in range(len(tokens)):
            for place, text in entry.get("drafts", []):
                if place == index:
                    later(at, id, lambda text=text: say({"type": "draft", "id": id, "text": text}))
                    at += entry.get("token_ms", script.get("token_ms", 1))
            later(at, id, lambda index=index: token(index))
            at += entry.get("token_ms", script.get("token_ms", 1))
        if "rejected" in entry:
            branches = [{"text": text, "tokens": [1], "score": 0.1} for text in entry["rejected"]]
            commit = {"type": "commit", "id": id, "index": 0, "from": 0, "to": len(tokens), "score": 1, "rejected": branches}
            later(at, id, lambda: say(commit))
        later(at, id, lambda: done(id, entry.get("finish", "stop")))

    def handle(request):
        if request["type"] == "cancel":
            if request["target"] in running:
                done(request["target"], "cancelled")
                say({"type": "cancelled", "id": request["id"], "target": request["target"]})
            else:
                say({"type": "error", "id": request["id"], "code": "unknown_id", "message": "no running request has this id"})
        else:
            answer(request)

    model = {"name": "fake", "arch": "none", "parameters": 1, "context_length": 4096, "reward": True, "fill": True, "chat": True}
    time.sleep(script.get("load_ms", 0) / 1000)
    say({"type": "ready", "protocol": 1, "engine": "fake", "model": script.get("ready", model), "decoder": "sla"})
    pending = b""
    while True:
        wait = max(0, queue[0][0] - time.monotonic()) if queue else None
        if select.select([0], [], [], wait)[0]:
            data = os.read(0, 65536)
            if not data:
                return
            pending += data
            *lines, pending = pending.split(b"\n")
            for line in lines:
                log.write(line.decode() + "\n")
                handle(json.loads(line))
        while queue and queue[0][0] <= time.monotonic():
            _, _, id, action = heapq.heappop(queue)
            if id in running:
                action()


main()
