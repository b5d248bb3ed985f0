"""permessage-deflate undone (RFC 7692): messages of one side in order, since each may refer to those before.

Invariant: what comes out is right, or there is an error. After a loss a message is inflated with an empty window:
zlib refuses references to what is not in it, so that messages which need none are read, and the others are not.

Limits: a side's messages unpack to UNPACKED bytes, and to UNPACK_RATIO times what was received of them; a piece of a
message holds WS_ENDS streams. A window costs about 40 KiB; WS_WINDOWS of them are kept in a process, and who has not
used its own for longest loses it, with what was kept of the message under way.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from typing import Any, Final

from kshark import limits
from kshark.protocols.websocket.negotiated import BITS

TAIL: Final = b"\0\0\xff\xff"
"""What a sender leaves out at the end of each message (RFC 7692 section 7.2.1)."""
STEP: Final = 64 * limits.KIB
"""Bytes that are inflated at once."""
BAD: Final = "bad-deflate"
LOST: Final = "context-lost"
LIMIT: Final = "unpack-limit"


class Inflater:
    """The window of one side."""

    __slots__ = ("bits", "credit", "engine", "fault", "pieces", "whole")

    def __init__(self, bits: int, whole: bool) -> None:
        self.bits = bits
        self.whole = whole  # the window holds all that a message may refer to
        self.credit = limits.UNPACKED  # bytes that may come out
        self.engine: Any = None
        self.fault = ""  # of the message under way
        self.pieces: list[bytes] = []  # what is kept of it

    def begin(self, pieces: list[bytes]) -> None:
        """A message begins; in `pieces` there will be what is kept of it."""
        self.fault = ""
        self.pieces = pieces

    def more(self, data: bytes) -> bytes:
        """Bytes of the message; after a fault nothing more comes."""
        if self.fault:
            return b""
        self.credit += limits.UNPACK_RATIO * len(data)
        WINDOWS.use(self)
        if self.engine is None:
            self.engine = zlib.decompressobj(-self.bits)
        parts: list[bytes] = []
        ends = 0
        try:
            while data and not self.fault:
                piece = self.engine.decompress(data, STEP)
                parts.append(piece)
                self.credit -= len(piece)
                if self.credit < 0 or ends > limits.WS_ENDS:
                    self.lose(LIMIT)
                    break
                data = self.engine.unconsumed_tail
                if (
                    self.engine.eof
                ):  # a last block, after which the message may go on (section 7.2.3.4)
                    data = self.engine.unused_data
                    self.engine = zlib.decompressobj(-self.bits)
                    self.whole = False
                    ends += 1
        except zlib.error:
            self.lose(BAD if self.whole else LOST)
        return b"".join(parts)

    def end(self, takeover: bool) -> tuple[bytes, str]:
        """The message is over: the rest of it, and what went wrong."""
        rest = self.more(TAIL)
        if not takeover:
            self.engine = None
            self.whole = True
        self.pieces = []
        return rest, self.fault

    def lose(self, fault: str = LOST) -> None:
        """Later messages may refer to what is not in the window, and the one under way cannot go on."""
        self.engine = None
        self.whole = False
        self.fault = fault
        self.credit = max(self.credit, 0)


class Windows:
    """Which inflaters have a window; see the module."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.order: OrderedDict[int, Inflater] = OrderedDict()

    def use(self, inflater: Inflater) -> None:
        """This one is at work: the one that rests longest may have to pay."""
        key = id(inflater)
        if key in self.order:
            self.order.move_to_end(key)
            return
        self.order[key] = inflater
        if len(self.order) > self.most:
            _, idle = self.order.popitem(last=False)
            idle.lose()
            idle.pieces.clear()

    def leave(self, inflater: Inflater) -> None:
        self.order.pop(id(inflater), None)


WINDOWS: Final = Windows(limits.WS_WINDOWS)


def inflate(data: bytes) -> tuple[bytes, str]:
    """A message that refers to no other, as it was kept: what it unpacks to, and what went wrong."""
    one = Inflater(BITS, True)
    found = one.more(data)
    rest, fault = one.end(False)
    WINDOWS.leave(one)
    return (found + rest)[: limits.UNPACKED], fault
