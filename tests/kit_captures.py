"""Small captures for the tests of the author's commands."""

from __future__ import annotations

import struct
from pathlib import Path

from kshark.api import Side
from kshark.testing import _packets

Talk = list[tuple[Side, bytes]]
C, S = Side.CLIENT, Side.SERVER

PINGS: Talk = [(C, b"PING\r\n"), (S, b"+PONG\r\n"), (C, b"GET key\r\n"), (S, b"-ERR no key\r\n")]
FRAMES: Talk = [
    (C, b"\0\5\1one!"),
    (S, b"\0\4\1yes"),
    (C, b"\0\3\2ab"),
    (S, b"\0\x08\2perhaps"),
]


def pcap(path: Path, *talks: Talk) -> Path:
    """One TCP connection a conversation, one after the other, from different ports."""
    data = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65_535, _packets.RAW_IPV4)
    for number, talk in enumerate(talks):
        start, middle, end = _packets.packets(talk, 1_000)
        for at, frame in enumerate([*start, *middle, *end]):
            moved = ported(frame, 40_000 + number)
            data += struct.pack("<IIII", 1_000 + number, at * 1_000, len(moved), len(moved)) + moved
    path.write_bytes(data)
    return path


def ported(frame: bytes, port: int) -> bytes:
    """The packet with another port of the client."""
    at = 20 if frame[20:22] == (40_000).to_bytes(2, "big") else 22
    return frame[:at] + port.to_bytes(2, "big") + frame[at + 2 :]
