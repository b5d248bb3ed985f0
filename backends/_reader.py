"""Bytes of a capture in, blocks of packets out: the buffer between a source and a format. No I/O.

One buffer is filled again and again; what a block lends is valid until the next step. The tail that is
not a whole record yet moves to the front when the room behind it gets short, so that the cost of a slow
pipe stays linear. The buffer grows only for a pcapng block that is longer (PCAPNG_BLOCK).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kshark.api import Block, CaptureStats, PluginError
from kshark.backends import _pcapng
from kshark.backends._classic import HEADER, Classic, Damaged, recognised
from kshark.backends._pcapng import Pcapng
from kshark.backends._records import INDEX
from kshark.limits import NOTES

PACKETS: Final = 16_384
"""Most packets of one block: as many small ones as 1 MiB holds."""

SEEMS: Final = {  # first bytes of what people hand over instead
    b"PK\x03\x04": "a zip archive: unpack it",
    b"\x7fELF": "a program",
    b"snoop\0\0\0": "a snoop capture: convert it with editcap -F pcap",
    b"RTSS": "a Network Monitor capture: convert it with editcap -F pcap",
    b"GMBU": "a Network Monitor capture: convert it with editcap -F pcap",
    b"\x28\xb5\x2f\xfd": "zstd data packed twice: unpack it",
    b"\x1f\x8b": "gzip data packed twice: unpack it",
    b"BZh": "bzip2 data packed twice: unpack it",
    b"\xfd7zXZ": "xz data packed twice: unpack it",
    b"\x1c\x00\x01\xac": "an Ixia capture: convert it with editcap -F pcap",
    b"\xab\x01\x00\x1c": "an Ixia capture: convert it with editcap -F pcap",
    b"<": "HTML or XML",
    b"{": "JSON",
}


class Books:
    """What a backend counts over all its files."""

    def __init__(self) -> None:
        self.received = 0
        self.notes: list[str] = []
        self._lost: dict[str, int] = {}

    def note(self, text: str) -> None:
        """Keep a line for the user, within NOTES."""
        if len(self.notes) < NOTES:
            self.notes.append(text)

    def lost(self, more: dict[str, int]) -> None:
        """Add packets lost, by reason."""
        for reason, count in more.items():
            self._lost[reason] = self._lost.get(reason, 0) + count

    def stats(self, more: dict[str, int]) -> CaptureStats:
        """The state of the books, with `more` losses of the file that is being read."""
        total = dict(self._lost)
        for reason, count in more.items():
            total[reason] = total.get(reason, 0) + count
        return CaptureStats(self.received, total, list(self.notes))


class Reader:
    """One capture: give it `room` to be filled, say how much was `took`, get blocks."""

    def __init__(self, name: str, size: int, books: Books) -> None:
        self.name = name
        self._size = size
        self._books = books
        self._buffer = bytearray(size)
        self._index = bytearray(PACKETS * INDEX.size)
        self._start = self._end = 0
        self._base = 0  # offset in the capture of the buffer's first byte
        self._packets = 0
        self._format: Classic | Pcapng | None = None

    def room(self) -> memoryview:
        """Where the next bytes go. What earlier blocks lent is void from here on."""
        tail = self._end - self._start
        need = self._format.need if self._format else HEADER
        size = len(self._buffer)
        if not tail:
            self._move(self._buffer)
        elif tail + need > size:
            self._move(bytearray(need + self._size))
        elif size - self._end < max(size // 4, need - tail):
            self._move(self._buffer)
        return memoryview(self._buffer)[self._end :]

    def _move(self, to: bytearray) -> None:
        tail = self._end - self._start
        memoryview(to)[:tail] = memoryview(self._buffer)[self._start : self._end]
        self._base += self._start
        self._buffer, self._start, self._end = to, 0, tail

    def took(self, count: int) -> Iterator[Block]:
        """`count` bytes were put into the room: give the blocks that they complete."""
        self._end += count
        if self._format is None:
            self._format = self._recognise()
        while self._format is not None:
            block = self._format.take(self._buffer, self._start, self._end)
            self._start = self._format.at
            if block is None:
                return
            self._packets += block.count
            self._books.received += block.count
            yield block

    def dropped(self) -> dict[str, int]:
        """Packets that the capture says were lost, by reason."""
        return self._format.dropped() if self._format else {}

    def end(self, why: str = "") -> None:
        """The capture ended (`why`: before its time): say what is missing."""
        tail, where = self._end - self._start, f"at byte {self._base + self._start}"
        if self._format is None or not self._format.begun:
            raise PluginError(f"{self.name} {self._nothing(tail, why)}")
        if why:
            self._note(f"{why} {where}, the rest is not read")
        elif tail:
            self._note(f"ends inside a record {where}")
        for note in self._format.notes:
            self._note(note)

    def _note(self, text: str) -> None:
        self._books.note(f"{self.name}: {text} ({self._packets} packets read)")

    def _nothing(self, tail: int, why: str) -> str:
        if why:
            return f"is not a capture that can be read: {why}"
        if not tail:
            return "is empty: nothing was captured yet"
        head = bytes(self._buffer[self._start : self._end])
        if recognised(head) or head.startswith(_pcapng.MAGIC):
            return f"ends within its header ({tail} bytes): nothing was captured yet"
        return f"is not a capture: {seems(head)}"

    def _recognise(self) -> Classic | Pcapng | None:
        """The format, None while bytes are missing."""
        head = bytes(self._buffer[: min(self._end, HEADER)])
        if head.startswith(_pcapng.MAGIC):
            return Pcapng(self._index)
        if len(head) < HEADER:
            return None
        if not recognised(head):
            raise Damaged(seems(head))
        self._start = HEADER
        return Classic(head, self._index)


def seems(head: bytes) -> str:
    """What bytes seem to be that are no capture."""
    for magic, what in SEEMS.items():
        if head.startswith(magic):
            return f"it seems to be {what}"
    if not any(head):
        return "it begins with zeros, as a damaged or sparse file does"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return "it seems to be text"
    return f"it begins with {head[:4].hex(' ')}, give a pcap or pcapng file"
