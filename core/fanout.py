"""One bounded queue a sink, and what happens when it is full: the sink's policy.

``block``: the backends wait (right for files, and for a sink that must have everything; live, the
kernel then drops and counts). ``drop_oldest``: what has waited longest is dropped. ``sample``:
above half of the queue only every 2nd entry is taken, above three quarters every 4th, and so on, so
that a flood is thinned evenly.

The law, at every moment and for each sink: ``entries == filtered + delivered + sum(dropped) + queued``. A
queue overshoots by at most one batch, and only under ``block``. `Fanout.put` never loses half a
batch to a cancellation: it hands over first and waits afterwards.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from kshark import _pure, limits
from kshark.api import Entry, Options, PluginError, Sink, SinkBusy, option

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
CLOSE_WAIT: Final = 10.0
"""Seconds that a sink has to close."""
DRAIN: Final = 10.0
"""Seconds that the sinks have for what waits, once the user wants to stop."""
STALL: Final = 30.0
"""Seconds without an entry taken, after which sinks are given up at the end of a file."""
STALLED: Final = 10
"""Seconds without an entry taken, after which the user is told."""
LOOK: Final = 0.1
"""Seconds between two looks at draining sinks."""


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
        self, name: str, sink: Sink, policy: str, size: int, select: Select | None = None
    ) -> None:
        self.name = name
        self.sink = sink
        self.policy = policy
        self.size = size
        self.select = select
        self.entries = 0
        self.filtered = 0  # entries that this sink does not want
        self.delivered = 0
        self.dropped: dict[str, int] = {}
        self.busy = 0  # times that the sink raised SinkBusy
        self.failure: BaseException | None = None
        self.end = ""  # what became of entries after the failure: failed | stopped | unread
        self.waiting = 0
        self.flight = 0  # entries that the sink holds at this moment
        self.weight = 0  # bytes that wait
        self.queue: deque[tuple[Sequence[Entry], int]] = deque()
        self.closing = False
        self.wake = asyncio.Event()  # something waits, or the lane shall close
        self.moved = asyncio.Event()  # the queue got shorter

    @property
    def queued(self) -> int:
        return self.waiting + self.flight

    @property
    def full(self) -> bool:
        return self.waiting > self.size or self.weight > limits.QUEUE_BYTES

    def drop(self, reason: str, count: int) -> None:
        if count:
            self.dropped[reason] = self.dropped.get(reason, 0) + count

    def snapshot(self) -> dict[str, Any]:
        return {
            "entries": self.entries,
            "filtered": self.filtered,
            "delivered": self.delivered,
            "dropped": dict(self.dropped),
            "queued": self.queued,
            "busy": self.busy,
        }

    # -- in

    def offer(self, batch: Sequence[Entry]) -> None:
        """Queue a batch as the policy says. Never waits."""
        self.entries += len(batch)
        if self.select is not None:
            wanted = self.select(batch)
            self.filtered += len(batch) - len(wanted)
            batch = wanted
        if self.failure is not None:
            self.drop(self.end, len(batch))
            return
        if self.policy == "sample":
            batch = self._sampled(batch)
        if not batch:
            return
        # A sink that keeps up costs no weighing; one that does not is held to bytes too.
        weight = weigh(batch) if self.queue else 0
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
        while self.full and self.failure is None:
            self.moved.clear()
            await self.moved.wait()

    # -- out

    async def run(self) -> None:
        """Deliver until the lane is closed and empty; an exception of the sink ends the lane."""
        try:
            while True:
                if not self.queue:
                    if self.closing:
                        return
                    self.wake.clear()
                    await self.wake.wait()
                    continue
                await self._deliver(self._next())
        except Exception as error:  # a sink may raise anything; the others go on
            self.abandon("unread" if _stdout_gone(error) else "failed", error)
        except asyncio.CancelledError as error:
            self.abandon("stopped", error)

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
                await asyncio.sleep(pause)
                pause = min(pause * 2, LAST_PAUSE)
        self.delivered += len(batch)
        self.flight = 0
        self.moved.set()

    def abandon(self, reason: str, error: BaseException) -> None:
        """Count what waits as dropped; nothing is delivered any more."""
        self.failure = error
        self.end = reason
        self.drop(reason, self.queued)
        self.queue.clear()
        self.waiting = self.flight = self.weight = 0
        self.moved.set()


class Fanout:
    """All lanes of a run: open, put, drain."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.lanes: list[Lane] = []
        self.tasks: dict[asyncio.Task[None], Lane] = {}
        self.dead = asyncio.Event()  # no lane is left
        self.idle: dict[str, tuple[int, int]] = {}  # by lane: delivered, and for how many looks

    def add(
        self,
        name: str,
        sink: Sink,
        options: LaneOptions,
        *,
        live: bool,
        select: Select | None = None,
    ) -> None:
        policy = options.policy or ("drop_oldest" if live else "block")
        size = options.queue or (limits.QUEUE if live else limits.READ_AHEAD)
        self.lanes.append(Lane(name, sink, policy, size, select))

    async def open(self) -> None:
        """Open every sink, then start their tasks; if one cannot open, the opened are closed."""
        for number, lane in enumerate(self.lanes):
            try:
                await lane.sink.open()
            except BaseException as error:
                for opened in self.lanes[:number]:
                    await self._close(opened)
                if isinstance(error, OSError):
                    raise PluginError(f"sink {lane.name}: {explain(error)}") from error
                raise
        for lane in self.lanes:
            task = asyncio.ensure_future(lane.run())
            self.tasks[task] = lane
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        lane = self.tasks[task]
        if lane.failure is not None and lane.end == "failed":
            lost = lane.dropped.get("failed", 0)
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
            if looks == STALLED:
                self.say(f"sink {lane.name}: nothing taken for {looks} s; {lane.queued} wait")

    async def drain(self, stopped: asyncio.Event, hurried: asyncio.Event) -> None:
        """Let the sinks finish what waits, then close them.

        They have as long as they make progress; once `stopped`, `DRAIN` seconds; none once `hurried`.
        """
        for lane in self.lanes:
            lane.closing = True
            lane.wake.set()
        await self._finish(stopped, hurried)
        late = [task for task in self.tasks if not task.done()]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for lane in self.lanes:
            await self._close(lane)

    async def _finish(self, stopped: asyncio.Event, hurried: asyncio.Event) -> None:
        clock = asyncio.get_running_loop().time
        moved, count, deadline = clock(), -1, 0.0
        while pending := [task for task in self.tasks if not task.done()]:
            now, total = clock(), sum(lane.delivered for lane in self.lanes)
            if total != count:
                moved, count = now, total
            if stopped.is_set() and not deadline:
                deadline = now + DRAIN
            if hurried.is_set() or (deadline and now >= deadline) or now - moved >= STALL:
                waiting = ", ".join(self.tasks[task].name for task in pending)
                self.say(f"not waiting for {waiting} any longer")
                return
            await asyncio.wait(pending, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)

    async def _close(self, lane: Lane) -> None:
        try:
            await asyncio.wait_for(lane.sink.close(), CLOSE_WAIT)
        except Exception as error:  # as above: a sink may raise anything
            if lane.failure is None:
                lane.failure = error
                lane.end = "unread" if _stdout_gone(error) else "failed"
                if lane.end == "failed":
                    self.say(f"sink {lane.name} failed to close: {explain(error)}")

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


def explain(error: BaseException) -> str:
    """An exception in one line, for a user."""
    if isinstance(error, PluginError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}" + (f": {error.filename}" if error.filename else "")
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}".rstrip(": ")


def _stdout_gone(error: BaseException) -> bool:
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
