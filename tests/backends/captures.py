"""Captures made by hand, field by field, and what a backend gives of them in comparable form."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kshark.api import INDEX_FORMAT, Block

LITTLE, BIG = "<", ">"
USEC, NSEC, KUZNETZOV = 0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34


class Got(NamedTuple):
    """One packet as a block tells it."""

    ns: int
    data: bytes
    wire: int
    iface: str
    linktype: int


def got(blocks: Iterable[Block]) -> list[Got]:
    """Every packet of the blocks, copied out while each is borrowed."""
    packets = []
    for block in blocks:
        rows = list(struct.iter_unpack(INDEX_FORMAT, block.index))
        assert len(rows) == block.count > 0
        for ns, at, captured, wire, iface, flags in rows:
            assert flags == 0
            data = bytes(block.data[at : at + captured])
            assert len(data) == captured
            name = block.ifaces[iface] if block.ifaces else ""
            packets.append(Got(ns, data, wire, name, block.linktype))
    return packets


# ------------------------------------------------------------------------------- classic


def header(order: str = LITTLE, magic: int = USEC, linktype: int = 1, version: int = 2) -> bytes:
    return struct.pack(order + "IHHiIII", magic, version, 4, 0, 0, 262_144, linktype)


def record(
    seconds: int, parts: int, data: bytes, order: str = LITTLE, wire: int = -1, extra: bytes = b""
) -> bytes:
    length = len(data) if wire < 0 else wire
    return struct.pack(order + "IIII", seconds, parts, len(data), length) + extra + data


def classic(count: int = 5, order: str = LITTLE, magic: int = USEC) -> bytes:
    """`count` packets of 10, 11, 12 ... bytes, one second apart from 1,000 s on."""
    return header(order, magic) + b"".join(
        record(1_000 + i, i, bytes([i % 256]) * (10 + i % 50), order) for i in range(count)
    )


# -------------------------------------------------------------------------------- pcapng


def block(kind: int, body: bytes, order: str = LITTLE) -> bytes:
    body += bytes(-len(body) % 4)
    total = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + total + body + total


def option(code: int, value: bytes, order: str = LITTLE) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str = LITTLE, major: int = 1, minor: int = 0) -> bytes:
    body = struct.pack(order + "IHHq", 0x1A2B3C4D, major, minor, -1)
    return block(0x0A0D0D0A, body + option(2, b"hardware", order) + option(0, b"", order), order)


def interface(
    order: str = LITTLE,
    *,
    linktype: int = 1,
    snaplen: int = 0,
    options: Sequence[tuple[int, bytes]] = (),
) -> bytes:
    body = struct.pack(order + "HHI", linktype, 0, snaplen)
    body += b"".join(option(code, value, order) for code, value in options)
    return block(1, body, order)


def enhanced(
    stamp: int,
    data: bytes,
    order: str = LITTLE,
    iface: int = 0,
    wire: int = -1,
    options: bytes = b"",
) -> bytes:
    length = len(data) if wire < 0 else wire
    body = struct.pack(order + "IIIII", iface, stamp >> 32, stamp & 0xFFFFFFFF, len(data), length)
    return block(6, body + data + bytes(-len(data) % 4) + options, order)


def simple(data: bytes, wire: int, order: str = LITTLE) -> bytes:
    return block(3, struct.pack(order + "I", wire) + data, order)


def obsolete(stamp: int, data: bytes, order: str = LITTLE, iface: int = 0, drops: int = 0) -> bytes:
    head = struct.pack(
        order + "HHIIII", iface, drops, stamp >> 32, stamp & 0xFFFFFFFF, len(data), len(data)
    )
    return block(2, head + data, order)


def statistics(iface: int, options: Sequence[tuple[int, int]], order: str = LITTLE) -> bytes:
    body = struct.pack(order + "III", iface, 0, 0)
    body += b"".join(option(c, struct.pack(order + "Q", v), order) for c, v in options)
    return block(5, body + option(0, b"", order), order)


def everything(order: str = LITTLE) -> bytes:
    """Every block type, two linktypes, two sections in both orders: 8 packets."""
    other = BIG if order == LITTLE else LITTLE
    return b"".join(
        (
            section(order),
            interface(order, options=[(2, b"eth0"), (9, b"\x09"), (0, b"")]),
            interface(order, options=[(2, b"eth1")]),
            block(4, b"\0\0\0\0", order),  # name resolution
            enhanced(5_000_000_001, b"first", order),
            enhanced(6_000_000, b"second!", order, iface=1, options=option(1, b"comment", order)),
            block(0x0BAD0BAD, b"whatever", order),
            obsolete(7_000_000, b"third", order, iface=1, drops=3),
            block(10, struct.pack(order + "II", 0x544C534B, 4) + b"keys", order),
            simple(b"fourth", 6, order),
            interface(order, linktype=101, options=[(2, b"tun0")]),
            enhanced(8_000_000, b"fifth", order, iface=2),
            enhanced(9_000_000_000, b"sixth", order),
            statistics(0, [(4, 100), (5, 7)], order),
            section(other),
            interface(other, linktype=113, options=[(2, b"any")]),
            enhanced(10_000_000, b"seventh", other),
            enhanced(11_000_000, b"eighth", other, wire=1_500),
            statistics(0, [(5, 1), (7, 2)], other),
            statistics(0, [(5, 3), (7, 2)], other),
        )
    )


EVERYTHING = [
    Got(5_000_000_001, b"first", 5, "eth0", 1),
    Got(6_000_000_000, b"second!", 7, "eth1", 1),
    Got(7_000_000_000, b"third", 5, "eth1", 1),
    Got(7_000_000_000, b"fourth", 6, "eth0", 1),
    Got(8_000_000_000, b"fifth", 5, "tun0", 101),
    Got(9_000_000_000, b"sixth", 5, "eth0", 1),
    Got(10_000_000_000, b"seventh", 7, "any", 113),
    Got(11_000_000_000, b"eighth", 1_500, "any", 113),
]
