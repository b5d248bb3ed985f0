"""Connections whose bytes nobody reads, told to the programs in the kernel (bpf/opaque.h): they copy none of them."""

from __future__ import annotations

import sys
import time
from ipaddress import ip_address
from struct import unpack
from typing import Final

from kshark.api import Endpoint, Flow
from kshark.backends._libbpf import Object

WORD: Final = (1 << 64) - 1
FACTOR: Final = 0x9E37_79B9_7F4A_7C15
TCP: Final = 6


def mark(programs: Object, flow: Flow, seen: int) -> None:
    """Leave out this connection, which was seen at `seen` (ns of CLOCK_MONOTONIC), and none that begins later."""
    seen = max(0, min(seen, time.monotonic_ns()))  # the clock may have been set meanwhile
    number = number_of(flow.client, flow.server)
    programs.map("opaque").put(number.to_bytes(8, sys.byteorder), seen.to_bytes(8, sys.byteorder))


def number_of(one: Endpoint, other: Endpoint) -> int:
    """A number for a connection, the same from both ends."""
    return _way(one, other) ^ _way(other, one)


def _way(source: Endpoint, target: Endpoint) -> int:
    """`way` of bpf/told.h."""
    (first, second), (third, fourth) = _words(source.ip), _words(target.ip)
    hashed = _mix(_mix(first, second), source.port << 32 | target.port << 8 | TCP)
    return _mix(_mix(hashed, third), fourth)


def _mix(hashed: int, value: int) -> int:
    hashed = (hashed ^ value) * FACTOR & WORD
    return hashed ^ hashed >> 32


def _words(address: str) -> tuple[int, int]:
    """16 bytes as struct ks_ends has them: an IPv4 address is in the first 4."""
    first, second = unpack("=QQ", ip_address(address).packed.ljust(16, b"\0"))
    return first, second
