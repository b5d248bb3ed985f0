"""The first bytes of a flow, kept until its protocol is known and has proven itself."""

from __future__ import annotations

from kshark import limits
from kshark.unknown import server_name

Piece = tuple[int, bytes, int]  # side as the wire has it, data, ns


class Window:
    """At most PROBE_BYTES shown and PROBE_CHUNKS counted a side; the chunks to replay."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.first = (b"", b"")
        self.counts = (0, 0)
        self.held = 0  # bytes of `pieces`
        self.seen = 0  # bytes looked at in all windows of this flow

    def add(self, side: int, data: bytes, ns: int) -> bool:
        """One more chunk; true when the window of that side is over."""
        self.pieces.append((side, data, ns))
        self.held += len(data)
        self.seen += len(data)
        shown = self.first[side] + data[: limits.PROBE_BYTES - len(self.first[side])]
        count = self.counts[side] + 1
        self.first = (self.first[0], shown) if side else (shown, self.first[1])
        self.counts = (self.counts[0], count) if side else (count, self.counts[1])
        return len(shown) >= limits.PROBE_BYTES or count >= limits.PROBE_CHUNKS

    def keep(self, side: int, data: bytes, ns: int) -> None:
        """A chunk that is dissected already, kept in case the choice was wrong."""
        if len(self.pieces) < 2 * limits.PROBE_CHUNKS:
            self.pieces.append((side, data, ns))
        else:
            self.pieces = []

    def clear(self) -> None:
        """Start a new window."""
        self.pieces = []
        self.first = (b"", b"")
        self.counts = (0, 0)
        self.held = 0

    def spoken(self) -> bool:
        """Whether anybody said anything."""
        return bool(self.first[0] or self.first[1])

    def both(self) -> bool:
        """Whether both sides have."""
        return bool(self.first[0] and self.first[1])

    def sni(self, side: int) -> str:
        """TLS server name in the first bytes of a side, or ""."""
        try:
            return server_name(self.first[side])
        except IndexError:
            return ""
