"""Small protocols for the kit's own tests: three good ones, and one that can be broken in many ways."""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator
from typing import Any

from kshark.api import DissectError, Framed, Kind, Message, ProtocolSpec, Side, Step, Take

C, S = Side.CLIENT, Side.SERVER


class Line(Framed):
    """``>verb text\\n`` asks, ``<verb text\\n`` answers; a line that begins otherwise is wrong."""

    def parse(self, side: Side) -> Generator[Step, Any, None]:
        sign = b"><"[side : side + 1]
        while True:
            line: bytes = yield b"\n"
            if line[:1] != sign:
                raise DissectError("not a line of ours")
            verb, _, text = line[1:].decode("latin-1").strip().partition(" ")
            yield Message(Kind(1 + side), verb, text, ok=verb != "ERR")

    def resync(self, side: Side, data: bytes) -> int:
        found = data.find(b"\n" + b"><"[side : side + 1])
        return found + 1 if found >= 0 else -1


LINE_TALK = [
    (C, b">get one\n"),
    (S, b"<ok 1\n"),
    (C, b">get two\n>get three\n"),
    (S, b"<ok 2\n<ERR 3\n"),
]
LINE_ROWS = [
    "get one -> ok 1 [ok]",
    "get two -> ok 2 [ok]",
    "get three -> ERR 3 [error]",
]


class Frames(Framed):
    """Magic, 16-bit key, 32-bit length, body; pairs by key; bodies of any length."""

    def parse(self, side: Side) -> Generator[Step, Any, None]:
        while True:
            magic, key, size = struct.unpack(">2sHI", (yield 8))
            if magic != b"\xc3F" or not key:
                raise DissectError("no frame begins here")
            body: bytes = yield Take(size, keep=1_000)
            kept = size <= 1_000
            yield Message(Kind(1 + side), "frame", key=key, body=body, truncated=not kept)

    def resync(self, side: Side, data: bytes) -> int:
        return data.find(b"\xc3F")


def frame(key: int, body: bytes) -> bytes:
    return struct.pack(">2sHI", b"\xc3F", key, len(body)) + body


FRAME_TALK = [
    (C, frame(1, b"first question") + frame(2, b"")),
    (S, frame(2, b"second answer")),
    (S, frame(1, b"first answer " * 20)),
    (C, frame(3, b"third")),
    (S, frame(3, b"answer to the third")),
]
FRAME_ROWS = ["frame -> frame [ok]"] * 3


class Counted:
    """``NAME LENGTH\\n`` and so many bytes; by hand, without `Framed`. Each method may be broken."""

    limit = 4_096

    def __init__(self) -> None:
        self.held = [bytearray(), bytearray()]
        self.hunting = [False, False]

    def feed(self, side: Side, data: bytes) -> list[Message]:
        held = self.held[side]
        held += data
        if self.hunting[side]:
            self.hunt(side)
        out: list[Message] = []
        at = 0
        while not self.hunting[side]:
            end = held.find(b"\n", at, at + 40)
            if end < 0:
                break
            name, size = self.head(bytes(held[at:end]))
            if len(held) - end - 1 < size:
                break
            body = bytes(held[end + 1 : end + 1 + size])
            out.append(Message(Kind(1 + side), name, body=body, size=end + 1 + size - at))
            at = end + 1 + size
        del held[:at]
        if len(held) > 40 and b"\n" not in held[:40]:
            raise DissectError("no head begins here")
        return out

    def head(self, line: bytes) -> tuple[str, int]:
        name, _, size = line.partition(b" ")
        if not name.isalnum() or not size.isdigit() or int(size[:9]) > self.limit:
            raise DissectError(f"head {line[:20]!r}")
        return name.decode(), int(size)

    def hunt(self, side: Side) -> None:
        held = self.held[side]
        found = held.find(b"\nA")
        if found >= 0:
            del held[: found + 1]
            self.hunting[side] = False
        else:
            del held[:-1]

    def gap(self, side: Side, missing: int) -> list[Message]:
        self.held[side].clear()
        self.hunting[side] = True
        return []

    def close(self) -> list[Message]:
        return []


COUNTED_TALK = [
    (C, b"Aask 4\nabc\n"),
    (S, b"Ayes 6\n12345\n"),
    (C, b"Amore 3\nab\nAmost 1\n\n"),
    (S, b"Ano 1\n\nAwell 4\nxyz\n"),
]


def spec(dissector: Callable[[], Any], **more: Any) -> ProtocolSpec:
    return ProtocolSpec(name="toy", dissector=dissector, **more)
