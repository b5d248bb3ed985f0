"""A dissector over its budget is switched off, and the capture goes on.

Nothing is measured per call. A timer samples whose dissector runs at that moment (`Tally.current`): the
samples are each protocol's share of time, and a feed that is still the same after several samples is too
long, even if it would never return: the sampler then raises `Overrun` inside it, since a Python signal
handler runs in the main thread between two of its bytecodes.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

from kshark import limits
from kshark.api import ProtocolSpec
from kshark.ledger import Tally

PERIOD = 0.05  # s between samples: 20 wake-ups a second


class Overrun(Exception):
    """Raised inside a feed() that takes longer than BREAKER_FEED."""


class ProtocolState:
    """What one engine knows of one protocol: its counters and whether its breaker has tripped."""

    def __init__(self, spec: ProtocolSpec, strict: bool) -> None:
        self.spec = spec
        self.name = spec.name
        self.strict = strict  # a stranger's messages are checked
        self.tripped = ""  # why its flows are opaque from now on
        self.flows = 0
        self.bytes = 0
        self.errors = 0  # unexpected exceptions
        self.samples = 0
        self.offences = 0
        self.window_bytes = 0  # `bytes` when the window began
        self.window_samples = 0


class Watch:
    """Samples one engine's tally. `sample` is what the timer calls; tests call it themselves."""

    def __init__(self, tally: Tally, tripped: Callable[[ProtocolState], None]) -> None:
        self.tally = tally
        self.tripped = tripped
        self.last = -1  # the feed that ran at the last sample
        self.same = 0  # samples in a row that saw it
        self.ticks = 0
        self.seen: set[ProtocolState] = set()

    def start(self) -> None:
        """Install the timer (SIGALRM); main thread only."""
        signal.signal(signal.SIGALRM, self.on_signal)
        signal.siginterrupt(signal.SIGALRM, False)
        signal.setitimer(signal.ITIMER_REAL, PERIOD, PERIOD)

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        self.sample()

    def sample(self) -> None:
        """One look; raises `Overrun` where a feed runs too long."""
        self.ticks += 1
        if self.ticks * PERIOD * limits.SECOND >= limits.BREAKER_WINDOW:
            self.close_window()
        state = self.tally.current
        if not isinstance(state, ProtocolState):
            self.last = -1
            return
        state.samples += 1
        self.seen.add(state)
        self.same = self.same + 1 if self.tally.feeds == self.last else 0
        self.last = self.tally.feeds
        if self.same * PERIOD * limits.SECOND >= limits.BREAKER_FEED:
            self.same = 0
            self.offend(state)
            raise Overrun(f"feed() over {limits.BREAKER_FEED / limits.SECOND:g} s")

    def offend(self, state: ProtocolState) -> None:
        state.offences += 1
        if state.offences >= limits.BREAKER_OFFENCES and not state.tripped:
            self.trip(
                state, f"{state.name} is switched off: feed() took too long, {state.offences} times"
            )

    def close_window(self) -> None:
        """Judge shares of the window that ends, begin the next."""
        for state in self.seen:
            spent = (state.samples - state.window_samples) * PERIOD * limits.SECOND
            fed = max(1, state.bytes - state.window_bytes)
            if (
                spent >= limits.BREAKER_SHARE
                and spent / fed > limits.BREAKER_RATE
                and not state.tripped
            ):
                text = f"{spent / limits.SECOND:.1f} s for {fed} bytes"
                self.trip(state, f"{state.name} is switched off: too slow, {text}")
            state.window_samples, state.window_bytes = state.samples, state.bytes
            state.offences = 0
        self.ticks = 0

    def trip(self, state: ProtocolState, reason: str) -> None:
        state.tripped = reason
        self.tripped(state)
