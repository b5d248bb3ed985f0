"""The index of a block in columns, for loops that have no time for a call a packet."""

from __future__ import annotations

from struct import Struct
from typing import Final

from kshark.api import INDEX_FORMAT, Block

_RECORD = Struct(INDEX_FORMAT)


class Records:
    """A block: its bytes, which are our own, and where its packets are in them."""

    __slots__ = ("count", "data", "index", "linktype", "size")
    SIZE: Final = _RECORD.size

    def __init__(self, block: Block, count: int) -> None:
        self.data = block.data if type(block.data) is bytes else bytes(block.data)  # cheap to cut
        self.size = len(self.data)
        self.index = memoryview(block.index).cast("B")[: count * self.SIZE]
        self.count = count
        self.linktype = block.linktype

    def record(self, row: int) -> tuple[int, int, int, int, int]:
        """Time, offset, captured length, length on the wire, interface."""
        ns, at, captured, wire, iface, _ = _RECORD.unpack_from(self.index, row * self.SIZE)
        return ns, at, captured, wire, iface

    def columns(self) -> tuple[list[int], list[int], list[int]]:
        """Times, offsets and captured lengths of all packets; on a machine of little endianness."""
        words = self.index.cast("I")
        times = self.index.cast("q")[:: self.SIZE // 8].tolist()
        return times, words[2 :: self.SIZE // 4].tolist(), words[3 :: self.SIZE // 4].tolist()

    def interfaces(self) -> tuple[bytes, bytes]:
        """The low and the high bytes of the packets' interface numbers."""
        return bytes(self.index[20 :: self.SIZE]), bytes(self.index[21 :: self.SIZE])

    def safe(self, places: list[int], need: int) -> list[int]:
        """The offsets, behind each of which `need` bytes may be read: zeros where the block has ended."""
        last = max(places)
        if last + need <= len(self.data):
            return places
        self.data += bytes(need)
        return places if last <= self.size else [min(at, self.size) for at in places]
