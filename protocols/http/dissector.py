"""HTTP/1.0 and 1.1 (RFC 9112) as a state machine: one `HttpDissector` a flow, one `Lane` a side.

Requests come from the client's side, responses from the server's. The framing is chosen as RFC 9112
section 6.3 says; what is ambiguous is framed by that rule and marked in ``Message.notes`` (the table is
`head.NOTES`). Where the framing is lost (a gap, a broken chunk, a length that cannot be trusted), the
message so far is given as truncated and the side searches for the next start line.

Invariants: the sizes of a side's messages, and what it still holds or skipped, add up to the bytes it
was fed; any split of the stream gives equal messages; a byte is searched a bounded number of times.
Held at most: the head, chunk line or trailers under construction (UNDISSECTED), and the body (BODY_KEPT).

Beside this file lies ``dissector.pxd``, with which the same source is compiled.
"""

from __future__ import annotations

from collections import deque

from kshark import limits
from kshark.api import DissectError, Item, Kind, Layer, Layers, Message, NotMine
from kshark.feeder import Feeder, Found
from kshark.protocols.http.carrier import end_layer, hand_on, layer_of, miss
from kshark.protocols.http.head import (
    BAD_CHUNK,
    BAD_FRAMING,
    BARE_LF,
    CHUNK_HUGE,
    CHUNK_MORE,
    CHUNKED,
    CODED,
    HUGE_CHUNK,
    LONG_TARGET,
    LONG_TRAILERS,
    MORE,
    NO_BODY_ASSUMED,
    NO_LENGTH,
    WRONG_LENGTH,
    hopeful,
)
from kshark.protocols.http.lane import HEAD_END, Lane, line_notes, mark_client
from kshark.protocols.http.resync import like_status
from kshark.protocols.http.states import (
    CHUNK_DATA,
    CHUNK_END,
    CHUNK_LINE,
    COUNTED,
    HEAD,
    HELD,
    IS_CONNECT,
    IS_HEAD,
    IS_LAYER,
    IS_UPGRADE,
    NONE,
    OVER,
    PEEK,
    SEEK,
    TRAILERS,
    UNTIL_CLOSE,
)
from kshark.protocols.http.upgrade import hand_over

Out = Found | list[Item]
REQUEST = int(Kind.REQUEST)
RESPONSE = int(Kind.RESPONSE)
INTERIM = int(Kind.INTERIM)
UNDISSECTED = limits.UNDISSECTED
BODY_KEPT = limits.BODY_KEPT
TARGET = limits.TARGET
PROBE_BYTES = limits.PROBE_BYTES


class HttpDissector(Feeder):
    """The dissector of one flow; see the module."""

    __slots__ = (
        "answered", "asked", "careful", "client", "due", "fault", "layers", "next_layer", "now", "plain", "server",
        "specials", "upgrading",
    )  # fmt: skip

    def __init__(self) -> None:
        self.client = Lane(False)
        self.server = Lane(True)
        # Requests seen and answered since their order was last certain, and which of them change
        # the framing of their answer: number, IS_*, and the layer of the exchange.
        self.asked = 0
        self.answered = 0
        self.specials: deque[tuple[int, int, Layer | None]] | None = None  # rare
        self.careful = False  # after a gap the order is a guess
        self.fault: DissectError | None = None  # said by a feed() that has nothing else to say
        self.due = False  # the response that is being read says that the held bytes are HTTP
        self.upgrading: Message | None = None  # the last request that asked for another protocol
        self.layers: Layers | None = None  # whom to ask what rides in an exchange
        self.plain = (
            b"\n\n"  # the line that says a content type in which nothing does; no head has this one
        )
        self.next_layer: Layer | None = None  # of the request that is answered now
        self.now = 0  # ns: when what is fed came

    def carry(self, layers: Layers) -> None:
        """Whom to ask what rides in the exchanges."""
        self.layers = layers

    def take(self, side: int, data: bytes, found: Found) -> None:
        """Put the messages that `data` completes into `found`."""
        self.now = found.now
        self.run(self.server if side else self.client, data, found)
        if self.fault is not None and not found.count:
            fault, self.fault = self.fault, None
            raise fault

    def gap(self, side: int, missing: int) -> list[Item]:
        """Skip the hole where it lies in a body; else cut the message and search for the next."""
        out = Found()
        lane = self.server if side else self.client
        if lane.state == OVER or missing == 0:  # after an error the search is on already
            return out.drain()
        if lane.state == PEEK:
            self.unpeek(lane, out)
        if self.skip(lane, missing, out):
            return out.drain()
        if lane.layer is not None:
            miss(self, lane, -1, out)
        self.cut(lane, missing, out)
        self.seek_from(lane)
        lane.line_start = lane.answer  # the hole may have taken the first letters of a method
        self.doubt()
        if side and self.client.state == HELD:
            self.release(out)
        return out.drain()

    def close(self) -> list[Item]:
        """The end of the flow completes a body without length and cuts everything else."""
        out = Found()
        for lane in (self.client, self.server):
            if lane.state == OVER:
                continue
            if lane.state == PEEK:
                self.unpeek(lane, out)
            elif lane.state == HELD:
                self.drain(lane, out)
            if lane.state == UNTIL_CLOSE:
                self.finish(lane, out)
            else:
                self.cut(lane, 0, out)
            lane.state = OVER
        return out.drain()

    def inside(self, side: int) -> bool:
        """Whether that side is within the body of a message whose head was seen."""
        lane = self.server if side else self.client
        return lane.kind != NONE

    def slim(self) -> int:
        """Forget the bodies under construction; the bytes that are still held."""
        return self.client.slim() + self.server.slim()

    # ------------------------------------------------------------ the machine

    def run(self, lane: Lane, data: bytes, out: Out) -> None:
        """Consume `data` step by step; what is not complete waits in the lane's buffer."""
        pos = 0
        if lane.buffer and lane.state != HELD:
            if not lane.complete(data):
                if lane.state == SEEK:
                    self.late(lane)
                return
            data = bytes(lane.buffer)
            lane.buffer = bytearray()
        size = len(data)
        while 0 <= pos < size:
            if lane.state == HEAD:
                pos = self.take_head(lane, data, pos, out)
            else:
                pos = self.step(lane, data, pos, out)

    def step(self, lane: Lane, data: bytes, pos: int, out: Out) -> int:
        """One element of the stream at `pos`: the offset after it, or -1 where all is taken."""
        state = lane.state
        if state in (COUNTED, CHUNK_DATA):
            return self.take_counted(lane, data, pos, out)
        if state == CHUNK_LINE:
            return self.take_chunk_line(lane, data, pos, out)
        if state == CHUNK_END:
            return self.take_chunk_end(lane, data, pos, out)
        if state == TRAILERS:
            return self.take_trailers(lane, data, pos, out)
        if state == UNTIL_CLOSE:
            return self.content(lane, data, pos, len(data), out)
        if state == PEEK:
            return self.peek(lane, data, pos, out)
        if state == SEEK:
            return self.seek(lane, data, pos)
        if state == HELD:
            self.hold(lane, data[pos:] if pos else data, out)
        return -1

    # ------------------------------------------------------------ heads

    def take_head(self, lane: Lane, data: bytes, pos: int, out: Out) -> int:
        found = lane.head
        if lane.answer:
            verdict = found.response(data, pos)
        else:
            verdict = found.request(data, pos)
        if verdict > 0 and found.end - pos <= UNDISSECTED:
            if lane.answer:
                return self.response(lane, data, pos, out)
            if not lane.fresh or lane.trusted(data, pos):
                return self.request(lane, data, pos, out)
            lane.state = SEEK
            lane.line_start = True
            return pos
        if data[pos] == 10 or data[pos] == 13:  # empty lines before a start line: RFC 9112 2.2
            lane.size += 1
            return pos + 1
        if verdict == MORE:
            lane.stash(data, pos)
            if not lane.complete_head():
                return -1
        return self.reject(lane, data, pos, verdict > 0)

    def reject(self, lane: Lane, data: bytes, pos: int, long: bool) -> int:
        """The bytes at `pos` are not a head: search on, and say so unless the flow was just joined."""
        lane.buffer = bytearray()
        lane.state = SEEK
        lane.line_start = True
        long = long or (
            len(data) - pos > UNDISSECTED and hopeful(data[pos : pos + 33], lane.answer)
        )
        if lane.fresh and not long:
            return pos
        lane.fresh = False
        self.doubt()
        self.fault = DissectError(
            "header block over 64 KiB" if long else "start line is not HTTP/1"
        )
        if not long:
            return pos
        end = data.find(b"\n", pos, pos + UNDISSECTED + 1) + 1
        lane.line_start = end > 0
        end = end or pos + UNDISSECTED + 1
        lane.size += end - pos
        return end

    def request(self, lane: Lane, data: bytes, pos: int, out: Out) -> int:
        """A request head was found at `pos`."""
        found = lane.head
        end = found.end
        verb = found.verb
        target = found.target
        if len(target) > TARGET:
            target = target[:TARGET]
            lane.flags |= LONG_TARGET
        self.asked += 1
        length = found.length
        lane.size += end - pos
        lane.flags |= found.flags
        asks = IS_UPGRADE if found.upgrade else 0
        if verb == "HEAD":
            asks |= IS_HEAD
        elif verb == "CONNECT":
            asks |= IS_CONNECT
        elif self.layers is not None and verb == "POST" and self.plain not in found.raw:
            lane.layer = layer_of(self, verb, target, found.raw)
            asks = IS_LAYER if lane.layer is not None else asks
        if asks:
            self.remember(asks, lane.layer)
        elif found.coding == 0 and lane.flags == 0:
            if length <= 0 and length != WRONG_LENGTH:
                out.append(found.message(REQUEST, verb, target, 0, lane.size, found.raw, b""))
                lane.size = 0
                lane.fresh = False
                return end
            stop = end + length
            if 0 < length <= BODY_KEPT and stop <= len(data):
                size = lane.size + length
                body = found.piece(data, end, stop)
                out.append(found.message(REQUEST, verb, target, 0, size, found.raw, body))
                lane.size = 0
                lane.fresh = False
                return stop
        lane.begin(REQUEST, verb, target, 0, found.raw)
        lane.then = HELD if asks & (IS_UPGRADE | IS_CONNECT) else HEAD
        if asks & IS_CONNECT or (found.coding == 0 and (length == NO_LENGTH or length == 0)):
            self.finish(lane, out)
        elif found.coding == CHUNKED:
            lane.state = CHUNK_LINE
        elif found.coding == CODED or length == WRONG_LENGTH:
            self.unbounded(lane, out)
        else:
            lane.state = COUNTED
            lane.left = length
        return end

    def remember(self, asks: int, layer: Layer | None = None) -> None:
        """The newest request changes how its answer is framed, or what that is."""
        if self.specials is None:
            self.specials = deque(maxlen=limits.WAITING)
        self.specials.append((self.asked, asks, layer))

    def response(self, lane: Lane, data: bytes, pos: int, out: Out) -> int:
        """A response head was found at `pos`."""
        found = lane.head
        end = found.end
        status = found.status
        length = found.length
        lane.size += end - pos
        lane.flags |= found.flags
        if 100 <= status < 200:
            lane.begin(INTERIM, "", "", status, found.raw)
            if status == 101:
                return hand_over(self, lane, data, end, self.answers(), out)
            self.finish(lane, out)
            return end
        if (  # what most responses are
            length >= 0
            and length <= BODY_KEPT
            and end + length <= len(data)
            and lane.flags == 0
            and found.coding == 0
            and self.answered < self.asked
            and not self.careful
            and not self.specials
            and status != 204
            and status != 304
        ):
            self.answered += 1
            size = lane.size + length
            stop = end + length
            body = found.piece(data, end, stop)
            out.append(found.message(RESPONSE, "", "", status, size, found.raw, body))
            lane.size = 0
            lane.fresh = False
            return stop
        lane.begin(RESPONSE, "", "", status, found.raw)
        self.next_layer = None
        return self.framed(lane, data, end, out)

    def framed(self, lane: Lane, data: bytes, end: int, out: Out) -> int:
        """Choose the framing of a final response: RFC 9112 section 6.3."""
        found = lane.head
        asks = self.answers()
        status = lane.status
        lane.layer = self.next_layer
        if asks < 0 and self.layers is not None:
            lane.layer = layer_of(self, "", "", lane.raw)
        if asks > 0 and asks & IS_CONNECT and status < 300:
            return hand_over(self, lane, data, end, asks, out)
        if self.client.state == HELD and (asks < 0 or asks & (IS_CONNECT | IS_UPGRADE)):
            self.due = True
        if status == 204 or status == 304 or (asks > 0 and asks & IS_HEAD):
            self.finish(lane, out)
            return end
        if found.coding == CHUNKED:
            lane.state = CHUNK_LINE
        elif found.coding == CODED or found.length == NO_LENGTH:
            lane.state = UNTIL_CLOSE
        elif found.length == WRONG_LENGTH:
            self.unbounded(lane, out)
            return end
        elif found.length == 0:
            self.finish(lane, out)
            return end
        else:
            lane.state = COUNTED
            lane.left = found.length
        if asks < 0:
            lane.after = lane.state
            lane.state = PEEK
        return end

    def answers(self) -> int:
        """Count a final response; what its request asks of it (IS_*), -1 if that is not known."""
        if self.answered >= self.asked:
            return -1
        self.answered += 1
        asks = 0
        while self.specials and self.specials[0][0] <= self.answered:
            number, what, layer = self.specials.popleft()
            if number == self.answered:
                asks = what
                self.next_layer = layer
        if self.careful:
            self.careful = self.answered < self.asked
            return -1
        return asks

    # ------------------------------------------------------------ bodies

    def take_counted(self, lane: Lane, data: bytes, pos: int, out: Out) -> int:
        end = pos + min(lane.left, len(data) - pos)  # pos + left may be beyond 2**63
        lane.left -= end - pos
        self.content(lane, data, pos, end, out)
        if lane.left == 0:
            self.counted(lane, out)
        return end

    def counted(self, lane: Lane, out: Out) -> None:
        """All counted bytes have come (or were lost)."""
        if lane.state == CHUNK_DATA:
            lane.state = CHUNK_END
        else:
            self.finish(lane, out)

    def take_chunk_line(self, lane: Lane, data: bytes, pos: int, out: Out) -> int:
        found = lane.head
        size = found.chunk(data, pos)
        if size == CHUNK_MORE:
            return lane.stash(data, pos)
        lane.flags |= found.flags
        if size < 0:
            return self.break_off(lane, HUGE_CHUNK if size == CHUNK_HUGE else BAD_CHUNK, pos, out)
        lane.size += found.end - pos
        lane.left = size
        lane.state = CHUNK_DATA if size else TRAILERS
        return found.end

    def take_chunk_end(self, lane: Lane, data: bytes, pos: int, out: Out) -> int:
        end = pos
        if data[end] == 13:
            end += 1
            if end == len(data):
                return lane.stash(data, pos)
        if data[end] != 10:
            return self.break_off(lane, BAD_CHUNK, pos, out)
        if end == pos:
            lane.flags |= BARE_LF
        lane.size += end + 1 - pos
        lane.state = CHUNK_LINE
        return end + 1

    def take_trailers(self, lane: Lane, data: bytes, pos: int, out: Out) -> int:
        if data[pos] == 13 and pos + 1 < len(data) and data[pos + 1] == 10:
            lane.size += 2
            self.finish(lane, out)
            return pos + 2
        if data[pos] == 10:
            end = pos + 1
        else:
            found = HEAD_END.search(data, pos)
            if found is None and len(data) - pos <= UNDISSECTED:
                return lane.stash(data, pos)
            if found is None or found.end() - pos > UNDISSECTED:
                return self.break_off(lane, LONG_TRAILERS, pos, out)
            end = found.end()
            lane.trailers = data[pos:end]
        lane.flags |= line_notes(data[pos:end])
        lane.size += end - pos
        self.finish(lane, out)
        return end

    def peek(self, lane: Lane, data: bytes, pos: int, out: Out) -> int:
        """The method is not known: does the next response follow, as after HEAD?"""
        verdict = like_status(data[pos : pos + 12])
        if verdict == 0:
            return lane.stash(data, pos)
        if verdict < 0:
            lane.state = lane.after
        else:
            lane.flags |= NO_BODY_ASSUMED
            self.finish(lane, out)
        return pos

    def unpeek(self, lane: Lane, out: Out) -> None:
        """Nothing more will tell: what came is body."""
        data = bytes(lane.buffer)
        lane.buffer = bytearray()
        lane.state = lane.after
        self.run(lane, data, out)

    def content(self, lane: Lane, data: bytes, pos: int, end: int, out: Out) -> int:
        """Bytes of a body: to be kept, or for who rides in the exchange."""
        if lane.layer is None:
            return lane.keep(data, pos, end)
        hand_on(self, lane, data[pos:end], out)
        return end

    # ------------------------------------------------------------ ends of messages

    def finish(self, lane: Lane, out: Out) -> None:
        """Give the message under construction; the next one may begin."""
        message = lane.message()
        if lane.layer is None:
            out.append(message)
        else:
            end_layer(self, lane, message, out)
        if lane.then == HELD:
            self.upgrading = message
        lane.size = 0
        lane.flags = 0
        lane.fresh = False
        lane.state = lane.then
        lane.then = HEAD
        lane.clear()
        if lane.answer and self.due:
            self.due = False
            self.release(out)

    def unbounded(self, lane: Lane, out: Out) -> None:
        """The head does not tell where the message ends: give it without body, and search on."""
        lane.flags |= BAD_FRAMING
        self.finish(lane, out)
        if lane.state == HEAD:
            self.seek_from(lane)

    def break_off(self, lane: Lane, flag: int, pos: int, out: Out) -> int:
        """The framing of the body is broken at `pos`."""
        lane.flags |= flag
        self.cut(lane, 0, out)
        self.seek_from(lane)
        self.doubt()
        return pos

    def cut(self, lane: Lane, missing: int, out: Out) -> None:
        """Give the message under construction as far as it came."""
        held = bytes(lane.buffer)
        lane.buffer = bytearray()
        if lane.kind == NONE and lane.state == HEAD and b"\n" in held:
            lane.half_head(held)
        lane.size += len(held)
        if lane.kind == NONE:
            return
        lane.gap += min(missing, lane.left) if lane.state == COUNTED else missing
        lane.broken = True
        self.finish(lane, out)

    # ------------------------------------------------------------ loss, search, hand-over

    def skip(self, lane: Lane, missing: int, out: Out) -> bool:
        """Keep the framing over a hole that lies wholly in a body."""
        state = lane.state
        if state in (COUNTED, CHUNK_DATA):
            if missing > lane.left:
                return False
            lane.left -= missing
        elif state != UNTIL_CLOSE:
            return False
        lane.gap += missing
        lane.body_size += missing
        lane.hole = True
        if lane.layer is not None:
            miss(self, lane, missing, out)
        if state != UNTIL_CLOSE and lane.left == 0:
            self.counted(lane, out)
        return True

    def seek_from(self, lane: Lane) -> None:
        """Search for the next start line, which may be the next byte."""
        lane.state = SEEK
        lane.line_start = True
        lane.searched = 0

    def seek(self, lane: Lane, data: bytes, pos: int) -> int:
        """Search on for a start line."""
        at = lane.seek(data, pos)
        if at < 0:
            self.late(lane)
        return at

    def late(self, lane: Lane) -> None:
        """A flow without any message in the probe's window is not HTTP."""
        if self.client.fresh and self.server.fresh and lane.size + len(lane.buffer) > PROBE_BYTES:
            lane.fresh = False
            self.fault = NotMine("no start line of HTTP/1 in 4 KiB")

    def doubt(self) -> None:
        """Which answer belongs to which request is not certain any more."""
        self.specials = None
        self.asked = 0
        self.answered = 0
        self.careful = True

    def hold(self, lane: Lane, data: bytes, out: Out) -> None:
        """Keep a client's bytes until the answer tells whether they are HTTP, within UNDISSECTED."""
        lane.buffer += data
        if len(lane.buffer) > UNDISSECTED:
            self.release(out)

    def release(self, out: Out) -> None:
        """The upgrade did not happen: what the client sent meanwhile is HTTP."""
        self.upgrading = None
        lane = self.client
        held = bytes(lane.buffer)
        lane.buffer = bytearray()
        lane.state = HEAD
        start = len(out)
        if held:
            self.run(lane, held, out)
        mark_client(out, start)

    def drain(self, lane: Lane, out: Out) -> None:
        """At the end: what waits for an answer that will not come, and what is not complete."""
        while lane.buffer:
            held = bytes(lane.buffer)
            lane.buffer = bytearray()
            if lane.state == HELD:
                lane.state = HEAD
            self.run(lane, held, out)
            if lane.state != HELD:
                return
