#!/usr/bin/env bash
# Attacks a Goverse process with everything that test/hostile knows, and prints a table: the attack, how the victim answered, how long the slowest call
# took of the clients that mean well, how much the victim's heap had grown at the height of
# the attack, and at most, and how long it took. Linux only.
#
#   script/hostile.sh                  all attacks
#   script/hostile.sh --long           in the sizes of a flood: 20,000 files may be open, and
#                                      a machine that is busy besides fails the clients that mean well
#   script/hostile.sh -run 'windows'   those whose names match
set -euo pipefail
cd "$(dirname "$0")/.."
long= run=.
while [ $# -gt 0 ]; do
  case "$1" in
    --long) long=-hostile.long ;;
    -run) run=${2:?a part of a name} && shift ;;
    --help | -h)
      sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
      exit
      ;;
    *)
      echo "hostile.sh: $1 is no option; see script/hostile.sh --help" >&2
      exit 2
      ;;
  esac
  shift
done
ulimit -n "$(ulimit -Hn)"
out=$(mktemp)
trap 'rm -f "$out"' EXIT
status=0
# One victim after another, so that they do not slow each other down.
go test ./test/hostile -v -count=1 -parallel=1 -timeout=1h -run "/($run)" -args $long >"$out" 2>&1 || status=$?
{
  echo 'attack|answered|slowest good call|heap|heap at most|took'
  sed -n 's/.*HOSTILE|//p' "$out"
} | column -t -s '|'
if [ $status != 0 ]; then
  grep -v 'HOSTILE|\|^=== ' "$out" >&2
fi
exit $status
