"""Is this DNS? A look at the whole first message of a side, strict enough that nothing else passes (`walk`).

Where a message is longer than what is shown of it, what is there must be right.
"""

from __future__ import annotations

import re
from typing import Final

from kshark import limits
from kshark.api import Side, Verdict

from .records import ANSWER, NO, SHORTEST, USUAL
from .walk import sane, walk

PROBE_BYTES = limits.PROBE_BYTES
CERTAIN = Verdict.CERTAIN
LIKELY = Verdict.LIKELY
TRIES: Final = 32
"""Places in one chunk at which a message is looked for after a hole."""
PLACE: Final = re.compile(
    rb"(?=(..)..[\0-\x07\x20-\x2f\x80-\x87\xa0-\xaf][\0-\x3f\x80-\xbf]\0[\0\x01]..\0)", re.DOTALL
)
"""A length and a header that may begin here; `walk` looks further."""


def probe_datagram(data: bytes, side: int) -> Verdict:
    """The opinion of one datagram."""
    return opinion(data, side, len(data) >= PROBE_BYTES)


def probe_stream(data: bytes, side: Side) -> Verdict:
    """The opinion of the first message of a stream, which has its length in front."""
    if len(data) < 2:
        return Verdict.MORE
    size = int.from_bytes(data[:2], "big")
    message = data[2 : 2 + size]
    if size <= SHORTEST or not sane(message):
        return Verdict.NO
    if len(message) < size and len(data) < PROBE_BYTES:
        return Verdict.MORE
    return opinion(message, side, len(message) < size)


def opinion(data: bytes, side: int, cut: bool) -> Verdict:
    """Of a message; `cut`: it is longer than what is there."""
    found = walk(data, cut)
    if found == NO:
        return Verdict.NO
    right = (data[2] & ANSWER != 0) == (side == 1)
    return CERTAIN if right and found == USUAL else LIKELY


def place(data: bytes, side: Side) -> int:
    """After a hole: where in a stream the first message begins that looks like one; -1 for nowhere."""
    for number, found in enumerate(PLACE.finditer(data)):
        if number >= TRIES:
            break
        at = found.start()
        size = int.from_bytes(found[1], "big")
        message = data[at + 2 : at + 2 + size]
        if opinion(message, side, len(message) < size) == CERTAIN:
            return at
    return -1
