#!/bin/sh
# Build VictoriaLogs from the Go module proxy into a cache folder named by its version, and print the binary's path.
# It is a log server, not ours, that takes Loki's push API: protobuf, snappy, structured metadata.
# Two to four minutes on two cores, once. Usage: victorialogs.sh [path]   (path: print it, build nothing)
set -eu
version=v1.52.1
cache=${KSHARK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kshark}/victorialogs-$version
if [ "${1:-}" = path ] || [ -x "$cache/victoria-logs" ]; then
  echo "$cache/victoria-logs"
  exit 0
fi
PATH=$PATH:/usr/local/go/bin
command -v go >/dev/null || { echo "VictoriaLogs is built from its sources, which needs Go: https://go.dev/dl" >&2; exit 1; }
echo "building VictoriaLogs $version into $cache (some minutes, once)" >&2
GOBIN=$cache GOFLAGS=-trimpath CGO_ENABLED=0 nice go install -ldflags '-s -w' \
  "github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs@$version" >&2
echo "$cache/victoria-logs"
