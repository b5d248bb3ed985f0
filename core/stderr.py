"""Lines to the user, on standard error."""

from __future__ import annotations

import os
import select
import sys
from typing import Final

WAIT: Final = 200
"""Milliseconds that a line waits for who reads standard error. What we have to do does not depend on it."""


def say(text: str) -> None:
    """One line to the user; it is dropped where standard error is closed, or a pipe that nobody reads.

    It is written at once, past Python's buffers: a thread may speak, too, and a signal in the midst of it.
    """
    line = f"kshark: {text}\n"
    if sys.stderr is None:  # the process was begun without one
        return
    try:
        number = _number()
        if number < 0:
            print(line, end="", file=sys.stderr, flush=True)
        elif _writable(number):
            os.write(number, line.encode("utf-8", "backslashreplace"))
    except (
        OSError,
        RuntimeError,
        ValueError,
    ):  # of a stranger's: it is in the midst of a line, or closed
        return


def _number() -> int:
    """Its descriptor, -1 where somebody took its place."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return -1


def _writable(number: int) -> bool:
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return bool(poll.poll(WAIT))
