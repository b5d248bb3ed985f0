"""WebSockets as dashboards and chats use them: an upgrade, then text of both sides for a long time.

One message is one transaction; its number stands in the text (``t000000042``).
"""

from __future__ import annotations

import struct
from random import Random
from weakref import WeakSet

from .http import document
from .tcp import ACK, Connection, Faults

ASK = (
    b"GET /live HTTP/1.1\r\nHost: chat.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
AGREE = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
TEXT = 0x81
MASKED = 0x80


class WebSocket:
    """Makes the messages of one capture."""

    ports = (80, 8_080)

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.upgraded: WeakSet[Connection] = WeakSet()
        sizes = [min(4_000, int(rng.lognormvariate(5, 0.9))) for _ in range(256)]
        self.bodies = [document(rng, size) for size in sizes]

    def exchange(self, connection: Connection, number: int, faults: Faults) -> list[bytes]:
        """One message; the first one of a connection comes after its upgrade."""
        segments: list[bytes] = []
        if connection not in self.upgraded:
            self.upgraded.add(connection)
            segments += connection.send(0, ASK) + connection.send(1, AGREE)
        text = b'{"id":"t%09d","data":%b}' % (number, self.rng.choice(self.bodies))
        side = int(self.rng.random() < 0.6)
        mask = b"" if side else self.rng.randbytes(4)
        sent = connection.send(side, frame(text, mask))
        return segments + faults.burst(connection, sent) + [connection.frame(1 - side, ACK)]


def frame(text: bytes, mask: bytes) -> bytes:
    """A message in one frame, masked where a client sends it."""
    bit = MASKED if mask else 0
    size = len(text)
    head = bytes((TEXT, bit | size)) if size < 126 else struct.pack(">BBH", TEXT, bit | 126, size)
    if not mask:
        return head + text
    pad = (mask * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(text) ^ int.from_bytes(pad)).to_bytes(size)
