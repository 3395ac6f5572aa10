#!/usr/bin/env bash
# Compiles every .proto of the repository beside itself. Needs only Go: the
# compiler and the plugins are built from tools/go.mod, at the versions it pins.
# Running it twice changes nothing.
#
#   script/compile-proto.sh           write the generated files
#   script/compile-proto.sh --check   fail when what is committed differs
set -euo pipefail
cd "$(dirname "$0")/.."

bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
(cd tools && GOBIN="$bin" go install ./protoc google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc)

out=.
if [ "${1:-}" = --check ]; then
  out="$bin/out"
  mkdir "$out"
fi

mapfile -t files < <(find . -name '*.proto' -not -path './.*' -not -path '*/node_modules/*' | sed 's|^\./||' | sort)
"$bin/protoc" -plugin "$bin/protoc-gen-go" -plugin "$bin/protoc-gen-go-grpc" -out "$out" "${files[@]}"

if [ "$out" != . ]; then
  stale=0
  while IFS= read -r f; do
    if ! diff -u "$f" "$out/$f"; then stale=1; fi
  done < <(cd "$out" && find . -name '*.go' | sed 's|^\./||' | sort)
  while IFS= read -r f; do
    if [ ! -e "$out/$f" ]; then
      echo "$f: no .proto makes this file any more" >&2
      stale=1
    fi
  done < <(find . -name '*.pb.go' -not -path './.*' | sed 's|^\./||' | sort)
  if [ "$stale" = 1 ]; then
    echo "compile-proto: the committed files differ from their .proto; run script/compile-proto.sh and commit" >&2
    exit 1
  fi
fi
