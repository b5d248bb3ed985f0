"""The first bytes of a flow, kept until its protocol is known and has proven itself."""

from __future__ import annotations

from kshark import limits
from kshark.wire import HELD_COST

Piece = tuple[int, bytes, int]  # side as the wire has it, data, ns
PROBE_BYTES = limits.PROBE_BYTES
PROBE_CHUNKS = limits.PROBE_CHUNKS
REPLAYED = limits.REPLAYED
COST = HELD_COST
NOTHING = (b"", b"")
NONE = (0, 0)


class Window:
    """At most PROBE_BYTES shown and PROBE_CHUNKS counted a side; the chunks to replay."""

    __slots__ = ("counts", "first", "held", "number", "pieces", "seen", "speaker")

    def __init__(self) -> None:
        self.seen = 0  # bytes that came in all windows of this flow, and between them
        self.number = 1
        self.speaker = -1  # nothing is looked at until the other side speaks
        self.pieces: list[Piece] = []
        self.first = NOTHING
        self.counts = NONE
        self.held = 0  # bytes that both take

    def add(self, side: int, data: bytes, ns: int) -> bool:
        """One more chunk; true when the window of that side is over."""
        self._append((side, data, ns))
        self.seen += len(data)
        before = self.first[side]
        room = PROBE_BYTES - len(before)
        shown = before + (data if len(data) <= room else data[:room])
        self.held += len(shown) - len(before)
        count = self.counts[side] + 1
        self.first = (self.first[0], shown) if side else (shown, self.first[1])
        self.counts = (self.counts[0], count) if side else (count, self.counts[1])
        return len(shown) >= PROBE_BYTES or count >= PROBE_CHUNKS

    def _append(self, piece: Piece) -> None:
        data = piece[1]
        self.pieces.append(piece)
        self.held += len(data) + COST

    def keep(self, side: int, data: bytes, ns: int) -> bool:
        """A chunk that is dissected already, kept in case the choice was wrong; false: it is too much."""
        if self.held + len(data) > REPLAYED:
            self.clear()
            return False
        self._append((side, data, ns))
        return True

    def replay(self, pieces: list[Piece]) -> None:
        """Start with these chunks, which are not to be shown."""
        self.clear()
        for piece in pieces:
            self._append(piece)

    def again(self, side: int) -> bool:
        """Whether there is to be another window, once it is the other side's turn."""
        self.number += 1
        self.speaker = side
        return self.seen < limits.SILENT_BYTES and self.number <= limits.WINDOWS

    def passes(self, side: int, size: int) -> bool:
        """Between two windows: whether this chunk belongs to a message that is not looked at."""
        if side != self.speaker:
            self.speaker = -1
            return False
        self.seen += size
        return True

    def clear(self) -> None:
        """Start a new window."""
        if self.pieces:
            self.pieces = []
        self.first = NOTHING
        self.counts = NONE
        self.held = 0

    def spoken(self) -> bool:
        """Whether anybody said anything."""
        return bool(self.first[0] or self.first[1])

    def both(self) -> bool:
        """Whether both sides have."""
        return bool(self.first[0] and self.first[1])
