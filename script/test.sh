#!/usr/bin/env bash
# Runs every check of the project, the same here and in CI. It needs Go; what else
# the tests use it finds, installs where it may (apt-get, as root), or goes without
# and says so.
#
#   script/test.sh             everything
#   script/test.sh --short     the quick half: go test -short, no fuzzing
#   script/test.sh --no-race   without the race detector
#   script/test.sh --no-fuzz   without fuzzing
#
# FUZZTIME               how long each fuzz target runs (default 5s)
# GOVERSE_CHROMIUM       the browser for the browser test (default: the first on PATH)
# GOVERSE_TEST_POSTGRES  a PostgreSQL to test with, as a URL whose user may create databases
#                        (default: the tests start a private one)
# GOFLAGS                is honoured, as by every go command
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

short= race=-race nofuzz=
for option in "$@"; do
  case "$option" in
    --short) short=-short nofuzz=--short ;;
    --no-race) race= ;;
    --no-fuzz) nofuzz=--no-fuzz ;;
    --help | -h)
      sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
      exit
      ;;
    *)
      echo "test.sh: $option is no option; see script/test.sh --help" >&2
      exit 2
      ;;
  esac
done

tmp=$(mktemp -d "${TMPDIR:-/tmp}/goverse-test.XXXXXX")
chmod 755 "$tmp" # some tests run programs as another user
trap 'chmod -R u+w "$tmp" 2>/dev/null || true; rm -rf "$tmp"' EXIT
mkdir -m 1777 "$tmp/tmp"
export TMPDIR="$tmp/tmp" HOME="${HOME:-$tmp/home}"

missing=() # what this run went without
say() { printf '\n== %s\n' "$*"; }
without() {
  missing+=("$1")
  printf '\n!! %s\n' "$1" >&2
}

# step NAME COMMAND...: announces a check and says how long it took. Within it set -e
# does not hold: what may fail says "|| return 1".
step() {
  local name=$1 began=$SECONDS
  shift
  say "$name"
  if ! "$@"; then
    printf '\nFAILED: %s (after %d s)\n' "$name" $((SECONDS - began)) >&2
    exit 1
  fi
  printf -- '-- %s: %d s\n' "$name" $((SECONDS - began))
}

# What is needed.

# apt PACKAGE...: installs with apt-get, where that is possible.
apt_updated=
apt() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  echo "installing $* with apt-get"
  export DEBIAN_FRONTEND=noninteractive
  if [ -z "$apt_updated" ]; then
    apt-get update -qq || return 1
    apt_updated=yes
  fi
  apt-get install -y -qq --no-install-recommends "$@" >"$tmp/apt.log" 2>&1 || {
    tail -n 5 "$tmp/apt.log" >&2
    return 1
  }
}

need_go() {
  local version
  version=$(awk '$1 == "go" { print $2 }' go.mod)
  command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
  if ! command -v go >/dev/null; then
    echo "test.sh: Go $version or newer is needed and go is not on the PATH: https://go.dev/dl/" >&2
    exit 1
  fi
  if ! go version; then
    echo "test.sh: Go $version or newer is needed: https://go.dev/dl/" >&2
    exit 1
  fi
  # A clone that belongs to another user has no version that go build could stamp.
  git status >/dev/null 2>&1 || export GOFLAGS="${GOFLAGS:+$GOFLAGS }-buildvcs=false"
}

need_c_compiler() {
  [ -n "$race" ] || { without "the race detector: switched off by --no-race"; return 0; }
  local cc
  cc=$(go env CC)
  if ! command -v "${cc%% *}" >/dev/null && ! apt gcc libc6-dev; then
    race=
    without "the race detector: it needs a C compiler ($cc), which is not here and could not be installed"
    return 0
  fi
  export CGO_ENABLED=1
}

need_browser() {
  local b
  for b in "${GOVERSE_CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
    if [ -n "$b" ] && command -v "$b" >/dev/null; then
      GOVERSE_CHROMIUM=$(command -v "$b")
      export GOVERSE_CHROMIUM
      echo "browser: $GOVERSE_CHROMIUM"
      return 0
    fi
  done
  if apt chromium && command -v chromium >/dev/null; then
    GOVERSE_CHROMIUM=$(command -v chromium)
    export GOVERSE_CHROMIUM
    return 0
  fi
  unset GOVERSE_CHROMIUM
  without "the browser test: no chromium here and it could not be installed (as root on Debian: apt-get install chromium; or set GOVERSE_CHROMIUM)"
}

# need_node: Node.js 20 or newer. Debian's may be older; then it is not used.
need_node() {
  command -v node >/dev/null || apt nodejs || true
  local version
  if version=$(node -p process.versions.node 2>/dev/null) && [ "${version%%.*}" -ge 20 ]; then
    echo "Node.js: $version"
    [ -d client/js/node_modules/typescript ] || (cd client/js && npm ci --ignore-scripts --no-audit --no-fund --fetch-retries=0 --fetch-timeout=30000) >"$tmp/npm.log" 2>&1 ||
      without "the types of the JavaScript client: TypeScript could not be installed (cd client/js && npm ci)"
    return 0
  fi
  without "the JavaScript client's tests: no Node.js 20 or newer here and it could not be installed (https://nodejs.org/; here: ${version:-none})"
}

# find_postgres: the directory of a PostgreSQL server's programs, as test/pg looks for it.
find_postgres() {
  local dir
  for dir in "$(dirname "$(command -v postgres 2>/dev/null)" 2>/dev/null)" "$(pg_config --bindir 2>/dev/null)" /usr/lib/postgresql/*/bin /usr/pgsql-*/bin; do
    if [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ]; then
      echo "$dir"
      return 0
    fi
  done
  return 1
}

# apt_postgres: installs the server's programs. Debian's package would also make a
# cluster of its own and start it: that is switched off first.
apt_postgres() {
  local conf=/etc/postgresql-common/createcluster.conf
  apt postgresql-common || return 1
  if ! grep -qs '^ *create_main_cluster *= *false' "$conf"; then
    echo "$conf: create_main_cluster = false, so that no server is started beside the tests' own"
    echo 'create_main_cluster = false' >>"$conf" || return 1
  fi
  apt postgresql
}

need_postgres() {
  if [ -n "${GOVERSE_TEST_POSTGRES:-}" ]; then
    echo "PostgreSQL: the one that GOVERSE_TEST_POSTGRES names"
    return 0
  fi
  local dir
  if dir=$(find_postgres) || { apt_postgres && dir=$(find_postgres); }; then
    echo "PostgreSQL: $dir"
    return 0
  fi
  without "the PostgreSQL tests: no server here and it could not be installed (as root on Debian: apt-get install postgresql; or set GOVERSE_TEST_POSTGRES)"
}

# need_tool COMMAND PACKAGE WHAT: a small program of the system's.
need_tool() {
  PATH=$PATH:/usr/sbin:/sbin
  command -v "$1" >/dev/null || apt "$2" || without "$3: no $1 here and it could not be installed (as root on Debian: apt-get install $2)"
}

# need_protoc: it and what .proto files import from it, which Debian has apart.
need_protoc() {
  { command -v protoc >/dev/null && find /usr/include /usr/local/include "$(dirname "$(command -v protoc)")/../include" -path '*google/protobuf/descriptor.proto' 2>/dev/null | grep -q .; } ||
    apt protobuf-compiler libprotobuf-dev ||
    without "the generator under plain protoc: no protoc here and it could not be installed (as root on Debian: apt-get install protobuf-compiler libprotobuf-dev)"
}

# The checks.

formatted() {
  local files
  files=$(find . -name '*.go' -not -name '*.pb.go' -not -path './.*' -not -path '*/node_modules/*' -print0 |
    xargs -0 "$(go env GOROOT)/bin/gofmt" -l) || return 1
  [ -z "$files" ] || { printf 'not gofmt-ed:\n%s\n' "$files"; return 1; }
}

static() {
  (cd tools && go vet ./... && go build -o "$tmp/staticcheck" honnef.co/go/tools/cmd/staticcheck) || return 1
  "$tmp/staticcheck" ./...
}

# peers checks the comparison with other systems. It is a module of its own, and its
# modules are not fetched for this.
peers() (
  cd bench/peers || return 1
  GOPROXY=off go vet ./... 2>"$tmp/peers.log" && "$tmp/staticcheck" ./... && return 0
  cat "$tmp/peers.log"
  ! grep -q 'lookup disabled by GOPROXY=off' "$tmp/peers.log" || return 3
  return 1
)

static_peers() {
  local outcome=0
  peers || outcome=$?
  [ "$outcome" = 3 ] || return "$outcome"
  without "bench/peers, not even built: its modules are not here (cd bench/peers && go mod download)"
}

# deploy holds deploy/ against the schemas of those who read it, which are modules that
# nothing else here needs.
deploy() (
  cd deploy/check || return 1
  go list -deps -test ./... >/dev/null 2>"$tmp/deploy.log" || return 3
  go vet ./... && "$tmp/staticcheck" ./... && go test -count=1 ./...
)

deploy_checked() {
  local outcome=0
  deploy || outcome=$?
  [ "$outcome" = 3 ] || return "$outcome"
  cat "$tmp/deploy.log"
  without "deploy/check: its modules could not be fetched (cd deploy/check && go mod download)"
}

# SQLite itself is C that was translated to Go. Watched by the race detector it takes
# several times as long, and nothing is found in it that is ours. Only this package may be
# left out: it has no generic code, of which an unwatched instance could be linked in place
# of everybody's, and then the detector misses what others are synchronised by.
norace='-gcflags=modernc.org/sqlite/lib=-race=false'

# go_test NAME PACKAGE...: go test, with a line for each package and each failure.
go_test() {
  local skipped="$tmp/skipped.$1"
  shift
  # shellcheck disable=SC2086 # flags that may be absent
  go test -json -count=1 -timeout 15m $race ${race:+"$norace"} $short "$@" 2>&1 | "$tmp/testlines" -skipped "$skipped"
}

# tests runs the packages, and then by themselves those that compare speeds, those that
# start processes, and the one test that takes a single late renewal amiss: these have to
# keep up with real clocks. What compares speeds, the model checker, which has one
# goroutine, and the attacks of hostile clients, beside which others are to be served in
# time, are not built with the race detector. All of them run, also behind one that failed.
tests() {
  go build -o "$tmp/testlines" ./script/testlines || return 1
  local packages
  mapfile -t packages < <(go list ./... | grep -v -e '/test/e2e$' -e '/test/bank$' -e '/test/model$' -e '/test/hostile$' -e '/bench/continuity$')
  [ "${#packages[@]}" -gt 0 ] || return 1
  local failed=
  # Three at a time: some wait for a disk or a database.
  go_test packages -p 3 -skip '^TestEmbeddedEtcd$' "${packages[@]}" || failed="$failed packages"
  go_test etcd -run '^TestEmbeddedEtcd$' ./cluster || failed="$failed etcd"
  race='' go_test guards -p 1 ./bench ./test/model ./test/hostile || failed="$failed guards"
  go_test processes -p 1 ./test/e2e ./test/bank ./bench/continuity || failed="$failed processes"
  [ -z "$failed" ] || { echo "failed among:$failed"; return 1; }
}

# fuzz_one PACKAGE TARGET: one core's worth; fuzzing runs as many as there are cores.
fuzz_one() {
  local log="$tmp/fuzz.$2.log"
  echo "$1 $2"
  go test -run '^$' -parallel 1 -fuzz "^$2\$" -fuzztime "${FUZZTIME:-5s}" -fuzzminimizetime 2s "$1" >"$log" 2>&1 && return 0
  # Go's own race at the end of the time (go.dev/issue/75804, in Go before 1.27): it
  # fails without an input, and a real finding always has one.
  if grep -qx ' *context deadline exceeded' "$log" && ! grep -q 'Failing input written' "$log"; then
    echo "(the fuzzer's clock ran out in the middle of an input; nothing was found)"
    return 0
  fi
  cat "$log"
  return 1
}

fuzzing() {
  grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed -E 's|/[^/]*:func | |' | sort >"$tmp/fuzzlist"
  export -f fuzz_one
  export tmp
  xargs -r -P "$(nproc)" -n 2 bash -c 'fuzz_one "$@"' _ <"$tmp/fuzzlist"
}

say "what is needed"
need_go
need_c_compiler
need_browser
need_node
need_postgres
need_tool strace strace "faults of a real disk"
need_tool ip iproute2 "processes in network namespaces"
need_protoc
[ -z "$nofuzz" ] || without "fuzzing: switched off by $nofuzz"

step "gofmt" formatted
step "go vet" go vet ./...
step "staticcheck" static
step "bench/peers, built" static_peers
step "deploy, checked" deploy_checked
step "compile-proto --check" script/compile-proto.sh --check
step "go test ${race:+$race }${short:+$short }./..." tests
[ -n "$nofuzz" ] || step "fuzz, ${FUZZTIME:-5s} each" fuzzing

say "all checks passed in $SECONDS s"
for m in "${missing[@]}"; do echo "did not run: $m"; done
if cat "$tmp"/skipped.* 2>/dev/null | grep -q .; then
  echo "skipped tests:"
  cat "$tmp"/skipped.* | sed 's/^/  /'
fi
