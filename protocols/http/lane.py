"""One side of an HTTP/1 flow: what it expects next, what it holds, the message that it builds.

Beside this file lies ``lane.pxd``, with which the same source is compiled.
"""

from __future__ import annotations

import re
from typing import Any

from kshark import limits
from kshark._pure import pure
from kshark.api import Item, Kind, Message, Side
from kshark.feeder import Found
from kshark.protocols.http.head import (
    BAD,
    BAD_FRAMING,
    BARE_CR,
    BARE_LF,
    LONG_TARGET,
    RESYNC,
    VERBS,
    hopeful,
    names,
)
from kshark.protocols.http.resync import LONGEST, find
from kshark.protocols.http.states import CHUNK_LINE, HEAD, NONE, SEEK, TRAILERS, Rest

try:
    if pure(__name__):
        raise ImportError
    from kshark.protocols.http._head import Head
except ImportError:
    from kshark.protocols.http.head import Head  # type: ignore[assignment]

REQUEST = int(Kind.REQUEST)
RESPONSE = int(Kind.RESPONSE)
INTERIM = int(Kind.INTERIM)
UNDISSECTED = limits.UNDISSECTED
BODY_KEPT = limits.BODY_KEPT
TARGET = limits.TARGET
LINE = limits.CHUNK_LINE
SEEK_LINE = LONGEST
LOSSY = LONG_TARGET | BAD_FRAMING
PIECES = 256
"""Parts of a body that are joined at once: objects have a cost of their own, and chunks may be tiny."""

KNOWN = frozenset(VERBS.values())
HEAD_END = re.compile(rb"\n\r?\n")


class Lane:
    """One side of the flow: what it expects, what it holds, and the message that it builds."""

    __slots__ = (
        "after",
        "answer",
        "body_size",
        "broken",
        "buffer",
        "fed",
        "flags",
        "fresh",
        "gap",
        "head",
        "hole",
        "kept",
        "kind",
        "layer",
        "left",
        "line_start",
        "pieces",
        "raw",
        "searched",
        "size",
        "started",
        "state",
        "status",
        "target",
        "then",
        "trailers",
        "verb",
    )

    def __init__(self, answer: bool) -> None:
        self.answer = answer  # sends responses
        self.head = Head()
        self.state = HEAD
        self.buffer = bytearray()  # an element that is not complete
        self.searched = 0  # bytes of the buffer that need not be looked at again
        self.started = False  # the buffer holds a good start line
        self.fresh = True  # no message yet
        self.line_start = True  # SEEK: the buffer begins where a message might
        self.size = 0  # bytes consumed since the last message ended
        self.left = 0  # bytes of body or chunk to come
        self.after = HEAD  # PEEK: the state if there is a body
        self.then = HEAD  # the state after the message under construction
        self.flags = 0  # notes for the next message
        # The message under construction.
        self.verb = self.target = ""
        self.status = 0
        self.raw = b""  # its head
        self.pieces: list[bytes] = []  # of its body
        self.layer: Any = None  # who has its body instead ...
        self.fed = 0  # ... and bytes of it that are in no message yet
        self.clear()

    def begin(self, kind: int, verb: str, target: str, status: int, raw: bytes) -> None:
        """A head was read; the body follows."""
        self.kind = kind
        self.verb = verb
        self.target = target
        self.status = status
        self.raw = raw

    def clear(self) -> None:
        """Forget the message under construction."""
        self.kind = NONE
        self.raw = b""
        self.body_size = 0
        self.kept = 0  # bytes of the body that are in `pieces`
        if self.pieces:
            self.pieces = []
        self.trailers = b""
        self.layer = None
        self.fed = 0
        self.gap = 0
        self.hole = False  # bytes of the body were lost, and it is kept up to there
        self.broken = False  # its end will not be seen

    def message(self) -> Message:
        """The message under construction, complete or broken off."""
        pieces = self.pieces
        body = b""
        if pieces:
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        made = self.head.message(
            self.kind, self.verb, self.target, self.status, self.size, self.raw, body
        )
        if (
            self.flags or self.gap or self.broken
            or self.body_size != self.kept or self.trailers
        ):  # fmt: skip
            self.mark(made)
        return made

    def mark(self, message: Message) -> None:
        """Say what is odd about a message."""
        message.notes = names(self.flags)
        message.gap_bytes = self.gap
        message.cut = self.broken
        partial = self.body_size != self.kept
        if partial or self.trailers:
            message.extra = Rest(self.body_size, self.trailers)
        message.truncated = partial or self.broken or self.flags & LOSSY != 0

    def stash(self, data: bytes, pos: int) -> int:
        """Wait for the rest of the element at `pos`."""
        self.buffer += data[pos:] if pos else data
        self.searched = 0
        self.started = False
        return -1

    def complete(self, data: bytes) -> bool:
        """Add to an element under construction; true when it can be taken (or rejected) now."""
        buffer = self.buffer
        buffer += data
        state = self.state
        if state == HEAD:
            return self.complete_head()
        if state == CHUNK_LINE:
            start = self.searched
            self.searched = len(buffer)
            return buffer.find(b"\n", start) >= 0 or len(buffer) >= LINE
        if state == SEEK:
            start = self.searched
            self.searched = len(buffer)
            return buffer.find(b"\n", start) >= 0 or len(buffer) > 2 * SEEK_LINE
        if state == TRAILERS:
            start = self.searched
            self.searched = max(len(buffer) - 2, 0)
            return (
                buffer.startswith((b"\n", b"\r\n"))
                or HEAD_END.search(buffer, start) is not None
                or len(buffer) > UNDISSECTED
            )
        return True

    def complete_head(self) -> bool:
        """Whether the buffer holds a whole head, or what can never become one."""
        buffer = self.buffer
        start = self.searched
        self.searched = max(len(buffer) - 2, 0)
        if HEAD_END.search(buffer, start) is not None or len(buffer) > UNDISSECTED:
            return True
        if self.started:
            return False
        if buffer.find(b"\n", start) < 0:
            return not hopeful(buffer, self.answer)
        self.started = self.start_line(bytes(buffer)) != BAD
        return not self.started

    def start_line(self, data: bytes) -> int:
        return self.head.response(data, 0) if self.answer else self.head.request(data, 0)

    def trusted(self, data: bytes, pos: int) -> bool:
        """Whether the first request of a side, just scanned, may not be the end of an earlier body."""
        if self.head.verb in KNOWN:
            return True
        return find(data, pos, False, True) == pos

    def half_head(self, held: bytes) -> None:
        """Begin the message of a head that has not ended, if its start line is known."""
        if self.start_line(held) == BAD:
            return
        if self.fresh and not self.answer and not self.trusted(held, 0):
            return
        found = self.head
        if self.answer:
            status = found.status
            kind = INTERIM if status < 200 and status != 101 else RESPONSE
            self.begin(kind, "", "", status, held)
        else:
            self.begin(REQUEST, found.verb, found.target[:TARGET], 0, held)

    def keep(self, data: bytes, pos: int, end: int) -> int:
        """Count body bytes and keep what the cap allows."""
        self.size += end - pos
        self.body_size += end - pos
        room = BODY_KEPT - self.kept
        if room > 0 and not self.hole:
            stop = end if end - pos <= room else pos + room
            pieces = self.pieces
            if len(pieces) == PIECES:
                pieces[:] = [b"".join(pieces)]
            pieces.append(self.head.piece(data, pos, stop))
            self.kept += stop - pos
        return end

    def slim(self) -> int:
        """Keep nothing of the body under construction; the bytes that are still held."""
        if self.kind != NONE:
            self.pieces = []
            self.kept = 0
            self.hole = True
        if self.layer is not None:
            self.kept = self.body_size
            self.layer.slim(Side.SERVER if self.answer else Side.CLIENT)
        return len(self.buffer) + len(self.raw)

    def seek(self, data: bytes, pos: int) -> int:
        """Skip bytes up to a start line; keep the last line if it is not whole."""
        at = find(data, pos, self.answer, self.line_start)
        if at >= 0:
            self.size += at - pos
            if self.size:
                self.flags |= RESYNC
            self.state = HEAD
            return at
        line = data.rfind(b"\n", pos) + 1
        if line:
            self.line_start = True
        start = max(line, pos)
        if len(data) - start > SEEK_LINE:
            start = len(data) - SEEK_LINE
            self.line_start = False
        self.size += start - pos
        if start < len(data):
            self.stash(data, start)
            self.searched = len(data) - start
        return -1


def type_line(raw: bytes) -> bytes:
    """The line of a head that says its content type, from the line feed before it to its own; b"" where none does.

    One that says it all in capitals is not found: nobody does.

    >>> type_line(b"POST / HTTP/1.1\\r\\nContent-Length: 2\\r\\ncontent-type: text/plain\\r\\n\\r\\n")
    b'\\ncontent-type: text/plain\\r\\n'
    """
    at = raw.find(b"ontent-")
    while at > 1:
        if raw[at - 2] == 10 and raw[at + 7 : at + 12].lower() == b"type:":
            return raw[at - 2 : raw.find(b"\n", at) + 1]
        at = raw.find(b"ontent-", at + 7)
    return b""


def mark_client(out: Found | list[Item], start: int) -> None:
    """Messages that the client had sent before, given while the server's bytes are fed."""
    for message in out[start:]:
        if isinstance(message, Message):
            message.side = 0


def line_notes(lines: bytes) -> int:
    """Notes on the line ends of a trailer section."""
    pairs = lines.count(b"\r\n")
    flags = BARE_LF if lines.count(b"\n") != pairs else 0
    return flags | BARE_CR if lines.count(b"\r") != pairs else flags
