"""Where a frame might begin in bytes of unknown content, and whether bytes are WebSocket at all.

Evidence is a chain of frames, each of which is right and begins where the one before says. A head by itself says
little: of 65,536 pairs of bytes 1,664 begin one. So its frames are counted in bits: what a chance would have to get
right. A text that is UTF-8 (of a client: once its mask is undone) says more than any head.
"""

from __future__ import annotations

import codecs
from typing import Final

from kshark.api import DissectError, Side, Verdict
from kshark.protocols.websocket.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    OPCODE,
    RSV1,
    TEXT,
    Frame,
    unmask,
)

FRAMES: Final = (3, 4)
"""Frames of a chain at least, by side: a client's mask says more ..."""
ENOUGH: Final = 32
"""... and bits."""
HEADED: Final = 5
"""Bits of a head: 26 of 512 values of a first byte and a mask's bit."""
MASKED_TEXT: Final = 24
PLAIN_TEXT: Final = 6
"""Bits that a text counts at most. Bytes in the middle of a text are text as well, so that of a server says less."""
LOOKED: Final = 64
"""Bytes of a text that are looked at."""
PENDING: Final = 0
GOOD: Final = 1
WRONG: Final = -1
CANDIDATES: Final = frozenset(
    bytes([bits | opcode])
    for opcode in (TEXT, BINARY, CLOSE, CLOSE + 1, CLOSE + 2)
    for bits in ((FIN, FIN | RSV1) if opcode < CLOSE else (FIN,))
)
"""First bytes of a chain: it begins with a whole message. Fragments are rare, and small numbers are not."""


def follow(data: bytes, at: int, client: bool) -> int:
    """Whether a chain of frames begins at `at`: GOOD, WRONG, or PENDING where the bytes end too soon."""
    frame = Frame()
    bits = count = 0
    inside = False
    while True:
        try:
            end = frame.read(data, at, client, RSV1)
        except DissectError:
            return WRONG
        if not end:
            return PENDING
        opcode = frame.first & OPCODE
        if not sensible(frame, opcode, inside):
            return WRONG
        at = end + frame.length
        if at > len(data):
            return PENDING
        bits += HEADED
        if opcode == TEXT and not frame.first & RSV1:
            worth = worth_of(data[end : min(at, end + LOOKED)], frame)
            if worth < 0:
                return WRONG
            bits += worth
        if opcode < CLOSE:
            inside = not frame.first & FIN
        count += 1
        if bits >= ENOUGH and count >= FRAMES[0 if client else 1]:
            return GOOD


def sensible(frame: Frame, opcode: int, inside: bool) -> bool:
    """Whether a frame may follow those before; a message is open or not."""
    if opcode >= CLOSE:
        return not frame.first & RSV1
    if opcode == CONTINUATION:
        return inside and not frame.first & RSV1 and (frame.length > 0 or bool(frame.first & FIN))
    return not inside and frame.length < 1 << 32


def worth_of(text: bytes, frame: Frame) -> int:
    """Bits that the beginning of a text counts, -1 if it is none."""
    plain = unmask(text, frame.key, 0)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(plain)
    except UnicodeDecodeError:
        return -1
    return min(len(plain), MASKED_TEXT if frame.key else PLAIN_TEXT)


def find(data: bytes, client: bool) -> tuple[int, int]:
    """The offset of the first good chain, or -1; and of the first one that may become good."""
    pending = len(data)
    for at in range(len(data)):
        if data[at : at + 1] in CANDIDATES:
            verdict = follow(data, at, client)
            if verdict == GOOD:
                return at, at
            if verdict == PENDING and pending == len(data):
                pending = at
    return -1, pending


def probe(data: bytes, side: Side) -> Verdict:
    """LIKELY for a chain of frames: of a flow whose upgrade was not seen. Half a chain is no reason to wait for."""
    if data[:1] not in CANDIDATES:
        return Verdict.NO if data else Verdict.MORE
    verdict = follow(data, 0, side == Side.CLIENT)
    if verdict == GOOD:
        return Verdict.LIKELY
    return Verdict.MORE if verdict == PENDING else Verdict.NO
