#!/usr/bin/env bash
# Takes the product's guards out, one at a time, and prints after how many seeds of
# test/random each loss is caught. It takes some minutes.
#
#   script/mutants.sh                 all mutants
#   script/mutants.sh -only 'stage'   those whose names match, survivors included
#   script/mutants.sh -seeds 500      at most so many seeds for each
set -euo pipefail
cd "$(dirname "$0")/.."
exec go test ./test/mutants -v -count=1 -timeout=3h -run '^TestMutants$' -args -mutants "$@"
