"""Signals of ``kshark run``, from its first moment to its last.

They are counted from before the slow imports on. Once there is a run, it is told: the first asks it to
stop, the second to hurry, and the third leaves at once, whatever hangs. SIGHUP has a run that has a
configuration file read it again, unless its terminal has gone. Where there is none yet, the
second leaves. After the run they are ignored: what is left to do takes no time, and its exit code shall be seen.
Python's own handlers, so that they work in a blocked event loop.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from kshark.stderr import say

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LEFT: Final = 1  # the exit code of a run that was left at once: something may be lost


class Interrupts:
    """The signals of a process, counted."""

    def __init__(self) -> None:
        self.count = 0
        self._tell: Callable[[int], None] | None = None
        self._renew: Callable[[], None] | None = None
        self._terminal = False  # there was one when we began
        self._over = False  # the run has ended
        self._before: dict[signal.Signals, Any] = {}

    @property
    def installed(self) -> bool:
        return bool(self._before)

    def install(self) -> None:
        """Hear them; those that are ignored (nohup, sh's "&") stay so."""
        heard = [n for n in SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
        self._terminal = terminal()
        self._before = {number: signal.signal(number, self._on_signal) for number in heard}

    def remove(self) -> None:
        """Put back what was there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def attach(self, tell: Callable[[int], None], renew: Callable[[], None] | None = None) -> None:
        """`tell` is called with the number of each of the first two, those before included.

        With `renew` a SIGHUP asks for that, where it does not come from a terminal that has gone.
        """
        self._tell, self._renew = tell, renew
        for number in range(1, self.count + 1):
            tell(number)

    def end(self) -> None:
        """The run is over. Only a handler that is none survives the end of the interpreter."""
        self._over = True
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def detach(self) -> None:
        """The run is over, the process goes on: further signals change nothing."""
        self._over = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._over:
            return
        if number == signal.SIGHUP and self._renew is not None and terminal() == self._terminal:
            self._renew()
            return
        self.count += 1
        if self.count > (1 if self._tell is None else 2):
            say("left at once")
            os._exit(LEFT)
        if self._tell is not None:
            self._tell(self.count)


def terminal() -> bool:
    """Whether this process has a terminal that would end it by SIGHUP: one that is closed is had no more."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


EARLY: Final = Interrupts()
"""Those of this process, where it is ``kshark run`` (`kshark.__main__`)."""
