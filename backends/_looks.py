"""Reading a ring that wakes nobody: when to look at it again, and lending out what lies in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from kshark.limits import KIB, MIB

BLOCK: Final = MIB
"""Bytes of the ring that are handed over at once."""
ROW: Final = 24
"""Bytes of an index record (`kshark.api.INDEX_FORMAT`)."""
SHORTEST, LONGEST = 0.005, 0.03
"""Seconds between two looks: after one that found something, and when nothing has come for a while."""
BUSY: Final = 64 * KIB
"""Bytes found at one look that mean that the next one shall follow at once."""


def room(least: int) -> bytearray:
    """For the index records of a block whose records have `least` bytes or more."""
    return bytearray((BLOCK // least + 1) * ROW)


class Pace:
    """The longer nothing comes, the longer the pause; much at once, and there is none."""

    def __init__(self) -> None:
        self._pause = SHORTEST

    def pause(self, found: int) -> float:
        """Seconds until the next look, after one that found so many bytes."""
        self._pause = SHORTEST if found else min(self._pause * 2, LONGEST)
        return 0 if found >= BUSY else self._pause


@contextmanager
def lent(views: Iterable[memoryview]) -> Iterator[None]:
    """Views of the ring that are borrowed within: released at the end, as far as nobody has exported them once more."""
    yield
    for view in views:
        try:
            view.release()
        except BufferError:
            continue  # its bytes will change under whoever did that
