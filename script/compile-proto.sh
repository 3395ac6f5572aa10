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

mkdir -p "$out/proto"
protos() { find "$@" -name '*.proto' -not -path './.*' -not -path '*/node_modules/*' -not -path '*/testdata/*' | sed 's|^\./||' | sort; }

# What .proto files import as goverse/options.proto.
"$bin/protoc" -I proto -plugin "$bin/protoc-gen-go" -out "$out/proto" goverse/options.proto

# The services of these are objects; those of all others are gRPC's.
mapfile -t objects < <(protos ./samples ./test ./cmd/goverse/starter)
mapfile -t others < <(protos . | grep -v -e '^proto/goverse/' -e '^samples/' -e '^test/' -e '^cmd/goverse/starter/')
"$bin/protoc" -plugin "$bin/protoc-gen-go" -plugin "$bin/protoc-gen-go-grpc" -out "$out" "${others[@]}"
go build -o "$bin/protoc-gen-go-goverse" ./cmd/protoc-gen-go-goverse
"$bin/protoc" -I . -I proto -plugin "$bin/protoc-gen-go" -plugin "$bin/protoc-gen-go-goverse" -out "$out" "${objects[@]}"

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
  done < <(find . -name '*.pb.go' -not -path './.*' -not -path '*/testdata/*' | sed 's|^\./||' | sort)
  if [ "$stale" = 1 ]; then
    echo "compile-proto: the committed files differ from their .proto; run script/compile-proto.sh and commit" >&2
    exit 1
  fi
fi
