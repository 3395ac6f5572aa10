#!/usr/bin/env bash
# The long forms of the tests that script/test.sh runs in short: hours together, for the
# days before a release. Each says its seed.
#
#   script/long.sh                 all of them, one after the other
#   script/long.sh kill chance     some
#
#   chance    5,000 stories of test/random under the race detector, and the mutants
#   kill      50 times kill -9 behind 10,000 acknowledged messages; ten rolling restarts
#   trouble   every trouble of networks and etcd, and the long ones
#   bank      an hour of money on the move while nodes die at every boundary
#   model     the protocol's full bounds
#   nodes     100 nodes on one etcd
#   clients   5,000 readers through deaths and partitions; the hostile clients as a flood
#   fuzz      every fuzz target for ten minutes
set -euo pipefail
cd "$(dirname "$0")/.."

long() { go test -count=1 -timeout=6h "$@"; }

run() {
  printf '\n== %s\n' "$1"
  case "$1" in
    chance)
      long -race '-gcflags=modernc.org/sqlite/lib=-race=false' ./test/random -random.seeds=5000
      script/mutants.sh
      ;;
    kill) long -race ./test/e2e -v -run '^(TestKill|TestZero)$' -e2e.rounds=50 -e2e.messages=10000 -e2e.rollings=10 ;;
    trouble) long -race ./test/e2e -v -run '^(TestPartitions|TestEtcdTroubles|TestEveryProgramEndsOnSignals|TestPages)$' -e2e.long ;;
    bank) long ./test/bank -v -run '^TestProcesses$' -bank.for=1h ;;
    model) long ./test/model -v -model.full ;;
    nodes) long ./cluster -v -run '^TestManyNodes$' -cluster.nodes=100 ;;
    clients)
      script/continuity.sh
      long ./test/hostile -v -hostile.long
      ;;
    fuzz)
      grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed -E 's|/[^/]*:func | |' | sort |
        while read -r package target; do
          echo "$package $target"
          go test -run '^$' -fuzz "^$target\$" -fuzztime 10m "$package"
        done
      ;;
    *)
      sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2
      return 2
      ;;
  esac
}

[ $# -gt 0 ] || set -- chance kill trouble bank model nodes clients fuzz
for name in "$@"; do run "$name"; done
