"""Whose sockets are: the programs of bpf/makers.h, for the backends that see packets.

A packet bears its sender's socket, and with that lies who made it: put there when a socket is made, and at the start
for all that are open. It needs cgroup version 2 and CAP_PERFMON; without them packets have no names.
"""

from __future__ import annotations

import os
from typing import Final

from kshark.backends._libbpf import BpfError, Object

MADE: Final = "created"
"""The program that runs when a process makes a socket."""
HELD: Final = "held"
"""The one that runs for each socket that is open."""
PROGRAMS: Final = (MADE, HELD)
MOUNTS: Final = "/proc/self/mountinfo"


def root() -> str:
    """Where the cgroup version 2 hierarchy is mounted, "" if nowhere. mountinfo, proc(5): path, ..., "-", type, ..."""
    with open(MOUNTS) as file:
        for line in file:
            words = line.split()
            if words[words.index("-") + 1] == "cgroup2":
                return words[4]
    return ""


def begin(programs: Object) -> None:
    """Learn of the sockets that are made from now on, and of those that are open; `BpfError` where that is refused."""
    try:
        descriptor = os.open(root(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BpfError(error.errno, "no cgroup version 2 hierarchy is mounted") from None
    try:
        programs.attach_cgroup(MADE, descriptor)
    finally:
        os.close(descriptor)
    programs.iterate(HELD)
