"""TCX: programs at both ways of a link, by links of BPF (Linux 6.6; kernel/bpf/tcx.c).

A link of BPF is a descriptor: what is attached by it goes with it, at the latest when this process ends, however
it ends. Other programs at the same place go on, before and after ours. libbpf before 1.3 does not know them,
so they are made by the system call itself.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from struct import Struct
from typing import Final

BPF: Final = {"x86_64": 321, "aarch64": 280}
"""Number of the system call bpf(2)."""
LINK_CREATE, GET_INFO = 28, 15
INGRESS, EGRESS = 46, 47
"""BPF_TCX_INGRESS, BPF_TCX_EGRESS"""

INFO: Final = 80
"""Bytes of struct bpf_link_info that are asked for; at TARGET is the interface, or the cgroup, that a link is at."""
TARGET: Final = 16

_attributes = Struct("=IIII16x32x")  # union bpf_attr, link_create: program, ifindex, type, flags


class Tcx:
    """What is attached in the namespace that the calling thread is in whenever `attach` is called."""

    def __init__(self) -> None:
        self._held: dict[int, list[int]] = {}

    def attach(self, index: int, ingress: int, egress: int) -> None:
        """Attach a program at the ingress of link `index`, and one at its egress; OSError if the kernel refuses."""
        held = self._held.setdefault(index, [])
        try:
            for program, place in ((ingress, INGRESS), (egress, EGRESS)):
                held.append(_link(program, index, place))
        except OSError:
            self.detach(index)
            raise

    def attached(self, index: int) -> bool:
        """Whether nobody has detached what is at link `index`."""
        return all(map(attached, self._held.get(index, [])))

    def detach(self, index: int) -> None:
        for descriptor in self._held.pop(index, []):
            os.close(descriptor)

    def close(self) -> None:
        """Detach everything."""
        for index in list(self._held):
            self.detach(index)


def supported(program: int, index: int) -> bool:
    """Whether this kernel has TCX: tried at link `index`, which is left as it was."""
    try:
        os.close(_link(program, index, INGRESS))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            return False
        raise
    return True


def attached(link: int) -> bool:
    """Whether a link of BPF is where it was attached: anybody may detach it, and a cgroup may be removed."""
    info = ctypes.create_string_buffer(INFO)
    try:
        _bpf(GET_INFO, Struct("=IIQ").pack(link, INFO, ctypes.addressof(info)))
    except OSError:
        return True  # it cannot be told
    return any(info.raw[TARGET : TARGET + 4])


def _link(program: int, index: int, place: int) -> int:
    return _bpf(LINK_CREATE, _attributes.pack(program, index, place, 0))


def _bpf(command: int, given: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    number = ctypes.c_long(BPF.get(platform.machine(), -1))
    found = int(libc.syscall(number, ctypes.c_long(command), given, ctypes.c_long(len(given))))
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return found
