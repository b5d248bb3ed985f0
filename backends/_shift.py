"""From the kernel's monotonic time, which programs stamp their records with, to the time of day."""

from __future__ import annotations

import time
from typing import Final

LOOK: Final = 1_000_000_000
"""Nanoseconds after which we look again whether the clock was set."""
STEP: Final = 1_000_000
"""Nanoseconds by which it must have been: less is the jitter of looking, and would shuffle packets."""


class Shift:
    """What to add to a time of CLOCK_MONOTONIC. Both clocks run at the same pace; setting one is what moves it."""

    def __init__(self) -> None:
        self._looked = time.monotonic_ns()
        self._shift = _measured()

    def now(self) -> int:
        now = time.monotonic_ns()
        if now - self._looked > LOOK:
            self._looked = now
            found = _measured()
            if abs(found - self._shift) > STEP:
                self._shift = found
        return self._shift


def _measured() -> int:
    """The best of a few looks: the one in which nothing came between."""
    found = []
    for _ in range(5):
        before = time.monotonic_ns()
        day = time.time_ns()
        after = time.monotonic_ns()
        found.append((after - before, day - (before + after) // 2))
    return min(found)[1]
