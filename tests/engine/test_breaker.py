"""The breaker: shares of time by samples, and an end to a feed that would never return."""

from __future__ import annotations

import signal
import time

import pytest
from fakes import TOY, Table, rows

from kshark import limits
from kshark.api import ProtocolSpec, Side
from kshark.breaker import PERIOD, Overrun, ProtocolState, Watch
from kshark.ledger import Tally
from kshark.wire import END_FIN

STUCK = int(limits.BREAKER_FEED / limits.SECOND / PERIOD)


def watched() -> tuple[Watch, Tally, ProtocolState, list[ProtocolState]]:
    tripped: list[ProtocolState] = []
    tally = Tally()
    return Watch(tally, tripped.append), tally, ProtocolState(TOY, True), tripped


def stick(watch: Watch, tally: Tally, state: ProtocolState) -> None:
    tally.current = state
    tally.feeds += 1
    for _ in range(STUCK):
        watch.sample()
    with pytest.raises(Overrun):
        watch.sample()
    tally.current = None


def test_one_feed_that_does_not_return_is_interrupted() -> None:
    watch, tally, state, tripped = watched()
    stick(watch, tally, state)
    assert (state.offences, tripped) == (1, [])


def test_several_within_the_window_trip_the_breaker() -> None:
    watch, tally, state, tripped = watched()
    for _ in range(limits.BREAKER_OFFENCES):
        stick(watch, tally, state)
    assert tripped == [state]
    assert "too long" in state.tripped


def test_quick_feeds_never_offend() -> None:
    watch, tally, state, tripped = watched()
    tally.current = state
    for _ in range(5 * STUCK):
        tally.feeds += 1
        watch.sample()
    assert (state.offences, tripped) == (0, [])


@pytest.mark.parametrize(("fed", "trips"), [(1_000, True), (100_000_000, False)])
def test_share_of_time_counts_by_the_byte(fed: int, trips: bool) -> None:
    watch, tally, state, tripped = watched()
    tally.current = state
    for _ in range(int(limits.BREAKER_WINDOW / limits.SECOND / PERIOD)):
        tally.feeds += 1
        state.bytes += fed // 200
        watch.sample()
    assert bool(tripped) == trips


class Spins:
    """An endless loop in plain Python."""

    def feed(self, side: Side, data: bytes) -> list[object]:
        while True:
            pass

    def gap(self, side: Side, missing: int) -> list[object]:
        return []

    def close(self) -> list[object]:
        return []


def test_a_spinning_dissector_is_stopped_for_real(table: type[Table]) -> None:
    t = table(ProtocolSpec(name="spins", dissector=Spins, magic=(b"SPIN",)), TOY)  # type: ignore[arg-type]
    watch = t.engine.watch_dissectors()
    watch.start()
    try:
        for _ in range(limits.BREAKER_OFFENCES):
            guard = t.open()
            assert guard.chunk(0, b"SPIN", 5), "the flow turned opaque"
            guard.end(END_FIN, 6)
        assert "switched off" in t.engine.states["spins"].tripped
        started = time.process_time()
        guard = t.open()
        assert guard.chunk(0, b"SPIN", 5)
        assert time.process_time() - started < limits.BREAKER_FEED / limits.SECOND
        guard.end(END_FIN, 6)
        t.engine.take()
        assert rows(t.talk(t.open(), "> TOY a\n < OK")) == [("TOY a", "OK", "ok")]
    finally:
        watch.stop()
    assert any("Overrun" in line for line in t.said)
    assert t.engine.ledger.check() == []
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
