"""Where a frame might begin in bytes of unknown content, and whether bytes are HTTP/2 at all.

Evidence is a chain: the header of a frame that is right in every respect, and at the distance that it says, the next.
A chance header has about 25 bits to get right, so a chain of three is no chance; zeros, counters and other
protocols with lengths fail by flags, streams and lengths. What is rare in real traffic (flags without meaning, types
that RFC 9113 does not know, streams 2**24 and up, empty frames that say nothing) does not count as a frame here,
though a connection that is known may have it.
"""

from __future__ import annotations

import re
from typing import Final

from kshark import limits
from kshark.api import Side, Verdict
from kshark.protocols.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_STREAM,
    FLAGS,
    HEAD,
    HEADERS,
    PADDED,
    PREFACE,
    PRIORITIZED,
    PUSH_PROMISE,
    SETTINGS,
    SMALLEST_LIMIT,
    Frame,
    fault,
    frame,
)

CHAIN: Final = 3
"""Frames in a row that are no chance ..."""
TAIL: Final = 2
"""... and so many that end where the bytes end."""
STREAMS: Final = 2**24
"""A connection that is joined is not taken for one that has had as many streams, unless what it says is clear."""
MOST: Final = 2**20
"""Bytes of a frame that is believed while nothing else is known: servers allow 16 KiB, some 1 MiB."""

CANDIDATE: Final = re.compile(
    rb"(?=[\0-\x0f]..[\0-\x09][\0\x01\x04\x05\x08\x09\x0c\x0d\x20\x21\x24\x25\x28\x29\x2c\x2d][\0-\x7f])",
    re.DOTALL,
)


def plausible(head: Frame, reserved: bool) -> bool:
    """Whether nothing is odd about a frame."""
    length, kind, flags, stream = head
    if reserved or kind > CONTINUATION or flags & ~FLAGS[kind] or length > MOST:
        return False
    if length > SMALLEST_LIMIT and kind != DATA:
        return False
    if (
        kind in (DATA, HEADERS, CONTINUATION)
        and length == 0
        and not (kind == DATA and flags & END_STREAM)
    ):
        return False
    if kind == SETTINGS and (length > 60 or (length == 0) != bool(flags & ACK)):
        return False
    return not fault(length, kind, flags, stream)


def chain(data: bytes, pos: int) -> tuple[int, int]:
    """How many plausible frame headers there are in a row from `pos` on, and where the last of them ends.

    A header block that begins as one should counts twice. (-1, ...) where something else is in the row.
    """
    count = 0
    size = len(data)
    while pos + HEAD <= size:
        head = frame(data, pos)
        if not plausible(head, data[pos + 5] & 0x80 != 0):
            return -1, pos
        count += 1 + (speaker(data, pos, head) >= 0)
        pos += HEAD + head.length
        if count >= 4 * CHAIN:
            break
    return count, pos


def search(data: bytes) -> tuple[int, int, int]:
    """Where frames begin beyond doubt, or -1; else from where on to keep the bytes, and how many to wait for.

    Frames may begin in whatever comes next, so that is looked at soon; but not byte by byte.
    """
    size = len(data)
    keep = max(0, size - HEAD + 1)
    for candidate in CANDIDATE.finditer(data):
        at = candidate.start()
        count, end = chain(data, at)
        if count >= CHAIN or (count >= TAIL and end == size):
            return at, at, 0
        if count >= 0:  # right as far as it goes
            keep = min(keep, at)
    return -1, keep, size - keep + (size - keep) // 16 + 1


# ---------------------------------------------------------------- recognition


def block_start(data: bytes, pos: int, head: Frame) -> int:
    """The first byte of the header block of a HEADERS frame that is no change of the table's size, or -1."""
    at = pos + HEAD + (head.flags & PADDED > 0) + 5 * (head.flags & PRIORITIZED > 0)
    end = min(len(data), pos + HEAD + head.length)
    while at < end and data[at] & 0xE0 == 0x20:
        if data[at] & 0x1F == 0x1F:
            at += 1
            while at < end and data[at] & 0x80:
                at += 1
        at += 1
    return data[at] if at < end else -1


def speaker(data: bytes, pos: int, head: Frame) -> int:
    """Who sends such a frame: a Side, or -1 where it does not say. By the static table: request or status."""
    if head.kind == PUSH_PROMISE:
        return Side.SERVER
    if head.kind != HEADERS:
        return -1
    byte = block_start(data, pos, head)
    index = byte & 0x7F if byte & 0x80 else byte & 0x3F if byte & 0x40 else byte & 0x0F
    if byte < 0 or not 0 < index < 15:
        return -1
    return Side.SERVER if 8 <= index <= 14 else Side.CLIENT


def probe(data: bytes, side: Side) -> Verdict:
    """The preface is certain; in mid-stream three frames in a row are likely."""
    start = data[: len(PREFACE)]
    if start == PREFACE:
        return Verdict.CERTAIN if side == Side.CLIENT else Verdict.NO
    if PREFACE.startswith(start):
        return Verdict.MORE if side == Side.CLIENT else Verdict.NO
    count = pos = 0
    whole = False
    while pos + HEAD <= len(data):
        head = frame(data, pos)
        who = speaker(data, pos, head)
        if not plausible(head, data[pos + 5] & 0x80 != 0) or who == 1 - side:
            return Verdict.NO
        if head.stream >= STREAMS and who < 0 and count == 0:
            return Verdict.NO
        count += 1 + (who >= 0)  # a header block that begins as one should
        pos += HEAD + head.length
        whole = pos <= len(data)
    if count >= CHAIN and (whole or count > CHAIN):
        return Verdict.LIKELY
    if data[:1] > b"\x0f" or (count == 0 and data[3:4] > b"\x09"):
        return Verdict.NO
    return Verdict.MORE if len(data) < limits.PROBE_BYTES else Verdict.NO
