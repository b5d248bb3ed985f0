"""Which addresses an answer gives for the name that was asked for. Compiled as it stands."""

from __future__ import annotations

from kshark.api import DissectError

from . import question
from .names import Names
from .records import SHORTEST, parts
from .walk import after

Address = tuple[bytes, int]
"""Four or sixteen bytes, and the seconds for which they may be kept."""
CNAME = 5
IN = 1
ADDRESS, ADDRESS6 = 1, 28
INCOMPLETE = 0x02
POINTER = 0xC0


def addresses(data: bytes) -> list[Address]:
    """Those of A and AAAA records, at the end of a chain of aliases that begins with the question.

    None of an answer that did not fit (TC): its client asks again.
    """
    size = len(data)
    found: list[Address] = []
    if size <= SHORTEST or data[2] & INCOMPLETE or data[4] or data[5] != 1:
        return found
    at = after(data, SHORTEST)
    if at < 0:
        return found
    at += 4
    for _ in range(data[6] << 8 | data[7]):
        if at + 12 > size:
            break  # the capture has no more of it
        if data[at] != POINTER or data[at + 1] != SHORTEST:
            return through_aliases(data)
        kind = data[at + 2] << 8 | data[at + 3]
        if kind == CNAME:
            return through_aliases(data)
        start = at + 12
        length = data[at + 10] << 8 | data[at + 11]
        at = start + length
        if at > size:
            break
        if ((kind == ADDRESS and length == 4) or (kind == ADDRESS6 and length == 16)) and data[
            start - 7
        ] == IN:
            ttl = data[start - 6]  # as a type of its own, lest a byte shifted so far is negative
            ttl = ttl << 24 | data[start - 5] << 16 | data[start - 4] << 8
            found.append((question.piece(data, start, at), ttl | data[start - 3]))
    return found


def through_aliases(data: bytes) -> list[Address]:
    """The same of any message: names are read, aliases followed."""
    names = Names(data)
    asked: tuple[bytes, ...] = ()
    aliases: dict[tuple[bytes, ...], tuple[tuple[bytes, ...], int]] = {}
    owned: dict[tuple[bytes, ...], list[Address]] = {}
    try:
        for part in parts(data):
            if part.section > 1:
                break
            owner = lowered(names, part.at)
            if not part.section:
                asked = owner
            elif part.cls == IN and part.type == CNAME:
                aliases.setdefault(owner, (lowered(names, part.start), part.ttl))
            elif part.cls == IN and (part.type, part.end - part.start) in (
                (ADDRESS, 4),
                (ADDRESS6, 16),
            ):
                owned.setdefault(owner, []).append((data[part.start : part.end], part.ttl))
    except DissectError:
        pass  # what was read before is what it says
    ttl = 0xFFFF_FFFF
    while asked in aliases:
        asked, kept = aliases.pop(asked)  # so that a circle ends
        ttl = min(ttl, kept)
    return [(raw, min(ttl, kept)) for raw, kept in owned.get(asked, ())]


def lowered(names: Names, at: int) -> tuple[bytes, ...]:
    """The labels of a name, whatever its case."""
    return tuple(label.lower() for label in names.labels(at)[0])
