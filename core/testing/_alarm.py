"""An interrupt for what takes too long: by a timer's signal, in the main thread; elsewhere none."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TooSlow(BaseException):
    """Raised inside of what takes too long; no ``except Exception`` of a plugin swallows it."""


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """`TooSlow` inside the block after so many seconds."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
