"""The breakers' timer for who uses kshark as a library: borrowed, and only while code of plugins may run.

A run of its own has SIGALRM to itself. Here the process is the caller's: the handler and the timer are installed when
kshark calls into an engine or a plugin, and both are as they were when that call returns, so that the caller's own
code is never interrupted. Nothing is borrowed outside of the main thread, where Python handles no signals, and where
somebody else uses SIGALRM or its timer: there a plugin that spins is interrupted by nobody. The timer begins anew with
each call: a plugin that is slow in every one of many calls, but never for long, is not switched off here.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

from kshark.breaker import Charge, Post, Watch, ring, silence

T = TypeVar("T")


class Alarm(Post):
    """Whose code runs, and a timer that looks, while it does."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self.say = say
        self.watches: list[Watch] = []
        self.running = False
        self.deaf = ""  # who does not let itself be interrupted: it was said

    def call(self, charge: Charge, function: Callable[..., T], *arguments: Any) -> T:
        given: T = self.work(super().call, charge, function, *arguments)
        return given

    def work(self, function: Callable[..., T], *arguments: Any) -> T:
        """Let the timer run meanwhile."""
        if self.running or not free():
            return function(*arguments)
        self.running = True
        ring(self.ring)
        try:
            return function(*arguments)
        finally:
            silence()
            self.running = False

    def ring(self, number: int, frame: FrameType | None) -> None:
        for watch in self.watches:
            if watch.deaf and watch.deaf != self.deaf:
                self.deaf = watch.deaf
                self.say(f"{watch.deaf} cannot be interrupted: it catches every exception")
            watch.sample(frame)


def free() -> bool:
    """Whether nobody uses SIGALRM, and this thread may."""
    return (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
        and not any(signal.getitimer(signal.ITIMER_REAL))
    )
