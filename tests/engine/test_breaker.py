"""The breaker: shares of time by samples, and an end to a feed that would never return."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from fakes import TOY, Table, rows

from kshark import limits
from kshark.api import ProtocolSpec, Side
from kshark.breaker import PERIOD_NS, Charge, Overrun, Post, ProtocolState, Watch, ring, silence
from kshark.ledger import Tally
from kshark.wire import END_FIN

STUCK = limits.BREAKER_FEED // PERIOD_NS


class Ticks:
    """A clock of which each look takes a period."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        self.now += PERIOD_NS
        return self.now


def watched() -> tuple[Watch, Tally, ProtocolState, list[Charge]]:
    tripped: list[Charge] = []
    tally = Tally()
    return Watch(tally, tripped.append, Ticks()), tally, ProtocolState(TOY, True), tripped


def stick(watch: Watch, tally: Tally, state: ProtocolState) -> None:
    tally.current = state
    tally.feeds += 1
    for _ in range(STUCK):
        watch.sample()
    with pytest.raises(Overrun):
        watch.sample()
    tally.current = None


def test_one_call_that_does_not_return_is_interrupted() -> None:
    watch, tally, state, tripped = watched()
    stick(watch, tally, state)
    assert (state.offences, tripped) == (1, [])


def test_several_within_the_window_trip_the_breaker() -> None:
    watch, tally, state, tripped = watched()
    for _ in range(limits.BREAKER_OFFENCES):
        stick(watch, tally, state)
    assert tripped == [state]
    assert state.tripped == "toy is switched off: a call took over 0.25 s, 3 times"


def test_a_window_without_an_offence_forgives() -> None:
    watch, tally, state, tripped = watched()
    for _ in range(2 * limits.BREAKER_OFFENCES):
        stick(watch, tally, state)
        for _ in range(2 * limits.BREAKER_WINDOW // PERIOD_NS):
            watch.sample()
    assert tripped == []


def test_quick_calls_never_offend() -> None:
    watch, tally, state, tripped = watched()
    tally.current = state
    for _ in range(5 * STUCK):
        tally.feeds += 1
        watch.sample()
    assert (state.offences, tripped) == (0, [])


def test_a_machine_that_slept_blames_nobody() -> None:
    ticks = Ticks()
    tally, state = Tally(), ProtocolState(TOY, True)
    watch = Watch(tally, lambda charge: None, ticks)
    tally.current = state
    watch.sample()
    ticks.now += 100 * limits.SECOND
    watch.sample()
    assert state.offences == 0


def test_a_call_that_swallows_the_interruption_gets_it_again_and_is_called_deaf() -> None:
    watch, tally, state, _ = watched()
    tally.current = state
    raised = 0
    for _ in range((limits.BREAKER_FEED + limits.BREAKER_DEAF) // PERIOD_NS + 1):
        assert not watch.deaf
        try:
            watch.sample()
        except Overrun:
            raised += 1
    assert (raised, state.offences) == (limits.BREAKER_DEAF // PERIOD_NS + 1, 1)
    assert watch.deaf == "toy"


def test_calls_that_nest_are_each_held_to_their_own_patience() -> None:
    post, tripped = Post(), list[Charge]()
    watch = Watch(post, tripped.append, Ticks())
    outer, inner = Charge("outer", limits.BREAKER_CALL), Charge("inner")

    def renders() -> int:
        while True:
            post.call(inner, watch.sample)

    with pytest.raises(Overrun) as stopped:
        post.call(outer, renders)
    assert stopped.value.charge is outer
    assert (outer.offences, inner.offences) == (1, 0)
    assert post.calls == []


@pytest.mark.parametrize(("fed", "trips"), [(1_000, True), (100_000_000, False)])
def test_share_of_time_counts_by_the_byte(fed: int, trips: bool) -> None:
    watch, tally, state, tripped = watched()
    tally.current = state
    for _ in range(limits.BREAKER_WINDOW // PERIOD_NS):
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
    ring(watch.on_signal)
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
        silence()
    assert any("spins: it took over 0.25 s" in line for line in t.said)
    assert t.engine.ledger.check() == []
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


def test_a_signal_on_its_way_ends_nobody() -> None:
    """The timer rang just before it was taken away, and the process lives."""
    script = """
import os, signal
from kshark.breaker import Post, Watch, ring, silence
ring(Watch(Post(), print).on_signal)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
os.kill(os.getpid(), signal.SIGALRM)
silence()
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
print("alive")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "alive\n"
