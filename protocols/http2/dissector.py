"""HTTP/2 (RFC 9113) as heard by somebody who only listens: one `Http2Dissector` a flow, one `Lane` a side.

Here are frames; what they mean for requests and responses is in `streams`. Flow control and priorities do not
matter to a listener, and are skipped. Joined in mid-stream, or after a loss, frames are found again by `resync`;
what then is not known of headers is marked (see `hpack`). A loss within a frame whose length is known costs that
frame alone.

Invariants: the sizes of a side's messages add up to what it was fed (frames of the connection count for the headers
that follow), but for bytes skipped; any split of the stream gives equal messages. Held at most: what `streams` says,
one frame or header block (HEADER_BLOCK) a side, two tables of HPACK_TABLE.

Beside this file lies ``dissector.pxd``, with which the same source is compiled.
"""

from __future__ import annotations

from kshark import limits, made
from kshark.api import DissectError, Item, Layers, Message, Switch
from kshark.feeder import Feeder, Found
from kshark.protocols.http2.faults import fault
from kshark.protocols.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEAD,
    HEADER_TABLE_SIZE,
    HEADERS,
    MAX_FRAME_SIZE,
    PADDED,
    PREFACE,
    PRIORITIZED,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SMALLEST_LIMIT,
)
from kshark.protocols.http2.lane import Lane
from kshark.protocols.http2.resync import MOST
from kshark.protocols.http2.states import BODY, FRAME, LONG_HEADERS, SEEK, SKIP, UNKNOWN_HEADERS
from kshark.protocols.http2.streams import Streams
from kshark.protocols.http2.upgrade import STREAM, request, settings

Out = Found | list[Item]
HEADER_BLOCK = limits.HEADER_BLOCK


class Http2Dissector(Feeder):
    """The dissector of one flow; see the module."""

    __slots__ = ("client", "server", "started", "streams")

    def __init__(self) -> None:
        self.client = Lane(False)
        self.server = Lane(True)
        self.streams = Streams(self.client, self.server)
        self.started = False  # the preface was seen

    def take(self, side: int, data: bytes, found: Found) -> None:
        """Put the messages that `data` completes into `found`."""
        self.streams.fed = side
        self.streams.now = found.now
        self.run(self.server if side else self.client, data, found)

    def switched(self, switch: Switch) -> Message | None:
        """After an upgrade both sides are heard from their first byte on, and stream 1 has its request already."""
        self.started = True
        asked = switch.request
        if asked is None:
            return None
        self.streams.follow(STREAM, Found())
        said = settings(asked)
        self.settings(self.client, said, 0, len(said), 0)
        self.settings(self.server, b"", 0, 0, ACK)  # the 101 is the acknowledgement
        return request(asked)

    def carry(self, layers: Layers) -> None:
        """Whom to ask what rides in the exchanges."""
        self.streams.layers = layers

    def gap(self, side: int, missing: int) -> list[Item]:
        """A hole within a frame costs that frame; another one all that is not known again."""
        out = Found()
        lane = self.server if side else self.client
        self.streams.fed = side
        if missing == 0:
            self.run(lane, b"", out)  # what came after the error
        elif not self.bridge(lane, missing, out):
            self.lose(lane)
        return out.drain()

    def close(self) -> list[Item]:
        """The flow ended: what is complete but waits, and what is cut."""
        out = Found()
        self.streams.close(out)
        return out.drain()

    def inside(self, side: int) -> bool:
        """Whether that side is in step, and within something."""
        lane = self.server if side else self.client
        if lane.state == SEEK:
            return False
        return lane.state in (BODY, SKIP) or lane.need > HEAD or len(self.streams.table) > 0

    def answering(self, side: int, key: int) -> bool:
        """Whether an answer has begun on that stream: a download may take its time."""
        stream = self.streams.table.get(key)
        return stream is not None and stream.answer is not None

    def slim(self) -> int:
        """Forget the bodies under construction; the bytes that are still held."""
        return self.streams.slim() + self.client.held() + self.server.held()

    # ------------------------------------------------------------ the machine

    def run(self, lane: Lane, data: bytes, out: Out) -> None:
        """Consume `data` element by element; what is not complete waits in the lane's buffer."""
        pos = 0
        if lane.need:
            lane.buffer += data
            if len(lane.buffer) < lane.need:
                return
            data = lane.unstash()
        if lane.state == SEEK:
            data = lane.seek(data)
        size = len(data)
        while 0 <= pos < size:
            if lane.state == FRAME:
                pos = self.frame(lane, data, pos, out)
            elif lane.state == BODY:
                pos = self.body(lane, data, pos, out)
            elif lane.state == SKIP:
                pos = self.skip(lane, size, pos)
            elif lane.state == SEEK:
                data = lane.seek(data[pos:])
                size = len(data)
                pos = 0
            else:
                pos = self.start(lane, data, pos)

    def start(self, lane: Lane, data: bytes, pos: int) -> int:
        """The first bytes of a side: the preface, SETTINGS, or a flow joined in mid-stream."""
        head = data[pos : pos + len(PREFACE)]
        if lane.server:
            if not self.started and len(head) < HEAD:
                lane.stash(data, pos, HEAD)
                return -1
            if self.started or (head[3] == SETTINGS and not any(head[4:9]) and head[0] == 0):
                lane.state = FRAME
                lane.decoder.partial = not self.started
                return pos
        elif head == PREFACE:
            self.started = True
            lane.state = FRAME
            lane.size += len(PREFACE)
            if not self.server.holed:
                self.server.decoder.partial = False
            return pos + len(PREFACE)
        elif PREFACE.startswith(head):
            lane.stash(data, pos, len(PREFACE))
            return -1
        self.lose(lane)
        return pos

    def frame(self, lane: Lane, data: bytes, pos: int, out: Out) -> int:
        """The frame at `pos`: the offset after what was taken, or -1 where all was."""
        size = len(data) - pos
        if size < HEAD:
            lane.stash(data, pos, HEAD)
            return -1
        length = data[pos] << 16 | data[pos + 1] << 8 | data[pos + 2]
        kind = data[pos + 3]
        flags = data[pos + 4]
        number = (
            (data[pos + 5] & 0x7F) << 24 | data[pos + 6] << 16 | data[pos + 7] << 8 | data[pos + 8]
        )
        if lane.block_kind and (kind != CONTINUATION or number != lane.block_stream):
            return self.refuse(lane, data, pos, "a frame within a header block")
        if length > SMALLEST_LIMIT and length > self.most(lane):
            return self.refuse(lane, data, pos, f"a frame of {length} bytes")
        if kind == DATA:
            return self.data(lane, data, pos, length, flags, number, out)
        wrong = fault(length, kind, flags, number)
        if wrong:
            return self.refuse(lane, data, pos, f"a frame of type {kind} with {wrong}")
        if kind > CONTINUATION or length > HEADER_BLOCK:
            self.pass_over(lane, length, kind, flags, number, out)
            return pos + HEAD
        end = pos + HEAD + length
        if end > len(data):
            lane.stash(data, pos, HEAD + length)
            return -1
        return self.whole(lane, data, pos, kind, flags, number, end, out)

    def most(self, lane: Lane) -> int:
        """Bytes that a frame may have, by SETTINGS; where some may have been lost, as many as are believed."""
        if self.client.holed or self.server.holed:
            return max(MOST, lane.largest)
        return lane.largest

    def whole(
        self,
        lane: Lane,
        data: bytes,
        pos: int,
        kind: int,
        flags: int,
        number: int,
        end: int,
        out: Out,
    ) -> int:
        """A frame that is there, from header to end."""
        at = pos + HEAD
        if kind in (HEADERS, CONTINUATION, PUSH_PROMISE):
            return self.headers(lane, data, pos, kind, flags, number, end, out)
        if kind == RST_STREAM:
            code = int.from_bytes(data[at:end])
            self.streams.reset(lane, number, code, end - pos, out)
            return end
        lane.size += end - pos
        if kind == SETTINGS:
            self.settings(lane, data, at, end, flags)
        elif kind == GOAWAY:
            last = int.from_bytes(data[at : at + 4]) & 0x7FFF_FFFF
            code = int.from_bytes(data[at + 4 : at + 8])
            self.streams.leave(lane, last, code, data[at + 8 : end], out)
        return end

    def pass_over(
        self, lane: Lane, length: int, kind: int, flags: int, number: int, out: Out
    ) -> None:
        """A frame of unknown type, or one that is too long to be held."""
        lane.size += HEAD
        lane.left = length
        if length:
            lane.state = SKIP
        if kind in (HEADERS, CONTINUATION, PUSH_PROMISE):
            self.spoiled(lane, kind, flags, number, LONG_HEADERS, out)

    def skip(self, lane: Lane, size: int, pos: int) -> int:
        """Pass over what does not matter."""
        end = min(size, pos + lane.left)
        lane.left -= end - pos
        lane.size += end - pos
        if lane.left == 0:
            lane.state = FRAME
        return end

    def settings(self, lane: Lane, data: bytes, pos: int, end: int, flags: int) -> None:
        """The table's size counts for the other side's encoder, from its acknowledgement on."""
        other = self.client if lane.server else self.server
        if flags & ACK:
            if other.room >= 0:
                lane.decoder.widen(other.room)
                other.room = -1
            return
        while pos + 6 <= end:
            name = data[pos] << 8 | data[pos + 1]
            value = int.from_bytes(data[pos + 2 : pos + 6])
            if name == HEADER_TABLE_SIZE:
                lane.room = max(lane.room, value)
            elif name == MAX_FRAME_SIZE:
                other.largest = max(other.largest, value)
            pos += 6

    # ------------------------------------------------------------ DATA

    def data(
        self, lane: Lane, data: bytes, pos: int, length: int, flags: int, number: int, out: Out
    ) -> int:
        """The header of a DATA frame, and its padding's length; the content follows."""
        padded = 0
        pad = 0
        if flags & PADDED:
            if length and len(data) - pos < HEAD + 1:
                lane.stash(data, pos, HEAD + 1)
                return -1
            padded = 1
            pad = data[pos + HEAD] if length else 0
        if number == 0 or pad + padded > length:
            return self.refuse(
                lane, data, pos + 1, "a frame of type 0 with a wrong stream or padding"
            )
        half = self.streams.content(lane, number, out)
        if half is None:
            lane.size += HEAD + padded
        else:
            half.size += HEAD + padded
        lane.half = half
        lane.stream = number
        lane.left = length - padded - pad
        lane.pad = pad
        lane.end = flags & END_STREAM != 0
        if length == padded:
            self.body_end(lane, out)
        else:
            lane.state = BODY
        return pos + HEAD + padded

    def body(self, lane: Lane, data: bytes, pos: int, out: Out) -> int:
        """Content, then padding."""
        half = lane.half
        end = min(len(data), pos + lane.left)
        lane.left -= end - pos
        if half is None:
            lane.size += end - pos
        elif end > pos:
            self.streams.keep(lane, half, data, pos, end, out)
        if lane.left == 0 and lane.pad:
            pos = end
            end = min(len(data), pos + lane.pad)
            lane.pad -= end - pos
            if half is None:
                lane.size += end - pos
            else:
                half.size += end - pos
        if lane.left == 0 and lane.pad == 0:
            self.body_end(lane, out)
        return end

    def body_end(self, lane: Lane, out: Out) -> None:
        """A DATA frame is over."""
        lane.state = FRAME
        half, lane.half = lane.half, None
        if half is not None and lane.end:
            self.streams.ended(lane, lane.stream, out)

    # ------------------------------------------------------------ header blocks

    def headers(
        self,
        lane: Lane,
        data: bytes,
        pos: int,
        kind: int,
        flags: int,
        number: int,
        end: int,
        out: Out,
    ) -> int:
        """A frame with a piece of a header block; the last one completes it."""
        at = pos + HEAD
        stop = end
        lane.size += end - pos
        if kind != CONTINUATION:
            lane.begin_block(kind, number, flags)
            if flags & PADDED:
                stop -= data[at]
                at += 1
            if kind == PUSH_PROMISE:
                lane.promised = int.from_bytes(data[at : at + 4]) & 0x7FFF_FFFF
                at += 4
            elif flags & PRIORITIZED:
                at += 5
            if at > stop:
                return self.refuse(lane, data, end, "padding longer than its frame")
        elif lane.block_kind == 0:  # its beginning was lost
            lane.begin_block(CONTINUATION, number, flags)
            lane.spoil(UNKNOWN_HEADERS)
        if flags & END_HEADERS and kind != CONTINUATION:  # as most are: all of it in one frame
            self.block(lane, lane.unpack(data, at, stop), out)
            return end
        lane.add_block(made.piece(data, at, stop))
        if flags & END_HEADERS:
            self.block(lane, lane.decode(), out)
        return end

    def spoiled(self, lane: Lane, kind: int, flags: int, number: int, why: int, out: Out) -> None:
        """A frame of a header block whose content is not known."""
        if kind != CONTINUATION or lane.block_kind == 0:
            lane.begin_block(kind, number, flags)
        lane.spoil(why)
        if flags & END_HEADERS:
            self.block(lane, lane.decode(), out)

    def block(self, lane: Lane, flags: int, out: Out) -> None:
        """A header block is complete, and was decoded with these notes: whose is it?"""
        kind = lane.block_kind
        lane.block_kind = 0
        number = lane.block_stream
        if kind == PUSH_PROMISE:
            self.streams.promise(lane, flags, out)
            return
        if kind == CONTINUATION or (not lane.server and not number & 1):
            return  # nobody knows, or nobody may
        if lane.server and 100 <= lane.decoder.status < 200 and not lane.block_end:
            self.streams.interim(lane, number, flags, out)
            return
        self.streams.headers(lane, number, flags, out)
        if lane.block_end:
            self.streams.ended(lane, number, out)

    # ------------------------------------------------------------ loss

    def refuse(self, lane: Lane, data: bytes, pos: int, text: str) -> int:
        """Frames are not where they should be: search on from `pos`, and say so unless that is known already.

        A search must not find what was refused: it is over for a reason that `plausible` knows, or begins behind it.
        """
        if lane.holed:
            self.lose(lane)
            return pos
        self.lose(lane, data[pos:])
        raise DissectError(text)

    def lose(self, lane: Lane, rest: bytes = b"") -> None:
        """Search for frames."""
        lane.lose(rest)
        self.streams.lost(lane)

    def bridge(self, lane: Lane, missing: int, out: Out) -> bool:
        """Keep the framing over a hole that lies wholly in a frame."""
        if lane.state == SKIP:
            if missing > lane.left:
                return False
            lane.size = 0
            lane.left -= missing
            if lane.left == 0:
                lane.state = FRAME
            return True
        if lane.state == BODY:
            return self.bridge_body(lane, missing, out)
        if lane.state != FRAME or lane.need <= HEAD:
            return False
        begun = lane.buffer
        rest = lane.need - len(begun)
        kind = begun[3]
        if missing > rest or kind in (DATA, RST_STREAM, GOAWAY):
            return False
        held = lane.unstash()
        lane.size = 0
        lane.left = rest - missing
        if lane.left:
            lane.state = SKIP
        if kind in (HEADERS, CONTINUATION, PUSH_PROMISE):
            number = int.from_bytes(held[5:9]) & 0x7FFF_FFFF
            self.spoiled(lane, kind, held[4], number, UNKNOWN_HEADERS, out)
        return True

    def bridge_body(self, lane: Lane, missing: int, out: Out) -> bool:
        """The hole is in a DATA frame."""
        if missing > lane.left + lane.pad:
            return False
        content = min(missing, lane.left)
        lane.left -= content
        lane.pad -= missing - content
        lane.size = 0
        half = lane.half
        if half is not None:
            half.gap += missing
            half.body_size += content
            if half.layer is not None and content:
                self.streams.miss(lane, half, content, out)
        if lane.left == 0 and lane.pad == 0:
            self.body_end(lane, out)
        return True
