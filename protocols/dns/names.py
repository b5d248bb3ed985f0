"""Domain names as they are on the wire: labels, and pointers to earlier names (RFC 1035 section 4.1.4).

Invariant: whatever the bytes are, reading a name ends. A pointer leads backwards only, there are at
most DNS_JUMPS of them, and a name has at most DNS_NAME bytes.
"""

from __future__ import annotations

from typing import Final

from kshark import limits
from kshark.api import DissectError

NAME: Final = limits.DNS_NAME
JUMPS: Final = limits.DNS_JUMPS
POINTER: Final = 0xC0
SPECIAL: Final = frozenset(b'."\\();@$')
"""Bytes that a label's text quotes (RFC 1035 section 5.1, RFC 4343 section 2.1)."""
PLAIN: Final = frozenset(range(0x21, 0x7F)) - SPECIAL


def label(raw: bytes) -> str:
    r"""One label as zone files write it.

    >>> print(label(b"www"), label(b"a.b"), label(b"\x00 "))
    www a\.b \000\032
    """
    if raw.isalnum() or PLAIN.issuperset(raw):
        return raw.decode("ascii")
    return "".join(_quoted(byte) for byte in raw)


def _quoted(byte: int) -> str:
    if byte in PLAIN:
        return chr(byte)
    return f"\\{chr(byte)}" if byte in SPECIAL else f"\\{byte:03}"


def skip(data: bytes, at: int) -> int:
    """Where the name that begins at `at` ends; what its pointer leads to is not looked at."""
    start, size = at, len(data)
    while at < size:
        length = data[at]
        if length == 0:
            return at + 1
        if length >= POINTER:
            if at + 1 >= size:
                break
            if (length & 0x3F) << 8 | data[at + 1] >= start:
                raise DissectError("name with a pointer that leads forwards")
            return at + 2
        if length > 63:
            raise DissectError(f"label of type {length >> 6}")
        at += length + 1
        if at - start >= NAME:
            raise DissectError(f"name over {NAME} bytes")
    raise DissectError("name beyond the end of the message")


class Names:
    """The names of one message, each read once: whoever points to it gets what is known already."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.known: dict[int, tuple[bytes, ...]] = {}

    def read(self, at: int) -> tuple[str, int]:
        """The name at `at` as text without the last dot ("." is the root), and where it ends."""
        labels, end = self.labels(at)
        return ".".join(map(label, labels)) or ".", end

    def labels(self, at: int) -> tuple[tuple[bytes, ...], int]:
        """Its labels, and where it ends."""
        data, start, pos, end, jumps = self.data, at, at, -1, 0
        found: list[bytes] = []
        while True:
            if pos >= len(data):
                raise DissectError("name beyond the end of the message")
            length = data[pos]
            if length == 0:
                pos += 1
                break
            if length >= POINTER:
                end = pos + 2 if end < 0 else end
                target, jumps = self.target(pos, start), jumps + 1
                if jumps > JUMPS:
                    raise DissectError(f"name with more than {JUMPS} pointers")
                if target in self.known:
                    found += self.known[target]
                    break
                start = pos = target
                continue
            if length > 63:
                raise DissectError(f"label of type {length >> 6}")
            if pos + 1 + length > len(data):
                raise DissectError("name beyond the end of the message")
            found.append(data[pos + 1 : pos + 1 + length])
            pos += 1 + length
            if pos - start > NAME or len(found) > NAME // 2:
                raise DissectError(f"name over {NAME} bytes")
        if sum(map(len, found)) + len(found) + 1 > NAME:
            raise DissectError(f"name over {NAME} bytes")
        self.known[at] = tuple(found)
        return self.known[at], end if end >= 0 else pos

    def target(self, pos: int, start: int) -> int:
        """Where the pointer at `pos` leads: before the name that it is part of, so that no loop is possible."""
        if pos + 1 >= len(self.data):
            raise DissectError("name beyond the end of the message")
        target = (self.data[pos] & 0x3F) << 8 | self.data[pos + 1]
        if target >= start:
            raise DissectError("name with a pointer that leads forwards")
        return target
