"""Unary calls of gRPC as services make them: connections that last, several streams at once, headers that the dynamic
tables hold after the first call, and a number of each call's own (trace ids, deadlines) that they do not.

The number of a call stands in its request (``t000000042``) and comes back in the response.
"""

from __future__ import annotations

import struct
from random import Random
from typing import Any
from weakref import WeakKeyDictionary

from hpack import Encoder

from .tcp import Connection, Faults

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, WINDOW_UPDATE = 0, 1, 4, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
METHODS = (
    "/shop.v1.Orders/Get",
    "/shop.v1.Orders/List",
    "/shop.v1.Users/Find",
    "/auth.Tokens/Check",
)
STATUSES = ("0",) * 19 + ("5",)


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


class Grpc:
    """Makes the exchanges of one capture."""

    ports = (50_051, 8_080)

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.talks: WeakKeyDictionary[Connection, Talk] = WeakKeyDictionary()
        self.sizes = [min(4_000, int(rng.lognormvariate(5.3, 0.9))) for _ in range(256)]

    def exchange(self, connection: Connection, number: int, faults: Faults) -> list[bytes]:
        return self.pipeline(connection, number, 1, faults)

    def pipeline(
        self, connection: Connection, number: int, count: int, faults: Faults
    ) -> list[bytes]:
        """Calls on as many streams, that are answered in any order."""
        talk = self.talks.setdefault(connection, Talk())
        asked, answered = b"", []
        for one in range(number, number + count):
            asked += self.request(talk, one)
            answered.append((talk.stream, one))
            talk.stream += 2
        self.rng.shuffle(answered)
        greeting, talk.greeting = talk.greeting, [b"", b""]
        segments = faults.burst(connection, connection.send(0, greeting[0] + asked))
        told = b"".join(self.response(talk, stream, one) for stream, one in answered)
        segments += faults.burst(connection, connection.send(1, greeting[1] + told))
        return segments + connection.send(0, frame(WINDOW_UPDATE, 0, 0, b"\0\0\x10\0"))

    def request(self, talk: Talk, number: int) -> bytes:
        """Headers, and a message that ends the stream."""
        draw = self.rng.randrange
        fields: list[Any] = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", self.rng.choice(METHODS)),
            (":authority", "orders.shop.svc.cluster.local:50051"),
            ("content-type", "application/grpc"),
            ("user-agent", "grpc-go/1.74.2"),
            ("te", "trailers"),
            ("grpc-timeout", f"{draw(1, 999_999)}u"),
            ("traceparent", f"00-{draw(1 << 127):032x}-{draw(1 << 63):016x}-01"),
        ]
        body = text(1, b"t%09d" % number) + text(2, b"k" * (self.rng.choice(self.sizes) // 2))
        return self.framed(talk.client, talk.stream, fields, 0) + message(
            talk.stream, body, END_STREAM
        )

    def response(self, talk: Talk, stream: int, number: int) -> bytes:
        """Headers, a message and trailers."""
        status = self.rng.choice(STATUSES)
        head = [(":status", "200"), ("content-type", "application/grpc")]
        tail = [("grpc-status", status), ("grpc-message", "" if status == "0" else "not found")]
        body = text(1, b"t%09d" % number) + text(3, b"v" * self.rng.choice(self.sizes))
        return (
            self.framed(talk.server, stream, head, 0)
            + message(stream, body, 0)
            + self.framed(talk.server, stream, tail, END_STREAM)
        )

    def framed(self, encoder: Encoder, stream: int, fields: list[Any], flags: int) -> bytes:
        return frame(HEADERS, END_HEADERS | flags, stream, encoder.encode(fields))


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def message(stream: int, body: bytes, flags: int) -> bytes:
    return frame(DATA, flags, stream, b"\0" + struct.pack(">I", len(body)) + body)


def text(number: int, value: bytes) -> bytes:
    """A field of Protocol Buffers."""
    size = len(value)
    length = bytes((size,)) if size < 128 else bytes((size & 127 | 128, size >> 7))
    return bytes((number << 3 | 2,)) + length + value
