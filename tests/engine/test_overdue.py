"""A request by key is not given up while its dissector says that the answer has begun."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from fakes import Table, rows

from kshark import limits
from kshark.api import Item, Kind, Message, ProtocolSpec, Side


class Slow:
    """``key verb``; an answer ``key more`` is not the last of it."""

    def __init__(self) -> None:
        self.begun: set[int] = set()

    def feed(self, side: Side, data: bytes) -> Iterable[Item]:
        key, verb = data.decode().split()
        if verb == "more":
            self.begun.add(int(key))
            return []
        kind = Kind.RESPONSE if side else Kind.REQUEST
        return [Message(int(kind), verb, key=int(key), size=len(data))]

    def gap(self, side: Side, missing: int) -> Iterable[Item]:
        return ()

    def close(self) -> Iterable[Item]:
        return ()

    def answering(self, side: Side, key: int) -> bool:
        assert side is Side.SERVER
        return key in self.begun


class Broken(Slow):
    def answering(self, side: Side, key: int) -> bool:
        raise ZeroDivisionError


def spec(dissector: type) -> ProtocolSpec:
    return ProtocolSpec(name="slow", dissector=dissector, magic=(b"1 ",))


def test_what_is_being_answered_waits(table: type[Table]) -> None:
    t = table(spec(Slow))
    guard = t.open()
    t.talk(guard, "> 1 get\n> 2 get\n< 1 more")
    t.ns += limits.UNANSWERED
    assert rows(t.engine.tick(t.ns)) == [("get", "-", "unanswered")]  # the second
    for _ in range(5):
        t.ns += limits.UNANSWERED
        assert t.engine.tick(t.ns) == []
    assert rows(t.talk(guard, "< 1 done")) == [("get", "done", "ok")]
    assert t.engine.tally.reserved == guard.reserved


def test_how_many_is_bounded_all_the_same(table: type[Table]) -> None:
    t = table(spec(Slow))
    guard = t.open()
    t.talk(guard, "> 1 get")
    guard.dissector.begun.update(range(2 * limits.WAITING))
    for key in range(2, limits.WAITING + 2):
        guard.chunk(0, b"%d get" % key, t.ns)
    assert rows(t.engine.take()) == [("get", "-", "unanswered")]
    t.ns += 2 * limits.UNANSWERED
    assert t.engine.tick(t.ns) == []
    guard.end(0, t.ns)
    assert len(t.engine.take()) == limits.WAITING


@pytest.mark.parametrize("when", [0, 1])
def test_one_that_fails_is_blamed(table: type[Table], when: int) -> None:
    t = table(spec(Broken))
    guard = t.open()
    t.talk(guard, "> 1 get")
    t.ns += limits.UNANSWERED + when
    assert rows(t.engine.tick(t.ns)) == [("get", "-", "unanswered")]
    assert "ZeroDivisionError" in t.said[0]
