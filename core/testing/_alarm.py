"""An interrupt for what takes too long: by timers' signals, in the main thread; elsewhere none."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

ASLEEP: Final = 10
"""Times as long what only waits may take: on a busy machine everybody waits."""
TIMERS: Final = (
    (signal.SIGPROF, signal.ITIMER_PROF, 1),
    (signal.SIGALRM, signal.ITIMER_REAL, ASLEEP),
)


AGAIN: Final = 0.2
"""s after which it rings again, for whoever catches everything and goes on."""


class TooSlow(BaseException):
    """Raised inside of what takes too long; no ``except Exception`` of a plugin swallows it."""


class Bell:
    """Whether it rang."""

    def __init__(self) -> None:
        self.on = True
        self.error: TooSlow | None = None


_set: list[Bell] = []


@contextmanager
def alarm(seconds: float) -> Iterator[Bell]:
    """`TooSlow` inside the block after so many seconds of processor time. Within another one: only that."""
    bell = Bell()
    if _set or threading.current_thread() is not threading.main_thread():
        yield bell
        return

    def ring(number: int, frame: FrameType | None) -> None:
        if bell.on:
            bell.error = TooSlow()
            raise bell.error

    before = [signal.signal(number, ring) for number, _, _ in TIMERS]
    for _, timer, times in TIMERS:
        signal.setitimer(timer, seconds * times, AGAIN * times)
    _set.append(bell)
    try:
        yield bell
    finally:
        bell.on = False
        _set.clear()
        for (number, timer, _), handler in zip(TIMERS, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)
