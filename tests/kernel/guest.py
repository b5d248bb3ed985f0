"""A guest under qemu (TCG, no hardware support) with Debian's kernel, which allows what this machine's may refuse."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from image import ROOT, Image, with_python

PATIENCE = 900
"""Seconds for a guest, which is some twenty times slower than its host."""
HERE = Path(__file__).parent
PROGRAMS = ("nginx", "redis-server", "redis-cli", "dnsmasq", "dig", "curl")
INIT = """#!/bin/busybox sh
export PATH=/bin:/usr/bin:/usr/sbin PYTHONPATH=/kshark HOME=/root LANG=C.UTF-8
busybox mount -t proc none /proc
busybox mount -t sysfs none /sys
busybox mount -t devtmpfs none /dev
exec >/dev/{console} 2>&1
busybox mount -t tracefs none /sys/kernel/tracing
busybox mount -t tmpfs none /tmp
busybox mount -t cgroup2 none /sys/fs/cgroup
busybox ip link set lo up
python3 /kshark/inside.py /kshark/rounds.json /dev/{told}
busybox poweroff -f
"""
Round = dict[str, Any]


class Machine(NamedTuple):
    """What is emulated: the command, the kernel, and the names there of its console and of the line for results."""

    words: tuple[str, ...]
    kernel: Path
    console: str
    told: str


def x86() -> Machine:
    """A machine like this one."""
    words = ("qemu-system-x86_64", "-cpu", "max", "-device", "isa-serial,chardev=told")
    return Machine(words, needed() / "vmlinuz", "ttyS0", "ttyS1")


def needed() -> Path:
    """The folder of the guest's kernel; skips, saying why, where there is none, and fails in CI."""
    lacking = [name for name in ("qemu-system-x86_64", "busybox") if shutil.which(name) is None]
    if lacking:
        without(f"{' and '.join(lacking)} missing (apt-get install qemu-system-x86 busybox-static)")
    found = subprocess.run(
        ["sh", str(ROOT / "tests/kernel.sh")], capture_output=True, text=True, check=False
    )
    if found.returncode:
        without(found.stderr.strip())
    return Path(found.stdout.strip())


def without(why: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def furnish(made: Image, console: str, told: str) -> None:
    """What every guest has: its first process, folders, users."""
    for folder in ("proc", "sys", "dev", "tmp", "root", "run", "var/log/nginx", "var/lib/nginx"):
        made.folder(f"/{folder}")
    made.text("/init", INIT.format(console=console, told=told), 0o755)
    made.text("/etc/passwd", "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    made.text("/etc/group", "root:x:0:\nnogroup:x:65534:\n")
    made.text("/etc/hosts", "127.0.0.1 localhost\n")
    made.link("/bin/sh", "busybox")


def image() -> Image:
    """Python with kshark, and the programs that talk."""
    made = Image()
    furnish(made, "ttyS0", "ttyS1")
    made.program("busybox")
    with_python(made)
    for name in PROGRAMS:
        made.program(name)
    made.file("/kshark/inside.py", HERE / "inside.py")
    made.file("/kshark/odd_calls.py", ROOT / "tests/backends/odd_calls.py")
    return made


def run(
    made: Image,
    rounds: list[Round],
    folder: Path,
    *boot: str,
    memory: int = 1024,
    machine: Machine | None = None,
) -> list[Round]:
    """Boot a guest that does `rounds`; what each of them gave."""
    machine = machine or x86()
    made.text("/kshark/rounds.json", json.dumps(rounds))
    made.write(folder / "initrd")
    console, told = folder / "console", folder / "told"
    command = [*machine.words, "-accel", "tcg,thread=multi", "-smp", "2", "-m", str(memory)]
    command += ["-display", "none", "-monitor", "none", "-no-reboot"]
    command += ["-serial", f"file:{console}", "-chardev", f"file,id=told,path={told}"]
    command += ["-kernel", str(machine.kernel), "-initrd", str(folder / "initrd")]
    # Its timer is checked against the time of a host that may be busy: a kernel that is not told so panics.
    words = (
        f"console={machine.console}",
        "quiet",
        "panic=-1",
        "random.trust_cpu=on",
        "no_timer_check",
    )
    subprocess.run([*command, "-append", " ".join((*words, *boot))], check=True, timeout=PATIENCE)
    (folder / "initrd").unlink()
    found = [json.loads(line) for line in told.read_text(errors="replace").splitlines() if line]
    said = console.read_text(errors="replace")
    assert [one["name"] for one in found] == [one["name"] for one in rounds], said[-4000:]
    return found
