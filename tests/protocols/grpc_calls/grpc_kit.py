"""Calls of gRPC written out, over frames of HTTP/2, and HTTP/2 with gRPC on it as a protocol of the kit."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kshark.api import Layer, Message, Side
from kshark.protocols import grpc, http2
from kshark.protocols.grpc.details import GrpcRequest, GrpcResponse, details
from kshark.protocols.http2.dissector import Http2Dissector

C, S = Side.CLIENT, Side.SERVER
Talk = list[tuple[Side, bytes]]
DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def carried() -> Http2Dissector:
    """A dissector of HTTP/2 that knows of gRPC alone."""

    def layers(kind: str, request: Message) -> Layer | None:
        return grpc.layer(request) if kind.startswith("application/grpc") else None

    made = Http2Dissector()
    made.carry(layers)
    return made


carried.__module__ = grpc.__name__  # the kit keeps the names of built-ins for them

SPEC = msgspec.structs.replace(
    http2.SPEC,
    name="grpc",
    dissector=carried,
    request=GrpcRequest,
    response=GrpcResponse,
    details=details,
    layer=None,
)
"""gRPC as a protocol of its own, for a kit that knows one protocol."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def block(fields: Iterable[tuple[str, str]]) -> bytes:
    """Fields written out, without a table."""
    out = b""
    for pair in fields:
        out += b"\0"
        for text in pair:
            raw = text.encode("latin-1")
            out += bytes([len(raw)]) if len(raw) < 127 else b"\x7f" + varint(len(raw) - 127)
            out += raw
    return out


def varint(value: int) -> bytes:
    out = b""
    while value >= 128:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def message(body: bytes, flag: int = 0) -> bytes:
    """A message with its five bytes."""
    return bytes([flag]) + len(body).to_bytes(4) + body


def asks(stream: int, path: str, *more: tuple[str, str], kind: str = "application/grpc") -> bytes:
    """The head of a call."""
    head = [(":method", "POST"), (":scheme", "http"), (":path", path)]
    return frame(HEADERS, END_HEADERS, stream, block([*head, ("content-type", kind), *more]))


def answers(stream: int, *more: tuple[str, str], kind: str = "application/grpc") -> bytes:
    """The head of an answer."""
    return frame(
        HEADERS, END_HEADERS, stream, block([(":status", "200"), ("content-type", kind), *more])
    )


def ends(stream: int, status: str = "0", *more: tuple[str, str]) -> bytes:
    """The trailers of a call."""
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, block([("grpc-status", status), *more]))


def refused(stream: int, status: str, text: str = "") -> bytes:
    """An answer of headers alone."""
    fields = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", status)]
    if text:
        fields.append(("grpc-message", text))
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, block(fields))


def data(stream: int, body: bytes, end: bool = False) -> bytes:
    return frame(DATA, END_STREAM if end else 0, stream, body)


def reset(stream: int, code: int = 8) -> bytes:
    return frame(RST_STREAM, 0, stream, code.to_bytes(4))


HELLO = PREFACE + frame(SETTINGS, 0, 0)


def unary(stream: int, path: str, ask: bytes, answer: bytes) -> Talk:
    return [
        (C, asks(stream, path) + data(stream, message(ask), True)),
        (S, answers(stream) + data(stream, message(answer)) + ends(stream)),
    ]
