"""Which privileges this process has, one by one (capabilities(7)); what a line says that wants some."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Final

NUMBERS: Final = {
    "cap_dac_read_search": 2,
    "cap_net_admin": 12,
    "cap_net_raw": 13,
    "cap_sys_ptrace": 19,
    "cap_sys_admin": 21,
    "cap_perfmon": 38,
    "cap_bpf": 39,
}
"""Those that a backend may want: linux/capability.h."""
WITHIN_ADMIN: Final = ("cap_bpf", "cap_perfmon")
"""cap_sys_admin has them in it."""


def effective() -> int:
    """The set of those in force, a bit for each."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0


def lacking(wanted: Iterable[str]) -> list[str]:
    """Those of `wanted` that this process does not have."""
    held = effective()
    if held >> NUMBERS["cap_sys_admin"] & 1:
        held |= sum(1 << NUMBERS[name] for name in WITHIN_ADMIN)
    return [name for name in wanted if not held >> NUMBERS[name] & 1]


def advice(lacks: Iterable[str]) -> str:
    """One line: what is missing and how to get it."""
    names = list(lacks)
    python = os.path.realpath(sys.executable)
    listed = ", ".join(name.upper() for name in names)
    return f"needs {listed}: run with sudo, or once: sudo setcap {','.join(names)}+ep {python}"
