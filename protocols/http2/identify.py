"""Whether bytes are HTTP/2: the preface, or frames in a row where a connection is joined in mid-stream."""

from __future__ import annotations

from typing import Final

from kshark import limits
from kshark.api import Side, Verdict
from kshark.protocols.http2.frames import (
    HEAD,
    HEADERS,
    PADDED,
    PREFACE,
    PRIORITIZED,
    PUSH_PROMISE,
    Frame,
    frame,
)
from kshark.protocols.http2.resync import CHAIN, plausible

STREAMS: Final = 2**24
"""A connection that is joined is not taken for one that has had as many streams, unless what it says is clear."""


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
