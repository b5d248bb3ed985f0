"""Unary calls of gRPC as services make them: connections that last, several streams at once, headers that the dynamic
tables hold after the first call, and a number of each call's own (trace ids, deadlines) that they do not.

The number of a call stands in its request (``t000000042``) and comes back in the response.
"""

from __future__ import annotations

import struct
from random import Random

from .h2 import DATA, END_STREAM, Fields, Talk, Talks, frame, headers
from .tcp import Connection, Faults

METHODS = (
    "/shop.v1.Orders/Get",
    "/shop.v1.Orders/List",
    "/shop.v1.Users/Find",
    "/auth.Tokens/Check",
)
STATUSES = ("0",) * 19 + ("5",)


class Grpc:
    """Makes the exchanges of one capture."""

    ports = (50_051, 8_080)

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.talks = Talks(rng, self.request, self.response)
        self.sizes = [min(4_000, int(rng.lognormvariate(5.3, 0.9))) for _ in range(256)]

    def exchange(self, connection: Connection, number: int, faults: Faults) -> list[bytes]:
        return self.talks.exchanges(connection, number, 1, faults)

    def pipeline(
        self, connection: Connection, number: int, count: int, faults: Faults
    ) -> list[bytes]:
        return self.talks.exchanges(connection, number, count, faults)

    def request(self, talk: Talk, stream: int, number: int) -> bytes:
        """Headers, and a message that ends the stream."""
        draw = self.rng.randrange
        fields: Fields = [
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
        return headers(talk.client, stream, fields, 0) + message(stream, body, END_STREAM)

    def response(self, talk: Talk, stream: int, number: int) -> bytes:
        """Headers, a message and trailers."""
        status = self.rng.choice(STATUSES)
        head = [(":status", "200"), ("content-type", "application/grpc")]
        tail = [("grpc-status", status), ("grpc-message", "" if status == "0" else "not found")]
        body = text(1, b"t%09d" % number) + text(3, b"v" * self.rng.choice(self.sizes))
        return (
            headers(talk.server, stream, head, 0)
            + message(stream, body, 0)
            + headers(talk.server, stream, tail, END_STREAM)
        )


def message(stream: int, body: bytes, flags: int) -> bytes:
    return frame(DATA, flags, stream, b"\0" + struct.pack(">I", len(body)) + body)


def text(number: int, value: bytes) -> bytes:
    """A field of Protocol Buffers."""
    size = len(value)
    length = bytes((size,)) if size < 128 else bytes((size & 127 | 128, size >> 7))
    return bytes((number << 3 | 2,)) + length + value
