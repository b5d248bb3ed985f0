"""The dates of packets: the rare steps that both classes share. The rule is that of `kshark.wire`."""

from __future__ import annotations

from struct import Struct
from typing import Any

from kshark.api import INDEX_FORMAT, Block

RECORD = Struct(INDEX_FORMAT)
_DATE = Struct("<q")  # its first field


def date_of(index: Any, at: int = 0) -> int:
    """The time in the record at this offset."""
    ns: int = _DATE.unpack_from(index, at)[0]
    return ns


def dated(row: Any, ns: int) -> bytes:
    """The same record with another time."""
    return _DATE.pack(ns) + bytes(row)[_DATE.size :]


def redated(alone: Block, ns: int) -> Block:
    """A block of one packet, at another time."""
    return Block(alone.data, dated(alone.index, ns), 1, alone.linktype, alone.ifaces)


def alone(row: Any, data: Any, linktype: int, ifaces: tuple[str, ...]) -> Block:
    """One packet of a block as a block of its own."""
    ns, at, captured, wire, iface, flags = RECORD.unpack(row)
    kept = bytes(memoryview(data)[at : at + captured])
    return Block(kept, RECORD.pack(ns, 0, captured, wire, iface, flags), 1, linktype, ifaces)
