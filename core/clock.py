"""What time it is for the flows of a backend while no packets come."""

from __future__ import annotations

import struct
import time
from typing import Final

from kshark.api import INDEX_FORMAT, Block
from kshark.limits import SECOND

IDLE: Final = 0.1
"""Seconds without packets after which none is on its way through a pipe."""
BEHIND: Final = 1.0
"""Seconds since a live source was asked for packets, after which what it holds is old."""
_RECORD: Final = struct.Struct(INDEX_FORMAT)


class Clock:
    """Live packets are dated by this machine's clock. Those of a pipe or a growing file have their own time.

    Who writes these may keep them back for as long as those of the last block were apart: `tcpdump` without -U.
    """

    def __init__(self) -> None:
        self._since = 0.0
        self._last = 0  # time of the last packet, ns
        self._lag = 0  # ns

    def block(self, block: Block, now: int) -> None:
        """A block has come; `now` is the time that the wire believes, whatever one packet says."""
        count = min(block.count, len(block.index) // _RECORD.size)  # a broken backend may say more
        if count:
            first, *_ = _RECORD.unpack_from(block.index, 0)
            last, *_ = _RECORD.unpack_from(block.index, (count - 1) * _RECORD.size)
            passed = self._last + int((time.monotonic() - self._since) * SECOND)
            self._lag = max(0, min(last, now) - first)
            # As much time as has really passed is believed, even if nothing follows this packet to confirm it.
            self._last = max(self._last, now, min(last, passed) if self._last else 0)

    def wait(self) -> None:
        """It is waited for the next one."""
        self._since = time.monotonic()

    def now(self, live: bool, waiting: bool) -> int:
        """The time in ns; 0 where packets are on their way, whose time may be earlier."""
        idle = time.monotonic() - self._since
        if live:  # not while a sink holds us up: what has come since is in the ring
            return time.time_ns() if waiting or idle < BEHIND else 0
        if not waiting or idle < IDLE:
            return 0
        idle_ns = int(idle * SECOND) - self._lag
        return self._last + idle_ns if self._last and idle_ns > 0 else 0
