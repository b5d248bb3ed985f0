"""TLS 1.3 as a cluster has it: a connection a call, or a few calls on one; after the handshake records that nobody
can read.

One handshake is one transaction. Its number stands in the server name (``t000000042.example.com``), and among the
digits of the session id, which the server repeats.
"""

from __future__ import annotations

import struct
from random import Random

from .tcp import ACK, Connection, Faults

CHANGE = b"\x14\x03\x03\0\1\1"
CIPHERS = bytes.fromhex("130213031301c02cc030009fcca9cca8ccaac02bc02f009e00ff")
OTHERS = bytes.fromhex(
    "000b000403000102 000a00160014001d0017001e0019001801000101010201030104 00230000"
    "0010000e000c02683208687474702f312e31 00160000 00170000"
    "000d001e001c040305030603080708080809080a080b080408050806040105010601"
    "002b0003020304 002d00020101"
)


class Tls:
    """Makes the connections of one capture."""

    ports = (443, 443, 6443, 8443)

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.noise = rng.randbytes(1 << 16)

    def exchange(self, connection: Connection, number: int, faults: Faults) -> list[bytes]:
        """The frames of one connection."""
        connection.left = 1
        frames = faults.burst(connection, connection.send(0, self.client_hello(number)))
        flight = self.server_hello(number) + CHANGE + self.sealed(self.rng.randrange(900, 3_500))
        frames += faults.burst(connection, connection.send(1, flight))
        frames.append(connection.frame(0, ACK))
        frames += connection.send(0, CHANGE + self.sealed(53))
        for _ in range(self.rng.randrange(1, 4)):
            frames += connection.send(0, self.sealed(self.rng.randrange(80, 600)))
            answer = connection.send(1, self.sealed(self.rng.randrange(150, 9_000)))
            frames += faults.burst(connection, answer)
            frames += [connection.frame(0, ACK) for _ in range((len(answer) + 1) // 2)]
        return frames

    def client_hello(self, number: int) -> bytes:
        """About what OpenSSL says."""
        name = b"t%09d.example.com" % number
        listed = struct.pack(">HBH", len(name) + 3, 0, len(name)) + name
        share = b"\0\x1d\0\x20" + self.some(32)
        extensions = (
            struct.pack(">HH", 0, len(listed)) + listed + OTHERS
            + struct.pack(">HHH", 51, len(share) + 2, len(share)) + share
        )  # fmt: skip
        body = b"\3\3" + self.some(32) + b"\x20" + session(number)
        body += struct.pack(">H", len(CIPHERS)) + CIPHERS + b"\1\0"
        return handshake(1, body + struct.pack(">H", len(extensions)) + extensions)

    def server_hello(self, number: int) -> bytes:
        extensions = b"\0\x2b\0\2\3\4" + b"\0\x33\0\x24\0\x1d\0\x20" + self.some(32)
        body = b"\3\3" + self.some(32) + b"\x20" + session(number) + b"\x13\x02\0"
        return handshake(2, body + struct.pack(">H", len(extensions)) + extensions)

    def sealed(self, size: int) -> bytes:
        """A record."""
        return b"\x17\3\3" + size.to_bytes(2, "big") + self.some(size)

    def some(self, size: int) -> bytes:
        """Bytes that mean nothing."""
        at = self.rng.randrange(len(self.noise) - size)
        return self.noise[at : at + size]


def session(number: int) -> bytes:
    """A session id whose hex digits have the number among letters."""
    return bytes.fromhex(f"{number}".center(64, "a"))


def handshake(kind: int, body: bytes) -> bytes:
    """A message in a record."""
    message = bytes([kind]) + len(body).to_bytes(3, "big") + body
    return b"\x16\3\1" + len(message).to_bytes(2, "big") + message
