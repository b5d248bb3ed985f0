"""Read a BPF ring buffer: one index record (`kshark.api.INDEX_FORMAT`) for each record in it.

The plain twin of ``_ringbuf.pyx``, which takes this module's place where it is compiled. The memory is shared
with the kernel: a page with the reader's position, a page with the writer's, and the data, mapped twice in a
row so that no record is broken (Linux kernel/bpf/ringbuf.c). Each record has a header of 8 bytes (length,
busy and discarded bits) and begins with ``struct head`` of bpf/ring.h.

Invariants: what `read` gives is borrowed from the ring until `give_back`; a record that is still being written
ends the walk; lengths that cannot be are ``unsound`` and end it for good (the ring is ours and the kernel's alone).
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from struct import Struct
from typing import Final

from kshark.api import INDEX_FORMAT

COMPILED: Final = False
INDEX: Final = Struct(INDEX_FORMAT)
HEAD: Final = Struct("<QIHH")
"""struct ks_head: monotonic time, length on the wire, kind, number of the interface."""
HEADER: Final = 8
"""Bytes before each record: BPF_RINGBUF_HDR_SZ."""
BUSY, DISCARDED = 1 << 31, 1 << 30
LENGTH: Final = DISCARDED - 1


class Ring:
    """The ring of the map with descriptor `fd`, of `size` bytes."""

    def __init__(self, fd: int, size: int) -> None:
        page = mmap.PAGESIZE
        self._mine = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._theirs = mmap.mmap(fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._view = memoryview(self._theirs)
        self._written = self._view[:8].cast("Q")
        self._words = self._view[page:].cast("I")
        self._position = ctypes.c_uint64.from_buffer(self._mine)  # one aligned store
        self._page, self._mask = page, size - 1
        self._next = self._position.value
        self.seen = self.unsound = 0

    def read(
        self, most: int, shift: int, indexes: Sequence[bytearray]
    ) -> tuple[memoryview, list[int]]:
        """Records of up to `most` bytes in all: the memory they lie in, and how many of each kind.

        ``indexes[kind]`` gets their index records, as many as it has room for; their time is `shift` later
        than the kernel's, their offset that of the content.
        """
        start = self._position.value
        at, end = start, min(self._written[0], start + most)
        counts = [0] * len(indexes)
        while at < end and not self.unsound:
            word = self._words[(at & self._mask) >> 2]
            if word & BUSY:
                break
            length = word & LENGTH
            after = at + (length + HEADER + 7 & ~7)
            if not word & DISCARDED:
                if length < HEAD.size or after > self._written[0]:
                    self.unsound += 1
                    break
                place = at - start + HEADER
                ns, wire, kind, iface = HEAD.unpack_from(
                    self._view, self._page + (at & self._mask) + HEADER
                )
                if kind >= len(indexes):
                    self.unsound += 1
                    break
                index, count = indexes[kind], counts[kind]
                if (count + 1) * INDEX.size > len(index):
                    break
                kept = min(length - HEAD.size, wire)
                row = ns + shift, place + HEAD.size, kept, wire, iface, 0
                INDEX.pack_into(index, count * INDEX.size, *row)
                counts[kind] += 1
                self.seen += 1
            at = after
        self._next = at
        first = self._page + (start & self._mask)
        return self._view[first : first + at - start], counts

    def give_back(self) -> None:
        """What `read` gave may be written over from now on."""
        self._position.value = self._next

    @property
    def waiting(self) -> int:
        """Bytes that nobody has read yet."""
        return int(self._written[0]) - self._position.value

    def close(self) -> None:
        """Unmap the ring, once nobody looks at it any more."""
        del self._position
        for view in (self._written, self._words, self._view):
            view.release()
        self._mine.close()
        try:
            self._theirs.close()
        except BufferError:  # somebody still holds a view: it goes with the last one
            return
