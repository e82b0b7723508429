#!/usr/bin/env bash
# Answers some hundred requests with GNU parallel, of whose processes one is killed and one finds its disk full, then goes on, and counts.
# SLA=… check.sh; it takes some seconds.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export SLA_HERE=${SLA:-sla}
"$here/requests.py" 600 1 '"max_tokens":8' >"$work/requests.jsonl"
"$SLA_HERE" serve --no-timing --ordered <"$work/requests.jsonl" >"$work/alone.jsonl"

# The program with two faults: what writes the first file is killed in the middle, and what writes the second has a disk of 8 KiB.
cat >"$work/faulty" <<'END'
#!/usr/bin/env bash
case "$*" in
*answers.1.jsonl*)
    # It gets 40 requests and waits for more, so that it is there to be killed.
    { head -n 40; sleep 3; } 2>/dev/null | "$SLA_HERE" "$@" &
    while [ ! -s answers/answers.1.jsonl ] || [ "$(grep -c '"type":"done"' answers/answers.1.jsonl)" -lt 20 ]; do sleep 0.05; done
    kill -9 $!
    wait $!
    ;;
*answers.2.jsonl*)
    ulimit -f 16
    exec "$SLA_HERE" "$@"
    ;;
*) exec "$SLA_HERE" "$@" ;;
esac
END
chmod +x "$work/faulty"
cd "$work"
if SLA=./faulty CHUNK=200 JOBS=2 "$here/parallel.sh" requests.jsonl answers 2>errors; then
    echo "GNU parallel did not tell that two processes failed"
    exit 1
fi
grep -q 'cannot write events: File too large' errors
if "$here/count.py" requests.jsonl answers/answers.*.jsonl; then exit 1; fi
SLA=$SLA_HERE CHUNK=200 JOBS=2 "$here/parallel.sh" requests.jsonl answers
"$here/count.py" requests.jsonl answers/answers.*.jsonl
# In their order, which is the requests', the answers are those of one process.
cmp <(cat answers/answers.{1,2,3}.jsonl | grep -v '"type":"ready"') <(grep -v '"type":"ready"' alone.jsonl)
echo "the same bytes as those of one process"
