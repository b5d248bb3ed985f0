"""Dissectors that keep what they hear are found, and switched off; the others are left alone."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Generator
from types import ModuleType
from typing import Any

import pytest
from fakes import TOY, FakeFlow, Table, Toy, rows

from kshark import limits
from kshark.api import Block, Framed, Kind, Message, ProtocolSpec, Side
from kshark.leaks import STEPS, Scales, Walk, size_of
from kshark.wire import END_FIN

CHUNK = bytes(16_384)


class Keeps(Toy):
    """Keeps all that it was fed, as `keep` says."""

    def __init__(self, keep: Callable[[Any, bytes], None]) -> None:
        super().__init__()
        self.keep = keep
        self.list: list[Any] = []
        self.buffer = bytearray()
        self.table: dict[int, bytes] = {}
        self.queue: deque[bytes] = deque()

    def feed(self, side: Side, data: bytes) -> list[Any]:
        self.keep(self, bytes(data) + b"!")
        return [Message(Kind.ONEWAY, "HEARD", size=len(data))]


class Deep:
    def __init__(self, data: bytes) -> None:
        self.inner = (data,)


def in_a_frame() -> type:
    class InAFrame(Framed):
        def parse(self, side: Side) -> Generator[Any, bytes, None]:
            kept: list[bytes] = []
            while True:
                kept.append((yield 16_384))
                yield Message(Kind.ONEWAY, "HEARD")

    return InAFrame


WAYS: dict[str, Callable[[Any, bytes], None]] = {
    "list": lambda self, data: self.list.append(data),
    "buffer": lambda self, data: self.buffer.extend(data),
    "table": lambda self, data: self.table.update({len(self.table): data}),
    "queue": lambda self, data: self.queue.append(data),
    "objects": lambda self, data: self.list.append(Deep(data)),
    "messages": lambda self, data: self.list.append(Message(Kind.REQUEST, body=data)),
    "small pieces": lambda self, data: self.list.extend(bytes([i % 251, i // 251]) for i in range(400)),
}  # fmt: skip


def leaky(way: str) -> ProtocolSpec:
    make: Any = in_a_frame() if way == "frame" else lambda: Keeps(WAYS[way])
    return ProtocolSpec(name="leaky", dissector=make, magic=(b"LEAK",))


class Fed(FakeFlow):
    """Its bytes are those that it was fed."""

    fed = 0

    def bytes(self, side: int) -> int:
        return self.fed


def open_flow(t: Table) -> Any:
    flow = Fed()
    t.wire.opened.append(flow)
    guard = t.engine.open(flow)
    t.engine.state_of(t.engine.specs["leaky"])
    guard.chunk(0, b"LEAK" + CHUNK[4:], 5)
    return guard


NO_PACKETS = Block(b"", b"", 0, 1)


def feed(t: Table, guard: Any, amount: int) -> int:
    """Feed a flow until it wants no more; gives how much that took."""
    fed = 0
    while fed < amount:
        fed += len(CHUNK)
        guard.wire.fed += len(CHUNK)
        if guard.chunk(0, bytes(bytearray(CHUNK)), t.ns):
            break
        t.engine.feed(NO_PACKETS)
        t.engine.take()
    return fed


@pytest.mark.parametrize("way", [*WAYS, "frame"])
def test_a_leak_is_found_and_after_several_flows_the_protocol_is_off(
    table: type[Table], way: str
) -> None:
    t = table(leaky(way), TOY)
    for _ in range(limits.BREAKER_OFFENCES):
        guard = open_flow(t)
        bound = limits.DISSECTOR_BYTES + 2 * limits.WEIGH_EVERY
        assert feed(t, guard, 20 * bound) < 2 * bound
        assert guard.dissector is None
        guard.end(END_FIN, t.ns)
    first, last = t.said
    assert first.startswith("leaky: its dissector of one flow holds ")
    assert first.endswith(", and 4.0 MiB is the limit; the flow goes on as unknown")
    assert last == ("leaky is switched off: its dissectors of 3 flows held over 4.0 MiB each")
    assert t.engine.ledger.limits == {"dissector_bytes": 3}
    assert t.engine.broken
    assert t.engine.ledger.check() == []
    t.engine.take()
    assert rows(t.talk(t.open(), "> TOY a\n < OK")) == [("TOY a", "OK", "ok")]


def test_when_it_is_off_all_its_flows_let_go(table: type[Table]) -> None:
    t = table(leaky("list"))
    guards = [open_flow(t) for _ in range(5)]
    for guard in guards:
        if guard.dissector is not None:
            feed(t, guard, 100 * limits.MIB)
    assert t.engine.states["leaky"].tripped
    assert [guard.dissector for guard in guards] == [None] * 5
    assert t.engine.tally.dissectors == 0


def test_who_keeps_nothing_is_left_alone(table: type[Table]) -> None:
    t = table(
        ProtocolSpec(name="leaky", dissector=lambda: Keeps(lambda s, d: None), magic=(b"LEAK",))
    )
    guard = open_flow(t)
    assert feed(t, guard, 10 * limits.WEIGH_EVERY) == 10 * limits.WEIGH_EVERY
    assert t.said == []
    assert t.engine.scales.unaccounted < 10_000


def test_what_many_flows_hold_counts_against_the_memory(table: type[Table]) -> None:
    """Each is within its bound: the engine sees that they are more than it may have, and evicts."""
    t = table(leaky("buffer"))
    t.wire.flows = flows = 200
    guards = [open_flow(t) for _ in range(flows)]
    before = t.engine.memory
    for guard in guards:
        feed(t, guard, limits.MIB)
    held = flows * limits.MIB
    assert 0.7 * held < t.engine.memory - before < 1.5 * held
    assert t.wire.evicted
    assert t.said == []


def test_what_a_module_gathers(table: type[Table], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MODULE_BYTES", 8 * limits.MIB)
    module: Any = ModuleType("gathering")
    monkeypatch.setitem(sys.modules, "gathering", module)
    module.HISTORY = []

    class Gathers(Toy):
        def feed(self, side: Side, data: bytes) -> list[Any]:
            module.HISTORY.append(bytes(data) + b"!")
            return [Message(Kind.ONEWAY, "HEARD", size=len(data))]

    Gathers.__module__ = "gathering"
    t = table(ProtocolSpec(name="leaky", dissector=Gathers, magic=(b"LEAK",)))
    feed(t, open_flow(t), 100 * limits.MIB)
    (line,) = t.said
    assert line.startswith("leaky is switched off: its modules gathered ")


def test_a_table_that_flows_share_is_no_flows(
    table: type[Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = ModuleType("shares")
    module.TABLE = {n: bytes(1_000) for n in range(10_000)}
    monkeypatch.setitem(sys.modules, "shares", module)

    class Shares(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.table = module.TABLE

        def feed(self, side: Side, data: bytes) -> list[Any]:
            return [Message(Kind.ONEWAY, "HEARD", size=len(data))]

    Shares.__module__ = "shares"
    t = table(ProtocolSpec(name="leaky", dissector=Shares, magic=(b"LEAK",)))
    feed(t, open_flow(t), 10 * limits.MIB)
    assert t.said == []
    assert t.engine.scales.unaccounted < 10_000


class Hides(list[int]):
    def __sizeof__(self) -> int:
        raise SystemExit

    def __iter__(self) -> Any:
        raise SystemExit

    def __len__(self) -> int:
        raise SystemExit

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit


def test_no_code_of_a_plugin_runs_while_it_is_weighed() -> None:
    hidden = Hides([1 << 100 + n for n in range(10)])
    alone, all_of_it = size_of(hidden), Walk(STEPS).weigh([hidden])
    assert list.__sizeof__([0] * 10) <= alone < all_of_it


def test_the_walk_is_bounded_and_its_estimate_is_fair() -> None:
    walk = Walk(STEPS)
    chain: Any = None
    for _ in range(2 * STEPS):
        chain = [chain]
    walk.weigh(chain)
    assert walk.steps == 0
    held = [bytes(1_000 + n % 7) for n in range(50_000)]
    truth = sum(map(sys.getsizeof, held)) + sys.getsizeof(held)
    walk = Walk(STEPS)
    assert 0.9 * truth < walk.weigh(held) < 1.1 * truth
    assert walk.steps > STEPS - 1_000
    same = [b"x" * 1_000] * 50_000
    assert Walk(STEPS).weigh(same) < 2 * sys.getsizeof(same)
    assert Walk(STEPS).weigh(same[0], same[0]) == sys.getsizeof(same[0])


def test_built_ins_are_not_weighed(table: type[Table]) -> None:
    t = table(TOY)
    assert [state.name for state in Scales(t.engine, t.engine.states.values()).strangers] == ["toy"]
    t.engine.states["toy"].strict = False
    assert Scales(t.engine, t.engine.states.values()).strangers == []
