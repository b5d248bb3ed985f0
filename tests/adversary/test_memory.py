"""Floods: whatever is sent, what is held stays within the bound, and who pays is in the books."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from numbered import ACK, MS, SPECS, START, Record, Talk, answer, ask, block, ether, numbers
from record import CLASSES

from kshark import limits, wire
from kshark.api import Entry
from kshark.engine import Engine, EngineSettings
from kshark.wire import WireLimits

CLIENT, SERVER = 0, 1
BOUND = 1 << 19
MANY = 300
BLOCK = 200  # packets
Packets = Iterator[bytes]


def opened(port: int, server: int = 80) -> Talk:
    return Talk(ports=(port, server)).open()


def talks(count: int, server: int = 80) -> list[Talk]:
    return [opened(20_000 + n, server) for n in range(count)]


def bombs(head: bytes, filler: bytes, server: int) -> Packets:
    """Messages that never end, all growing at the same pace."""
    flows = talks(MANY, server)
    for flow in flows:
        yield from flow.packets
        yield flow.send(CLIENT, head)
    for _ in range(25):
        for flow in flows:
            yield flow.send(CLIENT, filler)


def head_bombs() -> Packets:
    return bombs(b"GET / HTTP/1.1\r\nHost: a\r\n", b"X-Fill: " + b"a" * 1_000 + b"\r\n", 80)


def body_bombs() -> Packets:
    return bombs(b"POST / HTTP/1.1\r\nContent-Length: 999999\r\n\r\n", b"b" * 1_000, 80)


def redis_bombs() -> Packets:
    return bombs(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$999999\r\n", b"b" * 1_000, 6379)


def big_first_chunks() -> Packets:
    """The first bytes of a flow come in one piece, as with segmentation offload, and are kept for a while."""
    for flow in talks(MANY):
        yield from flow.packets
        yield flow.send(CLIENT, ask(1, b"x" * 30_000))
        yield flow.send(SERVER, answer(1, b"y" * 30_000))


def half_requests() -> Packets:
    for flow in talks(3 * MANY):
        yield from flow.packets
        yield flow.send(CLIENT, b"GET /x HTTP/1.1\r\nHost: a.example\r\nUser-Ag")


def never_answered() -> Packets:
    for flow in talks(MANY):
        yield from flow.packets
        for n in range(5):
            yield flow.send(CLIENT, ask(n, b"x" * 500))


def one_long_pipeline() -> Packets:
    flow = opened(20_000)
    yield from flow.packets
    for n in range(3_000):
        yield flow.send(CLIENT, ask(n, b"x" * 1_000))


def never_asked() -> Packets:
    for flow in talks(MANY):
        yield from flow.packets
        for n in range(5):
            yield flow.send(SERVER, answer(n, b"x" * 500))


def half_open() -> Packets:
    return (Talk(ports=(20_000 + n, 80)).open().packets[0] for n in range(5 * MANY))


def out_of_order() -> Packets:
    for flow in talks(MANY):
        yield from flow.packets
        for n in range(4):
            yield flow.raw(CLIENT, ACK, b"x" * 1_000, seq=5_000 + 1_500 * n)


def unknown() -> Packets:
    """Nobody's protocol, a little at a time: it is looked at for long."""
    flows = talks(2 * MANY)
    for flow in flows:
        yield from flow.packets
    for _ in range(7):
        for flow in flows:
            yield flow.send(CLIENT, b"*1\r\n" * 100)


FLOODS: list[Callable[[], Packets]] = [
    head_bombs, body_bombs, redis_bombs, big_first_chunks, half_requests, never_answered,
    one_long_pipeline, never_asked, half_open, out_of_order, unknown,
]  # fmt: skip


def blocks(packets: Packets) -> Iterator[Any]:
    held: list[Record] = []
    for n, packet in enumerate(packets):
        held.append(Record(ether(packet), START + n * MS // 100))
        if len(held) == BLOCK:
            yield block(held)
            held = []
    yield block(held)


def engine_of(cls: Any, monkeypatch: pytest.MonkeyPatch, bound: int = BOUND) -> Engine:
    monkeypatch.setattr(wire, "load", lambda: cls)
    return Engine(SPECS, EngineSettings(limits=WireLimits(memory=bound)))


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.__name__)
def test_a_flood_is_bounded(
    flood: Callable[[], Packets], cls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(cls, monkeypatch)
    packets = 0
    for one in blocks(flood()):
        packets += one.count
        engine.feed(one)
        assert engine.memory <= BOUND
    snapshot = engine.ledger.snapshot()
    assert snapshot["limits"].get("shed", 0) + snapshot["wire"].get("evicted", 0) > 0
    engine.finish()
    assert engine.ledger.check() == []
    assert engine.ledger.snapshot()["packets"]["received"] == packets
    assert (engine.memory, engine.tally.reserved, engine.tally.dissectors) == (0, 0, 0)
    assert not engine.guards


@pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: flood.__name__)
def test_what_is_accounted_is_what_is_held(
    flood: Callable[[], Packets], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = list(blocks(flood()))
    gc.collect()
    tracemalloc.start()
    try:
        engine = engine_of(wire.load(), monkeypatch, limits.MEMORY)
        base = tracemalloc.get_traced_memory()[0]
        for one in ready:
            engine.feed(one)
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - base
    finally:
        tracemalloc.stop()
    assert held <= engine.memory * 1.1 + 200_000
    assert engine.memory < limits.MEMORY // 2  # nothing had to go


@pytest.mark.parametrize("cls", CLASSES)
def test_who_moves_is_not_who_pays(cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calm = opened(19_999)

    def both() -> Packets:
        yield from calm.packets
        for n, packet in enumerate(head_bombs()):
            yield packet
            if n % 100 == 0:
                yield calm.send(CLIENT, ask(n))
                yield calm.send(SERVER, answer(n, b"x" * 800))

    engine = engine_of(cls, monkeypatch, 7 << 20)
    found: list[Entry] = []
    for one in blocks(both()):
        found += engine.feed(one)
    found += engine.finish()
    assert engine.ledger.snapshot()["limits"]["shed"] > 50
    assert engine.ledger.snapshot()["packets"]["opaque"]["memory bound"] > 1_000
    mine = [e for e in found if e.flow.client.port == 19_999]
    assert {e.outcome for e in mine} == {"ok"}
    assert all(numbers(e.request) & numbers(e.response) for e in mine)


def transfer(request: bytes, response: bytes, server: int) -> Packets:
    """Long messages on many flows at once, all of them whole in the end."""
    flows = talks(100, server)
    for flow in flows:
        yield from flow.packets
    for side, data in ((CLIENT, request), (SERVER, response)):
        for at in range(0, len(data), 1_400):
            for flow in flows:
                yield flow.send(side, data[at : at + 1_400])


HTTP = (ask(1, b"q" * 70_000), answer(1, b"r" * 70_000), 80)
REDIS = (
    b"*3\r\n$3\r\nSET\r\n$4\r\nid-1\r\n$70000\r\n" + b"q" * 70_000 + b"\r\n",
    b"$70000\r\n" + b"r" * 70_000 + b"\r\n",
    6379,
)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("exchange", [HTTP, REDIS], ids=["http", "redis"])
def test_bodies_go_before_pairs(
    exchange: tuple[bytes, bytes, int], cls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(cls, monkeypatch, 3 << 20)
    found: list[Entry] = []
    for one in blocks(transfer(*exchange)):
        found += engine.feed(one)
        assert engine.memory <= 3 << 20
    found += engine.finish()
    assert engine.ledger.snapshot()["limits"]["shed"] > 50
    assert [e.outcome for e in found] == ["ok"] * 100
    assert all(e.request and e.request.size == len(exchange[0]) for e in found)
    assert all(e.response and e.response.size == len(exchange[1]) for e in found)
    assert all(e.truncated for e in found)


@pytest.mark.parametrize("cls", CLASSES)
def test_requests_given_up_for_memory_are_not_paired_wrongly(
    cls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = opened(20_000)

    def packets() -> Packets:
        yield from flow.packets
        for n in range(2_000):
            yield flow.send(CLIENT, ask(n, b"x" * 1_000))
        for n in range(2_000):
            yield flow.send(SERVER, answer(n))

    engine = engine_of(cls, monkeypatch, 1 << 20)
    found: list[Entry] = []
    for one in blocks(packets()):
        found += engine.feed(one)
    pairs = [e for e in found if e.request and e.response]
    assert 100 < len(pairs) < 1_500
    assert all(numbers(e.request) & numbers(e.response) for e in pairs)
    assert len([e for e in found if not e.request]) == 2_000 - len(pairs)
    assert {e.outcome for e in found if not e.response} == {"unanswered"}
    assert len([e for e in found if not e.response]) == 2_000 - len(pairs)
