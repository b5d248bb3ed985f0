"""Blocks of a TPACKET_V3 ring, built by hand as the kernel lays them out."""

from __future__ import annotations

import struct
from dataclasses import dataclass

ETHER, LOOPBACK, NONE, IPGRE = 1, 772, 0xFFFE, 778
IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806


@dataclass
class Frame:
    """One packet in a block; `mac` and `net` count from the start of its header."""

    data: bytes = b"E" * 60
    sec: int = 1_700_000_000
    nsec: int = 5
    wire: int | None = None
    mac: int = 82
    net: int = 96
    link: int = 2
    hardware: int = ETHER
    protocol: int = IPV4
    step: int | None = None  # to the next frame; worked out if None
    kept: int | None = None

    def pack(self, last: bool) -> bytes:
        size = (self.mac + len(self.data) + 7) & ~7
        step = self.step if self.step is not None else 0 if last else size
        head = struct.pack(
            "=IIIIIIHH20x", step, self.sec, self.nsec,
            len(self.data) if self.kept is None else self.kept,
            len(self.data) if self.wire is None else self.wire, 1, self.mac, self.net,
        )  # fmt: skip
        protocol = int.from_bytes(self.protocol.to_bytes(2, "big"), "little")
        address = struct.pack("=HHiHBB8x", 17, protocol, self.link, self.hardware, 0, 6)
        return (head + address).ljust(self.mac, b"\0") + self.data.ljust(size - self.mac, b"\0")


def block(
    frames: list[Frame], size: int = 4096, count: int | None = None, first: int = 48
) -> bytearray:
    """A block that the kernel has handed over."""
    body = b"".join(f.pack(f is frames[-1]) for f in frames)
    count = len(frames) if count is None else count
    head = struct.pack("=IIIIIIQ", 1, 0, 1, count, first, 48 + len(body), 1)
    found = bytearray((head.ljust(48, b"\0") + body).ljust(size, b"\0"))
    assert len(found) == size
    return found
