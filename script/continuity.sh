#!/usr/bin/env bash
# The long form of what clients hear while gates and nodes fail: 5,000 readers, 10,000
# disconnects, 20 storms of 2,000 clients, a stream of events that lives for five minutes.
# It takes about ten minutes.
#
#   script/continuity.sh                      all of it
#   script/continuity.sh -parts faults        one part
#   script/continuity.sh -help                what there is, and what is checked
set -euo pipefail
cd "$(dirname "$0")/.."
ulimit -n "$(ulimit -Hn)"
tmp=$(mktemp -d "${TMPDIR:-/tmp}/goverse-continuity.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
go build -o "$tmp/continuity" ./bench/continuity
"$tmp/continuity" "$@"
