"""A guest of another architecture: Debian for arm64, the programs built for its kernel, kshark in plain Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from struct import Struct

from guest import HERE, Machine, furnish, without
from image import ROOT, Image, dependencies

import kshark

NEEDED = ("qemu-system-aarch64", "clang", "bpftool")
BTF_HEAD = Struct("<HBBIIIII")
BTF_MAGIC = b"\x9f\xeb\x01\x00\x18\0\0\0"
LEFT_OUT = ("__pycache__", "perl-base", "gconv")


def debian() -> Path:
    """The folder with what Debian has for it; skips, saying why, where it cannot be had, and fails in CI."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    lacking = [name for name in NEEDED if shutil.which(name, path=path) is None]
    if lacking:
        without(f"{' and '.join(lacking)} missing (apt-get install qemu-system-arm clang bpftool)")
    words = ["sh", str(ROOT / "tests/arm64.sh"), sys.executable, *sorted(dependencies("kshark"))]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    if found.returncode:
        without(found.stderr.strip().splitlines()[-1])
    return Path(found.stdout.strip())


def machine(debian: Path) -> Machine:
    """What emulates it."""
    words = ("qemu-system-aarch64", "-machine", "virt", "-cpu", "max,pauth-impdef=on")
    return Machine(
        (*words, "-device", "pci-serial,chardev=told"), debian / "vmlinuz", "ttyAMA0", "ttyS0"
    )


def btf_of(kernel: bytes) -> bytes:
    """The types that a kernel's image carries: the longest of what looks like BTF (linux/btf.h)."""
    found, at = b"", kernel.find(BTF_MAGIC)
    while at >= 0:
        *_, types_at, types, strings_at, strings = BTF_HEAD.unpack_from(kernel, at)
        size = BTF_HEAD.size + types + strings
        if types_at == 0 and strings_at == types and size > len(found):
            found = kernel[at : at + size]
        at = kernel.find(BTF_MAGIC, at + 1)
    if not found:
        without("the kernel for arm64 has no BTF, or is packed")
    return found


def programs(debian: Path, folder: Path) -> Path:
    """The folder of the programs, built for that kernel's types and registers."""
    (folder / "btf").write_bytes(btf_of((debian / "vmlinuz").read_bytes()))
    given = {"VMLINUX_BTF": str(folder / "btf"), "BPF_ARCH": "aarch64", "BPF_OUT": str(folder)}
    words = ["sh", str(ROOT / "bpf/build.sh")]
    built = subprocess.run(
        words, env=os.environ | given, capture_output=True, text=True, check=False
    )
    if built.returncode == 3:  # something that it needs is not here
        without(built.stderr.strip().splitlines()[-1])
    assert built.returncode == 0, built.stderr
    return folder


def image(debian: Path, objects: Path) -> Image:
    """Debian's programs, its Python with kshark's sources, and the programs for its kernel."""
    made = Image()
    made.copy("", debian / "tree", LEFT_OUT)
    furnish(made, "ttyAMA0", "ttyS0")
    made.tree("/kshark/kshark", Path(kshark.__file__).parent, ("__pycache__",), (".so",))
    made.tree("/kshark/kshark/bpf", ROOT / "bpf", ("bcc",), (".h", ".c"))
    for built in objects.glob("*.bpf.o"):
        made.file(f"/kshark/kshark/bpf/{built.name}", built)
    for wheel in (debian / "packages").glob("*.whl"):
        with zipfile.ZipFile(wheel) as packed:
            for name in packed.namelist():
                if name.endswith("/"):
                    continue
                made.binary(f"/kshark/{name}", packed.read(name))
    made.file("/kshark/inside.py", HERE / "inside.py")
    made.file("/kshark/odd_calls.py", ROOT / "tests/backends/odd_calls.py")
    return made
