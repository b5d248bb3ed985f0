"""The frames of HTTP/2 (RFC 9113 sections 4 and 6): their headers and names; what is wrong with one: `faults`."""

from __future__ import annotations

from typing import Final, NamedTuple

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD: Final = 9
"""Bytes of a frame's header."""

# Types.
DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

# Flags.
END_STREAM: Final = 0x01
ACK: Final = 0x01
END_HEADERS: Final = 0x04
PADDED: Final = 0x08
PRIORITIZED: Final = 0x20

# Settings that matter to who only listens.
HEADER_TABLE_SIZE: Final = 1
MAX_FRAME_SIZE: Final = 5

SMALLEST_LIMIT: Final = 16_384
"""Bytes that every frame may have (section 4.2)."""
LARGEST: Final = 2**24 - 1

ERRORS: Final = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)
"""Error codes (section 7)."""

FLAGS: Final = (0x09, 0x2D, 0x00, 0x00, 0x01, 0x0C, 0x01, 0x00, 0x00, 0x04)
"""Flags that each type defines; others are to be ignored, and rare enough to tell frames from other bytes."""


class Frame(NamedTuple):
    """The header of a frame."""

    length: int
    kind: int
    flags: int
    stream: int


def frame(data: bytes | bytearray, pos: int) -> Frame:
    """The header at `pos`; the reserved bit of the stream is ignored.

    >>> frame(bytes.fromhex("000004030000000001") + b"....", 0)
    Frame(length=4, kind=3, flags=0, stream=1)
    """
    return Frame(
        int.from_bytes(data[pos : pos + 3]),
        data[pos + 3],
        data[pos + 4],
        int.from_bytes(data[pos + 5 : pos + 9]) & 0x7FFF_FFFF,
    )


def error_name(code: int) -> str:
    """An error code by its name, or its number.

    >>> error_name(8), error_name(99)
    ('CANCEL', '0x63')
    """
    return ERRORS[code] if code < len(ERRORS) else f"0x{code:x}"


def block_bounds(data: bytes | bytearray, pos: int, head: Frame) -> tuple[int, int]:
    """Where the header block of the HEADERS frame at `pos` begins and ends; it ends before it begins where padding
    has no room.

    >>> whole = bytes.fromhex("000003 01 0c 00000001" "01 82 00")
    >>> block_bounds(whole, 0, frame(whole, 0))
    (10, 11)
    """
    at = pos + HEAD
    stop = at + head.length
    if head.flags & PADDED:
        stop -= data[at]
        at += 1
    if head.flags & PRIORITIZED:
        at += 5
    return at, stop
