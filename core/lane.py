"""A sink with its bounded queue, and what happens when it is full: the sink's policy.

``block``: the backends wait (right for files, and for a sink that must have everything; live, the
kernel then drops and counts). ``drop_oldest``: what has waited longest is dropped. ``sample``:
above half of the queue only every 2nd entry is taken, above three quarters every 4th, and so on, so
that a flood is thinned evenly.

The law, at every moment: ``entries == filtered + delivered + sum(dropped) + queued``. A queue overshoots by
at most one batch a backend, and only under ``block``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from kshark import _pure, limits
from kshark.api import Entry, Options, Sink, SinkBusy, SinkStats, option
from kshark.errors import stdout_gone

if TYPE_CHECKING or _pure.pure("kshark._rows"):
    from kshark.rows import weigh
else:
    try:
        from kshark._rows import weigh
    except ImportError:
        from kshark.rows import weigh

FIRST_PAUSE: Final = 0.01
"""Seconds before a busy sink is asked again; doubles each time."""
LAST_PAUSE: Final = 5.0
"""Seconds between two questions at most."""
BATCH: Final = 4_096
"""Entries given to a sink at once at most, where several batches wait."""
STRIDE: Final = 64
"""The policy ``sample`` takes every 64th entry at least, while there is room."""
NOTHING: Final = SinkStats()
"""Books of a sink that holds nothing."""
ASKED: Final = 0.25
"""Seconds between two questions to a busy sink, once nothing more comes."""


class LaneOptions(Options):
    """What every sink accepts beside its own options."""

    policy: Annotated[
        Literal["", "block", "drop_oldest", "sample"],
        option("What to do when its queue is full; by default block for files, drop_oldest live"),
    ] = ""
    queue: Annotated[
        int,
        msgspec.Meta(ge=0, le=10_000_000),
        option("Entries that may wait; 0 is the default: 65536 live, 4096 for files"),
    ] = 0
    filter: Annotated[
        str, option("Entries for which this holds alone: http && response.status >= 500")
    ] = ""


Select = Callable[[Sequence[Entry]], list[Entry]]
"""A filter: those of a batch that a sink shall have."""


class Lane:
    """A sink with its queue. `run` is its task."""

    def __init__(
        self,
        name: str,
        sink: Sink,
        policy: str,
        size: int,
        select: Select | None = None,
        missed: Callable[[], int] = lambda: 0,
    ) -> None:
        self.name = name
        self.sink = sink
        self.policy = policy
        self.size = size
        self.select = select
        self.missed = missed  # how many entries it could not show since we asked
        self.entries = 0
        self.unwanted = 0  # entries that the filter of this sink left out
        self.written = 0  # entries that the sink has taken
        self.refused: dict[str, int] = {}  # entries that it did not get, by reason
        self.busy = 0  # times that the sink raised SinkBusy
        self.failure: BaseException | None = None
        self.end = ""  # what became of entries after the failure: failed | stopped | unread
        self.waiting = 0
        self.flight = 0  # entries that the sink holds at this moment
        self.weight = 0  # bytes that wait
        self.queue: deque[tuple[Sequence[Entry], int]] = deque()
        self.closing = False
        self.told = False  # the user was, that it takes nothing
        self.released = False  # nobody shall wait for room any more
        self.last = asyncio.Event()  # nothing more comes
        self.wake = asyncio.Event()  # something waits, or the lane shall close
        self.moved = asyncio.Event()  # the queue got shorter

    @property
    def patient(self) -> bool:
        """Whether it waits for a reader who shall have everything."""
        return self.policy == "block" and getattr(self.sink, "waits_for_reader", False) is True

    @property
    def books(self) -> SinkStats:
        """What the sink says of entries that it has taken; nothing, if it delivers as it takes."""
        ask = getattr(self.sink, "stats", None)
        return ask() if ask is not None else NOTHING

    @property
    def filtered(self) -> int:
        return self.unwanted + self.books.filtered

    @property
    def dropped(self) -> dict[str, int]:
        """Entries lost, by reason: before the sink, and by it."""
        total = dict(self.refused)
        for reason, count in self.books.dropped.items():
            total[reason] = total.get(reason, 0) + count
        return total

    @property
    def delivered(self) -> int:
        books = self.books
        return self.written - books.held - books.filtered - sum(books.dropped.values())

    @property
    def queued(self) -> int:
        return self.waiting + self.flight + self.books.held

    @property
    def full(self) -> bool:
        return self.waiting > self.size or self.weight > limits.QUEUE_BYTES

    def drop(self, reason: str, count: int) -> None:
        if count:
            self.refused[reason] = self.refused.get(reason, 0) + count

    def snapshot(self) -> dict[str, Any]:
        return {
            "entries": self.entries,
            "filtered": self.filtered,
            "delivered": self.delivered,
            "dropped": self.dropped,
            "queued": self.queued,
            "busy": self.busy,
        }

    # -- in

    def offer(self, batch: Sequence[Entry]) -> None:
        """Queue a batch as the policy says. Never waits."""
        self.entries += len(batch)
        if self.select is not None:
            wanted = self.select(batch)
            self.unwanted += len(batch) - len(wanted)
            batch = wanted
        if self.failure is not None:
            self.drop(self.end, len(batch))
            return
        if self.policy == "sample":
            batch = self._sampled(batch)
        if not batch:
            return
        # A sink that keeps up costs no weighing; one that does not is held to bytes too.
        weight = weighed(batch) if self.queue else 0
        self.queue.append((batch, weight))
        self.waiting += len(batch)
        self.weight += weight
        if self.policy != "block" and self.full:
            self._shorten()
        self.wake.set()

    def _sampled(self, batch: Sequence[Entry]) -> Sequence[Entry]:
        stride = 1
        while stride < STRIDE and self.waiting * 2 * stride >= self.size * (2 * stride - 1):
            stride *= 2
        first = (len(batch) - self.entries) % stride  # even over the borders of batches
        taken = batch[first::stride] if stride > 1 else batch
        self.drop("sampled", len(batch) - len(taken))
        room = max(self.size - self.waiting, 0)
        self.drop("full", len(taken) - len(taken[:room]))
        return taken[:room]

    def _shorten(self) -> None:
        """Drop what has waited longest until the queue is within its bounds."""
        while self.full and self.queue:
            batch, weight = self.queue.popleft()
            surplus = self.waiting - self.size
            self.waiting -= len(batch)
            self.weight -= weight
            if 0 < surplus < len(batch) and self.weight + weight <= limits.QUEUE_BYTES:
                self.queue.appendleft((batch[surplus:], weight))
                self.waiting += len(batch) - surplus
                self.weight += weight
                self.drop("oldest", surplus)
            else:
                self.drop("oldest", len(batch))

    async def room(self) -> None:
        """Wait until a blocking sink's queue is within its bounds."""
        while self.full and self.failure is None and not self.released:
            self.moved.clear()
            await self.moved.wait()

    # -- out

    async def run(self) -> None:
        """Deliver until the lane is closed and empty; an exception of the sink ends the lane."""
        try:
            while True:
                if not self.queue:
                    if self.closing:
                        await self._flush()
                        return
                    self.wake.clear()
                    await self.wake.wait()
                    continue
                await self._deliver(self._next())
        except Exception as error:  # a sink may raise anything; the others go on
            self.abandon("unread" if stdout_gone(error) else "failed", error)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            ours = task is not None and task.cancelling()
            self.abandon("stopped" if ours else "failed", error)

    async def _flush(self) -> None:
        """Nothing more comes: a sink that holds entries delivers them."""
        flush = getattr(self.sink, "flush", None)
        if flush is not None:
            await flush()

    def _next(self) -> Sequence[Entry]:
        batch, weight = self.queue.popleft()
        self.weight -= weight
        while self.queue and len(batch) + len(self.queue[0][0]) <= BATCH:
            more, weight = self.queue.popleft()
            batch = [*batch, *more]
            self.weight -= weight
        self.waiting -= len(batch)
        self.flight = len(batch)
        return batch

    async def _deliver(self, batch: Sequence[Entry]) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                await self.sink.write(batch)
                break
            except SinkBusy:
                self.busy += 1
                await self._pause(pause)
                pause = min(pause * 2, LAST_PAUSE)
        if self.failure is not None:  # it was given up meanwhile
            return
        missed = min(self.missed(), len(batch))
        self.drop("not shown", missed)
        self.written += len(batch) - missed
        self.flight = 0
        self.moved.set()

    async def _pause(self, seconds: float) -> None:
        """Until a busy sink is asked again."""
        if self.closing:
            await asyncio.sleep(min(seconds, ASKED))
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self.last.wait(), seconds)

    def release(self) -> None:
        """Whoever waits for room goes on."""
        self.released = True
        self.moved.set()

    def shut(self) -> None:
        """Nothing more comes."""
        self.closing = True
        self.last.set()
        self.wake.set()

    def abandon(self, reason: str, error: BaseException) -> None:
        """Count what waits as dropped; nothing is delivered any more."""
        if self.failure is not None:
            return
        self.failure = error
        self.end = reason
        self.drop(reason, self.waiting + self.flight)  # of what it holds, the sink keeps the books
        self.queue.clear()
        self.waiting = self.flight = self.weight = 0
        self.moved.set()


def weighed(batch: Sequence[Entry]) -> int:
    """Bytes of heads and bodies, where a plugin that saw the entries left them as they were."""
    try:
        return weigh(batch)
    except Exception:
        return 0
