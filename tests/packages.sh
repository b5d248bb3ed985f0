#!/usr/bin/env bash
# Wheel and sdist install and run on every Python from 3.11 on that this machine has, with and without a compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
.venv/bin/python -m pip install -q build
.venv/bin/python -m build -q -o "$work/dist" . >/dev/null
ls "$work/dist"
[ -n "$(unzip -l "$work"/dist/*.whl | grep 'kshark/wire/fast.*\.so')" ] || { echo "the wheel has no compiled core"; exit 1; }
unzip -l "$work"/dist/*.whl | grep -q 'kshark/py.typed' || { echo "the wheel has no py.typed"; exit 1; }

check() { # check NAME PYTHON WHAT EXPECTED [ENVIRONMENT ...]
    local name=$1 python=$2 what=$3 expected=$4
    shift 4
    "$python" -m venv "$work/$name"
    env "$@" "$work/$name/bin/python" -m pip install -q "$what"
    (cd "$work" && "$work/$name/bin/python" -c "
from kshark.wire import COMPILED
assert COMPILED is $expected, COMPILED")
    local out
    out=$(cd "$work" && printf '*1\r\n$4\r\nPING\r\n' | "$work/$name/bin/kshark" dissect --protocol redis)
    case $out in *PING*) echo "ok: $name ($("$python" -V 2>&1))" ;; *) echo "failed: $name: $out"; exit 1 ;; esac
}

seen=""
for candidate in python3 python3.11 python3.12 python3.13 "$HOME"/.pyenv/versions/3.1[123].*/bin/python; do
    python=$(command -v "$candidate" 2>/dev/null) || continue
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    case "$version $seen" in 3.11*3.11*|3.12*3.12*|3.13*3.13*) continue ;; 3.11*|3.12*|3.13*) ;; *) continue ;; esac
    seen="$seen $version"
    check "sdist-$version" "$python" "$(ls "$work"/dist/*.tar.gz)" True
done
check wheel .venv/bin/python "$(ls "$work"/dist/*.whl)" True
check "no-compiler" .venv/bin/python "$(ls "$work"/dist/*.tar.gz)" False CC=/nonexistent/cc
