#!/usr/bin/env bash
# Wheel and sdist hold what they must, and install and run on every Python from 3.11 on that this machine has,
# with and without a compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || { echo "there is no .venv: make dev" >&2; exit 1; }
export PIP_DISABLE_PIP_VERSION_CHECK=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "failed: $*" >&2; exit 1; }

# ------------------------------------------------------------------ what is in them
.venv/bin/python -m pip install -q build
echo "building sdist and wheel"
.venv/bin/python -m build -o "$work/dist" . >"$work/build.log" 2>&1 || { tail -30 "$work/build.log" >&2; fail "build"; }
wheel=$(echo "$work"/dist/*.whl) sdist=$(echo "$work"/dist/*.tar.gz)
.venv/bin/python -m zipfile -l "$wheel" | awk 'NR > 1 {print $1}' | sort >"$work/wheel.txt"
tar tzf "$sdist" | sed 's,^[^/]*/,,' | sort >"$work/sdist.txt"
in_wheel() { grep -qE "$1" "$work/wheel.txt" || fail "the wheel has no $1"; }
for source in $(git ls-files core backends protocols sinks enrichers); do
    inside=kshark/${source#core/}
    in_wheel "^$inside\$"
    grep -qx "$source" "$work/sdist.txt" || fail "the sdist has no $source"
    compiled=${inside%.py*}
    case $source in
        *.pyx) in_wheel "^$compiled\.[^/]*\.so\$" ;;
        *.pxd) [ ! -e "${source%.pxd}.py" ] || in_wheel "^${compiled%.pxd}\.[^/]*\.so\$" ;;
    esac
done
for source in bpf/*.bpf.c; do
    in_wheel "^kshark/${source%.c}\.o\$"
done
for source in bpf/bcc/*.[ch]; do # compiled where there is no BTF
    in_wheel "^kshark/$source\$"
done
! grep -E '\.(c|o)$|^(build|tests|benchmarks|docs)/' "$work/wheel.txt" | grep -vE '\.bpf\.[co]$|/bpf/bcc/' || fail "build leftovers are in the wheel"
! grep -E '\.(o|so)$|[^f]\.c$|(^|/)(build|\.venv|__pycache__)/' "$work/sdist.txt" | grep -v bpf/bcc/ || fail "build leftovers are in the sdist"
echo "ok: $(wc -l <"$work/wheel.txt") files in $(basename "$wheel"), $(wc -l <"$work/sdist.txt") in $(basename "$sdist")"

# ------------------------------------------------------------------ install, run
install() { # install NAME PYTHON WHAT [ENVIRONMENT ...]
    local name=$1 python=$2 what=$3
    shift 3
    "$python" -m venv "$work/$name"
    env "$@" "$work/$name/bin/python" -m pip install -q "$what" || fail "$name: pip install"
    "$work/$name/bin/python" -m pip check -q || fail "$name: pip check"
}

works() { # works NAME COMPILED
    local bin=$work/$1/bin out
    cd "$work"
    "$bin/python" -c "from kshark.wire import COMPILED; assert COMPILED is $2, COMPILED" || fail "$1: compiled is not $2"
    out=$(printf '*1\r\n$4\r\nPING\r\n' | "$bin/kshark" dissect --protocol redis)
    case $out in *PING*) ;; *) fail "$1: kshark dissect says $out" ;; esac
    printf '\xd4\xc3\xb2\xa1\2\0\4\0\0\0\0\0\0\0\0\0\0\0\4\0\1\0\0\0' >empty.pcap
    out=$("$bin/kshark" run --read empty.pcap 2>&1) || fail "$1: kshark run says $out"
    case $2.$out in
        True.*"plain Python"*) fail "$1: compiled, but says $out" ;;
        False.*"plain Python"* | True.*) ;;
        *) fail "$1: not compiled, and does not say so: $out" ;;
    esac
    "$bin/kshark" doctor >/dev/null || fail "$1: kshark doctor"
    echo "ok: $1 ($("$bin/python" -V))"
    cd - >/dev/null
}

install wheel .venv/bin/python "$wheel"
works wheel True

# ------------------------------------------------------------------ plugins of third parties, as anybody installs them
cp -r plugins_contrib "$work/plugins"
"$work/wheel/bin/python" -m pip install -q "$work"/plugins/* || fail "the contributed plugins: pip install"
"$work/wheel/bin/python" -m pip check -q || fail "the contributed plugins: pip check"
for plugin in plugins_contrib/*/; do
    name=$(basename "$plugin")
    "$work/wheel/bin/kshark" plugins | grep -qE "entry point +$name .*(protocol|enricher)" || fail "$name is installed, but not found"
done
echo "ok: $(ls plugins_contrib | xargs)"

# ------------------------------------------------------------------ without a compiler, and on other Pythons
install no-compiler .venv/bin/python "$sdist" CC=/nonexistent/cc
works no-compiler False

seen=""
for candidate in python3 python3.11 python3.12 python3.13 "$HOME"/.pyenv/versions/3.1[123].*/bin/python; do
    python=$(command -v "$candidate" 2>/dev/null) || continue
    version=$("$python" -c 'import sys, venv, ensurepip; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case " $seen " in *" $version "*) continue ;; esac
    case $version in 3.11 | 3.12 | 3.13) ;; *) continue ;; esac
    seen="$seen $version"
    install "sdist-$version" "$python" "$sdist"
    works "sdist-$version" True
done
echo "installed and run on Python$seen"
