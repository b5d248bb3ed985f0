"""WebSockets in streams of HTTP/2, written out, and both protocols as one of the kit."""

from __future__ import annotations

import msgspec
from websocket_kit import C, S, Talk

from kshark.api import Layer, Message
from kshark.protocols import http2, websocket
from kshark.protocols.http2.dissector import Http2Dissector
from kshark.protocols.websocket.details import WebSocketMessage, details

DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
END_STREAM, END_HEADERS = 1, 4
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def carried() -> Http2Dissector:
    """A dissector of HTTP/2 that knows of WebSocket alone."""

    def layers(kind: str, request: Message) -> Layer | None:
        return websocket.layer(request) if kind.startswith("websocket") else None

    made = Http2Dissector()
    made.carry(layers)
    return made


carried.__module__ = websocket.__name__  # the kit keeps the names of built-ins for them

SPEC = msgspec.structs.replace(
    http2.SPEC,
    name="websocket",
    dissector=carried,
    request=WebSocketMessage,
    response=None,
    details=details,
)


def of_http2(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def block(*fields: tuple[str, str]) -> bytes:
    """Fields written out, without a table; none is longer than 126 bytes."""
    out = b""
    for pair in fields:
        out += b"\0"
        for text in pair:
            out += bytes([len(text)]) + text.encode()
    return out


def asks(stream: int, path: str, protocol: str = "websocket", end: bool = False) -> bytes:
    """An extended CONNECT."""
    fields = [(":method", "CONNECT"), (":protocol", protocol), (":scheme", "http"), (":path", path)]
    head = block(*fields, (":authority", "a"), ("sec-websocket-version", "13"))
    return of_http2(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, head)


def answers(stream: int, *more: tuple[str, str], status: str = "200", end: bool = False) -> bytes:
    flags = END_HEADERS | (END_STREAM if end else 0)
    return of_http2(HEADERS, flags, stream, block((":status", status), *more))


def data(stream: int, content: bytes, end: bool = False) -> bytes:
    return of_http2(DATA, END_STREAM if end else 0, stream, content)


def ends(stream: int) -> bytes:
    return data(stream, b"", True)


def reset(stream: int, code: int = 8) -> bytes:
    return of_http2(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def exchange(stream: int, path: str) -> Talk:
    """A request and its answer, beside the WebSockets."""
    fields = [(":method", "GET"), (":scheme", "http"), (":path", path)]
    asked = of_http2(HEADERS, END_HEADERS | END_STREAM, stream, block(*fields))
    return [(C, asked), (S, answers(stream, end=True))]


BEGIN: Talk = [
    (C, HELLO + of_http2(SETTINGS, 0, 0)),
    (S, of_http2(SETTINGS, 0, 0, b"\0\x08\0\0\0\x01")),
]
