"""Is this DNS? A look at the first message of a side, strict enough that nothing else passes.

The header must be sane, the question plausible, every record must lie where the counts say, and the message must end
where the last one does. NetBIOS names (port 137) are framed like DNS and are left alone. Where a message is
longer than what is shown of it, what is there must be right.
"""

from __future__ import annotations

import re
from typing import Final

from kshark import limits
from kshark.api import DissectError, Side, Verdict

from .codes import CLASSES, NOTIFY, OPT, QUERY, TYPES, UPDATE
from .records import SHORTEST, Header, Part, header, parts

PROBE_BYTES: Final = limits.PROBE_BYTES
ZERO: Final = 0x40  # the bit of the flags that is reserved
RA: Final = 0x80
UNICAST: Final = (
    0x8000  # of a class in multicast DNS: answer to me alone, or forget older records (RFC 6762)
)
NETBIOS: Final = re.compile(rb"[\x20][A-P]{32}")
NETBIOS_TYPES: Final = (32, 33)
CONTROL: Final = re.compile(rb"[\0-\x1f\x7f]")
SIZES: Final = {1: (0, 4), 28: (0, 16)}  # of A and AAAA; none in an update that deletes
TRIES: Final = 32
"""Places in one chunk at which a message is looked for after a hole."""
PLACE: Final = re.compile(
    rb"(?=(..)..[\0-\x07\x20-\x2f\x80-\x87\xa0-\xaf][\0-\x3f\x80-\xbf]\0[\0\x01]..\0)", re.DOTALL
)
"""A length and a header that may begin here; what is plausible looks further."""


def probe_datagram(data: bytes, side: Side) -> Verdict:
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


def sane(data: bytes) -> bool:
    """Whether the beginning of a header is that of a message, as far as it is there."""
    if len(data) < 4:
        return True
    opcode, low = data[2] >> 3 & 15, data[3]
    if opcode not in (QUERY, NOTIFY, UPDATE) or low & ZERO:
        return False
    if len(data) < SHORTEST:
        return True
    head = header(data)
    if head.questions != 1 and (head.questions > 64 or head.id):
        return False
    if head.response:
        return True
    if head.rcode or (low & RA and not head.flags & 0x0100):
        return False
    quiet = opcode == QUERY and head.id
    return not (quiet and head.answers) and head.answers + head.authority + head.additional < 1024


def opinion(data: bytes, side: Side, cut: bool) -> Verdict:
    """Of a message; `cut`: it is longer than what is there."""
    if len(data) <= SHORTEST or not sane(data):
        return Verdict.NO
    head, end, seen, known = header(data), SHORTEST, 0, True
    try:
        for part in parts(data):
            if not plausible(data, part, head):
                return Verdict.NO
            known = known and part.type in TYPES
            end, seen = part.end, seen + 1
    except DissectError:
        if not (cut and seen):
            return Verdict.NO
        end = len(data)
    if end != len(data) or not seen:
        return Verdict.NO
    right = head.response == (side == Side.SERVER)
    return Verdict.CERTAIN if right and known and head.questions == 1 else Verdict.LIKELY


def plausible(data: bytes, part: Part, head: Header) -> bool:
    """Whether this is a question or record as they are."""
    if not part.type:
        return False
    if part.section == 0:
        if part.type in NETBIOS_TYPES and NETBIOS.match(data, part.at):
            return False
        return named(data, part.at) and classed(part.cls, head)
    if part.type == OPT:
        return part.section == 3 and data[part.at] == 0
    if part.type in SIZES and part.end - part.start not in SIZES[part.type]:
        return False
    return classed(part.cls, head)


def classed(number: int, head: Header) -> bool:
    """Whether there is such a class; multicast DNS keeps a bit of its own in it."""
    return (number if head.id else number & ~UNICAST) in CLASSES


def named(data: bytes, at: int) -> bool:
    """Whether the labels of a name are text, of whatever alphabet."""
    while 0 < data[at] < 64:
        start = at + 1
        at = start + data[at]
        if CONTROL.search(data, start, at):
            return False
    return True


def place(data: bytes, side: Side) -> int:
    """After a hole: where in a stream the first message begins that looks like one; -1 for nowhere."""
    for number, found in enumerate(PLACE.finditer(data)):
        if number >= TRIES:
            break
        at = found.start()
        size = int.from_bytes(found[1], "big")
        message = data[at + 2 : at + 2 + size]
        if opinion(message, side, len(message) < size) == Verdict.CERTAIN:
            return at
    return -1
