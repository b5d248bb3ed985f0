"""A wire that is not there, a flow made by hand, and a toy protocol: the engine alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from kshark import wire
from kshark.api import (
    DissectError,
    Entry,
    Kind,
    Message,
    Packet,
    ProtocolSpec,
    Side,
    Switch,
    Verdict,
)
from kshark.engine import Engine, EngineSettings


@dataclass(eq=False)
class FakeFlow:
    """What a `kshark.wire.WireFlow` tells."""

    proto: int = 6
    client: bytes = b"\x0a\0\0\1"
    server: bytes = b"\x0a\0\0\2"
    client_port: int = 40_000
    server_port: int = 7
    first_ns: int = 1
    last_ns: int = 10**15
    midstream: bool = False
    established: bool = True
    refused: bool = False
    iface: str = "eth0"
    sent: list[int] = field(default_factory=lambda: [3, 2])

    def packets(self, side: int) -> int:
        return self.sent[side]

    def bytes(self, side: int) -> int:
        return self.sent[side] * 10

    def first_at(self, side: int) -> int:
        return self.first_ns + side if self.sent[side] else 0

    def take_packets(self) -> Sequence[Packet]:
        return ()


class FakeWire:
    """No packets at all; the books are those of the fake flows that were opened."""

    def __init__(self, *_: Any) -> None:
        self.now = 0
        self.memory = 0
        self.flows = 0
        self.evicted = 0
        self.opened: list[FakeFlow] = []

    def counters(self) -> dict[str, int]:
        total = sum(sum(flow.sent) for flow in self.opened)
        return {"received": total, "in_flows": total}

    def feed(self, block: object) -> None: ...

    def tick(self, now: int) -> None: ...

    def finish(self, most: int = 0) -> bool:
        return False

    def evict(self, n: int) -> None:
        self.evicted += n
        self.flows = max(0, self.flows - n)


class Toy:
    """``verb[#key] text\\n``: "boom" breaks the protocol, "crash" the plugin, ">" asks, "<" answers."""

    def __init__(self) -> None:
        self.held = [b"", b""]
        self.body = [0, 0]

    def feed(self, side: Side, data: bytes) -> list[Message | Switch]:
        data = self.held[side] + data
        *lines, self.held[side] = data.split(b"\n")
        return [self.line(side, line) for line in lines]

    def line(self, side: Side, line: bytes) -> Message | Switch:
        word, _, rest = line.decode().partition(" ")
        word, _, key = word.partition("#")
        match word:
            case "boom":
                raise DissectError("boom")
            case "crash":
                raise ZeroDivisionError(rest)
            case "switch":
                return Switch(rest)
            case "rubbish":
                return 5  # type: ignore[return-value]
            case "wait":
                return Message(Kind.INTERIM, word, status=100, size=len(line) + 1)
            case "push":
                return Message(Kind.ONEWAY, word, rest, size=len(line) + 1)
        kind = Kind.RESPONSE if side == Side.SERVER else Kind.REQUEST
        return Message(
            kind, word, rest, ok=word != "ERR", key=int(key or 0), size=len(line) + 1, body=line
        )

    def gap(self, side: Side, missing: int) -> list[Message | Switch]:
        self.held[side] = b""
        return []

    def close(self) -> list[Message | Switch]:
        return [
            Message(
                Kind.RESPONSE if side else Kind.REQUEST, held.decode(), cut=True, size=len(held)
            )
            for side, held in enumerate(self.held)
            if held
        ]


def probe(data: bytes, side: Side) -> Verdict:
    """A client says "> ", a server "< "."""
    return Verdict.CERTAIN if data.startswith((b"> ", b"< ")[side]) else Verdict.NO


TOY = ProtocolSpec(name="toy", dissector=Toy, magic=(b"TOY ",), probe=None)
PROBED = ProtocolSpec(name="probed", dissector=Toy, probe=probe)


class Table:
    """An engine on a fake wire, and conversations typed by hand."""

    def __init__(self, *specs: ProtocolSpec, **settings: Any) -> None:
        self.said: list[str] = []
        self.engine = Engine(specs or (TOY,), EngineSettings(**settings), self.said.append)
        self.wire: Any = self.engine.wire  # a FakeWire
        self.ns = 1_000

    def open(self, **facts: Any) -> Any:
        flow = FakeFlow(**facts)
        self.wire.opened.append(flow)
        return self.engine.open(flow)

    def talk(self, guard: Any, script: str) -> list[Entry]:
        """Lines "> text" by the client, "< text" by the server; each is one chunk, 1 us apart."""
        for line in filter(None, map(str.strip, script.splitlines())):
            self.ns += 1_000
            guard.chunk(int(line[0] == "<"), line[2:].encode() + b"\n", self.ns)
        return self.engine.take()


def rows(entries: Sequence[Entry]) -> list[tuple[str, str, str]]:
    """(asked, answered, outcome), "-" for a half that is not there."""

    def text(message: Message | None) -> str:
        return "-" if message is None else f"{message.verb} {message.target}".strip()

    return [(text(e.request), text(e.response), str(e.outcome)) for e in entries]


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> type[Table]:
    monkeypatch.setattr(wire, "load", lambda: FakeWire, raising=False)
    return Table
