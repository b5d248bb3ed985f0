"""The dissector without a compiler: what most segments are, in one or two functions.

A whole request, a whole response, or the next part of a body, whose framing leaves no question, is taken
here at a fraction of the cost; everything else goes to `HttpDissector`, whose state both share. What is
taken here leaves behind exactly what the state machine would have left.

A client that stays sends the same headers again and again: the part of its requests that follows the
target is looked up among those that were seen (`_tails`), and only what is new is scanned.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from kshark import limits
from kshark.api import Item, Kind, Message
from kshark.protocols.http.dissector import HttpDissector
from kshark.protocols.http.head import MANY, VERBS
from kshark.protocols.http.lane import PIECES, Lane, type_line
from kshark.protocols.http.states import (
    CHUNK_DATA,
    CHUNK_LINE,
    COUNTED,
    HEAD,
    HELD,
    IS_HEAD,
    NONE,
)

REQUEST = int(Kind.REQUEST)
RESPONSE = int(Kind.RESPONSE)
BODY_KEPT = limits.BODY_KEPT
TARGET = limits.TARGET
STRANGE: Final = 8
"""Requests of a flow in a row whose headers were new, after which they are not looked up any more."""

# Headers without a surprise; of those that decide the framing, one at most, in its usual form.
_VALUE: Final = rb"[ -\xff]*+\r\n"
_FRAMING: Final = rb"(?![CTUctu](?i:ontent-length|ransfer-encoding|pgrade):)"  # few lines begin so
_LINES: Final = rb"(?:" + _FRAMING + rb"[0-9A-Za-z_-]++:" + _VALUE + rb")" + MANY
_LENGTH: Final = rb"(?i:content-length): ?([0-9]{1,18}+)\r\n"
_CHUNKED: Final = rb"((?i:transfer-encoding: ?chunked)\r\n)"
_request = re.compile(
    rb"([A-Z]{1,32}+) ([!-\xff]++) HTTP/1\.[01]\r\n"
    + _LINES + rb"(?:" + _LENGTH + rb")?" + _LINES + rb"\r\n"
).match  # fmt: skip
_response = re.compile(
    rb"HTTP/1\.[01] ([2-5][0-9][0-9])(?: [ -\xff]*+)?\r\n"
    + _LINES + rb"(?:" + _LENGTH + rb"|" + _CHUNKED + rb")?" + _LINES + rb"\r\n"
).match  # fmt: skip
_chunk = re.compile(rb"([0-9A-Fa-f]{1,8}+)\r\n").match

_statuses: Final = {b"%d" % status: status for status in range(200, 600)}
_with_body: Final = {raw: status for raw, status in _statuses.items() if status not in (204, 304)}
_verbs: Final = {raw: verb for raw, verb in VERBS.items() if verb not in ("HEAD", "CONNECT")}
_tails: set[bytes] = (
    set()
)  # what followed the target of requests without body: "HTTP/1.1\r\n ... \r\n\r\n"


class QuickDissector(HttpDissector):
    """See the module. `feed` is the only way in that is often used."""

    __slots__ = ("calm", "special", "strange", "sure")

    def __init__(self) -> None:
        super().__init__()
        self.strange = 0  # requests in a row whose headers were new
        self.calm = True  # the client's next message has nothing before it, and no notes yet
        self.sure = True  # the same of the server; and which request it answers is certain
        self.special = False  # ... but for that, some requests ask for something special

    def feed(self, side: int, data: bytes) -> Iterable[Item]:
        """The messages that `data` completes. Here are the two that most segments are, and no others."""
        found = None
        if side:
            lane = self.server
            if lane.state == HEAD and self.sure and self.answered < self.asked:
                found = _response(data)
                size = len(data)
                if found is not None and size <= BODY_KEPT:
                    code, digits, _ = found.groups()
                    end = found.end()
                    if digits and end + int(digits) == size and code in _with_body:
                        status = _statuses[code]
                        self.answered += 1
                        lane.fresh = False
                        head, body = data[:end], data[end:]
                        return [
                            Message(RESPONSE, "", "", status, status < 400, 0, size, head, body)
                        ]
        else:
            lane = self.client
            if lane.state == HEAD and self.calm and self.strange < STRANGE and data.endswith(b"\n"):
                try:
                    method, path, tail = data.split(b" ", 2)
                except ValueError:
                    return self.other(lane, side, data, found)
                if tail in _tails and method in _verbs and 0 < len(path) <= TARGET:
                    target = path.decode("latin-1")
                    if target.isprintable():
                        self.strange = 0
                        self.asked += 1
                        lane.fresh = False
                        verb = _verbs[method]
                        return [Message(REQUEST, verb, target, 0, True, 0, len(data), data)]
        return self.other(lane, side, data, found)

    def other(
        self, lane: Lane, side: int, data: bytes, found: re.Match[bytes] | None
    ) -> Iterable[Item]:
        """What is rarer; `found` is a head where one was looked for."""
        state = lane.state
        made: Iterable[Item] | None = None
        if state == COUNTED:
            made = self.more(lane, data)
        elif state == HEAD:
            if side:
                if found is not None:
                    made = self.answer(lane, data, found)
                elif self.special and self.answered < self.asked:
                    made = self.answer_special(lane, data)
            elif self.calm:
                made = self.ask(lane, data)
        elif state == CHUNK_DATA:
            made = self.more_chunks(lane, data)
        return self.slowly(side, data) if made is None else made

    def slowly(self, side: int, data: bytes) -> Iterable[Item]:
        """Whatever is not plain."""
        try:
            return _feed(self, side, data)
        finally:
            self.look()

    def gap(self, side: int, missing: int) -> list[Item]:
        """Skip the hole where it lies in a body; else cut the message and search for the next."""
        self.calm = self.sure = self.special = False
        return super().gap(side, missing)

    def close(self) -> list[Item]:
        """The end of the flow completes a body without length and cuts everything else."""
        self.calm = self.sure = self.special = False
        return super().close()

    def look(self) -> None:
        """The state machine was at work: whether something is special now."""
        one, two = self.client, self.server
        plain = self.fault is None
        self.calm = plain and not (one.size or one.flags or one.buffer)
        plain = plain and not (two.size or two.flags or two.buffer or self.careful)
        self.sure = plain and not self.specials
        self.special = plain and not self.sure

    # ------------------------------------------------------------ heads

    def ask(self, lane: Lane, data: bytes) -> list[Item] | None:
        """A request that `data` begins with, and that it holds wholly or but for the end of its body."""
        found = _request(data)
        size = len(data)
        if found is None or size > BODY_KEPT:
            return None
        method, path, digits = found.groups()
        verb = _verbs.get(method)
        end = found.end()
        stop = end + int(digits) if digits else end
        if verb is None and method == b"HEAD" and digits is None:
            verb = "HEAD"
        if verb is None or len(path) > TARGET or stop < size:
            return None
        asks = verb == "POST" and self.layers is not None and data.find(self.plain, 0, end) < 0
        if asks and type_line(data[:end]):
            return None
        self.asked += 1
        target = path.decode("latin-1")
        if stop > size:
            return self.part(lane, REQUEST, verb, target, 0, data, end, stop)
        lane.fresh = False
        if method == b"HEAD":
            self.remember(IS_HEAD)
            self.look()
        elif digits is None and self.strange < STRANGE:
            self.strange += 1
            remember(data[found.end(2) + 1 :])
        return [Message(REQUEST, verb, target, 0, True, 0, size, data[:end], data[end:])]

    def answer(self, lane: Lane, data: bytes, found: re.Match[bytes]) -> Iterable[Item] | None:
        """The same of the response to a request that asked for nothing special."""
        size = len(data)
        if size > BODY_KEPT:
            return None
        code, digits, chunked = found.groups()
        status = _statuses[code]
        end = found.end()
        if status == 204 or status == 304:
            stop = end
        elif digits:
            stop = end + int(digits)
        elif chunked and data[7] == 49:
            return self.chunked(lane, data, end, status)
        else:
            return None
        if stop < size or (chunked and data[7] != 49):
            return None
        self.answered += 1
        if stop > size:
            return self.part(lane, RESPONSE, "", "", status, data, end, stop)
        lane.fresh = False
        return [Message(RESPONSE, "", "", status, status < 400, 0, size, data[:end], data[end:])]

    def answer_special(self, lane: Lane, data: bytes) -> Iterable[Item] | None:
        """A response while it matters which of the requests before were HEAD: their answers have no body."""
        found = _response(data)
        number, asks, _ = self.specials[0] if self.specials else (0, 0, None)
        if found is None or number <= self.answered:
            return None
        if number > self.answered + 1:
            return self.answer(lane, data, found)
        code, _, chunked = found.groups()
        size = len(data)
        if asks != IS_HEAD or not found.end() == size <= BODY_KEPT or (chunked and data[7] != 49):
            return None
        assert self.specials is not None
        self.specials.popleft()
        self.answered += 1
        self.sure = not self.specials
        self.special = not self.sure
        lane.fresh = False
        status = _statuses[code]
        return [Message(RESPONSE, "", "", status, status < 400, 0, size, data)]

    # ------------------------------------------------------------ bodies

    def part(
        self, lane: Lane, kind: int, verb: str, target: str, status: int, data: bytes, end: int, stop: int
    ) -> list[Item]:  # fmt: skip
        """A message begins, whose head ends at `end`, and whose body will end at `stop`: after `data`."""
        size = len(data)
        lane.kind = kind
        lane.verb = verb
        lane.target = target
        lane.status = status
        lane.raw = data[:end]
        lane.state = COUNTED
        lane.left = stop - size
        lane.size = size
        if end < size:
            lane.kept = lane.body_size = size - end
            lane.pieces.append(data[end:])
        return []

    def more(self, lane: Lane, data: bytes) -> list[Item] | None:
        """A part of a counted body, up to its end at most."""
        size = len(data)
        left = lane.left - size
        if left < 0 or self.due or self.fault is not None or lane.layer is not None:
            return None
        lane.left = left
        kept = lane.kept + size
        if lane.hole or kept > BODY_KEPT or len(lane.pieces) == PIECES:
            lane.keep(data, 0, size)
        else:
            lane.pieces.append(data)
            lane.size += size
            lane.body_size += size
            lane.kept = kept
        return [] if left else self.whole(lane)

    def whole(self, lane: Lane) -> list[Item]:
        """The message under construction is complete: what `finish` makes of it, in one go."""
        pieces, size = lane.pieces, lane.size
        if (
            lane.flags or lane.gap or lane.broken or lane.trailers or lane.hole
            or lane.body_size != lane.kept
        ):  # fmt: skip
            out: list[Item] = []
            self.finish(lane, out)
            return out
        kind, status, head, body = lane.kind, lane.status, lane.raw, b"".join(pieces)
        made = Message(kind, lane.verb, lane.target, status, status < 400, 0, size, head, body)
        pieces.clear()
        lane.size = lane.body_size = lane.kept = 0
        lane.raw = b""
        lane.kind = NONE
        lane.fresh = False
        if lane.then == HELD:
            self.upgrading = made
        lane.state = lane.then
        lane.then = HEAD
        return [made]

    def chunked(self, lane: Lane, data: bytes, end: int, status: int) -> Iterable[Item] | None:
        """A response of whose chunked body `data` holds the beginning, at `end`, or all."""
        pieces: list[bytes] = []
        pos, line = scan(data, end, pieces)
        size = len(data)
        self.answered += 1
        if pos == size and pieces and not pieces[-1]:
            lane.fresh = False
            body = b"".join(pieces)
            return [Message(RESPONSE, "", "", status, status < 400, 0, size, data[:end], body)]
        lane.begin(RESPONSE, "", "", status, data[:end])
        lane.size = end
        return self.chunks(lane, data, end, pos, line, pieces)

    def more_chunks(self, lane: Lane, data: bytes) -> Iterable[Item] | None:
        """A part of a chunk; or its end, and the chunks that follow."""
        size, left = len(data), lane.left
        if lane.hole or lane.kept + size > BODY_KEPT or self.due or self.fault is not None:
            return None
        if lane.layer is not None:
            return None
        if size < left:
            grow(lane, [data], size)
            lane.left = left - size
            return []
        pieces = [data[:left]]
        pos = left + 2
        if data[left:pos] != b"\r\n":
            return None
        pos, line = scan(data, pos, pieces)
        return self.chunks(lane, data, 0, pos, line, pieces)

    def chunks(
        self, lane: Lane, data: bytes, begin: int, pos: int, line: re.Match[bytes] | None, pieces: list[bytes]
    ) -> Iterable[Item]:  # fmt: skip
        """From `begin` to `pos` there were chunks; what comes now, after `line`, is none, or is not whole."""
        size = len(data)
        if pieces and not pieces[-1]:
            grow(lane, pieces, pos - begin)
            out = self.whole(lane)
            if pos < size:
                self.run(lane, data[pos:], out)
                self.look()
            return out
        if line is not None:
            start = line.end()
            left = start + int(line[1], 16) - size
            if left > 0 and start < size:
                pieces.append(data[start:])
                grow(lane, pieces, size - begin)
                lane.state = CHUNK_DATA
                lane.left = left
                return []
        grow(lane, pieces, pos - begin)
        lane.state = CHUNK_LINE
        return self.slowly(lane.answer, data[pos:])


_feed = HttpDissector.feed


def scan(data: bytes, pos: int, pieces: list[bytes]) -> tuple[int, re.Match[bytes] | None]:
    """Append what the whole chunks from the line at `pos` on hold; give where they stop, and the line there.

    The last piece is empty where the last chunk was among them, and no trailers follow.
    """
    while (line := _chunk(data, pos)) is not None:
        start = line.end()
        end = start + int(line[1], 16)
        if data[end : end + 2] != b"\r\n":
            break
        pieces.append(data[start:end])
        pos = end + 2
        if start == end:
            return pos, None
    return pos, line


def grow(lane: Lane, pieces: list[bytes], taken: int) -> None:
    """Keep pieces of a body, `taken` bytes with their framing."""
    size = sum(map(len, pieces))
    lane.size += taken
    lane.body_size += size
    lane.kept += size
    lane.pieces += pieces
    if len(lane.pieces) > PIECES:
        lane.pieces[:] = [b"".join(lane.pieces)]


def remember(tail: bytes) -> None:
    """These headers are plain, and there is no body; they may come again."""
    if len(tail) <= limits.KNOWN_HEAD:
        if len(_tails) >= limits.KNOWN_HEADS:
            _tails.clear()
        _tails.add(tail)
