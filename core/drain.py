"""The end of a run: how long each sink may take for what waits in its queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Final

from kshark.lane import Lane

DRAIN: Final = 10.0
"""Seconds that a sink has once the run is stopped ..."""
GRACE: Final = 3.0
"""... if it takes something: one that takes nothing for so long is given up after a signal."""
STALL: Final = 30.0
"""Seconds without an entry taken, after which a sink is given up; not so while it waits for a reader who
shall have everything: ``| less``."""
STALLED: Final = 10.0
"""Seconds without an entry taken, after which the user is told."""
CANCEL_WAIT: Final = 1.0
"""Seconds that a sink has to end once it was cancelled; then it is left as it is."""
LOOK: Final = 0.1
"""Seconds between two looks."""


class Haste(IntEnum):
    """Why a run ends."""

    NONE = 0  # its backends have ended
    BOUND = 1  # --count, --duration
    SIGNAL = 2
    NOW = 3  # the second signal


class Patience:
    """How long one sink is waited for."""

    def __init__(self, lane: Lane, now: float) -> None:
        self.lane = lane
        self.begun = self.moved = now
        self.delivered = lane.delivered
        self.deadline = 0.0  # after a signal

    def idle(self, now: float) -> float:
        """Seconds since it took something."""
        if self.lane.delivered != self.delivered:
            self.delivered, self.moved = self.lane.delivered, now
        return now - self.moved

    def ends(self, now: float, haste: Haste) -> bool:
        """Whether it is given up."""
        idle = self.idle(now)
        if haste >= Haste.SIGNAL:
            self.deadline = self.deadline or now + DRAIN
            return haste is Haste.NOW or idle >= GRACE or now >= self.deadline
        if self.lane.patient:
            return False
        return idle >= STALL or (haste is Haste.BOUND and now - self.begun >= DRAIN)


async def drained(
    tasks: Mapping[asyncio.Task[None], Lane],
    haste: Callable[[], Haste],
    say: Callable[[str], None],
) -> None:
    """Wait until every sink's task has delivered what waits, or is given up."""
    clock = asyncio.get_running_loop().time
    waits = {task: Patience(lane, clock()) for task, lane in tasks.items()}
    while pending := [task for task in waits if not task.done()]:
        now = clock()
        late = [task for task in pending if waits[task].ends(now, haste())]
        if late:
            say(f"not waiting for {', '.join(tasks[task].name for task in late)} any longer")
            for task in await _cancelled(late):  # it does not care: what it has counts as lost
                tasks[task].abandon("stopped", asyncio.CancelledError())
                del waits[task]
            continue
        for wait in map(waits.__getitem__, pending):
            if not wait.lane.told and wait.idle(now) >= STALLED:
                wait.lane.told = True
                say(f"sink {wait.lane.name}: nothing taken for {STALLED:.0f} s; "
                    f"{wait.lane.queued} wait (Ctrl-C leaves without them)")  # fmt: skip
        await asyncio.wait(pending, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)


async def _cancelled(tasks: list[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Cancel them; gives those that go on all the same."""
    for task in tasks:
        task.cancel()
    _, deaf = await asyncio.wait(tasks, timeout=CANCEL_WAIT)
    return deaf
