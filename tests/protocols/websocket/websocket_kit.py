"""Frames and conversations of WebSocket, written out."""

from __future__ import annotations

import zlib

from kshark.api import Entry, Kind, Message, ProtocolSpec, Side, Switch
from kshark.engine import Engine, EngineSettings
from kshark.protocols import websocket
from kshark.protocols.websocket.dissector import WebSocketDissector
from kshark.protocols.websocket.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    RSV1,
    TEXT,
    unmask,
)
from kshark.testing import rows
from kshark.testing.play import play

C, S = Side.CLIENT, Side.SERVER
Talk = list[tuple[Side, bytes]]
KEY = b"\x37\xfa\x21\x3d"
ASK = b"GET /chat?room=1&token=abc HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
ASK += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
AGREED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


def frame(side: Side, first: int, payload: bytes = b"", key: bytes = KEY) -> bytes:
    """A frame with this first byte."""
    size = len(payload)
    mask = 0x80 if side == C else 0
    if size < 126:
        head = bytes([first, mask | size])
    elif size < 65_536:
        head = bytes([first, mask | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, mask | 127]) + size.to_bytes(8, "big")
    return head + (key + unmask(payload, key, 0) if side == C else payload)


def text(side: Side, said: str) -> bytes:
    return frame(side, FIN | TEXT, said.encode())


def closed(side: Side, code: int, reason: str = "") -> bytes:
    return frame(side, FIN | CLOSE, code.to_bytes(2, "big") + reason.encode())


def packer(bits: int = 15) -> zlib._Compress:
    return zlib.compressobj(6, zlib.DEFLATED, -bits)


def packed(engine: zlib._Compress, data: bytes) -> bytes:
    """A message as permessage-deflate sends it."""
    return (engine.compress(data) + engine.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


def answer(extensions: str = "", subprotocol: str = "") -> bytes:
    """The server's head."""
    more = f"Sec-WebSocket-Extensions: {extensions}\r\n" if extensions else ""
    more += f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
    return AGREED + more.encode() + b"\r\n"


def upgrade(extensions: str = "", subprotocol: str = "", target: str = "/chat") -> Switch:
    """What HTTP hands over."""
    asked = Message(Kind.REQUEST, "GET", target, head=ASK + b"\r\n")
    answered = Message(Kind.RESPONSE, status=101, head=answer(extensions, subprotocol))
    return Switch("websocket", context=(asked, answered))


def dissector(extensions: str = "", subprotocol: str = "") -> WebSocketDissector:
    made = WebSocketDissector()
    made.switched(upgrade(extensions, subprotocol))
    return made


def entries_of(carrier: ProtocolSpec, talk: Talk) -> list[Entry]:
    """What the engine makes of a recorded connection, in the pieces that passed and in small ones."""
    said: list[str] = []

    def played(pieces: Talk) -> list[Entry]:
        specs = [carrier, websocket.SPEC]
        return play(Engine(specs, EngineSettings(), said.append), carrier, pieces)

    whole = played(talk)
    fine = [(side, piece[i : i + 40]) for side, piece in talk for i in range(0, len(piece), 40)]
    assert rows(played(fine)) == rows(whole)
    assert said == []
    return whole


__all__ = [
    "BINARY", "CLOSE", "CONTINUATION", "FIN", "PING", "PONG", "RSV1", "TEXT", "C", "S", "Talk",
    "answer", "closed", "dissector", "entries_of", "frame", "packed", "packer", "text", "upgrade",
]  # fmt: skip
