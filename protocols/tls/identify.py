"""Is this TLS? A hello whose lengths all fit; joined in mid-stream, records that follow each other."""

from __future__ import annotations

from typing import Final

from kshark import limits
from kshark.api import Side, Verdict

from . import ssl2
from .codes import CLIENT_HELLO, CONTENT, DATA, HANDSHAKE, SERVER_HELLO
from .records import HEAD

FIXED: Final = 39
"""Bytes of a hello up to the length of its session id: head, version, random."""
LARGEST: Final = limits.TLS_RECORD
SMALLEST: Final = 17
"""Bytes that an encrypted record holds at least."""


def probe(data: bytes, side: Side) -> Verdict:
    """The opinion of the first bytes of a side."""
    if ssl2.is_ssl2(data):
        return _ssl2(data, side)
    if len(data) < HEAD + 1:
        return Verdict.MORE if _may_begin(data) else Verdict.NO
    if not _head(data, 0):
        return Verdict.NO
    if data[0] == HANDSHAKE:
        return _hello(_joined(data), side)
    return _chain(data) if data[0] == DATA else Verdict.NO


def _may_begin(data: bytes) -> bool:
    """Whether these few bytes could be the head of a record."""
    expected = ((HANDSHAKE, DATA), (3,), range(5))
    return all(byte in right for byte, right in zip(data, expected, strict=False))


def _head(data: bytes, at: int) -> int:
    """The length of a record whose head is here, 0 where there is none."""
    kind, major, minor, high, low = data[at : at + HEAD]
    size = high << 8 | low
    right = kind in CONTENT and major == 3 and minor <= 4 and size <= LARGEST
    return size if right else 0


def _joined(data: bytes) -> bytes:
    """The handshake messages that the records at the beginning hold."""
    found, at = bytearray(), 0
    while len(data) - at >= HEAD and data[at] == HANDSHAKE and (size := _head(data, at)):
        found += data[at + HEAD : at + HEAD + size]
        at += HEAD + size
    return bytes(found)


def _hello(shake: bytes, side: Side) -> Verdict:
    """Of handshake messages, which may not be whole: the first is a hello of that side."""
    if shake[:1] != bytes([CLIENT_HELLO if side == Side.CLIENT else SERVER_HELLO]):
        return Verdict.NO
    if len(shake) < FIXED:
        return Verdict.MORE
    size = 4 + int.from_bytes(shake[1:4], "big")
    if not FIXED + 3 <= size <= limits.TLS_MESSAGE or not _version(shake[4], shake[5]):
        return Verdict.NO
    if shake[4] == 0x7F:  # a draft of 1.3 without a session id
        return Verdict.LIKELY
    session = shake[38]
    if session > 32:
        return Verdict.NO
    return _lists(shake, FIXED + session, size, side)


def _lists(shake: bytes, at: int, size: int, side: Side) -> Verdict:
    """What follows the session id ends where the message does."""
    if side == Side.CLIENT:
        if len(shake) < at + 2:
            return Verdict.MORE
        ciphers = int.from_bytes(shake[at : at + 2], "big")
        at += 2 + ciphers
        if ciphers < 2 or ciphers & 1 or at >= size:
            return Verdict.NO
        if len(shake) <= at:
            return Verdict.MORE if len(shake) < limits.PROBE_BYTES - 64 else Verdict.LIKELY
        at += 1 + shake[at]
    else:
        at += 3
    if at == size:
        return Verdict.CERTAIN
    if len(shake) < at + 2:
        return Verdict.MORE
    right = at + 2 + int.from_bytes(shake[at : at + 2], "big") == size
    return Verdict.CERTAIN if right else Verdict.NO


def _version(major: int, minor: int) -> bool:
    return (major == 3 and minor <= 4) or major == 0x7F


def _chain(data: bytes) -> Verdict:
    """Of encrypted records: two heads in their places, or one record that ends with the data."""
    at = heads = 0
    while len(data) - at >= HEAD:
        size = _head(data, at)
        if size < SMALLEST and not (size and heads):
            return Verdict.NO
        heads += 1
        at += HEAD + size
        if heads == 2 or at == len(data):
            return Verdict.LIKELY
    return Verdict.MORE


def _ssl2(data: bytes, side: Side) -> Verdict:
    if len(data) < ssl2.SHORTEST:
        return Verdict.MORE if len(data) < 3 or data[2] in (1, 4) else Verdict.NO
    return Verdict.CERTAIN if ssl2.right(data, side) else Verdict.NO
