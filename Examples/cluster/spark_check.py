#!/usr/bin/env python3
"""Runs spark.py on two executors, kills one of them in the middle, and compares all answers with those of one process of sla, byte by byte.

    spark_check.py FOLDER [COUNT [PARTITIONS [FIELDS]]]      # requests (2000), partitions (16), fields of each, such as '"max_tokens":4'
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent


def processes():
    """Parent and command line of every process."""
    found = {}
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                found[int(folder.name)] = parent, (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (OSError, ValueError, IndexError):
                pass
    return found


def descendants(root):
    """Process ids and command lines below `root`."""
    all, below, more = processes(), {}, {root}
    while more:
        more = {pid for pid, (parent, _) in all.items() if parent in more}
        below |= {pid: all[pid][1] for pid in more}
    return below


def run(requests, out, partitions):
    """Runs the job and kills an executor; the lines that it wrote."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, str(HERE / "spark.py"), "--requests", str(requests), "--out", str(out), "--partitions", str(partitions)]
    begin, killed, answering = time.monotonic(), "", 0
    with open(f"{out}.log", "w") as log:
        job = subprocess.Popen([*command, "--master", "local-cluster[2,1,1024]"], stdout=subprocess.PIPE, stderr=log, text=True)
        while job.poll() is None:
            time.sleep(0.5)
            if killed:
                continue
            # In the middle of the answers, an executor: its Java process, whatever it started being left to itself.
            below = descendants(job.pid)
            answering += any(" serve " in line for line in below.values())
            executors = [pid for pid, line in below.items() if "CoarseGrainedExecutorBackend" in line]
            if answering > 6 and executors:
                os.kill(executors[0], signal.SIGKILL)
                killed = f"executor {executors[0]}, one of {len(executors)}, was killed after {time.monotonic() - begin:.0f} s"
        print(job.stdout.read().strip(), flush=True)
    if job.returncode:
        sys.exit(f"spark.py ended with {job.returncode}, see {out}.log")
    if not killed:
        sys.exit("it was over before an executor could be killed; take more requests")
    print(f"{killed}; all took {time.monotonic() - begin:.0f} s")
    return [line for part in sorted(out.glob("part-*")) for line in part.read_bytes().splitlines()]


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1]).resolve()
    count, partitions, fields = [*sys.argv[2:5], *["2000", "16", ""][len(sys.argv) - 2 :]][:3]
    folder.mkdir(parents=True, exist_ok=True)
    requests = folder / "requests.jsonl"
    with open(requests, "w") as file:
        subprocess.run([sys.executable, str(HERE / "requests.py"), count, "1", *[fields] * bool(fields)], stdout=file, check=True)
    sla = os.environ.get("SLA", "sla")
    with open(requests) as asked:
        alone = subprocess.run([sla, "serve", "--no-timing", "--ordered"], stdin=asked, stdout=subprocess.PIPE, check=True).stdout
    ends = [line for line in alone.splitlines() if line.startswith((b'{"type":"done"', b'{"type":"error"'))]
    expected = [b'{"request":%s,"answer":%s}' % pair for pair in zip(requests.read_bytes().splitlines(), ends, strict=True)]
    same = run(requests, folder / "answers", partitions) == expected
    print(f"{len(expected)} lines, {'the same bytes as' if same else 'NOT the same as'} those of one process")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
