"""One side of a call: its messages as they come, each after its five bytes (flag, length).

The first message waits: if nothing but the end comes after it, it is the body of the request or response; if
another one does, both are shown by themselves, and so are all that follow (see `layer`).

Held at most: BODY_KEPT of one message, LANE_TRAILERS of trailers, and less when memory is short. Beside this file
lies ``lane.pxd``, with which the same source is compiled.
"""

from __future__ import annotations

from kshark import limits, made
from kshark.api import Kind, Message
from kshark.protocols.grpc.states import PAYLOAD, START, Call, call_of

ONEWAY = int(Kind.ONEWAY)
BODY_KEPT = limits.BODY_KEPT
PIECES = 256
"""Parts of a message that are joined at once: objects have a cost of their own, and frames may be tiny."""


class Lane:
    """What one side has sent so far."""

    __slots__ = (
        "content", "count", "ended", "first_ns", "flag", "gap", "held", "kept", "last_ns", "left", "length",
        "packed", "pieces", "prefix", "rest", "server", "short", "size", "state", "streamed", "text", "trailers",
    )  # fmt: skip

    def begin(self, server: bool) -> None:
        """It is new."""
        self.server = server
        self.state = START
        self.count = 0  # messages that came whole
        self.content = 0  # bytes of these
        self.packed = 0  # how many are compressed
        self.streamed = False  # they are shown by themselves
        self.ended = False
        self.text = 0  # of grpc-web: 0 not known yet, 1 bytes, 2 base64
        self.rest = b""  # of base64, that make no group yet
        self.trailers = b""
        self.clear()

    def clear(self) -> None:
        """A new message begins."""
        self.prefix = b""  # what has come of its first five bytes
        self.held = False  # the first message is whole, and waits for what comes after it
        self.flag = 0
        self.length = 0
        self.left = 0
        self.size = 0  # bytes of content that it took
        self.kept = 0
        self.pieces: list[bytes] | None = None
        self.short = False  # more than is kept
        self.gap = 0  # bytes of it that were lost
        self.first_ns = 0
        self.last_ns = 0

    def keep(self, piece: bytes) -> None:
        """A part of the message, as far as it is kept."""
        room = BODY_KEPT - self.kept
        if self.gap or room < len(piece):
            self.short = True
            if self.gap or room <= 0:
                return
            piece = piece[:room]
        self.kept += len(piece)
        if self.pieces is None:
            self.pieces = [piece]
            return
        if len(self.pieces) == PIECES:
            self.pieces[:] = [b"".join(self.pieces)]
        self.pieces.append(piece)

    def body(self) -> bytes:
        """What is kept of the message."""
        if self.pieces is None:
            return b""
        return self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)

    def under_way(self) -> bool:
        """Whether a message has begun and is not whole."""
        return not self.held and (self.state == PAYLOAD or self.prefix != b"")

    def whole(self, now: int) -> None:
        """The message is complete."""
        self.count += 1
        self.content += self.length
        self.packed += self.flag & 1
        self.last_ns = now
        self.state = START
        self.prefix = b""

    def call(self, target: str, trailers: bytes) -> Call:
        """What is said of this side, and of its only message."""
        there = not self.streamed and (self.held or self.under_way())
        call = call_of(target, self.server)
        call.messages = self.count
        call.content = self.content
        call.packed = self.packed
        if there:
            call.length = self.length
            call.flag = self.flag
            call.body_there = True
        call.streamed = self.streamed
        call.trailers = trailers
        return call

    def message(self, target: str, key: int, coding: str, cut: bool) -> Message:
        """The message under construction as one of its own; the next one may begin."""
        number = self.count + 1 if cut else self.count
        message = made.message(ONEWAY, "message", target, 0, True, key, self.size, b"", self.body())
        message.protocol = "grpc"
        message.side = 1 if self.server else 0
        message.first_ns = self.first_ns
        message.last_ns = self.last_ns
        message.gap_bytes = self.gap
        message.cut = cut
        message.truncated = cut or self.short or self.gap > 0
        call = call_of(target, self.server)
        call.messages = 1
        call.content = call.length = self.length
        call.packed = self.flag & 1
        call.flag = self.flag
        call.number = number
        call.streamed = call.body_there = True
        call.coding = coding
        message.extra = call
        self.streamed = True
        self.clear()
        return message


def lane_of(server: bool) -> Lane:
    """A new one: what a constructor would do, without the call by name of an ``__init__``."""
    lane = Lane.__new__(Lane)
    lane.begin(server)
    return lane
