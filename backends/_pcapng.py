"""The pcapng format: blocks of a type and a length in sections (draft-ietf-opsawg-pcapng).

Packets are walked by `_records`; what changes state comes here: section headers (either byte order, any
number of them), interface descriptions, interface statistics, secrets to decrypt with. Unknown blocks
are skipped. A packet block whose frame is sound but whose content is not (no such interface, more bytes
than the block has) is counted as ``malformed``; a broken frame ends the reading, since what follows would
be guessed.
"""

from __future__ import annotations

from typing import Final, NoReturn

from kshark.api import Block
from kshark.backends._classic import Damaged, block
from kshark.backends._records import (
    INDEX,
    INTERFACE,
    ROW,
    SECRETS,
    SECTION,
    STATISTICS,
    walk_pcapng,
)
from kshark.backends._section import Order, Section
from kshark.limits import PCAPNG_BLOCK, PCAPNG_IFACES, SECRET_BLOCKS

MAGIC: Final = b"\x0a\x0d\x0d\x0a"  # reads the same in either order
FRAME: Final = 12  # type, length, and the length again
SMALLEST: Final = {SECTION: 28, INTERFACE: 20, STATISTICS: 24, SECRETS: 20}
TLS_KEYS: Final = 0x544C534B
"""The type of secrets that are a key log of TLS; others are skipped."""


class Pcapng:
    """Blocks of packets from the bytes of a pcapng capture; the same face as `Classic`."""

    def __init__(self, index: bytearray) -> None:
        self.index = index
        self.at = 0
        self.need = FRAME
        self.notes: list[str] = []
        self._section = Section("little")
        self.begun = False
        self._malformed = 0
        self._lost: dict[str, int] = {}  # in the sections before
        self._last_ns = 0
        self._secrets: list[bytes] = []  # that came since the last packets

    def take(self, data: bytearray, start: int, end: int) -> Block | None:
        """The packets that are whole in ``data[start:end]`` and share a linktype, None without any."""
        count, at = 0, start
        while True:
            section = self._section
            count, at = walk_pcapng(
                data, at, end, self.index, section.table, section.big, count, self._last_ns
            )
            try:
                size = self._step(data, at, end, count)
            except Damaged:
                if not count:
                    raise
                size = 0  # it is met again when the packets in hand are handed over
            if not size:
                break
            at += size
        self.at = at
        return self._block(data, count) if count else None

    def dropped(self) -> dict[str, int]:
        """Packets lost by reason: before they were written, or in a malformed block."""
        total = dict(self._lost)
        _add(total, self._section.lost())
        _add(total, {"malformed": self._malformed})
        return {reason: lost for reason, lost in total.items() if lost}

    def _block(self, data: bytearray, count: int) -> Block:
        self._last_ns, _, _, _, iface, _ = INDEX.unpack_from(self.index, (count - 1) * INDEX.size)
        linktype = self._section.table[iface * ROW]
        found = block(data, self.index, count, linktype, self._section.ifaces)
        found.secrets, self._secrets = tuple(self._secrets), []
        return found

    def _step(self, data: bytearray, at: int, end: int, count: int) -> int:
        """Take the block at which the walk stopped; 0 where it must wait for bytes, or for a flush.

        With packets in hand all but descriptions, statistics and secrets wait: the walk stops there once more
        when they are handed over, and if it then has none, the block itself is the reason.
        """
        self.need = FRAME
        if end - at < FRAME:
            return 0
        order = self._section.order
        if data[at : at + 4] == MAGIC:
            order = self._byte_order(data[at + 8 : at + 12])
        kind = int.from_bytes(data[at : at + 4], order)
        if count and kind not in (INTERFACE, STATISTICS, SECRETS):
            return 0
        total = int.from_bytes(data[at + 4 : at + 8], order)
        if total < SMALLEST.get(kind, FRAME) or total & 3 or total > PCAPNG_BLOCK:
            self._refuse(f"a block of type {kind} with a length of {total}")
        self.need = total
        if end - at < total:
            return 0
        if int.from_bytes(data[at + total - 4 : at + total], order) != total:
            self._refuse(f"a block whose two lengths differ ({total} at its start)")
        self._content(kind, bytes(data[at + 8 : at + total - 4]), order)
        return total

    def _content(self, kind: int, body: bytes, order: Order) -> None:
        if kind == SECTION:
            self._begin(body, order)
        elif kind == INTERFACE:
            if len(self._section.table) >= PCAPNG_IFACES * ROW:
                self._refuse(f"more than {PCAPNG_IFACES} interfaces in a section")
            if not self._section.describe(body):
                self.notes.append("times of an interface are too fine for 64 bits and left out")
        elif kind == STATISTICS:
            self._section.count_lost(body)
        elif kind == SECRETS:
            self._learn(body, order)
        else:
            self._malformed += 1

    def _learn(self, body: bytes, order: Order) -> None:
        """Secrets: a type, a length, and they (draft-ietf-opsawg-pcapng section 4.7)."""
        kind, size = (int.from_bytes(body[at : at + 4], order) for at in (0, 4))
        if kind == TLS_KEYS and size <= len(body) - 8:
            self._secrets.append(body[8 : 8 + size])
            del self._secrets[:-SECRET_BLOCKS]

    def _begin(self, body: bytes, order: Order) -> None:
        major, minor = (int.from_bytes(body[at : at + 2], order) for at in (4, 6))
        if major != 1:
            self._refuse(f"a section of version {major}.{minor}, and only 1.x is known")
        _add(self._lost, self._section.lost())
        self._section = Section(order)
        self.begun = True

    def _byte_order(self, magic: bytes | bytearray) -> Order:
        if magic == b"\x1a\x2b\x3c\x4d":
            return "big"
        if magic != b"\x4d\x3c\x2b\x1a":
            self._refuse("a section header without a byte-order magic")
        return "little"

    def _refuse(self, what: str) -> NoReturn:
        raise Damaged(what if self.begun else f"it begins like pcapng, but with {what}")


def _add(total: dict[str, int], more: dict[str, int]) -> None:
    for reason, count in more.items():
        total[reason] = total.get(reason, 0) + count
