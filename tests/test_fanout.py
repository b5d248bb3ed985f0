"""The fan-out: each policy, each way a sink can misbehave, and the law of its books."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshark import drain, lane, limits
from kshark.api import Endpoint, Entry, Flow, Kind, Message, Outcome, PluginError, SinkBusy
from kshark.drain import Haste
from kshark.fanout import CALM, Fanout
from kshark.lane import BATCH, Lane, LaneOptions

FLOW = Flow("f", "tcp", Endpoint("10.0.0.1", 1), Endpoint("10.0.0.2", 2))


def entries(first: int, count: int, body: bytes = b"") -> list[Entry]:
    request = Message(Kind.REQUEST, body=body)
    return [
        Entry(FLOW, n, "http", request, None, Outcome.UNANSWERED)
        for n in range(first, first + count)
    ]


class Recorder:
    """A sink that keeps what it gets, and does first what it is told."""

    def __init__(self, behave: Callable[[int], Awaitable[None] | None] = lambda call: None) -> None:
        self.behave = behave
        self.calls = 0
        self.got: list[int] = []
        self.closed = 0

    async def open(self) -> None:
        self.opened = True

    async def write(self, batch: Sequence[Entry]) -> None:
        self.calls += 1
        waits = self.behave(self.calls)
        if waits is not None:
            await waits
        self.got += [entry.seq for entry in batch]

    async def close(self) -> None:
        self.closed += 1


class Bench:
    """A fan-out with sinks, run by asyncio."""

    def __init__(self, *sinks: Recorder, live: bool = False, **options: Any) -> None:
        self.said: list[str] = []
        self.fanout = Fanout(self.said.append)
        self.haste = Haste.NONE
        for number, sink in enumerate(sinks):
            self.fanout.add(f"s{number}", sink, LaneOptions(**options), live=live)

    def balanced(self) -> dict[str, Any]:
        """The snapshot of the first sink; every sink's books balance."""
        found = self.fanout.snapshot()
        for one in found.values():
            assert one["entries"] == one["delivered"] + sum(one["dropped"].values()) + one["queued"]
        return found["s0"]

    async def drain(self) -> dict[str, Any]:
        await self.fanout.drain(lambda: self.haste)
        return self.balanced()


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(work(), 10)

    asyncio.run(limited())


def boom(call: int) -> None:
    raise RuntimeError("no\nsecond line")


async def forever() -> None:
    await asyncio.Event().wait()


# ---------------------------------------------------------------- delivery


def test_every_sink_gets_everything_in_order() -> None:
    async def work() -> None:
        one, two = Recorder(), Recorder()
        bench = Bench(one, two)
        await bench.fanout.open()
        for start in range(0, 10_000, 100):
            await bench.fanout.put(entries(start, 100))
        assert (await bench.drain())["delivered"] == 10_000
        assert one.got == two.got == list(range(10_000))
        assert (one.closed, bench.said, bench.fanout.lost) == (1, [], 0)

    run(work)


def test_waiting_batches_are_merged_up_to_a_bound() -> None:
    async def work() -> None:
        sink = Recorder()
        bench = Bench(sink)
        bench.fanout.offer(entries(0, 3_000))
        bench.fanout.offer(entries(3_000, 1_000))
        bench.fanout.offer(entries(4_000, 1_000))
        await bench.fanout.open()
        await bench.drain()
        assert sink.calls == 2
        assert sink.got == list(range(5_000))

    run(work)


# ---------------------------------------------------------------- policies


def test_block_waits_and_loses_nothing() -> None:
    async def work() -> None:
        gate = asyncio.Event()
        sink = Recorder(lambda call: gate.wait() if call == 1 else None)  # type: ignore[arg-type, return-value]
        bench = Bench(sink, queue=10)
        await bench.fanout.open()
        putting = asyncio.create_task(put_all(bench, 100, 5))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not putting.done()
        assert bench.balanced()["queued"] <= 10 + 2 * 5
        gate.set()
        await putting
        assert (await bench.drain())["delivered"] == 100
        assert sink.got == list(range(100))

    run(work)


async def put_all(bench: Bench, total: int, step: int) -> None:
    for start in range(0, total, step):
        await bench.fanout.put(entries(start, step))
        await asyncio.sleep(0)


def test_a_cancelled_put_has_lost_nothing_uncounted() -> None:
    async def work() -> None:
        bench = Bench(Recorder(lambda call: forever()), queue=1)
        await bench.fanout.open()
        putting = asyncio.create_task(put_all(bench, 100, 5))
        await asyncio.sleep(0.01)
        putting.cancel()
        await asyncio.gather(putting, return_exceptions=True)
        bench.haste = Haste.NOW
        found = await bench.drain()
        assert found["dropped"]["stopped"] == found["entries"] > 0

    run(work)


def test_drop_oldest_keeps_the_newest() -> None:
    async def work() -> None:
        sink = Recorder()
        bench = Bench(sink, live=True, queue=10)
        bench.fanout.offer(entries(0, 7))
        bench.fanout.offer(entries(7, 7))
        assert bench.balanced()["dropped"] == {"oldest": 4}
        bench.fanout.offer(entries(14, 25))
        await bench.fanout.open()
        found = await bench.drain()
        assert sink.got == list(range(29, 39))
        assert found["dropped"] == {"oldest": 29}
        assert bench.fanout.lost == 29

    run(work)


def test_sample_thins_evenly_as_the_queue_fills() -> None:
    async def work() -> None:
        sink = Recorder()
        bench = Bench(sink, policy="sample", queue=64)
        for start in range(200):
            bench.fanout.offer(entries(start, 1))
        await bench.fanout.open()
        found = await bench.drain()
        assert sink.got[:32] == list(range(32))
        steps = [b - a for a, b in zip(sink.got[32:], sink.got[33:], strict=False)]
        assert steps[:12] == [2] * 12  # half full: every 2nd, until three quarters
        assert steps == sorted(steps)
        assert max(steps) > 4
        assert found["entries"] == 200
        assert set(found["dropped"]) == {"sampled"}

    run(work)


def test_sample_of_a_big_batch_stays_within_its_queue() -> None:
    lane = Lane("s", Recorder(), "sample", 10)
    lane.offer(entries(0, 1_000))
    assert lane.queued == 10
    assert lane.dropped == {"full": 990}


def test_defaults_are_block_for_files_and_drop_oldest_live() -> None:
    file, live = Bench(Recorder()), Bench(Recorder(), live=True)
    assert (file.fanout.lanes[0].policy, file.fanout.lanes[0].size) == ("block", limits.READ_AHEAD)
    assert (live.fanout.lanes[0].policy, live.fanout.lanes[0].size) == ("drop_oldest", limits.QUEUE)


def test_bytes_are_bounded_too() -> None:
    lane = Lane("s", Recorder(), "drop_oldest", limits.QUEUE)
    body = bytes(limits.MIB)
    count = 3 * limits.QUEUE_BYTES // len(body)
    for n in range(count):
        lane.offer(entries(n, 1, body))
    assert lane.weight <= limits.QUEUE_BYTES
    assert lane.queued <= limits.QUEUE_BYTES // len(body) + 1
    assert lane.entries == count == lane.queued + lane.dropped["oldest"]


@given(
    st.sampled_from(["block", "drop_oldest", "sample"]),
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=30),
)
def test_the_books_balance_whatever_comes(
    policy: str, size: int, steps: list[tuple[int, bool]]
) -> None:
    lane = Lane("s", Recorder(), policy, size)
    for count, takes in steps:
        lane.offer(entries(0, count))
        if takes and lane.queue:
            lane.written += len(lane._next())
            lane.flight = 0
        assert lane.entries == lane.delivered + sum(lane.dropped.values()) + lane.queued
        assert lane.waiting == sum(len(batch) for batch, _ in lane.queue)
        assert policy == "block" or lane.waiting <= size


# ---------------------------------------------------------------- sinks that misbehave


def test_a_failing_sink_is_said_once_and_the_others_go_on() -> None:
    async def work() -> None:
        good = Recorder()
        bench = Bench(Recorder(boom), good)
        await bench.fanout.open()
        await put_all(bench, 100, 5)
        found = await bench.drain()
        assert found["dropped"] == {"failed": 100}
        assert good.got == list(range(100))
        assert bench.said == ["sink s0 failed: RuntimeError: no; 10 waiting entries lost"]
        assert bench.fanout.failed
        assert bench.fanout.lost == 100
        assert not bench.fanout.dead.is_set()

    run(work)


def test_a_sink_that_fails_while_the_reader_waits_for_it() -> None:
    async def work() -> None:
        async def late() -> None:
            await asyncio.sleep(0.01)
            boom(0)

        bench = Bench(Recorder(lambda call: late()), queue=1)
        await bench.fanout.open()
        await put_all(bench, 100, 5)  # would hang if a dead sink still blocked
        await asyncio.sleep(0)
        assert bench.fanout.dead.is_set()
        assert (await bench.drain())["dropped"] == {"failed": 100}

    run(work)


@pytest.mark.parametrize("kind", [asyncio.CancelledError, ValueError])
def test_what_a_sink_raises_itself_is_a_failure(kind: type[BaseException]) -> None:
    def raises(call: int) -> None:
        raise kind

    async def work() -> None:
        bench = Bench(Recorder(raises), Recorder())
        await bench.fanout.open()
        await bench.fanout.put(entries(0, 3))
        books = await bench.drain()
        assert books["dropped"] == {"failed": 3}
        assert bench.fanout.failed
        assert bench.said == [f"sink s0 failed: {kind.__name__}; 3 waiting entries lost"]

    run(work)


def test_entries_that_a_sink_could_not_show_are_lost_by_that_name() -> None:
    async def work() -> None:
        missed = [2, 0, 99]
        fanout = Fanout(lambda text: None)
        options = LaneOptions()
        fanout.add("s0", Recorder(), options, live=False, missed=lambda: missed.pop(0))
        await fanout.open()
        for first in (0, 5, 10):
            fanout.offer(entries(first, 5))
            while fanout.lanes[0].queued:
                await asyncio.sleep(0)
        await fanout.drain()
        books = fanout.snapshot()["s0"]
        assert (books["delivered"], books["dropped"]) == (8, {"not shown": 7})
        assert fanout.lost == 7

    run(work)


def test_a_sink_that_ignores_its_end_is_left_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "CANCEL_WAIT", 0.01)
    monkeypatch.setattr(drain, "STALL", 0.02)
    free = asyncio.Event()

    async def deaf() -> None:
        while not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError:
                continue

    async def work() -> None:
        bench = Bench(Recorder(lambda call: deaf()))
        await bench.fanout.open()
        await bench.fanout.put(entries(0, 3))
        books = await bench.drain()
        assert books["dropped"] == {"stopped": 3}
        free.set()  # it comes back when nobody waits for it any more
        await asyncio.gather(*bench.fanout.tasks)
        assert bench.balanced()["delivered"] == 0

    run(work)


def test_a_busy_sink_gets_the_same_batch_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "FIRST_PAUSE", 0.0)
    seen = []

    class Busy(Recorder):
        async def write(self, batch: Sequence[Entry]) -> None:
            seen.append(batch)
            if len(seen) < 4:
                raise SinkBusy
            await super().write(batch)

    async def work() -> None:
        sink = Busy()
        bench = Bench(sink)
        await bench.fanout.open()
        await bench.fanout.put(entries(0, 3))
        found = await bench.drain()
        assert (found["busy"], found["delivered"], sink.got) == (3, 3, [0, 1, 2])
        assert all(batch is seen[0] for batch in seen)

    run(work)


def test_pauses_of_a_busy_sink_grow_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    real = asyncio.wait_for

    async def wait(work: Any, seconds: float) -> None:
        pauses.append(seconds)
        await real(work, 0)

    def busy(call: int) -> None:
        if call <= 12:
            raise SinkBusy

    async def work() -> None:
        busy_lane = Lane("s", Recorder(busy), "block", 10)
        busy_lane.offer(entries(0, 1))
        monkeypatch.setattr(asyncio, "wait_for", wait)
        task = asyncio.create_task(busy_lane.run())
        while not busy_lane.delivered:
            await asyncio.sleep(0)
        busy_lane.shut()
        await task

    run(work)
    assert pauses[:3] == [0.01, 0.02, 0.04]
    assert pauses[-1] == lane.LAST_PAUSE
    assert pauses == sorted(pauses)


def test_a_busy_sink_is_asked_again_soon_once_nothing_more_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lane, "FIRST_PAUSE", 3600.0)

    def busy(call: int) -> None:
        if call == 1:
            raise SinkBusy

    async def work() -> None:
        bench = Bench(Recorder(busy))
        await bench.fanout.open()
        await bench.fanout.put(entries(0, 1))
        await asyncio.sleep(0.01)
        assert bench.balanced()["busy"] == 1
        assert (await bench.drain())["delivered"] == 1

    run(work)


def test_nobody_waits_for_room_once_the_run_shall_end() -> None:
    async def work() -> None:
        bench = Bench(Recorder(lambda call: forever()), queue=1)
        await bench.fanout.open()
        putting = asyncio.create_task(put_all(bench, 100, 5))
        await asyncio.sleep(0.01)
        assert not putting.done()
        bench.fanout.release()
        await putting
        bench.haste = Haste.NOW
        assert (await bench.drain())["dropped"] == {"stopped": 100}

    run(work)


def test_after_a_signal_a_sink_that_takes_nothing_is_given_up_sooner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drain, "GRACE", 0.3)

    async def work() -> None:
        slow = Recorder(lambda call: asyncio.sleep(0.1))
        bench = Bench(slow, Recorder(lambda call: forever()))
        await bench.fanout.open()
        for start in range(0, 5 * BATCH, BATCH):
            bench.fanout.offer(entries(start, BATCH))
        bench.haste = Haste.SIGNAL
        assert (await bench.drain())["delivered"] == 5 * BATCH
        assert bench.said == ["not waiting for s1 any longer"]

    run(work)


def test_a_reader_who_takes_his_time_gets_everything_until_a_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drain, "STALL", 0.05)
    monkeypatch.setattr(drain, "STALLED", 0.05)
    monkeypatch.setattr(drain, "GRACE", 0.05)

    async def work() -> None:
        sink = Recorder(lambda call: forever())
        sink.waits_for_reader = True  # type: ignore[attr-defined]
        bench = Bench(sink)
        await bench.fanout.open()
        await bench.fanout.put(entries(0, 9))
        draining = asyncio.create_task(bench.drain())
        await asyncio.sleep(0.5)
        assert not draining.done()
        assert bench.said == ["sink s0: nothing taken for 0 s; 9 wait (Ctrl-C leaves without them)"]
        bench.haste = Haste.SIGNAL
        assert (await draining)["dropped"] == {"stopped": 9}

    run(work)


def test_a_sink_that_hangs_is_given_up_when_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "DRAIN", 0.05)

    async def work() -> None:
        good = Recorder()
        bench = Bench(Recorder(lambda call: forever()), good)
        await bench.fanout.open()
        await bench.fanout.put(entries(0, 9))
        bench.haste = Haste.BOUND
        found = await bench.drain()
        assert found["dropped"] == {"stopped": 9}
        assert good.got == list(range(9))
        assert bench.said == ["not waiting for s0 any longer"]
        assert not bench.fanout.failed
        assert bench.fanout.lost == 9

    run(work)


def test_a_sink_that_hangs_is_given_up_at_the_end_of_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drain, "STALL", 0.05)

    async def work() -> None:
        bench = Bench(Recorder(lambda call: forever()))
        await bench.fanout.open()
        await bench.fanout.put(entries(0, 9))
        assert (await bench.drain())["dropped"] == {"stopped": 9}

    run(work)


def test_a_stall_is_said_once() -> None:
    async def work() -> None:
        bench = Bench(Recorder(lambda call: forever()))
        await bench.fanout.open()
        await bench.fanout.put(entries(0, 9))
        for _ in range(50):
            bench.fanout.notice_stalls()
        assert bench.said == ["sink s0: nothing taken for 10 s; 9 wait"]
        bench.haste = Haste.NOW
        await bench.drain()

    run(work)


def test_an_overflow_is_said_once_until_it_has_been_calm() -> None:
    async def work() -> None:
        bench = Bench(Recorder(lambda call: forever()), policy="drop_oldest", queue=10)
        await bench.fanout.open()

        def flood() -> None:
            bench.fanout.offer(entries(0, 99))
            bench.fanout.notice_losses()

        flood()
        flood()
        [said] = bench.said
        assert said.startswith("sink s0 is the limit: its queue is full, entries are lost")
        for _ in range(CALM):
            bench.fanout.notice_losses()
        flood()
        assert bench.said == [said, said]
        bench.haste = Haste.NOW
        await bench.drain()

    run(work)


def test_one_that_cannot_open_closes_those_that_are() -> None:
    class Shut(Recorder):
        async def open(self) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", "/x")

    async def work() -> None:
        good = Recorder()
        bench = Bench(good, Shut())
        with pytest.raises(PluginError, match=r"^sink s1: Permission denied: /x$"):
            await bench.fanout.open()
        assert good.closed == 1

    run(work)


def test_one_that_fails_to_close() -> None:
    class Stuck(Recorder):
        async def close(self) -> None:
            raise PluginError("the disk is full")

    async def work() -> None:
        bench = Bench(Stuck())
        await bench.fanout.open()
        await bench.drain()
        assert bench.said == ["sink s0 failed to close: the disk is full"]
        assert bench.fanout.failed

    run(work)


def test_a_broken_pipe_that_is_not_our_standard_output_is_a_failure() -> None:
    def broken(call: int) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    async def work() -> None:
        bench = Bench(Recorder(broken))
        await bench.fanout.open()
        await bench.fanout.put(entries(0, 2))
        await bench.drain()
        assert bench.fanout.failed

    run(work)
