"""How a stream may be framed, guessed from its bytes: for ``kshark new-plugin --from``.

A guess is proven by the bytes themselves: every message must end where the next begins, on both
sides, and most chunks (as they were sent) must end where a message ends. It is a start for a person, no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from kshark.api import Side

FARTHEST: Final = 12
"""Offset of a length field up to which it is looked for."""
LARGEST: Final = 1 << 20
"""Length of a message that is believed."""
ADJUST: Final = range(-4, 25)
"""What may have to be added to a length to get the whole message's."""


@dataclass(frozen=True)
class Lines:
    """Messages are lines."""

    ends: bytes
    hits: int = 0

    def cuts(self, data: bytes) -> list[int]:
        """Where messages end."""
        return [at + 1 for at, byte in enumerate(data) if byte == 10]

    def __str__(self) -> str:
        return f"lines that end with {self.ends!r}"


@dataclass(frozen=True)
class Lengths:
    """Messages begin with a head that has their length."""

    at: int
    width: int
    endian: Literal["big", "little"]
    adjust: int  # the whole message has so many bytes more than the length says
    hits: int = 0

    @property
    def head(self) -> int:
        """Bytes up to the end of the length."""
        return self.at + self.width

    def cuts(self, data: bytes) -> list[int]:
        """Where messages end; stops where a length cannot be right."""
        found, start = [], 0
        while start + self.head <= len(data):
            size = int.from_bytes(data[start + self.at : start + self.head], self.endian)
            size += self.adjust
            if not self.head <= size <= LARGEST:
                return []
            start += size
            if start <= len(data):
                found.append(start)
        return found

    def __str__(self) -> str:
        return f"a {self.endian}-endian length of {self.width} bytes at offset {self.at}, plus {self.adjust}"


Guess = Lines | Lengths


def guess(chunks: Sequence[tuple[Side, bytes]]) -> Guess | None:
    """The framing that explains most chunk ends of both sides, None where none explains most."""
    sides = [[data for side, data in chunks if side == who] for who in Side]
    sides = [pieces for pieces in sides if pieces]
    best: Guess | None = None
    for one in _candidates(sides):
        hits = _hits(one, sides)
        if hits and (best is None or hits > best.hits):
            best = _with(one, hits)
    return best


def _candidates(sides: list[list[bytes]]) -> Iterator[Guess]:
    everything = [data for pieces in sides for data in pieces]
    if everything and all(data.endswith(b"\n") and b"\0" not in data for data in everything):
        crlf = all(data.endswith(b"\r\n") for data in everything)
        yield Lines(b"\r\n" if crlf else b"\n")
    for width in (4, 2, 1, 3):
        for at in range(FARTHEST + 1):
            for endian in ("big", "little") if width > 1 else ("big",):
                for adjust in ADJUST:
                    yield Lengths(at, width, endian, adjust)


def _hits(one: Guess, sides: list[list[bytes]]) -> int:
    """How many chunks end with a message; 0 unless most do, and lengths of more than one kind are seen."""
    hits = total = 0
    sizes: set[int] = set()
    for pieces in sides:
        cuts = one.cuts(b"".join(pieces))
        if not cuts:
            return 0
        at, ends = 0, set(cuts)
        sizes.update(b - a for a, b in zip([0, *cuts], cuts, strict=False))
        for data in pieces:
            at += len(data)
            total += 1
            hits += at in ends
    return hits if hits * 10 >= total * 8 and len(sizes) > 1 else 0


def _with(one: Guess, hits: int) -> Guess:
    if isinstance(one, Lines):
        return Lines(one.ends, hits)
    return Lengths(one.at, one.width, one.endian, one.adjust, hits)
