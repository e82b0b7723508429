#!/usr/bin/env python3
"""What guesses gain on real edits: old and new versions of Python files, from a repository's history.

    edits.py [REPOSITORY [COUNT]] [-- flags of sla]      # the last edits, 100 unless COUNT tells; --model builtin:python unless flags tell

Where a commit changed lines, the model goes on behind the new version's first changed line, and the old version's text from there is the
`prediction`, as an editor that knows what was there would send it. Each request goes to two processes in turns, one with guesses and one without: a
process that had just answered it would guess the answer from what it saw. Both answers must be the same.
"""

import difflib
import json
import os
import statistics
import subprocess
import sys

TOKENS = 64


def git(repository, *arguments):
    return subprocess.run(["git", "-C", repository, *arguments], capture_output=True, check=True).stdout.decode(errors="replace")


def edits(repository, count):
    """Prompts and predictions, the newest commit's first."""
    log = git(repository, "log", "--no-merges", "--diff-filter=M", "--format=commit %H", "--name-only", "--", "*.py")
    commit = None
    for line in log.splitlines():
        if line.startswith("commit "):
            commit = line.split()[1]
        elif line:
            old, new = (git(repository, "show", f"{at}:{line}").splitlines(keepends=True) for at in (commit + "~", commit))
            for tag, a, _, b, end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
                if tag in ("replace", "insert") and end - b > 1:
                    yield "".join(new[max(0, b - 12) : b + 1]), "".join(old[a : a + 20])
                    count -= 1
                    if count == 0:
                        return


def main():
    own, flags = sys.argv[1:], ["--model", "builtin:python"]
    if "--" in own:
        own, flags = own[: own.index("--")], own[own.index("--") + 1 :]
    repository, count = own[0] if own else ".", int(own[1]) if len(own) > 1 else 100
    found = list(edits(repository, count))
    command = [os.environ.get("SLA", "sla"), "serve", *flags]
    processes = {
        guesses: subprocess.Popen(command + more, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for guesses, more in ((True, []), (False, ["--no-speculation"]))
    }

    def ask(prompt, prediction, guesses):
        sla = processes[guesses]
        request = {"prompt": prompt, "truncate": "left", "prediction": prediction, "max_tokens": TOKENS, "decoder": "greedy"}
        sla.stdin.write(json.dumps(request) + "\n")
        sla.stdin.flush()
        for event in map(json.loads, sla.stdout):
            if event["type"] == "error":
                sys.exit(event["message"])
            if event["type"] == "done":
                return event
        sys.exit("sla ended")

    ratios, drafted, accepted, tokens = [], 0, 0, 0
    for number, (prompt, prediction) in enumerate(found):
        pair = {guesses: ask(prompt, prediction, guesses) for guesses in ((True, False) if number % 2 else (False, True))}
        if pair[True]["text"] != pair[False]["text"]:
            sys.exit(f"guesses changed an answer, behind {prompt!r}")
        # From the first token on: guesses begin there.
        spent = {guesses: event["timing"]["total_ms"] - event["timing"]["first_token_ms"] for guesses, event in pair.items()}
        if pair[True]["usage"]["completion_tokens"] > 8:
            ratios.append(spent[False] / max(spent[True], 1e-3))
        tokens += pair[True]["usage"]["completion_tokens"]
        drafted += pair[True]["timing"]["drafted_tokens"]
        accepted += pair[True]["timing"]["accepted_tokens"]
    for sla in processes.values():
        sla.stdin.close()
    if not ratios:
        sys.exit("no commit changed a Python file")
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"{len(found)} edits, {tokens} tokens: {drafted} guessed, {accepted} of them right ({accepted / max(1, drafted):.0%});")
    print(f"{accepted / max(1, tokens):.0%} of the tokens came by guesses, {middle:.2f} times as fast as without [{low:.2f}, {high:.2f}: quartiles]")


if __name__ == "__main__":
    main()
