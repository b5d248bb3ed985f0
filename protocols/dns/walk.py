"""Whether bytes are a message of DNS: every question and record is looked at, none is read. Compiled as it stands.

The header must be sane, the names be text, types, classes and lengths be those of records, each record lie where the
counts say, and the message end where the last one does. NetBIOS (port 137) is framed like DNS and left alone.
"""

from __future__ import annotations

import re

from kshark import limits

from .codes import CLASSES, NOTIFY, OPT, QUERY, TYPES, UPDATE
from .records import ANSWER, CUT, NO, ODD, SHORTEST, USUAL

NAME = limits.DNS_NAME
RESERVED = 0x40  # of the second byte of the flags
RA = 0x80
RD = 0x01  # of the first one
UNICAST = (
    0x8000  # of a class in multicast DNS: answer to me alone, or forget older records (RFC 6762)
)
IN = 1
ADDRESS, ADDRESS6, OPTIONS = 1, 28, OPT
NIMLOC, SRV = 32, 33
NOTHING, BEYOND = -1, -2
FIRST, SECOND, THIRD = QUERY, NOTIFY, UPDATE
QUESTIONS = 64  # of a multicast query
RECORDS = 1_024  # of a query: an update may have many
NETBIOS = re.compile(rb"\x20[A-P]{32}")
KNOWN_TYPES = frozenset(TYPES)
KNOWN_CLASSES = frozenset(CLASSES)


def sane(data: bytes) -> bool:
    """Whether the beginning of a header is that of a message, as far as it is there."""
    size = len(data)
    if size < 4:
        return True
    opcode = data[2] >> 3 & 15
    if (opcode != FIRST and opcode != SECOND and opcode != THIRD) or data[3] & RESERVED:
        return False
    if size < SHORTEST:
        return True
    ident = data[0] << 8 | data[1]
    questions = data[4] << 8 | data[5]
    if questions != 1 and (questions > QUESTIONS or ident != 0):
        return False
    if data[2] & ANSWER:
        return True
    if data[3] & 15 or (data[3] & RA and not data[2] & RD):
        return False
    answers = data[6] << 8 | data[7]
    records = answers + (data[8] << 8 | data[9]) + (data[10] << 8 | data[11])
    return records < RECORDS and not (answers and opcode == FIRST and ident)


def walk(data: bytes, cut: bool) -> int:
    """USUAL, ODD (a type without a name, or not one question), or NO. `cut`: there is more of it than this."""
    size = len(data)
    if size <= SHORTEST or not sane(data):
        return NO
    multicast = data[0] == 0 and data[1] == 0
    verdict = USUAL if data[4] == 0 and data[5] == 1 else ODD
    at = SHORTEST
    seen = 0
    for section in range(4):
        count = data[4 + 2 * section] << 8 | data[5 + 2 * section]
        for _ in range(count):
            start = at
            at = after(data, at)
            end = at + 4 if section == 0 else at + 10
            if at < 0 or end > size:
                return ODD if cut and seen else NO
            kind = data[at] << 8 | data[at + 1]
            cls = data[at + 2] << 8 | data[at + 3]
            length = 0
            if section:
                length = data[at + 8] << 8 | data[at + 9]
            elif not asked(data, start, kind):
                return NO
            if not usual(kind, cls, length, section, multicast) or (
                kind == OPTIONS and data[start]
            ):
                return NO
            if verdict == USUAL and kind not in KNOWN_TYPES:
                verdict = ODD
            at = end + length
            seen += 1
            if at > size:
                return ODD if cut else NO
    return verdict if at == size and seen else NO


def survey(data: bytes) -> int:
    """What the record of EDNS adds to the response code, 0 without one (RFC 6891 section 6.1.3).

    CUT where the message ends before its last record does. A name that is none ends the look.
    """
    size = len(data)
    at = SHORTEST
    found = 0
    for section in range(4):
        count = data[4 + 2 * section] << 8 | data[5 + 2 * section]
        for _ in range(count):
            start = at
            at = after(data, at)
            if at < 0:
                return CUT if at == BEYOND else found
            if section == 0:
                at += 4
            else:
                if at + 10 > size:
                    return CUT
                if section == 3 and data[at] == 0 and data[at + 1] == OPTIONS and not data[start]:
                    found = data[at + 4]
                at += 10 + (data[at + 8] << 8 | data[at + 9])
            if at > size:
                return CUT
    return found


def after(data: bytes, at: int) -> int:
    """Where the name at `at` ends; BEYOND where the data end first, NOTHING where it is no name."""
    size = len(data)
    start = at
    while at < size:
        length = data[at]
        if length == 0:
            return at + 1
        if length > 63:
            if length < 0xC0:
                return NOTHING
            if at + 1 >= size:
                return BEYOND
            if ((length & 63) << 8 | data[at + 1]) >= start:
                return NOTHING
            return at + 2
        at += length + 1
        if at - start >= NAME:
            return NOTHING
    return BEYOND


def usual(kind: int, cls: int, length: int, section: int, multicast: bool) -> bool:
    """Whether there are records of such a type, class and length."""
    if kind == 0:
        return False
    if kind == OPTIONS:
        return section == 3
    if (
        section
        and length
        and ((kind == ADDRESS and length != 4) or (kind == ADDRESS6 and length != 16))
    ):
        return False
    if multicast:
        cls &= ~UNICAST
    return cls == IN or cls in KNOWN_CLASSES


def asked(data: bytes, at: int, kind: int) -> bool:
    """Whether the labels of a question are text, of whatever alphabet, and no NetBIOS name."""
    if kind in (NIMLOC, SRV) and NETBIOS.match(data, at):
        return False
    end = len(data)
    while at < end:
        length = data[at]
        if length == 0 or length > 63:
            break
        at += 1
        for place in range(at, at + length):
            if place >= end or data[place] < 0x20 or data[place] == 0x7F:
                return False
        at += length
    return True
