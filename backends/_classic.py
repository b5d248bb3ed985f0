"""The classic pcap format: a header of 24 bytes, then records (draft-ietf-opsawg-pcap).

Either byte order; micro- and nanoseconds; Kuznetzov's modified magic with its longer record header.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final

from kshark.api import Block
from kshark.backends._records import INDEX, walk_pcap
from kshark.limits import PACKET_BYTES

HEADER: Final = 24
MAGICS: Final = {  # ns of one unit of a record's second word, bytes of a record's header
    0xA1B2C3D4: (1_000, 16),
    0xA1B23C4D: (1, 16),
    0xA1B2CD34: (1_000, 24),
}


class Damaged(Exception):
    """The file cannot be followed beyond this point; the text says why."""


def recognised(head: bytes) -> bool:
    """Whether the first four bytes are a magic number of this format."""
    return any(int.from_bytes(head[:4], order) in MAGICS for order in ("little", "big"))


class Classic:
    """Blocks of packets from the bytes of a classic capture.

    ``at`` is the offset of the first byte not consumed by the last `take`, ``need`` the bytes that must
    be there for the next one to get further.
    """

    def __init__(self, header: bytes, index: bytearray) -> None:
        self.big = int.from_bytes(header[:4], "big") in MAGICS
        order = ">" if self.big else "<"
        magic, major, minor, *_, network = Struct(order + "IHHiIII").unpack(header)
        if major != 2:
            raise Damaged(f"its pcap version is {major}.{minor}, and only 2.x is known")
        self.begun = True
        self.notes: list[str] = []
        self.scale, self.head = MAGICS[magic]
        self.linktype = network & 0x03FFFFFF  # above: length of the frame check sequence
        self.index = index
        self.at = 0
        self.need = self.head
        self._captured = Struct(order + "8xI").unpack_from

    def take(self, data: bytearray, start: int, end: int) -> Block | None:
        """The packets that are whole in ``data[start:end]``, None where there are none."""
        count, self.at = walk_pcap(data, start, end, self.index, self.head, self.big, self.scale)
        if count:
            return block(data, self.index, count, self.linktype, ())
        self.need = self.head
        if end - self.at >= self.head:
            (captured,) = self._captured(data, self.at)
            if captured > PACKET_BYTES:
                raise Damaged(f"a record of {captured} bytes")
            self.need += captured
        return None

    def dropped(self) -> dict[str, int]:
        """This format does not tell."""
        return {}


def block(
    data: bytearray, index: bytearray, count: int, linktype: int, ifaces: tuple[str, ...] = ("",)
) -> Block:
    """A block over borrowed memory; read-only, so that no consumer spoils the next one."""
    rows: Any = memoryview(index)[: count * INDEX.size]
    return Block(memoryview(data).toreadonly(), rows.toreadonly(), count, linktype, ifaces)
