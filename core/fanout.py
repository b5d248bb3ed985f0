"""Every sink with its queue (`kshark.lane`): opened, fed, drained, closed, counted.

`Fanout.put` never loses half a batch to a cancellation: it hands over first and waits afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from kshark import limits
from kshark.api import Entry, PluginError, Sink
from kshark.drain import STALLED, Haste, drained
from kshark.errors import explain, stdout_gone
from kshark.lane import Lane, LaneOptions, Select

OPEN_WAIT: Final = 30.0
"""Seconds that a sink has to open."""
CLOSE_WAIT: Final = 10.0
"""Seconds that a sink has to close."""
CALM: Final = 60
"""Looks, of one a second, without a loss after which the next one is news."""
OVERFLOW: Final = ("oldest", "sampled", "full")
"""Why a lane drops what its queue does not hold."""


class Fanout:
    """All lanes of a run: open, put, drain."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.lanes: list[Lane] = []
        self.tasks: dict[asyncio.Task[None], Lane] = {}
        self.dead = asyncio.Event()  # no lane is left
        self.idle: dict[str, tuple[int, int]] = {}  # by lane: delivered, and for how many looks
        self.losing: dict[
            str, tuple[int, int]
        ] = {}  # by lane: lost, and for how many looks no more

    def add(
        self,
        name: str,
        sink: Sink,
        options: LaneOptions,
        *,
        live: bool,
        select: Select | None = None,
        missed: Callable[[], int] = lambda: 0,
    ) -> None:
        policy = options.policy or ("drop_oldest" if live else "block")
        size = options.queue or (limits.QUEUE if live else limits.READ_AHEAD)
        self.lanes.append(Lane(name, sink, policy, size, select, missed))

    async def open(self) -> None:
        """Open every sink, then start their tasks; if one cannot open, the opened are closed."""
        for number, lane in enumerate(self.lanes):
            try:
                await self._open(lane)
            except BaseException:
                for opened in self.lanes[:number]:
                    await self._close(opened)
                raise
        for lane in self.lanes:
            task = asyncio.ensure_future(lane.run())
            self.tasks[task] = lane
            task.add_done_callback(self._ended)

    async def _open(self, lane: Lane) -> None:
        task = asyncio.ensure_future(lane.sink.open())
        try:
            done, _ = await asyncio.wait({task}, timeout=OPEN_WAIT)
        finally:
            task.cancel()
        if not done:
            raise PluginError(f"sink {lane.name}: it did not open within {OPEN_WAIT:g} s")
        try:
            task.result()
        except PluginError:
            raise
        except BaseException as error:  # a sink may raise anything
            raise PluginError(f"sink {lane.name}: {explain(error)}") from error

    def _ended(self, task: asyncio.Task[None]) -> None:
        lane = self.tasks[task]
        if lane.failure is not None and lane.end == "failed":
            lost = lane.refused.get("failed", 0)
            why = explain(lane.failure)
            self.say(f"sink {lane.name} failed: {why}; {lost} waiting entries lost")
        if all(one.failure is not None for one in self.lanes):
            self.dead.set()

    def offer(self, batch: Sequence[Entry]) -> None:
        """Give a batch to every sink, without waiting for any."""
        if batch:
            for lane in self.lanes:
                lane.offer(batch)

    async def put(self, batch: Sequence[Entry]) -> None:
        """Give a batch to every sink; wait for those that block."""
        self.offer(batch)
        for lane in self.lanes:
            if lane.policy == "block" and lane.full:
                await lane.room()

    def notice_stalls(self) -> None:
        """Called once a second: say it once when a sink takes nothing for `STALLED` seconds."""
        for lane in self.lanes:
            before, looks = self.idle.get(lane.name, (0, 0))
            looks = looks + 1 if lane.queued and lane.delivered == before else 0
            self.idle[lane.name] = (lane.delivered, looks)
            lane.told = looks >= STALLED
            if looks == STALLED:
                self.say(f"sink {lane.name}: nothing taken for {looks} s; {lane.queued} wait")

    def notice_losses(self) -> None:
        """Called once a second: say it when a sink's queue overflows, and once more after a minute without."""
        for lane in self.lanes:
            if lane.failure is not None:
                continue
            before, calm = self.losing.get(lane.name, (0, CALM))
            lost = sum(lane.refused.get(reason, 0) for reason in OVERFLOW)
            if lost > before and calm >= CALM:
                self.say(
                    f"sink {lane.name} is the limit: its queue is full, entries are lost;"
                    " a filter, another policy or a larger queue may help"
                )
            self.losing[lane.name] = (lost, 0 if lost > before else calm + 1)

    def release(self) -> None:
        """Nobody waits for room any more: the run shall end."""
        for lane in self.lanes:
            lane.release()

    async def drain(self, haste: Callable[[], Haste] = lambda: Haste.NONE) -> None:
        """Let the sinks finish what waits, as long as they may, then close them."""
        for lane in self.lanes:
            lane.shut()
        await drained(self.tasks, haste, self.say)
        await asyncio.gather(*map(self._close, self.lanes))

    async def _close(self, lane: Lane) -> None:
        task = asyncio.ensure_future(lane.sink.close())
        done, _ = await asyncio.wait({task}, timeout=CLOSE_WAIT)
        if not done:
            task.cancel()
            self._failed_to_close(lane, TimeoutError(), f"did not close within {CLOSE_WAIT:g} s")
            return
        try:
            task.result()
        except BaseException as error:  # as above: a sink may raise anything
            self._failed_to_close(lane, error, f"failed to close: {explain(error)}")

    def _failed_to_close(self, lane: Lane, error: BaseException, what: str) -> None:
        if lane.failure is None:
            lane.failure = error
            lane.end = "unread" if stdout_gone(error) else "failed"
            if lane.end == "failed":
                self.say(f"sink {lane.name} {what}")

    @property
    def failed(self) -> bool:
        """Whether a sink failed."""
        return any(lane.end == "failed" for lane in self.lanes)

    @property
    def lost(self) -> int:
        """Entries that a sink should have had and did not get.

        A reader of our standard output who had seen enough (``| head``) lost nothing.
        """
        return sum(sum(lane.dropped.values()) for lane in self.lanes if lane.end != "unread")

    def snapshot(self) -> dict[str, dict[str, Any]]:
        return {lane.name: lane.snapshot() for lane in self.lanes}
