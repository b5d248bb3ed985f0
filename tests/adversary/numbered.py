"""HTTP exchanges that carry their number in both halves, so that a wrong pair can be seen."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "wire"))
from craft import ACK, SECOND, START, Record, Talk, block, ether

from kshark import wire
from kshark.api import Entry, Message, ProtocolSpec
from kshark.engine import Engine, EngineSettings
from kshark.protocols import http, redis

__all__ = ["ACK", "SECOND", "START", "Record", "Talk", "block", "ether"]
SPECS: list[ProtocolSpec] = [*http.register_protocols(), *redis.register_protocols()]
NUMBER = re.compile(rb"id-\d+")
MS = 1_000_000


def ask(number: int, body: bytes = b"") -> bytes:
    """A request."""
    head = b"POST /id-%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (number, len(body))
    return head + body


def answer(number: int, body: bytes = b"hello") -> bytes:
    """Its response."""
    return b"HTTP/1.1 200 OK\r\nX: id-%d\r\nContent-Length: %d\r\n\r\n%s" % (
        number,
        len(body),
        body,
    )


def serial(count: int, ports: tuple[int, int] = (40_000, 80)) -> Talk:
    """A connection with `count` exchanges, one after another: the packets 3, 4, 5, ... ask and answer."""
    talk = Talk(ports=ports).open()
    for number in range(count):
        talk.send(0, ask(number))
        talk.send(1, answer(number))
    return talk


def timed(packets: Sequence[bytes], step: int = MS, start: int = START) -> list[Record]:
    """The packets, `step` ns apart."""
    return [Record(ether(packet), start + i * step) for i, packet in enumerate(packets)]


def played(
    records: Sequence[Record],
    monkeypatch: pytest.MonkeyPatch,
    cls: Any,
    *,
    at_once: int = 0,
    settings: EngineSettings | None = None,
) -> list[Entry]:
    """The entries of a capture, `at_once` packets a block (0: all); whatever it was, the laws hold."""
    monkeypatch.setattr(wire, "load", lambda: cls)
    engine = Engine(SPECS, settings)
    size = at_once or max(1, len(records))
    entries = []
    for at in range(0, len(records), size):
        entries += engine.feed(block(records[at : at + size]))
    entries += engine.finish()
    assert engine.ledger.check() == []
    assert engine.ledger.snapshot()["packets"]["open"] == 0
    assert engine.tally.reserved == 0
    assert engine.wire.memory == 0
    for entry in entries:
        assert (entry.latency_ns or 0) >= 0
        asked, answered = numbers(entry.request), numbers(entry.response)
        assert not asked or not answered or asked & answered, f"wrong pair: {asked} {answered}"
    return entries


def numbers(message: Message | None) -> set[bytes]:
    """The numbers in a message."""
    if message is None:
        return set()
    return set(NUMBER.findall(message.target.encode() + message.head + message.body))


def outcomes(entries: Sequence[Entry]) -> Counter[str]:
    """How many of each."""
    return Counter(entry.outcome.value for entry in entries)
