#!/usr/bin/env python3
"""Random sessions: each is recorded, ended in one of many ways, and replayed; nothing may differ, hang or be lost.

    sessions.py --sla .build/release/sla --sessions 50 --seed 1

Exit code 1: a session broke something; its record stays in the folder that is told, and `--seed S --first N --sessions 1` makes it again.
"""

import argparse
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../Tests/Fixtures")
PUZZLES = ["3 5 7 2>24\n", "1 2 3>6\n", "13 7 4 9>55\n", "2 4 6 8>20\n"]
BAD = [
    b"not JSON", b'{"prompt":"a"', b'{"prompt":"\xff\xfe"}', b"[" * 3000, b"[1,2]", b'{"id":"a","prompt":"a","widht":2}', b'{"id":7,"type":"dance"}',
    b'{"id":{},"prompt":"a"}', b'{"prompt":[-5]}', b'{"id":"a","prompt":"a","max_tokens":0}', b'{"type":"score","prompt":"a"}', b"", b"  \t",
]  # fmt: skip
ENDS = ["end of input", "shutdown", "SIGTERM", "SIGINT", "kill -9", "reader gone"]


class Broken(Exception):
    pass


def request(r, vocabulary, context):
    """A random sound request, most of them with an id that others have too."""
    fields = {}
    if r.random() < 0.85:
        fields["id"] = r.choice(["a", "b", "c", "é", "e\u0301", 1, 2, 3, 10**15])
    tokens = lambda most: [r.randrange(3, vocabulary) for _ in range(r.randrange(1, most))]
    prompt = r.choice(PUZZLES) if r.random() < 0.6 else tokens(context // 2)
    kind = r.choices(["generate", "score", "tokenize", "detokenize", "cancel", "stats", "clear_cache"], [60, 8, 4, 4, 16, 5, 3])[0]
    if kind == "score":
        return fields | {"type": kind, "prompt": prompt, "completions": [tokens(12) for _ in range(r.randrange(1, 5))]}
    if kind == "tokenize":
        return fields | {"type": kind, "text": r.choice(PUZZLES + ["grün 😀\x00", ""]), "add_special": r.random() < 0.5}
    if kind == "detokenize":
        return fields | {"type": kind, "tokens": tokens(20)}
    if kind == "cancel":
        return fields | {"type": kind, "target": r.choice(["a", "b", "c", 1, 2, 3, "nobody"])}
    if kind != "generate":
        return fields | {"type": kind}
    fields |= {"prompt": prompt, "max_tokens": r.choice([1, 3, 10, 40, 100])}
    decoder = r.choice(["greedy", "sla", "sample", "beam", "best_of", "mcts", None])
    if decoder:
        fields["decoder"] = decoder
    if decoder == "sla":
        fields |= {"width": r.randrange(1, 4), "chunk": r.randrange(1, 7), "depth": r.randrange(0, 3)}
        fields["include"] = [name for name in ("draft", "branches") if r.random() < 0.3]
    elif decoder == "sample":
        fields |= {"seed": r.randrange(1000), "temperature": r.choice([0, 0.7, 1.5]), "top_k": r.choice([0, 5])}
    elif decoder == "beam":
        fields |= {"width": r.randrange(1, 5)}
    elif decoder == "best_of":
        fields |= {"n": r.randrange(1, 5), "seed": r.randrange(1000)}
    elif decoder == "mcts":
        fields |= {"simulations": r.randrange(1, 6), "chunk": r.randrange(1, 5), "max_tokens": r.choice([3, 10])}
    if r.random() < 0.5:
        fields["ignore_eos"] = True
    if r.random() < 0.15:
        fields["stop"] = r.choice([";", ["=1", "2*"]])
    if r.random() < 0.2:
        fields["deadline_ms"] = r.choice([0, 1, 5, 20, 100, 10000])
    if r.random() < 0.1:
        fields["priority"] = r.randrange(-2, 3)
    return fields


def serve(r, sla, flags, record, limit):
    """One session; returns how it ended and what was read of its events."""
    vocabulary, context = (300, 400) if "--model" in flags else (540, 100)
    more = []
    if r.random() < 0.4:
        more += ["--max-queued", str(r.choice([0, 1, 3, 10]))]
    if r.random() < 0.4:
        more += ["--max-active", str(r.choice([1, 2, 5]))]
    if r.random() < 0.5:
        more += ["--no-timing"]
    end, count = r.choice(ENDS), r.choice([3, 10, 30, 60])
    lines = [r.choice(BAD) if r.random() < 0.08 else json.dumps(request(r, vocabulary, context), ensure_ascii=r.random() < 0.5).encode() for _ in range(count)]
    if r.random() < 0.05:
        lines.insert(r.randrange(count), b"x" * ((4 << 20) + 1))
    if end == "shutdown":
        lines += [b'{"id":"the end","type":"shutdown"}', b'{"id":"late","type":"stats"}']
    together, is_slow, ends_at = r.choice([1, 3, count]), r.random() < 0.3, r.random() * 0.4
    child = subprocess.Popen([sla, *flags, *more, "--record", record], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    stdin, stdout = child.stdin.fileno(), child.stdout.fileno()
    os.set_blocking(stdin, False)
    said, outgoing, start, is_ending = b"", b"", time.monotonic(), False
    next_line = start
    try:
        while True:
            now = time.monotonic()
            if now - start > limit:
                raise Broken(f"no end within {limit} s ({end})")
            if lines and not outgoing and now >= next_line:
                outgoing = b"".join(line + b"\n" for line in lines[:together])
                del lines[:together]
                next_line = now + r.choice([0, 0.002, 0.02])
            # Signals come once the engine is at work, which its first event tells; before that only the start is tested elsewhere.
            if said and now - start > ends_at and end in ("SIGTERM", "SIGINT", "kill -9", "reader gone") and not is_ending:
                is_ending = True
                if end == "reader gone":
                    child.stdout.close()
                    break
                child.send_signal({"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT, "kill -9": signal.SIGKILL}[end])
            if not lines and not outgoing and end == "end of input" and stdin >= 0:
                child.stdin.close()
                stdin = -1
            writers = [stdin] if outgoing and stdin >= 0 else []
            ready, writable, _ = select.select([stdout], writers, [], 0.002)
            if writable:
                try:
                    outgoing = outgoing[os.write(stdin, outgoing[: 1 << 16]) :]
                except (BrokenPipeError, ConnectionResetError):
                    lines, outgoing = [], b""
            if ready:
                piece = os.read(stdout, 512 if is_slow else 1 << 16)
                if not piece:
                    break
                said += piece
                if is_slow:
                    time.sleep(0.0005)
        status = child.wait(max(1, limit - (time.monotonic() - start)))
        errors = child.stderr.read().decode()
        if end == "reader gone" and status == 1 and errors == "sla: cannot write events: Broken pipe\n":
            return end, said
        if status != (-signal.SIGKILL if end == "kill -9" else 0):
            raise Broken(f"exit status {status} ({end}): {errors}")
        if errors:
            raise Broken(f"it complained ({end}): {errors}")
        return end, said
    except subprocess.TimeoutExpired:
        raise Broken(f"no end within {limit} s ({end})") from None
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout, child.stderr):
            try:
                pipe.close()
            except OSError:
                pass


def replay(sla, flags, record, limit):
    try:
        result = subprocess.run([sla, "replay", *flags, record], capture_output=True, timeout=limit)
    except subprocess.TimeoutExpired:
        raise Broken(f"no end of `replay {' '.join(flags)}` within {limit} s") from None
    if result.returncode:
        raise Broken(f"replay: {result.stdout.decode()[:1500]}{result.stderr.decode()[:500]}")


def session(seed, sla, record, limit):
    """Makes one session and replays it; returns how it ended, and how many requests and events its record has."""
    r = random.Random(seed)
    flags = ["--cache-mib", str(r.choice([1, 2, 64])), "--threads", str(r.choice([1, 2]))]
    if r.random() < 0.4:
        flags += ["--model", f"{FIXTURES}/parity-llama.gguf", "--reward", f"{FIXTURES}/reward-llama.gguf"]
    end, said = serve(r, sla, flags, record, limit)
    with open(record, "rb") as file:
        entries = [line for line in file.read().split(b"\n") if line]
    # What was read is in the record, in its order.
    written = [line[line.index(b'"out":') + 6 : -1] for line in entries if b'"out":' in line and line.endswith(b"}}")]
    read = said.split(b"\n")[:-1]
    if read != written[: len(read)]:
        raise Broken(f"events that were read are not those of the record ({end})")
    if end in ("end of input", "shutdown") and len(read) != len(written):
        raise Broken(f"{len(read)} events were read and {len(written)} recorded ({end})")
    replay(sla, flags, record, limit)
    if r.random() < 0.2:
        replay(sla, [*flags, "--update"], record, limit)
        replay(sla, flags, record, limit)
    return end, sum(b'"line":' in line[:40] for line in entries), len(written)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sla", default="sla", help="the program (default: sla)")
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number of the first session (default: 0)")
    parser.add_argument("--limit", type=float, default=60, help="seconds that a session or a replay may take (default: 60)")
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="sla-sessions-")
    start, broken, totals, ends = time.monotonic(), 0, [0, 0], {}
    for number in range(arguments.first, arguments.first + arguments.sessions):
        record = os.path.join(folder, f"{number}.jsonl")
        try:
            end, requests, events = session(f"{arguments.seed}/{number}", arguments.sla, record, arguments.limit)
            ends[end] = ends.get(end, 0) + 1
            totals = [totals[0] + requests, totals[1] + events]
            os.remove(record)
        except Broken as error:
            broken += 1
            print(f"BROKEN: session {number} of seed {arguments.seed} ({record}): {error}", flush=True)
    took = time.monotonic() - start
    print(f"seed {arguments.seed}: {arguments.sessions} sessions in {took:.0f} s, {totals[0]} requests, {totals[1]} events; ends: {dict(sorted(ends.items()))}")
    print("each replays to the same events" if not broken else f"{broken} sessions broken")
    if not broken:
        shutil.rmtree(folder)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
