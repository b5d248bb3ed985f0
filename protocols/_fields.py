"""Header lists as bytes: what a message of HTTP/2 has for a head, and who rides in its exchanges reads.

Field by field: the lengths of name and value (4 bytes each, big-endian, `UNKNOWN` for what cannot be known), name,
value. The head of HTTP/1 is read likewise, and told apart by its first byte.

Beside this file lies ``_fields.pxd``, with which the same source is compiled.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

from kshark import made

UNKNOWN: Final = 0xFFFF_FFFF
"""The length of a name or value that cannot be known."""
LENGTHS: Final = Struct(">II")
_UNKNOWN: Final = UNKNOWN

Field = tuple[bytes | None, bytes | None]


def field(name: bytes | None, value: bytes | None) -> bytes:
    """A field of a list; None is not known.

    >>> field(b"a", b"bc")
    b'\\x00\\x00\\x00\\x01\\x00\\x00\\x00\\x02abc'
    """
    sizes = (UNKNOWN if part is None else len(part) for part in (name, value))
    return LENGTHS.pack(*sizes) + (name or b"") + (value or b"")


def value_of(head: bytes, wanted: bytes) -> bytes | None:
    """The value of the first field of that name in a list; None without one whose name and value are known.

    >>> value_of(field(b"ab", b"c") + field(b"a", b"bc"), b"a"), value_of(field(b"a", None), b"a")
    (b'bc', None)
    """
    at = 0
    end = len(head) - 8
    while at <= end:
        size = length_at(head, at)
        length = length_at(head, at + 4)
        at += 8
        if size == len(wanted) and length >= 0 and head.startswith(wanted, at):
            at += size
            return made.piece(head, at, min(at + length, len(head)))
        at += max(size, 0) + max(length, 0)
    return None


def length_at(head: bytes, at: int) -> int:
    """The length that stands there, -1 where it is unknown."""
    size = head[at]
    size = size << 8 | head[at + 1]
    size = size << 8 | head[at + 2]
    size = size << 8 | head[at + 3]
    return -1 if size == _UNKNOWN else size


def fields(head: bytes) -> Iterator[Field]:
    """The names and values of a list, None where they are not known.

    >>> list(fields(field(b"a", b"bc") + field(None, b"")))
    [(b'a', b'bc'), (None, b'')]
    """
    at = 0
    while at < len(head):
        sizes = LENGTHS.unpack_from(head, at)
        at += LENGTHS.size
        parts: list[bytes | None] = []
        for size in sizes:
            parts.append(None if size == UNKNOWN else head[at : at + size])
            at += 0 if size == UNKNOWN else size
        yield parts[0], parts[1]


def lines(text: bytes) -> Iterator[Field]:
    """The same of lines ``Name: value``; others are passed over.

    >>> list(lines(b"POST / HTTP/1.1\\r\\nContent-Type: a\\r\\n\\r\\n"))
    [(b'content-type', b'a')]
    """
    for line in text.split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon and b" " not in name:
            yield name.strip().lower(), value.strip()


def listed(head: bytes) -> Iterator[Field]:
    """The fields of a head, of whatever version of HTTP."""
    return fields(head) if head[:1] in (b"\0", b"\xff") else lines(head)
