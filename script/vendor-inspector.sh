#!/usr/bin/env bash
# Takes what the inspector's page uses from others out of their npm packages, byte for
# byte as they were published, and puts it into inspector/web/vendor: the page is served
# as it lies there, without a build and without another network.
#
#   script/vendor-inspector.sh           fetch the pinned packages with npm, and write the files
#   script/vendor-inspector.sh --check   fail when a file is not the pinned one; needs no network
#
# A new version: change its line here (npm view NAME@VERSION dist.integrity), run it, and
# commit what it wrote.
set -euo pipefail
cd "$(dirname "$0")/.."
vendor=inspector/web/vendor

if [ "${1:-}" = --check ]; then
  cd "$vendor"
  sha256sum --quiet --check --strict SHA256SUMS
  known=$(cut -d ' ' -f 3 SHA256SUMS; echo SHA256SUMS)
  if odd=$(ls | grep -vxF "$known"); then
    echo "vendor-inspector: nobody published $odd: it is not in $vendor/SHA256SUMS" >&2
    exit 1
  fi
  exit
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf "$vendor"
mkdir -p "$vendor"

# take NAME VERSION INTEGRITY FROM=TO...: files of a package.
take() {
  local name=$1 version=$2 integrity=$3 got pair
  shift 3
  (cd "$work" && npm pack --silent --ignore-scripts "$name@$version" >/dev/null)
  got="sha512-$(openssl dgst -sha512 -binary "$work/$name-$version.tgz" | base64 -w 0)"
  if [ "$got" != "$integrity" ]; then
    echo "vendor-inspector: $name@$version is $got, not $integrity as pinned" >&2
    exit 1
  fi
  mkdir "$work/$name"
  tar -xzf "$work/$name-$version.tgz" -C "$work/$name"
  for pair in "$@"; do
    install -m 644 "$work/$name/package/${pair%%=*}" "$vendor/${pair#*=}"
  done
}

take sigma 3.0.3 sha512-5H0zFlx6/NTQpqBg4Rm569ZOpnBOXMaS25UQThIWMU3XyzI5AhmorK/gnl87BvJBLhQd0tW4C0LIp3enWzMoNw== \
  dist/sigma.min.js=sigma.min.js LICENSE.txt=sigma.LICENSE
take graphology 0.26.0 sha512-8SSImzgUUYC89Z042s+0r/vMibY7GX/Emz4LDO5e7jYXhuoWfHISPFJYjpRLUSJGq6UQ6xlenvX1p/hJdfXuXg== \
  dist/graphology.umd.min.js=graphology.umd.min.js LICENSE.txt=graphology.LICENSE
# Their bundles contain parts of these: only the licences are taken.
take events 3.3.0 sha512-mQw+2fkQbALzQ7V0MY0IqdnXNOeTtP4r0lN9z7AAawCXgqea7bDii20AYrIBrFd/Hx0M2Ocz6S111CaFkUcb0Q== \
  LICENSE=events.LICENSE
take graphology-utils 2.5.2 sha512-ckHg8MXrXJkOARk56ZaSCM1g1Wihe2d6iTmz1enGOz4W/l831MBCKSayeFQfowgF8wd+PQ4rlch/56Vs/VZLDQ== \
  LICENSE.txt=graphology-utils.LICENSE

(cd "$vendor" && sha256sum -- * >"$work/SHA256SUMS" && mv "$work/SHA256SUMS" .)
