"""Consumers that write down what they are told, and both classes to tell them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from kshark.api import Block
from kshark.wire import DROPS, Wire, WireFlow, WireLimits, pure

Event = tuple[Any, ...]
Pure: Any = pure.Wire


def _compiled() -> Any:
    try:
        from kshark.wire.fast import Wire as Compiled
    except (ImportError, KeyError):  # not there, or KSHARK_PURE took what it is compiled against
        return None
    return Compiled


Fast: Any = _compiled()
CLASSES: list[Any] = [
    pytest.param(Pure, id="pure"),
    pytest.param(
        Fast,
        id="fast",
        marks=pytest.mark.skipif(Fast is None, reason="the wire is not compiled here"),
    ),
]


class Listener:
    """A consumer: its flow's events, alone and in the order of all flows."""

    def __init__(self, flow: WireFlow, tape: Tape) -> None:
        self.flow, self.tape = flow, tape
        self.number = len(tape.flows)
        self.events: list[Event] = []

    def note(self, *event: Any) -> None:
        self.events.append(event)
        self.tape.events.append((self.number, *event))

    def chunk(self, side: int, data: bytes, ns: int) -> bool:
        assert data
        assert type(data) is bytes
        self.note("chunk", side, data, ns)
        return self.tape.enough(self)

    def gap(self, side: int, missing: int, ns: int) -> bool:
        assert missing > 0
        self.note("gap", side, missing, ns)
        return self.tape.enough(self)

    def end(self, reason: int, ns: int) -> None:
        self.note("end", reason, ns)
        self.tape.ended.append(self.facts())

    def facts(self) -> Event:
        """All that a flow says of itself."""
        f = self.flow
        return (
            f.proto, f.client, f.server, f.client_port, f.server_port, f.first_ns, f.last_ns, f.midstream,
            f.established, f.refused, f.iface,
            *((f.packets(s), f.bytes(s), f.first_at(s)) for s in (0, 1)),
        )  # fmt: skip

    def stream(self, side: int) -> bytes:
        """The bytes of one side, a gap as that many question marks."""
        out = b""
        for event in self.events:
            if event[0] == "chunk" and event[1] == side:
                out += event[2]
            elif event[0] == "gap" and event[1] == side:
                out += b"?" * event[2]
        return out

    def gaps(self, side: int) -> list[int]:
        return [e[2] for e in self.events if e[0] == "gap" and e[1] == side]

    @property
    def reason(self) -> int:
        """How it ended, 0 while it lives."""
        return next((e[1] for e in self.events if e[0] == "end"), 0)


class Tape:
    """A wire with listeners."""

    def __init__(
        self,
        kind: type[Wire],
        limits: WireLimits = WireLimits(),  # noqa: B008 - frozen
        dedupe: bool = True,
        keep_packets: bool = False,
        enough: Callable[[Listener], bool] = lambda listener: False,
    ) -> None:
        self.events: list[Event] = []
        self.flows: list[Listener] = []
        self.ended: list[Event] = []
        self.enough = enough
        self.wire = kind(self.open, limits, dedupe, keep_packets)

    def open(self, flow: WireFlow) -> Listener:
        listener = Listener(flow, self)
        self.flows.append(listener)
        listener.note("open", flow.proto, flow.midstream, flow.iface)
        return listener

    def feed(self, *blocks: Block) -> Tape:
        for one in blocks:
            self.wire.feed(one)
            self.check()
        return self

    def finish(self) -> Tape:
        self.wire.finish()
        self.check()
        assert (self.wire.flows, self.wire.memory) == (0, 0)
        return self

    def check(self) -> None:
        """The books balance."""
        counts = self.wire.counters()
        assert min(counts.values()) >= 0, counts
        assert counts["received"] == counts["in_flows"] + sum(counts[name] for name in DROPS), (
            counts
        )
        assert self.wire.memory >= 0
        given = sum(f.flow.packets(0) + f.flow.packets(1) for f in self.flows)
        assert given == counts["in_flows"]

    def counts(self) -> dict[str, int]:
        """The counters that moved."""
        return {k: v for k, v in self.wire.counters().items() if v}

    def streams(self) -> list[tuple[bytes, bytes]]:
        return [(f.stream(0), f.stream(1)) for f in self.flows]


def run(kind: type[Wire], *blocks: Block, **options: Any) -> Tape:
    """Feed blocks to a new wire, to the end."""
    return Tape(kind, **options).feed(*blocks).finish()


def same(blocks: Iterable[Block], **options: Any) -> Tape:
    """Both classes say the same of the blocks; the oracle's tape."""
    blocks = list(blocks)
    one = run(Pure, *blocks, **options)
    if Fast is not None:
        two = run(Fast, *blocks, **options)
        assert two.events == one.events
        assert two.wire.counters() == one.wire.counters()
        assert two.ended == one.ended
    return one
