"""Where the parts of a message lie: header, questions, records, unread (RFC 1035 section 4.1)."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

from kshark.api import DissectError

from .names import skip

HEADER: Final = Struct(">6H")
QUESTION: Final = Struct(">HH")
RECORD: Final = Struct(">HHIH")
SHORTEST: Final = 12
"""Bytes of a message that has nothing but its header."""


ANSWER: Final = 0x80
"""Of the third byte: whether this is a response."""
NO, ODD, USUAL = -1, 0, 1
"""What `kshark.protocols.dns.walk` says of a message."""
CUT = -1
"""The same of one that ends before its last record."""


class Header(NamedTuple):
    """The twelve bytes that every message begins with."""

    id: int
    flags: int
    questions: int
    answers: int
    authority: int
    additional: int

    @property
    def response(self) -> bool:
        return self.flags >= 0x8000

    @property
    def opcode(self) -> int:
        return self.flags >> 11 & 15

    @property
    def rcode(self) -> int:
        return self.flags & 15


class Part(NamedTuple):
    """A question (section 0, without ttl and data) or a record (sections 1 to 3)."""

    section: int
    at: int  # of its name
    type: int
    cls: int
    ttl: int
    start: int  # of its data
    end: int


def header(data: bytes) -> Header:
    """The header of a message."""
    if len(data) < SHORTEST:
        raise DissectError("message shorter than its header")
    return Header(*HEADER.unpack_from(data))


def parts(data: bytes) -> Iterator[Part]:
    """The questions and records in order; `DissectError` where the message ends too early."""
    at, size, counts = SHORTEST, len(data), header(data)[2:]
    for section, count in enumerate(counts):
        fixed = RECORD if section else QUESTION
        for _ in range(count):
            start = at
            at = skip(data, at)
            begin = at + fixed.size
            if begin > size:
                raise DissectError("record beyond the end of the message")
            if section:
                kind, cls, ttl, length = RECORD.unpack_from(data, at)
                at = begin + length
            else:
                (kind, cls), ttl, at = QUESTION.unpack_from(data, at), 0, begin
            if at > size:
                raise DissectError("record beyond the end of the message")
            yield Part(section, start, kind, cls, ttl, begin, at)
