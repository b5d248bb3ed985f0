"""Who has which TCP socket, as ``/proc`` says: for kernels that cannot be asked by an iterator.

Processes and connections come and go while it is read: what is gone is left out. Nothing is told twice but a socket
that several processes, or several descriptors, share.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from kshark.backends._maps import comm, processes
from kshark.backends._owners import ENDS
from kshark.limits import SOCKET_OWNERS

TCP: Final = 6
MAPPED: Final = bytes(10) + b"\xff\xff"
"""What an address of IPv4 begins with on a socket of IPv6."""


class Held(NamedTuple):
    """A descriptor of a process, and the connection behind it: ``struct ks_ends`` of bpf/ends.h, without namespace."""

    pid: int
    fd: int
    comm: str
    ends: bytes

    @property
    def listens(self) -> bool:
        return not ENDS.unpack(self.ends)[3]


def held() -> Iterator[Held]:
    """Every descriptor of a connection, or of a socket that listens."""
    spaces: dict[int, dict[int, bytes]] = {}
    for pid in processes():
        mine = list(_descriptors(pid))
        if not mine:
            continue
        try:
            space = os.stat(f"/proc/{pid}/ns/net").st_ino
        except OSError:
            continue
        if space not in spaces:
            spaces[space] = _connections(Path("/proc", str(pid), "net"))
        name = comm(pid)
        for fd, inode in mine:
            if inode in spaces[space]:
                yield Held(pid, fd, name, spaces[space][inode])


def _descriptors(pid: int) -> Iterator[tuple[int, int]]:
    """The sockets of a process: descriptor and inode."""
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return
    for number in numbers:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{number}")
        except OSError:
            continue
        if target.startswith("socket:["):
            yield int(number), int(target[8:-1])


def _connections(folder: Path) -> dict[int, bytes]:
    """The ends of all TCP sockets of a namespace, by inode; `SOCKET_OWNERS` at most."""
    found: dict[int, bytes] = {}
    for name in ("tcp", "tcp6"):
        try:
            with (folder / name).open() as lines:
                next(lines, "")
                for line in lines:
                    words = line.split()
                    if len(found) < SOCKET_OWNERS and words[9] != "0":
                        found[int(words[9])] = ends(words[1], words[2])
        except (OSError, IndexError, ValueError):
            continue
    return found


def ends(local: str, remote: str) -> bytes:
    """``struct ks_ends`` of two addresses as ``/proc/net/tcp`` has them.

    >>> ends("0100007F:0050", "00000000:0000")[:4]
    b'\\x7f\\x00\\x00\\x01'
    """
    (here, port), (there, other) = _address(local), _address(remote)
    version = 4 if len(here) == 4 else 6
    if version == 6 and MAPPED in (here[:12], there[:12]):
        here, there, version = here[12:], there[12:], 4
    return ENDS.pack(here, there, port, other, version, TCP, 0)


def _address(text: str) -> tuple[bytes, int]:
    """``0100007F:0050``: words of 4 bytes in the order of the machine."""
    address, _, port = text.partition(":")
    words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
    return b"".join(word.to_bytes(4, sys.byteorder) for word in words), int(port, 16)
