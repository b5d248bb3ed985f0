"""What a hit of a probe costs on this machine: measured at a function of libc, in this process alone."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Final

from kshark.backends._elf import Elf, ElfError
from kshark.backends._libbpf import BpfError, Object
from kshark.backends._maps import mapped

FUNCTION: Final = "labs"
"""It begins as most functions do: with an instruction that the kernel must step over."""
CALLS, ROUNDS = 50, 5
"""Calls in a row, and how often; the quickest row counts. A few ms in all, where a hit is absurdly slow 10 ms."""
ABSURD: Final = 10_000
"""ns of a hit from which a user is told. Hardware: 1,000 to 3,000; some virtual machines: 30,000."""


def cost(programs: Object) -> int | None:
    """ns of a hit; None where it cannot be measured."""
    libc = next((m for m in mapped(os.getpid()) or () if "/libc.so" in m.path), None)
    if libc is None:
        return None
    path = libc.open_as()
    try:
        elf = Elf(path)
        offset = elf.functions([FUNCTION]).get(FUNCTION)
        elf.close()
        if offset is None:
            return None
        before = _quickest()
        link = programs.attach_uprobe("nothing", path, offset, os.getpid())
        try:
            return max(0, _quickest() - before)
        finally:
            programs.unlink(link)
    except (ElfError, BpfError):
        return None


def told(ns: int | None) -> str:
    """As a part of a line, "" where nobody knows."""
    if ns is None:
        return ""
    text = f"a hit of a probe costs {ns / 1000:.1f} us"
    if ns < ABSURD:
        return text
    return f"{text}, which is absurd (some virtual machines are so): TLS is slowed down, tls=false leaves it alone"


def _quickest() -> int:
    """ns of a call."""
    function = getattr(ctypes.CDLL(None), FUNCTION)
    best = 1 << 62
    for _ in range(ROUNDS):
        begin = time.perf_counter_ns()
        for _ in range(CALLS):
            function(1)
        best = min(best, time.perf_counter_ns() - begin)
    return best // CALLS
