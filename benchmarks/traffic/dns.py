"""DNS over UDP as a cluster has it: stub resolvers that ask for A and AAAA on a socket of their own, search
domains that end in NXDOMAIN, and a forwarder that keeps its sockets; half of the transactions each.

The number of a transaction stands in its name (``t000000042``) and comes back in the answer's name.
"""

from __future__ import annotations

import struct
from random import Random

from .tcp import Faults

A, AAAA, SRV = 1, 28, 33
EDNS = b"\0\0)\x04\xd0\0\0\0\0\0\0"
SUFFIXES = (
    b"default.svc.cluster.local",
    b"svc.cluster.local",
    b"example.com",
    b"api.eu.example.net",
)
SOA = b"\xc0\x17\0\x06\0\x01\0\0\0\x1e\0\x2d\x02ns\x03dns\xc0\x17\nhostmaster\xc0\x17" + bytes(20)

_HEADERS = struct.Struct(">14sHHHHHH4s4sHHHH")


class Socket:
    """One UDP socket of a client; makes the datagrams of both ends."""

    def __init__(self, rng: Random, number: int) -> None:
        self.left = 2 if rng.random() < 0.98 else rng.randrange(50, 150)
        client = bytes((10, 1 + (number >> 16 & 63), number >> 8 & 255, number & 255 or 1))
        server = bytes((10, 96, 0, 10))
        self.address = (client, server)
        self.port = (32_768 + number * 7 % 28_000, 53)
        macs = b"\x02\x00" + client, b"\x02\x00" + server
        self.ethernet = (macs[1] + macs[0] + b"\x08\x00", macs[0] + macs[1] + b"\x08\x00")
        both = int.from_bytes(client) + int.from_bytes(server)
        self.ip_sum = 0x4500 + 0x4000 + 0x4011 + both
        self.udp_sum = 17 + both + sum(self.port)
        self.ident = rng.randrange(1 << 16)

    def open(self) -> list[bytes]:
        return []

    def close(self) -> list[bytes]:
        return []

    def frame(self, side: int, payload: bytes) -> bytes:
        """One datagram of `side`."""
        length = 8 + len(payload)
        self.ident = (self.ident + 1) & 0xFFFF
        words = int.from_bytes(payload) << (8 if len(payload) & 1 else 0)
        total = self.udp_sum + 2 * length + words
        return (
            _HEADERS.pack(
                self.ethernet[side],
                0x4500,
                20 + length,
                self.ident,
                0x4000,
                0x4011,
                -(self.ip_sum + 20 + length + self.ident) % 65_535,
                self.address[side],
                self.address[1 - side],
                self.port[side],
                self.port[1 - side],
                length,
                -total % 65_535 or 0xFFFF,
            )
            + payload
        )


class Dns:
    """Makes the exchanges of one capture."""

    ports = (53,)

    def __init__(self, rng: Random) -> None:
        self.rng = rng

    def connection(self, number: int) -> Socket:
        return Socket(self.rng, number)

    def exchange(self, connection: Socket, number: int, faults: Faults) -> list[bytes]:
        """The frames of one query and its answer."""
        del faults  # nothing is repeated or out of order within one exchange
        kind = AAAA if connection.left % 2 else A
        name = name_of(number, self.rng.choice(SUFFIXES))
        question = name + struct.pack(">HH", kind, 1)
        ident = self.rng.randrange(1, 1 << 16)
        asked = struct.pack(">6H", ident, 0x0100, 1, 0, 0, 1) + question + EDNS
        return [
            connection.frame(0, asked),
            connection.frame(1, self.answer(ident, kind, question, number)),
        ]

    def answer(self, ident: int, kind: int, question: bytes, number: int) -> bytes:
        """What a server says, by lot."""
        draw = self.rng.random()
        if draw < 0.2:
            return struct.pack(">6H", ident, 0x8583, 1, 0, 1, 1) + question + SOA + EDNS
        size, data = (
            (4, struct.pack(">I", number)) if kind == A else (16, struct.pack(">QQ", 1, number))
        )
        record = struct.pack(">HHIH", kind, 1, 30, size) + data
        count = 1 if draw < 0.6 else self.rng.randrange(2, 7)
        records = (b"\xc0\x0c" + record) * count
        return struct.pack(">6H", ident, 0x8580, 1, count, 0, 1) + question + records + EDNS


def name_of(number: int, suffix: bytes) -> bytes:
    """A name on the wire."""
    labels = [b"t%09d" % number, *suffix.split(b".")]
    return b"".join(bytes((len(one),)) + one for one in labels) + b"\0"
