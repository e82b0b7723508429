#!/usr/bin/env bash
# Makes the manual's page sla-protocol(7) of Protocol.md, by lowdown.
#   protocol-manual.sh VERSION DATE <Protocol.md >sla-protocol.7
set -euo pipefail
# A page of the manual begins with its name; links within it lead nowhere in a terminal.
sed -E -e '1s/.*/# NAME\n\nsla-protocol - what sla reads and writes as JSON Lines\n\n# DESCRIPTION/' \
    -e 's/\[([^]]*)\]\((#[^)]*|[A-Z][^):]*)\)/\1/g' -e 's/^```jsonl.*/```/' |
    lowdown -s -tman -M "title=sla-protocol" -M "section=7" -M "date=$2" -M "source=sla $1" -M "volume=The protocol" |
    # Type that is fixed in print is bold on terminals; narrow columns are ragged, unhyphenated; no paragraph begins right behind a heading.
    sed -E -e 's/\\f(C|\(CR)/\\fB/g' -e 's/T\{$/T{\n.na\n.nh/' |
    awk '/^\.[LP]P$/ && heading { next } { heading = heading > 1 && !/^\./ ? 1 : 0 } /^\.S[HS]/ { heading = 2 } { print }'
