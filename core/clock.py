"""What time it is for the flows of a backend while no packets come."""

from __future__ import annotations

import struct
import time
from typing import Final

from kshark.api import INDEX_FORMAT, Block
from kshark.limits import SECOND

IDLE: Final = 0.1
"""Seconds without packets after which none is on its way: in a pipe, or in the ring of a backend that is behind."""
_RECORD: Final = struct.Struct(INDEX_FORMAT)


class Clock:
    """Live packets are dated by this machine's clock. Those of a pipe or a growing file have their own time.

    Who writes these may keep them back for as long as those of the last block were apart: `tcpdump` without -U.
    """

    def __init__(self, live: bool) -> None:
        self._live = live
        self._since = 0.0
        self._last = 0  # time of the last packet, ns
        self._lag = 0  # ns

    def block(self, block: Block, now: int) -> None:
        """A block has come; `now` is the time that the wire believes, whatever one packet says."""
        count = min(block.count, len(block.index) // _RECORD.size)  # a broken backend may say more
        if count:
            first, *_ = _RECORD.unpack_from(block.index, 0)
            last, *_ = _RECORD.unpack_from(block.index, (count - 1) * _RECORD.size)
            self._lag = max(0, min(last, now) - first)
            self._last = max(self._last, now, min(last, self._passed()))

    def _passed(self) -> int:
        """What time it may be: as much as has really passed is believed, even if nothing follows to confirm it."""
        if self._live:
            return time.time_ns()
        return self._last and self._last + int((time.monotonic() - self._since) * SECOND)

    def wait(self) -> None:
        """It is waited for the next one."""
        self._since = time.monotonic()

    def now(self, waiting: bool) -> int:
        """The time in ns; 0 where it is not known, since packets are on their way whose time may be earlier."""
        idle = time.monotonic() - self._since
        if self._live:  # who is behind, or held up by a sink, has what has come since in its ring
            return time.time_ns() if waiting and idle >= IDLE else self._last
        if not waiting or idle < IDLE:
            return 0
        idle_ns = int(idle * SECOND) - self._lag
        return self._last + idle_ns if self._last and idle_ns > 0 else 0
