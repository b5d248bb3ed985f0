"""What connections carry in clear, from a backend that has it beside their packets (`kshark.clear`)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from kshark import limits
from kshark.api import Block, Entry
from kshark.engine import Engine
from kshark.plugins import load
from kshark.testing._packets import ACK, FIN, GAP, SYN, Peers, block
from kshark.testing.play import START

ASK = b"GET /in HTTP/1.1\r\nHost: a\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
SECRET = b"\xf3\x01" * 700
"""What no dissector knows."""
ANNOUNCED = Block(b"", b"", 0, 228, within="tls")


class Wire:
    """One connection: its packets, and what it carries."""

    def __init__(self) -> None:
        self.engine = Engine(list(load(()).protocols.values()))
        self.sealed, self.open = Peers(), Peers()
        self.open.seq = [1, 1]
        self.entries: list[Entry] = []

    def feed(self, given: Block) -> None:
        self.entries += self.engine.feed(given)

    def packets(self, *frames: bytes) -> None:
        self.feed(block(list(frames)))

    def begin(self) -> None:
        peers = self.sealed
        self.packets(peers.packet(0, SYN), peers.packet(1, SYN | ACK), peers.packet(0, ACK))

    def data(self) -> None:
        self.packets(*(self.sealed.packet(side, ACK, SECRET) for side in (0, 1)))

    def end(self) -> None:
        peers = self.sealed
        self.packets(peers.packet(0, FIN | ACK), peers.packet(1, FIN | ACK), peers.packet(0, ACK))

    def tell(self, side: int, data: bytes, lost: int = 0) -> None:
        self.open.seq[side] += lost
        self.feed(replace(block([self.open.packet(side, ACK, data)]), within="tls"))

    def finish(self) -> list[Entry]:
        self.entries += self.engine.finish()
        assert self.engine.ledger.check() == []
        return self.entries


def rows(entries: list[Entry]) -> list[tuple[Any, ...]]:
    return [(e.protocol, e.request and e.request.target, e.outcome, e.midstream) for e in entries]


@pytest.fixture
def wire() -> Wire:
    made = Wire()
    made.feed(ANNOUNCED)
    return made


def exchange(wire: Wire) -> None:
    wire.tell(0, ASK)
    wire.tell(1, ANSWER)


def test_it_is_a_flow_within_the_connection_and_takes_its_place(wire: Wire) -> None:
    wire.begin()
    wire.data()
    exchange(wire)
    wire.end()
    (entry,) = wire.finish()
    assert rows([entry]) == [("http", "/in", "ok", False)]
    assert entry.flow.reason.startswith("in tls: ")
    assert (entry.src.ip, entry.src.port, entry.dst.ip) == ("10.0.0.1", 40_000, "10.0.0.2")


def test_the_last_of_it_may_come_after_the_end(wire: Wire) -> None:
    wire.begin()
    wire.data()
    wire.end()
    exchange(wire)
    assert rows(wire.finish()) == [("http", "/in", "ok", False)]


def test_a_connection_of_which_nothing_comes_is_shown_a_moment_later(wire: Wire) -> None:
    wire.begin()
    wire.data()
    wire.end()
    assert wire.entries == []
    wire.entries += wire.engine.tick(START + 100 * GAP + 2_000_000_000)
    assert [e.protocol for e in wire.entries] == ["tcp"]
    assert len(wire.finish()) == 1


def test_without_such_a_backend_it_is_shown_at_once() -> None:
    wire = Wire()
    wire.begin()
    wire.data()
    wire.end()
    wire.entries += wire.engine.tick(START + 100 * GAP + 2_000_000_000)
    assert [e.protocol for e in wire.finish()] == ["tcp"]


def test_of_a_connection_that_nobody_sees_it_stands_alone(wire: Wire) -> None:
    exchange(wire)
    assert rows(wire.finish()) == [("http", "/in", "ok", True)]


def test_a_connection_that_is_seen_later_is_not_shown_beside_it(wire: Wire) -> None:
    exchange(wire)
    wire.data()
    wire.end()
    assert rows(wire.finish()) == [("http", "/in", "ok", True)]


def test_a_loss_is_a_gap_of_its_size(wire: Wire) -> None:
    wire.begin()
    wire.tell(0, ASK)
    wire.tell(1, ANSWER[:-2])
    wire.tell(0, ASK)
    wire.tell(1, ANSWER, lost=2)
    first = wire.finish()[0]
    assert (first.outcome, first.gap_bytes) == ("ok", 2)


def test_what_was_told_is_not_told_again(wire: Wire) -> None:
    wire.begin()
    wire.tell(0, ASK)
    wire.open.seq[0] -= len(ASK)
    wire.tell(0, ASK)
    wire.tell(1, ANSWER)
    assert len(wire.finish()) == 1


def test_another_connection_between_the_same_ends(wire: Wire) -> None:
    for _ in range(2):
        wire.begin()
        exchange(wire)
        wire.end()
        wire.open.seq = [1, 1]
        wire.sealed.seq = [seq + 70_000 & 0xFFFF_FFFF for seq in wire.sealed.seq]
    assert rows(wire.finish()) == [("http", "/in", "ok", False)] * 2


def test_of_too_many_that_stand_alone_the_oldest_ends(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CLEAR_FLOWS", 1)
    wire.tell(0, ASK)
    other = bytearray(Peers().packet(0, ACK, ASK))
    other[12:16] = b"\x0a\0\0\x09"
    wire.feed(replace(block([bytes(other)]), within="tls"))
    assert [e.outcome for e in wire.entries] == ["cut"]
    assert wire.engine.ledger.limits["clear_flows"] == 1
    assert len(wire.finish()) == 2
