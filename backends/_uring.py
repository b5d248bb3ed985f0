"""Processes that use io_uring: their bytes need no system call, so hooks at system calls do not see them."""

from __future__ import annotations

import os
from typing import Final

from kshark.backends._maps import comm, processes

NAMES: Final = 6
"""Commands that the note names."""
LINK: Final = "anon_inode:[io_uring]"


def users() -> list[str]:
    """The commands of processes that have a ring at this moment, each once; but for this one."""
    others = (pid for pid in processes() if pid != os.getpid())
    return sorted({comm(pid) for pid in others if _has_ring(pid)} - {""})


def note() -> str:
    """What hooks at system calls miss here, as one line; "" where there is nothing to say."""
    found = users()
    if not found:
        return ""
    more = f" and {len(found) - NAMES} more" if len(found) > NAMES else ""
    return f"what goes by io_uring is seen at the other end alone; it is used by {', '.join(found[:NAMES])}{more}"


def _has_ring(pid: int) -> bool:
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for number in numbers:
        try:
            if os.readlink(f"/proc/{pid}/fd/{number}") == LINK:
                return True
        except OSError:
            continue
    return False
