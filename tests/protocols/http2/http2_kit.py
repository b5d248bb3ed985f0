"""Frames and conversations of HTTP/2, written out; HPACK without a table unless a test wants one."""

from __future__ import annotations

from collections.abc import Iterable

from kshark.api import Message, Side
from kshark.protocols.http2.dissector import Http2Dissector
from kshark.protocols.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
)
from kshark.testing.play import hear

C, S = Side.CLIENT, Side.SERVER
Headers = Iterable[tuple[str, str]]
Talk = list[tuple[Side, bytes]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def literal(name: str, value: str, add: bool = False) -> bytes:
    """A field written out, without Huffman."""
    out = b"\x40" if add else b"\x00"
    for text in (name.encode(), value.encode()):
        size = len(text)
        out += bytes([size]) if size < 127 else b"\x7f" + varint(size - 127)
        out += text
    return out


def varint(value: int) -> bytes:
    out = b""
    while value >= 128:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def block(*fields: tuple[str, str]) -> bytes:
    return b"".join(literal(*one) for one in fields)


GET = b"\x82\x86"
POST = b"\x83\x86"
STATUS = {200: b"\x88", 204: b"\x89", 404: b"\x8d", 500: b"\x8e"}


def get(stream: int, path: str, *more: tuple[str, str]) -> bytes:
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, GET + block((":path", path), *more))


def post(stream: int, path: str, body: bytes, *more: tuple[str, str]) -> bytes:
    head = frame(HEADERS, END_HEADERS, stream, POST + block((":path", path), *more))
    return head + frame(DATA, END_STREAM, stream, body)


def answer(stream: int, status: int, body: bytes = b"", *more: tuple[str, str]) -> bytes:
    first = STATUS.get(status) or block((":status", str(status)))
    flags = END_HEADERS | (0 if body else END_STREAM)
    head = frame(HEADERS, flags, stream, first + block(*more))
    return head + (frame(DATA, END_STREAM, stream, body) if body else b"")


def trailers(stream: int, *fields: tuple[str, str]) -> bytes:
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, block(*fields))


def data(stream: int, body: bytes, end: bool = False) -> bytes:
    return frame(DATA, END_STREAM if end else 0, stream, body)


def reset(stream: int, code: int = 8) -> bytes:
    return frame(RST_STREAM, 0, stream, code.to_bytes(4))


def goaway(last: int, code: int = 0, text: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, last.to_bytes(4) + code.to_bytes(4) + text)


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(n.to_bytes(2) + v.to_bytes(4) for n, v in pairs))


def promise(stream: int, promised: int, path: str) -> bytes:
    payload = promised.to_bytes(4) + GET + block((":path", path))
    return frame(PUSH_PROMISE, END_HEADERS, stream, payload)


def pieces_of_block(stream: int, flags: int, whole: bytes, size: int) -> bytes:
    """A header block over HEADERS and CONTINUATION frames."""
    parts = [whole[i : i + size] for i in range(0, len(whole), size)] or [b""]
    out = b""
    for number, part in enumerate(parts):
        last = END_HEADERS if number == len(parts) - 1 else 0
        kind = CONTINUATION if number else HEADERS
        out += frame(kind, last | (0 if number else flags), stream, part)
    return out


ACK = frame(SETTINGS, 1, 0)
HELLO = PREFACE + settings((3, 100))
"""What a client begins with."""


def opened(talk: Talk) -> Talk:
    """A conversation with its beginning."""
    return [(C, HELLO), (S, settings((3, 100)) + ACK), (C, ACK), *talk]


def messages(talk: Iterable[tuple[Side, bytes | int]]) -> list[Message]:
    """What a dissector says, errors being wrong."""
    heard = hear(Http2Dissector(), talk)
    assert heard.errors == []
    return [message for _, message in heard.messages]


def shown(found: Iterable[Message]) -> list[str]:
    """Messages as short lines."""
    return [
        " ".join(
            str(part)
            for part in (
                ("", ">", "<", "~", "!")[m.kind],
                m.key,
                m.verb,
                m.target,
                m.status or "",
                f"+{len(m.body)}" if m.body else "",
                *m.notes,
                "cut" if m.cut else "",
            )
            if part != ""
        )
        for m in found
    ]


def of(talk: Talk) -> list[str]:
    """What a conversation is after its beginning, as short lines."""
    return shown(messages(opened(talk)))
