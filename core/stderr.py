"""Lines to the user, on standard error."""

from __future__ import annotations

import select
import sys
from typing import Final

WAIT: Final = 200
"""Milliseconds that a line waits for who reads standard error. What we have to do does not depend on it."""


def say(text: str) -> None:
    """One line to the user; it is dropped where standard error is closed, or a pipe that nobody reads."""
    try:
        if _writable():
            sys.stderr.write(f"kshark: {text}\n")  # at once: a thread may speak, too
            sys.stderr.flush()
    except OSError:
        return


def _writable() -> bool:
    try:
        number = sys.stderr.fileno()
    except (OSError, ValueError):  # not a file: somebody took its place
        return True
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return bool(poll.poll(WAIT))
