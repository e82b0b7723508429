#!/usr/bin/env python3
"""What 1, 2 and 4 processes of sla on one model take of this machine's memory: memory.py MODEL [flags of sla].

Each answers some requests, and then idles; PSS counts a page that N processes share as 1/N in each (/proc/PID/smaps_rollup), so that the sum of all is
what the machine lacks for others. Packed weights are each process's own; with --no-packing weights stay in the model's file, which all share.
"""

import os
import subprocess
import sys
import time


def pages(pid):
    """Fields of smaps_rollup in MiB."""
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        return {line.split(":")[0]: int(line.split()[1]) / 1024 for line in list(lines)[1:]}


def measure(flags, count):
    children = []
    for _ in range(count):
        command = [os.environ.get("SLA", "sla"), "serve", "--threads", "1", "--no-timing", "--cache-mib", "64", *flags]
        children.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    begin = time.monotonic()
    requests = b"".join(b'{"prompt":[5,6,7,%d],"ignore_eos":true,"max_tokens":4,"decoder":"greedy"}\n' % i for i in range(8))
    for child in children:
        child.stdin.write(requests)
        child.stdin.flush()
    for child in children:
        done = 0
        while done < 8:
            done += b'"type":"done"' in child.stdout.readline()
    took = time.monotonic() - begin
    # Time to pack what is left, and to give back what is not needed; until nothing changes any more.
    before = -1
    while before != (before := round(sum(pages(child.pid)["Pss"] for child in children))):
        time.sleep(3)
    each = [pages(child.pid) for child in children]
    for child in children:
        child.stdin.close()
        child.wait()
    total = sum(one["Pss"] for one in each)
    own = each[0]["Private_Dirty"]
    print(f"{count:9}{total:15.0f}{total / count:15.0f}{own:18.0f}{each[0]['Rss'] - own:18.0f}{took:12.1f}", flush=True)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    size = os.path.getsize(sys.argv[1]) / 2**20
    print(f"{sys.argv[1]}: {size:.0f} MiB; all figures but the first and the last in MiB")
    for extra in ([], ["--no-packing"]):
        print(f"{'weights stay in the file' if extra else 'weights are packed'}:")
        print(f"{'processes':>9}{'PSS of all':>15}{'PSS of one':>15}{'one: private':>18}{'one: of files':>18}{'answers, s':>12}")
        for count in (1, 2, 4):
            measure(["--model", *sys.argv[1:], *extra], count)


if __name__ == "__main__":
    main()
