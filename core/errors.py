"""Errors as a user sees them, and the one that is none: a reader who has seen enough."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterator

from kshark.faults import told


def explain(error: BaseException | None) -> str:
    """An exception in one line, for a user."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}" + (f": {error.filename}" if error.filename else "")
    return told(error)


def stdout_gone(error: BaseException) -> bool:
    """Whether `error` is the end of who read our standard output (``| head``): no failure."""
    if not any(isinstance(e, OSError) and e.errno == errno.EPIPE for e in _chain(error)):
        return False
    poll = select.poll()
    poll.register(1, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and those that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def silence_stdout() -> None:
    """After a closed standard output: let the interpreter flush into nothing."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
