"""One side of a WebSocket connection: the frame that is read, and the messages that it belongs to."""

from __future__ import annotations

import msgspec

from kshark import limits
from kshark.api import DissectError, Kind, Message
from kshark.feeder import Found
from kshark.protocols.websocket.frames import (
    CLOSE,
    CODES,
    CONTINUATION,
    FIN,
    OPCODE,
    RSV,
    RSV1,
    VERBS,
    Frame,
    unmask,
)
from kshark.protocols.websocket.inflate import LIMIT, Inflater
from kshark.protocols.websocket.negotiated import Deflate, Negotiated
from kshark.protocols.websocket.resync import find
from kshark.protocols.websocket.states import HEAD, OVER, PAYLOAD, SEEK

ONEWAY = int(Kind.ONEWAY)
KEPT = limits.BODY_KEPT
SEARCHED = limits.WS_SEARCHED
NORMAL = (1000, 1001)
"""Codes of a close that is no error: done, and going away (a page that is left, a server that stops)."""
UNMASKED = ("unmasked",)
MASKED = ("masked",)
PIECES = 256
"""Parts of a body that are joined at once."""


class Rest(msgspec.Struct, frozen=True, gc=False):
    """What `details` needs beside head and body."""

    frames: int  # of the message
    payload: int  # bytes of it, as sent
    packed: bool  # it was compressed ...
    unpacked: bool  # ... and `body` is not any more
    subprotocol: str
    path: str  # of the upgrade


class Building:
    """A message under way."""

    __slots__ = (
        "first_ns", "frames", "gap", "head", "hole", "kept", "notes", "opcode", "packed", "payload", "pieces", "size",
    )  # fmt: skip

    def __init__(self, opcode: int, head: bytes, packed: bool, first_ns: int) -> None:
        self.opcode = opcode
        self.head = head
        self.packed = packed
        self.first_ns = first_ns
        self.frames = 0
        self.size = 0  # bytes of its frames
        self.payload = 0  # ... without their heads
        self.pieces: list[bytes] = []
        self.kept = 0
        self.gap = 0
        self.hole = False  # nothing more is kept
        self.notes: tuple[str, ...] = ()

    def keep(self, data: bytes) -> None:
        """Bytes of its content, within BODY_KEPT."""
        room = KEPT - self.kept
        if len(data) > room:
            data = data[:room]
            self.hole = True
        if data:
            if len(self.pieces) == PIECES:
                self.pieces[:] = [b"".join(self.pieces)]
            self.pieces.append(data)
            self.kept += len(data)


class Lane:
    """One side: `take` what comes, in order. Beside this file lies ``lane.pxd``, with which it is compiled."""

    __slots__ = (
        "buffer", "client", "control", "data", "deflate", "frame", "inflater", "left", "now", "resync", "rsv",
        "searched", "skipped", "state", "terms",
    )  # fmt: skip

    def __init__(self, client: bool) -> None:
        self.client = client
        self.state = HEAD
        self.buffer = b""  # half a head, or what is searched
        self.searched = 0  # SEEK: search again when the buffer is so long
        self.skipped = 0  # bytes that belong to no message
        self.resync = False
        self.frame = Frame()
        self.left = 0  # bytes of the frame's payload to come
        self.now = 0  # ns: when what is taken came; 0 where the engine dates messages
        self.data: Building | None = None  # the message, perhaps in fragments
        self.control: Building | None = None  # what stands between them
        self.agree(Negotiated())

    def agree(self, terms: Negotiated) -> None:
        """What the upgrade says."""
        self.terms = terms
        deflate: Deflate | None = terms.sides[0 if self.client else 1]
        self.deflate = deflate
        self.rsv = RSV if terms.foreign else RSV1 if deflate is not None else 0
        eager = deflate is not None and deflate.takeover
        self.inflater = Inflater(deflate.bits, terms.known) if eager and deflate else None

    # ------------------------------------------------------------ frames

    def take(self, data: bytes, found: Found) -> None:
        """Put what `data` completes into `found`."""
        if self.buffer:
            data = self.buffer + data
            self.buffer = b""
        at, size = 0, len(data)
        while at < size:
            if self.state == PAYLOAD:
                end = min(size, at + self.left)
                self.content(data[at:end], found)
                at = end
            elif self.state == HEAD:
                end = self.frame.read(data, at, self.client, self.rsv, self.terms.known)
                if not end:
                    self.buffer = data[at:]
                    return
                self.begin(data[at:end], found)
                at = end
            elif self.state == SEEK:
                at = self.seek(data, at)
            else:
                raise DissectError("bytes after a close frame")

    def begin(self, head: bytes, found: Found) -> None:
        """The head of a frame was read."""
        frame = self.frame
        opcode = frame.first & OPCODE
        packed = bool(frame.first & RSV1) and self.deflate is not None
        if opcode >= CLOSE:
            if packed and not self.terms.foreign:
                raise DissectError("a reserved bit is set")
            one = self.control = Building(opcode, head, False, self.now)
        elif opcode == CONTINUATION:
            if self.data is None or (packed and not self.terms.foreign):
                raise DissectError("a fragment of no message")
            one = self.data
        elif self.data is not None:
            raise DissectError("a message within another")
        else:
            one = self.data = Building(opcode, head, packed, self.now)
            if packed and self.inflater is not None:
                self.inflater.begin(one.pieces)
        if frame.odd and not one.notes:
            one.notes = UNMASKED if self.client else MASKED
        one.frames += 1
        one.size += len(head)
        self.left = frame.length
        self.state = PAYLOAD
        if not frame.length:
            self.ended(found)

    def content(self, data: bytes, found: Found) -> None:
        """Bytes of the payload."""
        one = self.control or self.data
        assert one is not None
        frame = self.frame
        inflater = self.inflater if one.packed else None
        if inflater is not None or not one.hole:
            whole = inflater is not None or len(data) <= KEPT - one.kept
            part = data if whole else data[: KEPT - one.kept]
            part = unmask(part, frame.key, frame.length - self.left)
            if inflater is not None:
                part = inflater.more(part)
            if not one.hole:
                one.keep(part)
            one.hole = one.hole or not whole
        one.size += len(data)
        one.payload += len(data)
        self.left -= len(data)
        if not self.left:
            self.ended(found)

    def ended(self, found: Found) -> None:
        """The frame is over, and with it perhaps the message."""
        self.state = HEAD
        if self.control is not None:
            one, self.control = self.control, None
            if one.opcode == CLOSE:
                self.state = OVER
            found.append(self.message(one))
        elif self.frame.first & FIN and self.data is not None:
            one, self.data = self.data, None
            if one.packed and self.inflater is not None and self.deflate is not None:
                rest, fault = self.inflater.end(self.deflate.takeover)
                if not one.hole:
                    one.keep(rest)
                if fault:
                    one.notes, one.hole = (*one.notes, fault), True
            found.append(self.message(one))

    def message(self, one: Building, cut: bool = False) -> Message:
        """What is shown of a message that is complete, or cut."""
        body = b"".join(one.pieces)
        unpacked = one.packed and self.inflater is not None
        made = Message(ONEWAY, VERBS[one.opcode], self.terms.target, head=one.head, body=body)
        made.size = one.size + self.skipped
        made.first_ns, made.last_ns = one.first_ns, self.now
        made.gap_bytes = one.gap
        made.cut = cut
        made.truncated = cut or one.hole
        made.notes = (*one.notes, "resync") if self.resync else one.notes
        terms = self.terms
        made.extra = Rest(
            one.frames, one.payload, one.packed, unpacked, terms.subprotocol, terms.target
        )
        if one.opcode == CLOSE and len(body) >= 2:
            code = int.from_bytes(body[:2], "big")
            if code not in NORMAL:
                made.ok = False
                path = made.target.partition("?")[0]
                made.target = " ".join(filter(None, (path, str(code), CODES.get(code))))
                made.notes += (f"close-{code}",)
        self.skipped = 0
        self.resync = False
        return made

    # ------------------------------------------------------------ loss

    def gap(self, missing: int, found: Found) -> None:
        """Bytes are lost: within a payload they are counted, else the next frame is searched for."""
        if self.state == PAYLOAD and 0 < missing <= self.left:
            one = self.control or self.data
            assert one is not None
            one.gap += missing
            one.payload += missing
            one.hole = True
            if one.packed and self.inflater is not None:
                self.inflater.lose()
            self.left -= missing
            if not self.left:
                self.ended(found)
            return
        if self.state == OVER and missing:
            return
        self.cut(missing, found)
        self.state = SEEK
        self.searched = 0
        if self.inflater is not None:
            self.inflater.lose()

    def cut(self, missing: int, found: Found) -> None:
        """Give what is under way as far as it came."""
        self.skipped += len(self.buffer)
        self.buffer = b""
        lost = min(missing, self.left) if self.state == PAYLOAD else 0
        for one in (self.control, self.data):
            if one is not None:
                one.gap += lost
                lost = 0
                found.append(self.message(one, True))
        self.control = self.data = None
        self.left = 0

    def close(self, found: Found) -> None:
        """It is over: what is under way is cut; a chain of frames that was searched for may be good by now."""
        try:
            if self.state == SEEK:
                self.searched = 0
                self.take(b"", found)
        except DissectError:
            pass  # nothing follows
        self.cut(0, found)

    def seek(self, data: bytes, at: int) -> int:
        """Search for a chain of frames: where it begins, or the end of `data`, of which the last part is kept."""
        if len(data) - at >= self.searched:
            data = data[at:] if at else data
            start, pending = find(data, self.client)
            if start >= 0:
                self.skipped += start
                self.resync = self.skipped > 0
                self.state = HEAD
                return at + start
            drop = max(pending, len(data) - SEARCHED)
            self.skipped += drop
            self.buffer = data[drop:]
            self.searched = min(len(self.buffer) * 5 // 4 + 32, SEARCHED + SEARCHED // 2)
            return at + len(data)
        self.buffer = data[at:] if at else data
        return len(data)

    def slim(self) -> int:
        """Keep nothing of the message under way; the bytes that are still held."""
        if self.data is not None:
            self.data.pieces = []
            self.data.kept = 0
            self.data.hole = True
        return len(self.buffer)


NOTES = {
    "unmasked": "a client's frame without a mask, which servers must refuse, and some do not",
    "masked": "a server's frame with a mask, which clients must refuse",
    "resync": "found by searching for a chain of frames, after a loss",
    "close-N": "closed with a code that is no normal end: 1002 and up",
    "bad-deflate": "the message does not inflate; it is shown as far as it did",
    "context-lost": "compressed with reference to messages that were not seen, or not kept: it cannot be inflated",
    LIMIT: "inflating stopped: more than 20 times what was sent, and 1 MiB",
}
"""Every note on a message. The names are stable."""
