"""How long to wait before trying again."""

from __future__ import annotations

import random
from typing import Final

FIRST: Final = 0.1
"""Seconds before the first new try; doubles each time."""
LAST: Final = 30.0
"""Seconds between two tries at most."""


class Backoff:
    """Pauses that double, up to a bound, each shortened by chance so that many agents do not come at once."""

    def __init__(self, first: float = FIRST, last: float = LAST) -> None:
        self._first, self._last = first, last
        self.tries = 0

    def next(self, asked: float | None = None) -> float:
        """Seconds to wait; at least those that the server `asked` for."""
        pause = min(self._first * float(1 << min(self.tries, 32)), self._last)
        self.tries += 1
        return max(pause * random.uniform(0.5, 1.0), asked or 0.0)

    def reset(self) -> None:
        self.tries = 0
