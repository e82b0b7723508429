#!/usr/bin/env python3
"""Keeps many clients busy with one sla process and checks every guarantee of Protocol.md on its events.

    soak.py --sla .build/release/sla --seconds 600 --clients 40 --seed 1
    soak.py --sla .build/release/sla --latency

Flags behind `--` go to sla. Exit code 1: a guarantee was broken, memory grew, or the process died.
"""

import argparse
import hashlib
import json
import os
import random
import select
import statistics
import subprocess
import sys
import time

PAGE = os.sysconf("SC_PAGE_SIZE")
REASONS = {"stop", "length", "cancelled", "deadline"}


class Process:
    """The engine's process: lines in, lines out, never blocking."""

    def __init__(self, command):
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.stdin, self.stdout = self.child.stdin.fileno(), self.child.stdout.fileno()
        os.set_blocking(self.stdin, False)
        os.set_blocking(self.stdout, False)
        self.outgoing = bytearray()
        self.incoming = b""
        self.lines_sent = 0
        self.at_end = False

    def send(self, line):
        """Queues a line and returns its number."""
        self.outgoing += line + b"\n"
        self.lines_sent += 1
        return self.lines_sent

    def poll(self, timeout, read=1 << 18):
        """Writes and reads what is possible within `timeout` seconds; at most `read` bytes, none when it is 0."""
        readers = [self.stdout] if read and not self.at_end else []
        writers = [self.stdin] if self.outgoing else []
        if not readers and not writers:
            time.sleep(timeout)
            return []
        ready, writable, _ = select.select(readers, writers, [], timeout)
        if writable:
            del self.outgoing[: os.write(self.stdin, self.outgoing[: 1 << 16])]
        if not ready:
            return []
        piece = os.read(self.stdout, read)
        if not piece:
            self.at_end = True
            return []
        *lines, self.incoming = (self.incoming + piece).split(b"\n")
        return lines

    def resident(self):
        with open(f"/proc/{self.child.pid}/statm") as statm:
            return int(statm.read().split()[1]) * PAGE


class Answer:
    """A request that has been sent, and what has come of it."""

    def __init__(self, kind, fields, line, client):
        self.kind, self.fields, self.line, self.client = kind, fields, line, client
        self.sent = time.monotonic()
        self.texts, self.rewards = [], []
        self.commits = self.committed = 0
        self.cancelled_at = None
        self.digest = hashlib.sha256()


class Checker:
    """Holds each event against Protocol.md."""

    # Fields in their order; those behind None may be missing, and come in this order when they are there.
    FIELDS = {
        "ready": ["type", "protocol", "engine", "model", "date", "decoder", None, "search", "fingerprint", "inputs"],
        "token": ["type", "id", "index", "token", "text", "logprob", "reward"],
        "commit": ["type", "id", "index", "from", "to", "score", None, "rejected"],
        "draft": ["type", "id", "text"],
        "done": ["type", "id", "finish_reason", "text", "reward", "usage", None, "timing"],
        "score": ["type", "id", "completions"],
        "tokens": ["type", "id", "tokens"],
        "text": ["type", "id", "text"],
        "cancelled": ["type", "id", "target"],
        "cleared": ["type", "id"],
        "shutdown": ["type", "id"],
        "error": ["type", "id", "code", "message", "line", None, "field"],
    }

    def __init__(self, may_refuse):
        self.may_refuse = may_refuse
        self.open = {}
        self.bad = {}
        self.violations = []
        self.events = self.tokens = 0
        self.ended = {}
        self.reasons = {}
        self.cancel_latency, self.deadline_lateness = [], []
        self.digests = {}
        self.repeated = 0
        self.ready = None

    def wrong(self, what, line):
        self.violations.append(f"{what}: {line[:300]!r}")

    def take(self, line):
        """Checks one line; returns the event and the request that it ended, or None."""
        self.events += 1
        try:
            event = json.loads(line.decode("utf-8"))
            kind = event["type"]
        except (ValueError, KeyError, TypeError) as error:
            self.wrong(f"no event ({error})", line)
            return None, None
        if kind in Checker.FIELDS:
            needed, _, optional = (lambda f: (f[: f.index(None)], None, f[f.index(None) + 1 :]) if None in f else (f, None, []))(Checker.FIELDS[kind])
            names = list(event)
            if names != needed + [name for name in optional if name in event]:
                self.wrong(f"fields {names}", line)
        elif kind != "stats":
            self.wrong("unknown type", line)
            return event, None
        if kind == "ready":
            if self.ready or self.events != 1:
                self.wrong("ready is not the first event", line)
            self.ready = event
            return event, None
        if not self.ready:
            self.wrong("ready is missing", line)
        if kind == "error" and event["line"] in self.bad:
            answer = self.bad.pop(event["line"])
            if event["code"] not in answer.fields["codes"]:
                self.wrong(f"the code is none of {answer.fields['codes']}", line)
            if event["id"] != answer.fields.get("id"):
                self.wrong(f"the id is not {answer.fields.get('id')}", line)
            self.count(answer)
            return event, answer
        answer = self.open.get(event["id"])
        if answer is None:
            self.wrong("an event of a request that has ended or never was", line)
            return event, None
        getattr(self, "on_" + kind)(event, answer, line)
        if kind in ("token", "commit", "draft", "progress"):
            self.digest(answer, event)
            return event, None
        del self.open[event["id"]]
        self.count(answer)
        return event, answer

    def count(self, answer):
        self.ended[answer.kind] = self.ended.get(answer.kind, 0) + 1

    def digest(self, answer, event):
        if "key" in answer.fields:
            answer.digest.update(json.dumps({k: v for k, v in event.items() if k not in ("id", "timing")}).encode())

    def settle(self, answer, event, line):
        """The same request gives the same events, whenever it comes."""
        if "key" not in answer.fields:
            return
        self.digest(answer, event)
        key, digest = answer.fields["key"], answer.digest.hexdigest()
        if key in self.digests:
            self.repeated += 1
        if self.digests.setdefault(key, digest) != digest:
            self.wrong(f"other events than the same request had before ({key})", line)

    def on_token(self, event, answer, line):
        self.tokens += 1
        if answer.kind != "generate":
            self.wrong(f"a token for a {answer.kind}", line)
        if event["index"] != len(answer.texts):
            self.wrong(f"the index is not {len(answer.texts)}", line)
        if not isinstance(event["logprob"], (int, float)):
            self.wrong("no logprob", line)
        answer.texts.append(event["text"])
        if event["reward"] is not None:
            answer.rewards.append(event["reward"])

    def on_commit(self, event, answer, line):
        if not answer.fields.get("sla"):
            self.wrong("a commit without look-ahead", line)
        place = (event["index"], event["from"], event["to"])
        if place != (answer.commits, answer.committed, len(answer.texts)) or event["to"] <= event["from"]:
            self.wrong(f"not commit {answer.commits} of {answer.committed} to {len(answer.texts)}", line)
        if ("rejected" in event) != ("branches" in answer.fields.get("include", [])):
            self.wrong("rejected", line)
        answer.commits += 1
        answer.committed = event["to"]

    def on_draft(self, event, answer, line):
        if "draft" not in answer.fields.get("include", []):
            self.wrong("a draft nobody asked for", line)

    def on_done(self, event, answer, line):
        reason, count = event["finish_reason"], len(answer.texts)
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if answer.kind not in ("generate", "score") or reason not in REASONS:
            self.wrong(f"done for a {answer.kind}", line)
        if answer.kind == "score":
            if reason != "cancelled":
                self.wrong("done for a score", line)
        else:
            if event["text"] != "".join(answer.texts):
                self.wrong(f"the text is not {''.join(answer.texts)!r}", line)
            if event["usage"]["completion_tokens"] != count:
                self.wrong(f"{count} tokens came", line)
            if count > answer.fields["max_tokens"] or reason in ("stop", "length") and not count:
                self.wrong("the number of tokens", line)
            mean = sum(answer.rewards) / len(answer.rewards) if answer.rewards else None
            if (mean is None) != (event["reward"] is None) or mean is not None and abs(mean - event["reward"]) > 1e-6 * (1 + abs(mean)):
                self.wrong(f"the mean reward is {mean}", line)
            if answer.fields.get("sla") and answer.committed != count:
                self.wrong(f"commits cover {answer.committed} of {count} tokens", line)
        if reason == "cancelled":
            if answer.cancelled_at is None:
                self.wrong("nobody cancelled this", line)
            else:
                self.cancel_latency.append(time.monotonic() - answer.cancelled_at)
        elif reason == "deadline":
            if "deadline_ms" not in answer.fields:
                self.wrong("there was no deadline", line)
            elif "timing" in event:
                self.deadline_lateness.append(event["timing"]["total_ms"] / 1000 - answer.fields["deadline_ms"] / 1000)
        elif "deadline_ms" not in answer.fields:
            self.settle(answer, event, line)

    def on_score(self, event, answer, line):
        given = answer.fields.get("completions")
        if answer.kind != "score" or [[token["token"] for token in c["tokens"]] for c in event["completions"]] != given:
            self.wrong(f"the completions were {given}", line)
        for completion in event["completions"]:
            if abs(completion["logprob"] - sum(token["logprob"] for token in completion["tokens"])) > 1e-6 * (1 + abs(completion["logprob"])):
                self.wrong("the sum of logprobs", line)
        self.settle(answer, event, line)

    def answers(kind):
        def check(self, event, answer, line):
            if answer.kind != kind:
                self.wrong(f"the answer to a {answer.kind}", line)
            self.settle(answer, event, line)

        return check

    on_tokens, on_text, on_stats = answers("tokenize"), answers("detokenize"), answers("stats")
    on_cleared, on_shutdown = answers("clear_cache"), answers("shutdown")

    def on_cancelled(self, event, answer, line):
        if answer.kind != "cancel" or event["target"] != answer.fields["target"]:
            self.wrong("not what was to be cancelled", line)
        if event["target"] in self.open:
            self.wrong("the cancelled request has not ended", line)

    def on_error(self, event, answer, line):
        is_late_cancel = answer.kind == "cancel" and event["code"] == "unknown_id"
        is_too_much = self.may_refuse and answer.kind in ("generate", "score") and event["code"] == "overloaded"
        if not is_late_cancel and not is_too_much:
            self.wrong(f"a sound {answer.kind} was refused", line)
        if event["line"] != answer.line:
            self.wrong(f"the line was {answer.line}", line)


class Driver:
    """Logical clients of one process."""

    def __init__(self, process, seed, may_refuse):
        self.process, self.checker, self.random = process, Checker(may_refuse), random.Random(seed)
        self.next = 0
        self.evictions = None
        while not self.checker.ready and not process.at_end:
            for line in process.poll(1):
                self.checker.take(line)
        if not self.checker.ready:
            sys.exit("sla said nothing")
        model = self.checker.ready["model"]
        self.context, self.vocabulary, self.reward = model["context_length"], model["vocab_size"], model["reward"]
        self.longest = min(self.context // 2, 400)
        self.templates = [self.template(i) for i in range(150)]

    def id(self):
        """A new id: a string, an odd one, or an integer that no line has for a number."""
        self.next += 1
        return (f"client-{self.next}", f'"é😀\\\n{self.next}', 10**12 + self.next)[self.next % 3]

    def tokens(self, count):
        return [self.random.randrange(3, self.vocabulary) for _ in range(count)]

    def template(self, i):
        """A request that may be sent again and again."""
        r = self.random
        if i % 10 == 0:
            return "tokenize", {"text": r.choice(["3 5 7 2>24\n", "grün 😀\x00", "", "a" * 500, "\n \r\t"]) + str(i % 3), "add_special": i % 20 == 0}
        if i % 10 == 1:
            return "detokenize", {"tokens": self.tokens(r.randrange(1, 50))}
        start = self.templates_start = getattr(self, "templates_start", None) or self.tokens(self.longest // 2)
        prompt = r.choice(["3 5 7 2>24\n", "1 2 3>6\n", start[: r.randrange(1, len(start))] + self.tokens(r.randrange(1, self.longest // 2))])
        if i % 10 == 2:
            return "score", {"prompt": prompt, "completions": [self.tokens(r.randrange(1, 20)) for _ in range(r.randrange(1, 4))]}
        fields = {"prompt": prompt, "max_tokens": r.randrange(1, self.longest)}
        if self.reward and i % 2:
            width = r.randrange(1, 5)
            fields |= {"decoder": "sla", "width": width, "chunk": r.randrange(1, 9), "depth": r.randrange(0, 3 if width < 4 else 2)}
            fields |= {"min_p": r.choice([0, 0.02, 0.1]), "score": r.choice(["mean", "last"])}
            if r.random() < 0.3:
                fields["include"] = r.choice([["draft"], ["branches"], ["branches", "draft"]])
        else:
            fields["decoder"] = "greedy"
        if r.random() < 0.3:
            fields["ignore_eos"] = True
        if r.random() < 0.2:
            fields["stop"] = r.choice([";", ["=1", "2*"], ["zz"]])
        if r.random() < 0.2:
            fields["priority"] = r.randrange(-2, 3)
        return "generate", fields

    def request(self, kind, fields, client, **known):
        id = self.id()
        request = {"id": id, **({} if kind == "generate" and self.next % 2 else {"type": kind}), **fields}
        number = self.process.send(json.dumps(request, ensure_ascii=bool(self.next & 4)).encode())
        answer = Answer(kind, {**fields, "sla": fields.get("decoder") == "sla", **known}, number, client)
        self.checker.open[id] = answer
        return id

    def bad(self, client):
        lines = [
            (b"not JSON", None, ["invalid_json"]),
            (b'{"prompt":"a"', None, ["invalid_json"]),
            (b'{"prompt":"\xff\xfe"}', None, ["invalid_json"]),
            (b"[" * 5000, None, ["invalid_json"]),
            (b'{"id":"bad","prompt":"a","widht":2}', "bad", ["invalid_request"]),
            (b'{"id":"bad","prompt":"a","max_tokens":-1}', "bad", ["invalid_request"]),
            (b'{"id":"bad","prompt":[-5]}', "bad", ["invalid_request"]),
            (b'{"id":"bad","type":"dance"}', "bad", ["unknown_type"]),
            (b'{"id":"bad","prompt":[' + b"5," * self.context + b"5]}", "bad", ["context_overflow"]),
            (b"x" * (8 << 20 | 1), None, ["invalid_request"]),
        ]
        # The long ones are rare.
        line, id, codes = lines[self.random.choices(range(10), [10] * 8 + [2, 0.1])[0]]
        number = self.process.send(line)
        self.checker.bad[number] = Answer("bad line", {"codes": codes, "id": id}, number, client)

    def act(self, client):
        """One client does something."""
        r = self.random
        what = r.random()
        if what < 0.62:
            key = r.randrange(len(self.templates))
            kind, fields = self.templates[key]
            self.request(kind, fields, client, key=key)
        elif what < 0.74:
            _, fields = self.templates[r.randrange(3, 10)]
            self.request("generate", {**fields, "ignore_eos": True, "max_tokens": self.longest, "deadline_ms": r.randrange(0, 300)}, client)
        elif what < 0.88:
            running = [id for id, answer in self.checker.open.items() if answer.kind in ("generate", "score")]
            target = r.choice(running) if running and r.random() < 0.9 else "nobody"
            if target in self.checker.open and self.checker.open[target].cancelled_at is None:
                self.checker.open[target].cancelled_at = time.monotonic()
            self.request("cancel", {"target": target}, client)
        elif what < 0.96:
            self.bad(client)
        else:
            self.request("stats", {}, client)

    def outstanding(self):
        return len(self.checker.open) + len(self.checker.bad)

    def soak(self, seconds, clients):
        """Every client always waits for something; returns samples of (time, resident bytes)."""
        r, start = self.random, time.monotonic()
        samples, phase_end, phase, clears = [], start, "quick", 0
        for client in range(clients):
            self.act(client)
        while (now := time.monotonic() - start) < seconds and not self.process.at_end and not self.checker.violations:
            if not samples or now - samples[-1][0] >= 0.2:
                samples.append((now, self.process.resident()))
            if time.monotonic() > phase_end:
                phase = r.choices(["quick", "slow", "deaf", "burst"], [6, 1, 1, 1])[0]
                phase_end = time.monotonic() + {"quick": r.uniform(1, 6), "slow": 2, "deaf": r.uniform(0.2, 1.5), "burst": 1}[phase]
                for client in range(clients if phase in ("burst", "deaf") else 0):
                    for _ in range(5):
                        self.act(client)
            # The same in every minute, with the time to fill up and to evict between.
            if now > 20 * (clears + 1):
                clears += 1
                self.request("clear_cache", {}, 0)
            lines = self.process.poll(0.05, read={"slow": 4096, "deaf": 0}.get(phase, 1 << 18))
            if phase == "slow":
                time.sleep(0.005)
            for line in lines:
                _, answer = self.checker.take(line)
                # After a burst, not everybody has more to say.
                if answer and (self.outstanding() < clients or r.random() < 0.2) and self.outstanding() < 20 * clients:
                    self.act(answer.client)
        return samples

    def wait(self, done, seconds):
        """Reads until `done()`; whether it came to that in time."""
        end = time.monotonic() + seconds
        while not done() and time.monotonic() < end and not self.process.at_end:
            for line in self.process.poll(0.05):
                self.checker.take(line)
        return done()

    def stats(self):
        seen = []
        self.request("stats", {}, 0)
        end = time.monotonic() + 60
        while not seen and time.monotonic() < end and not self.process.at_end:
            for line in self.process.poll(0.05):
                event, _ = self.checker.take(line)
                seen += [event] if event and event["type"] == "stats" else []
        return seen[0] if seen else {}

    def finish(self):
        """Lets everything end, and looks for what is left."""
        violations = self.checker.violations
        if not self.wait(lambda: not self.outstanding(), 120):
            violations.append(f"{self.outstanding()} requests have no end")
        if not self.process.at_end:
            self.request("clear_cache", {}, 0)
            stats = self.stats()
            self.evictions = stats.get("cache", {}).get("evictions")
            left = (stats.get("active"), stats.get("waiting"), stats.get("cache", {}).get("used_bytes"))
            if left != (0, 0, 0):
                violations.append(f"active, waiting, used_bytes are {left} though nothing runs")
            self.request("shutdown", {}, 0)
            if not self.wait(lambda: self.process.at_end, 60):
                violations.append("no end after shutdown")
        status = self.process.child.wait(60)
        if status:
            violations.append(f"exit status {status}")
        if self.process.incoming:
            violations.append("a line without an end")


def percentiles(values, unit=1000):
    if not values:
        return "none"
    values = sorted(values)
    at = lambda share: values[min(len(values) - 1, int(share * len(values)))] * unit
    return f"p50 {at(0.5):.1f} ms, p99 {at(0.99):.1f} ms, longest {values[-1] * unit:.1f} ms ({len(values)})"


def spread(sizes):
    """The median and the range of sizes in bytes."""
    return f"{statistics.median(sizes) / 2**20:.2f} MiB ({min(sizes) / 2**20:.1f} to {max(sizes) / 2**20:.1f})"


def run_soak(driver, arguments):
    begin = time.monotonic()
    samples = driver.soak(arguments.seconds, arguments.clients)
    took = time.monotonic() - begin
    driver.finish()
    checker = driver.checker
    print(f"{sum(checker.ended.values())} requests in {took:.0f} s ({', '.join(f'{n} {kind}' for kind, n in sorted(checker.ended.items()))})")
    print(f"{checker.events} events, {checker.events / took:.0f}/s; {checker.tokens} tokens; ends: {checker.reasons}")
    print(f"{checker.repeated} repeated requests gave the same events again; {driver.evictions} evictions")
    print(f"cancel to done: {percentiles(checker.cancel_latency)}, slow reading included")
    print(f"deadline to done: {percentiles(checker.deadline_lateness)}")
    # Minute 3 against the last one. Medians: bursts, lines of megabytes and clear_cache leave them where they are, but what is never given
    # back raises them.
    warm, window = min(120, arguments.seconds / 3), min(60, arguments.seconds / 6)
    first = [size for at, size in samples if warm <= at < warm + window]
    last = [size for at, size in samples if at >= arguments.seconds - window]
    growth = 0.0
    if min(len(first), len(last)) < window:  # one a second at least; five are aimed at
        checker.violations.append(f"memory was looked at {len(first)} and {len(last)} times in {window:.0f} s: the driver stood still")
    else:
        growth = (statistics.median(last) / statistics.median(first) - 1) * 100
        print(f"resident memory after {warm:.0f} s: {spread(first)}; at the end: {spread(last)}; the median grew by {growth:.2f} %")
    if arguments.seconds >= 300 and growth >= 2:
        checker.violations.append(f"resident memory grew by {growth:.2f} %")
    for violation in checker.violations[:20]:
        print("BROKEN:", violation)
    print("all guarantees hold" if not checker.violations else f"{len(checker.violations)} guarantees broken")
    return 1 if checker.violations else 0


def run_latency(driver, arguments):
    """How long a cancel takes, and what a long prompt does to running answers."""
    process, checker = driver.process, driver.checker
    words = "".join(driver.random.choice(["the ", "a", " 12", "\n", "zx", "), ", " of"]) for _ in range(1 << 21))[: (4 << 20) - 100 - (1 << 18)]
    numbers = driver.tokens((4 << 20) // 8)
    streams, last, gaps = {}, {}, []
    greedy = {"decoder": "greedy", "ignore_eos": True, "max_tokens": max(1, min(2048, driver.context - 8))}
    parsing = 0.0  # seconds that this program needed for lines of megabytes

    def keep_streaming():
        while len(streams) < arguments.streams:
            streams[driver.request("generate", {**greedy, "prompt": driver.tokens(4)}, 0)] = True

    def read():
        """Reads events; gaps between tokens of a stream go to `gaps`, without the time spent here."""
        nonlocal parsing
        lines = process.poll(0.01)
        now = time.monotonic() - parsing
        for line in lines:
            start = time.monotonic()
            event, answer = checker.take(line)
            if len(line) > 1 << 20:
                parsing += time.monotonic() - start
            if not event:
                continue
            id = event.get("id")
            if event["type"] == "token" and id in streams:
                if id in last:
                    gaps.append(now - last[id])
                last[id] = now
            if answer:
                streams.pop(id, None)
                last.pop(id, None)

    def alive():
        return not process.at_end and not checker.violations

    # Cancels: beside running streams, a request that has begun is cancelled.
    end = time.monotonic() + arguments.seconds / 2
    while time.monotonic() < end and alive():
        keep_streaming()
        target = driver.request("generate", {**greedy, "prompt": driver.tokens(4)}, 0)
        pause = time.monotonic() + driver.random.uniform(0, 0.05)
        while time.monotonic() < pause:
            read()
        if target in checker.open:
            checker.open[target].cancelled_at = time.monotonic()
            cancel = driver.request("cancel", {"target": target}, 0)
            while cancel in checker.open and alive():
                read()
    length = min(driver.context - 2, arguments.prompt)
    waits = {"nothing new": ([], []), f"a new prompt of {length} tokens": ([], []), "a prompt of 4 MiB, refused": ([], [])}
    waits |= {"4 MiB to tokenize": ([], []), "4 MiB to detokenize": ([], [])}

    def begin(name):
        """Asks for that, and returns what tells whether it goes on."""
        if name == "nothing new":
            end = time.monotonic() + 0.2
            return lambda: time.monotonic() < end
        if name.startswith("a new prompt"):
            id = driver.request("generate", {"decoder": "greedy", "prompt": driver.tokens(length), "max_tokens": 1}, 0)
        elif name.startswith("a prompt"):
            number = process.send(json.dumps({"id": "large", "prompt": words}).encode())
            checker.bad[number] = Answer("bad line", {"codes": ["context_overflow"], "id": "large"}, number, 0)
            return lambda: number in checker.bad
        elif name.endswith("to tokenize"):
            id = driver.request("tokenize", {"text": words}, 0)
        else:
            id = driver.request("detokenize", {"tokens": numbers}, 0)
        return lambda: id in checker.open

    end = time.monotonic() + arguments.seconds / 2
    while (time.monotonic() < end or not waits["4 MiB to detokenize"][1]) and alive():
        for name, (between, whole) in waits.items():
            keep_streaming()
            while len(last) < arguments.streams and alive():
                read()
                keep_streaming()
            gaps.clear()
            start, goes_on = time.monotonic(), begin(name)
            while (goes_on() or not gaps) and alive():
                read()
                keep_streaming()
            whole.append(time.monotonic() - start)
            between += gaps
    for id in list(streams):
        checker.open[id].cancelled_at = time.monotonic()
        driver.request("cancel", {"target": id}, 0)
    latency = list(checker.cancel_latency)
    driver.finish()
    model = checker.ready["model"]
    print(f"{model['name']}, {model['parameters'] / 1e6:.1f} M parameters, {arguments.streams} running answers")
    print(f"{'cancel to done:':44}{percentiles(latency)}")
    print("between tokens of running answers, beside")
    for name, (between, whole) in waits.items():
        took = "" if name == "nothing new" else f"; took {sum(whole) / len(whole):.2f} s" if whole else ""
        print(f"    {name + ':':40}{percentiles(between)}{took}")
    for violation in checker.violations[:20]:
        print("BROKEN:", violation)
    return 1 if checker.violations else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], epilog="Flags behind -- go to sla.")
    parser.add_argument("--sla", default="sla", help="the program (default: sla)")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--latency", action="store_true", help="measure cancels and long prompts instead")
    parser.add_argument("--streams", type=int, default=4, help="running answers beside which latencies are measured (default: 4)")
    parser.add_argument("--prompt", type=int, default=4096, help="tokens of a long prompt (default: 4096, or what the context takes)")
    own, flags = sys.argv[1:], []
    if "--" in own:
        own, flags = own[: own.index("--")], own[own.index("--") + 1 :]
    arguments = parser.parse_args(own)
    driver = Driver(Process([arguments.sla, *flags]), arguments.seed, may_refuse="--max-queued" in flags)
    try:
        return (run_latency if arguments.latency else run_soak)(driver, arguments)
    finally:
        if driver.process.child.poll() is None:
            driver.process.child.kill()


if __name__ == "__main__":
    sys.exit(main())
