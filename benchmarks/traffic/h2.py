"""Connections of HTTP/2: frames, and the header tables that both ends keep."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random
from weakref import WeakKeyDictionary

from hpack import Encoder

from .tcp import Connection, Faults

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, WINDOW_UPDATE = 0, 1, 4, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
Fields = list[tuple[str, str]]


class Talk:
    """What the two ends of a connection remember."""

    def __init__(self) -> None:
        self.client = Encoder()
        self.server = Encoder()
        self.stream = 1
        self.greeting = [
            PREFACE + frame(SETTINGS, 0, 0),
            frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0),
        ]


Half = Callable[[Talk, int, int], bytes]
"""The bytes of a request or a response: its connection, its stream, and the number of the transaction."""


class Talks:
    """The connections of one capture."""

    def __init__(self, rng: Random, request: Half, response: Half) -> None:
        self.rng = rng
        self.request = request
        self.response = response
        self.known: WeakKeyDictionary[Connection, Talk] = WeakKeyDictionary()

    def exchanges(
        self, connection: Connection, number: int, count: int, faults: Faults
    ) -> list[bytes]:
        """Requests on as many streams, that are answered in any order."""
        talk = self.known.setdefault(connection, Talk())
        asked, answered = b"", []
        for one in range(number, number + count):
            asked += self.request(talk, talk.stream, one)
            answered.append((talk.stream, one))
            talk.stream += 2
        self.rng.shuffle(answered)
        greeting, talk.greeting = talk.greeting, [b"", b""]
        segments = faults.burst(connection, connection.send(0, greeting[0] + asked))
        told = b"".join(self.response(talk, stream, one) for stream, one in answered)
        segments += faults.burst(connection, connection.send(1, greeting[1] + told))
        return segments + connection.send(0, frame(WINDOW_UPDATE, 0, 0, b"\0\0\x10\0"))


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def headers(encoder: Encoder, stream: int, fields: Fields, flags: int) -> bytes:
    return frame(HEADERS, END_HEADERS | flags, stream, encoder.encode(fields))
