"""What one pcapng section says about itself: byte order, interfaces, packets that they lost.

draft-ietf-opsawg-pcapng sections 3.5 (options), 4.2 (interface description), 4.6 (statistics).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from struct import Struct
from typing import Final, Literal

from kshark.limits import IFACE_NAME, SECOND

NAME, DESCRIPTION, RESOLUTION, OFFSET = 2, 3, 9, 14  # if_* options
LOST: Final = {5: "interface", 7: "kernel"}  # isb_ifdrop, isb_osdrop: they count up
HALF: Final = 2**63

Order = Literal["little", "big"]


class Section:
    """Interfaces of a section, in the form that `walk_pcapng` wants, and what their statistics say.

    The bodies given to its methods are blocks without their frame (type, length, length).
    """

    def __init__(self, order: Order) -> None:
        self.order: Order = order
        self.big = order == "big"
        mark = ">" if self.big else "<"
        self.frame = Struct(mark + "II")
        self._interface = Struct(mark + "HxxI")
        self._option = Struct(mark + "HH")
        self.table = array("q")
        self._names: list[str] = []
        self._ifaces: tuple[str, ...] = ()
        self._lost: dict[tuple[int, str], int] = {}

    @property
    def ifaces(self) -> tuple[str, ...]:
        """Names of the interfaces; "" for one that has none."""
        if len(self._ifaces) != len(self._names):
            self._ifaces = tuple(self._names)
        return self._ifaces

    def describe(self, body: bytes) -> bool:
        """Take an interface description; false if its resolution is beyond us (dated by offset only)."""
        linktype, snaplen = self._interface.unpack_from(body)
        options = dict(self._options(body[8:]))
        times, over = resolution(options.get(RESOLUTION, b"") or b"\x06")
        offset = int.from_bytes(options.get(OFFSET, b"")[:8], self.order, signed=True) * SECOND
        self.table.extend((linktype, snaplen, times, over, max(-HALF, min(HALF - 1, offset))))
        self._names.append(printable(options.get(NAME) or options.get(DESCRIPTION) or b""))
        return times > 0

    def count_lost(self, body: bytes) -> None:
        """Take interface statistics; the last ones of an interface hold."""
        iface = int.from_bytes(body[:4], self.order)
        if iface >= len(self._names):
            return
        for code, value in self._options(body[12:]):
            if code in LOST and len(value) == 8:
                self._lost[iface, LOST[code]] = int.from_bytes(value, self.order)

    def lost(self) -> dict[str, int]:
        """Packets lost before they were written, by reason, over all interfaces."""
        total: dict[str, int] = {}
        for (_, reason), count in self._lost.items():
            total[reason] = total.get(reason, 0) + count
        return total

    def _options(self, body: bytes) -> Iterator[tuple[int, bytes]]:
        at = 0
        while at + 4 <= len(body):
            code, size = self._option.unpack_from(body, at)
            at += 4
            if not code or at + size > len(body):
                return
            yield code, body[at : at + size]
            at += size + 3 & ~3


def resolution(option: bytes) -> tuple[int, int]:
    """``ns = stamp * times // over`` for an if_tsresol; (0, 1) where 64 bits do not do.

    >>> resolution(b"\\x06"), resolution(b"\\x8a")
    ((1000, 1), (1000000000, 1024))
    """
    exponent = option[0] & 0x7F
    if option[0] & 0x80:
        return (SECOND, 2**exponent) if exponent < 63 else (0, 1)
    if exponent <= 9:
        return 10 ** (9 - exponent), 1
    return (1, 10 ** (exponent - 9)) if exponent <= 27 else (0, 1)


def printable(name: bytes) -> str:
    """A name from the file, fit for a terminal."""
    text = name[:IFACE_NAME].decode(errors="replace").rstrip("\0")
    return "".join(c if c.isprintable() else "?" for c in text)
