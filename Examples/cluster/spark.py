#!/usr/bin/env python3
"""Answers requests with Apache Spark: one process of sla for each partition, answers joined with their requests by id.

    spark.py --requests requests.jsonl --out answers --partitions 16 --master 'local[2]' -- --model model.gguf

OUT becomes a folder of part files, in the requests' order: a line {"request":…,"answer":…} for each request. Flags behind -- go to sla.
A partition whose executor dies is sent to another and computed again: to the same bytes, so it does not matter that it was.
"""

import argparse
import json
import os
import shlex
import sys

from pyspark import SparkConf, SparkContext

ENDS = {"done", "score", "tokens", "text", "error"}


def numbered(pair):
    """A request's id as JSON, and its line: with its number for an id where it has none, since every process would count for itself."""
    line, index = pair
    try:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise ValueError
    except ValueError:
        raise SystemExit(f"line {index + 1} is not a JSON object: {line[:80]}")
    if request.get("id") is None:
        request = {"id": index + 1, **{name: value for name, value in request.items() if name != "id"}}
        line = json.dumps(request, ensure_ascii=False)
    return json.dumps(request["id"]), (index, line)


def ending(line):
    """An event's id and the event, if it ends a request."""
    event = json.loads(line)
    return [(json.dumps(event["id"]), line)] if event["type"] in ENDS else []


def joined(row):
    """The line of a request and its answers, of which there must be one."""
    index, request, answers = row
    return index, '{"request":' + request + ',"answer":' + (answers[0] if len(answers) == 1 else "null") + "}"


def main():
    own, flags = sys.argv[1:], []
    if "--" in own:
        own, flags = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", required=True, help="a file that all executors can read")
    parser.add_argument("--out", required=True, help="a folder that is not there yet")
    parser.add_argument("--partitions", type=int, default=16)
    parser.add_argument("--master", default="local[*]")
    parser.add_argument("--sla", default=os.environ.get("SLA", "sla"), help="the program, where executors have it")
    options = parser.parse_args(own)

    # On one machine nothing leaves it; with a real master, its addresses are given by spark-submit or the environment.
    configuration = SparkConf().setAppName("sla").setMaster(options.master).set("spark.log.level", "ERROR")
    configuration.set("spark.ui.enabled", "false").set("spark.ui.showConsoleProgress", "false")
    if options.master.startswith("local"):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        configuration.set("spark.driver.host", "127.0.0.1").set("spark.driver.bindAddress", "127.0.0.1")
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    context = SparkContext(conf=configuration)

    # Neighbours share a partition, and which they are depends on the file only: the same processes get the same lines in every run.
    requests = context.textFile(options.requests, options.partitions).filter(lambda line: line.strip()).zipWithIndex().map(numbered)
    command = [options.sla, "serve", "--threads", "1", "--no-timing", "--ordered", *flags]
    # checkCode: a process that ends otherwise than with 0 has not answered all, and its partition is computed again.
    events = requests.map(lambda request: request[1][1]).pipe(shlex.join(command), checkCode=True)
    answers = events.flatMap(ending)
    rows = (
        requests.cogroup(answers, options.partitions)
        .flatMap(lambda pair: [(index, line, list(pair[1][1])) for index, line in pair[1][0]] or [(-1, pair[0], list(pair[1][1]))])
        .cache()
    )

    def counts(one, row):
        index, _, found = row
        return [one[0] + (index >= 0), one[1] + len(found), one[2] + (not found), one[3] + max(0, len(found) - 1), one[4] + (index < 0)]

    asked, given, missing, again, strange = rows.aggregate([0] * 5, counts, lambda a, b: [x + y for x, y in zip(a, b)])
    print(f"{asked} requests in, {given} answers out; {missing} missing, {again} more than once, {strange} of no request", flush=True)
    if missing or again or strange:
        return 1
    place = lambda index: index * options.partitions // asked  # noqa: E731
    rows.map(joined).repartitionAndSortWithinPartitions(options.partitions, place).values().saveAsTextFile(options.out)
    context.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
