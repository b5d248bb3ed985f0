"""The sink ``loki`` while its server cannot take: memory, the spool, and what the books say of it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from kshark.api import Entry, PluginError, SinkBusy
from kshark.drain import Haste
from kshark.fanout import Fanout
from kshark.lane import LaneOptions
from kshark.sinks.loki import Loki
from sinks.conftest import FakeContext, MakeEntry
from sinks.http_peer import Answer, serving
from sinks.test_loki import ids, made, send, use


class Closed:
    """A port that nobody listens at, until `open` says so."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"


def test_a_full_memory_is_said_by_sink_busy(context: FakeContext, make_entry: MakeEntry) -> None:
    async def whole(sink: Loki) -> None:
        taken = 0
        with pytest.raises(SinkBusy):  # noqa: PT012
            for n in range(1_000):
                await sink.write([make_entry(n)])
                taken += 1
        assert sink.stats().held == taken < 100

    sink = made(context, Closed().url, batch_bytes=1, memory=5_000)
    use(sink, whole)
    stats = sink.stats()
    assert stats.held == 0
    assert list(stats.dropped) == ["unsent"]


def test_the_spool_holds_what_memory_does_not_and_keeps_the_order(
    context: FakeContext, make_entry: MakeEntry, tmp_path: Path
) -> None:
    closed = Closed()

    async def whole(sink: Loki) -> None:
        for n in range(100):
            await sink.write([make_entry(n)])
        assert len(list((tmp_path / "s").glob("*.payload"))) > 80
        with serving(port=closed.port) as peer:
            await sink.flush()
            assert ids(peer) == [f"f1-{n}" for n in range(100)]
        assert (sink.stats().held, sink.stats().dropped) == (0, {})

    spool = str(tmp_path / "s")
    use(made(context, closed.url, batch_bytes=1, memory=3_000, spool=spool), whole)
    assert not list((tmp_path / "s").glob("*.payload"))


def test_a_full_spool_is_said_by_sink_busy(
    context: FakeContext, make_entry: MakeEntry, tmp_path: Path
) -> None:
    async def whole(sink: Loki) -> None:
        with pytest.raises(SinkBusy):  # noqa: PT012
            for n in range(1_000):
                await sink.write([make_entry(n)])

    spool = str(tmp_path / "s")
    use(made(context, Closed().url, batch_bytes=1, memory=0, spool=spool, spool_bytes=9_000), whole)
    assert sum(p.stat().st_size for p in (tmp_path / "s").glob("*.payload")) <= 9_000


def test_what_the_spool_holds_is_sent_by_the_next_run(
    context: FakeContext, make_entry: MakeEntry, tmp_path: Path
) -> None:
    spool = str(tmp_path / "s")

    async def nobody(sink: Loki) -> None:
        for n in range(20):
            await sink.write([make_entry(n)])

    first = made(context, Closed().url, batch_bytes=1, memory=2_000, spool=spool)
    use(first, nobody)  # closed while half of it waits in memory
    assert (first.stats().held, first.stats().dropped) == (20, {})
    assert context.said[-1] == "loki: 20 entries wait in the spool for the next run"
    damaged = sorted((tmp_path / "s").glob("*.payload"))[4]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with serving() as peer:
        second = made(context, peer.url, batch_bytes=1, spool=spool)
        send(second, [make_entry(20)])
    assert ids(peer) == [f"f1-{n}" for n in range(21) if n != 4]
    assert (second.stats().held, second.stats().dropped) == (0, {})
    assert any("damaged; 1 entries lost" in said for said in context.said)


def test_a_spool_is_of_one_process(context: FakeContext, tmp_path: Path) -> None:
    async def twice(sink: Loki) -> None:
        with pytest.raises(PluginError, match="another"):
            await made(context, Closed().url, spool=str(tmp_path)).open()

    use(made(context, Closed().url, spool=str(tmp_path)), twice)


# ---------------------------------------------------------------- the books of its lane


def run_lane(sink: Loki, batches: list[list[Entry]], haste: Haste, **lane: Any) -> dict[str, Any]:
    """Deliver by a fan-out; gives the lane's books, which must balance."""
    said: list[str] = []

    async def run() -> dict[str, Any]:
        fanout = Fanout(said.append)
        fanout.add("loki", sink, LaneOptions(**lane), live=True)
        await fanout.open()
        for batch in batches:
            fanout.offer(batch)
            await asyncio.sleep(0)
        await fanout.drain(lambda: haste)
        return fanout.snapshot()["loki"]

    books = asyncio.run(run())
    ended = (
        books["delivered"] + books["filtered"] + books["queued"] + sum(books["dropped"].values())
    )
    assert books["entries"] == ended
    return books


def test_delivered_is_what_was_acknowledged(context: FakeContext, make_entry: MakeEntry) -> None:
    old = "2 errors like: entry for stream '{}' has timestamp too old: x"
    batches = [[make_entry(n) for n in range(k * 10, k * 10 + 10)] for k in range(10)]
    with serving(lambda r, n: Answer(400, old) if n == 1 else Answer()) as peer:
        sink = made(context, peer.url, batch_bytes=4_000, sample=2)
        books = run_lane(sink, batches, Haste.NONE)
    assert books["filtered"] == 50
    assert books["delivered"] == 48
    assert books["dropped"] == {"too old for loki": 2}


def test_what_is_not_sent_in_time_is_lost_with_its_reason(
    context: FakeContext, make_entry: MakeEntry
) -> None:
    batches = [[make_entry(n)] for n in range(1_000)]
    sink = made(context, Closed().url, batch_bytes=1, memory=2_000)
    books = run_lane(sink, batches, Haste.NOW, queue=100)
    assert (books["delivered"], books["queued"]) == (0, 0)
    assert books["dropped"].keys() == {"unsent", "stopped", "oldest"}


def test_a_stranger_with_wrong_books_is_not_believed() -> None:
    from kshark.api import SinkStats
    from kshark.steps import sound_books

    assert sound_books(SinkStats(1, 2, {"x": 3})) == SinkStats(1, 2, {"x": 3})
    for wrong in (None, SinkStats(-1), SinkStats(1.5), SinkStats(0, 0, {"x": -1})):  # type: ignore[arg-type]
        with pytest.raises((TypeError, ValueError)):
            sound_books(wrong)


def test_a_disk_that_takes_nothing(
    context: FakeContext, make_entry: MakeEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, spool = Closed(), str(tmp_path / "s")

    def refuse(*args: object) -> None:
        raise OSError(28, "No space left on device")

    async def whole(sink: Loki) -> None:
        monkeypatch.setattr("kshark.sinks._spool.Spool.put", refuse)
        taken = 0
        with pytest.raises(SinkBusy):  # noqa: PT012
            for n in range(1_000):
                await sink.write([make_entry(n)])
                taken += 1
        monkeypatch.undo()
        with serving(port=closed.port) as peer:
            await sink.flush()
            assert ids(peer) == [f"f1-{n}" for n in range(taken)]
        assert not sink.stats().held

    use(made(context, closed.url, batch_bytes=1, memory=3_000, spool=spool), whole)
    assert sum("No space left" in said for said in context.said) == 1
