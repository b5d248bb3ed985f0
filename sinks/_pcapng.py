"""Blocks of a pcapng file (draft-ietf-opsawg-pcapng), little endian, times in nanoseconds."""

from __future__ import annotations

import struct
from typing import Final

SECTION_HEADER: Final = 0x0A0D0D0A
INTERFACE: Final = 1
ENHANCED_PACKET: Final = 6
BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D

_END_OF_OPTIONS: Final = 0
_COMMENT: Final = 1
_IF_NAME: Final = 2
_USER_APPLICATION: Final = 4
_IF_TSRESOL: Final = 9
_NANOSECONDS: Final = bytes([9])  # if_tsresol: a power of ten

COMMENT_BYTES: Final = 4096
"""Bytes of a comment; the format's own limit is 65,535."""
NAME_BYTES: Final = 256
"""Bytes of an interface's name."""

_U32: Final = 0xFFFFFFFF
_PACKET: Final = struct.Struct("<IIIIIII")


def section() -> bytes:
    """A Section Header Block of unknown length: what follows is its own until the next one."""
    body = struct.pack("<IHHq", BYTE_ORDER_MAGIC, 1, 0, -1)
    return _block(SECTION_HEADER, body + _options((_USER_APPLICATION, b"kshark")))


def interface(name: str, linktype: int) -> bytes:
    """An Interface Description Block; its number is its place in the section."""
    options = [(_IF_TSRESOL, _NANOSECONDS)]
    if name:
        options.insert(0, (_IF_NAME, _utf8(name, NAME_BYTES)))
    return _block(INTERFACE, struct.pack("<HHI", linktype & 0xFFFF, 0, 0) + _options(*options))


def packet(number: int, time_ns: int, data: bytes, wire_len: int, comment: str = "") -> bytes:
    """An Enhanced Packet Block of interface `number`."""
    size = len(data)
    tail = b"\0" * (-size % 4)
    if comment:
        tail += _options((_COMMENT, _utf8(comment, COMMENT_BYTES)))
    total = 32 + size + len(tail)
    ticks = max(time_ns, 0)
    head = _PACKET.pack(
        ENHANCED_PACKET,
        total,
        number,
        ticks >> 32 & _U32,
        ticks & _U32,
        size,
        min(max(wire_len, size), _U32),
    )
    return b"".join((head, data, tail, total.to_bytes(4, "little")))


def _utf8(text: str, limit: int) -> bytes:
    """At most `limit` bytes of a text, no character divided."""
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore").encode()


def _block(kind: int, body: bytes) -> bytes:
    total = 12 + len(body)
    return struct.pack("<II", kind, total) + body + struct.pack("<I", total)


def _options(*options: tuple[int, bytes]) -> bytes:
    packed = [
        struct.pack("<HH", code, len(value)) + value + b"\0" * (-len(value) % 4)
        for code, value in options
    ]
    return b"".join([*packed, struct.pack("<HH", _END_OF_OPTIONS, 0)])
