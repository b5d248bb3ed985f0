"""The streams of one HTTP/2 connection: what becomes a message, and when.

A request is given when its side ends the stream, a response when the other does and the request has ended. A stream
that was reset, or not processed (GOAWAY), gives an answer that names the error. STREAMS are followed at once, with
STREAM_BYTES of heads and bodies a side; the oldest gives way.

Beside this file lies ``streams.pxd``, with which the same source is compiled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kshark import limits, made
from kshark.api import Item, Kind, Layers, Message, Side
from kshark.feeder import Found, Rider
from kshark.protocols._fields import value_of
from kshark.protocols.http2.frames import error_name
from kshark.protocols.http2.hpack import VERBS
from kshark.protocols.http2.lane import Lane
from kshark.protocols.http2.states import (
    BAD_HEADERS,
    GIVEN_UP,
    LONG_HEADERS,
    LOST_BYTES,
    NOT_PROCESSED,
    PUSHED,
    RESET_BY_CLIENT,
    RESET_BY_SERVER,
    UNKNOWN_HEADERS,
    UPGRADED,
    names,
)
from kshark.protocols.http2.stream import Half, Stream, half_of, stream_of
from kshark.protocols.http2.tunnel import establish, leave, protocol_of

Out = Found | list[Item]
REQUEST = int(Kind.REQUEST)
RESPONSE = int(Kind.RESPONSE)
INTERIM = int(Kind.INTERIM)
ONEWAY = int(Kind.ONEWAY)
BODY_KEPT = limits.BODY_KEPT
HEADER_LIST = limits.HEADER_LIST
RESETS = limits.RESETS
STREAM_BYTES = limits.STREAM_BYTES
STREAMS = limits.STREAMS
INTERIMS = 8
"""Notes on interim answers to one request."""
CLIENT = int(Side.CLIENT)
SERVER = int(Side.SERVER)
CONNECT = VERBS[b"CONNECT"]
NONE: Sequence[Message] = ()
LAST = 2**31 - 1
"""No stream has a larger number."""
NOBODY = 2
"""No side is fed: the flow ends."""


class Streams:
    """The streams of a connection by number; `fed` is the side whose bytes are dissected, `now` when they came."""

    __slots__ = (
        "client", "fed", "first", "gone", "handled", "kind", "layers", "left", "now", "recent", "server", "table",
        "typed",
    )  # fmt: skip

    def __init__(self, client: Lane, server: Lane) -> None:
        self.client = client
        self.server = server
        self.table: dict[int, Stream] = {}
        self.recent: Stream | None = None  # of these, the one that was asked for last
        self.gone: dict[int, None] = {}  # streams that were reset: what was under way still comes
        self.first = False  # the client opened stream 1, so it was no upgrade
        self.handled = LAST  # the server handles no later stream: it said so by GOAWAY ...
        self.left = ""  # ... with this error
        self.fed = 0
        self.now = 0
        self.typed = b""  # the content type that came last, ...
        self.kind = ""  # ... as text: most are the same
        self.layers: Layers | None = None  # whom to ask what rides in an exchange

    # ------------------------------------------------------------ beginnings

    def find(self, number: int) -> Stream | None:
        """The stream of that number, if it is followed. Most frames are of the same one as the frame before."""
        stream = self.recent
        if stream is None or stream.number != number:
            stream = self.table.get(number)
            if stream is not None:
                self.recent = stream
        return stream

    def follow(self, number: int, out: Out) -> Stream:
        """The stream of that number; a new one may take the place of the oldest."""
        stream = self.find(number)
        return self.begin(number, out) if stream is None else stream

    def begin(self, number: int, out: Out) -> Stream:
        """A stream that is not followed yet."""
        if len(self.table) >= STREAMS:
            self.abandon(next(iter(self.table.values())), GIVEN_UP, out)
        stream = stream_of(number)
        self.table[number] = stream
        self.recent = stream
        return stream

    def open(self, lane: Lane, number: int, stream: Stream | None, out: Out) -> Half:
        """A request or a response begins, of a stream that `find` gave or did not."""
        if stream is None:
            stream = self.begin(number, out)
        half = half_of(RESPONSE if lane.server else REQUEST, self.now)
        if lane.server:
            stream.answer = half
            half.layer = stream.layer
            if number == 1 and not (self.first or self.client.holed or self.server.holed):
                half.flags |= UPGRADED
        else:
            stream.asked = half
            if self.gone:
                self.gone.pop(number, None)
            if number == 1:
                self.first = True
        return half

    def content(self, lane: Lane, number: int, out: Out) -> Half | None:
        """The half that DATA belongs to, if there is one to be followed."""
        stream = self.find(number)
        if stream is not None:
            half = stream.answer if lane.server else stream.asked
            if half is not None:
                half.missed = False
                return None if lane.server and stream.ready else half
        if not lane.holed or number in self.gone or (not lane.server and not number & 1):
            return None
        half = self.open(lane, number, stream, out)  # its headers were lost
        half.flags |= UNKNOWN_HEADERS
        return half

    def keep(self, lane: Lane, half: Half, data: bytes, pos: int, end: int, out: Out) -> None:
        """Count content, and keep what the caps allow."""
        size = end - pos
        half.size += size
        half.body_size += size
        if half.layer is not None:
            self.hand_on(lane, half, made.piece(data, pos, end), out)
            return
        room = min(BODY_KEPT - half.kept, STREAM_BYTES - lane.kept)
        if room > 0 and not half.gap and not half.given:
            if room < size:
                end = pos + room
            half.keep(made.piece(data, pos, end))
            lane.kept += end - pos

    # ------------------------------------------------------------ header blocks

    def headers(self, lane: Lane, number: int, flags: int, out: Out) -> None:
        """A block that `lane` has decoded: the headers or the trailers of a half."""
        found = lane.decoder
        first = found.status != 0 or len(found.verb) > 0
        stream = self.find(number)
        half = None
        if stream is not None:
            half = stream.answer if lane.server else stream.asked
            if half is not None and half.headed and first:  # the end of the one before was lost
                self.abandon(stream, 0, out)
                half = None
                stream = self.find(number)
            elif lane.server and stream.ready:
                return
        if half is None:
            if not first and not lane.holed and not flags:
                return  # trailers of a stream that is not followed
            if self.gone and number in self.gone and (lane.server or not first):
                return
            half = self.open(lane, number, stream, out)
            stream = self.recent
        half.size += lane.size
        lane.size = 0
        half.flags |= flags
        half.missed = False
        self.take_head(lane, half, first or flags & UNKNOWN_HEADERS != 0)
        if self.layers is not None and half.layer is None and first and stream is not None:
            self.ask(stream, half, flags)
        if stream is not None and stream.tunnel and not half.given:
            establish(self, stream, lane, half, out)
        if lane.kept > STREAM_BYTES:
            self.shed(lane, number, out)

    def take_head(self, lane: Lane, half: Half, first: bool) -> None:
        """Headers, or trailers."""
        found = lane.decoder
        if half.headed or (not first and lane.block_end):
            if not half.headed and not half.flags & (LONG_HEADERS | BAD_HEADERS):
                half.flags |= UNKNOWN_HEADERS
            if len(half.trailers) + len(found.head) > HEADER_LIST:
                half.flags |= LONG_HEADERS
                return
            half.trailers = half.trailers + found.head if half.trailers else found.head
        else:
            half.headed = True
            half.head = found.head
            half.verb = found.verb
            half.target = found.target
            half.status = found.status
        lane.kept += len(found.head)

    def interim(self, lane: Lane, number: int, flags: int, out: Out) -> None:
        """100 (Continue), 103 (Early Hints): a message of its own, and a note on a request under way."""
        found = lane.decoder
        stream = self.find(number)
        asked = stream.asked if stream is not None else None
        if asked is not None and len(asked.interim) < INTERIMS:
            asked.interim = (*asked.interim, f"interim-{found.status}")
        message = made.message(
            INTERIM, "", "", found.status, True, number, lane.size, found.head, b""
        )
        message.first_ns = self.now
        message.notes = names(flags)
        message.truncated = flags != 0
        lane.size = 0
        out.append(message)

    def promise(self, lane: Lane, flags: int, out: Out) -> None:
        """A request in the client's name, by the server, whose bytes it is made of: they count for what follows."""
        number = lane.promised
        if number == 0 or number & 1 or not lane.server:
            return
        found = lane.decoder
        half = half_of(REQUEST, self.now)
        half.verb = found.verb
        half.target = found.target
        half.head = found.head
        half.flags = flags | PUSHED
        self.follow(number, out)
        self.send(half, number, out)

    # ------------------------------------------------------------ what rides in an exchange

    def ask(self, stream: Stream, half: Half, flags: int) -> None:
        """A head has come: whose content is this? Its answer is asked for where the request does not tell."""
        if self.layers is None or (half.kind == RESPONSE and stream.told):
            return
        extended = protocol_of(half.head) if half.verb is CONNECT else ""
        kind = extended or self.content_type(half.head)
        number = stream.number
        stream.told = len(kind) > 0 or not flags & UNKNOWN_HEADERS
        if len(kind) == 0:
            return
        if half.kind == REQUEST:
            request = half.asked(number)
        elif stream.asked is not None:
            request = stream.asked.asked(number)
        else:
            request = made.message(REQUEST, "", "", 0, True, number, 0, b"", b"")
        layer = self.layers(kind, request)
        assert layer is None or isinstance(layer, Rider)
        stream.layer = half.layer = layer
        stream.tunnel = len(extended) > 0 and layer is not None

    def content_type(self, head: bytes) -> str:
        """The content type that a header list says, "" where it does not."""
        value = value_of(head, b"content-type")
        if value is None:
            return ""
        if value != self.typed:
            self.typed = value
            self.kind = value.decode("latin-1")
        return self.kind

    def hand_on(self, lane: Lane, half: Half, data: bytes, out: Out) -> None:
        """Content of a layer, which may hold it."""
        layer = half.layer
        if layer is None:
            return
        side = SERVER if lane.server else CLIENT
        if half.hole:
            self.tell_hole(half, layer, lane.stream, side, out)
        held = min(half.kept + len(data), BODY_KEPT)
        lane.kept += held - half.kept
        half.kept = held
        half.fed += len(data)
        layer.now = self.now
        found = layer.feed(side, data)
        if found:
            self.take_given(found, lane.stream, side, out)
        if lane.kept > STREAM_BYTES:
            layer.slim(side)
            lane.kept -= half.kept
            half.kept = 0

    def miss(self, lane: Lane, half: Half, missing: int, out: Out) -> None:
        """A hole within the content of a layer."""
        layer = half.layer
        if layer is None:
            return
        side = SERVER if lane.server else CLIENT
        if half.hole:
            self.tell_hole(half, layer, lane.stream, side, out)
        layer.now = self.now
        self.take_given(layer.gap(side, missing), lane.stream, side, out)

    def tell_hole(self, half: Half, layer: Rider, number: int, side: int, out: Out) -> None:
        """Bytes of the connection are lost: how many of this side, its layer must take for unknown."""
        half.hole = False
        layer.now = self.now
        self.take_given(layer.gap(side, -1), number, side, out)

    def take_given(self, found: Iterable[Message], number: int, side: int, out: Out) -> None:
        """Messages of a layer, while its exchange goes on: their bytes are not the exchange's own."""
        stream = self.find(number)
        if stream is None:
            return
        for message in found:
            sender = message.side if message.side >= 0 else side
            half = stream.answer if sender else stream.asked
            if half is not None:
                self.charge(self.server if sender else self.client, half, message)
            self.append(message, sender, out)

    def charge(self, lane: Lane, half: Half, message: Message) -> None:
        """A message takes its bytes out of its half, with its frames, and heads before it."""
        own = message.size
        message.size += max(0, half.size - half.fed)
        half.fed = half.size = max(0, half.fed - own)
        half.gap = max(0, half.gap - message.gap_bytes)
        held = max(0, half.kept - own)
        lane.kept -= half.kept - held
        half.kept = held

    def end_layer(self, half: Half, layer: Rider, message: Message, out: Out) -> None:
        """A request or response of a layer is over: give what it makes of it."""
        side = SERVER if half.kind == RESPONSE else CLIENT
        apart: Sequence[Message] = NONE
        if half.hole:
            half.hole = False
            apart = layer.gap(side, -1)
        layer.now = self.now
        found = layer.end(side, message)
        if not apart and len(found) == 1:
            self.append(found[0], side, out)
            return
        for one in (*apart, *found):
            if one.kind == ONEWAY:
                message.size -= one.size
                message.gap_bytes -= one.gap_bytes
        for one in (*apart, *found):
            self.append(one, side, out)

    def append(self, message: Message, side: int, out: Out) -> None:
        """A message of a layer."""
        if message.first_ns == 0:
            message.first_ns = message.last_ns = self.now
        message.side = side if side != self.fed else -1
        out.append(message)

    # ------------------------------------------------------------ ends

    def ended(self, lane: Lane, number: int, out: Out) -> None:
        """A side has ended a stream."""
        stream = self.find(number)
        if stream is None:
            return
        if lane.server:
            asked = stream.asked
            if stream.answer is None:
                return
            if asked is not None:
                stream.ready = True
                stream.answer.last_ns = self.now
                if stream.answer.given:
                    leave(self, lane, stream.answer, out)
                    return
                if not asked.flags & LOST_BYTES:
                    return
                asked.broken = True  # its end may have been lost
            self.over(stream, out)
        elif stream.asked is not None:
            if stream.ready:
                self.over(stream, out)
            else:
                asked, stream.asked = stream.asked, None
                self.give(self.client, asked, number, out)
                if number > self.handled:
                    self.unheeded(number, out)

    def unheeded(self, number: int, out: Out) -> None:
        """A request crossed the server's GOAWAY on its way: there will be no answer."""
        stream = self.find(number)
        if stream is not None and stream.answer is None:
            self.fail(stream, "GOAWAY", self.left, NOT_PROCESSED, out)

    def over(self, stream: Stream, out: Out) -> None:
        """Give what there is of a stream, the request first, and forget it.

        That may end others, too (`sweep`): who walks over many of them meets some that are empty by then.
        """
        number = stream.number
        self.table.pop(number, None)
        if self.recent is stream:
            self.recent = None
        asked, stream.asked = stream.asked, None
        answer, stream.answer = stream.answer, None
        if asked is not None:
            self.give(self.client, asked, number, out)
        if answer is not None:
            self.give(self.server, answer, number, out)

    def give(self, lane: Lane, half: Half, number: int, out: Out) -> None:
        """A half is over, though the rest of a DATA frame may still come, for nobody."""
        if lane.half is half:
            lane.half = None
        if half.given:
            leave(self, lane, half, out)
            return
        lane.kept -= half.held()
        self.send(half, number, out)
        if lane.patience:
            lane.patience -= 1
            if lane.patience == 0:
                self.sweep(lane, out)

    def send(self, half: Half, number: int, out: Out) -> None:
        message = half.message(number)
        if half.layer is not None:
            self.end_layer(half, half.layer, message, out)
            return
        side = SERVER if half.kind == RESPONSE else CLIENT
        if side != self.fed:
            message.side = side
        out.append(message)

    def abandon(self, stream: Stream, flag: int, out: Out) -> None:
        """The end of a stream will not be seen, or not be heeded."""
        if stream.asked is not None:
            stream.asked.broken = True
            stream.asked.flags |= flag
        if stream.answer is not None and not stream.ready:
            stream.answer.broken = True
            stream.answer.flags |= flag
        self.over(stream, out)

    def shed(self, lane: Lane, number: int, out: Out) -> None:
        """More heads are kept than may be: the oldest streams but that one give way."""
        for stream in list(self.table.values()):
            if lane.kept <= STREAM_BYTES:
                break
            half = stream.answer if lane.server else stream.asked
            if half is not None and stream.number != number:
                self.abandon(stream, GIVEN_UP, out)

    def reset(self, lane: Lane, number: int, code: int, size: int, out: Out) -> None:
        """RST_STREAM: the answer is an error, unless it is complete."""
        stream = self.find(number)
        own = None
        if stream is not None:
            own = stream.answer if lane.server else stream.asked
        if stream is None or own is None:
            lane.size += size
        else:
            own.size += size
        if stream is not None:
            flag = RESET_BY_SERVER if lane.server else RESET_BY_CLIENT
            self.fail(stream, "RST_STREAM", error_name(code), flag, out)

    def fail(self, stream: Stream, what: str, error: str, flag: int, out: Out) -> None:
        """A stream ends with an error."""
        if stream.asked is not None:
            stream.asked.flags |= flag
        answer = stream.answer
        if not stream.ready and (answer is None or not answer.given):
            if answer is None:
                answer = stream.answer = half_of(RESPONSE, self.now)
                answer.layer = stream.layer
                if stream.lossy:
                    answer.flags = LOST_BYTES
            answer.error = True
            answer.verb = what
            answer.target = error
            answer.flags |= flag
        self.retire(stream.number)
        self.over(stream, out)

    def leave(self, lane: Lane, last: int, code: int, text: bytes, out: Out) -> None:
        """GOAWAY: streams of the other side after `last` are not processed; an error is an event."""
        error = error_name(code)
        parity = 1 if lane.server else 0
        for stream in list(self.table.values()):
            number = stream.number
            if number <= last or number & 1 != parity or number not in self.table:
                continue
            if stream.answer is None:
                self.fail(stream, "GOAWAY", error, NOT_PROCESSED, out)
        if lane.server and last < self.handled:
            self.handled = last
            self.left = error
        if code:
            out.append(made.message(ONEWAY, "GOAWAY", error, 0, False, 0, lane.size, b"", text))
            lane.size = 0

    def lost(self, lane: Lane) -> None:
        """Bytes of this side are lost, perhaps of every message under way, perhaps their ends."""
        count = 0
        for stream in self.table.values():
            half = stream.answer if lane.server else stream.asked
            if half is not None and not (lane.server and stream.ready):
                half.hole = half.layer is not None
                if half.given:  # may rest for long; that its end is lost is not known
                    continue
                half.flags |= LOST_BYTES
                half.missed = True
                count += 1
            elif lane.server and half is None:
                stream.lossy = True
        lane.patience = 2 * count

    def sweep(self, lane: Lane, out: Out) -> None:
        """Twice as many messages have ended as were under way at a loss: those not heard of since end in it."""
        for stream in list(self.table.values()):
            half = stream.answer if lane.server else stream.asked
            if half is None or not half.missed:
                continue
            half.broken = True
            if lane.server or stream.ready:
                self.retire(stream.number)
                self.over(stream, out)
            else:
                stream.asked = None
                self.give(lane, half, stream.number, out)

    def retire(self, number: int) -> None:
        """What still comes on that stream belongs to nobody."""
        if len(self.gone) >= RESETS:
            del self.gone[next(iter(self.gone))]
        self.gone[number] = None

    def close(self, out: Out) -> None:
        """The flow ended."""
        self.fed = NOBODY
        for stream in list(self.table.values()):
            self.abandon(stream, 0, out)

    def slim(self) -> int:
        """Forget the bodies of messages under way; the bytes of them that are still held."""
        held = 0
        for stream in self.table.values():
            if stream.asked is not None:
                held += thin(self.client, stream.asked)
            if stream.answer is not None:
                held += thin(self.server, stream.answer)
        return held


def thin(lane: Lane, half: Half) -> int:
    """Forget the body so far; the bytes that are left."""
    lane.kept -= half.kept
    half.kept = 0
    half.pieces = None
    if half.layer is not None:
        half.layer.slim(SERVER if lane.server else CLIENT)
    return half.held()
