"""One TPACKET_V3 ring: a packet socket for all links of its namespace, and the memory it shares with us.

The kernel fills blocks in turn and hands each over when it is full or `RETIRE_MS` old; we read blocks in
the same order and give each back. When all blocks are ours, the kernel drops and counts.
(Linux Documentation/networking/packet_mmap.rst; packet(7).)
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
from struct import Struct
from typing import Final, NamedTuple

from kshark.api import PluginError
from kshark.backends import _bpf
from kshark.backends._fanout import chooser
from kshark.backends._tpacket import ready, release

SOL_PACKET: Final = 263
ADD_MEMBERSHIP, RX_RING, STATISTICS, VERSION, FANOUT, FANOUT_DATA = 1, 5, 6, 10, 18, 22
TPACKET_V3: Final = 2
FANOUT_CBPF, FANOUT_DEFRAG = 6, 0x8000
PROMISC: Final = 1
ETH_P_ALL: Final = 3
RETIRE_MS: Final = 30
"""Age at which the kernel hands over a block that is not full: what a packet may wait to be seen."""
FRAME_BYTES: Final = 2048
"""tp_frame_size: without meaning for version 3, which packs frames, but checked."""
LEAST_FRAME: Final = 96
"""Bytes that the smallest packet takes in a block (header 68, padding, alignment)."""

_address = Struct("=HHi12x")  # sockaddr_ll: family, protocol, index of the link or 0
_word = Struct("=I")
_request = Struct("=7I")
_membership = Struct("=iHH8s")
_statistics = Struct("=3I")


class Shape(NamedTuple):
    """How large a ring is."""

    ring_bytes: int
    block_bytes: int

    @property
    def block(self) -> int:
        """Bytes of a block: whole pages."""
        return max(-(-self.block_bytes // mmap.PAGESIZE), 1) * mmap.PAGESIZE

    @property
    def blocks(self) -> int:
        """At least two, so that one can be read while the other is filled."""
        return max(self.ring_bytes // self.block, 2)


class Ring:
    """An open ring in the namespace of the calling thread. It takes nothing before `filter` is called."""

    def __init__(self, shape: Shape, group: int = 0) -> None:
        self.passed = self.dropped = self.freezes = 0
        """Packets that passed the filter, of these dropped since the ring was full, times it got full."""
        self._shape = shape
        self._at = 0
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            self._open(group)
        except BaseException:
            self._socket.close()
            raise

    def _open(self, group: int) -> None:
        sock, shape = self._socket, self._shape
        # Between bind and fanout a socket gets what other workers get, too: refuse it.
        _bpf.attach(sock, _bpf.REJECT)
        sock.setsockopt(SOL_PACKET, VERSION, TPACKET_V3)
        size = shape.block * shape.blocks
        request = _request.pack(
            shape.block, shape.blocks, FRAME_BYTES, size // FRAME_BYTES, RETIRE_MS, 0, 0
        )
        try:
            sock.setsockopt(SOL_PACKET, RX_RING, request)
            self._memory = mmap.mmap(sock.fileno(), size, mmap.MAP_SHARED)
        except OSError as error:
            raise PluginError(
                f"no ring of {size} bytes: {error.strerror}: set a smaller ring_bytes"
            ) from None
        view = memoryview(self._memory)
        self._blocks = [view[n : n + shape.block] for n in range(0, size, shape.block)]
        view.release()
        self._bind()
        if group:
            self._join(group)

    def _bind(self) -> None:
        """To all links, which `socket.bind` cannot: it wants the name of one."""
        address = _address.pack(socket.AF_PACKET, socket.htons(ETH_P_ALL), 0)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.bind(self._socket.fileno(), address, len(address)):
            raise PluginError(f"no packet socket: {os.strerror(ctypes.get_errno())}")

    def _join(self, group: int) -> None:
        """Share the packets with the sockets of `group`; both ways of a flow come to one of them."""
        request = _word.pack(group | (FANOUT_CBPF | FANOUT_DEFRAG) << 16)
        try:
            self._socket.setsockopt(SOL_PACKET, FANOUT, request)
            _bpf.attach(self._socket, chooser(), SOL_PACKET, FANOUT_DATA)
        except OSError as error:
            raise PluginError(f"fanout {group}: the kernel refuses it: {error.strerror}") from None

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def block_bytes(self) -> int:
        return self._shape.block

    def filter(self, program: _bpf.Program) -> None:
        """Take what `program` accepts, from now on."""
        _bpf.attach(self._socket, program)

    def promiscuous(self, link: int) -> None:
        """Have link `link` take frames for other stations too; the kernel undoes it with the socket."""
        try:
            self._socket.setsockopt(
                SOL_PACKET, ADD_MEMBERSHIP, _membership.pack(link, PROMISC, 0, b"")
            )
        except OSError:
            return  # the link is gone already, or knows no such mode

    @property
    def ready(self) -> bool:
        """Whether the kernel has handed over the next block."""
        return ready(self._blocks[self._at])

    def take(self) -> memoryview:
        """The next block, which is `ready`, until `give_back`."""
        return self._blocks[self._at]

    def give_back(self) -> None:
        """Return the block that `take` gave; its memory changes from now on."""
        release(self._blocks[self._at])
        self._at = (self._at + 1) % len(self._blocks)

    def count(self) -> None:
        """Read the kernel's counters, which starts them afresh, and add them up."""
        if self._socket.fileno() < 0:
            return
        raw = self._socket.getsockopt(SOL_PACKET, STATISTICS, _statistics.size)
        passed, dropped, freezes = _statistics.unpack(raw)
        self.passed += passed
        self.dropped += dropped
        self.freezes += freezes

    def close(self) -> None:
        """Read the counters a last time, close the socket, free the memory once nobody looks at it."""
        self.count()
        self._socket.close()
        self._blocks.clear()
        try:
            self._memory.close()
        except BufferError:  # somebody still holds a view: it goes with the last one
            return
