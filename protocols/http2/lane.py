"""One side of an HTTP/2 connection: what it expects, what it holds, its header blocks.

Beside this file lies ``lane.pxd``, with which the same source is compiled.
"""

from __future__ import annotations

from kshark import limits
from kshark._pure import pure
from kshark.protocols.http2.frames import END_STREAM, HEADERS, SMALLEST_LIMIT
from kshark.protocols.http2.hpack import BAD, LONG, PARTLY
from kshark.protocols.http2.resync import Search
from kshark.protocols.http2.states import (
    BAD_HEADERS,
    FRAME,
    LONG_HEADERS,
    SEEK,
    START,
    UNKNOWN_HEADERS,
)
from kshark.protocols.http2.stream import Half

try:
    if pure(__name__):
        raise ImportError
    from kshark.protocols.http2._hpack import Decoder
except ImportError:
    from kshark.protocols.http2.hpack import Decoder  # type: ignore[assignment]

HEADER_BLOCK = limits.HEADER_BLOCK
HEADER_FRAMES = limits.HEADER_FRAMES


class Lane:
    """One side of the connection."""

    __slots__ = (
        "block",
        "block_end",
        "block_flags",
        "block_frames",
        "block_kind",
        "block_size",
        "block_stream",
        "buffer",
        "decoder",
        "end",
        "half",
        "holed",
        "kept",
        "largest",
        "left",
        "need",
        "pad",
        "patience",
        "promised",
        "room",
        "search",
        "server",
        "size",
        "state",
        "stream",
    )

    def __init__(self, server: bool) -> None:
        self.server = server
        self.state = START
        self.buffer = bytearray()  # an element that is not complete
        self.need = 0  # bytes of the buffer that make it one
        self.search: Search | None = None  # while it is not known where frames begin
        self.holed = False  # bytes were lost, or came before the first that was seen
        self.size = 0  # bytes that belong to no stream; the next message counts them
        self.kept = 0  # bytes of messages under way
        self.largest = SMALLEST_LIMIT  # of the frames that the peer allows
        self.room = -1  # of the peer's dynamic table, in SETTINGS that are not acknowledged yet
        self.patience = 0  # messages that may end until those that a loss cut short are given up
        # DATA under way
        self.half: Half | None = None  # whose content comes, if somebody wants it
        self.stream = 0
        self.left = 0
        self.pad = 0
        self.end = False  # it ends the half
        # a header block under way
        self.decoder = Decoder()
        self.block_kind = 0  # the type of its first frame, 0 without one
        self.block: list[bytes] = []
        self.block_stream = 0
        self.promised = 0  # the stream that a PUSH_PROMISE announces
        self.block_end = False  # END_STREAM
        self.block_flags = 0
        self.block_frames = 0
        self.block_size = 0

    def stash(self, data: bytes, pos: int, need: int) -> None:
        """Wait until there are `need` bytes from `pos` on."""
        self.buffer += data[pos:] if pos else data
        self.need = need

    def unstash(self) -> bytes:
        held = bytes(self.buffer)
        self.buffer = bytearray()
        self.need = 0
        return held

    def begin_block(self, kind: int, stream: int, flags: int) -> None:
        """The first frame of a header block."""
        self.block_kind = kind
        self.promised = 0
        self.block_stream = stream
        self.block_end = kind == HEADERS and flags & END_STREAM != 0
        self.block_flags = 0
        self.block_frames = 0
        self.block_size = 0
        if self.block:
            self.block = []

    def add_block(self, piece: bytes) -> None:
        """A fragment of it, within the limits."""
        self.block_frames += 1
        self.block_size += len(piece)
        if self.block_size > HEADER_BLOCK or self.block_frames > HEADER_FRAMES:
            self.spoil(LONG_HEADERS)
        elif not self.block_flags:
            self.block.append(piece)

    def spoil(self, flag: int) -> None:
        """The block cannot be decoded, and the table is not known any more."""
        self.block_flags |= flag
        self.block = []
        self.decoder.forget()

    def decode(self) -> int:
        """Decode the block that its frames hold: the notes that it deserves. What it says is in `decoder`."""
        block, self.block = self.block, []
        if self.block_flags:
            self.decoder.reset()
            return self.block_flags
        whole = block[0] if len(block) == 1 else b"".join(block)
        return self.unpack(whole, 0, len(whole))

    def unpack(self, data: bytes, start: int, end: int) -> int:
        """The same of a block that is there, ``data[start:end]``."""
        said = self.decoder.decode(data, start, end)
        if said == 0:
            return 0
        if said & BAD:
            return BAD_HEADERS
        flags = UNKNOWN_HEADERS if said & PARTLY else 0
        return flags | LONG_HEADERS if said & LONG else flags

    def lose(self, rest: bytes = b"") -> None:
        """Bytes of unknown content are lost: frames must be found again, from `rest` on."""
        self.unstash()
        self.state = SEEK
        self.search = Search(self.server, Decoder())
        self.search.held += rest
        self.holed = True
        self.size = 0
        self.half = None
        self.block_kind = 0
        self.block = []
        self.decoder.forget()

    def seek(self, data: bytes) -> bytes:
        """Search on for frames; gives them, once it is known where they begin."""
        assert self.search is not None
        frames = self.search.take(data)
        if frames:
            self.state = FRAME
            self.search = None
        return frames

    def held(self) -> int:
        """Bytes that wait for others."""
        return len(self.buffer) + (len(self.search.held) if self.search is not None else 0)
