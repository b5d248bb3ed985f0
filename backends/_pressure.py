"""What is taken less of while calls come faster than they can be told: first bytes of each, then connections.

Never single calls: of a connection that is told all calls are, with their sizes. One step a look, down where the ring
overflowed or has little room, up after a while of quiet. Without a clock: `look` is called once a second.
"""

from __future__ import annotations

from typing import Final, NamedTuple

SMALLEST: Final = 256
"""Bytes of a call below which the payload is not lowered: heads of requests, and what identifies a protocol."""
CUT: Final = 4
"""By how much a step lowers the payload."""
MOST_LEFT_OUT: Final = 64
"""Of so many connections one is told, at the least."""
FULL, EASY = 0.5, 0.1
"""Parts of the ring: above the first it is about to overflow, below the second there is room."""
QUIET: Final = 5
"""Looks without pressure before a step back."""


class Step(NamedTuple):
    """Bytes taken of each call, and of how many connections one is told."""

    payload: int
    one_in: int


class Pressure:
    """Which step holds."""

    def __init__(self, payload: int) -> None:
        self.steps = [Step(payload, 1)]
        while payload // CUT >= SMALLEST:
            payload //= CUT
            self.steps.append(Step(payload, 1))
        while (one_in := self.steps[-1].one_in * 2) <= MOST_LEFT_OUT:
            self.steps.append(Step(payload, one_in))
        self.at = self.worst = 0
        self._quiet = 0

    @property
    def step(self) -> Step:
        return self.steps[self.at]

    def look(self, lost: int, fill: float) -> bool:
        """Records lost since the last look, and how full the ring was; whether the step has changed."""
        before = self.at
        if lost or fill > FULL:
            self.at, self._quiet = min(self.at + 1, len(self.steps) - 1), 0
        elif fill < EASY:
            self._quiet += 1
            if self._quiet >= QUIET:
                self.at, self._quiet = max(self.at - 1, 0), 0
        self.worst = max(self.worst, self.at)
        return self.at != before
