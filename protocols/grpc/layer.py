"""gRPC on what carries it: `GrpcLayer`, one a call, with one `Lane` a side.

Whether a method streams is in its schema, which is not at hand; what is shown follows from what is seen. The first
message of a side waits. If that side ends without another one, the message is its body: an ordinary (unary) call is
one entry. Else each message is a one-way message of its own, and the call's entry has their number. It is shown by
itself as soon as

- another message of its side begins, or
- one of the other side does while its own has not ended: nobody answers half a question, or asks after the answer,
  but in a stream.

So the same call may look unary once and streamed another time, as it was used; a first message that nothing follows
is shown when its side ends. After a loss that may have held the beginning of a message, the messages of that side are
not looked for any more: their lengths are the only way to find them.

Beside this file lies ``layer.pxd``, with which the same source is compiled.
"""

from __future__ import annotations

from collections.abc import Sequence

from kshark import limits, made
from kshark.api import Message
from kshark.feeder import Rider
from kshark.protocols._fields import LENGTHS
from kshark.protocols.grpc.headers import value_in
from kshark.protocols.grpc.lane import Lane, lane_of
from kshark.protocols.grpc.states import (
    BROKEN,
    LOST,
    OVER,
    PAYLOAD,
    PREFIX,
    START,
    TRAILER,
    trailers_of,
)
from kshark.protocols.grpc.verdict import judge
from kshark.protocols.grpc.web import BASE64, RAW, decoded, kind_of

NONE: tuple[Message, ...] = ()
FINE = LENGTHS.pack(11, 1) + b"grpc-status0"
"""The status OK, as it stands in a header list."""
NAME = "grpc"
FINE_NAME = "OK"
BODY_KEPT = limits.BODY_KEPT
KNOWN = 256
"""Paths whose methods are at hand."""
METHODS: dict[str, str] = {}
LANE_TRAILERS = BODY_KEPT
"""Bytes of trailers of grpc-web that are kept."""


def layer(request: Message) -> GrpcLayer:
    """What reads a call; `request` has its head."""
    made = GrpcLayer.__new__(GrpcLayer)
    made.learn(request)
    return made


def method_of(target: str) -> str:
    """What a row shows of a path; those of the last ones are at hand."""
    method = METHODS.get(target)
    if method is None:
        method = target[target.rfind("/") + 1 :]
        if len(METHODS) >= KNOWN:
            METHODS.clear()
        METHODS[target] = method
    return method


class GrpcLayer(Rider):
    """The layer of one call; see the module."""

    __slots__ = ("client", "head", "key", "server", "since", "target")

    def __init__(self, request: Message) -> None:
        self.learn(request)

    def learn(self, request: Message) -> None:
        """It is new: whose call this is."""
        self.now = 0  # ns: when what is fed came; set by the carrier
        self.client = lane_of(False)
        self.server = lane_of(True)
        self.target = request.target
        self.key = request.key
        self.head = request.head
        self.since = request.first_ns

    # ------------------------------------------------------------ what the carrier calls

    def feed(self, side: int, data: bytes) -> Sequence[Message]:
        """The next bytes of one side."""
        return self.take(self.server if side else self.client, data)

    def take(self, lane: Lane, data: bytes) -> Sequence[Message]:
        """The same, of a lane."""
        size = len(data)
        if lane.text != RAW and size:
            if lane.text == 0 and data[0] <= 1:  # a message: no base64 begins so
                lane.text = RAW
            else:
                data = self.unwrapped(lane, data)
                size = len(data)
        if (
            lane.state == START
            and lane.count == 0
            and size >= PREFIX
            and data[0] <= 1
            and not lane.prefix
        ):
            length = data[1] << 24 | data[2] << 16 | data[3] << 8 | data[4]
            if length == size - PREFIX:  # what most are: one message, and all of it
                return self.one(lane, data, length)
        out: list[Message] = []
        self.run(lane, data, out)
        return out

    def gap(self, side: int, missing: int) -> Sequence[Message]:
        """Bytes are lost. Within a message they cost that message's body; else where the next one begins."""
        lane = self.server if side else self.client
        out: list[Message] = []
        if lane.state >= OVER or lane.ended:
            return out
        if lane.state in (PAYLOAD, TRAILER) and 0 < missing <= lane.left and lane.text != BASE64:
            lane.left -= missing
            lane.gap += missing
            if lane.left == 0:
                self.complete(lane, out)
            return out
        self.break_off(lane, out)
        lane.state = LOST
        return out

    def slim(self, side: int) -> None:
        """Memory is short: forget what is kept of the message of that side."""
        lane = self.server if side else self.client
        if lane.pieces is not None:
            lane.pieces = None
            lane.kept = BODY_KEPT  # nothing more of it is kept
            lane.short = True

    def end(self, side: int, message: Message) -> Sequence[Message]:
        """The request or the response: its own, with the only message of its side as body."""
        return self.finish(self.server if side else self.client, message)

    def finish(self, lane: Lane, message: Message) -> Sequence[Message]:
        """The same, of a lane."""
        message.protocol = NAME
        out: Sequence[Message] = NONE
        if lane.streamed:
            cut: list[Message] = []
            self.break_off(lane, cut)
            out = cut
        lane.ended = True
        trailers = lane.trailers
        if lane.server and not trailers and message.extra is not None:
            trailers = trailers_of(message.extra)
        call = lane.call(self.target, trailers)
        message.extra = call
        if not lane.streamed and (lane.held or lane.under_way()):
            self.unary(lane, message)
        if lane.state >= LOST:
            note = "lost-messages" if lane.state == LOST else "bad-framing"
            message.notes = (*message.notes, note)
            message.truncated = True
        if not lane.server:
            message.verb = method_of(self.target)
        elif lane.state < LOST and (
            trailers.startswith(FINE) or trailers.find(FINE) > 0
        ):  # as most end
            message.status = 0
            message.ok = True
            message.cut = False
            message.verb = FINE_NAME
        else:
            call.web = self.web()
            judge(message, call, self.head, self.now - self.since if self.since else 0)
        return (*out, message) if out else (message,)

    # ------------------------------------------------------------ messages

    def one(self, lane: Lane, data: bytes, length: int) -> Sequence[Message]:
        """The first message of a side, whole."""
        lane.first_ns = self.now
        lane.flag = data[0]
        lane.length = length
        lane.size = len(data)
        if length > BODY_KEPT:
            lane.short = True
            lane.kept = BODY_KEPT
        else:
            lane.kept = length
        lane.pieces = [made.piece(data, PREFIX, PREFIX + lane.kept)]
        lane.whole(self.now)
        lane.held = True
        other = self.client if lane.server else self.server
        if other.held and not other.ended:
            return [self.shown(other)]
        return NONE

    def run(self, lane: Lane, data: bytes, out: list[Message]) -> None:
        """Consume `data`, element by element."""
        pos = 0
        size = len(data)
        while pos < size and lane.state < OVER:
            if lane.state == START:
                pos = self.begin(lane, data, pos, out)
                continue
            end = min(size, pos + lane.left)
            lane.left -= end - pos
            if lane.state == TRAILER:
                if len(lane.trailers) < LANE_TRAILERS:
                    lane.trailers += data[pos:end]
            else:
                lane.size += end - pos
                lane.keep(made.piece(data, pos, end))
            pos = end
            if lane.left == 0:
                self.complete(lane, out)
        if pos < size and lane.state == OVER:
            lane.state = BROKEN

    def begin(self, lane: Lane, data: bytes, pos: int, out: list[Message]) -> int:
        """What comes of the five bytes before a message."""
        if not lane.prefix:
            flag = data[pos]
            if flag > 1 and not (lane.server and flag & 0x7E == 0 and self.web()):
                lane.state = BROKEN
                return pos
            if flag <= 1:
                if lane.held:
                    out.append(self.shown(lane))
                lane.first_ns = self.now
        taken = min(len(data) - pos, PREFIX - len(lane.prefix))
        lane.prefix += data[pos : pos + taken]
        if lane.prefix[0] <= 1:
            lane.size += taken
        if len(lane.prefix) == PREFIX:
            self.begun(lane, out)
        return pos + taken

    def begun(self, lane: Lane, out: list[Message]) -> None:
        """A message begins, of the length that its first bytes say."""
        flag = lane.prefix[0]
        lane.left = int.from_bytes(lane.prefix[1:])
        lane.prefix = b""
        if flag > 1:
            lane.state = TRAILER
        else:
            lane.flag = flag
            lane.length = lane.left
            lane.state = PAYLOAD
            other = self.client if lane.server else self.server
            if other.held and not other.ended:
                out.append(self.shown(other))
        if lane.left == 0:
            self.complete(lane, out)

    def complete(self, lane: Lane, out: list[Message]) -> None:
        """A message, or the trailers of grpc-web, are whole."""
        if lane.state == TRAILER:
            lane.state = OVER
            return
        lane.whole(self.now)
        if lane.streamed:
            out.append(self.shown(lane))
        else:
            lane.held = True

    def shown(self, lane: Lane, cut: bool = False) -> Message:
        """The message at hand, by itself."""
        coding = b""
        if not lane.server and lane.flag & 1:
            coding = value_in(self.head, b"grpc-encoding") or b""
        message = lane.message(self.target, self.key, coding.decode("latin-1"), cut)
        if cut:
            message.notes = ("partial-message",)
        if not self.target:
            message.notes = (*message.notes, "unknown-call")
            message.truncated = True
        return message

    def break_off(self, lane: Lane, out: list[Message]) -> None:
        """The rest of a message will not come."""
        if lane.streamed and lane.under_way():
            lane.last_ns = self.now
            out.append(self.shown(lane, True))

    def unary(self, lane: Lane, message: Message) -> None:
        """The only message of a side goes into the request or response."""
        message.body = lane.body()
        if not lane.held:
            message.notes = (*message.notes, "partial-message")
            message.truncated = True
        elif lane.short or lane.gap:
            message.truncated = True

    # ------------------------------------------------------------ grpc-web

    def web(self) -> bool:
        """Whether this is grpc-web, as the head of the request says."""
        return b"grpc-web" in self.head

    def unwrapped(self, lane: Lane, data: bytes) -> bytes:
        """Content: bytes, or of grpc-web the same in base64, as its first byte tells."""
        if lane.text == 0:
            lane.text = kind_of(data[0])
            if lane.text == BASE64 and not self.web():
                lane.text = RAW
        if lane.text == RAW or lane.state >= OVER:
            return data
        data, lane.rest = decoded(lane.rest + data)
        return data
