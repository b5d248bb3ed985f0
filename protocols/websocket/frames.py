"""Frames of RFC 6455 section 5.2: what their first bytes say, and what is wrong with them."""

from __future__ import annotations

from typing import Final

from kshark.api import DissectError

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
VERBS: Final[dict[int, str]] = {
    CONTINUATION: "fragment",
    TEXT: "text",
    BINARY: "binary",
    CLOSE: "close",
    PING: "ping",
    PONG: "pong",
}
FIN: Final = 0x80
RSV1: Final = 0x40
RSV: Final = 0x70
OPCODE: Final = 0x0F
MASKED: Final = 0x80
CONTROL: Final = 125
"""Bytes that a control frame may carry."""
HEAD: Final = 14
"""Bytes of the longest head: two, a length of eight, a mask of four."""

CODES: Final[dict[int, str]] = {
    1000: "normal",
    1001: "going-away",
    1002: "protocol-error",
    1003: "unsupported-data",
    1007: "bad-payload",
    1008: "policy-violation",
    1009: "too-big",
    1010: "missing-extension",
    1011: "internal-error",
    1012: "service-restart",
    1013: "try-again-later",
    1014: "bad-gateway",
}
"""Codes of a close that have a name (RFC 6455 section 7.4.1 and IANA's registry)."""


class Frame:
    """The head of a frame. ``end`` is the offset after it, 0 where it is not whole yet."""

    __slots__ = ("end", "first", "key", "length", "odd", "reads")

    def __init__(self) -> None:
        self.first = 0
        self.length = 0
        self.key = b""
        self.end = 0
        self.reads = 0  # heads that were looked at
        self.odd = False  # a client's without a mask, or a server's with one

    def read(self, data: bytes, at: int, client: bool, rsv: int, lenient: bool = False) -> int:
        """Read the head at `at`: the offset after it, 0 for "not whole".

        `rsv`: bits that an extension may use. `lenient`: who should mask is not looked at.
        """
        size = len(data) - at
        self.end = 0
        self.reads += 1
        if size < 2:
            return 0
        first, second = data[at], data[at + 1]
        masked = second & MASKED != 0
        if wrong := fault(first, second, masked if lenient else client, rsv):
            raise DissectError(wrong)
        length = second & 127
        end = at + 2
        if length > CONTROL:
            wide = 2 if length == 126 else 8
            end += wide
            if end > len(data):
                return 0
            length = int.from_bytes(data[at + 2 : end], "big")
            if length < (126 if wide == 2 else 65_536) or length >> 63:
                raise DissectError("a length that is not written as it must be")
        self.key = b""
        if masked:
            end += 4
            if end > len(data):
                return 0
            self.key = data[end - 4 : end]
        self.first, self.length, self.end = first, length, end
        self.odd = masked != client
        return end


def fault(first: int, second: int, client: bool, rsv: int) -> str:
    """ "" or what is wrong with the first two bytes of a frame of that side."""
    opcode = first & OPCODE
    if opcode not in VERBS:
        return f"reserved opcode {opcode}"
    if first & RSV & ~rsv:
        return "a reserved bit is set"
    if bool(second & MASKED) != client:
        return "a client's frame without a mask" if client else "a server's frame with a mask"
    if opcode >= CLOSE and (not first & FIN or second & 127 > CONTROL):
        return "a control frame that is long or in fragments"
    if opcode >= CLOSE and second & 127 == 1 and opcode == CLOSE:
        return "a close frame of one byte"
    return ""


def unmask(data: bytes, key: bytes, done: int) -> bytes:
    """Undo (or do) the mask; `done` bytes of the payload came before."""
    size = len(data)
    if not key or not size:
        return data
    turn = done & 3
    whole = (key[turn:] + key[:turn]) * (size // 4 + 1)
    mixed = int.from_bytes(data, "little") ^ int.from_bytes(whole[:size], "little")
    return mixed.to_bytes(size, "little")
