"""Where a frame might begin in bytes of unknown content, and whether bytes are WebSocket at all.

Evidence is a chain of frames, each of which is right and begins where the one before says. A head by itself says
little: of 65,536 pairs of bytes 1,664 begin one. So its frames are counted in bits: what a chance would have to get
right. A text that is UTF-8 (of a client: once its mask is undone) says more than any head. What is repeated says
nothing new: a client masks each frame otherwise, and a head that a server repeats may be of another protocol (MQTT has
subscriptions that look like binary frames).
"""

from __future__ import annotations

import codecs
import re
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
READS: Final = 2_048
"""Heads of frames that one search reads; nearly all of what is no frame is told by its first."""
LOOKED: Final = 64
"""Bytes of a text that are looked at."""
PENDING: Final = 0
GOOD: Final = 1
WRONG: Final = -1
CANDIDATES: Final = re.compile(b"[\x81\x82\x88-\x8a\xc1\xc2]")
"""First bytes of a chain: it begins with a whole message. Fragments are rare, and small numbers are not."""


def follow(data: bytes, at: int, client: bool, frame: Frame) -> int:
    """Whether a chain of frames begins at `at`: GOOD, WRONG, or PENDING where the bytes end too soon."""
    bits = count = 0
    inside = False
    before: object = None
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
        told = news(frame, opcode)
        if told is not None and told != before:
            before = told
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


def news(frame: Frame, opcode: int) -> object:
    """What of a head must be another than that of the frame before, to say something; None if it says nothing."""
    if frame.key:
        return frame.key
    plain = opcode in (BINARY, CONTINUATION) and not frame.first & RSV1
    return None if plain else (frame.first, frame.length)


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
    frame = Frame()
    for found in CANDIDATES.finditer(data):
        at = found.start()
        verdict = follow(data, at, client, frame)
        if verdict == GOOD:
            return at, at
        if verdict == PENDING and pending == len(data):
            pending = at
        if (
            frame.reads > READS
        ):  # made to be searched for long: what is left is searched with what comes
            return -1, at
    return -1, pending


def probe(data: bytes, side: Side) -> Verdict:
    """LIKELY for a chain of frames: of a flow whose upgrade was not seen. Half a chain is no reason to wait for."""
    if CANDIDATES.match(data) is None:
        return Verdict.NO if data else Verdict.MORE
    verdict = follow(data, 0, side == Side.CLIENT, Frame())
    if verdict == GOOD:
        return Verdict.LIKELY
    return Verdict.MORE if verdict == PENDING else Verdict.NO
