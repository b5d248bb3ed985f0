#!/bin/sh
# Build Grafana Loki from the Go module proxy into a cache folder named by its version, and print the binary's path.
# Loki's module has `replace` lines, so `go install path@version` refuses it: a module of our own requires it and
# copies them; pkg/push, which Loki replaces by a folder of its checkout, is taken as published.
# Six to eleven minutes on two cores and 2 GiB of memory, once. Usage: loki.sh [path]   (path: print it, build nothing)
set -eu
version=v3.7.8
cache=${KSHARK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kshark}
binary=$cache/loki-$version/loki
if [ "${1:-}" = path ] || [ -x "$binary" ]; then
  echo "$binary"
  exit 0
fi
PATH=$PATH:/usr/local/go/bin
command -v go >/dev/null || { echo "Loki is built from its sources, which needs Go: https://go.dev/dl" >&2; exit 1; }
echo "building Loki $version into ${binary%/*} (ten minutes, once)" >&2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=0
go mod init kshark.test/loki 2>/dev/null
module=$(go mod download -json "github.com/grafana/loki/v3@$version" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
cp "$module" go.mod
sed -i -e 's|^module .*|module kshark.test/loki|' -e '/=> \.\//d' go.mod
echo "require github.com/grafana/loki/v3 $version" >>go.mod
mkdir -p "${binary%/*}"
nice go build -trimpath -ldflags '-s -w' -o "$binary.new" github.com/grafana/loki/v3/cmd/loki >&2
mv "$binary.new" "$binary"
echo "$binary"
