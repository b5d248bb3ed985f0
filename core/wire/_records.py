"""The index of a block in columns, for loops that have no time for a call a packet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import repeat
from operator import add
from struct import Struct
from typing import Any, Final

from kshark.api import INDEX_FORMAT, Block

_RECORD = Struct(INDEX_FORMAT)


class Records:
    """A block: its bytes, which are our own, and where its packets are in them."""

    __slots__ = ("count", "data", "index", "linktype", "places", "size", "sizes")
    SIZE: Final = _RECORD.size

    def __init__(self, block: Block, count: int) -> None:
        self.data = block.data if type(block.data) is bytes else bytes(block.data)  # cheap to cut
        self.size = len(self.data)
        self.index = memoryview(block.index).cast("B")[: count * self.SIZE]
        self.count = count
        self.linktype = block.linktype
        self.places: list[int] = []
        self.sizes: list[int] = []

    def record(self, row: int) -> tuple[int, int, int, int, int]:
        """Time, offset, captured length, length on the wire, interface."""
        ns, at, captured, wire, iface, _ = _RECORD.unpack_from(self.index, row * self.SIZE)
        return ns, at, captured, wire, iface

    def sound(self) -> bool:
        """Whether there are `columns`: no packet is outside of the block, and the machine is little-endian."""
        if sys.byteorder != "little":
            return False
        words = self.index.cast("I")
        self.places = words[2 :: self.SIZE // 4].tolist()
        self.sizes = words[3 :: self.SIZE // 4].tolist()
        return bool(max(map(add, self.places, self.sizes)) <= self.size)

    def columns(self) -> tuple[list[int], list[int], list[int]]:
        """Times, offsets and captured lengths of all packets."""
        return self.index.cast("q")[:: self.SIZE // 8].tolist(), self.places, self.sizes

    def interfaces(self) -> tuple[bytes, bytes]:
        """The low and the high bytes of the packets' interface numbers."""
        return bytes(self.index[20 :: self.SIZE]), bytes(self.index[21 :: self.SIZE])

    def headers(self, fields: Struct) -> Iterator[tuple[Any, ...]]:
        """Of each packet what `fields` finds where it begins; beyond the end of the block there are zeros."""
        if max(self.places) + fields.size > self.size:
            self.data += bytes(fields.size)
        return map(fields.unpack_from, repeat(self.data), self.places)
