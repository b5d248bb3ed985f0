#!/bin/sh
# build.sh: compile every bpf/*.bpf.c next to its source; vmlinux.h goes to build/bpf and is not kept.
# Exit 3, with one line, where something that it needs is not here: packages are then made without the objects.
# For another machine: VMLINUX_BTF (types of its kernel), BPF_ARCH (its `uname -m`), BPF_OUT (a folder for the objects).
set -eu
cd "$(dirname "$0")/.."
out=${BPF_OUT:-bpf}
work=build/bpf
[ "$out" = bpf ] || work=$out
btf=${VMLINUX_BTF:-/sys/kernel/btf/vmlinux}
PATH=$PATH:/usr/sbin:/sbin

lacking() {
    echo "no eBPF programs are built: $1" >&2
    exit 3
}
for tool in clang llvm-strip bpftool; do
    command -v $tool >/dev/null || lacking "$tool is missing (apt-get install clang llvm bpftool libbpf-dev)"
done
[ -r "$btf" ] || lacking "$btf is missing: set VMLINUX_BTF to the BTF, or the vmlinux, of any kernel"
echo '#include <bpf/bpf_helpers.h>' | clang -E -target bpf -x c - >/dev/null 2>&1 ||
    lacking "bpf/bpf_helpers.h is missing (apt-get install libbpf-dev)"

machine=${BPF_ARCH:-$(uname -m)}
case $machine in
    x86_64) arch=x86 ;;
    aarch64) arch=arm64 ;;
    *) lacking "$machine is neither x86_64 nor aarch64" ;;
esac
mkdir -p "$work"
bpftool btf dump file "$btf" format c >"$work/vmlinux.h.new"
mv "$work/vmlinux.h.new" "$work/vmlinux.h"

compile() { # compile SOURCE OBJECT [FLAG ...]
    source=$1 object=$2
    shift 2
    clang -O2 -g -target bpf -mcpu=v3 -Wall -Werror -Wno-unused-function -D__TARGET_ARCH_$arch "-I$work" "$@" \
        -c "$source" -o "$object.new"
    llvm-strip -g "$object.new" # DWARF goes, BTF stays
    mv "$object.new" "$object"
}
for source in bpf/*.bpf.c; do
    compile "$source" "$out/$(basename "${source%.c}").o"
done
