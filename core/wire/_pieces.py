"""IP fragments, held until a datagram is whole. Plain Python.

Bounds: ``fragments`` datagrams, ``fragment_bytes`` of data, FRAGMENT_PIECES a datagram, ``fragment_wait``. Pieces that
overlap end their datagram, as in Linux (RFC 5722 demands it of IPv6): what a receiver made of it cannot be known.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from kshark import limits
from kshark.api import Packet
from kshark.wire import HELD_COST, PACKET_COST, WireLimits
from kshark.wire._headers import Fragment

Key = tuple[bytes, bytes, int, int, int, int]


@dataclass(slots=True)
class Pieces:
    """The pieces of one datagram by offset, without overlap."""

    since: int
    proto: int = -1
    size: int = -1  # of the whole, once its last piece is here
    filled: int = 0  # bytes
    captured: int = 0  # packets
    cost: int = 0
    parts: dict[int, bytes] = field(default_factory=dict)
    packets: list[Packet] = field(default_factory=list)

    def clash(self, offset: int, data: bytes, more: bool) -> str:
        """Why a piece cannot join: "duplicate" if it is here already, "fragment_bad" if it contradicts."""
        end = offset + len(data)
        if len(self.parts.get(offset, b"")) == len(data):
            return "duplicate"
        if self.size >= 0 and (end > self.size or not more):
            return "fragment_bad"
        for at, part in self.parts.items():
            if offset < at + len(part) and at < end:
                return "fragment_bad"
            if not more and at + len(part) > end:
                return "fragment_bad"
        return "fragment_limit" if len(self.parts) >= limits.FRAGMENT_PIECES else ""

    def whole(self) -> bool:
        """All bytes are here. Without overlap the sum tells."""
        return self.filled == self.size

    def join(self) -> bytes:
        return b"".join(self.parts[at] for at in sorted(self.parts))


class Pending:
    """All datagrams under reassembly, oldest first; keeps their counters and its share of the memory."""

    def __init__(self, bounds: WireLimits, counters: dict[str, int]) -> None:
        self.bounds = bounds
        self.counters = counters
        self.table: OrderedDict[Key, Pieces] = OrderedDict()
        self.bytes = 0
        self.memory = 0

    def add(
        self, piece: Fragment, number: int, now: int, packets: list[Packet], captured: int
    ) -> Pieces | None:
        """Take one piece, of `captured` packets; give its datagram once whole, no longer counted as held."""
        key = (*piece.key, number, piece.depth)
        found = self.table.get(key)
        if found is None:
            while len(self.table) >= max(1, self.bounds.fragments):
                self.drop("fragment_limit")
            found = self.table[key] = Pieces(now)
        clash = found.clash(piece.offset, piece.data, piece.more)
        if clash:
            self.counters[clash] += captured
            if clash != "duplicate":
                self._remove(key, clash)
            return None
        self._store(found, piece, packets, captured)
        if found.whole():
            del self.table[key]
            self._release(found)
            self.counters["fragment_held"] -= found.captured
            self.counters["defragmented"] += 1
            return found
        while self.bytes > self.bounds.fragment_bytes and self.table:
            self.drop("fragment_limit")
        return None

    def _store(self, found: Pieces, piece: Fragment, packets: list[Packet], captured: int) -> None:
        size = len(piece.data)
        cost = size + HELD_COST + sum(len(p.data) + PACKET_COST for p in packets)
        found.packets += packets
        found.captured += captured
        found.parts[piece.offset] = piece.data
        found.filled += size
        found.cost += cost
        if piece.offset == 0:
            found.proto = piece.proto
        if not piece.more:
            found.size = piece.offset + size
        self.bytes += size
        self.memory += cost
        self.counters["fragment_held"] += captured

    def _release(self, gone: Pieces) -> None:
        self.bytes -= gone.filled
        self.memory -= gone.cost

    def _remove(self, key: Key, reason: str) -> None:
        gone = self.table.pop(key)
        self._release(gone)
        self.counters["fragment_held"] -= gone.captured
        self.counters[reason] += gone.captured

    def drop(self, reason: str) -> None:
        """The oldest goes."""
        self._remove(next(iter(self.table)), reason)

    def expire(self, now: int) -> None:
        """Drop what has waited for ``fragment_wait``."""
        while self.table:
            oldest = next(iter(self.table.values()))
            if now - oldest.since < self.bounds.fragment_wait:
                return
            self.drop("fragment_timeout")

    def finish(self) -> None:
        while self.table:
            self.drop("fragment_timeout")
