"""Tracepoints where nobody has mounted tracefs: their numbers from a mount of our own, which nobody sees.

``fsmount`` gives a mount without a place in the tree: it goes with its descriptor. (fsopen(2), Linux 5.2;
perf_event_open(2).) The numbers of the system calls are the same on x86-64 and arm64 from 424 on.
"""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache
from struct import Struct
from typing import Final

PLACES: Final = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432
PERF_EVENT_OPEN: Final = {"x86_64": 298, "aarch64": 241}
CMD_CREATE: Final = 6  # FSCONFIG_CMD_CREATE
CLOEXEC: Final = 1  # FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC
PERF_CLOEXEC: Final = 8  # PERF_FLAG_FD_CLOEXEC
TRACEPOINT: Final = 2  # PERF_TYPE_TRACEPOINT

_attributes = Struct("=IIQQQQQII72x")  # perf_event_attr to wakeup_events; 128 bytes in all


def mounted() -> bool:
    """Whether tracefs is where everybody looks for it."""
    return any(os.path.isdir(f"{place}/events") for place in PLACES)


def opened(event: str) -> int:
    """A perf event on the tracepoint ``syscalls/sys_enter_read``, for all processes."""
    number = int(read(f"events/{event}/id"))
    attributes = _attributes.pack(TRACEPOINT, _attributes.size, number, 1, 0, 0, 0, 1, 0)
    call = PERF_EVENT_OPEN.get(platform.machine(), -1)
    return _call(call, attributes, -1, 0, -1, PERF_CLOEXEC)


def form(event: str) -> str:
    """How the kernel describes the fields of an event."""
    return read(f"events/{event}/format")


def read(path: str) -> str:
    """A file of tracefs."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=_mount())) as reader:
        return reader.read()


@cache
def _mount() -> int:
    """The root of tracefs: where it is mounted, else one of our own."""
    for place in PLACES:
        if os.path.isdir(f"{place}/events"):
            return os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    context = _call(FSOPEN, b"tracefs\0", CLOEXEC)
    try:
        _call(FSCONFIG, context, CMD_CREATE, None, None, 0)
        return _call(FSMOUNT, context, CLOEXEC, 0)
    finally:
        os.close(context)


def _call(number: int, *arguments: int | bytes | None) -> int:
    """A system call that libc has no function for."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    given = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    found = int(libc.syscall(ctypes.c_long(number), *given))
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return found
